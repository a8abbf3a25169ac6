"""Members of the subnet that send frames without end: of streams, of limits, of connection ids, of nothing at all."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.patience import PATIENCE_S
from tests.quic.attackers import OPEN, SMALL_BYTES, Raw
from tests.quic.frames import (
    HANDSHAKE_DONE,
    PADDING,
    PING,
    VARINT_MAX,
    ack,
    connection_close,
    crypto,
    max_data,
    max_stream_data,
    max_streams,
    message,
    new_connection_id,
    new_token,
    path_challenge,
    path_response,
    reset_stream,
    retire_connection_id,
    stop_sending,
    stream,
    streams,
    v,
)
from tests.quic.outsiders import RawClient
from tests.quic.victims import MIB, REMEMBERED_BYTES, TURN_CPU_S, under_attack

from p2pnet.quic import Settings

if TYPE_CHECKING:
    from tests.quic.conftest import World

STREAMS_MAX = Settings().streams_max
STREAM_LIMIT_ERROR = 0x4
FRAME_ENCODING_ERROR = 0x7
CONNECTION_ID_LIMIT_ERROR = 0x9
PROTOCOL_VIOLATION = 0xA
CRYPTO_BUFFER_EXCEEDED = 0xD
CRYPTO_ERROR = 0x100


async def test_one_stream_more_than_allowed_ends_the_connection(world: World) -> None:
    async with under_attack(world) as scene:
        for uni in (False, True):
            raw = await scene.dial()
            await raw.flood(stream(one, b"x") for one in streams(STREAMS_MAX, uni=uni))
            await asyncio.sleep(0.05)
            assert raw.heard.closed is None
            raw.send(stream(streams(STREAMS_MAX + 1, uni=uni)[-1], b"x"))
            assert (await raw.end())[:2] == ("transport", STREAM_LIMIT_ERROR)


async def test_streams_opened_and_reset_leave_nothing_behind(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        opened = {True: 0, False: 0}
        started = time.monotonic()
        while (  # for a second, and as long as a busy machine takes for some rounds
            (waited := time.monotonic() - started) < 1
            or (sum(opened.values()) <= 2 * STREAMS_MAX and waited < PATIENCE_S)
        ) and not raw.heard.closed:
            for uni in (True, False):
                while opened[uni] < raw.heard.max_streams[uni]:
                    number = (2 if uni else 0) + 4 * opened[uni]
                    raw.send(stream(number, message(100_000, sent=bytes(500))), reset_stream(number, 7, 518))
                    opened[uni] += 1
            await raw.changed(0.01)
        await asyncio.sleep(0.2)
        figures = await scene.victim.figures()
        assert sum(opened.values()) > 2 * STREAMS_MAX
        assert figures.handled <= len(scene.honest.seconds) + 1
        assert figures.held_max < MIB
        assert figures.grown < MIB


async def test_questions_asked_and_cancelled_never_put_more_handlers_to_work_than_streams_are_allowed(
    world: World,
) -> None:
    async with under_attack(world, handler="work", work_s=1.0) as scene:
        raw = await scene.dial()
        opened = 0
        question = message(1, sent=b"?")
        started = time.monotonic()
        while (waited := time.monotonic() - started) < 1.5 or (opened < STREAMS_MAX and waited < PATIENCE_S):
            assert not raw.heard.closed
            while opened < raw.heard.max_streams[False]:
                raw.send(stream(4 * opened, question, fin=True), stop_sending(4 * opened, 7))
                opened += 1
            await raw.changed(0.01)
        figures = await scene.victim.figures()
        assert figures.working_max >= 16
        assert figures.working_max <= STREAMS_MAX + 1  # and the honest peer's one


async def test_handlers_that_ended_make_room_for_more_questions(world: World) -> None:
    """The bound is on handlers at work: cancelled questions must not use it up for good."""
    async with under_attack(world, handler="work", work_s=0.02) as scene:
        raw = await scene.dial()
        opened = 0
        question = message(1, sent=b"?")
        deadline = time.monotonic() + PATIENCE_S
        while opened < 5 * STREAMS_MAX and time.monotonic() < deadline:
            while opened < raw.heard.max_streams[False]:
                raw.send(stream(4 * opened, question, fin=True), stop_sending(4 * opened, 7))
                opened += 1
            await raw.changed(0.01)
        assert opened >= 5 * STREAMS_MAX


HARMLESS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _n: PING,
    "path challenge": lambda _n: path_challenge(),
    "path response": lambda _n: path_response(os.urandom(8)),
    "max data": lambda _n: max_data(VARINT_MAX),
    "max stream data": lambda n: max_stream_data(4 * (n % 100), VARINT_MAX),
    "max streams": lambda n: max_streams(min(1 << 60, 1 << (n % 61)), uni=bool(n & 1)),
    "data blocked": lambda n: v(0x14) + v(n),
    "stream data blocked": lambda n: v(0x15) + v(4 * (n % 100)) + v(n),
    "streams blocked": lambda n: v(0x16 + (n & 1)) + v(n),
    "stop sending": lambda n: stop_sending(4 * (n % 100), n),
    "empty stream": lambda n: stream(2 + 4 * (n % 100), b""),
    "old acknowledgements": lambda n: ack((0, 1)) if n & 1 else ack((3, 3), (1, 1)),
    "retired connection ids": lambda n: retire_connection_id(1 + n % 7),
}


@pytest.mark.parametrize("what", sorted(HARMLESS))
async def test_frames_that_mean_nothing_leave_nothing_behind(world: World, what: str) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        make = HARMLESS[what]
        await raw.flood((make(number) for number in range(1_000)), per_turn=4)
        await asyncio.sleep(0.1)
        await scene.victim.mark()
        await raw.flood((make(number) for number in range(6_000)), per_turn=4)
        await asyncio.sleep(0.1)
        figures = await scene.victim.figures()
        assert raw.heard.closed is None
        assert figures.grown < 100_000
        assert figures.peak < 2 * MIB
        assert raw.heard.size < 40 * raw.sent_bytes


async def test_acknowledgements_by_the_thousand_do_not_stop_the_loop(world: World) -> None:
    """A packet holds thousands of ACK frames, a frame thousands of ranges."""
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.acknowledges = False
        for _ in range(400):  # something to look through
            raw.send(PING)
            await asyncio.sleep(0.0015)
        for _ in range(20):
            raw.send(ack((0, 0)) * 1_500)
            await asyncio.sleep(0.05)
        assert raw.heard.closed is None


async def test_challenges_from_a_second_address_cost_no_more_the_more_there_are(world: World) -> None:
    """Answers on a path that is only probed are outside the congestion window; nobody need acknowledge them."""
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.acknowledges = False
        with RawClient(scene.victim.address) as other:

            async def probe(count: int) -> None:
                for _ in range(count):
                    other.send(raw.packet(path_challenge(), PADDING * 500))
                    await asyncio.sleep(0.0015)

            await probe(300)
            await scene.victim.mark()
            heard = len(other.heard)
            await probe(1_000)
            assert (await scene.victim.figures()).grown < REMEMBERED_BYTES
            assert raw.heard.closed is None
            assert all(len(one) <= SMALL_BYTES for one in other.heard[heard:])


async def test_a_peer_that_speaks_from_a_hundred_addresses_keeps_its_one_connection(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        for _ in range(100):
            with RawClient(scene.victim.address) as elsewhere:
                elsewhere.send(raw.packet(PING, PADDING * 300))
                await asyncio.sleep(0.003)
        raw.send(stream(0, message(5, sent=b"hello"), fin=True))
        assert await raw.until(lambda: 0 in raw.heard.finished)
        figures = await scene.victim.figures()
        assert figures.grown < 200_000
        assert figures.counters["connections"] == 2


async def test_connection_ids_without_end_end_the_connection(world: World) -> None:
    async with under_attack(world) as scene:
        await scene.victim.mark()
        for retiring, acknowledging in ((False, True), (True, True), (True, False)):
            raw = await scene.dial()
            raw.acknowledges = acknowledging
            await raw.flood(new_connection_id(one, os.urandom(8), one if retiring else 0) for one in range(3, 3_000))
            assert (await raw.end())[:2] == ("transport", CONNECTION_ID_LIMIT_ERROR)
        assert (await scene.victim.figures()).peak < MIB


async def test_a_peer_that_changes_its_connection_ids_for_ever_leaves_nothing_behind(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await raw.until(lambda: 1 in raw.heard.cids)
        await _churn(raw, 0, 100)
        await scene.victim.mark()
        await _churn(raw, 100, 600)  # a hundred bytes each would show
        assert raw.heard.closed is None
        assert (await scene.victim.figures()).grown < 50_000


async def _churn(raw: Raw, first: int, last: int) -> None:
    """Move from each of the victim's connection ids to the next, give it a new one of ours, and retire the old."""
    for number in range(first, last):
        if not await raw.until(functools.partial(raw.heard.cids.get, number + 1), 1.0):
            return
        cid = raw.heard.cids[number + 1]
        raw.send(PING, cid=cid)
        raw.send(new_connection_id(3 + number, os.urandom(8)), retire_connection_id(number), cid=cid)
        raw.quic._peer_cid.cid = cid


