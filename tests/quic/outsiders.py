"""What somebody can do who has no connection: Initials of any make, and a place on the path between two honest ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from tests.quic.attackers import SMALL_BYTES, Address, bind, configuration

from p2pnet.trust import Identity

READ_BYTES = 65_536


def initial(
    frames: bytes,
    *,
    destination_cid: bytes | None = None,
    source_cid: bytes | None = None,
    token: bytes = b"",
    version: int = QuicProtocolVersion.VERSION_1,
    number: int = 0,
    size: int = SMALL_BYTES,
) -> bytes:
    """A client's Initial packet with these frames, padded to `size`, protected as RFC 9001 section 5.2 says."""
    destination_cid = os.urandom(8) if destination_cid is None else destination_cid
    source_cid = os.urandom(8) if source_cid is None else source_cid
    pair = CryptoPair()
    pair.setup_initial(cid=destination_cid, is_client=True, version=version)
    first = 0xD1 if version == QuicProtocolVersion.VERSION_2 else 0xC1
    head = bytes([first]) + version.to_bytes(4, "big")
    head += bytes([len(destination_cid)]) + destination_cid + bytes([len(source_cid)]) + source_cid
    head += encode_uint_var(len(token)) + token
    plain = frames + bytes(max(0, size - len(head) - 4 - 16 - len(frames)))
    head += (0x4000 | (len(plain) + 2 + 16)).to_bytes(2, "big") + number.to_bytes(2, "big")
    return pair.encrypt_packet(head, plain, number)


def client_hello(source_cid: bytes) -> bytes:
    """The TLS ClientHello for a client of this source connection id."""
    quic = QuicConnection(configuration=configuration(None, is_client=True))
    quic._local_initial_source_connection_id = source_cid
    quic.connect(("127.0.0.1", 1), now=0.0)
    return bytes(quic._crypto_streams[tls.Epoch.INITIAL].sender._buffer)


def version_negotiation(destination_cid: bytes, source_cid: bytes, *versions: int) -> bytes:
    """A Version Negotiation packet."""
    head = b"\xc0\x00\x00\x00\x00" + bytes([len(destination_cid)]) + destination_cid
    head += bytes([len(source_cid)]) + source_cid
    return head + b"".join(one.to_bytes(4, "big") for one in versions)


def retry(destination_cid: bytes, source_cid: bytes, token: bytes) -> bytes:
    """A Retry packet whose integrity tag is of chance."""
    head = b"\xf0\x00\x00\x00\x01" + bytes([len(destination_cid)]) + destination_cid
    return head + bytes([len(source_cid)]) + source_cid + token + os.urandom(16)


def cids(data: bytes) -> tuple[bytes, bytes]:
    """(destination, source) connection ids of a long header."""
    end = 6 + data[5]
    return data[6:end], data[end + 1 : end + 1 + data[end]]


class RawClient:
    """A UDP socket without a connection: sends what it is given, keeps what comes."""

    def __init__(self, remote: Address, source: str = "127.0.0.1") -> None:
        self.remote = remote
        self.sock = bind(source)
        self.heard: list[bytes] = []
        self.on_datagram: Callable[[bytes], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.sock, self._read)

    def send(self, data: bytes) -> None:
        """One datagram."""
        with contextlib.suppress(BlockingIOError):
            self.sock.sendto(data, self.remote)

    async def ask(self, data: bytes, wait_s: float = 0.3) -> list[bytes]:
        """Send, and return what came back in that time."""
        self.heard.clear()
        self.send(data)
        await asyncio.sleep(wait_s)
        return list(self.heard)

    def close(self) -> None:
        """No more."""
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            while True:
                data = self.sock.recv(READ_BYTES)
                self.heard.append(data)
                if self.on_datagram is not None:
                    self.on_datagram(data)


class Mob(RawClient):
    """Begins handshakes, answers Retry, and lets each hang: it answers no other packet of the server's."""

    def __init__(self, remote: Address, source: str = "127.0.0.1") -> None:
        super().__init__(remote, source)
        self.begun = 0
        self.on_datagram = self._answer
        self._open: dict[bytes, QuicConnection] = {}

    def begin(self, identity: Identity | None = None) -> None:
        """One more handshake."""
        quic = QuicConnection(configuration=configuration(identity, is_client=True))
        quic.connect(self.remote, now=time.monotonic())
        self._open[quic.host_cid] = quic
        self.begun += 1
        self._flush(quic)

    def _flush(self, quic: QuicConnection) -> None:
        for data, _ in quic.datagrams_to_send(time.monotonic()):
            self.send(data)

    def _answer(self, data: bytes) -> None:
        if data[0] & 0xF0 == 0xF0:
            quic = self._open.pop(cids(data)[0], None)
            if quic is not None:
                quic.receive_datagram(data, self.remote, time.monotonic())
                self._flush(quic)


Alter = Callable[[bytes, bool], Iterable[bytes]]
"""(datagram, whether it goes to the server) -> what goes on in its place."""


class Middle:
    """A relay for one client: it can change, drop, repeat and add datagrams in both directions."""

    def __init__(self, server: Address, alter: Alter = lambda data, _to_server: [data]) -> None:
        self.alter = alter
        self.passed: list[tuple[bytes, bool]] = []
        self._server = server
        self._client: Any = None
        self._front, self._back = bind(), bind()
        self.address: Address = self._front.getsockname()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._front, self._pass, self._front)
        self._loop.add_reader(self._back, self._pass, self._back)

    def to_client(self, data: bytes) -> None:
        """As if from the server."""
        self._front.sendto(data, self._client)

    def to_server(self, data: bytes) -> None:
        """As if from the client."""
        self._back.sendto(data, self._server)

    def close(self) -> None:
        """No more."""
        for sock in (self._front, self._back):
            self._loop.remove_reader(sock)
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass(self, sock: socket.socket) -> None:
        to_server = sock is self._front
        with contextlib.suppress(BlockingIOError, InterruptedError, ConnectionRefusedError):
            while True:
                data, sender = sock.recvfrom(READ_BYTES)
                if to_server:
                    self._client = sender
                self.passed.append((data, to_server))
                for one in self.alter(data, to_server):
                    (self.to_server if to_server else self.to_client)(one)
