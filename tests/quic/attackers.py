"""Peers that keep to no rule: aioquic makes their handshake, after that every packet and every frame is the test's.

`Raw.dial` and `Raw.serve` give one connection on a UDP socket of its own, at any address of 127.0.0.0/8. Frames are bytes
(`frames` makes them), packets leave when `send` is called, and what the victim answers is in `heard`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from aioquic._crypto import CryptoError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import pull_ack_frame, pull_quic_header
from aioquic.quic.rangeset import RangeSet
from tests.patience import PATIENCE_S
from tests.quic.frames import VARINT_MAX, ack, max_data, max_stream_data, stream

from p2pnet.trust import Identity

Address = tuple[str, int]

CID_BYTES = 8  # of the victims' connection ids
SMALL_BYTES = 1_200  # of a datagram that fits any path
LARGE_BYTES = 8_000  # of one that fits loopback

End = tuple[str, int, str]
"""(transport, application or open; code; reason)."""
OPEN: End = ("open", -1, "")


@dataclass
class Heard:
    """What the victim has said in 1-RTT packets."""

    packets: int = 0
    size: int = 0
    """Bytes of all these packets."""
    acked: RangeSet = field(default_factory=RangeSet)
    max_data: int = 0
    max_stream_data: dict[int, int] = field(default_factory=dict)
    max_streams: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    stops: dict[int, int] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    """Bytes seen of each stream: the highest offset."""
    finished: set[int] = field(default_factory=set)
    challenges: deque[bytes] = field(default_factory=lambda: deque(maxlen=100))
    responses: int = 0
    cids: dict[int, bytes] = field(default_factory=dict)
    tokens: dict[int, bytes] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    pings: int = 0
    closed: End | None = None
    """How it ended the connection."""

    def take(self, plain: bytes) -> bool:
        """Read the frames of one packet; whether it asks for an acknowledgement."""
        buf = Buffer(data=plain)
        eliciting = False
        while not buf.eof():
            kind = buf.pull_uint_var()
            eliciting |= kind not in (0x00, 0x02, 0x03, 0x1C, 0x1D)
            self._frame(kind, buf)
        return eliciting

    def _frame(self, kind: int, buf: Buffer) -> None:
        pull = buf.pull_uint_var
        if kind == 0x00:
            return
        if kind == 0x01:
            self.pings += 1
        elif kind in (0x02, 0x03):
            ranges, _ = pull_ack_frame(buf)
            for one in ranges:
                self.acked.add(one.start, one.stop)
        elif kind == 0x04:
            stream_id, self.resets[stream_id], _ = pull(), pull(), pull()
        elif kind == 0x05:
            stream_id, self.stops[stream_id] = pull(), pull()
        elif kind in (0x06, 0x07):
            if kind == 0x06:
                pull()
            buf.pull_bytes(pull())
        elif 0x08 <= kind <= 0x0F:
            self._stream(kind, buf)
        else:
            self._limits(kind, buf)

    def _stream(self, kind: int, buf: Buffer) -> None:
        stream_id = buf.pull_uint_var()
        offset = buf.pull_uint_var() if kind & 4 else 0
        count = buf.pull_uint_var() if kind & 2 else buf.capacity - buf.tell()
        buf.pull_bytes(count)
        self.streams[stream_id] = max(self.streams.get(stream_id, 0), offset + count)
        if kind & 1:
            self.finished.add(stream_id)

    def _limits(self, kind: int, buf: Buffer) -> None:
        pull = buf.pull_uint_var
        if kind == 0x10:
            self.max_data = max(self.max_data, pull())
        elif kind == 0x11:
            stream_id = pull()
            self.max_stream_data[stream_id] = max(self.max_stream_data.get(stream_id, 0), pull())
        elif kind in (0x12, 0x13):
            self.max_streams[kind == 0x13] = max(self.max_streams[kind == 0x13], pull())
        elif kind in (0x14, 0x16, 0x17):
            pull()
        elif kind == 0x15:
            pull()
            pull()
        elif kind == 0x18:
            number = pull()
            pull()
            self.cids[number] = buf.pull_bytes(buf.pull_uint8())
            self.tokens[number] = buf.pull_bytes(16)
        elif kind == 0x19:
            self.retired.add(pull())
        elif kind == 0x1A:
            self.challenges.append(buf.pull_bytes(8))
        elif kind == 0x1B:
            buf.pull_bytes(8)
            self.responses += 1
        elif kind in (0x1C, 0x1D):
            code = pull()
            if kind == 0x1C:
                pull()
            self.closed = ("transport" if kind == 0x1C else "application", code, buf.pull_bytes(pull()).decode())
        elif kind != 0x1E:
            raise ValueError(f"a frame of type {kind:#x} from the victim")


class HandshakeError(Exception):
    """The victim did not take the handshake; `event` is aioquic's ConnectionTerminated, None after silence."""

    def __init__(self, event: Any) -> None:
        super().__init__(str(event))
        self.event = event


