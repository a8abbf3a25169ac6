"""Codecs: round trips, and any bytes give a message or a MalformedError."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast import wire
from p2pnet.broadcast.wire import FetchKind, FetchStatus, Kind, Status
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES, UPDATE_BATCH_BYTES

IDS = st.binary(min_size=32, max_size=32).map(ArtifactId)
SLOTS = st.integers(0, 2**32 - 1)
COMMITS = st.integers(0, 2**64 - 1)
HOPS = st.integers(0, 255)
ENTRIES = st.one_of(
    st.builds(lambda s, c, h, d: b"".join(wire.encode_push(s, c, h, d)), SLOTS, COMMITS, HOPS, st.binary(max_size=300)),
    st.builds(
        lambda s, c, h, n, i, w: wire.encode_advert(s, c, h, n, i, complete=w),
        SLOTS, COMMITS, HOPS, SLOTS, IDS, st.booleans(),
    ),
    st.builds(wire.encode_empty, SLOTS, COMMITS),
)  # fmt: skip


def encode(entry: wire.Entry, body: bytes) -> bytes:
    content = body[entry.start : entry.end]
    if entry.kind == Kind.PUSH:
        return b"".join(wire.encode_push(entry.slot, entry.commit, entry.hop, content))
    if entry.kind == Kind.ADVERT:
        return wire.encode_advert(
            entry.slot, entry.commit, entry.hop, entry.size, ArtifactId(content), complete=entry.complete
        )
    return wire.encode_empty(entry.slot, entry.commit)


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


@given(st.binary(max_size=100))
def test_any_bytes_are_a_fetch_or_malformed(body: bytes) -> None:
    with suppress(MalformedError):
        assert wire.encode_fetch(*wire.decode_fetch(body)) == body


@given(st.binary(max_size=100))
def test_any_bytes_are_a_fetch_answer_or_malformed(body: bytes) -> None:
    with suppress(MalformedError):
        status, content = wire.decode_fetch_answer(body)
        assert b"".join(wire.encode_fetch_answer(status, bytes(content))) == body


@given(st.binary(max_size=10), st.integers(0, 10))
def test_any_bytes_are_as_many_statuses_as_updates_or_malformed(body: bytes, expected: int) -> None:
    with suppress(MalformedError):
        assert len([Status(status) for status in wire.decode_statuses(body, expected)]) == expected


def test_a_request_above_the_batch_bound_holds_exactly_one_entry() -> None:
    large = b"".join(wire.encode_push(1, 1, 0, bytes(UPDATE_BATCH_BYTES)))
    assert len(wire.decode_updates(large)) == 1
    with pytest.raises(MalformedError):
        wire.decode_updates(large + wire.encode_empty(2, 2))


def test_an_empty_request_is_malformed() -> None:
    with pytest.raises(MalformedError):
        wire.decode_updates(b"")


def test_a_small_push_is_one_piece_and_a_large_one_is_not_copied() -> None:
    large = bytes(UPDATE_BATCH_BYTES)
    assert len(wire.encode_push(0, 0, 0, b"small")) == 1
    assert wire.encode_push(0, 0, 0, large)[1] is large


def test_a_part_longer_than_a_part_is_malformed() -> None:
    with pytest.raises(MalformedError):
        wire.decode_fetch_answer(bytes([FetchStatus.PART]) + bytes(PART_BYTES + 1))


def test_a_question_for_the_part_list_names_no_part() -> None:
    with pytest.raises(MalformedError):
        wire.decode_fetch(wire.encode_fetch(FetchKind.PARTS, ArtifactId(bytes(32)), 1))
