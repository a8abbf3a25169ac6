"""The pool's keeper: what enters and leaves it, for how long, at whose charge, and what the client is told of it."""

from collections import deque

from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_list
from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.client import Client
from p2pnet.broadcast.lifetimes import AFTERLIFE_S, Lifetimes
from p2pnet.broadcast.pool import (
    AddToValidated,
    Artifact,
    Change,
    ChangeAction,
    ChangeKind,
    HandleInvalid,
    Inspected,
    MoveToValidated,
    Pool,
    PurgeBelow,
    RemoveFromUnvalidated,
    RemoveFromValidated,
)
from p2pnet.broadcast.relay import Relay
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import SECOND, Turn
from p2pnet.broadcast.wire import Status
from p2pnet.model.errors import LocalError, MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import ENVELOPE_BYTES_MAX

PUBLICATIONS_QUEUED_MAX = 1_000  # validated, and waiting for a slot
INVALID_S = 600.0  # an id found invalid stays so; this bounds how long it is remembered


class PublicationRefusedError(LocalError):
    """`code`: no-slot | too-large | malformed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Keeper:
    """Every change of the pool goes through here."""

    def __init__(
        self, turn: Turn, client: Client, pool: Pool, *, charges: Charges, sender: Sender, relay: Relay
    ) -> None:
        self._turn = turn
        self._client = client
        self._pool = pool
        self._charges = charges
        self._sender = sender
        self._relay = relay
        self._prefix = id_prefix(client.name)
        self._queue: deque[ArtifactId] = deque()
        self.lifetimes = Lifetimes()
        self.changes: list[Change] = []
        """Since the client's last call."""

    @property
    def queued(self) -> int:
        """Publications that wait for a slot."""
        return len(self._queue)

    # In

    def publish(self, data: bytes) -> ArtifactId:
        """Own product: valid at once, and broadcast. Raises PublicationRefusedError."""
        inspected = self._inspect_own(data)
        parts = part_list(data)
        artifact = artifact_id(self._prefix, len(data), parts)
        if self.lifetimes.is_refused(artifact):
            raise PublicationRefusedError("malformed", "this artifact was withdrawn or has expired")
        if artifact in self._pool.validated:
            self._sender.offer(artifact, len(data), 0)
            return artifact
        if not self._sender.slots.room and len(self._queue) >= PUBLICATIONS_QUEUED_MAX:
            self._turn.counters["publications_refused"] += 1
            self._turn.emit(EventKind.QUEUE_FULL, artifact, size=inspected.size)
            raise PublicationRefusedError(
                "no-slot",
                f"all {self._sender.slots.limit} slots are taken and {len(self._queue)} artifacts wait for one:"
                " withdraw some, or lower `keep`, which says how long each one stays",
            )
        if self._pool.unvalidated.pop(artifact, None) is not None:
            self._charges.release(artifact)
        found = Artifact(id=artifact, data=data, parts=parts, inspected=inspected)
        self._pool.validated[artifact] = found
        self._live(artifact, inspected.expires)
        self._turn.emit(EventKind.PUBLISHED, artifact, size=inspected.size)
        if self._sender.slots.room:
            self._offer(found)
        else:
            self._queue.append(artifact)
            self._turn.counters["publications_queued"] += 1
        return artifact

    def insert(self, artifact: ArtifactId, data: bytes, parts: bytes, peer: str, hop: int) -> Status:
        """A peer delivered a whole artifact of this id."""
        turn = self._turn
        try:
            inspected = self._client.inspect(data)
        except MalformedError as error:
            self._reject(artifact, peer, hop, len(data), str(error))
            return Status.MALFORMED
        if inspected.size > turn.settings.artifact_bytes_max:
            self._reject(artifact, peer, hop, inspected.size, "too large")
            return Status.MALFORMED
        if inspected.expires <= turn.wall:
            self._charges.release(artifact)
            self.lifetimes.refuse(artifact, turn.wall + AFTERLIFE_S)
            self._arm()
            return Status.UNWANTED
        self._charges.take(artifact, peer, len(data))
        self._pool.unvalidated[artifact] = Artifact(
            id=artifact, data=data, parts=parts, inspected=inspected, peer=peer, hop=hop
        )
        self._live(artifact, inspected.expires)
        self._change(ChangeKind.INSERTED, artifact)
        turn.counters["received"] += 1
        turn.counters["received_bytes"] += inspected.size
        turn.emit(EventKind.RECEIVED, artifact, peer, hop, inspected.size)
        return Status.OK

    # Out

    def withdraw(self, artifact: ArtifactId) -> None:
        """This node's user wants it gone; the id is unwanted until it would have expired."""
        found = self._pool.validated.get(artifact) or self._pool.unvalidated.get(artifact)
        expires = self._turn.wall + self._turn.settings.keep_s if found is None else found.inspected.expires
        self._drop(artifact, "withdrawn", ChangeKind.REMOVED)
        self.lifetimes.refuse(artifact, expires + AFTERLIFE_S)
        self._arm()

    def lost(self, artifact: ArtifactId) -> None:
        """Nobody announces it any more: what the client has not judged yet leaves."""
        if artifact in self._pool.unvalidated:
            self._drop(artifact, "", ChangeKind.DROPPED)
            self.lifetimes.forget(artifact)

    def expire(self) -> list[ArtifactId]:
        """Remove what has expired; its id is unwanted for a while longer. The ids removed."""
        expired = self.lifetimes.due(self._turn.wall)
        for artifact in expired:
            self._drop(artifact, "expired", ChangeKind.REMOVED)
        self._arm()
        return expired

    def apply(self, actions: list[ChangeAction]) -> None:
        """What the client decided."""
        for action in actions:
            match action:
                case MoveToValidated(artifact):
                    self._validate(artifact)
                case AddToValidated(data):
                    try:
                        self.publish(data)
                    except PublicationRefusedError as refusal:
                        self._turn.emit(EventKind.REJECTED, None, size=len(data), detail=str(refusal))
                case HandleInvalid(artifact, reason):
                    found = self._pool.unvalidated.get(artifact)
                    if found is not None:
                        self._drop(artifact, "", None)
                        self._reject(artifact, found.peer, found.hop, found.size, reason)
                case RemoveFromValidated(artifact):
                    self._purge(artifact, self._pool.validated)
                case RemoveFromUnvalidated(artifact):
                    self._purge(artifact, self._pool.unvalidated)
                case PurgeBelow(height):
                    for artifact in self._pool.below(height):
                        self._purge(artifact, self._pool.validated)
                        self._purge(artifact, self._pool.unvalidated)

    def drain(self) -> None:
        """Slots may be free: publications that wait for one come first."""
        while self._queue and self._sender.slots.room:
            found = self._pool.get(self._queue.popleft())
            if found is not None:
                self._offer(found)
        self._relay.drain()

    # Inside

    def _inspect_own(self, data: bytes) -> Inspected:
        try:
            inspected = self._client.inspect(data)
        except MalformedError as error:
            raise PublicationRefusedError("malformed", str(error)) from error
        most = self._turn.settings.artifact_bytes_max
        if inspected.size > most or len(data) > most + ENVELOPE_BYTES_MAX:
            raise PublicationRefusedError("too-large", f"{inspected.size} bytes: an artifact has at most {most}")
        if inspected.expires <= self._turn.wall:
            raise PublicationRefusedError("malformed", "it has expired already")
        return inspected

    def _offer(self, found: Artifact) -> None:
        urgent = self._client.is_urgent(found.id, found.inspected)
        pushes = urgent or found.size < self._turn.settings.push_below
        data = found.data if pushes else None
        self._sender.offer(found.id, len(found.data), found.hop, data=data, urgent=urgent)
        self._change(ChangeKind.PUBLISHED, found.id)

    def _validate(self, artifact: ArtifactId) -> None:
        found = self._pool.unvalidated.pop(artifact, None)
        if found is None:  # it left while the client was at work
            return
        self._pool.validated[artifact] = found
        self._charges.release(artifact)
        self._turn.counters["validated"] += 1
        self._turn.emit(EventKind.VALIDATED, artifact, found.peer, found.hop, found.size)
        self._relay.validated(found)

    def _purge(self, artifact: ArtifactId, section: dict[ArtifactId, Artifact]) -> None:
        found = section.get(artifact)
        if found is not None:
            self._drop(artifact, "purged", None)
            self.lifetimes.refuse(artifact, found.inspected.expires + AFTERLIFE_S)
            self._arm()

    def _drop(self, artifact: ArtifactId, detail: str, change: ChangeKind | None) -> None:
        """Out of whichever section it is in, and off the wire."""
        found = self._pool.validated.pop(artifact, None)
        if found is not None:
            self._turn.counters["removed"] += 1
            self._turn.emit(EventKind.REMOVED, artifact, found.peer, found.hop, found.size, detail)
        else:
            found = self._pool.unvalidated.pop(artifact, None)
            self._charges.release(artifact)
            change = change and ChangeKind.DROPPED
        self._sender.withdraw(artifact)
        self._turn.soon = True
        if found is not None:
            self._relay.forget(found)
            if change is not None:
                self._change(change, artifact)

    def _reject(self, artifact: ArtifactId, peer: str, hop: int, size: int, why: str) -> None:
        self._charges.release(artifact)
        self.lifetimes.refuse(artifact, self._turn.wall + INVALID_S)
        self._arm()
        self._turn.counters["rejected"] += 1
        self._turn.emit(EventKind.REJECTED, artifact, peer, hop, size, why)

    def _change(self, kind: ChangeKind, artifact: ArtifactId) -> None:
        self.changes.append(Change(kind, artifact))
        self._turn.soon = True

    def _live(self, artifact: ArtifactId, expires: float) -> None:
        if self.lifetimes.add(artifact, expires):
            self._arm()

    def _arm(self) -> None:
        """Wake when the first lifetime ends."""
        at = self.lifetimes.next()
        if at is not None:
            wait = int(max(0.0, at - self._turn.wall) * SECOND) + 1
            self._turn.timers.set(Timer.EXPIRE, None, self._turn.now + wait)
