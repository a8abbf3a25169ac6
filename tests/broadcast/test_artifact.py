"""Ids, part lists and bitmaps of parts."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.artifact import (
    HASH_BYTES,
    all_parts,
    artifact_id,
    bitmap_bytes,
    hash_part,
    id_prefix,
    is_part,
    is_part_list,
    part_count,
    part_length,
    part_list,
    part_numbers,
    pick_part,
    rarest,
)
from p2pnet.model.limits import ARTIFACT_BYTES_MAX, ENVELOPE_BYTES_MAX, PART_BYTES

PREFIX = id_prefix("blob")
SIZES = st.sampled_from([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5])
BITMAPS = st.one_of(st.integers(1, 255), st.integers(1, 2**80), st.integers(1, 2049).map(lambda n: (1 << n) - 1))


@given(SIZES)
def test_a_part_list_has_one_hash_per_part_and_at_least_one(size: int) -> None:
    assert len(part_list(bytes(size))) == HASH_BYTES * part_count(size)


@given(SIZES)
def test_the_lengths_of_all_parts_add_up_to_the_size(size: int) -> None:
    assert sum(part_length(size, part) for part in range(part_count(size))) == size


@given(SIZES, st.binary(max_size=32))
def test_every_part_checks_against_the_list_and_the_list_against_the_id(size: int, key: bytes) -> None:
    data = bytes(i % 251 for i in range(size))
    parts = part_list(data)
    artifact = artifact_id(PREFIX, key, size, parts)
    assert is_part_list(artifact, PREFIX, key, size, parts)
    for part in range(part_count(size)):
        piece = data[part * PART_BYTES : (part + 1) * PART_BYTES]
        assert is_part(parts, size, part, piece)
        assert not is_part(parts, size, part, piece + b"x")


def test_size_client_key_and_content_all_change_the_id() -> None:
    parts = hash_part(b"a")
    ids = {
        artifact_id(PREFIX, b"", 1, parts),
        artifact_id(PREFIX, b"", 2, parts),
        artifact_id(PREFIX, b"k", 1, parts),
        artifact_id(id_prefix("beacon"), b"", 1, parts),
        artifact_id(PREFIX, b"", 1, hash_part(b"b")),
    }
    assert len(ids) == 5


def test_bytes_cannot_move_between_client_name_and_key() -> None:
    parts = hash_part(b"a")
    assert artifact_id(id_prefix("ab"), b"c", 1, parts) != artifact_id(id_prefix("a"), b"bc", 1, parts)


def test_a_list_with_another_size_or_key_is_refused() -> None:
    data = bytes(2 * PART_BYTES)
    parts = part_list(data)
    artifact = artifact_id(PREFIX, b"", len(data), parts)
    assert not is_part_list(artifact, PREFIX, b"", len(data) - 1, parts)
    assert not is_part_list(artifact, PREFIX, b"k", len(data), parts)
    assert not is_part_list(artifact, PREFIX, b"", len(data), parts[:-1])


# Bitmaps


@given(SIZES)
def test_the_bitmap_of_a_whole_artifact_has_a_bit_per_part_and_fits_its_bytes(size: int) -> None:
    assert part_numbers(all_parts(size)) == list(range(part_count(size)))
    assert len(all_parts(size).to_bytes(bitmap_bytes(size), "little")) == bitmap_bytes(size)


def test_the_bitmap_of_the_largest_artifact_takes_257_bytes() -> None:
    assert bitmap_bytes(ARTIFACT_BYTES_MAX) == 256
    assert bitmap_bytes(ARTIFACT_BYTES_MAX + ENVELOPE_BYTES_MAX) == 257


@given(BITMAPS)
def test_part_numbers_are_the_bits_ascending(parts: int) -> None:
    numbers = part_numbers(parts)
    assert numbers == sorted(set(numbers))
    assert sum(1 << number for number in numbers) == parts


@given(BITMAPS, st.lists(st.integers(0, 2**80), max_size=12))
def test_the_rarest_parts_are_those_the_fewest_hold(wanted: int, held: list[int]) -> None:
    copies = {part: sum(have >> part & 1 for have in held) for part in part_numbers(wanted)}
    fewest = min(copies.values())
    assert part_numbers(rarest(wanted, held)) == [part for part, n in copies.items() if n == fewest]


@given(BITMAPS, st.integers(0, 2**32))
def test_a_part_picked_by_chance_is_one_of_them(parts: int, seed: int) -> None:
    assert parts >> pick_part(parts, Random(seed)) & 1


@pytest.mark.parametrize("parts", [0b1, 0b1000_0001, 0b1011_0000, 1 << 20 | 1])
def test_every_part_is_picked_sooner_or_later(parts: int) -> None:
    rng = Random(1)
    assert {pick_part(parts, rng) for _ in range(200)} == set(part_numbers(parts))
