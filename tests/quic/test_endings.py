"""Every await ends: by its result, its time or the end of its connection, whatever brings that about.

In virtual time, where a wait for nothing fails the test by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.quic.virtual import DEAD, VirtualWorld, play, turns

from p2pnet.model.errors import LimitError, LocalError, TrustError
from p2pnet.quic import (
    BootstrapCache,
    Connection,
    ConnectionLost,
    Endpoint,
    EndpointClosed,
    HandshakeFailed,
    Message,
    MessageTooLarge,
    Reachability,
    RequestTimeout,
    Retry,
    Settings,
    StreamCode,
    StreamLost,
)
from p2pnet.quic.once import AtLeastOnce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


AT_ONCE_S = 0.1
"""Far less than any timer of an endpoint, in virtual time."""


def ignore(_connection: Connection, _message: Message) -> None:
    """A handler that never answers."""


async def ended(world: VirtualWorld, waits: list[asyncio.Future[Any]]) -> list[Any]:
    """What these came to, if they did at once."""
    started = world.loop.time()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert world.loop.time() - started <= AT_ONCE_S
    return results


# A callback that ends a connection of whom something waits


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["request", "send"])
@pytest.mark.parametrize("closes", ["connection", "endpoint"])
def test_what_waits_on_a_connection_that_a_callback_of_the_same_turn_closes_is_told(
    closes: str, kind: str, seed: int
) -> None:
    """The answers to two connections come in one turn; what the first one's callback closes has its own unread."""

    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(3)
        client = await world.endpoint("node-0")
        connections = [await client.connect(one.address) for one in servers]
        await asyncio.sleep(1)
        outcomes: list[Any] = []

        def done(result: Any) -> None:
            outcomes.append(result)
            for one in [client] if closes == "endpoint" else connections:
                one.close()

        for connection in connections:
            if kind == "request":
                connection.start_request(b"/x", b"hello", done)
            else:
                connection.start_send(b"/x", b"", b"hello", done)
        await asyncio.sleep(1)
        assert len(outcomes) == 3
        assert isinstance(outcomes[0], Message)
        assert all(isinstance(one, ConnectionLost) for one in outcomes[1:])

    play(scenario, seed=seed, delay_s=0.01)


@pytest.mark.parametrize("kind", ["request", "send"])
def test_what_waits_on_the_connection_that_a_callback_of_its_own_closes_is_told(kind: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        outcomes: list[Any] = []

        def done(result: Any) -> None:
            outcomes.append(result)
            connection.close()

        if kind == "request":
            connection.start_request(b"/x", b"1", done)
            waits = [asyncio.ensure_future(connection.request(b"/x", b"%d" % number)) for number in range(20)]
        else:
            connection.start_send(b"/x", b"", b"1", done)
            waits = [asyncio.ensure_future(connection.send(b"/x", b"", b"%d" % number)) for number in range(20)]
        results = await ended(world, waits)
        assert all(isinstance(one, ConnectionLost) for one in results)
        assert len(outcomes) == 1

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("end", ["close", "peer", "reset"])
def test_every_kind_of_wait_on_a_connection_ends_with_it(end: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=ignore, settings=Settings(streams_max=2))
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        world.network.disconnect(client.address, server.address)
        sender, receiver = connection.open_bi()
        lone = connection.open_uni()
        _, unsent = connection.open_bi()
        for one in (sender, lone):
            await one.send_user_msg(b"/x", b"", b"hello")
        waits = [
            *(asyncio.ensure_future(connection.request(b"/x", b"x", timeout_s=60)) for _ in range(3)),
            *(asyncio.ensure_future(connection.send(b"/x", b"", b"x")) for _ in range(3)),
            asyncio.ensure_future(connection.send(b"/x", b"", b"x", retry=Retry())),
            *(asyncio.ensure_future(one) for one in (sender.finish(), receiver.read(), lone.finish(), unsent.read())),
        ]
        reader = asyncio.ensure_future(anext(connection.messages(), None))
        await turns(3)
        if end == "close":
            connection.close()
        elif end == "peer":
            world.network.reconnect(client.address, server.address)
            server.connections[0].close()
        else:
            connection.peer_reset()
        results = await ended(world, [*waits, reader])
        assert results.pop() is None
        assert all(isinstance(one, ConnectionLost) for one in results), results

    play(scenario, delay_s=0.01)


def test_streams_given_up_by_oneself_end_their_waits() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=ignore)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        world.network.disconnect(client.address, server.address)
        sender, receiver = connection.open_bi()
        lone = connection.open_uni()
        unsent, unread = connection.open_bi()
        for one in (sender, lone):
            await one.send_user_msg(b"/x", b"", b"hello")
        waits = [asyncio.ensure_future(one) for one in (sender.finish(), receiver.read(), lone.finish(), unread.read())]
        await turns(2)
        for one in (sender, lone, unsent):
            one.reset()
        results = await ended(world, waits)
        assert [(type(one), one.code) for one in results] == [(StreamLost, StreamCode.CANCELLED)] * 4
        for wait in (sender.finish(), receiver.read(), lone.finish(), unread.read()):
            with pytest.raises(StreamLost):
                await wait
        with pytest.raises(LocalError):
            await unsent.send_user_msg(b"/x", b"", b"late")

    play(scenario, delay_s=0.01)


