"""What a peer may cost: forged lengths, gaps, floods and half messages cost it its stream or its connection, us nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from aioquic.quic.packet import QuicStreamFrame

from p2pnet.model.errors import LimitError
from p2pnet.quic import HandshakeFailed, MessageTooLarge, Settings
from p2pnet.quic.framing import HEAD

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

OWN = 8 * 1024  # what a one-way stream may carry before room is made for it
MIB = 1 << 20


@contextlib.contextmanager
def allocating_at_most(count: int) -> Iterator[None]:
    """Whatever this process did before, the block never holds more bytes than so many at once of what it allocates."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count


class Forger:
    """Stands in for a sender and emits the frames it is given."""

    is_finished = False
    reset_pending = False
    highest_offset = 0

    def __init__(self, frames: list[QuicStreamFrame]) -> None:
        self.frames = frames

    @property
    def buffer_is_empty(self) -> bool:
        return not self.frames

    @property
    def next(self) -> tuple[int, int]:
        frame = self.frames[0]
        return frame.offset, frame.offset + len(frame.data)

    def take(self, start: int, stop: int) -> tuple[bytes, bool]:
        frame = self.frames.pop(0)
        return frame.data, frame.fin

    def handle_ack(self, *_: object) -> bool:
        return False

    handle_loss = handle_ack


def forge(connection: Any, frames: list[QuicStreamFrame]) -> None:
    stream = connection.engine.open(uni=True, priority=0)
    stream.max_stream_data_remote = 1 << 60
    stream.sender = Forger(frames)
    connection.engine._sending.add(stream)
    connection.touch()


def half(connection: Any, data: bytes, *, end: bool = False) -> None:
    """Begin a message on a stream of its own."""
    connection.engine.write(connection.engine.open(uni=True), [data], end=end)
    connection.touch()


async def bystander(world: World, server_address: Any) -> None:
    """Another peer, which must notice nothing."""
    other = await world.endpoint("node-2")
    connection = await other.connect(server_address)
    assert (await connection.request(b"/x", b"well?")).payload == b"well?"


async def test_a_forged_length_is_stopped_at_the_head(world: World, until: Until) -> None:
    connection, other = await world.pair()
    with allocating_at_most(10 * MIB):
        for _ in range(50):
            half(connection, HEAD.pack(2, 0, 0, (1 << 32) - 1, 0) + b"x" * 1000)
        await until(lambda: len(world.malformed) == 50)
        await until(lambda: not other.engine.streams)
    assert all(isinstance(one, MessageTooLarge) for one in world.malformed)
    assert (await connection.request(b"/x", b"ok")).payload == b"ok"


async def test_a_forged_length_under_the_cap_allocates_only_what_came(world: World, until: Until) -> None:
    connection, other = await world.pair()
    with allocating_at_most(10 * MIB):
        for _ in range(100):
            half(connection, HEAD.pack(2, 0, 0, 128 * MIB, 0) + b"x" * 1000)
        connection.touch()
        await until(lambda: len(other.engine.streams) == 100)
        await asyncio.sleep(0.1)
    assert (await connection.request(b"/x", b"ok")).payload == b"ok"


async def test_gapped_offsets_allocate_nothing(world: World, until: Until) -> None:
    connection, other = await world.pair()
    with allocating_at_most(2 * MIB):
        for _ in range(15):
            forge(connection, [QuicStreamFrame(offset=OWN - 2, data=b"x")])
        await until(lambda: other.engine._flow.gaps == 15)
    assert not connection.closed


async def test_an_offset_beyond_the_fixed_window_ends_the_connection(world: World, until: Until) -> None:
    connection, other = await world.pair()
    with allocating_at_most(2 * MIB):
        forge(connection, [QuicStreamFrame(offset=OWN << number, data=b"x") for number in range(22)])
        await until(lambda: other.closed)
    assert other.close_reason.kind == "transport"
    await bystander(world, other.endpoint.address)


