"""Expectations name the runs they are about, and compare them with values or with each other."""

import pytest
from tests.scenario.documents import report

from p2pnet.model.errors import SpecError
from p2pnet.scenario.expectations import Absolute, Relative, judge, read_expectation, runs_named, value_of


@pytest.mark.parametrize(
    "text", ["a.p95 <= 800ms", "run-2.reach >= 99% within 10s", "x.throughput >= 5MB/s", " a.hops<=3 "]
)
def test_a_metric_is_compared_with_a_value_by_the_grammar_of_runs(text):
    one = read_expectation(text)
    assert isinstance(one, Absolute)
    assert one.expr == text.strip()
    assert one.expr == f"{one.run}.{one.expectation.expr}"
    assert runs_named(one) == [one.run]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("roll.p99 <= 1.5 * clean.p99", ("roll", "p99", "<=", 1.5, "clean", "p99")),
        ("roll.p99<=clean.p50", ("roll", "p99", "<=", 1.0, "clean", "p50")),
        ("b.bytes < 2*a.duplicates", ("b", "bytes", "<", 2.0, "a", "duplicates")),
        ("a.p99 <= 2.p99", ("a", "p99", "<=", 1.0, "2", "p99")),
        ("2.p99 <= 1.5 * 3-4.p50", ("2", "p99", "<=", 1.5, "3-4", "p50")),
        ("a. p99 <= 2 * b. p99", ("a", "p99", "<=", 2.0, "b", "p99")),
    ],
)
def test_a_metric_is_compared_with_a_multiple_of_another_run_s(text, meant):
    one = read_expectation(text)
    assert isinstance(one, Relative)
    assert (one.run, one.metric, one.operator, one.factor, one.other, one.other_metric) == meant
    assert runs_named(one) == [meant[0], meant[4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p95 <= 800ms", "at character 1, the name of an inject step is wanted"),
        ("A.p95 <= 800ms", "at character 1, the name of an inject step"),
        ("a.p75 <= 800ms", "at character 3, 'p75 <= 800ms' stands where a metric"),
        ("a.p95 =< 800ms", "at character 7, '=< 800ms' stands where a comparison"),
        ("a.p95 <= 800", "at character 10, '800' stands where a duration"),
        ("a.reach >= 0.9", "where a share in percent"),
        ("a.p95 <= 800ms soon", "'soon' stands where the end"),
        ("a.p95 <= 2 * b.p75", "at character 16, 'p75' stands where a metric"),
        ("a.p95 =< 2 * b.p95", "'=< 2 * b.p95' stands where a comparison"),
        ("a.p95 <= 2 * b.reach", "where a metric like p95"),
        ("a.p95 <= 2 * b.p95 within 10s", "'within 10s' stands where the end"),
        ("a.", "stands where a metric"),
    ],
)
def test_a_wrong_one_says_where_and_what_is_wanted(text, said):
    with pytest.raises(SpecError) as error:
        read_expectation(text)
    assert said in str(error.value)
    assert repr(text.strip()) in str(error.value)


@pytest.mark.parametrize("text", ["a.p95 <= 1.5s", " a. p95 <= 1.5s ", "1.p95 <= 1.5s"])
def test_blanks_around_what_is_judged_within_the_run_are_no_part_of_it(text):
    one = read_expectation(text)
    assert isinstance(one, Absolute)
    assert one.expectation.expr == "p95 <= 1.5s"


def test_what_is_compared_with_a_value_is_judged_within_the_run():
    reports = {"a": report(["p95 <= 15ms", "reach >= 99%"])}
    assert judge(read_expectation("a.p95 <= 15ms"), reports).ok is False
    held = judge(read_expectation("a.reach >= 99%"), reports)
    assert (held.ok, held.value, held.invalid) == (True, 100.0, "")
    assert "does not judge it" in judge(read_expectation("a.hops <= 3"), reports).invalid


def test_a_comparison_says_both_values_and_their_ratio():
    reports = {"a": report(p99=30.0), "b": report(p99=20.0)}
    one = judge(read_expectation("a.p99 <= 1.5 * b.p99"), reports)
    assert (one.ok, one.value, one.detail) == (True, 1.5, "30.0 ms against 20.0 ms")
    assert judge(read_expectation("a.p99 < 1.5 * b.p99"), reports).ok is False


def test_a_run_with_misses_is_no_measure_for_another_and_loses_every_race():
    whole, short = report(p99=20.0), report(p99=None, reach=0.9)
    assert judge(read_expectation("a.p99 <= 2 * b.p99"), {"a": whole, "b": short}).ok is False
    assert judge(read_expectation("a.p99 <= 2 * b.p99"), {"a": short, "b": whole}).ok is False
    worse = judge(read_expectation("a.p99 >= 2 * b.p99"), {"a": short, "b": whole})
    assert (worse.ok, worse.value) == (True, None)


def test_what_was_not_measured_cannot_be_judged():
    nothing = report(p99=None, reach=None, expected=0)
    judged = judge(read_expectation("a.p99 <= b.p99"), {"a": report(), "b": nothing})
    assert judged.ok is False
    assert judged.invalid == "a.p99 <= b.p99: p99 of b was not measured"


def test_a_comparison_that_clocks_leave_open_is_invalid():
    reports = {"a": report(p99=20.0, clock_bound_ms=3.0), "b": report(p99=21.0)}
    assert "clocks are known only to 3.000 ms" in judge(read_expectation("a.p99 <= b.p99"), reports).invalid
    assert judge(read_expectation("a.p99 <= 1.5 * b.p99"), reports).invalid == ""


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("reach", 1.0),
        ("duplicates", 0.1),
        ("bytes", 1.1),
        ("hops", 2),
        ("throughput", None),
        ("rate", None),
        ("p50", 10.0),
    ],
)
def test_every_metric_is_read_from_a_report(metric, value):
    assert value_of(report(), metric) == value
