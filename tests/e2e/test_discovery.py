"""Discovery by seeds through the command line: everything a person does with a subnet works as under the registry."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Until = Callable[..., Any]


def write(person: Any, **spec: Any) -> None:
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}
    spec = {"discovery": {"mode": "seeds"}, **spec}
    (person.folder / "subnet.yaml").write_text(json.dumps({**document, "spec": spec}))


@pytest.fixture
def seeded(person: Any) -> Iterator[Any]:
    """Somebody with a subnet of four nodes, the first three of them everybody's seeds."""
    write(person, nodes=4)
    person.run("up", "-f", "subnet.yaml", inside=True)
    return person


def links(person: Any) -> tuple[int, int]:
    found = person.document("status", "demo")["links"]
    return found["up"], found["expected"]


def pid(person: Any, node: str) -> int:
    return int(person.member("demo", node)["pid"])


def inject(person: Any) -> None:
    report = person.document("inject", "demo", "--size", "2KiB", "--count", "2")
    assert report["verdict"] == "pass"
    assert report["reach"]["delivered"] == report["reach"]["expected"] > 0


def test_a_subnet_of_seeds_connects_delivers_grows_shrinks_and_keeps_its_mode(seeded: Any, until: Until) -> None:
    assert links(seeded) == (6, 6)
    config = json.loads((seeded.subnet("demo") / "nodes" / "node-3" / "node.json").read_bytes())
    ports = json.loads((seeded.subnet("demo") / "ports.json").read_bytes())
    assert config["seeds"] == [f"127.0.0.1:{ports[f'node-{number}']}" for number in range(3)]
    inject(seeded)
    write(seeded, nodes=6)
    seeded.run("up", "-f", "subnet.yaml", inside=True)
    until(lambda: links(seeded) == (15, 15))
    inject(seeded)
    write(seeded, nodes=2)
    seeded.run("up", "-f", "subnet.yaml", inside=True)
    until(lambda: links(seeded) == (1, 1))
    until(lambda: seeded.member("demo", "node-0")["peers"] == 1)
    inject(seeded)
    write(seeded, nodes=2, discovery={"mode": "registry"})
    what, *_ = seeded.run("up", "-f", "subnet.yaml", code=2, inside=True).error
    assert "discovery" in what


def test_seeds_that_die_come_back_and_a_newcomer_finds_everybody_through_them(seeded: Any, until: Until) -> None:
    before = {node: pid(seeded, node) for node in ("node-0", "node-1", "node-2")}
    for victim in before.values():
        os.kill(victim, signal.SIGKILL)
    until(lambda: all(seeded.member("demo", node)["pid"] not in (None, was) for node, was in before.items()))
    until(lambda: links(seeded) == (6, 6))
    write(seeded, nodes=5)
    seeded.run("up", "-f", "subnet.yaml", inside=True)
    until(lambda: links(seeded) == (10, 10))
    inject(seeded)


def test_a_lone_node_is_its_own_seed_and_packs_find_each_other(person: Any, until: Until) -> None:
    write(person, nodes=1, nodesPerPod=3)
    person.run("up", "-f", "subnet.yaml", inside=True)
    assert person.member("demo", "node-0")["state"] == "connected"
    write(person, nodes=7, nodesPerPod=3)
    person.run("up", "-f", "subnet.yaml", inside=True)
    until(lambda: links(person) == (21, 21))
    inject(person)
