"""A simulated subnet as a stage: one continuous world, runs that are kept, and waits in virtual time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.scenario.documents import plan
from tests.sim.mutants import planted

from p2pnet.cli.stages.simulated import SimulatedStage
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.report import Report
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.stage import IDLE_S, Awaited, NotReadyError, RunAsk
from p2pnet.store import State, archive
from p2pnet.store.simulated import SimulatedRun

SUBNET = {"nodes": 5, "network": {"default": {"latency": "20ms"}}}
PLAN = plan({"name": "a", "inject": {}}, subnet=SUBNET)
ASK = RunAsk(
    name="a", label="story/a", size=1024, files=(), count=2, rate_per_s=None, publisher="node-0", client="", within_s=5.0,
    seed=None, expect=(), shared=False,
)  # fmt: skip


def quiet(text: str, done: int, total: int) -> None:
    """Tell nobody."""


async def up(found: ScenarioPlan = PLAN, state: State | None = None, **more: Any) -> SimulatedStage:
    stage = SimulatedStage(found, seed=7, state=state, folder=Path(), **more)
    await stage.up(quiet)
    return stage


async def test_it_is_up_with_all_links_and_its_time_begins_then():
    stage = SimulatedStage(PLAN, seed=7, state=None, folder=Path())
    assert await stage.up(quiet) == "5 simulated nodes, 10/10 links"
    assert stage.seconds() == 0.0
    await stage.sleep(2.5)
    assert stage.seconds() == 2.5
    await stage.down()
    assert await stage.leave() == ""


async def test_runs_at_the_same_time_take_the_time_of_the_longest(state: State):
    stage, reports = await up(state=state), dict[str, Report]()

    async def inject(ask: RunAsk) -> None:
        reports[ask.name] = await stage.inject(ask, quiet)

    slow = replace(ASK, name="b", count=5, rate_per_s=1.0, shared=True)
    await stage.together([inject(replace(ASK, shared=True)), inject(slow)])
    assert 4.0 <= stage.seconds() < 7.0
    assert [(name, one.artifacts, one.reach.ratio, one.shared) for name, one in reports.items()] == [
        ("a", 2, 1, True), ("b", 5, 1, True),
    ]  # fmt: skip
    kept = [archive.read_run(state, one.run)[0] for one in reports.values()]
    assert [run.state for run in kept] == ["finished", "finished"]


async def test_a_run_that_nobody_waits_for_any_more_is_kept_with_what_there_was(state: State):
    stage = await up(state=state)
    task = asyncio.ensure_future(stage.inject(replace(ASK, count=50, rate_per_s=1.0), quiet))
    while stage.seconds() < 3.0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [head] = archive.list_heads(state, "story")
    run, report = archive.read_run(state, head.run)
    assert (run.state, report.verdict, stage.kept_run(ASK.name)) == ("cancelled", "invalid", run.run)
    assert 2 <= report.artifacts < 50


async def test_a_disk_that_refuses_a_run_ends_the_step(state: State, monkeypatch: pytest.MonkeyPatch):
    stage = await up(state=state)

    def refuse(self: SimulatedRun, *_: Any) -> None:
        self.failed = "no space is left"

    monkeypatch.setattr(SimulatedRun, "end", refuse)
    with pytest.raises(TargetError, match="the run is not kept: no space is left") as error:
        await stage.inject(ASK, quiet)
    assert error.value.exit_code == 5
    assert archive.list_heads(state, "story") == []


async def test_nodes_are_connected_again_after_a_restart_a_rotation_and_another_size():
    stage = await up()
    assert await stage.restart(["node-1", "node-2"], 20.0, quiet) == "node-1, node-2"
    assert stage.seconds() >= 0.6
    assert await stage.rotate(20.0, quiet) == "5 nodes"
    assert await stage.scale("node", 7, 20.0, quiet) == "7 nodes, 21/21 links"
    assert len(stage.nodes()) == 7
    notes = " ".join(stage.notes())
    assert "modelled: a new certificate is a new connection" in notes
    assert "modelled: a restart is the death of a process" in notes


async def test_what_is_not_connected_in_time_is_not_ready():
    stage = await up()
    with pytest.raises(NotReadyError, match="links"):
        await stage.restart(["node-1"], 0.1, quiet)


async def test_links_that_faults_keep_down_are_none_that_a_step_brings_back():
    stage = await up()
    await stage.fault("cut", {"from": "node-4", "block": True, "bothWays": True})
    late = await stage.wait(Awaited(connected=1.0), 60.0, quiet)
    assert late.came  # a connection outlives its path, until it has been silent for too long
    await stage.sleep(60)
    assert not (await stage.wait(Awaited(connected=1.0), 1.0, quiet)).came
    await stage.restart(["node-1"], 30.0, quiet)
    await stage.heal(["cut"])
    assert (await stage.wait(Awaited(connected=1.0), 30.0, quiet)).came


async def test_what_ended_by_itself_is_healed_as_well():
    stage = await up()
    await stage.fault("short", {"loss": "5%", "for": "1s"})
    await stage.sleep(2)
    assert await stage.heal(["short"]) == "short had ended by then"


async def test_a_wait_for_what_was_published_ends_when_all_have_it():
    stage = await up()
    await stage.fault("cut", {"partition": {"groups": ["node-4"]}})
    await stage.inject(replace(ASK, within_s=1.0), quiet)
    assert (await stage.wait(Awaited(holds=["a"]), 1.0, quiet)).detail == "held 8/10"
    await stage.heal(["cut"])
    assert (await stage.wait(Awaited(holds=["a"]), 60.0, quiet)).came


async def test_what_is_withdrawn_is_gone_and_stays_so_on_nodes_that_start_later():
    stage = await up()
    await stage.inject(ASK, quiet)
    before = await stage.wait(Awaited(gone=["a"]), 0.0, quiet)
    assert (before.came, before.detail) == (False, "gone 0/10")
    assert await stage.withdraw(["a"], quiet) == "2 artifacts"
    assert (await stage.wait(Awaited(gone=["a"]), 0.0, quiet)).came
    await stage.restart(["node-3"], 20.0, quiet)
    assert (await stage.wait(Awaited(gone=["a"]), 0.0, quiet)).detail == "gone 10/10"


async def test_a_node_that_stands_still_is_not_told_of_a_withdrawal():
    stage = await up()
    await stage.inject(ASK, quiet)
    await stage.fault("still", {"pause": True, "from": "node-2"})
    with pytest.raises(TargetError, match="is not withdrawn: node-2 cannot be asked") as error:
        await stage.withdraw(["a"], quiet)
    assert error.value.exit_code == 5


async def test_nodes_are_idle_when_they_have_had_nothing_left_to_do_for_some_seconds():
    stage = await up()
    began = stage.seconds()
    waited = await stage.wait(Awaited(idle=1.0), 60.0, quiet)
    assert (waited.came, waited.detail) == (True, "idle 5/5")
    assert stage.seconds() - began == pytest.approx(IDLE_S, abs=0.2)
    await stage.fault("narrow", {"access": {"up": "64kbit"}, "from": "node-0"})
    await stage.inject(replace(ASK, size=100_000, within_s=0.5), quiet)
    busy = await stage.wait(Awaited(idle=1.0), 1.0, quiet)
    assert not busy.came
    assert "node-1 has 2 left" in busy.detail
    assert (await stage.wait(Awaited(idle=0.0), 10.0, quiet)).came


PROMISED = plan({"name": "a", "inject": {}}, {"wait": {"promise": "kept"}}, subnet=SUBNET)


async def test_the_promise_is_kept_once_nodes_are_at_rest_and_else_it_is_said_who_does_not():
    stage = await up(PROMISED)
    await stage.fault("narrow", {"access": {"up": "64kbit"}, "from": "node-0"})
    await stage.inject(replace(ASK, size=100_000, within_s=0.5), quiet)
    waited = await stage.wait(Awaited(promise=True), 1.0, quiet)
    assert not waited.came
    assert waited.detail.startswith("node-1 does not hold ")
    assert "; and " in waited.detail
    await stage.heal(["narrow"])
    waited = await stage.wait(Awaited(promise=True), 60.0, quiet)
    assert (waited.came, waited.detail) == (True, "kept")


async def test_a_rule_that_was_broken_on_the_way_ends_the_wait_at_once():
    with planted("synced-before-the-answers"):
        stage = await up(PROMISED)
        await stage.fault("lossy", {"loss": "40%"})
        await stage.inject(replace(ASK, count=40, within_s=20.0), quiet)
        for _ in range(3):
            await stage.rotate(60.0, quiet)
        began = stage.seconds()
        waited = await stage.wait(Awaited(promise=True), 600.0, quiet)
    assert not waited.came
    assert "said synced to" in waited.detail
    assert stage.seconds() - began < 5.0  # the last of them was on its way


async def test_there_are_no_images():
    with pytest.raises(SpecError, match="no images"):
        await (await up()).upgrade("node:2", 5.0, quiet)


async def test_files_are_read_from_the_scenario_s_folder(tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes(b"x" * 500)
    stage = SimulatedStage(PLAN, seed=7, state=None, folder=tmp_path)
    await stage.up(quiet)
    report = await stage.inject(replace(ASK, files=("photo.jpg",), size=0), quiet)
    assert report.payload_bytes == 2 * 500


async def test_whoever_watches_is_told_while_time_passes():
    turns: list[int] = []
    told: list[tuple[str, int, int]] = []
    stage = await up(on_turn=lambda: turns.append(1))
    await stage.inject(ASK, lambda *far: told.append(far))
    assert turns
    assert ("delivered", 8, 8) in told
