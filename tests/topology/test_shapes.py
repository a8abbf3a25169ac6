"""Every shape is connected, has the degree asked for, and grows without being turned over."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.topology import degree_range, diameter, edges, is_connected

Edges = list[tuple[str, str]]


def group(name: str, count: int) -> list[str]:
    return [f"{name}-{index}" for index in range(count)]


def nodes(count: int) -> list[str]:
    return group("node", count)


def made(kind: str, names: list[str], degree: int = 0, seed: int = 42) -> Edges:
    found = edges(kind, names, degree=degree, seed=seed)
    assert found is not None
    return found


def changed_per_node(before: Edges, after: Edges) -> int:
    """The most peers that one node has lost."""
    lost = Counter(name for edge in set(before) - set(after) for name in edge)
    return max(lost.values(), default=0)


counts_and_degrees = st.tuples(st.integers(3, 60), st.integers(2, 12)).filter(
    lambda pair: pair[1] < pair[0] and pair[0] * pair[1] % 2 == 0
)


def test_a_full_mesh_needs_no_list() -> None:
    assert edges("full", nodes(5)) is None


@pytest.mark.parametrize("kind", ["random-regular", "ring", "small-world", "edges"])
def test_one_node_alone_has_no_edges(kind: str) -> None:
    assert edges(kind, ["node-0"], degree=1) == []


@pytest.mark.parametrize("kind", ["random-regular", "ring", "small-world"])
def test_two_nodes_are_each_others_peers(kind: str) -> None:
    assert edges(kind, nodes(2), degree=1) == [("node-0", "node-1")]


@settings(deadline=None)
@given(counts_and_degrees, st.integers(0, 2**63 - 1), st.integers(0, 3))
def test_random_regular_gives_every_node_exactly_its_degree_and_is_connected(
    pair: tuple[int, int], seed: int, others: int
) -> None:
    count, degree = pair
    names = group("a", min(others, count)) + nodes(count - min(others, count))
    found = made("random-regular", names, degree, seed)
    assert degree_range(names, found) == (degree, degree)
    assert len(set(map(frozenset, found))) == len(found)
    assert is_connected(names, found)


@settings(deadline=None)
@given(st.sampled_from(["ring", "small-world"]), st.integers(3, 60), st.sampled_from([2, 4, 6]), st.integers(0, 1000))
def test_rings_and_small_worlds_are_connected_and_hold_their_lattice(
    kind: str, count: int, degree: int, seed: int
) -> None:
    assume(degree < count)
    names = nodes(count)
    found = made(kind, names, degree, seed)
    assert is_connected(names, found)
    assert degree_range(names, found)[0] >= degree
    if kind == "ring":
        assert degree_range(names, found) == (degree, degree)


@settings(deadline=None)
@given(st.integers(9, 80), st.integers(0, 1000))
def test_a_node_more_takes_at_most_one_peer_of_each_node(count: int, seed: int) -> None:
    before, after = (made("random-regular", nodes(size), 8, seed) for size in (count, count + 1))
    assert changed_per_node(before, after) <= 1
    assert len(set(before) - set(after)) == 4


@settings(deadline=None)
@given(st.integers(30, 80), st.integers(1, 10), st.integers(0, 1000))
def test_a_node_more_in_one_of_several_groups_changes_few_edges(count: int, others: int, seed: int) -> None:
    before = made("random-regular", group("next", others) + nodes(count), 8, seed)
    for names in (group("next", others + 1) + nodes(count), group("next", others) + nodes(count + 1)):
        after = made("random-regular", names, 8, seed)
        assert len(set(before) - set(after)) <= 40  # of 120 and more
        assert changed_per_node(before, after) <= 6


@pytest.mark.parametrize(("kind", "degree"), [("ring", 2), ("small-world", 4)])
def test_a_node_more_changes_few_edges_of_a_ring(kind: str, degree: int) -> None:
    before, after = (made(kind, nodes(size), degree) for size in (50, 51))
    assert changed_per_node(before, after) <= 3
    assert len(set(before) - set(after)) <= 6


@pytest.mark.parametrize("kind", ["random-regular", "small-world"])
def test_the_seed_decides_and_nothing_else(kind: str) -> None:
    assert made(kind, nodes(40), 4, 1) == made(kind, nodes(40), 4, 1)
    assert made(kind, nodes(40), 4, 1) != made(kind, nodes(40), 4, 2)


def test_edges_are_the_same_on_every_machine() -> None:
    ends = [(0, 1), (0, 4), (1, 3), (2, 4), (2, 5), (3, 5)]
    assert made("random-regular", nodes(6), 2, 7) == [(f"node-{a}", f"node-{b}") for a, b in ends]


@pytest.mark.parametrize("names", [nodes(500), group("a", 200) + nodes(300)])
def test_a_large_random_graph_is_narrow(names: list[str]) -> None:
    assert diameter(names, made("random-regular", names, 8)) <= 6


def test_a_small_world_is_far_narrower_than_its_ring() -> None:
    names = nodes(200)
    assert diameter(names, made("ring", names, 2)) == 100
    assert diameter(names, made("small-world", names, 2)) < 30


def test_given_edges_are_taken_each_once_in_the_order_of_the_names() -> None:
    given_edges = [("node-2", "node-1"), ("node-0", "node-1"), ("node-1", "node-0")]
    assert edges("edges", nodes(3), extra_edges=given_edges) == [("node-0", "node-1"), ("node-1", "node-2")]


@pytest.mark.parametrize(
    ("kind", "count", "degree", "extra", "message"),
    [
        ("random-regular", 5, 3, [], "odd"),
        ("random-regular", 4, 4, [], "cannot be among 4 nodes"),
        ("random-regular", 4, 1, [], "pairs"),
        ("random-regular", 4, 0, [], "0 peers"),
        ("ring", 5, 3, [], "either side"),
        ("small-world", 5, 3, [], "either side"),
        ("star", 5, 3, [], "one of full"),
        ("edges", 2, 0, [("node-0", "node-7")], "node-7"),
        ("edges", 2, 0, [("node-0", "node-0")], "own peer"),
        ("edges", 4, 0, [("node-0", "node-1"), ("node-2", "node-3")], "pieces"),
        ("edges", 2, 0, [], "pieces"),
    ],
)
def test_what_cannot_be_is_said(kind: str, count: int, degree: int, extra: Edges, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        edges(kind, nodes(count), degree=degree, extra_edges=extra)


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError, match="same name"):
        edges("full", ["node-0", "node-0"])
