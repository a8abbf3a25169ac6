"""Ends of a handshake that are not who they should be: no message of theirs is handled, and each gets a typed refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID
from tests.quic.attackers import HandshakeError, Raw
from tests.quic.frames import message

from p2pnet.model.errors import TrustError
from p2pnet.quic import FixedIdentity, HandshakeFailed, Trust
from p2pnet.trust import Authority, Identity

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

    from p2pnet.quic import Endpoint

CRYPTO_ERROR = 0x100
UNEXPECTED_MESSAGE = CRYPTO_ERROR + 10
BAD_CERTIFICATE = CRYPTO_ERROR + 42
DECRYPT_ERROR = CRYPTO_ERROR + 51
CERTIFICATE_REQUIRED = CRYPTO_ERROR + 116
NO_APPLICATION_PROTOCOL = CRYPTO_ERROR + 120
UNKNOWN_CA = CRYPTO_ERROR + 48

Prepare = Callable[[QuicConnection], None]


@pytest.fixture
async def faults() -> AsyncIterator[list[Any]]:
    """What reached the loop's exception handler: nothing may."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: found.append(context.get("exception") or context["message"]))
    yield found
    assert not found


def eager(then: Prepare = lambda _quic: None) -> Prepare:
    """Requests and messages that leave with the last packet of the handshake, before the server has judged it."""

    def prepare(quic: QuicConnection) -> None:
        then(quic)
        for stream_id in (0, 4, 2, 6):
            quic.send_stream_data(stream_id, message(5, sent=b"hello"), end_stream=True)

    return prepare


def in_tls(change: Callable[[Any], None]) -> Prepare:
    """Change aioquic's TLS context as soon as there is one."""

    def prepare(quic: QuicConnection) -> None:
        made = quic._initialize

        def initialize(peer_cid: bytes) -> None:
            made(peer_cid)
            change(quic.tls)

        quic._initialize = initialize  # type: ignore[method-assign]

    return prepare


def forgets_the_request(context: Any) -> None:
    """A client that sends its Finished as if nobody had asked for a certificate."""
    handle = context._client_handle_certificate_request

    def ignore(buf: Any) -> None:
        handle(buf)
        context._certificate_request = None

    context._client_handle_certificate_request = ignore


def shows(der: bytes) -> Prepare:
    """A client whose first certificate is these bytes."""
    return in_tls(lambda context: setattr(context, "certificate", SimpleNamespace(public_bytes=lambda _encoding: der)))


async def refused(world: World, server: Endpoint, identity: Identity | None, prepare: Prepare, **how: Any) -> int:
    """The code with which the server ends such a handshake."""
    with pytest.raises(HandshakeError) as error:
        await Raw.dial(identity, server.address, prepare=eager(prepare), **how)
    await asyncio.sleep(0.05)
    assert not world.received
    assert not server.connections
    assert error.value.event is not None, "the offender was told nothing"
    return int(error.value.event.error_code)


