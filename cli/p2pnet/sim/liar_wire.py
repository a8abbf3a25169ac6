"""The wire format for liars: thin wrappers of `broadcast.wire` that also encode what no honest peer would send."""

from typing import NamedTuple

from p2pnet.broadcast.artifact import all_parts, artifact_id, id_prefix, part_count, part_list
from p2pnet.broadcast.merkle import LEAF_BYTES, proof, tree
from p2pnet.broadcast.stripes import Stripe, decode_stripes, encode_stripe, place_of, plan_shares
from p2pnet.broadcast.wire import (
    EntryKind,
    UpdateStatus,
    decode_digest,
    decode_fetch,
    decode_fetch_answer,
    decode_updates,
    encode_advert,
    encode_empty,
    encode_fetch,
    encode_gone,
    encode_halves,
    encode_have,
    encode_parts,
    encode_push,
    encode_scattered,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import PART_BYTES, UPDATE_BATCH_BYTES

STATUSES = len(UpdateStatus)
OK, HAVE, UNWANTED, ADVERTISE, BUSY, MALFORMED = (
    int(status)
    for status in (
        UpdateStatus.OK,
        UpdateStatus.HAVE,
        UpdateStatus.UNWANTED,
        UpdateStatus.ADVERTISE,
        UpdateStatus.BUSY,
        UpdateStatus.MALFORMED,
    )
)


class Heard(NamedTuple):
    """One entry of a peer's update."""

    artifact: ArtifactId | None
    """None: the entry is an empty."""
    size: int
    """Encoded bytes."""
    data: bytes | None
    """The encoded artifact; None: the entry is an advert."""
    key: bytes
    """The client's key."""


class Question(NamedTuple):
    """A peer's fetch."""

    artifact: ArtifactId
    wants_list: bool
    parts: list[int]
    """Numbers of the parts asked for; empty when the part list is."""
    most: int
    """How many parts may come with the part list."""


# Updates


def identify(client: str, data: bytes, key: bytes = b"") -> ArtifactId:
    """The id of an encoded artifact."""
    return artifact_id(id_prefix(client), key, len(data), part_list(data))


def read_updates(client: str, body: bytes) -> list[Heard]:
    """The entries of an update request; [] for a malformed one."""
    try:
        entries = decode_updates(body)
    except MalformedError:
        return []
    found = []
    for entry in entries:
        content = body[entry.start : entry.end]
        if entry.kind == EntryKind.ADVERT:
            found.append(Heard(ArtifactId(content), entry.size, None, entry.key))
        elif entry.kind in {EntryKind.STRIPPED, EntryKind.STRIPE}:
            found.append(Heard(ArtifactId(content[:ARTIFACT_ID_BYTES]), entry.size, None, entry.key))
        elif entry.kind == EntryKind.PUSH:
            found.append(Heard(identify(client, content, entry.key), entry.size, content, entry.key))
        else:
            found.append(Heard(None, 0, None, b""))
    return found


def advert(
    slot: int, commit: int, artifact: ArtifactId, size: int, key: bytes = b"", *, have: int | None = None
) -> bytes:
    """An entry that claims to hold an artifact, or only the parts whose bits are set in `have`."""
    return encode_advert(
        slot, commit, 0, size, artifact, key=key, have=None if have is None else have & all_parts(size)
    )


def push(slot: int, commit: int, data: bytes, key: bytes = b"") -> bytes:
    """An entry with the bytes of an artifact."""
    return b"".join(encode_push(slot, commit, 0, data, key))


def empty(slot: int, commit: int) -> bytes:
    """An entry that ends whatever a slot held."""
    return encode_empty(slot, commit)


def batches(entries: list[bytes]) -> list[bytes]:
    """The bodies of as few update requests as an honest peer would use for these entries."""
    bodies = [b""]
    for entry in entries:
        if bodies[-1] and len(bodies[-1]) + len(entry) > UPDATE_BATCH_BYTES:
            bodies.append(b"")
        bodies[-1] += entry
    return [body for body in bodies if body]


# Fetches


def question(artifact: ArtifactId, part: int) -> bytes:
    """A request for one part."""
    return encode_fetch(artifact, [part])


def read_question(body: bytes) -> Question | None:
    """The fetch in these bytes; None for a malformed one."""
    try:
        asked = decode_fetch(body)
    except MalformedError:
        return None
    return Question(asked.artifact, not asked.parts, asked.parts, asked.most)


def read_part(body: bytes, size: int, part: int) -> bytes | None:
    """The part with this number in an answer; None: it is not there."""
    try:
        answer = decode_fetch_answer(body, size)
    except MalformedError:
        return None
    return next((bytes(content) for number, content in answer.parts if number == part), None)


def serve(asked: Question, size: int, list_of_parts: bytes, parts: dict[int, bytes]) -> bytes:
    """An answer with this part list, and those parts asked for that are among `parts`; nothing is checked."""
    wanted = sorted(parts)[: asked.most] if asked.wants_list else [number for number in asked.parts if number in parts]
    if not asked.wants_list and not wanted:
        return serve_later(size, sum(1 << number for number in parts))
    return b"".join(
        encode_parts(list_of_parts if asked.wants_list else b"", [(number, parts[number]) for number in wanted])
    )


def serve_later(size: int, have: int = 0) -> bytes:
    """An answer that the parts asked for are not here yet, but those whose bits are set in `have` are."""
    return b"".join(encode_have(have & all_parts(size), size))


def serve_nothing() -> bytes:
    """An answer that nothing of the artifact is here."""
    return b"".join(encode_gone())


def split(data: bytes) -> dict[int, bytes]:
    """The parts of an encoded artifact, by number."""
    return {part: data[part * PART_BYTES : (part + 1) * PART_BYTES] for part in range(part_count(len(data)))}


def true_list(data: bytes) -> bytes:
    """The part list of an encoded artifact."""
    return part_list(data)


# Stripes


def read_stripes(body: bytes) -> list[Stripe]:
    """The stripes of a request; [] for a malformed one."""
    try:
        return decode_stripes(body)
    except MalformedError:
        return []


def stripe(
    artifact: ArtifactId, first: int, level: int, siblings: bytes, data: bytes, *, first_hand: bool = False
) -> bytes:
    """A stripe, whatever stands in it."""
    return b"".join(encode_stripe(artifact, first, level, siblings, memoryview(data), first_hand=first_hand))


def scattered(slot: int, commit: int, data: bytes, key: bytes, artifact: ArtifactId) -> bytes:
    """An entry that says that stripes of this artifact come."""
    return b"".join(encode_scattered(slot, commit, 0, len(data), artifact, part_list(data), key=key))


def cut(artifact: ArtifactId, data: bytes, peers: int) -> list[list[bytes]]:
    """The shares, each a list of stripes, in which an honest node deals an artifact out to so many peers."""
    shares = []
    for share in plan_shares(len(data), peers):
        stripes = []
        for first, level in share:
            place = place_of(len(data), first, level)
            if place is not None:
                part, node, length = place
                start = part * PART_BYTES
                siblings = proof(tree(data[start : start + PART_BYTES]), node, set())
                start += (node[1] << level) * LEAF_BYTES
                stripes.append(stripe(artifact, first, level, siblings, data[start : start + length], first_hand=True))
        shares.append(stripes)
    return shares


# Digests


def halves(ids: list[ArtifactId]) -> bytes:
    """A list of artifacts that its sender claims to hold, over a lazy edge."""
    return encode_halves(ids)


def count_digest(body: bytes) -> int:
    """How many statuses an honest answer to this digest has."""
    try:
        read = decode_digest(body)
        return max(1, len(read.ids) + len(read.halves))
    except MalformedError:
        return 1
