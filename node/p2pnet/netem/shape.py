"""How several shapes of one path add up."""

import math
from collections.abc import Iterable

from p2pnet.model.network import CLEAR, DELAY_NS_MAX, LinkShape

_UNIFORM_STD = {"uniform": 1 / math.sqrt(3)}  # standard deviations to one unit of jitter; 1 for other kinds


def combined(shapes: Iterable[LinkShape]) -> LinkShape:
    """The effect of several shapes on one path, whatever their order.

    Delays add up, and so do the variances of jitters, whose kind is that of the largest; losses are independent of each other, in
    bursts as long as the longest; the narrowest bandwidth (with its queue) and the smallest MTU rule; one block blocks; order is
    kept if all keep it.
    """
    every = list(shapes)
    if not every:
        return CLEAR
    narrowest = min(every, key=lambda one: (one.bandwidth_bps or math.inf, one.queue_bytes, one.queue_kind))
    widest = max(every, key=lambda one: (_std_ns(one), one.jitter_kind))
    jitter_ns = math.hypot(*(_std_ns(one) for one in every)) / _UNIFORM_STD.get(widest.jitter_kind, 1.0)
    mtus = [one.mtu for one in every if one.mtu is not None]
    return LinkShape(
        delay_ns=min(DELAY_NS_MAX, sum(one.delay_ns for one in every)),
        jitter_ns=min(DELAY_NS_MAX, round(jitter_ns)),
        jitter_kind=widest.jitter_kind,
        keep_order=all(one.keep_order for one in every),
        loss=_either(one.loss for one in every),
        loss_burst=max(one.loss_burst for one in every),
        duplication=_either(one.duplication for one in every),
        reorder=_either(one.reorder for one in every),
        bandwidth_bps=narrowest.bandwidth_bps,
        queue_bytes=narrowest.queue_bytes,
        queue_kind=narrowest.queue_kind,
        mtu=min(mtus, default=None),
        blocked=any(one.blocked for one in every),
    )


def _std_ns(shape: LinkShape) -> float:
    return shape.jitter_ns * _UNIFORM_STD.get(shape.jitter_kind, 1.0)


def _either(probabilities: Iterable[float]) -> float:
    """The probability that at least one of several independent things happens."""
    return min(1.0, max(0.0, 1 - math.prod(1 - one for one in sorted(probabilities))))
