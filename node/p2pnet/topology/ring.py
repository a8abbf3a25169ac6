"""A ring of points, drawn by hashing instead of a generator, and a set of edges on it.

The same arguments give the same point, whatever else was drawn before: one node more changes the points of no other. The
first edge at or after a point changes little when edges come and go. Both keep a growing graph as it was.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from hashlib import blake2b

from p2pnet.topology.graphs import Edge

POINTS = 1 << 64
"""Points are 0 <= point < POINTS."""


def point(*words: object) -> int:
    """A point on the ring of 2^64, evenly spread over different arguments."""
    # Joined by a separator that no name contains: ("a", "bc") and ("ab", "c") differ.
    return int.from_bytes(blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest(), "big")


class EdgeRing:
    """A set of edges, each at a point of its own."""

    def __init__(self, seed: int) -> None:
        self._entries: list[tuple[int, Edge]] = []
        self._seed = seed

    @property
    def edges(self) -> list[Edge]:
        """All edges, in the order of their points."""
        return [edge for _, edge in self._entries]

    def add(self, a: str, b: str) -> None:
        """Put an edge in, either way round."""
        insort(self._entries, self._entry(a, b))

    def remove(self, a: str, b: str) -> None:
        """Take an edge out that is in."""
        del self._entries[bisect_left(self._entries, self._entry(a, b))]

    def first(self, start: int, wanted: Callable[[Edge], bool]) -> Edge | None:
        """The first edge wanted, at or after the point `start` and on around the ring; None when there is none."""
        begin = bisect_left(self._entries, (start, ("", "")))
        count = len(self._entries)
        found = (self._entries[(begin + step) % count][1] for step in range(count))
        return next(filter(wanted, found), None)

    def _entry(self, a: str, b: str) -> tuple[int, Edge]:
        edge = (a, b) if a < b else (b, a)
        return point(self._seed, "edge", *edge), edge