def test_a_stream_whose_message_could_not_begin_has_none_and_may_send_another() -> None:
    async def scenario(world: VirtualWorld) -> None:
        held: list[Message] = []
        settings = Settings(streams_max=1, opens_queued_max=1, send_bytes_max=1000)
        server = await world.endpoint(
            "node-1", on_message=lambda _connection, message: held.append(message), settings=settings
        )
        client = await world.endpoint("node-0", settings=settings)
        connection = await client.connect(server.address)
        exchanges = [connection.start_request(b"/x", b"x", lambda _: None) for _ in range(2)]
        sender, receiver = connection.open_bi()
        with pytest.raises(LimitError):
            await sender.send_user_msg(b"/x", b"", b"one too many")
        with pytest.raises(MessageTooLarge):
            await sender.send_user_msg(b"/x", b"", b"x" * 2000)
        with pytest.raises(LocalError, match="nothing has been sent"):
            await sender.finish()
        for exchange in exchanges:
            exchange.cancel()
        held.clear()
        await sender.send_user_msg(b"/x", b"", b"now")
        await sender.finish()
        held[-1].reply(b"well")
        assert (await receiver.read()).payload == b"well"
        await sender.finish()

    play(scenario, delay_s=0.01)


# What ends an endpoint, while it does something


@pytest.mark.parametrize("retry", [None, Retry(budget_s=60)])
def test_a_dial_ends_with_its_endpoint_and_nothing_is_dialled_after(retry: Retry | None) -> None:
    async def scenario(world: VirtualWorld) -> None:
        client = await world.endpoint("node-0")
        waits = [
            asyncio.ensure_future(client.connect(DEAD, timeout_s=1.5, retry=retry)),
            asyncio.ensure_future(client.connect(DEAD, timeout_s=1.5, retry=retry)),
            asyncio.ensure_future(client.connect_any([DEAD, ("10.0.9.8", 9)], timeout_s=1.5, retry=retry)),
        ]
        await asyncio.sleep(1.0 if retry is None else 1.8)  # within an attempt, or between two
        client.close()
        one, other, race = await ended(world, waits)
        assert isinstance(one, EndpointClosed)
        assert isinstance(other, EndpointClosed)
        assert [type(error) for error in race.exceptions] == [EndpointClosed] * 2
        await client.wait_closed()
        dialled = client.counters()["dialled_total"]
        await asyncio.sleep(60)
        assert client.counters()["dialled_total"] == dialled

    play(scenario, delay_s=0.01)


