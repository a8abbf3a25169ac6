"""Random publications, withdrawals, cuts and crashes; then quiet: what stayed is everywhere, and nothing leaks."""

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.broadcast.conftest import Net, Node


def disturb(net: "Net", nodes: "list[Node]", seconds: int, *, withdraw: float, size: int) -> None:
    for _ in range(seconds * 10):
        net.run(0.1)
        node = net.chance.choice(nodes)
        node.publish(bytes(net.chance.randrange(size)), keep_s=100_000)
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
        gauges, table = node.core.gauges(), node.core._table
        assert gauges["tasks"] == gauges["unvalidated"] == gauges["stashed"] == 0
        assert gauges["slots_in_use"] == len(node.core._sender.active)
        assert not node.core._charges._held
        assert not node.core._sender.delivery._requests
        for peer, rows in table.peers.items():
            if not rows.connection:
                continue
            announced = node.net.nodes[peer].core._sender.active
            assert set(rows.sources) <= set(announced)
    assert ids


@pytest.mark.parametrize("seed", range(4))
def test_a_full_mesh_converges_after_churn(make_net: "Callable[[int], Net]", seed: int) -> None:
    net = make_net(seed)
    nodes = net.mesh(4)
    net.drop = 0.05
    disturb(net, nodes, 10, withdraw=0.5, size=5000)
    quiet(net, nodes, list(combinations(nodes, 2)))
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


def test_few_slots_still_converge(make_net: "Callable[[int], Net]") -> None:
    net = make_net(9)
    nodes = net.mesh(3, slots_per_peer=300)
    disturb(net, nodes, 10, withdraw=0.8, size=2000)
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
