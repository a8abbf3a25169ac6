"""`Wire` over a unix socket, by h11 on asyncio's streams: for labs of this machine.

One connection per request: it costs a fifth of a millisecond here, and no request meets a connection that the lab has
just closed. aiohttp would do as well, but its import would take 0.15 s of every command.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import h11

from p2pnet.lab_client.http import ANSWER_S, CONNECT_S, READ_BYTES, Response, Wire, body_of
from p2pnet.model.errors import TargetError

HEAD_BYTES_MAX = 64 << 10  # of status line and headers


class UnixResponse:
    """A `Response` read from a connection of its own."""

    def __init__(
        self, state: h11.Connection, reader: asyncio.StreamReader, unreachable: Callable[[BaseException], TargetError]
    ) -> None:
        self._state = state
        self._reader = reader
        self._unreachable = unreachable
        self._head: h11.Response | None = None
        self._headers: dict[bytes, bytes] = {}

    @property
    def status(self) -> int:
        """The status code."""
        assert self._head is not None  # noqa: S101 - read by `begin`
        return self._head.status_code

    def header(self, name: str) -> str:
        """As `Response.header`."""
        return self._headers.get(name.lower().encode(), b"").decode("latin-1")

    async def begin(self) -> None:
        """Read status line and headers. Raises TargetError."""
        while self._head is None:
            event = await self._next()
            if isinstance(event, h11.Response):
                self._head, self._headers = event, dict(event.headers)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """As `Response.pieces`."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def read(self) -> bytes:
        """As `Response.read`."""
        return b"".join([piece async for piece in self.pieces()])

    async def _next(self) -> object:
        """The next h11 event. Raises TargetError for silence, an early end of the connection, and bytes that are no HTTP."""
        try:
            while (event := self._state.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(ANSWER_S):
                    self._state.receive_data(await self._reader.read(READ_BYTES))
        except (TimeoutError, OSError, h11.ProtocolError) as error:
            raise self._unreachable(error) from error
        if isinstance(event, h11.ConnectionClosed):
            raise self._unreachable(ConnectionResetError("it closed the connection"))
        return event


class UnixWire(Wire):
    """A `Wire` to the lab that listens at a unix socket."""

    def __init__(self, socket_path: Path | str) -> None:
        super().__init__(str(socket_path))
        self.path = str(socket_path)

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, *, json: object = None, data: bytes | None = None,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Response]:  # fmt: skip
        """As `Wire.open`."""
        body, kind = body_of(json, data)
        request = h11.Request(
            method=method,
            target=path + (f"?{urlencode(query)}" if query else ""),
            headers=list({
                "Host": "lab", "Connection": "close", "Content-Length": str(len(body)), **(headers or {}), **kind,
            }.items()),
        )  # fmt: skip
        reader, writer = await self._connect()
        try:
            answer = await self._send(reader, writer, request, body)
            if answer.status >= 400:
                raise self._refusal(answer.status, await answer.read(), f"{method} {path}")
            yield answer
        finally:
            writer.transport.abort()  # at once: a paused lab reads nothing, and closing would wait for it

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_unix_connection(self.path, limit=READ_BYTES)
        except (TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
    ) -> UnixResponse:
        state = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        writer.write(state.send(request) or b"")
        if body:
            writer.write(state.send(h11.Data(body)) or b"")
        state.send(h11.EndOfMessage())
        # A lab that refuses a body may answer and close before it has read all of it: its answer counts.
        try:
            async with asyncio.timeout(ANSWER_S):
                await writer.drain()
        except TimeoutError as error:
            raise self._unreachable(error) from error
        except OSError:
            pass
        answer = UnixResponse(state, reader, self._unreachable)
        await answer.begin()
        return answer
