"""Virtual time: planned calls in integer nanoseconds. Calls of one instant happen in the order they were planned."""

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import repeat
from typing import Any

Call = Callable[[Any], None]
Plan = tuple[Call, Any, int]
"""A call, what it is given, and 1 if the world is not quiet before."""

COLLECT_EVERY = 500_000
"""Calls after which young garbage is searched for cycles, which only a user's client can make."""
YOUNG_MIN = 100_000
"""Objects made while time passed that are worth hiding from the next search; to look at fewer costs little."""


class Timeline:
    """The only clock of a world.

    One heap of instants, each with its calls in order: messages that arrive together cost one place in it. What is planned for
    the present instant does not pass the heap at all.
    """

    __slots__ = ("_instants", "_plans", "_soon", "flying", "now", "restless")

    def __init__(self) -> None:
        self._instants: list[int] = []
        self._plans: dict[int, list[Plan]] = {}
        self._soon: deque[Plan] = deque()  # of the present instant
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

    @property
    def is_mid_instant(self) -> bool:
        """Whether calls of the present instant are left."""
        return bool(self._soon)

    def at(self, when: int, call: Call, what: Any) -> None:
        """Plan `call(what)` for this time; the world may be quiet before."""
        self._plan(when, (call, what, 0))

    def send(self, when: int, call: Call, what: Any) -> None:
        """Plan `call(what)` for this time; the world is not quiet before."""
        self.flying += 1
        if when <= self.now:
            self._soon.append((call, what, 1))
            return
        plans = self._plans.get(when)
        if plans is None:
            self._plans[when] = [(call, what, 1)]
            heappush(self._instants, when)
        else:
            plans.append((call, what, 1))

    def run(self, until: int) -> None:
        """Let time pass until this instant; calls planned for the instant itself happen too."""
        soon, instants = self._soon, self._instants
        with without_collections() as collect:
            while True:
                happened = 0
                while soon:
                    call, what, counts = soon.popleft()
                    self.flying -= counts
                    happened += 1
                    call(what)
                collect(happened)
                if not instants or instants[0] > until:
                    break
                self._advance()
        self.now = until

    def run_until_quiet(self, limit: int, calls: int | None = None) -> bool:
        """Let time pass until the world is quiet, at most until this instant; whether it is quiet.

        `calls`: stop after so many, in the midst of an instant if it must be: the next call of this method goes on from there.
        """
        soon, instants = self._soon, self._instants
        with without_collections() as collect:
            for _ in repeat(None) if calls is None else repeat(None, calls):
                if not self.flying and not self.restless:
                    return True
                if not soon:
                    if not instants or instants[0] > limit:
                        # Time has passed even though nothing happened: the next `settle` goes on from here.
                        self.now = limit
                        return False
                    collect(self._advance())
                call, what, counts = soon.popleft()
                self.flying -= counts
                call(what)
        return self.is_quiet

    def in_flight(self) -> Iterator[Any]:
        """What was planned with `send` and has not happened, soonest first."""
        yield from (what for _, what, counts in self._soon if counts)
        for instant in sorted(self._instants):
            yield from (what for _, what, counts in self._plans[instant] if counts)

    def _plan(self, when: int, plan: Plan) -> None:
        if when <= self.now:
            self._soon.append(plan)
            return
        plans = self._plans.get(when)
        if plans is None:
            self._plans[when] = [plan]
            heappush(self._instants, when)
        else:
            plans.append(plan)

    def _advance(self) -> int:
        """Go on to the next instant; how many calls were planned for it."""
        self.now = at = heappop(self._instants)
        plans = self._plans.pop(at)
        self._soon.extend(plans)
        return len(plans)


@contextmanager
def without_collections() -> Iterator[Callable[[int], None]]:
    """Switch the search for reference cycles off: a large world is millions of objects in none, and it took a third of the time.

    The function given counts calls, and searches the young objects now and then: a user's client may make cycles.
    """
    was_on = gc.isenabled()
    gc.disable()
    since, searched = 0, False

    def collect(calls: int) -> None:
        nonlocal since, searched
        since += calls
        if since >= COLLECT_EVERY:
            since, searched = 0, True
            gc.collect(0)

    try:
        yield collect
    finally:
        if was_on:
            if searched or gc.get_count()[0] >= YOUNG_MIN:
                _take_all_for_old()
            gc.enable()


def _take_all_for_old() -> None:
    """Move all objects to the oldest generation unseen: else the next one made has millions looked at, for no cycle."""
    if not gc.get_freeze_count():  # which goes through all that somebody else has frozen; it must stay so
        gc.freeze()
        gc.unfreeze()
