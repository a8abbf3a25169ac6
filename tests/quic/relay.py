"""A path between two loopback sockets whose faults a test decides: what is lost, how late, how narrow, from which port.

It stands between a dialer and one target: dial `relay.address`. Per dialer it sends from a socket of its own, as a NAT does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Self

Drop = Callable[[bytes, bool], bool]
"""(datagram, whether it goes to the server) -> whether it is lost."""

BUFFER_BYTES = 4 << 20  # of each socket: what bursts while the loop is busy is late, not lost
READS_PER_TURN = 256
DATAGRAM_BYTES_MAX = 65_536
UDP_OVER_IPV4_BYTES = 28
UDP_OVER_IPV6_BYTES = 48


def narrow(mtu_bytes: int, *, ipv6: bool = False) -> Drop:
    """Loses what a path of this MTU cannot carry: IP and UDP headers count."""
    payload_bytes = mtu_bytes - (UDP_OVER_IPV6_BYTES if ipv6 else UDP_OVER_IPV4_BYTES)
    return lambda data, _to_server: len(data) > payload_bytes


class Direction:
    """One way through the relay: a queue that is never reordered, and its rate."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._queue: deque[tuple[float, socket.socket, bytes, Any]] = deque()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.queued_bytes = 0

    def send(self, through: socket.socket, data: bytes, address: Any) -> bool:
        """Now, or when delay and rate allow. False if the queue is full."""
        relay = self._relay
        if not (relay.delay_s or self._queue or relay.bytes_per_s < math.inf):
            _send(through, data, address)
            return True
        if self.queued_bytes + len(data) > relay.queue_bytes:
            return False
        self._free_at = max(self._free_at, relay.loop.time()) + len(data) / relay.bytes_per_s
        self.queued_bytes += len(data)
        self._queue.append((self._free_at + relay.delay_s, through, data, address))
        if self._timer is None:
            self._timer = relay.loop.call_at(self._queue[0][0], self._due)
        return True

    def stop(self) -> None:
        """What is on its way is lost."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()

    def _due(self) -> None:
        self._timer = None
        now = self._relay.loop.time()
        while self._queue and self._queue[0][0] <= now:
            _, through, data, address = self._queue.popleft()
            self.queued_bytes -= len(data)
            _send(through, data, address)
        if self._queue:
            self._timer = self._relay.loop.call_at(self._queue[0][0], self._due)


class Relay:
    """Its settings may be changed at any time. Made in a running loop; a context manager.

    delay_s: one way, both ways. bytes_per_s: each way, of UDP payload; queue_bytes wait at most, what comes then is lost.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        drop: Drop = lambda _data, _to_server: False,
        delay_s: float = 0.0,
        bytes_per_s: float = math.inf,
        queue_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.target = target
        self.drop = drop
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.queue_bytes = queue_bytes
        self.dropped = 0
        self.carried = {True: 0, False: 0}
        """Datagrams that came through, by whether they went to the server."""
        self._there = Direction(self)
        self._back = Direction(self)
        self._behind: dict[Any, socket.socket] = {}  # dialer's address -> the socket the target sees
        self._front = self._open()
        self.loop.add_reader(self._front, self._from_dialers)

    @property
    def address(self) -> tuple[str, int]:
        """Where to dial."""
        host, port = self._front.getsockname()[:2]
        return host, port

    def rebind(self) -> None:
        """Every dialer goes on from another port, as after a NAT has forgotten it; what was sent to the old one is lost."""
        for behind in self._behind.values():
            self._shut(behind)
        self._behind.clear()

    def close(self) -> None:
        """Carry nothing more. Idempotent."""
        self.rebind()
        self._shut(self._front)
        self._there.stop()
        self._back.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Private

    def _open(self) -> socket.socket:
        """A socket on the target's loopback."""
        six = ipaddress.ip_address(self.target[0]).version == 6
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.bind(("::1" if six else "127.0.0.1", 0))
        return sock

    def _shut(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            self.loop.remove_reader(sock)
            sock.close()

    def _from_dialers(self) -> None:
        for data, dialer in _received(self._front):
            behind = self._behind.get(dialer)
            if behind is None:
                behind = self._behind[dialer] = self._open()
                self.loop.add_reader(behind, self._from_target, behind, dialer)
            self._carry(self._there, behind, data, self.target, to_server=True)

    def _from_target(self, behind: socket.socket, dialer: Any) -> None:
        for data, _ in _received(behind):
            self._carry(self._back, self._front, data, dialer, to_server=False)

    def _carry(self, way: Direction, through: socket.socket, data: bytes, address: Any, *, to_server: bool) -> None:
        if self.drop(data, to_server) or not way.send(through, data, address):
            self.dropped += 1
        else:
            self.carried[to_server] += 1


def _received(sock: socket.socket) -> list[tuple[bytes, Any]]:
    """What waits, within one turn's measure."""
    datagrams: list[tuple[bytes, Any]] = []
    try:
        while len(datagrams) < READS_PER_TURN:
            datagrams.append(sock.recvfrom(DATAGRAM_BYTES_MAX))
    except OSError:  # nothing more, or an ICMP error for something sent earlier
        pass
    return datagrams


def _send(sock: socket.socket, data: bytes, address: Any) -> None:
    """A full or closed socket loses it, as a path does."""
    with contextlib.suppress(OSError):
        sock.sendto(data, address)
