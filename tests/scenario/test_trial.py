"""Trials as one document: what of which stands in it, and what its end means."""

import msgspec
import pytest
from tests.scenario.documents import plan

from p2pnet.model.scenario_run import ScenarioStep, StepExpectation
from p2pnet.scenario.trial import TrialLost, TrialResult, exit_code_of, first_to_repeat, merged

PLAN = plan({"name": "a", "inject": {}})


def trial(seed: int, *, ok: bool = True, invalid: tuple[str, ...] = (), code: int | None = None, **more) -> TrialResult:
    one = StepExpectation(expr="p95 <= 1s", value=1.0, ok=ok and not invalid, name="a", step="a", judged=not invalid)
    step = ScenarioStep(
        name="a", kind="inject", number="1", what="64 KiB", state="done", ok=ok, run=f"r-{seed}", expectations=[one]
    )
    found = 5 if invalid else 0 if ok else 1
    return TrialResult(
        seed=seed, steps=[step], invalid=list(invalid), exit_code=found if code is None else code, digest=f"d{seed}", seconds=2.0,
        **more,
    )  # fmt: skip


def test_one_trial_is_the_document_itself():
    run = merged(PLAN, "sim", [trial(7)], seed=7, ignored=["spec.steps[1].rotate: none"])
    assert (run.scenario, run.subnet, run.target, run.seed, run.nodes, run.verdict) == (
        "story",
        "story",
        "sim",
        7,
        8,
        "pass",
    )
    assert run.steps == trial(7).steps
    assert run.expectations == trial(7).expectations
    assert (run.ignored, run.digest, run.state, run.invalid) == (["spec.steps[1].rotate: none"], "d7", "finished", [])
    assert exit_code_of([trial(7)], run) == 0
    assert first_to_repeat(run) is None


def test_of_several_the_first_that_did_not_pass_is_shown_and_repeated():
    results = [trial(9, ok=False), trial(7), trial(8, ok=False)]
    run = merged(PLAN, "sim", results, seed=7, asked=3)
    assert (run.verdict, run.shown_seed, run.digest) == ("fail", 8, "d8")
    assert [(one.seed, one.verdict, one.missed, one.runs) for one in run.trials] == [
        (7, "pass", [], ["r-7"]), (8, "fail", ["p95 <= 1s"], ["r-8"]), (9, "fail", ["p95 <= 1s"], ["r-9"]),
    ]  # fmt: skip
    assert [(one.expr, one.held, one.judged) for one in run.held] == [("p95 <= 1s", 1, 3)]
    assert exit_code_of(results, run) == 1
    assert first_to_repeat(run) == 8
    assert run.seconds == 6.0


def test_an_invalid_or_lost_trial_outranks_one_that_failed():
    results = [trial(7, ok=False), trial(8, invalid=("lost events",))]
    run = merged(PLAN, "sim", results, seed=7, asked=3, lost=[TrialLost(9, "its process was killed")])
    assert run.verdict == "invalid"
    assert run.invalid == [
        "1 trial invalid, the first with seed 8: lost events",
        "1 trial without a result, the first with seed 9: its process was killed",
    ]
    assert exit_code_of(results, run) == 5
    assert first_to_repeat(run, [TrialLost(9, "x")]) == 7


@pytest.mark.parametrize(("codes", "code"), [((4,), 4), ((3, 4), 4), ((1, 3), 3), ((4, 5), 5), ((2,), 2)])
def test_what_could_not_be_done_gives_its_own_code_below_5(codes, code):
    results = [trial(number, invalid=("x",), code=one) for number, one in enumerate(codes)]
    run = merged(PLAN, "local", results, seed=0, asked=len(codes))
    assert exit_code_of(results, run) == code


def test_what_was_not_finished_is_said():
    run = merged(PLAN, "local", [trial(1)], seed=1, asked=4)
    assert (run.verdict, run.state, run.invalid) == ("invalid", "cancelled", ["3 trials not finished"])
    none = merged(PLAN, "sim", [], seed=1, asked=2)
    assert (none.verdict, none.trials, none.steps) == ("invalid", [], [])
    assert exit_code_of([], none) == 5


def test_an_interrupted_trial_makes_a_cancelled_document():
    run = merged(PLAN, "local", [trial(1, invalid=("interrupted",), interrupted=True)], seed=1)
    assert (run.state, run.verdict) == ("cancelled", "invalid")


def test_the_document_is_plain_json():
    run = merged(PLAN, "sim", [trial(7, ok=False)], seed=7)
    assert msgspec.json.decode(msgspec.json.encode(run))["schema"] == "p2pnet.io/scenario-run/v1"
