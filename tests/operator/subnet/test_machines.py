"""A machine that dies with pods of a Subnet is named, with what helps; its pods are replaced only where that is asked for."""

from datetime import timedelta

import pytest
from tests.operator.kit import NOW, World, pods_of

from p2pnet.operator.kube.api import EVENT, NODE, POD, ForbiddenError, Object, meta, name_of, time_text
from p2pnet.operator.subnet import machines
from p2pnet.operator.subnet.context import LostMachine

CONDITIONS = {
    "running": [("Ready", "True", ""), ("ContainersReady", "True", "")],
    "failing": [("Ready", "False", ""), ("ContainersReady", "False", "")],
    "silent": [("Ready", "False", ""), ("ContainersReady", "True", "")],
    "driven off": [("Ready", "True", ""), ("DisruptionTarget", "True", "DeletionByTaintManager")],
    "drained": [("Ready", "True", ""), ("DisruptionTarget", "True", "EvictionByEvictionAPI")],
}  # fmt: skip
"""What is said of a pod whose kubelet speaks, and by controllers of Kubernetes of one whose kubelet does not."""


def pod(
    state: str, *, machine: str = "m", name: str = "demo-lab", ended: timedelta | None = None, **spec: object
) -> Object:
    conditions = [{"type": kind, "status": truth, "reason": why, "lastTransitionTime": time_text(NOW - timedelta(minutes=1))}
                  for kind, truth, why in CONDITIONS[state]]  # fmt: skip
    ending = {} if ended is None else {"deletionTimestamp": time_text(NOW - ended)}
    return {
        "metadata": {"name": name, **ending},
        "spec": {"nodeName": machine, **spec},
        "status": {"conditions": conditions},
    }


def node(ready: str) -> Object:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": time_text(NOW - timedelta(minutes=2))}
    return {"metadata": {"name": "m"}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("seen", "suspected", "judged"),
    [
        (pod("running"), False, False),
        (pod("failing"), False, False),
        (pod("silent"), True, True),
        (pod("silent", readinessGates=[{"conditionType": "x"}]), False, False),
        (pod("driven off"), True, False),
        (pod("drained"), False, False),
        (pod("running", ended=-timedelta(seconds=20)), False, False),
        (pod("running", ended=timedelta(seconds=20)), False, False),
        (pod("running", ended=timedelta(seconds=40)), True, True),
    ],
)
def test_pods_hint_at_a_lost_machine_and_some_hints_suffice(seen: Object, *, suspected: bool, judged: bool) -> None:
    assert bool(machines.suspected([seen, pod("running", machine="other")], NOW)) is suspected
    assert (machines.by_pods("m", [seen], NOW) is not None) is judged


def test_a_pod_that_a_finalizer_holds_says_nothing_of_its_machine() -> None:
    held = pod("running", ended=timedelta(hours=1))
    meta(held)["finalizers"] = ["somebody/else"]
    assert not machines.suspected([held], NOW)


def test_the_machine_itself_decides_where_it_may_be_read() -> None:
    silent = pod("silent")
    assert machines.by_node("m", node("True"), [silent], NOW) is None
    assert machines.by_node("m", node("False"), [silent], NOW) is None
    assert machines.by_node("m", node("Unknown"), [silent], NOW) == LostMachine(
        "m", NOW - timedelta(minutes=2), "does not answer", ("demo-lab",)
    )
    gone = machines.by_node("m", None, [silent], NOW)
    assert gone is not None
    assert (gone.why, gone.since) == ("is not in the cluster any more", NOW - timedelta(minutes=1))


def test_no_more_machines_are_asked_about_than_somebody_could_read_of() -> None:
    many = [pod("silent", machine=f"m-{number:03}") for number in range(500)]
    assert list(machines.suspected(many, NOW)) == [f"m-{number:03}" for number in range(machines.MACHINES_MAX)]


