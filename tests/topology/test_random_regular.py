"""Random regular graphs have their degree, are connected, and change little when a node comes anywhere."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.topology import degree_range, is_connected
from p2pnet.topology.graphs import Edge
from p2pnet.topology.random_regular import grow_anywhere, grow_at_end

BUILDERS = [grow_at_end, grow_anywhere]
SIZES = st.tuples(st.integers(4, 50), st.integers(2, 10)).filter(
    lambda pair: pair[1] < pair[0] and pair[0] * pair[1] % 2 == 0
)


def names(count: int) -> list[str]:
    return [f"node-{index:02}" for index in range(count)]


@pytest.mark.parametrize("build", BUILDERS)
@settings(max_examples=50)
@given(SIZES, st.integers(0, 1000))
def test_every_node_has_exactly_the_degree_and_reaches_all_others(
    build: Callable[[list[str], int, int], list[Edge]], size: tuple[int, int], seed: int
) -> None:
    count, degree = size
    edges = build(names(count), degree, seed)
    assert degree_range(names(count), edges) == (degree, degree)
    assert is_connected(names(count), edges)
    assert len(set(edges)) == len(edges) == count * degree // 2


def test_a_node_at_the_end_takes_half_its_degree_in_edges() -> None:
    before, after = (set(grow_at_end(names(count), 4, 7)) for count in (20, 21))
    assert len(before - after) == 2
    assert {edge for edge in after - before if "node-20" not in edge} == set()


def test_a_node_in_the_middle_changes_few_edges_where_any_order_is_allowed() -> None:
    all_names = names(60)
    without = [name for name in all_names if name != "node-30"]
    lost = set(grow_anywhere(without, 4, 7)) - set(grow_anywhere(all_names, 4, 7))
    assert len(lost) <= 10  # of 118: two per layer, and a few that were swapped
