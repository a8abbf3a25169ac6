"""The ways in which an API server, and the network before it, misbehave."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Self

from tests.cluster.proxy import Answer, Ask, CutError, Fault, refusal

_GONE = b'{"type": "ERROR", "object": ' + refusal(410, "Expired", "too old resource version").body + b"}\n"


class AfterChanges(Fault):
    """Calls `act` right after the API server has made every `every`-th change, at most `times` times.

    `mute`: the answer never arrives, as if whoever asked had died, which it may have.
    """

    def __init__(self, every: int, act: Callable[[], None], *, times: int = 10_000, mute: bool = True) -> None:
        self._every = every
        self._act = act
        self._left = times
        self._mute = mute
        self.made = 0
        self.acted = 0

    async def afterwards(self, ask: Ask, answer: Answer) -> Answer:
        if not ask.changes or answer.status >= 300:
            return answer
        self.made += 1
        if self.made % self._every or not self._left:
            return answer
        self._left -= 1
        self.acted += 1
        self._act()
        if self._mute:
            raise CutError
        return answer


class Hangs(Fault):
    """What `which` picks is not answered as long as it is `on`."""

    def __init__(self, which: Callable[[Ask], bool]) -> None:
        self.on = True
        self._which = which
        self.waiting = 0

    async def instead(self, ask: Ask) -> Answer | None:
        if self.on and self._which(ask):
            self.waiting += 1
            try:
                while self.on:
                    await asyncio.sleep(0.05)
            finally:
                self.waiting -= 1
        return None


class Gap(Fault):
    """While `on`, watches say nothing; at its end they fail with 410, so that whatever happened meanwhile is never told."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self.on = False

    async def close(self) -> None:
        """End the gap."""
        self.on = False
        self._over.set()

    async def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async with _Source(lines) as source:
            while not source.ended and not self._over.is_set():
                line = await source.next(0.05)
                if line is not None and not self.on:
                    yield line
        if self._over.is_set():
            yield _GONE


class Conflicts(Fault):
    """Every `every`-th change is refused with 409, undone."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._asked = 0

    async def instead(self, ask: Ask) -> Answer | None:
        if not ask.changes:
            return None
        self._asked += 1
        return None if self._asked % self._every else refusal(409, "Conflict", "somebody else wrote")


class Lost(Fault):
    """A share of the changes is made, and the answer is lost: the connection ends, or nothing is ever heard."""

    def __init__(self, share: float, chance: random.Random, *, silent: float = 0.0) -> None:
        self._share = share
        self._silent = silent
        self._chance = chance
        self.lost = 0

    async def afterwards(self, ask: Ask, answer: Answer) -> Answer:
        if not ask.changes or self._chance.random() >= self._share:
            return answer
        self.lost += 1
        if self._chance.random() < self._silent:
            await asyncio.sleep(60)
        raise CutError


class Refuses(Fault):
    """What `which` picks is answered with an error while `on`."""

    def __init__(
        self, status: int, reason: str, which: Callable[[Ask], bool] = lambda _: True, message: str = ""
    ) -> None:
        self.on = True
        self.refused: list[Ask] = []
        self._which = which
        self._answer = refusal(status, reason, message)

    async def instead(self, ask: Ask) -> Answer | None:
        if not self.on or not self._which(ask):
            return None
        self.refused.append(ask)
        return self._answer


class Busy(Fault):
    """A share of the requests but watches, at most `times`, gets a 429: to be asked again after `retry_after_s` seconds."""

    def __init__(self, share: float, retry_after_s: int, chance: random.Random, *, times: int = 10_000) -> None:
        self._times = times
        self._share = share
        self._retry_after_s = retry_after_s
        self._chance = chance
        self.told: list[Ask] = []

    async def instead(self, ask: Ask) -> Answer | None:
        if ask.watch or len(self.told) >= self._times or self._chance.random() >= self._share:
            return None
        self.told.append(ask)
        return refusal(429, "TooManyRequests", "later", Retry_After=str(self._retry_after_s))


class Gone(Fault):
    """Watches end with 410, each after a random time of up to twice `after_s`."""

    def __init__(self, after_s: float, chance: random.Random) -> None:
        self._after_s = after_s
        self._chance = chance
        self.ended = 0

    async def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        end = time.monotonic() + self._after_s * 2 * self._chance.random()
        async for line in until(lines, end):
            yield line
        self.ended += 1
        yield _GONE


class MidLine(Fault):
    """A share of the lines of watches ends in its middle, and the connection with it."""

    def __init__(self, share: float, chance: random.Random) -> None:
        self._share = share
        self._chance = chance
        self.cut = 0

    async def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            if self._chance.random() < self._share:
                self.cut += 1
                yield line[: max(1, int(len(line) * self._chance.random()) - 1)]
                return
            yield line


class Jumbled(Fault):
    """Events of watches come twice, and in any order within a few."""

    def __init__(self, chance: random.Random, *, window: int = 4, patience_s: float = 0.3) -> None:
        self._chance = chance
        self._window = window
        self._patience_s = patience_s
        self.moved = 0

    async def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        held: list[bytes] = []
        async with _Source(lines) as source:
            while not source.ended:
                line = await source.next(self._patience_s if held else None)
                if line is not None:
                    held += [line] * self._chance.choice((1, 1, 2))
                    if len(held) < self._window:
                        continue
                self._chance.shuffle(held)
                self.moved += len(held)
                for one in held:
                    yield one
                held = []


class Silent(Fault):
    """Watches stay open and say nothing, those under way, too, while `on`: what would have been said is lost."""

    def __init__(self, which: Callable[[Ask], bool] = lambda _: True, *, on: bool = True) -> None:
        self.on = on
        self._which = which
        self.swallowed = 0

    async def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        dead = False
        async for line in lines:
            dead = dead or (self.on and self._which(ask))
            if dead:  # a stream that has lost something stays silent until its reader gives up
                self.swallowed += 1
            else:
                yield line


async def until(lines: AsyncIterator[bytes], end: float) -> AsyncIterator[bytes]:
    """The lines that come before a moment of the monotonic clock."""
    async with _Source(lines) as source:
        while not source.ended and (left := end - time.monotonic()) > 0:
            line = await source.next(left)
            if line is not None:
                yield line


class _Source:
    """An iterator that can be waited for a while, without losing what comes later."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines
        self._coming: asyncio.Task[bytes] | None = None
        self.ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)

    async def next(self, within_s: float | None) -> bytes | None:
        """The next line; None when none came in time, or at the end (`ended`)."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._one())
        done, _ = await asyncio.wait({self._coming}, timeout=within_s)
        if not done:
            return None
        coming, self._coming = self._coming, None
        try:
            return coming.result()
        except _EndError:
            self.ended = True
            return None

    async def _one(self) -> bytes:
        try:
            return await anext(self._lines)
        except StopAsyncIteration:
            raise _EndError from None


class _EndError(Exception):
    """The lines are over; a task cannot raise StopAsyncIteration."""
