"""All that a liar knows of the wire format: the honest one, from `broadcast.wire`, as a liar wants to use it."""

from typing import NamedTuple

from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_count, part_list
from p2pnet.broadcast.wire import (
    FetchKind,
    FetchStatus,
    Kind,
    Status,
    decode_fetch,
    decode_fetch_answer,
    decode_updates,
    encode_advert,
    encode_empty,
    encode_fetch,
    encode_fetch_answer,
    encode_push,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES, UPDATE_BATCH_BYTES

STATUSES = len(Status)
OK, UNWANTED, BUSY, MALFORMED = int(Status.OK), int(Status.UNWANTED), int(Status.BUSY), int(Status.MALFORMED)


class Heard(NamedTuple):
    """One entry of a peer's update."""

    artifact: ArtifactId | None
    """None: an empty."""
    size: int
    """Encoded bytes."""
    data: bytes | None
    """None: an advert."""
    key: bytes = b""


class Question(NamedTuple):
    """A peer's fetch."""

    artifact: ArtifactId
    wants_list: bool
    parts: list[int]


def identify(client: str, data: bytes, key: bytes = b"") -> ArtifactId:  # noqa: ARG001 - ids do not hash keys yet
    """The id of an encoded artifact."""
    return artifact_id(id_prefix(client), len(data), part_list(data))


def read_updates(client: str, body: bytes) -> list[Heard]:
    """The entries of an update request; none of a malformed one."""
    try:
        entries = decode_updates(body)
    except MalformedError:
        return []
    found = []
    for entry in entries:
        content = body[entry.start : entry.end]
        if entry.kind == Kind.ADVERT:
            found.append(Heard(ArtifactId(content), entry.size, None))
        elif entry.kind == Kind.PUSH:
            found.append(Heard(identify(client, content), entry.size, content))
        else:
            found.append(Heard(None, 0, None))
    return found


def advert(
    slot: int,
    commit: int,
    artifact: ArtifactId,
    size: int,
    key: bytes = b"",  # noqa: ARG001 - adverts carry no keys yet
    *,
    complete: bool = True,
) -> bytes:
    """An entry that claims to hold it."""
    return encode_advert(slot, commit, 0, size, artifact, complete=complete)


def push(slot: int, commit: int, data: bytes, key: bytes = b"") -> bytes:  # noqa: ARG001 - as above
    """An entry with these bytes."""
    return b"".join(encode_push(slot, commit, 0, data))


def empty(slot: int, commit: int) -> bytes:
    """An entry that ends a slot."""
    return encode_empty(slot, commit)


def batches(entries: list[bytes]) -> list[bytes]:
    """These entries in as few requests as an honest peer takes."""
    bodies = [b""]
    for entry in entries:
        if bodies[-1] and len(bodies[-1]) + len(entry) > UPDATE_BATCH_BYTES:
            bodies.append(b"")
        bodies[-1] += entry
    return [body for body in bodies if body]


def question(artifact: ArtifactId, part: int) -> bytes:
    """A fetch of one part."""
    return encode_fetch(FetchKind.PART, artifact, part)


def read_question(body: bytes) -> Question | None:
    """None for a malformed one."""
    try:
        kind, artifact, part = decode_fetch(body)
    except MalformedError:
        return None
    return Question(artifact, kind is FetchKind.PARTS, [] if kind is FetchKind.PARTS else [part])


def read_part(body: bytes, size: int, part: int) -> bytes | None:  # noqa: ARG001 - an answer is about one part
    """The part with this number in the answer of a peer that was asked for it."""
    try:
        status, content = decode_fetch_answer(body)
    except MalformedError:
        return None
    return bytes(content) if status is FetchStatus.PART else None


def serve(asked: Question, size: int, list_of_parts: bytes, parts: dict[int, bytes]) -> bytes:
    """An answer with this part list and those of the parts asked for that are among these, true or not."""
    if asked.wants_list:
        return b"".join(encode_fetch_answer(FetchStatus.PARTS, list_of_parts))
    if asked.parts[0] in parts:
        return b"".join(encode_fetch_answer(FetchStatus.PART, parts[asked.parts[0]]))
    return serve_later(asked, size)


def serve_later(asked: Question, size: int) -> bytes:  # noqa: ARG001 - no bitmap is told yet
    """An answer that has none of it yet."""
    return b"".join(encode_fetch_answer(FetchStatus.NOT_YET))


def serve_nothing() -> bytes:
    """An answer that has it no more."""
    return b"".join(encode_fetch_answer(FetchStatus.GONE))


def split(data: bytes) -> dict[int, bytes]:
    """The parts of an artifact, by number."""
    return {part: data[part * PART_BYTES : (part + 1) * PART_BYTES] for part in range(part_count(len(data)))}


def true_list(data: bytes) -> bytes:
    """The part list of an artifact."""
    return part_list(data)
