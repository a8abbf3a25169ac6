"""How connections end: closes, silence, drains; and what both ends are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic.virtual import VirtualWorld, play

from p2pnet.quic import (
    CloseCode,
    ConnectionLost,
    Endpoint,
    EndpointClosed,
    EndpointError,
    Message,
    Settings,
    StreamLost,
)

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World


async def test_a_close_is_seen_with_code_and_text_at_both_ends(world: World, until: Until) -> None:
    connection, other = await world.pair()
    ended: list[object] = []
    other.on_closed = ended.append
    other.add_done_callback(ended.append)
    connection.close(CloseCode.REPLACED, "a newer one")
    assert connection.close_reason.kind == "local"
    await until(lambda: len(ended) == 2)
    assert other.close_reason.kind == "application"
    assert (other.close_reason.code, other.close_reason.text) == (0x12, "a newer one")
    connection.close(CloseCode.DONE, "again")
    await asyncio.sleep(0.02)
    assert ended == [other, other]
    assert connection.close_reason.code == 0x12
    late: list[object] = []
    other.add_done_callback(late.append)
    await until(lambda: late)


async def test_leaving_the_block_closes_the_connection(world: World, until: Until) -> None:
    connection, other = await world.pair()
    async with connection:
        pass
    await until(lambda: other.closed)
    assert other.close_reason.code == 0


def test_a_silent_peer_is_given_up_after_the_idle_time() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair(Settings(idle_s=10))
        connection.endpoint.egress = lambda _connection, _datagrams: []
        other.endpoint.egress = lambda _connection, _datagrams: []
        await asyncio.sleep(9.9)
        assert not connection.closed
        assert not other.closed
        await asyncio.sleep(5)
        assert connection.close_reason.kind == other.close_reason.kind == "idle"
        assert not other.endpoint.connections
        with pytest.raises(ConnectionLost):
            await connection.request(b"/x", b"x")

    play(scenario)


def test_the_dialers_pings_keep_an_idle_connection() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair(Settings(idle_s=0.3))
        await asyncio.sleep(100)
        assert not connection.closed
        assert not other.closed

    play(scenario)


def test_without_pings_an_idle_connection_ends() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair(Settings(idle_s=0.3, keep_alive=False))
        await asyncio.sleep(2)
        assert connection.close_reason.kind == other.close_reason.kind == "idle"

    play(scenario)


def test_an_idle_connection_costs_few_packets() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await world.pair(Settings(idle_s=3.0))
        await asyncio.sleep(0.3)
        before = connection.sent_bytes
        await asyncio.sleep(0.5)
        assert connection.sent_bytes == before

    play(scenario)


async def test_closing_an_endpoint_ends_everything_on_it(world: World, until: Until) -> None:
    connection, other = await world.pair()
    server = other.endpoint
    assert server.try_accept() is other
    waiting = asyncio.ensure_future(server.accept())
    await asyncio.sleep(0)
    server.close()
    await until(lambda: connection.closed)
    assert connection.close_reason.code == CloseCode.SHUTTING_DOWN
    with pytest.raises(EndpointClosed):
        await waiting
    with pytest.raises(EndpointClosed):
        await server.connect(connection.endpoint.address)
    await server.wait_closed()


async def test_a_drain_finishes_what_is_in_flight(world: World, until: Until) -> None:
    held: list[Message] = []
    connection, other = await world.pair(on_message=lambda _connection, message: held.append(message))
    request = asyncio.ensure_future(connection.request(b"/x", b"slow"))
    await until(lambda: held)
    drain = asyncio.ensure_future(other.endpoint.drain(PATIENCE_S))
    await asyncio.sleep(0.05)
    assert not drain.done()
    held[0].reply(b"finished")
    assert (await request).payload == b"finished"
    await drain
    await until(lambda: connection.closed)
    assert connection.close_reason.code == CloseCode.SHUTTING_DOWN


def test_a_drain_gives_up_when_its_time_is_over() -> None:
    async def scenario(world: VirtualWorld) -> None:
        held: list[Message] = []
        connection, other = await world.pair(on_message=lambda _connection, message: held.append(message))
        request = asyncio.ensure_future(connection.request(b"/x", b"never"))
        await asyncio.sleep(1)
        started = world.loop.time()
        await other.endpoint.drain(7)
        assert world.loop.time() - started == pytest.approx(7, abs=0.5)
        with pytest.raises(ConnectionLost):
            await request
        assert held[0].cancelled

    play(scenario)


async def test_ids_are_unique_and_grow(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    connections = [await client.connect(server.address, new=True) for _ in range(5)]
    ids = [one.id for one in connections]
    assert ids == sorted(set(ids))
    assert not set(ids) & {one.id for one in server.connections}


async def test_a_bound_port_is_an_error_and_never_another_port(world: World) -> None:
    endpoint = await world.endpoint()
    with pytest.raises(EndpointError) as error:
        await Endpoint.bind(endpoint.address, trust=endpoint.trust)
    assert error.value.errno == 98


async def test_bytes_are_counted_alike_at_both_ends(world: World, until: Until) -> None:
    connection, other = await world.pair()
    await connection.request(b"/x", b"x" * 100_000)
    await until(lambda: connection.sent_bytes == other.received_bytes)
    await until(lambda: other.sent_bytes == connection.received_bytes)
    assert connection.sent_bytes > 100_000
    assert connection.endpoint.sent_bytes == connection.sent_bytes
    assert connection.endpoint.received_bytes == connection.received_bytes


async def test_the_id_survives_a_change_of_port(world: World, until: Until) -> None:
    connection, other = await world.pair()
    number = other.id
    relocated = await world.endpoint("node-0")
    client = connection.endpoint

    def through_another_socket(_connection: Any, datagrams: Any) -> Any:
        relocated._transport.send(datagrams)
        return []

    client.egress = through_another_socket
    transport: Any = relocated._transport
    transport._on_datagrams = client._dispatcher.on_datagrams
    assert (await connection.request(b"/x", b"moved")).payload == b"moved"
    await until(lambda: other.address == relocated.address)
    assert other.id == number
    client.egress = None


def test_a_lost_close_is_repeated_when_the_peer_goes_on() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other = await world.pair()
        server = other.endpoint
        server.egress = lambda _connection, _datagrams: []
        other.close(CloseCode.REMOVED, "cut")
        await asyncio.sleep(0.01)
        server.egress = None
        connection.start_request(b"/x", b"hello?", lambda _result: None)
        await asyncio.sleep(1)
        assert connection.close_reason.code == CloseCode.REMOVED

    play(scenario)


async def test_a_lossy_path_loses_no_message(world: World) -> None:
    connection, other = await world.pair()
    counter = iter(range(1_000_000))

    def lossy(_connection: Any, datagrams: Any) -> Any:
        return [one for one in datagrams if next(counter) % 7]

    connection.endpoint.egress = lossy
    other.endpoint.egress = lossy
    payloads = [bytes([number]) * 60_000 for number in range(20)]
    replies = await asyncio.gather(*(connection.request(b"/x", one) for one in payloads))
    assert [one.payload for one in replies] == payloads
    await connection.send(b"", b"", b"x" * 300_000)


def test_rtt_is_known() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _ = await world.pair()
        await connection.request(b"/x", b"x")
        assert connection.rtt_s == pytest.approx(0.1, rel=0.1)

    play(scenario, delay_s=0.05)


async def test_a_draining_endpoint_begins_and_takes_nothing_new(world: World, until: Until) -> None:
    held: list[Message] = []
    connection, other = await world.pair(on_message=lambda _connection, message: held.append(message))
    request = asyncio.ensure_future(connection.request(b"/x", b"slow"))
    await until(lambda: held)
    drain = asyncio.ensure_future(other.endpoint.drain(PATIENCE_S))
    await asyncio.sleep(0)
    with pytest.raises(StreamLost):
        await connection.request(b"/x", b"too late")
    with pytest.raises(EndpointClosed):
        await other.request(b"/x", b"nor this way")
    held[0].reply(b"finished")
    assert (await request).payload == b"finished"
    await drain


async def test_a_mistake_in_the_program_costs_one_connection(world: World, until: Until) -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    connection, other = await world.pair()
    well = await (await world.endpoint("node-2")).connect(other.endpoint.address)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    other.engine._quic.flow.on_data = fail
    with pytest.raises(ConnectionLost):
        await connection.request(b"/x", b"x")
    assert other.closed
    assert connection.close_reason.kind == "transport"
    assert isinstance(reported[0], AssertionError)
    assert (await well.request(b"/x", b"well")).payload == b"well"


async def test_an_endpoint_may_be_closed_from_a_callback(world: World, until: Until) -> None:
    connection, other = await world.pair(on_message=lambda one, _message: one.endpoint.close())
    with pytest.raises(ConnectionLost):
        await connection.request(b"/x", b"x")
    assert other.closed
