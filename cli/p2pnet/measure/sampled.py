"""The time series of a run's nodes as a page draws them: a bounded number of equally long parts of time. Pure."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, NamedTuple

from p2pnet.model.control import Sample
from p2pnet.model.time_series import NodeSample

PARTS_MAX = 240
_NS_PER_S = 10**9


class SeriesKind(NamedTuple):
    """One quantity of a node over time."""

    key: str
    title: str
    unit: Literal["%", "ms", "B/s", "B", "1/s", ""]
    together: Literal["mean", "most"]
    """What stands for several seconds."""


KINDS = (
    SeriesKind("sent", "Sent", "B/s", "mean"),
    SeriesKind("received", "Received", "B/s", "mean"),
    SeriesKind("cpu", "CPU of one core", "%", "mean"),
    SeriesKind("lag", "Event loop late by", "ms", "most"),
    SeriesKind("rtt", "Median round trip", "ms", "mean"),
    SeriesKind("lost", "Datagrams lost", "1/s", "mean"),
    SeriesKind("queued", "Waiting to be sent", "B", "most"),
    SeriesKind("handlers", "Messages waiting for handlers", "", "most"),
)


@dataclass(slots=True)
class _NodeParts:
    values: "list[array[float]]" = field(default_factory=lambda: [array("d", bytes(8 * PARTS_MAX)) for _ in KINDS])
    counts: "array[int]" = field(default_factory=lambda: array("l", [0]) * PARTS_MAX)


class SampledNodes:
    """The samples of one run. Parts of time begin as seconds and double in length whenever there would be too many."""

    def __init__(self, start_ns: int, *, ways_max: int | None = None) -> None:
        """`ways_max`: pairs of node and peer whose bytes are summed; None: all."""
        self._ways_max = ways_max
        self.start_ns = start_ns
        """What times are since; samples before count with the first part."""
        self.part_s = 1
        self.sent_bytes: dict[tuple[str, str], int] = {}
        """By node and peer: UDP payload."""
        self._nodes: dict[str, _NodeParts] = {}
        self._last = 0

    def add(self, one: NodeSample) -> None:
        """Take in one node's next second."""
        for link in one.sample.links:
            key = one.node, link.peer
            if key in self.sent_bytes or self._ways_max is None or len(self.sent_bytes) < self._ways_max:
                self.sent_bytes[key] = self.sent_bytes.get(key, 0) + link.sent_bytes
        # A sample is of the second that ends with it.
        second = max(0, (one.t_ns - self.start_ns - 1) // _NS_PER_S)
        while second // self.part_s >= PARTS_MAX:
            self._halve()
        part = second // self.part_s
        self._last = max(self._last, part)
        node = self._nodes.setdefault(one.node, _NodeParts())
        node.counts[part] += 1
        for kind, values, value in zip(KINDS, node.values, _values(one.sample), strict=True):
            values[part] = max(values[part], value) if kind.together == "most" else values[part] + value

    def _halve(self) -> None:
        self.part_s *= 2
        self._last //= 2
        for node in self._nodes.values():
            for kind, values in zip(KINDS, node.values, strict=True):
                for part in range(PARTS_MAX // 2):
                    pair = values[2 * part], values[2 * part + 1]
                    values[part] = max(pair) if kind.together == "most" else sum(pair)
                values[PARTS_MAX // 2 :] = array("d", bytes(8 * (PARTS_MAX - PARTS_MAX // 2)))
            for part in range(PARTS_MAX // 2):
                node.counts[part] = node.counts[2 * part] + node.counts[2 * part + 1]
            node.counts[PARTS_MAX // 2 :] = array("l", [0]) * (PARTS_MAX - PARTS_MAX // 2)

    @property
    def nodes(self) -> list[str]:
        """Those with samples, in the order of their first."""
        return list(self._nodes)

    def times_s(self) -> list[int]:
        """The end of each part, in seconds since `start_ns`."""
        return [(part + 1) * self.part_s for part in range(self._last + 1)] if self._nodes else []

    def series(self, kind: int, nodes: Iterable[str]) -> list[list[float | None]]:
        """One quantity of each of these nodes in each part; None where there is no sample."""
        return [self._series(kind, self._nodes[node]) for node in nodes]

    def _series(self, kind: int, node: _NodeParts) -> list[float | None]:
        shared = KINDS[kind].together == "mean"
        return [
            None if not node.counts[part] else node.values[kind][part] / (node.counts[part] if shared else 1)
            for part in range(self._last + 1)
        ]


def _values(sample: Sample) -> Sequence[float]:
    """In the order of KINDS."""
    span = sample.span_s or 1.0
    trips = [link.rtt_ms for link in sample.links if link.rtt_ms > 0]
    return (
        sum(link.sent_bytes for link in sample.links) / span,
        sum(link.received_bytes for link in sample.links) / span,
        sample.cpu_s / span * 100,
        sample.lag_s * 1000,
        median(trips) if trips else 0.0,
        sum(link.lost for link in sample.links) / span,
        sample.up_queued_bytes
        + sample.down_queued_bytes
        + sum(link.queued_bytes + link.unsent_bytes for link in sample.links),
        sample.handlers,
    )
