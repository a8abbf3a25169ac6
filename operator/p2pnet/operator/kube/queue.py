"""When to reconcile which object: each at most once at a time, soon after something changed, later after each failure.

`Schedule` decides and takes the time as an argument; `Workers` waits and calls the reconciler of the object's kind. Neither
knows what is reconciled: a `Controller` says so, one per kind.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2pnet.model.backoff import wait_after
from p2pnet.operator.kube.api import ResourceKind

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.3  # 50 pods that start cause a few reconciliations, not 50
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
BACKOFF_SPREAD = 0.25  # either way: objects that fail together do not retry together


class Key(NamedTuple):
    """An object to reconcile."""

    kind: ResourceKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name}"


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one object about. Returns the seconds until it should be called again; None: only when something changes."""


@dataclass(frozen=True)
class Controller:
    """Everything the operator needs to know of one kind of resource that it reconciles."""

    kind: ResourceKind
    children: tuple[ResourceKind, ...]
    """Kinds of objects made for it, whose changes call for a reconciliation."""
    name_label: str
    """Label of its children that holds the name of the resource they belong to."""
    reconcile: Reconcile


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    """When to reconcile; None while nothing calls for it."""
    running: bool = False
    failures: int = 0
    not_before: float = 0.0
    """End of the back-off: until then changes of children are no reason."""
    retry_after: float = 0.0
    """End of the pause the API server asked for: until then nothing is a reason."""

    def is_due(self, now: float) -> bool:
        """Whether a worker may take it."""
        return self.due is not None and self.due <= now and not self.running


class Schedule:
    """Keys and when they are due. Times are seconds of any one clock; `rng` returns 0 to 1."""

    def __init__(self, rng: Callable[[], float] = random.random) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._rng = rng

    def waiting(self, now: float) -> int:
        """How many keys are due and not being reconciled; safe to call from another thread."""
        # A copy, for the metrics thread: the loop may add keys meanwhile.
        return sum(entry.is_due(now) for entry in list(self._entries.values()))

    def add(self, key: Key, now: float, *, delay: float = DEBOUNCE_S, urgent: bool = False) -> None:
        """Something changed: reconcile in `delay` seconds, or sooner if that was planned already.

        A failing key keeps its back-off; `urgent` (a person edited the resource) resets it, but not the server's pause.
        """
        entry = self._entries.setdefault(key, _Entry())
        if urgent:
            entry.failures, entry.not_before = 0, entry.retry_after
        due = max(now + delay, entry.not_before)
        # Never later than planned, and never inside a back-off.
        entry.due = due if entry.due is None else min(due, max(entry.due, entry.not_before))

    def take(self, now: float) -> Key | None:
        """The key that has been due longest, if any; it counts as running until `done` or `failed`."""
        ready = [(entry.due, key) for key, entry in self._entries.items() if entry.is_due(now)]
        if not ready:
            return None
        # By due time, then key: nothing waits forever behind an object that is always due.
        key = min(ready, key=lambda pair: (pair[0], pair[1]))[1]
        entry = self._entries[key]
        entry.due, entry.running = None, True
        return key

    def done(self, key: Key, now: float, *, again: float | None = None) -> None:
        """A reconciliation has succeeded; the next one is due in `again` seconds, None: only when something changes."""
        entry = self._entries[key]
        entry.running, entry.failures, entry.not_before, entry.retry_after = False, 0, 0.0, 0.0
        if again is not None:
            self.add(key, now, delay=again)
        elif entry.due is None:
            del self._entries[key]  # else keys of deleted objects would pile up

    def failed(
        self, key: Key, now: float, *, at_least: float = 0.0, at_most: float = BACKOFF_MAX_S, progress: bool = False
    ) -> float:
        """A reconciliation has failed: the seconds until the next one, 1 doubled to `at_most`, each spread by a quarter.

        `at_least` is the server's Retry-After, which not even a person's edit shortens. After `progress` failures do not
        add up: the next attempt has less to do.
        """
        entry = self._entries[key]
        entry.running = False
        entry.failures = 1 if progress else entry.failures + 1
        wait = wait_after(entry.failures, BACKOFF_FIRST_S, at_most)
        wait = max(at_least, wait * (1 + BACKOFF_SPREAD * (2 * self._rng() - 1)))
        entry.not_before, entry.retry_after = now + wait, now + at_least
        entry.due = entry.not_before
        return wait

    def next_due(self) -> float | None:
        """When `take` may return something; None while nothing is planned."""
        return min(
            (entry.due for entry in self._entries.values() if entry.due is not None and not entry.running), default=None
        )

    def failures(self, key: Key) -> int:
        """How often in a row the key has failed."""
        return self._entries[key].failures if key in self._entries else 0


class Workers:
    """Tasks that reconcile objects as the schedule says, each with the controller of its kind."""

    def __init__(
        self, controllers: Sequence[Controller], *, workers: int = 4, schedule: Schedule | None = None
    ) -> None:
        self.schedule = schedule or Schedule()
        self._reconcile = {controller.kind: controller.reconcile for controller in controllers}
        self._count = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._clock: Callable[[], float] | None = None

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Something changed at this object."""
        self.schedule.add(key, _now(), urgent=urgent)
        self._changed.set()

    def start(self) -> None:
        """Begin to reconcile; call it inside a running loop."""
        self._clock = asyncio.get_running_loop().time
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{index}") for index in range(self._count)]

    async def stop(self) -> None:
        """End: a reconciliation under way is cancelled, which each of its steps survives."""
        left = set(self._tasks)
        while left:  # repeatedly, for a cancellation can be lost in what it interrupts
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)

    @property
    def waiting(self) -> int:
        """How many objects are due and wait for a worker: 0 at rest. Safe to read from another thread."""
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
                again = await self._reconcile[key.kind](key)
            except Exception as error:  # a bug met with one object must not stop the others
                wait = self._failed(key, error)
                log.warning("%s: %s; again in %.0f s", key, error, wait, exc_info=not _is_expected(error))
            else:
                self.schedule.done(key, _now(), again=again)
            self._changed.set()

    def _failed(self, key: Key, error: Exception) -> float:
        """Plan the next attempt; an ApiError may say how long to wait at least and at most."""
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


def _is_expected(error: Exception) -> bool:
    """Whether the error's text suffices for the log: a P2pnetError about the cluster, not a bug."""
    return hasattr(error, "exit_code")
