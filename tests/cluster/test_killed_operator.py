"""The operator ends in the middle of its work, in every way there is; the next one finishes it."""

import base64
import os
import signal
import time
from pathlib import Path

from tests.cluster.demo import Demo, whole
from tests.cluster.kit import Cluster, until

SYSTEM = ["--namespace", "p2pnet-system"]
GRACE_S = 300
"""For an end in order, which takes about a second: one that is none takes all of it."""
ENDS_WITHIN_S = 120.0


def kill_operator(cluster: Cluster) -> None:
    """SIGKILL, from outside: inside, the first process of a container cannot be killed."""

    def running() -> list[int]:
        return [
            pid for pid in cluster.container_pids() if b"p2pnet.operator" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    for pid in until(running, "the operator runs", every_s=0.05):
        os.kill(pid, signal.SIGKILL)


def end_operator(cluster: Cluster) -> float:
    """Delete its pod, with more grace than users give it; the seconds until that is gone."""
    began = time.monotonic()
    words = ("--selector", "app.kubernetes.io/name=p2pnet", "--wait=true", f"--grace-period={GRACE_S}")
    cluster.kubectl("delete", "pod", *SYSTEM, *words)
    return time.monotonic() - began


def until_some(demo: Demo, count: int) -> None:
    """Wait until so many of its node pods exist, ready or not."""
    until(lambda: len(demo.pods()) >= count, f"{count} pods are there", every_s=0.05)


def check_whole(demo: Demo, nodes: int) -> None:
    """Exactly the objects of so many nodes, and one authority in all of them."""
    until(lambda: demo.objects() == whole(nodes), f"exactly the objects of {nodes} nodes")
    secrets = {one["metadata"]["name"]: one["data"] for one in demo.get("secrets")}
    authority = secrets["demo-ca"]["ca.crt"]
    assert base64.b64decode(authority).count(b"BEGIN") == 1
    assert {secrets[f"demo-node-{number}"]["ca.crt"] for number in range(nodes)} == {authority}


def test_killed_while_creating_and_deleted_while_scaling_it_ends_with_exactly_what_was_asked(
    operator: Cluster, namespace: str
) -> None:
    demo = Demo(operator, namespace, {"nodes": 12})
    until_some(demo, 1)
    kill_operator(operator)
    demo.until_ready(12)
    check_whole(demo, 12)
    before = demo.uids()
    demo.kubectl("scale", "subnet/demo", "--replicas=4")
    until(lambda: len(demo.uids()) < 12, "the first pods go", every_s=0.05)
    assert end_operator(operator) < ENDS_WITHIN_S
    demo.until_ready(4)
    check_whole(demo, 4)
    assert demo.uids() == {f"demo-node-{number}": before[f"demo-node-{number}"] for number in range(4)}
    assert demo.restarts() == 0


def test_it_ends_within_seconds_of_being_told_to(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": 6})
    until_some(demo, 1)
    assert end_operator(operator) < ENDS_WITHIN_S
    demo.until_ready(6)
    assert end_operator(operator) < ENDS_WITHIN_S, "at rest, with watches open"
    check_whole(demo, 6)
