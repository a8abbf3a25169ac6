"""Gates of a comparison: what they let through, and wrong ones named with what is allowed."""

import pytest

from p2pnet.measure.gates import DEFAULT_GATES, FIGURES, GATES_MAX, RUN_GATES, all_of, parse
from p2pnet.model.errors import SpecError
from p2pnet.model.expectation_words import METRICS


@pytest.mark.parametrize(
    ("text", "metric", "unit", "limit"),
    [
        ("p99:+10%", "p99", "relative", 0.1), (" p50 : + 5ms", "p50", "ms", 5.0), ("max:+2s", "max", "ms", 2000.0),
        ("reach:-0.1%", "reach", "points", -0.001), ("duplicates:+0.1", "duplicates", "number", 0.1),
        ("bytes:+2.5%", "bytes", "relative", 0.025), ("hops:+1", "hops", "number", 1.0),
        ("throughput:-5%", "throughput", "relative", -0.05), ("p95:+0%", "p95", "relative", 0.0),
    ],
)  # fmt: skip
def test_a_gate_is_a_metric_and_the_change_it_may_take(text: str, metric: str, unit: str, limit: float) -> None:
    gate = parse(text)
    assert (gate.metric, gate.unit) == (metric, unit)
    assert gate.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99", "is no gate"), ("p99:10%", "is no gate"), ("p99 <= 10%", "is no gate"), ("", "is no gate"),
        ("p98:+10%", "is no metric: p50 p90"), ("p99:-10%", "more is worse, so the change it may take begins with +"),
        ("reach:+1%", "less is worse, so the change it may take begins with -"), ("p99:+10", "a percentage or a duration"),
        ("duplicates:+5ms", "a percentage or a plain number"), ("throughput:-5", "a percentage"), ("reach:-1", "a percentage"),
        ("throughput:-100%", "less than 100%"), ("p99:+5xy", "5xy"), ("p" * 100, "at most 80 characters"),
    ],
)  # fmt: skip
def test_a_wrong_gate_is_named_with_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("+", r"\+")):
        parse(text)


def test_gates_are_few_and_of_different_metrics() -> None:
    assert [gate.metric for gate in all_of(DEFAULT_GATES)] == ["p50", "p99", "reach", "bytes"]
    assert all_of(RUN_GATES)
    with pytest.raises(SpecError, match="two gates for p99"):
        all_of(["p99:+10%", "p99:+5ms"])
    with pytest.raises(SpecError, match="too many"):
        all_of(["p99:+1%"] * (GATES_MAX + 1))


def test_every_metric_of_expectations_has_a_figure() -> None:
    assert FIGURES.keys() == METRICS.keys()
