"""The server of the live page: on 127.0.0.1 alone, with nothing to see or do for whoever has no cookie of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import msgspec
from aiohttp import web

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.program import as_called, program_name
from p2pnet.cli.targets.target import Target
from p2pnet.cli.ui.feed import Feed
from p2pnet.cli.ui.guard import Guard
from p2pnet.cli.ui.orders import BREAKS, carry_out, command_of, explained, read_order
from p2pnet.cli.ui.streams import FullError
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.present import LiveSubnet, live_policy, to_live_html

ADDRESS = "127.0.0.1"
BODY_BYTES_MAX = 16 * 1024
ORDERS_MAX = 4  # carried out at the same time
ORDER_S = 60.0
IDLE_S = 15.0  # between comments that keep a stream open
END_S = 1.0  # for requests that are open when the server ends
_BARE_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip
_Answer = TypeVar("_Answer", bound=web.StreamResponse)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LivePageServer:
    """The routes: the page, its view, its events, and the orders of its buttons. `typed`: as `LiveSubnet.typed`."""

    def __init__(self, feed: Feed, target: Target, guard: Guard, typed: str = "") -> None:
        self._feed = feed
        self._target = target
        self._guard = guard
        self._typed = typed
        self._orders = 0

    def app(self) -> web.Application:
        """To be served at the guard's port."""
        app = web.Application(middlewares=[self._guarded], client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/", self._page, allow_head=False)
        app.router.add_get("/view", self._view, allow_head=False)
        app.router.add_get("/events", self._events, allow_head=False)
        app.router.add_post("/orders", self._order)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if (why := self._guard.foreign(request.method, request.headers)) is not None:
            return _refusal(403, why)
        token = request.query.get("token")
        if token is not None and request.method == "GET" and request.path == "/":
            return self._admitted(token)
        if not self._guard.knows(request.cookies.get(self._guard.cookie)):
            return _refusal(403, as_called("open the address that p2pnet ui printed"))
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)

    def _admitted(self, token: str) -> web.Response:
        value = self._guard.exchange(token)
        if value is None:
            return _refusal(
                403, as_called("this address works once: go on in the tab it opened, or start p2pnet ui again")
            )
        response = _answer(web.Response(status=303, headers={"Location": "/"}))
        response.set_cookie(self._guard.cookie, value, httponly=True, samesite="Strict", path="/")
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        del request
        feed = self._feed
        page = LiveSubnet(
            name=feed.name, view=feed.view, generation=feed.generation, kinds=BREAKS, typed=self._typed,
            program=program_name(),
        )  # fmt: skip
        text = await asyncio.to_thread(to_live_html, page)
        return _answer(web.Response(text=text, content_type="text/html"), live_policy())

    async def _view(self, request: web.Request) -> web.StreamResponse:
        """What is drawn of the nodes there are now, for a page that shows others."""
        del request
        view = {"generation": self._feed.generation, "view": self._feed.view}
        body = await asyncio.to_thread(msgspec.json.encode, view)
        return _answer(web.Response(body=body, content_type="application/json"))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        try:
            async with aclosing(self._feed.streams.listen(IDLE_S)) as listening:
                first = await anext(listening)
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                _answer(response)
                await response.prepare(request)
                await response.write(b"retry: 1000\n\n" + first)
                with contextlib.suppress(ConnectionError):  # the tab was closed
                    async for text in listening:
                        await response.write(text)
                return response
        except FullError:
            return _refusal(503, "too many pages follow already")

    async def _order(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return _refusal(415, "orders are JSON")
        if self._orders >= ORDERS_MAX:
            return _refusal(429, "too many orders at the same time")
        self._orders += 1
        try:
            return await self._carried_out(await request.read())
        finally:
            self._orders -= 1

    async def _carried_out(self, body: bytes) -> web.Response:
        command = ""
        try:
            order = read_order(body)
            command = as_called(command_of(order, self._feed.name) + self._typed)
            async with asyncio.timeout(ORDER_S), self._target.lab(self._feed.name) as client:
                text = await carry_out(order, self._feed.name, client, self._target)
            return _said(200, text, command)
        except TimeoutError:
            return _said(504, f"no answer within {ORDER_S:.0f} s", command)
        except (CommandError, SpecError) as error:
            return _said(422, explained(error), command)
        except P2pnetError as error:
            return _said(502, str(error), command)


def _said(status: int, text: str, command: str = "") -> web.Response:
    """An answer to an order."""
    return _answer(web.json_response({"command": command, "text": text}, status=status))


def _refusal(status: int, why: str) -> web.Response:
    return _answer(web.json_response({"text": why}, status=status))


def _answer(response: _Answer, policy: str = _BARE_POLICY) -> _Answer:
    response.headers.update({**HEADERS, "Content-Security-Policy": policy})
    return response


@contextlib.asynccontextmanager
async def serving(feed: Feed, target: Target, *, port: int = 0, typed: str = "") -> AsyncIterator[Guard]:
    """Serve while the body runs; 0: a port that is free. Raises CommandError (exit 2) for one that is not."""
    guard = Guard()
    runner = web.AppRunner(
        LivePageServer(feed, target, guard, typed).app(), access_log=None, shutdown_timeout=END_S, handle_signals=False
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, ADDRESS, port).start()
        except OSError as error:
            raise CommandError(
                f"port {port} of {ADDRESS} cannot be had: {error.strerror}",
                where=f"--port {port}",
                next_step="name another, or none: then one that is free is taken",
            ) from error
        guard.port = runner.addresses[0][1]
        yield guard
    finally:
        feed.streams.close()
        await runner.cleanup()
