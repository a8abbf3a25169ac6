"""When the next dial may begin: dials of one process take turns while its loop is late, for a crowd of handshakes only
makes all of them slow, and slow ones are retransmitted, given up and dialled again from the other side.

The measure is the loop's own lag, not how long a handshake takes: a far peer is no reason to wait, a busy machine is.
"""

import asyncio
from collections import deque

PROBE_S = 0.01
"""How often the lag is measured while somebody waits."""
LAG_MAX_S = 0.02
"""A loop later than this has enough to do."""
BURST = 2
"""Dials begun per probe of a loop that is in time."""
NODES_PER_DIAL = 8
"""A late loop still has one dial in progress, and one more for each so many of its nodes: answers take a few turns."""
STARVED_S = 2.0
"""A dial begins this long after the latest one, however late the loop is: one that hangs must not hold up the rest."""


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
        """One fewer."""
        self._nodes -= 1

    async def turn(self) -> None:
        """Returns when this dial may begin; first come, first served. A cancelled wait owes no `done`."""
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
        if not self._late:
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