async def test_highest_offsets_earn_no_credit(world: World) -> None:
    connection, other = await world.pair()
    for round_ in range(3):
        forge(connection, [QuicStreamFrame(offset=OWN - 10 + round_, data=b"x")])
        await asyncio.sleep(0.02)
    assert other.engine._flow.max_data.value == other.settings.connection_window_bytes // 8 * 7
    assert all(one.max_stream_data_local == OWN for one in other.engine.streams.values())


async def test_crumbs_in_disorder_end_the_connection_before_they_fill_memory(world: World, until: Until) -> None:
    connection, other = await world.pair(Settings(gaps_max=100))
    forge(connection, [QuicStreamFrame(offset=2 * number, data=b"x") for number in range(1, 200)])
    await until(lambda: other.closed)
    assert "gaps" in other.close_reason.text
    await bystander(world, other.endpoint.address)


async def test_a_flood_of_streams_ends_the_connection(world: World, until: Until) -> None:
    connection, other = await world.pair()
    connection.engine._flow.peer.max_streams_uni = 10_000
    for _ in range(200):
        half(connection, b"x")
    connection.touch()
    await until(lambda: other.closed)
    assert other.close_reason.kind == "transport"
    await bystander(world, other.endpoint.address)


async def test_half_messages_hold_only_what_came_and_go_with_their_connection(world: World, until: Until) -> None:
    connection, other = await world.pair()
    with allocating_at_most(40 * MIB):
        for _ in range(128):
            half(connection, HEAD.pack(2, 0, 0, 200_000, 0) + b"x" * 50_000)
        connection.touch()
        await until(lambda: other.engine.held_bytes >= 128 * OWN)
    await bystander(world, other.endpoint.address)
    connection.close()
    await until(lambda: other.closed)


async def test_broken_frames_cost_only_their_stream(world: World, until: Until) -> None:
    connection, _ = await world.pair()
    broken = [b"\x00\x01" + bytes(14), HEAD.pack(2, 0, 0, 4, 9), b"short", HEAD.pack(2, 0, 0, 1, 0) + b"xy"]
    for data in broken:
        half(connection, data, end=True)
    connection.touch()
    await until(lambda: len(world.malformed) == 4)
    assert sorted(one.kind for one in world.malformed) == ["reserved", "trailing", "truncated", "version"]
    assert (await connection.request(b"/x", b"ok")).payload == b"ok"


async def test_a_slow_reader_holds_back_only_its_own_sender(world: World) -> None:
    settings = Settings(connection_window_bytes=MIB, streams_max=8)
    server = await world.endpoint("node-1", settings=settings)
    slow = await (await world.endpoint("node-0")).connect(server.address)
    slow_inbound = await server.accept()
    sends = [asyncio.ensure_future(slow.send(b"", b"", bytes([number]) * 100_000)) for number in range(60)]
    await asyncio.sleep(0.2)
    pending = sum(not one.done() for one in sends)
    assert pending > 30
    assert slow_inbound.engine.held_bytes <= MIB + 100_100
    quick = await (await world.endpoint("node-2")).connect(server.address)
    quick_inbound = await server.accept()
    await quick.send(b"", b"", b"x" * 200_000)
    async for message in quick_inbound.messages():
        assert len(message.payload) == 200_000
        break
    seen = []
    async for message in slow_inbound.messages():
        seen.append(message.payload[0])
        if len(seen) == 60:
            break
    await asyncio.gather(*sends)
    assert sorted(seen) == list(range(60))


async def test_tiny_messages_nobody_reads_stop_the_flow_of_streams(world: World) -> None:
    settings = Settings(inbox_messages_max=10, streams_max=16)
    server = await world.endpoint("node-1", settings=settings)
    connection = await (await world.endpoint()).connect(server.address)
    inbound = await server.accept()
    sends = [asyncio.ensure_future(connection.send(b"", b"", b"%d" % number)) for number in range(200)]
    await asyncio.sleep(0.1)
    assert len(inbound.mailbox._waiting) <= 10 + 16 + 16
    count = 0
    async for _ in inbound.messages():
        count += 1
        if count == 200:
            break
    await asyncio.gather(*sends)


