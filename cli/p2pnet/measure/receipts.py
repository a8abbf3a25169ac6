"""Every single receipt of a run: who got which artifact when, from whom. Packed, for runs of a hundred thousand artifacts."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from p2pnet.model.events import Collected, EventKind

_NEVER = -(1 << 63)
_U32_MAX = (1 << 32) - 1
_U16_MAX = (1 << 16) - 1

ReceiptState = Literal["received", "missed", "unknown"]


class Publication(NamedTuple):
    """Who published an artifact, and when on the run's time axis."""

    node: str
    t_ns: int


class ReceiptRow(NamedTuple):
    """What one node got of one artifact; the publisher has no row. Unknown fields are None or empty."""

    artifact: str
    publisher: str
    node: str
    published_ns: int | None
    latency_ms: float | None
    """Also set for a receipt that came too late, whose state is `missed`."""
    hop: int | None
    sender: str
    bytes: int | None
    duplicates: int
    state: ReceiptState


def publications(events: Iterable[Collected]) -> dict[str, Publication]:
    """Publications by artifact, in time order; the first event of each artifact counts."""
    found: dict[str, Publication] = {}
    for event in events:
        if event.kind is EventKind.PUBLISHED and event.artifact:
            found.setdefault(event.artifact, Publication(event.node, event.t_ns))
    return dict(sorted(found.items(), key=lambda item: item[1].t_ns))


class Receipts:
    """The receipts of some artifacts at the nodes of a run, in 20 bytes for each pair of artifact and node."""

    def __init__(self, nodes: Sequence[str], artifacts: Sequence[str]) -> None:
        self._nodes = list(nodes)
        self._columns = {node: column for column, node in enumerate(nodes)}
        self._artifacts = list(artifacts)
        self._rows = {artifact: row for row, artifact in enumerate(artifacts)}
        cells = len(self._nodes) * len(self._artifacts)
        self._t_ns = array("q", [_NEVER]) * cells
        self._hop = array("H", [0]) * cells
        self._sender = array("H", [0]) * cells
        self._bytes = array("I", [0]) * cells
        self._duplicates = array("I", [0]) * cells
        self._senders = {"": 0}
        """Index by name; grows, for nodes that are not of the run may send too."""

    def feed(self, events: Iterable[Collected]) -> None:
        """Take in events, in any order; those of other artifacts and nodes are ignored."""
        rows, columns, width = self._rows, self._columns, len(self._nodes)
        for event in events:
            kind = event.kind
            if kind is not EventKind.VALIDATED and kind is not EventKind.DUPLICATE:
                continue
            row, column = rows.get(event.artifact), columns.get(event.node)
            if row is None or column is None:
                continue
            cell = row * width + column
            if kind is EventKind.DUPLICATE:
                self._duplicates[cell] = min(self._duplicates[cell] + 1, _U32_MAX)
            elif self._t_ns[cell] == _NEVER or event.t_ns < self._t_ns[cell]:
                self._t_ns[cell] = event.t_ns
                self._hop[cell] = min(event.hop, _U16_MAX)
                self._bytes[cell] = min(event.bytes, _U32_MAX)
                self._sender[cell] = self._number(event.peer)

    def rows(
        self,
        published: Mapping[str, Publication],
        *,
        deadline_ns: int | None = None,
        lost_until_ns: Mapping[str, int] | None = None,
    ) -> Iterator[ReceiptRow]:
        """A row for each artifact, in the order given, and node, in the run's order.

        `deadline_ns`: a later receipt is a miss. `lost_until_ns`: nodes that lost events, and until when: a receipt
        that one lacks of an artifact published by then is unknown, not missed.
        """
        lost, senders = lost_until_ns or {}, list(self._senders)
        unpublished = Publication("", 0)
        for row, artifact in enumerate(self._artifacts):
            publication = published.get(artifact, unpublished)
            for column, node in enumerate(self._nodes):
                if node == publication.node:
                    continue
                cell = row * len(self._nodes) + column
                t_ns = self._t_ns[cell]
                came = t_ns != _NEVER
                may_be_lost = publication.t_ns <= lost.get(node, _NEVER)
                state: ReceiptState = "received" if came else "unknown" if may_be_lost else "missed"
                if came and deadline_ns is not None and t_ns > deadline_ns:
                    state = "missed"
                yield ReceiptRow(
                    artifact=artifact,
                    publisher=publication.node,
                    node=node,
                    published_ns=publication.t_ns if publication.node else None,
                    latency_ms=(t_ns - publication.t_ns) / 1e6 if came and publication.node else None,
                    hop=self._hop[cell] if came else None,
                    sender=senders[self._sender[cell]],
                    bytes=self._bytes[cell] if came else None,
                    duplicates=self._duplicates[cell],
                    state=state,
                )

    def _number(self, name: str) -> int:
        if name not in self._senders and len(self._senders) > _U16_MAX:
            return 0
        return self._senders.setdefault(name, len(self._senders))
