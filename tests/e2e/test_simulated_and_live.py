"""One document and one load on live nodes and in virtual time: the same verdict, the same receipts, the same network."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from p2pnet.sim.simulate import SimLoad, simulate
from p2pnet.subnet.document import load_subnet

pytestmark = pytest.mark.alone

RULES = [
    {"from": "node-0", "to": "group=far", "latency": "800ms"},
    {"from": "group=far", "to": "node-0", "latency": "400ms"},
]
SPLIT = {"name": "split", "partition": {"groups": ["node-0,node-1", "group=far"]}}


def written(faults: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {"nodes": 2, "groups": [{"name": "far", "nodes": 3}], "network": {"rules": RULES}, "faults": faults}
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}


def receipts(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {one["node"]: (one["received"], one["expected"]) for one in report["per_node"]}


@pytest.mark.parametrize(("faults", "verdict", "code"), [([], "pass", 0), ([SPLIT], "fail", 1)])
def test_live_nodes_and_the_simulator_agree(
    person: Any, until: Callable[..., Any], faults: list[dict[str, Any]], verdict: str, code: int
) -> None:
    document = written(faults)
    file = person.folder / "subnet.yaml"
    file.write_text(yaml.safe_dump(document))
    person.run("up", "-f", str(file), *(["--no-wait"] if faults else []), inside=True)
    until(lambda: person.document("status", "demo")["nodes"]["ready"] == 5)
    live = person.document(
        "inject",
        "demo",
        "--size",
        "2KiB",
        "--count",
        "3",
        "--from",
        "node-0",
        "--seed",
        "5",
        "--within",
        "6s",
        code=code,
    )
    load = SimLoad(payloads=[("2KiB", 2048)], count=3, sender="node-0", within_s=6.0)
    simulated = simulate(load_subnet(document), load, seed=5).report

    assert live["verdict"] == simulated.verdict == verdict
    assert receipts(live) == {one.node: (one.received, one.expected) for one in simulated.per_node}
    assert live["unknown"] == simulated.unknown == 0
    assert live["hops"]["max"] == simulated.hops.max == 1
    assert [one["name"] for one in live["faults"]] == [one.name for one in simulated.faults]
    there = {row["rule"]: row["asked"] for row in live["network"]}
    for row in simulated.network:
        if row.rule in there:
            assert there[row.rule]["delay_ms"] == row.asked.delay_ms
    if not faults:
        assert simulated.latency_ms.max == pytest.approx(800, abs=1)
        assert live["latency_ms"]["max"] >= simulated.latency_ms.max
