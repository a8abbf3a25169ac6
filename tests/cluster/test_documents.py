"""Which documents the real API server refuses, and what becomes of those that only a reconcile can judge."""

import json
from typing import Any

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, conditions, until

UNUSUAL = {
    "nodes": 4, "identity": {"trustDomain": "testing"}, "discovery": {"mode": "seeds"}, "nodesPerPod": 2, "seed": 7,
}  # fmt: skip


def document(name: str = "wrong", **spec: Any) -> str:
    """A Subnet that is paused, so that nothing comes of it."""
    metadata = {"name": name, "annotations": {"p2pnet.io/paused": "true"}}
    return json.dumps({"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": metadata, "spec": spec})


def groups(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"g{number}", "nodes": 1, **more} for number in range(count)]


REFUSED: list[tuple[str, str, str]] = [
    (document("a" * 41), "metadata.name", "40"),
    (document("Demo"), "metadata.name", ""),
    (document("4ever"), "metadata.name", ""),
    (document(nodes=501), "spec.nodes", "500"),
    (document(nodes=-1), "spec.nodes", "0"),
    (document(nodes=0), "spec", "1 to 500 nodes"),
    (document(nodes=300, groups=[{"name": "more", "nodes": 201}]), "spec", "1 to 500 nodes"),
    (document(colour="red"), "spec.colour", "unknown field"),
    (document(image="x" * 254), "spec.image", "253"),
    (document(groups=groups(17)), "spec.groups", "16"),
    (document(groups=[{"name": "a" * 13, "nodes": 1}]), "spec.groups[0].name", ""),
    (document(groups=[{"name": "node", "nodes": 1}]), "spec", "choose another name"),
    (document(groups=[*groups(1), *groups(1)]), "spec.groups[1]", "Duplicate"),
    (document(groups=groups(1, behaviour="mean")), "spec.groups[0].behaviour", ""),
    (document(nodes=0, groups=groups(2, behaviour="lying")), "spec.groups", "all nodes are adversaries"),
    (document(topology={"kind": "star"}), "spec.topology.kind", "Unsupported value"),
    (document(topology={"kind": "full", "degree": 4}), "spec.topology.degree", "no degree"),
    (document(topology={"kind": "ring", "degree": 3}), "spec.topology.degree", "even"),
    (document(topology={"kind": "ring", "edges": [["a", "b"]]}), "spec.topology.edges", "kind edges"),
    (document(topology={"kind": "edges", "edges": [["a", "b"]] * 10_001}), "spec.topology.edges", "10000"),
    (document(topology={"kind": "ring"}, discovery={"mode": "seeds"}), "spec.discovery.mode", "sparse"),
    (document(topology={"kind": "ring"}, broadcast={"relay": "none"}), "spec.broadcast.relay", "sparse"),
    (document(identity={"issuer": "certManager"}), "spec.identity.issuerRef", "certManager"),
    (document(identity={"trustDomain": "UPPER"}), "spec.identity.trustDomain", ""),
    (document(broadcast={"keep": 10}), "spec.broadcast.keep", "string"),
    (document(network={"rules": [{"from": "a", "to": "b"}] * 65}), "spec.network.rules", "64"),
    (document(faults=[{"name": f"f{i}", "block": True} for i in range(65)]), "spec.faults", "64"),
    (document(clients=[{"name": f"c{i}"} for i in range(9)]), "spec.clients", "8"),
    (document(nodesPerPod=0), "spec.nodesPerPod", ""),
]

CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"identity": {"trustDomain": "other"}}, "spec.identity.trustDomain"),
    ({"identity": {"issuer": "certManager", "issuerRef": {"name": "x"}}}, "spec.identity.issuer"),
    ({"discovery": {"mode": "registry"}}, "spec.discovery.mode"),
    ({"nodesPerPod": 3}, "spec.nodesPerPod"),
    ({"seed": 8}, "spec.seed"),
    ({"identity": {"trustDomain": None}}, "spec.identity.trustDomain"),
    ({"identity": None}, "spec.identity.trustDomain"),
    ({"discovery": None}, "spec.discovery.mode"),
    ({"nodesPerPod": None}, "spec.nodesPerPod"),
    ({"seed": None}, "spec.seed"),
]


def test_the_api_server_refuses_a_document_that_cannot_be(operator: Cluster, namespace: str) -> None:
    """One process for all of them: they are created in one go, and each is refused by itself."""
    script = (
        'while IFS= read -r line; do printf %s "$line" | kubectl create -n "$0" -f - 2>&1 | tr "\\n" " "; echo; done'
    )
    text = "".join(f"{one}\n" for one, _, _ in REFUSED)
    answers = operator.run("bash", "-c", script, namespace, text=text).splitlines()
    assert len(answers) == len(REFUSED)
    for (one, path, why), answer in zip(REFUSED, answers, strict=True):
        assert path in answer, (one[:200], answer)
        assert why in answer, (one[:200], answer)
        assert "created" not in answer, (one[:200], answer)
    assert not operator.get("subnets", "--namespace", namespace)


def test_what_never_changes_is_refused_also_when_it_is_taken_away(operator: Cluster, namespace: str) -> None:
    operator.apply(document("fixed", **UNUSUAL), namespace)
    for change, path in CHANGES:
        patch = f"--patch={json.dumps({'spec': change})}"
        said = operator.refused("patch", "subnet", "fixed", "--namespace", namespace, "--type=merge", patch)
        assert f"{path}: Invalid value" in said, (change, said)
        assert f"{path.removeprefix('spec.')} cannot be changed" in said, (change, said)
    operator.kubectl("patch", "subnet", "fixed", "-n", namespace, "--type=merge", '--patch={"spec": {"nodes": 5}}')


@pytest.mark.parametrize(
    ("wrong", "right", "path"),
    [
        ({"topology": {"kind": "edges", "edges": [["node-0", "node-9"]]}}, {"topology": None}, "spec.topology.edges"),
        (
            {"topology": {"kind": "edges", "edges": [["node-0", "node-1"]]}},
            {"topology": None},
            "leave the subnet in pieces",
        ),
    ],
)
def test_a_document_that_only_a_reconcile_can_refuse_keeps_the_last_good_state_running(
    operator: Cluster, namespace: str, wrong: dict[str, Any], right: dict[str, Any], path: str
) -> None:
    demo = Demo(operator, namespace, {"nodes": 2})
    demo.until_ready(2)
    before = demo.uids()
    demo.patch({**wrong, "nodes": 3})

    def refused() -> dict[str, Any] | None:
        found = {one["type"]: one for one in demo.status()["conditions"]}
        return found["Degraded"] if found["Degraded"]["status"] == "True" else None

    degraded = until(refused, "the status says what is wrong")
    assert degraded["reason"] == "InvalidSpec"
    assert path in degraded["message"]
    assert demo.uids() == before
    until(lambda: "p2pnet_node_peers 1.0" in demo.page("demo-node-0"), "two nodes go on as they were")
    demo.kubectl("delete", "pod", "demo-node-1", "--wait=true")
    after = demo.until_pods(2)
    assert {name for name in after if after[name] != before[name]} == {"demo-node-1"}, "it is made again as it was"
    until(lambda: demo.status()["nodes"] == {"desired": 2, "ready": 2, "connected": 2}, "both are connected again")
    assert demo.p2pnet("inject", "demo")["verdict"] == "pass"
    assert refused() is not None
    demo.patch({**right, "nodes": 2})
    demo.until_ready(2)
    until(lambda: conditions(demo.subnet())["Degraded"] == "False", "nothing is wrong any more")
    assert demo.uids() == after
