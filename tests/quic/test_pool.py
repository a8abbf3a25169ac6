"""Dialling: pooled, joined, raced, retried; and one UDP port for all of it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic.virtual import DEAD, VirtualWorld, play

from p2pnet.model.errors import TrustError
from p2pnet.quic import BadAddress, HandshakeFailed, Retry

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

PATIENT = Retry(initial_s=10 * PATIENCE_S, cap_s=10 * PATIENCE_S, budget_s=100 * PATIENCE_S)
"""Whose second attempt comes after any test is over."""


async def test_the_peer_sees_the_listening_port(world: World) -> None:
    connection, other = await world.pair()
    assert other.address == connection.endpoint.address
    assert other.dialled is False
    assert connection.dialled is True


async def test_a_second_connect_reuses_the_connection(world: World) -> None:
    connection, other = await world.pair()
    assert await connection.endpoint.connect(other.endpoint.address) is connection
    assert await connection.endpoint.connect(other.endpoint.address, expect=world.uri("node-1")) is connection
    assert connection.endpoint.counters()["dialled_total"] == 1


async def test_an_inbound_connection_is_reused_too(world: World) -> None:
    connection, other = await world.pair()
    assert await other.endpoint.connect(connection.endpoint.address) is other


async def test_new_dials_anew(world: World) -> None:
    connection, other = await world.pair()
    fresh = await connection.endpoint.connect(other.endpoint.address, new=True)
    assert fresh is not connection
    assert len(other.endpoint.connections) == 2


async def test_fifty_connects_at_once_share_one_handshake(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    connections = await asyncio.gather(*(client.connect(server.address) for _ in range(50)))
    assert len(set(connections)) == 1
    assert client.counters()["dialled_total"] == 1
    assert len(server.connections) == 1


async def test_a_dial_outlives_its_first_caller(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    leader = asyncio.ensure_future(client.connect(server.address))
    await asyncio.sleep(0)
    follower = asyncio.ensure_future(client.connect(server.address))
    await asyncio.sleep(0)
    leader.cancel()
    assert not (await follower).closed
    assert client.counters()["dialled_total"] == 1


async def test_a_dial_nobody_waits_for_is_given_up(world: World, until: Until) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    lonely = asyncio.ensure_future(client.connect(server.address))
    await asyncio.sleep(0)
    lonely.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lonely
    await until(lambda: not client.counters()["handshakes"] and not server.counters()["handshakes"])
    assert not server.connections


async def test_the_leaders_error_reaches_all(world: World) -> None:
    server = await world.endpoint("node-1", trust=world.trust(world.expired("node-1")))
    client = await world.endpoint()
    results = await asyncio.gather(*(client.connect(server.address) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, TrustError) for one in results)
    assert client.counters()["dialled_total"] == 1


async def test_a_closed_connection_leaves_the_pool_before_anybody_is_told(world: World, until: Until) -> None:
    connection, other = await world.pair()
    found: list[object] = []
    connection.on_closed = lambda one: found.append(one.endpoint._pool.find(one.address))
    other.close()
    await until(lambda: found)
    assert found == [None]
    assert (await connection.endpoint.connect(other.endpoint.address)).id > connection.id


async def test_a_refused_stream_does_not_evict_the_connection(world: World) -> None:
    connection, other = await world.pair(on_message=lambda _connection, message: message.refuse(0x23))
    with pytest.raises(Exception, match="threw the stream away"):
        await connection.request(b"/x", b"x")
    assert await connection.endpoint.connect(other.endpoint.address) is connection


def test_a_dead_address_fails_within_the_timeout() -> None:
    async def scenario(world: VirtualWorld) -> None:
        client = await world.endpoint()
        started = world.loop.time()
        with pytest.raises(HandshakeFailed) as error:
            await client.connect(DEAD, timeout_s=7)
        assert error.value.kind == "timeout"
        assert world.loop.time() - started == pytest.approx(7)
        assert not client.counters()["handshakes"]

    play(scenario)


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("::1", 4100), ("127.0.0.1", 70_000)])
async def test_a_bad_address_fails_at_once(world: World, address: tuple[str, int]) -> None:
    client = await world.endpoint()
    async with asyncio.timeout(PATIENCE_S):  # and waits for no second attempt
        with pytest.raises(BadAddress):
            await client.connect(address, retry=PATIENT)


def test_the_first_of_several_wins_and_no_loser_stays() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        other = await world.endpoint("node-2", trust=world.trust(world.expired("node-2")))
        client = await world.endpoint()
        dead = [("10.0.9.9", port) for port in range(9, 16)]
        started = world.loop.time()
        connection, errors = await client.connect_any([*dead, server.address, server.address, *dead], timeout_s=5)
        assert world.loop.time() - started < 0.5
        assert connection.address == server.address
        assert not errors
        await asyncio.sleep(1)
        assert client.counters()["handshakes"] == 0
        assert len(server.connections) == 1
        with pytest.raises(ExceptionGroup) as failed:
            await client.connect_any([other.address, DEAD], timeout_s=0.2)
        assert {type(one) for one in failed.value.exceptions} == {TrustError, HandshakeFailed}
        with pytest.raises(ValueError, match="no address"):
            await client.connect_any([])

    play(scenario, delay_s=0.01)


def test_a_race_returns_the_errors_of_those_that_lost_before() -> None:
    async def scenario(world: VirtualWorld) -> None:
        refusing = await world.endpoint("node-2", trust=world.trust(world.expired("node-2")))
        server = await world.endpoint("node-1")
        client = await world.endpoint()
        held: list[object] = []

        def late(connection: Any, datagrams: Any) -> Any:
            if connection.address == server.address and len(held) < 1:
                held.append(datagrams)
                client.loop.call_later(0.3, client.transmit_raw, datagrams)
                return []
            return datagrams

        client.egress = late
        connection, errors = await client.connect_any([refusing.address, server.address])
        assert connection.address == server.address
        assert isinstance(errors[refusing.address], TrustError)

    play(scenario, delay_s=0.01)


async def test_crossed_dials_give_two_working_connections(world: World) -> None:
    one = await world.endpoint("node-0", on_message=world.echo)
    two = await world.endpoint("node-1", on_message=world.echo)
    there, back = await asyncio.gather(one.connect(two.address), two.connect(one.address))
    assert (await there.request(b"/x", b"1")).payload == b"1"
    assert (await back.request(b"/x", b"2")).payload == b"2"
    assert len(one.connections) == len(two.connections) == 2


async def test_accept_hands_out_inbound_connections_once(world: World) -> None:
    server = await world.endpoint("node-1")
    assert server.try_accept() is None
    waiting = asyncio.ensure_future(server.accept())
    client = await world.endpoint()
    await client.connect(server.address)
    assert (await waiting).uri == world.uri("node-0")
    await client.connect(server.address, new=True)
    assert server.try_accept() is not None
    assert server.try_accept() is None


async def test_a_connection_may_hold_messages_sent_before_it_was_accepted(world: World) -> None:
    server = await world.endpoint("node-1")
    connection = await (await world.endpoint()).connect(server.address)
    await connection.send(b"early", b"", b"x")
    accepted = await server.accept()
    async for message in accepted.messages():
        assert message.header == b"early"
        break


def test_a_peer_that_starts_late_is_reached_by_retrying() -> None:
    async def scenario(world: VirtualWorld) -> None:
        client = await world.endpoint()
        placeholder = await world.endpoint("node-1")
        address = placeholder.address
        placeholder.close()
        dial = asyncio.ensure_future(
            client.connect(address, timeout_s=1, retry=Retry(initial_s=0.05, rng=random.Random(1)))
        )
        await asyncio.sleep(3.3)
        assert not dial.done()
        await world.endpoint("node-1", transport=world.network.transport(address))
        assert not (await dial).closed

    play(scenario, delay_s=0.01)


async def test_a_restarted_peer_is_dialled_again(world: World, until: Until) -> None:
    connection, other = await world.pair()
    from p2pnet.quic import Endpoint

    server = other.endpoint
    server.close()
    await until(lambda: connection.closed)
    world.endpoints.append(await Endpoint.bind(server.address, trust=server.trust))
    assert (await connection.endpoint.connect(server.address)).id != connection.id
