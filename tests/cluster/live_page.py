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

END_S = 120.0
HEARD_S = 120.0
"""For what a tab waits to hear, on a busy machine."""


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
    async def listening(self) -> AsyncIterator["Heard"]:
        """What this tab is told."""
        async with self._session.get(f"{self.base}/events") as answer:
            yield Heard(answer.content)


class Heard:
    """What a tab was told since it began to listen."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream
        self.status: dict[str, Any] = {}
        """The last one."""
        self.parts: dict[str, Any] = {}
        """The last of each."""
        self.lost: list[str] = []
        """Why the lab did not answer, each time since it last did."""
        self.receipts: dict[str, set[int]] = {}
        """By artifact, the numbers of nodes."""

    async def until(self, what: Callable[[], Any]) -> Any:
        """Listen until this is true."""
        try:
            async with asyncio.timeout(HEARD_S):
                while not (found := what()):
                    await self._take()
                return found
        except TimeoutError:
            raise AssertionError(f"not heard: {self.status}, {self.receipts}, {list(self.parts)}") from None

    async def _take(self) -> None:
        line = (await self._stream.readuntil(b"\n")).decode()
        if not line.startswith("event: "):
            return
        told = json.loads((await self._stream.readuntil(b"\n")).decode().removeprefix("data: "))
        match line.removeprefix("event: ").strip():
            case "status":
                self.status, self.lost = told, []
            case "lost":
                self.lost.append(told)
            case "parts":
                self.parts |= told
            case "receipts":
                for one in told:
                    self.receipts.setdefault(one["id"], set()).update(one["node"])
