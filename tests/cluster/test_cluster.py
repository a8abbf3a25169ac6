"""The cluster of these tests is a real one."""

from typing import Any

import pytest
from tests.cluster.kit import NODE_IMAGE, Cluster

SERVER = (
    "import http.server, os; os.chdir('/etc');"
    "http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def restricted_pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod as p2pnet's are: nobody, nothing writable, no capabilities, no token."""
    container = {
        "name": "main", "image": NODE_IMAGE, "imagePullPolicy": "Never", "command": list(command),
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container],
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **spec,
        },
    }  # fmt: skip


def test_restricted_pods_run_and_find_each_other_by_headless_names(images: Cluster, namespace: str) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nodes"},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "server"}},
    }  # fmt: skip
    server = restricted_pod("server", "python", "-c", SERVER, hostname="server", subdomain="nodes")
    images.apply([service, server], namespace)
    images.wait("pod/server", "condition=Ready", namespace)
    address = f"http://server.nodes.{namespace}.svc:8080/hostname"
    ask = f"import urllib.request; print(urllib.request.urlopen({address!r}).read().decode())"
    images.apply(restricted_pod("client", "python", "-c", ask, restartPolicy="OnFailure"), namespace)
    images.wait("pod/client", "jsonpath={.status.phase}=Succeeded", namespace)
    assert images.kubectl("logs", "client", "--namespace", namespace).strip() == "server"


def test_a_pod_that_is_not_restricted_is_refused(images: Cluster, namespace: str) -> None:
    pod = restricted_pod("rich", "python", "-c", "", hostNetwork=True)
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        images.apply(pod, namespace)
