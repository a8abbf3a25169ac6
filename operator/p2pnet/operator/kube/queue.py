"""When to look at which Subnet: each at most once at a time, soon after something happened, later after each failure.

`Schedule` decides and knows no clock; `Workers` waits and calls.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.3  # 50 pods that start make a few looks, not 50
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0


class Key(NamedTuple):
    """A Subnet by its place."""

    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    """When to look; None while nothing is wanted."""
    running: bool = False
    failures: int = 0
    not_before: float = 0.0
    """Until then a failing key is left alone, whatever its pods do."""
    told: float = 0.0
    """Until then the server wants to hear nothing of it, whatever anybody does."""


class Schedule:
    """Keys and when they are due. Times are seconds of any one clock; `chance` gives 0 to 1."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._chance = chance

    def waiting(self, now: float) -> int:
        """How many keys are due and not being looked at; a thread beside the loop may ask."""
        return sum(_due(entry, now) for entry in list(self._entries.values()))

    def add(self, key: Key, now: float, *, delay: float = DEBOUNCE_S, urgent: bool = False) -> None:
        """Something happened: look in `delay`, or sooner if that was wanted already.

        A failing key keeps its distance; `urgent` (a person edited the Subnet) forgets the failures, but not what the
        server said.
        """
        entry = self._entries.setdefault(key, _Entry())
        if urgent:
            entry.failures, entry.not_before = 0, entry.told
        due = max(now + delay, entry.not_before)
        entry.due = due if entry.due is None else min(due, max(entry.due, entry.not_before))

    def take(self, now: float) -> Key | None:
        """The key that is due longest and not being looked at; it is being looked at from now on."""
        ready = [(entry.due, key) for key, entry in self._entries.items() if _due(entry, now)]
        if not ready:
            return None
        key = min(ready, key=lambda pair: (pair[0], pair[1]))[1]
        entry = self._entries[key]
        entry.due, entry.running = None, True
        return key

    def done(self, key: Key, now: float, *, again: float | None = None) -> None:
        """A look has ended well; `again` seconds from now the next one, None: only when something happens."""
        entry = self._entries[key]
        entry.running, entry.failures, entry.not_before, entry.told = False, 0, 0.0, 0.0
        if again is not None:
            self.add(key, now, delay=again)
        elif entry.due is None:
            del self._entries[key]

    def failed(
        self, key: Key, now: float, *, at_least: float = 0.0, at_most: float = BACKOFF_MAX_S, progress: bool = False
    ) -> float:
        """A look has failed: the seconds until the next one, 1 doubled to `at_most`, each spread by a quarter.

        `at_least` is the server's own word, which not even a person's edit shortens. After `progress` the failures do
        not add up: the next look has less to do.
        """
        entry = self._entries[key]
        entry.running = False
        entry.failures = 1 if progress else entry.failures + 1
        wait = min(at_most, BACKOFF_FIRST_S * 2.0 ** min(entry.failures - 1, 20))
        wait = max(at_least, wait * (0.75 + 0.5 * self._chance()))
        entry.not_before, entry.told = now + wait, now + at_least
        entry.due = entry.not_before
        return wait

    def next_due(self) -> float | None:
        """When `take` may have something."""
        return min(
            (entry.due for entry in self._entries.values() if entry.due is not None and not entry.running), default=None
        )

    def failures(self, key: Key) -> int:
        """How often in a row the key has failed."""
        return self._entries[key].failures if key in self._entries else 0


def _due(entry: _Entry, now: float) -> bool:
    return entry.due is not None and entry.due <= now and not entry.running


Look = Callable[[Key], Awaitable[float | None]]
"""Looks at a Subnet; seconds until the next look."""


class Workers:
    """Some tasks that look at Subnets as the schedule says."""

    def __init__(self, look: Look, *, workers: int = 4, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Schedule()
        self._look = look
        self._count = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._clock: Callable[[], float] | None = None

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Something happened at this Subnet."""
        self.schedule.add(key, _now(), urgent=urgent)
        self._changed.set()

    def start(self) -> None:
        """Begin to look."""
        self._clock = asyncio.get_running_loop().time
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{index}") for index in range(self._count)]

    async def stop(self) -> None:
        """End: a look in flight is cut off, which every step of it survives."""
        left = set(self._tasks)
        while left:  # again, for a cancellation can be lost in what it cuts off
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)

    @property
    def waiting(self) -> int:
        """How many Subnets are due and wait for a worker: none at rest. Any thread may ask."""
        return self.schedule.waiting(self._clock()) if self._clock else 0

    @property
    def alive(self) -> bool:
        """Whether all workers still run."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def _work(self) -> None:
        while True:
            key = self.schedule.take(_now())
            if key is None:
                await self._wait()
                continue
            try:
                again = await self._look(key)
            except Exception as error:
                wait = self._failed(key, error)
                log.warning("%s/%s: %s; again in %.0f s", *key, error, wait, exc_info=not _expected(error))
            else:
                self.schedule.done(key, _now(), again=again)
            self._changed.set()

    def _failed(self, key: Key, error: Exception) -> float:
        """What an error says about when to try again, if it says anything."""
        return self.schedule.failed(
            key, _now(), at_least=getattr(error, "retry_after_s", None) or 0.0,
            at_most=getattr(error, "wait_s_max", BACKOFF_MAX_S), progress=getattr(error, "progress", False),
        )  # fmt: skip

    async def _wait(self) -> None:
        self._changed.clear()
        due = self.schedule.next_due()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):  # unlike wait_for it never loses a cancellation
                await self._changed.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _expected(error: Exception) -> bool:
    return hasattr(error, "exit_code")  # a P2pnetError about the cluster: its text says it all