def configuration(
    identity: Identity | None, *, is_client: bool, alpn: list[str] | None = None, idle_s: float = 60.0
) -> QuicConfiguration:
    """aioquic's, with the certificate and key of `identity`; it checks nobody."""
    made = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["p2pnet"] if alpn is None else alpn or None,
        server_name="p2pnet" if is_client else None,
        verify_mode=ssl.CERT_NONE,
        idle_timeout=idle_s,
    )
    if identity is not None:
        made.certificate = identity.certificates[0]
        made.certificate_chain = list(identity.certificates[1:])
        made.private_key = identity.private_key
    return made


def bind(host: str = "127.0.0.1") -> socket.socket:
    """A UDP socket on a port of chance."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    return sock


class Raw:
    """One connection whose handshake aioquic made and whose 1-RTT packets nobody checks."""

    def __init__(self, quic: QuicConnection, sock: socket.socket, remote: Address) -> None:
        self.quic = quic
        self.sock = sock
        self.remote = remote
        self.heard = Heard()
        self.acknowledges = True
        """Whether what comes is acknowledged, after each turn."""
        self.grants = True
        """Whether the victim gets credit for what it sends."""
        self.on_datagram: Callable[[bytes], None] | None = None
        self.last: bytes = b""
        """The datagram sent last."""
        self.sent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._taken_over = False
        self._received = RangeSet()
        self._expected = 0
        self._granted: dict[int, int] = {}
        self._used = 0
        self._changed = asyncio.Event()
        self._loop.add_reader(sock, self._read)

    @classmethod
    async def dial(
        cls,
        identity: Identity | None,
        remote: Address,
        *,
        source: str = "127.0.0.1",
        alpn: list[str] | None = None,
        prepare: Callable[[QuicConnection], None] = lambda _quic: None,
        timeout_s: float = PATIENCE_S,
    ) -> Self:
        """A confirmed connection to a victim. `prepare` may change aioquic's connection before it starts.

        Raises HandshakeError.
        """
        quic = QuicConnection(configuration=configuration(identity, is_client=True, alpn=alpn))
        prepare(quic)
        raw = cls(quic, bind(source), remote)
        quic.connect(remote, now=time.monotonic())
        await raw._shake_hands(timeout_s)
        return raw

    @classmethod
    def listen(
        cls, identity: Identity, *, prepare: Callable[[QuicConnection], None] = lambda _quic: None
    ) -> RawListener:
        """A server for one victim that dials it."""
        return RawListener(cls, identity, prepare)

    def close(self) -> None:
        """Leave without a word."""
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self.sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # Sending

    def packet(self, *frames: bytes, number: int | None = None, cid: bytes | None = None) -> bytes:
        """One protected 1-RTT packet."""
        pair: CryptoPair = self.quic._cryptos[tls.Epoch.ONE_RTT]
        if number is None:
            number, self.quic._packet_number = self.quic._packet_number, self.quic._packet_number + 1
        header = bytes([0x43 | pair.key_phase << 2]) + (cid or self.quic._peer_cid.cid)
        plain = b"".join(frames)
        return pair.encrypt_packet(
            header + (number & 0xFFFFFFFF).to_bytes(4, "big"), plain + bytes(max(0, 4 - len(plain))), number
        )

    def send(self, *frames: bytes, **how: Any) -> int:
        """One packet in one datagram; its number."""
        number = how.get("number", self.quic._packet_number)
        self.send_datagram(self.packet(*frames, **how))
        return int(number)

    def send_datagram(self, data: bytes) -> None:
        """These bytes as they are."""
        self.last = data
        self.sent_bytes += len(data)
        with contextlib.suppress(BlockingIOError):  # lost, as anything may be
            self.sock.sendto(data, self.remote)

    def update_key(self) -> None:
        """The next packet begins a new key phase."""
        self.quic._cryptos[tls.Epoch.ONE_RTT]._update_key("remote_update")

    async def flood(self, frames: Iterable[bytes], *, size: int = SMALL_BYTES, per_turn: int = 20) -> int:
        """Pack the frames into datagrams of at most `size`, in order, and send them; a turn of the loop between batches.

        Ends early when the victim closes. Returns how many datagrams left.
        """
        batch: list[bytes] = []
        length = count = 0
        for frame in frames:
            if length + len(frame) > size - 40 and batch:
                self.send(*batch)
                batch, length, count = [], 0, count + 1
                if count % per_turn == 0:
                    await asyncio.sleep(0.002)
                    if self.heard.closed:
                        return count
            batch.append(frame)
            length += len(frame)
        if batch:
            self.send(*batch)
            count += 1
        await asyncio.sleep(0)
        return count

    async def pour(
        self,
        chunks: Iterable[tuple[int, int, bytes]],
        *,
        patience_s: float = 1.0,
        in_flight: int = 40,
        most: int = VARINT_MAX,
    ) -> int:
        """Send (stream, offset, data) so that all arrives, within the credit the victim gives, as an honest sender would.

        Ends when all is acknowledged, when no credit came for `patience_s`, at a close, or beyond `most` stream bytes.
        Returns the stream bytes sent.
        """
        flying: dict[int, tuple[float, bytes]] = {}
        sent = 0
        for stream_id, offset, data in chunks:
            if sent > most or not await self._credit(stream_id, offset + len(data), len(data), patience_s):
                break
            while len(flying) >= in_flight and not self.heard.closed:
                await self._land(flying)
            frame = stream(stream_id, data, offset)
            flying[self.send(frame)] = (time.monotonic(), frame)
            self._used += len(data)
            sent += len(data)
        while flying and not self.heard.closed:
            await self._land(flying)
        return sent

    async def _land(self, flying: dict[int, tuple[float, bytes]]) -> None:
        """Wait for acknowledgements; repeat what was lost."""
        await self.changed(0.05)
        for number in [one for one in flying if one in self.heard.acked]:
            del flying[number]
        now = time.monotonic()
        for number, (at, frame) in list(flying.items()):
            if now - at > 0.2:
                del flying[number]
                flying[self.send(frame)] = (now, frame)

    def window(self, stream_id: int) -> int:
        """What the victim lets us send on this stream, unasked."""
        quic = self.quic
        return int(quic._remote_max_stream_data_uni if stream_id & 2 else quic._remote_max_stream_data_bidi_remote)

    async def _credit(self, stream_id: int, offset: int, count: int, patience_s: float) -> bool:
        quic = self.quic
        first = self.window(stream_id)
        deadline = time.monotonic() + patience_s
        while True:
            if self.heard.closed or stream_id in self.heard.stops:
                return False
            total = max(quic._remote_max_data, self.heard.max_data)
            if self._used + count <= total and offset <= max(first, self.heard.max_stream_data.get(stream_id, 0)):
                return True
            if time.monotonic() > deadline:
                return False
            await self.changed(0.05)

    # Receiving

    @property
    def received_highest(self) -> int:
        """The highest packet number that came."""
        return self._expected - 1

    async def changed(self, timeout_s: float = 1.0) -> None:
        """Until something came from the victim, or the time is over."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    async def until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> bool:
        """Whether the condition came true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            await self.changed(0.02)
        return True

    async def end(self, timeout_s: float = PATIENCE_S) -> End:
        """How the victim ended the connection; OPEN if it did not in that time."""
        await self.until(lambda: self.heard.closed, timeout_s)
        return self.heard.closed or OPEN

    def acknowledge(self) -> None:
        """Acknowledge all that came."""
        if len(self._received):
            self.send(ack(*[(one.start, one.stop - 1) for one in reversed(list(self._received)[-32:])]))

    def _read(self) -> None:
        eliciting = False
        for _ in range(64):
            try:
                data = self.sock.recv(65_536)
            except (BlockingIOError, InterruptedError, OSError):
                break
            if self.on_datagram is not None:
                self.on_datagram(data)
            if self._taken_over:
                eliciting |= self._take(data)
            else:
                self.quic.receive_datagram(data, self.remote, time.monotonic())
        if self._taken_over and eliciting and not self.heard.closed:
            if self.acknowledges:
                self.acknowledge()
            if self.grants:
                self._grant()
        self._changed.set()

    def _take(self, data: bytes) -> bool:
        if data[0] & 0x80:
            return False
        pair: CryptoPair = self.quic._cryptos[tls.Epoch.ONE_RTT]
        try:
            _, plain, number = pair.decrypt_packet(data, 1 + len(self.quic.host_cid), self._expected)
        except CryptoError:
            return False
        self._expected = max(self._expected, number + 1)
        self._received.add(number)
        self.heard.packets += 1
        self.heard.size += len(data)
        try:
            return self.heard.take(plain)
        except BufferReadError as error:
            raise AssertionError("the victim sent a broken frame") from error

    def _grant(self) -> None:
        """Credit in steps, as an honest reader gives it."""
        frames = []
        for stream_id, seen in self.heard.streams.items():
            if seen + (1 << 19) > self._granted.get(stream_id, 1 << 19):
                self._granted[stream_id] = seen + (1 << 20)
                frames.append(max_stream_data(stream_id, seen + (1 << 20)))
        if frames:
            frames.append(max_data(sum(self.heard.streams.values()) + (1 << 24)))
            self.send(*frames[-60:])

    # Handshake

    async def _shake_hands(self, timeout_s: float) -> None:
        quic = self.quic
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            timer = quic.get_timer()
            if timer is not None and now >= timer:
                quic.handle_timer(now)
            for data, _ in quic.datagrams_to_send(now):
                self.send_datagram(data)
            if quic._close_event is not None or now > deadline:
                self.close()
                raise HandshakeError(quic._close_event)
            if quic._handshake_confirmed:
                break
            await self.changed(min(0.05, deadline - now + 0.001))
        self._take_over()

    def _take_over(self) -> None:
        space = self.quic._spaces[tls.Epoch.ONE_RTT]
        for one in space.ack_queue:
            self._received.add(one.start, one.stop)
        self._expected = space.expected_packet_number
        self._taken_over = True
        self.heard.max_streams = {True: self.quic._remote_max_streams_uni, False: self.quic._remote_max_streams_bidi}
        for spare in self.quic._peer_cid_available:
            self.heard.cids[spare.sequence_number] = spare.cid
            self.heard.tokens[spare.sequence_number] = spare.stateless_reset_token
        if self.acknowledges:
            self.acknowledge()


class RawListener:
    """A socket that takes the first victim that dials."""

    def __init__(self, made: type[Raw], identity: Identity, prepare: Callable[[QuicConnection], None]) -> None:
        self._made = made
        self._identity = identity
        self._prepare = prepare
        self.sock = bind()
        self.address: Address = self.sock.getsockname()

    def close(self) -> None:
        """Take nobody any more."""
        self.sock.close()

    async def accept(self, timeout_s: float = PATIENCE_S) -> Raw:
        """The connection, confirmed. Raises HandshakeError, TimeoutError."""
        loop = asyncio.get_running_loop()
        data, remote = await asyncio.wait_for(loop.sock_recvfrom(self.sock, 65_536), timeout_s)
        header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        quic = QuicConnection(
            configuration=configuration(self._identity, is_client=False),
            original_destination_connection_id=header.destination_cid,
        )
        self._prepare(quic)
        raw = self._made(quic, self.sock, remote)
        quic.receive_datagram(data, remote, time.monotonic())
        await raw._shake_hands(timeout_s)
        return raw
