"""The health page of a pod, made of those of its nodes, in the agent's process.

Healthy when every node's loop turns, except in nodes that are paused or kept dead as ordered: those must not have their pod
restarted. Ready when every node is; metrics of several nodes carry a `node` label. Until a page has been good once, a bad one
waits for up to HOLD_S to become good: a start is no failure, and is seen when it is over rather than at the next probe.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import h11

from p2pnet.node.health import METRICS, PLAIN, Page, PageServer
from p2pnet.quic.hosts import loopback

ASK_S = 2.0
"""How long a node's answer may take; probes of the kubelet wait longer."""
HOLD_S = 8.0
"""How long a page that has never been good is waited for; probes wait longer."""
LOOK_S = 0.2
"""Between looks meanwhile."""
ANSWER_BYTES_MAX = 1 << 20
"""Kept of a node's answer: its metrics are far below."""
READ_BYTES = 1 << 16
"""Read from a node at a time."""

Answer = tuple[int, str]
"""HTTP status (0: no answer) and text."""


class PodHealth(PageServer):
    """The pages of nodes that answer on these ports of the loopback address.

    `still` gives the names of those that do not answer and are not to, each with the reason.
    """

    def __init__(
        self, nodes: Mapping[str, int], still: Callable[[], Mapping[str, str]], *, hold_s: float = HOLD_S
    ) -> None:
        super().__init__({
            "/healthz": lambda: self._held("/healthz", self._healthz), "/readyz": lambda: self._held("/readyz", self._readyz),
            "/metrics": self._metrics,
        })  # fmt: skip
        self._nodes = nodes
        self._still = still
        self._hold_s = hold_s
        self._good: set[str] = set()
        """Paths that have been good."""
        self._waiting: dict[str, asyncio.Task[Page]] = {}
        """By path: one look at the nodes for all who wait."""

    async def stop(self) -> None:
        """As of any page; nobody waits any more."""
        for task in self._waiting.values():
            task.cancel()
        await super().stop()

    async def _held(self, path: str, look: Callable[[], Awaitable[Page]]) -> Page:
        if path in self._good:
            return await look()
        if path not in self._waiting:
            self._waiting[path] = asyncio.create_task(self._until_good(path, look))
        return await asyncio.shield(self._waiting[path])

    async def _until_good(self, path: str, look: Callable[[], Awaitable[Page]]) -> Page:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._hold_s
        try:
            while True:
                page = await look()
                if page[0] == 200:
                    self._good |= {path, "/healthz"}  # who is ready has started, too
                if page[0] == 200 or loop.time() >= end:
                    return page
                await asyncio.sleep(LOOK_S)
        finally:
            self._waiting.pop(path, None)

    async def _healthz(self) -> Page:
        # A paused node could not answer, and is as it was told to be: it is not asked.
        return self._verdict(await self._ask("/healthz", self._nodes.keys() - self._still().keys()))

    async def _readyz(self) -> Page:
        still = {name: (0, why) for name, why in self._still().items() if name in self._nodes}
        return self._verdict(await self._ask("/readyz", self._nodes.keys() - still.keys()) | still)

    async def _metrics(self) -> Page:
        answers = await self._ask("/metrics", self._nodes.keys() - self._still().keys())
        pages = {name: text for name, (status, text) in answers.items() if status == 200}
        text = union(pages) if len(self._nodes) > 1 else "".join(pages.values())
        return 200, METRICS, text.encode()

    async def _ask(self, path: str, nodes: set[str]) -> dict[str, Answer]:
        names = [name for name in self._nodes if name in nodes]
        answers = await asyncio.gather(*(ask(self._nodes[name], path) for name in names))
        return dict(zip(names, answers, strict=True))

    def _verdict(self, answers: Mapping[str, Answer]) -> Page:
        bad = [f"{name}: {text.strip()}\n" for name, (status, text) in answers.items() if status != 200]
        return 503 if bad else 200, PLAIN, ("".join(bad) or "ok\n").encode()


async def ask(port: int, path: str) -> Answer:
    """GET a page on the loopback address."""
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(loopback(), port)
            try:
                return await _ask(reader, writer, path)
            finally:
                writer.close()
    except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
        return 0, f"no answer: {error or 'timed out'}"


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> Answer:
    http = h11.Connection(h11.CLIENT)
    headers = [("host", "localhost"), ("connection", "close")]
    writer.write(http.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    status, body = 0, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data) and len(body) < ANSWER_BYTES_MAX:  # the rest is dropped
            body += event.data
        elif not isinstance(event, h11.Data | h11.InformationalResponse):
            return status, body.decode(errors="replace")


def union(pages: Mapping[str, str]) -> str:
    """Expositions as one: every sample labelled with its node, the samples of a family together under one head."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for node, page in pages.items():
        family = ""
        for line in page.splitlines():
            if line.startswith("#"):
                family = line.split(" ")[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, node))
    return "".join(f"{line}\n" for family in heads for line in [*heads[family], *samples.get(family, [])])


def _labelled(sample: str, node: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{node="{node}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{node="{node}"}} {value}'
