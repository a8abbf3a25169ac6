"""Any bytes give a message or a typed error: random frames, handshakes and transport parameters, from a printed seed.

Each case depends on the seed and its number alone: `P2PNET_FUZZ_SEED` repeats a run, `make soak` takes long ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnection
from tests.patience import PATIENCE_S
from tests.quic.attackers import HandshakeError, Raw
from tests.quic.frames import (
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
    v,
)
from tests.quic.outsiders import RawClient, initial
from tests.quic.victims import MIB, under_attack

from p2pnet.model.errors import P2pnetError
from p2pnet.quic import Settings

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

SEED = int(os.environ.get("P2PNET_FUZZ_SEED", "2026"))
SHORT, LONG = 60, 10_000  # cases
SIZES = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    11,
    63,
    64,
    127,
    128,
    508,
    511,
    512,
    516,
    1000,
    65_535,
    MIB,
    MIB + 1,
    16 * MIB,
    1 << 30,
]
SIZES += [(1 << 60) - 1, 1 << 60, VARINT_MAX]
NUMBERS = [0, 0, 1, 2, 3, 5, 100]
CIDS = [0, 1, 8, 8, 8, 20, 21]
CHECK_EVERY = 20
SOON = {"idle_s": 2.0, "handshake_s": 1.0}
"""So that what was left to its timeout is gone before the count at the end."""

lengths = pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)])


def some_bytes(rng: random.Random) -> bytes:
    """Noise, or a message, or a beginning of one."""
    whole = message(3, b"h", b"abc")
    kind = rng.random()
    if kind < 0.3:
        return whole
    if kind < 0.5:
        return message(rng.choice([0, 3, 100, MIB, (1 << 32) - 1]), rng.randbytes(rng.choice([0, 3])), b"ab")
    return rng.randbytes(rng.choice([0, 1, 15, 16, 17, 40, 100]))


def some_stream(rng: random.Random) -> bytes:
    """A STREAM frame of any form."""
    kind = rng.randrange(0x08, 0x10)
    data = some_bytes(rng)
    frame = v(kind) + v(rng.choice(SIZES[:19]))
    if kind & 4:
        frame += v(rng.choice(SIZES))
    if kind & 2:
        frame += v(len(data) + rng.choice([0, 0, 0, 0, 5]))
    return frame + data


def some_ack(rng: random.Random) -> bytes:
    """An ACK frame, its ranges in no order that need make sense."""
    count = rng.choice([0, 1, 3, 40])
    frame = v(rng.choice([2, 3])) + v(rng.choice([0, 1, 5, 30, *SIZES])) + v(rng.choice(SIZES)) + v(count)
    frame += v(rng.choice([0, 1, 2]))
    frame += b"".join(v(rng.randrange(3)) + v(rng.randrange(3)) for _ in range(count))
    return frame + (v(1) * 3 if frame[0] == 3 else b"")


FRAMES: list[Callable[[random.Random], bytes]] = [
    some_stream,
    some_stream,
    some_stream,
    some_ack,
    lambda rng: bytes([rng.randrange(2)]),
    lambda _rng: ack((0, 3)),
    lambda rng: reset_stream(rng.choice(SIZES[:19]), rng.choice(SIZES), rng.choice(SIZES)),
    lambda rng: stop_sending(rng.choice(SIZES[:19]), rng.choice(SIZES)),
    lambda rng: crypto(rng.randbytes(rng.choice([0, 1, 50, 300])), rng.choice(SIZES)),
    lambda rng: new_token(rng.randbytes(rng.choice([0, 10]))),
    lambda rng: max_data(rng.choice(SIZES)),
    lambda rng: max_stream_data(rng.choice(SIZES[:19]), rng.choice(SIZES)),
    lambda rng: max_streams(rng.choice(SIZES), uni=rng.random() < 0.5),
    lambda rng: v(rng.choice([0x14, 0x16, 0x17])) + v(rng.choice(SIZES)),
    lambda rng: v(0x15) + v(rng.choice(SIZES[:19])) + v(rng.choice(SIZES)),
    lambda rng: new_connection_id(rng.choice(NUMBERS), rng.randbytes(rng.choice(CIDS)), rng.choice(NUMBERS[:-1])),
    lambda rng: retire_connection_id(rng.choice([0, 1, 2, 3, 9])),
    lambda rng: path_challenge(rng.randbytes(8)),
    lambda rng: path_response(rng.randbytes(8)),
    lambda rng: v(0x1C) + v(rng.choice(SIZES)) + v(0) + v(2) + b"\xff\xfe",
    lambda rng: connection_close(rng.choice(SIZES), rng.randbytes(3)),
    lambda _rng: b"\x1e",
    lambda rng: v(rng.choice([0x30, 0x31])) + b"\x05ddddd",
    lambda rng: v(rng.choice([0x1F, 0x21, 0x40, 0x7FFF, VARINT_MAX])),
    lambda rng: rng.randbytes(rng.choice([1, 3, 20])),
]  # fmt: skip


def some_packet(rng: random.Random, most: int = 1_100) -> bytes:
    """The frames of one packet."""
    return b"".join(rng.choice(FRAMES)(rng) for _ in range(rng.choice([1, 1, 2, 3, 6])))[:most]


def part_of_a_message(rng: random.Random, first: int) -> bytes:
    """Some bytes of a message, anywhere in it, on one of a few streams: parts overlap, repeat and come in no order."""
    stream_id = first + 4 * rng.randrange(20)
    whole = message(200 + stream_id, sent=bytes([stream_id]) * (200 + stream_id))
    start = rng.choice([0, 0, rng.randrange(len(whole))])
    stop = rng.choice([len(whole), len(whole), rng.randrange(start, len(whole) + 1)])
    return stream(stream_id, whole[start:stop], start, fin=stop == len(whole))


def lawful(rng: random.Random, raw: Raw, first: int) -> bytes:
    """A frame that is mostly allowed, so that a connection lives to see many. `first` is the sender's first stream id."""
    kind = rng.randrange(14)
    any_stream = rng.choice([first, first | 2]) + 4 * rng.randrange(20)
    if kind < 6:
        return part_of_a_message(rng, rng.choice([first, first | 2]))
    if kind == 6:
        return reset_stream(any_stream, rng.randrange(50), rng.choice([0, 218 + any_stream, 300, 1_000]))
    if kind == 7:
        return stop_sending(first + 4 * rng.randrange(20), rng.randrange(50))
    if kind == 8:
        low = rng.randrange(raw.received_highest + 1)
        return ack((low, rng.randrange(low, raw.received_highest + 1)))
    if kind == 9:
        limits = [max_data(rng.choice(SIZES)), max_stream_data(first + 4 * rng.randrange(20), rng.choice(SIZES))]
        return rng.choice([*limits, max_streams(rng.choice(SIZES[:-1]), uni=rng.random() < 0.5)])
    if kind == 10:
        number = 3 + raw.heard.packets // 4
        return new_connection_id(number, rng.randbytes(8), rng.choice([0, number - 1, number]))
    if kind == 11:
        return retire_connection_id(rng.randrange(len(raw.heard.cids) + 1))
    if kind == 12:
        challenge = raw.heard.challenges[-1] if raw.heard.challenges else rng.randbytes(8)
        return rng.choice([path_challenge(), path_response(challenge)])
    return rng.choice([b"\x01", b"\x00" * 5, v(0x14) + v(7), v(0x16) + v(3), v(0x15) + v(any_stream) + v(2)])


