"""Connections by address, and dials in progress that later callers join instead of dialling again."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pnet.quic.errors import CloseCode, HandshakeFailed

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection

Address = tuple[str, int]
_Key = tuple[Address, str | None]


class Dial:
    """One handshake we began and everybody who waits for it. It outlives its first caller, not its last."""

    def __init__(self, connection: "Connection", key: _Key) -> None:
        self.connection = connection
        self.key = key
        self.waiters: list[asyncio.Future[Connection]] = []


class Pool:
    """Finds a live connection, joins a dial, or starts one with `dial(address, expect, timeout_s)`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dial: "Callable[[Address, str | None, float], Connection]"
    ) -> None:
        self._loop = loop
        self._dial = dial
        self._live: dict[Address, list[Connection]] = {}
        self._places: dict[Connection, Address] = {}
        self._joinable: dict[_Key, Dial] = {}
        self._dials: dict[Connection, Dial] = {}
        self.dialled = 0
        """Handshakes begun here."""

    def find(self, address: Address, expect: str | None = None) -> "Connection | None":
        """The oldest live connection with this address, dialled or accepted, of that peer if one is expected."""
        for connection in self._live.get(address, ()):
            if not connection.closed and (expect is None or connection.uri == expect):
                return connection
        return None

    async def connect(self, address: Address, expect: str | None, *, new: bool, timeout_s: float) -> "Connection":
        """A connection to this address. Raises HandshakeFailed or TrustError; all who joined get the same."""
        key = (address, expect)
        if not new and (found := self.find(address, expect)) is not None:
            return found
        dial = None if new else self._joinable.get(key)
        if dial is None:
            self.dialled += 1
            dial = Dial(self._dial(address, expect, timeout_s), key)
            self._dials[dial.connection] = dial
            if not new:
                self._joinable[key] = dial
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        dial.waiters.append(waiter)
        timer = self._loop.call_later(timeout_s, _give_up, waiter, address, timeout_s)
        try:
            return await waiter
        finally:
            timer.cancel()
            dial.waiters.remove(waiter)
            if not dial.waiters and self._dials.get(dial.connection) is dial:
                dial.connection.close(CloseCode.DONE, "nobody waits for this connection any more")

    def add(self, connection: "Connection") -> None:
        """The connection is established; if it was dialled, those who wait get it."""
        address = connection.address
        self._live.setdefault(address, []).append(connection)
        self._places[connection] = address
        dial = self._take(connection)
        if dial is not None:
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_result(connection)

    def remove(self, connection: "Connection", failure: Exception | None) -> None:
        """The connection has ended, before anybody is told so; or its dial has failed."""
        address = self._places.pop(connection, None)
        if address is not None:
            rest = self._live[address]
            rest.remove(connection)
            if not rest:
                del self._live[address]
        dial = self._take(connection)
        if dial is not None:
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_exception(failure or HandshakeFailed("closed", "the connection ended"))

    def _take(self, connection: "Connection") -> Dial | None:
        dial = self._dials.pop(connection, None)
        if dial is not None and self._joinable.get(dial.key) is dial:
            del self._joinable[dial.key]
        return dial


def _give_up(waiter: "asyncio.Future[Connection]", address: Address, timeout_s: float) -> None:
    if not waiter.done():
        waiter.set_exception(HandshakeFailed("timeout", f"no answer from {address[0]}:{address[1]} in {timeout_s:g} s"))
