"""The hop tree of one artifact: who got it from whom, which path took longest, and who never got it.

The rule for who passed it on to a node: the peer that completed it there, if that had it before, or over fewer hops: such a peer
passed parts on before it had validated all of it itself. Where that leads in a circle, it is cut at its first receipt. The rich
page draws by the same rule (`Journey.parents` in cli/page/src/model.js), and a test compares the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.events import Collected, EventKind, FetchTimes


@dataclass(frozen=True, slots=True)
class HopPhases:
    """Where the time of one hop went, in milliseconds, in this order.

    Together they are the hop's `edge_ms`, unless the sender passed parts on before it had everything itself: then the receiver
    began earlier than its sender ended, nothing is left for `announce_ms`, and the others add up to more.
    """

    announce_ms: float
    """From the sender's own receipt until the receiver had heard of it: the sender's queue, and the way of the advert."""
    wait_ms: float
    """From there until it asked: for a source, a stream or quota."""
    request_ms: float
    """From there until the first part was here: the way of the request, the sender's queue, and the way back."""
    transfer_ms: float
    """From there until the last part was here; of what was pushed, all the way from the sender's receipt."""
    validate_ms: float
    """From there until its client had validated it."""

    def by_name(self) -> dict[str, float]:
        """As `wording.PHASES` names them, in milliseconds, in their order."""
        return {
            "announce": self.announce_ms, "wait": self.wait_ms, "request": self.request_ms, "transfer": self.transfer_ms,
            "validate": self.validate_ms,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class HopNode:
    """One receipt."""

    node: str
    parent: str
    """The peer that completed the artifact at this node, as the node reports; empty: it reported none."""
    hop: int
    t_ns: int
    latency_ms: float | None
    """Since the publication; None when that is not on record."""
    edge_ms: float | None
    """Since the parent's own receipt; None for an orphan, and where the parent validated it later itself."""
    bytes: int = 0
    duplicates: int = 0
    orphan: bool = False
    """Its parent has no receipt on record, or only a later one of no fewer hops: it cannot be attached to the tree."""
    critical: bool = False
    """Whether it is on the critical path."""
    phases: HopPhases | None = None
    """None where the arrival of its bytes is not on record, and for an orphan that was pushed."""

    @property
    def took_ms(self) -> float:
        """From when the hop began until the receipt: all its phases; 0 where neither these nor its sender's receipt are known."""
        if self.phases is None:
            return self.edge_ms or 0.0
        return sum(self.phases.by_name().values())


@dataclass(frozen=True, slots=True)
class HopTree:
    """How one artifact travelled."""

    artifact: str
    publisher: str | None
    published_ns: int | None
    size: int | None
    nodes: list[HopNode]
    """In the order of arrival; the publisher is not among them."""
    critical_path: list[str]
    """Nodes from the publisher (or an orphan) to the last receipt."""
    unreached: list[str]
    """Nodes without a receipt that were expected to have one, in the order of the names given."""
    duplicates: int
    duplicate_bytes: int

    def children(self, node: str) -> list[HopNode]:
        """The receipts from `node`, in the order of arrival, without orphans."""
        return [one for one in self.nodes if one.parent == node and not one.orphan]

    @property
    def orphans(self) -> list[HopNode]:
        """Receipts whose parent is not known to have had the artifact before them."""
        return [one for one in self.nodes if one.orphan]

    @property
    def hops_max(self) -> int | None:
        """The largest hop on record; None without receipts."""
        return max((one.hop for one in self.nodes), default=None)


@dataclass(slots=True)
class _Gathered:
    """The events of one artifact by kind; mappings are by node."""

    published: Collected | None
    receipts: dict[str, Collected]
    arrivals: dict[str, Collected]
    """The first whole bytes of each node."""
    duplicates: dict[str, int]
    duplicate_bytes: int


def hop_tree(
    artifact: str, events: Iterable[Collected], names: Sequence[str], adversaries: Iterable[AdversaryGroup] = ()
) -> HopTree:
    """The tree of `artifact` (id in hex) among the nodes `names`, from a run's events in any order.

    `adversaries` among them may have passed it on, but nobody expects them to have it.
    """
    dishonest = {name for group in adversaries for name in group.nodes}
    gathered = _gather(artifact, events, frozenset(names))
    published = gathered.published
    publisher = published.node if published else None
    receipts = {node: one for node, one in gathered.receipts.items() if node != publisher}
    had = {node: one.t_ns for node, one in receipts.items()}
    if published:
        had[published.node] = published.t_ns
    arrived = sorted(receipts.values(), key=lambda one: (one.t_ns, one.hop, one.node))
    parents = _parents(receipts, had, publisher, names)
    path = _critical_path(arrived, parents)
    since = {node: had[parent] for node, parent in parents.items()}
    critical = frozenset(path)
    nodes = [_node(one, gathered, since.get(one.node), critical=one.node in critical) for one in arrived]
    return HopTree(
        artifact=artifact,
        publisher=publisher,
        published_ns=published.t_ns if published else None,
        size=published.bytes if published else None,
        nodes=nodes,
        critical_path=path,
        unreached=[name for name in names if name not in {publisher, *receipts, *dishonest}],
        duplicates=sum(gathered.duplicates.values()),
        duplicate_bytes=gathered.duplicate_bytes,
    )


def _gather(artifact: str, events: Iterable[Collected], names: frozenset[str]) -> _Gathered:
    found = _Gathered(None, {}, {}, {}, 0)
    for event in events:
        if event.artifact != artifact or event.node not in names:
            continue
        match event.kind:
            case EventKind.PUBLISHED:
                if found.published is None or event.t_ns < found.published.t_ns:
                    found.published = event
            case EventKind.VALIDATED:
                known = found.receipts.get(event.node)
                if known is None or event.t_ns < known.t_ns:
                    found.receipts[event.node] = event
            case EventKind.RECEIVED:
                found.arrivals.setdefault(event.node, event)
            case EventKind.DUPLICATE:
                found.duplicates[event.node] = found.duplicates.get(event.node, 0) + 1
                found.duplicate_bytes += event.bytes
            case _:
                pass
    return found


def _parents(
    receipts: dict[str, Collected], had: dict[str, int], publisher: str | None, names: Sequence[str]
) -> dict[str, str]:
    """By receiver, who passed it on; orphans are left out. `had`: when each node had it."""
    hops = {node: one.hop for node, one in receipts.items()}
    if publisher is not None:
        hops[publisher] = 0
    found = {
        node: one.peer
        for node, one in receipts.items()
        if one.peer in had and one.peer != node and (had[one.peer] <= one.t_ns or hops[one.peer] < one.hop)
    }
    order = {name: number for number, name in enumerate(names)}
    walked: dict[str, str] = {}
    for start in [name for name in names if name in found]:
        node = start
        while node in found and node not in walked:
            walked[node] = start
            node = found[node]
        if node in found and walked[node] == start:
            circle = [node]
            while (after := found[circle[-1]]) != node:
                circle.append(after)
            del found[min(circle, key=lambda one: (had[one], order[one]))]
    return found


def _critical_path(arrived: list[Collected], parents: dict[str, str]) -> list[str]:
    if not arrived:
        return []
    path = [arrived[-1].node]
    while path[-1] in parents:
        path.append(parents[path[-1]])
    return path[::-1]


def _node(receipt: Collected, gathered: _Gathered, had_ns: int | None, *, critical: bool) -> HopNode:
    """`had_ns`: when the parent had it; None for an orphan."""
    published, arrival = gathered.published, gathered.arrivals.get(receipt.node)
    return HopNode(
        node=receipt.node,
        parent=receipt.peer,
        hop=receipt.hop,
        t_ns=receipt.t_ns,
        latency_ms=(receipt.t_ns - published.t_ns) / 1e6 if published else None,
        edge_ms=None if had_ns is None or had_ns > receipt.t_ns else (receipt.t_ns - had_ns) / 1e6,
        bytes=receipt.bytes if arrival is None else arrival.bytes,
        duplicates=gathered.duplicates.get(receipt.node, 0),
        orphan=had_ns is None,
        critical=critical,
        phases=None if arrival is None else _phases(receipt, arrival, had_ns),
    )


def _phases(receipt: Collected, arrival: Collected, had_ns: int | None) -> HopPhases | None:
    """`had_ns`: when the sender had it. None where the receipt is of another arrival, or when a push began is not known."""
    if arrival.peer != receipt.peer or arrival.t_ns > receipt.t_ns:
        return None
    validate_ms = (receipt.t_ns - arrival.t_ns) / 1e6
    times = FetchTimes.from_detail(arrival.detail)
    if times is None:
        return None if had_ns is None else HopPhases(0.0, 0.0, 0.0, max(0, arrival.t_ns - had_ns) / 1e6, validate_ms)
    wait, request, transfer = times.wait_us / 1e3, times.request_us / 1e3, times.transfer_us / 1e3
    announced_ms = 0.0 if had_ns is None else (arrival.t_ns - had_ns) / 1e6 - wait - request - transfer
    return HopPhases(max(0.0, announced_ms), wait, request, transfer, validate_ms)
