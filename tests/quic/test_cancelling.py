"""Cancelled in any turn, also the one in which it is served: nothing is lost, nothing stays, no bound is got around."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from tests.quic.virtual import VirtualWorld, play, turns

from p2pnet.model.errors import LimitError
from p2pnet.quic import (
    Connection,
    ConnectionLost,
    HandshakeFailed,
    Message,
    Settings,
)


def ignore(_connection: Connection, _message: Message) -> None:
    """A handler that never answers."""


def cancel(task: asyncio.Future[Any], after: int) -> None:
    """Cancel it after so many turns of the loop."""
    if after:
        task.get_loop().call_soon(cancel, task, after - 1)
    else:
        task.cancel()


# Cancelled in the turn in which it is served


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("others", [0, 1])
def test_an_accept_cancelled_in_any_turn_loses_no_connection(others: int, after: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0")
        first = asyncio.ensure_future(server.accept())
        rest = [asyncio.ensure_future(server.accept()) for _ in range(others)]
        offer: Any = server._offer

        def offered(connection: Connection) -> None:
            offer(connection)
            cancel(first, after)

        server._offer = offered  # type: ignore[method-assign]
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        assert not connection.closed
        got = [] if first.cancelled() else [first.result()]
        got += [one.result() for one in rest if one.done()]
        if (left := server.try_accept()) is not None:
            got.append(left)
        assert got == server.connections
        for one in rest:
            one.cancel()

    play(scenario, delay_s=0.01)


def test_an_accept_cancelled_as_its_connection_ends_keeps_no_dead_one() -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0")
        waiting = asyncio.ensure_future(server.accept())
        offer: Any = server._offer

        def offered(connection: Connection) -> None:
            offer(connection)
            connection.close()
            waiting.cancel()

        server._offer = offered  # type: ignore[method-assign]
        with contextlib.suppress(HandshakeFailed, ConnectionLost):
            await client.connect(server.address)
        await asyncio.sleep(1)
        assert waiting.cancelled()
        assert server.try_accept() is None

    play(scenario, delay_s=0.01)


def test_those_who_gave_up_waiting_are_not_kept() -> None:
    """An owner that looks for something now and then, each time for a moment, for as long as it runs."""

    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        inbound = await server.accept()
        for _ in range(200):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.accept(), 0.001)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(anext(inbound.messages()), 0.001)
        assert len(server._accepting) == 0
        assert len(inbound.mailbox._readers) == 0
        reader = asyncio.ensure_future(anext(inbound.messages()))
        await connection.send(b"/x", b"", b"hello")
        assert (await reader).payload == b"hello"

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("after", range(4))
def test_a_reader_cancelled_in_any_turn_loses_no_message(after: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        server = await world.endpoint("node-1")
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        inbound = await server.accept()
        first: asyncio.Future[Message] = asyncio.ensure_future(anext(inbound.messages()))
        second: asyncio.Future[Message] = asyncio.ensure_future(anext(inbound.messages()))
        wake = inbound.mailbox.wake

        def woken() -> None:
            wake()
            cancel(first, after)

        inbound.mailbox.wake = woken  # type: ignore[method-assign]
        await connection.send(b"/x", b"", b"hello")
        message = await (second if first.cancelled() else first)
        assert message.payload == b"hello"
        second.cancel()
        await turns(2)

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("kind", ["request", "send"])
def test_a_request_or_send_cancelled_in_any_turn_leaves_no_stream(kind: str, after: int) -> None:
    async def scenario(world: VirtualWorld) -> None:
        (server,) = await world.servers(1)
        client = await world.endpoint("node-0")
        connection = await client.connect(server.address)
        await asyncio.sleep(1)
        work = connection.request(b"/x", b"x") if kind == "request" else connection.send(b"/x", b"", b"x")
        task = asyncio.ensure_future(work)
        dispatcher: Any = client._dispatcher
        receive = dispatcher.on_datagrams

        def received(datagrams: Any) -> None:
            receive(datagrams)
            cancel(task, after)

        client._transport._on_datagrams = received  # type: ignore[attr-defined]
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(1)
        assert not connection.busy
        assert not server.connections[0].busy
        assert (await connection.request(b"/x", b"well")).payload == b"well"

    play(scenario, delay_s=0.01)


# Bounds that cancelling must not get around


def test_requests_cancelled_while_they_wait_count_no_more() -> None:
    async def scenario(world: VirtualWorld) -> None:
        settings = Settings(opens_queued_max=50, streams_max=2)
        server = await world.endpoint("node-1", on_message=ignore, settings=settings)
        client = await world.endpoint("node-0", settings=settings)
        connection = await client.connect(server.address)
        for _ in range(2):
            connection.start_request(b"/x", b"held", lambda _: None)
        for _ in range(20):
            waiting = [connection.start_request(b"/x", b"x", lambda _: None) for _ in range(50)]
            with pytest.raises(LimitError):
                connection.start_request(b"/x", b"one too many", lambda _: None)
            for exchange in waiting[:20]:
                exchange.cancel()
            waiting[:20] = [connection.start_request(b"/x", b"x", lambda _: None) for _ in range(20)]
            with pytest.raises(LimitError):
                connection.start_request(b"/x", b"one too many", lambda _: None)
            for exchange in waiting:
                exchange.cancel()
        assert sum(len(one) for one in connection.outbox._waiting) <= 50
        sends = [asyncio.ensure_future(connection.send(b"/x", b"", b"x")) for _ in range(10)]
        await asyncio.gather(*sends)

    play(scenario, delay_s=0.01)


@pytest.mark.parametrize("taken", ["handler", "reader"])
def test_requests_cancelled_at_once_never_set_more_handlers_to_work_than_there_may_be_streams(taken: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        at_work: set[asyncio.Task[None]] = set()
        most = 0

        async def work(message: Message) -> None:
            await asyncio.sleep(5)
            if message.wants_reply and not message.cancelled:
                message.reply(b"done")

        def begin(_connection: Connection, message: Message) -> None:
            nonlocal most
            task = asyncio.ensure_future(work(message))
            at_work.add(task)
            task.add_done_callback(at_work.discard)
            most = max(most, len(at_work))

        settings = Settings(streams_max=16)
        handler = begin if taken == "handler" else None
        server = await world.endpoint("node-1", on_message=handler, settings=settings)
        client = await world.endpoint("node-0", settings=settings)
        connection = await client.connect(server.address)
        inbound = await server.accept()
        begun = 0
        while world.loop.time() < 12:
            while connection.engine.may_open(uni=False):
                exchange = connection.start_request(b"/x", b"x", lambda _: None)
                world.loop.call_later(0.015, exchange.cancel)
                begun += 1
            await asyncio.sleep(0.01)
        if taken == "handler":
            assert most == 16
            assert 16 < begun <= 16 * 4  # two or three rounds of five seconds
        else:
            assert begun == 16
            assert len(inbound.mailbox._waiting) == 16
        await asyncio.sleep(6)

    play(scenario, delay_s=0.005)
