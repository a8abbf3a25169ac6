"""The one network model: packets, the time and a source of randomness in, departures out. Sans-IO.

Times are integer nanoseconds of whatever clock the caller uses; randomness is a function that gives 0 <= x < 1.
"""

from p2pnet.model.network import CLEAR, LinkShape
from p2pnet.netem.link import Link, LinkCounters, Rng
from p2pnet.netem.shape import combined

__all__ = ["CLEAR", "Link", "LinkCounters", "LinkShape", "Rng", "combined"]
