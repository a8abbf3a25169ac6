"""The effects of a `Broadcast`: everything it can ask of its driver. Tokens are unique per Broadcast and process."""

import msgspec

from p2pnet.broadcast.pool import Change
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId


class SendUpdates(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/update`; `UpdatesAnswered` is due. The pieces of the body are concatenated on the wire."""

    token: int
    peer: str
    connection: int
    body: list[bytes]
    urgent: bool


class Fetch(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/fetch`; `FetchAnswered` is due. The driver cancels it after `timeout_s`."""

    token: int
    peer: str
    connection: int
    body: bytes
    timeout_s: float


class SendSynced(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/synced`; `SyncedAnswered` is due."""

    token: int
    peer: str
    connection: int


class SendDigest(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/digest`; `DigestAnswered` is due."""

    token: int
    peer: str
    connection: int
    body: bytes


class SendStripes(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/stripes`; `StripesAnswered` is due. The pieces of the body are concatenated on the wire."""

    token: int
    peer: str
    connection: int
    body: list[bytes]
    urgent: bool


class Cancel(msgspec.Struct, frozen=True):
    """Reset the stream of a SendUpdates or Fetch that has no answer yet; none is due any more."""

    token: int


class AnswerUpdates(msgspec.Struct, frozen=True):
    """Reply to `UpdatesReceived`."""

    token: int
    body: bytes


class AnswerFetch(msgspec.Struct, frozen=True):
    """Reply to `FetchReceived`. The pieces of the body are concatenated on the wire."""

    token: int
    body: list[bytes]


class AnswerDigest(msgspec.Struct, frozen=True):
    """Reply to `DigestReceived`."""

    token: int
    body: bytes


class AnswerStripes(msgspec.Struct, frozen=True):
    """Reply to `StripesReceived`."""

    token: int
    body: bytes


class RunClient(msgspec.Struct, frozen=True):
    """Call `client.on_state_change(changes, pool, now)`; `ClientAnswered` is due. At most one is open at a time."""

    changes: list[Change]


class Published(msgspec.Struct, frozen=True):
    """The artifact of the `Publish` being handled is in the validated pool under this id."""

    artifact: ArtifactId


class PublishRefused(msgspec.Struct, frozen=True):
    """The `Publish` being handled was refused. `code`: no-slot | too-large | malformed."""

    code: str
    message: str


class Emit(msgspec.Struct, frozen=True, gc=False):
    """An event for the event log, see `model.events`; the driver adds sequence number and client name."""

    kind: EventKind
    artifact: ArtifactId | None = None
    peer: str = ""
    hop: int = 0
    bytes: int = 0
    detail: str = ""


Effect = (
    SendUpdates
    | Fetch
    | SendSynced
    | SendDigest
    | SendStripes
    | Cancel
    | AnswerUpdates
    | AnswerFetch
    | AnswerDigest
    | AnswerStripes
    | RunClient
    | Published
    | PublishRefused
    | Emit
)
