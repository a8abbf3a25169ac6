"""Stripes: shares of an artifact's leaves, each with a proof, so that it can be checked by itself. As bytes, and whose they are.

A stripe is an aligned run of 1, 2, 4, ... 32 leaves of one part. Leaves are numbered through the artifact, 32 to a part.
"""

from enum import Enum
from struct import Struct
from typing import NamedTuple

from p2pnet.broadcast.artifact import part_count, part_length
from p2pnet.broadcast.merkle import (
    LEAF_BYTES,
    NODE_BYTES,
    Node,
    Unproven,
    climb,
    height,
    leaf_count,
    proof,
    run_hash,
    tree,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

LEAVES_PER_PART = PART_BYTES // LEAF_BYTES
LEVEL_MAX = height(LEAVES_PER_PART)
STRIPES_PER_SHARE = 6
"""Stripes a peer's share has at least, where leaves are small enough for that: the fewer, the longer relays wait for the first
one and all for the last; the more, the more requests."""
SHORT_BYTES = 16
"""How much of an artifact's id a stripe has: no two artifacts that anybody can make agree in so many."""
STRIPES_BODY_MAX = 2 * PART_BYTES
"""Bytes of one request of stripes."""
# the id's first bytes, number of the first leaf, and bits: 1 first hand, 3 level, 3 siblings, 25 bytes of data
_HEAD = Struct(f">{SHORT_BYTES}sII")
STRIPE_HEAD_BYTES = _HEAD.size
_FIRST_HAND, _LEVEL_AT, _SIBLINGS_AT, _LENGTH_MASK = 1 << 31, 28, 25, (1 << 25) - 1


class Stripe(NamedTuple):
    """One stripe as received; proof and data are views into the request."""

    short: bytes
    """The first bytes of the artifact's id."""
    first: int
    """Number of its first leaf in the artifact."""
    level: int
    """It has 2 ** level leaves, fewer at the end of the artifact."""
    first_hand: bool
    """It comes from the one that deals the artifact out: to be passed on."""
    proof: memoryview
    data: memoryview


def encode_stripe(
    artifact: ArtifactId, first: int, level: int, proof: bytes, data: memoryview, *, first_hand: bool
) -> list[bytes]:
    """A stripe in two pieces, the second one its data."""
    bits = level << _LEVEL_AT | len(proof) // NODE_BYTES << _SIBLINGS_AT | len(data)
    return [_HEAD.pack(artifact[:SHORT_BYTES], first, bits | _FIRST_HAND if first_hand else bits) + proof, bytes(data)]


def decode_stripes(body: bytes | memoryview) -> list[Stripe]:
    """The stripes of a request or an answer, at least one. Raises MalformedError."""
    view, start, total = memoryview(body), 0, len(body)
    stripes: list[Stripe] = []
    while start < total:
        if total - start < STRIPE_HEAD_BYTES:
            raise MalformedError(f"stripes: {total - start} bytes are none")
        short, first, bits = _HEAD.unpack_from(view, start)
        level, siblings, length = bits >> _LEVEL_AT & 7, bits >> _SIBLINGS_AT & 7, bits & _LENGTH_MASK
        start += STRIPE_HEAD_BYTES
        middle = start + siblings * NODE_BYTES
        end = middle + length
        if level > LEVEL_MAX or siblings > LEVEL_MAX or not 0 < length <= LEAF_BYTES << level or end > total:
            raise MalformedError(f"stripes: level {level}, {siblings} siblings and {length} bytes are no stripe")
        stripes.append(Stripe(short, first, level, bool(bits & _FIRST_HAND), view[start:middle], view[middle:end]))
        start = end
    if not stripes or total > STRIPES_BODY_MAX:
        raise MalformedError(f"stripes: {len(stripes)} in {total} bytes")
    return stripes


# Whose they are


def stripe_level(size: int, peers: int) -> int:
    """The level of the stripes in which an artifact of `size` bytes is dealt out to so many peers."""
    leaves = size // (peers * STRIPES_PER_SHARE * LEAF_BYTES)
    return min(LEVEL_MAX, max(0, leaves.bit_length() - 1))


def plan_shares(size: int, peers: int) -> list[list[tuple[int, int]]]:
    """Each peer's share as (number of the first leaf, level) of its stripes, in order; together every leaf once.

    Shares are runs of the artifact, so that the stripes of one need few siblings. They differ by a stripe at most, and the
    first ones are the larger: who gets his first stripe sooner is done sooner.
    """
    level, total = stripe_level(size, peers), all_leaves(size)
    least, more = divmod(-(-total >> level), peers)
    shares, start = [], 0
    for peer in range(peers):
        end = start + least + (peer < more)
        shares.append([_fitting(size, number << level, level) for number in range(start, end)])
        start = end
    return shares


def _fitting(size: int, first: int, level: int) -> tuple[int, int]:
    """A stripe from this leaf on, not higher than the tree of its part."""
    part = first // LEAVES_PER_PART
    return first, min(level, height(leaf_count(part_length(size, part))))


def all_leaves(size: int) -> int:
    """How many leaves an artifact of `size` bytes has."""
    return leaf_count(size)


def place_of(size: int, first: int, level: int) -> tuple[int, Node, int] | None:
    """(part, node in its tree, bytes) of a stripe; None: an artifact of this size has no such stripe."""
    part, leaf = divmod(first, LEAVES_PER_PART)
    if part >= part_count(size) or leaf % (1 << level):
        return None
    whole = part_length(size, part)
    length = min(LEAF_BYTES << level, whole - leaf * LEAF_BYTES)
    # A stripe above the root of a short last part would be checked against nothing.
    if length <= 0 or level > height(leaf_count(whole)):
        return None
    return part, (level, leaf >> level), length


def cut_leaves(artifact: ArtifactId, part: int, content: bytes, leaves: int) -> list[bytes]:
    """These leaves of a part as stripes, in pieces. `leaves`: bitmap; numbers the part does not have are left out."""
    nodes, known, view, pieces = tree(content), set[Node](), memoryview(content), list[bytes]()
    for leaf in range(leaf_count(len(content))):
        if leaves >> leaf & 1:
            siblings, first = proof(nodes, (0, leaf), known), part * LEAVES_PER_PART + leaf
            data = view[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
            pieces += encode_stripe(artifact, first, 0, siblings, data, first_hand=False)
    return pieces


# What has come of a part


class StripeVerdict(Enum):
    """What became of a stripe's bytes. UNPROVEN: what its proof builds on is not here yet."""

    NEW = "new"
    HERE = "here"
    WRONG = "wrong"
    UNPROVEN = "unproven"


class OpenPart:
    """A part of which some leaves are here."""

    __slots__ = ("content", "here", "known", "leaves")

    def __init__(self, length: int, root: bytes) -> None:
        self.content = bytearray(length)
        self.leaves = leaf_count(length)
        self.here = 0
        """Bitmap of the leaves that are here."""
        self.known: dict[Node, bytes] = {(height(self.leaves), 0): root}
        """Nodes of its tree that are proven."""

    @property
    def lacking(self) -> int:
        """Bitmap of the leaves that are not here; 0: it is complete."""
        return (1 << self.leaves) - 1 & ~self.here

    def take(self, node: Node, proof: bytes | memoryview, data: memoryview) -> StripeVerdict:
        """Check a run of leaves and keep it, if it is right. Its length was checked by `place_of`."""
        level, index = node
        start = index << level
        bits = (1 << min(1 << level, self.leaves - start)) - 1 << start
        if not bits & ~self.here:
            return StripeVerdict.HERE
        try:
            right = climb(node, run_hash(data, level, self.leaves), proof, self.leaves, self.known)
        except Unproven:
            return StripeVerdict.UNPROVEN
        if not right:
            return StripeVerdict.WRONG
        self.content[start * LEAF_BYTES : start * LEAF_BYTES + len(data)] = data
        self.here |= bits
        return StripeVerdict.NEW


def take_leaves(opened: OpenPart, size: int, part: int, answer: memoryview) -> StripeVerdict:
    """Take the stripes of an answer that must complete this part of an artifact of `size` bytes. NEW: it is complete now.

    UNPROVEN: leaves are missing still. WRONG: anything is not as it should be.
    """
    try:
        stripes = decode_stripes(answer)
    except MalformedError:
        return StripeVerdict.WRONG
    for stripe in stripes:
        place = place_of(size, stripe.first, stripe.level)
        if place is None or place[0] != part or place[2] != len(stripe.data):
            return StripeVerdict.WRONG
        verdict = opened.take(place[1], stripe.proof, stripe.data)
        if verdict is StripeVerdict.WRONG:
            return verdict
    return StripeVerdict.UNPROVEN if opened.lacking else StripeVerdict.NEW
