"""Ids and part lists."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.artifact import (
    HASH_BYTES,
    artifact_id,
    hash_part,
    id_prefix,
    is_part,
    is_part_list,
    part_count,
    part_list,
)
from p2pnet.model.limits import PART_BYTES

PREFIX = id_prefix("blob")
SIZES = st.sampled_from([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5])


@given(SIZES)
def test_a_part_list_has_one_hash_per_part_and_at_least_one(size: int) -> None:
    assert len(part_list(bytes(size))) == HASH_BYTES * part_count(size)


@given(SIZES)
def test_every_part_checks_against_the_list_and_the_list_against_the_id(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    parts = part_list(data)
    artifact = artifact_id(PREFIX, size, parts)
    assert is_part_list(artifact, PREFIX, size, parts)
    for part in range(part_count(size)):
        piece = data[part * PART_BYTES : (part + 1) * PART_BYTES]
        assert is_part(parts, size, part, piece)
        assert not is_part(parts, size, part, piece + b"x")


def test_size_client_and_content_all_change_the_id() -> None:
    parts = hash_part(b"a")
    ids = {
        artifact_id(PREFIX, 1, parts),
        artifact_id(PREFIX, 2, parts),
        artifact_id(id_prefix("beacon"), 1, parts),
        artifact_id(PREFIX, 1, hash_part(b"b")),
    }
    assert len(ids) == 4


def test_a_list_with_another_size_is_refused() -> None:
    data = bytes(2 * PART_BYTES)
    parts = part_list(data)
    artifact = artifact_id(PREFIX, len(data), parts)
    assert not is_part_list(artifact, PREFIX, len(data) - 1, parts)
    assert not is_part_list(artifact, PREFIX, len(data), parts[:-1])
