"""The hash tree of a part: any run of leaves is proven by itself, and nothing else is."""

from hashlib import blake2b
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.artifact import hash_part
from p2pnet.broadcast.merkle import (
    LEAF_BYTES,
    NODE_BYTES,
    Node,
    Unproven,
    climb,
    height,
    leaf_count,
    part_root,
    proof,
    run_hash,
    tree,
)
from p2pnet.model.limits import PART_BYTES

LENGTHS = st.integers(1, PART_BYTES)


def part_of(length: int) -> bytes:
    return Random(length).randbytes(length)


def run_of(part: bytes, level: int, index: int) -> memoryview:
    start = (index << level) * LEAF_BYTES
    return memoryview(part)[start : start + (LEAF_BYTES << level)]


@st.composite
def parts_and_nodes(draw: st.DrawFn) -> tuple[bytes, Node]:
    part = part_of(draw(LENGTHS))
    level = draw(st.integers(0, height(leaf_count(len(part)))))
    return part, (level, draw(st.integers(0, (leaf_count(len(part)) - 1) >> level)))


@given(st.binary(max_size=LEAF_BYTES))
def test_a_part_of_one_leaf_hashes_as_plain_bytes_do(part: bytes) -> None:
    assert part_root(part) == hash_part(part) == blake2b(part, digest_size=32).digest()


@given(parts_and_nodes())
def test_every_run_is_proven_by_its_siblings_alone(given_: tuple[bytes, Node]) -> None:
    part, node = given_
    leaves = leaf_count(len(part))
    known = {(height(leaves), 0): part_root(part)}
    siblings = proof(tree(part), node, set())
    assert len(siblings) <= NODE_BYTES * height(leaves)
    assert climb(node, run_hash(run_of(part, *node), node[0], leaves), siblings, leaves, known)


@given(parts_and_nodes(), st.data())
def test_a_run_with_a_changed_byte_is_proven_by_nothing(given_: tuple[bytes, Node], data: st.DataObject) -> None:
    part, node = given_
    leaves = leaf_count(len(part))
    wrong = bytearray(run_of(part, *node))
    wrong[data.draw(st.integers(0, len(wrong) - 1))] ^= data.draw(st.integers(1, 255))
    known = {(height(leaves), 0): part_root(part)}
    before = dict(known)
    assert not climb(node, run_hash(wrong, node[0], leaves), proof(tree(part), node, set()), leaves, known)
    assert known == before, "a wrong run must prove nothing for those after it"


@given(LENGTHS, st.data())
def test_runs_in_order_need_no_sibling_twice(length: int, data: st.DataObject) -> None:
    part = part_of(length)
    leaves = leaf_count(length)
    nodes, sent, known = tree(part), set[Node](), {(height(leaves), 0): part_root(part)}
    first = data.draw(st.integers(0, leaves - 1))
    total = 0
    for leaf in range(first, leaves):
        siblings = proof(nodes, (0, leaf), sent)
        total += len(siblings)
        assert climb((0, leaf), run_hash(run_of(part, 0, leaf), 0, leaves), siblings, leaves, known)
    # Each leaf but the first costs one sibling at most, on the whole.
    assert total <= NODE_BYTES * (leaves - first + height(leaves))


def test_a_proof_that_builds_on_what_has_not_come_is_neither_right_nor_wrong() -> None:
    part = part_of(PART_BYTES)
    nodes, sent = tree(part), set[Node]()
    proof(nodes, (0, 0), sent)
    assert proof(nodes, (0, 1), sent) == b""
    known = {(5, 0): part_root(part)}
    with pytest.raises(Unproven):
        climb((0, 1), run_hash(run_of(part, 0, 1), 0, 32), b"", 32, known)
    assert len(known) == 1


def test_two_nodes_are_no_leaf() -> None:
    part = part_of(2 * LEAF_BYTES)
    left, right = tree(part)[0]
    assert part_root(part) != part_root(left + right)
    four = part_of(4 * LEAF_BYTES)
    assert tree(four)[1][0] != run_hash(b"".join(tree(four)[0][:2]), 0, 4)


@given(LENGTHS)
def test_the_last_level_is_the_root_alone(length: int) -> None:
    nodes = tree(part_of(length))
    assert nodes[-1] == [part_root(part_of(length))]
    assert len(nodes) == height(leaf_count(length)) + 1
