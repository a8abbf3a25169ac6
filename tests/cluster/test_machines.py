"""Two machines: one is drained, within the budget; then it dies with the lab, is named, and its pods come back if asked for."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from tests.cluster.demo import Demo, Standing
from tests.cluster.kit import NOT_YET, Cluster, conditions, until
from tests.cluster.server import Thing

DOOMED = "node1"
HOST = "kubernetes.io/hostname"
DRAINED_S = 300.0
"""One pod after the other, each waited for."""
LOST_S = 300.0
"""For Kubernetes to notice that a machine is silent, and for the operator to say so."""
FOLLOWED_S = 300.0
"""For somebody who follows a run to be told that it is over."""


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
    """Looks all the time how many nodes stand."""

    def __init__(self, demo: Demo) -> None:
        self.standing = Standing(demo)
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
            with contextlib.suppress(*NOT_YET):  # who is asked may have no time for it
                self.standing.look()


def test_a_machine_is_drained_within_the_budget_and_its_death_doubles_nobody_and_ends_no_experiments(
    machines: Cluster, demo: Demo
) -> None:
    drained_within_the_budget(machines, demo)
    lab_moved(machines, demo)
    with demo.followed() as follower:
        died_without_a_twin(machines, demo)
        replaced_where_asked_for(demo)
        _, said = follower.communicate(timeout=FOLLOWED_S)
    assert follower.returncode == 5, said
    assert "is invalid: its lab" in said


def drained_within_the_budget(machines: Cluster, demo: Demo) -> None:
    [budget] = demo.get("poddisruptionbudgets")
    before = demo.uids()
    moving = on(demo, DOOMED) - {"demo-far-0"}
    assert moving, "the scheduler spreads them"
    with Watch(demo) as watch:
        selected = "--pod-selector=p2pnet.io/group!=far"
        machines.kubectl("drain", DOOMED, "--delete-emptydir-data", f"--timeout={DRAINED_S:g}s", selected)
        demo.until_pods(4)
    assert watch.standing.least >= budget["spec"]["minAvailable"]
    assert {name for name, uid in demo.uids().items() if before[name] != uid} == moving
    assert on(demo, DOOMED) == {"demo-far-0"}
    machines.kubectl("uncordon", DOOMED)
    demo.until_ready(4)


def lab_moved(machines: Cluster, demo: Demo) -> None:
    """The lab to the machine that will die."""
    machines.kubectl("cordon", "node0")
    demo.kubectl("delete", "pod", "demo-lab", "--wait=true")
    until(lambda: lab(demo).get("spec", {}).get("nodeName") == DOOMED, "the lab is there", every_s=0.2)
    machines.kubectl("uncordon", "node0")
    demo.until_ready(4)


def lab(demo: Demo) -> Thing:
    """Its pod, or nothing."""
    return next(iter(demo.cluster.objects("pods", demo.namespace, "p2pnet.io/role=lab")), {})


def died_without_a_twin(machines: Cluster, demo: Demo) -> None:
    """The machine is named, and what may be alive has no twin."""
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in (*demo.pods(), lab(demo))}
    machines.script("kill-node", DOOMED.removeprefix("node"))
    demo.kubectl("delete", "pod", "demo-far-0", "--wait=false")  # as the machine's controller will do in minutes
    words = (f"machine {DOOMED} does not answer", "demo-far-0, demo-lab", "kubectl delete node", "replace-lost-after")
    until(lambda: all(word in named(demo) for word in words), "machine, pods and remedies are named", within_s=LOST_S)
    found = {pod["metadata"]["name"]: pod for pod in (*demo.pods(), lab(demo))}
    assert {name: pod["metadata"]["uid"] for name, pod in found.items()} == before
    assert found["demo-far-0"]["metadata"]["deletionTimestamp"]
    reasons = ("get", "events", "-o", "jsonpath={.items[*].reason}")
    until(lambda: "MachineLost" in demo.kubectl(*reasons), "an event tells it, which is posted after the status")


def named(demo: Demo) -> str:
    """What the operator says of a lost machine."""
    found = demo.status()["conditions"]
    return next((one["message"] for one in found if (one["reason"], one["status"]) == ("MachineLost", "True")), "")


def replaced_where_asked_for(demo: Demo) -> None:
    """Somebody takes it upon them that it is dead: all are made again, and the lab measures, elsewhere."""
    former = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in (*demo.pods(), lab(demo))}
    demo.annotate("replace-lost-after", "10s")

    def again() -> bool:
        pods = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in (*demo.pods(), lab(demo)) if pod}
        same = {name for name in pods if pods[name] == former[name]}
        return pods.keys() == former.keys() and same == {"demo-node-0", "demo-node-1", "demo-node-2"}

    until(again, "they are made again")
    until(lambda: conditions(lab(demo)).get("Ready") == "True", "the lab is ready, elsewhere")
    until(lambda: demo.p2pnet("status", "demo")["nodes"]["running"] == 3, "it knows the nodes again")
    words = ["inject", "demo", "--from", "node-0", "--within", "10s", "--expect", "reach >= 66%"]
    report = demo.p2pnet(*words, check=False)
    assert report["reach"]["delivered"] == 2, f"node-1 and node-2 have it: {report}"
