"""`p2pnet ui` against a Subnet: a browser without eyes, which has a cookie, presses buttons and hears the page's events."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
from tests.cluster.kit import Cluster

END_S = 30.0
HEARD_S = 60.0


@contextlib.contextmanager
def served(cluster: Cluster, namespace: str, ended: list[int]) -> Iterator[str]:
    """The address that works once. At the end Ctrl-C: the exit code goes into `ended`."""
    words = (sys.executable, "-m", "p2pnet.cli", "ui", "demo", "--on", "cluster", "--namespace", namespace)
    with cluster.start(*words) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            yield process.stdout.readline().strip()
            os.kill(pid, signal.SIGINT)
            ended.append(process.wait(END_S))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class LiveTab:
    """One tab of a browser."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.base = address.partition("/?")[0]
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> "LiveTab":
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, url: str, **headers: str) -> tuple[int, str]:
        async with self._session.get(url, headers=headers) as answer:
            return answer.status, await answer.text()

    async def order(self, origin: str = "", **order: str) -> tuple[int, dict[str, Any]]:
        """Press a button."""
        headers = {"Origin": origin or self.base}
        async with self._session.post(f"{self.base}/orders", json=order, headers=headers) as answer:
            return answer.status, await answer.json()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[str, Callable[[Any], Any]], Any]]:
        """`await until(name, test)`: the first true result of the test of an event of this name."""
        async with self._session.get(f"{self.base}/events") as answer:

            async def until(name: str, test: Callable[[Any], Any]) -> Any:
                seen: list[Any] = []
                try:
                    async with asyncio.timeout(HEARD_S):
                        while line := (await answer.content.readline()).decode():
                            if line == f"event: {name}\n":
                                seen.append(
                                    json.loads((await answer.content.readline()).decode().removeprefix("data: "))
                                )
                                if found := test(seen[-1]):
                                    return found
                except TimeoutError:
                    pass
                raise AssertionError(f"no {name} as it was waited for; the last: {seen[-1:]}")

            yield until
