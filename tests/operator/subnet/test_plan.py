"""What a document means in objects: names, places, rights and hashes, as a function."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import IMAGE, NAMESPACE, NOW, site

from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.errors import SpecError
from p2pnet.model.registry import Membership, Registry, Removed
from p2pnet.operator.kube.api import BUDGET, POD, Object, meta, name_of
from p2pnet.operator.kube.desired import Create, contains, stamped, stands
from p2pnet.operator.subnet.context import HASH, Observed
from p2pnet.operator.subnet.plan import configmaps, plan, pods, policies, services, wanted_pods
from p2pnet.subnet.document import load_subnet
from p2pnet.topology import is_connected

EMPTY = Observed({})


def hashes(**spec: Any) -> dict[str, str]:
    return {name: meta(pod)["annotations"][HASH] for name, pod in wanted_pods(site(**spec)).items()}


def container(pod: Object) -> Object:
    found: Object = pod["spec"]["containers"][0]
    return found


def test_pods_are_named_by_group_and_ordinal_and_their_addresses_follow() -> None:
    where = site(nodes=2, groups=[{"name": "next", "nodes": 1}])
    assert list(wanted_pods(where)) == ["demo-next-0", "demo-node-0", "demo-node-1"]
    members = configmaps.membership(where, EMPTY).registry.members
    assert [(one.name, one.addresses) for one in members] == [
        ("next-0", [f"demo-next-0.demo-nodes.{NAMESPACE}.svc:4100"]),
        ("node-0", [f"demo-node-0.demo-nodes.{NAMESPACE}.svc:4100"]),
        ("node-1", [f"demo-node-1.demo-nodes.{NAMESPACE}.svc:4100"]),
    ]
    assert members[1].uri == f"spiffe://p2pnet/ns/{NAMESPACE}/subnet/demo/node/node-0"


def test_packed_members_share_a_pod_and_differ_by_port() -> None:
    where = site(nodes=5, nodesPerPod=2)
    assert [one.members for one in where.placement] == [("node-0", "node-1"), ("node-2", "node-3"), ("node-4",)]
    addresses = [one.addresses[0] for one in configmaps.membership(where, EMPTY).registry.members]
    assert [one.partition(".")[0] + one[-5:] for one in addresses] == [
        "demo-node-0:4100", "demo-node-0:4101", "demo-node-1:4100", "demo-node-1:4101", "demo-node-2:4100",
    ]  # fmt: skip
    env = {one["name"]: one["value"] for one in container(wanted_pods(where)["demo-node-1"])["env"]}
    assert env["P2PNET_MEMBERS"] == "node-2,node-3"


def test_a_node_pod_is_what_the_contract_and_the_restricted_profile_say() -> None:
    pod = wanted_pods(site(nodes=1))["demo-node-0"]
    spec, box = pod["spec"], container(pod)
    assert (spec["hostname"], spec["subdomain"]) == ("demo-node-0", "demo-nodes")
    assert (box["image"], box["command"]) == (IMAGE, ["python", "-m", "p2pnet.supervisor.pod"])
    assert {mount["mountPath"]: mount.get("readOnly", False) for mount in box["volumeMounts"]} == {
        "/etc/p2pnet/config": True, "/etc/p2pnet/members": True, "/etc/p2pnet/identity": True, "/run/p2pnet": False,
    }  # fmt: skip
    assert not any("subPath" in mount for mount in box["volumeMounts"])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert meta(pod)["labels"] == {
        "app.kubernetes.io/managed-by": "p2pnet-operator", "p2pnet.io/subnet": "demo", "p2pnet.io/group": "node",
        "p2pnet.io/role": "node",
    }  # fmt: skip
    assert box["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert box["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_group_has_its_own_image_env_and_pod() -> None:
    mine = {"nodeSelector": {"a": "b"}, "resources": {"limits": {"memory": "32Mi"}}}
    where = site(
        nodes=1,
        groups=[{"name": "next", "nodes": 1, "image": "n:2", "env": {"X": "1", "P2PNET_GROUP": "no"}, "pod": mine}],
    )
    pod = wanted_pods(where)["demo-next-0"]
    assert container(pod)["image"] == "n:2"
    env = [(one["name"], one["value"]) for one in container(pod)["env"]]
    assert ("X", "1") in env
    assert [value for name, value in env if name == "P2PNET_GROUP"] == ["next"], "ours stand, once"
    assert pod["spec"]["nodeSelector"] == {"a": "b"}
    assert container(pod)["resources"]["requests"]["memory"] == "32Mi", "a default request never exceeds a limit"
    assert "nodeSelector" not in wanted_pods(where)["demo-node-0"]["spec"]


EXTRAS: dict[str, Any] = {
    "labels": {"team": "p2p"}, "annotations": {"sidecar.istio.io/inject": "false"}, "priorityClassName": "low",
    "serviceAccountName": "nodes", "runtimeClassName": "gvisor", "securityContext": {"runAsNonRoot": True},
    "containerSecurityContext": {},
}  # fmt: skip


def test_metadata_classes_and_security_contexts_of_the_document_reach_nodes_and_lab() -> None:
    where = site(nodes=1, pod=EXTRAS)
    for pod in (wanted_pods(where)["demo-node-0"], pods.lab_pod(where)):
        assert meta(pod)["labels"]["team"] == "p2p"
        assert meta(pod)["labels"]["p2pnet.io/subnet"] == "demo"
        assert meta(pod)["annotations"]["sidecar.istio.io/inject"] == "false"
        assert pod["spec"]["securityContext"] == {"runAsNonRoot": True}, (
            "in the place of ours, so that the cluster chooses users"
        )
        assert container(pod)["securityContext"] == {}
        for key in ("priorityClassName", "serviceAccountName", "runtimeClassName"):
            assert pod["spec"][key] == EXTRAS[key]
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_groups_pod_stands_in_the_place_of_the_subnets() -> None:
    where = site(nodes=1, pod=EXTRAS, groups=[{"name": "next", "nodes": 1, "pod": {"labels": {"team": "other"}}}])
    pod = wanted_pods(where)["demo-next-0"]
    assert meta(pod)["labels"]["team"] == "other"
    assert "priorityClassName" not in pod["spec"]
    assert pod["spec"]["securityContext"]["runAsUser"] == 65532


@pytest.mark.parametrize(
    ("pod", "path"),
    [({"labels": {"p2pnet.io/subnet": "other"}}, "spec.pod.labels"),
     ({"labels": {"app.kubernetes.io/name": "x"}}, "spec.pod.labels"),
     ({"annotations": {"p2pnet.io/spec-hash": "x"}}, "spec.pod.annotations"), ({"labels": {"a b": "x"}}, "spec.pod.labels"),
     ({"labels": {"a": "x y"}}, "spec.pod.labels"), ({"labels": {"a": "x" * 64}}, "spec.pod.labels"),
     ({"labels": {f"k{i}": "x" for i in range(33)}}, "spec.pod.labels"),
     ({"securityContext": {"runAsUser": -1}}, "spec.pod.securityContext.runAsUser"),
     ({"containerSecurityContext": {"hostNetwork": True}}, "spec.pod.containerSecurityContext.hostNetwork"),
     ({"serviceAccountName": "Not Good"}, "spec.pod.serviceAccountName")],
)  # fmt: skip
def test_what_is_not_the_users_to_set_or_cannot_be_is_refused_by_its_path(pod: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError, match=re.escape(path)):
        site(nodes=1, pod=pod)


def test_under_discovery_by_seeds_nodes_are_told_of_the_service_and_of_no_addresses() -> None:
    where = site(nodes=3, nodesPerPod=2, discovery={"mode": "seeds"})
    told = json.loads(configmaps.config_map(where)["data"]["node.json"])
    assert (told["discovery"], told["seeds"]) == ("seeds", [f"demo-nodes.{NAMESPACE}.svc:4100"])
    before = configmaps.membership(where, EMPTY)
    gone = Removed("spiffe://p2pnet/x", 1)
    members = configmaps.members_map(where, Membership(Registry(2, before.registry.members, [gone])))["data"]
    assert msgspec.json.decode(members["denied.json"], type=Membership) == Membership(Registry(2, [], [gone]))
    [volume] = [one for one in wanted_pods(where)["demo-node-0"]["spec"]["volumes"] if one["name"] == "members"]
    assert volume["configMap"]["items"] == [{"key": "denied.json", "path": "members.json"}]
    [volume] = [one for one in pods.lab_pod(where)["spec"]["volumes"] if one["name"] == "members"]
    assert volume == {"name": "members", "configMap": {"name": "demo-members"}}
    assert len(msgspec.json.decode(members["members.json"], type=Membership).registry.members) == 3
    assert list(configmaps.members_map(site(nodes=3), before)["data"]) == ["members.json"]


def test_the_node_config_is_one_a_node_reads() -> None:
    where = site(nodes=60, broadcast={"pushBelow": 7, "keep": "5m"}, seed=7)
    written = json.loads(configmaps.config_map(where)["data"]["node.json"])
    config = msgspec.convert({**written, "name": "node-0"}, NodeConfig)
    assert (config.subnet, config.namespace, config.seed, config.health_port) == ("demo", NAMESPACE, 7, 8080)
    assert (config.broadcast.push_below, config.broadcast.keep_s, config.broadcast.full_mesh) == (7, 300.0, False)
    assert config.identity_dir == "/etc/p2pnet/identity"


def test_clients_reach_the_nodes_with_class_and_settings_as_they_were_written() -> None:
    settings = {"rooms": ["a", "b"], "quorum": {"of": 3, "share": 0.5, "strict": True, "next": None}}
    clients = [{"name": "blob"}, {"name": "chat", "class": "mypkg.chat:Chat", "settings": settings}]
    written = json.loads(configmaps.config_map(site(nodes=2, clients=clients))["data"]["node.json"])
    config = msgspec.convert({**written, "name": "node-0"}, NodeConfig)
    assert config.clients == [ClientConfig("blob"), ClientConfig("chat", "mypkg.chat:Chat", settings)]


def test_mounted_code_reaches_the_nodes_of_its_groups_and_nobody_else() -> None:
    group = {"name": "next", "nodes": 1, "pod": {"code": {"configMap": "chat-2"}}}
    where = site(nodes=1, pod={"code": {"configMap": "chat-1"}}, groups=[group, {"name": "old", "nodes": 1, "pod": {}}])
    for name, config_map in (("demo-node-0", "chat-1"), ("demo-next-0", "chat-2")):
        pod = wanted_pods(where)[name]
        assert {"name": "code", "configMap": {"name": config_map}} in pod["spec"]["volumes"]
        assert {"name": "code", "mountPath": "/etc/p2pnet/code", "readOnly": True} in container(pod)["volumeMounts"]
    for pod in (wanted_pods(where)["demo-old-0"], pods.lab_pod(where)):
        assert "code" not in [volume["name"] for volume in pod["spec"]["volumes"]]


def test_the_lab_reads_the_document_itself() -> None:
    written = json.loads(configmaps.config_map(site(nodes=4, ready={"connected": "90%"}))["data"]["subnet.json"])
    subnet = load_subnet(written)
    assert (subnet.name, subnet.metadata.namespace, subnet.spec.ready.connected) == ("demo", NAMESPACE, "90%")


def test_a_sparse_subnets_edges_stand_in_the_registry_and_connect_everybody() -> None:
    membership = configmaps.membership(site(nodes=60), EMPTY)
    assert membership.edges is not None
    assert is_connected([one.name for one in membership.registry.members], membership.edges)
    assert configmaps.membership(site(nodes=50), EMPTY).edges is None


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
        where = SubnetContext(load_subnet(document), NAMESPACE, "uid-0", IMAGE)
        return {name: meta(pod)["annotations"][HASH] for name, pod in wanted_pods(where).items()}

    before, after = of(nodes=4), of(**{"nodes": 4, **edit})
    assert all((before[name] != after[name]) is rolls for name in before)


def test_one_groups_new_image_rolls_that_group_alone() -> None:
    def of(image: str) -> dict[str, str]:
        return hashes(nodes=2, groups=[{"name": "next", "nodes": 2, "image": image}])

    assert {name for name, one in of("a").items() if one != of("b")[name]} == {"demo-next-0", "demo-next-1"}


def test_the_budget_is_a_number_of_pods_and_a_single_pod_has_none() -> None:
    assert policies.budget(site(nodes=1)) is None
    assert policies.budget(site(nodes=8, nodesPerPod=8)) is None
    budget = policies.budget(site(nodes=50))
    assert budget is not None
    assert budget["spec"]["minAvailable"] == 45
    assert "maxUnavailable" not in budget["spec"]


def test_nodes_are_reached_by_the_subnet_agents_by_the_lab_and_the_labs_door_by_all() -> None:
    spec = policies.policy(site(nodes=9, nodesPerPod=3))["spec"]
    assert spec["ingress"][0] == {
        "from": [{"podSelector": {"matchLabels": site(nodes=1).labels()}}],
        "ports": [{"protocol": "UDP", "port": 4100, "endPort": 4102}],
    }
    assert spec["ingress"][1] == {
        "from": [{"podSelector": {"matchLabels": site(nodes=1).labels("lab")}}],
        "ports": [{"protocol": "UDP", "port": 4099}],
    }
    assert {"protocol": "TCP", "port": 8090} in spec["ingress"][2]["ports"]
    assert "from" not in spec["ingress"][2]


def test_names_are_published_before_nodes_are_ready() -> None:
    spec = services.nodes_service(site(nodes=1))["spec"]
    assert spec["publishNotReadyAddresses"] is True
    assert spec["clusterIP"] == "None"
    lab = services.lab_service(site(nodes=1))
    assert (name_of(lab), lab["spec"]["ports"][0]["name"], lab["spec"]["ports"][0]["port"]) == ("demo-lab", "http", 80)


def test_everything_listens_and_is_reached_on_both_families_of_addresses() -> None:
    where = site(nodes=1)
    for service in (services.nodes_service(where), services.lab_service(where)):
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    config = configmaps.node_config(where)
    assert (config["host"], config["health_host"]) == ("::", "::")
    env = {one["name"]: one["value"] for one in container(wanted_pods(where)["demo-node-0"])["env"]}
    assert env["P2PNET_HOST"] == "::"


def test_the_labs_pod_mounts_what_the_contract_says() -> None:
    pod = pods.lab_pod(site(nodes=1, lab={"storage": "1Gi"}))
    mounts = {mount["mountPath"] for mount in container(pod)["volumeMounts"]}
    assert mounts == {
        "/etc/p2pnet/lab",
        "/etc/p2pnet/token",
        "/etc/p2pnet/members",
        "/etc/p2pnet/spec",
        "/var/lib/p2pnet",
    }
    assert container(pod)["command"] == ["python", "-m", "p2pnet.lab", "--pod"]
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "demo-lab"}} in pod["spec"]["volumes"]


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
    where = site(nodes=nodes + 1, nodesPerPod=per_pod, seed=seed, **spec)
    placed = [name for one in where.placement for name in one.members]
    assert sorted(placed) == sorted(name for name, _ in where.members)
    assert all(1 <= len(one.members) <= per_pod for one in where.placement)
    addresses = [one.addresses[0] for one in configmaps.membership(where, EMPTY).registry.members]
    assert len(set(addresses)) == len(placed)
    made = plan(where, Observed({"metadata": {"name": "demo"}}), NOW)
    created = {name_of(one.body) for one in made.actions if isinstance(one, Create) and one.kind == POD}
    assert created == {*(one.pod for one in where.placement), "demo-lab"}
    assert all(len(name_of(one.body)) <= 63 for one in made.actions if isinstance(one, Create))


def test_the_longest_names_stay_within_a_label() -> None:
    where = site("a" * 40, nodes=1, groups=[{"name": "b" * 12, "nodes": 499}])
    assert max(len(one.pod) for one in where.placement) <= 63
    assert len(where.placement) == 500


def test_a_plan_is_a_function() -> None:
    assert hashes(nodes=3) == hashes(nodes=3)
    assert configmaps.membership(site(nodes=70), EMPTY) == configmaps.membership(site(nodes=70), EMPTY)


def test_an_intent_stands_when_nothing_of_it_was_edited_and_nothing_is_to_go() -> None:
    budget = policies.budget(site(nodes=5))
    assert budget is not None
    intent = stamped(budget)
    there = json.loads(json.dumps(intent))
    there["status"] = {"currentHealthy": 5}
    there["metadata"]["labels"]["team"] = "ada"
    assert stands(intent, there)
    assert not stands(intent, None)
    assert not stands(intent, {**there, "spec": {**there["spec"], "minAvailable": 0}})
    assert not stands(stamped({**budget, "spec": {"minAvailable": 1}}), there)
    assert contains({"a": [1, {"b": 2, "c": 3}]}, {"a": [1, {"b": 2}]})
    assert not contains({"a": [1, 2]}, {"a": [1]})
    assert BUDGET.path("ns", "x") == "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/x"
