"""Everything that can happen to a `Broadcast`: the one way in."""

import msgspec

from p2pnet.broadcast.pool import ChangeAction
from p2pnet.model.ids import ArtifactId


class Publish(msgspec.Struct, frozen=True):
    """This node's user wants an artifact published. Answered by one `Published` or `PublishRefused` in the same turn."""

    data: bytes
    """The encoded artifact, as the client made it."""
    size: int
    """Bytes of user payload in it."""


class Withdraw(msgspec.Struct, frozen=True):
    """Remove from the pool, whoever published it; the id is unwanted until it would have expired."""

    artifact: ArtifactId


class Purge(msgspec.Struct, frozen=True):
    """Remove from this node's pool as its client would: nobody else is told; the id is unwanted until it would have expired."""

    artifact: ArtifactId


class PeerUp(msgspec.Struct, frozen=True):
    """An authenticated connection to a peer is in use; a newer `connection` replaces an older one of the same peer."""

    peer: str
    connection: int


class PeerDown(msgspec.Struct, frozen=True):
    """That connection has ended. Ignored when a newer one is already in use."""

    peer: str
    connection: int


class UpdatesReceived(msgspec.Struct, frozen=True):
    """A request on `/<client>/update`. Answered by one `AnswerUpdates` with the same token, now or in a later turn."""

    peer: str
    connection: int
    token: int
    body: bytes


class UpdatesAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendUpdates`; `body` None: the request failed on the way (lost, reset, timed out)."""

    token: int
    body: bytes | None


class FetchReceived(msgspec.Struct, frozen=True):
    """A request on `/<client>/fetch`. Answered by one `AnswerFetch` with the same token in the same turn."""

    peer: str
    connection: int
    token: int
    body: bytes


class FetchAnswered(msgspec.Struct, frozen=True):
    """The reply to a `Fetch`; `body` None: it failed on the way."""

    token: int
    body: bytes | None


class SyncedReceived(msgspec.Struct, frozen=True):
    """The peer says that all its active slots were answered on this connection."""

    peer: str
    connection: int


class SyncedAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendSynced`; not `ok`: it failed on the way and is due again while the connection lives."""

    token: int
    ok: bool


class DigestReceived(msgspec.Struct, frozen=True):
    """A request on `/<client>/digest`. Answered by one `AnswerDigest` with the same token in the same turn."""

    peer: str
    connection: int
    token: int
    body: bytes


class DigestAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendDigest`; `body` None: it failed on the way."""

    token: int
    body: bytes | None


class MembersChanged(msgspec.Struct, frozen=True):
    """The registry's members now. Rows of peers no longer among them end."""

    members: frozenset[str]


class ClientAnswered(msgspec.Struct, frozen=True):
    """What `on_state_change` answered to a `RunClient`, and how long it took."""

    actions: list[ChangeAction]
    took_ns: int
    failed: str = ""
    """What it raised; it is called again with the same changes after a pause."""


class Wake(msgspec.Struct, frozen=True):
    """The time that `next_wakeup` named has come."""


Input = (
    Publish
    | Withdraw
    | Purge
    | PeerUp
    | PeerDown
    | UpdatesReceived
    | UpdatesAnswered
    | FetchReceived
    | FetchAnswered
    | SyncedReceived
    | SyncedAnswered
    | DigestReceived
    | DigestAnswered
    | MembersChanged
    | ClientAnswered
    | Wake
)
