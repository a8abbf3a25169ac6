"""One non-blocking UDP socket: read in batches with GRO and written in runs with GSO, one datagram per call elsewhere.

UDP costs per system call and per wake-up, far more than per byte. Whether the kernel can segment is hidden behind `send` and
the callback. Packets are never fragmented: what a path does not carry is lost, or refused at once.
"""

import asyncio
import errno
import logging
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from p2pnet.model.text import address_text
from p2pnet.quic.addresses import Address, readable
from p2pnet.quic.engine import Datagram
from p2pnet.quic.errors import EndpointError
from p2pnet.quic.hosts import bind_udp

log = logging.getLogger(__name__)

READS_PER_TURN = 2
"""Reads per wake-up, of up to 64 KiB each with GRO: then what they brought is answered, while more arrives."""
RUN_SEGMENTS_MAX = 44
"""Datagrams in one sendmsg; Linux takes at most 64."""
RUN_BYTES_MAX = 65_000
"""Bytes in one sendmsg: it is one UDP datagram to the kernel until it is segmented."""
BACKLOG_MAX = 8_192
"""Datagrams kept while the socket is full; more are lost, as on any full link."""
UNSEGMENTED_MAX = 1_024
"""Addresses remembered for which the system does not segment."""

# Linux constants that Python's socket module does not have.
_UDP_SEGMENT = 103
_UDP_GRO = 104
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_IPV6_DONTFRAG = 62
_PMTUDISC_PROBE = 3  # don't-fragment set, and no larger a limit than the interface's own (RFC 8899 section 4.7)
_SEGMENT = struct.Struct("H")
_PKTINFO_4 = struct.Struct("=I4s4s")  # interface, source, destination
_PKTINFO_6 = struct.Struct("=16sI")
_RECEIVE_BYTES = 65_536
_CONTROL_BYTES = 128
_TOO_BIG = errno.EMSGSIZE
_NO_SEGMENTATION = {errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE}

OnDatagrams = Callable[[list[Datagram]], None]
"""Called with what one wake-up has read, in order of arrival."""
OnTooBig = Callable[[Any, int], None]
"""Called with the raw address and size of a datagram that the system refused for its size."""


class Transport(Protocol):
    """What an endpoint sends and receives datagrams through: a UDP socket, or something that behaves like one."""

    dropped: int
    """Datagrams that could not be sent."""
    sent_bytes: int
    received_bytes: int

    @property
    def address(self) -> Address:
        """The bound address."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""

    @property
    def congested(self) -> bool:
        """Whether datagrams sent now have to wait."""

    def start(self, on_datagrams: OnDatagrams, on_too_big: OnTooBig) -> None:
        """Begin to receive, and to call these two."""

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all, in order; what cannot leave now follows when it can, or is lost."""

    def forget(self) -> None:
        """Drop datagrams that wait to be sent."""

    def close(self) -> None:
        """Send and receive nothing any more. Idempotent."""


