"""Probe datagrams: what the lab orders is sent through the network, and what arrives is logged, within bounds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.kit import Bench, expect, until
from tests.node.seamkit import BLOCKED, SeamedNode, SeamWorld, delay, network
from tests.quic.virtual import VirtualWorld, play

from p2pnet.model.control import (
    PROBES_PER_ORDER_MAX,
    ROUTE_NETWORK,
    ROUTE_PROBE,
    ROUTE_PROBES,
    ControlRefusal,
    NetworkPush,
    NetworkTaken,
    ProbeArrived,
    ProbeOrder,
    Probes,
    ProbeSent,
    ProbesOrdered,
    ProbesRequest,
    ProbeTrain,
)
from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.node.precise_timer import LoopTimer
from p2pnet.node.probes import (
    ARRIVALS_PER_S,
    PROBE,
    PROBE_BYTES_MAX,
    PROBE_MAGIC,
    PROBE_VERSION,
    PROBES_AT_ONCE,
    PROBES_PER_S,
    PROBES_PER_TURN,
    TRAIN_NS_MAX,
    TRAINS_MAX,
    ProbeLog,
    ProbeSender,
    probe_tag,
    read_probe,
)
from p2pnet.peering.clock import NS
from p2pnet.peering.dial_policy import Candidate
from p2pnet.peering.peers import PeerLink

MS = 1_000_000


class ProbedNode:
    """A node of a SeamWorld that probes; its links are made by hand."""

    def __init__(self, node: SeamedNode, world: VirtualWorld) -> None:
        self.name, self.node, self.seam = node.name, node, node.seam
        self.links: dict[str, PeerLink] = {}
        self.incarnation = f"start of {node.name}"

        def now() -> int:
            return round(world.loop.time() * NS)

        self.prober = ProbeSender(
            (self.incarnation, "boot"),
            node.seam,
            self.links.get,
            clock_ns=now,
            timer=lambda ring: LoopTimer(world.loop, ring, now),
        )
        node.endpoint.on_foreign = self.prober.arrived

    def train(self, peer: str, count: int, **settings: int) -> Any:
        return self.prober.order(ProbeOrder([ProbeTrain(peer, count, **settings)]))

    def read(self, cursor: int = 0, limit: int = 5_000) -> Probes:
        return self.prober.log.read(ProbesRequest(cursor, limit))


Scenario = Callable[[VirtualWorld, ProbedNode, ProbedNode], Awaitable[None]]


def act(scenario: Scenario) -> None:
    """Two nodes with a link, in virtual time."""

    async def main(world: VirtualWorld) -> None:
        seams = SeamWorld.virtual(world)
        nodes = [ProbedNode(node, world) for node in await seams.nodes_up(2)]
        one, other = nodes
        connection = await seams.connect(one.node, other.node)
        ends = {one.name: connection, other.name: other.node.endpoint.connections[0]}
        for mine, theirs in ((one, other), (other, one)):
            candidate = Candidate(theirs.incarnation, ours=mine is one, since_ns=0)
            mine.links[theirs.name] = PeerLink(theirs.name, ends[mine.name], candidate)
        try:
            await scenario(world, one, other)
        finally:
            for node in nodes:
                node.prober.stop()
            seams.close()
        assert world.reported == []

    play(main, limit_s=3_000)


def test_a_train_arrives_at_its_intervals_after_the_delay_of_the_path() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        one.node.shape(node_1=delay(40))
        assert one.train("node-1", 5, interval_ns=20 * MS, size=200, train=77) == ProbesOrdered(5)
        await asyncio.sleep(1)
        arrived = other.read().arrived
        assert [(entry.peer, entry.train, entry.seq, entry.size) for entry in arrived] == [
            ("node-0", 77, number, 200) for number in range(5)
        ]
        for before, after in itertools.pairwise(arrived):
            assert after.sent_ns - before.sent_ns == pytest.approx(20 * MS, abs=0.2 * MS)
        for entry in arrived:
            assert entry.arrived_ns - entry.sent_ns == pytest.approx(40 * MS, abs=0.2 * MS)
        (sent,) = one.read().sent
        assert sent == ProbeSent("node-1", 77, 5, arrived[0].sent_ns, arrived[4].sent_ns, sent.late_ns)
        assert sent.late_ns < MS
        assert (one.prober.counts["sent"], other.prober.counts["arrived"]) == (5, 5)

    act(scenario)


def test_a_late_timer_delays_the_probes_that_are_due_and_none_after_them_and_that_is_said() -> None:
    async def scenario(world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        def now() -> int:
            return round(world.loop.time() * NS)

        class Coarse(LoopTimer):
            """Rings at multiples of 7 ms."""

            def set(self, at_ns: int) -> None:
                super().set(-(-at_ns // (7 * MS)) * 7 * MS)

        one.prober._make_timer = lambda ring: Coarse(world.loop, ring, now)
        started = now()
        one.train("node-1", 30, interval_ns=5 * MS)
        await asyncio.sleep(1)
        (sent,) = one.read().sent
        assert sent.last_ns - started < (29 * 5 + 8) * MS, "late ones do not add up"
        assert 5 * MS <= sent.late_ns < 7 * MS
        assert len(other.read().arrived) == 30

    act(scenario)


def test_a_train_without_an_interval_is_sent_at_once_and_spread_out_by_the_bandwidth() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        one.node.shape(node_1=LinkShape(bandwidth_bps=8_000_000.0))
        one.train("node-1", 50, size=972)  # with their headers a millisecond each
        await asyncio.sleep(1)
        arrived = other.read().arrived
        assert len(arrived) == 50
        assert arrived[-1].sent_ns - arrived[0].sent_ns < MS
        assert arrived[-1].arrived_ns - arrived[0].arrived_ns == pytest.approx(49 * MS, abs=0.2 * MS)

    act(scenario)


def test_probes_pass_the_downlink_of_whom_they_are_for() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        other.node.shape(down=AccessShape(8_000_000.0))
        one.train("node-1", 20, size=972)
        await asyncio.sleep(1)
        arrived = other.read().arrived
        assert arrived[-1].arrived_ns - arrived[0].arrived_ns == pytest.approx(19 * MS, abs=0.2 * MS)

    act(scenario)


def test_probes_that_the_network_drops_are_sent_and_do_not_arrive() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        one.node.shape(node_1=BLOCKED)
        one.train("node-1", 10)
        await asyncio.sleep(1)
        assert one.read().sent[0].count == 10
        assert other.read().arrived == []

    act(scenario)


def test_probes_count_neither_as_bytes_of_the_link_nor_in_the_network_s_counters() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        shapes = [
            LinkShape(loss=0.5),
            LinkShape(loss=0.5, bandwidth_bps=1e6, queue_bytes=3_000),
            LinkShape(loss=0.5, bandwidth_bps=1e6, queue_kind="codel"),
            LinkShape(mtu=1_280),
            BLOCKED,
        ]
        access = AccessShape(2e6, 50_000)
        for shape in shapes:
            one.node.shape(up=access, node_1=shape)
            other.node.shape(down=access)
            await asyncio.sleep(5)

            def seen() -> list[Any]:
                links = [node.links[peer].connection for node, peer in ((one, "node-1"), (other, "node-0"))]
                counters = [one.seam.path_counters()["node-1"], one.seam.up_counters, other.seam.down_counters]
                return [*((link.sent_bytes, link.received_bytes) for link in links), *map(repr, counters)]

            before = seen()
            one.train("node-1", 200, size=1_400)
            await asyncio.sleep(0.2)  # before the keep-alive
            assert seen() == before, shape
            assert one.read().sent[-1].count == 200
        assert other.read().arrived

    act(scenario)


def test_a_train_for_a_peer_without_a_link_is_left_out_and_named() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        trains = [ProbeTrain("node-1", 3), ProbeTrain("node-9", 5), ProbeTrain("node-9", 1), ProbeTrain("lab", 1)]
        assert one.prober.order(ProbeOrder(trains)) == ProbesOrdered(3, ["node-9", "lab"])

    act(scenario)


def test_a_train_ends_with_its_link_and_says_how_far_it_came() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        one.train("node-1", 100, interval_ns=10 * MS, train=5)
        await asyncio.sleep(0.295)
        del one.links["node-1"]
        await asyncio.sleep(1)
        (sent,) = one.read().sent
        assert (sent.train, sent.count) == (5, 30)

    act(scenario)


def test_trains_run_beside_each_other() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        trains = [ProbeTrain("node-1", 10, interval_ns=10 * MS, train=number) for number in range(5)]
        assert one.prober.order(ProbeOrder(trains)) == ProbesOrdered(50)
        await asyncio.sleep(0.2)
        assert len(other.read().arrived) == 50
        assert {sent.train for sent in one.read().sent} == set(range(5))

    act(scenario)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (ProbeTrain("node-1", 0), "count"),
        (ProbeTrain("node-1", -5), "count"),
        (ProbeTrain("node-1", PROBES_PER_ORDER_MAX + 1), "at most"),
        (ProbeTrain("node-1", 1, size=PROBE.size - 1), "size"),
        (ProbeTrain("node-1", 1, size=PROBE_BYTES_MAX + 1), "size"),
        (ProbeTrain("node-1", 1, interval_ns=-1), "interval_ns"),
        (ProbeTrain("node-1", 2, interval_ns=TRAIN_NS_MAX), "interval_ns"),
        (ProbeTrain("node-1", 1, train=-1), "train"),
        (ProbeTrain("node-1", 1, train=1 << 64), "train"),
    ],
)
def test_an_order_out_of_bounds_is_refused_as_a_whole(train: ProbeTrain, said: str) -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        answer = one.prober.order(ProbeOrder([ProbeTrain("node-1", 1), train]))
        assert isinstance(answer, ControlRefusal)
        assert answer.code == "bad-request"
        assert said in answer.message
        assert one.prober.counts["sent"] == 0

    act(scenario)


def test_the_extremes_that_are_allowed_work() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        trains = [
            ProbeTrain("node-1", 1, size=PROBE.size, train=(1 << 64) - 1),
            ProbeTrain("node-1", 1, size=PROBE_BYTES_MAX),
            ProbeTrain("node-1", 2, interval_ns=TRAIN_NS_MAX // 2, train=9),
        ]
        assert one.prober.order(ProbeOrder(trains)) == ProbesOrdered(4)
        await asyncio.sleep(TRAIN_NS_MAX / NS)
        arrived = other.read().arrived
        assert {entry.train for entry in arrived} == {(1 << 64) - 1, 0, 9}
        assert max(entry.size for entry in arrived) == PROBE_BYTES_MAX
        assert one.prober.order(ProbeOrder([])) == ProbesOrdered(0)

    act(scenario)


def test_a_node_sends_no_more_probes_than_its_rate_allows() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        for _ in range(PROBES_AT_ONCE // PROBES_PER_ORDER_MAX):
            assert isinstance(one.train("node-1", PROBES_PER_ORDER_MAX), ProbesOrdered)
        refused = one.train("node-1", 1)
        assert isinstance(refused, ControlRefusal)
        assert refused.code == "not-yet"
        await asyncio.sleep(1)
        assert isinstance(one.train("node-1", PROBES_PER_S), ProbesOrdered)
        assert isinstance(one.train("node-1", 10), ControlRefusal)

    act(scenario)


def test_a_node_has_a_bounded_number_of_trains_under_way() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        slow = [ProbeTrain("node-1", 2, interval_ns=100 * NS)] * TRAINS_MAX
        assert one.prober.order(ProbeOrder(slow)) == ProbesOrdered(2 * TRAINS_MAX)
        assert isinstance(one.train("node-1", 1), ControlRefusal)
        await asyncio.sleep(101)
        assert isinstance(one.train("node-1", 1), ProbesOrdered)

    act(scenario)


def test_a_large_train_leaves_the_loop_to_others_between_its_parts() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        one.train("node-1", 4 * PROBES_PER_TURN)
        assert one.prober.counts["sent"] == PROBES_PER_TURN
        await asyncio.sleep(0.01)
        assert one.prober.counts["sent"] == 4 * PROBES_PER_TURN

    act(scenario)


def test_what_is_ordered_is_not_sent_after_a_stop() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, _other: ProbedNode) -> None:
        one.train("node-1", 10, interval_ns=10 * MS)
        one.prober.stop()
        await asyncio.sleep(1)
        assert one.prober.counts["sent"] == 1

    act(scenario)


# --- what arrives ---


def probe(
    incarnation: str, *, train: int = 1, number: int = 0, sent_ns: int = 5, version: int = PROBE_VERSION
) -> bytes:
    return PROBE.pack(PROBE_MAGIC, version, probe_tag(incarnation), train, number, sent_ns)


def test_probes_are_taken_from_linked_peers_alone() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        data, address = probe(other.incarnation), one.node.endpoint.address
        other.prober.arrived(data, ("10.9.9.9", 9))
        other.prober.arrived(data, (address[0], address[1] + 1))
        link = other.links.pop("node-0")
        other.prober.arrived(data, address)
        assert other.prober.counts == {"stray": 3}
        other.links["node-0"] = link
        other.seam.addresses.saw(("10.9.9.9", 9), "node-0")  # it once was there
        other.prober.arrived(data, ("10.9.9.9", 9))
        assert other.prober.counts == {"stray": 4}
        other.prober.arrived(data, address)
        assert [entry.peer for entry in other.read().arrived] == ["node-0"]

    act(scenario)


def test_a_probe_for_an_earlier_start_of_the_node_is_stray() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        other.prober.arrived(probe("an earlier start"), one.node.endpoint.address)
        assert other.prober.counts == {"stray": 1}

    act(scenario)


def test_a_peer_that_floods_is_cut_off_and_others_are_not() -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        data, address = probe(other.incarnation), one.node.endpoint.address
        for _ in range(PROBES_AT_ONCE + 500):
            other.prober.arrived(data, address)
        assert other.prober.counts == {"arrived": PROBES_AT_ONCE, "flooded": 500}
        await asyncio.sleep(0.1)
        for _ in range(ARRIVALS_PER_S):
            other.prober.arrived(data, address)
        assert other.prober.counts["arrived"] == PROBES_AT_ONCE + ARRIVALS_PER_S // 10

    act(scenario)


@given(st.binary(max_size=PROBE_BYTES_MAX + 10))
def test_any_bytes_are_a_probe_or_none(data: bytes) -> None:
    found = read_probe(data)
    if found is not None:
        assert data.startswith(PROBE_MAGIC)
        assert PROBE.size <= len(data) <= PROBE_BYTES_MAX


@given(st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.data())
def test_a_probe_says_what_was_written_and_a_broken_one_nothing(
    tag: bytes, train: int, number: int, data: st.DataObject
) -> None:
    written = PROBE.pack(PROBE_MAGIC, PROBE_VERSION, tag, train, number, train)
    assert read_probe(written) == read_probe(written + bytes(99)) == (tag, train, number, train)
    assert read_probe(written[: data.draw(st.integers(0, PROBE.size - 1))]) is None
    place = data.draw(st.integers(0, 4))  # of the magic or the version
    broken = bytearray(written)
    broken[place] ^= data.draw(st.integers(1, 255))
    assert read_probe(bytes(broken)) is None


@given(st.lists(st.binary(max_size=80), max_size=40))
def test_any_bytes_from_a_linked_peer_are_counted_and_harm_nothing(pieces: list[bytes]) -> None:
    async def scenario(_world: VirtualWorld, one: ProbedNode, other: ProbedNode) -> None:
        for piece in pieces:
            other.prober.arrived(piece, one.node.endpoint.address)
            other.prober.arrived(PROBE_MAGIC + piece, one.node.endpoint.address)
        assert other.prober.counts.total() == 2 * len(pieces)
        assert other.read().arrived == []

    act(scenario)


# --- the log ---


def entry(number: int) -> ProbeArrived:
    return ProbeArrived("node-1", 1, number, 0, 0, 64)


def test_the_log_is_read_by_cursor_and_counts_what_it_had_to_drop() -> None:
    log = ProbeLog("me", "boot", capacity=10)
    assert log.read(ProbesRequest()) == Probes("me", "boot", [], [], 0)
    for number in range(25):
        log.add(entry(number))
    log.add(ProbeSent("node-1", 3, 1, 0, 0, 0))
    first = log.read(ProbesRequest(limit=4))
    assert ([one.seq for one in first.arrived], first.cursor, first.missed) == ([16, 17, 18, 19], 20, 16)
    rest = log.read(ProbesRequest(first.cursor))
    assert ([one.seq for one in rest.arrived], rest.cursor, rest.missed) == ([20, 21, 22, 23, 24], 26, 0)
    assert [one.train for one in rest.sent] == [3]
    assert log.read(ProbesRequest(26)).arrived == []


@given(st.integers(0, 60), st.integers(-10, 10**20), st.integers(-10, 10**20))
def test_any_cursor_and_limit_give_a_stretch_of_the_log(count: int, cursor: int, limit: int) -> None:
    log = ProbeLog("me", "boot", capacity=20)
    for number in range(count):
        log.add(entry(number))
    found = log.read(ProbesRequest(cursor, limit))
    assert 0 <= found.cursor <= count
    assert found.missed >= 0
    assert [one.seq for one in found.arrived] == list(range(found.cursor - len(found.arrived), found.cursor))


# --- a whole node ---


async def test_the_lab_orders_probes_and_reads_them_at_the_other_end(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    push = NetworkPush(network({"node-1": delay(30)}, version=1))
    expect(NetworkTaken, await bench.ask("node-0", ROUTE_NETWORK, push))
    udp = (await bench.peers("node-1")).udp_received
    order = ProbeOrder([ProbeTrain("node-1", 20, interval_ns=5 * MS, size=1_000, train=1 << 40)])
    assert expect(ProbesOrdered, await bench.ask("node-0", ROUTE_PROBE, order)).count == 20

    async def arrived() -> list[ProbeArrived] | None:
        probes = expect(Probes, await bench.ask("node-1", ROUTE_PROBES, ProbesRequest()))
        return probes.arrived if len(probes.arrived) == 20 else None

    entries = await until(arrived, "all have arrived")
    assert min(one.arrived_ns - one.sent_ns for one in entries) >= 29.8 * MS
    assert (await bench.peers("node-1")).udp_received - udp < 20_000, "their bytes are nobody's"
    sent = expect(Probes, await bench.ask("node-0", ROUTE_PROBES, ProbesRequest()))
    assert [(one.peer, one.train, one.count) for one in sent.sent] == [("node-1", 1 << 40, 20)]
