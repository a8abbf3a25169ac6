"""The one network model: packets, the time and a source of randomness in, departures out. Sans-IO.

What each shape does and how stands in docs/network-model.md, and there too what the same shapes do to whole messages in the
simulator (`messages`), with slow start, a window, and losses as delay.

Times are integer nanoseconds of whatever clock the caller uses; randomness is a function that gives 0 <= x < 1.
"""

from p2pnet.model.network import CLEAR, AccessShape, LinkShape, NodeNetwork
from p2pnet.netem.counters import LinkCounters, Rng
from p2pnet.netem.egress import Egress, Ingress
from p2pnet.netem.jitter import jitter_period_ns
from p2pnet.netem.shape import combined

__all__ = [
    "CLEAR", "AccessShape", "Egress", "Ingress", "LinkCounters", "LinkShape", "NodeNetwork", "Rng", "combined", "jitter_period_ns"
]  # fmt: skip
