"""Connections by address, dials in progress that later callers join instead of dialling again, and races of dials."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from p2pnet.quic.addresses import Address, readable, remote
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import CloseCode, HandshakeFailed

_Key = tuple[Any, str | None]


class Dial:
    """One handshake we began and everybody who waits for it. It outlives its first caller, not its last."""

    def __init__(self, connection: Connection, key: _Key) -> None:
        self.connection = connection
        self.key = key
        self.waiters: list[asyncio.Future[Connection]] = []


class Pool:
    """Finds a live connection, joins a dial, or starts one with `dial(raw address, expect, timeout_s)`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dial: Callable[[Any, str | None, float], Connection]) -> None:
        self._loop = loop
        self._dial = dial
        self._live: dict[Any, list[Connection]] = {}
        self._places: dict[Connection, Any] = {}
        self._joinable: dict[_Key, Dial] = {}
        self._dials: dict[Connection, Dial] = {}
        self.dialled = 0
        """Handshakes begun here."""

    def at(self, raw: Any) -> list[Connection]:
        """Live connections with the peer at this address, oldest first."""
        return self._live.get(remote(raw), [])

    def find(self, raw: Any, expect: str | None = None) -> Connection | None:
        """The oldest live connection with this address, dialled or accepted, of that peer if one is expected."""
        for connection in self.at(raw):
            if not connection.closed and (expect is None or connection.uri == expect):
                return connection
        return None

    async def connect(self, raw: Any, expect: str | None, *, new: bool, timeout_s: float) -> tuple[Connection, bool]:
        """A connection to this address, and whether it was made for this caller alone.

        Raises HandshakeFailed or TrustError; all who joined get the same.
        """
        if not new and (found := self.find(raw, expect)) is not None:
            return found, False
        dial = self._join(raw, expect, new=new, timeout_s=timeout_s)
        alone = not dial.waiters
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        dial.waiters.append(waiter)
        timer = self._loop.call_later(timeout_s, _give_up, waiter, readable(raw), timeout_s)
        try:
            connection = await waiter
        except BaseException:
            dial.waiters.remove(waiter)
            # Cancelled in the turn in which it was served, too: what nobody waits for is not kept.
            if not dial.waiters:
                dial.connection.close(CloseCode.DONE, "nobody waits for this connection any more")
            raise
        finally:
            timer.cancel()
        return connection, alone and len(dial.waiters) == 1

    def add(self, connection: Connection, raw: Any) -> None:
        """The connection is established; if it was dialled, those who wait get it."""
        self._place(connection, raw)
        dial = self._take(connection)
        if dial is not None:
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_result(connection)

    def move(self, connection: Connection, raw: Any) -> None:
        """Its peer speaks from another address now."""
        if connection in self._places:
            self._displace(connection)
            self._place(connection, raw)

    def remove(self, connection: Connection, failure: Exception | None) -> None:
        """The connection has ended, before anybody is told so; or its dial has failed."""
        self._displace(connection)
        dial = self._take(connection)
        if dial is not None:
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_exception(failure or HandshakeFailed("closed", "the connection ended"))

    def abandon(self, error: Exception) -> None:
        """Nobody gets anything any more."""
        for dial in self._dials.values():
            for waiter in dial.waiters:
                if not waiter.done():
                    waiter.set_exception(error)

    def _join(self, raw: Any, expect: str | None, *, new: bool, timeout_s: float) -> Dial:
        key = (remote(raw), expect)
        dial = None if new else self._joinable.get(key)
        if dial is None:
            self.dialled += 1
            dial = Dial(self._dial(raw, expect, timeout_s), key)
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

    def _take(self, connection: Connection) -> Dial | None:
        dial = self._dials.pop(connection, None)
        if dial is not None and self._joinable.get(dial.key) is dial:
            del self._joinable[dial.key]
        return dial


async def race(
    addresses: Iterable[Address], attempt: Callable[[Address], Awaitable[tuple[Connection, bool]]]
) -> tuple[Connection, dict[Address, Exception]]:
    """Attempt all at once, equal addresses once; returns the winner and the errors of those that had lost by then.

    Attempts still running are cancelled and awaited, and others that succeed in the same turn are closed, if they were
    made for this race alone. Raises the ExceptionGroup of all errors when every one fails, ValueError for no address.
    """
    tasks = {asyncio.ensure_future(_as_coroutine(attempt, one)): one for one in dict.fromkeys(addresses)}
    if not tasks:
        raise ValueError("no address to connect to")
    errors: dict[Address, Exception] = {}
    pending = set(tasks)
    winner: Connection | None = None
    try:
        while pending and winner is None:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in tasks if one.done()]:  # in the order of the addresses
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()[0]
                elif isinstance(error, Exception):
                    errors[tasks[task]] = error
                elif error is not None:
                    raise error
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        _close_losers(tasks, winner)
    if winner is None:
        raise ExceptionGroup("no address answered", list(errors.values()))
    return winner, errors


def _close_losers(tasks: "Iterable[asyncio.Future[tuple[Connection, bool]]]", winner: Connection | None) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is None:
            connection, alone = task.result()
            if connection is not winner and alone:
                connection.close(CloseCode.DONE, "another address answered first")


async def _as_coroutine(
    attempt: Callable[[Address], Awaitable[tuple[Connection, bool]]], address: Address
) -> tuple[Connection, bool]:
    return await attempt(address)


def _give_up(waiter: "asyncio.Future[Connection]", address: Address, timeout_s: float) -> None:
    if not waiter.done():
        waiter.set_exception(HandshakeFailed("timeout", f"no answer from {address[0]}:{address[1]} in {timeout_s:g} s"))
