"""Beacons in a world: heights grow at all nodes alike, pools stay small, and several nodes aggregate."""

from typing import Any

import pytest

from p2pnet.broadcast import ArtifactId, BeaconClient, BroadcastSettings, Inspected
from p2pnet.broadcast.beacon import Aggregate, BeaconShare
from p2pnet.sim import Node, World

HEIGHTS = 20


def beacons(count: int, seed: int = 3, threshold: int = 3, **link) -> World:
    world = World(seed)
    for number in range(count):
        world.node(f"n{number}", client=lambda node: BeaconClient(node, threshold=threshold, heights=HEIGHTS))
    world.full_mesh(**{"delay": "50ms", "jitter": "40ms"} | link)
    return world


def height(node: Node) -> int:
    client = node.client
    assert isinstance(client, BeaconClient)
    return client.height


def held(node: Node, kind: type[BeaconShare | Aggregate]) -> list[Any]:
    """The contents of this kind in its pool."""
    contents = (found.inspected.content for found in node.core.pool.validated.values())
    return [content for content in contents if isinstance(content, kind)]


@pytest.mark.parametrize("count", [4, 7])
def test_beacons_make_twenty_heights_and_all_end_at_the_same(count: int) -> None:
    world = beacons(count)
    most = 0
    for _ in range(60):
        world.run("1s")
        heights = [height(node) for node in world.nodes.values()]
        assert max(heights) - min(heights) <= 1
        most = max(most, *(len(node.held()) for node in world.nodes.values()))
    world.settle()
    assert {height(node) for node in world.nodes.values()} == {HEIGHTS}
    last = [{tuple(aggregate.signers) for aggregate in held(node, Aggregate)} for node in world.nodes.values()]
    assert last[0]
    assert all(signers == last[0] for signers in last)
    assert most <= 3 * (count + 2)  # the shares and the aggregates of three heights
    assert world.broken() == []


def test_several_nodes_aggregate_and_others_get_it_from_them() -> None:
    world = beacons(5)
    world.run("60s")
    published = [node.counters["publications"] for node in world.nodes.values()]
    fetched = [node.counters["received"] for node in world.nodes.values()]
    assert min(published) >= HEIGHTS  # a share of each height
    assert len([count for count in published if count > HEIGHTS]) >= 3
    assert min(fetched) > HEIGHTS


class Unhurried(BeaconClient):
    """Advertises, so that everybody else has to fetch."""

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:
        return False


def test_a_node_that_aggregates_what_it_is_just_fetching_goes_on_with_its_own() -> None:
    world = World(seed=5)
    for number in range(6):
        world.node(
            f"n{number}",
            client=lambda node: Unhurried(node, threshold=3, heights=HEIGHTS),
            settings=BroadcastSettings(push_below=0),
        )
    world.full_mesh(delay="50ms", jitter="50ms")
    world.run("60s")
    world.settle()
    assert {height(node) for node in world.nodes.values()} == {HEIGHTS}
    assert sum(node.counters["produced_what_was_fetched"] for node in world.nodes.values()) > 0
    assert world.broken() == []


def test_a_beacon_that_was_away_takes_the_aggregate_and_goes_on_with_the_others() -> None:
    world = beacons(4, threshold=2)
    world.run("4s")
    world.nodes["n3"].crash()
    world.run("8s")
    behind = height(world.nodes["n0"])
    world.nodes["n3"].restart()
    world.run("60s")
    assert 0 < behind < HEIGHTS
    assert {height(node) for node in world.nodes.values()} == {HEIGHTS}
    world.settle()
    assert world.broken() == []


def test_shares_go_no_further_than_to_the_signers_peers() -> None:
    world = World(seed=1)
    for name in "abc":
        world.node(name, client=lambda node: BeaconClient(node, threshold=3, heights=1))
    world.link("a", "b")
    world.link("b", "c")
    world.run("10s")
    signers = {name: {share.signer for share in held(node, BeaconShare)} for name, node in world.nodes.items()}
    assert signers == {"a": {"a", "b"}, "b": {"a", "b", "c"}, "c": {"b", "c"}}
    assert {height(node) for node in world.nodes.values()} == {1}  # by b's aggregate, which is passed on
