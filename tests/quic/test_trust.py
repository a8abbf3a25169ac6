"""Who gets in: every refusal is typed at the dialer, reported at the server, and nothing a stranger says is heard."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.model.errors import LocalError, TrustError
from p2pnet.quic import Connection, Endpoint, FixedIdentity, HandshakeFailed, Message, Trust
from p2pnet.trust import Authority, Bundle

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World


async def refusal(world: World, dialer: Trust, server: Trust | None = None, **options: Any) -> Any:
    """The dialer's error against a server that would scream if it heard anything."""

    def never(connection: Connection, message: Message) -> None:
        raise AssertionError(f"{connection} delivered {message}")

    accepted = await world.endpoint("node-1", trust=server, on_message=never, on_connection=never)
    client = await world.endpoint(trust=dialer)
    with pytest.raises((TrustError, HandshakeFailed)) as error:
        await client.connect(accepted.address, **options)
    assert not accepted.connections
    return error.value


async def test_both_ends_learn_each_others_uri(world: World) -> None:
    connection, other = await world.pair()
    assert connection.uri == world.uri("node-1")
    assert other.uri == world.uri("node-0")
    assert connection.not_after is not None
    assert connection.not_after > datetime.now(UTC)


async def test_a_peer_of_another_authority_is_refused(world: World, until: Until) -> None:
    stranger = world.identity("node-0", authority=Authority.create("other", now=datetime.now(UTC)))
    error = await refusal(world, world.trust(stranger))
    assert isinstance(error, HandshakeFailed)
    assert error.kind == "refused"
    await until(lambda: world.refused)
    assert world.refused[0].kind == "untrusted"


async def test_a_dialer_refuses_a_server_of_another_authority(world: World, until: Until) -> None:
    foreign = world.identity("node-1", authority=Authority.create("other", now=datetime.now(UTC)))
    error = await refusal(world, world.trust(world.identity("node-0")), world.trust(foreign))
    assert isinstance(error, TrustError)
    assert error.kind == "untrusted"
    await until(lambda: world.refused)
    assert world.refused[0].kind == "refused"


async def test_a_dialer_without_a_certificate_is_refused(world: World, until: Until) -> None:
    bundle = Bundle.from_pem(world.authority.certificate_pem)
    asking_nothing = Trust.authority(bundle)
    asking_nothing.alpn = ("p2pnet",)
    error = await refusal(world, asking_nothing)
    assert isinstance(error, HandshakeFailed)
    assert error.kind == "refused"
    await until(lambda: world.refused)
    assert world.refused[0].kind == "no-certificate"


async def test_a_leaf_of_another_subnet_is_refused_by_its_name(world: World, until: Until) -> None:
    def admits(uri: str) -> str | None:
        return None if uri.endswith("node-1") else "not of this subnet"

    error = await refusal(world, world.trust(world.identity("node-0")), world.trust(world.identity("node-1"), admits))
    assert isinstance(error, HandshakeFailed)
    assert "not of this subnet" in error.text
    await until(lambda: world.refused)
    assert world.refused[0].kind == "wrong-name"


async def test_an_expired_leaf_is_refused(world: World, until: Until) -> None:
    error = await refusal(world, world.trust(world.expired("node-0")))
    assert isinstance(error, HandshakeFailed)
    assert "expired" in error.text
    await until(lambda: world.refused)
    assert world.refused[0].kind == "expired"


async def test_a_dialer_refuses_an_expired_server(world: World) -> None:
    error = await refusal(world, world.trust(world.identity("node-0")), world.trust(world.expired("node-1")))
    assert isinstance(error, TrustError)
    assert error.kind == "expired"


async def test_the_right_certificate_under_another_name_is_refused(world: World, until: Until) -> None:
    error = await refusal(world, world.trust(world.identity("node-0")), expect=world.uri("node-7"))
    assert isinstance(error, TrustError)
    assert error.kind == "wrong-name"
    await until(lambda: world.refused)
    assert world.refused[0].kind == "refused"


