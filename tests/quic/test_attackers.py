"""Members of the subnet that want a node's memory: whatever they send, or leave unsaid, costs them, and nobody else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.patience import PATIENCE_S
from tests.quic.attackers import LARGE_BYTES, Raw
from tests.quic.frames import PING, VARINT_MAX, ack, max_data, message, stream, streams
from tests.quic.victims import MIB, REMEMBERED_BYTES, under_attack

from p2pnet.quic import Settings

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection
    from tests.quic.conftest import World

WINDOW_BYTES = Settings().connection_window_bytes
STREAMS_MAX = Settings().streams_max
SLACK_BYTES = 4 * MIB  # objects around the bytes, and what the honest peer has in flight
STEP_BYTES = LARGE_BYTES - 60
TOO_LARGE = 0x21
FLOW_CONTROL_ERROR = 0x3
PROTOCOL_VIOLATION = 0xA


def pieces(stream_id: int, data: bytes, start: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """What `Raw.pour` takes, a packet's worth each."""
    for offset in range(start, len(data), STEP_BYTES):
        yield stream_id, offset, data[offset : offset + STEP_BYTES]


async def test_gapped_offsets_hold_what_came_and_nothing_of_the_gaps(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        window = raw.window(0)
        for stream_id in streams(STREAMS_MAX):
            raw.send(stream(stream_id, b"x", window - 1))
        await asyncio.sleep(0.3)
        assert (await scene.victim.figures()).peak < MIB
        assert raw.heard.closed is None
        for number in range(22):
            raw.send(stream(0, b"x", window << number))
        assert (await raw.end())[:2] == ("transport", FLOW_CONTROL_ERROR)
        assert (await scene.victim.figures()).peak < MIB


async def test_overlapping_pieces_are_held_once(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        window = raw.window(0)
        data = os.urandom(window)
        for stream_id in streams(4):
            for _ in range(2):
                for offset in range(window - 7_000, 100, -3_000):
                    raw.send(stream(stream_id, data[offset : offset + 7_000], offset))
                    await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        assert (await scene.victim.figures()).peak < 4 * window + MIB
        assert raw.heard.closed is None


async def test_every_other_byte_ends_the_connection_before_the_pieces_outweigh_their_bytes(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        await raw.flood(stream(0, b"x", 2 * number + 1) for number in range(40_000))
        closed = await raw.end()
        assert closed[:2] == ("transport", PROTOCOL_VIOLATION)
        assert "gaps" in closed[2]
        assert (await scene.victim.figures()).peak < 2 * MIB


async def test_full_window_half_messages_hold_no_more_than_the_window_and_one_message(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        half = message(MIB - 18, sent=bytes(MIB - 19))
        bound = WINDOW_BYTES + MIB
        ids = [*streams(STREAMS_MAX), *streams(STREAMS_MAX, uni=True)]
        sent = await raw.pour((one for stream_id in ids for one in pieces(stream_id, half)), most=4 * bound)
        figures = await scene.victim.figures()
        assert sent <= bound + LARGE_BYTES
        assert figures.held_max <= bound
        assert figures.peak < bound + SLACK_BYTES
        assert figures.rss < 1.5 * bound + SLACK_BYTES


async def test_half_messages_beyond_their_stream_windows_hold_one_grant_beyond_the_connections(world: World) -> None:
    settings = {"message_bytes_max": 8 * MIB}
    async with under_attack(world, settings=settings) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        half = message(8 * MIB, sent=bytes(8 * MIB - 1))
        await _as_far_as_it_goes(raw, half, count=8, most=64 * MIB)
        figures = await scene.victim.figures()
        bound = WINDOW_BYTES + 8 * MIB
        assert figures.held_max <= bound
        assert figures.peak < bound + SLACK_BYTES


async def test_endless_replies_hold_no_more_than_the_window_and_one_message(world: World) -> None:
    async with under_attack(world, settings={"reply_bytes_max": 32 * MIB}) as scene:
        listener = Raw.listen(world.identity("node-3"))
        asked = asyncio.ensure_future(scene.victim.request(listener.address, 40))
        raw = await listener.accept()
        scene.raws.append(raw)
        await asked
        assert await raw.until(lambda: len(raw.heard.finished) == 40)
        await scene.victim.mark()
        bound = WINDOW_BYTES + 24 * MIB
        reply = message(24 * MIB + 1, header=b"", sent=bytes(24 * MIB))
        await _as_far_as_it_goes(raw, reply, count=40, most=3 * bound)
        figures = await scene.victim.figures()
        assert figures.held_max <= bound
        assert figures.peak < bound + SLACK_BYTES
        assert figures.rss < 1.5 * bound + SLACK_BYTES


async def _as_far_as_it_goes(raw: Raw, data: bytes, *, count: int, most: int) -> None:
    """Begin so many messages in turn, until the credit ends; then go on with each for which there still is some."""
    offset = sent = 0
    while offset < len(data) and sent < most:
        part = [(one, offset, data[offset : offset + STEP_BYTES]) for one in streams(count)]
        now = await raw.pour(part, patience_s=0.5)
        sent += now
        if now < sum(len(piece) for _, _, piece in part):
            break
        offset += STEP_BYTES
    for stream_id in streams(count):
        sent += await raw.pour(pieces(stream_id, data, offset), patience_s=0.03, most=most - sent)


async def test_a_forged_length_costs_its_stream_alone(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        ids = [*streams(STREAMS_MAX), *streams(STREAMS_MAX, uni=True)]
        await raw.flood((stream(one, message((1 << 32) - 1, sent=b"x" * 1000)) for one in ids), per_turn=5)
        assert await raw.until(lambda: len(raw.heard.stops) == len(ids))
        assert set(raw.heard.stops.values()) == {TOO_LARGE}
        assert set(raw.heard.resets) == set(streams(STREAMS_MAX))
        figures = await scene.victim.figures()
        assert figures.peak < 10 * MIB
        assert figures.rss < 10 * MIB
        assert raw.heard.closed is None


async def test_replies_that_nobody_reads_are_charged_to_the_one_that_asked(world: World) -> None:
    def no_credit(quic: QuicConnection) -> None:
        quic._local_max_stream_data_bidi_local = 0
        quic._local_max_data.value = 0

    async with under_attack(world) as scene:
        raw = await scene.dial(prepare=no_credit)
        raw.grants = False
        await scene.victim.mark()
        question = message(MIB - 100, sent=bytes(MIB - 100))
        for stream_id in streams(STREAMS_MAX):
            if await raw.pour(pieces(stream_id, question), patience_s=0.5) < len(question):
                break
            raw.send(stream(stream_id, b"", len(question), fin=True))
        figures = await scene.victim.figures()
        bound = WINDOW_BYTES + MIB
        assert figures.held_max <= bound
        assert figures.peak < bound + SLACK_BYTES
        assert not raw.heard.streams


async def test_a_peer_that_never_acknowledges_costs_no_more_the_longer_it_asks(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.acknowledges = raw.grants = False

        async def ping(count: int) -> None:
            for _ in range(count):
                raw.send(PING)
                await asyncio.sleep(0.0015)  # longer than acknowledgements are delayed: each gets its own

        await ping(500)
        await scene.victim.mark()
        await ping(800)
        figures = await scene.victim.figures()
        assert figures.grown < REMEMBERED_BYTES
        assert figures.peak < MIB


async def test_a_peer_that_speaks_but_acknowledges_nothing_is_given_up(world: World) -> None:
    async with under_attack(world, settings={"idle_s": 3.0}) as scene:
        raw = await scene.dial()
        raw.acknowledges = raw.grants = False
        for stream_id in streams(20):
            raw.send(stream(stream_id, message(900, sent=bytes(900)), fin=True))
        for _ in range(round(PATIENCE_S / 0.05)):
            raw.send(PING)
            if raw.heard.closed:
                break
            await asyncio.sleep(0.05)
        assert raw.heard.closed


async def test_a_peer_that_falls_silent_with_our_bytes_unacknowledged_is_given_up(world: World) -> None:
    async with under_attack(world, settings={"idle_s": 3.0}) as scene:
        raw = await scene.dial()
        raw.acknowledges = raw.grants = False
        for stream_id in streams(20):
            raw.send(stream(stream_id, message(900, sent=bytes(900)), fin=True))
        for _ in range(round(PATIENCE_S / 0.1)):
            if ended := (await scene.victim.figures()).ends:
                break
            await asyncio.sleep(0.1)
        assert [one.split()[0] for one in ended] == ["idle"]
        assert raw.heard.size < 200_000  # probes back off


async def test_an_acknowledgement_of_what_was_never_sent_ends_the_connection(world: World) -> None:
    async with under_attack(world) as scene:
        for largest in (5_000, 1 << 32, VARINT_MAX):
            raw = await scene.dial()
            raw.send(ack((largest - 10, largest)))
            assert (await raw.end())[:2] == ("transport", PROTOCOL_VIOLATION)


async def test_acknowledging_ahead_of_what_has_come_ends_the_connection(world: World) -> None:
    """A reader that acknowledges what it cannot have yet, to be sent faster than its path carries (RFC 9000 21.4)."""
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.acknowledges = False
        question = message(600_000, sent=bytes(600_000))

        async def hurry() -> None:
            for _ in range(30):
                raw.send(ack((0, raw.received_highest + 30)), max_data(VARINT_MAX))
                await asyncio.sleep(0.01)

        await asyncio.gather(raw.pour(pieces(0, question), patience_s=0.3, in_flight=1_000), hurry())
        raw.send(stream(0, b"", len(question), fin=True))
        await hurry()
        assert (await raw.end())[:2] == ("transport", PROTOCOL_VIOLATION)
