"""The emulated network of a node acts on its datagrams: by peer, in both directions, and never on the lab's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.seamkit import BLOCKED, SeamWorld, delay
from tests.quic.conftest import Until, World
from tests.quic.virtual import VirtualWorld, play

from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.node.precise_timer import PreciseTimer, Ring, make_timer
from p2pnet.quic import HandshakeFailed, Settings

Scenario = Callable[[SeamWorld], Awaitable[None]]
MBIT = 1_000_000.0


def act(scenario: Scenario, *, limit_s: float = 3_000.0, **network: Any) -> None:
    """Run a scenario in virtual time."""

    async def main(world: VirtualWorld) -> None:
        seams = SeamWorld.virtual(world)
        try:
            await scenario(seams)
        finally:
            seams.close()
        assert world.reported == []

    play(main, limit_s=limit_s, **network)


async def took(work: Awaitable[Any]) -> float:
    """Virtual seconds that this takes."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await work
    return loop.time() - started


def test_a_request_takes_the_delays_of_both_directions() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        one.shape(node_1=delay(30))
        other.shape(node_0=delay(70))
        connection = await seams.connect(one, other)
        for _ in range(5):
            assert await took(connection.request(b"/x", b"hello")) == pytest.approx(0.1, abs=0.001)

    act(scenario)


def test_a_handshake_takes_the_delays_from_its_first_datagram() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        one.shape(node_1=delay(100))
        assert await took(seams.connect(one, other)) >= 0.2  # the dialler's two flights
        other.shape(node_0=delay(100))
        assert await took(seams.connect(one, other)) >= 0.4

    act(scenario)


def test_one_peer_is_shaped_and_another_is_not() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other, third = await seams.nodes_up(3)
        one.shape(node_1=delay(50))
        far, near = await seams.connect(one, other), await seams.connect(one, third)
        assert await took(far.request(b"/x", b"hello")) == pytest.approx(0.05, abs=0.001)
        assert await took(near.request(b"/x", b"hello")) < 0.001

    act(scenario)


def test_without_a_network_the_endpoint_has_no_hooks() -> None:
    async def scenario(seams: SeamWorld) -> None:
        (one,) = await seams.nodes_up(1)

        def hooks() -> list[bool]:
            found = [one.endpoint.egress, one.endpoint.ingress, one.endpoint.on_incoming]
            return [hook is not None for hook in found]

        assert hooks() == [False, False, False]
        one.shape(node_1=LinkShape())
        assert hooks() == [False, False, False], "clear paths cost nothing"
        one.shape(node_1=delay(1))
        assert hooks() == [True, False, False]
        one.shape(node_1=delay(1), down=AccessShape(MBIT))
        assert hooks() == [True, True, False]
        one.seam.isolate(True)
        assert hooks() == [True, True, True]
        one.shape()
        assert hooks() == [True, False, True]
        one.seam.isolate(False)
        assert hooks() == [False, False, False]

    act(scenario)


def test_a_dial_to_a_blocked_peer_times_out_and_so_does_one_from_it() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        one.shape(node_1=BLOCKED)
        for dialler, dialled in ((one, other), (other, one)):
            with pytest.raises(HandshakeFailed) as failed:
                await seams.connect(dialler, dialled, timeout_s=3)
            assert failed.value.kind == "timeout"
        assert one.endpoint.connections == other.endpoint.connections == []

    act(scenario)


def test_a_link_that_is_blocked_one_way_ends_by_silence_at_both_ends() -> None:
    async def scenario(seams: SeamWorld) -> None:
        settings = Settings(idle_s=6)
        one, other = await seams.nodes_up(2, settings=settings)
        connection = await seams.connect(one, other)
        back = other.endpoint.connections[0]
        one.shape(node_1=BLOCKED)
        await asyncio.sleep(4)
        assert not connection.closed
        assert not back.closed
        await asyncio.sleep(20)
        for end in (connection, back):
            assert end.close_reason is not None
            assert end.close_reason.kind == "idle"
        one.shape()
        assert (await (await seams.connect(one, other)).request(b"/x", b"healed")).payload == b"healed"

    act(scenario)


