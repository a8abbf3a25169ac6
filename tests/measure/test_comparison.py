"""Two versions judged: worse ones found, equal ones let through as often as it says, and what would decide the rest."""

import math
import random
from typing import Any

import msgspec
import pytest
from tests.measure.test_trials import trial

from p2pnet.measure import comparison, statistics
from p2pnet.measure.comparison import Pair, judge, judge_runs, looks, trials_needed, verdict_of
from p2pnet.measure.gates import all_of
from p2pnet.model.comparison import GateResult
from p2pnet.model.report import Latency, Reach, Report

P99 = all_of(["p99:+10%"])


def test_changes_that_differ_by_rounding_alone_are_one_change() -> None:
    third = math.log(30.0 / 20.0)
    low, high = statistics.mean_interval([third, math.nextafter(third, 1.0), third], 0.95)
    assert low == pytest.approx(third)
    assert high == pytest.approx(third)


def report(seed: int, p99: float | None, **changes: Any) -> Report:
    return msgspec.structs.replace(trial(seed), latency_ms=Latency(50.0, 90.0, 95.0, p99, p99), **changes)


def pairs(*latencies: tuple[float | None, float | None]) -> list[Pair]:
    return [Pair(seed, report(seed, base), report(seed, head)) for seed, (base, head) in enumerate(latencies)]


def only(results: list[GateResult]) -> GateResult:
    [result] = results
    return result


def test_a_change_beyond_the_gate_is_a_regression_and_one_within_it_passes() -> None:
    worse = only(judge(pairs((100, 125), (110, 137), (90, 113), (105, 131)), P99, most=20))
    assert (worse.verdict, worse.trials_needed) == ("regression", None)
    assert worse.effect == pytest.approx(0.25, abs=0.01)
    assert worse.low > 0.1
    within = only(judge(pairs((100, 104), (110, 114), (90, 94), (105, 109)), P99, most=20))
    assert within.verdict == "pass"
    assert within.high <= 0.1
    better = only(judge(pairs((100, 50), (110, 56), (90, 44), (105, 52)), P99, most=20))
    assert better.verdict == "pass"


def test_what_is_not_decided_says_how_many_trials_would() -> None:
    noisy = pairs((100, 150), (100, 80), (100, 140), (100, 95), (100, 130))
    result = only(judge(noisy, P99, most=20))
    assert result.verdict == "inconclusive"
    assert result.trials_needed > 5
    assert trials_needed([result]) == result.trials_needed
    assert verdict_of([result], []) == "inconclusive"


def test_the_number_of_trials_that_it_names_decides_about_nine_times_in_ten() -> None:
    rng = random.Random(11)
    needed = 40
    values = [rng.gauss(0.0, 0.1) for _ in range(2_000)]
    spread = values[:400]
    limit = next(
        limit / 1000 for limit in range(1, 400)
        if (statistics.trials_to_decide(spread[:400], limit / 1000, 0.95) or math.inf) <= 401
        and ((1.96 + 1.2816) * 0.1 / (limit / 1000 - sum(spread) / 400)) ** 2 <= needed
    )  # fmt: skip
    decided = sum(
        statistics.mean_interval([rng.gauss(0.0, 0.1) for _ in range(needed)], 0.95)[1] <= limit for _ in range(300)
    )
    assert 0.8 <= decided / 300 <= 0.98


@pytest.mark.parametrize(("slower", "least", "most"), [(1.0, 0.0, 0.05), (1.2, 0.9, 1.0)])
def test_equal_versions_are_seldom_called_a_regression_and_slower_ones_nearly_always(
    slower: float, least: float, most: float
) -> None:
    """At every look, with the default gates' number, as a whole comparison does it."""
    rng = random.Random(5)

    def latency() -> float:
        return rng.lognormvariate(math.log(100), 0.08)

    found, times = 0, 200
    for _ in range(times):
        measured: list[tuple[float | None, float | None]] = []
        for look in looks(20):
            while len(measured) < look:
                measured.append((latency(), latency() * slower))
            results = judge(pairs(*measured), all_of(["p99:+5%"]), most=20)
            if comparison.is_decided(results):
                break
        found += verdict_of(results, []) == "regression"
    assert least <= found / times <= most


def test_fewer_than_three_trials_decide_nothing() -> None:
    result = only(judge(pairs((100, 200), (100, 200)), P99, most=20))
    assert (result.verdict, result.trials_needed) == ("inconclusive", 3)


