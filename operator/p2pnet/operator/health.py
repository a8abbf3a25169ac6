"""The operator's /healthz. That it answers means that the loop turns, also of a replica that waits for the Lease."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from p2pnet.model.errors import TargetError


class Health:
    """What /healthz says; `check` is set while there is more to be well than the loop, and raises TargetError."""

    def __init__(self) -> None:
        self.check: Callable[[], None] | None = None

    @asynccontextmanager
    async def serving(self, port: int, host: str = "0.0.0.0") -> AsyncIterator[None]:
        """Serve meanwhile; 0 serves nothing. Raises OSError when the port is taken."""
        if not port:
            yield
            return
        app = web.Application(client_max_size=4096)
        app.add_routes([web.get("/healthz", self._healthz)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
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
