"""What the API server refuses at `kubectl apply` it refuses at the path and in the words of the command line."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import Control
from tests.cluster.control_plane.sweep import Cause
from tests.cluster.control_plane.sweep import answers as ask_all
from tests.cluster.server import path_of

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import load_subnet

CERT_MANAGER = {"issuer": "certManager", "issuerRef": {"name": "x"}}
REGULAR = {"kind": "random-regular"}
SHAPES_OF_LINKS: list[tuple[dict[str, Any], str]] = [
    ({"latency": "61m"}, ".latency"), ({"jitter": "5ms"}, ".jitter"), ({"latency": "10ms", "jitter": "4.8ms"}, ".jitter"),
    ({"latency": "10ms", "jitter": "5.8ms", "keepOrder": False}, ".jitter"),
    ({"latency": "10ms", "jitter": "9ms", "distribution": "uniform"}, ".jitter"),
    ({"latency": "10ms", "distribution": "uniform"}, ".distribution"), ({"latency": "10ms", "keepOrder": False}, ".keepOrder"),
    ({"loss": "100%"}, ".loss"), ({"latency": "10ms", "lossBurst": 3.0}, ".lossBurst"),
    ({"loss": "90%", "lossBurst": 3.0}, ".lossBurst"), ({"reorder": "100%"}, ".reorder"),
    ({"bandwidth": "999bit"}, ".bandwidth"), ({"bandwidth": "101Gbit"}, ".bandwidth"),
    ({"loss": "1%", "queue": "64KiB"}, ".queue"),
    ({"loss": "1%", "discipline": "codel"}, ".discipline"), ({"bandwidth": "1Mbit", "queue": "1400B"}, ".queue"),
]  # fmt: skip
"""Shapes that cannot be, wherever they stand."""
NETWORKS: list[tuple[dict[str, Any], str]] = [
    ({"lossMax": "5%"}, ".lossMax"),
    ({"preset": "aws", "lossMax": "5%"}, ".lossMax"),
    ({"access": {"groups": {"work": {"up": "1Mbit"}}}}, ".access.groups"),
    ({"access": {"up": "1bit"}}, ".access.up"),
    ({"access": {"queue": "64KiB"}}, ".access.queue"),
    ({"access": {"discipline": "codel"}}, ".access.discipline"),
    ({"preset": "ic-io67", "default": {"keepOrder": False}}, ".default.keepOrder"),
    ({"preset": "aws", "default": {"lossBurst": 3.0}}, ".default.lossBurst"),
]
ENDS = {"from": "node-0", "to": "node-1"}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"pause": True, **ENDS}, ".to"), ({"access": {"up": "1Mbit"}, **ENDS}, ".to"),
    ({"churn": {"rate": "1/m"}, "bothWays": True}, ".bothWays"), ({"partition": {"minority": "40%"}, "from": "node-0"}, ".from"),
    ({"kill": True}, ".from"), ({"pause": True}, ".from"), ({"restart": True}, ".from"), ({"access": {}}, ".access"),
    ({"access": {"up": "1bit"}}, ".access.up"), ({"block": True, "lossBurst": 2.0}, ".lossBurst"),
    ({"kill": True, "from": "node-0", "queue": "1MiB"}, ".queue"), ({"block": True, "after": "31d"}, ".after"),
    ({"block": True, "for": "10ms"}, ".for"), ({"block": True, "for": "31d"}, ".for"),
    ({"restart": True, "from": "node-0", "for": "1s"}, ".for"), ({"churn": {"rate": "11/s", "down": "100ms"}}, ".churn.rate"),
    ({"churn": {"rate": "0/m"}}, ".churn.rate"), ({"churn": {"rate": "1/h", "down": "50ms"}}, ".churn.down"),
    ({"churn": {"rate": "1/m", "down": "2h"}}, ".churn.down"), ({"partition": {"minority": "60%"}}, ".partition.minority"),
    ({"partition": {}}, ".partition"), ({"partition": {"minority": "40%", "groups": ["node-0"]}}, ".partition"),
]  # fmt: skip


def both(resource: str, amount: str | int) -> dict[str, Any]:
    return {"resources": {"requests": {resource: amount}, "limits": {resource: amount}}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nodes": 0}, "spec.nodes"),
    ({"groups": [{"name": "node", "nodes": 1}]}, "spec.groups[0].name"),
    ({"nodes": 201, "topology": {"kind": "full"}}, "spec.topology.kind"),
    ({"nodes": 5, "topology": {**REGULAR, "degree": 5}}, "spec.topology.degree"),
    ({"nodes": 5, "topology": {**REGULAR, "degree": 3}}, "spec.topology.degree"),
    ({"nodes": 4, "groups": [{"name": "a", "nodes": 1}], "topology": {**REGULAR, "degree": 3}}, "spec.topology.degree"),
    ({"nodes": 4, "topology": {**REGULAR, "degree": 1}}, "spec.topology.degree"),
    ({"nodes": 1, "topology": {**REGULAR, "degree": 3}}, "spec.topology.degree"),
    ({"topology": {"kind": "full", "degree": 2}}, "spec.topology.degree"),
    ({"nodes": 9, "topology": {"kind": "ring", "degree": 3}}, "spec.topology.degree"),
    ({"nodes": 9, "topology": {"kind": "small-world", "degree": 3}}, "spec.topology.degree"),
    ({"topology": {"kind": "ring", "edges": [["node-0", "node-1"]]}}, "spec.topology.edges"),
    ({"topology": {"kind": "ring", "edgesFrom": {"configMap": "x"}}}, "spec.topology.edgesFrom"),
    ({"topology": {"kind": "edges", "edgesFrom": {"configMap": "x", "file": "y"}}}, "spec.topology.edgesFrom"),
    ({"topology": {"kind": "edges", "edgesFrom": {"key": "x"}}}, "spec.topology.edgesFrom"),
    ({"topology": {"kind": "edges", "edges": [["a-0", "a-1"]], "edgesFrom": {"configMap": "x"}}}, "spec.topology.edgesFrom"),
    ({"topology": {"kind": "edges", "edges": [["node-0", "node-0"]]}}, "spec.topology.edges[0]"),
    ({"topology": {"kind": "ring"}, "broadcast": {"relay": "none"}}, "spec.broadcast.relay"),
    ({"nodes": 51, "broadcast": {"relay": "none"}}, "spec.broadcast.relay"),
    ({"nodes": 51, "broadcast": {"relay": "scatter"}}, "spec.broadcast.relay"),
    ({"topology": {"kind": "ring"}, "discovery": {"mode": "seeds"}}, "spec.discovery.mode"),
    ({"nodes": 51, "discovery": {"mode": "seeds"}}, "spec.discovery.mode"),
    ({"identity": {"ttl": "5m"}}, "spec.identity.ttl"),
    ({"identity": {"ttl": "3651d"}}, "spec.identity.ttl"),
    ({"identity": {"renewBefore": "8d"}}, "spec.identity.renewBefore"),
    ({"identity": {"ttl": "1h", "renewBefore": "60m"}}, "spec.identity.renewBefore"),
    ({"identity": {"renewBefore": "0s"}}, "spec.identity.renewBefore"),
    ({"identity": {"ttl": "1.1h", "renewBefore": "66m"}}, "spec.identity.renewBefore"),
    ({"identity": {"ttl": "0.29h", "renewBefore": "1044s"}}, "spec.identity.renewBefore"),
    ({"identity": {"ttl": "1h", "renewBefore": "3599.999999s"}}, "spec.identity.renewBefore"),
    ({"identity": {"issuer": "certManager"}}, "spec.identity.issuerRef"),
    ({"identity": {"issuerRef": {"name": "x"}}}, "spec.identity.issuerRef"),
    ({"identity": {**CERT_MANAGER, "ttl": "59m"}}, "spec.identity.ttl"),
    ({"identity": {**CERT_MANAGER, "renewBefore": "4m"}}, "spec.identity.renewBefore"),
    ({"broadcast": {"artifactBytesMax": "129Mi"}}, "spec.broadcast.artifactBytesMax"),
    ({"broadcast": {"artifactBytesMax": "0B"}}, "spec.broadcast.artifactBytesMax"),
    ({"broadcast": {"keep": "31d"}}, "spec.broadcast.keep"),
    ({"broadcast": {"keep": "999ms"}}, "spec.broadcast.keep"),
    ({"broadcast": {"pushBelow": "129Mi"}}, "spec.broadcast.pushBelow"),
    ({"broadcast": {"pushBelow": -1}}, "spec.broadcast.pushBelow"),
    ({"faults": [{"name": "idle"}]}, "spec.faults[0]"),
    ({"faults": [{"name": "idle", "latency": "0ms", "loss": "0%"}]}, "spec.faults[0]"),
    ({"faults": [{"name": "both", "from": "node-0", "pause": True, "block": True}]}, "spec.faults[0]"),
    *(({"faults": [{"name": "x", **fault}]}, f"spec.faults[0]{path}") for fault, path in FAULTS),
    *(({"network": {"default": shape}}, f"spec.network.default{path}") for shape, path in SHAPES_OF_LINKS),
    *(({"network": {"rules": [{"from": "node-0", **shape}]}}, f"spec.network.rules[0]{path}") for shape, path in SHAPES_OF_LINKS),
    *(({"faults": [{"name": "x", **shape}]}, f"spec.faults[0]{path}") for shape, path in SHAPES_OF_LINKS),
    *((({"network": network}), f"spec.network{path}") for network, path in NETWORKS),
    ({"ready": {"within": "2d"}}, "spec.ready.within"),
    ({"ready": {"connected": "250%"}}, "spec.ready.connected"),
    ({"ready": {"connected": "100.00000000000000000001%"}}, "spec.ready.connected"),
    ({"network": {"preset": "ic-lhg73", "lossMax": "100.00000000000000000001%"}}, "spec.network.lossMax"),
    ({"faults": [{"name": "x", "from": "100.00000000000000000001%", "pause": True}]}, "spec.faults[0].from"),
    ({"lab": {"storage": "1000000000000001.5B"}}, "spec.lab.storage"), ({"lab": {"storage": "1000000.1GB"}}, "spec.lab.storage"),
    ({"lab": {"storage": "100000000000000.001B"}}, "spec.lab.storage"), ({"lab": {"storage": "1.1Ki"}}, "spec.lab.storage"),
    ({"broadcast": {"artifactBytesMax": "1.0001B"}}, "spec.broadcast.artifactBytesMax"),
    ({"broadcast": {"artifactBytesMax": "1." + "0" * 28 + "1B"}}, "spec.broadcast.artifactBytesMax"),
    ({"broadcast": {"pushBelow": "1.0000001Ki"}}, "spec.broadcast.pushBelow"),
    ({"ttl": "59s"}, "spec.ttl"), ({"ttl": "9999999d"}, "spec.ttl"), ({"ttl": "soon"}, "spec.ttl"),
    ({"groups": [{"name": "a", "nodes": 1, "labels": {"node": "x"}}]}, "spec.groups[0].labels"),
    ({"groups": [{"name": "a", "nodes": 1, "labels": {"a b": "x"}}]}, "spec.groups[0].labels"),
    ({"groups": [{"name": "a", "nodes": 1, "labels": {"region": "eu west"}}]}, "spec.groups[0].labels"),
    ({"groups": [{"name": "a", "nodes": 1, "env": {"A=B": "x"}}]}, "spec.groups[0].env"),
    ({"groups": [{"name": "a", "nodes": 1, "pod": {"nodeSelector": {"a/b/c": "x"}}}]}, "spec.groups[0].pod.nodeSelector"),
    ({"pod": {"nodeSelector": {"disk": "s s d"}}}, "spec.pod.nodeSelector"),
    ({"pod": {"annotations": {"a..b/c": "x"}}}, "spec.pod.annotations"),
    ({"pod": {"tolerations": [{"key": "a b"}]}}, "spec.pod.tolerations[0].key"),
    ({"pod": {"tolerations": [{"value": "x"}]}}, "spec.pod.tolerations[0].operator"),
    ({"pod": {"tolerations": [{"operator": "Exists", "value": "x"}]}}, "spec.pod.tolerations[0].value"),
    ({"pod": {"tolerations": [{"key": "a", "tolerationSeconds": 7}]}}, "spec.pod.tolerations[0].effect"),
    ({"pod": {"resources": {"limits": {"gpu": 1}}}}, "spec.pod.resources.limits"),
    ({"pod": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "spec.pod.resources.requests"),
    ({"pod": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}}}, "spec.pod.resources.requests"),
    ({"lab": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}}, "spec.lab.resources.requests"),
    *(({"pod": both(key, amount)}, f"spec.pod.resources.{part}") for part in ("requests", "limits") for key, amount in (
        ("nvidia.com/gpu", "0.5"), ("nvidia.com/gpu", "500m"), ("hugepages-2Mi", "3Mi"), ("hugepages-2Mi", 1),
        ("hugepages-2Mi", "2097152.0000000000000001"), ("hugepages-0Mi", "2Mi"), ("requests.x.com/gpu", "1"),
        ("a" * 245 + "/gpu", 1))),
    ({"lab": both("nvidia.com/gpu", "1.5")}, "spec.lab.resources.limits"),
    ({"groups": [{"name": "a", "nodes": 1, "pod": both("hugepages-1Gi", "1.5Gi")}]}, "spec.groups[0].pod.resources.requests"),
    *(({"groups": [{"name": "a", "nodes": 1, "env": {name: "x"}}]}, "spec.groups[0].env") for name in (".", "..", "..A")),
    ({"topology": {"kind": "edges", "edgesFrom": {"configMap": "x", "key": "..data"}}}, "spec.topology.edgesFrom.key"),
    ({"pod": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "x"}}}, "spec.pod.annotations"),
    ({"pod": {"labels": {"sub.p2pnet.io/name": "x"}}}, "spec.pod.labels"),
    ({"lab": {"storage": "0Gi"}}, "spec.lab.storage"),
    ({"pod": {"securityContext": {"seccompProfile": {"type": "Localhost"}}}},
     "spec.pod.securityContext.seccompProfile.localhostProfile"),
    ({"pod": {"containerSecurityContext": {"privileged": True, "allowPrivilegeEscalation": False}}},
     "spec.pod.containerSecurityContext.allowPrivilegeEscalation"),
    ({"faults": [{"name": "x", "from": "250%", "pause": True}]}, "spec.faults[0].from"),
    ({"image": "a b"}, "spec.image"),
]  # fmt: skip
SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"groups": [{"name": "a", "nodes": 1, "labels": {"group": "x"}}]}, "is set by p2pnet"),
    ({"ready": {"connected": "101%"}}, "100%"),
    ({"network": {"access": {"groups": {"node": {"up": "1bit"}}}}}, "from 1kbit to 100Gbit"),
    ({"network": {"default": {"mtu": 1279}}}, "mtu"),
    ({"network": {"default": {"loss": "1%", "lossBurst": 0.5}}}, "lossBurst"),
    ({"network": {"preset": "gcp"}}, "ic-lhg73"),
    ({"lab": {"storage": "much"}}, "emptyDir"),
    ({"pod": {"labels": {"p2pnet.io/subnet": "other"}}}, "set by Kubernetes"),
    ({"pod": {"annotations": {"kubernetes.io/x": "other"}}}, "kubernetes.io"),
    ({"groups": [{"name": "a", "nodes": 1, "pod": {"labels": {"app.kubernetes.io/name": "x"}}}]}, "set by Kubernetes"),
    ({"pod": {"securityContext": {"runAsUser": -1}}}, "runAsUser"),
    ({"pod": {"priorityClassName": "Not A Name"}}, "priorityClassName"),
    ({"pod": both("memory", 1 << 63)}, "spec.pod.resources.limits"),
]
"""Refused by both, each in its own words."""
TAKEN: list[dict[str, Any]] = [
    {}, {"nodes": 1}, {"nodes": 200, "topology": {"kind": "full"}}, {"nodes": 500},
    {"nodes": 2, "topology": {**REGULAR, "degree": 1}},
    {"nodes": 1, "topology": {**REGULAR, "degree": 4}}, {"nodes": 4, "topology": {**REGULAR, "degree": 3}},
    {"nodes": 50, "broadcast": {"relay": "none"}, "discovery": {"mode": "seeds"}},
    {"identity": {"ttl": "15m", "renewBefore": "5 m"}},
    {"identity": {**CERT_MANAGER, "ttl": "1h"}}, {"broadcast": {"pushBelow": 0}}, {"broadcast": {"pushBelow": "1.5 KiB"}},
    {"broadcast": {"artifactBytesMax": "128MiB", "keep": "1s"}}, {"faults": [{"name": "slow", "latency": "10us"}]},
    {"faults": [{"name": "still", "from": "node-0", "pause": True}]},
    {"network": {"preset": "ic-lhg73", "lossMax": "5%", "default": {"jitter": "3ms", "lossBurst": 4.0}}},
    {"network": {"preset": "aws", "default": {"keepOrder": False, "bandwidth": "50Mbit", "queue": "64KiB"}}},
    {"network": {"access": {"up": "1Mbit", "queue": "64KiB", "discipline": "codel", "groups": {"node": {}}}}},
    {"network": {"default": {"latency": "10ms", "jitter": "10ms", "distribution": "uniform", "keepOrder": False}}},
    {"network": {"rules": [{"latency": "1h", "jitter": "28m", "loss": "50%", "lossBurst": 1.5, "mtu": 1280}] * 64}},
    {"network": {"default": {"loss": "1%", "keepOrder": True, "distribution": "normal", "discipline": "droptail",
                             "lossBurst": 1.0}}},
    {"faults": [{"name": "a", "kill": True, "from": "*"}, {"name": "b", "kill": True, "from": "node-0", "for": "30s"},
                {"name": "c", "restart": True, "from": "node-0", "after": "0s"}, {"name": "d", "churn": {"rate": "6/m"}},
                {"name": "e", "block": True, "bothWays": True, **ENDS}, {"name": "f", "access": {"down": "1Mbit"}},
                {"name": "g", "partition": {"groups": ["node-0"]}}, {"name": "h", "partition": {"minority": "50%"}}]},
    {"faults": [{"name": f"f{index}", "latency": "90ms", "jitter": "5ms", "after": "30d"} for index in range(64)]},
    {"lab": {"storage": "1Gi",
             "resources": {"requests": {"cpu": "1500m", "memory": "1.5Gi"}, "limits": {"cpu": 2, "memory": "2e9"}}}},
    {"pod": {"resources": {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": "1"}},
             "nodeSelector": {"kubernetes.io/hostname": "node-1", "X.y_z": ""},
             "tolerations": [{"operator": "Exists"},
                             {"key": "a.b/c", "value": "d", "effect": "NoExecute", "tolerationSeconds": 0}]}},
    *({"pod": both(key, amount)} for key, amount in (
        ("nvidia.com/gpu", "2.0"), ("example.com/fuse", "1k"), ("requests-of.x.com/gpu", "1"), ("hugepages-2Mi", "4Mi"),
        ("hugepages-2Mi", "0.5Gi"), ("hugepages-64Ki", 0), ("hugepages-999999Ti", "9e99"), ("hugepages-2Mi", (1 << 53) + 1))),
    {"pod": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "myp2pnet.io/x": "y"}}},
    {"groups": [{"name": "a", "nodes": 1, "env": {".A": "", "_..": ""}}]},
    {"groups": [{"name": "a", "nodes": 1, "env": {"LOG.level-1": "=", "_": ""}, "labels": {"example.com/zone": "a_b.c"}}]},
    {"ready": {"connected": "0.5%"}}, {"ready": {"connected": "00100.000 %"}}, {"ready": {"connected": "099.9%"}},
    *({"lab": {"storage": size}} for size in ("1000000GB", "1.1MB", "1.5 KiB", "0.0009765625Gi", "0.1kB", "931322Gi", "7.0B")),
    {"faults": [{"name": "short", "latency": "10us", "for": "100000us"}]},
    {"identity": {"ttl": "1.1h", "renewBefore": "65.9m"}},
    {"topology": {"kind": "edges", "edges": [["node-0", "node-1"], ["node-1", "node-2"]]}},
    {"topology": {"kind": "edges", "edgesFrom": {"configMap": "x"}}},
    {"pod": {"labels": {"team": "p2p", "example.com/x": "y"}, "annotations": {"sidecar.istio.io/inject": "false"},
             "priorityClassName": "low", "serviceAccountName": "nodes", "runtimeClassName": "gvisor",
             "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
             "containerSecurityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}},
]  # fmt: skip


@pytest.fixture
def namespace(control: Control) -> Iterator[str]:
    with control.place("refused") as place:
        yield place.name


def answers(control: Control, namespace: str, specs: list[dict[str, Any]]) -> list[list[Cause] | None]:
    """What the API server says to each document; None: it takes it."""
    path = path_of("subnets", namespace)
    return control.inside.do(ask_all(control.server, path, [document(spec) for spec in specs]))


def document(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "tried"}, "spec": spec}


def test_contradictions_are_refused_at_the_same_path_and_in_the_same_words(control: Control, namespace: str) -> None:
    for (spec, path), said in zip(REFUSED, answers(control, namespace, [spec for spec, _ in REFUSED]), strict=True):
        with pytest.raises(SpecError) as caught:
            load_subnet(document(spec))
        ours = str(caught.value)
        assert path in ours, (path, ours)
        assert any(cause.field == path and told(cause) in ours for cause in said or []), (spec, said, ours)


def told(cause: Cause) -> str:
    """What is wrong, without the value that the API server puts before it."""
    value = r'^Invalid value: (?:(?:"[^"]*"|object|array|integer|-?[0-9]+|map\[.*?\]|\{.*\}|\[.*\]): )?'
    return re.sub(value, "", cause.words)


def test_edges_in_a_file_are_for_the_command_line_which_writes_them_into_the_document(
    control: Control, namespace: str
) -> None:
    spec = {"topology": {"kind": "edges", "edgesFrom": {"file": "edges.txt"}}}
    [said] = answers(control, namespace, [spec])
    assert [cause.field for cause in said or []] == ["spec.topology.edgesFrom"]
    assert "only the command line reads a file" in (said or [])[0].words
    load_subnet(document(spec))


def test_wrong_shapes_are_refused_by_both(control: Control, namespace: str) -> None:
    for (spec, words), said in zip(SHAPES, answers(control, namespace, [spec for spec, _ in SHAPES]), strict=True):
        with pytest.raises(SpecError):
            load_subnet(document(spec))
        assert any(words in f"{cause.field}: {cause.words}" for cause in said or []), (spec, said)


def test_what_the_command_line_takes_is_taken(control: Control, namespace: str) -> None:
    for spec, said in zip(TAKEN, answers(control, namespace, TAKEN), strict=True):
        load_subnet(document(spec))
        assert said is None, (spec, said)


def test_kubectl_prints_what_is_wrong_with_its_path(control: Control, namespace: str) -> None:
    text = json.dumps(document({"groups": [{"name": "eu", "nodes": 1, "env": {"A=B": "x"}}]}))
    said = control.cluster.refused("create", "--dry-run=server", "-n", namespace, "-f", "-", text=text)
    assert "spec.groups[0].env: Invalid value: 'A=B' is no name of a variable: write letters" in said


def test_kubectl_explains_every_field_with_a_default_or_that_it_is_required(control: Control) -> None:
    for path in (
        "spec",
        "spec.pod",
        "spec.pod.securityContext",
        "spec.identity",
        "spec.groups",
        "status",
        "status.conditions",
    ):
        said = control.cluster.kubectl("explain", f"subnet.{path}")
        assert "<no description>" not in said, said
    assert "Default: 7d" in control.cluster.kubectl("explain", "subnet.spec.identity.ttl")
