"""A pace is rates one after the other: when each artifact is due, how many fit, and what cannot be read."""

import html
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.cli.render import Output, render
from p2pnet.measure import RunFacts, RunMeasure
from p2pnet.measure.pace import asked_rate, count_of, mean_per_s, most_within, pace_of, parse, schedule
from p2pnet.measure.report import load_of
from p2pnet.measure.wording import MISSING, offered, stage_lines, stage_notes
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.report import Load, LoadStage, StageFigures, StoppedEarly
from p2pnet.present import to_html, to_junit, to_markdown
from p2pnet.present.full_page import to_full_html
from p2pnet.present.markdown import prose
from p2pnet.present.view import DrawnRun

S = 10**9


def load(rate: float | str | None, count: int) -> Load:
    return load_of(
        RunFile(
            run="r", subnet="s", target="local", seed=1, request=RunRequest([Payload("p", size=1)], count, rate),
            created_at=0.0, nodes=["a", "b"], version="1",
        )
    )  # fmt: skip


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 60))
def test_the_most_within_a_span_is_that_of_the_fullest_window(seconds: list[int], span: int) -> None:
    due = sorted(seconds)
    windows = [sum(begin <= one <= begin + span for one in due) for begin in due]
    assert most_within([one * S for one in due], float(span)) == max(windows, default=0)


def test_one_rate_spaces_artifacts_evenly_and_none_publishes_them_at_once() -> None:
    assert schedule(parse("2/s"), 4) == [0, S // 2, S, 3 * S // 2]
    assert schedule(pace_of(2.0), 4) == schedule(parse("120/m"), 4)
    assert schedule(None, 3) == [0, 0, 0]


def test_stages_follow_each_other_and_the_last_goes_on() -> None:
    for text in ("2/s for 2s, then 10/s", "2/s for 2s then 10/s", "2/s for 2s, 10/s", "2/s for 2s,then  10/s"):
        assert schedule(parse(text), 7) == [0, S // 2, S, 3 * S // 2, 2 * S, 2 * S + S // 10, 2 * S + 2 * S // 10]
    assert schedule(parse("2/s for 1s"), 4) == [0, S // 2, S, 3 * S // 2]  # nothing follows: it goes on
    assert schedule(parse("2/s for 1s, then 0/s for 3s, then 2/s"), 4) == [0, S // 2, 4 * S, 4 * S + S // 2]


def test_a_ramp_publishes_what_its_mean_rate_makes_and_is_dense_where_it_is_fast() -> None:
    up = schedule(parse("0/s to 20/s over 10s"), 100)
    assert len([due for due in up if due < 10 * S]) == 100
    assert up[25] == 5 * S  # a quarter of them in the first half
    down = schedule(parse("20/s to 0/s over 10s"), 100)
    assert down[75] == 5 * S
    both = parse("2/s to 20/s over 30s, then 20/s to 2/s for 30s")
    assert both.held == 660
    assert [one.artifacts for one in both.planned(660)] == [330, 330]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60)), min_size=1, max_size=6),
    st.integers(1, 300),
)
def test_any_stages_give_times_that_never_fall_and_as_many_as_they_hold(
    stages: list[tuple[int, int, int]], count: int
) -> None:
    text = ", then ".join(f"{a}/s to {b}/s over {seconds}s" for a, b, seconds in [*stages, (1, 1, 1)])
    pace = parse(text)
    offsets = pace.offsets(count)
    assert len(offsets) == count
    assert offsets == sorted(offsets)
    assert sum(one.artifacts for one in pace.planned(count)) == count
    end_ns = sum(seconds for _, _, seconds in [*stages, (1, 1, 1)]) * S
    assert pace.held is not None
    assert sum(due < end_ns - 1000 for due in pace.offsets(pace.held)) == pace.held
    assert pace.offsets(pace.held + 1)[-1] >= end_ns - 1000


