"""What is recorded of a run: each node's events, when it got which artifact, and what it refused."""

from collections.abc import Iterable

import msgspec

from p2pnet.broadcast import Change, ChangeAction
from p2pnet.broadcast.effects import Emit
from p2pnet.broadcast.pool import ChangeKind, HandleInvalid, PurgeBelow, RemoveFromUnvalidated
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import EVENT_RING
from p2pnet.sim.quantities import NS

_EVENTS_HELD_MAX = 2 * EVENT_RING  # the older half goes at once
_DROPS = frozenset({EventKind.REMOVED, EventKind.REJECTED})


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

    __slots__ = ("_deliveries", "_emitted", "_keeps", "_name", "_times", "dropped", "purged_below", "shown")

    def __init__(self, name: str, deliveries: Deliveries, *, keeps_events: bool = True) -> None:
        self._name = name
        self._keeps = keeps_events
        self._deliveries = deliveries
        self._times: list[int] = []
        self._emitted: list[Emit] = []
        self.forget()

    @property
    def events(self) -> list[NodeEvent]:
        """The last `EVENT_RING` events, oldest first. Made when they are read: a large world has millions that nobody reads."""
        kept = zip(self._times[-EVENT_RING:], self._emitted[-EVENT_RING:], strict=True)
        return [
            NodeEvent(at / NS, one.kind, one.artifact, one.peer, one.hop, one.bytes, one.detail) for at, one in kept
        ]

    def forget(self) -> None:
        """A new incarnation starts."""
        self.dropped: dict[ArtifactId, None] = {}
        """Artifacts removed or refused by this node, its user or its client: the promise does not hold for them here."""
        self.shown: dict[ArtifactId, None] = {}
        """Unvalidated artifacts that the client was told of."""
        self.purged_below: int | None = None
        """The client has purged all lower heights."""

    def emitted(self, effect: Emit, now: int) -> None:
        """Record an event of the broadcast."""
        kind, artifact = effect.kind, effect.artifact
        if self._keeps:
            self._times.append(now)
            self._emitted.append(effect)
            if len(self._times) > _EVENTS_HELD_MAX:
                del self._times[:EVENT_RING], self._emitted[:EVENT_RING]
        if artifact is None:
            return
        if kind in _DROPS:
            self.dropped[artifact] = None
        elif kind is EventKind.VALIDATED and self._keeps:
            self._deliveries.validated.setdefault(artifact, {}).setdefault(self._name, now)
        elif kind is EventKind.PUBLISHED and self._keeps:
            self._deliveries.published.setdefault(artifact, now)

    def client_told(self, changes: Iterable[Change]) -> None:
        """Record the changes with which the client is called."""
        for change in changes:
            if change.kind is ChangeKind.INSERTED:
                self.shown[change.artifact] = None

    def client_did(self, actions: Iterable[ChangeAction]) -> None:
        """Record the change actions that the client returned."""
        for action in actions:
            if isinstance(action, HandleInvalid | RemoveFromUnvalidated):
                self.dropped[action.artifact] = None
            elif isinstance(action, PurgeBelow):
                self.purged_below = max(action.height, self.purged_below or action.height)
