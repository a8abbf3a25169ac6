"""A Subnet in a namespace of its own, as a test sees and treats it."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from tests.cluster.kit import ROOT, SCRIPT, Cluster, conditions, until

KINDS = {
    "pods": "pod", "secrets": "secret", "configmaps": "configmap", "services": "service",
    "poddisruptionbudgets": "poddisruptionbudget.policy", "networkpolicies": "networkpolicy.networking.k8s.io",
}  # fmt: skip
"""Everything the operator makes for a Subnet, and what kubectl calls one of each."""
READY_S = 600.0
"""For a Subnet to be as asked: far above what it takes, for the machine may be busy."""


class Demo:
    """The Subnet `demo`: of examples/subnet.yaml, or of the spec given."""

    def __init__(self, cluster: Cluster, namespace: str, spec: dict[str, Any] | None = None) -> None:
        self.cluster = cluster
        self.namespace = namespace
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
        cluster.apply(document if spec is not None else (ROOT / "examples" / "subnet.yaml").read_text(), namespace)

    def kubectl(self, *words: str) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *words)

    def get(self, *words: str) -> Any:
        return self.cluster.get("--namespace", self.namespace, *words)

    def p2pnet(self, *words: str, check: bool = True) -> Any:
        """What a command of the command line says as JSON."""
        done = self.cluster.p2pnet(*words, "--on", "cluster", "--namespace", self.namespace, "-o", "json", check=check)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def followed(self) -> Iterator[subprocess.Popen[str]]:
        """Somebody injects one artifact a second and waits for the end; killed after the block."""
        words = f"inject demo --size 1KiB --count 600 --rate 1/s --on cluster -n {self.namespace}".split()
        with tempfile.TemporaryDirectory() as state:
            follower = subprocess.Popen(
                ["bash", str(SCRIPT), "exec", "env", f"P2PNET_STATE={state}", sys.executable, "-m", "p2pnet.cli", *words],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                until(lambda: self.p2pnet("status", "demo")["runs"], "the run is there")
                yield follower
            finally:
                follower.kill()

    def patch(self, spec: dict[str, Any]) -> None:
        """Merge into the spec."""
        self.kubectl("patch", "subnet", "demo", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def annotate(self, key: str, value: str) -> None:
        self.kubectl("annotate", "--overwrite", "subnet", "demo", f"p2pnet.io/{key}={value}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.subnet().get("status", {})
        return found

    def subnet(self) -> dict[str, Any]:
        """The object."""
        return self.cluster.object("subnets", self.namespace, "demo")

    def pods(self) -> list[Any]:
        """Of nodes."""
        return self.cluster.objects("pods", self.namespace, "p2pnet.io/subnet=demo,p2pnet.io/role=node")

    def restarts(self) -> int:
        """Of all containers, and of nodes inside them."""
        pods = [pod for pod in self.get("pods") if not pod["metadata"].get("deletionTimestamp")]
        states = [state for pod in pods for state in pod["status"].get("containerStatuses", [])]
        logs = [self.kubectl("logs", pod["metadata"]["name"]) for pod in pods]
        return sum(state["restartCount"] for state in states) + sum(log.count('"event":"exited"') for log in logs)

    def page(self, pod: str, port: int = 8080) -> str:
        """A pod's metrics."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy/metrics")

    def uids(self) -> dict[str, str]:
        """Of the node pods that are not on their way out: who has been replaced has another one."""
        return _uids(_staying(self.pods()))

    def ready(self) -> dict[str, str]:
        """Of those that are ready now. A probe that comes late on a busy machine takes one out for a while."""
        return _uids(pod for pod in _staying(self.pods()) if conditions(pod).get("Ready") == "True")

    def objects(self) -> set[str]:
        """Kind and name of everything that is the Subnet's."""
        return {
            f"{kind}/{one['metadata']['name']}"
            for plural, kind in KINDS.items()
            for one in self.cluster.objects(plural, self.namespace, "p2pnet.io/subnet=demo")
        }

    def until_pods(self, count: int) -> dict[str, str]:
        def there() -> dict[str, str]:
            found = self.ready()
            return found if len(found) == count else {}

        return until(there, f"{count} pods are ready", every_s=0.1)

    def until_ready(self, nodes: int) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            subnet = self.subnet()
            status = subnet.get("status", {})
            current = status.get("observedGeneration") == subnet["metadata"]["generation"]
            all_there = status.get("nodes") == dict.fromkeys(("desired", "ready", "connected"), nodes)
            said = current and all_there and conditions(subnet).get("Ready") == "True"
            # A status may be of before a pod went that has just been deleted.
            pods = -(-nodes // subnet["spec"].get("nodesPerPod", 1))
            return subnet if said and len(self.ready()) == len(self.pods()) == pods else None

        try:
            return until(ready, f"{nodes} nodes are ready and connected", READY_S, every_s=0.1)
        except AssertionError:
            print(self.kubectl("get", "subnets,pods"), self.kubectl("describe", "subnet", "demo"))
            raise


def _staying(pods: Iterable[Any]) -> Iterator[Any]:
    return (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def _uids(pods: Iterable[Any]) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


class Standing:
    """Who stands, and how many did at the worst moment that was seen.

    A pod that was ready once stands until it is told to end: a probe that comes late on a busy machine takes nobody away.
    """

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._were_ready: set[str] = set(demo.ready().values())
        self.least = len(self._were_ready)

    def look(self) -> dict[str, str]:
        """Name -> uid of those that stand now."""
        pods = self._demo.pods()
        self._were_ready |= {pod["metadata"]["uid"] for pod in pods if conditions(pod).get("Ready") == "True"}
        now = {name: uid for name, uid in _uids(_staying(pods)).items() if uid in self._were_ready}
        self.least = min(self.least, len(now))
        return now


def until_nothing_is_left(cluster: Cluster, namespace: str, name: str) -> None:
    """Wait until no object of the Subnet `name` is there: what is not a pod is collected in the background."""

    def left() -> set[str]:
        return {
            f"{plural}/{one['metadata']['name']}"
            for plural in ("subnets", *KINDS)
            for one in cluster.objects(plural, namespace)
            if one["metadata"]["name"].startswith(name)
        }

    with contextlib.suppress(AssertionError):  # what is left says more
        until(lambda: not left(), "nothing is left of it")
    assert left() == set()


def whole(nodes: int) -> set[str]:
    """What stands in the namespace of a Subnet of so many nodes: this and nothing more."""
    pods = [f"demo-node-{number}" for number in range(nodes)]
    return {
        *(f"pod/{name}" for name in (*pods, "demo-lab")),
        *(f"secret/{name}" for name in (*pods, "demo-lab", "demo-lab-token", "demo-ca")),
        "configmap/demo-config", "configmap/demo-members", "service/demo-lab", "service/demo-nodes",
        "poddisruptionbudget.policy/demo-nodes", "networkpolicy.networking.k8s.io/demo",
    }  # fmt: skip
