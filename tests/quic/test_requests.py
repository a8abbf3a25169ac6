"""Requests, sends and what becomes of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.model.errors import LocalError
from p2pnet.quic import ConnectionLost, Message, MessageTooLarge, RequestTimeout, Settings, StreamCode, StreamLost

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World


@pytest.mark.parametrize("size", [1, 1000, 16_384, 1 << 20, 5 << 20])
async def test_a_request_gets_its_reply(world: World, size: int) -> None:
    connection, _ = await world.pair()
    payload = bytes(range(256)) * (size // 256 + 1)
    reply = await connection.request(b"/x", payload)
    assert reply.payload == payload
    assert reply.header == b"/x"


async def test_a_payload_in_pieces_arrives_whole(world: World) -> None:
    connection, _ = await world.pair()
    pieces = [bytes([i]) * 50_000 for i in range(40)]
    assert (await connection.request(b"/x", pieces)).payload == b"".join(pieces)


async def test_both_ends_may_ask(world: World) -> None:
    connection, other = await world.pair()
    connection.on_message = world.echo
    assert (await other.request(b"/y", b"back")).payload == b"back"


async def test_a_send_arrives_with_all_three_parts(world: World, until: Until) -> None:
    connection, _ = await world.pair()
    await connection.send(b"h", b"dd", b"ppp")
    await until(lambda: world.received)
    message = world.received[0]
    assert (message.header, message.dst, message.payload) == (b"h", b"dd", b"ppp")
    assert not message.wants_reply
    with pytest.raises(LocalError):
        message.reply(b"x")


async def test_a_callback_gets_the_reply_exactly_once(world: World, until: Until) -> None:
    connection, _ = await world.pair()
    results: list[Any] = []
    connection.start_request(b"/x", b"hello", results.append)
    await until(lambda: results)
    await asyncio.sleep(0.02)
    assert [one.payload for one in results] == [b"hello"]


async def test_ten_thousand_tiny_requests_each_come_back_once(world: World) -> None:
    connection, _ = await world.pair()
    done = asyncio.get_running_loop().create_future()
    seen: list[bytes] = []

    def take(result: Message | Exception) -> None:
        assert isinstance(result, Message), result
        seen.append(result.payload)
        if len(seen) == 10_000:
            done.set_result(None)

    for number in range(10_000):
        connection.start_request(b"/x", number.to_bytes(8, "big"), take)
    await asyncio.wait_for(done, PATIENCE_S)
    assert sorted(seen) == [number.to_bytes(8, "big") for number in range(10_000)]
    assert not connection.engine.streams
    assert connection.engine._flow.peer.max_streams_bidi > 10_000 - 128


async def test_many_large_messages_at_once_all_arrive(world: World) -> None:
    connection, _ = await world.pair()
    payloads = [bytes([number]) * (1 << 20) for number in range(40)]
    replies = await asyncio.gather(*(connection.request(b"/x", one) for one in payloads))
    assert [one.payload[:1] for one in replies] == [one[:1] for one in payloads]
    assert all(len(one.payload) == 1 << 20 for one in replies)


async def test_a_cancelled_request_resets_the_stream_and_tells_the_server(world: World, until: Until) -> None:
    held: list[Message] = []
    cancelled: list[Message] = []

    def hold(_connection: Any, message: Message) -> None:
        message.on_cancel = cancelled.append
        held.append(message)

    connection, other = await world.pair(on_message=hold)
    exchange = connection.start_request(b"/x", b"hello", lambda _result: pytest.fail("done after cancel"))
    await until(lambda: held)
    exchange.cancel()
    exchange.cancel()
    await until(lambda: cancelled)
    assert held[0].cancelled
    held[0].reply(b"too late")
    await until(lambda: not connection.engine.streams and not other.engine.streams)


async def test_a_reply_that_meets_a_stop_whose_event_is_still_due_goes_nowhere(world: World, until: Until) -> None:
    held: list[Message] = []
    connection, _ = await world.pair(on_message=lambda _connection, message: held.append(message))
    outcomes: list[Any] = []
    connection.start_request(b"/x", b"hello", outcomes.append)
    await until(lambda: held)
    # aioquic resets our half while it reads the STOP_SENDING packet; the event comes with the next flush.
    held[0]._stream._stream.sender.reset(StreamCode.CANCELLED)

    held[0].reply(b"too late")

    assert held[0]._stream.answered
    assert not outcomes


async def test_a_send_cancelled_half_way_is_no_message(world: World, until: Until) -> None:
    connection, other = await world.pair(Settings())
    task = asyncio.ensure_future(connection.send(b"/x", b"", b"x" * (64 << 20)))
    await until(lambda: other.engine.streams)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not connection.engine.streams and not other.engine.streams)
    assert not world.received
    assert (await connection.request(b"/x", b"still well")).payload == b"still well"


async def test_a_request_without_an_answer_times_out(world: World, until: Until) -> None:
    connection, other = await world.pair(on_message=lambda _connection, _message: None)
    with pytest.raises(RequestTimeout):
        await connection.request(b"/x", b"hello", timeout_s=0.05)
    await until(lambda: not other.engine.streams)


async def test_a_refused_request_is_a_lost_stream(world: World) -> None:
    connection, _ = await world.pair(on_message=lambda _connection, message: message.refuse(StreamCode.UNWANTED))
    with pytest.raises(StreamLost) as error:
        await connection.request(b"/x", b"hello")
    assert error.value.code == StreamCode.UNWANTED


async def test_a_message_over_its_cap_is_a_typed_error_at_both_ends(world: World, until: Until) -> None:
    settings = Settings(message_bytes_max=1000, route_caps={b"/big": 1 << 20})
    connection, _ = await world.pair(settings, dialer=Settings())
    with pytest.raises(MessageTooLarge):
        await connection.send(b"/small", b"", b"x" * 1001)
    with pytest.raises(MessageTooLarge):
        await connection.request(b"/small", b"x" * 200_000)
    with pytest.raises(MessageTooLarge):
        await connection.request(b"/big", b"x" * (2 << 20))
    assert (await connection.request(b"/big", b"x" * 1_000_000)).payload
    assert len(world.malformed) == 3
    assert all(isinstance(one, MessageTooLarge) for one in world.malformed)
    await until(lambda: not connection.engine.streams)


async def test_a_reply_over_its_cap_is_a_typed_error(world: World) -> None:
    connection, _ = await world.pair(on_message=lambda _connection, message: message.reply(b"x" * 100_000))
    with pytest.raises(MessageTooLarge):
        await connection.request(b"/x", b"hello", reply_bytes_max=1000)


async def test_an_urgent_request_overtakes_a_bulk_one(world: World) -> None:
    connection, _ = await world.pair()
    order: list[str] = []
    bulk = asyncio.ensure_future(connection.request(b"/x", b"x" * (16 << 20)))
    bulk.add_done_callback(lambda _task: order.append("bulk"))
    await asyncio.sleep(0)
    await connection.request(b"/x", b"tiny", urgent=True)
    order.append("tiny")
    await bulk
    assert order == ["tiny", "bulk"]


async def test_a_tiny_send_after_a_huge_one_arrives_first(world: World, until: Until) -> None:
    connection, _ = await world.pair()
    huge = asyncio.ensure_future(connection.send(b"/x", b"", b"x" * (32 << 20)))
    await asyncio.sleep(0)
    await connection.send(b"/x", b"", b"tiny")
    assert not huge.done()
    await huge
    await until(lambda: len(world.received) == 2)
    assert world.received[0].payload == b"tiny"


async def test_a_half_sent_message_blocks_no_other(world: World) -> None:
    connection, _ = await world.pair()
    half = connection.engine.open(uni=True, priority=0)
    half.sender.write(bytes.fromhex("0002 00000000 00000000 00010000 0000") + b"half")
    for number in range(100):
        assert (await connection.request(b"/x", b"%d" % number)).payload == b"%d" % number


async def test_sends_beyond_the_peers_stream_limit_wait_their_turn(world: World, until: Until) -> None:
    held: list[Message] = []
    connection, _ = await world.pair(
        Settings(streams_max=4), on_message=lambda _connection, message: held.append(message)
    )
    requests = [asyncio.ensure_future(connection.request(b"/x", b"%d" % number)) for number in range(20)]
    await until(lambda: len(held) == 4)
    await asyncio.sleep(0.05)
    assert len(held) == 4
    answered = 0
    while answered < 20:
        await asyncio.sleep(0)
        while len(held) > answered:
            held[answered].reply(held[answered].payload)
            answered += 1
    assert [(await one).payload for one in requests] == [b"%d" % number for number in range(20)]


async def test_a_lost_connection_ends_all_that_waits_once(world: World, until: Until) -> None:
    connection, other = await world.pair(Settings(streams_max=2), on_message=lambda _connection, _message: None)
    results: list[object] = []
    for _ in range(5):
        connection.start_request(b"/x", b"hello", results.append)
    await until(lambda: len(other.engine.streams) == 2)
    other.close(0x12, "replaced")
    await until(lambda: len(results) == 5)
    assert all(isinstance(one, ConnectionLost) and one.reason.code == 0x12 for one in results)
    late: list[object] = []
    connection.start_request(b"/x", b"hello", late.append)
    await until(lambda: late)
    assert isinstance(late[0], ConnectionLost)
    with pytest.raises(ConnectionLost):
        await connection.send(b"", b"", b"x")


async def test_messages_wait_for_their_reader(world: World) -> None:
    server = await world.endpoint("node-1")
    client = await world.endpoint()
    connection = await client.connect(server.address)
    inbound = await server.accept()
    for number in range(5):
        await connection.send(b"", b"", b"%d" % number)
    connection.close(0, "done")
    assert [message.payload async for message in inbound.messages()] == [b"%d" % number for number in range(5)]


async def test_qp2ps_stream_objects_carry_one_message_and_one_reply(world: World, until: Until) -> None:
    connection, _ = await world.pair()
    stream, replies = connection.open_bi()
    await stream.send_user_msg(b"h", b"d", b"marco")
    await stream.finish()
    assert (await replies.read()).payload == b"marco"
    lone = connection.open_uni()
    lone.set_priority(3)
    await lone.send_user_msg(b"h", b"d", b"alone")
    with pytest.raises(LocalError):
        await lone.send_user_msg(b"h", b"d", b"again")
    await lone.finish()
    await until(lambda: len(world.received) == 2)
    assert world.received[0].dst == b"d"


async def test_a_handlers_mistake_hurts_no_other_stream(world: World) -> None:
    def faulty(_connection: Any, message: Message) -> None:
        if message.payload == b"bad":
            raise ValueError("a bug")
        message.reply(b"well")

    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    connection, _ = await world.pair(on_message=faulty)
    with pytest.raises(StreamLost) as error:
        await connection.request(b"/x", b"bad")
    assert error.value.code == StreamCode.FAILED
    assert (await connection.request(b"/x", b"good")).payload == b"well"
    assert isinstance(reported[0]["exception"], ValueError)


async def test_a_message_whose_header_has_a_handler_of_its_own_goes_there_alone(world: World) -> None:
    connection, other = await world.pair()
    handled: list[bytes] = []
    other.endpoint.handlers[b"/echo"] = lambda _connection, message: handled.append(message.payload)
    await connection.send(b"/echo", b"", b"one")
    await connection.send(b"/rest", b"", b"two")
    assert (handled, [message.payload for message in world.received]) == ([b"one"], [b"two"])
