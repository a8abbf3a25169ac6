"""Slot updates, fetches and digests as bytes. Any bytes give a message or a MalformedError.

An update request is a row of entries, each a fixed prefix, then the client's key, a bitmap of parts (partial adverts only),
and an id (advert), an id and the part list (stripe), the artifact (push) or nothing (empty). Its answer is one status byte per
entry.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import msgspec

from p2pnet.broadcast.artifact import HASH_BYTES, KEY_BYTES_MAX, all_parts, bitmap_bytes, part_count, part_length
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import ARTIFACT_BYTES_MAX, ENVELOPE_BYTES_MAX, PART_BYTES, UPDATE_BATCH_BYTES


class EntryKind(IntEnum):
    """What a slot update carries."""

    PUSH = 0
    ADVERT = 1
    EMPTY = 2
    STRIPE = 3
    """An advert with the part list: the artifact is being dealt out in stripes, and comes by itself (`stripes`)."""
    STRIPPED = 4
    """The id, and what the client sends in place of the artifact (`stripping`)."""


class UpdateStatus(IntEnum):
    """A receiver's answer to one update or listed id. All but `BUSY`, `LIMIT` and `ADVERTISE` settle an update."""

    OK = 0
    HAVE = 1
    UNWANTED = 2
    ADVERTISE = 3
    """No quota for the bytes now: send an advert instead. For a listed id: not known here, advertise it."""
    BUSY = 4
    LIMIT = 5
    MALFORMED = 6


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One update as received. Its content stays in the body, at [start:end], until it is needed: most is not."""

    slot: int
    commit: int
    kind: int
    hop: int
    size: int
    """Bytes of the encoded artifact; 0 for an empty."""
    origin: int
    """A number that its publisher drew when it started, the same in all its artifacts; 0: unknown."""
    have: int | None
    """Bitmap of the parts its sender holds so far; None: all."""
    key: bytes
    start: int
    end: int


# length of what follows, slot, commit id, kind, hop, size, origin, bytes of the bitmap (0: complete), bytes of the key
_PREFIX = Struct(">IIQBBIIHB")
PREFIX_BYTES = _PREFIX.size
HOP_MAX = 255  # saturates; gates nothing
_STATUSES = frozenset(UpdateStatus)
_PUSH, _ADVERT, _EMPTY, _STRIPE, _STRIPPED = (
    int(kind) for kind in (EntryKind.PUSH, EntryKind.ADVERT, EntryKind.EMPTY, EntryKind.STRIPE, EntryKind.STRIPPED)
)


def next_hop(hop: int) -> int:
    """The hop of a node that got an artifact from a source at `hop`: one more, at most HOP_MAX."""
    return min(hop + 1, HOP_MAX)


def encode_push(slot: int, commit: int, hop: int, data: bytes, key: bytes = b"", *, origin: int = 0) -> list[bytes]:
    """An entry with the artifact's bytes: in one piece if it may share a request, else in two, which saves a copy."""
    size = len(data)
    head = _PREFIX.pack(len(key) + size, slot, commit, _PUSH, hop, size, origin, 0, len(key)) + key
    return [head + data] if len(head) + size <= UPDATE_BATCH_BYTES else [head, data]


def encode_advert(
    slot: int,
    commit: int,
    hop: int,
    size: int,
    artifact: ArtifactId,
    *,
    key: bytes = b"",
    have: int | None = None,
    origin: int = 0,
) -> bytes:
    """An entry with the id only. `have`: bitmap, the sender holds only these parts so far."""
    bitmap = b"" if have is None else have.to_bytes(bitmap_bytes(size), "little")
    length = len(key) + len(bitmap) + ARTIFACT_ID_BYTES
    head = _PREFIX.pack(length, slot, commit, _ADVERT, hop, size, origin, len(bitmap), len(key))
    return head + key + bitmap + artifact


def encode_scattered(  # noqa: PLR0917 - an entry's fields, in their order
    slot: int,
    commit: int,
    hop: int,
    size: int,
    artifact: ArtifactId,
    part_list: bytes,
    *,
    key: bytes = b"",
    origin: int = 0,
) -> list[bytes]:
    """An entry that says that stripes of this artifact come; in one piece or two, as `encode_push`."""
    content = artifact + part_list
    head = _PREFIX.pack(len(key) + len(content), slot, commit, _STRIPE, hop, size, origin, 0, len(key)) + key
    return [head + content] if len(head) + len(content) <= UPDATE_BATCH_BYTES else [head, content]


