"""Properties of a graph: whether it is connected, its diameter, its degrees."""

from collections.abc import Iterable, Sequence

Edge = tuple[str, str]
"""Two node names."""


def is_connected(names: Sequence[str], edges: Iterable[Edge] | None) -> bool:
    """Whether every node reaches every other. `edges` None is a full mesh; no nodes at all are connected."""
    if edges is None or not names:
        return True
    return len(_distances(names[0], _peers(names, edges))) == len(names)


def diameter(names: Sequence[str], edges: Iterable[Edge] | None) -> int:
    """The greatest number of hops between two nodes. Raises ValueError for a graph in pieces.

    One breadth-first search per node: seconds for some thousand nodes.
    """
    if edges is None:
        return min(1, max(0, len(names) - 1))
    peers = _peers(names, edges)
    greatest = 0
    for name in names:
        distances = _distances(name, peers)
        if len(distances) < len(names):
            raise ValueError("a graph in pieces has no diameter")
        greatest = max(greatest, *distances.values())
    return greatest


def degree_range(names: Sequence[str], edges: Iterable[Edge] | None) -> tuple[int, int]:
    """The least and the greatest number of peers a node has; (0, 0) without nodes."""
    if edges is None:
        others = max(0, len(names) - 1)
        return (others, others)
    degrees = [len(mine) for mine in _peers(names, edges).values()] or [0]
    return (min(degrees), max(degrees))


def _peers(names: Sequence[str], edges: Iterable[Edge]) -> dict[str, list[str]]:
    peers: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        peers[a].append(b)
        peers[b].append(a)
    return peers


def _distances(start: str, peers: dict[str, list[str]]) -> dict[str, int]:
    """Hops from `start` to every node it reaches: a breadth-first search."""
    distances = {start: 0}
    reached = [start]
    for name in reached:  # grows while it is walked: the queue of the search
        for peer in peers[name]:
            if peer not in distances:
                distances[peer] = distances[name] + 1
                reached.append(peer)
    return distances
