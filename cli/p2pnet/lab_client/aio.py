"""`Wire` over TCP, by aiohttp: for labs in a cluster. Commands against labs of this machine never import it."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import aiohttp

from p2pnet.lab_client.http import ANSWER_S, CONNECT_S, READ_BYTES, Response, Wire, body_of


class AioResponse:
    """A `Response` of aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    def header(self, name: str) -> str:
        """As `Response.header`."""
        return self._response.headers.get(name, "")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """As `Response.pieces`."""
        async for piece in self._response.content.iter_any():
            yield piece

    async def read(self) -> bytes:
        """As `Response.read`."""
        return await self._response.read()


class AioWire(Wire):
    """A `Wire` with a pool of connections to one server."""

    def __init__(self, connector: aiohttp.BaseConnector, base: str, where: str, headers: Mapping[str, str]) -> None:
        """`base`: the URL that paths are appended to; `headers` go with every request."""
        super().__init__(where)
        self._base = base
        self._session = aiohttp.ClientSession(
            connector=connector, headers=headers, read_bufsize=READ_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, *, json: object = None, data: bytes | None = None,
        query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Response]:  # fmt: skip
        """As `Wire.open`."""
        options = self._options()
        body, kind = body_of(json, data)
        all_headers = {**options.pop("headers", {}), **(headers or {}), **kind}
        url, content = self._base + path, body if kind else None
        try:
            async with self._session.request(
                method, url, params=query, data=content, headers=all_headers, **options
            ) as response:
                if response.status >= 400:
                    raise self._refusal(response.status, await response.read(), f"{method} {path}")
                yield AioResponse(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    def _options(self) -> dict[str, Any]:
        """Further arguments of aiohttp for every request."""
        return {}
