"""Stripes as bytes, whose they are, and what becomes of them at a part that is not complete."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.artifact import hash_part, part_count, part_length, part_list
from p2pnet.broadcast.merkle import LEAF_BYTES, proof, tree
from p2pnet.broadcast.stripes import (
    LEAVES_PER_PART,
    STRIPE_HEAD_BYTES,
    STRIPES_BODY_MAX,
    OpenPart,
    StripeVerdict,
    cut_leaves,
    decode_stripes,
    encode_stripe,
    place_of,
    plan_shares,
    stripe_level,
    take_leaves,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import KIB, MIB, PART_BYTES

ID = ArtifactId(bytes(range(32)))
SIZES = st.one_of(st.integers(1, 4 * PART_BYTES), st.integers(1, 40 * MIB))


def encoded(first: int = 0, level: int = 0, siblings: int = 0, length: int = 5, *, first_hand: bool = True) -> bytes:
    proven = bytes(20 * siblings)
    return b"".join(encode_stripe(ID, first, level, proven, memoryview(bytes(length)), first_hand=first_hand))


STRIPES = st.builds(
    encoded, st.integers(0, 2**32 - 1), st.just(1), st.integers(0, 5), st.integers(1, 4096), first_hand=st.booleans()
)  # fmt: skip


@given(st.lists(STRIPES, min_size=1, max_size=5))
def test_stripes_read_back_as_they_were_made(made: list[bytes]) -> None:
    read = decode_stripes(b"".join(made))
    again = [
        b"".join(encode_stripe(ID, s.first, s.level, bytes(s.proof), s.data, first_hand=s.first_hand)) for s in read
    ]
    assert again == made
    assert {stripe.short for stripe in read} == {ID[:16]}


@given(st.one_of(st.binary(max_size=200), st.lists(STRIPES, max_size=2).map(b"".join)), st.data())
def test_any_bytes_are_stripes_or_malformed(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, len(body)))]
    with suppress(MalformedError):
        assert sum(STRIPE_HEAD_BYTES + len(s.proof) + len(s.data) for s in decode_stripes(cut)) == len(cut)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        encoded(level=6, length=1),
        encoded(siblings=6),
        encoded(length=LEAF_BYTES + 1),
        encoded(length=0),
        encoded() + b"x",
        encoded(level=5, length=PART_BYTES) * (STRIPES_BODY_MAX // PART_BYTES),
    ],
    ids=["nothing", "too high", "too many siblings", "more than its leaves", "empty", "rest", "too large a request"],
)
def test_what_no_honest_peer_sends_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_stripes(body)


# Shares


@given(SIZES, st.integers(1, 100))
def test_shares_cover_every_byte_once(size: int, peers: int) -> None:
    shares = plan_shares(size, peers)
    assert len(shares) == peers
    covered = 0
    for first, level in (stripe for share in shares for stripe in share):
        place = place_of(size, first, level)
        assert place is not None
        assert first * LEAF_BYTES == covered, "in order, without holes"
        covered += place[2]
    assert covered == size


@given(SIZES, st.integers(1, 100))
def test_shares_differ_by_a_stripe_and_the_first_are_the_larger(size: int, peers: int) -> None:
    counts = [len(share) for share in plan_shares(size, peers)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


@pytest.mark.parametrize(
    ("size", "peers", "stripe"),
    [(MIB, 49, 2 * KIB), (4 * MIB, 49, 8 * KIB), (16 * MIB, 49, 32 * KIB), (MIB, 9, 16 * KIB), (100_000, 12, 2 * KIB),
     (64 * MIB, 3, 64 * KIB)],
)  # fmt: skip
def test_stripes_grow_with_the_artifact_and_shrink_with_its_receivers(size: int, peers: int, stripe: int) -> None:
    assert LEAF_BYTES << stripe_level(size, peers) == stripe


@given(SIZES, st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_a_place_is_inside_its_part_or_there_is_none(size: int, first: int, level: int) -> None:
    place = place_of(size, first, level)
    if place is not None:
        part, (there, index), length = place
        assert there == level
        assert part < part_count(size)
        assert 0 < length <= LEAF_BYTES << level
        assert (index << level) * LEAF_BYTES + length <= part_length(size, part)


@pytest.mark.parametrize(
    ("first", "level"), [(LEAVES_PER_PART, 0), (1, 1), (3, 0), (0, 2)], ids=["part", "alignment", "leaf", "height"]
)
def test_no_stripe_lies_outside(first: int, level: int) -> None:
    assert place_of(2 * LEAF_BYTES, first, level) is None


# Parts that are not complete

PART = Random(1).randbytes(20 * LEAF_BYTES + 100)


def stripe_of(level: int, index: int) -> tuple[bytes, memoryview]:
    start = (index << level) * LEAF_BYTES
    return proof(tree(PART), (level, index), set()), memoryview(PART)[start : start + (LEAF_BYTES << level)]


@given(st.permutations(range(6)))
def test_a_part_is_complete_when_all_its_runs_have_come_in_any_order(order: list[int]) -> None:
    opened = OpenPart(len(PART), hash_part(PART))
    for index in order:
        assert opened.lacking
        assert opened.take((2, index), *stripe_of(2, index)) is StripeVerdict.NEW
    assert not opened.lacking
    assert opened.content == PART


def test_what_is_here_is_not_hashed_again_and_what_is_wrong_leaves_no_trace() -> None:
    opened = OpenPart(len(PART), hash_part(PART))
    siblings, data = stripe_of(0, 3)
    wrong = memoryview(bytes(len(data)))
    assert opened.take((0, 3), siblings, wrong) is StripeVerdict.WRONG
    assert not opened.here
    assert not any(opened.content)
    assert opened.take((0, 3), siblings, data) is StripeVerdict.NEW
    assert opened.take((0, 3), b"", wrong) is StripeVerdict.HERE
    assert opened.content[3 * LEAF_BYTES : 4 * LEAF_BYTES] == data


@given(st.integers(1, 2**21 - 1))
def test_missing_leaves_asked_for_complete_the_part(missing: int) -> None:
    artifact, size = PART, len(PART)
    opened = OpenPart(size, hash_part(PART))
    for leaf in range(opened.leaves):
        if not missing >> leaf & 1:
            opened.take((0, leaf), *stripe_of(0, leaf))
    answer = memoryview(b"".join(cut_leaves(ID, 0, artifact, opened.lacking)))
    assert take_leaves(opened, size, 0, answer) is StripeVerdict.NEW
    assert opened.content == PART


def test_an_answer_with_other_leaves_or_of_another_part_is_not_taken() -> None:
    data = PART[:PART_BYTES].ljust(PART_BYTES, b"x") * 2
    root = part_list(data)[:32]
    opened = OpenPart(PART_BYTES, root)
    some = memoryview(b"".join(cut_leaves(ID, 0, data[:PART_BYTES], 0b101)))
    assert take_leaves(opened, len(data), 0, some) is StripeVerdict.UNPROVEN
    assert opened.here == 0b101
    other = memoryview(b"".join(cut_leaves(ID, 1, data[:PART_BYTES], 0b1000)))
    assert take_leaves(opened, len(data), 0, other) is StripeVerdict.WRONG
    assert take_leaves(opened, len(data), 0, memoryview(b"noise")) is StripeVerdict.WRONG
