"""One direction of one link: when each packet departs, if it does."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.model.network import CLEAR, LinkShape

Rng = Callable[[], float]
"""0 <= x < 1, uniform; called only for what the shape makes random."""

HOLD_NS_MIN = 1_000_000
"""Least time a reordered packet is held back, on a link without delay."""

_NS = 1_000_000_000


@dataclass(slots=True)
class LinkCounters:
    """Packets by what became of them: passed + lost + overflowed + blocked = all that were sent."""

    passed: int = 0
    lost: int = 0
    overflowed: int = 0
    blocked: int = 0
    duplicated: int = 0
    reordered: int = 0
    bytes_passed: int = 0


class Link:
    """Packets in, departures out. `shape` may be changed at any time; packets under way keep their departures.

    State is two points in time, so an idle link costs nothing.
    """

    __slots__ = ("_free_ns", "_last_ns", "_shape", "counters")

    def __init__(self, shape: LinkShape = CLEAR) -> None:
        self._shape = shape
        self.counters = LinkCounters()
        self._free_ns = 0  # when the bandwidth has sent all it was given
        self._last_ns = 0  # the latest departure of a packet in order

    @property
    def shape(self) -> LinkShape:
        """The shape in force."""
        return self._shape

    @shape.setter
    def shape(self, shape: LinkShape) -> None:
        if shape != self._shape:
            # As a new path: packets do not queue behind those of the old shape, so a healed link is healed at once.
            self._shape, self._free_ns, self._last_ns = shape, 0, 0

    def send(self, size: int, now_ns: int, rng: Rng) -> list[int]:
        """When a packet of `size` bytes, offered at `now_ns`, departs to the other end: no time if it never does, two
        if it is duplicated. Never before `now_ns`; in the order sent, except for reordered packets.
        """
        shape, counters = self._shape, self.counters
        if shape.blocked:
            counters.blocked += 1
            return []
        # Before the loss: a packet lost on the way has used its bandwidth.
        sent_ns = self._serialized(size, now_ns)
        if sent_ns is None:
            counters.overflowed += 1
            return []
        if shape.loss and rng() < shape.loss:
            counters.lost += 1
            return []
        departs_ns = self._departure(sent_ns, rng)
        counters.passed += 1
        counters.bytes_passed += size
        if shape.duplication and rng() < shape.duplication:
            counters.duplicated += 1
            return [departs_ns, departs_ns]
        return [departs_ns]

    def backlog_bytes(self, now_ns: int) -> int:
        """Bytes that wait for the bandwidth now."""
        if self.shape.bandwidth_bps is None:
            return 0
        return int(max(0, self._free_ns - now_ns) * self.shape.bandwidth_bps / (8 * _NS))

    def _serialized(self, size: int, now_ns: int) -> int | None:
        """When the last bit has left, or None when the queue has no room. An empty queue takes a packet of any size."""
        bandwidth = self.shape.bandwidth_bps
        if bandwidth is None:
            return now_ns
        backlog = self.backlog_bytes(now_ns)
        if backlog and backlog + size > self.shape.queue_bytes:
            return None
        self._free_ns = max(now_ns, self._free_ns) + math.ceil(size * 8 * _NS / bandwidth)
        return self._free_ns

    def _departure(self, sent_ns: int, rng: Rng) -> int:
        shape = self._shape
        delay_ns = shape.delay_ns
        if shape.jitter_ns:
            delay_ns = max(0, delay_ns + round(shape.jitter_ns * (2 * rng() - 1)))
        departs_ns = sent_ns + delay_ns
        if shape.reorder and rng() < shape.reorder:
            # Held back and left out of the order: the packets behind it do not wait.
            self.counters.reordered += 1
            hold_ns = max(HOLD_NS_MIN, shape.delay_ns, shape.jitter_ns)
            return departs_ns + math.ceil(hold_ns * (0.5 + rng() / 2))
        self._last_ns = max(departs_ns, self._last_ns)
        return self._last_ns
