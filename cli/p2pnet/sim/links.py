"""What a link between two nodes is like: its delay, jitter and losses, message by message."""

from typing import TYPE_CHECKING, TypedDict

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.sim.quantities import NS, Duration, Share, nanoseconds, share

if TYPE_CHECKING:
    from random import Random

RETRANSMISSION_NS = NS // 5  # what a loss costs at least: QUIC's probe timeout of a short path
RETRANSMISSION_RTTS = 2


class LinkNumbers(msgspec.Struct, frozen=True, gc=False):
    """One link, both directions. Immutable and shared by all links that are alike."""

    delay_ns: int
    """One way."""
    jitter_ns: int
    """A message takes so much more or less, evenly spread, each by itself: they overtake each other."""
    loss: float
    """Share of messages lost once more: QUIC sends them again, so they are late and never missing."""
    lost_requests: float
    """Share of requests that fail on the way: their sender is told, their receiver never sees them."""
    lost_answers: float
    """Share of requests that arrive and are answered, while their sender is told that they failed."""

    def latency_ns(self, rng: "Random") -> int:
        """How long one message is on the way, its serialisation left out."""
        taken = self.delay_ns
        if self.jitter_ns:
            taken = max(0, taken + round(self.jitter_ns * (2 * rng.random() - 1)))
        if self.loss:
            again = max(2 * RETRANSMISSION_RTTS * self.delay_ns, RETRANSMISSION_NS)
            while rng.random() < self.loss:
                taken += again
        return taken


class LinkOptions(TypedDict, total=False):
    """What people may say of a link; what is left out has the defaults of `link_numbers`."""

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
    """A link as people describe it. Raises SpecError naming what is wrong."""
    numbers = LinkNumbers(
        nanoseconds(delay), nanoseconds(jitter), share(loss), share(lost_requests), share(lost_answers)
    )
    if numbers.loss == 1:
        raise SpecError("a loss of 100%: nothing would ever arrive; cut the link instead")
    if numbers.lost_requests + numbers.lost_answers > 1:
        raise SpecError("lost requests and lost answers are shares of the same requests: together at most 100%")
    return numbers
