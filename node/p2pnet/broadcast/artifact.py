"""Artifact ids, part lists and bitmaps of parts.

id = BLAKE2b-256(tag, client name, key, size, hash of each 64 KiB part), so a part list is checked against the id before any
part, and each part by itself. The hash of a part is the root of a tree (`merkle`), so runs of its leaves can be checked too. Size
and parts are of the encoded artifact. A bitmap of parts is an int, bit i for part i.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Protocol

from p2pnet.broadcast.merkle import ROOT_BYTES, part_root
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import PART_BYTES

HASH_BYTES = ROOT_BYTES
"""Bytes of a part's hash in a part list."""
KEY_BYTES_MAX = 32
"""The client's key travels in every advert."""
_TAG = b"p2pnet artifact 3"


def id_prefix(client: str) -> bytes:
    """The bytes that are hashed first for every id of this client's artifacts: ids of different clients never meet."""
    name = client.encode()
    return _TAG + len(name).to_bytes(1, "big") + name


def artifact_id(prefix: bytes, key: bytes, size: int, parts: bytes) -> ArtifactId:
    """The id of an artifact with this part list; `prefix` is `id_prefix` of its client, `key` the client's own."""
    head = prefix + len(key).to_bytes(1, "big") + key + size.to_bytes(8, "big")
    return ArtifactId(blake2b(head + parts, digest_size=ARTIFACT_ID_BYTES).digest())


def is_part_list(artifact: ArtifactId, prefix: bytes, key: bytes, size: int, parts: bytes) -> bool:
    """Whether `parts`, `key` and `size` are this artifact's own: they hash to its id."""
    return len(parts) == HASH_BYTES * part_count(size) and artifact_id(prefix, key, size, parts) == artifact


# Parts


def part_count(size: int) -> int:
    """How many parts an artifact of `size` bytes has: one at least, even when it is empty."""
    return max(1, -(-size // PART_BYTES))


def part_length(size: int, part: int) -> int:
    """Bytes of the part with this number (from 0) in an artifact of `size` bytes."""
    return min(PART_BYTES, size - part * PART_BYTES)


def hash_part(part: bytes | memoryview) -> bytes:
    """The 32-byte hash of one part, as it stands in part lists."""
    return part_root(part)


def part_list(data: bytes) -> bytes:
    """The part list of an encoded artifact: the hashes of all its parts, concatenated."""
    if len(data) <= PART_BYTES:
        return part_root(data)
    view = memoryview(data)
    return b"".join(hash_part(view[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES))


def is_part(parts: bytes, size: int, part: int, data: bytes | memoryview) -> bool:
    """Whether `data` is the part with this number, according to a part list that was checked."""
    start = part * HASH_BYTES
    return len(data) == part_length(size, part) and hash_part(data) == parts[start : start + HASH_BYTES]


# Bitmaps


def all_parts(size: int) -> int:
    """The bitmap of a complete artifact of `size` bytes."""
    return (1 << part_count(size)) - 1


def bitmap_bytes(size: int) -> int:
    """How many bytes the bitmap of an artifact of `size` bytes takes on the wire."""
    return (part_count(size) + 7) // 8


def rarest(wanted: int, held: list[int]) -> int:
    """The bitmap of those `wanted` parts that the fewest of the bitmaps `held` have.

    The counts are kept as bit planes, plane i for their bit i: the cost grows with the bitmaps, not with the parts.
    """
    planes: list[int] = []
    for have in held:
        carry = have & wanted
        for i, plane in enumerate(planes):
            planes[i], carry = plane ^ carry, plane & carry
        if carry:
            planes.append(carry)
    for plane in reversed(planes):
        wanted = wanted & ~plane or wanted
    return wanted


class RandomSource(Protocol):
    """What the broadcast draws from; `random.Random` is one."""

    def random(self) -> float:
        """At least 0 and below 1."""

    def uniform(self, a: float, b: float) -> float:
        """Between `a` and `b`."""

    def sample(self, population: Sequence[Any], k: int) -> list[Any]:
        """`k` different members of a population."""


def pick_part(parts: int, rng: RandomSource) -> int:
    """The number of a random one of these parts (at least one); not evenly distributed, but cheap for large bitmaps."""
    above = parts >> (start := int(rng.random() * parts.bit_length()))
    if above:
        return start + (above & -above).bit_length() - 1
    return (parts & -parts).bit_length() - 1


def part_numbers(parts: int) -> list[int]:
    """The numbers of these parts, ascending."""
    numbers = []
    while parts:
        lowest = parts & -parts
        numbers.append(lowest.bit_length() - 1)
        parts ^= lowest
    return numbers
