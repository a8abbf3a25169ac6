"""The bootstrap cache: addresses of peers we once reached, newest first, in a file that may be lost or damaged.

And the way into the network by it: a race over the contacts, again and again after a partition.
"""

import asyncio
import ipaddress
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from p2pnet.quic.addresses import Address
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import EndpointClosed
from p2pnet.quic.retry import Retry

log = logging.getLogger(__name__)

CONTACTS_MAX = 200
WRITE_EVERY = 10  # new addresses
RACE_MAX = 32  # dials at a time, of cached and of fixed contacts each: a race must not stall the loop with handshakes
FILE_BYTES_MAX = 64 << 10  # 200 names of 253 characters, with their ports
_HOST_CHARS_MAX = 253
REBOOTSTRAP = Retry(budget_s=600.0)
"""How long, and how often, `rebootstrap` tries where it is told nothing else."""


class Connector(Protocol):
    """What it takes of an Endpoint to bootstrap."""

    address: Address

    async def connect_any(
        self, addresses: Iterable[Address], *, expect: str | None = None, new: bool = False, timeout_s: float = 10.0
    ) -> tuple[Connection, dict[Address, Exception]]:
        """The first that answers; no loser stays connected."""


class BootstrapCache:
    """Remembers up to 200 addresses. Fixed contacts come last and are never written."""

    def __init__(self, path: Path, fixed: Iterable[Address] = ()) -> None:
        self._path = path
        self._fixed = tuple(dict.fromkeys(_canonical(one) for one in fixed))
        self._known: dict[Address, None] = dict.fromkeys(_read(path))  # oldest first
        self._unwritten = 0

    def addresses(self) -> list[Address]:
        """In the order to try them: newest first, then the fixed ones."""
        return [*self._cached(), *self._fixed]

    def reached(self, address: Address) -> None:
        """We dialled this peer and it answered; inbound peers prove nothing about reachability.

        Every tenth new address writes the file; a cache that cannot be written is said in the log, and goes on.
        """
        address = _canonical(address)
        if address in self._fixed:
            return
        is_new = self._known.pop(address, 0) == 0
        self._known[address] = None
        self._trim()
        self._unwritten += is_new
        if self._unwritten >= WRITE_EVERY:
            try:
                self.write()
            except OSError as error:
                self._unwritten = 0
                log.warning("the cache of contacts cannot be written: %s", error)

    def write(self) -> None:
        """Write now, in one step: a reader sees the old file or the new one, whole. Raises OSError.

        Where several processes share a file, the last one's list stands.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(list(self._known), file)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._unwritten = 0

    async def bootstrap(
        self, endpoint: Connector, *, expect: str | None = None, new: bool = False, timeout_s: float = 10.0
    ) -> Connection:
        """A connection to the first contact that answers, which is remembered; no other one stays connected.

        Races over the newest 32 cached and the first 32 fixed contacts, then over the next of both; `timeout_s` is for
        each race. A pooled connection to a contact wins at once, unless `new`. Raises ValueError when there is no
        contact at all, the ExceptionGroup of every contact's error when none answers, EndpointClosed.
        """
        cached = [one for one in self._cached() if one != endpoint.address]
        fixed = [one for one in self._fixed if one != endpoint.address]
        if not cached and not fixed:
            raise ValueError("no contact is known: nothing to bootstrap from")
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
            if connection.address in runners:  # else a name was dialled: whose address this is, is its own affair
                self.reached(connection.address)
            return connection
        raise ExceptionGroup("no contact answered", errors)

    async def rebootstrap(
        self,
        endpoint: Connector,
        *,
        retry: Retry | None = None,
        expect: str | None = None,
        timeout_s: float = 10.0,
        until: asyncio.Future[Exception] | None = None,
    ) -> Connection:
        """Back into the network after all connections were lost: bootstrap until one answers or the budget ends.

        Each attempt reads the cache again, for another process may know more, and dials anew: a pooled connection may
        be as dead as the others. Raises what `bootstrap` does, and the result of `until` once that is done.
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
        while len(self._known) > CONTACTS_MAX:
            del self._known[next(iter(self._known))]

    def _refresh(self) -> None:
        """What the file has and we have not comes first: all of ours have just failed."""
        for address in _read(self._path):
            if address not in self._known and address not in self._fixed:
                self._known[address] = None
        self._trim()


def _read(path: Path) -> list[Address]:
    """What is in the file that makes sense, oldest first; nothing when there is none or it is damaged."""
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        entries = json.loads(data) if len(data) <= FILE_BYTES_MAX else None
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    return list(dict.fromkeys(_canonical((one[0], one[1])) for one in entries if _is_address(one)))[-CONTACTS_MAX:]


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
    """One spelling for each address; names are kept, in lower case."""
    host, port = address
    try:
        return (str(ipaddress.ip_address(host)), port)
    except ValueError:
        return (host.lower(), port)
