"""A delay that varies has the mean and the spread that were asked for, however busy the path, with order kept or without."""

from __future__ import annotations

import itertools
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, S, Traffic, numbers, patient, shapes, towards

from p2pnet.model.network import jitter_max_ns
from p2pnet.netem import LinkShape, jitter_period_ns
from p2pnet.netem.jitter import OrderedJitter, jitter, quantiles

KINDS = pytest.mark.parametrize("kind", ["normal", "uniform"])
ORDERED = pytest.mark.parametrize("keep_order", [True, False], ids=["ordered", "free"])
PACES = pytest.mark.parametrize("pace", ["busy", "idle"])


def varying(delay_ns: int, jitter_ns: int, kind: str, keep_order: bool) -> LinkShape:
    return LinkShape(delay_ns=delay_ns, jitter_ns=jitter_ns, jitter_kind=kind, keep_order=keep_order)


def delays(shape: LinkShape, pace: str, seed: int = 5) -> list[int]:
    """Of 20,000 packets: far closer together than the jitter varies, or far apart."""
    gap = max(1, jitter_period_ns(shape) // 20) if pace == "busy" else jitter_period_ns(shape) * 7 // 3 + 1
    return [trip.took_ns for trip in Traffic.on(shape, seed).stream(20_000, gap).end()]


@KINDS
@ORDERED
@PACES
@pytest.mark.parametrize("share", [0.1, 1.0], ids=["a tenth of the delay", "all the delay can carry"])
def test_the_mean_and_the_spread_are_as_asked(kind: str, keep_order: bool, pace: str, share: float) -> None:
    most = jitter_max_ns(50 * MS, kind, keep_order)
    shape = varying(50 * MS, min(5 * MS, most) if share < 1 else most, kind, keep_order)
    seen = delays(shape, pace)
    std = shape.jitter_ns / (3**0.5 if kind == "uniform" else 1)
    values = 20_000 if pace == "idle" or not keep_order else 1_000  # so many were drawn
    assert statistics.fmean(seen) == pytest.approx(50 * MS, abs=4 * std / values**0.5)
    assert statistics.pstdev(seen) == pytest.approx(std, rel=4 / (2 * values) ** 0.5)
    assert 0 <= min(seen) < max(seen) <= 100 * MS


@PACES
def test_twenty_on_fifty_milliseconds_stay_fifty(pace: str) -> None:
    """Delays of their own that are held back to keep their order make 67 of it on a busy path."""
    assert statistics.fmean(delays(varying(50 * MS, 20 * MS, "uniform", keep_order=True), pace)) == pytest.approx(
        50 * MS, rel=0.02
    )


def test_uniform_delays_stay_within_what_was_asked_and_reach_it() -> None:
    seen = delays(varying(50 * MS, 10 * MS, "uniform", keep_order=False), "busy")
    assert 40 * MS <= min(seen) < 40.1 * MS
    assert 59.9 * MS < max(seen) <= 60 * MS


def test_normal_delays_have_the_shares_of_a_normal_distribution() -> None:
    seen = delays(varying(50 * MS, 10 * MS, "normal", keep_order=False), "busy")
    for deviations, share in ((0.5, 0.383), (1, 0.683), (2, 0.954)):
        within = sum(abs(one - 50 * MS) < deviations * 10 * MS for one in seen)
        assert within / 20_000 == pytest.approx(share, abs=0.015)


@KINDS
def test_a_jitter_that_the_delay_cannot_carry_is_cut_to_what_it_can(kind: str) -> None:
    most = varying(5 * MS, jitter_max_ns(5 * MS, kind, keep_order=False), kind, keep_order=False)
    assert delays(varying(5 * MS, S, kind, keep_order=False), "busy") == delays(most, "busy")
    assert jitter(varying(0, S, kind, keep_order=True)) is None


@patient
@given(shapes(keep_order=True), st.lists(st.integers(0, 3 * S), min_size=2, max_size=100), st.integers())
def test_a_line_of_delays_never_falls_faster_than_time_goes_on(shape: LinkShape, pauses: list[int], seed: int) -> None:
    line, random = jitter(shape), Random(seed)
    if line is None:
        return
    assert isinstance(line, OrderedJitter)
    now, before = 0, 0
    for pause in pauses:
        # Pauses of a few periods, of parts of one, and of a few ns.
        now += pause * line.period_ns // S if pause % 3 else pause % 5
        departs = now + shape.delay_ns + line.extra_ns(now, random.random)
        assert departs >= max(now, before)
        before = departs


def test_packets_that_keep_their_order_share_their_delay_and_others_overtake() -> None:
    ordered = Traffic.on(varying(50 * MS, 10 * MS, "normal", keep_order=True), 1).stream(2_000, 10_000).end()
    free = Traffic.on(varying(50 * MS, 10 * MS, "normal", keep_order=False), 1).stream(2_000, 10_000).end()
    assert numbers(ordered) == sorted(numbers(ordered))
    steps = [abs(one.took_ns - other.took_ns) for one, other in itertools.pairwise(ordered)]
    assert max(steps) <= 10_000
    assert sum(one > other for one, other in itertools.pairwise(numbers(free))) > 900


def test_an_idle_path_draws_nothing_for_the_time_without_packets() -> None:
    drawn = 0

    def chance() -> float:
        nonlocal drawn
        drawn += 1
        return 0.5

    traffic = Traffic(towards(varying(50 * MS, 10 * MS, "normal", keep_order=True)), chance)
    for _ in range(10):
        traffic.go_to(traffic.now + 3_600 * S)
        traffic.send()
    assert drawn <= 30


def test_a_change_of_loss_alone_leaves_the_line_of_delays_as_it_is() -> None:
    shape = varying(50 * MS, 20 * MS, "normal", keep_order=True)
    traffic = Traffic.on(shape, 9).stream(500, MS)
    traffic.apply(towards(LinkShape(delay_ns=50 * MS, jitter_ns=20 * MS, loss=1e-9)))
    trips = traffic.stream(500, MS).end()
    assert numbers(trips) == list(range(1_000))


def test_the_period_tells_how_far_apart_two_delays_must_be_to_be_two() -> None:
    shape = varying(100 * MS, 5 * MS, "normal", keep_order=True)
    assert jitter_period_ns(shape) == pytest.approx(7.4 * 5 * MS, rel=0.02)
    assert jitter_period_ns(varying(100 * MS, 5 * MS, "normal", keep_order=False)) == 0
    assert jitter_period_ns(LinkShape(delay_ns=MS)) == 0


def test_links_alike_share_their_quantiles():
    """A full mesh has hundreds of thousands of links, whose tables took a gigabyte and a minute."""
    one, other = (quantiles("normal", 1e6, 20e6) for _ in range(2))
    assert one is other
    assert quantiles("normal", 2e6, 20e6) != one
