"""An expectation is read whole or refused with the place and what is allowed there."""

import contextlib
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure import METRICS, parse
from p2pnet.measure.expectations import all_of
from p2pnet.measure.wording import measured
from p2pnet.model.errors import SpecError
from p2pnet.model.expectation_words import expectation_pattern
from p2pnet.model.report import ExpectationResult

UNITS = {"latency": "ms", "share": "%", "number": "", "throughput": "MB/s", "rate": "/s"}


@pytest.mark.parametrize(
    ("expr", "metric", "comparison", "threshold", "within_s"),
    [
        ("p95 <= 800ms", "p95", "<=", 800.0, None),
        ("reach >= 99%", "reach", ">=", 0.99, None),
        ("duplicates <= 0.2", "duplicates", "<=", 0.2, None),
        ("bytes <= 1.2", "bytes", "<=", 1.2, None),
        ("hops <= 3", "hops", "<=", 3.0, None),
        ("reach == 100% within 60s", "reach", "==", 1.0, 60.0),
        ("max<2s", "max", "<", 2000.0, None),
        ("  p50 != 1.5 ms  within 2m ", "p50", "!=", 1.5, 120.0),
        ("hops > 1 within 5s", "hops", ">", 1.0, 5.0),
        ("throughput >= 5MB/s", "throughput", ">=", 5e6, None),
        ("throughput>=1.5 KiB/s", "throughput", ">=", 1536.0, None),
        ("rate >= 4/s", "rate", ">=", 4.0, None),
        ("rate == 30 /m", "rate", "==", 0.5, None),
    ],
)
def test_the_grammar_of_the_design_is_read(
    expr: str, metric: str, comparison: str, threshold: float, within_s: float | None
) -> None:
    read = parse(expr)
    assert (read.metric, read.operator, read.within_s) == (metric, comparison, within_s)
    assert read.threshold == pytest.approx(threshold)
    assert read.expr == expr.strip()


