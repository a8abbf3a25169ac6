"""The hash tree of one part: any aligned run of its leaves can be checked by itself, against the part's hash in the part list.

Leaves are 2 KiB, inner nodes 20 bytes, the root is the part's hash of 32 bytes. A part of one leaf hashes as plain bytes do.
A node is named by (level, index): level 0 are the leaves, and a node without a sibling stands for itself one level higher.
"""

from hashlib import blake2b

LEAF_BYTES = 2048
NODE_BYTES = 20
ROOT_BYTES = 32
# Of inner nodes and roots: a leaf of 40 bytes must not be taken for two nodes.
_NODE, _ROOT = b"node", b"root"

Node = tuple[int, int]


def leaf_count(length: int) -> int:
    """How many leaves a part of `length` bytes has: one at least."""
    return max(1, -(-length // LEAF_BYTES))


def height(leaves: int) -> int:
    """The level of the root over so many leaves."""
    return (leaves - 1).bit_length()


def part_root(part: bytes | memoryview) -> bytes:
    """The 32-byte hash of a part."""
    if len(part) <= LEAF_BYTES:
        return blake2b(part, digest_size=ROOT_BYTES).digest()
    return tree(part)[-1][0]


def tree(part: bytes | memoryview) -> list[list[bytes]]:
    """All nodes of a part by level, the leaves first; the last level is the root alone."""
    leaves = leaf_count(len(part))
    if leaves == 1:
        return [[blake2b(part, digest_size=ROOT_BYTES).digest()]]
    levels = [_leaves(part)]
    while len(levels[-1]) > 2:
        levels.append(_above(levels[-1]))
    levels.append([_root(*levels[-1])])
    return levels


def run_hash(run: bytes | memoryview, level: int, leaves: int) -> bytes:
    """The hash of the node at `level` that stands over this run of leaves, in a part of so many leaves."""
    if level == height(leaves):
        return part_root(run)
    nodes = _leaves(run)
    for _ in range(level):
        nodes = _above(nodes)
    return nodes[0]


def proof(nodes: list[list[bytes]], start: Node, known: set[Node]) -> bytes:
    """The siblings that lead from a node up to the first one that is `known`, bottom up; all nodes of this way are known then.

    Whoever gets several runs of a part in this order needs no sibling twice. The root is known to everybody.
    """
    siblings = []
    (level, index), top = start, len(nodes) - 1
    while level < top and (level, index) not in known:
        known.add((level, index))
        if index ^ 1 < len(nodes[level]):
            siblings.append(nodes[level][index ^ 1])
            known.add((level, index ^ 1))
        level, index = level + 1, index >> 1
    return b"".join(siblings)


class Unproven(Exception):  # noqa: N818 - not an error: what it needs may still come
    """The proof ends before a node that is known."""


def climb(start: Node, found: bytes, siblings: bytes | memoryview, leaves: int, known: dict[Node, bytes]) -> bool:
    """Whether a node hashes up to one in `known`, which has the root at least; if so, all nodes on the way are added to it.

    Raises Unproven when the proof is too short for what is known so far. What is left of a longer one is not looked at.
    """
    (level, index), at = start, 0
    top, width = height(leaves), -(-leaves >> start[0])
    way: list[tuple[Node, bytes]] = []
    while (level, index) not in known:
        way.append(((level, index), found))
        if index ^ 1 < width:
            sibling = bytes(siblings[at : at + NODE_BYTES])
            if len(sibling) < NODE_BYTES:
                raise Unproven
            at += NODE_BYTES
            way.append(((level, index ^ 1), sibling))
            pair = (sibling, found) if index & 1 else (found, sibling)
            found = _root(*pair) if level + 1 == top else _node(*pair)
        level, index, width = level + 1, index >> 1, (width + 1) // 2
    if known[level, index] != found:
        return False
    known.update(way)
    return True


def _leaves(run: bytes | memoryview) -> list[bytes]:
    if len(run) <= LEAF_BYTES:
        return [blake2b(run, digest_size=NODE_BYTES).digest()]
    view = memoryview(run)
    return [
        blake2b(view[start : start + LEAF_BYTES], digest_size=NODE_BYTES).digest()
        for start in range(0, len(view), LEAF_BYTES)
    ]


def _above(nodes: list[bytes]) -> list[bytes]:
    pairs = [_node(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
    return [*pairs, nodes[-1]] if len(nodes) % 2 else pairs


def _node(left: bytes, right: bytes) -> bytes:
    return blake2b(left + right, digest_size=NODE_BYTES, person=_NODE).digest()


def _root(left: bytes, right: bytes) -> bytes:
    return blake2b(left + right, digest_size=ROOT_BYTES, person=_ROOT).digest()