def test_rates_that_end_at_nothing_hold_only_so_many() -> None:
    pace = parse("4/s to 0/s over 10s")
    assert pace.held == 20
    assert len(pace.offsets(20)) == 20
    with pytest.raises(SpecError, match="with 20 of 21 artifacts published"):
        pace.offsets(21)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "is no rate: write a number per time above zero, like 2/s or 30/m, or stages"),
        ("", "is no rate"),
        ("0/s", "is no rate"),
        ("0/s for 3s", "is no rate"),
        ("2/s, then 20/s", "stage 1 of the rate '2/s, then 20/s': '2/s' says no time, and another stage follows"),
        ("2/s for 30, then 20/s", "stage 1 .* '30' is no duration"),
        ("2/s for 3s, then fast", "stage 2 .* 'fast' is not written like 20/s"),
        ("2/s to 20/s", "is a ramp that says no time"),
        ("2/s over 3s", "is no ramp"),
        ("2/s for 0s, 3/s", "takes no time"),
        ("2/s for 3s, 0/s", "would go on without publishing"),
        ("2/s for 3s,, 3/s", "stage 2"),
        ("2000000/s", "more than a million"),
        ("1/s for 25h", "at most a day"),
        (", ".join(["1/s for 1s"] * 33), "33 stages are too many: at most 32"),
        ("1/s" + " " * 1000, "at most 1000 characters"),
    ],
)
def test_what_is_no_pace_is_told_with_its_stage_and_what_to_write(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(text)


@given(st.text(alphabet="0123456789./smh ,thenforovr", max_size=60))
def test_any_text_is_a_pace_or_an_error(text: str) -> None:
    try:
        pace = parse(text)
    except SpecError:
        return
    assert len(pace.stages) >= 1


def test_a_request_says_a_number_where_that_is_all_and_older_labs_refuse_the_rest() -> None:
    assert asked_rate(None) is None
    assert asked_rate(parse("30/m")) == 0.5
    assert asked_rate(parse("2/s for 3s, then 4/s")) == "2/s for 3s, then 4/s"


def test_without_a_count_stages_that_all_say_a_time_say_how_many() -> None:
    timed, going_on = parse("2/s for 30s, then 20/s for 10s"), parse("2/s for 30s, then 20/s")
    assert count_of(timed, payloads=1, publisher="random", nodes=9) == 260
    assert count_of(timed, payloads=2, publisher="random", nodes=9) == 130
    assert count_of(timed, payloads=1, publisher="all", nodes=10) == 26
    assert count_of(going_on, payloads=1, publisher="random", nodes=9) == 1
    assert count_of(None, payloads=1, publisher="random", nodes=9) == 1


def test_the_offered_load_has_its_stages_and_the_mean_over_them() -> None:
    staged = load("2/s for 30s, then 20/s", 260)
    assert staged.stages == [
        LoadStage(from_per_s=2.0, to_per_s=2.0, for_s=30.0, artifacts=60),
        LoadStage(from_per_s=20.0, to_per_s=20.0, artifacts=200),
    ]
    assert staged.rate_per_s == pytest.approx(259 / 39.95)
    assert offered(staged) == "260 artifacts at 2/s for 30 s, then 20/s"
    assert load(10.0, 5) == Load(rate_per_s=10.0, count=5, within_s=60.0, seed=1)
    assert load(None, 5).rate_per_s is None
    assert mean_per_s(parse("2/s for 3s, then 4/s"), 1) == 2.0


@pytest.mark.parametrize(
    ("rate", "count", "said"),
    [
        ("2/s for 30s, then 20/s", 260, []),
        ("2/s for 30s, then 20/s", 60, ["the artifacts ran out in stage 1 of 2: 20/s was not offered"]),
        ("2/s for 30s, 4/s for 10s", 100, []),
        ("2/s for 30s, 4/s for 10s", 99, ["the artifacts ran out before the stages were over: 100 would have filled them"]),
        (
            "2/s for 30s, 4/s for 10s", 110,
            ["the stages were over after 40 s: 10 of 110 artifacts came later, at 4/s"],
        ),
        ("10/s", 3, []),
        (None, 3, []),
    ],
)  # fmt: skip
def test_artifacts_that_run_out_before_the_stages_or_go_on_after_them_are_said(
    rate: str | None, count: int, said: list[str]
) -> None:
    assert stage_notes(load(rate, count)) == said


def test_what_came_of_each_stage_is_told_by_itself() -> None:
    measure = RunMeasure(["a", "b", "c"])
    for index, due in enumerate(parse("1/s for 2s, then 0/s for 1s, then 2/s").offsets(6)):
        artifact = f"{index:064x}"
        measure.published(artifact, "a", due, 100)
        latency = S // 100 if index < 2 else S // 10
        for node in ("b", "c") if index != 5 else ("b",):
            measure.feed([Collected(node, "i", 0, due + latency, EventKind.VALIDATED, "blob", artifact, "a", 1, 100)])
    facts = RunFacts(run="r", subnet="s", target="sim", seed=1, load=load("1/s for 2s, then 0/s for 1s, then 2/s", 6))
    report = measure.report(facts)
    assert report.stages == [
        StageFigures(artifacts=2, published_per_s=1.0, reach=1.0, p50_ms=10.0, p95_ms=10.0),
        StageFigures(artifacts=4, published_per_s=2.0, reach=0.875, p50_ms=100.0, p95_ms=None),
    ]
    said = [
        "1/s for 2 s: 2 artifacts, 1/s published, reach 100%, p50 10.0 ms, p95 10.0 ms",
        f"2/s: 4 artifacts, 2/s published, reach 87.5%, p50 100 ms, p95 {MISSING}",
    ]
    assert stage_lines(report) == said
    assert all(prose(line) in to_markdown(report) for line in said)
    assert all(line in html.unescape(to_html(report)) and line in to_junit(report) for line in said)
    assert "p50 100 ms" in render(report, Output.TABLE, width=200)
    full = html.unescape(to_full_html([DrawnRun(report=report)]))
    assert all(line in full for line in said)
    assert measure.report(replace(facts, load=load("1/s for 2s, then 2/s", 9))).stages == []  # some were left out
    stopped = StoppedEarly(expr="p50 <= 1ms", artifacts=6, asked=9, after_s=1.0)
    early = measure.report(replace(facts, load=load("1/s for 2s, then 2/s", 9), stopped_early=stopped))
    assert [one.artifacts for one in early.stages] == [2, 4]
    assert measure.report(replace(facts, load=load(2.0, 6))).stages == []
