"""Processes of nodes in pods, paused, resumed and killed through the API server's proxy, the lab and the pod's agent."""

import json
import sys

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, conditions, until

ACT = """
import asyncio, json, sys
from pathlib import Path
import msgspec
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.store import State
from p2pnet.lab_client.kube import Kube

async def act(namespace, node, action):
    target = ClusterTarget(State(Path("/nonexistent")), Kube.open(None, namespace))
    async with target.lab("demo") as client:
        print(json.dumps(msgspec.to_builtins(await client.node_action(node, action))))

asyncio.run(act(*sys.argv[1:]))
"""

SPEC = (
    ACT.partition("async def")[0]
    + """
async def spec(namespace):
    target = ClusterTarget(State(Path("/nonexistent")), Kube.open(None, namespace))
    async with target.lab("demo") as client:
        print(json.dumps(await client.spec()))

asyncio.run(spec(*sys.argv[1:]))
"""
)


SOON_S = 30.0
"""Seconds, on a machine that is busy; who looks by himself only does so every 60 s."""


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    """Two nodes, ready."""
    made = Demo(operator, namespace, {"nodes": 2})
    made.until_ready(2)
    return made


def act(demo: Demo, node: str, action: str) -> dict[str, object]:
    """`POST /v1/nodes/NODE`; the node as it then is."""
    member: dict[str, object] = json.loads(demo.cluster.run(sys.executable, "-c", ACT, demo.namespace, node, action))
    return member


def member(demo: Demo, node: str) -> dict[str, object]:
    """A node's line of the status."""
    return next(one for one in demo.p2pnet("status", "demo")["members"] if one["name"] == node)


def ready(demo: Demo, pod: str) -> str:
    return conditions(demo.get("pod", pod))["Ready"]


def test_a_node_in_a_pod_is_paused_without_harm_to_its_pod_resumed_and_killed(demo: Demo) -> None:
    before = demo.uids()
    assert act(demo, "node-1", "pause")["state"] == "paused"
    assert member(demo, "node-1")["state"] == "paused"
    until(lambda: ready(demo, "demo-node-1") == "False", "the paused node's pod is not ready")
    probe = f"/api/v1/namespaces/{demo.namespace}/pods/demo-node-1:8080/proxy/healthz"
    assert demo.kubectl("get", "--raw", probe) == "ok\n", "the kubelet has no reason to restart it"
    act(demo, "node-1", "resume")
    demo.until_ready(2)
    act(demo, "node-1", "kill")
    until(lambda: member(demo, "node-1")["restarts"] == 1, "the lab counts the restart")
    demo.until_ready(2)
    assert demo.uids() == before
    containers = [state for pod in demo.get("pods") for state in pod["status"]["containerStatuses"]]
    assert sum(state["restartCount"] for state in containers) == 0


def test_the_figures_of_a_run_stand_in_the_columns_within_seconds_of_its_end_and_edits_reach_the_lab(
    demo: Demo,
) -> None:
    report = demo.p2pnet("inject", "demo", "--count", "2")
    until(lambda: demo.status().get("lastReport", {}).get("run") == report["run"], "REACH and P95", within_s=SOON_S)
    demo.patch({"ttl": "2h"})
    until(lambda: spec(demo).get("ttl") == "2h", "the lab knows the edit before its mounted file does", within_s=SOON_S)


def spec(demo: Demo) -> dict[str, object]:
    """The document in force, as the lab has it."""
    document = json.loads(demo.cluster.run(sys.executable, "-c", SPEC, demo.namespace))
    found: dict[str, object] = document["spec"]
    return found
