"""The operator's /healthz, for the liveness probe. An answer means that the event loop runs.

A replica that waits for the Lease is healthy, too.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from p2pnet.model.errors import TargetError


def all_interfaces() -> str:
    """The host to bind to for every address of this machine, of both IP families where the system has both."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def listener(port: int, host: str) -> socket.socket:
    """A listening TCP socket; on `::` it accepts IPv4, too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")


class Health:
    """The answer of /healthz: 200 unless `check` is set and raises TargetError, then 503 with its text."""

    def __init__(self) -> None:
        self.check: Callable[[], None] | None = None

    @asynccontextmanager
    async def serving(self, port: int, host: str = "") -> AsyncIterator[None]:
        """Serve in the `async with` block, on all interfaces unless `host` is given; port 0 serves nothing. Raises OSError."""
        if not port:
            yield
            return
        app = web.Application(client_max_size=4096)
        app.add_routes([web.get("/healthz", self._healthz)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, listener(port, host or all_interfaces())).start()
            yield
        finally:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        try:
            if self.check is not None:
                self.check()
        except TargetError as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(text="ok\n")