async def test_a_connection_id_named_again_after_it_was_used_is_a_typed_end(world: World) -> None:
    """With Retire Prior To it asks the victim to leave its last one for one that it has given back already."""
    async with under_attack(world) as scene:
        raw = await scene.dial()

        async def use(number: int) -> None:
            assert await raw.until(functools.partial(raw.heard.cids.get, number))
            raw.quic._peer_cid.cid = raw.heard.cids[number]
            raw.send(PING)
            raw.send(retire_connection_id(number - 1))
            await asyncio.sleep(0.02)

        await use(1)
        await use(2)
        raw.send(new_connection_id(7, os.urandom(8)))
        raw.send(new_connection_id(3, os.urandom(8)))
        await use(3)
        await use(4)
        raw.send(new_connection_id(7, os.urandom(8), 5))
        assert (await raw.end())[0] == "transport"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (new_token(b"x" * 50), PROTOCOL_VIOLATION),
        (HANDSHAKE_DONE, PROTOCOL_VIOLATION),
        (retire_connection_id(100), PROTOCOL_VIOLATION),
        (max_streams((1 << 60) + 1), FRAME_ENCODING_ERROR),
        (max_streams(VARINT_MAX, uni=True), FRAME_ENCODING_ERROR),
        (v(0x21), FRAME_ENCODING_ERROR),
        (stream(0, b"x", VARINT_MAX), FRAME_ENCODING_ERROR),
        (ack((0, 3))[:-1] + v(9), FRAME_ENCODING_ERROR),
        (v(0x0E) + v(0) + v(0) + v(100) + b"less", FRAME_ENCODING_ERROR),
        (crypto(b"x", 70_000), CRYPTO_BUFFER_EXCEEDED),
        (crypto(b"\x01\x00\x00\x00"), CRYPTO_ERROR + 10),
        (crypto(b"\x18\x00\x00\x01\x00"), CRYPTO_ERROR + 10),
        (b"\x31\x01x", PROTOCOL_VIOLATION),
        (stream(1, b"x"), 0x5),
        (stop_sending(2), 0x5),
        (max_stream_data(3, 5), 0x5),
    ],
    ids=lambda value: value[:6].hex() if isinstance(value, bytes) else hex(value),
)
async def test_a_frame_against_the_rules_ends_the_connection_with_its_code(
    world: World, frame: bytes, code: int
) -> None:
    server = await world.endpoint("node-1", on_message=world.echo)
    async with await Raw.dial(world.identity("node-0"), server.address) as raw:
        raw.send(frame)
        assert (await raw.end())[:2] == ("transport", code)
        assert not server.connections