def test_the_lab_is_untouched_while_everything_is_blocked() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, _other = await seams.nodes_up(2)
        lab = await seams.lab()
        early = await lab.connect(one.endpoint.address, expect=seams.world.uri("node-0"))
        one.shape(node_1=BLOCKED, up=AccessShape(8_000.0, 100), down=AccessShape(8_000.0, 100))
        late = await lab.connect(one.endpoint.address, expect=seams.world.uri("node-0"), new=True)
        for connection in (early, late):
            assert await took(connection.request(b"/x", b"?" * 50_000)) < 0.01

    act(scenario)


def test_a_retry_of_the_gate_is_shaped_by_the_address_of_the_peer() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one = await seams.node("node-0", on_incoming=lambda _address: "retry")
        other = await seams.node("node-1")
        plain = await took(seams.connect(other, one))
        one.shape(node_1=delay(200))
        # The Retry and two more flights of the server's: without the first it would be 0.2 less.
        assert await took(seams.connect(other, one)) >= plain + 0.59
        one.shape(node_1=BLOCKED)
        received = other.endpoint.received_bytes
        with pytest.raises(HandshakeFailed):
            await seams.connect(other, one, timeout_s=1)
        assert one.endpoint.counters()["retries_sent_total"] > 2
        assert other.endpoint.received_bytes == received

    act(scenario)


def test_a_peer_is_known_by_whom_the_dial_expects_when_no_list_has_its_address() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        elsewhere = await seams.world.endpoint("node-1")
        one.shape(node_1=BLOCKED)
        with pytest.raises(HandshakeFailed):
            await one.endpoint.connect(elsewhere.address, expect=seams.world.uri("node-1"), timeout_s=1)
        assert elsewhere.received_bytes == 0
        # From now on it is known, so that what the gate answers there is the peer's too.
        assert one.seam.addresses.peer_at(elsewhere.address) == "node-1"
        assert other.endpoint.received_bytes == 0

    act(scenario)


def test_a_stranger_is_not_shaped_until_it_has_proved_that_it_is_a_peer() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        elsewhere = await seams.world.endpoint("node-1")  # the same leaf, at an address that no list has
        one.shape(node_1=delay(100))
        connection = await elsewhere.connect(one.endpoint.address, expect=seams.world.uri("node-0"))
        assert await took(connection.request(b"/x", b"hello")) == pytest.approx(0.1, abs=0.001)
        assert other.endpoint.connections == []

    act(scenario)


def test_loss_is_what_was_asked_and_counted() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        connection = await seams.connect(one, other)
        one.shape(node_1=LinkShape(loss=0.1))
        for _ in range(700):
            await connection.request(b"/x", b"y" * 5_000)
        counters = one.seam.path_counters()["node-1"]
        total = counters.passed + counters.lost
        assert total > 1_000
        assert counters.lost / total == pytest.approx(0.1, abs=0.03)
        assert counters.dropped == counters.lost

    act(scenario)


def test_a_downlink_is_shared_by_all_peers_and_spares_the_lab() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other, third = await seams.nodes_up(3)
        lab = await seams.lab()
        control = await lab.connect(one.endpoint.address)
        links = [await seams.connect(node, one) for node in (other, third)]
        one.shape(down=AccessShape(8 * MBIT, 1 << 20))
        fast = asyncio.ensure_future(took(control.request(b"/x", b"?" * 50_000)))
        # Two uploads of a quarter of a megabyte through a megabyte a second.
        seconds = await took(asyncio.gather(*(link.send(b"/x", b"", bytes(250_000)) for link in links)))
        assert 0.5 <= seconds < 0.75
        assert await fast < 0.01
        assert one.seam.down_counters.bytes_passed >= 500_000

    act(scenario)


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=30))
def test_any_bytes_pass_a_downlink_and_harm_nothing(pieces: list[tuple[bytes, bool]]) -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        connection = await seams.connect(other, one)
        one.shape(down=AccessShape(8 * MBIT))
        strange = ("10.9.9.9", 9)
        one.endpoint._dispatcher._arrived(
            [(data, other.endpoint.address if known else strange) for data, known in pieces]
        )
        assert (await connection.request(b"/x", b"hello")).payload == b"hello"

    act(scenario)