def encode_stripped(  # noqa: PLR0917 - an entry's fields, in their order
    slot: int,
    commit: int,
    hop: int,
    size: int,
    artifact: ArtifactId,
    form: bytes,
    *,
    key: bytes = b"",
    origin: int = 0,
) -> list[bytes]:
    """An entry with the stripped form of an artifact of `size` encoded bytes; in pieces as `encode_push`."""
    head = _PREFIX.pack(
        len(key) + ARTIFACT_ID_BYTES + len(form), slot, commit, EntryKind.STRIPPED, hop, size, origin, 0, len(key)
    )
    head += key + artifact
    return [head + form] if len(head) + len(form) <= UPDATE_BATCH_BYTES else [head, form]


def encode_empty(slot: int, commit: int) -> bytes:
    """An entry that ends whatever the slot held."""
    return _PREFIX.pack(0, slot, commit, _EMPTY, 0, 0, 0, 0, 0)


def decode_updates(body: bytes) -> list[Entry]:
    """The entries of an update request, at least one. A body above 16 KiB holds exactly one.

    Raises MalformedError for the whole request, wherever the fault is: an honest sender makes none.
    """
    total = len(body)
    entries = [_decode_entry(body, 0, total)]
    while (start := entries[-1].end) < total:
        entries.append(_decode_entry(body, start, total))
    # The bound on batches bounds the work of one request.
    if len(entries) > 1 and total > UPDATE_BATCH_BYTES:
        raise MalformedError(f"update: {len(entries)} entries in {total} bytes")
    return entries


def _decode_entry(body: bytes, start: int, total: int) -> Entry:
    if total - start < PREFIX_BYTES:
        raise MalformedError(f"update: {total - start} bytes are no entry")
    length, slot, commit, kind, hop, size, origin, bitmap, key_length = _PREFIX.unpack_from(body, start)
    start += PREFIX_BYTES
    end = start + length
    if end > total:
        raise MalformedError(f"update: an entry of {length} bytes ends {end - total} bytes behind the request")
    content = length - key_length - bitmap
    if kind == _PUSH and content == size and not bitmap and key_length <= KEY_BYTES_MAX:  # nearly every one
        key = body[start : start + key_length] if key_length else b""
        return Entry(slot, commit, _PUSH, hop, size, origin, None, key, end - size, end)
    if key_length > KEY_BYTES_MAX:
        fits = False
    elif kind == _ADVERT:
        fits = content == ARTIFACT_ID_BYTES and bitmap in {0, bitmap_bytes(size)}
    elif kind == _STRIPE:
        fits = content == ARTIFACT_ID_BYTES + HASH_BYTES * part_count(size) and not bitmap
    elif kind == _STRIPPED:
        fits = ARTIFACT_ID_BYTES <= content < ARTIFACT_ID_BYTES + max(1, size) and not bitmap
    else:
        fits = kind == _EMPTY and not (length or size or hop or origin or bitmap or key_length)
    if not fits:
        raise MalformedError(f"update: no entry has kind {kind}, length {length} and size {size}")
    key = body[start : start + key_length]
    start += key_length
    have = None
    if bitmap:
        have = int.from_bytes(body[start : start + bitmap], "little")
        start += bitmap
        # Bits beyond the last part would make a source of parts that do not exist.
        if have > all_parts(size):
            raise MalformedError(f"update: a bitmap names parts that {size} bytes do not have")
    return Entry(slot, commit, kind, hop, size, origin, have, key, start, end)


def decode_statuses(body: bytes, expected: int) -> bytes:
    """One status per update of the request, in order. Raises MalformedError."""
    if len(body) != expected or not _STATUSES.issuperset(body):
        raise MalformedError(f"update answer: {len(body)} bytes are no {expected} statuses")
    return body


# Fetches

FIRST_PARTS_MAX = 16
"""Parts that may come with the part list: 1 MiB, a round trip saved for most artifacts."""
PARTS_PER_FETCH = 16
FETCH_ANSWER_BYTES_MAX = (
    HASH_BYTES * part_count(ARTIFACT_BYTES_MAX + ENVELOPE_BYTES_MAX) + (FIRST_PARTS_MAX + 1) * PART_BYTES
)
_LEAVES = 255  # in place of `most`: one part is asked for, and only these leaves of it
_FETCH = Struct(f">{ARTIFACT_ID_BYTES}sBB")
_LEAVES_OF = Struct(">II")
_NUMBER = Struct(">I")
_ANSWER = Struct(">BIB")


class FetchRequest(NamedTuple):
    """One request on `/<client>/fetch`."""

    artifact: ArtifactId
    parts: list[int]
    """Numbers of the parts asked for; empty: the part list, with parts of the answerer's choice."""
    most: int
    """How many parts may come with the part list."""
    leaves: int = 0
    """Bitmap of the leaves asked for, of the one part that is; 0: all."""


