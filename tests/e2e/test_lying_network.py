"""Nodes whose network model lies: the canary finds out, the run ends invalid with exit code 5, and the rule is named.

The lies are planted from outside: Python imports `sitecustomize` from PYTHONPATH in every process, and this one replaces what
the model of a node puts in force by something else, as the file `lie` in the state directory says.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Person

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # some ten runs, each of which measures the network first

SITE = """
import os
from pathlib import Path

import msgspec


def lied(network, name, node):
    shapes, paths = [network.shape(peer) for peer in sorted(network.paths)], sorted(network.paths)
    change = msgspec.structs.replace
    if name == "off-by-one-row":
        shapes = shapes[1:] + shapes[:1]
    elif name == "delay-halved":
        shapes = [change(one, delay_ns=one.delay_ns // 2, jitter_ns=0) if one.jitter_ns else one for one in shapes]
    elif name == "jitter-ignored":
        shapes = [change(one, jitter_ns=0) for one in shapes]
    elif name == "loss-ignored":
        shapes = [change(one, loss=0.0) for one in shapes]
    elif name == "bandwidth-ignored":
        shapes = [change(one, bandwidth_bps=None) for one in shapes]
    elif name == "leaks":
        shapes = [change(one, blocked=False, loss=0.5) if one.blocked else one for one in shapes]
    elif name == "gone":
        return type(network)(version=network.version)
    return change(network, shapes=shapes, paths={peer: index for index, peer in enumerate(paths)})


def patch():
    from p2pnet.netem.egress import Egress

    real = Egress.apply

    def apply(self, network, now_ns):
        for name in (Path(os.environ["P2PNET_STATE"]) / "lie").read_text().split():
            network = lied(network, name, self)
        real(self, network, now_ns)

    Egress.apply = apply


if os.environ.get("P2PNET_STATE"):
    patch()
"""
NETWORK: dict[str, Any] = {
    "default": {"latency": "100ms"},
    "rules": [
        {"from": "node-0", "latency": "160ms", "jitter": "10ms"},
        {"from": "node-1", "to": "node-2", "latency": "100ms", "loss": "20%"},
        {"from": "node-2", "to": "node-3", "latency": "100ms", "bandwidth": "10Mbit"},
        {"from": "node-3", "to": "node-1", "latency": "300ms"},
        {"from": "node-3", "to": "node-0", "latency": "200ms"},
    ],
}
LIES = (
    {"off-by-one-row": ("rules[3]", "node-3 to node-1 asked 300 ms")},
    {"delay-halved": ("rules[0]", "asked 160 ms, seen 8")},
    {
        "jitter-ignored": ("rules[0]", "asked a jitter of 10 ms"),
        "loss-ignored": ("rules[1]", "asked 20% loss, seen 0%"),
        "bandwidth-ignored": ("rules[2]", "asked 10 Mbit/s"),
    },
    {"gone": ("rules[3]", "asked 300 ms")},
)
"""Round by round: lies about different links are told together, as each of them must be found for itself."""


class Liars:
    """A subnet whose nodes lie as they are told."""

    def __init__(self, person: Person, folder: Path) -> None:
        self.person = person
        self.edits = 0
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITE)
        person.environment["PYTHONPATH"] = str(site)
        person.state.mkdir(exist_ok=True)
        (folder / "a.bin").write_bytes(b"x" * 1000)
        self.tell("honest")

    def tell(self, *lies: str) -> None:
        (self.person.state / "lie").write_text(" ".join(lies))

    def put(self, faults: list[dict[str, Any]] | None = None) -> None:
        """Put the document in force, with another figure that nobody measures, so that nodes are told anew."""
        self.edits += 1
        network = {**NETWORK, "default": {**NETWORK["default"], "mtu": 1400 + self.edits}}
        network["rules"] = [{**rule, "mtu": 1400 + self.edits} for rule in NETWORK["rules"]]
        document = {
            "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "liars"},
            "spec": {"nodes": 4, "network": network, "faults": faults or []},
        }  # fmt: skip
        (self.person.folder / "liars.json").write_text(json.dumps(document))
        self.person.run("up", "-f", "liars.json")

    def run(self, code: int) -> dict[str, Any]:
        """The report of a run that ends with this exit code."""
        return json.loads(self.person.run("inject", "liars", "a.bin", "-o", "json", code=code).out)


@pytest.fixture
def liars(person: Person) -> Liars:
    return Liars(person, person.folder)


def failed(report: dict[str, Any]) -> dict[str, str]:
    return {row["rule"]: row["problem"] for row in report["network"] if not row["ok"] and not row["worst"]}


def test_a_network_that_lies_makes_every_run_invalid_and_an_honest_one_none(liars):
    liars.put()
    honest = liars.run(0)
    assert failed(honest) == {}
    assert {row["rule"] for row in honest["network"]} == {"default", *(f"rules[{index}]" for index in range(5))}
    for lies in LIES:
        liars.tell(*lies)
        liars.put()
        report = liars.run(5)
        assert report["artifacts"] == 0  # nothing was injected
        for lie, (rule, words) in lies.items():
            assert words in failed(report)[rule], (lie, report["invalid"])
            assert any(one.startswith(f"network rule {rule} is not in force: ") for one in report["invalid"])


def test_a_node_that_forgets_its_faults_when_it_restarts_is_found_out(liars):
    liars.put()
    assert failed(liars.run(0)) == {}
    liars.tell("gone")
    liars.person.run("fault", "liars", "add", "restart", "node-3")
    report = liars.run(5)
    assert "node-3 to node-1 asked 300 ms" in failed(report).get("rules[3]", ""), report["invalid"]


def test_a_block_that_leaks_is_found_out(liars):
    liars.tell("leaks")
    liars.put([{"name": "cut", "from": "node-3", "to": "node-1", "block": True}])
    report = liars.run(5)
    assert "probes arrived" in failed(report)["rules[3] + fault cut"]
