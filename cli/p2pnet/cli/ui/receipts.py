"""Events of a subnet as the page takes them: who got which artifact when, from whom. Pure, and bounded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2pnet.cli.ui.sums import FollowedSums
from p2pnet.measure.propagation import ARTIFACTS_DRAWN_MAX, RECEIPTS_DRAWN_MAX
from p2pnet.measure.receipts import ReceiptRow
from p2pnet.model.events import Collected, EventKind

PASSED_OVER_MAX = 20_000  # ids of artifacts that are not followed, so that late receipts do not begin them again
WAITED_NS = 60 * 10**9  # of one that is not everywhere yet: then it makes room
STARTS_MAX = 40_000  # of nodes, of which the last event is remembered
KINDS = (EventKind.PUBLISHED, EventKind.VALIDATED, EventKind.DUPLICATE)
"""What is looked at."""

Json = dict[str, Any]


@dataclass(slots=True)
class _Followed:
    """One artifact: the first receipt of each node, and which of them nobody was told of yet."""

    begun_ns: int
    """When it was heard of first."""
    publisher: int = -1
    published_ns: int | None = None
    size: int = 0
    came: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """By node: time in ns, hop, sender."""
    untold: set[int] = field(default_factory=set)
    announced: bool = False
    waiting: dict[int, list[int]] = field(default_factory=dict)
    """By sender whose own receipt is not known yet, the nodes that got it from there."""


class LiveReceipts:
    """Artifacts of a subnet of these nodes, as many at the same time as a page draws. `away`: nodes that do not behave.

    One that is everywhere makes room for a new one. Where none is, as in a burst, new ones are passed over: what is shown is
    shown to its end. Whatever is told may be told again: a page takes the first receipt of each node, and knows artifacts by
    their ids. Bytes and duplicates are summed of all artifacts, latencies and waits of those that are followed.
    """

    def __init__(self, nodes: Sequence[str], away: Collection[str] = ()) -> None:
        self.nodes = list(nodes)
        self.sums = FollowedSums(nodes, away)
        self.nodes = list(nodes)
        self._numbers = {node: number for number, node in enumerate(nodes)}
        self._artifacts_max = max(1, min(ARTIFACTS_DRAWN_MAX, RECEIPTS_DRAWN_MAX // max(1, len(nodes))))
        self._artifacts: dict[str, _Followed] = {}
        self._passed_over: dict[str, None] = {}
        self._parting: list[Json] = []
        """What is to be told of artifacts that made room."""
        self._seen: dict[tuple[str, str], int] = {}
        """The last event of each start of a node: after a lost connection the lab tells all it holds again."""

    @property
    def first_ns(self) -> int | None:
        """Time of the first publication: all others are told since then."""
        return self.sums.reach.first_ns

    def take(self, event: Collected) -> None:
        """Take in one event, in whatever order nodes tell them; of most kinds nothing is kept."""
        node = self._numbers.get(event.node)
        if node is None or not event.artifact or event.kind not in KINDS or self._is_old(event):
            return
        if event.kind is not EventKind.PUBLISHED and not self.sums.counts(event.node):
            return
        if event.kind is EventKind.DUPLICATE:
            self.sums.came(event)
            return
        one = self._artifacts.get(event.artifact)
        if one is None:
            if event.artifact in self._passed_over or not self._has_room(event.t_ns):
                self._pass_over(event.artifact)
                if event.kind is EventKind.VALIDATED:
                    self.sums.came(event)
                return
            one = self._artifacts[event.artifact] = _Followed(begun_ns=event.t_ns)
        if event.kind is EventKind.PUBLISHED:
            self._publish(event, node, one)
        elif node not in one.came and node != one.publisher:
            one.came[node] = event.t_ns, event.hop, self._numbers.get(event.peer, -1)
            one.untold.add(node)
            self.sums.came(event)
            self._settle(event.artifact, one, node)

    def _is_old(self, event: Collected) -> bool:
        start = event.node, event.incarnation
        last = self._seen.pop(start, -1)
        self._seen[start] = max(last, event.seq)
        if len(self._seen) > STARTS_MAX:
            del self._seen[next(iter(self._seen))]
        return event.seq <= last

    def _publish(self, event: Collected, node: int, one: _Followed) -> None:
        if one.published_ns is not None:
            return
        one.publisher, one.published_ns, one.size = node, event.t_ns, event.bytes
        one.came.pop(node, None)  # its own validation is no receipt
        one.untold.discard(node)
        self.sums.published(event.node, event.t_ns)
        for early in list(one.came):
            self._settle(event.artifact, one, early)

    def _settle(self, artifact: str, one: _Followed, node: int, *, last: bool = False) -> None:
        """Sum up a receipt, and those that waited for it, once it is known when their senders had the artifact.

        `last`: nothing more will be known.
        """
        todo = [node]
        while todo and one.published_ns is not None:
            here = todo.pop()
            t_ns, hop, sender = one.came[here]
            sender_ms = 0.0 if sender == one.publisher else None
            if sender in one.came and sender != here:
                sender_ms = (one.came[sender][0] - one.published_ns) / 1e6
            elif sender_ms is None and sender >= 0 and sender != here and not last:
                one.waiting.setdefault(sender, []).append(here)
                continue
            latency_ms = (t_ns - one.published_ns) / 1e6
            names = [self.nodes[number] if number >= 0 else "" for number in (one.publisher, here, sender)]
            row = ReceiptRow(
                artifact, names[0], names[1], one.published_ns, latency_ms, hop, names[2], one.size, 0, "received"
            )
            self.sums.took(row, latency_ms, sender_ms)
            todo += one.waiting.pop(here, ())

    def _has_room(self, now_ns: int) -> bool:
        """Whether one more can be followed, once the oldest that needs to be followed no more is let go."""
        if len(self._artifacts) < self._artifacts_max:
            return True
        for artifact, one in self._artifacts.items():
            everywhere = one.published_ns is not None and len(one.came) >= self.sums.expected(self.nodes[one.publisher])
            if everywhere or now_ns - one.begun_ns > WAITED_NS:
                self._let_go(artifact, one)
                return True
        return False

    def _let_go(self, artifact: str, one: _Followed) -> None:
        if one.published_ns is not None:
            if one.untold or not one.announced:
                told = self._told(artifact, one, sorted(one.untold))
                self._parting = [*self._parting, told][-self._artifacts_max :]
            for node in [node for nodes in one.waiting.values() for node in nodes]:
                self._settle(artifact, one, node, last=True)
        del self._artifacts[artifact]
        self._pass_over(artifact)

    def _pass_over(self, artifact: str) -> None:
        self._passed_over[artifact] = None
        if len(self._passed_over) > PASSED_OVER_MAX:
            del self._passed_over[next(iter(self._passed_over))]

    def news(self) -> list[Json]:
        """What nobody was told of yet."""
        parting, self._parting = self._parting, []
        return parting + [
            self._told(artifact, one, sorted(one.untold))
            for artifact, one in self._artifacts.items()
            if one.published_ns is not None and (one.untold or not one.announced)
        ]

    def whole(self) -> list[Json]:
        """Everything there is, for a page that begins."""
        return [
            self._told(artifact, one, sorted(one.came), keep=True)
            for artifact, one in self._artifacts.items()
            if one.published_ns is not None
        ]

    def _told(self, artifact: str, one: _Followed, nodes: Sequence[int], *, keep: bool = False) -> Json:
        start = one.published_ns or 0
        came = [one.came[node] for node in nodes]
        if not keep:
            one.untold.clear()
            one.announced = True
        return {
            "id": artifact, "publisher": one.publisher, "size": one.size, "at_us": (start - (self.first_ns or 0)) // 1000,
            "node": list(nodes), "after_us": [(at - start) // 1000 for at, _, _ in came],
            "hop": [hop for _, hop, _ in came], "from": [sender for _, _, sender in came],
        }  # fmt: skip
