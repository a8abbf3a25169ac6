"""Properties of a link between two nodes: delay, jitter and losses, drawn for each message."""

from typing import Protocol, TypedDict

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.sim.quantities import NS, Duration, Share, nanoseconds, share

RETRANSMISSION_NS = NS // 5
"""Least delay that a loss causes, in nanoseconds: QUIC's probe timeout on a short path."""
RETRANSMISSION_RTTS = 2
"""Round trips of delay that a loss causes on a longer one."""


class Draws(Protocol):
    """What the network draws from; `Chance` and `random.Random` are such."""

    def random(self) -> float:
        """At least 0 and below 1."""


class LinkNumbers(msgspec.Struct, frozen=True, gc=False):
    """The properties of a link, the same in both directions. Immutable, so equal links share one."""

    delay_ns: int
    """One-way delay."""
    jitter_ns: int
    """Each message takes up to so much more or less, evenly distributed: messages overtake each other."""
    loss: float
    """Probability that a message is lost. QUIC sends it again, so it is late, never missing."""
    lost_requests: float
    """Share of requests that fail on the way: their sender is told so, their receiver never sees them."""
    lost_answers: float
    """Share of requests that arrive and are answered, while their sender is told that they failed."""

    def latency_ns(self, rng: Draws) -> int:
        """How long one message is on its way, without its serialisation on access links."""
        taken = self.delay_ns
        if self.jitter_ns:
            taken = max(0, taken + round(self.jitter_ns * (2 * rng.random() - 1)))
        if self.loss:
            again = max(2 * RETRANSMISSION_RTTS * self.delay_ns, RETRANSMISSION_NS)
            # A retransmission may be lost again.
            while rng.random() < self.loss:
                taken += again
        return taken


class LinkOptions(TypedDict, total=False):
    """The keyword arguments of `World.link`; those left out have the defaults of `link_numbers`."""

    delay: Duration
    jitter: Duration
    loss: Share
    lost_requests: Share
    lost_answers: Share


def link_numbers(
    delay: Duration = "50ms",
    jitter: Duration = "0ms",
    loss: Share = 0.0,
    lost_requests: Share = 0.0,
    lost_answers: Share = 0.0,
) -> LinkNumbers:
    """Parse the properties of a link. Raises SpecError, which names the value that is wrong."""
    numbers = LinkNumbers(
        nanoseconds(delay), nanoseconds(jitter), share(loss), share(lost_requests), share(lost_answers)
    )
    if numbers.loss == 1:
        raise SpecError("a loss of 100%: nothing would ever arrive; cut the link instead")
    if numbers.lost_requests + numbers.lost_answers > 1:
        raise SpecError("lost requests and lost answers are shares of the same requests: together at most 100%")
    return numbers
