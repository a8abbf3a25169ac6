"""Unauthenticated peers, and attackers on the path: no packet of theirs locks others out, costs much, or is forwarded."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENCE_S
from tests.quic.attackers import SMALL_BYTES, Raw
from tests.quic.frames import PADDING, PING, crypto
from tests.quic.outsiders import (
    Middle,
    Mob,
    RawClient,
    cids,
    client_hello,
    initial,
    retry,
    version_negotiation,
)
from tests.quic.victims import MIB, TURN_CPU_S, Victim, beside, under_attack

from p2pnet.quic import Settings
from p2pnet.quic.engine import gate

if TYPE_CHECKING:
    from tests.quic.conftest import Until, World

    from p2pnet.quic import Endpoint

DIAL_S = 1.0
"""CPU time of the victim: a busy machine changes nothing of that."""
RESET_BYTES_MIN = 21  # RFC 9000 section 10.3
PROBES = 2_000


many_hosts = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on loopback")


@pytest.fixture
async def server(world: World) -> AsyncIterator[Endpoint]:
    """A victim in this process; what it raises fails the test."""
    faults: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: faults.append(context.get("exception") or context["message"]))
    yield await world.endpoint("node-1", on_message=world.echo)
    assert not faults


class Dials:
    """Honest dials, all of which must succeed, and what CPU time the victim spent until each had."""

    def __init__(self, victim: Victim, *endpoints: Endpoint) -> None:
        self._victim = victim
        self._endpoints = endpoints
        self._seconds: list[float] = []

    async def dial(self) -> None:
        """One by each endpoint."""
        for endpoint in self._endpoints:
            started = self._victim.cpu_s()
            connection = await endpoint.connect(self._victim.address, new=True, timeout_s=PATIENCE_S)
            self._seconds.append(self._victim.cpu_s() - started)
            connection.close()

    def check(self) -> None:
        """The victim had done little else before."""
        assert statistics.median(self._seconds) < DIAL_S


@many_hosts
async def test_one_host_that_never_ends_its_handshakes_locks_nobody_out(world: World) -> None:
    async with under_attack(world, trace=False) as scene:
        elsewhere = await world.endpoint("node-3", address=("127.0.0.2", 0))
        neighbour = await world.endpoint("node-4", address=("127.0.0.1", 0))
        dials = Dials(scene.victim, elsewhere, neighbour)
        with Mob(scene.victim.address) as mob:
            for number in range(300):
                mob.begin()
                await asyncio.sleep(0.005)
                if number % 100 == 99:
                    await dials.dial()
            await asyncio.sleep(0.2)
            for _ in range(3):
                await dials.dial()
        dials.check()
        counters = (await scene.victim.figures()).counters
        assert counters["handshakes"] <= Settings().handshakes_max


@many_hosts
async def test_many_hosts_that_never_end_their_handshakes_take_no_more_than_the_slots(world: World) -> None:
    async with under_attack(world, trace=False) as scene:
        mobs = [Mob(scene.victim.address, f"127.0.1.{host}") for host in range(1, 21)]
        await scene.victim.mark()
        for _ in range(15):
            for mob in mobs:
                mob.begin()
                await asyncio.sleep(0.007)
        await asyncio.sleep(0.3)
        figures = await scene.victim.figures()
        assert figures.counters["handshakes"] <= Settings().handshakes_max
        assert figures.rss < 64 * MIB
        for mob in mobs:
            mob.close()


async def test_initials_that_cannot_be_decrypted_begin_no_handshake(server: Endpoint) -> None:
    with RawClient(server.address) as raw_client:
        for _ in range(50):
            data = bytearray(initial(crypto(client_hello(b"12345678")), source_cid=b"12345678"))
            data[-1] ^= 1
            raw_client.send(bytes(data))
        await asyncio.sleep(0.2)
        assert server.counters()["handshakes"] == 0
        assert sum(map(len, raw_client.heard)) <= 50 * SMALL_BYTES


async def test_a_first_connection_id_has_at_least_eight_bytes(server: Endpoint, until: Until) -> None:
    """RFC 9000 section 7.2."""
    with RawClient(server.address) as raw_client:
        begun = 0
        for count in (0, 1, 2, 7, 8, 9, 20):
            source = os.urandom(8)
            hello = crypto(client_hello(source))
            answers = await raw_client.ask(initial(hello, destination_cid=os.urandom(count), source_cid=source), 0.15)
            if count >= 8:
                begun += 1
                await until(lambda: raw_client.heard)
            else:
                assert not answers, count
            assert server.counters()["handshakes"] == begun


async def test_an_unproved_address_is_sent_at_most_three_times_what_came_from_it(server: Endpoint) -> None:
    """RFC 9000 section 8.1; nothing is answered, so all that follows is repetition."""
    with RawClient(server.address) as raw_client:
        source = os.urandom(8)
        await raw_client.ask(initial(crypto(client_hello(source)), source_cid=source), 2.5)
        assert raw_client.heard
        assert sum(map(len, raw_client.heard)) <= 3 * SMALL_BYTES


FIRST = {
    "unknown version": initial(PING, version=0x1A2A3A4A),
    "token of chance": initial(PING, token=os.urandom(60)),
    "padding": initial(PADDING),
    "ping": initial(PING),
    "long message": initial(crypto(b"\x01\xff\xff\xff" + bytes(900))),
    "server hello": initial(crypto(b"\x02\x00\x00\x01\x00")),
    "another's hello": initial(crypto(client_hello(b"another "))),
    "close": initial(b"\x1c\x00\x00\x00"),
    "stream": initial(b"\x08\x00x"),
    "version negotiation": version_negotiation(os.urandom(8), os.urandom(8), 1),
    "retry": retry(os.urandom(8), os.urandom(8), os.urandom(30)),
    "handshake": b"\xe3\x00\x00\x00\x01\x08" + os.urandom(1_300),
    "cut short": initial(PING)[:1_199],
    "too small": initial(PING, size=400),
}


@pytest.mark.parametrize("what", sorted(FIRST))
async def test_no_first_packet_is_worth_more_than_its_size(server: Endpoint, what: str) -> None:
    data = FIRST[what]
    waits = what == "long message"  # the rest of it may come
    with RawClient(server.address) as raw_client:
        answers = await raw_client.ask(data, 0.1)
        assert sum(map(len, answers)) <= 3 * len(data)
        assert len(answers) <= 3
        assert server.counters()["handshakes"] <= waits


async def test_crumbs_of_a_pending_handshake_do_not_stop_the_loop(world: World) -> None:
    async with under_attack(world) as scene:
        await scene.victim.mark()
        with RawClient(scene.victim.address) as raw_client:
            one, other = os.urandom(8), os.urandom(8)
            for number in range(170):
                crumbs = b"".join(crypto(b"x", 2 * (number * 185 + n) + 1) for n in range(185))
                raw_client.send(initial(crumbs, destination_cid=one, source_cid=other, number=number))
                await asyncio.sleep(0.001)
            figures = await scene.victim.figures()
        assert figures.turn_cpu_s < TURN_CPU_S
        assert figures.peak < MIB


async def test_noise_reaches_nobody(world: World, server: Endpoint) -> None:
    rng = random.Random(7)
    async with beside(await world.endpoint("node-2"), server.address) as honest:
        with RawClient(server.address) as raw_client:
            for number in range(3_000):
                data = rng.randbytes(rng.choice([0, 1, 2, 5, 20, 21, 40, 100, 1_200, 1_400]))
                first = rng.choice([b"", b"\x40", b"\xc0\x00\x00\x00\x01\x08", b"\xd0\x6b\x33\x43\xcf\x14", b"\x00"])
                raw_client.send(first + data)
                if number % 20 == 0:
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.1)
            assert server.counters()["handshakes"] == 0
    honest.check()


# Stateless resets (RFC 9000 section 10.3)


async def test_a_packet_of_a_lost_connection_is_answered_by_a_shorter_reset(server: Endpoint) -> None:
    with RawClient(server.address) as raw_client:
        cid = os.urandom(8)
        tokens = set()
        for size in (*range(9, 60), 100, 1_200):
            answers = await raw_client.ask(b"\x40" + cid + os.urandom(size - 9), 0.02)
            for answer in answers:
                assert RESET_BYTES_MIN <= len(answer) < size
                assert answer[0] & 0xC0 == 0x40
                tokens.add(answer[-16:])
        assert len(tokens) == 1  # of one connection id, always the same
        answers = await raw_client.ask(b"\x40" + os.urandom(1_199), 0.05)
        assert [one[-16:] for one in answers] != [*tokens]


async def test_the_rate_of_resets_is_limited(server: Endpoint) -> None:
    started = time.monotonic()
    with RawClient(server.address) as raw_client:
        for number in range(PROBES):
            raw_client.send(b"\x40" + os.urandom(80))
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        most = gate._RESETS_PER_S * (1 + time.monotonic() - started)
        assert 0 < len(raw_client.heard) <= most


async def test_two_endpoints_do_not_reset_each_other_for_ever(world: World, server: Endpoint, until: Until) -> None:
    other = await world.endpoint("node-2")
    with RawClient(server.address) as left, RawClient(other.address) as right:
        left.on_datagram, right.on_datagram = right.send, left.send
        left.send(b"\x40" + os.urandom(1_199))
        await until(lambda: left.heard and right.heard)
        before = 0
        while (heard := len(left.heard) + len(right.heard)) != before:
            assert heard < 50
            before = heard
            await asyncio.sleep(0.2)


async def test_a_reset_counts_by_its_token_alone(world: World, until: Until) -> None:
    client = await world.endpoint("node-0")
    listener = Raw.listen(world.identity("node-3"))
    dialling = asyncio.ensure_future(client.connect(listener.address))
    async with await listener.accept() as raw:
        connection = await dialling
        token = raw.quic._host_cids[0].stateless_reset_token
        for size in (21, 40, 1_200):
            raw.send_datagram(b"\x40" + os.urandom(size - 1))
            raw.send_datagram(b"\x40" + connection_cid(raw) + os.urandom(size))
            raw.send_datagram(b"\x40" + os.urandom(size - 18) + token[:15] + bytes([token[15] ^ 1]))
        await asyncio.sleep(0.1)
        assert not connection.closed
        raw.send_datagram(b"\x40" + os.urandom(30) + token)
        await until(lambda: connection.closed)
        assert connection.close_reason.kind == "reset"


def connection_cid(raw: Raw) -> bytes:
    """The connection id by which the victim knows this connection."""
    return bytes(raw.quic._peer_cid.cid)


# On the path


async def test_version_negotiation_and_retry_floods_do_not_hinder_a_dial(world: World, server: Endpoint) -> None:
    def alter(data: bytes, to_server: bool) -> Iterable[bytes]:
        if not data[0] & 0x80:
            return [data]
        destination, source = cids(data)
        if to_server:  # the client's first words: an attacker off the path does not know its connection ids
            for _ in range(20):
                middle.to_client(version_negotiation(os.urandom(8), os.urandom(8), 0x1A2A3A4A))
                middle.to_client(version_negotiation(source, destination, 1, 0x6B3343CF))
                middle.to_client(retry(source, os.urandom(8), os.urandom(40)))
            return [data]
        late = [version_negotiation(destination, source, 0x1A2A3A4A), retry(destination, source, b"token")]
        return [data, *late * 10]

    with Middle(server.address, alter) as middle:
        client = await world.endpoint("node-0")
        connection = await client.connect(middle.address)
        for _ in range(10):
            assert (await connection.request(b"/x", b"ok", timeout_s=PATIENCE_S)).payload == b"ok"


async def test_repeated_changed_and_cut_copies_of_real_datagrams_change_nothing(world: World, server: Endpoint) -> None:
    rng = random.Random(11)

    def alter(data: bytes, _to_server: bool) -> Iterable[bytes]:
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        copies = [bytes(flipped), data[: rng.randrange(len(data) + 1)], data + rng.randbytes(rng.randrange(1, 30))]
        copies += [bytes(flipped[: rng.randrange(1, len(data) + 1)])]
        return [*copies, data, *copies, data]

    with Middle(server.address, alter) as middle:
        client = await world.endpoint("node-0")
        connection = await client.connect(middle.address)
        payloads = [os.urandom(rng.choice([1, 100, 5_000, 100_000])) for _ in range(30)]
        replies = await asyncio.gather(*(connection.request(b"/x", one, timeout_s=PATIENCE_S) for one in payloads))
        assert [one.payload for one in replies] == payloads
        assert sorted(one.payload for one in world.received) == sorted(payloads)  # each once
        assert not connection.closed


async def test_forged_packets_of_both_kinds_of_header_do_not_end_a_connection(world: World, server: Endpoint) -> None:
    with Middle(server.address) as middle:
        client = await world.endpoint("node-0")
        connection = await client.connect(middle.address)
        long = [data for data, _ in middle.passed if data[0] & 0x80]
        for data, to_server in [*middle.passed]:
            (middle.to_server if to_server else middle.to_client)(data)  # all of the handshake once more
        for one in long:
            forged = version_negotiation(*reversed(cids(one)), 0x1A2A3A4A)
            middle.to_client(forged)
            middle.to_server(forged)
            middle.to_client(initial(b"\x1c\x00\x00\x00", destination_cid=cids(one)[0], source_cid=cids(one)[1]))
            middle.to_server(initial(b"\x1c\x00\x00\x00", destination_cid=cids(one)[0], source_cid=cids(one)[1]))
        await asyncio.sleep(0.1)
        assert (await connection.request(b"/x", b"ok")).payload == b"ok"
