"""One non-blocking UDP socket: read in batches with GRO, written in runs with GSO, one datagram a call where not.

The cost of UDP is per system call and per wake-up. Whether the kernel can segment is hidden behind `send` and the
callback: nobody above knows.
"""

import asyncio
import errno
import logging
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from p2pnet.quic.errors import EndpointError

log = logging.getLogger(__name__)

Datagram = tuple[bytes, Any]
"""Payload and the system's form of the address."""

READS_PER_TURN = 16  # then others get their turn
RUN_SEGMENTS_MAX = 44
RUN_BYTES_MAX = 65_000
BACKLOG_MAX = 8_192  # datagrams kept while the socket is full; beyond, they are lost, as on any full link

_UDP_SEGMENT = 103
_UDP_GRO = 104
_SEGMENT = struct.Struct("H")
_RECEIVE_BYTES = 65_536
_NO_SEGMENTATION = {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP}


class UdpSocket:
    """The socket of an endpoint. `on_datagrams` gets what one turn brought; it must not raise."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_datagrams: Callable[[list[Datagram]], None],
        *,
        buffer_bytes: int,
        segmentation: bool,
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_datagrams = on_datagrams
        self._backlog: deque[Datagram] = deque()
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._closed = False
        self.dropped = 0
        """Datagrams the system did not take."""
        self.sent_bytes = 0
        self.received_bytes = 0
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        linux = segmentation and sys.platform == "linux"
        self._gso = linux
        self._gro = linux and self._try_gro()
        loop.add_reader(sock, self._read)

    @staticmethod
    def bind(address: tuple[str, int]) -> socket.socket:
        """A new socket on exactly this address. Raises EndpointError, never takes another port."""
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind((host, port))
        except (OSError, OverflowError) as error:
            sock.close()
            number = error.errno if isinstance(error, OSError) else None
            raise EndpointError(f"cannot bind {host}:{port}: {error}", number) from error
        return sock

    @property
    def address(self) -> tuple[str, int]:
        """The real bound address."""
        host, port = self._sock.getsockname()[:2]
        return (host, port)

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self._sock.family

    @property
    def congested(self) -> bool:
        """The system's buffer is full: what is sent now waits."""
        return bool(self._backlog)

    def close(self) -> None:
        """Stop reading and writing, and close the socket."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        if self._backlog:
            self._loop.remove_writer(self._sock)
            self._backlog.clear()
        self._sock.close()

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all, in order; what the system cannot take now follows when it can."""
        if self._closed:
            return
        if self._backlog:
            self._hold(datagrams)
            return
        index = 0
        total = len(datagrams)
        while index < total:
            stop = self._run(datagrams, index)
            try:
                self._write(datagrams, index, stop)
            except BlockingIOError:
                self._hold(datagrams[index:])
                self._loop.add_writer(self._sock, self._drain)
                return
            except OSError as error:
                if stop - index > 1 and error.errno in _NO_SEGMENTATION:
                    log.info("no UDP segmentation here (%s): sending one by one", error)
                    self._gso = False
                    continue
                self.dropped += stop - index
            index = stop

    def _run(self, datagrams: Sequence[Datagram], index: int) -> int:
        """The end of the run that may leave in one call: one address, one size, only the last one shorter."""
        stop = index + 1
        if not self._gso or stop == len(datagrams):
            return stop
        first, address = datagrams[index]
        size = len(first)
        most = min(len(datagrams), index + RUN_SEGMENTS_MAX, index + RUN_BYTES_MAX // size)
        while stop < most:
            data, other = datagrams[stop]
            if len(data) > size or other != address:
                break
            stop += 1
            if len(data) < size:
                break
        return stop

    def _write(self, datagrams: Sequence[Datagram], index: int, stop: int) -> None:
        data, address = datagrams[index]
        if stop - index == 1:
            self.sent_bytes += self._sock.sendto(data, address)
            return
        pieces = [datagrams[i][0] for i in range(index, stop)]
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT.pack(len(data)))]
        self.sent_bytes += self._sock.sendmsg(pieces, control, 0, address)

    def _hold(self, datagrams: Sequence[Datagram]) -> None:
        room = BACKLOG_MAX - len(self._backlog)
        self._backlog.extend(datagrams[:room])
        self.dropped += max(0, len(datagrams) - room)

    def _drain(self) -> None:
        """The socket takes more."""
        waiting = list(self._backlog)
        self._backlog.clear()
        self._loop.remove_writer(self._sock)
        self.send(waiting)

    def _try_gro(self) -> bool:
        try:
            self._sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        received: list[Datagram] = []
        for _ in range(READS_PER_TURN):
            try:
                size, control, _flags, address = self._sock.recvmsg_into([self._buffer], 64 if self._gro else 0)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP answer to something sent; QUIC's timers judge the path
                continue
            self.received_bytes += size
            segment = _segment(control) if control else 0
            if not segment or segment >= size:
                received.append((bytes(self._view[:size]), address))
                continue
            received.extend(
                (bytes(self._view[start : min(start + segment, size)]), address) for start in range(0, size, segment)
            )
        if received:
            self._on_datagrams(received)


def _segment(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
            return int.from_bytes(data[:4] if len(data) >= 4 else data[:2], sys.byteorder)
    return 0
