"""A Subnet on a cluster, from `apply` to Connected, against as many plain pods of the same image from `apply` to Ready.

    python tests/bench/cluster.py [--nodes 50] [--per-pod 1] [--rounds 3]

The cluster is that of tests/cluster, made when none is running. The plain pods are a Parallel StatefulSet whose process
answers a readiness probe and does nothing else: what the machine needs for so many pods of this size by themselves.
"""

import argparse
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.cluster.kit import NODE_IMAGE, OPERATOR_IMAGE, Cluster

NAMESPACE = "bench"
SYSTEM = "p2pnet-system"
ANSWER = (
    "import http.server as h\n"
    "class A(h.BaseHTTPRequestHandler):\n"
    "    def do_GET(self): self.send_response(200); self.end_headers()\n"
    "    def log_message(self, *_): pass\n"
    "h.HTTPServer(('', 8080), A).serve_forever()\n"
)
WRITES = re.compile(
    r'^p2pnet_api_requests_total\{code="2\d\d",resource="(\w+)",verb="(?:post|patch|delete)"\} (\S+)', re.MULTILINE
)


def subnet(nodes: int, per_pod: int = 1) -> dict[str, Any]:
    """Full mesh, as the default is."""
    meta = {"name": "bench", "namespace": NAMESPACE}
    spec = {"nodes": nodes, "nodesPerPod": per_pod}
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": meta, "spec": spec}


def plain(nodes: int) -> dict[str, Any]:
    """A StatefulSet with the pods' own probes, requests and rights."""
    probe = {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 5}
    container = {
        "name": "main", "image": NODE_IMAGE, "command": ["python", "-c", ANSWER],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 120},
        "livenessProbe": {**probe, "periodSeconds": 10}, "readinessProbe": {**probe, "periodSeconds": 2},
    }  # fmt: skip
    template = {
        "metadata": {"labels": {"app": "plain"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False},
    }
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "plain", "namespace": NAMESPACE},
        "spec": {
            "replicas": nodes, "podManagementPolicy": "Parallel", "serviceName": "plain", "template": template,
            "selector": {"matchLabels": {"app": "plain"}},
        },
    }  # fmt: skip


def timed(cluster: Cluster, document: dict[str, Any], wait: str) -> float:
    """Seconds from the apply to what is waited for."""
    began = time.monotonic()
    cluster.kubectl("apply", "--filename", "-", text=json.dumps(document))
    cluster.kubectl("wait", "--namespace", NAMESPACE, *wait.split(), "--timeout=600s")
    return time.monotonic() - began


def gone(cluster: Cluster, what: str) -> None:
    """Delete it, wait until no pod is left, and let the machine come to rest."""
    cluster.kubectl("delete", "--namespace", NAMESPACE, what, "--cascade=foreground")
    while cluster.get("pods", "--namespace", NAMESPACE):
        time.sleep(0.5)
    time.sleep(5)


def writes(cluster: Cluster) -> dict[str, float]:
    """Resource -> writes of the operator that the API server took."""
    [pod] = cluster.get("pods", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/name=p2pnet")
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8081/proxy/metrics"
    found: dict[str, float] = {}
    for resource, value in WRITES.findall(cluster.kubectl("get", "--raw", path)):
        found[resource] = found.get(resource, 0) + float(value)
    return found


def prepare() -> tuple[Cluster, bool]:
    """A cluster with the operator, and whether it was made here."""
    cluster = Cluster()
    running = cluster.script("exec", "kubectl", "get", "--raw", "/readyz", check=False).returncode == 0
    if not running:
        cluster.script("build")
        cluster.script("up")
    cluster.script("images")
    cluster.script("load", NODE_IMAGE, OPERATOR_IMAGE)
    cluster.install()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return cluster, not running


def measure(cluster: Cluster, nodes: int, per_pod: int) -> tuple[float, float, dict[str, float]]:
    """Seconds of either kind, and the operator's writes."""
    before = writes(cluster)
    ours = timed(cluster, subnet(nodes, per_pod), "subnet/bench --for=condition=Connected")
    after = writes(cluster)
    gone(cluster, "subnet/bench")
    theirs = timed(cluster, plain(nodes), f"statefulset/plain --for=jsonpath={{.status.readyReplicas}}={nodes}")
    gone(cluster, "statefulset/plain")
    return ours, theirs, {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}


def main() -> None:
    """Print a line per round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--per-pod", type=int, default=1, help="nodes of the Subnet to a pod; plain pods stay one each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cluster, made_here = prepare()
    pairs = []
    try:
        for number in range(1, options.rounds + 1):
            ours, theirs, written = measure(cluster, options.nodes, options.per_pod)
            pairs.append((ours, theirs))
            per_node = sum(written.values()) / options.nodes
            print(
                f"{number}: Subnet Connected {ours:.1f} s, plain pods Ready {theirs:.1f} s, ratio {ours / theirs:.2f};"
            )
            print(f"   {per_node:.2f} API writes per new node: {dict(sorted(written.items()))}")
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        if made_here:
            cluster.script("down")
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{options.nodes} nodes, median of {len(pairs)}: {ours:.1f} s against {theirs:.1f} s, ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
