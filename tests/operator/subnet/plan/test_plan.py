"""What a document means in objects: names, places, rights and hashes, as a function."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import IMAGE, NAMESPACE, NOW, container, subnet_context

from p2pnet.operator.kube.api import POD, meta, name_of
from p2pnet.operator.kube.desired import HASH, Create
from p2pnet.operator.subnet.context import Observed
from p2pnet.operator.subnet.plan import configmaps, plan, rollout, wanted_pods
from p2pnet.subnet.document import load_subnet

EMPTY = Observed({})


def hashes(**spec: Any) -> dict[str, str]:
    return {name: meta(pod)["annotations"][HASH] for name, pod in wanted_pods(subnet_context(**spec)).items()}


def test_pods_are_named_by_group_and_ordinal_and_their_addresses_follow() -> None:
    context = subnet_context(nodes=2, groups=[{"name": "next", "nodes": 1}])
    assert list(wanted_pods(context)) == ["demo-next-0", "demo-node-0", "demo-node-1"]
    members = configmaps.membership(context, EMPTY).registry.members
    assert [(one.name, one.addresses) for one in members] == [
        ("next-0", [f"demo-next-0.demo-nodes.{NAMESPACE}.svc:4100"]),
        ("node-0", [f"demo-node-0.demo-nodes.{NAMESPACE}.svc:4100"]),
        ("node-1", [f"demo-node-1.demo-nodes.{NAMESPACE}.svc:4100"]),
    ]
    assert members[1].uri == f"spiffe://p2pnet/ns/{NAMESPACE}/subnet/demo/node/node-0"


def test_packed_members_share_a_pod_and_differ_by_port() -> None:
    context = subnet_context(nodes=5, nodesPerPod=2)
    assert [one.members for one in context.placements] == [("node-0", "node-1"), ("node-2", "node-3"), ("node-4",)]
    addresses = [one.addresses[0] for one in configmaps.membership(context, EMPTY).registry.members]
    assert [one.partition(".")[0] + one[-5:] for one in addresses] == [
        "demo-node-0:4100", "demo-node-0:4101", "demo-node-1:4100", "demo-node-1:4101", "demo-node-2:4100",
    ]  # fmt: skip
    env = {one["name"]: one["value"] for one in container(wanted_pods(context)["demo-node-1"])["env"]}
    assert env["P2PNET_MEMBERS"] == "node-2,node-3"


@pytest.mark.parametrize(
    ("edit", "rolls"),
    [({"ready": {"connected": "50%"}}, False), ({"ttl": "1d"}, False), ({"identity": {"ttl": "1d"}}, False),
     ({"nodes": 5}, False), ({"image": "x"}, True), ({"broadcast": {"keep": "1m"}}, True),
     ({"clients": [{"name": "other"}]}, True), ({"clients": [{"name": "blob", "settings": {"a": [None]}}]}, True),
     ({"pod": {"code": {"configMap": "chat-2"}}}, True),
     ({"topology": {"kind": "ring"}}, True), ({"pod": {"nodeSelector": {"a": "b"}}}, True),
     ({"pod": {"labels": {"a": "b"}}}, True), ({"pod": {"annotations": {"a": "b"}}}, True),
     ({"pod": {"securityContext": {}}}, True), ({"pod": {"priorityClassName": "low"}}, True),
     ({"lab": {"storage": "1Gi"}}, False)],
)  # fmt: skip
def test_an_edit_rolls_pods_or_leaves_them_as_the_design_says(edit: dict[str, Any], rolls: bool) -> None:
    from p2pnet.operator.subnet.context import SubnetContext

    def of(**spec: Any) -> dict[str, str]:
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
        context = SubnetContext(load_subnet(document), NAMESPACE, "uid-0", IMAGE)
        return {name: meta(pod)["annotations"][HASH] for name, pod in wanted_pods(context).items()}

    before, after = of(nodes=4), of(**{"nodes": 4, **edit})
    assert all((before[name] != after[name]) is rolls for name in before)


def test_one_groups_new_image_rolls_that_group_alone() -> None:
    def of(image: str) -> dict[str, str]:
        return hashes(nodes=2, groups=[{"name": "next", "nodes": 2, "image": image}])

    assert {name for name, one in of("a").items() if one != of("b")[name]} == {"demo-next-0", "demo-next-1"}


def test_the_budget_is_a_number_of_pods_and_a_single_pod_has_none() -> None:
    assert rollout.budget(subnet_context(nodes=1)) is None
    assert rollout.budget(subnet_context(nodes=8, nodesPerPod=8)) is None
    budget = rollout.budget(subnet_context(nodes=50))
    assert budget is not None
    assert budget["spec"]["minAvailable"] == 45
    assert "maxUnavailable" not in budget["spec"]


@settings(max_examples=25, deadline=None)
@given(
    nodes=st.integers(0, 12),
    groups=st.lists(st.integers(0, 4), max_size=3),
    per_pod=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_every_member_is_in_exactly_one_pod_with_an_address_of_its_own(
    nodes: int, groups: list[int], per_pod: int, seed: int
) -> None:
    spec = {"groups": [{"name": f"g{index}", "nodes": size} for index, size in enumerate(groups)]}
    context = subnet_context(nodes=nodes + 1, nodesPerPod=per_pod, seed=seed, **spec)
    placed = [name for one in context.placements for name in one.members]
    assert sorted(placed) == sorted(name for name, _ in context.members)
    assert all(1 <= len(one.members) <= per_pod for one in context.placements)
    addresses = [one.addresses[0] for one in configmaps.membership(context, EMPTY).registry.members]
    assert len(set(addresses)) == len(placed)
    made = plan(context, Observed({"metadata": {"name": "demo"}}), NOW)
    created = {name_of(one.body) for one in made.actions if isinstance(one, Create) and one.kind == POD}
    assert created == {*(one.pod for one in context.placements), "demo-lab"}
    assert all(len(name_of(one.body)) <= 63 for one in made.actions if isinstance(one, Create))


def test_the_longest_names_stay_within_a_label() -> None:
    context = subnet_context("a" * 40, nodes=1, groups=[{"name": "b" * 12, "nodes": 499}])
    assert max(len(one.pod) for one in context.placements) <= 63
    assert len(context.placements) == 500


def test_the_same_document_gives_the_same_plan() -> None:
    assert hashes(nodes=3) == hashes(nodes=3)
    assert configmaps.membership(subnet_context(nodes=70), EMPTY) == configmaps.membership(
        subnet_context(nodes=70), EMPTY
    )