async def some_talk(rng: random.Random, raw: Raw, first: int) -> None:
    """Packets until the victim has enough: lawful ones first, in most cases, then any."""
    raw.acknowledges = rng.random() < 0.7
    for _ in range(rng.choice([0, 10, 40])):
        known = list(raw.heard.cids.values())
        cid = rng.choice(known) if known and rng.random() < 0.1 else None
        raw.send(b"".join(lawful(rng, raw, first) for _ in range(rng.choice([1, 2, 4])))[:1_100], cid=cid)
        if rng.random() < 0.2:
            await raw.changed(0.002)
    for _ in range(rng.choice([1, 3, 8])):
        raw.send(some_packet(rng))
    await raw.changed(0.005)
    raw.send(connection_close())


def cases(count: int) -> Iterator[tuple[int, random.Random]]:
    """(number, chance) of each case."""
    print(f"P2PNET_FUZZ_SEED={SEED}")
    for number in range(1, count + 1):
        yield number, random.Random(f"{SEED}/{number}")


async def hold(scene: Any, count: int, case: Callable[[random.Random], Awaitable[None]]) -> None:
    """Run cases against the scene's victim: nothing raised, nothing kept, nobody waits."""
    warm = 20
    for number, rng in cases(count):
        await case(rng)
        if number == warm:
            await asyncio.sleep(0.3)
            await scene.victim.mark()
        if number % CHECK_EVERY == 0:
            faults = (await scene.victim.figures()).faults
            assert not faults, f"by case {number - CHECK_EVERY + 1} to {number} of seed {SEED}: {faults}"
    for _ in range(round(PATIENCE_S / 0.2)):  # connections that were closed are remembered for three probe timeouts
        await asyncio.sleep(0.2)
        figures = await scene.victim.figures()
        if figures.counters["connections"] + figures.counters["handshakes"] == 1 and figures.grown < 2 * MIB:
            break
    assert figures.counters["connections"] + figures.counters["handshakes"] == 1
    assert figures.grown < 2 * MIB
    assert figures.peak < 64 * MIB


@lengths
async def test_any_frames_from_a_client_give_a_message_or_a_typed_end(world: World, count: int) -> None:
    async with under_attack(world, settings=SOON) as scene:
        identity = world.identity("node-0")

        async def case(rng: random.Random) -> None:
            async with await Raw.dial(identity, scene.victim.address) as raw:
                await some_talk(rng, raw, 0)

        await hold(scene, count, case)


