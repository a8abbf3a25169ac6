"""What a page draws of a run: how receipts spread over time, hops and links, and why some were slow. Pure.

`Propagation` takes in the receipts of one artifact after another and keeps sums, so that a run of many needs little memory;
the whole journeys of a few artifacts are kept to be drawn.
"""

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from p2pnet.measure.receipts import ReceiptRow

ARTIFACTS_DRAWN_MAX = 50
RECEIPTS_DRAWN_MAX = 60_000  # of all drawn artifacts together: some 1.5 MB of page
HOPS_MAX = 40  # beyond, receipts are counted with those of this hop
CURVE_POINTS = 400  # of a distribution
BINS = 240  # of an axis of time
FIRST_PART_NS = 10**8  # of an axis whose end is not known
_NS_PER_S = 1e9
_T = TypeVar("_T")


class DrawnJourney(NamedTuple):
    """The receipts of one artifact in the order of arrival, as columns. Nodes are numbers in the run's order."""

    artifact: str
    publisher: int
    """-1: not on record."""
    published_ns: int | None
    size: int
    nodes: list[int]
    after_us: list[int]
    """Since the publication; below 0 where clocks say so."""
    hops: list[int]
    senders: list[int]
    """-1: unknown, or no node of the run."""
    duplicates: list[int]


@dataclass(slots=True)
class LinkUse:
    """What passed one way over one link, by the node that completed an artifact."""

    receipts: int = 0
    bytes: int = 0
    """User's bytes."""
    waits: int = 0
    """Receipts of which the wait is known."""
    wait_ms: float = 0.0
    """Sum of the waits between the sender's own receipt and the receiver's."""
    wait_max_ms: float = 0.0


class SlowestReceipt(NamedTuple):
    """The slowest receipt of one node, and what its time was spent on."""

    latency_ms: float
    artifact: str
    hop: int
    sender: str
    sender_ms: float | None
    """When the sender had it, since the publication; None: not on record."""

    @property
    def wait_ms(self) -> float | None:
        """From the sender's own receipt to this one; None where the sender passed it on before it had validated it."""
        return None if self.sender_ms is None or self.sender_ms > self.latency_ms else self.latency_ms - self.sender_ms


class Quartiles(NamedTuple):
    """Least, quartiles and most of some values, in ms."""

    low: float
    first: float
    middle: float
    third: float
    high: float


class HopSpread(NamedTuple):
    """The receipts of one hop."""

    hop: int
    receipts: int
    since_ms: Quartiles
    """Since the publication."""
    wait_ms: Quartiles | None
    """Since the sender's own receipt; None where none is known."""


class ReachCurve(NamedTuple):
    """Receipts by time since the first publication: at the end of each of equally long parts of `span_s`."""

    span_s: float
    due: list[int]
    """Receipts expected of what was published by then."""
    received: list[int]


@dataclass(slots=True)
class _HopWaits:
    since: "array[float]" = field(default_factory=lambda: array("d"))
    waits: "array[float]" = field(default_factory=lambda: array("d"))


