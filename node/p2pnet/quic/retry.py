"""Trying again: exponential waits with jitter, within a budget. Clock, sleep and chance may be given."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from p2pnet.quic.errors import HandshakeFailed

T = TypeVar("T")

_WORTH_IT = {"timeout", "too-many", "closed"}


@dataclass(frozen=True)
class Retry:
    """qp2p's schedule by default: 0.5 s, times 1.5 each, at most 15 s, give or take 30 %, all within 30 s."""

    initial_s: float = 0.5
    factor: float = 1.5
    cap_s: float = 15.0
    budget_s: float = 30.0
    jitter: float = 0.3
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)

    def waits(self) -> Iterator[float]:
        """The waits between attempts, in seconds, without end; the budget is the caller's to keep."""
        interval = self.initial_s
        while True:
            yield min(interval, self.cap_s) * self.rng.uniform(1 - self.jitter, 1 + self.jitter)
            interval = min(interval * self.factor, self.cap_s)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Attempt until it succeeds, fails for good, or the next wait would exceed the budget; then raises the last error.

        A send that is run again may arrive twice: the receiver must be able to tell.
        """
        started = self.clock()
        for wait in self.waits():
            try:
                return await attempt()
            except Exception as error:
                if not worth_retrying(error) or self.clock() - started + wait > self.budget_s:
                    raise
            await self.sleep(wait)
        raise AssertionError("waits() has no end")


def worth_retrying(error: Exception) -> bool:
    """Whether time alone may cure it. Mistakes, refusals and lost connections it does not."""
    return isinstance(error, HandshakeFailed) and error.kind in _WORTH_IT
