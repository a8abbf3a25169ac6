"""Random publications, withdrawals, cuts and crashes; then quiet: what stayed is everywhere, and nothing leaks."""

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from tests.broadcast.kit import footprint

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node

LONG_S = 100_000


def disturb(
    net: "Net", nodes: "list[Node]", seconds: int, *, withdraw: float, size: int, keep_s: float = LONG_S
) -> None:
    for _ in range(seconds * 10):
        net.run(0.1)
        node = net.chance.choice(nodes)
        node.publish(bytes(net.chance.randrange(size)), keep_s=keep_s)
        if net.chance.random() < withdraw and node.core.pool.ids():
            artifact = net.chance.choice(node.core.pool.ids())
            for other in nodes:  # as the lab does
                other.withdraw(artifact)
        if net.chance.random() < 0.1:
            a, b = net.chance.sample(nodes, 2)
            if b.name in a.connections:
                net.cut(a, b)
            else:
                net.link(a, b)


def quiet(net: "Net", nodes: "list[Node]", edges: "list[tuple[Node, Node]]") -> None:
    net.drop = 0.0
    for a, b in edges:
        if b.name not in a.connections:
            net.link(a, b)
    net.run(200)


def check(nodes: "list[Node]") -> None:
    ids = {artifact for node in nodes for artifact in node.core.pool.ids()}
    for node in nodes:
        assert set(node.core.pool.ids()) == ids
        gauges = node.core.gauges()
        assert gauges["tasks"] == gauges["unvalidated"] == gauges["stashed"] == 0
        assert gauges["slots_in_use"] <= gauges["validated"]
        assert gauges["publications_waiting"] == gauges["relays_waiting"] == 0
        assert [node.core.quota_used(other.name) for other in nodes] == [0] * len(nodes)
        assert node.core.pending() == []
        assert node.core.at_rest
    said = [len(node.log) for node in nodes]
    nodes[0].net.run(1000)
    assert [len(node.log) for node in nodes] == said
    assert ids


@pytest.mark.parametrize("size", [5000, 300_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_full_mesh_converges_after_churn(make_net: "Callable[[int], Net]", seed: int, size: int) -> None:
    net = make_net(seed)
    nodes = net.mesh(4)
    net.drop = 0.05
    disturb(net, nodes, 10, withdraw=0.5, size=size)
    quiet(net, nodes, list(combinations(nodes, 2)))
    check(nodes)


def test_a_full_mesh_of_many_converges_although_links_stay_down(make_net: "Callable[[int], Net]") -> None:
    net = make_net(8)
    nodes = net.mesh(9)
    net.tell_members()
    net.drop = 0.05
    disturb(net, nodes, 10, withdraw=0.3, size=5000)
    quiet(net, nodes, [(nodes[i], nodes[i - 1]) for i in range(9)])
    check(nodes)


@pytest.mark.parametrize("relay", ["auto", "advert", "push"])
@pytest.mark.parametrize("seed", range(2))
def test_a_ring_converges_after_churn(make_net: "Callable[[int], Net]", seed: int, relay: str) -> None:
    net = make_net(seed)
    nodes = [net.node(f"n{i}", full_mesh=False, relay=relay) for i in range(6)]
    edges = list(zip(nodes, nodes[1:] + nodes[:1], strict=True))
    for a, b in edges:
        net.link(a, b)
    net.drop = 0.05
    disturb(net, nodes, 10, withdraw=0.2, size=200_000)
    quiet(net, nodes, edges)
    check(nodes)


@pytest.mark.parametrize("full_mesh", [True, False])
def test_few_slots_still_converge(make_net: "Callable[[int], Net]", full_mesh: bool) -> None:
    net = make_net(9)
    nodes = net.mesh(3, slots_per_peer=300, full_mesh=full_mesh)
    disturb(net, nodes, 10, withdraw=0.8, size=2000)
    quiet(net, nodes, list(combinations(nodes, 2)))
    check(nodes)


@pytest.mark.parametrize("full_mesh", [True, False])
def test_tiny_quotas_still_converge(make_net: "Callable[[int], Net]", full_mesh: bool) -> None:
    net = make_net(10)
    nodes = net.mesh(4, full_mesh=full_mesh, unvalidated_bytes_per_peer=200_000)
    net.drop = 0.05
    disturb(net, nodes, 10, withdraw=0.2, size=400_000)
    quiet(net, nodes, list(combinations(nodes, 2)))
    check(nodes)


def test_a_node_that_crashes_and_returns_converges(make_net: "Callable[[int], Net]") -> None:
    net = make_net(3)
    nodes = net.mesh(4)
    disturb(net, nodes, 5, withdraw=0.2, size=3000)
    net.crash(nodes[0])
    disturb(net, nodes[1:], 3, withdraw=0.2, size=3000)
    nodes[0] = net.node("n0", seed=1)
    quiet(net, nodes, list(combinations(nodes, 2)))
    check(nodes)


# What is left behind

REUSED = ("slots._free", "_sender.contents", "_digests._log", "_context.counters")  # all of which are bounded


def left(node: "Node", fresh: "Node") -> dict[str, int]:
    """What its core holds and a new one does not."""
    before = footprint(fresh.core)
    after = {
        place.removeprefix("Broadcast."): size for place, size in footprint(node.core).items() if place not in before
    }
    return {place: size for place, size in after.items() if not place.endswith(REUSED)}


@pytest.mark.parametrize("full_mesh", [True, False])
def test_a_node_whose_peers_left_and_whose_artifacts_expired_holds_nothing(
    make_net: "Callable[[int], Net]", full_mesh: bool
) -> None:
    net = make_net(3)
    nodes = net.mesh(4, full_mesh=full_mesh, unvalidated_bytes_per_peer=300_000)
    net.drop = 0.1
    disturb(net, nodes, 20, withdraw=0.3, size=300_000, keep_s=50)
    for a, b in combinations(nodes, 2):
        net.cut(a, b)
    net.run(2000)
    fresh = net.node("fresh")
    assert [left(node, fresh) for node in nodes] == [{}] * 4


@pytest.mark.parametrize("full_mesh", [True, False])
def test_the_tenth_hour_leaves_no_more_than_the_second(make_net: "Callable[[int], Net]", full_mesh: bool) -> None:
    net = make_net(4)
    nodes = net.mesh(4, full_mesh=full_mesh, slots_per_peer=40, unvalidated_bytes_per_peer=300_000)
    edges = list(combinations(nodes, 2))
    sizes = []
    for _ in range(10):
        net.drop = 0.1
        disturb(net, nodes, 6, withdraw=0.3, size=300_000, keep_s=30)
        quiet(net, nodes, edges)
        net.run(3400)
        sizes.append(sum(sum(footprint(node.core).values()) for node in nodes))
    assert max(sizes[2:]) <= 1.3 * max(sizes[:2])
