"""Events tell what happened to a Subnet, each step once: whoever reads them alone knows how it went."""

from datetime import timedelta
from typing import Any

import pytest
from tests.operator.kit import NAMESPACE, NOW, Killed, World

from p2pnet.operator.kube.api import CONFIG_MAP, EVENT, POD, SECRET, ConflictError, meta, name_of, time_text
from p2pnet.operator.subnet.context import SUBNET


def told(world: World, since: int = 0) -> list[tuple[str, str]]:
    """(reason, message) of every event after the first `since`, in the order they were written."""
    return [(one["reason"], one["message"]) for one in world.api.all(EVENT)][since:]


def reasons(world: World, since: int = 0) -> list[str]:
    return [reason for reason, _ in told(world, since)]


async def at_rest(**spec: Any) -> tuple[World, int]:
    """A Subnet that has come up, and how many events that took."""
    world = World(**spec)
    await world.converge()
    return world, len(told(world))


async def test_a_subnet_that_comes_up_tells_three_or_four_things_and_none_at_rest() -> None:
    world, count = await at_rest(nodes=11)
    assert told(world) == [
        ("Creating", "11 nodes in 11 pods, and the lab"),
        ("Issued", "certificates 11/11"),
        ("LabReachable", "the lab answers: links 55/55"),
        ("Connected", "nodes ready 11/11, links up 55/55"),
    ]
    writes = len(world.api.writes)
    for _ in range(5):
        world.now += timedelta(minutes=1)
        world.start()
        await world.reconcile()
    assert len(world.api.writes) == writes
    assert count == 4


async def test_sizes_and_groups_are_told_from_and_to_and_then_that_all_is_connected_again() -> None:
    world, count = await at_rest(nodes=3, groups=[{"name": "old", "nodes": 1}])
    world.api.edit(SUBNET, "demo", nodes=5, groups=[{"name": "next", "nodes": 2}])
    await world.converge()
    assert told(world, count) == [
        ("GroupAdded", "group next: 2 nodes"),
        ("GroupRemoved", "group old: its 1 node will go"),
        ("Scaled", "group node from 3 to 5"),
        ("Connected", "nodes ready 7/7, links up 21/21"),
    ]


async def test_an_edit_says_what_it_changes_and_a_rolling_update_when_it_begins_and_ends() -> None:
    world, count = await at_rest(nodes=3)
    world.api.edit(SUBNET, "demo", image="other:1", ready={"connected": "90%", "within": "60s"})
    await world.converge()
    events = told(world, count)
    assert events[:2] == [
        ("Edited", "spec.ready: at once; spec.image: pods are replaced, a tenth at a time"),
        ("RollingUpdate", "4 pods to be replaced"),
    ]
    assert reasons(world, count)[2:] == ["RolledOut", "Connected"], (
        "that pods and lab are away for moments is part of it"
    )
    assert events[2][1].startswith("4 pods replaced in ")
    assert "rollout" not in world.status


async def test_a_pod_that_is_lost_is_told_and_that_all_is_well_again() -> None:
    world, count = await at_rest(nodes=3)
    world.api.remove(POD, "demo-node-1")
    await world.converge()
    assert told(world, count) == [
        ("NotReady", "Creating: pods to be created: demo-node-1"), ("Connected", "nodes ready 3/3, links up 3/3"),
    ]  # fmt: skip
    assert [one["type"] for one in world.api.all(EVENT)][count:] == ["Warning", "Normal"]


async def test_a_drained_pod_is_named_with_its_machine() -> None:
    world, count = await at_rest(nodes=3)
    pod = world.api.one(POD, "demo-node-1")
    pod["spec"]["nodeName"] = "worker-2"
    pod["status"]["conditions"].append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
    )
    meta(pod)["deletionTimestamp"] = time_text(world.now)
    await world.reconcile(3)
    world.start()
    await world.converge()
    said = [message for reason, message in told(world, count) if reason == "Evicted"]
    assert said == ["pod demo-node-1 leaves worker-2: EvictionByEvictionAPI: Eviction API: evicting"]


async def test_a_lab_that_falls_silent_and_comes_back_is_told() -> None:
    world, count = await at_rest(nodes=3)
    world.lab.silent = True
    await world.reconcile(3)
    world.lab.silent = False
    await world.converge()
    assert [reason for reason in reasons(world, count) if reason.startswith("Lab")] == [
        "LabUnreachable",
        "LabReachable",
    ]
    assert told(world, count)[0] == ("LabUnreachable", "the lab is silent")


async def test_pausing_and_going_on_are_told() -> None:
    world, count = await at_rest(nodes=3)
    world.api.annotate("demo", paused="true")
    await world.reconcile(2)
    del meta(world.subnet)["annotations"]["p2pnet.io/paused"]
    await world.reconcile(2)
    assert reasons(world, count) == ["Paused", "Resumed"]


async def test_a_problem_is_told_once_under_its_own_name_and_that_it_is_over() -> None:
    world, count = await at_rest(nodes=3)
    held = world.api.one(SECRET, "demo-ca")
    world.api.remove(SECRET, "demo-ca")
    await world.reconcile(2)
    assert reasons(world, count) == ["AuthorityLost"]
    world.api.objects[(SECRET, NAMESPACE, "demo-ca")] = held
    await world.converge()
    assert reasons(world, count)[1:] == ["Recovered", "Issued", "Connected"]


async def test_the_steps_of_an_authoritys_replacement_are_told_and_its_end() -> None:
    world, count = await at_rest(nodes=3)
    world.api.annotate("demo", force_replace="1")
    await world.converge()
    assert [reason for reason in reasons(world, count) if reason.startswith("Authority")] == [
        "AuthorityReplacing", "AuthorityReplacing", "AuthorityReplaced",
    ]  # fmt: skip


async def test_the_end_of_a_ttl_is_told() -> None:
    world = World(nodes=1, ttl="1h")
    await world.converge()
    world.now = NOW + timedelta(minutes=61)
    await world.reconcile()
    assert reasons(world)[-1] == "Expired"


async def test_a_document_that_was_written_by_hand_is_no_edit() -> None:
    world, count = await at_rest(nodes=3)
    world.api.one(CONFIG_MAP, "demo-config")["data"]["subnet.json"] = "{"
    await world.converge()
    assert told(world, count) == []


@pytest.mark.parametrize("every", [1, 2, 3])
async def test_an_operator_that_is_killed_again_and_again_tells_nothing_twice(every: int) -> None:
    world, count = await at_rest(nodes=3)
    world.api.edit(SUBNET, "demo", nodes=6, image="other:1")
    for _ in range(200):
        world.api.kill_after = len(world.api.writes) + every
        world.start()
        try:
            await world.reconcile(2)
        except (Killed, ConflictError):
            world.kubelet()
            world.now += timedelta(seconds=6)
        else:
            if not world.kubelet() and world.condition("Ready")[0] == "True" and "rollout" not in world.status:
                break
    world.api.kill_after = None
    await world.converge()
    since = reasons(world, count)
    assert since[:2] == ["Scaled", "Edited"]
    assert [since.count(reason) for reason in ("Scaled", "Edited")] == [1, 1]
    assert max(since.count(reason) for reason in ("RollingUpdate", "RolledOut")) <= 1, (
        "a killed writer may leave it untold"
    )
    assert len(since) <= 12, since
    assert {name_of(one).partition(".")[0] for one in world.api.all(EVENT)} == {"demo"}
