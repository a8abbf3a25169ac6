"""A client's pool of validated and unvalidated artifacts, the changes reported to the client, and its change actions."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from p2pnet.model.ids import ArtifactId


class Inspected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a client reads in an encoded artifact, without validating it."""

    size: int
    """Bytes of user payload."""
    key: bytes = b""
    """At most 32 bytes of the client's own (a height, a kind): part of the id, carried in every advert."""
    expires: float = math.inf
    """Unix seconds; infinite: never."""
    height: int | None = None
    """For clients that purge below a height; None: it has none."""
    name: str = ""
    """The user's name for it, such as a file name."""
    start: int = 0
    """Offset of the user's bytes in the encoded artifact."""
    content: object = None
    """Whatever the client wants to keep with it. It must not close a reference cycle: these structs are not collected."""


class Artifact(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """One artifact in a pool."""

    id: ArtifactId
    data: bytes
    """Encoded, as its publisher's client made it."""
    parts: bytes
    """Part list: the hashes of all parts."""
    inspected: Inspected
    peer: str = ""
    """The peer that completed it; empty: this node published it."""
    hop: int = 0
    """One more than at the peer that completed it; 0 at its publisher."""
    origin: int = 0
    """A number that its publisher drew when it started; 0: unknown."""
    announced_by: str = ""
    """The peer that answers for it, if that is not `peer`: one that dealt it out in stripes. Who passes stripes on cannot know
    what they make."""

    @property
    def size(self) -> int:
        """Bytes of user payload."""
        return self.inspected.size

    @property
    def user_bytes(self) -> memoryview:
        """The user's payload, as a view."""
        start = self.inspected.start
        return memoryview(self.data)[start : start + self.inspected.size]


class ChangeKind(StrEnum):
    """How a pool changed."""

    INSERTED = "inserted"  # a peer's artifact is in the unvalidated section
    DROPPED = "dropped"  # it left the unvalidated section, not by this client's action
    PUBLISHED = "published"  # this node's user published it: it is validated already
    REMOVED = "removed"  # it left the validated section: withdrawn or expired


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change of the pool since the client was last called."""

    kind: ChangeKind
    artifact: ArtifactId


class AddToValidated(msgspec.Struct, frozen=True):
    """Publish an artifact of this client's own making."""

    data: bytes
    """Encoded."""


class MoveToValidated(msgspec.Struct, frozen=True, gc=False):
    """An unvalidated artifact is valid."""

    artifact: ArtifactId


class RemoveFromValidated(msgspec.Struct, frozen=True):
    """A validated artifact is no longer needed: end its broadcast; its id is unwanted until it would have expired."""

    artifact: ArtifactId


class RemoveFromUnvalidated(msgspec.Struct, frozen=True):
    """An unvalidated artifact is not needed; that is nobody's fault, so nothing is reported."""

    artifact: ArtifactId


class PurgeBelow(msgspec.Struct, frozen=True):
    """Remove all artifacts of a lower height from both sections."""

    height: int


class HandleInvalid(msgspec.Struct, frozen=True):
    """An unvalidated artifact is invalid: remove and report it, and do not fetch its id again."""

    artifact: ArtifactId
    reason: str


ChangeAction = (
    AddToValidated | MoveToValidated | RemoveFromValidated | RemoveFromUnvalidated | PurgeBelow | HandleInvalid
)


class PoolView(Protocol):
    """The pool as a client sees it: read only."""

    @property
    def validated(self) -> Mapping[ArtifactId, Artifact]:
        """This node's publications, and what the client found valid."""

    @property
    def unvalidated(self) -> Mapping[ArtifactId, Artifact]:
        """What peers delivered and the client has not judged yet."""


class Pool:
    """Both sections; an id is in at most one of them. Only the pool manager writes."""

    __slots__ = ("unvalidated", "validated")

    def __init__(
        self,
        validated: dict[ArtifactId, Artifact] | None = None,
        unvalidated: dict[ArtifactId, Artifact] | None = None,
    ) -> None:
        self.validated: dict[ArtifactId, Artifact] = {} if validated is None else validated
        self.unvalidated: dict[ArtifactId, Artifact] = {} if unvalidated is None else unvalidated

    def get(self, artifact: ArtifactId) -> Artifact | None:
        """The validated artifact with this id."""
        return self.validated.get(artifact)

    def held(self, artifact: ArtifactId) -> Artifact:
        """The artifact with this id, which is in one of the sections."""
        return self.validated.get(artifact) or self.unvalidated[artifact]

    def holds(self, artifact: ArtifactId) -> bool:
        """Whether it is in either section."""
        return artifact in self.validated or artifact in self.unvalidated

    def ids(self) -> list[ArtifactId]:
        """The validated ids, oldest first."""
        return list(self.validated)

    def snapshot(self) -> "Pool":
        """A copy of the sections, for a client on another thread; payloads are shared."""
        return Pool(dict(self.validated), dict(self.unvalidated))

    def below(self, height: int) -> list[ArtifactId]:
        """The ids in both sections whose artifact has a lower height."""
        return [
            artifact.id
            for section in (self.validated, self.unvalidated)
            for artifact in section.values()
            if artifact.inspected.height is not None and artifact.inspected.height < height
        ]
