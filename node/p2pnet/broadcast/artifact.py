"""What an artifact's id is made of, so that a part list can be checked against it before any part, and each part by itself.

id = BLAKE2b-256(tag, client name, size, hash of each 64 KiB part). Size and parts are of the encoded artifact.
"""

from hashlib import blake2b

from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import PART_BYTES

HASH_BYTES = ARTIFACT_ID_BYTES
_TAG = b"p2pnet artifact 1"


def id_prefix(client: str) -> bytes:
    """What every id of this client's artifacts is hashed over first."""
    name = client.encode()
    return _TAG + len(name).to_bytes(1, "big") + name


def part_count(size: int) -> int:
    """How many parts an artifact of `size` bytes has: one at least, even when it is empty."""
    return max(1, -(-size // PART_BYTES))


def part_length(size: int, part: int) -> int:
    """Bytes of the part with this number (from 0) in an artifact of `size` bytes."""
    return min(PART_BYTES, size - part * PART_BYTES)


def hash_part(part: bytes | memoryview) -> bytes:
    """32 bytes."""
    return blake2b(part, digest_size=HASH_BYTES).digest()


def part_list(data: bytes) -> bytes:
    """The hashes of all parts, one after the other."""
    if len(data) <= PART_BYTES:
        return blake2b(data, digest_size=HASH_BYTES).digest()
    view = memoryview(data)
    return b"".join(hash_part(view[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES))


def artifact_id(prefix: bytes, size: int, parts: bytes) -> ArtifactId:
    """The id of an artifact with this part list; `prefix` is `id_prefix` of its client."""
    return ArtifactId(blake2b(prefix + size.to_bytes(8, "big") + parts, digest_size=HASH_BYTES).digest())


def is_part_list(artifact: ArtifactId, prefix: bytes, size: int, parts: bytes) -> bool:
    """Whether `parts` is the part list of exactly this artifact, and `size` its size."""
    return len(parts) == HASH_BYTES * part_count(size) and artifact_id(prefix, size, parts) == artifact


def is_part(parts: bytes, size: int, part: int, data: bytes | memoryview) -> bool:
    """Whether `data` is the part with this number under a part list that was checked."""
    start = part * HASH_BYTES
    return len(data) == part_length(size, part) and hash_part(data) == parts[start : start + HASH_BYTES]
