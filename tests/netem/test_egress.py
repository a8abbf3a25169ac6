"""What leaves a node goes through its uplink and the path to the peer, and nothing is lost but what the shapes lose."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, PACKET, S, Traffic, access, never_asked, numbers, packets, patient, shapes, towards

from p2pnet.netem import CLEAR, AccessShape, Egress, LinkCounters, LinkShape, NodeNetwork
from p2pnet.netem.egress import PATHS_KEPT_MAX

BYTE_A_US = 8e6
"""Bits per second."""
UPLINK = AccessShape(bandwidth_bps=BYTE_A_US, queue_bytes=10_000)


def test_a_network_that_shapes_nothing_touches_nothing() -> None:
    egress: Egress[str] = Egress(never_asked)
    assert not egress.touches("b")
    egress.apply(NodeNetwork(shapes=[CLEAR, LinkShape(loss=1.0)], paths={"b": 0, "c": 1}), 0)
    assert [egress.touches(peer) for peer in ("b", "c", "d")] == [False, True, False]
    egress.apply(NodeNetwork(up=UPLINK), 0)
    assert egress.touches("d")
    egress.apply(NodeNetwork(), 0)
    assert not egress.touches("c")
    assert egress.next_at() is None


def test_a_clear_path_passes_every_packet_at_once_and_asks_no_chance() -> None:
    traffic = Traffic.on(CLEAR)
    assert [trip.took_ns for trip in traffic.stream(3, MS).end()] == [0, 0, 0]


def test_delay_is_the_same_for_every_packet() -> None:
    traffic = Traffic.on(LinkShape(delay_ns=90 * MS))
    assert [trip.took_ns for trip in traffic.stream(50, MS).end()] == [90 * MS] * 50
    assert (traffic.counters.passed, traffic.counters.bytes_passed) == (50, 50 * PACKET)
    assert traffic.egress.held == (0, 0)


def test_packets_come_in_the_order_of_their_departures_whatever_their_peers() -> None:
    traffic = Traffic(NodeNetwork(shapes=[LinkShape(delay_ns=9), LinkShape(delay_ns=5)], paths={"far": 0, "near": 1}))
    far, near, stranger = (traffic.send(peer=peer) for peer in ("far", "near", "stranger"))
    assert traffic.egress.held == (3, 3 * PACKET)
    assert traffic.egress.due(100) == [stranger, near, far]


def test_the_wrong_peer_never_gets_anothers_path() -> None:
    names = [f"node-{number}" for number in range(50)]
    paths = {name: number for number, name in enumerate(names)}
    traffic = Traffic(NodeNetwork(shapes=[LinkShape(delay_ns=number * MS) for number in range(50)], paths=paths))
    for name in names:
        traffic.send(peer=name)
    assert [(trip.number, trip.took_ns) for trip in traffic.end()] == [(number, number * MS) for number in range(50)]


def test_a_block_stops_everything_and_asks_no_chance() -> None:
    traffic = Traffic.on(LinkShape(blocked=True, loss=0.5, mtu=1_280, bandwidth_bps=1e6))
    traffic.send()
    traffic.send(2_000)
    assert traffic.end() == []
    assert (traffic.counters.blocked, traffic.counters.dropped) == (2, 2)


def test_packets_above_the_mtu_vanish_and_are_counted() -> None:
    traffic = Traffic.on(LinkShape(mtu=1_400))
    for size in (1_400, 1_401, 28):
        traffic.send(size)
    assert numbers(traffic.end()) == [0, 2]
    assert traffic.counters.too_large == 1


def test_duplicates_depart_with_the_first_and_as_often_as_asked() -> None:
    trips = Traffic.on(LinkShape(delay_ns=MS, duplication=0.1), seed=2).stream(20_000, MS).end()
    assert {trip.took_ns for trip in trips} == {MS}
    assert (len(trips) - 20_000) / 20_000 == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("delay", [0, 100 * MS])
def test_as_many_packets_as_asked_are_overtaken_and_the_mean_delay_is_kept(delay: int) -> None:
    traffic = Traffic.on(LinkShape(delay_ns=delay, reorder=0.1), seed=3)
    trips = traffic.stream(20_000, 100_000).end()
    usual = min(trip.took_ns for trip in trips)
    held = {trip.number for trip in trips if trip.took_ns > usual}
    others = [trip.number for trip in trips if trip.number not in held]
    assert len(held) / 20_000 == pytest.approx(0.1, abs=0.01)
    assert traffic.counters.reordered == len(held)
    assert numbers(trips) != sorted(numbers(trips))
    assert others == sorted(others)
    if delay:
        assert sum(trip.took_ns for trip in trips) / 20_000 == pytest.approx(delay, rel=0.005)


# The uplink


def test_packets_for_all_peers_share_the_uplink() -> None:
    traffic = Traffic(towards(LinkShape(delay_ns=10 * MS), "b", "c", up=UPLINK))
    for peer in ("b", "c", "stranger", "c"):
        traffic.send(1_000, peer)
    traffic.end()
    assert [(trip.number, trip.departs_ns) for trip in traffic.trips] == [
        (2, 3 * MS), (0, 11 * MS), (1, 12 * MS), (3, 14 * MS)
    ]  # fmt: skip
    assert (traffic.egress.up_counters.passed, traffic.egress.up_counters.bytes_passed) == (4, 4_000)


def test_what_the_path_loses_has_used_the_uplink() -> None:
    traffic = Traffic(towards(LinkShape(blocked=True), "b", up=UPLINK))
    traffic.send(1_000, "b")
    traffic.send(1_000, "c")
    [trip] = traffic.end()
    assert (trip.number, trip.departs_ns) == (1, 2 * MS)
    assert traffic.counters.blocked == 1


def test_a_full_uplink_drops_and_says_so() -> None:
    traffic = Traffic(towards(CLEAR, up=UPLINK))
    for _ in range(20):
        traffic.send(1_000)
    assert traffic.egress.up_queued_bytes(0) == 10_000
    assert len(traffic.end()) == 11  # one in service and ten that wait
    assert (traffic.egress.up_counters.overflowed, traffic.egress.up_counters.passed) == (9, 11)
    assert traffic.egress.up_queued_bytes(traffic.now) == 0


def test_an_uplink_that_is_lifted_lets_everything_go_to_its_path() -> None:
    traffic = Traffic(towards(LinkShape(delay_ns=5 * MS), up=UPLINK))
    for _ in range(5):
        traffic.send(1_000)
    traffic.go_to(MS // 2)
    traffic.apply(towards(LinkShape(delay_ns=5 * MS)))
    assert [(trip.number, trip.departs_ns) for trip in traffic.end()] == [
        (number, 5 * MS + MS // 2) for number in range(5)
    ]


# Whatever the shapes


@st.composite
def networks(draw: st.DrawFn) -> NodeNetwork:
    return NodeNetwork(
        shapes=[draw(shapes()), draw(shapes())],
        paths=draw(st.sampled_from([{}, {"b": 0}, {"b": 1, "c": 0}])),
        up=draw(access),
    )


changes = st.lists(st.tuples(st.integers(0, 59), networks()), max_size=4)


@patient
@given(networks(), packets, changes, st.integers())
def test_every_packet_is_counted_once_and_none_departs_before_it_was_sent(
    network: NodeNetwork, sent: list[tuple[int, int]], later: list[tuple[int, NodeNetwork]], seed: int
) -> None:
    traffic = Traffic(towards(CLEAR, "b", "c"), Random(seed).random)
    traffic.apply(network)
    for number, (size, pause) in enumerate(sent):
        traffic.go_to(traffic.now + pause)
        for at, other in later:
            if at == number:
                traffic.apply(other)
        traffic.send(size, "bc"[number % 2])
    trips = traffic.end()
    assert all(trip.departs_ns >= trip.sent_ns for trip in trips)
    every = list(traffic.egress.counters().values())
    copies = sum(one.duplicated for one in every)
    assert len(trips) == sum(one.passed for one in every) + copies
    assert len(set(numbers(trips))) == len(trips) - copies
    assert sum(one.passed + one.dropped for one in every) + traffic.egress.up_counters.overflowed == len(sent)
    assert traffic.egress.held == (0, 0)


@patient
@given(networks(), packets, st.integers())
def test_calls_that_come_late_change_no_departure(network: NodeNetwork, sent: list[tuple[int, int]], seed: int) -> None:
    punctual = Traffic(network, Random(seed).random)
    late: Egress[int] = Egress(Random(seed).random)
    late.apply(network, 0)
    for number, (size, pause) in enumerate(sent):
        punctual.go_to(punctual.now + pause)
        punctual.send(size, "bc"[number % 2])
        late.send("bc"[number % 2], number, size, punctual.now)
    assert late.due(1 << 62) == numbers(punctual.end())
    assert late.counters() == punctual.egress.counters()


@patient
@given(networks(), packets, st.sets(st.integers(0, 59)), st.integers())
def test_a_network_that_is_said_again_changes_nothing(
    network: NodeNetwork, sent: list[tuple[int, int]], again: set[int], seed: int
) -> None:
    def run(repeated: set[int]) -> list[object]:
        traffic = Traffic(network, Random(seed).random)
        for number, (size, pause) in enumerate(sent):
            traffic.go_to(traffic.now + pause)
            if number in repeated:
                traffic.apply(NodeNetwork(version=number, shapes=network.shapes, paths=network.paths, up=network.up))
            traffic.send(size)
        return [*traffic.end(), traffic.egress.counters()]

    assert run(again) == run(set())


@patient
@given(shapes(reorder=0.0, keep_order=True), access, packets, st.integers())
def test_packets_keep_their_order_unless_something_else_is_asked_for(
    shape: LinkShape, up: AccessShape | None, sent: list[tuple[int, int]], seed: int
) -> None:
    traffic = Traffic(towards(shape, up=up), Random(seed).random)
    for size, pause in sent:
        traffic.go_to(traffic.now + pause)
        traffic.send(size)
    assert numbers(traffic.end()) == sorted(numbers(traffic.trips))


# Bounds, and what costs nothing


@pytest.mark.parametrize("shape", [LinkShape(delay_ns=S), LinkShape(bandwidth_bps=1e3)], ids=["under way", "waiting"])
def test_what_a_node_holds_is_bounded_by_packets_and_by_bytes(shape: LinkShape) -> None:
    for bounds, least in (({"packets_max": 10}, 10), ({"bytes_max": 10 * PACKET + 1}, 10)):
        traffic = Traffic(towards(shape), **bounds)
        for _ in range(15):
            traffic.send()
        assert traffic.egress.held == (least, least * PACKET)
        assert traffic.counters.overflowed == 5
        assert len(traffic.end()) == 10
        assert traffic.egress.held == (0, 0)


def test_a_duplicate_that_there_is_no_room_for_is_left_out() -> None:
    traffic = Traffic(towards(LinkShape(delay_ns=S, duplication=1.0)), lambda: 0.0, packets_max=3)
    traffic.send()
    traffic.send()
    assert numbers(traffic.end()) == [0, 0, 1]
    assert (traffic.counters.passed, traffic.counters.duplicated, traffic.counters.dropped) == (2, 1, 0)


def test_an_idle_network_asks_for_no_call() -> None:
    traffic = Traffic(towards(LinkShape(delay_ns=S, jitter_ns=S // 10, bandwidth_bps=1e6), up=UPLINK), Random(1).random)
    assert traffic.egress.next_at() is None
    traffic.send()
    traffic.end()
    assert traffic.egress.next_at() is None


def test_a_call_is_asked_for_when_something_departs_not_whenever_a_queue_has_served() -> None:
    traffic = Traffic(towards(LinkShape(delay_ns=100 * MS, bandwidth_bps=BYTE_A_US), up=UPLINK))
    for _ in range(8):
        traffic.send(1_000)
    assert len(traffic.end()) == 8
    assert traffic.wakes <= 2 * 8  # not 8 departures, 8 ends of service here and 8 there


def test_a_peer_that_is_named_no_more_has_a_clear_path_and_keeps_its_counters() -> None:
    traffic = Traffic.on(LinkShape(blocked=True))
    traffic.send()
    traffic.apply(NodeNetwork())
    assert not traffic.egress.touches("b")
    traffic.send()
    assert [trip.took_ns for trip in traffic.end()] == [0]
    assert (traffic.counters.blocked, traffic.counters.passed) == (1, 1)


def test_peers_that_come_and_go_for_ever_are_forgotten_in_the_end() -> None:
    traffic = Traffic(NodeNetwork())
    for first in range(0, 3 * PATHS_KEPT_MAX, 1_024):
        traffic.apply(towards(LinkShape(delay_ns=1), *(f"peer-{first + number}" for number in range(1_024))))
        assert len(traffic.egress.counters()) <= PATHS_KEPT_MAX + 1_024


@given(shapes(), access, st.lists(st.booleans(), max_size=60), st.integers(0, 99))
def test_what_is_not_counted_takes_the_same_way_and_shows_in_no_counters(
    shape: LinkShape, up: AccessShape | None, counted: list[bool], seed: int
) -> None:
    def departures(marks: list[bool]) -> tuple[list[tuple[int, int]], Egress[int]]:
        egress: Egress[int] = Egress(Random(seed).random)
        egress.apply(towards(shape, up=up), 0)
        for number, mark in enumerate(marks):
            egress.send("b", number, PACKET, number * MS, counted=mark)
        found: list[tuple[int, int]] = []
        while (at := egress.next_at()) is not None:
            found += [(at, packet) for packet in egress.due(at)]
        return found, egress

    every, of_all = departures([True] * len(counted))
    some, of_some = departures(counted)
    none, of_none = departures([False] * len(counted))
    assert every == some == none
    quiet = LinkCounters()
    assert (of_none.counters()["b"], of_none.up_counters) == (quiet, quiet)
    all_counted, some_counted = (sum(_fates(one, up)) for one in (of_all, of_some))
    assert (all_counted, some_counted) == (len(counted), sum(counted))


def _fates(egress: Egress[int], up: AccessShape | None) -> list[int]:
    """How many packets ended, by where."""
    path = egress.counters()["b"]
    return [path.passed, path.dropped, egress.up_counters.dropped if up is not None else 0]
