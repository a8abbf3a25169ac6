"""How long a subnet with a `ttl` lives. Counted on the monotonic clock: a wall clock that jumps ends no experiment."""

import time
from collections.abc import Callable

WARN_S = 600.0
EXTENSION_S = 1800.0  # by how much an open run may outlast the ttl
JUMP_S = 5.0  # two clocks that drift apart by more than this: one of them was set


class Lifetime:
    """Begins when it is made. Times to live are seconds and may change meanwhile, as a live edit does."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._began_s = monotonic()
        self.since = wall()
        """Unix seconds, by the wall clock as it stood then."""

    def left_s(self, ttl_s: float) -> float:
        """What is left; below zero once it is over."""
        return self._began_s + ttl_s - self._monotonic()

    def ends_at(self, ttl_s: float) -> float:
        """The end in Unix seconds, by the wall clock of now."""
        planned, counted = self.since + ttl_s, self._wall() + self.left_s(ttl_s)
        return planned if abs(counted - planned) <= JUMP_S else counted

    def is_over(self, ttl_s: float, *, busy: bool) -> bool:
        """Whether the subnet is to end now; one that is `busy` with a run has half an hour more."""
        return self.left_s(ttl_s) + (EXTENSION_S if busy else 0.0) <= 0

    def is_ending(self, ttl_s: float) -> bool:
        """Whether it is time to warn."""
        return self.left_s(ttl_s) <= WARN_S
