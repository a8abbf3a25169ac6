"""A client's pool (validated and unvalidated artifacts), what it is told of it and what it may ask of it."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from p2pnet.model.ids import ArtifactId


class Inspected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a client reads in an encoded artifact without judging it."""

    size: int
    """Bytes of user payload."""
    key: bytes = b""
    """At most 32 bytes of the client's own (a height, a kind): part of the id, carried in every advert."""
    expires: float = math.inf
    """Unix seconds."""
    height: int | None = None
    """For clients that purge below a height."""
    name: str = ""
    start: int = 0
    """Where the user's bytes begin in the artifact."""
    content: object = None
    """What the client itself wants to remember of it. No reference cycle may go through here."""


class Artifact(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """One artifact in a pool."""

    id: ArtifactId
    data: bytes
    """Encoded, as its publisher's client made it."""
    parts: bytes
    """Part list."""
    inspected: Inspected
    peer: str = ""
    """Who delivered it; empty: this node."""
    hop: int = 0

    @property
    def size(self) -> int:
        """Bytes of user payload."""
        return self.inspected.size

    @property
    def user_bytes(self) -> memoryview:
        """Without a copy."""
        start = self.inspected.start
        return memoryview(self.data)[start : start + self.inspected.size]


class ChangeKind(StrEnum):
    """What happened in a pool."""

    INSERTED = "inserted"  # a peer's artifact is in the unvalidated section
    DROPPED = "dropped"  # it left the unvalidated section, not by this client's action
    PUBLISHED = "published"  # this node's user published it: it is validated already
    REMOVED = "removed"  # it left the validated section: withdrawn or expired


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change since the client's last call, in order."""

    kind: ChangeKind
    artifact: ArtifactId


class AddToValidated(msgspec.Struct, frozen=True):
    """A product of this client: to be broadcast."""

    data: bytes


class MoveToValidated(msgspec.Struct, frozen=True, gc=False):
    """It is valid."""

    artifact: ArtifactId


class RemoveFromValidated(msgspec.Struct, frozen=True):
    """No longer needed: the broadcast of it ends; the id is unwanted until it would have expired."""

    artifact: ArtifactId


class RemoveFromUnvalidated(msgspec.Struct, frozen=True):
    """Not needed, and nobody's fault."""

    artifact: ArtifactId


class PurgeBelow(msgspec.Struct, frozen=True):
    """Remove everything of a lower height from both sections."""

    height: int


class HandleInvalid(msgspec.Struct, frozen=True):
    """It is invalid: it is removed and reported, and its id not fetched again."""

    artifact: ArtifactId
    reason: str


ChangeAction = (
    AddToValidated | MoveToValidated | RemoveFromValidated | RemoveFromUnvalidated | PurgeBelow | HandleInvalid
)


class PoolView(Protocol):
    """What a client may read."""

    @property
    def validated(self) -> Mapping[ArtifactId, Artifact]:
        """Own products, and what this client found valid."""

    @property
    def unvalidated(self) -> Mapping[ArtifactId, Artifact]:
        """What peers delivered and this client has not judged."""


class Pool:
    """Both sections. Only the core writes; an id is in at most one of them."""

    __slots__ = ("unvalidated", "validated")

    def __init__(
        self,
        validated: dict[ArtifactId, Artifact] | None = None,
        unvalidated: dict[ArtifactId, Artifact] | None = None,
    ) -> None:
        self.validated: dict[ArtifactId, Artifact] = {} if validated is None else validated
        self.unvalidated: dict[ArtifactId, Artifact] = {} if unvalidated is None else unvalidated

    def get(self, artifact: ArtifactId) -> Artifact | None:
        """A validated artifact."""
        return self.validated.get(artifact)

    def holds(self, artifact: ArtifactId) -> bool:
        """In either section."""
        return artifact in self.validated or artifact in self.unvalidated

    def ids(self) -> list[ArtifactId]:
        """Of the validated section, oldest first."""
        return list(self.validated)

    def snapshot(self) -> "Pool":
        """As it is now, for a client on another thread: payloads are shared, the sections are not."""
        return Pool(dict(self.validated), dict(self.unvalidated))

    def below(self, height: int) -> list[ArtifactId]:
        """Ids of both sections whose artifact has a lower height."""
        return [
            artifact.id
            for section in (self.validated, self.unvalidated)
            for artifact in section.values()
            if artifact.inspected.height is not None and artifact.inspected.height < height
        ]
