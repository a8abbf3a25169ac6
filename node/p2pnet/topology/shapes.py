"""The topology kinds of a Subnet document, as edges between node names."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_order
from p2pnet.topology.graphs import Edge, is_connected
from p2pnet.topology.random_regular import grow_anywhere, grow_at_end
from p2pnet.topology.ring import POINTS, point

KINDS = ("full", "random-regular", "ring", "small-world", "edges")
"""Values of `spec.topology.kind`."""


def edges(
    kind: str, names: Sequence[str], *, degree: int = 0, seed: int = 0, extra_edges: Iterable[Edge] = ()
) -> list[Edge] | None:
    """The edges of a topology between these members: connected, each once, sorted by the order of `names`; None is a full mesh.

    `degree`: peers of every node, exact for random-regular, even for ring and for the lattice of small-world; other kinds
    ignore it. `extra_edges`: the edges of kind `edges`; added to every other sparse kind. One node more or less changes few
    edges of each node. Raises SpecError for what these members cannot have: an odd number of nodes x degree, a degree of as
    many peers as there are nodes, edges of unknown nodes, edges that leave the graph in pieces.
    """
    if kind not in KINDS:
        raise SpecError(f"topology kind {kind!r}: one of {' '.join(KINDS)}")
    if len(set(names)) != len(names):
        raise SpecError("topology: two members have the same name")
    if kind == "full":
        return None
    given = _checked(extra_edges, names)
    if kind != "edges" and len(names) > 1:
        _check_degree(kind, len(names), degree)
        match kind:
            case "random-regular":
                given += _random_regular(names, degree, seed)
            case "ring":
                given += _lattice(names, degree)
            case _:
                given += _lattice(names, degree) + _shortcuts(names, seed)
    # Each edge one way round and all in the members' order, so that equal topologies are equal lists.
    order = {name: index for index, name in enumerate(names)}
    unique = {(a, b) if order[a] < order[b] else (b, a) for a, b in given}
    found = sorted(unique, key=lambda edge: (order[edge[0]], order[edge[1]]))
    if not is_connected(names, found):
        raise SpecError("topology: the edges leave the subnet in pieces")
    return found


def _check_degree(kind: str, count: int, degree: int) -> None:
    if not 1 <= degree < count:
        raise SpecError(f"topology {kind}: {degree} peers each cannot be among {count} nodes")
    if kind == "random-regular":
        if count * degree % 2:
            raise SpecError(f"topology {kind}: {count} nodes x {degree} peers is odd: make one of the two even")
        if degree == 1 and count > 2:
            raise SpecError(f"topology {kind}: 1 peer each leaves pairs, a connected graph needs at least 2")
    elif degree % 2 and count > 2:
        raise SpecError(f"topology {kind}: {degree} is odd, and a node has as many peers on either side")


def _random_regular(names: Sequence[str], degree: int, seed: int) -> list[Edge]:
    if degree == 1:
        return [(names[0], names[1])]
    members = sorted((member_order(name), name) for name in names)
    one_group = len({group for (group, _), _ in members}) == 1
    # One group grows at its end only; of several groups each may grow, which is in the middle of any order.
    build = grow_at_end if one_group else grow_anywhere
    return build([name for _, name in members], degree, seed)


def _checked(given: Iterable[Edge], names: Sequence[str]) -> list[Edge]:
    known, found = set(names), []
    for a, b in given:
        for name in (a, b):
            if name not in known:
                raise SpecError(f"topology edge {a} {b}: no node is named {name!r}")
        if a == b:
            raise SpecError(f"topology edge {a} {b}: a node cannot be its own peer")
        found.append((a, b))
    return found


def _lattice(names: Sequence[str], degree: int) -> list[Edge]:
    """Every node with the next `degree / 2` in the order of the names, as a ring."""
    count = len(names)
    steps = range(1, max(1, degree // 2) + 1)
    return [(name, names[(index + step) % count]) for index, name in enumerate(names) for step in steps if step < count]


def _shortcuts(names: Sequence[str], seed: int) -> list[Edge]:
    """One long edge for about every second node, to the node that follows a random point on a ring of the nodes.

    Newman & Watts' variant: shortcuts are added and no lattice edge is taken away, so the graph stays connected.
    """
    ring = sorted((point(seed, "place", name), name) for name in names)
    found = []
    for name in names:
        if point(seed, "coin", name) < POINTS // 2:
            at = bisect_left(ring, (point(seed, "shortcut", name), ""))
            target = ring[at % len(ring)][1]
            if target != name:
                found.append((name, target))
    return found