class FetchStatus(IntEnum):
    """The kind of an answer to a fetch."""

    PARTS = 0
    """Parts, and the part list if it was asked for."""
    HAVE = 1
    """None of the parts asked for is here: a bitmap of those that are."""
    GONE = 2
    """Nothing of the artifact is here."""
    LEAVES = 3
    """The leaves asked for, as stripes."""


class FetchAnswer(NamedTuple):
    """An answer as received; `part_list` and `parts` are views into its body."""

    status: FetchStatus
    part_list: memoryview
    """With status LEAVES: the stripes."""
    parts: list[tuple[int, memoryview]]
    """(number, bytes) of each."""
    have: int
    """Bitmap, with status HAVE."""


def encode_fetch(artifact: ArtifactId, parts: list[int]) -> bytes:
    """A request for these parts, at most PARTS_PER_FETCH."""
    return _FETCH.pack(artifact, len(parts), 0) + b"".join(map(_NUMBER.pack, parts))


def encode_first_fetch(artifact: ArtifactId, most: int) -> bytes:
    """A request for the part list and at most `most` parts."""
    return _FETCH.pack(artifact, 0, most)


def encode_leaves_fetch(artifact: ArtifactId, part: int, leaves: int) -> bytes:
    """A request for some leaves of one part. `leaves`: bitmap."""
    return _FETCH.pack(artifact, 1, _LEAVES) + _LEAVES_OF.pack(part, leaves)


def decode_fetch(body: bytes) -> FetchRequest:
    """The request in these bytes. Raises MalformedError."""
    if len(body) < _FETCH.size:
        raise MalformedError(f"fetch: {len(body)} bytes are no question")
    artifact, count, most = _FETCH.unpack_from(body)
    if most == _LEAVES and count == 1 and len(body) == _FETCH.size + _LEAVES_OF.size:
        part, leaves = _LEAVES_OF.unpack_from(body, _FETCH.size)
        return FetchRequest(ArtifactId(artifact), [part], 0, leaves)
    if count > PARTS_PER_FETCH or len(body) != _FETCH.size + count * _NUMBER.size or (count and most):
        raise MalformedError(f"fetch: {len(body)} bytes are no question for {count} parts")
    parts = [number for (number,) in _NUMBER.iter_unpack(body[_FETCH.size :])]
    return FetchRequest(ArtifactId(artifact), parts, most)


def encode_parts(part_list: bytes, parts: list[tuple[int, bytes]]) -> list[bytes]:
    """An answer with parts, each with its number; in pieces, which saves copies."""
    numbers = b"".join(_NUMBER.pack(number) for number, _ in parts)
    head = _ANSWER.pack(FetchStatus.PARTS, len(part_list), len(parts)) + part_list + numbers
    return [head, *(data for _, data in parts)]


def encode_have(have: int, size: int) -> list[bytes]:
    """An answer with status HAVE: which parts of an artifact of `size` bytes are here."""
    bitmap = have.to_bytes(bitmap_bytes(size), "little")
    return [_ANSWER.pack(FetchStatus.HAVE, len(bitmap), 0) + bitmap]


def encode_leaves(stripes: list[bytes]) -> list[bytes]:
    """An answer with status LEAVES."""
    return [_ANSWER.pack(FetchStatus.LEAVES, 0, 0), *stripes]


def encode_gone() -> list[bytes]:
    """An answer with status GONE."""
    return [_ANSWER.pack(FetchStatus.GONE, 0, 0)]


def decode_fetch_answer(body: bytes, size: int) -> FetchAnswer:
    """The answer about an artifact of `size` bytes. Raises MalformedError."""
    if len(body) < _ANSWER.size:
        raise MalformedError("fetch answer: no status")
    status, length, count = _ANSWER.unpack_from(body)
    view = memoryview(body)[_ANSWER.size :]
    if status == FetchStatus.LEAVES and not (length or count):
        return FetchAnswer(FetchStatus.LEAVES, view, [], 0)
    if status > FetchStatus.GONE or len(view) < length:
        raise MalformedError("fetch answer: it ends before its end")
    head, rest = view[:length], view[length:]
    if status == FetchStatus.PARTS and length in {0, HASH_BYTES * part_count(size)}:
        return FetchAnswer(FetchStatus.PARTS, head, _split_parts(rest, count, size), 0)
    have = int.from_bytes(head, "little")
    expected = bitmap_bytes(size) if status == FetchStatus.HAVE else 0
    if status == FetchStatus.PARTS or length != expected or count or rest or have > all_parts(size):
        raise MalformedError(f"fetch answer: {len(body)} bytes are no answer of status {status}")
    return FetchAnswer(FetchStatus(status), head[:0], [], have)


