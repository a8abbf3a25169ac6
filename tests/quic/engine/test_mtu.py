"""The search for a path's MTU: quick on sizes that exist, right on all others, safe when the path shrinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2pnet.quic.engine.mtu import (
    BASE,
    COMMON,
    HOLE_PACKETS,
    MAX_PROBES,
    RAISE_S,
    TOLERANCE,
    PathMtu,
    next_size,
)

LARGEST = 8_900
SIZES_MAX = 20  # probed in one search up to 9,000 bytes, whatever the path
PROBES_MAX = SIZES_MAX * MAX_PROBES


class Path:
    """Carries datagrams up to `mtu` bytes of UDP payload; `unlucky` says which probes are lost by chance."""

    def __init__(self, mtu: int, search: PathMtu, unlucky: Iterable[bool] = ()) -> None:
        self.mtu = mtu
        self.search = search
        self.unlucky = iter(unlucky)
        self.now = 0.0
        self.number = 0
        self.probes: list[int] = []
        self.system_mtu = 1 << 16  # above it the sender's own system refuses

    def step(self) -> bool:
        """One probe and its outcome; False when none is due now."""
        size = self.search.probe(self.now)
        if size is None:
            return False
        self.probes.append(size)
        self.number += 1
        self.now += 0.01
        if size > self.system_mtu:
            self.search.on_too_big(size, self.now)
        elif size <= self.mtu and not next(self.unlucky, False):
            self.search.on_probe_acked(size, self.number, self.now)
        else:
            self.search.on_probe_lost(size, self.number, self.now)
        return True

    def settle(self) -> int:
        """Probe until nothing is due; the size found."""
        while self.step():
            assert self.search.size <= self.mtu
            assert len(self.probes) <= PROBES_MAX
        return self.search.size

    def packet(self, size: int | None = None) -> bool:
        """One ordinary packet, full by default, and a small one after it that always arrives: was it carried?"""
        size = self.search.size if size is None else size
        first, self.number = self.number + 1, self.number + 2
        self.now += 0.01
        carried = size <= self.mtu
        if carried:
            self.search.on_packet_acked(size, first)
        self.search.on_packet_acked(100, self.number)
        if not carried:
            self.search.on_packet_lost(size, first, self.now)
        return carried

    def packets(self, *arrive: bool) -> None:
        """Full packets sent in one flight, acknowledged in one turn: arrivals are told before losses."""
        size = self.search.size
        numbers = range(self.number + 1, self.number + 1 + len(arrive))
        self.number += len(arrive)
        for number, arrives in zip(numbers, arrive, strict=True):
            if arrives:
                self.search.on_packet_acked(size, number)
        for number, arrives in zip(numbers, arrive, strict=True):
            if not arrives:
                self.search.on_packet_lost(size, number, self.now)


def settled(mtu: int, *, largest: int = LARGEST) -> Path:
    path = Path(mtu, PathMtu(largest=largest))
    path.settle()
    path.probes.clear()
    return path


def test_loopback_finds_the_largest_size_in_one_probe() -> None:
    path = Path(65_000, PathMtu(largest=LARGEST))
    assert path.search.size == BASE
    assert path.settle() == LARGEST
    assert path.probes == [LARGEST]
    assert path.search.next_at is None


@pytest.mark.parametrize("mtu", [size for size in (BASE, *COMMON) if size <= LARGEST])
def test_a_path_of_a_common_size_is_found_exactly(mtu: int) -> None:
    path = Path(mtu, PathMtu(largest=LARGEST))
    assert path.settle() == mtu
    assert len(path.probes) <= 24


def test_ethernet_is_found_in_few_probes() -> None:
    path = Path(1_472, PathMtu(largest=LARGEST))
    path.settle()
    assert path.probes[:MAX_PROBES] == [LARGEST] * MAX_PROBES
    assert path.probes[-MAX_PROBES:] == [1_472 + TOLERANCE] * MAX_PROBES
    assert len(path.probes) <= 15


def test_what_the_own_system_refuses_costs_no_retry() -> None:
    path = Path(1_422, PathMtu(largest=LARGEST))
    path.system_mtu = 1_422
    assert path.settle() == 1_422
    assert len(path.probes) == len(set(path.probes)) <= 9


@given(
    mtu=st.integers(BASE, 9_000),
    largest=st.integers(BASE, 9_000),
    chances=st.lists(st.integers(0, MAX_PROBES - 1), max_size=2 * SIZES_MAX),
)
def test_every_mtu_is_found_within_the_tolerance_whatever_probes_are_lost_by_chance(
    mtu: int, largest: int, chances: list[int]
) -> None:
    path = Path(mtu, PathMtu(largest=largest))
    lost_by_chance = iter(chances)
    while path.search.next_at is not None and path.search.next_at <= path.now:
        path.unlucky = iter([True] * next(lost_by_chance, 0))
        size = path.search._candidate
        while path.search._candidate == size and path.step():
            pass
        assert len(path.probes) <= PROBES_MAX
        assert path.search.size <= mtu
    best = min(mtu, largest)
    assert best - TOLERANCE < path.search.size <= best


@given(mtu=st.integers(BASE, 9_000), unlucky=st.lists(st.booleans(), max_size=PROBES_MAX))
def test_any_losses_end_in_few_probes_and_a_size_that_works(mtu: int, unlucky: list[bool]) -> None:
    path = Path(mtu, PathMtu(largest=LARGEST), unlucky)
    path.settle()
    assert BASE <= path.search.size <= mtu
    assert not path.step()


@given(largest=st.integers(BASE, 65_527), mtu=st.integers(BASE, 65_527))
def test_next_size_narrows_until_nothing_is_left_to_gain(largest: int, mtu: int) -> None:
    proven, ceiling, steps = BASE, largest, 0
    while (size := next_size(proven, ceiling)) is not None:
        assert proven < size <= ceiling
        proven, ceiling = (size, ceiling) if size <= mtu else (proven, size - 1)
        steps += 1
    assert ceiling - proven < TOLERANCE
    assert steps <= SIZES_MAX


def test_one_probe_is_in_flight_at_a_time() -> None:
    search = PathMtu(largest=LARGEST)
    assert search.next_at == 0.0
    assert search.probe(0.0) == LARGEST
    assert search.probe(0.0) is None
    assert search.next_at is None
    search.on_probe_lost(LARGEST, 1, 0.1)
    assert search.next_at == 0.1
    assert search.probe(0.1) == LARGEST


def test_an_acknowledgement_that_comes_after_the_loss_still_counts() -> None:
    search = PathMtu(largest=LARGEST)
    search.probe(0.0)
    search.on_probe_lost(LARGEST, 1, 0.1)
    search.probe(0.1)
    search.on_probe_acked(LARGEST, 1, 0.2)
    assert search.size == LARGEST


def test_the_peers_limit_binds() -> None:
    search = PathMtu(largest=LARGEST)
    search.limit(1_472)
    assert Path(65_000, search).settle() == 1_472
    search.limit(1_300)
    assert search.size == 1_300
    search.limit(5)
    assert search.size == BASE
    assert search.next_at is None


def test_a_limit_that_leaves_nothing_to_gain_stops_the_raise_timer() -> None:
    path = settled(BASE)
    assert path.search.next_at is not None
    path.search.limit(BASE)
    assert path.search.next_at is None
    assert path.search.probe(2 * RAISE_S) is None


def test_a_limit_above_the_own_changes_nothing() -> None:
    search = PathMtu(largest=1_452)
    search.limit(65_527)
    assert Path(65_000, search).settle() == 1_452


def test_a_largest_size_below_the_base_is_the_base() -> None:
    search = PathMtu(largest=500)
    assert search.size == BASE
    assert search.probe(0.0) is None


def test_a_path_that_grew_is_found_after_the_raise_timer() -> None:
    path = settled(1_372)
    assert path.search.next_at is not None
    assert RAISE_S - 1 < path.search.next_at - path.now <= RAISE_S
    path.mtu = 1_472
    assert path.settle() == 1_372
    path.now = path.search.next_at
    assert path.settle() == 1_472


def test_a_shrunk_path_falls_back_after_three_packets_and_is_searched_again() -> None:
    path = settled(1_472)
    path.mtu = 1_300
    assert [path.packet() for _ in range(4)] == [False, False, False, True]
    assert path.search.size == BASE
    assert 1_300 - TOLERANCE < path.settle() <= 1_300
    assert path.packet()


@given(before=st.integers(BASE, 9_000), after=st.integers(BASE, 9_000), probes=st.integers(0, PROBES_MAX))
def test_whenever_a_path_changes_few_packets_vanish(before: int, after: int, probes: int) -> None:
    path = Path(before, PathMtu(largest=LARGEST))
    for _ in range(probes):
        path.step()
    path.mtu = after
    lost = 0
    for _ in range(4 * PROBES_MAX):
        lost += not path.packet()
        path.step()
    assert lost <= HOLE_PACKETS
    assert BASE <= path.search.size <= after
    assert path.packet()


@given(sizes=st.lists(st.integers(BASE + 1, 1_472), min_size=HOLE_PACKETS, max_size=40))
def test_packets_of_any_size_above_the_base_show_a_black_hole(sizes: list[int]) -> None:
    path = settled(1_472)
    path.packet()
    path.mtu = BASE
    for size in sizes:
        path.packet(size)
    assert path.search.size == BASE


def test_congestion_is_no_black_hole() -> None:
    path = settled(1_472)
    for _ in range(10):
        path.packets(*[False] * 50, True)
    assert path.search.size == 1_472
    path.packets(True, False, False)
    path.packets(True, False, True)
    assert path.search.size == 1_472


def test_small_packets_that_arrive_do_not_excuse_large_ones() -> None:
    path = settled(LARGEST)
    path.mtu = 1_400
    for _ in range(HOLE_PACKETS):
        assert path.search.size == LARGEST
        path.packet()
        path.search.on_packet_acked(1_390, path.number)
    assert path.search.size == BASE


def test_small_packets_that_are_lost_say_nothing() -> None:
    path = settled(1_472)
    for number in range(100):
        path.search.on_packet_lost(BASE, path.number + number, path.now)
    assert path.search.size == 1_472


def test_after_a_false_alarm_one_probe_restores_the_size() -> None:
    path = settled(1_472)
    path.packets(False, False, False)
    assert path.search.size == BASE
    path.settle()
    assert path.search.size == 1_472
    assert path.probes == [1_472]
    path.packets(True)
    path.packets(False, False, False)
    path.settle()
    assert path.search.size == 1_472


def test_a_size_that_only_probes_survive_is_given_up() -> None:
    path = settled(1_472)
    path.packets(False, False, False)
    path.settle()
    path.packets(False, False, False)
    path.settle()
    assert BASE < path.search.size < 1_472


def test_where_nothing_answers_two_timeouts_fall_back_and_probing_waits_for_a_sign_of_life() -> None:
    path = settled(1_472)
    path.search.on_timeouts(1, path.now)
    assert path.search.size == 1_472
    path.search.on_timeouts(2, path.now)
    assert path.search.size == BASE
    assert path.search.probe(path.now) is None
    assert path.search.next_at is None
    path.search.on_packet_acked(60, path.number)
    assert path.settle() == 1_472


def test_a_size_in_use_that_the_system_refuses_is_left_at_once() -> None:
    path = settled(1_472)
    path.system_mtu = path.mtu = 1_400
    path.search.on_too_big(1_472, path.now)
    assert path.search.size == BASE
    assert path.settle() == 1_392
    path.search.on_too_big(BASE, path.now)
    assert path.search.size == 1_392


def test_another_path_is_searched_from_the_base() -> None:
    path = settled(LARGEST)
    path.mtu = 1_352
    path.search.reset(path.now, path.number + 1)
    assert path.search.size == BASE
    assert path.settle() == 1_352


def test_packets_of_the_former_path_tell_nothing_about_the_new_one() -> None:
    search = PathMtu(largest=LARGEST)
    search.probe(0.0)
    search.reset(1.0, 10)
    assert search.probe(1.0) == LARGEST
    search.on_probe_acked(LARGEST, 9, 1.1)
    search.on_probe_lost(LARGEST, 9, 1.1)
    assert search.size == BASE
    assert search.probe(1.1) is None
    search.on_probe_acked(LARGEST, 10, 1.2)
    for number in range(10):
        search.on_packet_lost(LARGEST, number, 1.3)
    assert search.size == LARGEST


class AnyOrder(RuleBasedStateMachine):
    """Outcomes in any order, true and absurd: the search stays within its bounds, and bounded."""

    number = 0
    now = 0.0

    @initialize(largest=st.integers(0, 9_000))
    def start(self, largest: int) -> None:
        self.search = PathMtu(largest=largest)
        self.allowed = max(BASE, largest)

    @rule(later=st.sampled_from([0.0, 0.1, RAISE_S]))
    def probe(self, later: float) -> None:
        self.now += later
        wants = self.search.next_at
        size = self.search.probe(self.now)
        assert (size is not None) == (wants is not None and wants <= self.now)
        if size is not None:
            assert self.search.size < size <= self.allowed
            assert self.search.probe(self.now + RAISE_S) is None

    def sizes(self) -> Callable[[int], int]:
        return lambda choice: [self.search._candidate, self.search.size, BASE, BASE + 1, 1_452, 8_900][choice]

    @rule(choice=st.integers(0, 5), number=st.integers(0, 3), event=st.sampled_from(["acked", "lost"]))
    def probe_outcome(self, choice: int, number: int, event: str) -> None:
        self.number += 1
        getattr(self.search, f"on_probe_{event}")(self.sizes()(choice), self.number - number, self.now)

    @rule(choice=st.integers(0, 5), number=st.integers(0, 3))
    def packet_acked(self, choice: int, number: int) -> None:
        self.number += 1
        self.search.on_packet_acked(self.sizes()(choice), self.number - number)

    @rule(choice=st.integers(0, 5), number=st.integers(0, 3))
    def packet_lost(self, choice: int, number: int) -> None:
        self.number += 1
        self.search.on_packet_lost(self.sizes()(choice), self.number - number, self.now)

    @rule(choice=st.integers(0, 5))
    def too_big(self, choice: int) -> None:
        size = self.sizes()(choice)
        self.search.on_too_big(size, self.now)
        assert size <= BASE or self.search.size < size

    @rule(count=st.integers(0, 4))
    def timeouts(self, count: int) -> None:
        self.search.on_timeouts(count, self.now)

    @rule(behind=st.integers(0, 2))
    def moved(self, behind: int) -> None:
        self.search.reset(self.now, self.number - behind)
        assert self.search.size == BASE

    @precondition(lambda self: self.allowed > BASE)
    @rule(limit=st.integers(0, 9_000))
    def limited(self, limit: int) -> None:
        self.search.limit(limit)
        self.allowed = max(BASE, min(self.allowed, limit))

    @invariant()
    def stays_bounded(self) -> None:
        if not hasattr(self, "search"):
            return
        assert BASE <= self.search.size <= self.allowed
        assert self.search.size <= self.search._ceiling <= self.allowed
        assert len(self.search._suspects) < HOLE_PACKETS


TestAnyOrder = AnyOrder.TestCase
