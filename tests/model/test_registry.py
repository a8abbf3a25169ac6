"""A membership says who belongs and whom each should be connected to."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.registry import Member, Membership, Registry, Removed

NAMES = [f"node-{index}" for index in range(6)]
edge_lists = st.none() | st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda edge: edge[0] < edge[1]), unique=True
)


def membership(names: list[str], edges: list[tuple[str, str]] | None) -> Membership:
    return Membership(Registry(1, [Member(name, f"spiffe://x/{name}", ["127.0.0.1:1"]) for name in names]), edges)


def test_without_edges_everybody_wants_everybody_else() -> None:
    assert membership(NAMES, None).wanted("node-2") == ["node-0", "node-1", "node-3", "node-4", "node-5"]
    assert membership(NAMES, None).edge_count() == 15


def test_an_edge_to_somebody_who_left_is_not_wanted() -> None:
    left = membership(["node-0", "node-1"], [("node-0", "node-1"), ("node-1", "node-2")])
    assert left.wanted("node-1") == ["node-0"]
    assert left.edge_count() == 1


@given(edge_lists)
def test_wanting_is_mutual_and_adds_up_to_the_edges(edges: list[tuple[str, str]] | None) -> None:
    made = membership(NAMES, edges)
    wanted = {name: made.wanted(name) for name in NAMES}
    assert all(name in wanted[peer] for name in NAMES for peer in wanted[name])
    assert made.all_wanted() == wanted
    assert all(name not in wanted[name] for name in NAMES)
    assert sum(map(len, wanted.values())) == 2 * made.edge_count()


@given(edge_lists, st.lists(st.builds(Removed, st.text(max_size=9), st.integers(0, 99)), max_size=3))
def test_a_membership_survives_both_codecs(edges: list[tuple[str, str]] | None, removed: list[Removed]) -> None:
    made = Membership(Registry(3, membership(NAMES, None).registry.members, removed), edges)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Membership) == made
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Membership) == made
