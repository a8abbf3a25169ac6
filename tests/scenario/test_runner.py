"""The walk over the steps: what is done in which order, what it comes to, and how it ends."""

import asyncio
from itertools import count
from typing import Any

import pytest
from tests.scenario.documents import FakeStage, plan, report

from p2pnet.measure.expectations import DEFAULT_EXPECTATION
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.report import StoppedEarly
from p2pnet.scenario.events import Ending, ScenarioEvent, StepBegan, StepEnded, StepProgress, SubnetUp, TrialEnded
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.stage import NotReadyError, Waited
from p2pnet.scenario.trial import TrialResult

A = {"name": "a", "inject": {}}
LOSSY = {"name": "lossy", "fault": {"loss": "5%"}}


def runner_of(
    found: ScenarioPlan, stage: FakeStage, heard: list[ScenarioEvent] | None = None, **more: Any
) -> ScenarioRunner:
    clock = count(0.0)
    tell = (lambda _: None) if heard is None else heard.append
    return ScenarioRunner(found, stage, seed=7, tell=tell, clock=lambda: next(clock), **more)


async def ran(*steps: dict[str, Any], stage: FakeStage | None = None, **more: Any) -> tuple[TrialResult, FakeStage]:
    found = plan(*steps)
    stage = stage or FakeStage(found.subnet)
    return await runner_of(found, stage, **more).run(), stage


def fake(**reports: Any) -> FakeStage:
    return FakeStage(plan(A).subnet, **reports)


async def test_steps_are_done_in_their_order_between_up_and_down():
    result, stage = await ran(
        A, LOSSY, {"wait": "3s"}, {"heal": "lossy"}, {"scale": {"nodes": 7}}, {"restart": "node-6"}, {"rotate": {}},
        {"wait": {"connected": "90%"}}, {"wait": {"holds": "a", "within": "5s"}}, {"withdraw": "a"}, {"wait": {"gone": "a"}},
        {"wait": {"idle": "80%"}},
    )  # fmt: skip
    assert stage.did == [
        "up", "inject a", "fault lossy {'loss': '5%'}", "sleep 3", "heal lossy", "scale node 7 120", "restart node-6", "rotate",
        "wait 0.9 60", "wait a 5", "withdraw a", "wait a 60", "wait 0.8 60", "down",
    ]  # fmt: skip
    assert (result.verdict, result.exit_code, result.digest, result.notes) == ("pass", 0, "d1", ["faked"])
    assert [step.state for step in result.steps] == ["done"] * 12
    assert result.steps[2].begun_s == 0.0
    assert result.steps[2].seconds == 3.0


async def test_a_run_has_the_trial_s_seed_unless_it_has_its_own_and_a_label_that_names_scenario_and_step():
    _, stage = await ran(A, {"inject": {"seed": 3}})
    assert [(ask.seed, ask.label) for ask in stage.asked.values()] == [(7, "story/a"), (3, "story/inject-2")]


async def test_a_run_judges_what_later_steps_expect_of_it_and_the_default_only_where_nobody_names_reach():
    _, stage = await ran(
        {"name": "a", "inject": {"expect": "p50 <= 1s"}},
        {"name": "b", "inject": {}},
        {"name": "c", "inject": {}},
        {"expect": ["b.reach <= 60%", "a.p99 <= 2 * b.p99", "b.p95 <= 1s within 5s", "c.reach == a.reach"]},
    )
    assert list(stage.asked["a"].expect) == ["p50 <= 1s", "reach >= 0%"]
    assert list(stage.asked["b"].expect) == ["reach <= 60%", "p95 <= 1s within 5s"]
    assert list(stage.asked["c"].expect) == ["reach >= 0%"]


async def test_every_expectation_stands_once_where_it_was_written():
    result, _ = await ran({"name": "a", "inject": {"expect": "p50 <= 1s"}}, {"name": "e", "expect": ["a.p99 <= 1s"]})
    assert [(one.name, one.step, one.expr, one.ok) for one in result.expectations] == [
        ("a", "a", "p50 <= 1s", True), ("a", "a", DEFAULT_EXPECTATION, True), ("a", "e", "a.p99 <= 1s", True),
    ]  # fmt: skip


async def test_one_that_does_not_hold_fails_the_scenario_and_the_steps_go_on():
    stage = fake(a=report(["p95 <= 15ms"]))
    result, _ = await ran(
        {"name": "a", "inject": {"expect": "p95 <= 15ms"}}, {"name": "b", "inject": {}}, {"expect": "b.p99 <= 0.5 * a.p99"},
        stage=stage,
    )  # fmt: skip
    assert (result.verdict, result.exit_code) == ("fail", 1)
    assert [one.ok for one in result.expectations] == [False, True, True, False]
    assert [step.ok for step in result.steps] == [False, True, False]
    assert stage.did == ["up", "inject a", "inject b", "down"]


