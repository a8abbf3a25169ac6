"""A release's whole life under live Subnets: upgraded, narrowed to one namespace, rolled back, uninstalled, installed again."""

import json
import re
import time
from typing import Any

import pytest
from tests.cluster.demo import Demo, whole
from tests.cluster.kit import HELM_WITHIN, PODS_S, ROOT, Cluster, until

SYSTEM = ["--namespace", "p2pnet-system"]
DENIED = re.compile(r"cannot (?:get|list|watch|create|patch|delete) resource")


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    """Two nodes, ready."""
    made = Demo(operator, namespace, {"nodes": 2})
    made.until_ready(2)
    return made


def helm(cluster: Cluster, verb: str, *words: str) -> str:
    """Helm's words about the release, once what it did has come about."""
    return cluster.run("helm", verb, "p2pnet", *words, *SYSTEM, "--wait", "--timeout", HELM_WITHIN)


def upgrade(cluster: Cluster, *sets: str) -> None:
    """Change some values and keep the others."""
    chart = str(ROOT / "charts" / "p2pnet")
    helm(cluster, "upgrade", chart, "--reuse-values", *(word for one in sets for word in ("--set", one)))


def revision(cluster: Cluster) -> str:
    """Of the release as it stands."""
    history = cluster.run("helm", "history", "p2pnet", *SYSTEM, "--max", "1", "--output", "json")
    return str(json.loads(history)[0]["revision"])


def definition(cluster: Cluster) -> tuple[str, list[str]]:
    """The uid of the definition of Subnets and the versions its objects are stored in."""
    found = cluster.get("customresourcedefinition", "subnets.p2pnet.io")
    return found["metadata"]["uid"], found["status"]["storedVersions"]


def log_of(cluster: Cluster) -> str:
    return cluster.kubectl("logs", "deployment/p2pnet", *SYSTEM)


def other(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The status of a Subnet beside."""
    found: dict[str, Any] = cluster.get("subnet", "beside", "--namespace", namespace).get("status", {})
    return found


def test_upgrades_and_rollbacks_touch_no_pod_and_a_narrowed_operator_serves_its_namespace_alone(
    operator: Cluster, namespace: str, demo: Demo
) -> None:
    before, objects, kept, first = demo.uids(), demo.objects(), definition(operator), revision(operator)
    upgrade(operator, "scope=namespace", f"watchNamespaces={{{namespace}}}")
    wide = operator.kubectl("get", "clusterroles,clusterrolebindings", "--output", "name").split()
    assert not [one for one in wide if "p2pnet" in one and "-subnet-" not in one]
    beside = {
        "apiVersion": "p2pnet.io/v1alpha1",
        "kind": "Subnet",
        "metadata": {"name": "beside"},
        "spec": {"nodes": 1},
    }
    operator.apply(beside)
    try:
        demo.kubectl("scale", "subnet/demo", "--replicas=3")
        demo.until_ready(3)
        assert not other(operator, "default"), "nobody looks at it"
        assert not DENIED.search(log_of(operator)), log_of(operator)
        demo.kubectl("scale", "subnet/demo", "--replicas=2")
        helm(operator, "rollback", first)
        until(lambda: other(operator, "default"), "with all namespaces again it is looked at")
    finally:
        operator.kubectl("delete", "subnet", "beside", "--wait=false")
    demo.until_ready(2)
    assert (demo.until_pods(2), demo.restarts()) == (before, 0)
    until(lambda: demo.objects() == objects == whole(2), "of the third node nothing is left")
    assert definition(operator) == kept


def test_subnets_outlive_the_release_and_a_new_one_takes_them_over(operator: Cluster, demo: Demo) -> None:
    before, kept = demo.uids(), definition(operator)
    operator.uninstall()
    try:
        demo.kubectl("scale", "subnet/demo", "--replicas=3")
        demo.kubectl("delete", "service", "demo-lab")
        assert definition(operator) == kept
        assert demo.uids() == before, "nodes go on by themselves"
    finally:
        operator.install()
    demo.until_ready(3)
    time.sleep(3)  # time for a mistake: whatever it would replace it replaces at its first looks
    assert {name: uid for name, uid in demo.until_pods(3).items() if name in before} == before
    assert (demo.objects(), demo.restarts()) == (whole(3), 0)
    assert definition(operator) == kept


def test_what_is_deleted_while_nobody_serves_it_is_gone_all_the_same(
    operator: Cluster, namespace: str, demo: Demo
) -> None:
    doomed = f"{namespace}-doomed"
    operator.namespace(doomed, restricted=False)
    Demo(operator, doomed, {"nodes": 1})
    until(lambda: operator.get("pods", "--namespace", doomed), "its first pod is there")
    operator.kubectl("scale", "deployment/p2pnet", "--replicas=0", *SYSTEM)
    try:
        until(lambda: not operator.get("pods", *SYSTEM), "the operator is away")
        demo.kubectl("delete", "subnet", "demo", f"--timeout={PODS_S:g}s")  # nothing holds it: there is no finalizer
        operator.kubectl("delete", "namespace", doomed, f"--timeout={PODS_S:g}s")
        until(lambda: not demo.objects(), "all of it is gone")
    finally:
        operator.kubectl("scale", "deployment/p2pnet", "--replicas=1", *SYSTEM)
        operator.kubectl("rollout", "status", "deployment/p2pnet", *SYSTEM, f"--timeout={PODS_S:g}s")
    assert not DENIED.search(log_of(operator)), log_of(operator)
