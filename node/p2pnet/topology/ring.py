"""A ring of points drawn by hashing, and a set of edges on it: what stands at or after a point changes little when edges do."""

from bisect import bisect_left, insort
from collections.abc import Callable
from hashlib import blake2b

from p2pnet.topology.graphs import Edge

POINTS = 1 << 64
"""Points are 0 <= point < POINTS."""


def point(*words: object) -> int:
    """A point on the ring of 2^64, spread evenly over different words."""
    return int.from_bytes(blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest(), "big")


class EdgeRing:
    """The edges in the order of their points."""

    def __init__(self, seed: int) -> None:
        self._entries: list[tuple[int, Edge]] = []
        self._seed = seed

    @property
    def edges(self) -> list[Edge]:
        """All edges."""
        return [edge for _, edge in self._entries]

    def add(self, a: str, b: str) -> None:
        """Put an edge in, either way round."""
        insort(self._entries, self._entry(a, b))

    def remove(self, a: str, b: str) -> None:
        """Take an edge out that is in."""
        del self._entries[bisect_left(self._entries, self._entry(a, b))]

    def first(self, start: int, wanted: Callable[[Edge], bool]) -> Edge | None:
        """The first edge wanted, at or after the point `start` and round the ring; None when there is none."""
        begin = bisect_left(self._entries, (start, ("", "")))
        count = len(self._entries)
        found = (self._entries[(begin + step) % count][1] for step in range(count))
        return next(filter(wanted, found), None)

    def _entry(self, a: str, b: str) -> tuple[int, Edge]:
        edge = (a, b) if a < b else (b, a)
        return point(self._seed, "edge", *edge), edge