async def test_a_certificate_for_servers_only_is_refused(
    world: World, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from p2pnet.trust import authority

    one_usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    with monkeypatch.context() as patched:
        patched.setattr(authority, "_BOTH_USAGES", one_usage)
        identity = world.identity("node-0")
    error = await refusal(world, world.trust(identity))
    assert isinstance(error, HandshakeFailed)
    await until(lambda: world.refused)
    assert world.refused[0].kind == "wrong-usage"


async def test_pinned_peers_meet_and_others_do_not(world: World, until: Until) -> None:
    one, two, three = (world.identity(name) for name in ("node-0", "node-1", "node-2"))
    agreed = [one.fingerprint, two.fingerprint]
    server = await world.endpoint(trust=Trust.pinned(FixedIdentity(two), agreed), on_message=world.echo)
    friend = await world.endpoint(trust=Trust.pinned(FixedIdentity(one), agreed))
    connection = await friend.connect(server.address, expect=world.uri("node-1"))
    assert (await connection.request(b"/x", b"hello")).payload == b"hello"
    other = await world.endpoint(trust=Trust.pinned(FixedIdentity(three), agreed))
    with pytest.raises(HandshakeFailed):
        await other.connect(server.address)
    await until(lambda: world.refused)


async def test_authority_trust_checks_the_server_and_asks_nothing_of_clients(world: World) -> None:
    bundle = Bundle.from_pem(world.authority.certificate_pem)
    server = await world.endpoint(
        trust=Trust.authority(bundle, FixedIdentity(world.identity("node-1"))), on_message=world.echo
    )
    client = await world.endpoint(trust=Trust.authority(bundle))
    connection = await client.connect(server.address)
    assert connection.uri == world.uri("node-1")
    assert server.connections[0].uri == ""
    strangers = Bundle.from_pem(Authority.create("other", now=datetime.now(UTC)).certificate_pem)
    doubting = await world.endpoint(trust=Trust.authority(strangers))
    with pytest.raises(TrustError):
        await doubting.connect(server.address)


async def test_anyone_meets_anyone_and_proves_no_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    server = await world.endpoint(trust=Trust.anyone(), on_message=world.echo)
    client = await world.endpoint(trust=Trust.anyone())
    assert "not authenticated" in caplog.text
    assert server.trust.identity.chain_pem != client.trust.identity.chain_pem
    connection = await client.connect(server.address)
    assert connection.uri == ""
    assert (await connection.request(b"h", b"p")).payload == b"p"
    with pytest.raises(LocalError):
        await client.connect(server.address, expect="spiffe://who/knows")


async def test_twenty_handshakes_that_never_finish_delay_nobody(world: World) -> None:
    server: Endpoint = await world.endpoint("node-1")
    for _ in range(20):
        mute = await world.endpoint()
        transport: Any = mute._transport
        transport._on_datagrams = lambda _datagrams: None
        dial = asyncio.ensure_future(mute.connect(server.address, timeout_s=10 * PATIENCE_S))
        dial.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.sleep(0.05)
    honest = await world.endpoint()
    await honest.connect(server.address, timeout_s=PATIENCE_S)


async def test_a_connection_ends_when_its_peers_certificate_does(world: World, until: Until) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint(trust=world.trust(world.identity("node-0", ttl_s=5)))
    await client.connect(server.address)
    inbound: Any = server.connections[0]
    await until(lambda: inbound.closed)
    assert inbound.close_reason.code == 0x16


async def test_a_new_bundle_cuts_those_it_does_not_vouch_for(world: World, until: Until) -> None:
    source = world.changing(world.identity("node-1"))
    server = await world.endpoint(trust=world.trust(source))
    client = await world.endpoint("node-0")
    connection: Any = await client.connect(server.address)
    fresh = Authority.create("new", now=datetime.now(UTC))
    both = world.authority.certificate_pem + fresh.certificate_pem
    source.change(world.identity("node-1", bundle=both))
    server.identity_changed()
    assert not server.connections[0].closed
    renewed = world.identity("node-2", authority=fresh, bundle=both)
    await (await world.endpoint(trust=world.trust(renewed))).connect(server.address)
    source.change(world.identity("node-1", authority=fresh, bundle=fresh.certificate_pem))
    server.identity_changed()
    await until(lambda: connection.closed)
    assert connection.close_reason.code == 0x11
    assert [one.uri for one in server.connections] == [world.uri("node-2")]


async def test_a_removed_member_is_cut_when_judged_again(world: World, until: Until) -> None:
    removed: set[str] = set()
    trust = world.trust(world.identity("node-1"), lambda uri: "removed" if uri in removed else None)
    server = await world.endpoint(trust=trust)
    connection: Any = await (await world.endpoint()).connect(server.address)
    removed.add(world.uri("node-0"))
    server.identity_changed()
    await until(lambda: connection.closed)
    assert connection.close_reason.kind == "application"
    assert "removed" in connection.close_reason.text