async def test_large_messages_beyond_the_assembly_budget_take_turns(world: World) -> None:
    settings = Settings()
    connection, other = await world.pair(settings)
    payloads = [bytes([number]) * (3 * MIB) for number in range(6)]
    replies = await asyncio.gather(*(connection.request(b"/x", one) for one in payloads))
    assert [one.payload[:1] for one in replies] == [one[:1] for one in payloads]
    assert other.ledger.set_aside == 0
    assert other.engine.held_bytes == 0


async def test_too_many_waiting_requests_are_a_local_error(world: World) -> None:
    connection, _ = await world.pair(
        Settings(streams_max=1, opens_queued_max=5), on_message=lambda _connection, _message: None
    )
    for _ in range(6):
        connection.start_request(b"/x", b"x", lambda _result: None)
    with pytest.raises(LimitError):
        connection.start_request(b"/x", b"x", lambda _result: None)


async def test_a_full_endpoint_says_so_at_once(world: World) -> None:
    server = await world.endpoint("node-1", settings=Settings(connections_max=2))
    client = await world.endpoint()
    for _ in range(2):
        await client.connect(server.address, new=True)
    with pytest.raises(HandshakeFailed) as error:
        await client.connect(server.address, new=True)
    assert error.value.kind == "too-many"
    assert server.counters()["refused_full_total"] == 1
    with pytest.raises(LimitError):
        await server.connect(client.address, new=True)


async def test_above_the_rate_clients_must_prove_their_address(world: World) -> None:
    settings = Settings(initials_burst=3, initials_per_s=0.001)
    server = await world.endpoint("node-1", settings=settings, on_message=world.echo)
    client = await world.endpoint()
    connections = [await client.connect(server.address, new=True) for _ in range(6)]
    assert server.counters()["retries_sent_total"] == 3
    assert (await connections[-1].request(b"/x", b"proved")).payload == b"proved"


async def test_a_spoofed_flood_creates_no_state_beyond_the_rate(world: World) -> None:
    server = await world.endpoint("node-1", settings=Settings(initials_burst=10, initials_per_s=0.001))
    client = await world.endpoint()
    caught: list[bytes] = []

    def catch(_connection: Any, datagrams: Any) -> Any:
        caught.extend(data for data, _ in datagrams)
        return []

    client.egress = catch
    dials = [asyncio.ensure_future(client.connect(server.address, new=True, timeout_s=0.3)) for _ in range(50)]
    await asyncio.sleep(0.05)
    server._dispatcher.on_datagrams([(data, ("127.0.0.1", 9)) for data in caught])
    assert server.counters()["handshakes"] <= 10
    assert server.counters()["retries_sent_total"] >= 40
    results = await asyncio.gather(*dials, return_exceptions=True)
    assert all(isinstance(one, HandshakeFailed) for one in results)


async def test_noise_is_ignored(world: World) -> None:
    connection, other = await world.pair()
    server = other.endpoint
    client_raw = connection.endpoint.address
    cid = other.engine.cid
    initial = b"\xc3\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\x00\x44\xb0" + os.urandom(1200)
    server._dispatcher.on_datagrams([(initial, ("127.0.0.1", 9)), (initial, ("127.0.0.1", 9))])
    for data in (b"", b"\x00", b"\xff" * 1200, os.urandom(1300), b"\x40" + cid + os.urandom(40), b"\xc0" + bytes(30)):
        server._dispatcher.on_datagrams([(data, client_raw)])
    assert (await connection.request(b"/x", b"ok")).payload == b"ok"


async def test_refused_streams_return_their_credit(world: World) -> None:
    connection, other = await world.pair(Settings(message_bytes_max=10), dialer=Settings())
    for _ in range(40):
        with pytest.raises(MessageTooLarge):
            await connection.request(b"/x", b"x" * 900_000)
    assert other.engine._flow.gaps == 0
    assert (await connection.request(b"/x", b"ok")).payload == b"ok"
