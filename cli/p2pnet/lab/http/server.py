"""The lab's HTTP server: on a unix socket that its owner alone may open, or in a pod on TCP behind a token."""

import contextlib
import hmac
import socket
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from p2pnet.lab.http import faults, runs, subnet
from p2pnet.lab.http.common import BODY_BYTES_MAX, LAB, Handler, answer, problems
from p2pnet.lab.lab import Lab
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import TOKEN_HEADER, Problem
from p2pnet.quic.hosts import listener
from p2pnet.store.state import make_socket_directory

SHUTDOWN_S = 2.0  # for answers under way when the lab stops
OPEN_PATHS = ("/healthz", "/metrics")  # to whoever reaches a pod; neither is below /v1
TOKEN_BYTES_MAX = 4096  # of the token's file
PROBE_S = 0.5  # for another lab to accept a connection at our socket


def application(lab: Lab) -> web.Application:
    """The HTTP application of a lab: all routes of `/v1`."""
    app = web.Application(middlewares=[problems], client_max_size=BODY_BYTES_MAX)
    app[LAB] = lab
    for table in (subnet.routes, runs.routes, faults.routes):
        app.add_routes(table)
    return app


class LabServer:
    """Serves a lab on a unix socket that only its owner may open."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.path = path
        self._runner = web.AppRunner(application(lab), access_log=None, shutdown_timeout=SHUTDOWN_S)
        self._site: web.UnixSite | None = None
        self._file_id: tuple[int, int] | None = None
        """Device and inode of our socket's file; None before it is made."""

    async def open(self) -> None:
        """Listen. Raises TargetError (exit 2) when another process listens there."""
        make_socket_directory(self.path.parent)
        if _answers(self.path):
            raise TargetError(f"another lab listens at {self.path}", exit_code=2)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        self.path.unlink(missing_ok=True)
        # The directory is 0700: nobody else can connect between bind and chmod.
        self._site = web.UnixSite(self._runner, str(self.path))
        await self._site.start()
        self.path.chmod(0o600)
        self._file_id = _file_id(self.path)

    @property
    def reachable(self) -> bool:
        """Whether the socket's file exists and is ours."""
        return self._file_id is not None and _file_id(self.path) == self._file_id

    async def restore(self, path: Path) -> None:
        """Listen at `path` after the socket's file was removed; answers under way go on. Raises TargetError, OSError."""
        make_socket_directory(path.parent)
        if self._site is not None:
            with contextlib.suppress(RuntimeError):  # an earlier attempt has stopped it already
                await self._site.stop()
            self._site = None
        self.path = path
        await self._listen()

    async def close(self) -> None:
        """Stop listening and remove the socket's file."""
        await self._runner.cleanup()
        with contextlib.suppress(OSError):
            if self.reachable:
                self.path.unlink(missing_ok=True)


class PodServer:
    """Serves a lab on TCP: `/healthz` and `/metrics` to everybody, all other routes to requests with the mounted token.

    A Prometheus has no way to send the token's header; counts of nodes, links and runs are as little of a secret as those
    of the nodes themselves.
    """

    def __init__(self, lab: Lab, token: Path) -> None:
        app = application(lab)
        app.middlewares.insert(0, _guard(token))
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/metrics", subnet.prometheus)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def open(self, host: str, port: int, door: socket.socket | None = None) -> tuple[str, int]:
        """Listen, on `door` where that does already; returns the address bound. Raises OSError."""
        await self._runner.setup()
        await web.SockSite(self._runner, door if door is not None else listener(host, port)).start()
        bound = self._runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


async def _healthz(_request: web.Request) -> web.Response:
    # Liveness is that this answers at all: the event loop turns.
    return web.Response(text="ok\n")


def _guard(token: Path) -> Middleware:
    """Middleware that refuses requests without the token, and all of them while its file cannot be read."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        shown = request.headers.get(TOKEN_HEADER, "").encode(errors="surrogateescape")
        wanted = _read_token(token)  # each time: the kubelet replaces the file when the Secret changes
        if not wanted or not hmac.compare_digest(shown, wanted):
            hint = "the token stands in the Secret SUBNET-lab-token, under the key token"
            return answer(Problem(f"the header {TOKEN_HEADER} is missing or wrong", hint, exit_code=3), 401)
        return await handler(request)

    return guard


def _read_token(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(TOKEN_BYTES_MAX).strip()
    except OSError:
        return b""


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.lstat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
