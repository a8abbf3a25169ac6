"""What a link does to packets, and how several shapes of one link add up."""

import math
from collections.abc import Iterable

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.limits import MIB

QUEUE_BYTES = 1 * MIB  # default; 160 ms at 50 Mbit/s, a home router's
DELAY_S_MAX = 3_600.0  # a longer delay is a block
BANDWIDTH_BPS_MIN = 1_000.0  # below it one packet takes longer than QUIC's idle time


class LinkShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One direction of a link. The default does nothing. Raises SpecError for values out of bounds."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Each packet's delay varies uniformly by up to this, either way, but not below 0. Order is kept."""
    loss: float = 0.0
    """Probability; a lost packet has used its bandwidth."""
    duplication: float = 0.0
    """Probability that a second copy departs with the first."""
    reorder: float = 0.0
    """Probability that a packet is held back, so that those behind overtake it."""
    bandwidth_bps: float | None = None
    """Bits per second; None: unlimited."""
    queue_bytes: int = QUEUE_BYTES
    """Bytes that may wait for the bandwidth; a packet that does not fit is dropped (drop-tail)."""
    blocked: bool = False
    """Every packet is dropped."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("delay_s", "jitter_s"):
            if not 0 <= getattr(self, name) <= DELAY_S_MAX:
                raise SpecError(f"link {name}: {getattr(self, name)} is not between 0 and {DELAY_S_MAX:.0f}")
        for name in ("loss", "duplication", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"link {name}: {getattr(self, name)} is not between 0 and 1")
        bandwidth = self.bandwidth_bps
        if bandwidth is not None and not (bandwidth >= BANDWIDTH_BPS_MIN and math.isfinite(bandwidth)):
            raise SpecError(f"link bandwidth_bps: {bandwidth} is not at least {BANDWIDTH_BPS_MIN:.0f}")
        if self.queue_bytes < 0:
            raise SpecError(f"link queue_bytes: {self.queue_bytes} is below 0")

    @property
    def clear(self) -> bool:
        """Whether packets pass as if there were no model at all."""
        return self == CLEAR or not (
            self.delay_s or self.jitter_s or self.loss or self.duplication or self.reorder or self.blocked
            or self.bandwidth_bps
        )  # fmt: skip


CLEAR = LinkShape()
"""The shape that does nothing."""


def combined(shapes: Iterable[LinkShape]) -> LinkShape:
    """The effect of several shapes on one link, whatever their order: delays add up, losses are independent of each other,
    the narrowest bandwidth (with its queue) rules, one block blocks.
    """
    every = list(shapes)
    if not every:
        return CLEAR
    narrowest = min(every, key=lambda one: (one.bandwidth_bps or math.inf, one.queue_bytes))
    return LinkShape(
        delay_s=min(DELAY_S_MAX, math.fsum(one.delay_s for one in every)),
        jitter_s=min(DELAY_S_MAX, math.fsum(one.jitter_s for one in every)),
        loss=_either(one.loss for one in every),
        duplication=_either(one.duplication for one in every),
        reorder=_either(one.reorder for one in every),
        bandwidth_bps=narrowest.bandwidth_bps,
        queue_bytes=narrowest.queue_bytes,
        blocked=any(one.blocked for one in every),
    )


def _either(probabilities: Iterable[float]) -> float:
    """The probability that at least one of several independent things happens."""
    return min(1.0, max(0.0, 1 - math.prod(1 - one for one in sorted(probabilities))))
