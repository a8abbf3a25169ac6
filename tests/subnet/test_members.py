"""Packs, edges and the versions of a registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.model.registry import Member
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.members import (
    adversaries,
    cut_off,
    cut_off_notes,
    edge_count,
    edges_of,
    next_membership,
    pack_of,
    parse_edges,
    process_count,
    refused_everywhere,
)


def subnet(**spec):
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    return load_subnet(document)


def listed(*names: str) -> list[Member]:
    return [Member(name, f"spiffe://x/{name}", ["127.0.0.1:4000"]) for name in names]


def test_nodes_of_one_group_share_packs() -> None:
    packed = subnet(nodes=5, nodesPerPod=2, groups=[{"name": "next", "nodes": 3}])
    assert [pack_of(packed, f"node-{i}") for i in range(5)] == ["node-0", "node-0", "node-1", "node-1", "node-2"]
    assert pack_of(packed, "next-2") == "next-1"
    assert process_count(packed) == 5
    assert process_count(subnet(nodes=5)) == 5


@pytest.mark.parametrize(
    "topology",
    [
        {"kind": "full"}, {"kind": "ring"}, {"kind": "random-regular", "degree": 4}, {"kind": "small-world", "degree": 4},
        {"kind": "edges", "edges": [[f"node-{i}", f"node-{i + 1}"] for i in range(8)]},
    ],
)  # fmt: skip
def test_the_count_of_edges_is_that_of_the_edges_made(topology) -> None:
    document = subnet(nodes=9, topology=topology)
    edges = edges_of(document)
    assert edge_count(document) == (9 * 8 // 2 if edges is None else len(edges))


def test_edges_in_a_text_are_two_nodes_a_line() -> None:
    text = "# who knows whom\nnode-0 node-1\n\n  node-1\tnode-2  # back\n"
    assert parse_edges(text, "edges.txt") == [["node-0", "node-1"], ["node-1", "node-2"]]


def test_a_line_that_is_no_edge_is_named_by_file_and_number() -> None:
    with pytest.raises(SpecError, match=r"edges\.txt line 2 is no edge: 'node-1'"):
        parse_edges("node-0 node-1\nnode-1\n", "edges.txt")


def test_a_member_list_that_says_the_same_keeps_its_version() -> None:
    first = next_membership(listed("node-0", "node-1"), None, None)
    assert next_membership(listed("node-0", "node-1"), None, first) is first
    assert next_membership(listed("node-0", "node-1"), [("node-0", "node-1")], first).registry.version == 2


def test_a_version_never_goes_back_below_what_was_seen() -> None:
    first = next_membership(listed("node-0"), None, None, version_min=7)
    assert first.registry.version == 8
    again = next_membership(listed("node-0"), None, first, version_min=9)
    assert again.registry.version == 10


@given(st.lists(st.sets(st.sampled_from(["node-0", "node-1", "node-2", "node-3"]), min_size=1), min_size=1, max_size=8))
def test_whoever_leaves_is_listed_as_removed_until_it_returns(steps: list[set[str]]) -> None:
    before, ever = None, set()
    for step in steps:
        after = next_membership(listed(*sorted(step)), None, before)
        ever |= step
        assert {one.uri for one in after.registry.removed} == {f"spiffe://x/{name}" for name in ever - step}
        assert before is None or after is before or after.registry.version == before.registry.version + 1
        before = after


def test_adversaries_are_the_nodes_of_groups_that_do_not_behave() -> None:
    document = subnet(
        nodes=1,
        groups=[
            {"name": "liar", "nodes": 2, "behaviour": "lying"},
            {"name": "good", "nodes": 1},
            {"name": "none", "nodes": 0, "behaviour": "slow"},
            {"name": "old", "nodes": 1, "behaviour": "stale-certificate"},
        ],
    )
    assert [(one.group, one.behaviour, one.nodes) for one in adversaries(document)] == [
        ("liar", "lying", ["liar-0", "liar-1"]),
        ("old", "stale-certificate", ["old-0"]),
    ]
    assert refused_everywhere(document) == {"old-0"}


def test_somebody_must_be_honest() -> None:
    with pytest.raises(SpecError, match=r"spec\.groups: all nodes are adversaries"):
        subnet(nodes=0, groups=[{"name": "liar", "nodes": 2, "behaviour": "lying"}])


def test_links_with_members_apart_are_wanted_by_nobody() -> None:
    membership = next_membership(listed("a", "b", "c"), None, None)
    assert membership.all_wanted(["b"]) == {"a": ["c"], "b": [], "c": ["a"]}


def test_honest_nodes_behind_adversaries_are_cut_off() -> None:
    line = [["node-0", "node-1"], ["node-1", "node-2"], ["node-2", "liar-0"], ["liar-0", "node-3"]]
    document = subnet(
        nodes=4, groups=[{"name": "liar", "nodes": 1, "behaviour": "silent"}], topology={"kind": "edges", "edges": line}
    )
    assert cut_off(document) == ["node-3"]
    assert cut_off_notes(document) == [
        "node-3 is linked with the other honest nodes through adversaries only: nothing is promised there"
    ]
    assert cut_off(subnet(nodes=4, topology={"kind": "ring"})) == []
    assert cut_off_notes(subnet(nodes=4, groups=[{"name": "liar", "nodes": 1, "behaviour": "silent"}])) == []
