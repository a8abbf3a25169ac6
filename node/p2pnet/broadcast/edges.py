"""Eager and lazy edges of a sparse topology: a tree for each publisher, after Plumtree (Leitão, Pereira, Rodrigues 2007).

An edge is a publisher, known by its `origin` number, and a peer. An artifact of that publisher is announced at once over eager
edges, and over lazy ones only if the peer turns out to lack it, which `Digests` find out. An edge whose peer had the artifact
already turns lazy; one whose peer took it, or lacked it, turns eager. So the first artifact of a publisher goes over all edges,
and the next ones over a tree of the paths that were the fastest for the first.

Who delivered an artifact does not tell its publisher: with the peer that delivered it in place of the number, the trees of
twenty publishers spoil each other (measured: half of the nodes then wait for a repair).
"""

from collections.abc import Iterable, Iterator

from p2pnet.broadcast.context import Context
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import KIB

EAGER_BELOW_BYTES = 16 * KIB
"""User's bytes from which an artifact is not pushed over eager edges: its parts come from several peers instead."""
ORIGINS_MAX = 8_192
"""Publishers whose edges are remembered; the one least recently heard of makes room."""
ORIGINS_PER_PEER = 1_024
"""The same of those whose first artifact one peer delivered: a peer that makes up publishers evicts its own."""


class OriginEdges:
    """The edges of one publisher: bits of peers."""

    __slots__ = ("deliverer", "eager", "latest", "lazy")

    def __init__(self, deliverer: str) -> None:
        self.deliverer = deliverer
        """The peer that delivered its first artifact; empty: it is this node."""
        self.latest: ArtifactId | None = None
        """Its artifact that came last: most of what comes next is a copy of it."""
        self.eager = 0
        self.lazy = 0
        """A peer with neither bit is untried: its connection is new, or the publisher is."""


class Edges:
    """What is known of the edges to the connected peers."""

    __slots__ = ("_bits", "_context", "_free", "_introduced", "_origins")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._bits: dict[str, int] = {}
        self._free: list[int] = []
        self._origins: dict[int, OriginEdges] = {}  # least recently used first
        self._introduced: dict[str, dict[int, None]] = {}  # by deliverer

    def __len__(self) -> int:
        return len(self._origins)

    def connect(self, peer: str) -> None:
        """A new connection: all edges to the peer are untried, for nothing it had before counts."""
        self.disconnect(peer)
        self._bits[peer] = self._free.pop() if self._free else 1 << len(self._bits)

    def disconnect(self, peer: str) -> None:
        """The connection ended: its edges are forgotten, and publishers of whom nothing else is known."""
        bit = self._bits.pop(peer, 0)
        if not bit:
            return
        self._free.append(bit)
        if not self._bits:
            self._free.clear()
        for origin, edges in list(self._origins.items()):
            edges.eager &= ~bit
            edges.lazy &= ~bit
            if not edges.eager | edges.lazy:
                self._forget(origin)

    def audience(self, origin: int, deliverer: str, holders: Iterable[str]) -> tuple[set[str], set[str]]:
        """The peers with an eager edge, and those with an untried one, for an artifact of this publisher that is here now.

        `holders`: peers that have it already; their edges turn lazy.
        """
        edges = self._use(origin, deliverer)
        for peer in holders:
            self._turn_lazy(edges, peer)
        eager, lazy = edges.eager, edges.lazy
        known = eager | lazy
        told = {peer for peer, bit in self._bits.items() if eager & bit} if eager else set()
        return told, {peer for peer, bit in self._bits.items() if not known & bit}

    def graft(self, origin: int, peer: str) -> None:
        """The peer lacked an artifact, or took it from here: its edge is eager now."""
        edges, bit = self._origins.get(origin), self._bits.get(peer, 0)
        if edges is not None:
            if edges.lazy & bit:
                self._context.count("edge_turned_eager_again")
            edges.eager |= bit
            edges.lazy &= ~bit

    def prune(self, origin: int, peer: str) -> None:
        """The peer had the artifact already: its edge is lazy now."""
        edges = self._origins.get(origin)
        if edges is not None:
            self._turn_lazy(edges, peer)

    def came(self, origin: int, artifact: ArtifactId) -> None:
        """An artifact of this publisher, whose edges are known, is here."""
        self._origins[origin].latest = artifact

    def latest(self, origin: int) -> ArtifactId | None:
        """This publisher's artifact that came here last, maybe gone again."""
        edges = self._origins.get(origin)
        return None if edges is None else edges.latest

    def eager(self, origin: int) -> Iterator[str]:
        """The peers with an eager edge for this publisher."""
        edges = self._origins.get(origin)
        return (peer for peer, bit in self._bits.items() if edges is not None and edges.eager & bit)

    def lazy(self, origin: int) -> Iterator[str]:
        """The peers with a lazy edge for this publisher."""
        edges = self._origins.get(origin)
        return (peer for peer, bit in self._bits.items() if edges is not None and edges.lazy & bit)

    def _turn_lazy(self, edges: OriginEdges, peer: str) -> None:
        bit = self._bits.get(peer, 0)
        if edges.eager & bit:
            self._context.count("eager_edge_turned_lazy")
            edges.eager &= ~bit
        edges.lazy |= bit

    def _use(self, origin: int, deliverer: str) -> OriginEdges:
        """The edges of this publisher, the most recently used ones now."""
        edges = self._origins.pop(origin, None)
        if edges is None:
            edges = OriginEdges(deliverer)
        introduced = self._introduced.setdefault(edges.deliverer, {})
        introduced.pop(origin, None)
        introduced[origin] = None
        self._origins[origin] = edges
        if len(introduced) > ORIGINS_PER_PEER:
            self._forget(next(iter(introduced)))
        elif len(self._origins) > ORIGINS_MAX:
            self._forget(next(iter(self._origins)))
        return edges

    def _forget(self, origin: int) -> None:
        deliverer = self._origins.pop(origin).deliverer
        introduced = self._introduced[deliverer]
        del introduced[origin]
        if not introduced:
            del self._introduced[deliverer]