async def test_an_invalid_run_makes_all_invalid_and_nothing_about_it_is_judged():
    stage = fake(a=report(verdict="invalid", invalid=["events were lost"]))
    result, _ = await ran(A, {"name": "b", "inject": {}}, {"expect": ["a.p99 <= 1s", "b.p99 <= a.p99"]}, stage=stage)
    assert (result.verdict, result.exit_code) == ("invalid", 5)
    assert result.invalid[0] == "run r-1 of a: events were lost"
    assert [(one.ok, one.judged) for one in result.expectations if one.name == "a" or "a." in one.expr] == [
        (False, False)
    ] * 3


async def test_what_was_not_measured_is_invalid_and_outranks_what_failed():
    stage = fake(a=report(p99=None, reach=None, expected=0), b=report(["p50 <= 1ms"]))
    result, _ = await ran(
        A, {"name": "b", "inject": {"expect": "p50 <= 1ms"}}, {"expect": "b.p99 <= 2 * a.p99"}, stage=stage
    )
    assert (result.verdict, result.exit_code) == ("invalid", 5)
    assert "b.p99 <= 2 * a.p99: p99 of a was not measured" in result.invalid


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotReadyError("links 3/15"), 4),
        (TargetError("gone", exit_code=3), 3),
        (SpecError("no"), 2),
        (TargetError("x", exit_code=5), 5),
    ],
)
async def test_a_step_that_cannot_be_done_ends_the_scenario_with_its_code_and_the_rest_is_not_run(error, code):
    stage = fake()
    stage.raises["scale"] = error
    result, _ = await ran(
        A, {"scale": {"nodes": 7}}, {"name": "b", "inject": {}}, {"expect": "b.p99 <= 1s"}, stage=stage
    )
    assert (result.verdict, result.exit_code) == ("invalid", code)
    assert result.invalid == [f"step 2 (scale-1): {error}"]
    assert [step.state for step in result.steps] == ["done", "failed", "not run", "not run"]
    assert [(one.expr, one.ok, one.judged) for one in result.expectations][-1] == ("b.p99 <= 1s", False, False)
    assert stage.did[-1] == "down"


async def test_a_subnet_that_does_not_come_up_is_taken_down_and_nothing_is_run():
    stage = fake()
    stage.raises["up"] = NotReadyError("certificates 3/8")
    result, _ = await ran(A, stage=stage)
    assert (result.exit_code, result.invalid) == (4, ["the subnet: certificates 3/8"])
    assert stage.did == ["up", "down"]


async def test_a_wait_whose_condition_does_not_come_is_a_failed_expectation_and_the_steps_go_on():
    stage = fake()
    stage.waited = Waited(False, "links 9/15")
    result, _ = await ran(A, {"name": "w", "wait": {"connected": "100%", "within": "5s"}}, {"inject": {}}, stage=stage)
    assert (result.verdict, result.exit_code) == ("fail", 1)
    missed = [one for one in result.expectations if not one.ok]
    assert [(one.name, one.expr, one.detail) for one in missed] == [("w", "connected >= 100% within 5s", "links 9/15")]
    assert result.steps[-1].state == "done"


async def test_branches_go_on_at_the_same_time_each_from_its_own_time_on():
    _, stage = await ran(
        {"parallel": [
            {"name": "a", "inject": {}},
            {"at": "2s", "name": "f", "fault": {"loss": "5%"}},
            {"steps": [{"wait": "1s"}, {"name": "b", "inject": {}}]},
        ]},
        {"heal": "*"},
    )  # fmt: skip
    assert stage.did[1:4] == ["inject a", "sleep 2", "sleep 1"]
    assert sorted(stage.did[4:]) == sorted(["fault f {'loss': '5%'}", "inject b", "heal f", "down"])
    assert stage.asked["a"].shared
    assert stage.asked["b"].shared


async def test_a_branch_that_cannot_go_on_stops_the_others_at_their_next_step():
    stage = fake()
    stage.raises["fault"] = TargetError("not in force", exit_code=5)
    result, _ = await ran(
        {"parallel": [{"steps": [{"wait": "1s"}, {"wait": "1s"}, {"name": "a", "inject": {}}]}, {"fault": {"loss": "5%"}}]},
        {"inject": {}}, stage=stage,
    )  # fmt: skip
    assert result.exit_code == 5
    assert [step.state for step in result.steps if step.kind == "inject"] == ["not run", "not run"]


async def test_healing_everything_means_what_is_in_force():
    _, stage = await ran(
        A, LOSSY, {"name": "slow", "fault": {"latency": "5ms"}}, {"heal": "slow"}, {"heal": "*"}, {"heal": "*"}
    )
    assert [did for did in stage.did if did.startswith("heal")] == ["heal slow", "heal lossy"]


