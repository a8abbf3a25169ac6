"""A document is checked each time it was edited, and the last good one stays in force while a newer one is wrong."""

from datetime import timedelta

import pytest
from tests.operator.kit import KEY, NAMESPACE, World, counted, members_of, pods_of

from p2pnet.operator.kube.api import (
    CONFIG_MAP,
    POD,
    Object,
    name_of,
)
from p2pnet.operator.subnet import observe
from p2pnet.operator.subnet.context import SUBNET, SubnetContext


@pytest.mark.parametrize(
    ("spec", "words"),
    [({"nodes": 0}, "a subnet has 1 to 500"), ({"nodes": 3, "identity": {"ttl": "1m"}}, "spec.identity.ttl"),
     ({"nodes": 3, "typo": 1}, "spec.typo")],
)  # fmt: skip
async def test_an_invalid_spec_is_named_by_its_path_and_nothing_else_happens(
    spec: dict[str, object], words: str
) -> None:
    world = World(**spec)
    for _ in range(50):
        assert await world.reconcile() is None
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    assert any(words in one["message"] for one in world.status["conditions"])
    assert counted(world.api) == {"Subnet": 1, "Event": 1}


async def test_a_subnet_with_an_invalid_edit_keeps_its_pods() -> None:
    world = World(nodes=3)
    await world.converge()
    before = pods_of(world)
    world.api.edit(SUBNET, "demo", nodes=0)
    await world.reconcile()
    assert pods_of(world) == before
    assert world.status["observedGeneration"] == 2
    assert world.condition("Ready") == ("False", "InvalidSpec")


async def test_a_subnet_with_an_invalid_edit_is_kept_as_its_last_good_document_has_it() -> None:
    world = World(nodes=3)
    await world.converge()
    before = pods_of(world)
    world.api.edit(SUBNET, "demo", nodes=0)
    world.api.edit(SUBNET, "demo", nodes=5, identity={"ttl": "1m"})
    await world.reconcile()
    gone = world.api.objects.pop((POD, NAMESPACE, "demo-node-1"))
    await world.converge()
    after = pods_of(world)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {name_of(gone)}
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    assert world.condition("Ready") == ("False", "InvalidSpec")
    assert "spec.identity.ttl" in next(
        one["message"] for one in world.status["conditions"] if one["type"] == "Degraded"
    )
    assert world.status["ready"] == "3/3"
    writes = len(world.api.writes)
    for _ in range(3):
        world.now += timedelta(minutes=1)
        await world.reconcile()
    assert len(world.api.writes) == writes, "nothing is written at rest"
    world.api.edit(SUBNET, "demo", nodes=4, identity=None)
    await world.converge()
    assert len(pods_of(world)) == 4 + 1
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_a_field_the_cluster_cannot_honour_is_unsupported() -> None:
    world = World(nodes=1, groups=[{"name": "next", "nodes": 2, "behaviour": "stale-certificate"}])
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "Unsupported")


async def test_edges_are_read_from_a_configmap() -> None:
    world = World(nodes=3, topology={"kind": "edges", "edgesFrom": {"configMap": "plan"}})
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    text = "node-0 node-1  # first\n\nnode-1 node-2\n"
    world.api.put(CONFIG_MAP, NAMESPACE, {"kind": "ConfigMap", "metadata": {"name": "plan"}, "data": {"edges": text}})
    await world.operator.reconcile(KEY)
    assert members_of(world).edges == [("node-0", "node-1"), ("node-1", "node-2")]


async def test_edges_in_a_file_which_an_older_definition_takes_are_said_to_be_the_command_lines() -> None:
    world = World(nodes=3, topology={"kind": "edges", "edgesFrom": {"file": "edges.txt"}})
    await world.reconcile()
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    said = next(one["message"] for one in world.status["conditions"] if one["type"] == "Degraded")
    assert said.startswith("spec.topology.edgesFrom: only the command line reads a file")
    assert "pieces" not in said


async def test_a_lab_that_does_not_answer_leaves_the_pods_alone() -> None:
    world = World(nodes=3)
    await world.converge()
    before = pods_of(world)
    world.lab.silent = True
    world.now += timedelta(minutes=1)
    again = await world.reconcile()
    assert again is not None
    assert again <= 30
    assert world.condition("Connected") == ("Unknown", "LabUnreachable")
    assert world.condition("Ready") == ("Unknown", "LabUnreachable")
    assert pods_of(world) == before
    world.lab.silent = False
    await world.converge()
    assert world.condition("Ready") == ("True", "Connected")


async def test_a_document_is_checked_once_and_again_after_every_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    plain = observe.context_of

    def check(thing: Object, image: str) -> SubnetContext:
        checked.append(name_of(thing))
        return plain(thing, image)

    monkeypatch.setattr(observe, "context_of", check)
    world = World(nodes=2)
    await world.converge()
    await world.reconcile(5)
    assert len(checked) == 1
    world.api.annotate("demo", paused="true")
    await world.reconcile(2)
    assert len(checked) == 2
    assert world.condition("Paused") == ("True", "Annotated")
    world.api.annotate("demo", paused="false")
    world.api.edit(SUBNET, "demo", nodes=3)
    await world.converge()
    assert len(checked) == 3
    assert len(pods_of(world)) == 4
