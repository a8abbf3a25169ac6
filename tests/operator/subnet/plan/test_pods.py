"""The pods of nodes and lab, and how they are found and reached."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.operator.kit import IMAGE, container, subnet_context

from p2pnet.model.errors import SpecError
from p2pnet.operator.kube.api import meta, name_of
from p2pnet.operator.subnet.plan import configmaps, pods, wanted_pods
from p2pnet.supervisor.pod_health import HOLD_S

EXTRAS: dict[str, Any] = {
    "labels": {"team": "p2p"}, "annotations": {"sidecar.istio.io/inject": "false"}, "priorityClassName": "low",
    "serviceAccountName": "nodes", "runtimeClassName": "gvisor", "securityContext": {"runAsNonRoot": True},
    "containerSecurityContext": {},
}  # fmt: skip


def test_a_node_pod_is_what_the_contract_and_the_restricted_profile_say() -> None:
    pod = wanted_pods(subnet_context(nodes=1))["demo-node-0"]
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
        "p2pnet.io/role": "node", "app.kubernetes.io/name": "p2pnet", "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": "node", "app.kubernetes.io/part-of": "p2pnet", "app.kubernetes.io/version": "test",
    }  # fmt: skip
    assert box["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert box["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_lab_that_nodes_wait_for_is_set_aside_more_than_each_of_them() -> None:
    context = subnet_context(nodes=20)
    shares = {container(pod)["resources"]["requests"]["cpu"] for pod in wanted_pods(context).values()}
    assert shares == {"20m"}
    assert container(pods.lab_pod(context))["resources"]["requests"] == {"cpu": "100m", "memory": "64Mi"}
    own = pods.lab_pod(subnet_context(nodes=1, lab={"resources": {"requests": {"cpu": "30m"}}}))
    assert container(own)["resources"]["requests"]["cpu"] == "30m"


def test_where_the_cluster_chooses_users_pods_name_none_unless_their_document_does() -> None:
    chosen = replace(subnet_context(nodes=1), any_user=True, cache={})
    for pod in (*wanted_pods(chosen).values(), pods.lab_pod(chosen)):
        assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    own = replace(subnet_context(nodes=1, pod={"securityContext": {"runAsUser": 7}}), any_user=True, cache={})
    assert pods.lab_pod(own)["spec"]["securityContext"] == {"runAsUser": 7}


def test_a_probe_waits_longer_than_a_pod_that_starts_lets_it_and_pods_log_objects() -> None:
    for pod in (next(iter(wanted_pods(subnet_context(nodes=1)).values())), pods.lab_pod(subnet_context(nodes=1))):
        box = container(pod)
        assert {"name": "P2PNET_LOG_FORMAT", "value": "json"} in box["env"]
        for probe in ("startupProbe", "readinessProbe"):
            assert box[probe]["timeoutSeconds"] > HOLD_S
        assert box["startupProbe"]["initialDelaySeconds"] == 1, "the port is open by then"


def test_the_lab_leaves_a_machine_that_is_lost_after_half_a_minute_unless_the_document_says_otherwise() -> None:
    spec = pods.lab_pod(subnet_context(nodes=1))["spec"]
    assert {(one["key"], one["effect"], one["tolerationSeconds"]) for one in spec["tolerations"]} == {
        ("node.kubernetes.io/not-ready", "NoExecute", 30), ("node.kubernetes.io/unreachable", "NoExecute", 30),
    }  # fmt: skip
    mine: dict[str, Any] = {
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600,
    }  # fmt: skip
    other: dict[str, Any] = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
    spec = pods.lab_pod(subnet_context(nodes=1, pod={"tolerations": [mine, other]}))["spec"]
    assert [(one["key"], one.get("tolerationSeconds")) for one in spec["tolerations"]] == [
        ("node.kubernetes.io/unreachable", 600), ("dedicated", None), ("node.kubernetes.io/not-ready", 30),
    ]  # fmt: skip
    everything = pods.lab_pod(subnet_context(nodes=1, pod={"tolerations": [{"operator": "Exists"}]}))["spec"]
    assert everything["tolerations"] == [{"operator": "Exists"}]


def test_a_group_has_its_own_image_env_and_pod() -> None:
    mine = {"nodeSelector": {"a": "b"}, "resources": {"limits": {"memory": "32Mi"}}}
    context = subnet_context(
        nodes=1,
        groups=[{"name": "next", "nodes": 1, "image": "n:2", "env": {"X": "1", "P2PNET_GROUP": "no"}, "pod": mine}],
    )
    pod = wanted_pods(context)["demo-next-0"]
    assert container(pod)["image"] == "n:2"
    env = [(one["name"], one["value"]) for one in container(pod)["env"]]
    assert ("X", "1") in env
    assert [value for name, value in env if name == "P2PNET_GROUP"] == ["next"], "ours stand, once"
    assert pod["spec"]["nodeSelector"] == {"a": "b"}
    assert container(pod)["resources"]["requests"]["memory"] == "32Mi", "a default request never exceeds a limit"
    assert "nodeSelector" not in wanted_pods(context)["demo-node-0"]["spec"]


def test_pods_pull_with_what_the_document_names_else_with_the_installations_own() -> None:
    own = {"imagePullSecrets": [{"name": "mine"}]}
    context = subnet_context(nodes=1, groups=[{"name": "next", "nodes": 1, "pod": own}])
    bare = [*wanted_pods(context).values(), pods.lab_pod(context)]
    given = replace(context, pull_secrets=("login", "mirror"), cache={})
    found = {
        name_of(pod): pod["spec"].get("imagePullSecrets") for pod in [*wanted_pods(given).values(), pods.lab_pod(given)]
    }
    login = [{"name": "login"}, {"name": "mirror"}]
    assert found == {"demo-node-0": login, "demo-lab": login, "demo-next-0": [{"name": "mine"}]}
    assert [pod["spec"].get("imagePullSecrets") for pod in bare] == [[{"name": "mine"}], None, None]


def test_metadata_classes_and_security_contexts_of_the_document_reach_nodes_and_lab() -> None:
    context = subnet_context(nodes=1, pod=EXTRAS)
    for pod in (wanted_pods(context)["demo-node-0"], pods.lab_pod(context)):
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


def test_a_groups_pod_settings_replace_the_subnets() -> None:
    context = subnet_context(
        nodes=1, pod=EXTRAS, groups=[{"name": "next", "nodes": 1, "pod": {"labels": {"team": "other"}}}]
    )
    pod = wanted_pods(context)["demo-next-0"]
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
        subnet_context(nodes=1, pod=pod)


def test_code_is_mounted_in_the_nodes_of_its_groups_alone() -> None:
    group = {"name": "next", "nodes": 1, "pod": {"code": {"configMap": "chat-2"}}}
    context = subnet_context(
        nodes=1, pod={"code": {"configMap": "chat-1"}}, groups=[group, {"name": "old", "nodes": 1, "pod": {}}]
    )
    for name, config_map in (("demo-node-0", "chat-1"), ("demo-next-0", "chat-2")):
        pod = wanted_pods(context)[name]
        assert {"name": "code", "configMap": {"name": config_map}} in pod["spec"]["volumes"]
        assert {"name": "code", "mountPath": "/etc/p2pnet/code", "readOnly": True} in container(pod)["volumeMounts"]
    for pod in (wanted_pods(context)["demo-old-0"], pods.lab_pod(context)):
        assert "code" not in [volume["name"] for volume in pod["spec"]["volumes"]]


def test_the_policy_opens_nodes_to_the_subnet_agents_to_the_lab_and_the_lab_to_all() -> None:
    spec = pods.policy(subnet_context(nodes=9, nodesPerPod=3))["spec"]
    assert spec["ingress"][0] == {
        "from": [{"podSelector": {"matchLabels": subnet_context(nodes=1).labels()}}],
        "ports": [{"protocol": "UDP", "port": 4100, "endPort": 4102}],
    }
    assert spec["ingress"][1] == {
        "from": [{"podSelector": {"matchLabels": subnet_context(nodes=1).labels("lab")}}],
        "ports": [{"protocol": "UDP", "port": 4099}],
    }
    assert {"protocol": "TCP", "port": 8090} in spec["ingress"][2]["ports"]
    assert "from" not in spec["ingress"][2]


def test_names_are_published_before_nodes_are_ready() -> None:
    spec = pods.nodes_service(subnet_context(nodes=1))["spec"]
    assert spec["publishNotReadyAddresses"] is True
    assert spec["clusterIP"] == "None"
    lab = pods.lab_service(subnet_context(nodes=1))
    assert (name_of(lab), lab["spec"]["ports"][0]["name"], lab["spec"]["ports"][0]["port"]) == ("demo-lab", "http", 80)


def test_everything_listens_and_is_reached_on_both_families_of_addresses() -> None:
    context = subnet_context(nodes=1)
    for service in (pods.nodes_service(context), pods.lab_service(context)):
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    config = configmaps.node_config(context)
    assert (config["host"], config["health_host"]) == ("::", "::")
    env = {one["name"]: one["value"] for one in container(wanted_pods(context)["demo-node-0"])["env"]}
    assert env["P2PNET_HOST"] == "::"


def test_the_labs_pod_mounts_what_the_contract_says() -> None:
    pod = pods.lab_pod(subnet_context(nodes=1, lab={"storage": "1Gi"}))
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


def test_only_the_pods_of_adversaries_are_told_how_to_behave() -> None:
    groups = [
        {"name": "liar", "nodes": 1, "behaviour": "lying", "env": {"P2PNET_BEHAVIOUR": "slow"}},
        {"name": "good", "nodes": 1, "env": {"P2PNET_BEHAVIOUR": "slow"}},
    ]
    pods = wanted_pods(subnet_context(nodes=1, groups=groups))
    told = {
        name: [one["value"] for one in container(pod)["env"] if one["name"] == "P2PNET_BEHAVIOUR"]
        for name, pod in pods.items()
        if "lab" not in name
    }
    assert told == {"demo-node-0": [], "demo-liar-0": ["lying"], "demo-good-0": []}
    before = wanted_pods(subnet_context(nodes=1, groups=[{**groups[0], "behaviour": "honest"}, groups[1]]))
    changed = {name for name in pods if pods[name] != before[name]}
    assert changed == {"demo-liar-0"}, "another behaviour replaces the pods of that group alone"
