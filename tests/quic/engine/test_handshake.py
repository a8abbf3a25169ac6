"""A handshake leaves nothing behind: not its memory, and no way in for what comes late."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import MAX_REMOTE_CHALLENGES
from aioquic.quic.packet import QuicProtocolVersion
from tests.quic.outsiders import cids, initial
from tests.quic.virtual import Roaming, VirtualWorld, play

from p2pnet.quic import Connection
from p2pnet.quic.engine import gate
from p2pnet.quic.engine.handshake import NO_KEYS, Afterwards, Challenges
from p2pnet.quic.engine.tls import HANDSHAKE_BYTES_MAX

ONE_RTT = tls.Epoch.ONE_RTT
V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
LONG_HEADER = 0x80


async def pair(world: VirtualWorld) -> tuple[Connection, Connection]:
    """Both ends of a confirmed connection, the dialer's first."""
    server = await world.endpoint("node-1", on_message=world.echo)
    client = await world.endpoint("node-0", on_message=world.echo)
    connection = await client.connect(server.address)
    await asyncio.sleep(1)
    return connection, server.connections[0]


def quic_of(connection: Connection) -> Any:
    return connection.engine._quic


async def still_talk(world: VirtualWorld, *ends: Connection) -> None:
    for end in ends:
        assert (await end.request(b"/x", b"hello")).payload == b"hello"
    assert not world.reported


def test_nothing_of_a_handshake_is_left_once_it_is_confirmed() -> None:
    async def scenario(world: VirtualWorld) -> None:
        for end in await pair(world):
            quic = quic_of(end)
            assert not isinstance(quic.tls, tls.Context)
            assert not quic._crypto_buffers
            assert not quic._cryptos_initial
            assert quic._cryptos_initial[V1] is quic._cryptos_initial[V2] is NO_KEYS
            assert [epoch for epoch, keys in quic._cryptos.items() if keys.send.is_valid()] == [ONE_RTT]
            assert list(quic._crypto_streams) == [ONE_RTT]
            assert quic._loss.spaces == [quic._spaces[ONE_RTT]]
            assert {space for space, _ in quic._loss._quiet} <= {quic._spaces[ONE_RTT]}

    play(scenario)


def test_buffers_of_tls_last_as_long_as_it_writes() -> None:
    async def scenario(world: VirtualWorld) -> None:
        held: list[int] = []

        def look(_source: Any, _destination: Any, _data: bytes) -> None:
            for endpoint in world.endpoints:
                held.extend(len(quic_of(one)._crypto_buffers) for one in endpoint._dispatcher.handshakes)

        world.network.on_send = look
        await pair(world)
        assert held
        assert not any(held)

    play(scenario)


# Late packets


def damaged(rng: random.Random, data: bytes, cid: bytes) -> bytes:
    """The datagram as it was, or for another cid of the same connection, of version 2, cut short, or with a wrong bit."""
    out = bytearray(data)
    if rng.random() < 0.5 and len(cid) == out[5]:
        out[6 : 6 + len(cid)] = cid
    if rng.random() < 0.3:
        out[1:5] = V2.to_bytes(4, "big")
        out[0] = 0xC0 | rng.randrange(0x40)
    if rng.random() < 0.3:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        del out[rng.randrange(1, len(out)) :]
    return bytes(out)


@pytest.mark.parametrize("seed", range(10))
def test_handshake_packets_that_come_late_or_damaged_change_nothing(seed: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        rng = random.Random(seed)
        seen: list[tuple[Any, Any, bytes]] = []
        world.network.on_send = lambda *datagram: seen.append(datagram)
        ends = await pair(world)
        world.network.on_send = None
        to = {end.endpoint.address: (end, end.endpoint) for end in ends}
        handshake = [one for one in seen if one[2][0] & LONG_HEADER]
        assert {destination for _, destination, _ in handshake} == set(to)
        for _ in range(300):
            source, destination, data = rng.choice(handshake)
            end, endpoint = to[destination]
            endpoint._dispatcher.on_datagrams([(damaged(rng, data, end.engine.cid), source)])
        await still_talk(world, *ends)
        assert [endpoint.counters()["connections"] for endpoint in world.endpoints] == [1, 1]

    play(scenario)


@pytest.mark.parametrize("version", [V1, V2])
def test_a_close_in_a_late_initial_packet_of_anybodys_is_not_heard(version: int) -> None:
    """Its keys follow from what everybody on the path has seen."""

    async def scenario(world: VirtualWorld) -> None:
        seen: list[bytes] = []
        world.network.on_send = lambda _source, _destination, data: seen.append(data)
        connection, other = await pair(world)
        first, source = cids(seen[0])
        close = b"\x1c" + encode_uint_var(0) + encode_uint_var(0) + encode_uint_var(0)
        forged = initial(close, destination_cid=first, source_cid=source, version=version, number=9)
        dialer: Any = connection.endpoint.address
        other.endpoint._dispatcher.on_datagrams([(forged, dialer)])
        await still_talk(world, connection, other)

    play(scenario)


def test_keys_are_renewed_and_paths_changed_without_what_the_handshake_needed() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=world.echo)
        roaming = Roaming(world.transport())
        client = await world.endpoint("node-0", transport=roaming, on_message=world.echo)
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        other = server.connections[0]
        for turn in range(1, 4):
            for end in (connection, other):
                quic_of(end).request_key_update()
                await still_talk(world, connection, other)
                await asyncio.sleep(1)
            roaming.move(world.network.transport((f"10.0.1.{turn}", 0)))
            await still_talk(world, connection, other)
            await asyncio.sleep(1)
            assert other.address == roaming.current.address
            assert quic_of(other)._network_paths[0].is_validated

    play(scenario)


