"""The pool manager: everything that enters or leaves a pool, whoever asked for it, with its consequences for the other parts."""

from collections.abc import Mapping
from typing import Final

from p2pnet.broadcast.artifact import KEY_BYTES_MAX, artifact_id, id_prefix, part_list
from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.client import ClientCalls, ClientRaisedError
from p2pnet.broadcast.context import SECOND, Context, Timer
from p2pnet.broadcast.digest import Digests
from p2pnet.broadcast.expiry import REFUSED_AFTER_S, Expiry
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
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.relay import Relay
from p2pnet.broadcast.scatter import Scatter
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.wire import UpdateStatus
from p2pnet.model.errors import LocalError, MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import ENVELOPE_BYTES_MAX

PUBLICATIONS_QUEUED_MAX = 1_000
"""Publications that may wait for a slot; one more is refused, and the refusal names `keep`."""
INVALID_S: Final = 600.0
"""Seconds for which an invalid id is refused. It stays invalid for ever; this bounds the memory a liar can make us use."""


class PublicationRefusedError(LocalError):
    """A publication that did not happen; `code` as in `PublishRefused`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PoolManager:
    """The only writer of the pool."""

    __slots__ = (
        "_assembler", "_calls", "_context", "_digests", "_pool", "_prefix", "_queue", "_quota", "_relay", "_scatter",
        "_sender", "changes", "expiry",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        calls: ClientCalls,
        client_name: str,
        pool: Pool,
        *,
        quota: Quota,
        sender: Sender,
        relay: Relay,
        digests: Digests,
        assembler: Assembler,
        scatter: Scatter,
    ) -> None:
        self._context = context
        self._calls = calls
        self._pool = pool
        self._quota = quota
        self._sender = sender
        self._relay = relay
        self._digests = digests
        self._assembler = assembler
        self._scatter = scatter
        self._prefix = id_prefix(client_name)
        self._queue: dict[ArtifactId, None] = {}
        self.expiry = Expiry()
        self.changes: list[Change] = []
        """Changes of the pool since the client was last called."""

    @property
    def queued(self) -> list[ArtifactId]:
        """Publications that wait for a slot, oldest first."""
        return list(self._queue)

    # In

    def publish(self, data: bytes) -> ArtifactId:
        """Insert an encoded artifact of this node: it is valid at once, and broadcast. Raises PublicationRefusedError."""
        context = self._context
        inspected = self._inspect_own(data)
        parts = part_list(data)
        artifact = artifact_id(self._prefix, inspected.key, len(data), parts)
        # Publishing it again would be refused by every peer that has heard of its removal.
        if self.expiry.is_refused(artifact):
            raise PublicationRefusedError("malformed", "this artifact was withdrawn or has expired")
        if artifact in self._pool.validated:
            context.count("publications_duplicate")
            self._sender.slots.commit()
            return artifact
        # First come first served: a free slot belongs to what waits already.
        room = self._sender.room_for(artifact) and not self._queue
        if not room and len(self._queue) >= PUBLICATIONS_QUEUED_MAX:
            context.count("publications_refused")
            context.emit(EventKind.QUEUE_FULL, artifact, size=inspected.size)
            raise PublicationRefusedError(
                "no-slot",
                f"all {self._sender.slots.limit} slots are taken and {len(self._queue)} artifacts wait for one:"
                " withdraw some, or lower `keep`, which says how long each one stays",
            )
        self._produced(artifact)
        found = Artifact(id=artifact, data=data, parts=parts, inspected=inspected, origin=context.origin)
        self._pool.validated[artifact] = found
        self._digests.changed(artifact)
        self._live(artifact, inspected.expires)
        context.emit(EventKind.PUBLISHED, artifact, size=inspected.size)
        self._change(ChangeKind.PUBLISHED, artifact)
        if room or artifact in self._sender.active:
            self._offer(found)
        else:
            self._queue[artifact] = None
            context.count("publications_queued")
            context.count("slot_queue_used")
        return artifact

    def _produced(self, artifact: ArtifactId) -> None:
        """This node has produced an artifact that it may be fetching or not have validated: end both."""
        if artifact in self._assembler.tasks:
            self._assembler.drop(artifact)
            self._context.count("produced_what_was_fetched")
        if self._pool.unvalidated.pop(artifact, None) is not None:
            self._quota.release(artifact)

    def inspect(self, artifact: ArtifactId, key: bytes, data: bytes, peer: str, hop: int) -> Inspected | None:
        """What the client reads in a peer's artifact; None: it is invalid, and its id refused. Raises ClientRaisedError."""
        try:
            inspected = self._calls.inspect(data)
        except MalformedError as error:
            self._reject(artifact, peer, hop, len(data), str(error))
            return None
        # Peers decide by the announced key: under another one an artifact could get past their bouncers.
        if inspected.key != key:
            self._reject(artifact, peer, hop, inspected.size, "announced under another key")
        elif inspected.size > self._context.settings.artifact_bytes_max:
            self._reject(artifact, peer, hop, inspected.size, "too large")
        else:
            return inspected
        return None

    def insert(  # noqa: PLR0917 - an artifact's own fields, in their order
        self,
        artifact: ArtifactId,
        data: bytes,
        parts: bytes,
        inspected: Inspected,
        peer: str,
        hop: int,
        delivered: Mapping[str, int],
        *,
        origin: int = 0,
        announced_by: str = "",
        times: str = "",
    ) -> UpdateStatus:
        """Insert a peer's whole artifact into the unvalidated pool, for the client to judge; the status to answer.

        `delivered`: bytes by the peers that delivered them, whose quota they use. `origin`: the number of its publisher.
        `announced_by`: see `Artifact`. `times`: see `FetchTimes`; empty for what was pushed.
        """
        context = self._context
        if inspected.expires <= context.wall:
            context.count("expired_on_arrival")
            self._refuse(artifact, context.wall + REFUSED_AFTER_S, announced_by or peer)
            return UpdateStatus.UNWANTED
        for deliverer, size in delivered.items():
            self._quota.use(artifact, deliverer, size)
        self._pool.unvalidated[artifact] = Artifact(
            id=artifact, data=data, parts=parts, inspected=inspected, peer=peer, hop=hop, origin=origin,
            announced_by=announced_by,
        )  # fmt: skip
        self._live(artifact, inspected.expires)
        self._change(ChangeKind.INSERTED, artifact)
        context.count("received")
        context.count("received_bytes", inspected.size)
        context.emit(EventKind.RECEIVED, artifact, peer, hop, inspected.size, times)
        return UpdateStatus.OK

    # Out

    def end_task(self, artifact: ArtifactId) -> None:
        """End a fetch that is not complete, and withdraw what was offered of it."""
        self._assembler.drop(artifact)
        self._relay.end_partial(artifact)

    def withdraw(self, artifact: ArtifactId) -> None:
        """Remove an artifact for this node's user; its id is unwanted until it would have expired."""
        found = self._pool.validated.get(artifact) or self._pool.unvalidated.get(artifact)
        expires = self._context.wall + self._context.settings.keep_s if found is None else found.inspected.expires
        self.end_task(artifact)
        self._drop(artifact, "withdrawn", ChangeKind.REMOVED)
        self._refuse(artifact, expires + REFUSED_AFTER_S)

    def lost(self, artifact: ArtifactId) -> None:
        """No peer announces the artifact any more: remove it if the client has not validated it yet."""
        if artifact in self._pool.unvalidated:
            self._context.count("unvalidated_lost")
            self._drop(artifact, "", ChangeKind.DROPPED)
            self.expiry.forget(artifact)

    def expire(self) -> list[ArtifactId]:
        """Remove expired artifacts, whose ids stay unwanted for a while; the ids removed."""
        expired = self.expiry.due(self._context.wall)
        for artifact in expired:
            self.end_task(artifact)
            self._drop(artifact, "expired", ChangeKind.REMOVED)
        self._arm()
        return expired

    def apply(self, actions: list[ChangeAction]) -> None:
        """Apply the client's change actions, in order."""
        for action in actions:
            match action:
                case MoveToValidated(artifact):
                    self._validate(artifact)
                case AddToValidated(data):
                    try:
                        self.publish(data)
                    except PublicationRefusedError as refusal:
                        self._context.emit(EventKind.REJECTED, None, size=len(data), detail=str(refusal))
                case HandleInvalid(artifact, reason):
                    found = self._pool.unvalidated.get(artifact)
                    if found is not None:
                        self._drop(artifact, "", None)
                        self._reject(artifact, found.announced_by or found.peer, found.hop, found.size, reason)
                case RemoveFromValidated(artifact):
                    self._purge(artifact, self._pool.validated)
                case RemoveFromUnvalidated(artifact):
                    self._purge(artifact, self._pool.unvalidated)
                case PurgeBelow(height):
                    for artifact in self._pool.below(height):
                        self._purge(artifact, self._pool.validated)
                        self._purge(artifact, self._pool.unvalidated)

    def drain(self) -> None:
        """Give free slots to publications that wait for one, then to relays."""
        while self._queue and self._sender.slots.room:
            artifact = next(iter(self._queue))
            del self._queue[artifact]
            found = self._pool.get(artifact)
            if found is not None:
                self._offer(found)
        self._relay.drain()

    # Inside

    def _inspect_own(self, data: bytes) -> Inspected:
        try:
            inspected = self._calls.inspect(data)
        except (MalformedError, ClientRaisedError) as error:
            raise PublicationRefusedError("malformed", str(error)) from error
        most = self._context.settings.artifact_bytes_max
        if inspected.size > most or len(data) > most + ENVELOPE_BYTES_MAX:
            raise PublicationRefusedError("too-large", f"{inspected.size} bytes: an artifact has at most {most}")
        if len(inspected.key) > KEY_BYTES_MAX:
            raise PublicationRefusedError("malformed", f"a key of {len(inspected.key)} bytes: at most {KEY_BYTES_MAX}")
        if inspected.expires <= self._context.wall:
            raise PublicationRefusedError("malformed", "it has expired already")
        return inspected

    def _offer(self, found: Artifact) -> None:
        self._relay.published(found, urgent=self._calls.is_urgent(found.id, found.inspected))

    def _validate(self, artifact: ArtifactId) -> None:
        found = self._pool.unvalidated.pop(artifact, None)
        if found is None:  # it left while the client was at work
            return
        self._pool.validated[artifact] = found
        self._digests.changed(artifact)
        self._quota.release(artifact)
        self._context.count("validated")
        self._context.emit(EventKind.VALIDATED, artifact, found.peer, found.hop, found.size)
        self._relay.validated(found)

    def _purge(self, artifact: ArtifactId, section: dict[ArtifactId, Artifact]) -> None:
        found = section.get(artifact)
        if found is not None:
            self._drop(artifact, "purged", None)
            self._refuse(artifact, found.inspected.expires + REFUSED_AFTER_S)

    def _drop(self, artifact: ArtifactId, detail: str, change: ChangeKind | None) -> None:
        """Remove an artifact from its section of the pool, and end its announcement."""
        found = self._pool.validated.pop(artifact, None)
        if found is not None:
            self._context.count("removed")
            self._context.emit(EventKind.REMOVED, artifact, found.peer, found.hop, found.size, detail)
            self._digests.changed(artifact, gone=True)
        else:
            found = self._pool.unvalidated.pop(artifact, None)
            self._quota.release(artifact)
            # The client is told which section it has left.
            change = change and ChangeKind.DROPPED
        if artifact in self._queue:
            del self._queue[artifact]
            self._context.count("slot_queue_withdrawn")
        self._sender.withdraw(artifact)
        self._scatter.stop(artifact)
        self._context.soon = True
        if found is not None:
            self._relay.forget(artifact)
            if change is not None:
                self._change(change, artifact)

    def _reject(self, artifact: ArtifactId, peer: str, hop: int, size: int, why: str) -> None:
        self._quota.release(artifact)
        self._refuse(artifact, self._context.wall + INVALID_S, peer)
        self._context.count("rejected")
        self._context.emit_about(EventKind.REJECTED, artifact, peer, hop, size, why)

    def _refuse(self, artifact: ArtifactId, until: float, culprit: str = "") -> None:
        self.expiry.refuse(artifact, until, culprit)
        self._context.counters["refusals_evicted"] = self.expiry.evicted
        self._arm()

    def _change(self, kind: ChangeKind, artifact: ArtifactId) -> None:
        self.changes.append(Change(kind, artifact))
        self._context.soon = True

    def _live(self, artifact: ArtifactId, expires: float) -> None:
        self.expiry.add(artifact, expires)
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the first expiry."""
        at = self.expiry.next()
        if at is None:
            self._context.timers.cancel(Timer.EXPIRE, None)
            return
        # One nanosecond more: by rounding, nothing might have expired yet when the timer fires.
        wait = int(max(0.0, at - self._context.wall) * SECOND) + 1
        self._context.timers.set(Timer.EXPIRE, None, self._context.now + wait)
