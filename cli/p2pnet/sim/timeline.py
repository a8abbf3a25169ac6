"""Virtual time: one heap of what will happen, in integer nanoseconds.

What falls on one instant happens in the order in which it was planned.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any

Call = Callable[[Any], None]


class Timeline:
    """The only clock of a world."""

    __slots__ = ("_heap", "_sequence", "flying", "now", "restless")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Call, Any, int]] = []
        self._sequence = 0
        self.now = 0
        """Nanoseconds since the start."""
        self.flying = 0
        """What keeps the world from being quiet: messages on their way, turns, answers that a timeout waits for."""
        self.restless = 0
        """Nodes whose core has a wake-up due that is more than an expiry or a client's own tick."""

    @property
    def is_quiet(self) -> bool:
        """Nothing is on its way and no node has anything left to do."""
        return not self.flying and not self.restless

    def at(self, when: int, call: Call, what: Any) -> None:
        """`call(what)` then; the world may be quiet meanwhile."""
        self._sequence += 1
        heappush(self._heap, (when, self._sequence, call, what, 0))

    def send(self, when: int, call: Call, what: Any) -> None:
        """`call(what)` then; the world is not quiet before."""
        self._sequence += 1
        self.flying += 1
        heappush(self._heap, (when, self._sequence, call, what, 1))

    def run(self, until: int) -> None:
        """Let time go on to this instant; what is planned for the instant itself happens too."""
        heap = self._heap
        with _rare_collections():
            while heap and heap[0][0] <= until:
                self.now, _, call, what, counts = heappop(heap)
                self.flying -= counts
                call(what)
        self.now = until

    def run_until_quiet(self, limit: int) -> bool:
        """Let time go on until the world is quiet, at most to this instant; whether it is."""
        heap = self._heap
        with _rare_collections():
            while self.flying or self.restless:
                if not heap or heap[0][0] > limit:
                    self.now = limit
                    return False
                self.now, _, call, what, counts = heappop(heap)
                self.flying -= counts
                call(what)
        return True

    def in_flight(self) -> Iterator[Any]:
        """What was planned with `send` and has not happened, soonest first."""
        return (what for _, _, _, what, counts in sorted(self._heap, key=lambda entry: entry[:2]) if counts)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A large world is millions of objects in no cycle: a search for cycles at Python's usual pace costs a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