def test_an_uplink_is_shared_by_all_peers() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other, third = await seams.nodes_up(3)
        links = [await seams.connect(one, node) for node in (other, third)]
        one.shape(up=AccessShape(8 * MBIT, 1 << 20))
        work = asyncio.ensure_future(took(asyncio.gather(*(link.send(b"/x", b"", bytes(250_000)) for link in links))))
        await asyncio.sleep(0.1)
        assert one.seam.up_queued_bytes() > 0
        assert 0.5 <= await work < 0.75

    act(scenario)


def test_what_waits_stays_when_the_shape_changes() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        connection = await seams.connect(one, other)
        one.shape(node_1=LinkShape(bandwidth_bps=MBIT, queue_bytes=1 << 20))
        work = asyncio.ensure_future(connection.send(b"/x", b"", bytes(100_000)))
        await asyncio.sleep(0.02)
        waits = one.seam.queued_bytes("node-1")
        assert waits > 1_000
        passed = one.seam.path_counters()["node-1"].passed
        one.shape()
        assert one.seam.queued_bytes("node-1") == 0
        assert one.seam.path_counters()["node-1"].passed > passed, "it has left, and is not dropped"
        await work

    act(scenario)


def test_the_path_mtu_is_found_and_followed_when_it_shrinks_and_grows() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        for node in (one, other):
            node.shape(**{f"node_{1 if node is one else 0}": LinkShape(mtu=1_400)})
        connection = await seams.connect(one, other)

        async def talk(seconds: float) -> float:
            for _ in range(int(seconds * 2)):
                await connection.request(b"/x", b"y" * 5_000)
                await asyncio.sleep(0.5)
            return connection.counters()["mtu_bytes"]

        assert 1_400 - 28 - 20 <= await talk(30) <= 1_400 - 28
        one.shape(node_1=LinkShape(mtu=1_300))
        assert 1_300 - 28 - 20 <= await talk(60) <= 1_300 - 28
        too_large = one.seam.path_counters()["node-1"].too_large
        assert too_large > 0
        one.shape(node_1=LinkShape(mtu=1_500))
        assert 1_500 - 28 - 20 <= await talk(700) <= 1_500 - 28

    act(scenario)


def test_an_isolated_node_hears_no_peer_and_says_nothing_until_it_is_let_in() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, other = await seams.nodes_up(2)
        lab = await seams.lab()
        one.seam.isolate(True)
        sent = one.endpoint.sent_bytes
        dial = asyncio.ensure_future(seams.connect(other, one))
        await asyncio.sleep(2)
        assert not dial.done()
        assert one.endpoint.sent_bytes == sent, "no refusal either"
        assert await took((await lab.connect(one.endpoint.address)).request(b"/x", b"hello")) < 0.01
        one.seam.isolate(False)
        waited = await took(dial)
        assert waited < 4, "the peer's dial goes on"

    act(scenario)


def test_a_peer_at_an_unknown_address_cannot_finish_its_handshake_with_an_isolated_node() -> None:
    async def scenario(seams: SeamWorld) -> None:
        one, _other = await seams.nodes_up(2)
        elsewhere = await seams.world.endpoint("node-1")
        one.seam.isolate(True)
        dial = asyncio.ensure_future(elsewhere.connect(one.endpoint.address, expect=seams.world.uri("node-0")))
        await asyncio.sleep(2)
        assert not dial.done()
        one.seam.isolate(False)
        assert await took(dial) < 4

    act(scenario)