class SpreadSums:
    """What receipts leave behind in sums, by node and by way: bounded by their number, however many artifacts there are."""

    def __init__(self, nodes: Sequence[str], *, ways_max: int | None = None) -> None:
        """`ways_max`: ways from one node to another that are kept; None: all that carried something."""
        self.nodes = list(nodes)
        self.links: dict[tuple[int, int], LinkUse] = {}
        """By sender and receiver."""
        self.ways_left_out = 0
        """Receipts over ways beyond `ways_max`."""
        self.slowest: dict[str, SlowestReceipt] = {}
        """By node; only receipts that counted."""
        self.duplicates = [0] * len(self.nodes)
        """Whole payloads that each node got though it held them."""
        self.received = [0] * len(self.nodes)
        self._ways_max = ways_max
        self._numbers = {node: number for number, node in enumerate(self.nodes)}

    def passed(self, sender: str, node: str, size: int) -> None:
        """A receipt of so many user's bytes came over this way."""
        number = self._numbers.get(node, -1)
        if number >= 0:
            self.received[number] += 1
        if (use := self._way(sender, node, new=True)) is not None:
            use.receipts += 1
            use.bytes += size

    def took(self, row: ReceiptRow, latency_ms: float, sender_ms: float | None) -> float | None:
        """How long that receipt took, and when its sender had it; the wait in ms between the two, None where it is not known."""
        if row.node in self._numbers:
            known = self.slowest.get(row.node)
            if known is None or latency_ms > known.latency_ms:
                self.slowest[row.node] = SlowestReceipt(latency_ms, row.artifact, row.hop or 0, row.sender, sender_ms)
        if sender_ms is None or sender_ms > latency_ms:
            return None
        wait = latency_ms - sender_ms
        if (use := self._way(row.sender, row.node)) is not None:
            use.waits += 1
            use.wait_ms += wait
            use.wait_max_ms = max(use.wait_max_ms, wait)
        return wait

    def _way(self, sender: str, node: str, *, new: bool = False) -> LinkUse | None:
        key = self._numbers.get(sender, -1), self._numbers.get(node, -1)
        use = self.links.get(key)
        if use is None and new:
            if self._ways_max is not None and len(self.links) >= self._ways_max:
                self.ways_left_out += 1
                return None
            use = self.links[key] = LinkUse()
        return use


class Propagation(SpreadSums):
    """How the artifacts of a run spread over these nodes. `drawn`: ids of artifacts whose journeys are kept whole."""

    def __init__(self, nodes: Sequence[str], drawn: Collection[str] = ()) -> None:
        super().__init__(nodes)
        self.journeys: list[DrawnJourney] = []
        """In the order in which they were added."""
        self.expected = 0
        """Receipts expected, without those nothing is known of."""
        self.first_ns: int | None = None
        """Time of the first publication."""
        self._drawn = frozenset(drawn)
        self._latencies = array("d")
        self._at_ns = array("q")
        self._published: list[tuple[int, int]] = []
        self._hops: dict[int, _HopWaits] = {}

    def add(self, rows: Iterable[ReceiptRow]) -> None:
        """Take in every row of one artifact."""
        rows = list(rows)
        if not rows:
            return
        first = rows[0]
        expected = sum(row.state != "unknown" for row in rows)
        self.expected += expected
        if first.published_ns is not None:
            self._published.append((first.published_ns, expected))
            self.first_ns = first.published_ns if self.first_ns is None else min(self.first_ns, first.published_ns)
        had = {row.node: row.latency_ms for row in rows if row.latency_ms is not None}
        if first.publisher:
            had[first.publisher] = 0.0
        for row in rows:
            if row.node in self._numbers:
                self.duplicates[self._numbers[row.node]] += row.duplicates
            if row.state == "received" and row.latency_ms is not None:
                self._count(row, row.latency_ms, had.get(row.sender))
        if first.artifact in self._drawn:
            self.journeys.append(self._journey(rows))

    def _count(self, row: ReceiptRow, latency_ms: float, sender_ms: float | None) -> None:
        self._latencies.append(latency_ms)
        if row.published_ns is not None:
            self._at_ns.append(row.published_ns + round(latency_ms * 1e6))
        waits = self._hops.setdefault(min(row.hop or 0, HOPS_MAX), _HopWaits())
        waits.since.append(latency_ms)
        self.passed(row.sender, row.node, row.bytes or 0)
        if (wait := self.took(row, latency_ms, sender_ms)) is not None:
            waits.waits.append(wait)

    def _journey(self, rows: Sequence[ReceiptRow]) -> DrawnJourney:
        came = sorted(
            (row for row in rows if row.latency_ms is not None and row.node in self._numbers),
            key=lambda row: (row.latency_ms, row.hop, row.node),
        )
        first, numbers = rows[0], self._numbers
        return DrawnJourney(
            artifact=first.artifact, publisher=numbers.get(first.publisher, -1), published_ns=first.published_ns,
            size=max((row.bytes or 0 for row in came), default=0),
            nodes=[numbers[row.node] for row in came],
            after_us=[round((row.latency_ms or 0.0) * 1000) for row in came],
            hops=[row.hop or 0 for row in came],
            senders=[numbers.get(row.sender, -1) for row in came],
            duplicates=[row.duplicates for row in came],
        )  # fmt: skip

    def curve(self) -> list[float]:
        """Latencies in ms at equal shares of the receipts that came, from the first to the last; all where they are few."""
        return thinned(sorted(self._latencies), CURVE_POINTS)

    def hops(self) -> list[HopSpread]:
        """By hop, those with receipts."""
        return [
            HopSpread(hop, len(one.since), _spread(one.since), _spread(one.waits) if one.waits else None)
            for hop, one in sorted(self._hops.items())
        ]

    def reach(self) -> ReachCurve | None:
        """Receipts over time; None where nothing was published on record."""
        if self.first_ns is None:
            return None
        last = max([at for at, _ in self._published] + list(self._at_ns))
        span = max(last - self.first_ns, 1)
        due, received = [0] * BINS, [0] * BINS
        for at, count in self._published:
            due[_bin(at - self.first_ns, span)] += count
        for at in self._at_ns:
            received[_bin(at - self.first_ns, span)] += 1
        return ReachCurve(span / _NS_PER_S, _summed(due), _summed(received))


