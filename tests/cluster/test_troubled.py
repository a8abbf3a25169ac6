"""What stands in a Subnet's way is named in its status; what runs goes on; once it is gone, all is as it should be."""

import json
import time
from typing import Any

import pytest
from tests.cluster.demo import Demo, whole
from tests.cluster.kit import Cluster, conditions, until

TOLD_S = 90.0
"""A person who looks after so long is told what is wrong, on a busy machine, too."""
REPLACED_S = 400.0
"""For an authority to be replaced: kubelets bring changed Secrets to their pods when they look next, twice."""
SYSTEM = ["--namespace", "p2pnet-system"]


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    """Three nodes, ready: one may be away at a time."""
    made = Demo(operator, namespace, {"nodes": 3})
    made.until_ready(3)
    return made


def until_degraded(demo: Demo, reason: str, *words: str) -> dict[str, Any]:
    """Wait until the status says so, in these words; the condition."""

    def told() -> dict[str, Any] | None:
        for found in demo.status().get("conditions", []):
            if (found["type"], found["status"], found["reason"]) == ("Degraded", "True", reason):
                return found if all(word in found["message"] for word in words) else None
        return None

    try:
        return until(told, f"Degraded because of {reason}: {words}", within_s=TOLD_S)
    except AssertionError:
        print(json.dumps(demo.status().get("conditions"), indent=1))
        raise


def until_healthy(demo: Demo, nodes: int) -> None:
    """Wait until nothing is wrong any more."""
    demo.until_ready(nodes)
    until(lambda: conditions(demo.get("subnet", "demo"))["Degraded"] == "False", "nothing is wrong", within_s=TOLD_S)


def system_uids(cluster: Cluster) -> dict[str, int]:
    """The operator's pods and how often they have started again."""
    pods = cluster.get("pods", *SYSTEM)
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def hear_each_other(demo: Demo, nodes: int) -> None:
    """An artifact of the first node reaches so many others, and nobody else."""
    words = ["--from", "node-0", "--within", "10s", "--expect", "reach >= 1%"]
    report = demo.p2pnet("inject", "demo", *words, check=False)
    assert report["reach"]["delivered"] == nodes, report


def test_a_quota_an_absent_image_and_a_machine_too_small_are_named_and_cost_one_pod_at_most(
    operator: Cluster, demo: Demo
) -> None:
    ours, before = system_uids(operator), demo.uids()
    quota_exhausted(demo, before)
    image_missing(demo, before)
    nowhere_to_run(demo)
    assert system_uids(operator) == ours, "the operator went on by itself"


def quota_exhausted(demo: Demo, before: dict[str, str]) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "four"}, "spec": {"hard": {"pods": "4"}}}
    demo.cluster.apply(quota, demo.namespace)
    until(lambda: demo.get("resourcequota", "four").get("status", {}).get("used"), "it is counted")
    demo.kubectl("scale", "subnet/demo", "--replicas=4")
    until_degraded(demo, "Quota", "exceeded quota: four")
    assert demo.uids() == before
    hear_each_other(demo, 2)
    demo.kubectl("scale", "subnet/demo", "--replicas=3")
    until_healthy(demo, 3)
    demo.kubectl("delete", "resourcequota", "four")
    assert demo.until_pods(3) == before
    until(lambda: demo.objects() == whole(3), "of the fourth nothing is left")


def image_missing(demo: Demo, before: dict[str, str]) -> None:
    lab = demo.get("pod", "demo-lab")["metadata"]["uid"]
    demo.patch({"image": "localhost/p2pnet-node:missing", "pod": {"imagePullPolicy": "Never"}})
    until_degraded(demo, "ImagePull", "demo-node-2", "missing")
    time.sleep(5)  # time for a mistake: a second pod, or the lab
    assert changed(demo, before) == {"demo-node-2"}
    assert "demo-node-2" not in demo.ready()
    assert demo.get("pod", "demo-lab")["metadata"]["uid"] == lab, "who measures is not lost to what is measured"
    hear_each_other(demo, 1)
    demo.patch({"image": None, "pod": None})
    until_healthy(demo, 3)
    after = demo.until_pods(3)
    assert {name for name in before if after[name] == before[name]} == {"demo-node-0", "demo-node-1"}


