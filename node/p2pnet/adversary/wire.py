"""What adversaries do to bytes: other questions, spoilt answers, adverts in the place of pushes, garbage of every route."""

from p2pnet.adversary.conduct import AdversaryChance, Answering, Asking, PeerRequest
from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import artifact_id, part_list
from p2pnet.broadcast.merkle import LEAF_BYTES
from p2pnet.broadcast.stripes import decode_stripes, encode_stripe
from p2pnet.broadcast.wire import (
    EntryKind,
    FetchStatus,
    UpdateStatus,
    decode_digest,
    decode_fetch,
    decode_updates,
    encode_advert,
    encode_digest,
    encode_fetch,
    encode_first_fetch,
    encode_leaves_fetch,
    encode_push,
    locate_parts,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import ARTIFACT_BYTES_MAX, PART_BYTES

_OK, _HAVE = bytes([UpdateStatus.OK]), bytes([UpdateStatus.HAVE])

# In the place of peers and of the core


def accepted(effect: Asking) -> inputs.Input:
    """The answer of a peer that took a request which was never sent; of a fetch, that it got none."""
    match effect:
        case effects.SendUpdates(token, _, _, body):
            return inputs.UpdatesAnswered(token, _OK * len(decode_updates(b"".join(body))))
        case effects.SendStripes(token, _, _, body):
            return inputs.StripesAnswered(token, _OK * len(decode_stripes(b"".join(body))))
        case effects.SendDigest(token, _, _, body):
            listed = decode_digest(body)
            return inputs.DigestAnswered(token, _HAVE * (len(listed.ids) + len(listed.halves)) or _OK)
        case effects.SendSynced(token):
            return inputs.SyncedAnswered(token, ok=True)
        case effects.Fetch(token):
            return inputs.FetchAnswered(token, None)


def answer_with(request: PeerRequest, body: list[bytes]) -> Answering:
    """An answer of these bytes to a request."""
    match request:
        case inputs.UpdatesReceived():
            return effects.AnswerUpdates(request.token, b"".join(body))
        case inputs.FetchReceived():
            return effects.AnswerFetch(request.token, body)
        case inputs.DigestReceived():
            return effects.AnswerDigest(request.token, b"".join(body))
        case inputs.StripesReceived():
            return effects.AnswerStripes(request.token, b"".join(body))


# Fetches


def least_of(question: bytes) -> bytes:
    """The question for as little as can be of what a fetch asks for: one leaf, one part, or the part list with one part."""
    try:
        asked = decode_fetch(question)
    except MalformedError:
        return question
    if asked.leaves:
        return encode_leaves_fetch(asked.artifact, asked.parts[0], asked.leaves & -asked.leaves)
    if asked.parts:
        return encode_fetch(asked.artifact, asked.parts[:1])
    return encode_first_fetch(asked.artifact, min(asked.most, 1))


def spoil_answer(body: list[bytes], rng: AdversaryChance) -> list[bytes]:
    """The answer to a fetch with a byte of every part or stripe changed; of a part list when there is nothing else."""
    spoilt = bytearray(b"".join(body))
    status, start = locate_parts(spoilt)
    if status == FetchStatus.LEAVES:
        return [bytes(spoilt[:start]), *spoil_stripes(bytes(spoilt[start:]), rng)]
    if status == FetchStatus.PARTS:
        # A list is spoilt when no part comes with it: with parts it is true, so that these are what is found out.
        at = range(start, len(spoilt), PART_BYTES) or range(start - 1, start)
        for first in at:
            _flip(spoilt, first, min(first + PART_BYTES, len(spoilt)), rng)
    return [bytes(spoilt)]


def spoil_stripes(body: bytes, rng: AdversaryChance) -> list[bytes]:
    """A request or answer of stripes with a byte of each one's data changed."""
    pieces: list[bytes] = []
    for stripe in decode_stripes(body):
        data = bytearray(stripe.data)
        _flip(data, 0, len(data), rng)
        pieces += encode_stripe(
            ArtifactId(stripe.short), stripe.first, stripe.level, bytes(stripe.proof), memoryview(data),
            first_hand=stripe.first_hand,
        )  # fmt: skip
    return pieces


# Updates


def spoil_stripped(body: list[bytes], rng: AdversaryChance) -> list[bytes]:
    """A request of updates with a byte of each stripped form changed. Pushes are left: changed ones are other artifacts."""
    spoilt = bytearray(b"".join(body))
    for entry in decode_updates(bytes(spoilt)):
        if entry.kind == EntryKind.STRIPPED and entry.end - entry.start > ARTIFACT_ID_BYTES:
            _flip(spoilt, entry.start + ARTIFACT_ID_BYTES, entry.end, rng)
    return [bytes(spoilt)]


def pushes_as_adverts(body: list[bytes], prefix: bytes) -> list[bytes]:
    """A request of updates with adverts in the place of pushes. `prefix`: see `artifact.id_prefix`."""
    joined = b"".join(body)
    entries, found, start = decode_updates(joined), False, 0
    pieces: list[bytes] = []
    for entry in entries:
        if entry.kind == EntryKind.PUSH:
            found, data = True, joined[entry.start : entry.end]
            artifact = artifact_id(prefix, entry.key, len(data), part_list(data))
            advert = encode_advert(
                entry.slot, entry.commit, entry.hop, entry.size, artifact, key=entry.key, origin=entry.origin
            )
            pieces.append(advert)
        else:
            pieces.append(joined[start : entry.end])
        start = entry.end
    return pieces if found else body


# Garbage


def garbage_adverts(first_slot: int, commit: int, count: int, rng: AdversaryChance) -> list[bytes]:
    """Adverts of ids that nobody has, of every size, in slots from `first_slot` on."""
    ids = rng.randbytes(count * ARTIFACT_ID_BYTES)
    return [
        encode_advert(
            first_slot + number, commit, 0, _SIZES[number % len(_SIZES)],
            ArtifactId(ids[number * ARTIFACT_ID_BYTES : (number + 1) * ARTIFACT_ID_BYTES]),
        )
        for number in range(count)
    ]  # fmt: skip


def garbage_push(slot: int, commit: int, size: int, rng: AdversaryChance) -> list[bytes]:
    """A push of bytes that no client can read."""
    return encode_push(slot, commit, 0, garbage(size, rng))


def garbage_stripes(count: int, rng: AdversaryChance) -> list[bytes]:
    """Stripes of artifacts that nobody has announced."""
    pieces: list[bytes] = []
    for number in range(count):
        data = memoryview(garbage(LEAF_BYTES, rng))
        pieces += encode_stripe(ArtifactId(rng.randbytes(ARTIFACT_ID_BYTES)), number, 0, b"", data, first_hand=True)
    return pieces


def garbage_digest(count: int, rng: AdversaryChance) -> bytes:
    """A digest that differs from everybody's, and lists ids that nobody has."""
    ids = rng.randbytes(count * ARTIFACT_ID_BYTES)
    listed = [ArtifactId(ids[at : at + ARTIFACT_ID_BYTES]) for at in range(0, len(ids), ARTIFACT_ID_BYTES)]
    return encode_digest(rng.randbytes(16), listed, lacks_links=False)


def garbage_question(rng: AdversaryChance) -> bytes:
    """A fetch of something that nobody has."""
    return encode_first_fetch(ArtifactId(rng.randbytes(ARTIFACT_ID_BYTES)), 16)


def garbage(size: int, rng: AdversaryChance) -> bytes:
    """So many bytes that make no sense, cheaply: random ones, again and again."""
    seed = rng.randbytes(_SEED_BYTES)
    return (seed * -(-size // _SEED_BYTES))[:size]


_SEED_BYTES = 61
_SIZES = (1, 1_000, 70_000, 1_000_000, ARTIFACT_BYTES_MAX)


def _flip(data: bytearray, start: int, end: int, rng: AdversaryChance) -> None:
    """Change one byte of data[start:end]."""
    if end > start:
        at = start + int(rng.random() * (end - start))
        data[at] ^= 1 + int(rng.random() * 255)
