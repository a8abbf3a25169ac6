"""What the API server refuses at `kubectl apply` it refuses at the path and in the words of the command line."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.control import Control

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import load_subnet

CERT_MANAGER = {"issuer": "certManager", "issuerRef": {"name": "x"}}
REGULAR = {"kind": "random-regular"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nodes": 0}, "spec.nodes"),
    ({"groups": [{"name": "node", "nodes": 1}]}, "spec.groups[0].name"),
    ({"nodes": 201, "topology": {"kind": "full"}}, "spec.topology.kind"),
    ({"nodes": 5, "topology": {**REGULAR, "degree": 5}}, "spec.topology.degree"),
    ({"nodes": 5, "topology": {**REGULAR, "degree": 3}}, "spec.topology.degree"),
    ({"nodes": 4, "groups": [{"name": "a", "nodes": 1}], "topology": {**REGULAR, "degree": 3}}, "spec.topology.degree"),
    ({"nodes": 4, "topology": {**REGULAR, "degree": 1}}, "spec.topology.degree"),
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
    ({"topology": {"kind": "ring"}, "discovery": {"mode": "seeds"}}, "spec.discovery.mode"),
    ({"nodes": 51, "discovery": {"mode": "seeds"}}, "spec.discovery.mode"),
    ({"identity": {"ttl": "5m"}}, "spec.identity.ttl"),
    ({"identity": {"ttl": "3651d"}}, "spec.identity.ttl"),
    ({"identity": {"renewBefore": "8d"}}, "spec.identity.renewBefore"),
    ({"identity": {"ttl": "1h", "renewBefore": "60m"}}, "spec.identity.renewBefore"),
    ({"identity": {"renewBefore": "0s"}}, "spec.identity.renewBefore"),
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
    ({"faults": [{"name": "both", "pause": True, "block": True}]}, "spec.faults[0].pause"),
    ({"faults": [{"name": "both", "pause": True, "to": "node-1"}]}, "spec.faults[0].pause"),
    ({"ready": {"within": "2d"}}, "spec.ready.within"),
    ({"ttl": "59s"}, "spec.ttl"),
]  # fmt: skip
SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"groups": [{"name": "a", "nodes": 1, "labels": {"group": "x"}}]}, "is set by p2pnet"),
    ({"ready": {"connected": "101%"}}, "100%"),
    ({"lab": {"storage": "much"}}, "emptyDir"),
    ({"pod": {"labels": {"p2pnet.io/subnet": "other"}}}, "p2pnet.io"),
    ({"pod": {"annotations": {"kubernetes.io/x": "other"}}}, "kubernetes.io"),
    ({"groups": [{"name": "a", "nodes": 1, "pod": {"labels": {"app.kubernetes.io/name": "x"}}}]}, "p2pnet.io"),
    ({"pod": {"securityContext": {"runAsUser": -1}}}, "runAsUser"),
    ({"pod": {"priorityClassName": "Not A Name"}}, "priorityClassName"),
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
    {"faults": [{"name": "still", "from": "node-0", "pause": True}]}, {"lab": {"storage": "1Gi"}},
    {"ready": {"connected": "0.5%"}},
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


def answers(control: Control, namespace: str, specs: list[dict[str, Any]]) -> list[str]:
    """What the API server says to each document, in one process for all."""
    script = (
        'while IFS= read -r line; do printf %s "$line" | kubectl create --dry-run=server -n "$0" -f - 2>&1'
        ' | tr "\\n" " "; echo; done'
    )
    text = "".join(f"{json.dumps(document(spec))}\n" for spec in specs)
    found = control.cluster.run("bash", "-c", script, namespace, text=text).splitlines()
    assert len(found) == len(specs)
    return found


def document(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "tried"}, "spec": spec}


def test_contradictions_are_refused_at_the_same_path_and_in_the_same_words(control: Control, namespace: str) -> None:
    for (spec, path), said in zip(REFUSED, answers(control, namespace, [spec for spec, _ in REFUSED]), strict=True):
        with pytest.raises(SpecError) as caught:
            load_subnet(document(spec))
        ours = str(caught.value)
        assert "is invalid" in said, (spec, said)
        assert path in ours, (path, ours)
        assert any(place == path and words in ours for place, words in told(said)), (spec, said, ours)


def told(said: str) -> list[tuple[str, str]]:
    """Paths and words in what kubectl prints about an invalid object."""
    one_by_one = re.split(r"(?:, | \* |\[)(?=spec)", said.partition("is invalid: ")[2])
    parts = [re.match(r"(spec[^:]*): Invalid value: (.*)", one.strip(" *]")) for one in one_by_one]
    found = [(part.group(1), part.group(2)) for part in parts if part]
    return [
        (path, re.sub(r'^(?:"[^"]*"|object|array|integer|-?[0-9]+|map\[.*?\]|\{.*\}|\[.*\]): ', "", words).strip())
        for path, words in found
    ]


def test_wrong_shapes_are_refused_by_both(control: Control, namespace: str) -> None:
    for (spec, words), said in zip(SHAPES, answers(control, namespace, [spec for spec, _ in SHAPES]), strict=True):
        with pytest.raises(SpecError):
            load_subnet(document(spec))
        assert "is invalid" in said, (spec, said)
        assert words in said, (spec, said)


def test_what_the_command_line_takes_is_taken(control: Control, namespace: str) -> None:
    for spec, said in zip(TAKEN, answers(control, namespace, TAKEN), strict=True):
        load_subnet(document(spec))
        assert "created" in said, (spec, said)


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