@pytest.mark.parametrize(
    ("expr", "place", "wanted"),
    [
        ("", 1, "p50 p90 p95 p99 max reach duplicates bytes hops throughput rate"),
        ("p96 <= 1ms", 1, "a metric"),
        ("clean.p95 <= 1ms", 1, "a metric"),
        ("p95", 4, "a comparison"),
        ("p95 = 1ms", 5, "<= >= == != < >"),
        ("p95 =< 1ms", 5, "<= >= == != < >"),
        ("p95 <= 800", 8, "a duration with its unit"),
        ("p95 <= 80%", 8, "a duration with its unit"),
        ("p95 <= -1ms", 8, "a duration with its unit"),
        ("reach >= 0.99", 10, "a share in percent"),
        ("reach >= 101%", 10, "a share in percent"),
        ("hops <= 3ms", 9, "a plain number"),
        ("duplicates <= 20%", 15, "a plain number"),
        ("reach >= 99% soon", 14, "within"),
        ("reach >= 99% within", 20, "a duration"),
        ("reach >= 99% within 60", 21, "a duration"),
        ("reach >= 99% within 60s or so", 24, "the end"),
        ("bytes <= 1.2 within 60s", 14, "the whole run"),
        ("throughput >= 5", 15, "bytes per second with their unit"),
        ("throughput >= 5MB", 15, "bytes per second with their unit"),
        ("throughput >= 5Mbit/s", 15, "bytes per second with their unit"),
        ("throughput >= 5MB/m", 15, "bytes per second with their unit"),
        ("throughput >= 5MB/s within 60s", 21, "the whole run"),
        ("rate >= 4", 9, "artifacts per time"),
        ("rate >= 0/s", 9, "artifacts per time"),
        ("rate >= 4/s soon", 13, "within"),
        ("rate >= 4/s within 1s", 13, "the whole run"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(expr: str, place: int, wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(expr)
    assert f"at character {place}," in str(caught.value)
    assert wanted in str(caught.value)


def test_an_endless_expectation_is_refused() -> None:
    with pytest.raises(SpecError, match="200 characters"):
        parse("p95 <= 1ms" + " within 1s" * 50)


@given(st.text(max_size=60))
def test_any_text_gives_an_expectation_or_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert parse(text).metric in METRICS


@given(
    st.sampled_from(sorted(METRICS)),
    st.sampled_from(["<=", ">=", "==", "!=", "<", ">"]),
    st.integers(1, 100),
    st.sampled_from(["", " ", "  "]),
)
def test_whatever_is_written_by_the_grammar_is_read_back(metric: str, comparison: str, value: int, space: str) -> None:
    read = parse(f"{metric}{space}{comparison}{space}{value}{UNITS[METRICS[metric]]}")
    assert (read.metric, read.operator) == (metric, comparison)
    assert read.threshold / read.scale == pytest.approx(value)
    assert read.evaluate(read.threshold).ok == (comparison in {"<=", ">=", "=="})


def test_the_value_is_shown_in_the_expressions_own_unit() -> None:
    assert parse("p95 <= 2s").evaluate(1500.0).value == 1.5
    assert parse("reach >= 99%").evaluate(0.995).value == 99.5
    assert parse("hops <= 3").evaluate(2).value == 2
    assert parse("throughput >= 5MB/s").evaluate(7_500_000.0).value == 7.5
    assert parse("throughput >= 5MiB/s").evaluate(1048576.0).value == 1.0
    assert parse("rate >= 30/m").evaluate(2.0).value == 120.0


@pytest.mark.parametrize(
    ("expr", "value", "shown"),
    [
        ("p95 <= 2s", 1.5, "1.5 s"),
        ("p95 <= 20000ms", 12345.6, "12346 ms"),
        ("reach >= 99%", 99.5, "99.5%"),
        ("hops <= 3", 2, "2"),
        ("throughput >= 5MB/s", 7.5, "7.5 MB/s"),
        ("rate >= 4/s", 3.987, "3.987/s"),
        ("p95 <= 2s", None, "no finite value"),
        ("run.p99 <= 1.5 * clean.p99", 3.0, "3"),
    ],
)
def test_people_see_the_value_with_the_unit_they_wrote(expr: str, value: float | None, shown: str) -> None:
    assert measured(ExpectationResult(expr, value, ok=True)) == shown


@pytest.mark.parametrize(
    ("expressions", "judged"),
    [
        ([], ["reach == 100%"]),
        (["duplicates <= 1"], ["duplicates <= 1", "reach == 100%"]),
        (["duplicates <= 1", "reach >= 50%"], ["duplicates <= 1", "reach >= 50%"]),
        (["reach >= 90% within 1s"], ["reach >= 90% within 1s"]),
        (["p95 <= 1s within 2s"], ["p95 <= 1s within 2s", "reach == 100%"]),
    ],
)
def test_reach_is_judged_unless_an_expectation_names_it(expressions: list[str], judged: list[str]) -> None:
    assert [one.expr for one in all_of(expressions)] == judged


def test_an_infinite_latency_fails_and_is_shown_as_null() -> None:
    result = parse("p95 <= 800ms").evaluate(math.inf)
    assert (result.ok, result.value) == (False, None)


def test_what_was_not_measured_never_holds() -> None:
    assert not parse("p95 != 800ms").evaluate(None).ok


@pytest.mark.parametrize(
    ("expr", "low", "value", "high", "flips"),
    [
        ("p95 <= 800ms", 797.0, 799.0, 801.0, True),
        ("p95 <= 800ms", 799.0, 801.0, 803.0, True),
        ("p95 <= 800ms", 698.0, 700.0, 702.0, False),
        ("p95 <= 800ms", 799.0, 799.0, 799.0, False),
        ("rate >= 4/s", 3.9, 4.1, math.inf, True),
        ("rate >= 4/s", 4.0, 4.1, math.inf, False),
    ],
)
def test_a_value_near_its_threshold_could_flip_between_its_bounds(
    expr: str, low: float, value: float, high: float, flips: bool
) -> None:
    assert parse(expr).could_flip(value, low, high) is flips


PIECES = st.sampled_from(
    ["p95", "reach", "hops", "bytes", "throughput", "rate", "max", "<=", "==", ">", "=",
     "800", "99", "100", "101", "0", "0.5", "007",
     "ms", "s", "%", "MB/s", "/s", "/m", "within", " ", "  ", "60s", ".", "x"]
)  # fmt: skip


@given(st.one_of(
    st.lists(PIECES, max_size=9).map("".join),
    st.builds(
        lambda metric, number, unit, rest: f"{metric} <= {number}{unit}{rest}", st.sampled_from(sorted(METRICS)),
        st.sampled_from(["0", "0.0", "0.5", "7", "100", "100.0", "100.5", "0100", "1e3", ".5", "5."]),
        st.sampled_from(["", "ms", " s", "%", " %", "MB/s", " KiB/s", "/s", " /m", "x"]),
        st.sampled_from(["", " ", "within 5s", " within 5s", "  within  5 s ", " within", " within5s", " x"]),
    ),
))  # fmt: skip
def test_the_pattern_for_admission_takes_what_is_read_and_nothing_else(expr: str) -> None:
    try:
        parse(expr)
        read = True
    except SpecError:
        read = False
    assert bool(re.fullmatch(expectation_pattern(), expr)) == read
