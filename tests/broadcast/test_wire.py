"""Codecs: round trips, and any bytes give a message or a MalformedError."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast import wire
from p2pnet.broadcast.artifact import HASH_BYTES, all_parts, bitmap_bytes, part_count, part_length
from p2pnet.broadcast.wire import EntryKind, FetchStatus, UpdateStatus
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import ARTIFACT_BYTES_MAX, ENVELOPE_BYTES_MAX, PART_BYTES, UPDATE_BATCH_BYTES

IDS = st.binary(min_size=32, max_size=32).map(ArtifactId)
KEYS = st.binary(max_size=32)
SLOTS = st.integers(0, 2**32 - 1)
COMMITS = st.integers(0, 2**64 - 1)
HOPS = st.integers(0, 255)
ORIGINS = st.integers(0, 2**32 - 1)
SIZES = st.one_of(st.integers(0, 3 * PART_BYTES), st.integers(0, 100 * PART_BYTES))
LARGE = 2 * PART_BYTES + 7


@st.composite
def adverts(draw: st.DrawFn) -> bytes:
    size = draw(SIZES)
    have = draw(st.one_of(st.none(), st.integers(0, all_parts(size))))
    return wire.encode_advert(
        draw(SLOTS), draw(COMMITS), draw(HOPS), size, draw(IDS), key=draw(KEYS), have=have, origin=draw(ORIGINS)
    )  # fmt: skip


PUSHES = st.builds(
    lambda *fields, origin: b"".join(wire.encode_push(*fields, origin=origin)),
    SLOTS,
    COMMITS,
    HOPS,
    st.binary(max_size=300),
    KEYS,
    origin=ORIGINS,
)


@st.composite
def scattered(draw: st.DrawFn) -> bytes:
    size = draw(st.integers(1, 5 * PART_BYTES))
    parts = bytes(HASH_BYTES * part_count(size))
    slot, commit, hop, artifact = draw(SLOTS), draw(COMMITS), draw(HOPS), draw(IDS)
    return b"".join(
        wire.encode_scattered(slot, commit, hop, size, artifact, parts, key=draw(KEYS), origin=draw(ORIGINS))
    )


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    form = draw(st.binary(max_size=100))
    size = len(form) + draw(st.integers(1, 1000))
    where = draw(SLOTS), draw(COMMITS), draw(HOPS)
    return b"".join(wire.encode_stripped(*where, size, draw(IDS), form, key=draw(KEYS), origin=draw(ORIGINS)))


ENTRIES = st.one_of(PUSHES, forms(), adverts(), scattered(), st.builds(wire.encode_empty, SLOTS, COMMITS))
FETCHES = st.one_of(
    st.builds(wire.encode_fetch, IDS, st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=wire.PARTS_PER_FETCH)),
    st.builds(wire.encode_first_fetch, IDS, st.integers(0, 255)),
    st.builds(wire.encode_leaves_fetch, IDS, st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1)),
)


def encode(entry: wire.Entry, body: bytes) -> bytes:
    content = body[entry.start : entry.end]
    if entry.kind == EntryKind.PUSH:
        return b"".join(wire.encode_push(entry.slot, entry.commit, entry.hop, content, entry.key, origin=entry.origin))
    if entry.kind == EntryKind.STRIPE:
        head = (entry.slot, entry.commit, entry.hop, entry.size, ArtifactId(content[:32]), content[32:])
        return b"".join(wire.encode_scattered(*head, key=entry.key, origin=entry.origin))
    if entry.kind == EntryKind.ADVERT:
        return wire.encode_advert(
            entry.slot,
            entry.commit,
            entry.hop,
            entry.size,
            ArtifactId(content),
            key=entry.key,
            have=entry.have,
            origin=entry.origin,
        )
    if entry.kind == EntryKind.STRIPPED:
        where = entry.slot, entry.commit, entry.hop, entry.size
        artifact, form = ArtifactId(content[:32]), content[32:]
        return b"".join(wire.encode_stripped(*where, artifact, form, key=entry.key, origin=entry.origin))
    return wire.encode_empty(entry.slot, entry.commit)


def part(number: int, size: int) -> bytes:
    return bytes([number + 1]) * part_length(size, number)


# Updates


@given(st.lists(ENTRIES, min_size=1, max_size=20))
def test_a_request_reads_back_as_the_entries_it_was_made_of(entries: list[bytes]) -> None:
    body = b"".join(entries)
    assert [encode(entry, body) for entry in wire.decode_updates(body)] == entries


@given(st.one_of(st.binary(max_size=200), st.lists(ENTRIES, max_size=3).map(b"".join)), st.data())
def test_any_bytes_are_updates_or_malformed(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, len(body)))]
    with suppress(MalformedError):
        entries = wire.decode_updates(cut)
        assert b"".join(encode(entry, cut) for entry in entries) == cut


@given(st.lists(ENTRIES, min_size=1, max_size=3).map(b"".join), st.data())
def test_a_changed_byte_gives_updates_or_malformed(body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(MalformedError):
        entries = wire.decode_updates(bytes(changed))
        assert b"".join(encode(entry, bytes(changed)) for entry in entries) == changed


def test_a_request_above_the_batch_bound_holds_exactly_one_entry() -> None:
    large = b"".join(wire.encode_push(1, 1, 0, bytes(UPDATE_BATCH_BYTES)))
    assert len(wire.decode_updates(large)) == 1
    with pytest.raises(MalformedError):
        wire.decode_updates(large + wire.encode_empty(2, 2))


def test_an_empty_request_is_malformed() -> None:
    with pytest.raises(MalformedError):
        wire.decode_updates(b"")


def test_a_row_of_stripes_has_the_part_list_of_its_size() -> None:
    artifact, parts = ArtifactId(bytes(32)), bytes(3 * HASH_BYTES)
    assert wire.decode_updates(b"".join(wire.encode_scattered(1, 1, 0, LARGE, artifact, parts)))
    for wrong in (parts[1:], parts[HASH_BYTES:], b""):
        with pytest.raises(MalformedError):
            wire.decode_updates(b"".join(wire.encode_scattered(1, 1, 0, LARGE, artifact, wrong)))


def test_a_part_list_too_long_for_a_batch_is_a_piece_by_itself() -> None:
    size = 600 * PART_BYTES
    assert len(wire.encode_scattered(1, 1, 0, size, ArtifactId(bytes(32)), bytes(HASH_BYTES * 600))) == 2


def test_a_key_longer_than_32_bytes_is_malformed() -> None:
    artifact = ArtifactId(bytes(32))
    assert wire.decode_updates(wire.encode_advert(1, 1, 0, 5, artifact, key=bytes(32)))
    with pytest.raises(MalformedError):
        wire.decode_updates(wire.encode_advert(1, 1, 0, 5, artifact, key=bytes(33)))


def test_a_bitmap_with_parts_behind_the_end_is_malformed() -> None:
    with pytest.raises(MalformedError):
        wire.decode_updates(wire.encode_advert(1, 1, 0, LARGE, ArtifactId(bytes(32)), have=0b1000))


def test_a_small_push_is_one_piece_and_a_large_one_is_not_copied() -> None:
    large = bytes(UPDATE_BATCH_BYTES)
    assert len(wire.encode_push(0, 0, 0, b"small")) == 1
    assert wire.encode_push(0, 0, 0, large)[1] is large


@given(st.integers(0, 300))
def test_hops_grow_by_one_and_saturate_at_255(hop: int) -> None:
    assert wire.next_hop(min(hop, 255)) == min(hop + 1, 255)


@given(st.binary(max_size=10), st.integers(0, 10))
def test_any_bytes_are_as_many_statuses_as_updates_or_malformed(body: bytes, expected: int) -> None:
    with suppress(MalformedError):
        assert len([UpdateStatus(status) for status in wire.decode_statuses(body, expected)]) == expected


@given(st.lists(st.sampled_from(UpdateStatus), max_size=10))
def test_statuses_read_back(statuses: list[UpdateStatus]) -> None:
    assert list(wire.decode_statuses(bytes(statuses), len(statuses))) == statuses


# Fetches


def encode_question(question: wire.FetchRequest) -> bytes:
    if question.parts:
        if question.leaves:
            return wire.encode_leaves_fetch(question.artifact, question.parts[0], question.leaves)
        return wire.encode_fetch(question.artifact, question.parts)
    return wire.encode_first_fetch(question.artifact, question.most)


@given(FETCHES)
def test_a_question_reads_back(body: bytes) -> None:
    assert encode_question(wire.decode_fetch(body)) == body


@given(st.one_of(st.binary(max_size=100), FETCHES), st.data())
def test_any_bytes_are_a_question_or_malformed(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, len(body)))]
    with suppress(MalformedError):
        assert encode_question(wire.decode_fetch(cut)) == cut


def test_a_question_for_more_parts_than_one_answer_may_hold_is_malformed() -> None:
    numbers = list(range(wire.PARTS_PER_FETCH + 1))
    assert wire.decode_fetch(wire.encode_fetch(ArtifactId(bytes(32)), numbers[:-1])).parts == numbers[:-1]
    with pytest.raises(MalformedError):
        wire.decode_fetch(wire.encode_fetch(ArtifactId(bytes(32)), numbers))


@given(st.lists(st.integers(0, 2), max_size=3, unique=True), st.booleans())
def test_an_answer_with_parts_reads_back_in_any_order(numbers: list[int], with_list: bool) -> None:
    hashes = bytes(HASH_BYTES * part_count(LARGE)) if with_list else b""
    parts = [(number, part(number, LARGE)) for number in numbers]
    answer = wire.decode_fetch_answer(b"".join(wire.encode_parts(hashes, parts)), LARGE)
    assert answer.status is FetchStatus.PARTS
    assert bytes(answer.part_list) == hashes
    assert [(number, bytes(data)) for number, data in answer.parts] == parts


@given(SIZES.flatmap(lambda size: st.tuples(st.just(size), st.integers(0, all_parts(size)))))
def test_an_answer_with_a_bitmap_reads_back(case: tuple[int, int]) -> None:
    size, have = case
    answer = wire.decode_fetch_answer(b"".join(wire.encode_have(have, size)), size)
    assert (answer.status, answer.have, answer.parts) == (FetchStatus.HAVE, have, [])


def test_gone_reads_back_and_holds_nothing() -> None:
    (body,) = wire.encode_gone()
    assert wire.decode_fetch_answer(body, LARGE).status is FetchStatus.GONE
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(body + b"x", LARGE)


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda rest: b"\0" + rest)), SIZES)
def test_any_bytes_are_an_answer_or_malformed(body: bytes, size: int) -> None:
    with suppress(MalformedError):
        answer = wire.decode_fetch_answer(body, size)
        if answer.status is FetchStatus.PARTS:
            parts = [(number, bytes(data)) for number, data in answer.parts]
            assert b"".join(wire.encode_parts(bytes(answer.part_list), parts)) == body
        elif answer.status is FetchStatus.HAVE:
            assert b"".join(wire.encode_have(answer.have, size)) == body
        else:
            assert b"".join(wire.encode_gone()) == body


@pytest.mark.parametrize(
    ("number", "length"), [(0, PART_BYTES + 1), (0, PART_BYTES - 1), (2, 8), (2, 6), (3, 0), (2**32 - 1, 7)]
)
def test_a_part_of_another_length_or_behind_the_end_is_malformed(number: int, length: int) -> None:
    body = b"".join(wire.encode_parts(b"", [(number, bytes(length))]))
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(body, LARGE)


def test_an_answer_that_names_a_part_twice_is_malformed() -> None:
    body = b"".join(wire.encode_parts(b"", [(1, part(1, LARGE))] * 2))
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(body, LARGE)


def test_a_part_list_of_another_length_is_malformed() -> None:
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(b"".join(wire.encode_parts(bytes(2 * HASH_BYTES), [])), LARGE)


def test_a_bitmap_of_another_length_is_malformed() -> None:
    assert bitmap_bytes(LARGE) == 1
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(b"".join(wire.encode_have(1, 9 * PART_BYTES)), LARGE)


def test_the_longest_answer_of_an_honest_peer_stays_within_its_bound() -> None:
    size = ARTIFACT_BYTES_MAX + ENVELOPE_BYTES_MAX
    parts = [(number, bytes(PART_BYTES)) for number in range(wire.FIRST_PARTS_MAX)]
    longest = sum(map(len, wire.encode_parts(bytes(HASH_BYTES * part_count(size)), parts)))
    assert longest <= wire.FETCH_ANSWER_BYTES_MAX


# Digests

DIGESTS = st.builds(
    lambda digest, ids, lacks: wire.encode_digest(digest, ids, lacks_links=lacks),
    st.binary(min_size=16, max_size=16), st.lists(IDS, max_size=5), st.booleans(),
)  # fmt: skip


@given(st.one_of(DIGESTS, st.binary(max_size=120)), st.data())
def test_any_bytes_are_a_digest_or_malformed(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.sampled_from([len(body), max(0, len(body) - 32), data.draw(st.integers(0, len(body)))]))]
    with suppress(MalformedError):
        digest = wire.decode_digest(cut)
        if digest.halves:
            assert wire.encode_halves([ArtifactId(half + bytes(16)) for half in digest.halves]) == cut
        else:
            assert wire.encode_digest(digest.digest, digest.ids, lacks_links=digest.lacks_links) == cut


@given(st.binary(min_size=16, max_size=16), st.lists(IDS, max_size=5), st.booleans())
def test_a_digest_reads_back(digest: bytes, ids: list[ArtifactId], lacks: bool) -> None:
    assert wire.decode_digest(wire.encode_digest(digest, ids, lacks_links=lacks)) == wire.DigestRequest(
        digest, lacks, ids, []
    )


@given(st.lists(IDS, min_size=1, max_size=5))
def test_halves_of_ids_read_back(ids: list[ArtifactId]) -> None:
    halves = [artifact[:16] for artifact in ids]
    assert wire.decode_digest(wire.encode_halves(ids)) == wire.DigestRequest(b"", False, [], halves)


@pytest.mark.parametrize("length", [1, 16, 18, 1 + 16 * 501])
def test_halves_of_ids_are_one_to_500_and_whole(length: int) -> None:
    with pytest.raises(MalformedError):
        wire.decode_digest(bytes([2]) + bytes(length - 1))


def test_a_digest_lists_at_most_500_ids() -> None:
    ids = [ArtifactId(bytes(32))] * wire.DIGEST_IDS_MAX
    assert len(wire.decode_digest(wire.encode_digest(bytes(16), ids, lacks_links=False)).ids) == 500
    with pytest.raises(MalformedError):
        wire.decode_digest(wire.encode_digest(bytes(16), [*ids, ids[0]], lacks_links=False))
