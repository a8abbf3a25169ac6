"""Random regular graphs, connected, that change little when members come or go."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from p2pnet.topology.graphs import Edge
from p2pnet.topology.ring import EdgeRing, point


def grow_at_end(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    """Edges that give every node exactly `degree` peers; connected.

    `names` in the order of arrival. Needs 2 <= degree < len(names), and an even number of nodes for an odd degree.
    """
    ring = EdgeRing(seed)
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


def _seat(ring: EdgeRing, name: str, count: int, seed: int, avoid: str = "") -> None:
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


ATTEMPTS_MAX = 32  # with other points each; small dense graphs may need a few


def grow_anywhere(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    """Edges that give every node exactly `degree` peers; connected. Same needs as `regular.grown`."""
    count = len(names)
    if 2 * degree < count:
        return sorted(_sparse(names, degree, seed))
    # Dense: leave out a sparse graph. Everybody keeps at least half of the others, so it is connected (Dirac).
    without = _sparse(names, count - 1 - degree, seed)
    return [edge for edge in combinations(sorted(names), 2) if edge not in without]


def _sparse(names: Sequence[str], degree: int, seed: int) -> set[Edge]:
    for attempt in range(ATTEMPTS_MAX):
        found = _attempt(names, degree, point(seed, "attempt", attempt))
        if found is not None:
            return found
    return _circulant(sorted(names), degree)


def _attempt(names: Sequence[str], degree: int, seed: int) -> set[Edge] | None:
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
            if layer:
                ring.add(*edge)
    return found if all(_swap(edge, found, ring, seed) for edge in twice) else None


def _swap(edge: Edge, found: set[Edge], ring: EdgeRing, seed: int) -> bool:
    """Give both ends of a second copy a peer each, from the two ends of another edge, which goes."""
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
    """The regular graph that always exists: nearest on either side, and the opposite for an odd degree."""
    count = len(order)
    steps = [*range(1, degree // 2 + 1), *([count // 2] if degree % 2 else [])]
    return {_edge(name, order[(index + step) % count]) for index, name in enumerate(order) for step in steps}
