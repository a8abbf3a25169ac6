"""Slot updates and fetches as bytes. Any bytes give a message or a MalformedError.

An update request is a row of entries, each a fixed prefix and then an id (advert), an artifact (push) or nothing (empty);
its answer is one status byte per entry. A fetch asks for the part list or one part of an artifact.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import PART_BYTES, UPDATE_BATCH_BYTES


class Kind(IntEnum):
    """What a slot update carries."""

    PUSH = 0
    ADVERT = 1
    EMPTY = 2


class Status(IntEnum):
    """A receiver's word on one update. All but `BUSY`, `LIMIT` and `ADVERTISE` settle it."""

    OK = 0
    HAVE = 1
    UNWANTED = 2
    ADVERTISE = 3
    """No room for the bytes now: send an advert instead."""
    BUSY = 4
    LIMIT = 5
    MALFORMED = 6


class Entry(NamedTuple):
    """One update as received. Its content stays in the body, at [start:end], until somebody wants it."""

    slot: int
    commit: int
    kind: int
    hop: int
    complete: bool
    size: int
    """Bytes of the encoded artifact; 0 for an empty."""
    start: int
    end: int


class FetchKind(IntEnum):
    """What is asked for."""

    PARTS = 0
    """The part list."""
    PART = 1


class FetchStatus(IntEnum):
    """What is answered."""

    PARTS = 0
    PART = 1
    NOT_YET = 2
    GONE = 3


class FetchRequest(NamedTuple):
    """One question on `/<client>/fetch`."""

    kind: FetchKind
    artifact: ArtifactId
    part: int


# length of the content, slot, commit id, kind, hop, complete (1) or partial (0), size
_PREFIX = Struct(">IIQBBBI")
PREFIX_BYTES = _PREFIX.size
_FETCH = Struct(f">B{ARTIFACT_ID_BYTES}sI")
HOP_MAX = 255  # saturates; gates nothing
_STATUSES = frozenset(Status)
_PUSH, _ADVERT, _EMPTY = int(Kind.PUSH), int(Kind.ADVERT), int(Kind.EMPTY)


def next_hop(hop: int) -> int:
    """The hop of whoever got it from a source at `hop`: one more, saturating at HOP_MAX."""
    return min(hop + 1, HOP_MAX)


def encode_push(slot: int, commit: int, hop: int, data: bytes) -> list[bytes]:
    """An entry with the artifact itself: one piece when it may share a request, else two, to spare a copy."""
    size = len(data)
    prefix = _PREFIX.pack(size, slot, commit, _PUSH, hop, 1, size)
    return [prefix + data] if size + PREFIX_BYTES <= UPDATE_BATCH_BYTES else [prefix, data]


def encode_advert(slot: int, commit: int, hop: int, size: int, artifact: ArtifactId, *, complete: bool = True) -> bytes:
    """An entry with the id only. `complete` False: the sender holds some parts so far."""
    return _PREFIX.pack(ARTIFACT_ID_BYTES, slot, commit, _ADVERT, hop, complete, size) + artifact


def encode_empty(slot: int, commit: int) -> bytes:
    """An entry that ends whatever the slot held."""
    return _PREFIX.pack(0, slot, commit, _EMPTY, 0, 1, 0)


def decode_updates(body: bytes) -> list[Entry]:
    """The entries of an update request, at least one. A body above 16 KiB holds exactly one.

    Raises MalformedError, whatever the place of the fault: an honest sender makes none.
    """
    entries: list[Entry] = []
    unpack, start, total = _PREFIX.unpack_from, 0, len(body)
    while start < total:
        if total - start < PREFIX_BYTES:
            raise MalformedError(f"update: {total - start} bytes are no entry")
        length, slot, commit, kind, hop, complete, size = unpack(body, start)
        start += PREFIX_BYTES
        end = start + length
        if end > total:
            raise MalformedError(f"update: an entry of {length} bytes ends {end - total} bytes behind the request")
        if kind == _PUSH:
            fits = length == size and complete == 1
        elif kind == _ADVERT:
            fits = length == ARTIFACT_ID_BYTES and complete <= 1
        else:
            fits = kind == _EMPTY and length == size == hop == 0 and complete == 1
        if not fits:
            raise MalformedError(f"update: no entry has kind {kind}, length {length} and size {size}")
        entries.append(Entry(slot, commit, kind, hop, complete == 1, size, start, end))
        start = end
    if not entries or (len(entries) > 1 and total > UPDATE_BATCH_BYTES):
        raise MalformedError(f"update: {len(entries)} entries in {total} bytes")
    return entries


def decode_statuses(body: bytes, expected: int) -> bytes:
    """One status per update of the request, in order. Raises MalformedError."""
    if len(body) != expected or not _STATUSES.issuperset(body):
        raise MalformedError(f"update answer: {len(body)} bytes are no {expected} statuses")
    return body


def encode_fetch(kind: FetchKind, artifact: ArtifactId, part: int = 0) -> bytes:
    """A question for the part list, or for the part with this number."""
    return _FETCH.pack(kind, artifact, part)


def decode_fetch(body: bytes) -> FetchRequest:
    """Raises MalformedError."""
    if len(body) != _FETCH.size:
        raise MalformedError(f"fetch: {len(body)} bytes are no question")
    kind, artifact, part = _FETCH.unpack(body)
    if kind > FetchKind.PART or (kind == FetchKind.PARTS and part):
        raise MalformedError(f"fetch: no question has kind {kind} and part {part}")
    return FetchRequest(FetchKind(kind), ArtifactId(artifact), part)


def encode_fetch_answer(status: FetchStatus, content: bytes = b"") -> list[bytes]:
    """Two pieces when there is content, to spare a copy."""
    head = status.to_bytes(1, "big")
    return [head, content] if content else [head]


def decode_fetch_answer(body: bytes) -> tuple[FetchStatus, memoryview]:
    """The status and, for a part list or a part, its bytes inside `body`. Raises MalformedError."""
    if not body or body[0] > FetchStatus.GONE:
        raise MalformedError("fetch answer: no status")
    status, content = FetchStatus(body[0]), memoryview(body)[1:]
    if status is FetchStatus.PARTS:
        fits = len(content) > 0 and len(content) % ARTIFACT_ID_BYTES == 0
    elif status is FetchStatus.PART:
        fits = len(content) <= PART_BYTES
    else:
        fits = not content
    if not fits:
        raise MalformedError(f"fetch answer: {len(content)} bytes are no content of {status.name.lower()}")
    return status, content
