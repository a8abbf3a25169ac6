"""The events of a simulated run: as a live run's archive has them, and measured as they come."""

from collections.abc import Callable

from p2pnet.broadcast.effects import Emit
from p2pnet.measure import RunMeasure
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import ArtifactId

BATCH_EVENTS = 10_000
"""Events that are handed on together, some 3 MB."""

_OF_NODES = frozenset((EventKind.PEER_UP, EventKind.PEER_DOWN))
"""Kinds of events that are no client's."""


class _Start:
    """One incarnation of a node. `events`: how many it has told of."""

    __slots__ = ("events", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = 0


class RunEvents:
    """Takes a world's events (`World.on_event`), keeps those of one run, and measures them.

    `write` is given the run's events in time order, at most `BATCH_EVENTS` at a time.
    """

    def __init__(self, measure: RunMeasure, client: str, write: Callable[[list[Collected]], None]) -> None:
        self.measure = measure
        self.publishing = False
        """Whether a publication is being made: whatever artifact it concerns is the run's."""
        self.last_receipt_ns = 0
        """When an artifact of the run was last validated."""
        self._client = client
        self._write = write
        self._begun = False
        self._ids: dict[ArtifactId, str] = {}
        """Artifacts of the run, and their ids in hex."""
        self._starts: dict[tuple[str, int], _Start] = {}
        """By node and count of its incarnation."""
        self._batch: list[Collected] = []

    def begin(self) -> None:
        """The run begins: events count from here on."""
        self._begun = True

    def add(self, node: str, incarnation: int, event: Emit, now: int) -> None:
        """See `EventSink`."""
        start = self._starts.get((node, incarnation))
        if start is None:
            start = self._starts[node, incarnation] = _Start(f"{node}/{incarnation}")
        sequence = start.events
        start.events += 1
        if not self._begun:
            return
        artifact = ""
        if event.artifact is not None:
            known = self._ids.get(event.artifact)
            if known is None:
                if not self.publishing:
                    return  # of a client's own making: it belongs to no run
                known = self._ids[event.artifact] = event.artifact.hex()
            artifact = known
        client = "" if event.kind in _OF_NODES else self._client
        collected = Collected(
            node, start.name, sequence, now, event.kind, client, artifact, event.peer, event.hop, event.bytes,
            event.detail,
        )  # fmt: skip
        if event.kind is EventKind.PUBLISHED:
            self.measure.published(artifact, node, now, event.bytes)
        elif event.kind is EventKind.VALIDATED:
            self.last_receipt_ns = now
        self._batch.append(collected)
        if len(self._batch) >= BATCH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Measure and hand on what has come."""
        batch, self._batch = self._batch, []
        if batch:
            self.measure.feed(batch)
            self._write(batch)
