"""Plain HTTP for probes and scrapes: `/healthz`, `/readyz`, `/metrics`. No control on it.

h11 reads and writes the messages, asyncio carries them: importing a whole web server would cost each pod's start more
CPU than all of QUIC. With `pod_health`, the only importer of h11.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import h11

from p2pnet.quic.hosts import listener

if TYPE_CHECKING:
    from p2pnet.node.metrics import Measured

CONNECTIONS_MAX = 16
"""At once; one more is closed unheard. A kubelet and a Prometheus need two."""
HEAD_BYTES_MAX = 8192
"""Of a request's line and headers."""
IDLE_S = 15.0
"""For the next whole request on a connection."""
READ_BYTES = 4096
PLAIN = "text/plain; charset=utf-8"

Page = tuple[int, str, bytes]
"""HTTP status, content type, body."""


class PageServer:
    """A small HTTP server for a few pages, by path."""

    def __init__(self, pages: Mapping[str, Callable[[], Page | Awaitable[Page]]]) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._pages = pages

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Serve; the address really bound. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, sock=listener(host, port))
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Serve no more; requests in flight are cut off."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls this in a task
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, until it asks for its end, is silent, or says what is no HTTP."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        while http.our_state is not h11.MUST_CLOSE:
            try:
                async with asyncio.timeout(IDLE_S):
                    request = await _next_request(http, reader)
            except h11.RemoteProtocolError as error:
                _answer(http, writer, (error.error_status_hint, PLAIN, f"{error}\n".encode()), close=True)
                await writer.drain()
                return
            if request is None:
                return
            _answer(http, writer, await self._page(request), body=request.method != b"HEAD")
            async with asyncio.timeout(IDLE_S):
                await writer.drain()
            if http.our_state is h11.DONE and http.their_state is h11.DONE:
                http.start_next_cycle()

    async def _page(self, request: h11.Request) -> Page:
        page = self._pages.get(request.target.partition(b"?")[0].decode("latin-1"))
        if page is None:
            return 404, PLAIN, f"there are {', '.join(self._pages)}\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return 405, PLAIN, b"only to be read: GET\n"
        made = page()
        return await made if isinstance(made, Awaitable) else made


class HealthPage(PageServer):
    """A node's own."""

    def __init__(self, node: "Measured") -> None:
        super().__init__(
            {
                "/healthz": lambda: (200, PLAIN, b"ok\n"),  # that this answers at all is the health: the loop turns
                "/readyz": self._readyz,
                "/metrics": self._metrics,
            }
        )
        self._node = node

    def _readyz(self) -> Page:
        why = self._node.unready()
        return (503 if why else 200), PLAIN, f"{why or 'ok'}\n".encode()

    def _metrics(self) -> Page:
        from p2pnet.node.metrics import CONTENT_TYPE, exposition  # prometheus_client for those who are scraped

        return 200, CONTENT_TYPE, exposition(self._node)


async def _next_request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request, read to its end; None when the other side has gone. Raises h11.RemoteProtocolError."""
    request: h11.Request | None = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.Data):
            raise h11.RemoteProtocolError("requests here have no body", error_status_hint=413)
        else:  # closed, or what only a server of more than GET would hear
            return None


def _answer(
    http: h11.Connection, writer: asyncio.StreamWriter, page: Page, *, body: bool = True, close: bool = False
) -> None:
    status, content_type, text = page
    headers = [("content-type", content_type), ("content-length", str(len(text)))]
    if close:
        headers.append(("connection", "close"))
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return  # what came was so wrong that no answer fits
    writer.write(http.send(h11.Response(status_code=status, headers=headers)) or b"")
    if body:
        writer.write(http.send(h11.Data(data=text)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