class UdpSocket:
    """A Transport over a real UDP socket."""

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, *, buffer_bytes: int, segmentation: bool
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_datagrams: OnDatagrams = _ignore
        self._on_too_big: OnTooBig = _ignore
        self._backlog: deque[Datagram] = deque()
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._closed = False
        self._unsegmented: set[Any] = set()
        self.dropped = 0
        """Datagrams the system did not take."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self.send_calls = 0
        """System calls that sent: far fewer than datagrams where the kernel segments."""
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            # Default buffers hold a few dozen large datagrams: a burst would be lost while the loop is busy.
            sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        linux = sys.platform == "linux"
        self._gso = linux and segmentation
        self._gro = linux and segmentation and self._set(socket.IPPROTO_UDP, _UDP_GRO, 1)
        self._forbid_fragments()
        self._everywhere = linux and self._is_unspecified() and self._ask_local()

    @staticmethod
    def bind(address: Address) -> socket.socket:
        """A new socket on exactly this address, never another port. Raises EndpointError."""
        host, port = address
        try:
            return bind_udp(host, port)
        except (OSError, OverflowError) as error:
            number = error.errno if isinstance(error, OSError) else None
            raise EndpointError(f"cannot bind {address_text(host, port)}: {error}", number) from error

    @property
    def address(self) -> Address:
        """The bound address."""
        return readable(self._sock.getsockname())

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self._sock.family

    @property
    def congested(self) -> bool:
        """Whether the system's buffer is full, so that datagrams sent now have to wait."""
        return bool(self._backlog)

    def start(self, on_datagrams: OnDatagrams, on_too_big: OnTooBig) -> None:
        """Begin to read."""
        self._on_datagrams = on_datagrams
        self._on_too_big = on_too_big
        # A plain reader: asyncio's datagram transport makes a call per datagram and knows no GRO.
        self._loop.add_reader(self._sock, self._read)

    def close(self) -> None:
        """Stop reading and writing, and close the socket."""
        if self._closed:
            return
        self._closed = True
        self._on_datagrams = self._on_too_big = _ignore
        if not self._loop.is_closed():
            self._loop.remove_reader(self._sock)
            if self._backlog:
                self._loop.remove_writer(self._sock)
        self._backlog.clear()
        self._sock.close()

    def __del__(self) -> None:
        self._sock.close()  # the loop may have ended while close packets were being repeated

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all, in order; what the system cannot take now follows when it can, up to BACKLOG_MAX."""
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
                self._refused(datagrams, index, stop, error)
            index = stop

    def forget(self) -> None:
        """Drop datagrams that wait to be sent."""
        if self._backlog:
            self._backlog.clear()
            self._loop.remove_writer(self._sock)

    def _run(self, datagrams: Sequence[Datagram], index: int) -> int:
        """The end of the run from `index` that one call may send: one address and size, only the last datagram shorter."""
        stop = index + 1
        first, address = datagrams[index]
        # A run of one needs no control message.
        if not self._gso or stop == len(datagrams) or address in self._unsegmented:
            return stop
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
        self.send_calls += 1
        control: list[tuple[int, int, bytes]] = []
        if self._everywhere and len(address) in (3, 5):
            address, local = address[:-1], address[-1]
            control.append((local[0], local[1], local[2]))
        if stop - index == 1:
            if control:
                self.sent_bytes += self._sock.sendmsg([data], control, 0, address)
            else:
                self.sent_bytes += self._sock.sendto(data, address)
            return
        pieces = [datagrams[i][0] for i in range(index, stop)]
        control.append((socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT.pack(len(data))))
        self.sent_bytes += self._sock.sendmsg(pieces, control, 0, address)

    def _refused(self, datagrams: Sequence[Datagram], index: int, stop: int, error: OSError) -> None:
        """The system refused a run: it does not segment towards that address, or the datagrams are too large for the path."""
        if stop - index == 1:
            data, address = datagrams[index]
            self.dropped += 1
            if error.errno == _TOO_BIG:
                self._on_too_big(address, len(data))
            return
        if error.errno not in _NO_SEGMENTATION:
            self.dropped += stop - index
            return
        dropped = self.dropped
        address = datagrams[index][1]
        for one in range(index, stop):
            try:
                self._write(datagrams, one, one + 1)
            except BlockingIOError:
                self.dropped += 1
            except OSError as alone:
                self._refused(datagrams, one, one + 1, alone)
                if alone.errno == _TOO_BIG:  # so are the others, which have the same size
                    self.dropped += stop - one - 1
                    return
        if self.dropped == dropped and len(self._unsegmented) < UNSEGMENTED_MAX:
            log.info("no UDP segmentation towards %s (%s): sending one by one", readable(address)[0], error)
            self._unsegmented.add(address)

    def _hold(self, datagrams: Sequence[Datagram]) -> None:
        room = BACKLOG_MAX - len(self._backlog)
        self._backlog.extend(datagrams[:room])
        self.dropped += max(0, len(datagrams) - room)

    def _drain(self) -> None:
        """The socket takes datagrams again."""
        waiting = list(self._backlog)
        self._backlog.clear()
        self._loop.remove_writer(self._sock)
        self.send(waiting)

    def _set(self, level: int, option: int, value: int) -> bool:
        try:
            self._sock.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def _forbid_fragments(self) -> None:
        if sys.platform == "linux":
            self._set(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            if self.family == socket.AF_INET6:
                self._set(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        elif sys.platform == "darwin":
            if self.family == socket.AF_INET6:
                self._set(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            else:
                self._set(socket.IPPROTO_IP, 28, 1)  # IP_DONTFRAG

    def _is_unspecified(self) -> bool:
        return self._sock.getsockname()[0] in ("0.0.0.0", "::")

    def _ask_local(self) -> bool:
        """Ask the system for the local address that each datagram came to; whether it agrees."""
        if self.family == socket.AF_INET6:
            return self._set(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return self._set(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def _read(self) -> None:
        received: list[Datagram] = []
        space = _CONTROL_BYTES if self._gro or self._everywhere else 0
        for _ in range(READS_PER_TURN):
            try:
                # Into one buffer for all reads: a new one of 64 KiB per read would cost more than the read.
                size, control, _flags, address = self._sock.recvmsg_into([self._buffer], space)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP answer to something sent; QUIC's timers judge the path
                continue
            self.received_bytes += size
            segment = 0
            for level, kind, data in control:
                if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                    segment = int.from_bytes(data[:4] if len(data) >= 4 else data[:2], sys.byteorder)
                elif self._everywhere and (local := _local(level, kind, data)) is not None:
                    address = (*address, local)
            if not segment or segment >= size:
                received.append((bytes(self._view[:size]), address))
                continue
            received.extend(
                (bytes(self._view[start : min(start + segment, size)]), address) for start in range(0, size, segment)
            )
        if received:
            # Once for all reads of this wake-up, so that they are answered together.
            self._on_datagrams(received)


def _local(level: int, kind: int, data: bytes) -> tuple[int, int, bytes] | None:
    """The control message with which an answer leaves from the address that a datagram came to; None for other messages."""
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        _, local, _ = _PKTINFO_4.unpack(data[: _PKTINFO_4.size])
        return (level, kind, _PKTINFO_4.pack(0, local, bytes(4)))
    if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
        local, index = _PKTINFO_6.unpack(data[: _PKTINFO_6.size])
        scoped = local[:2] == b"\xfe\x80"
        return (level, kind, _PKTINFO_6.pack(local, index if scoped else 0))
    return None


def _ignore(*_: Any) -> None:
    """The callback before `start` and after `close`."""
