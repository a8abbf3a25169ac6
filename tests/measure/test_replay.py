"""A record beside its replay: what missed in both, what the figures are apart, what keeps a verdict from coming again."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.samples import sample_report

from p2pnet.measure import replay as beside
from p2pnet.measure.receipts import ReceiptRow
from p2pnet.measure.replay import PAIRS_MAX, Outcomes
from p2pnet.model.replay import Replay, ReplayedRun
from p2pnet.model.report import ExpectationResult, Latency, Report

NAMES = {number: (f"{number:02x}" * 32, f"file-{number}") for number in range(9)}
pairs = st.sets(st.tuples(st.integers(0, 8), st.sampled_from("abcdef")))


def row(artifact: str, node: str, state: str) -> ReceiptRow:
    return ReceiptRow(artifact, "p", node, 0, None, None, "", None, 0, state)


def test_rows_are_sorted_by_what_came_of_them():
    rows = [row("a", "x", "missed"), row("a", "y", "received"), row("b", "x", "unknown"), row("c", "x", "missed")]
    assert beside.outcomes(rows, {"a": 0, "b": 1}) == Outcomes({(0, "x")}, {(1, "x")})


@given(recorded=pairs, replayed=pairs, unknown=pairs)
def test_every_missed_receipt_is_counted_once_and_what_the_record_does_not_know_is_not(recorded, replayed, unknown):
    recorded -= unknown
    found = beside.misses_of(Outcomes(recorded, unknown), Outcomes(replayed, set()), NAMES)
    assert found.recorded == len(recorded)
    assert found.replayed == len(replayed - unknown)
    assert found.both == len(recorded & replayed)
    assert len(found.only_recorded) == min(PAIRS_MAX, found.recorded - found.both)
    assert len(found.only_replayed) == min(PAIRS_MAX, found.replayed - found.both)


def test_a_figure_that_is_infinite_in_one_has_no_gap():
    late = msgspec.structs.replace(sample_report(), latency_ms=Latency(100.0, 260.0, None, None, None))
    gaps = {one.metric: one.gap for one in beside.figures_beside(sample_report(), late)}
    assert gaps["p50"] == -41.2
    assert (gaps["p90"], gaps["p99"], gaps["reach"]) == (0.0, None, 0.0)


def judged(*results: ExpectationResult, **more: Any) -> Report:
    return msgspec.structs.replace(sample_report(), expectations=list(results), **more)


def test_an_expectation_that_was_not_judged_again_did_not_hold():
    [one] = beside.expectations_beside(judged(ExpectationResult("reach == 100%", 100.0, True)), judged())
    assert (one.recorded_ok, one.replayed_ok, one.same) == (True, False, False)
    assert (one.recorded_judged, one.replayed_judged) == (True, False)


def test_what_an_invalid_run_measured_is_no_judgement():
    missed = judged(ExpectationResult("p95 <= 1s", None, False), verdict="invalid", invalid=["the lab died"])
    [one] = beside.expectations_beside(missed, missed)
    assert (one.recorded_judged, one.replayed_judged) == (False, False)


def test_a_verdict_comes_again_only_with_the_same_expectations():
    held, missed = ExpectationResult("p95 <= 1s", 1.0, True), ExpectationResult("p95 <= 1s", 2.0, False)

    def replay(before: list[ExpectationResult], after: list[ExpectationResult], again: str = "fail") -> Replay:
        run = ReplayedRun(run="r-1", expectations=beside.expectations_beside(judged(*before), judged(*after)))
        return Replay(
            bundle="b", subnet="demo", target="local", version="1", seed=1, nodes=2, verdict="nothing to compare",
            recorded_verdict="fail", replayed_verdict=again, runs=[run],
        )  # fmt: skip

    assert beside.why_not(replay([missed], [missed])) == []
    assert beside.why_not(replay([missed], [held])) == ["p95 <= 1s did not hold in the record, and held in the replay"]
    assert beside.why_not(replay([], [], "pass")) == ["the record is a fail, the replay a pass"]


def test_a_run_without_a_verdict_of_its_own_cannot_be_had_again():
    runs = [
        ReplayedRun(run="r-1"),
        ReplayedRun(run="r-2", recorded_verdict="invalid", artifacts=1),
        ReplayedRun(run="r-3", recorded_verdict="pass"),
        ReplayedRun(run="r-4", recorded_verdict="pass", artifacts=1),
    ]
    assert beside.why_incomparable(runs, {"r-2": ["the lab died"]}) == [
        "run r-1 has no report: it had not ended",
        "run r-2 was invalid: the lab died",
        "run r-3 published nothing",
    ]