def changed(demo: Demo, before: dict[str, str]) -> set[str]:
    """Names of the node pods that are not those of before."""
    return {name for name, _ in demo.uids().items() ^ before.items()}


def nowhere_to_run(demo: Demo) -> None:
    before = demo.uids()
    demo.patch({"pod": {"resources": {"requests": {"memory": "465458732Gi"}}}})
    until_degraded(demo, "Unschedulable", "demo-node-2", "memory")
    assert changed(demo, before) == {"demo-node-2"}
    demo.patch({"pod": None})
    until_healthy(demo, 3)
    assert {name: uid for name, uid in demo.until_pods(3).items() if name != "demo-node-2"}.items() <= before.items()


def foreign(kind: str, name: str, **parts: Any) -> dict[str, Any]:
    """An object of somebody else."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {"of": "ada"}}, **parts}


def test_what_is_somebody_elses_is_left_alone_and_named_and_the_rest_goes_on(operator: Cluster, namespace: str) -> None:
    port = {"name": "http", "port": 80}
    theirs = [
        foreign("Service", "demo-lab", spec={"selector": {"of": "ada"}, "ports": [port]}),
        foreign("Secret", "demo-node-2", stringData={"mine": "alone"}),
        foreign("ConfigMap", "demo-far-config", data={"mine": "alone"}),
    ]
    operator.apply(theirs, namespace)
    places = ["service/demo-lab", "secret/demo-node-2", "configmap/demo-far-config"]
    taken = operator.kubectl("get", *places, "-o", "json", "--namespace", namespace)
    demo = Demo(operator, namespace, {"nodes": 3})
    degraded = until_degraded(demo, "NameConflict", "Secret demo-node-2", "Service demo-lab")
    assert "far" not in degraded["message"]
    demo.until_pods(2)
    assert set(demo.uids()) == {"demo-node-0", "demo-node-1"}, "the third would mount another's Secret"
    map_taken = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo-far"}}
    operator.apply(map_taken | {"spec": {"nodes": 1}}, namespace)
    until(lambda: conditions(demo.get("subnet", "demo-far")).get("Degraded") == "True", "the other one is told, too")
    assert not demo.get("pods", "--selector", "p2pnet.io/subnet=demo-far"), "its pods would mount another's config"
    assert operator.kubectl("get", *places, "-o", "json", "--namespace", namespace) == taken
    demo.kubectl("delete", *places)
    until_healthy(demo, 3)
    until(lambda: conditions(demo.get("subnet", "demo-far")).get("Ready") == "True", "the other one as well")
    events = [one for one in demo.get("events") if one["reason"] == "NameConflict"]
    assert 1 <= len(events) <= 3, "told once each, not at every look"


def test_an_authority_that_was_deleted_is_not_quietly_made_again_while_nodes_run(demo: Demo) -> None:
    before = demo.uids()
    secret = demo.get("secret", "demo-ca")
    demo.kubectl("delete", "secret", "demo-ca")
    until_degraded(demo, "AuthorityLost", "demo-ca")
    demo.kubectl("delete", "pod", "demo-node-1", "--wait=true")  # its Secret still holds a leaf all trust
    demo.until_pods(3)
    hear_each_other(demo, 2)
    assert "secret/demo-ca" not in demo.objects()
    for word in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        secret["metadata"].pop(word, None)
    damaged = {**secret, "data": {key: value for key, value in secret["data"].items() if key != "ca.key"}}
    demo.cluster.apply(damaged, demo.namespace)
    until_degraded(demo, "AuthorityDamaged", "demo-ca")
    assert "ca.key" not in demo.get("secret", "demo-ca")["data"], "nor is the key"
    demo.cluster.apply(secret, demo.namespace)
    until_healthy(demo, 3)
    demo.kubectl("delete", "secret", "demo-ca")
    until_degraded(demo, "AuthorityLost", "demo-ca")
    demo.annotate("force-replace", "asked")
    until_healthy(demo, 3)
    until(lambda: demo.status()["authority"]["phase"] == "Steady", "the new one is in force", within_s=REPLACED_S)
    after = demo.until_pods(3)
    assert {name for name in before if after[name] != before[name]} == {"demo-node-1"}
    assert demo.restarts() == 0
