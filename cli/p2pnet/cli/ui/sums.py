"""What the page is told in sums: who got how much from whom, what waited, and how many receipts had come when. Pure, bounded."""

from collections import deque
from collections.abc import Collection, Sequence
from statistics import median

from p2pnet.measure.propagation import ReachSums, SpreadSums
from p2pnet.measure.receipts import ReceiptRow
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.report import NodeReceipts

WAYS_MAX = 50_000  # from one node to another that carried something; beyond, they are counted together: some 15 MB
RECENT_MAX = 64  # latencies kept of each node, the last ones, for its median


class FollowedSums:
    """Sums over a subnet of these nodes, of which those `away` do not behave: as in a report, no receipt of theirs counts."""

    def __init__(self, nodes: Sequence[str], away: Collection[str] = ()) -> None:
        self.spread = SpreadSums(nodes, ways_max=WAYS_MAX)
        self.reach = ReachSums()
        self._away = frozenset(away)
        self._numbers = {node: number for number, node in enumerate(nodes)}
        self._recent: list[deque[float]] = [deque(maxlen=RECENT_MAX) for _ in nodes]

    def expected(self, publisher: str) -> int:
        """Receipts that are due of one artifact."""
        honest = len(self._numbers) - len(self._away)
        return honest - (publisher in self._numbers and publisher not in self._away)

    def counts(self, node: str) -> bool:
        """Whether receipts of this node count."""
        return node in self._numbers and node not in self._away

    def came(self, event: Collected) -> None:
        """A receipt, or a payload that came again, at a node that counts."""
        if event.kind is EventKind.DUPLICATE:
            self.spread.duplicates[self._numbers[event.node]] += 1
        elif event.peer:
            self.spread.passed(event.peer, event.node, event.bytes)

    def published(self, publisher: str, t_ns: int) -> None:
        """An artifact whose receipts are followed."""
        self.reach.due(t_ns, self.expected(publisher))

    def took(self, row: ReceiptRow, latency_ms: float, sender_ms: float | None) -> None:
        """A receipt of such an artifact, once it is known when its sender had it."""
        self.reach.came((row.published_ns or 0) + round(latency_ms * 1e6))
        self._recent[self._numbers[row.node]].append(latency_ms)
        self.spread.took(row, latency_ms, sender_ms)

    def per_node(self) -> list[NodeReceipts]:
        """What each node got, with the median of its last RECENT_MAX latencies; what is under way does not count as missing."""
        found = []
        for node, number in self._numbers.items():
            recent, slowest, received = (
                self._recent[number],
                self.spread.slowest.get(node),
                self.spread.received[number],
            )
            found.append(
                NodeReceipts(
                    node, received, received, median(recent) if recent else None,
                    slowest.latency_ms if slowest else None, slowest.sender if slowest else "",
                )
            )  # fmt: skip
        return found