class ReachSums:
    """Receipts due and received over the time of a run whose end is not known: parts of time double in length when they
    would be more than BINS.
    """

    def __init__(self) -> None:
        self.first_ns: int | None = None
        """Time of the first publication; what is before counts with the first part."""
        self._part_ns = FIRST_PART_NS
        self._due, self._received = [0] * BINS, [0] * BINS
        self._last = 0

    def due(self, t_ns: int, count: int) -> None:
        """From a publication on, so many receipts are due."""
        if self.first_ns is None:
            self.first_ns = t_ns
        self._due[self._part(t_ns)] += count

    def came(self, t_ns: int) -> None:
        """A receipt of what was published."""
        self._received[self._part(t_ns)] += 1

    def curve(self) -> ReachCurve | None:
        """None before the first publication."""
        if self.first_ns is None:
            return None
        parts = self._last + 1
        span_s = parts * self._part_ns / _NS_PER_S
        return ReachCurve(span_s, _summed(self._due[:parts]), _summed(self._received[:parts]))

    def _part(self, t_ns: int) -> int:
        since = 0 if self.first_ns is None else max(0, t_ns - self.first_ns)
        while since // self._part_ns >= BINS:
            self._part_ns *= 2
            self._last //= 2
            for counts in (self._due, self._received):
                counts[:] = [counts[part] + counts[part + 1] for part in range(0, BINS, 2)] + [0] * (BINS // 2)
        part = since // self._part_ns
        self._last = max(self._last, part)
        return part


def artifacts_to_draw(artifacts: Sequence[str], slowest: str, nodes: int) -> list[str]:
    """As many as a page holds: the slowest, and others at equal distances in the order of publication."""
    most = max(1, min(ARTIFACTS_DRAWN_MAX, RECEIPTS_DRAWN_MAX // max(1, nodes)))
    chosen = set(artifacts) if len(artifacts) <= most else set(thinned(list(artifacts), most))
    if slowest and slowest in artifacts and slowest not in chosen:
        chosen.discard(next(one for one in reversed(artifacts) if one in chosen))
        chosen.add(slowest)
    return [one for one in artifacts if one in chosen]


def thinned(values: Sequence[_T], most: int) -> list[_T]:
    """At most so many of the values, at equal distances, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    if most < 2:
        return list(values[:most])
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def _spread(values: Iterable[float]) -> Quartiles:
    """By nearest rank, as in the report: a value that a receipt really had."""
    ordered = sorted(values)
    return Quartiles(*(ordered[max(0, math.ceil(quarter * len(ordered) / 4) - 1)] for quarter in range(5)))


def _bin(at: int, span: int) -> int:
    return max(0, min(BINS - 1, math.ceil(at * BINS / span) - 1))


def _summed(counts: Sequence[int]) -> list[int]:
    total, sums = 0, []
    for count in counts:
        total += count
        sums.append(total)
    return sums