async def with_lab_on(machine: str, **annotations: str) -> World:
    """A Subnet at rest whose lab and last node are on this machine, the others elsewhere."""
    world = World(
        nodes=3, annotations={f"p2pnet.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
    )
    world.api.graceful = True
    world.api.machines = {machine: node("True"), "other": node("True")}
    await world.converge()
    for each in world.api.all(POD):
        each["spec"]["nodeName"] = machine if name_of(each) in ("demo-lab", "demo-node-2") else "other"
        each["status"]["conditions"].append({"type": "ContainersReady", "status": "True"})
    return world


def dies(world: World, machine: str) -> None:
    """What Kubernetes does when a kubelet is silent for long enough."""
    world.api.machines[machine] = {"status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "lastTransitionTime": time_text(world.now)}]}}  # fmt: skip
    for each in world.api.all(POD):
        if each["spec"]["nodeName"] == machine:
            each["status"]["conditions"][0] |= {"status": "False", "lastTransitionTime": time_text(world.now)}
    world.lab.silent = True


def degraded(world: World) -> Object:
    found: Object = next(one for one in world.status["conditions"] if one["type"] == "Degraded")
    return found


@pytest.mark.parametrize("may_read", [True, False])
async def test_a_lost_machine_is_named_with_its_pods_and_what_helps_and_nothing_is_deleted(*, may_read: bool) -> None:
    world = await with_lab_on("m-1")
    if not may_read:
        world.api.reading = lambda kind: ForbiddenError(403, "Forbidden", "nodes") if kind == NODE else None
    dies(world, "m-1")
    before = pods_of(world)
    for _ in range(10):
        await world.reconcile()
        world.now += timedelta(seconds=60)
    found = degraded(world)
    assert (found["status"], found["reason"]) == ("True", "MachineLost")
    for words in ("machine m-1", "demo-lab, demo-node-2", "kubectl delete node m-1",
                  "kubectl annotate subnet demo -n lab-of-ada p2pnet.io/replace-lost-after=2m"):  # fmt: skip
        assert words in found["message"]
    connected = next(one for one in world.status["conditions"] if one["type"] == "Connected")
    assert (connected["status"], connected["reason"]) == ("Unknown", "LabUnreachable")
    assert "machine m-1" in connected["message"]
    assert pods_of(world) == before
    assert [one["type"] for one in world.api.all(EVENT) if one["reason"] == "MachineLost"] == ["Warning"]


async def test_where_it_is_asked_for_the_pods_of_a_lost_machine_are_made_again_after_that_time() -> None:
    world = await with_lab_on("m-1", replace_lost_after="2m")
    dies(world, "m-1")
    before = pods_of(world)
    assert await world.reconcile() is not None
    assert pods_of(world) == before
    assert "again elsewhere at" in degraded(world)["message"]
    world.now += timedelta(seconds=121)
    await world.reconcile(2)
    after = pods_of(world)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"demo-lab", "demo-node-2"}
    [told] = [one for one in world.api.all(EVENT) if one["reason"] == "PodsReplaced"]
    assert (told["type"], "machine m-1" in told["message"]) == ("Warning", True)
    world.lab.silent = False
    await world.converge()
    assert (degraded(world)["status"], world.condition("Ready")[0]) == ("False", "True")


async def test_pods_of_a_lost_machine_that_are_ending_already_are_taken_by_force_too() -> None:
    world = await with_lab_on("m-1", replace_lost_after="30s")
    dies(world, "m-1")
    lab = world.api.one(POD, "demo-lab")
    meta(lab)["deletionTimestamp"] = time_text(world.now)  # the taint has driven it off; nobody there hears of it
    world.now += timedelta(seconds=31)
    await world.reconcile(2)
    assert pods_of(world)["demo-lab"] != meta(lab)["uid"]


async def test_it_is_looked_at_again_when_the_time_is_over_though_nothing_changes() -> None:
    world = await with_lab_on("m-1", replace_lost_after="10s")
    dies(world, "m-1")
    world.now += timedelta(seconds=9)
    again = await world.reconcile()
    assert again is not None
    assert again <= 1


async def test_a_machine_that_comes_back_in_time_keeps_its_pods() -> None:
    world = await with_lab_on("m-1", replace_lost_after="2m")
    before = pods_of(world)
    dies(world, "m-1")
    await world.reconcile()
    world.now += timedelta(seconds=100)
    world.api.machines["m-1"] = node("True")
    for each in world.api.all(POD):
        each["status"]["conditions"][0]["status"] = "True"
    world.lab.silent = False
    world.now += timedelta(seconds=100)
    await world.converge()
    assert pods_of(world) == before
    assert degraded(world)["status"] == "False"


async def test_a_time_that_is_none_is_said_at_once_and_replaces_nothing() -> None:
    world = await with_lab_on("m-1", replace_lost_after="soon")
    await world.reconcile()
    found = degraded(world)
    assert (found["status"], found["reason"]) == ("True", "InvalidAnnotation")
    assert "p2pnet.io/replace-lost-after" in found["message"]
    assert world.condition("Ready")[0] == "True", "else all is as it should be"
    before = pods_of(world)
    dies(world, "m-1")
    world.now += timedelta(hours=1)
    await world.reconcile(3)
    assert pods_of(world) == before


async def test_at_rest_nobody_asks_about_machines() -> None:
    world = await with_lab_on("m-1")
    asked: list[str] = []
    world.api.reading = lambda kind: asked.append(kind.plural)
    await world.reconcile(3)
    assert "nodes" not in asked
