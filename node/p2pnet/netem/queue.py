"""A bandwidth and the packets that wait for it: drop-tail, or CoDel (RFC 8289)."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.netem.agenda import Agenda
from p2pnet.netem.codel import CoDel
from p2pnet.netem.counters import LinkCounters

Q = TypeVar("Q")

_NS_BITS = 8_000_000_000  # of a byte, at one bit per second


class Queue(Generic[Q]):
    """Serves one packet after another, each for as long as its bits take; others wait, up to a number of bytes.

    The packet in service does not count as waiting, so an idle queue takes a packet of any size. `leaves` is called with each
    packet that is through, its size, the time, and the counters it came with.
    """

    __slots__ = (
        "_agenda", "_codel", "_counters", "_leaves", "_limit", "_ns_per_byte", "_serving", "_size", "_waiting",
        "ends_ns", "waiting_bytes",
    )  # fmt: skip

    def __init__(
        self,
        shape: LinkShape | AccessShape,
        *,
        agenda: Agenda[Any],
        leaves: Callable[[Q, int, int, LinkCounters], None],
    ) -> None:
        self.ends_ns: int | None = None
        self.waiting_bytes = 0
        self._agenda, self._leaves = agenda, leaves
        self._waiting: deque[tuple[Q, int, int, LinkCounters]] = deque()  # packet, size, when it came, who counts it
        self._serving: Q | None = None
        self._size = 0  # of the packet in service
        self._counters = LinkCounters()  # of the packet in service
        self._codel: CoDel | None = None
        self._ns_per_byte = 0.0
        self._limit = 0
        self.reshape(shape, 0)

    def reshape(self, shape: LinkShape | AccessShape, now_ns: int) -> None:
        """Go on with another bandwidth and room. What waits stays, in its order; what is left of the packet in service takes
        as long as it does at the new bandwidth. The caller tells the agenda: see `Agenda.serve_only`.
        """
        ns_per_byte = _NS_BITS / (shape.bandwidth_bps or math.inf)
        if self.ends_ns is not None and ns_per_byte != self._ns_per_byte:
            left_ns = max(0, self.ends_ns - now_ns)
            self.ends_ns = now_ns + math.ceil(left_ns / self._ns_per_byte * ns_per_byte)
        self._ns_per_byte, self._limit = ns_per_byte, shape.queue_bytes
        if (shape.queue_kind == "codel") != (self._codel is not None):
            self._codel = CoDel() if shape.queue_kind == "codel" else None

    def put(self, packet: Q, size: int, now_ns: int, counters: LinkCounters) -> None:
        """Take a packet in, or drop it where it does not fit."""
        if self.ends_ns is None:
            if self._agenda.hold(size):
                self._begin(packet, size, counters, now_ns)
                return
        elif self.waiting_bytes + size <= self._limit and self._agenda.hold(size):
            self._waiting.append((packet, size, now_ns, counters))
            self.waiting_bytes += size
            return
        counters.overflowed += 1

    def finish(self, at_ns: int) -> None:
        """See `Server`."""
        packet, size, counters = self._serving, self._size, self._counters
        self.ends_ns = self._serving = None
        self._agenda.let_go(size)
        following = self._next(at_ns)
        if following is not None:
            self._begin(*following, at_ns)
        self._leaves(packet, size, at_ns, counters)  # type: ignore[arg-type]  # a packet may be anything, None too

    def release(self, now_ns: int) -> None:
        """Let go of all packets at once, in their order: there is no bandwidth to wait for any more."""
        if self.ends_ns is None:
            return
        packets = [(self._serving, self._size, now_ns, self._counters), *self._waiting]
        self._waiting.clear()
        self.waiting_bytes, self.ends_ns, self._serving = 0, None, None
        for packet, size, _, counters in packets:
            self._agenda.let_go(size)
            self._leaves(packet, size, now_ns, counters)  # type: ignore[arg-type]

    def _begin(self, packet: Q, size: int, counters: LinkCounters, now_ns: int) -> None:
        self._serving, self._size, self._counters = packet, size, counters
        # Rounded up, so that the bandwidth is never exceeded.
        self.ends_ns = now_ns + math.ceil(size * self._ns_per_byte)
        self._agenda.serve(self.ends_ns, self)

    def _next(self, now_ns: int) -> tuple[Q, int, LinkCounters] | None:
        """The packet to serve next, out of the queue."""
        codel = self._codel
        while self._waiting:
            packet, size, came_ns, counters = self._waiting.popleft()
            self.waiting_bytes -= size
            if codel is None or codel.keeps(size, now_ns - came_ns, self.waiting_bytes, now_ns, self._ns_per_byte):
                return packet, size, counters
            self._agenda.let_go(size)
            counters.overflowed += 1
        if codel is not None:
            codel.empty()
        return None