async def test_crypto_without_end_after_the_handshake_ends_the_connection(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        head = b"\x04\xff\xff\xff"  # a ticket of 16 MiB
        await raw.flood(crypto(head + bytes(996) if not n else bytes(1_000), 1_000 * n) for n in range(300))
        assert (await raw.end())[0] == "transport"
        assert (await scene.victim.figures()).peak < MIB


async def test_crumbs_of_crypto_after_the_handshake_do_not_stop_the_loop(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        await raw.flood(crypto(b"x", 2 * n + 1) for n in range(32_000))
        figures = await scene.victim.figures()
        assert figures.turn_cpu_s < TURN_CPU_S
        assert figures.peak < MIB


async def test_a_large_message_sent_backwards_in_crumbs_does_not_stop_the_loop(world: World) -> None:
    """Its end first, then byte by byte what comes before: joining each to what follows would move megabytes."""
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.send(stream(0, message(8 * MIB)))
        assert await raw.until(lambda: raw.heard.max_stream_data.get(0, 0) > 8 * MIB)
        await scene.victim.mark()
        start = 2 * MIB
        assert await raw.pour((0, offset, bytes(7_900)) for offset in range(start, 8 * MIB - 7_900, 7_900)) > 5 * MIB
        await raw.flood((stream(0, b"x", offset) for offset in range(start - 1, start - 1_001, -1)), per_turn=4)
        figures = await scene.victim.figures()
        assert figures.turn_cpu_s < TURN_CPU_S
        assert figures.cpu_s < 4.0
        assert figures.peak < 8 * MIB + 4 * MIB
        assert raw.heard.closed is None


async def test_a_close_that_is_repeated_is_not_answered_for_ever(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        raw.send(new_token(b"x"))
        assert await raw.end() is not OPEN
        before = raw.heard.packets
        for _ in range(200):
            raw.send(PING)
            await asyncio.sleep(0.002)
        assert raw.heard.packets - before <= 10
        other = await scene.dial()
        for _ in range(50):
            other.send(connection_close(7, b"bye"))
        await asyncio.sleep(0.1)
        assert other.heard.packets <= 10


async def test_key_updates_one_after_the_other_are_refused_or_followed(world: World) -> None:
    async with under_attack(world) as scene:
        raw = await scene.dial()
        await scene.victim.mark()
        for number in range(500):
            raw.update_key()
            raw.send(PING)
            if number % 10 == 0:
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.1)
        assert (await scene.victim.figures()).grown < 250_000
