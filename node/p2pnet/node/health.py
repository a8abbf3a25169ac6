"""Plain HTTP for probes and scrapes: `/healthz`, `/readyz`, `/metrics`. No control on it. The only importer of aiohttp here."""

from aiohttp import web

from p2pnet.node.metrics import CONTENT_TYPE, Measured, exposition

SHUTDOWN_S = 0.5
REQUEST_BYTES_MAX = 4096  # no request here has a body


class HealthPage:
    """A small HTTP server beside the node."""

    def __init__(self, node: Measured) -> None:
        self._node = node
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Serve; the address really bound. Raises OSError when the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        # That this answers at all is the health: the loop turns.
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        why = self._node.unready()
        return web.Response(status=503 if why else 200, text=(why or "ok") + "\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=exposition(self._node), headers={"Content-Type": CONTENT_TYPE})
