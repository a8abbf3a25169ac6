"""Whatever network and faults a document asks for: when all faults are over links are back, and the promise is kept."""

from random import Random
from typing import Any

import pytest
from tests.sim.documents import subnet

from p2pnet.model.errors import LocalError, SpecError
from p2pnet.sim.subnet_world import subnet_world
from p2pnet.subnet.spec import Subnet

SEEDS = range(24)


def some_fault(rng: Random, number: int) -> dict[str, Any]:
    who = rng.choice(["*", "30%", "group=b", "a-0", "a-0,a-1"])
    lasts = f"{rng.randrange(500, 25_000)}ms"
    kinds: list[dict[str, Any]] = [
        {"from": who, "kill": True, "for": lasts},
        {"from": who, "kill": True},
        {"from": who, "restart": True},
        {"from": who, "pause": True, "for": lasts},
        {
            "from": who,
            "churn": {"rate": f"{rng.randrange(5, 120)}/m", "down": f"{rng.randrange(200, 5_000)}ms"},
            "for": lasts,
        },
        {"from": who, "to": rng.choice(["*", "a-1"]), "block": True, "bothWays": rng.random() < 0.5, "for": lasts},
        {"partition": rng.choice([{"minority": "30%"}, {"groups": ["group=a", "group=b"]}]), "for": lasts},
        {"from": who, "loss": f"{rng.choice([5, 50, 100])}%", "for": lasts},
        {"from": who, "latency": f"{rng.randrange(1, 3_000)}ms", "for": lasts},
        {"from": who, "access": {"up": "100kbit"}, "for": lasts},
    ]
    return {"name": f"fault-{number}", "after": f"{rng.randrange(6_000)}ms", **rng.choice(kinds)}


def some_document(rng: Random) -> Subnet:
    """One that is without contradictions: a few draws may be needed."""
    while True:
        default: dict[str, Any] = {"latency": f"{rng.randrange(20, 200)}ms", "loss": f"{rng.choice([0, 1, 5])}%"}
        default |= rng.choice([{}, {"jitter": "5ms"}, {"jitter": "5ms", "keepOrder": False}, {"bandwidth": "20Mbit"}])
        spec: dict[str, Any] = {
            "groups": [{"name": "a", "nodes": rng.randrange(2, 8)}, {"name": "b", "nodes": rng.randrange(1, 5)}],
            "network": {"default": default, "access": rng.choice([{}, {"up": "5Mbit", "down": "20Mbit"}])},
            "faults": [some_fault(rng, number) for number in range(rng.randrange(1, 5))],
        }
        if rng.random() < 0.5:
            spec["topology"] = {"kind": rng.choice(["random-regular", "ring", "small-world"]), "degree": 4}
        try:
            return subnet(**spec)
        except SpecError:
            continue


@pytest.mark.parametrize("seed", SEEDS)
def test_when_all_faults_are_over_links_are_back_and_the_promise_is_kept(seed: int) -> None:
    rng = Random(f"any document {seed}")
    document = some_document(rng)
    world, _, faults, _ = subnet_world(document, seed=seed, client="blob", on_event=lambda *_: None)
    world.run(1)
    faults.begin(world.now)
    for _ in range(6):
        world.run(rng.random() * 2)
        while (due_s := faults.next_s()) is not None and due_s <= world.now:
            faults.advance(due_s)
        node = world.nodes[rng.choice(list(world.nodes))]
        try:
            node.publish(rng.randbytes(rng.choice([10, 700, 5_000, 70_000])))
        except LocalError:
            assert faults.has_down(node.name)
    while (due_s := faults.next_s()) is not None:
        world.run(max(0.0, due_s - world.now))
        faults.advance(due_s)
    world.run("60s")
    world.settle("10m")
    assert world.broken() == []
    assert sum(len(node.peers()) for node in world.nodes.values()) == 2 * len(world.links())
    assert not any(faults.has_down(name) for name in world.nodes)
