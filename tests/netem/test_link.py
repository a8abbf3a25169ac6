"""A link does to packets what its shape says, with time and randomness from outside."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.netem import CLEAR, Link, LinkShape

MS = 1_000_000
PACKET = 1_200


def always(value: float) -> Callable[[], float]:
    return lambda: value


def never_asked() -> float:
    pytest.fail("a random number was drawn where nothing is random")


shapes = st.builds(
    LinkShape,
    delay_s=st.floats(0, 2),
    jitter_s=st.floats(0, 2),
    loss=st.floats(0, 1),
    duplication=st.floats(0, 1),
    reorder=st.floats(0, 1),
    bandwidth_bps=st.none() | st.floats(1e3, 1e10),
    queue_bytes=st.integers(0, 1 << 20),
    blocked=st.booleans(),
)
traffic = st.lists(st.tuples(st.integers(1, 65_000), st.integers(0, 50 * MS)), max_size=60)


def test_a_clear_link_passes_every_packet_at_once_and_asks_no_chance() -> None:
    link = Link()
    assert link.send(PACKET, 7, never_asked) == [7]
    assert CLEAR.clear


def test_delay_is_the_same_for_every_packet() -> None:
    link = Link(LinkShape(delay_s=0.09))
    assert [link.send(PACKET, now, never_asked) for now in (0, 5 * MS)] == [[90 * MS], [95 * MS]]


def test_jitter_varies_the_delay_either_way_and_never_below_nothing() -> None:
    for drawn, expected in ((0.0, 10), (0.5, 20), (0.999_999_9, 30)):
        [departs] = Link(LinkShape(delay_s=0.02, jitter_s=0.01)).send(PACKET, 0, always(drawn))
        assert departs == pytest.approx(expected * MS, abs=10)
    assert Link(LinkShape(delay_s=0.001, jitter_s=0.01)).send(PACKET, 0, always(0.0)) == [0]


def test_jitter_keeps_the_order() -> None:
    link, random = Link(LinkShape(delay_s=0.02, jitter_s=0.02)), Random(1)
    departures = [link.send(PACKET, now * MS, random.random)[0] for now in range(200)]
    assert departures == sorted(departures)


def test_loss_and_duplication_come_as_often_as_asked() -> None:
    link, random = Link(LinkShape(loss=0.2, duplication=0.1)), Random(2)
    copies = [len(link.send(PACKET, now, random.random)) for now in range(20_000)]
    assert copies.count(0) / 20_000 == pytest.approx(0.2, abs=0.01)
    assert copies.count(2) / (20_000 - copies.count(0)) == pytest.approx(0.1, abs=0.01)


def test_a_reordered_packet_is_overtaken_even_without_delay() -> None:
    link = Link(LinkShape(reorder=0.5))
    [held] = link.send(PACKET, 0, always(0.4))
    [behind] = link.send(PACKET, 1, always(0.6))
    assert behind == 1 < held


def test_bandwidth_spaces_packets_by_their_size() -> None:
    link = Link(LinkShape(bandwidth_bps=8e6))  # a byte per microsecond
    assert [link.send(1_000, 0, never_asked) for _ in range(3)] == [[1 * MS], [2 * MS], [3 * MS]]
    assert link.backlog_bytes(1 * MS) == 2_000
    assert link.send(1_000, 10 * MS, never_asked) == [11 * MS]


def test_a_full_queue_drops_and_an_empty_one_takes_a_packet_of_any_size() -> None:
    link = Link(LinkShape(bandwidth_bps=8e6, queue_bytes=1_500))
    assert link.send(5_000, 0, never_asked) == [5 * MS]
    assert link.send(1_000, 0, never_asked) == []
    assert link.send(1_000, 5 * MS - 1, never_asked) != []
    assert (link.counters.overflowed, link.counters.passed) == (1, 2)


def test_a_block_stops_everything_and_asks_no_chance() -> None:
    link = Link(LinkShape(blocked=True, loss=0.5))
    assert link.send(PACKET, 0, never_asked) == []
    assert link.counters.blocked == 1


def test_a_healed_link_is_healed_at_once() -> None:
    link = Link(LinkShape(delay_s=30, bandwidth_bps=1_000))
    link.send(PACKET, 0, never_asked)
    link.shape = CLEAR
    assert link.send(PACKET, 1, never_asked) == [1]
    link.shape = LinkShape(bandwidth_bps=8e6)
    assert link.backlog_bytes(1) == 0


@given(shapes, traffic, st.integers())
def test_no_packet_departs_before_it_was_sent_and_every_packet_is_counted_once(
    shape: LinkShape, packets: list[tuple[int, int]], seed: int
) -> None:
    link, random, now = Link(shape), Random(seed), 0
    copies = 0
    for size, pause in packets:
        now += pause
        departures = link.send(size, now, random.random)
        assert len(departures) <= 2
        assert all(departs >= now for departs in departures)
        copies += len(departures)
    seen = link.counters
    assert seen.passed + seen.lost + seen.overflowed + seen.blocked == len(packets)
    assert copies == seen.passed + seen.duplicated


@given(shapes, traffic, st.integers())
def test_the_same_chance_gives_the_same_departures(shape: LinkShape, packets: list[tuple[int, int]], seed: int) -> None:
    def run() -> list[list[int]]:
        link, random = Link(shape), Random(seed)
        return [link.send(size, now, random.random) for size, now in packets]

    assert run() == run()


@given(shapes.filter(lambda shape: not shape.reorder), traffic, st.integers())
def test_without_reorder_packets_keep_their_order(shape: LinkShape, packets: list[tuple[int, int]], seed: int) -> None:
    link, random, now = Link(shape), Random(seed), 0
    departures: list[int] = []
    for size, pause in packets:
        now += pause
        departures += link.send(size, now, random.random)
    assert departures == sorted(departures)


@given(st.floats(1e3, 1e9), st.integers(0, 1 << 18), traffic)
def test_the_queue_and_the_bandwidth_are_never_exceeded(
    bandwidth: float, queue: int, packets: list[tuple[int, int]]
) -> None:
    link, now, passed, last = Link(LinkShape(bandwidth_bps=bandwidth, queue_bytes=queue)), 0, 0, 0
    for size, pause in packets:
        now += pause
        departures = link.send(size, now, never_asked)
        assert link.backlog_bytes(now) <= max(queue, size, 65_000) + 1
        if departures:
            passed, last = passed + size, departures[0]
    assert passed * 8 <= bandwidth * last / 1e9 * (1 + 1e-9) + math.ceil(len(packets))