async def test_a_starved_process_releases_what_is_due_in_order_and_says_how_late_it_was(
    seam_world: World, until: Until
) -> None:
    seams = SeamWorld.real(seam_world)
    one, other = await seams.nodes_up(2)
    connection = await seams.connect(one, other)
    one.shape(node_1=delay(20))
    received: list[bytes] = []
    other.endpoint.connections[0].on_message = lambda _connection, message: received.append(message.payload)
    work = [asyncio.ensure_future(connection.send(b"/x", b"", bytes([number]))) for number in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    time.sleep(0.3)  # as a process that is paused, or gets no CPU
    await until(lambda: len(received) == 10)
    assert received == [bytes([number]) for number in range(10)]
    assert one.seam.late_ns / 1e9 >= 0.2
    await asyncio.gather(*work)
    seams.close()


async def test_a_timer_with_nothing_due_does_not_ring(seam_world: World) -> None:
    seams = SeamWorld.real(seam_world)
    one, other = await seams.nodes_up(2)
    rings = 0

    def counting(ring: Ring) -> PreciseTimer:
        def counted() -> None:
            nonlocal rings
            rings += 1
            ring()

        return make_timer(counted)

    one.seam._make_timer = counting
    connection = await seams.connect(one, other)
    one.shape(node_1=delay(5))
    await connection.request(b"/x", b"hello")
    await asyncio.sleep(0.1)
    before = rings
    assert before > 0
    await asyncio.sleep(0.1)
    assert rings - before <= 5, "a loop that spins would ring hundreds of times"
    seams.close()


async def test_on_loopback_a_delay_is_as_long_as_asked(seam_world: World) -> None:
    seams = SeamWorld.real(seam_world)
    one, other = await seams.nodes_up(2)
    connection = await seams.connect(one, other)
    loop = asyncio.get_running_loop()

    async def fastest() -> float:
        times = []
        for _ in range(20):
            started = loop.time()
            await connection.request(b"/x", b"hello")
            times.append(loop.time() - started)
        return min(times)

    one.shape(node_1=delay(12))
    other.shape(node_0=delay(8))
    # Of twenty the fastest: a busy machine adds to a delay, and takes nothing from it.
    assert await fastest() >= 0.0195
    seams.close()


async def test_on_loopback_a_block_holds_both_ways_and_the_lab_passes(seam_world: World, until: Until) -> None:
    seams = SeamWorld.real(seam_world)
    one, other = await seams.nodes_up(2, settings=Settings(idle_s=1))
    lab = await seams.lab()
    connection = await seams.connect(one, other)
    one.shape(node_1=BLOCKED)
    other.shape(node_0=BLOCKED)
    await until(lambda: connection.closed and not other.endpoint.connections)
    assert connection.close_reason is not None
    assert connection.close_reason.kind == "idle"
    for dialler, dialled in ((one, other), (other, one)):
        with pytest.raises(HandshakeFailed):
            await seams.connect(dialler, dialled, timeout_s=0.3)
        control = await lab.connect(dialler.endpoint.address, expect=seam_world.uri(dialler.name))
        assert (await control.request(b"/x", b"hello")).payload == b"hello"
    one.shape()
    other.shape()
    assert (await (await seams.connect(one, other)).request(b"/x", b"healed")).payload == b"healed"
    seams.close()


async def test_on_loopback_a_bulk_transfer_keeps_to_the_bandwidth(seam_world: World) -> None:
    seams = SeamWorld.real(seam_world)
    one, other = await seams.nodes_up(2)
    connection = await seams.connect(one, other)
    one.shape(node_1=LinkShape(bandwidth_bps=20 * MBIT))
    loop = asyncio.get_running_loop()
    started = loop.time()
    await connection.send(b"/x", b"", bytes(1_000_000))
    assert loop.time() - started >= 0.4, "a megabyte at 2.5 megabytes a second"
    seams.close()
