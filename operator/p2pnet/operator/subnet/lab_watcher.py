"""Listens to labs: a Subnet whose lab has news is looked at now, not within the minute. At rest that is an open request.

One long poll per lab costs a request a minute; the news themselves say nothing, the look that follows asks for all.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.model.errors import P2pnetError
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.lab import Labs

PAUSE_S = 1.0
"""Before each question: a subnet in uproar is looked at no more often than while it converges."""


@dataclass(frozen=True, slots=True)
class _Ear:
    address: str
    after: str
    task: asyncio.Task[None]


class LabWatcher:
    """`wake(key)` is called when the lab of that Subnet has news."""

    def __init__(self, labs: Labs, *, pause_s: float = PAUSE_S) -> None:
        self.wake: Callable[[Key], None] = lambda _key: None
        self._labs = labs
        self._pause_s = pause_s
        self._ears: dict[Key, _Ear] = {}

    def listen(self, key: Key, address: str, token: str, after: str) -> None:
        """Wait for news beyond version `after`. A lab that stops answering is for the next look to find out."""
        ear = self._ears.get(key)
        if ear is not None and (ear.address, ear.after) == (address, after) and not ear.task.done():
            return
        self.forget(key)
        task = asyncio.create_task(self._hear(key, address, token, after), name=f"news of {key.namespace}/{key.name}")
        self._ears[key] = _Ear(address, after, task)

    def forget(self, key: Key) -> None:
        """Listen no more."""
        if (ear := self._ears.pop(key, None)) is not None:
            ear.task.cancel()

    async def close(self) -> None:
        """Listen to nobody."""
        tasks = [ear.task for ear in self._ears.values()]
        for key in list(self._ears):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, key: Key, address: str, token: str, after: str) -> None:
        with contextlib.suppress(P2pnetError):
            while True:
                await asyncio.sleep(self._pause_s)
                if await self._labs.news(address, token, after) != after:
                    self.wake(key)
                    return