def test_challenges_of_a_path_are_kept_in_order_and_few() -> None:
    challenges = Challenges()
    for number in range(MAX_REMOTE_CHALLENGES + 5):
        challenges.append(bytes([number]))
    assert len(challenges) == MAX_REMOTE_CHALLENGES
    assert challenges.popleft() == bytes([5])


# Versions


def test_a_server_that_speaks_version_2_only_is_met_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "VERSIONS", [V2])

    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=world.echo)
        server._dispatcher._configurations.get(is_client=False).supported_versions = [V2]
        connection = await (await world.endpoint(on_message=world.echo)).connect(server.address)
        assert quic_of(connection)._version == quic_of(server.connections[0])._version == V2
        await still_talk(world, connection, server.connections[0])

    play(scenario)


def test_a_dialer_that_would_rather_speak_version_2_is_met_halfway() -> None:
    """RFC 9368: it begins in version 1, and the server goes over to what it likes best."""

    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=world.echo)
        client = await world.endpoint("node-0", on_message=world.echo)
        configuration = client._dispatcher._configurations.get(is_client=True)
        configuration.original_version = V1
        configuration.supported_versions = [V2, V1]
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        assert quic_of(connection)._version == quic_of(server.connections[0])._version == V2
        await still_talk(world, connection, server.connections[0])

    play(scenario)


def test_keys_of_one_version_are_made_for_a_handshake_in_one() -> None:
    async def scenario(world: VirtualWorld) -> None:
        made: list[list[int]] = []

        def look(_source: Any, _destination: Any, _data: bytes) -> None:
            for endpoint in world.endpoints:
                made.extend(list(quic_of(one)._cryptos_initial) for one in endpoint._dispatcher.handshakes)

        world.network.on_send = look
        await pair(world)
        assert [V1] in made
        assert all(versions in ([V1], []) for versions in made)

    play(scenario)


# Session tickets


def after(state: tls.State = tls.State.CLIENT_POST_HANDSHAKE, pending: bytes = b"") -> Afterwards:
    context: Any = tls.Context(is_client=True)
    context.state = state
    context._receive_buffer = pending
    return Afterwards(context)


def ticket() -> bytes:
    buffer = Buffer(capacity=512)
    tls.push_new_session_ticket(
        buffer, tls.NewSessionTicket(ticket_lifetime=60, ticket_age_add=1, ticket_nonce=b"n", ticket=bytes(32))
    )
    return buffer.data


def test_session_tickets_are_read_in_any_pieces_and_not_kept() -> None:
    data = ticket() * 3
    for size in (1, 3, 50, len(data)):
        left = after(pending=data[:2])
        for start in range(2, len(data), size):
            left.handle_message(data[start : start + size], {})
        assert left._pending == b""


def test_anything_else_that_tls_says_afterwards_ends_the_connection() -> None:
    finished = b"\x14\x00\x00\x20" + bytes(32)
    with pytest.raises(tls.AlertUnexpectedMessage):
        after().handle_message(finished, {})
    with pytest.raises(tls.AlertUnexpectedMessage):
        after(tls.State.SERVER_POST_HANDSHAKE).handle_message(ticket(), {})


def test_a_damaged_ticket_is_an_error_of_the_peers() -> None:
    for data in (b"\x04\x00\x00\x02ab", b"\x04\x00\x00\x00", ticket()[:4] + bytes(len(ticket()) - 4)):
        with pytest.raises(tls.Alert):
            after().handle_message(data, {})


def test_a_ticket_that_never_ends_is_not_collected() -> None:
    left = after()
    left.handle_message(b"\x04\xff\xff\xff", {})
    with pytest.raises(tls.AlertDecodeError):
        left.handle_message(bytes(HANDSHAKE_BYTES_MAX), {})
