"""`blob`, the client of injected files: {created, expires, nonce, name, bytes} as a msgpack array, valid until it expires."""

from typing import Annotated

import msgspec

from p2pnet.broadcast.client import Bounce, Relay
from p2pnet.broadcast.pool import (
    Change,
    ChangeAction,
    ChangeKind,
    HandleInvalid,
    Inspected,
    MoveToValidated,
    PoolView,
    RemoveFromUnvalidated,
)
from p2pnet.model.errors import LimitError, MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import ENVELOPE_BYTES_MAX, NAME_CHARS_MAX

NONCE_BYTES = 16
"""The nonce makes the same file injected twice two artifacts."""
CLOCK_BOUND_S = 30.0
"""How far a publisher's clock may run ahead of a receiver's, in seconds."""
KEEP_S_MAX = 7 * 86_400.0
"""A blob takes a slot at its publisher until it expires, so that must not be never."""


class Blob(msgspec.Struct, array_like=True, frozen=True):
    """An injected file. `data` is a view into the encoded artifact."""

    created: float
    """Unix seconds, as `expires`."""
    expires: float
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
    data: memoryview


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Blob).decode


def make_blob(name: str, data: bytes, nonce: bytes, created: float, expires: float) -> bytes:
    """Encode a blob; times in Unix seconds. Raises LimitError when name, nonce or time to live break a bound."""
    if len(nonce) != NONCE_BYTES:
        raise LimitError(f"a nonce of {len(nonce)} bytes: it has {NONCE_BYTES}")
    if not created <= expires <= created + KEEP_S_MAX:
        raise LimitError(f"a blob that expires after {expires - created:g} s: at most {KEEP_S_MAX:g} s")
    encoded = _encode((created, expires, nonce, name, data))
    if len(name) > NAME_CHARS_MAX or len(encoded) - len(data) > ENVELOPE_BYTES_MAX:
        raise LimitError(f"a name of {len(name)} characters: at most {NAME_CHARS_MAX}, and 900 bytes")
    return encoded


def read_blob(encoded: bytes) -> Blob:
    """Decode a blob; its data is not copied. Raises MalformedError."""
    try:
        blob = _decode(encoded)
    except msgspec.DecodeError as error:
        raise MalformedError(f"not a blob: {error}") from error
    if not 0 <= blob.created <= blob.expires <= blob.created + KEEP_S_MAX:
        raise MalformedError("not a blob: its expiry is out of bounds")
    if len(encoded) - len(blob.data) > ENVELOPE_BYTES_MAX:
        raise MalformedError("not a blob: its envelope is too large")
    return blob


class BlobClient:
    """The client that validates every blob which has not expired and was not created in the future."""

    name = "blob"
    tick_s: float | None = None

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        """See `Client`."""
        return make_blob(name, data, nonce, now, now + keep_s)

    def inspect(self, data: bytes) -> Inspected:
        """See `Client`."""
        blob = read_blob(data)
        size = len(blob.data)  # the last field of the array
        return Inspected(size=size, expires=blob.expires, name=blob.name, start=len(data) - size, content=blob.created)

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        """See `Client`."""
        actions: list[ChangeAction] = []
        unvalidated, latest = pool.unvalidated, now + CLOCK_BOUND_S
        for change in changes:
            if change.kind is not ChangeKind.INSERTED or (artifact := unvalidated.get(change.artifact)) is None:
                continue
            created = artifact.inspected.content
            # Expired on its way: nobody's fault, so it is not reported.
            if artifact.inspected.expires <= now:
                actions.append(RemoveFromUnvalidated(artifact.id))
            elif not isinstance(created, float) or created > latest:
                actions.append(HandleInvalid(artifact.id, f"created more than {CLOCK_BOUND_S:g} s in the future"))
            else:
                actions.append(MoveToValidated(artifact.id))
        return actions

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:  # noqa: ARG002 - a blob's id says nothing
        """See `Client`."""
        return Bounce.WANTS

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:  # noqa: ARG002 - no file is
        """See `Client`."""
        return False

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:  # noqa: ARG002 - all alike
        """See `Client`."""
        return None