@pytest.mark.usefixtures("faults")
async def test_a_client_without_a_certificate_is_refused_before_it_is_heard(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    assert await refused(world, server, None, lambda _quic: None) == CERTIFICATE_REQUIRED


@pytest.mark.usefixtures("faults")
async def test_a_client_that_skips_its_certificate_is_refused_before_it_is_heard(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    code = await refused(world, server, world.identity("node-0"), in_tls(forgets_the_request))
    assert code == UNEXPECTED_MESSAGE


@pytest.mark.usefixtures("faults")
async def test_a_stolen_certificate_without_its_key_is_refused_before_it_is_heard(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    victim, thief = world.identity("node-5"), world.identity("node-6")
    stolen = Identity(victim.chain_pem, thief.key_pem, victim.bundle_pem)
    assert await refused(world, server, stolen, lambda _quic: None) == DECRYPT_ERROR


@pytest.mark.usefixtures("faults")
async def test_a_certificate_of_another_authority_is_refused_before_it_is_heard(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    foreign = world.identity("node-0", authority=Authority.create("other", now=datetime.now(UTC)))
    assert await refused(world, server, foreign, lambda _quic: None) == UNKNOWN_CA


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("alpn", [[], ["h3"], ["p2pne", "p2pnet2"]])
async def test_a_client_that_speaks_no_protocol_of_ours_is_refused_before_it_is_heard(
    world: World, alpn: list[str]
) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    code = await refused(world, server, world.identity("node-0"), lambda _quic: None, alpn=alpn)
    assert code == NO_APPLICATION_PROTOCOL


@pytest.mark.usefixtures("faults")
async def test_a_server_with_a_stolen_certificate_is_refused(world: World) -> None:
    client = await world.endpoint("node-0")
    victim, thief = world.identity("node-5"), world.identity("node-6")
    listener = Raw.listen(Identity(victim.chain_pem, thief.key_pem, victim.bundle_pem))
    serving = asyncio.ensure_future(listener.accept())
    with pytest.raises((HandshakeFailed, TrustError)):
        await client.connect(listener.address, timeout_s=3)
    with pytest.raises(HandshakeError):
        await serving
    assert not client.connections


def der(identity: Identity) -> bytearray:
    """The leaf."""
    return bytearray(identity.chain_der[0])


def of_version(number: int) -> Callable[[Identity], bytes]:
    """A leaf whose version field says `number`."""

    def change(identity: Identity) -> bytes:
        data = der(identity)
        at = data.index(b"\xa0\x03\x02\x01\x02")
        data[at + 4] = number
        return bytes(data)

    return change


def swapped(before: bytes, after: bytes) -> Callable[[Identity], bytes]:
    """A leaf with some bytes of it changed."""
    return lambda identity: bytes(der(identity)).replace(before, after)


UNREADABLE: dict[str, Callable[[Identity], bytes]] = {
    "empty": lambda _identity: b"",
    "a zero": lambda _identity: b"\x00",
    "cut": lambda identity: bytes(der(identity)[:-20]),
    "followed by bytes": lambda identity: bytes(der(identity)) + b"x",
    "of version 2": of_version(1),
    "of version 8": of_version(7),
    "of version 128": of_version(0x7F),
    "with a key of no kind": swapped(b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x09"),
    "with a point off its curve": swapped(b"\x03\x42\x00\x04", b"\x03\x42\x00\x05"),
    "noise": lambda identity: bytes(b ^ 0x55 for b in der(identity)),
}


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("what", sorted(UNREADABLE))
async def test_an_unreadable_certificate_is_a_typed_refusal(world: World, until: Until, what: str) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    identity = world.identity("node-0")
    code = await refused(world, server, identity, shows(UNREADABLE[what](identity)))
    assert code > CRYPTO_ERROR
    await until(lambda: world.refused)
    assert server.counters()["handshakes"] == 0


def self_signed(extension: x509.ExtensionType) -> Identity:
    """A certificate of one's own with an extension of one's own making; its key is at hand."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(extension, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(pem, private, pem)


NAMES = {
    "not DER": b"\x00\x01\x02",
    "x400 address": b"\x30\x02\xa3\x00",
    "EDI party name": b"\x30\x04\xa5\x02\xa1\x00",
    "no names": b"\x30\x00",
    "an address of three bytes": b"\x30\x05\x87\x03\x01\x02\x03",
    "a URI that is no text": b"\x30\x04\x86\x02\xff\xfe",
}


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("kind", ["subnet", "pinned"])
@pytest.mark.parametrize("names", sorted(NAMES))
async def test_a_certificate_with_broken_names_is_a_typed_refusal(
    world: World, until: Until, kind: str, names: str
) -> None:
    own = FixedIdentity(world.identity("node-1"))
    trust = Trust.pinned(own, ["00" * 32]) if kind == "pinned" else None
    server = await world.endpoint("node-1", trust=trust, on_message=world.echo)
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, NAMES[names])
    code = await refused(world, server, self_signed(extension), lambda _quic: None)
    assert code > CRYPTO_ERROR
    await until(lambda: world.refused)


@pytest.mark.usefixtures("faults")
async def test_a_chain_without_end_is_refused(world: World) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    identity = world.identity("node-0")
    many = in_tls(lambda context: setattr(context, "certificate_chain", [context.certificate] * 20))
    code = await refused(world, server, identity, many)
    assert code > CRYPTO_ERROR
