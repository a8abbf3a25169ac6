"""Bounds on how often: `Rate` is a token bucket with time as an argument, `Pacer` spaces the dials of one event loop.

Dials of one process wait for each other while its loop is late: many handshakes at once only make all of them slow, and
slow ones are retransmitted, given up and dialled again from the other side. The measure is the loop's own lag, not how
long a handshake takes: a far peer is no reason to wait, a busy machine is.
"""

import asyncio
from collections import deque

from p2pnet.peering.clock import NS

PROBE_S = 0.01
"""How often the loop's lag is measured while a dial waits."""
LAG_MAX_S = 0.02
"""A loop later than this is busy."""
BURST = 2
"""Dials that may begin per probe of a loop that is not late."""
NODES_PER_DIAL = 8
"""A late loop still has one dial in progress, and one more per so many of its nodes: answers take a few loop turns."""
STARVED_S = 2.0
"""A dial begins this long after the latest one, however late the loop is: one that hangs must not block the rest."""


class Rate:
    """A token bucket: `per_s` in the long run, `burst` at once. No clock: `now_ns` is an argument."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._gap_ns = NS / per_s
        self._burst = burst
        self._full_ns = 0.0
        """When the bucket is full again."""

    def take(self, now_ns: int) -> bool:
        """Take a permit if there is one."""
        if self.due_ns(now_ns) > now_ns:
            return False
        self._full_ns = max(self._full_ns, now_ns) + self._gap_ns
        return True

    def due_ns(self, now_ns: int) -> int:
        """When there is a permit: `now_ns` if there is one now."""
        return max(now_ns, int(self._full_ns - (self._burst - 1) * self._gap_ns))


class Pacer:
    """One per loop; the nodes of a pack share it. `await turn()` before a dial, `done()` after it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._nodes = 0
        self._credit = BURST
        self._late = False
        self._begun_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def join(self) -> None:
        """One more node dials from this loop."""
        self._nodes += 1

    def leave(self) -> None:
        """One node fewer."""
        self._nodes -= 1

    async def turn(self) -> None:
        """Return when this dial may begin; first come, first served. A wait that is cancelled must not be followed by `done`."""
        if not self._queue and self._allowed():
            self._begin()
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(waiter)
        self._probe_soon()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.done()
            raise

    def done(self) -> None:
        """A dial that had its turn has ended."""
        self._running -= 1
        if not self._late:  # a late loop gets credit from the next probe only
            self._credit = min(BURST, self._credit + 1)
        self._admit()

    def _allowed(self) -> bool:
        if self._credit > 0 or self._running <= self._nodes // NODES_PER_DIAL:
            return True
        return self._loop.time() - self._begun_s >= STARVED_S

    def _begin(self) -> None:
        self._running += 1
        self._credit = max(0, self._credit - 1)
        self._begun_s = self._loop.time()

    def _admit(self) -> None:
        while self._queue and (self._queue[0].done() or self._allowed()):
            waiter = self._queue.popleft()
            if not waiter.done():  # a cancelled one is passed over
                self._begin()
                waiter.set_result(None)

    def _probe_soon(self) -> None:
        if self._timer is None:
            self._due_s = self._loop.time() + PROBE_S
            self._timer = self._loop.call_later(PROBE_S, self._probe)

    def _probe(self) -> None:
        self._timer = None
        self._late = self._loop.time() - self._due_s > LAG_MAX_S
        self._credit = 0 if self._late else BURST
        self._admit()
        if self._queue:
            self._probe_soon()
