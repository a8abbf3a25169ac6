"""A live subnet as a stage: orders to its lab, edits of its document, and what becomes of them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.scenario.documents import document

from p2pnet.cli.stages import live
from p2pnet.cli.stages.live import LiveStage
from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.jobs import Problem, Withdrawal
from p2pnet.model.report import Condition
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.stage import Awaited, NotReadyError, RunAsk
from p2pnet.subnet.document import load_subnet, to_document
from p2pnet.subnet.edits import merge_patch
from p2pnet.subnet.members import members

GROUPS = {"nodes": 3, "groups": [{"name": "eu", "nodes": 1}, {"name": "bad", "nodes": 1, "behaviour": "silent"}]}
ASK = RunAsk(
    name="a", label="story/a", size=1024, files=(), count=1, rate_per_s=None, publisher="random", client="", within_s=60.0,
    seed=7, expect=(), shared=False,
)  # fmt: skip


def plan_of(subnet: dict[str, Any] = GROUPS) -> ScenarioPlan:
    written = read_scenario(document([{"name": "a", "inject": {}}], subnet))
    return checked_plan(written.scenario, inline_subnet(written))


def quiet(text: str, done: int, total: int) -> None:
    """Tell nobody."""


class Edited:
    """Takes every edit, as the target of a subnet that is up."""

    def __init__(self, target: Any, statuses: Callable[[int], Any]) -> None:
        self.target = target
        self.statuses = statuses
        self.patches: list[dict[str, Any]] = []

    async def edit(self, name: str, change: Any, progress: Any) -> None:
        patch = change(to_document(self.target.fake.subnet))
        self.patches.append(patch)
        if "spec" in patch and "image" not in patch["spec"]:
            self.target.fake.subnet = load_subnet(merge_patch(to_document(self.target.fake.subnet), patch))
            self.target.fake.statuses.append(self.statuses(self.target.fake.subnet.node_count))


@pytest.fixture
def stage(target: Any, make_status: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> LiveStage:
    monkeypatch.setattr(live, "POLL_S", 0.001)
    monkeypatch.setattr(live, "CLUSTER_POLL_S", 0.001)
    plan = plan_of()
    target.fake.subnet = plan.subnet
    target.seen = "up"

    def status(nodes: int, restarts: int = 0) -> Any:
        found = make_status(nodes, name="story")
        names = [name for name, _ in members(target.fake.subnet)]
        lines = [
            msgspec.structs.replace(one, name=name, leaf="old", restarts=restarts)
            for one, name in zip(found.members, names, strict=True)
        ]
        return msgspec.structs.replace(found, members=lines)

    target.status_of = status
    target.fake.statuses = [status(5)]
    target.edits = Edited(target, status)
    target.edit = target.edits.edit
    return LiveStage(plan.subnet, target, folder=Path())


async def test_a_group_is_scaled_by_an_edit_that_leaves_the_others_alone(stage: LiveStage, target: Any) -> None:
    assert await stage.scale("node", 4, 5.0, quiet) == "6 nodes, 15/15 links"
    await stage.scale("eu", 2, 5.0, quiet)
    assert target.edits.patches == [
        {"spec": {"nodes": 4}},
        {"spec": {"groups": [{"name": "eu", "nodes": 2}, {"name": "bad", "nodes": 1, "behaviour": "silent"}]}},
    ]
    assert stage.nodes() == ["bad-0", "eu-0", "eu-1", *(f"node-{index}" for index in range(4))]


async def test_a_step_that_does_not_bring_all_back_in_time_is_not_ready(
    stage: LiveStage, target: Any, make_status: Callable[..., Any]
) -> None:
    target.edits.statuses = lambda nodes: make_status(nodes, connected=2, name="story")
    with pytest.raises(NotReadyError, match=r"not connected again after 0\.01 s: .*links 1/15"):
        await stage.scale("node", 4, 0.01, quiet)


async def test_links_that_faults_keep_down_are_none_that_a_step_brings_back(stage: LiveStage, target: Any) -> None:
    def lacking(restarts: int) -> Any:
        found = target.status_of(5, restarts)
        return msgspec.structs.replace(found, links=msgspec.structs.replace(found.links, up=7))

    target.fake.statuses = [lacking(0), lacking(1)]
    await stage.restart(["node-1"], 5.0, quiet)


async def test_nodes_are_restarted_by_a_fault_that_is_done_once(stage: LiveStage, target: Any) -> None:
    target.fake.statuses = [target.status_of(5, restarts) for restarts in (0, 1)]
    assert await stage.restart(["node-0", "node-1"], 5.0, quiet) == "node-0, node-1"
    target.fake.statuses = [target.status_of(5, restarts) for restarts in (1, 2)]
    await stage.restart(["node-2"], 5.0, quiet)
    assert [asked[1:] for asked in target.fake.asked if asked[0] == "add"] == [
        ({"name": "restart-step-1", "restart": True, "from": "node-0,node-1"}, None),
        ({"name": "restart-step-2", "restart": True, "from": "node-2"}, None),
    ]


async def test_a_process_that_still_serves_is_not_the_one_that_was_asked_for(stage: LiveStage, target: Any) -> None:
    """One that ends in good order goes on for a while; a roll that took it for its successor would have all away at once."""
    with pytest.raises(NotReadyError, match="not connected again"):
        await stage.restart(["node-0"], 0.01, quiet)


async def test_a_restart_that_is_not_executed_is_not_ready(stage: LiveStage, target: Any) -> None:
    target.fake.stand = {"state": "active", "detail": "node-0 is being restarted"}
    with pytest.raises(NotReadyError, match=r"not restarted after 0\.01 s: node-0 is being restarted"):
        await stage.restart(["node-0"], 0.01, quiet)


async def test_leaves_are_rotated_by_the_lab_here_and_by_the_operator_in_a_cluster(
    stage: LiveStage, target: Any
) -> None:
    def fresh() -> None:
        found = target.status_of(5)
        new = [msgspec.structs.replace(one, leaf="new") for one in found.members]
        target.fake.statuses = [msgspec.structs.replace(found, members=new)]

    async def rotate() -> list[str]:
        target.fake.asked.append(("rotate",))
        fresh()
        return []

    target.fake.rotate = rotate
    assert await stage.rotate(5.0, quiet) == "5 nodes"
    assert ("rotate",) in target.fake.asked

    target.kind = "cluster"
    target.fake.statuses = [target.status_of(5)]
    ordered = target.edits.edit

    async def edit(name: str, change: Any, progress: Any) -> None:
        await ordered(name, change, progress)
        fresh()

    target.edit = edit
    await stage.rotate(5.0, quiet)
    [patch] = target.edits.patches
    assert list(patch["metadata"]["annotations"]) == ["p2pnet.io/force-renew"]


async def test_a_rotation_that_leaves_somebody_with_his_old_leaf_is_not_ready(stage: LiveStage, target: Any) -> None:
    async def rotate() -> list[str]:
        return []

    target.fake.rotate = rotate
    with pytest.raises(NotReadyError, match=r"not all certificates are new after 0\.01 s: bad-0, eu-0"):
        await stage.rotate(0.01, quiet)


async def test_an_image_is_rolled_out_by_the_operator_and_is_nothing_here(stage: LiveStage, target: Any) -> None:
    with pytest.raises(SpecError, match="no images"):
        await stage.upgrade("node:2", 5.0, quiet)
    target.kind = "cluster"
    rolling = Condition("Rollout", "True", "Progressing", "RollingUpdate: 2 of 5")
    target.fake.statuses = [
        target.status_of(5), msgspec.structs.replace(target.status_of(5), conditions=[rolling]), target.status_of(5)
    ]  # fmt: skip
    assert await stage.upgrade("node:2", 5.0, quiet) == "node:2"
    assert target.edits.patches == [{"spec": {"image": "node:2"}}]
    assert len(target.fake.statuses) == 1  # it waited until the rollout was over


async def test_a_wait_ends_when_so_many_links_are_up_or_its_time_is_over(
    stage: LiveStage, target: Any, make_status: Callable[..., Any]
) -> None:
    target.fake.statuses = [make_status(5, connected=3, name="story"), make_status(5, name="story")]
    waited = await stage.wait(Awaited(connected=1.0), 5.0, quiet)
    assert (waited.came, waited.detail) == (True, "links 10/10")
    target.fake.statuses = [make_status(5, connected=3, name="story")]
    late = await stage.wait(Awaited(connected=1.0), 0.01, quiet)
    assert (late.came, late.detail) == (False, "links 3/10")
    assert (await stage.wait(Awaited(connected=0.3), 5.0, quiet)).came


async def test_a_wait_for_what_was_published_asks_honest_nodes_alone_and_each_until_it_has_it(
    stage: LiveStage, target: Any
) -> None:
    await stage.inject(ASK, quiet)
    target.fake.held = {"eu-0": b"x", "node-0": b"x", "node-1": b"x"}
    late = await stage.wait(Awaited(holds=["a"]), 0.01, quiet)
    ids = len(target.fake.states[-1].report.artifact_ids)
    assert (late.came, late.detail) == (False, f"held {3 * ids}/{4 * ids}")
    target.fake.held["node-2"] = b"x"
    target.fake.asked.clear()
    assert (await stage.wait(Awaited(holds=["a"]), 5.0, quiet)).came
    assert "bad-0" not in {asked[1] for asked in target.fake.asked if asked[0] == "get"}


async def test_what_is_withdrawn_is_gone_when_every_honest_node_says_so(stage: LiveStage, target: Any) -> None:
    await stage.inject(ASK, quiet)
    ids = len(target.fake.states[-1].report.artifact_ids)
    target.fake.held = {"eu-0": b"x", "bad-0": b"x"}
    late = await stage.wait(Awaited(gone=["a"]), 0.01, quiet)
    assert (late.came, late.detail) == (False, f"gone {3 * ids}/{4 * ids}")
    assert await stage.withdraw(["a"], quiet) == f"{ids} artifact{'s' if ids > 1 else ''}"
    target.fake.held = {"bad-0": b"x"}
    assert (await stage.wait(Awaited(gone=["a"]), 5.0, quiet)).came


async def test_a_node_that_does_not_answer_is_not_taken_for_one_that_holds_nothing(
    stage: LiveStage, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.inject(ASK, quiet)

    async def silent(artifact: str, **asked: Any) -> None:
        raise ProblemError(Problem(f"{asked['node']} does not answer", exit_code=3), status=503)

    async def told(artifact: str) -> Withdrawal:
        return Withdrawal(artifact=artifact, held=[], silent=["node-1"])

    monkeypatch.setattr(target.fake, "get", silent)
    monkeypatch.setattr(target.fake, "withdrawal", told)
    for what in (Awaited(gone=["a"]), Awaited(holds=["a"])):
        assert not (await stage.wait(what, 0.01, quiet)).came
    with pytest.raises(TargetError, match="node-1 cannot be asked") as error:
        await stage.withdraw(["a"], quiet)
    assert error.value.exit_code == 5


async def test_honest_nodes_are_idle_when_all_have_said_so_for_some_seconds(
    target: Any, stage: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(stage, "_clock", lambda: float(next(now)))

    def status(**unfinished: int | None) -> Any:
        found = target.status_of(5)
        lines = [
            msgspec.structs.replace(one, unfinished=unfinished.get(one.name.replace("-", "_"), 0))
            for one in found.members
        ]
        return msgspec.structs.replace(found, members=lines)

    target.fake.statuses = [status(node_1=2, bad_0=9, eu_0=None)]
    late = await stage.wait(Awaited(idle=1.0), 20.0, quiet)
    assert not late.came
    assert late.detail.startswith("idle 2/4 (eu-0 does not say, node-1 has 2 left:")
    target.fake.statuses = [status(bad_0=9)]
    waited = await stage.wait(Awaited(idle=1.0), 100.0, quiet)
    assert (waited.came, waited.detail) == (True, "idle 4/4")


async def test_faults_that_are_held_are_renewed_and_one_that_ends_all_the_same_is_a_problem(
    stage: LiveStage, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RENEW_S", 0.001)
    assert await stage.fault("held", {"loss": "5%"}) == "node-0"
    await stage.fault("timed", {"loss": "5%", "for": "30s"})
    while not any(asked[0] == "renew" for asked in target.fake.asked):
        await asyncio.sleep(0.001)
    assert {asked[1] for asked in target.fake.asked if asked[0] == "renew"} == {"held"}
    del target.fake.faulty["held"]
    while not stage.problems():
        await asyncio.sleep(0.001)
    assert stage.problems() == ["fault held ended before it was healed: there is no fault held"]
    await stage.leave()


async def test_what_ended_by_itself_is_healed_as_well(stage: LiveStage, target: Any) -> None:
    await stage.fault("timed", {"loss": "5%", "for": "30s"})
    del target.fake.faulty["timed"]
    assert await stage.heal(["timed"]) == ""


async def test_a_run_is_cancelled_when_nobody_waits_for_it_any_more(stage: LiveStage, target: Any) -> None:
    async def follow(run_id: str, cursor: int = 0) -> Any:
        yield target.fake.states[0]
        await asyncio.sleep(3600)

    target.fake.follow = follow
    task = asyncio.ensure_future(stage.inject(ASK, quiet))
    while not any(asked[0] == "run" for asked in target.fake.asked):
        await asyncio.sleep(0)
    for _ in range(5):  # into the waiting for what it does next
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("cancel", target.fake.states[0].run) in target.fake.asked
    assert stage.kept_run(ASK.name) == target.fake.states[0].run


async def test_a_lab_that_dies_under_a_run_makes_it_invalid(stage: LiveStage, target: Any) -> None:
    async def follow(run_id: str, cursor: int = 0) -> Any:
        yield target.fake.states[0]
        target.seen = "dead"
        raise TargetError("the lab of story is dead", exit_code=3)

    target.fake.follow = follow
    with pytest.raises(TargetError, match="is invalid: the lab of story is dead") as error:
        await stage.inject(ASK, quiet)
    assert error.value.exit_code == 5


async def test_files_are_sent_before_the_run_is_asked_for(stage: LiveStage, target: Any, tmp_path: Path) -> None:
    stage = LiveStage(plan_of().subnet, target, folder=tmp_path)
    await stage.inject(replace(ASK, files=("pictures/photo.jpg",), size=0), quiet)
    kinds = [asked[0] for asked in target.fake.asked]
    assert kinds[:2] == ["upload", "run"]
    [request] = [asked[1] for asked in target.fake.asked if asked[0] == "run"]
    assert [payload.upload for payload in request.payloads] == ["upload-photo.jpg"]


async def test_what_was_never_begun_is_not_taken_down(stage: LiveStage, target: Any) -> None:
    with pytest.raises(TargetError, match="there is a subnet story already"):
        await stage.up(quiet)
    await stage.down()
    assert target.removed == []


async def test_a_start_that_fails_is_taken_down(stage: LiveStage, target: Any) -> None:
    async def start(subnet: Any, progress: Any, *, timeout_s: float) -> None:
        raise ProblemError(Problem("no room", exit_code=2), status=400)

    target.seen, target.start = "absent", start
    with pytest.raises(ProblemError):
        await stage.up(quiet)
    await stage.down()
    assert target.removed == ["story"]
