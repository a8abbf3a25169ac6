"""Quantities as people read them."""

import pytest

from p2pnet.measure.change_words import value_words
from p2pnet.measure.wording import MISSING, adversary_parts, milliseconds, percent, turned_out
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.comparison import GateResult
from p2pnet.model.scenario_run import StepExpectation


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, MISSING), (0.0, "0.0 ms"), (99.94, "99.9 ms"), (141.2, "141 ms"), (2312.0, "2.31 s"),
     (65_000.0, "65.0 s"), (-2.0, "-2.0 ms"), (float("inf"), MISSING)],
)  # fmt: skip
def test_a_latency_is_as_precise_as_its_size(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, MISSING), (1.0, "100%"), (0.99996, "99.9%"), (0.0, "0%"), (1e-9, "0.1%")]
)
def test_a_hundred_percent_is_all_and_nought_is_nothing(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text


def test_adversaries_are_told_by_group_and_honest_nodes_need_no_words() -> None:
    groups = [AdversaryGroup("liar", "lying", ["liar-0", "liar-1"]), AdversaryGroup("old", "slow", ["old-0"])]
    assert adversary_parts(groups, 8) == [
        "5 of 8 nodes, of the others nothing is expected",
        "2 lying: liar-0, liar-1",
        "1 slow: old-0",
    ]
    assert adversary_parts([], 8) == []


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [("p99", 141.2, "141 ms"), ("reach", 0.5, "50.0%"), ("throughput", 153_600.0, "150 KiB/s"), ("rate", 4.0, "4/s"),
     ("bytes", 1.086, "1.086"), ("throughput", None, MISSING)],
)  # fmt: skip
def test_what_one_side_of_a_comparison_measured_has_its_unit(metric: str, value: float | None, text: str) -> None:
    gate = GateResult(gate=f"{metric}:-5%", metric=metric, unit="relative", limit=0.05, verdict="pass")
    assert value_words(gate, value) == text


@pytest.mark.parametrize(
    ("value", "judged", "detail", "text"),
    [(412.0, True, "", "measured 412 ms"), (None, True, "", "no finite value"), (None, False, "", "not judged"),
     (2.0, True, "82 ms against 41 ms", "82 ms against 41 ms")],
)  # fmt: skip
def test_an_expectation_of_a_scenario_tells_what_came_of_it(
    value: float | None, judged: bool, detail: str, text: str
) -> None:
    one = StepExpectation(
        expr="p95 <= 1ms", value=value, ok=False, name="two", step="two", detail=detail, judged=judged
    )
    assert turned_out(one) == text
