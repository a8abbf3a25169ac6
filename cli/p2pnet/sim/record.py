"""What is written down of a run: each node's events, who got which artifact when, and what a node wanted no more of."""

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
    """One thing that a node's broadcast told its driver, as `model.events` names them."""

    time: float
    """Seconds since the start of the world."""
    kind: EventKind
    artifact: ArtifactId | None
    peer: str
    hop: int
    size: int
    """What `bytes` is of the kind: of an artifact, its user's payload."""
    detail: str


class Deliveries:
    """Of all nodes. Times are nanoseconds since the start of the world."""

    __slots__ = ("published", "validated")

    def __init__(self) -> None:
        self.published: dict[ArtifactId, int] = {}
        """When each artifact was first published."""
        self.validated: dict[ArtifactId, dict[str, int]] = {}
        """When each node first validated it."""


class NodeRecord:
    """Of one node. `events` outlive an incarnation, the rest does not: a new one has forgotten what it refused."""

    __slots__ = ("_deliveries", "_name", "dropped", "events", "purged_below", "told")

    def __init__(self, name: str, deliveries: Deliveries) -> None:
        self._name = name
        self._deliveries = deliveries
        self.events: deque[NodeEvent] = deque(maxlen=EVENT_RING)
        self.forget()

    def forget(self) -> None:
        """A new incarnation begins."""
        self.dropped: set[ArtifactId] = set()
        """Removed or refused by this node, its user or its client: the promise does not hold for them here."""
        self.told: set[ArtifactId] = set()
        """What the client was told stands in the unvalidated pool."""
        self.purged_below: int | None = None
        """Heights below are of no use to the client."""

    def emitted(self, effect: Emit, now: int) -> None:
        """The broadcast reports something."""
        kind, artifact = effect.kind, effect.artifact
        self.events.append(NodeEvent(now / NS, kind, artifact, effect.peer, effect.hop, effect.bytes, effect.detail))
        if artifact is None:
            return
        if kind is EventKind.VALIDATED:
            self._deliveries.validated.setdefault(artifact, {}).setdefault(self._name, now)
        elif kind is EventKind.PUBLISHED:
            self._deliveries.published.setdefault(artifact, now)
        elif kind in {EventKind.REMOVED, EventKind.REJECTED}:
            self.dropped.add(artifact)

    def client_told(self, changes: Iterable[Change]) -> None:
        """The client is called with these."""
        self.told.update(change.artifact for change in changes if change.kind is ChangeKind.INSERTED)

    def client_did(self, actions: Iterable[ChangeAction]) -> None:
        """The client answered this."""
        for action in actions:
            if isinstance(action, HandleInvalid | RemoveFromUnvalidated):
                self.dropped.add(action.artifact)
            elif isinstance(action, PurgeBelow):
                self.purged_below = max(action.height, self.purged_below or action.height)
