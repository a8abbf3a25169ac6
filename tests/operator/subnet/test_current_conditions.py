"""Whoever waits for a condition as kubectl does is not let go by what is true of a former document, whatever comes when."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import World, members_of, pods_of

from p2pnet.operator.kube.api import POD, SECRET, ForbiddenError, Object, ResourceKind, annotations_of, meta, name_of
from p2pnet.operator.kube.desired import HASH
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.plan import wanted_pods
from p2pnet.operator.subnet.plan.pods import lab_pod

EDITS: dict[str, Object] = {
    "up": {"nodes": 6},
    "down": {"nodes": 2},
    "group": {"groups": [{"name": "far", "nodes": 2}]},
    "no group": {"groups": []},
    "topology": {"topology": {"kind": "ring"}},
    "mesh": {"topology": {"kind": "full"}},
    "image": {"image": "other:2"},
    "network": {"network": {"default": {"latency": "20ms"}}},
}
"""A name for each edit, and what it changes."""
STEPS = [*EDITS, *["look"] * 3, *["kubelet"] * 2, "stuck", "free", "silent", "heard"]
"""What may happen: an operator looks more often than a person edits."""


def is_met(subnet: Object, kind: str, status: str = "True") -> bool:
    """Whether `kubectl wait --for=condition=KIND=STATUS` ends: a judgement of an older generation counts for nothing."""
    for one in (subnet.get("status") or {}).get("conditions") or []:
        if one["type"] == kind:
            return bool(one["observedGeneration"] >= meta(subnet)["generation"] and one["status"] == status)
    return False


def check_honest(world: World) -> None:
    """What may be waited for holds of the document as it is now."""
    subnet, context = world.subnet, world.context()
    wanted = {**wanted_pods(context), context.lab: lab_pod(context)}
    hashes = {name: annotations_of(pod)[HASH] for name, pod in wanted.items()}
    there = {name_of(pod): annotations_of(pod)[HASH] for pod in world.api.all(POD)}
    members = {name for name, _ in context.members}
    if is_met(subnet, "Connected"):
        assert {one.name for one in members_of(world).registry.members} == members
        assert {name: there.get(name) for name in wanted_pods(context)} == {
            name: hashes[name] for name in wanted_pods(context)
        }
        assert world.lab.stuck is None or world.lab.stuck.nodes.desired == len(members)
    if is_met(subnet, "CertificatesReady"):
        assert {placed.pod for placed in context.placements} <= {name_of(one) for one in world.api.all(SECRET)}
    if is_met(subnet, "Progressing", "False") or is_met(subnet, "Ready"):
        assert {name: there.get(name) for name in hashes} == hashes
    if is_met(subnet, "Progressing", "False"):
        assert there.keys() == hashes.keys()
    if is_met(subnet, "Ready") and world.lab.document is not None:
        assert (world.lab.document["spec"].get("network") or {}) == ((subnet["spec"].get("network")) or {})


async def play(steps: list[str]) -> World:
    """A Subnet that is at rest, then these steps: edits, looks of the operator, kubelet and lab; honest after each."""
    world = World(nodes=4)
    world.api.graceful = True
    await world.converge()
    world.lab.mounted_document = world.context().document_digest
    does: dict[str, Callable[[], object]] = {
        "kubelet": world.kubelet,
        "free": lambda: setattr(world.lab, "stuck", None),
        "silent": lambda: setattr(world.lab, "silent", True),
        "heard": lambda: setattr(world.lab, "silent", False),
    }
    for step in steps:
        if step in EDITS:
            world.api.edit(SUBNET, "demo", **EDITS[step])
        elif step == "look":
            await world.reconcile()
        elif step == "stuck" and not world.lab.silent:
            world.lab.stuck = await world.lab.summary("", "")
        elif step in does:
            does[step]()
        check_honest(world)
    world.lab.stuck, world.lab.silent = None, False
    await world.converge()
    return world


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("lab", ["free", "stuck", "silent"])
async def test_after_an_edit_nothing_is_met_before_it_is_so_however_the_lab_is(edit: str, lab: str) -> None:
    world = await play([lab, edit, "look", "look", "kubelet", "look", "kubelet", "look"])
    for kind in ("Ready", "Connected", "CertificatesReady"):
        assert is_met(world.subnet, kind), kind
    assert is_met(world.subnet, "Progressing", "False")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=24))
def test_after_any_edits_in_any_order_nothing_is_met_before_it_is_so(steps: list[str]) -> None:
    assert is_met(asyncio.run(play(steps)).subnet, "Ready")


async def test_leaves_that_could_not_be_written_are_not_ready() -> None:
    world = World(nodes=3)
    await world.converge()
    world.api.edit(SUBNET, "demo", nodes=5)

    def refuse(verb: str, kind: ResourceKind, _: str) -> Exception | None:
        return ForbiddenError(403, "Forbidden", "no") if kind == SECRET and verb == "apply" else None

    world.api.fault = refuse
    with pytest.raises(ForbiddenError):
        await world.reconcile()
    assert world.condition("CertificatesReady") == ("False", "Issuing")


async def test_the_leaves_of_a_paused_subnet_that_was_scaled_are_not_ready() -> None:
    world = World(nodes=3)
    await world.converge()
    world.api.annotate("demo", paused="true")
    world.api.edit(SUBNET, "demo", nodes=5)
    await world.reconcile()
    assert world.condition("CertificatesReady") == ("False", "Issuing")
    assert len(pods_of(world)) == 4


async def test_a_lab_that_counts_other_members_under_the_same_version_is_not_believed() -> None:
    world = World(nodes=3)
    await world.converge()
    said = await world.lab.summary("", "")
    ghost = msgspec.structs.replace(said.members[0], name="ghost-0")
    world.lab.stuck = msgspec.structs.replace(said, members=[*said.members[1:], ghost])
    await world.reconcile()
    assert world.condition("Connected") == ("False", "MembersChanging")