def locate_parts(body: bytes | bytearray) -> tuple[int, int]:
    """The status of an answer to a fetch as it was encoded here, and where its parts or stripes begin."""
    status, length, count = _ANSWER.unpack_from(body)
    return status, _ANSWER.size + length + count * _NUMBER.size


def decode_whole(body: bytes) -> bytes:
    """The artifact in an answer to a first fetch that has all its parts, whatever its size. Raises MalformedError."""
    if len(body) < _ANSWER.size:
        raise MalformedError("fetch answer: no status")
    status, length, count = _ANSWER.unpack_from(body)
    start = _ANSWER.size + length
    end = start + count * _NUMBER.size
    numbers = [number for (number,) in _NUMBER.iter_unpack(body[start:end])] if end <= len(body) else []
    if status != FetchStatus.PARTS or numbers != list(range(length // HASH_BYTES)) or not numbers:
        raise MalformedError("fetch answer: not all parts of an artifact")
    return body[end:]


def _split_parts(body: memoryview, count: int, size: int) -> list[tuple[int, memoryview]]:
    """The numbered parts of an answer; their lengths follow from the artifact's size."""
    start = count * _NUMBER.size
    if len(body) < start:
        raise MalformedError("fetch answer: parts without numbers")
    parts: list[tuple[int, memoryview]] = []
    for (number,) in _NUMBER.iter_unpack(body[:start]):
        if number >= part_count(size):
            raise MalformedError(f"fetch answer: there is no part {number}")
        end = start + part_length(size, number)
        parts.append((number, body[start:end]))
        start = end
    # Nothing may be left over, and no part may come twice.
    if start != len(body) or len(dict(parts)) != count:
        raise MalformedError(f"fetch answer: {count} different parts are no {len(body)} bytes")
    return parts


# Digests

DIGEST_BYTES = 16
DIGEST_IDS_MAX = 500
"""Ids listed in one request: 16 KiB."""
HALF_BYTES = 16
"""The first bytes of an id, in lists over lazy edges: as many as a digest has, so as hard to meet on purpose."""
_DIGEST = Struct(f">B{DIGEST_BYTES}s")
_LACKS_LINKS, _HALVES = 1, 2


class DigestRequest(NamedTuple):
    """One request on `/<client>/digest`.

    The answer has one status per id or half listed: HAVE, UNWANTED, ADVERTISE, or BUSY if another peer is about to send it.
    With none listed it has one: OK if the receiver's digest is the same, else ADVERTISE.
    """

    digest: bytes
    lacks_links: bool
    """The sender is not linked to every member."""
    ids: list[ArtifactId]
    halves: list[bytes]
    """The first HALF_BYTES of ids that the sender holds. Not with `ids`; `digest` is empty then."""


def encode_halves(ids: list[ArtifactId]) -> bytes:
    """The bytes of a `DigestRequest` that lists the halves of these ids."""
    return bytes([_HALVES]) + b"".join([artifact[:HALF_BYTES] for artifact in ids])


def encode_digest(digest: bytes, ids: list[ArtifactId], *, lacks_links: bool) -> bytes:
    """The bytes of a `DigestRequest`."""
    return _DIGEST.pack(_LACKS_LINKS if lacks_links else 0, digest) + b"".join(ids)


def decode_digest(body: bytes) -> DigestRequest:
    """The request in these bytes. Raises MalformedError."""
    if body[:1] == bytes([_HALVES]):
        count, rest = divmod(len(body) - 1, HALF_BYTES)
        if rest or not 0 < count <= DIGEST_IDS_MAX:
            raise MalformedError(f"digest: {len(body)} bytes are no halves of ids")
        return DigestRequest(b"", False, [], [body[at : at + HALF_BYTES] for at in range(1, len(body), HALF_BYTES)])
    count, rest = divmod(len(body) - _DIGEST.size, ARTIFACT_ID_BYTES)
    if rest or not 0 <= count <= DIGEST_IDS_MAX or body[0] > _LACKS_LINKS:
        raise MalformedError(f"digest: {len(body)} bytes are no digest")
    flags, digest = _DIGEST.unpack_from(body)
    starts = range(_DIGEST.size, len(body), ARTIFACT_ID_BYTES)
    ids = [ArtifactId(body[start : start + ARTIFACT_ID_BYTES]) for start in starts]
    return DigestRequest(digest, bool(flags & _LACKS_LINKS), ids, [])
