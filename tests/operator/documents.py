"""Specs with everything in them that can stand there at the same time."""

from typing import Any

FULL_SUBNET: dict[str, Any] = {
    "nodes": 4,
    "groups": [{"name": "next", "nodes": 4, "image": "x:1", "labels": {"region": "eu"}, "env": {"A": "b"},
                "pod": {"resources": {"limits": {"memory": "1Gi", "cpu": 2}}}, "behaviour": "honest"}],
    "image": "x:2", "topology": {"kind": "random-regular", "degree": 4}, "discovery": {"mode": "registry"},
    "identity": {"trustDomain": "p2pnet", "ttl": "7d", "renewBefore": "1d", "issuer": "builtin"},
    "broadcast": {"pushBelow": "1KiB", "relay": "auto", "slotsPerPeer": 10, "artifactBytesMax": "1Mi", "keep": "10m"},
    "clients": [{"name": "blob"}, {"name": "chat", "class": "chat:Chat", "settings": {"a": [1, {"b": None}], "c": 0.5}}],
    "network": {
        "preset": "ic-lhg73", "lossMax": "5%",
        "access": {"up": "10Mbit", "down": "1Gbit", "queue": "64KiB", "discipline": "codel",
                   "groups": {"next": {"up": "1Mbit", "down": "2Mbit", "queue": "64KiB", "discipline": "codel"}}},
        "default": {"jitter": "2ms", "bandwidth": "50Mbit"},
        "rules": [{"from": "region=eu", "to": "*", "latency": "90ms", "jitter": "5ms", "distribution": "uniform",
                   "keepOrder": False, "loss": "0.2%", "lossBurst": 3.5, "duplication": "1%", "reorder": "1%",
                   "bandwidth": "1Mbit", "queue": "64KiB", "discipline": "codel", "mtu": 1400}],
    },
    "faults": [
        {"name": "cut", "from": "node-0", "to": "*", "block": True, "bothWays": True, "after": "10s", "for": "30s"},
        {"name": "thin", "access": {"up": "1Mbit", "down": "2Mbit", "queue": "64KiB", "discipline": "codel"}},
        {"name": "split", "partition": {"minority": "30%"}}, {"name": "parts", "partition": {"groups": ["region=eu"]}},
        {"name": "still", "from": "20%", "pause": True}, {"name": "dead", "from": "node-1", "kill": True},
        {"name": "again", "from": "node-1", "restart": True}, {"name": "come", "churn": {"rate": "6/m", "down": "5s", "seed": 7}},
    ],
    "ready": {"connected": "100%", "within": "120s"}, "nodesPerPod": 2,
    "pod": {"imagePullPolicy": "Never", "imagePullSecrets": [{"name": "x"}], "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists"}], "code": {"configMap": "x"}, "labels": {"team": "p2p"},
            "annotations": {"sidecar.istio.io/inject": "false"}, "priorityClassName": "low", "serviceAccountName": "nodes",
            "runtimeClassName": "gvisor", "securityContext": {"runAsNonRoot": True, "fsGroup": 7},
            "containerSecurityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
    "lab": {"storage": "1Gi"}, "seed": 42, "ttl": "1d",
}  # fmt: skip

FULL_INJECTION: dict[str, Any] = {
    "subnet": "demo", "size": "64KiB", "count": 20, "rate": "2/s", "from": "node-1", "client": "blob", "within": "60s",
    "seed": 7, "expect": ["reach >= 99%", "p95 <= 800ms", "hops <= 3 within 5s"], "ttl": "1h",
}  # fmt: skip
FILES_INJECTION: dict[str, Any] = {
    "subnet": "demo", "filesFrom": {"configMap": "photos", "keys": ["a.jpg"]},
    "rate": "2/s for 30s, then 2/s to 20/s over 1m, then 20/s",
}  # fmt: skip
