"""A Subnet on a real cluster: applied, waited for, measured, scaled, hurt, taken away."""

from datetime import datetime

import pytest
from tests.cluster.demo import Demo, whole
from tests.cluster.kit import Cluster, until

from p2pnet.operator.subnet.context import LAB_PORT

KILL_NODE = (
    "import os, signal\n"
    "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
    "    command = open(f'/proc/{pid}/cmdline', 'rb').read()\n"
    "    if int(pid) not in (1, os.getpid()) and b'p2pnet.supervisor.pod' in command:\n"
    "        os.kill(int(pid), signal.SIGKILL)\n"
)


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    """Three nodes, ready."""
    made = Demo(operator, namespace, {"nodes": 3})
    made.until_ready(3)
    return made


def test_the_example_becomes_connected_and_the_columns_show_its_last_run(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace)
    operator.wait("subnet/demo", "condition=Connected", namespace)
    demo.until_ready(5)
    assert set(demo.uids()) == {f"demo-node-{number}" for number in range(5)}
    # A pod that starts lets probes wait: only those may be refused that come before Python itself, where six pods start at once.
    for one in demo.get("events"):
        if one["reason"] == "Unhealthy" and "refused" in one["message"]:
            assert (one.get("count") or 1) <= max(1.0, start_s(demo, one["involvedObject"]["name"]) / 2), one
    for pod in demo.get("pods"):
        assert not pod["spec"]["automountServiceAccountToken"]
        assert all("demo-ca" not in str(volume) for volume in pod["spec"]["volumes"])
    report = demo.p2pnet("inject", "demo", "--count", "3")
    assert report["verdict"] == "pass"
    until(lambda: demo.status().get("lastReport", {}).get("run") == report["run"], "the operator tells the run")

    def columns() -> list[str] | None:
        header, line = (text.split() for text in demo.kubectl("get", "subnets").splitlines())
        assert header == ["NAME", "STATUS", "READY", "CONNECTED", "LINKS", "REACH", "P95", "AGE"]
        return line[6:8] if line[:6] == ["demo", "Ready", "5/5", "5/5", "10/10", "100%"] else None

    p95, unit = until(columns, "the columns show it")
    assert float(p95) > 0
    assert unit == "ms"


def start_s(demo: Demo, name: str) -> float:
    """The seconds from the start of a pod's container until it was first ready; 0 when it is not there any more."""
    pods = [pod for pod in demo.get("pods") if pod["metadata"]["name"] == name]
    for pod in pods:
        [begun] = [one["state"]["running"]["startedAt"] for one in pod["status"]["containerStatuses"]]
        [ready] = [one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready"]
        return (datetime.fromisoformat(ready) - datetime.fromisoformat(begun)).total_seconds()
    return 0.0


def test_scaling_adds_and_removes_nodes_and_leaves_the_others_alone(demo: Demo) -> None:
    before = demo.uids()
    demo.kubectl("scale", "subnet/demo", "--replicas=5")
    demo.until_ready(5)
    until(lambda: demo.objects() == whole(5), "exactly the objects of five nodes")
    demo.kubectl("scale", "subnet/demo", "--replicas=3")
    demo.until_ready(3)
    assert demo.until_pods(3) == before
    until(lambda: demo.objects() == whole(3), "what belonged to the others is gone")


def test_a_node_that_dies_comes_back_inside_its_pod(demo: Demo) -> None:
    before = demo.uids()
    demo.kubectl("exec", "demo-node-1", "--", "python", "-c", KILL_NODE)
    until(lambda: '"restarts":1' in demo.kubectl("logs", "demo-node-1"), "the supervisor has restarted it")
    demo.until_ready(3)
    assert demo.uids() == before
    assert demo.restarts() == 1, "of the node, of no container"


def test_a_pod_that_is_deleted_comes_back_under_its_name_and_a_deleted_subnet_leaves_nothing(demo: Demo) -> None:
    before = demo.uids()
    demo.kubectl("delete", "pod", "demo-node-2", "--wait=true")
    demo.until_ready(3)
    after = demo.until_pods(3)
    assert {name for name in after if after[name] != before[name]} == {"demo-node-2"}
    assert demo.objects() == whole(3)
    demo.kubectl("delete", "subnet", "demo")
    until(lambda: not demo.objects(), "the garbage collector is through")


def test_packed_nodes_share_pods_and_one_health_page_and_a_lab_is_scraped_too(
    operator: Cluster, namespace: str
) -> None:
    demo = Demo(operator, namespace, {"nodes": 5, "nodesPerPod": 2})
    demo.until_ready(5)
    assert len(demo.pods()) == 3
    linked = [f'p2pnet_node_peers{{node="{node}"}} 4.0' for node in ("node-2", "node-3")]
    until(lambda: all(line in demo.page("demo-node-1") for line in linked), "its page shows both nodes linked to all")
    until(lambda: 'p2pnet_lab_links{state="up"} 10.0' in demo.page("demo-lab", LAB_PORT), "the lab's shows all links")
    ours = "app.kubernetes.io/name=p2pnet,app.kubernetes.io/part-of=p2pnet,app.kubernetes.io/instance=demo"
    for part, pods in (("node", ["demo-node-0", "demo-node-1", "demo-node-2"]), ("lab", ["demo-lab"])):
        found = operator.objects("pods", namespace, f"{ours},app.kubernetes.io/component={part}")
        assert sorted(one["metadata"]["name"] for one in found) == pods