async def test_an_upgrade_without_an_image_restarts_so_many_nodes_at_a_time():
    _, stage = await ran(A, {"upgrade": {"nodes": "node-0,node-1,node-2", "maxUnavailable": 2}})
    assert [did for did in stage.did if "restart" in did] == ["restart node-0 node-1", "restart node-2"]


async def test_an_upgrade_with_an_image_is_left_to_the_stage():
    _, stage = await ran(A, {"upgrade": {"image": "node:2"}})
    assert "upgrade node:2" in stage.did


async def test_steps_that_the_target_lacks_are_skipped_where_that_was_asked_for():
    result, stage = await ran(
        A, {"rotate": {}}, skipped={"spec.steps[1]": "spec.steps[1].rotate: there is nothing to rotate"}
    )
    assert stage.did == ["up", "inject a", "down"]
    assert (result.steps[1].state, result.steps[1].detail) == (
        "skipped",
        "spec.steps[1].rotate: there is nothing to rotate",
    )
    assert result.verdict == "pass"


async def test_a_share_of_nodes_is_drawn_of_those_there_are_at_that_step():
    _, stage = await ran(A, {"scale": {"nodes": 20}}, {"restart": "50%"})
    [restart] = [did for did in stage.did if did.startswith("restart")]
    assert len(restart.split()) == 1 + 11


async def test_what_is_left_standing_is_said():
    result, stage = await ran(A, keep=True)
    assert stage.did == ["up", "inject a", "leave"]
    assert result.kept == "leave"


async def test_what_the_stage_found_wrong_by_itself_makes_it_invalid():
    stage = fake()
    stage.trouble.append("fault lossy ended before it was healed")
    result, _ = await ran(A, stage=stage)
    assert (result.verdict, result.exit_code, result.invalid) == ("invalid", 5, stage.trouble)


async def test_trouble_on_the_way_down_is_told():
    stage = fake()
    stage.raises["down"] = TargetError("3 pods are left", exit_code=4)
    result, _ = await ran(A, stage=stage)
    assert result.invalid == ["at the end: 3 pods are left"]


async def test_an_interrupt_ends_what_goes_on_takes_the_subnet_down_and_leaves_the_rest_not_run():
    found = plan(A, {"name": "b", "inject": {}})

    class Hanging(FakeStage):
        async def inject(self, ask, progress):
            self.did.append(f"inject {ask.name}")
            self.runs[ask.name] = "r-1"
            asyncio.get_running_loop().call_soon(task.cancel)
            try:
                await asyncio.sleep(3600)
            finally:
                self.did.append("cancelled")
            raise AssertionError

    stage = Hanging(found.subnet)
    task = asyncio.ensure_future(runner_of(found, stage).run())
    result = await task
    assert stage.did == ["up", "inject a", "cancelled", "down"]
    assert (result.interrupted, result.verdict) == (True, "invalid")
    assert [(step.state, step.detail, step.run) for step in result.steps] == [
        ("failed", "interrupted", "r-1"), ("not run", "", None)
    ]  # fmt: skip
    assert all(not one.ok for one in result.expectations)


async def test_listeners_hear_how_it_goes():
    heard: list[ScenarioEvent] = []
    found = plan(A, {"wait": "1s"})
    await runner_of(found, FakeStage(found.subnet), heard).run()
    kinds = [type(event) for event in heard]
    assert kinds == [
        StepProgress, SubnetUp, StepBegan, StepProgress, StepEnded, StepBegan, StepEnded, Ending, TrialEnded
    ]  # fmt: skip
    assert [event.result.name for event in heard if isinstance(event, StepEnded)] == ["a", "wait-1"]


async def test_a_run_that_was_stopped_early_ends_the_scenario_and_fails_it():
    stopped = StoppedEarly(expr="p99 <= 1ms", artifacts=3, asked=100, after_s=1.5)
    stage = fake(a=report(["p99 <= 1ms"], stopped_early=stopped))
    steps = ({"name": "a", "inject": {}}, {"expect": "a.p99 <= 1ms"}, {"inject": {"expect": "p50 <= 1s"}})
    result, _ = await ran(*steps, stage=stage, stop_early=True)
    assert stage.asked["a"].stop_early
    assert stage.did == ["up", "inject a", "down"]
    assert (result.verdict, result.exit_code, result.invalid) == ("fail", 1, [])
    assert [step.state for step in result.steps] == ["done", "not run", "not run"]
    assert result.steps[0].detail.startswith("stopped early: p99 <= 1ms could hold no more, after 3 of 100 artifacts")
    assert next((one.expr, one.ok) for one in result.steps[0].expectations) == ("p99 <= 1ms", False)
