"""The connection pool of an endpoint: live connections by address, dials in progress that callers join, and races of dials."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from p2pnet.model.text import address_text
from p2pnet.quic.addresses import Address, readable, remote
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import CloseCode, HandshakeFailed

_Key = tuple[Any, str | None]


class DialInProgress:
    """One handshake that was begun, and the callers that await it. It goes on as long as any of them waits."""

    def __init__(self, connection: Connection, key: _Key) -> None:
        self.connection = connection
        self.key = key
        self.waiters: list[asyncio.Future[Connection]] = []


class ConnectionPool:
    """Finds a live connection, joins a dial, or starts one with `dial(raw address, expect, timeout_s)`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dial: Callable[[Any, str | None, float], Connection]) -> None:
        self._loop = loop
        self._dial = dial
        self._live: dict[Any, list[Connection]] = {}
        self._places: dict[Connection, Any] = {}
        self._joinable: dict[_Key, DialInProgress] = {}
        self._dials: dict[Connection, DialInProgress] = {}
        self._holders: dict[Connection, int] = {}  # dialled connections -> callers that have it
        self.dialled = 0
        """Handshakes begun."""

    def at(self, raw: Any) -> list[Connection]:
        """Live connections with the peer at this address, oldest first."""
        return self._live.get(remote(raw), [])

    def find(self, raw: Any, expect: str | None = None) -> Connection | None:
        """The oldest live connection with this address, dialled or accepted; with the URI `expect`, if one is given."""
        for connection in self.at(raw):
            if not connection.closed and (expect is None or connection.uri == expect):
                return connection
        return None

    async def connect(self, raw: Any, expect: str | None, *, new: bool, timeout_s: float) -> Connection:
        """A connection to this address: a live one, a dial in progress, or (`new`: always) a dial of its own.

        Callers that turn out not to need it call `give_back`. Raises HandshakeFailed or TrustError; all callers that joined
        one dial get the same error.
        """
        if not new and (found := self.find(raw, expect)) is not None:
            # Inbound connections are not counted: nobody who dialled may close them.
            if found in self._holders:
                self._holders[found] += 1
            return found
        dial = self._join(raw, expect, new=new, timeout_s=timeout_s)
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        dial.waiters.append(waiter)
        # For this caller only: others that joined may be more patient.
        timer = self._loop.call_later(timeout_s, _give_up, waiter, readable(raw), timeout_s)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())  # cancelled in the loop turn in which it got the connection
            raise
        finally:
            timer.cancel()
            dial.waiters.remove(waiter)
            # The last caller gave up, or everyone gave the result back in the same loop turn.
            if not dial.waiters and not self._holders.get(dial.connection):
                dial.connection.close(CloseCode.DONE, "nobody waits for this connection any more")

    def give_back(self, connection: Connection, why: str = "nobody needs this connection any more") -> None:
        """A caller does not need what `connect` returned: close it if it was dialled and no other caller has it."""
        holders = self._holders.get(connection)
        if holders is None:
            return
        self._holders[connection] = holders - 1
        if holders <= 1:
            connection.close(CloseCode.DONE, why)

    def add(self, connection: Connection, raw: Any) -> None:
        """The connection is established: callers that await its dial get it."""
        self._place(connection, raw)
        dial = self._take(connection)
        if dial is not None:
            waiting = [one for one in dial.waiters if not one.done()]
            self._holders[connection] = len(waiting)
            for waiter in waiting:
                waiter.set_result(connection)

    def move(self, connection: Connection, raw: Any) -> None:
        """The peer's address has changed to `raw`."""
        if connection in self._places:
            self._displace(connection)
            self._place(connection, raw)

    def remove(self, connection: Connection, failure: Exception | None) -> None:
        """The connection has ended, or its dial has failed with `failure`: remove it, and fail the callers that await it."""
        self._displace(connection)
        self._holders.pop(connection, None)
        dial = self._take(connection)
        if dial is not None:
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_exception(failure or HandshakeFailed("closed", "the connection ended"))

    def abandon(self, error: Exception) -> None:
        """The endpoint closes: fail every caller with this error."""
        for dial in self._dials.values():
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_exception(error)

    def _join(self, raw: Any, expect: str | None, *, new: bool, timeout_s: float) -> DialInProgress:
        # Dials with another `expect` are not joined: their certificates are judged differently.
        key = (remote(raw), expect)
        dial = None if new else self._joinable.get(key)
        if dial is None:
            self.dialled += 1
            dial = DialInProgress(self._dial(raw, expect, timeout_s), key)
            self._dials[dial.connection] = dial
            if not new:
                self._joinable[key] = dial
        return dial

    def _place(self, connection: Connection, raw: Any) -> None:
        place = remote(raw)
        self._live.setdefault(place, []).append(connection)
        self._places[connection] = place

    def _displace(self, connection: Connection) -> None:
        place = self._places.pop(connection, None)
        if place is None:
            return
        rest = self._live[place]
        rest.remove(connection)
        if not rest:
            del self._live[place]

    def _take(self, connection: Connection) -> DialInProgress | None:
        dial = self._dials.pop(connection, None)
        if dial is not None and self._joinable.get(dial.key) is dial:
            del self._joinable[dial.key]
        return dial


async def race(
    addresses: Iterable[Address],
    attempt: Callable[[Address], Awaitable[Connection]],
    give_back: Callable[[Connection, str], None],
) -> tuple[Connection, dict[Address, Exception]]:
    """Attempt all addresses at once, equal ones once; the winner's connection, and the errors of those that had lost by then.

    Attempts still running are cancelled and awaited. Connections of others that succeed in the same loop turn are given back,
    and the winner's too if the race itself is cancelled. Raises the ExceptionGroup of all errors when every attempt fails,
    ValueError for no address.
    """
    # dict.fromkeys drops duplicates and keeps the order, which decides ties.
    tasks = {asyncio.ensure_future(_as_coroutine(attempt, one)): one for one in dict.fromkeys(addresses)}
    if not tasks:
        raise ValueError("no address to connect to")
    winner: asyncio.Future[Connection] | None = None
    try:
        while winner is None and not all(one.done() for one in tasks):
            await asyncio.wait([one for one in tasks if not one.done()], return_when=asyncio.FIRST_COMPLETED)
            winner = next((one for one in tasks if _succeeded(one)), None)  # in the order of the addresses
    finally:
        losers = [one for one in tasks if one is not winner]
        for task in losers:
            if _succeeded(task):
                give_back(task.result(), "another address answered first")
            task.cancel()
        try:
            await asyncio.gather(*losers, return_exceptions=True)
        except asyncio.CancelledError:
            if winner is not None:
                give_back(winner.result(), "nobody needs this connection any more")
            raise
    errors = {tasks[one]: error for one in losers if not one.cancelled() and (error := one.exception()) is not None}
    failures = {address: error for address, error in errors.items() if isinstance(error, Exception)}
    if winner is None:
        raise ExceptionGroup("no address answered", list(failures.values()))
    return winner.result(), failures


def _succeeded(task: "asyncio.Future[Connection]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _as_coroutine(attempt: Callable[[Address], Awaitable[Connection]], address: Address) -> Connection:
    return await attempt(address)


def _give_up(waiter: "asyncio.Future[Connection]", address: Address, timeout_s: float) -> None:
    if not waiter.done():
        waiter.set_exception(HandshakeFailed("timeout", f"no answer from {address_text(*address)} in {timeout_s:g} s"))