def test_a_name_that_is_being_resolved_keeps_nobody_beyond_the_close() -> None:
    async def scenario(world: VirtualWorld) -> None:
        async def silent(*_: Any, **__: Any) -> Any:
            await world.loop.create_future()

        world.loop.getaddrinfo = silent  # type: ignore[method-assign]
        client = await world.endpoint("node-0")
        waits = [
            asyncio.ensure_future(client.connect(("peer.test", 9), timeout_s=30)),
            asyncio.ensure_future(client.connect(("peer.test", 9), timeout_s=30, retry=Retry())),
            asyncio.ensure_future(client.connect_any([("peer.test", 9)], timeout_s=30)),
        ]
        await asyncio.sleep(1)
        client.close()
        one, other, race = await ended(world, waits)
        assert isinstance(one, EndpointClosed)
        assert isinstance(other, EndpointClosed)
        assert isinstance(race, ExceptionGroup)

    play(scenario, delay_s=0.01)


def test_sending_at_least_once_ends_with_its_endpoint() -> None:
    async def scenario(world: VirtualWorld) -> None:
        client = await world.endpoint("node-0", on_message=ignore)
        deliveries = AtLeastOnce(client)
        retry = Retry(initial_s=15, budget_s=120)
        wait = asyncio.ensure_future(deliveries.send(DEAD, b"/x", b"", b"x", timeout_s=1, retry=retry))
        await asyncio.sleep(3)  # it waits for its second attempt
        client.close()
        (result,) = await ended(world, [wait])
        assert isinstance(result, EndpointClosed)

    play(scenario, delay_s=0.01)


def test_bootstrapping_ends_with_its_endpoint(tmp_path: Path) -> None:
    async def scenario(world: VirtualWorld) -> None:
        client = await world.endpoint("node-0")
        contacts = BootstrapCache(tmp_path / "contacts.json", fixed=[DEAD])
        waits = [
            asyncio.ensure_future(client.bootstrap(contacts, timeout_s=10)),
            asyncio.ensure_future(client.rebootstrap(contacts, timeout_s=1, retry=Retry(initial_s=15, budget_s=120))),
        ]
        await asyncio.sleep(3)
        client.close()
        assert [type(one) for one in await ended(world, waits)] == [EndpointClosed] * 2

    play(scenario, delay_s=0.01)


def test_whoever_accepts_is_told_of_the_end() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        waits = [asyncio.ensure_future(server.accept()) for _ in range(3)]
        await asyncio.sleep(1)
        server.close()
        assert [type(one) for one in await ended(world, waits)] == [EndpointClosed] * 3
        with pytest.raises(EndpointClosed):
            await server.accept()

    play(scenario)


def test_a_drain_ends_at_a_close_and_waits_for_nobody_then() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=ignore)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        request = asyncio.ensure_future(connection.request(b"/x", b"never"))
        await asyncio.sleep(1)
        drains = [asyncio.ensure_future(server.drain(100)), asyncio.ensure_future(server.drain(200))]
        waits = [asyncio.ensure_future(server.wait_closed()) for _ in range(2)]
        await asyncio.sleep(1)
        assert not any(one.done() for one in (*drains, *waits))
        server.close()
        await ended(world, [*drains, *waits])
        with pytest.raises(ConnectionLost):
            await request

    play(scenario, delay_s=0.01)


def close_in(endpoint: Endpoint, place: str, closed: list[str]) -> None:
    """Have an endpoint closed from a callback of its own; what the callback is given does not matter."""

    def act(*_: Any) -> str:
        closed.append(place)
        endpoint.close()
        endpoint.close()
        return "accept"

    setattr(endpoint, place, act)


