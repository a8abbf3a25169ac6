"""The inputs of a `Broadcast`: everything that can happen to it. `Broadcast.handle` takes one at a time.

Wherever a peer's connection is named, it is by its id: local to this node, growing, and never used twice.
"""

import msgspec

from p2pnet.broadcast.pool import ChangeAction
from p2pnet.model.ids import ArtifactId


class Publish(msgspec.Struct, frozen=True):
    """Publish an artifact of this node's user. The effects hold one `Published` or `PublishRefused`."""

    data: bytes
    """The encoded artifact, as the client made it."""
    size: int
    """Bytes of user payload in it."""


class Withdraw(msgspec.Struct, frozen=True):
    """Remove an artifact from the pool, whoever published it; its id is unwanted until it would have expired."""

    artifact: ArtifactId


class Purge(msgspec.Struct, frozen=True):
    """Remove an artifact as this node's client would: as `Withdraw`, but the client is not told of it."""

    artifact: ArtifactId


class PeerUp(msgspec.Struct, frozen=True):
    """An authenticated connection to a peer is in use; a newer `connection` replaces an older one of the same peer."""

    peer: str
    connection: int


class PeerDown(msgspec.Struct, frozen=True):
    """A connection to a peer has ended. Ignored when a newer one is already in use."""

    peer: str
    connection: int


class UpdatesReceived(msgspec.Struct, frozen=True):
    """A peer's request on `/<client>/update`. One `AnswerUpdates` with the same token follows, now or in a later loop turn."""

    peer: str
    connection: int
    token: int
    body: bytes


class UpdatesAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendUpdates`; `body` None: the request failed on the way (lost, reset, timed out)."""

    token: int
    body: bytes | None


class FetchReceived(msgspec.Struct, frozen=True):
    """A peer's request on `/<client>/fetch`. The effects hold one `AnswerFetch` with the same token."""

    peer: str
    connection: int
    token: int
    body: bytes


class FetchAnswered(msgspec.Struct, frozen=True):
    """The reply to a `Fetch`; `body` None: it failed on the way, or took longer than its timeout."""

    token: int
    body: bytes | None


class SyncedReceived(msgspec.Struct, frozen=True):
    """A peer's request on `/<client>/synced`: all its active slots were answered on this connection."""

    peer: str
    connection: int


class SyncedAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendSynced`; not `ok`: it failed on the way, and is sent again while the connection lives."""

    token: int
    ok: bool


class DigestReceived(msgspec.Struct, frozen=True):
    """A peer's request on `/<client>/digest`. The effects hold one `AnswerDigest` with the same token."""

    peer: str
    connection: int
    token: int
    body: bytes


class DigestAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendDigest`; `body` None: it failed on the way."""

    token: int
    body: bytes | None


class StripesReceived(msgspec.Struct, frozen=True):
    """A peer's request on `/<client>/stripes`. One `AnswerStripes` with the same token follows, now or in a later loop turn."""

    peer: str
    connection: int
    token: int
    body: bytes


class StripesAnswered(msgspec.Struct, frozen=True):
    """The reply to a `SendStripes`; `body` None: it failed on the way."""

    token: int
    body: bytes | None


class MembersChanged(msgspec.Struct, frozen=True):
    """The registry's members have changed to these. Rows of peers that are no longer among them end."""

    members: frozenset[str]


class ClientAnswered(msgspec.Struct, frozen=True):
    """The answer to a `RunClient`: what `on_state_change` returned, and how long it took."""

    actions: list[ChangeAction]
    took_ns: int
    failed: str = ""
    """What it raised; empty: nothing. It is called again with the same changes after a pause."""


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
    | StripesReceived
    | StripesAnswered
    | MembersChanged
    | ClientAnswered
    | Wake
)
