"""Where a drawing puts nodes: near those they are linked with, or where on earth they are. The same seed, the same places.

Layouts that follow from one artifact's journey (its hop tree, rings of its latencies) are made by the page as receipts come.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from p2pnet.present.regions import coordinates

PIVOTS = 24  # whose distances in hops place all other nodes
FORCE_NODES_MAX = 1_500  # beyond, distances alone place them: forces would take minutes
FORCE_WORK = 1_500_000  # pairs of near nodes looked at, in all rounds together: some seconds
ROUNDS_MAX = 120
SCALE = 1_000
"""Coordinates are whole numbers from -SCALE to SCALE; on the map, tenths of a degree."""
_GOLDEN = math.pi * (3 - math.sqrt(5))

Edge = tuple[int, int]


class Positions(NamedTuple):
    """x and y by node, y upwards."""

    x: list[int]
    y: list[int]


def by_links(nodes: int, edges: Sequence[Edge], seed: int) -> Positions:
    """Linked nodes near each other: first by their distances from some of them, then by springs."""
    if not nodes:
        return Positions([], [])
    rng = random.Random(seed)
    peers: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in edges:
        peers[a].append(b)
        peers[b].append(a)
    if len(edges) * 2 >= nodes * (nodes - 1) or not edges:  # everybody with everybody: no place is better than another
        return _scaled(*_sunflower(nodes) if nodes > 60 else _circle(nodes))
    x, y = _projected(_distances(peers, rng), nodes, rng)
    if nodes <= FORCE_NODES_MAX:
        _relax(x, y, edges, rng)
    return _scaled(x, y)


def on_earth(places: Sequence[str]) -> Positions | None:
    """Longitude and latitude of each node's place in tenths of a degree, nodes of one place beside each other.

    None where a place is not known.
    """
    found = {place: coordinates(place) for place in set(places)}
    if not places or any(at is None for at in found.values()):
        return None
    sizes: dict[str, int] = {}
    for place in places:
        sizes[place] = sizes.get(place, 0) + 1
    x, y, seen = [], [], dict.fromkeys(sizes, 0)
    for place in places:
        latitude, longitude = found[place] or (0.0, 0.0)
        turn = seen[place]
        seen[place] += 1
        # A sunflower's seeds around the place; wide enough to be told apart, narrow enough to stay in the country.
        radius = (
            0.0
            if sizes[place] == 1
            else min(3.5, 0.9 * math.sqrt(sizes[place])) * math.sqrt((turn + 0.5) / sizes[place])
        )
        x.append(round((longitude + radius * math.cos(turn * _GOLDEN)) * 10))
        y.append(round((latitude + radius * math.sin(turn * _GOLDEN)) * 10))
    return Positions(x, y)


def _circle(nodes: int) -> tuple[list[float], list[float]]:
    turns = [math.pi / 2 - 2 * math.pi * index / nodes for index in range(nodes)]
    return [math.cos(turn) for turn in turns], [math.sin(turn) for turn in turns]


def _sunflower(nodes: int) -> tuple[list[float], list[float]]:
    radii = [math.sqrt(index + 0.5) for index in range(nodes)]
    turns = [index * _GOLDEN for index in range(nodes)]
    return (
        [r * math.cos(turn) for r, turn in zip(radii, turns, strict=True)],
        [r * math.sin(turn) for r, turn in zip(radii, turns, strict=True)],
    )


def _distances(peers: Sequence[Sequence[int]], rng: random.Random) -> list[list[float]]:
    """Hops from each of some far-apart nodes to all; of nodes that cannot be reached, one more than the farthest."""
    nodes = len(peers)
    pivot, nearest, found = rng.randrange(nodes), [math.inf] * nodes, []
    for _ in range(min(PIVOTS, nodes)):
        hops: list[float] = [-1.0] * nodes
        hops[pivot] = 0.0
        walk = [pivot]
        for node in walk:  # grows while it is walked
            for peer in peers[node]:
                if hops[peer] < 0:
                    hops[peer] = hops[node] + 1
                    walk.append(peer)
        beyond = hops[walk[-1]] + 1
        hops = [beyond if one < 0 else one for one in hops]
        found.append(hops)
        nearest = [min(pair) for pair in zip(nearest, hops, strict=True)]
        pivot = max(range(nodes), key=nearest.__getitem__)
    return found


def _projected(distances: Sequence[Sequence[float]], nodes: int, rng: random.Random) -> tuple[list[float], list[float]]:
    """The two directions in which squared distances differ most (pivot MDS), found by power iteration."""
    squared = [[one * one for one in row] for row in distances]
    means = [sum(row) / nodes for row in squared]
    columns = [sum(column) / len(squared) for column in zip(*squared, strict=True)]
    whole = sum(means) / len(means)
    centred = [
        [-(value - mean - column + whole) / 2 for value, column in zip(row, columns, strict=True)]
        for row, mean in zip(squared, means, strict=True)
    ]
    gram = [[sum(map(float.__mul__, one, other)) for other in centred] for one in centred]
    first = _strongest(gram, [], rng)
    second = _strongest(gram, [first], rng)
    jitter = 0.02 * max(map(max, distances))  # nodes at equal distances from all pivots would lie on each other
    return tuple(  # type: ignore[return-value]
        [
            sum(weight * row[node] for weight, row in zip(axis, centred, strict=True)) + rng.uniform(-jitter, jitter)
            for node in range(nodes)
        ]
        for axis in (first, second)
    )


def _strongest(
    matrix: Sequence[Sequence[float]], without: Sequence[Sequence[float]], rng: random.Random
) -> list[float]:
    """The eigenvector of the largest eigenvalue, at right angles to others."""
    vector = [rng.uniform(-1, 1) for _ in matrix]
    for _ in range(80):
        for other in without:
            share = sum(map(float.__mul__, vector, other))
            vector = [value - share * part for value, part in zip(vector, other, strict=True)]
        vector = [sum(map(float.__mul__, row, vector)) for row in matrix]
        length = math.sqrt(sum(value * value for value in vector)) or 1.0
        vector = [value / length for value in vector]
    return vector


def _relax(x: list[float], y: list[float], edges: Sequence[Edge], rng: random.Random) -> None:
    """Springs along links, repulsion of near nodes (Fruchterman and Reingold), on a grid of cells as wide as its reach."""
    nodes = len(x)
    side = math.sqrt(nodes)  # so that the ideal distance of neighbours is 1
    for values in (x, y):
        low, high = min(values), max(values)
        values[:] = [(value - low) / ((high - low) or 1.0) * side + rng.uniform(-0.01, 0.01) for value in values]
    rounds = max(20, min(ROUNDS_MAX, FORCE_WORK // (nodes * 20 + len(edges))))
    for turn in range(rounds):
        step = 0.5 * side / 4 * (1 - turn / rounds) + 0.02
        dx, dy = _repulsion(x, y)
        for a, b in edges:
            gap_x, gap_y = x[a] - x[b], y[a] - y[b]
            pull = math.hypot(gap_x, gap_y)
            dx[a] -= gap_x * pull
            dy[a] -= gap_y * pull
            dx[b] += gap_x * pull
            dy[b] += gap_y * pull
        for node in range(nodes):
            length = math.hypot(dx[node], dy[node]) or 1.0
            moved = min(length, step) / length
            x[node] += dx[node] * moved
            y[node] += dy[node] * moved


def _repulsion(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    nodes, reach = len(x), 2.5
    cells: dict[tuple[int, int], list[int]] = {}
    for node in range(nodes):
        cells.setdefault((int(x[node] // reach), int(y[node] // reach)), []).append(node)
    dx, dy = [0.0] * nodes, [0.0] * nodes
    for (column, row), here in cells.items():
        near = [one for i in (-1, 0, 1) for j in (-1, 0, 1) for one in cells.get((column + i, row + j), ())][:200]
        for node in here:
            for other in near:
                gap_x, gap_y = x[node] - x[other], y[node] - y[other]
                square = gap_x * gap_x + gap_y * gap_y
                if other != node and square < reach * reach:
                    push = 1.0 / max(square, 0.01)
                    dx[node] += gap_x * push
                    dy[node] += gap_y * push
    return dx, dy


def _scaled(x: Sequence[float], y: Sequence[float]) -> Positions:
    middle_x, middle_y = (min(x) + max(x)) / 2, (min(y) + max(y)) / 2
    reach = max(max(x) - min(x), max(y) - min(y)) / 2 or 1.0
    return Positions(
        [round((one - middle_x) / reach * SCALE) for one in x], [round((one - middle_y) / reach * SCALE) for one in y]
    )


def places_of(nodes: Sequence[str], places: Mapping[str, str]) -> list[str] | None:
    """The place of each node in order; None where one has none."""
    found = [places.get(node, "") for node in nodes]
    return found if found and all(found) else None