@pytest.mark.parametrize("place", ["on_connection", "on_incoming", "on_message", "on_malformed", "on_refused"])
def test_an_endpoint_closed_from_any_of_its_callbacks_is_gone_soon_and_its_peer_knows(place: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", settings=Settings(message_bytes_max=10))
        closed: list[str] = []
        close_in(server, place, closed)
        wrong = place == "on_refused"
        trust = world.trust(world.expired("node-0")) if wrong else None
        client = await world.endpoint("node-0", trust=trust)
        started = world.loop.time()
        size = 100 if place == "on_malformed" else 1

        async def meet() -> None:
            connection = await client.connect(server.address)
            await connection.request(b"/x", b"x" * size)

        with pytest.raises((HandshakeFailed, ConnectionLost, MessageTooLarge)):
            await meet()
        assert closed == [place]
        await server.wait_closed()
        # A stranger who was never answered has no state here that could say anything: it waits out its own time.
        assert world.loop.time() - started < (11 if place == "on_incoming" else 2)
        assert not server.connections
        assert not server.counters()["handshakes"]

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("place", ["on_closed", "add_done_callback", "on_cancel", "request", "send"])
def test_an_endpoint_closed_from_a_callback_of_its_connection_is_gone_soon(place: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        held: list[Message] = []

        def on_message(_connection: Connection, message: Message) -> None:
            held.append(message)
            if place == "on_cancel":
                message.on_cancel = act
            elif message.wants_reply and message.header != b"/hold":
                message.reply(b"")

        def act(*_: Any) -> None:
            acted.append(place)
            ending.close()

        acted: list[str] = []
        server = await world.endpoint("node-1", on_message=on_message)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        ending = server if place == "on_cancel" else client
        if place == "on_closed":
            connection.on_closed = act
            connection.close()
        elif place == "add_done_callback":
            connection.add_done_callback(act)
            server.connections[0].close()
        elif place == "on_cancel":
            exchange = connection.start_request(b"/x", b"x", lambda _: None)
            await asyncio.sleep(1)
            exchange.cancel()
        elif place == "request":
            connection.start_request(b"/x", b"x", act)
        else:
            connection.start_send(b"/x", b"", b"x", act)
        hold = asyncio.ensure_future(connection.request(b"/hold", b"x"))
        await asyncio.sleep(1)
        await ending.wait_closed()
        assert acted == [place]
        (result,) = await ended(world, [hold])
        assert isinstance(result, ConnectionLost)
        assert not world.reported

    play(scenario, delay_s=0.01)


def test_an_endpoint_that_cannot_be_closed_with_a_code_stays_open_and_can_be_with_another() -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        for code in (-1, 1 << 62):
            with pytest.raises(LocalError):
                connection.close(code)
            with pytest.raises(LocalError):
                client.close(code)
        assert (await connection.request(b"/x", b"well")).payload == b"well"
        client.close((1 << 62) - 1, "the largest code there is")
        await client.wait_closed()
        assert connection.close_reason is not None
        await asyncio.sleep(1)
        assert not server.connections

    play(scenario, delay_s=0.01)


def test_a_refusal_with_an_impossible_code_is_the_handlers_mistake_and_costs_one_stream() -> None:
    async def scenario(world: VirtualWorld) -> None:
        def refuse(_connection: Connection, message: Message) -> None:
            if message.payload == b"well":
                message.reply(b"well")
            else:
                message.refuse(int(message.payload))

        server = await world.endpoint("node-1", on_message=refuse)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        for code in (b"-1", b"%d" % (1 << 62)):
            with pytest.raises(StreamLost) as error:
                await connection.request(b"/x", code)
            assert error.value.code == StreamCode.FAILED
        assert [type(one) for one in world.reported] == [LocalError] * 2
        assert (await connection.request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=0.01)


# What callbacks raise


@pytest.mark.parametrize("error", [RuntimeError, TrustError, asyncio.CancelledError, TimeoutError])
def test_whatever_a_handler_raises_the_requester_is_told_at_once_and_the_endpoint_goes_on(error: Any) -> None:
    async def scenario(world: VirtualWorld) -> None:
        def raising(_connection: Connection, message: Message) -> None:
            if message.payload == b"well":
                message.reply(b"well")
                return
            raise error("untrusted", "x") if error is TrustError else error()

        server = await world.endpoint("node-1", on_message=raising)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        (result,) = await ended(world, [asyncio.ensure_future(connection.request(b"/x", b"x"))])
        assert isinstance(result, StreamLost)
        assert result.code == StreamCode.FAILED
        assert [type(one) for one in world.reported] == [error]
        assert (await connection.request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=0.01)


def test_callbacks_that_raise_harm_nothing_else() -> None:
    async def scenario(world: VirtualWorld) -> None:
        def bad(*_: Any) -> Any:
            raise asyncio.CancelledError

        (server,) = await world.servers(1, on_connection=bad)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        connection.on_closed = bad
        told: list[Any] = []
        connection.start_request(b"/x", b"1", bad)
        connection.start_send(b"/x", b"", b"1", bad)
        assert (await connection.request(b"/x", b"well")).payload == b"well"
        connection.add_done_callback(bad)
        connection.add_done_callback(told.append)
        connection.close()
        await asyncio.sleep(1)
        assert told == [connection]
        assert [type(one) for one in world.reported] == [asyncio.CancelledError] * 5
        assert (await (await client.connect(server.address)).request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=0.01)


def test_an_identity_that_cannot_be_read_costs_one_handshake_not_the_endpoint() -> None:
    async def scenario(world: VirtualWorld) -> None:
        identity = world.changing(world.identity("node-1"))
        server = await world.endpoint("node-1", trust=world.trust(identity), on_message=world.echo)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        whole = identity.current
        identity.change(type(whole)(b"torn", whole.key_pem, whole.bundle_pem))
        with pytest.raises(HandshakeFailed):
            await client.connect(server.address, new=True, timeout_s=1)
        assert world.reported
        connection.on_message = world.echo
        await asyncio.sleep(3)  # nothing comes any more that would have it send what waits
        (result,) = await ended(world, [asyncio.ensure_future(server.connections[0].request(b"/x", b"unasked"))])
        assert result.payload == b"unasked"
        identity.change(whole)
        assert (await (await client.connect(server.address, new=True)).request(b"/x", b"2")).payload == b"2"

    play(scenario, delay_s=0.01)


def test_a_dial_back_that_cannot_bind_is_answered() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")  # its address is no address of this machine: no socket can be bound
        Reachability(server)
        client = await world.endpoint("node-0")
        reach = Reachability(client)
        connection = await client.connect(server.address)
        started = world.loop.time()
        assert not await reach.dial_back(connection, 4_100)
        assert world.loop.time() - started < 1

    play(scenario, delay_s=0.01)


# Several endpoints of one loop


def test_an_endpoint_closed_by_anothers_callback_ends_its_waits() -> None:
    async def scenario(world: VirtualWorld) -> None:
        servers = await world.servers(2)
        clients = [await world.endpoint(f"client-{number}") for number in range(2)]
        connections = [await client.connect(server.address) for client, server in zip(clients, servers, strict=True)]
        await asyncio.sleep(1)
        outcomes: list[Any] = []

        def closing(other: Endpoint) -> Callable[[Any], None]:
            def done(result: Any) -> None:
                outcomes.append(result)
                other.close()

            return done

        for index, connection in enumerate(connections):
            connection.start_request(b"/x", b"x", closing(clients[1 - index]))
        await asyncio.sleep(3)
        assert len(outcomes) == 2
        assert isinstance(outcomes[0], Message)

    play(scenario, delay_s=0.01)


def test_a_request_ends_at_its_time_whatever_it_waits_for() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1", on_message=ignore, settings=Settings(streams_max=1))
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        started = world.loop.time()
        waits = [
            asyncio.ensure_future(connection.request(b"/x", b"x" * size, timeout_s=3)) for size in (1, 10, 1 << 20)
        ]
        assert [type(one) for one in await asyncio.gather(*waits, return_exceptions=True)] == [RequestTimeout] * 3
        assert 3 <= world.loop.time() - started < 3.1
        assert not connection.outbox.waits

    play(scenario, delay_s=0.01)
