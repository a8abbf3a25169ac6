"""Delays that vary, with the mean and the spread that were asked for, on a busy link and on an idle one.

Packets that keep their order share one delay that changes with time: it goes steadily from one drawn value to the next, and falls
no faster than time goes on, so that no packet ever has to wait for the one before it. (Delays of their own, held back to keep the
order, would be longer on average than asked, the more so the more packets there are; sorted ones would hardly vary.)
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from p2pnet.model.network import ORDER_SPREAD, JitterKind, LinkShape
from p2pnet.netem.counters import Rng

NORMAL_REACH = 3.0
"""A normal jitter differs from the mean by so many standard deviations at most; what would be beyond, 0.3 %, is not drawn."""
SHARED_MAX = 2_048
"""Tables of quantiles that links share, some 8 KiB each; the places of a preset give up to 1,100."""
_STEPS = 48  # reaches that tables are made for, from 0 to NORMAL_REACH
_POINTS = 256  # of a table of quantiles, less one


class Jitter(Protocol):
    """The difference of a packet's delay from the mean."""

    least_ns: int
    """The lowest difference there is; not below the delay's negative."""

    def extra_ns(self, at_ns: int, rng: Rng) -> int:
        """The difference of a packet at this time, which is not before the one asked for last."""


class OwnJitter:
    """Each packet differs by a draw of its own; some overtake others."""

    __slots__ = ("_quantiles", "least_ns")

    def __init__(self, quantiles: list[float]) -> None:
        self._quantiles = quantiles
        self.least_ns = math.floor(quantiles[0])

    def extra_ns(self, at_ns: int, rng: Rng) -> int:
        """See `Jitter`."""
        del at_ns
        return int(drawn(self._quantiles, rng))


class OrderedJitter:
    """All packets follow one line through values drawn every `period_ns`."""

    __slots__ = ("_begins_ns", "_from", "_quantiles", "_to", "least_ns", "period_ns")

    def __init__(self, quantiles: list[float]) -> None:
        self._quantiles = quantiles
        self.least_ns = math.floor(quantiles[0])
        # As long as the longest way down: then the line is never steeper than -1.
        self.period_ns = max(1, -2 * self.least_ns)
        self._begins_ns: int | None = None
        self._from = self._to = 0

    def extra_ns(self, at_ns: int, rng: Rng) -> int:
        """See `Jitter`."""
        passed = -1 if self._begins_ns is None else at_ns - self._begins_ns
        if not 0 <= passed < self.period_ns:
            passed = self._go_to(at_ns, rng)
        return self._from + (self._to - self._from) * passed // self.period_ns

    def _go_to(self, at_ns: int, rng: Rng) -> int:
        """Draw the line around this time; how far along the line it is. Values of periods without packets are not drawn."""
        if self._begins_ns is None:
            self._begins_ns = at_ns - int(rng() * self.period_ns)
            self._to, periods = self._draw(rng), 0
            self._from = self._draw(rng)
        else:
            if at_ns < self._begins_ns:
                return 0
            periods = (at_ns - self._begins_ns) // self.period_ns
            self._from = self._to if periods == 1 else self._draw(rng)
            self._to = self._draw(rng)
        self._begins_ns += periods * self.period_ns
        return at_ns - self._begins_ns

    def _draw(self, rng: Rng) -> int:
        return int(drawn(self._quantiles, rng))


def jitter(shape: LinkShape) -> OwnJitter | OrderedJitter | None:
    """What makes a shape's delay vary; None where it does not.

    A jitter above `jitter_max_ns` of the shape's delay is cut to it: the mean is kept, and no delay is below 0.
    """
    std_ns = shape.jitter_std_ns
    if std_ns < 1:
        return None
    if shape.keep_order:
        return OrderedJitter(quantiles(shape.jitter_kind, std_ns * ORDER_SPREAD, shape.delay_ns))
    return OwnJitter(quantiles(shape.jitter_kind, std_ns, shape.delay_ns))


def jitter_period_ns(shape: LinkShape) -> int:
    """How far apart in time two delays of a path must be to tell two things about its jitter; 0: each packet's delay does.

    For whoever measures it: samples within one period are worth little more than one.
    """
    made = jitter(shape)
    return made.period_ns if isinstance(made, OrderedJitter) else 0


def drawn(quantiles: list[float], rng: Rng) -> float:
    """A value of the distribution that has these quantiles."""
    place = rng() * (len(quantiles) - 1)
    index = int(place)
    low = quantiles[index]
    return low + (quantiles[index + 1] - low) * (place - index)


@lru_cache(maxsize=SHARED_MAX)
def quantiles(kind: JitterKind, std_ns: float, bound_ns: float) -> list[float]:
    """Evenly spaced quantiles of a distribution around 0 with this standard deviation, within the bound either way.

    A normal one whose tails do not fit becomes flatter as the bound comes closer, and uniform at the end. Links alike share them:
    they must not be changed.
    """
    if kind == "uniform":
        reach = min(bound_ns, std_ns * math.sqrt(3))
        return [-reach, reach]
    step = _STEPS
    while step and _normal(step)[1] < std_ns / bound_ns:
        step -= 1
    unit, std = _normal(step)
    return [max(-bound_ns, min(bound_ns, one * std_ns / std)) for one in unit]


@lru_cache(maxsize=_STEPS + 1)
def _normal(step: int) -> tuple[list[float], float]:
    """Quantiles within -1 and 1 of a normal distribution cut off there, and its standard deviation.

    1 is so many of its (uncut) standard deviations as `step` says; step 0 is the uniform distribution.
    """
    if not step:
        return [-1.0, 1.0], 1 / math.sqrt(3)
    reach = NORMAL_REACH * step / _STEPS
    share = math.erf(reach / math.sqrt(2))
    half = [0.0]
    for point in range(1, _POINTS // 2):
        half.append(_inverse(share * point * 2 / _POINTS, half[-1]))
    half = [*(one / reach for one in half), 1.0]
    values = [*(-one for one in reversed(half[1:])), *half]
    variance = sum((a * a + a * b + b * b) / 3 for a, b in pairwise(values)) / _POINTS
    return values, math.sqrt(variance)


def _inverse(share: float, start: float) -> float:
    """Within how many standard deviations of 0 this share of a normal distribution is; by Newton, from a value below."""
    value = start
    for _ in range(8):
        density = math.sqrt(2 / math.pi) * math.exp(-value * value / 2)
        value += (share - math.erf(value / math.sqrt(2))) / density
    return value
