"""What will happen to the packets of one node and when, and how many of them it may hold."""

import itertools
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

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


class Timeline(Generic[P]):
    """Departures of packets, and the ends of service of queues, in the order of their times."""

    __slots__ = (
        "_bytes_max", "_departures", "_order", "_packets_max", "_services", "bytes_held", "floor_ns", "packets_held"
    )  # fmt: skip

    def __init__(self, packets_max: int = PACKETS_HELD_MAX, bytes_max: int = BYTES_HELD_MAX) -> None:
        self.packets_held = 0
        self.bytes_held = 0
        self.floor_ns = 0
        """Least time from the end of any service to a departure that follows from it."""
        self._packets_max, self._bytes_max = packets_max, bytes_max
        self._departures: list[tuple[int, int, P, int]] = []  # heaps, the earliest first
        self._services: list[tuple[int, int, Server]] = []
        self._order = itertools.count()  # of what happens at one time

    def hold(self, size: int) -> bool:
        """Count one more packet in; False if there is no room for it."""
        if self.packets_held >= self._packets_max or self.bytes_held + size > self._bytes_max:
            return False
        self.packets_held += 1
        self.bytes_held += size
        return True

    def let_go(self, size: int) -> None:
        """Undo `hold`."""
        self.packets_held -= 1
        self.bytes_held -= size

    def depart(self, at_ns: int, packet: P, size: int) -> bool:
        """Let a packet depart at this time; False if there is no room for it."""
        if self.packets_held >= self._packets_max or self.bytes_held + size > self._bytes_max:
            return False
        self.packets_held += 1
        self.bytes_held += size
        heappush(self._departures, (at_ns, next(self._order), packet, size))
        return True

    def serve(self, ends_ns: int, server: Server) -> None:
        """Call `server.finish` at this time."""
        heappush(self._services, (ends_ns, next(self._order), server))

    def serve_only(self, servers: Iterable[Server]) -> None:
        """Call `finish` of these and no others, for their times have changed."""
        self._services = [
            (server.ends_ns, next(self._order), server) for server in servers if server.ends_ns is not None
        ]
        heapify(self._services)

    def advance(self, now_ns: int) -> None:
        """Let all services end that have ended by now, each at its own time, however late this call comes."""
        while self._services and self._services[0][0] <= now_ns:
            at_ns, _, server = heappop(self._services)
            server.finish(at_ns)

    def due(self, now_ns: int) -> list[P]:
        """Packets that have departed by now, in the order of their departures."""
        services, departures = self._services, self._departures
        if services and services[0][0] <= now_ns:
            self.advance(now_ns)
        packets: list[P] = []
        size = 0
        while departures and departures[0][0] <= now_ns:
            one = heappop(departures)
            packets.append(one[2])
            size += one[3]
        self.packets_held -= len(packets)
        self.bytes_held -= size
        return packets

    def next_at(self) -> int | None:
        """When a packet may be due next; None: nothing is on its way. Ends of service alone are no reason to be called."""
        services, departures = self._services, self._departures
        if not services:
            return departures[0][0] if departures else None
        at_ns = services[0][0] + self.floor_ns
        return min(at_ns, departures[0][0]) if departures else at_ns
