"""A ring of points, drawn by hashing instead of a generator, and a set of edges on it.

The same arguments give the same point, whatever else was drawn before: one node more changes the points of no other. The
first edge at or after a point changes little when edges come and go. Both keep a growing graph as it was.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import chain

from p2pnet.topology.graphs import Edge

POINTS = 1 << 64
"""Points are 0 <= point < POINTS."""
SECTOR_EDGES = 64
"""On average, in one sector of a ring."""


def point(*words: object) -> int:
    """A point on the ring of 2^64, evenly spread over different arguments."""
    # Joined by a separator that no name contains: ("a", "bc") and ("ab", "c") differ.
    return point_of("\x1f".join(map(str, words)))


def point_of(text: str) -> int:
    """As `point`, of arguments that are joined already."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class EdgeRing:
    """A set of edges, each at a point of its own.

    Points are spread evenly, so sectors of the ring of equal size hold about as many edges each; there are twice as many sectors
    as soon as they hold more than `SECTOR_EDGES`. A change then costs the same in a ring of a million edges as in a small one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = f"{seed}\x1fedge\x1f"
        self._points: dict[Edge, int] = {}
        self._sectors: list[list[tuple[int, Edge]]] = [[]]
        self._shift = POINTS.bit_length() - 1
        """A point shifted right by so much is the number of its sector."""

    @property
    def edges(self) -> list[Edge]:
        """All edges, in the order of their points."""
        return [edge for sector in self._sectors for _, edge in sector]

    def add(self, a: str, b: str) -> None:
        """Put an edge in, either way round."""
        edge = (a, b) if a < b else (b, a)
        at = self._points[edge] = point_of(f"{self._seed}{edge[0]}\x1f{edge[1]}")
        insort(self._sectors[at >> self._shift], (at, edge))
        if len(self._points) > SECTOR_EDGES * len(self._sectors):
            self._halve_sectors()

    def remove(self, a: str, b: str) -> None:
        """Take an edge out that is in."""
        edge = (a, b) if a < b else (b, a)
        at = self._points.pop(edge)
        sector = self._sectors[at >> self._shift]
        del sector[bisect_left(sector, (at, edge))]

    def first(self, start: int, wanted: Callable[[Edge], bool]) -> Edge | None:
        """The first edge wanted, at or after the point `start` and on around the ring; None when there is none."""
        number = start >> self._shift
        own = self._sectors[number]
        begin = bisect_left(own, (start, ("", "")))
        others = (self._sectors[other] for other in chain(range(number + 1, len(self._sectors)), range(number)))
        sectors: Iterator[list[tuple[int, Edge]]] = chain((own[begin:],), others, (own[:begin],))
        for sector in sectors:
            for _, edge in sector:
                if wanted(edge):
                    return edge
        return None

    def _halve_sectors(self) -> None:
        self._shift -= 1
        halves: list[list[tuple[int, Edge]]] = []
        for number, sector in enumerate(self._sectors):
            middle = bisect_left(sector, ((2 * number + 1) << self._shift,))
            halves += [sector[:middle], sector[middle:]]
        self._sectors = halves
