"""The real qp2p, both ways: what either side sends, the other gets whole and exactly once."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic import qp2p
from tests.quic.relay import Relay, narrow

from p2pnet.quic import Endpoint, Settings, Trust

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

pytestmark = pytest.mark.timeout(qp2p.BUILD_S + 180)  # the first test may have to build the program

SIZES = [1, 200, 65_536, 1 << 20, 16 << 20]
MTU_BYTES = 1_400
ALL_STRANGERS = Settings(initials_burst=0, initials_per_s=0.0)
"""Nobody gets in without proving its address: every handshake begins with a Retry."""


@pytest.fixture(scope="session")
def program() -> Path:
    return qp2p.program()


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def payloads(*sizes: int) -> list[bytes]:
    """Different ones, for one byte each as far as a byte goes."""
    noise = random.Random(7)
    return [noise.randbytes(size) for size in sizes]


async def listening(world: World, settings: Settings | None = None) -> Endpoint:
    """Our server for strangers; it answers with what it got."""
    return await world.endpoint(trust=Trust.anyone(), on_message=world.echo, settings=settings)


async def dialled(world: World, address: Any) -> Any:
    """Our client's connection to a stranger."""
    return await (await world.endpoint(trust=Trust.anyone())).connect(address, timeout_s=PATIENCE_S)


async def test_it_gets_what_we_send_whatever_its_size(world: World, program: Path, until: Until) -> None:
    sent = payloads(*SIZES)
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        for payload in sent:
            await connection.send(b"head", b"destination", payload)
        await until(lambda: len(server.reports) == len(sent))
    assert Counter(server.hashes) == Counter(map(digest, sent))
    assert {(one["header"], one["dst"], one["bi"]) for one in server.reports} == {
        (b"head".hex(), b"destination".hex(), False)
    }


async def test_it_answers_our_requests_whatever_their_size(world: World, program: Path) -> None:
    sent = payloads(*SIZES)
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        for payload in sent:
            reply = await connection.request(b"head", payload)
            assert reply.payload == payload
            assert reply.header == b"head"
    assert server.hashes == [digest(payload) for payload in sent]
    assert all(one["bi"] for one in server.reports)


async def test_its_stream_objects_and_ours_meet(world: World, program: Path, until: Until) -> None:
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        stream, replies = connection.open_bi()
        await stream.send_user_msg(b"h", b"dd", b"ppp")
        await stream.finish()
        reply = await replies.read()
        assert (reply.header, reply.dst, reply.payload) == (b"h", b"dd", b"ppp")
        lone = connection.open_uni()
        lone.set_priority(3)
        await lone.send_user_msg(b"h", b"dd", b"alone")
        await lone.finish()
        await until(lambda: len(server.reports) == 2)


async def test_its_server_sends_to_us_on_the_connection_we_dialled(world: World, program: Path, until: Until) -> None:
    sent = payloads(*SIZES)
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        connection.on_message = world.echo
        await asyncio.gather(*(connection.send(b"h", b"back", payload) for payload in sent))
        await until(lambda: len(world.received) == len(sent))
    assert Counter(one.payload for one in world.received) == Counter(sent)
    assert not any(one.wants_reply for one in world.received)


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
async def test_it_gets_ten_thousand_small_messages_once_each(
    world: World, program: Path, until: Until, bi: bool
) -> None:
    sent = [b"message %05d" % number for number in range(10_000)]
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        if bi:
            replies = await asyncio.gather(*(connection.request(b"", payload) for payload in sent))
            assert [reply.payload for reply in replies] == sent
        else:
            await asyncio.gather(*(connection.send(b"", b"", payload) for payload in sent))
        await until(lambda: len(server.reports) >= len(sent))
    assert Counter(server.hashes) == Counter(map(digest, sent))


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
@pytest.mark.parametrize(
    ("count", "size", "in_flight"), [(1, 1, 1), (500, 200, 64), (20, 1 << 20, 4), (2, 16 << 20, 2)]
)
async def test_we_get_what_it_sends_whatever_its_size(
    world: World, program: Path, count: int, size: int, in_flight: int, bi: bool
) -> None:
    server = await listening(world)
    reports = await qp2p.load(program, server.address[1], count, size, in_flight, bi=bi)
    assert_exactly_once(world, reports, count)
    assert all(len(one.payload) == size for one in world.received)


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
async def test_we_get_its_ten_thousand_small_messages_once_each(world: World, program: Path, bi: bool) -> None:
    server = await listening(world)
    reports = await qp2p.load(program, server.address[1], 10_000, 8, 512, bi=bi)
    assert_exactly_once(world, reports, 10_000)


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
async def test_it_proves_its_address_when_asked(world: World, program: Path, bi: bool) -> None:
    server = await listening(world, ALL_STRANGERS)
    reports = await qp2p.load(program, server.address[1], 50, 2_000, 8, bi=bi)
    assert_exactly_once(world, reports, 50)
    assert server.counters()["retries_sent_total"] == 1


