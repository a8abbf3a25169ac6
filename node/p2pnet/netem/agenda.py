"""What will happen to the packets of one node and when, and how many of them it may hold."""

import itertools
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from p2pnet.netem.counters import LinkCounters

P = TypeVar("P")

PACKETS_HELD_MAX = 65_536
"""Packets that wait or are under way in one direction of one node; more overflow. A Gbit/s over 300 ms is 27,000."""
BYTES_HELD_MAX = 128 << 20
"""Their bytes; a Gbit/s over a second."""


class Server(Protocol):
    """A queue that serves one packet after another."""

    ends_ns: int | None
    """When the packet in service is through; None: nothing is in service."""

    def finish(self, at_ns: int) -> None:
        """The packet in service is through; `at_ns` is `ends_ns`."""


class Agenda(Generic[P]):
    """Departures of packets, and the ends of service of queues, in the order of their times.

    A packet costs little more than a push to a heap and a pop: these methods are as flat as they are for that.
    """

    __slots__ = (
        "_bytes_max", "_departures", "_order", "_packets_max", "_waiting", "bytes_held", "floor_ns", "services",
    )  # fmt: skip

    def __init__(self, packets_max: int = PACKETS_HELD_MAX, bytes_max: int = BYTES_HELD_MAX) -> None:
        self.bytes_held = 0
        self.floor_ns = 0
        """Least time from the end of any service to a departure that follows from it."""
        self.services: list[tuple[int, int, Server]] = []
        """A heap, the earliest first: only when it is not empty is there anything for `advance` to do."""
        self._packets_max, self._bytes_max = packets_max, bytes_max
        self._waiting = 0  # packets in queues
        self._departures: list[tuple[int, int, P, int]] = []  # a heap too
        self._order = itertools.count()  # of what happens at one time

    @property
    def packets_held(self) -> int:
        """Packets that wait in queues or are to depart."""
        return self._waiting + len(self._departures)

    def hold(self, size: int) -> bool:
        """Count one more waiting packet in; False if there is no room for it."""
        if self.packets_held >= self._packets_max or self.bytes_held + size > self._bytes_max:
            return False
        self._waiting += 1
        self.bytes_held += size
        return True

    def let_go(self, size: int) -> None:
        """Undo `hold`."""
        self._waiting -= 1
        self.bytes_held -= size

    def depart(self, at_ns: int, packet: P, size: int, counters: LinkCounters) -> bool:
        """Let a packet depart at this time, or count it as overflowed if there is no room for it; whether there was."""
        departures = self._departures
        held = self.bytes_held + size
        if held > self._bytes_max or len(departures) + self._waiting >= self._packets_max:
            counters.overflowed += 1
            return False
        self.bytes_held = held
        heappush(departures, (at_ns, next(self._order), packet, size))
        counters.passed += 1
        counters.bytes_passed += size
        return True

    def serve(self, ends_ns: int, server: Server) -> None:
        """Call `server.finish` at this time."""
        heappush(self.services, (ends_ns, next(self._order), server))

    def serve_only(self, servers: Iterable[Server]) -> None:
        """Call `finish` of these and no others, for their times have changed."""
        self.services[:] = [
            (server.ends_ns, next(self._order), server) for server in servers if server.ends_ns is not None
        ]
        heapify(self.services)

    def advance(self, now_ns: int) -> None:
        """Let all services end that have ended by now, each at its own time, however late this call comes."""
        services = self.services
        while services and services[0][0] <= now_ns:
            at_ns, _, server = heappop(services)
            server.finish(at_ns)

    def due(self, now_ns: int) -> list[P]:
        """Packets that have departed by now, in the order of their departures."""
        if self.services:
            self.advance(now_ns)
        departures = self._departures
        packets: list[P] = []
        while departures and departures[0][0] <= now_ns:
            _, _, packet, size = heappop(departures)
            packets.append(packet)
            self.bytes_held -= size
        return packets

    def next_at(self) -> int | None:
        """When a packet may be due next; None: nothing is on its way. Ends of service alone are no reason to be called."""
        departures = self._departures
        if not self.services:
            return departures[0][0] if departures else None
        at_ns = self.services[0][0] + self.floor_ns
        return min(at_ns, departures[0][0]) if departures else at_ns
