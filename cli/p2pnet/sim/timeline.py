"""Virtual time: one heap of planned calls, in integer nanoseconds. Calls of one instant happen in the order they were planned."""

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
        """Planned calls that keep the world from being quiet: messages on their way, turns, requests with a timeout."""
        self.restless = 0
        """Nodes whose core has a wake-up due other than an expiry or a client's tick."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way and no node has anything left to do."""
        return not self.flying and not self.restless

    def at(self, when: int, call: Call, what: Any) -> None:
        """Plan `call(what)` for this time; the world may be quiet before."""
        self._sequence += 1
        # The sequence number breaks ties: calls and objects are never compared.
        heappush(self._heap, (when, self._sequence, call, what, 0))

    def send(self, when: int, call: Call, what: Any) -> None:
        """Plan `call(what)` for this time; the world is not quiet before."""
        self._sequence += 1
        self.flying += 1
        heappush(self._heap, (when, self._sequence, call, what, 1))

    def run(self, until: int) -> None:
        """Let time pass until this instant; calls planned for the instant itself happen too."""
        heap = self._heap
        with _rare_collections():
            while heap and heap[0][0] <= until:
                self.now, _, call, what, counts = heappop(heap)
                self.flying -= counts
                call(what)
        self.now = until

    def run_until_quiet(self, limit: int) -> bool:
        """Let time pass until the world is quiet, at most until this instant; whether it is quiet."""
        heap = self._heap
        with _rare_collections():
            while self.flying or self.restless:
                if not heap or heap[0][0] > limit:
                    # Time has passed even though nothing happened: the next `settle` goes on from here.
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
    """Search for reference cycles rarely: a large world is millions of objects in none, and that took a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
