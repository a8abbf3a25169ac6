"""Random regular graphs that grow: a new node goes into the middle of edges that are there.

The first `degree + 1` nodes are a full mesh. Each node that follows picks `degree / 2` edges without a common end and
sits down in the middle of each: `a - b` becomes `a - new - b`. All degrees stay, a connected graph stays connected,
and of the nodes that were there, `degree` change one peer each and the rest none. An odd degree seats nodes in pairs
that are each other's peers. (Bourassa & Holt, SWAN: small-world wide area networks, 2003, grow random regular networks
in this way.) A node that joins in the middle of the order disturbs all that follow: see `layered` for that.
"""

from collections.abc import Sequence
from itertools import combinations

from p2pnet.topology.chance import point
from p2pnet.topology.graphs import Edge
from p2pnet.topology.ring import Ring


def grown(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    """Edges that give every node exactly `degree` peers; connected.

    `names` in the order of arrival. Needs 2 <= degree < len(names), and an even number of nodes for an odd degree.
    """
    ring = Ring(seed)
    first = degree + 1
    for a, b in combinations(names[:first], 2):
        ring.add(a, b)
    if degree % 2 == 0:
        for name in names[first:]:
            _seat(ring, name, degree // 2, seed)
    else:
        for one, other in zip(names[first::2], names[first + 1 :: 2], strict=True):
            _seat(ring, one, degree // 2, seed)
            _seat(ring, other, degree // 2, seed, avoid=one)
            ring.add(one, other)
    return ring.edges


def _seat(ring: Ring, name: str, count: int, seed: int, avoid: str = "") -> None:
    """Put a node into the middle of `count` edges that share no end (with each other, nor with `avoid`).

    They exist: a node left over by a greatest set of such edges has all its peers, at least `2 * count` of them,
    among the ends of the set.
    """
    taken = {avoid}
    chosen: list[Edge] = []
    for turn in range(count):
        edge = ring.first(point(seed, "seat", name, turn), lambda edge: not taken.intersection(edge))
        if edge is None:
            raise AssertionError("a regular graph always has such an edge")
        chosen.append(edge)
        taken.update(edge)
    for a, b in chosen:
        ring.remove(a, b)
        ring.add(a, name)
        ring.add(name, b)