async def test_many_of_its_clients_at_once_are_served_alike(world: World, program: Path) -> None:
    server = await listening(world)
    loads = [qp2p.load(program, server.address[1], 100, 10_000, 16, bi=True) for _ in range(4)]
    for reports in await asyncio.gather(*loads):
        assert Counter(one["hash"] for one in reports) == Counter(one["reply"] for one in reports)
        assert len({one["hash"] for one in reports}) == 100
    assert len(world.received) == 400


async def test_a_path_of_1400_bytes_carries_our_messages_to_it(world: World, program: Path, until: Until) -> None:
    sent = payloads(1, 200, 65_536, 2 << 20)
    async with qp2p.echo_server(program) as server:
        with Relay(server.address, drop=narrow(MTU_BYTES)) as path:
            connection = await dialled(world, path.address)
            for payload in sent:
                assert (await connection.request(b"", payload)).payload == payload
                await connection.send(b"", b"", payload)
            await until(lambda: len(server.reports) == 2 * len(sent))
    assert Counter(server.hashes) == Counter({digest(payload): 2 for payload in sent})


@pytest.mark.parametrize("bi", [False, True], ids=["uni", "bi"])
async def test_a_path_of_1400_bytes_carries_its_messages_to_us(world: World, program: Path, bi: bool) -> None:
    server = await listening(world)
    with Relay(server.address, drop=narrow(MTU_BYTES)) as path:
        reports = await qp2p.load(program, path.address[1], 5, 1 << 20, 2, bi=bi)
        assert_exactly_once(world, reports, 5)


async def test_a_peer_that_was_held_up_gets_every_message_once(world: World, program: Path, until: Until) -> None:
    sent = payloads(*range(100, 150))
    async with qp2p.echo_server(program) as server:
        connection = await dialled(world, server.address)
        await connection.send(b"", b"", b"the round trip is known")
        server.process.send_signal(signal.SIGSTOP)
        sends = [asyncio.ensure_future(connection.send(b"", b"", payload)) for payload in sent]
        await asyncio.sleep(0.5)  # several probe timeouts: a machine that is busy holds up a process as long
        server.process.send_signal(signal.SIGCONT)
        await asyncio.gather(*sends)
        await until(lambda: len(server.reports) > len(sent))
    assert Counter(server.hashes[1:]) == Counter(map(digest, sent))


def assert_exactly_once(world: World, reports: list[qp2p.Report], count: int) -> None:
    """Of `count` different messages that qp2p's client sent, each came once, and each answer was right."""
    sent = Counter(one["hash"] for one in reports)
    assert len(sent) == sent.total() == count
    assert Counter(digest(one.payload) for one in world.received) == sent
    assert all(one.get("reply", one["hash"]) == one["hash"] for one in reports)
    assert not world.malformed
