"""What `helm test` runs: a Subnet is made, becomes Ready, and is removed. NAMESPACE NAME NODES TIMEOUT_S."""

import sys
import time
from typing import Any

from kubernetes import client, config

WHAT = {"group": "p2pnet.io", "version": "v1alpha1", "plural": "subnets"}
POLL_S = 2.0


def main(namespace: str, name: str, nodes: int, timeout_s: float) -> int:
    """0 when it became Ready in time."""
    config.load_incluster_config()
    api = client.CustomObjectsApi()
    body = {
        "apiVersion": "p2pnet.io/v1alpha1",
        "kind": "Subnet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodes": nodes},
    }
    api.create_namespaced_custom_object(**WHAT, namespace=namespace, body=body)
    try:
        return wait(api, namespace, name, time.monotonic() + timeout_s)
    finally:
        api.delete_namespaced_custom_object(**WHAT, namespace=namespace, name=name)


def wait(api: Any, namespace: str, name: str, deadline: float) -> int:
    """Until Ready or too late; says why not, once a change."""
    said = ""
    while True:
        subnet = api.get_namespaced_custom_object(**WHAT, namespace=namespace, name=name)
        conditions = {one["type"]: one for one in subnet.get("status", {}).get("conditions", [])}
        ready = conditions.get("Ready", {"status": "Unknown", "message": "no status yet"})
        saying = f"Ready={ready['status']}: {ready.get('message', '')}"
        if saying != said:
            said = saying
            sys.stdout.write(saying + "\n")
            sys.stdout.flush()
        if ready["status"] == "True":
            return 0
        if time.monotonic() > deadline:
            return 1
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
