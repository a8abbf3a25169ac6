"""A bandwidth is never exceeded and always used, what waits is bounded, and survives every change of shape."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, US, S, Traffic, Trip, access, numbers, packets, patient, towards

from p2pnet.netem import CLEAR, AccessShape, Ingress, LinkShape, NodeNetwork

BYTE_A_US = 8e6
"""Bits per second."""


def narrow(bandwidth_bps: float = BYTE_A_US, **more: object) -> LinkShape:
    return LinkShape(bandwidth_bps=bandwidth_bps, **more)


def departures(trips: list[Trip]) -> list[float]:
    return [trip.departs_ns / MS for trip in trips]


def test_bandwidth_spaces_packets_by_their_size() -> None:
    traffic = Traffic.on(narrow())
    for size in (1_000, 500, 1_000):
        traffic.send(size)
    assert traffic.egress.queued_bytes("b", 0) == 1_500  # besides the one in service
    assert departures(traffic.end()) == [1, 1.5, 2.5]
    traffic.go_to(10 * MS)
    traffic.send(1_000)
    assert traffic.end()[-1].departs_ns == 11 * MS


def test_a_full_queue_drops_and_an_idle_one_takes_a_packet_of_any_size() -> None:
    traffic = Traffic.on(narrow(queue_bytes=1_500))
    for size in (60_000, 1_000, 1_000, 500):  # in service, waits, does not fit, fits
        traffic.send(size)
    assert departures(traffic.end()) == [60, 61, 61.5]
    assert traffic.counters.overflowed == 1


def test_without_a_queue_a_packet_passes_only_while_no_other_does() -> None:
    traffic = Traffic.on(narrow(queue_bytes=0))
    traffic.send(1_000)
    traffic.send(28)
    traffic.go_to(MS)
    traffic.send(1_000)
    assert numbers(traffic.end()) == [0, 2]


def test_lost_packets_have_used_bandwidth() -> None:
    shape = narrow(loss=0.5)
    traffic = Traffic(towards(shape), iter([0.4, 0.6]).__next__)
    traffic.send(1_000)
    traffic.send(1_000)
    assert departures(traffic.end()) == [2]
    assert traffic.counters.lost == 1


@patient
@given(st.floats(1e3, 1e9), st.integers(0, 1 << 18), access, packets, st.integers(0, 3 * S))
def test_bandwidth_is_never_exceeded_over_any_span_of_time(
    bandwidth: float, queue: int, up: AccessShape | None, sent: list[tuple[int, int]], delay: int
) -> None:
    traffic = Traffic(towards(narrow(bandwidth, queue_bytes=queue, delay_ns=delay), up=up))
    sizes = []
    for size, pause in sent:
        traffic.go_to(traffic.now + pause)
        traffic.send(size)
        sizes.append(size)
        assert traffic.egress.queued_bytes("b", traffic.now) <= queue
    trips = traffic.end()
    for first, since in enumerate(trips):
        passed = 0
        for trip in trips[first + 1 :]:
            passed += sizes[trip.number] * 8
            assert passed <= bandwidth * (trip.departs_ns - since.departs_ns) / S * (1 + 1e-9)


def test_bandwidth_is_used_whole_while_packets_wait() -> None:
    traffic = Traffic.on(narrow(20e6, queue_bytes=100_000)).stream(20_000, 100 * US)  # 96 Mbit/s
    trips = traffic.end()
    assert traffic.counters.bytes_passed * 8 * S / trips[-1].departs_ns == pytest.approx(20e6, rel=0.001)


# Changes of shape


def filled(shape: LinkShape, count: int = 600, size: int = 1_000) -> Traffic:
    traffic = Traffic.on(shape)
    for _ in range(count):
        traffic.send(size)
    return traffic


def test_what_waits_is_served_at_the_new_bandwidth_in_order_and_nothing_is_lost() -> None:
    traffic = filled(narrow())
    traffic.go_to(100 * MS + 500 * US)  # half of one in service, 499 wait
    traffic.apply(towards(narrow(BYTE_A_US / 10, delay_ns=3 * MS)))
    assert traffic.egress.queued_bytes("b", traffic.now) == 499_000
    traffic.go_to(200 * MS)
    traffic.apply(towards(narrow(BYTE_A_US * 2)))
    traffic.send(1_000)
    trips = traffic.end()
    assert numbers(trips) == list(range(601))
    # Half of a packet takes 5 ms now and the whole ones 10; at 200 ms half of one is left again, and 490 behind.
    assert [trip.departs_ns for trip in trips[100:102]] == [108 * MS + 500 * US, 118 * MS + 500 * US]
    assert trips[-1].departs_ns == 200 * MS + round(490.55 * 0.5 * MS)
    assert traffic.counters.overflowed == 0


@pytest.mark.parametrize(
    "shape", [narrow(queue_bytes=0), narrow(queue_kind="codel"), narrow(loss=0.0, mtu=1_500)], ids=str
)
def test_a_change_of_anything_else_keeps_what_waits_and_its_pace(shape: LinkShape) -> None:
    traffic = filled(narrow(), 10)
    traffic.go_to(2 * MS + 300 * US)
    traffic.apply(towards(shape))
    assert departures(traffic.end()) == list(range(1, 11))


def test_where_no_bandwidth_is_asked_for_any_more_what_waits_goes_at_once() -> None:
    traffic = filled(narrow(delay_ns=20 * MS), 10)
    traffic.go_to(2 * MS)
    traffic.apply(towards(LinkShape(delay_ns=5 * MS)))
    traffic.send(1_000)
    trips = traffic.end()
    assert sorted(departures(trips)) == [*[7] * 9, 21, 22]
    assert [number for number in numbers(trips) if number > 1] == list(range(2, 11))


def test_packets_under_way_keep_their_departures_and_a_healed_path_is_healed_at_once() -> None:
    traffic = Traffic.on(LinkShape(delay_ns=30 * S))
    traffic.send()
    traffic.apply(towards(CLEAR))
    traffic.send()
    assert [(trip.number, trip.took_ns) for trip in traffic.end()] == [(1, 0), (0, 30 * S)]


def test_what_waits_while_a_block_comes_vanishes_and_what_waits_until_it_goes_passes() -> None:
    traffic = filled(narrow(), 10)
    traffic.go_to(2 * MS)
    traffic.apply(towards(narrow(blocked=True)))
    traffic.go_to(5 * MS)
    traffic.apply(towards(narrow()))
    assert departures(traffic.end()) == [1, 2, 6, 7, 8, 9, 10]
    assert traffic.counters.blocked == 3


def test_an_uplink_changes_with_what_waits_on_it() -> None:
    traffic = Traffic(towards(CLEAR, up=AccessShape(bandwidth_bps=BYTE_A_US)))
    for _ in range(10):
        traffic.send(1_000)
    traffic.go_to(5 * MS)
    traffic.apply(towards(CLEAR, up=AccessShape(bandwidth_bps=BYTE_A_US / 2, queue_bytes=1)))
    assert departures(traffic.end()) == [1, 2, 3, 4, 5, 7, 9, 11, 13, 15]


@patient
@given(packets, st.lists(st.floats(1e3, 1e9), max_size=5), st.integers())
def test_whatever_the_changes_of_bandwidth_every_packet_taken_in_departs_in_its_order(
    sent: list[tuple[int, int]], bandwidths: list[float], seed: int
) -> None:
    traffic, random = Traffic.on(narrow(queue_bytes=1 << 30)), Random(seed)
    for size, pause in sent:
        traffic.go_to(traffic.now + pause)
        if bandwidths and random.random() < 0.2:
            traffic.apply(towards(narrow(bandwidths.pop(), queue_bytes=1 << 30)))
        traffic.send(size)
    assert numbers(traffic.end()) == list(range(len(sent)))


# The downlink


def test_packets_from_all_peers_share_the_downlink() -> None:
    ingress: Ingress[str] = Ingress()
    assert not ingress.touches()
    ingress.apply(NodeNetwork(down=AccessShape(bandwidth_bps=BYTE_A_US, queue_bytes=2_000)), 0)
    assert ingress.touches()
    for packet in "abcd":
        ingress.send(packet, 1_000, 0)
    assert (ingress.next_at(), ingress.queued_bytes(0), ingress.held) == (MS, 2_000, (3, 3_000))
    assert ingress.due(MS - 1) == []
    assert ingress.due(MS) == ["a"]
    ingress.apply(NodeNetwork(down=AccessShape(bandwidth_bps=BYTE_A_US / 2)), MS + MS // 2)
    assert ingress.next_at() == 2 * MS + MS // 2
    assert ingress.due(10 * MS) == ["b", "c"]
    assert ingress.next_at() is None
    assert (ingress.counters.passed, ingress.counters.overflowed, ingress.counters.bytes_passed) == (3, 1, 3_000)


def test_a_downlink_that_is_lifted_lets_everything_in() -> None:
    ingress: Ingress[str] = Ingress(packets_max=3)
    ingress.apply(NodeNetwork(down=AccessShape(bandwidth_bps=BYTE_A_US)), 0)
    for packet in "abcd":
        ingress.send(packet, 1_000, 0)
    ingress.apply(NodeNetwork(), 10)
    assert not ingress.touches()
    assert ingress.due(10) == ["a", "b", "c"]
    ingress.send("e", 1_000, 11)
    assert ingress.due(11) == ["e"]
    assert (ingress.counters.passed, ingress.counters.overflowed, ingress.held) == (4, 1, (0, 0))
