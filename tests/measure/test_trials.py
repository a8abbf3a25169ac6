"""Trials merged: means and intervals as a textbook has them, misses that stay infinite, and no order but that of seeds."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.chances import students_t
from p2pnet.measure.trials import first_unsuccessful, merge, spread_of
from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, Reach, Report
from p2pnet.model.trials import Spread, TrialFailure

# Of Student's distribution, two-sided, as tables have them.
TABLE = [
    (0.95, 1, 12.706),
    (0.95, 2, 4.303),
    (0.95, 9, 2.262),
    (0.95, 29, 2.045),
    (0.95, 1000, 1.962),
    (0.99, 5, 4.032),
]


def trial(seed: int, p95: float | None = 100.0, **changes: Any) -> Report:
    report = Report(
        run="", subnet="demo", target="sim", seed=seed, nodes=5, artifacts=1, verdict="pass", reach=Reach(4, 4, 1.0),
        latency_ms=Latency(50.0, 90.0, p95, p95, p95), hops=Hops(1, 1), duplicates_per_delivery=0.0,
        bytes=ByteCost(100, 101, 1.01), clock_bound_ms=0.0, digest=f"{seed:064x}",
        expectations=[ExpectationResult("reach == 100%", 100.0, ok=True)],
    )  # fmt: skip
    return msgspec.structs.replace(report, **changes)


def merged(*reports: Report, failed: tuple[TrialFailure, ...] = (), asked: int | None = None) -> Any:
    count = len(reports) + len(failed) if asked is None else asked
    return merge(reports, failed, asked=count, seed=1, subnet="demo")


@pytest.mark.parametrize(("confidence", "freedom", "t"), TABLE)
def test_the_width_of_an_interval_is_that_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    assert students_t(confidence, freedom) == pytest.approx(t, abs=6e-4)


def test_a_figure_is_a_mean_with_its_interval() -> None:
    found = spread_of([2.0, 4.0, 6.0])

    assert (found.mean, found.least, found.most, found.trials) == (4.0, 2.0, 6.0, 3)
    # standard error 2 / sqrt(3), t 4.303
    assert found.low == 0.0
    assert found.high == pytest.approx(4 + 4.3027 * 2 / 3**0.5, abs=1e-3)


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(400):
        found = spread_of([rng.gauss(100.0, 15.0) for _ in range(5)])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 100.0 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_one_trial_has_a_mean_and_no_interval() -> None:
    assert spread_of([3.0]) == Spread(3.0, None, None, 3.0, 3.0, 1)


def test_a_miss_in_one_trial_leaves_no_mean_and_no_largest_value() -> None:
    assert spread_of([3.0, None, 5.0]) == Spread(None, None, None, 3.0, None, 2)
    assert spread_of([None]) == spread_of([]) == Spread()


def test_no_interval_leaves_what_can_be() -> None:
    assert spread_of([0.99, 1.0, 1.0], at_most=1.0).high == 1.0
    assert spread_of([1.0, 200.0]).low == 0.0


@given(st.permutations([trial(seed, 90.0 + seed) for seed in range(1, 7)]))
def test_the_order_in_which_reports_come_makes_no_difference(reports: list[Report]) -> None:
    assert merged(*reports) == merged(*sorted(reports, key=lambda one: one.seed))


def test_every_trial_stands_there_by_its_seed() -> None:
    trials = merged(trial(3, 80.0), trial(1, 70.0), trial(2, 75.0))

    assert [(one.seed, one.p95_ms) for one in trials.trials] == [(1, 70.0), (2, 75.0), (3, 80.0)]
    assert trials.latency_ms.p95.mean == 75.0
    assert trials.latency_ms.p50.mean == 50.0
    assert (trials.verdict, trials.invalid, first_unsuccessful(trials)) == ("pass", [], None)


def test_one_that_fails_fails_them_all_and_is_named() -> None:
    missed = [ExpectationResult("reach == 100%", 75.0, ok=False)]
    trials = merged(trial(1), trial(2, None, verdict="fail", expectations=missed), trial(3))

    assert trials.verdict == "fail"
    assert first_unsuccessful(trials) == 2
    [expectation] = trials.expectations
    assert (expectation.held, expectation.trials, expectation.ok) == (2, 3, False)
    assert trials.trials[1].missed == ["reach == 100%"]
    assert trials.latency_ms.p95.mean is None


def test_invalid_lost_and_unfinished_ones_make_them_invalid_with_the_reason() -> None:
    assert merged(trial(1), trial(2, verdict="invalid", invalid=["the disk"])).invalid == [
        "1 trial invalid, the first with seed 2: the disk"
    ]
    lost = merged(trial(1), failed=(TrialFailure(9, "killed"), TrialFailure(4, "died")))
    assert lost.invalid == ["2 trials without a report, the first with seed 4: died"]
    assert first_unsuccessful(lost) == 4
    assert merged(trial(1), asked=3).invalid == ["2 trials not finished"]
    assert merged(asked=2).verdict == "invalid"
