"""A peer on `PlainLoop`: aioquic's engine, or with `engine` "qh3" that of qh3, which has its form.

`framed` adds what p2pnet's messages have around their bytes, as far as it is the same work for any engine: qp2p's 16-byte head,
which the receiver checks, and one piece of bytes for its owner in the end. Without it bytes are counted and thrown away.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import struct
import tempfile
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.bench.quic_peers.load import Options, drive, main, say
from tests.bench.quic_peers.plain_loop import PlainLoop

HEAD = struct.Struct(">HIIIH")
SERVER_NAME = "maidsafe.net"  # qp2p's
ADDRESS = "127.0.0.1"
BUFFER_BYTES = 4 << 20


def configuration(options: Options, *, is_client: bool) -> Any:
    """As p2pnet has it where that costs or spares work: the same windows, AES-128 first, no certificate checked."""
    package = options.get("engine", "aioquic")
    made = import_module(f"{package}.quic.configuration").QuicConfiguration(
        is_client=is_client,
        idle_timeout=60,
        max_data=16 << 20,
        max_stream_data=1 << 20,
        max_datagram_size=options.get("datagram_bytes", 1200),
        server_name=SERVER_NAME if is_client else None,
        verify_mode=ssl.CERT_NONE,
    )
    if options.get("aes_128"):
        suites = import_module(f"{package}.tls").CipherSuite
        made.cipher_suites = [suites.AES_128_GCM_SHA256, suites.AES_256_GCM_SHA384]
    if not is_client:
        with tempfile.TemporaryDirectory() as folder:
            made.load_cert_chain(*certificate(Path(folder)))
    return made


def certificate(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate for qp2p's server name, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    return chain, private


def framed(payload: bytes) -> bytes:
    """One message as qp2p has it."""
    return HEAD.pack(2, 0, 0, len(payload), 0) + payload


def unframed(pieces: list[bytes]) -> bytes:
    """What is in it. Raises ValueError for another length than it announces."""
    whole = b"".join(pieces)
    version, header, dst, size, _ = HEAD.unpack_from(whole)
    if version != 2 or HEAD.size + header + dst + size != len(whole):
        raise ValueError("not one message")
    return whole[HEAD.size + header + dst :]


def endpoint() -> socket.socket:
    """A UDP socket with room."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ADDRESS, 0))
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return sock


async def server(options: Options) -> None:
    """Answers every bidirectional stream."""
    package, answer = options.get("engine", "aioquic"), framed(b"ok") if options.get("framed") else b"ok"
    connection, events = import_module(f"{package}.quic.connection"), import_module(f"{package}.quic.events")
    made = configuration(options, is_client=False)
    held: dict[int, list[bytes]] = {}

    def accept(data: bytes) -> Any:
        return connection.QuicConnection(configuration=made, original_destination_connection_id=data[6 : 6 + data[5]])

    def on_event(address: Any, event: Any) -> None:
        if isinstance(event, events.StreamDataReceived):
            if options.get("framed"):
                held.setdefault(event.stream_id, []).append(event.data)
            if event.end_stream:
                if options.get("framed"):
                    unframed(held.pop(event.stream_id))
                if not event.stream_id & 2:
                    loop.quics[address].send_stream_data(event.stream_id, answer, end_stream=True)

    loop = PlainLoop(endpoint(), accept, on_event)
    say(port=loop.sock.getsockname()[1])


async def client(options: Options) -> dict[str, Any]:
    """Asks on bidirectional streams."""
    package, to = options.get("engine", "aioquic"), (ADDRESS, options["port"])
    connection, events = import_module(f"{package}.quic.connection"), import_module(f"{package}.quic.events")
    connected = asyncio.get_running_loop().create_future()
    waiting: dict[int, asyncio.Future[None]] = {}
    held: dict[int, list[bytes]] = {}

    def on_event(_address: Any, event: Any) -> None:
        if isinstance(event, events.StreamDataReceived):
            if options.get("framed"):
                held.setdefault(event.stream_id, []).append(event.data)
            if event.end_stream:
                if options.get("framed"):
                    unframed(held.pop(event.stream_id))
                waiting.pop(event.stream_id).set_result(None)
        elif isinstance(event, events.HandshakeCompleted):
            connected.set_result(None)

    loop = PlainLoop(endpoint(), None, on_event)
    quic = loop.quics[to] = connection.QuicConnection(configuration=configuration(options, is_client=True))
    quic.connect(to, now=time.monotonic())
    loop.mark(to)
    await connected

    async def ask(payload: bytes) -> None:
        whole, waiter = framed(payload) if options.get("framed") else payload, loop.loop.create_future()
        while quic.get_next_available_stream_id() >> 2 >= getattr(quic, "max_concurrent_bidi_streams", math.inf):
            await asyncio.sleep(0.001)  # qh3 keeps no queue of streams beyond the peer's limit
        number = quic.get_next_available_stream_id()
        quic.send_stream_data(number, whole, end_stream=True)
        waiting[number] = waiter
        loop.mark(to)
        await waiter

    return await drive(options, ask)


if __name__ == "__main__":
    main(server, client)
