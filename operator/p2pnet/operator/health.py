"""The operator's /healthz. That it answers means that the loop turns, also of a replica that waits for the Lease."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from p2pnet.model.errors import TargetError


def everywhere() -> str:
    """The host that means every address of this machine, of both IP families where the system has both."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def listener(port: int, host: str) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")


class Health:
    """What /healthz says; `check` is set while there is more to be well than the loop, and raises TargetError."""

    def __init__(self) -> None:
        self.check: Callable[[], None] | None = None

    @asynccontextmanager
    async def serving(self, port: int, host: str = "") -> AsyncIterator[None]:
        """Serve meanwhile, everywhere unless a host is given; 0 serves nothing. Raises OSError when the port is taken."""
        if not port:
            yield
            return
        app = web.Application(client_max_size=4096)
        app.add_routes([web.get("/healthz", self._healthz)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, listener(port, host or everywhere())).start()
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
