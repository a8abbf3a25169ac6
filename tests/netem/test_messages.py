"""Messages in virtual time: when they arrive, beside real QUIC connections over the packet model too."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from random import Random
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, S, never_asked, patient
from tests.quic.virtual import VirtualWorld, play

from p2pnet.model import limits
from p2pnet.model.network import PACKET_OVERHEAD_BYTES, AccessShape, LinkShape, jitter_max_ns
from p2pnet.netem import messages
from p2pnet.netem.messages import (
    ANSWER_ALLOTMENT_BYTES,
    DATAGRAM_BYTES,
    PACKET_HEAD_BYTES,
    REQUEST_ALLOTMENT_BYTES,
    AccessLink,
    Landing,
    MessageFlow,
    MessagePath,
)
from p2pnet.quic import Settings
from p2pnet.quic.engine import recovery
from p2pnet.quic.ledger import windows
from p2pnet.quic.settings import DATAGRAM_BYTES_MAX

KIB, MIB = 1 << 10, 1 << 20
DELAY = 50 * MS
DELAYED = LinkShape(delay_ns=DELAY)
FRAMED = 16 + len(b"/blob/updates")  # what the framing adds to the messages of the real connection


class Net:
    """Flows between nodes, and a heap of what is to happen to them."""

    def __init__(self, rng: Any = never_asked) -> None:
        self.rng = rng
        self.now = 5 * S
        self.access = {name: AccessLink() for name in "abcd"}
        self.arrivals: dict[Any, int] = {}
        self.flows: list[MessageFlow] = []
        self.events = 0
        self._heap: list[tuple[int, int, Any]] = []
        self._order = count()

    def flow(self, shape: LinkShape, a: str = "a", b: str = "b", back: LinkShape | None = None) -> MessageFlow:
        flow = MessageFlow(
            self.access[a],
            self.access[b],
            path=MessagePath(shape),
            back=MessagePath(back or LinkShape(delay_ns=shape.delay_ns)),
            rng=self.rng,
            arrived=self._arrived,
            lands=lambda landing: heappush(self._heap, (landing.last_ns, next(self._order), landing)),
        )
        self.flows.append(flow)
        return flow

    def send(self, flow: MessageFlow, what: Any, size: int) -> None:
        flow.send(what, size, self.now)
        self.plan(flow)

    def plan(self, flow: MessageFlow) -> None:
        at = flow.next_at()
        if at is not None:
            heappush(self._heap, (max(at, self.now), next(self._order), flow))

    def run(self, until: int | None = None) -> dict[Any, int]:
        while self._heap and (until is None or self._heap[0][0] <= until):
            self.now, _, what = heappop(self._heap)
            self.events += 1
            assert self.events < 100_000
            flow = what
            if isinstance(what, Landing):
                flow = what.flow
                flow.land(what, self.now)
            else:
                flow.pump(self.now)
            self.plan(flow)
        self.now = max(self.now, until or 0)
        return self.arrivals

    def _arrived(self, what: Any, at: int) -> None:
        assert what not in self.arrivals, f"{what} arrives twice"
        self.arrivals[what] = at


def took(shape: LinkShape, size: int, seed: int = 1, **access: AccessShape) -> int:
    """How long one message takes on a fresh connection."""
    net = Net(Random(seed).random)
    net.access["a"].shape_up(access.get("up"), 0)
    net.access["b"].shape_down(access.get("down"), 0)
    sent = net.now
    net.send(net.flow(shape), "x", size)
    return net.run()["x"] - sent


# What it is made of


def test_its_numbers_are_those_of_the_engine():
    assert DATAGRAM_BYTES == DATAGRAM_BYTES_MAX
    assert messages.INITIAL_WINDOW_BYTES == recovery.INITIAL_WINDOW_BYTES
    assert messages.FLOW_CONTROL_BYTES == limits.CONNECTION_WINDOW_BYTES
    first = windows(limits.CONNECTION_WINDOW_BYTES, limits.STREAMS_MAX, 0)
    assert (first.inbound, first.reply) == (REQUEST_ALLOTMENT_BYTES, ANSWER_ALLOTMENT_BYTES)


def test_a_small_message_takes_the_delay_and_no_event():
    net = Net()
    flow = net.flow(DELAYED)
    net.send(flow, "x", 700)
    assert net.arrivals == {"x": net.now + DELAY}
    assert flow.next_at() is None
    net.run()
    assert net.events == 0


def test_what_exceeds_the_window_waits_a_round_trip_and_the_window_doubles():
    trips = [took(DELAYED, size) / DELAY for size in (17_000, 40_000, 110_000, 240_000)]
    assert trips == [1, *(pytest.approx(odd + 0.5, abs=0.6) for odd in (3, 5, 7))]


def test_what_is_larger_than_its_allotment_waits_for_the_receiver_however_wide_the_window():
    net = Net()
    flow = net.flow(DELAYED)
    net.send(flow, "first", MIB)
    net.run(net.now + 5 * S)
    for what, size, allotment, trips in (
        ("request within", 64_000, REQUEST_ALLOTMENT_BYTES, 1),
        ("request beyond", 70_000, REQUEST_ALLOTMENT_BYTES, 3),
        ("answer within", 8_000, ANSWER_ALLOTMENT_BYTES, 1),
        ("answer beyond", 20_000, ANSWER_ALLOTMENT_BYTES, 3),
    ):
        sent = net.now
        flow.send(what, size, net.now, allotment=allotment)
        net.plan(flow)
        net.run(net.now + S)
        assert net.arrivals[what] - sent == pytest.approx(trips * DELAY, rel=0.1), what


def test_a_window_lasts_with_its_connection_and_grows_only_while_it_holds_messages_back():
    net = Net()
    flow = net.flow(DELAYED)
    begins = flow.window
    for number in range(50):
        net.send(flow, number, 1_000)
        net.run(net.now + S)
    assert flow.window == begins
    net.send(flow, "large", MIB)
    net.run(net.now + 5 * S)
    grown = flow.window
    assert grown > 10 * begins
    sent = net.now
    net.send(flow, "again", 60 * KIB)
    net.run()
    assert net.arrivals["again"] - sent < 2 * DELAY
    assert flow.window >= grown


def test_small_messages_that_fill_the_window_wait_for_room():
    net = Net()
    flow, sent = net.flow(DELAYED), net.now
    for number in range(40):
        net.send(flow, number, 1_000)
    net.run()
    assert net.arrivals[0] == sent + DELAY
    assert net.arrivals[39] >= sent + 3 * DELAY
    assert sorted(net.arrivals) == list(range(40))


def test_a_small_message_is_not_kept_by_a_large_one_of_the_same_connection():
    net = Net()
    flow, sent = net.flow(DELAYED), net.now
    net.send(flow, "large", MIB)
    net.run(sent + 150 * MS)
    net.send(flow, "small", 100)
    net.run()
    assert net.arrivals["small"] <= sent + 150 * MS + 4 * DELAY < net.arrivals["large"]


def test_a_message_that_is_dropped_stops_using_the_line_and_never_arrives():
    net = Net()
    flow = net.flow(DELAYED)
    passage = flow.send("x", MIB, net.now)
    assert passage is not None
    net.plan(flow)
    net.run(net.now + 120 * MS)
    flow.drop(passage)
    net.run()
    assert net.arrivals == {}
    assert net.access["a"].wire_bytes < 200 * KIB


def test_the_wire_counts_payload_heads_and_headers_of_every_packet():
    net = Net()
    net.send(net.flow(DELAYED), "x", 100_000)
    net.run()
    packets = -(-100_000 // (DATAGRAM_BYTES - PACKET_HEAD_BYTES))
    assert net.access["a"].wire_bytes == 100_000 + packets * (PACKET_HEAD_BYTES + PACKET_OVERHEAD_BYTES)
    assert 0 < net.access["b"].wire_bytes < 1_000


def test_a_path_with_an_mtu_takes_more_packets():
    net = Net()
    net.send(net.flow(LinkShape(delay_ns=DELAY, mtu=1_500)), "x", 100_000)
    net.run()
    packets = -(-100_000 // (1_472 - PACKET_HEAD_BYTES))
    assert net.access["a"].wire_bytes == 100_000 + packets * (PACKET_HEAD_BYTES + PACKET_OVERHEAD_BYTES)


# Access links


def test_messages_of_different_connections_share_the_uplink_by_turns():
    net = Net()
    net.access["a"].shape_up(AccessShape(bandwidth_bps=8e6), 0)
    flows, sent = [net.flow(DELAYED, "a", name) for name in "bcd"], net.now
    for number, flow in enumerate(flows):
        net.send(flow, number, 200_000)
    net.run()
    ends = [net.arrivals[number] - sent for number in range(3)]
    # One after the other they would end after 250, 450 and 650 ms.
    assert min(ends) > 450 * MS
    assert max(ends) == pytest.approx(600_000 * 1_000 + DELAY, rel=0.2)


def test_a_small_message_does_not_wait_for_the_large_ones_of_other_connections():
    net = Net()
    net.access["a"].shape_up(AccessShape(bandwidth_bps=8e6), 0)
    large, small, sent = net.flow(DELAYED, "a", "b"), net.flow(DELAYED, "a", "c"), net.now
    net.send(large, "large", MIB)
    net.send(small, "small", 100)
    net.run()
    # It waits behind what the window of the large one's connection let leave, 18 ms here.
    assert net.arrivals["small"] < sent + DELAY + 20 * MS
    assert net.arrivals["large"] > sent + S


def test_messages_of_different_senders_share_the_downlink_in_the_order_in_which_they_come():
    net = Net()
    net.access["c"].shape_down(AccessShape(bandwidth_bps=8e6), 0)
    far, near, sent = (
        net.flow(LinkShape(delay_ns=200 * MS), "a", "c"),
        net.flow(LinkShape(delay_ns=MS), "b", "c"),
        net.now,
    )
    net.send(far, "far", 15_000)
    net.send(near, "near", 15_000)
    net.run()
    assert net.arrivals["near"] < sent + 20 * MS
    assert sent + 200 * MS < net.arrivals["far"] < sent + 220 * MS


def test_a_full_queue_is_a_loss_and_a_loss_is_a_delay():
    shape = AccessShape(bandwidth_bps=8e6, queue_bytes=20_000)
    roomy = AccessShape(bandwidth_bps=8e6)
    for side in ("up", "down"):
        assert took(DELAYED, MIB, **{side: shape}) > took(DELAYED, MIB, **{side: roomy}) + DELAY


def test_a_changed_bandwidth_acts_on_what_is_sent_from_then_on():
    net = Net()
    net.access["a"].shape_up(AccessShape(bandwidth_bps=8e6), 0)
    flow, sent = net.flow(DELAYED), net.now
    net.send(flow, "x", MIB)
    net.run(sent + 500 * MS)
    net.access["a"].shape_up(AccessShape(bandwidth_bps=80e6), net.now)
    net.run()
    assert net.arrivals["x"] < sent + S < took(DELAYED, MIB, up=AccessShape(bandwidth_bps=8e6)) + sent


# Losses


def test_the_loss_of_a_lone_packet_costs_a_probe_timeout_and_its_answer():
    late = took(LinkShape(delay_ns=DELAY, loss=0.999), 700, seed=3) - DELAY
    assert late > 2 * DELAY + 25 * MS + 2 * DELAY


def test_the_share_of_late_messages_is_that_of_their_lost_packets():
    shape = LinkShape(delay_ns=DELAY, loss=0.05)
    late = sum(took(shape, 700, seed) > DELAY for seed in range(2_000))
    assert late / 2_000 == pytest.approx(0.05, abs=0.02)


def test_a_loss_halves_the_window_once_per_round_trip():
    net = Net(Random(2).random)
    flow = net.flow(LinkShape(delay_ns=DELAY, loss=0.02))
    net.send(flow, "x", 4 * MIB)
    net.run()
    assert flow.window < 40 * DATAGRAM_BYTES


def test_bursts_keep_the_share_of_lost_packets():
    for burst in (1.0, 8.0):
        path, rng = MessagePath(LinkShape(loss=0.04, loss_burst=burst)), Random(1).random
        lost = sum(path.lost(100, rng)[0] for _ in range(3_000))
        assert lost / 300_000 == pytest.approx(0.04, rel=0.2)


# Blocks


def test_nothing_gets_through_a_block_and_all_after_it():
    net = Net()
    blocked = LinkShape(delay_ns=DELAY, blocked=True)
    flow = net.flow(blocked)
    for number in range(30):
        net.send(flow, number, 1_000)
    net.run(net.now + 2 * S)
    assert net.arrivals == {}
    flow.reroute(MessagePath(DELAYED), MessagePath(DELAYED))
    flow.heal(net.now)
    healed = net.now
    net.plan(flow)
    net.run()
    assert len(net.arrivals) == 30
    # The next probe of a sender that has doubled its wait since.
    assert healed + DELAY < min(net.arrivals.values()) < healed + 4 * S


def test_without_acknowledgements_a_window_arrives_and_the_rest_waits_for_the_healing():
    net = Net()
    flow = net.flow(DELAYED, back=LinkShape(delay_ns=DELAY, blocked=True))
    for number in range(30):
        net.send(flow, number, 1_000)
    net.run(net.now + 2 * S)
    assert 10 < len(net.arrivals) < 20
    flow.reroute(MessagePath(DELAYED), MessagePath(DELAYED))
    flow.heal(net.now)
    net.plan(flow)
    net.run()
    assert len(net.arrivals) == 30


# Whatever the shape


@st.composite
def any_shape(draw: st.DrawFn) -> LinkShape:
    delay = draw(st.integers(0, 300 * MS))
    kind, keep = draw(st.sampled_from(["normal", "uniform"])), draw(st.booleans())
    return LinkShape(
        delay_ns=delay,
        jitter_ns=draw(st.integers(0, jitter_max_ns(delay, kind, keep))),
        jitter_kind=kind,
        keep_order=keep,
        loss=draw(st.sampled_from([0.0, 0.01, 0.3])),
        loss_burst=draw(st.sampled_from([1.0, 5.0])),
        bandwidth_bps=draw(st.none() | st.floats(1e5, 1e9)),
        queue_bytes=draw(st.integers(0, 1 << 20)),
        mtu=draw(st.none() | st.integers(1_280, 65_535)),
    )


access = st.none() | st.builds(AccessShape, bandwidth_bps=st.floats(1e6, 1e9), queue_bytes=st.integers(20_000, 1 << 20))
sizes = st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 50 * MS)), min_size=1, max_size=12)


@patient
@given(shape=any_shape(), up=access, down=access, sent=sizes, seed=st.integers(0, 9))
def test_every_message_arrives_once_no_earlier_than_its_bits_can(shape, up, down, sent, seed):
    runs = []
    for _ in range(2):
        net = Net(Random(seed).random)
        net.access["a"].shape_up(up, 0)
        net.access["b"].shape_down(down, 0)
        flow, begun, times = net.flow(shape), net.now, []
        for number, (size, pause) in enumerate(sent):
            net.run(net.now + pause)
            times.append(net.now)
            net.send(flow, number, size)
        net.run()
        runs.append(dict(net.arrivals))
        assert sorted(net.arrivals) == list(range(len(sent)))
        narrowest = min([one.bandwidth_bps for one in (shape, up, down) if one and one.bandwidth_bps], default=None)
        least = max(0, shape.delay_ns - 3 * shape.jitter_ns) if shape.jitter_ns else shape.delay_ns
        for number, at in net.arrivals.items():
            bits_ns = 8 * sent[number][0] * S / narrowest if narrowest else 0
            assert at >= times[number] + least
            assert at >= times[number] + bits_ns - 1
        if narrowest:
            total = 8 * sum(size for size, _ in sent) / narrowest
            assert max(net.arrivals.values()) - begun >= total * S - 1
    assert runs[0] == runs[1]


@patient
@given(seed=st.integers(0, 99), delay=st.integers(10 * MS, 200 * MS))
def test_single_packets_keep_their_order_where_the_shape_says_so(seed, delay):
    shape = LinkShape(delay_ns=delay, jitter_ns=delay // 3, keep_order=True)
    net = Net(Random(seed).random)
    flow = net.flow(shape)
    for number in range(30):
        net.run(net.now + MS)
        net.send(flow, number, 200)
    net.run()
    assert sorted(net.arrivals, key=lambda number: (net.arrivals[number], number)) == list(range(30))


# Beside packets


def real(shape: LinkShape, size: int, seed: int, times: int = 1) -> list[float]:
    """Seconds that messages take on one real QUIC connection over the packet model, five seconds after its handshake.

    One after the other, a second apart; the first meets a fresh window.
    """
    taken: list[float] = []

    async def scenario(world: VirtualWorld) -> None:
        world.network.shape = LinkShape(delay_ns=shape.delay_ns)
        arrived: list[float] = []

        def answer(_connection: Any, message: Any) -> None:
            arrived.append(world.loop.time())
            message.reply(b"ok", message.header)

        server = await world.endpoint("node-1", settings=Settings(), on_message=answer)
        client = await world.endpoint("node-0", settings=Settings())
        connection = await client.connect(server.address)
        await asyncio.sleep(5)
        world.network.shape = shape
        for _ in range(times):
            begun = world.loop.time()
            # A request, as every update is: a message that wants no reply has a smaller allotment.
            await connection.request(b"/blob/updates", bytes(size))
            taken.append(arrived[-1] - begun)
            await asyncio.sleep(1)

    play(scenario, seed=seed)
    return taken


def modelled(shape: LinkShape, size: int, seed: int, times: int = 1) -> list[float]:
    """The same of the message model."""
    net = Net(Random(seed).random)
    flow, taken = net.flow(shape), []
    for number in range(times):
        sent = net.now
        net.send(flow, number, size + FRAMED)
        while number not in net.arrivals:
            net.run(net.now + S)
        taken.append((net.arrivals[number] - sent) / S)
        net.run(max(net.now, net.arrivals[number]) + S)
    return taken


@pytest.mark.parametrize(
    ("name", "shape", "runs", "most"),
    [
        ("50 ms", DELAYED, 1, 0.05),
        ("50 ms, 20 Mbit/s", LinkShape(delay_ns=DELAY, bandwidth_bps=20e6), 1, 0.05),
        ("50 ms, 1 % loss", LinkShape(delay_ns=DELAY, loss=0.01), 9, 0.5),
    ],
)
@pytest.mark.parametrize("size", [KIB, 64 * KIB, MIB])
def test_a_message_takes_about_as_long_as_on_a_real_connection(name, shape, runs, most, size, capsys):
    packets = median(real(shape, size, seed)[0] for seed in range(runs))
    whole = median(modelled(shape, size, seed)[0] for seed in range(runs * 9))
    gap = whole / packets - 1
    with capsys.disabled():
        print(f"\n{name}, {size} bytes: packets {packets * 1e3:.1f} ms, messages {whole * 1e3:.1f} ms, {gap:+.1%}")
    assert abs(gap) <= most


@pytest.mark.parametrize("size", [KIB, 60 * KIB, 64 * KIB, MIB])
def test_the_eighth_message_of_a_connection_too(size, capsys):
    packets, whole = real(DELAYED, size, 0, 8)[-1], modelled(DELAYED, size, 0, 8)[-1]
    gap = whole / packets - 1
    with capsys.disabled():
        print(
            f"\n50 ms, eighth of {size} bytes: packets {packets * 1e3:.1f} ms, messages {whole * 1e3:.1f} ms, {gap:+.1%}"
        )
    assert abs(gap) <= 0.25
