"""Between the operator and the API server: counts everything that is asked, and misbehaves as a test says.

What goes wrong is a list of faults (`faults.py`); with none, a proxy changes nothing. It runs on the loop of `Inside`.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from tests.cluster.server import Server

BODY_BYTES_MAX = 16 << 20
_PASSED_ON = ("Authorization", "Accept", "Content-Type", "User-Agent")


class CutError(Exception):
    """The connection is to be cut, without a word."""


@dataclass
class Ask:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    status: int | None = None
    """What the API server answered; None when it was never asked, or not yet."""

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return self.query.get("watch") in ("true", "1")

    @property
    def changes(self) -> bool:
        """Whether it would change something."""
        return self.method != "GET"

    @property
    def _parts(self) -> list[str]:
        parts = self.path.strip("/").split("/")[2:]  # api/v1
        parts = parts[1:] if self.path.startswith("/apis/") else parts
        return parts[2:] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts

    @property
    def plural(self) -> str:
        """What it is about, such as `pods`."""
        return (self._parts or [""])[0]

    @property
    def name(self) -> str:
        """Of the object; empty for a collection."""
        return self._parts[1] if len(self._parts) > 1 else ""

    @property
    def verb(self) -> str:
        """As a right is called."""
        if self.method == "GET":
            return "watch" if self.watch else "get" if self.name else "list"
        return {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[self.method]

    def __str__(self) -> str:
        made = f"/{json.loads(self.body)['metadata']['name']}" if self.method == "POST" else ""
        return f"{self.at:.3f} {self.verb} {'/'.join(self._parts)}{made} -> {self.status}"


@dataclass
class Answer:
    """What the operator is told."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, reason: str, message: str = "", **headers: str) -> Answer:
    """An error in the API server's words."""
    body = {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
        "message": message or reason,
    }  # fmt: skip
    return Answer(status, json.dumps(body).encode(), {key.replace("_", "-"): value for key, value in headers.items()})


class Fault:
    """One way to misbehave. Each hook may raise CutError."""

    async def instead(self, ask: Ask) -> Answer | None:
        """An answer in place of the API server's, which never learns of it."""
        del ask
        return None

    async def afterwards(self, ask: Ask, answer: Answer) -> Answer:
        """What is told of what has been done."""
        del ask
        return answer

    def lines(self, ask: Ask, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines of a watch; what is not a whole line is a line cut off."""
        del ask
        return lines


class Proxy:
    """Listens in the cluster's network; `url` is for a kubeconfig. `faults` may be changed at any time."""

    def __init__(self, server: Server, faults: Sequence[Fault] = ()) -> None:
        self._server = server
        self.faults = list(faults)
        self.asks: list[Ask] = []
        self.url = ""
        self._runner: web.ServerRunner
        self._session: aiohttp.ClientSession
        self._port = 0
        self._forwards: set[asyncio.Task[Answer]] = set()
        self._site: web.TCPSite | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._session = aiohttp.ClientSession(self._server.url, connector=aiohttp.TCPConnector(ssl=False, limit=0))
        self._runner = web.ServerRunner(web.Server(self._serve, handler_cancellation=True), shutdown_timeout=0.1)
        await self._runner.setup()
        await self.listen()

    async def stop(self) -> None:
        """End."""
        await self._runner.cleanup()
        for task in self._forwards:
            task.cancel()
        await asyncio.gather(*self._forwards, return_exceptions=True)
        await self._session.close()

    async def listen(self) -> None:
        """Accept connections, always at the same address."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def refuse(self) -> None:
        """Cut every connection, and refuse new ones until `listen`."""
        assert self._site is not None
        await self._site.stop()
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "p2pnet",
            "clusters": [{"name": "p2pnet", "cluster": {"server": self.url}}],
            "users": [{"name": "admin", "user": {"token": self._server.token}}],
            "contexts": [{"name": "p2pnet", "context": {"cluster": "p2pnet", "user": "admin"}}],
        }  # fmt: skip
        path = folder / "proxied.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def changes(self, since: int = 0, *, besides: tuple[str, ...] = ("leases",)) -> list[Ask]:
        """Requests that change something, from the one with this number on."""
        return [ask for ask in self.asks[since:] if ask.changes and ask.plural not in besides]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        ask = Ask(request.method, request.path, dict(request.query), await request.read())
        self.asks.append(ask)
        headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
        try:
            for fault in list(self.faults):
                answer = await fault.instead(ask)
                if answer is not None:
                    return _response(answer)
            if ask.watch:
                return await self._watch(request, ask, headers)
            # What the API server has been asked for happens, also if the one who asks dies.
            task = asyncio.create_task(self._forward(request, ask, headers))
            self._forwards.add(task)
            task.add_done_callback(self._done)
            return _response(await asyncio.shield(task))
        except (CutError, aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=599)

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._forwards.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be dead: nobody else wants to know

    async def _forward(self, request: web.BaseRequest, ask: Ask, headers: dict[str, str]) -> Answer:
        timeout = aiohttp.ClientTimeout(total=60)
        async with self._session.request(
            ask.method, request.raw_path, data=ask.body or None,
            headers={**headers, "Accept-Encoding": "identity"}, timeout=timeout,
        ) as upstream:  # fmt: skip
            ask.status = upstream.status
            kept = {key: upstream.headers[key] for key in ("Content-Type", "Retry-After") if key in upstream.headers}
            answer = Answer(upstream.status, await upstream.read(), kept)
        for fault in list(self.faults):
            answer = await fault.afterwards(ask, answer)
        return answer

    async def _watch(self, request: web.BaseRequest, ask: Ask, headers: dict[str, str]) -> web.StreamResponse:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.get(
            request.raw_path, headers={**headers, "Accept-Encoding": "identity"}, timeout=timeout
        ) as upstream:
            ask.status = upstream.status
            response = web.StreamResponse(status=upstream.status)
            response.content_type = "application/json"
            await response.prepare(request)
            lines = _lines(upstream)
            for fault in list(self.faults):
                lines = fault.lines(ask, lines)
            async for line in lines:
                await response.write(line)
                if not line.endswith(b"\n"):
                    raise CutError
            await response.write_eof()
            return response


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": "application/json", **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _lines(upstream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for part in upstream.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line + b"\n"


def uid_required(ask: Ask) -> bool:
    """Whether a deletion names the uid of what it means."""
    body: Any = json.loads(ask.body or b"{}")
    return bool((body.get("preconditions") or {}).get("uid"))