@lengths
async def test_any_frames_from_a_server_give_a_reply_or_a_typed_end(world: World, until: Until, count: int) -> None:
    faults: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: faults.append(context.get("exception") or context["message"]))
    client = await world.endpoint("node-0", settings=Settings(idle_s=2.0))
    identity = world.identity("node-3")
    for number, rng in cases(count):
        listener = Raw.listen(identity)
        dialling = asyncio.ensure_future(client.connect(listener.address, timeout_s=PATIENCE_S))
        async with await listener.accept() as raw:
            connection = await dialling
            asked = [asyncio.ensure_future(connection.request(b"/x", b"?", timeout_s=5)) for _ in range(3)]
            await some_talk(rng, raw, 1)
            for result in await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE_S):
                assert not isinstance(result, Exception) or isinstance(result, P2pnetError), (number, SEED, result)
        assert not faults, f"by case {number} of seed {SEED}: {faults}"
    await until(lambda: not client.connections)


@lengths
async def test_any_frames_in_initials_give_at_most_a_typed_end(world: World, count: int) -> None:
    async with under_attack(world, settings=SOON) as scene:
        with RawClient(scene.victim.address) as stranger:

            async def case(rng: random.Random) -> None:
                destination, source = (
                    rng.randbytes(rng.choice([8, 8, 8, 18, 20])),
                    rng.randbytes(rng.choice([0, 8, 20])),
                )
                for number in range(rng.choice([1, 2, 4])):
                    cut = rng.randrange(30) if rng.random() < 0.1 else 0
                    frames = some_packet(rng)
                    if rng.random() < 0.5:
                        frames = crypto(some_hello(rng)) + frames[: 1_100 - 500]
                    data = initial(
                        frames,
                        destination_cid=destination,
                        source_cid=source,
                        number=number,
                        version=rng.choice([1, 1, 1, 0x6B3343CF]),
                        token=rng.randbytes(rng.choice([0, 0, 0, 0, 20])),
                    )
                    stranger.send(data[: len(data) - cut] + rng.randbytes(cut))
                await asyncio.sleep(0.004)

            await hold(scene, count, case)


def some_hello(rng: random.Random) -> bytes:
    """A TLS message of a client's first flight, or something like it."""
    body = rng.randbytes(rng.choice([0, 34, 80, 300]))
    head = bytes([rng.choice([1, 1, 1, 2, 11, 20])]) + len(body).to_bytes(3, "big")
    return head + (b"\x03\x03" + body[2:] if rng.random() < 0.8 else body)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few changes to real bytes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not out:
            break
        at = rng.randrange(len(out))
        kind = rng.randrange(4)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del out[at : at + rng.choice([1, 2, 8])]
        else:
            out[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
    return bytes(out)


def mutates(rng: random.Random) -> Callable[[QuicConnection], None]:
    """Change what aioquic is about to send of one flight of its handshake, or its transport parameters."""
    chosen = rng.choice([tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE, tls.Epoch.HANDSHAKE, None])

    def prepare(quic: QuicConnection) -> None:
        parameters = quic._serialize_transport_parameters
        push = quic._push_crypto_data

        def pushed() -> None:
            for epoch, buf in quic._crypto_buffers.items():
                data = buf.data
                if data and epoch is chosen:
                    changed = _length_fixed(rng, data, mutated(rng, data))
                    buf.seek(0)
                    buf.push_bytes(changed)
            push()

        if chosen is None:
            quic._serialize_transport_parameters = lambda: mutated(rng, parameters())  # type: ignore[method-assign]
        else:
            quic._push_crypto_data = pushed  # type: ignore[method-assign]

    return prepare


def _length_fixed(rng: random.Random, before: bytes, after: bytes) -> bytes:
    """Mostly with the message's own length set right, so that more than the length is judged."""
    if len(after) > 4 and rng.random() < 0.7 and int.from_bytes(before[1:4], "big") + 4 == len(before):
        return after[:1] + (len(after) - 4).to_bytes(3, "big") + after[4:]
    return after


@lengths
async def test_any_handshake_of_a_client_gives_a_connection_or_a_typed_end(world: World, count: int) -> None:
    async with under_attack(world, settings=SOON) as scene:
        identity = world.identity("node-0")

        async def case(rng: random.Random) -> None:
            with contextlib.suppress(HandshakeError):
                raw = await Raw.dial(identity, scene.victim.address, prepare=mutates(rng), timeout_s=0.05)
                raw.send(connection_close())
                raw.close()

        await hold(scene, count, case)


@lengths
async def test_any_handshake_of_a_server_gives_a_connection_or_a_typed_error(world: World, count: int) -> None:
    faults: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: faults.append(context.get("exception") or context["message"]))
    client = await world.endpoint("node-0")
    identity = world.identity("node-3")
    for number, rng in cases(count):
        listener = Raw.listen(identity, prepare=mutates(rng))
        dialling = asyncio.ensure_future(client.connect(listener.address, timeout_s=0.1))
        with contextlib.suppress(HandshakeError, TimeoutError):
            (await listener.accept(timeout_s=0.1)).close()
        listener.close()
        result = (await asyncio.gather(dialling, return_exceptions=True))[0]
        assert not isinstance(result, Exception) or isinstance(result, P2pnetError), (number, SEED, result)
        assert not faults, f"by case {number} of seed {SEED}: {faults}"
        if not isinstance(result, BaseException):
            result.close()
