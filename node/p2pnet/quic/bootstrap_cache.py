"""The bootstrap cache: addresses of peers that were reached before, kept in a file that may be lost or damaged.

`bootstrap` joins the network by a race of dials over these addresses; `rebootstrap` repeats that after a partition.
"""

import asyncio
import ipaddress
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from p2pnet.quic.addresses import Address
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import EndpointClosed
from p2pnet.quic.retry import Retry

log = logging.getLogger(__name__)

ADDRESSES_MAX = 200
WRITE_EVERY = 10
"""New addresses after which the file is written."""
RACE_MAX = 32
"""Dials at a time, of cached and of fixed addresses each: more handshakes at once would stall the loop."""
FILE_BYTES_MAX = 64 << 10
"""200 names of 253 characters, with their ports, fit into it."""
_HOST_CHARS_MAX = 253
REBOOTSTRAP = Retry(budget_s=600.0)
"""The default schedule of `rebootstrap`."""


class Connector(Protocol):
    """What `bootstrap` uses of an Endpoint."""

    address: Address

    async def connect_any(
        self, addresses: Iterable[Address], *, expect: str | None = None, new: bool = False, timeout_s: float = 10.0
    ) -> tuple[Connection, dict[Address, Exception]]:
        """See `Endpoint.connect_any`."""


class BootstrapCache:
    """Remembers up to 200 addresses. `fixed` ones are tried after them, and never written to the file."""

    def __init__(self, path: Path, fixed: Iterable[Address] = ()) -> None:
        self._path = path
        self._fixed = tuple(dict.fromkeys(_canonical(one) for one in fixed))
        self._known: dict[Address, None] = dict.fromkeys(_read(path))  # oldest first
        self._unwritten = 0

    def addresses(self) -> list[Address]:
        """All addresses in the order to try them: the cached ones, newest first, then the fixed ones."""
        return [*self._cached(), *self._fixed]

    def reached(self, address: Address) -> None:
        """Remember an address that was dialled and has answered; an inbound connection's proves nothing.

        Every tenth new address writes the file; a failure to write is logged.
        """
        address = _canonical(address)
        if address in self._fixed:
            return
        # Popped and set again: dicts keep insertion order, and the newest address stands last.
        is_new = self._known.pop(address, 0) == 0
        self._known[address] = None
        self._trim()
        self._unwritten += is_new
        if self._unwritten >= WRITE_EVERY:
            try:
                self.write()
            except OSError as error:
                self._unwritten = 0
                log.warning("the bootstrap cache cannot be written: %s", error)

    def write(self) -> None:
        """Write the file now, atomically. Raises OSError.

        If several processes share the file, the list of the last writer stays.
        """
        import tempfile  # with shutil and what packs archives: 3 ms of every start, for those that keep a cache

        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(list(self._known), file)
            # Atomic on one file system, hence the temporary file beside the real one.
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._unwritten = 0

    async def bootstrap(
        self, endpoint: Connector, *, expect: str | None = None, new: bool = False, timeout_s: float = 10.0
    ) -> Connection:
        """A connection to the first address that answers, which is remembered; no other one stays connected.

        Races over the newest 32 cached and the first 32 fixed addresses, then over the next of both; `timeout_s` is for each
        race. A pooled connection wins at once, unless `new`. Raises ValueError when no address is known, the ExceptionGroup
        of every address's error when none answers, EndpointClosed.
        """
        cached = [one for one in self._cached() if one != endpoint.address]
        fixed = [one for one in self._fixed if one != endpoint.address]
        if not cached and not fixed:
            raise ValueError("no address is known: nothing to bootstrap from")
        errors: list[Exception] = []
        for start in range(0, max(len(cached), len(fixed)), RACE_MAX):
            runners = cached[start : start + RACE_MAX] + fixed[start : start + RACE_MAX]
            try:
                connection, _ = await endpoint.connect_any(runners, expect=expect, new=new, timeout_s=timeout_s)
            except ExceptionGroup as failed:
                errors += failed.exceptions
                if closed := failed.subgroup(EndpointClosed):
                    raise closed.exceptions[0] from None
                continue
            if connection.address in runners:  # else a name was dialled, which may resolve to another address next time
                self.reached(connection.address)
            return connection
        raise ExceptionGroup("no address answered", errors)

    async def rebootstrap(
        self,
        endpoint: Connector,
        *,
        retry: Retry | None = None,
        expect: str | None = None,
        timeout_s: float = 10.0,
        until: asyncio.Future[Exception] | None = None,
    ) -> Connection:
        """Join the network again after all connections were lost: `bootstrap` until an address answers or the budget ends.

        Each attempt reads the file again, which another process may have extended, and dials anew, for a pooled connection
        may be as dead as the others. Raises as `bootstrap`, and the result of `until` once that is done.
        """

        async def attempt() -> Connection:
            self._refresh()
            return await self.bootstrap(endpoint, expect=expect, new=True, timeout_s=timeout_s)

        schedule = retry or REBOOTSTRAP
        return await schedule.run(attempt, worth=lambda error: isinstance(error, ExceptionGroup), until=until)

    # Private

    def _cached(self) -> list[Address]:
        return list(reversed(self._known))

    def _trim(self) -> None:
        while len(self._known) > ADDRESSES_MAX:
            del self._known[next(iter(self._known))]

    def _refresh(self) -> None:
        """Put addresses that only the file has first: all others have just failed."""
        for address in _read(self._path):
            if address not in self._known and address not in self._fixed:
                self._known[address] = None
        self._trim()


def _read(path: Path) -> list[Address]:
    """The valid addresses in the file, oldest first; [] if it does not exist or is damaged."""
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large, whatever its size.
            data = file.read(FILE_BYTES_MAX + 1)
        entries = json.loads(data) if len(data) <= FILE_BYTES_MAX else None
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    return list(dict.fromkeys(_canonical((one[0], one[1])) for one in entries if _is_address(one)))[-ADDRESSES_MAX:]


def _is_address(entry: Any) -> bool:
    if not (isinstance(entry, list) and len(entry) == 2):
        return False
    host, port = entry
    return (
        isinstance(host, str)
        and 0 < len(host) <= _HOST_CHARS_MAX
        and host.isascii()
        and host.isprintable()
        and " " not in host
        and type(port) is int  # a bool is none
        and 0 < port < 65_536
    )


def _canonical(address: Address) -> Address:
    """The one spelling of an address by which it is compared; names are kept, in lower case."""
    host, port = address
    try:
        return (str(ipaddress.ip_address(host)), port)
    except ValueError:
        return (host.lower(), port)
