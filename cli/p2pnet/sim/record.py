"""What is recorded of a run: each node's events, when it got which artifact, and what it refused."""

from collections import deque
from collections.abc import Iterable

import msgspec

from p2pnet.broadcast import Change, ChangeAction
from p2pnet.broadcast.effects import Emit
from p2pnet.broadcast.pool import ChangeKind, HandleInvalid, PurgeBelow, RemoveFromUnvalidated
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import EVENT_RING
from p2pnet.sim.quantities import NS


class NodeEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a node's broadcast; `kind` is one of `model.events`."""

    time: float
    """Seconds since the start of the world."""
    kind: EventKind
    artifact: ArtifactId | None
    peer: str
    hop: int
    size: int
    """The event's `bytes`: of an artifact, its user's payload."""
    detail: str


class Deliveries:
    """When artifacts were published and validated, at all nodes. Times are nanoseconds since the start of the world."""

    __slots__ = ("published", "validated")

    def __init__(self) -> None:
        self.published: dict[ArtifactId, int] = {}
        """Artifact -> when it was first published."""
        self.validated: dict[ArtifactId, dict[str, int]] = {}
        """Artifact -> node -> when the node first validated it."""


class NodeRecord:
    """What is recorded of one node.

    `events` outlive an incarnation; the rest does not, for a new incarnation has forgotten what the last one refused.
    """

    __slots__ = ("_deliveries", "_keeps", "_name", "dropped", "events", "purged_below", "shown")

    def __init__(self, name: str, deliveries: Deliveries, *, keeps_events: bool = True) -> None:
        self._name = name
        self._keeps = keeps_events
        self._deliveries = deliveries
        self.events: deque[NodeEvent] = deque(maxlen=EVENT_RING)
        self.forget()

    def forget(self) -> None:
        """A new incarnation starts."""
        self.dropped: set[ArtifactId] = set()
        """Artifacts removed or refused by this node, its user or its client: the promise does not hold for them here."""
        self.shown: set[ArtifactId] = set()
        """Unvalidated artifacts that the client was told of."""
        self.purged_below: int | None = None
        """The client has purged all lower heights."""

    def emitted(self, effect: Emit, now: int) -> None:
        """Record an event of the broadcast."""
        kind, artifact = effect.kind, effect.artifact
        if self._keeps:
            event = NodeEvent(now / NS, kind, artifact, effect.peer, effect.hop, effect.bytes, effect.detail)
            self.events.append(event)
        if artifact is None:
            return
        if kind in {EventKind.REMOVED, EventKind.REJECTED}:
            self.dropped.add(artifact)
        elif not self._keeps:
            return
        elif kind is EventKind.VALIDATED:
            self._deliveries.validated.setdefault(artifact, {}).setdefault(self._name, now)
        elif kind is EventKind.PUBLISHED:
            self._deliveries.published.setdefault(artifact, now)

    def client_told(self, changes: Iterable[Change]) -> None:
        """Record the changes with which the client is called."""
        self.shown.update(change.artifact for change in changes if change.kind is ChangeKind.INSERTED)

    def client_did(self, actions: Iterable[ChangeAction]) -> None:
        """Record the change actions that the client returned."""
        for action in actions:
            if isinstance(action, HandleInvalid | RemoveFromUnvalidated):
                self.dropped.add(action.artifact)
            elif isinstance(action, PurgeBelow):
                self.purged_below = max(action.height, self.purged_below or action.height)
