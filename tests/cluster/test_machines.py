"""Two machines: one is drained, within the budget; then it dies, and nobody comes back under a name that may be alive."""

import threading
import time
from collections.abc import Iterator

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, until

DOOMED = "node1"
HOST = "kubernetes.io/hostname"


@pytest.fixture
def machines(operator: Cluster) -> Iterator[Cluster]:
    """The cluster with one machine more, which will not live. The operator runs on the other."""
    number = DOOMED.removeprefix("node")
    operator.script("forget", number)  # what a killed session left
    operator.script("join", number)
    try:
        yield operator
    finally:
        operator.script("forget", number)


@pytest.fixture
def demo(machines: Cluster, namespace: str) -> Demo:
    """Three nodes anywhere and one on the machine that will die."""
    far = {"name": "far", "nodes": 1, "pod": {"nodeSelector": {HOST: DOOMED}}}
    made = Demo(machines, namespace, {"nodes": 3, "groups": [far]})
    made.until_ready(4)
    return made


def on(demo: Demo, machine: str) -> set[str]:
    """Names of the node pods there."""
    return {pod["metadata"]["name"] for pod in demo.pods() if pod["spec"].get("nodeName") == machine}


class Watch:
    """How many nodes were ready at the worst moment."""

    def __init__(self, demo: Demo) -> None:
        self.least = len(demo.uids())
        self._demo = demo
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.3):
            self.least = min(self.least, len(self._demo.uids()))


def test_a_machine_is_drained_within_the_budget_and_its_death_doubles_nobody(machines: Cluster, demo: Demo) -> None:
    drained_within_the_budget(machines, demo)
    died_without_a_twin(machines, demo)


def drained_within_the_budget(machines: Cluster, demo: Demo) -> None:
    [budget] = demo.get("poddisruptionbudgets")
    before = demo.uids()
    moving = on(demo, DOOMED) - {"demo-far-0"}
    assert moving, "the scheduler spreads them"
    with Watch(demo) as watch:
        machines.kubectl(
            "drain", DOOMED, "--delete-emptydir-data", "--timeout=150s", "--pod-selector=p2pnet.io/group!=far"
        )
        until(lambda: len(demo.uids()) == 4, "all are ready, elsewhere")
    assert watch.least >= budget["spec"]["minAvailable"]
    assert {name for name, uid in demo.uids().items() if before[name] != uid} == moving
    assert on(demo, DOOMED) == {"demo-far-0"}
    machines.kubectl("uncordon", DOOMED)
    demo.until_ready(4)


def died_without_a_twin(machines: Cluster, demo: Demo) -> None:
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in demo.pods()}
    machines.script("kill-node", DOOMED.removeprefix("node"))
    words = ["inject", "demo", "--from", "node-0", "--within", "5s", "--expect", "reach >= 66%"]
    report = demo.p2pnet(*words, check=False)
    assert report["reach"]["delivered"] == 2, f"node-1 and node-2 have it: {report}"
    demo.kubectl("delete", "pod", "demo-far-0", "--wait=false")  # as the machine's controller will do in minutes
    time.sleep(5)
    found = {pod["metadata"]["name"]: pod for pod in demo.pods()}
    assert {name: pod["metadata"]["uid"] for name, pod in found.items()} == before, "what may be alive has no twin"
    assert found["demo-far-0"]["metadata"]["deletionTimestamp"]
    demo.kubectl("delete", "pod", "demo-far-0", "--force", "--grace-period=0")  # a person knows: it is dead

    def again() -> bool:
        pods = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in demo.pods()}
        return pods.keys() == before.keys() and pods["demo-far-0"] != before["demo-far-0"]

    until(again, "then it is made again", within_s=60)
