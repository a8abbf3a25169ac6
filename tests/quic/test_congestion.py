"""Loss recovery and congestion control over paths with delay, in virtual time: windows, timers, keys."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aioquic import tls
from tests.quic.virtual import Roaming, VirtualWorld, play

from p2pnet.netem import LinkShape
from p2pnet.quic import Connection, Message, Settings

ETHERNET = 1_452
INITIAL_WINDOW = 14_720  # RFC 9002 section 7.2
MIB = 1 << 20
WINDOW = "congestion_window_bytes"
LOST = "lost_packets_total"
SENT = "sent_packets_total"


async def pair(
    world: VirtualWorld, settings: Settings | None = None, **options: Any
) -> tuple[Connection, Connection, Roaming]:
    """Both ends of a connection, the dialer's first, and what the dialer sends through."""
    settings = settings or Settings(max_datagram_bytes=ETHERNET)
    options.setdefault("on_message", world.echo)
    server = await world.endpoint("node-1", settings=settings, **options)
    roaming = Roaming(world.transport())
    client = await world.endpoint("node-0", settings=settings, transport=roaming, on_message=world.echo)
    connection = await client.connect(server.address)
    await asyncio.sleep(1)
    return connection, server.connections[0], roaming


class Rings:
    """Counts how often timers of connections ring, as the loop sees it."""

    def __init__(self, loop: Any) -> None:
        self.count = 0
        call_at = loop.call_at

        def counted(when: float, callback: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(getattr(callback, "__self__", None), Connection):
                return call_at(when, callback, *arguments, **options)

            def ring() -> None:
                self.count += 1
                callback(*arguments)

            return call_at(when, ring, **options)

        loop.call_at = counted


# Timers


@pytest.mark.parametrize("congestion", ["reno", "cubic"])
@pytest.mark.parametrize("loss", [0.0, 0.005, 0.05])
def test_timers_ring_less_than_twice_a_packet_whatever_is_lost(loss: float, congestion: str) -> None:
    """One left in the past would ring without end: the loop in virtual time says so."""

    async def scenario(world: VirtualWorld) -> None:
        connection, other, _ = await pair(world, Settings(max_datagram_bytes=ETHERNET, congestion=congestion))
        rings = Rings(world.loop)
        await connection.send(b"/x", b"", b"x" * MIB)
        packets = connection.counters()[SENT] + other.counters()[SENT]
        assert (connection.counters()[LOST] > 0) == (loss > 0)
        assert 0 < rings.count < 2 * packets
        await asyncio.sleep(2)
        rings.count = 0
        await asyncio.sleep(60)
        assert rings.count < 60

    play(scenario, delay_s=0.025, loss=loss, seed=5)


def test_timers_of_a_sender_that_hears_nothing_any_more_ring_ever_more_rarely() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other, _ = await pair(world, Settings(idle_s=60, max_datagram_bytes=ETHERNET))
        rings = Rings(world.loop)
        sending = asyncio.ensure_future(connection.send(b"/x", b"", b"x" * MIB))
        await asyncio.sleep(0.2)
        world.network.disconnect(connection.endpoint.address, other.endpoint.address)
        rings.count = 0
        await asyncio.sleep(59)
        assert not sending.done()
        assert rings.count < 200
        sending.cancel()

    play(scenario, delay_s=0.025)


# The window


@pytest.mark.parametrize("congestion", ["reno", "cubic"])
@pytest.mark.parametrize("after_loss", [False, True])
def test_the_window_does_not_grow_while_the_sender_has_little_to_say(after_loss: bool, congestion: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _, _ = await pair(world, Settings(max_datagram_bytes=ETHERNET, congestion=congestion))
        if after_loss:
            world.network.shape = LinkShape(delay_ns=25_000_000, loss=0.02)
            await connection.send(b"/x", b"", b"x" * (MIB // 2))
            world.network.shape = LinkShape(delay_ns=25_000_000)
        await connection.request(b"/x", b"x")
        before = connection.counters()[WINDOW]
        for _ in range(500):
            await connection.request(b"/x", b"x" * 200)
        assert connection.counters()[WINDOW] == before

    play(scenario, delay_s=0.025, seed=1)


@pytest.mark.parametrize("congestion", ["reno", "cubic"])
def test_the_window_grows_while_it_holds_the_sender_back(congestion: str) -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, _, _ = await pair(world, Settings(max_datagram_bytes=ETHERNET, congestion=congestion))
        assert connection.counters()[WINDOW] <= INITIAL_WINDOW
        await connection.send(b"/x", b"", b"x" * MIB)
        assert connection.counters()[WINDOW] > 10 * INITIAL_WINDOW
        assert connection.counters()[LOST] == 0

    play(scenario, delay_s=0.025)


def test_another_path_begins_with_a_fresh_window_and_round_trip_time() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other, roaming = await pair(world)
        await other.send(b"/x", b"", b"x" * MIB)
        grown = other.counters()[WINDOW]
        assert grown > 10 * INITIAL_WINDOW
        identity = (other.id, connection.id)
        roaming.move(world.network.transport(("10.0.1.1", 0)))
        await connection.request(b"/x", b"from elsewhere")
        await asyncio.sleep(1)
        assert other.address[0] == "10.0.1.1"
        assert other.counters()[WINDOW] <= INITIAL_WINDOW
        await other.send(b"/x", b"", b"x" * MIB)
        assert other.counters()[WINDOW] > 10 * INITIAL_WINDOW
        assert (other.id, connection.id) == identity
        assert other.endpoint._pool.find(roaming.current.system_address) is other

    play(scenario, delay_s=0.025)


def test_many_changes_of_address_while_a_large_message_flows_lose_nothing_of_it() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other, roaming = await pair(world)
        payload = bytes(range(256)) * (4 * MIB // 256)
        request = asyncio.ensure_future(connection.request(b"/x", payload, timeout_s=250, reply_bytes_max=5 * MIB))
        for number in range(5):
            await asyncio.sleep(0.15)
            roaming.move(world.network.transport((f"10.0.1.{number}", 0)))
        assert (await request).payload == payload
        assert not connection.closed
        assert other.endpoint.connections == [other]

    play(scenario, delay_s=0.01, limit_s=600)


def test_packets_that_probe_for_a_larger_path_are_lost_without_meaning_congestion() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other, _ = await pair(world, Settings(max_datagram_bytes=8_952))
        await connection.request(b"/x", b"x" * MIB, reply_bytes_max=2 * MIB)
        assert world.network.counters()["too_large_total"] > 2
        for one in (connection, other):
            counters = one.counters()
            assert 1_300 < counters["mtu_bytes"] <= 1_372
            assert counters[LOST] == 0
            assert counters[WINDOW] > 10 * INITIAL_WINDOW

    play(scenario, delay_s=0.025, mtu_bytes=1_400)


def test_a_lost_flight_of_data_does_mean_congestion() -> None:
    """So the test before sees nothing that is not there."""

    async def scenario(world: VirtualWorld) -> None:
        connection, other, _ = await pair(world)
        await connection.send(b"/x", b"", b"x" * MIB)
        before = connection.counters()[WINDOW]
        lose = 3

        def losing(source: Any, _destination: Any, data: bytes) -> bool:
            nonlocal lose
            lose -= source == connection.endpoint.address and len(data) > 1_000
            return not 0 <= lose < 3

        world.network.on_send = losing
        await connection.send(b"/x", b"", b"x" * MIB)
        assert connection.counters()[LOST] >= 2
        assert connection.counters()[WINDOW] <= before / 2 * 1.5
        assert other.counters()[LOST] == 0

    play(scenario, delay_s=0.025)


# Keys


def phases(connection: Any) -> int:
    """The phase of an end's present keys, 0 or 1."""
    return int(connection.engine._quic._cryptos[tls.Epoch.ONE_RTT].key_phase)


@pytest.mark.parametrize("loss", [0.0, 0.01])
@pytest.mark.parametrize("asks", ["dialer", "dialled", "both"])
def test_keys_are_renewed_before_their_limit_and_traffic_goes_on_in_both_directions(asks: str, loss: float) -> None:
    async def scenario(world: VirtualWorld) -> None:
        often = Settings(key_update_packets=100, max_datagram_bytes=ETHERNET)
        never = Settings(max_datagram_bytes=ETHERNET)
        server = await world.endpoint("node-1", on_message=world.echo, settings=never if asks == "dialer" else often)
        client = await world.endpoint("node-0", on_message=world.echo, settings=never if asks == "dialled" else often)
        connection = await client.connect(server.address)
        other = server.connections[0]
        seen: list[tuple[int, int]] = []

        async def watch() -> None:
            while True:
                now = (phases(connection), phases(other))
                if not seen or seen[-1] != now:
                    seen.append(now)
                await asyncio.sleep(0.005)

        watching = asyncio.ensure_future(watch())
        for number in range(20):
            there, back = await asyncio.gather(
                connection.request(b"/x", bytes([number]) * 20_000), other.request(b"/x", bytes([number]) * 20_000)
            )
            assert there.payload == back.payload == bytes([number]) * 20_000
        watching.cancel()
        for end in (0, 1):
            turned = sum(one[end] != another[end] for one, another in itertools.pairwise(seen))
            assert turned >= 4, seen
        assert not connection.closed

    play(scenario, delay_s=0.01, loss=loss, seed=2)


def test_an_update_of_keys_costs_no_packet_that_is_on_its_way() -> None:
    async def scenario(world: VirtualWorld) -> None:
        connection, other, _ = await pair(world, Settings(key_update_packets=500, max_datagram_bytes=ETHERNET))
        work = [one.request(b"/x", b"x" * 200_000, timeout_s=100) for one in (connection, other) for _ in range(10)]
        await asyncio.gather(*work)
        assert connection.counters()[LOST] == other.counters()[LOST] == 0

    play(scenario, delay_s=0.02)


def test_what_a_path_does_is_counted_alike_at_both_ends() -> None:
    async def scenario(world: VirtualWorld) -> None:
        held: list[Message] = []
        connection, other, _ = await pair(world, on_message=lambda _connection, message: held.append(message))
        await connection.send(b"/x", b"", b"x" * 100_000)
        await asyncio.sleep(1)
        ours, theirs = connection.counters(), other.counters()
        assert ours["sent_bytes_total"] == theirs["received_bytes_total"] > 100_000
        assert theirs["sent_bytes_total"] == ours["received_bytes_total"]
        assert 0.05 <= ours["rtt_s"] < 0.06
        assert ours["mtu_bytes"] == theirs["mtu_bytes"] == ETHERNET
        assert ours["bytes_in_flight"] == theirs["bytes_in_flight"] == 0
        assert ours["held_bytes"] == theirs["held_bytes"] == 0
        assert 70 <= ours[SENT] < 200
        assert ours[LOST] == theirs[LOST] == 0

    play(scenario, delay_s=0.025)
