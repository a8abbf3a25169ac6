"""Random regular graphs: connected, every node with exactly `degree` peers, and little changed when members come or go.

`grow_at_end` needs members that arrive in order, as the nodes of one group do. `grow_anywhere` takes members that come and
go anywhere in the order, as nodes of several groups do.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from p2pnet.topology.graphs import Edge
from p2pnet.topology.ring import EdgeRing, point

ATTEMPTS_MAX = 32
"""Attempts with other points each; small dense graphs may need a few, and `_circulant` follows the last."""


def grow_at_end(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    """The edges, for `names` in the order of arrival.

    Needs 2 <= degree < len(names), and an even number of nodes for an odd degree. The first `degree + 1` nodes are a full
    mesh. Each node that follows is inserted into `degree / 2` edges without a common end: `a - b` becomes `a - new - b`.
    All degrees stay, a connected graph stays connected, and of the nodes before it `degree` change one peer each and the
    rest none. For an odd degree nodes are inserted in pairs that are each other's peers. (Bourassa & Holt, SWAN: small-world
    wide area networks, 2003, grow random regular networks in this way.)
    """
    ring = EdgeRing(seed)
    first = degree + 1
    for a, b in combinations(names[:first], 2):
        ring.add(a, b)
    if degree % 2 == 0:
        for name in names[first:]:
            _insert(ring, name, degree // 2, seed)
    else:
        # Two at a time: with one node more the sum of odd degrees would be odd.
        for one, other in zip(names[first::2], names[first + 1 :: 2], strict=True):
            _insert(ring, one, degree // 2, seed)
            _insert(ring, other, degree // 2, seed, avoid=one)
            ring.add(one, other)
    return ring.edges


def grow_anywhere(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    """The edges; needs the same as `grow_at_end`.

    A layer is a cycle through all nodes in the order of their points (an odd degree adds one layer of pairs): one node more
    is inserted between two others in every layer and changes no other. Two layers may want the same edge: its second copy is
    swapped with an edge nearby. The first layer is never changed, so the graph is connected. (Law & Siu, Distributed
    construction of random expander networks, 2003, build expanders of Hamiltonian cycles.)
    """
    count = len(names)
    if 2 * degree < count:
        return sorted(_sparse(names, degree, seed))
    # Dense: all edges but those of a sparse graph. Every node keeps at least half of the others: connected (Dirac, 1952).
    without = _sparse(names, count - 1 - degree, seed)
    return [edge for edge in combinations(sorted(names), 2) if edge not in without]


def _insert(ring: EdgeRing, name: str, count: int, seed: int, avoid: str = "") -> None:
    """Insert a node into `count` edges that share no end, with each other or with `avoid`.

    Such edges exist: a node outside a maximum set of them has all its peers, at least `2 * count`, among the ends of the set.
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


def _sparse(names: Sequence[str], degree: int, seed: int) -> set[Edge]:
    """Edges of a graph with fewer than half of all possible ones."""
    for attempt in range(ATTEMPTS_MAX):
        found = _attempt(names, degree, point(seed, "attempt", attempt))
        if found is not None:
            return found
    return _circulant(sorted(names), degree)


def _attempt(names: Sequence[str], degree: int, seed: int) -> set[Edge] | None:
    """The layers with these points; None when an edge wanted twice could not be swapped."""
    found: set[Edge] = set()
    ring = EdgeRing(seed)
    twice: list[Edge] = []
    for layer in range((degree + 1) // 2):
        order = sorted(names, key=lambda name, layer=layer: point(seed, "layer", layer, name))  # type: ignore[misc]
        for edge in _pairs(order) if 2 * layer + 1 == degree else _cycle(order):
            if edge in found:
                twice.append(edge)
                continue
            found.add(edge)
            if layer:  # the first layer is never swapped: it keeps the graph connected
                ring.add(*edge)
    return found if all(_swap(edge, found, ring, seed) for edge in twice) else None


def _swap(edge: Edge, found: set[Edge], ring: EdgeRing, seed: int) -> bool:
    """Replace the second copy of `edge` and another edge by two edges between their ends; False if no edge fits."""
    a, b = edge

    def fits(x: str, y: str) -> bool:
        return not {x, y} & {a, b} and _edge(a, x) not in found and _edge(b, y) not in found

    other = ring.first(point(seed, "swap", a, b), lambda one: fits(*one) or fits(*one[::-1]))
    if other is None:
        return False
    x, y = other if fits(*other) else other[::-1]
    ring.remove(x, y)
    found.remove(_edge(x, y))
    for new in (_edge(a, x), _edge(b, y)):
        found.add(new)
        ring.add(*new)
    return True


def _edge(a: str, b: str) -> Edge:
    return (a, b) if a < b else (b, a)


def _cycle(order: Sequence[str]) -> Iterator[Edge]:
    return (_edge(name, order[index - 1]) for index, name in enumerate(order))


def _pairs(order: Sequence[str]) -> Iterator[Edge]:
    return (_edge(a, b) for a, b in zip(order[::2], order[1::2], strict=True))


def _circulant(order: Sequence[str], degree: int) -> set[Edge]:
    """The regular graph that always exists: the nearest on either side, and the opposite node for an odd degree."""
    count = len(order)
    steps = [*range(1, degree // 2 + 1), *([count // 2] if degree % 2 else [])]
    return {_edge(name, order[(index + step) % count]) for index, name in enumerate(order) for step in steps}