def test_trials_without_any_difference_pass_with_an_interval_of_no_width() -> None:
    result = only(judge(pairs((100, 100), (90, 90), (80, 80)), P99, most=20))
    assert (result.verdict, result.low, result.high) == ("pass", 0.0, 0.0)


def test_misses_are_no_numbers_but_count() -> None:
    never = only(judge(pairs(*[(100.0, None)] * 12), P99, most=20))
    assert (never.verdict, never.head) == ("regression", None)
    assert "12 of 12" in never.why
    once = only(judge(pairs(*[(100.0, 100.0)] * 9, (100.0, None)), P99, most=20))
    assert once.verdict == "inconclusive"
    both = only(judge(pairs(*[(100.0, 100.0)] * 9, (None, None)), P99, most=20))
    assert both.verdict == "pass"
    healed = only(judge(pairs(*[(100.0, 100.0)] * 9, (None, 100.0)), P99, most=20))
    assert healed.verdict == "pass"


def test_reach_falls_in_points_and_less_is_worse() -> None:
    def pair(seed: int, base: float, head: float) -> Pair:
        of_base, of_head = (Reach(100, int(ratio * 100), ratio) for ratio in (base, head))
        return Pair(seed, report(seed, 1.0, reach=of_base), report(seed, 1.0, reach=of_head))

    gates = all_of(["reach:-1%"])
    lost = only(judge([pair(seed, 1.0, 0.9) for seed in range(4)], gates, most=4))
    assert lost.verdict == "regression"
    assert lost.effect == pytest.approx(-0.1)
    gained = only(judge([pair(seed, 0.9, 1.0) for seed in range(4)], gates, most=4))
    assert gained.verdict == "pass"


def test_a_figure_of_zero_has_no_change_in_percent() -> None:
    gates = all_of(["duplicates:+10%"])
    zero = [Pair(seed, report(seed, 1.0), report(seed, 1.0, duplicates_per_delivery=0.5)) for seed in range(4)]
    assert "no change in percent" in only(judge(zero, gates, most=4)).why
    assert only(judge(zero, all_of(["duplicates:+0.1"]), most=4)).verdict == "regression"
    same = [Pair(seed, report(seed, 1.0), report(seed, 1.0)) for seed in range(4)]
    assert only(judge(same, gates, most=4)).verdict == "pass"


def test_more_gates_and_more_looks_ask_for_more_certainty() -> None:
    assert looks(20) == [5, 10, 15, 20]
    assert looks(3) == [3]
    assert looks(4) == [3, 4]
    assert comparison.share_of_confidence(1, 1) == pytest.approx(0.95)
    assert comparison.share_of_confidence(4, 4) == pytest.approx(1 - 0.05 / 16)


def test_invalid_outranks_a_regression_and_that_outranks_inconclusive() -> None:
    def result(verdict: Any) -> GateResult:
        return GateResult(gate="p99:+10%", metric="p99", unit="relative", limit=0.1, verdict=verdict)

    assert verdict_of([result("pass"), result("regression"), result("inconclusive")], []) == "regression"
    assert verdict_of([result("regression")], ["a trial was lost"]) == "invalid"
    assert verdict_of([result("pass")], []) == "pass"


# --- two runs ---


def artifacts(count: int, scale: float, rng: random.Random) -> list[list[float]]:
    return [[rng.uniform(40, 60) * scale for _ in range(9)] for _ in range(count)]


def test_of_two_runs_the_artifacts_are_compared() -> None:
    rng = random.Random(3)
    gates = all_of(["p50:+10%", "reach:-1%"])
    base, slow = artifacts(40, 1.0, rng), artifacts(40, 1.5, rng)
    assert [one.verdict for one in judge_runs(base, slow, gates)] == ["regression", "pass"]
    assert [one.verdict for one in judge_runs(base, artifacts(40, 1.0, rng), gates)] == ["pass", "pass"]
    lossy = [[math.inf, *values[1:]] for values in base]
    [latency, reach] = judge_runs(base, lossy, all_of(["max:+10%", "reach:-1%"]))
    assert (latency.verdict, latency.head) == ("regression", None)
    assert reach.verdict == "regression"
    assert reach.effect == pytest.approx(-1 / 9)


def test_a_run_of_few_artifacts_has_no_spread_and_decides_nothing() -> None:
    rng = random.Random(3)
    [result] = judge_runs(artifacts(2, 1.0, rng), artifacts(2, 9.0, rng), P99)
    assert result.verdict == "inconclusive"
    assert "5 artifacts" in result.why
