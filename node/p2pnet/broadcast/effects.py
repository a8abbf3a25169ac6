"""Everything a `Broadcast` can ask of its driver: the one way out. Tokens are unique per Broadcast and process."""

import msgspec

from p2pnet.broadcast.pool import Change
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId


class SendUpdates(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/update`; answer with `UpdatesAnswered`. The parts are concatenated on the wire."""

    token: int
    peer: str
    connection: int
    body: list[bytes]
    urgent: bool


class Fetch(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/fetch`; answer with `FetchAnswered`, None after `timeout_s` (the driver cancels)."""

    token: int
    peer: str
    connection: int
    body: bytes
    timeout_s: float


class SendSynced(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/synced`; answer with `SyncedAnswered`."""

    token: int
    peer: str
    connection: int


class SendDigest(msgspec.Struct, frozen=True):
    """Send one request on `/<client>/digest`; answer with `DigestAnswered`."""

    token: int
    peer: str
    connection: int
    body: bytes


class Cancel(msgspec.Struct, frozen=True):
    """Reset the stream of a SendUpdates or Fetch that is still open. No answer is owed any more."""

    token: int


class AnswerUpdates(msgspec.Struct, frozen=True):
    """Reply to `UpdatesReceived`."""

    token: int
    body: bytes


class AnswerFetch(msgspec.Struct, frozen=True):
    """Reply to `FetchReceived`. The parts are concatenated on the wire."""

    token: int
    body: list[bytes]


class AnswerDigest(msgspec.Struct, frozen=True):
    """Reply to `DigestReceived`."""

    token: int
    body: bytes


class RunClient(msgspec.Struct, frozen=True):
    """Call `client.on_state_change(changes, pool, now)` and answer with `ClientAnswered`. At most one is open at a time."""

    changes: list[Change]


class Published(msgspec.Struct, frozen=True):
    """The artifact of this turn's `Publish` is in the validated pool under this id."""

    artifact: ArtifactId


class PublishRefused(msgspec.Struct, frozen=True):
    """This turn's `Publish` did not happen. `code`: no-slot | too-large | malformed."""

    code: str
    message: str


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Something worth an event; the driver adds sequence number and client name."""

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
    | Cancel
    | AnswerUpdates
    | AnswerFetch
    | AnswerDigest
    | RunClient
    | Published
    | PublishRefused
    | Emit
)
