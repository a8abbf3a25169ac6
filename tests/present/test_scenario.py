"""A scenario as JUnit and Markdown: a case for each expectation, an error for what could not be judged."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from p2pnet.model.scenario_run import HeldExpectation, ScenarioRun, ScenarioStep, StepExpectation, TrialLine
from p2pnet.present.scenario import VALID, scenario_junit, scenario_markdown

HELD = StepExpectation(expr="p95 <= 800ms", value=412.0, ok=True, name="before", step="before")
MISSED = StepExpectation(expr="after.p99 <= 800ms", value=1900.0, ok=False, name="after", step="expect-1")
OPEN = StepExpectation(
    expr="last.reach == 100%", value=None, ok=False, name="last", step="expect-1", detail="not reached", judged=False
)  # fmt: skip


def run_of(*expectations: StepExpectation, **more: Any) -> ScenarioRun:
    steps = [
        ScenarioStep(
            name="before", kind="inject", number="1", what="64 KiB from random", state="done", ok=True, run="r-1", begun_s=0.0,
            seconds=2.5, detail="reach 100%", expectations=list(expectations),
        )
    ]  # fmt: skip
    known: dict[str, Any] = {
        "scenario": "story", "description": "What <happens> & why.", "subnet": "story", "target": "local", "seed": 42,
        "shown_seed": 42, "nodes": 6, "steps": steps, "expectations": list(expectations), "verdict": "fail",
        "rerun": "p2pnet run story.yaml --seed 42", "trials": [TrialLine(seed=42, verdict="fail")], "seconds": 12.5,
    }  # fmt: skip
    return ScenarioRun(**{**known, **more})


def suite(run: ScenarioRun) -> ET.Element:
    return ET.fromstring(scenario_junit(run))


def test_every_expectation_is_a_case_that_names_what_it_is_about():
    root = suite(run_of(HELD, MISSED))
    assert [case.get("name") for case in root.iter("testcase")] == ["before: p95 <= 800ms", "after.p99 <= 800ms"]
    assert [root.get(key) for key in ("tests", "failures", "errors", "time")] == ["2", "1", "0", "12.500"]
    [failure] = root.iter("failure")
    assert failure.get("message") == "after.p99 <= 800ms: measured 1900 ms"
    assert "again: p2pnet run story.yaml --seed 42" in failure.text


def test_what_could_not_be_judged_and_an_invalid_scenario_are_errors():
    root = suite(run_of(HELD, OPEN, verdict="invalid", invalid=["step 2 (scale-1): links 3/15"]))
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["3", "0", "2"]
    assert [case.get("name") for case in root.iter("testcase") if case.find("error") is not None] == [
        "last.reach == 100%",
        VALID,
    ]
    assert [error.get("type") for error in root.iter("error")] == ["invalid", "invalid"]


def test_a_scenario_that_judged_nothing_has_a_case_of_its_own():
    root = suite(run_of(verdict="invalid", invalid=["interrupted"]))
    assert [case.get("name") for case in root.iter("testcase")] == [VALID]
    assert root.get("errors") == "1"


def test_equal_expectations_are_told_apart():
    names = [case.get("name") for case in suite(run_of(HELD, HELD)).iter("testcase")]
    assert names == ["before: p95 <= 800ms", "before: p95 <= 800ms (2)"]


def test_the_journal_tells_what_happened_when():
    root = suite(run_of(HELD, notes=["modelled: a restart"], ignored=["spec.steps[1].rotate: none"]))
    [out] = root.iter("system-out")
    assert "1 0 µs: before, inject 64 KiB from random: reach 100% (r-1)" in out.text
    assert "modelled: a restart" in out.text
    assert "spec.steps[1].rotate: none" in out.text
    properties = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert (properties["scenario"], properties["runs"], properties["verdict"]) == ("story", "r-1", "fail")


def test_over_several_trials_a_case_holds_when_it_held_in_each():
    held = [
        HeldExpectation(expr="p95 <= 800ms", name="before", held=3, judged=3),
        HeldExpectation(expr="after.p99 <= 800ms", name="after", held=1, judged=3),
        HeldExpectation(expr="x.reach == 100%", name="x", held=2, judged=2),
    ]
    trials = [TrialLine(seed=seed, verdict="fail") for seed in (42, 43, 44)]
    root = suite(run_of(HELD, asked=3, trials=trials, held=held))
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["3", "1", "1"]
    [failure] = root.iter("failure")
    assert "held in 1 of 3 trials" in failure.get("message")


@pytest.mark.parametrize("text", ["a\x00b", "<script>", "]]>", "\ud800"])
def test_no_text_breaks_the_xml(text):
    suite(run_of(HELD, description=text, notes=[text], invalid=[text]))


def test_markdown_shows_what_failed_first_and_how_to_run_it_again():
    page = scenario_markdown(run_of(HELD, MISSED, OPEN))
    assert page.startswith("## ❌ Fail: scenario `story` on local")
    rows = [line for line in page.splitlines() if line.startswith(("| ✅", "| ❌", "| ⚠️"))]
    assert [row.split("|")[1].strip() for row in rows] == ["❌", "⚠️", "✅"]
    assert "Again: `p2pnet run story.yaml --seed 42`" in page
    assert "What \\<happens\\> &amp; why." in page


def test_markdown_stays_short_however_much_there_is():
    many = [HELD] * 500
    page = scenario_markdown(run_of(*many, invalid=["x" * 10_000] * 500, notes=["y"] * 500))
    assert len(page) < 65_536
    assert "and 440 more that held" in page
