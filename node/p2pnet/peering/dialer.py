"""The dials of a node as tasks: they obey `DialPolicy`, take turns by `Pacer`, and hand what they reach to `greet`."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable

from p2pnet.model import limits
from p2pnet.model.errors import P2pnetError, TrustError
from p2pnet.model.text import address_text
from p2pnet.peering.clock import delay_s, mono_ns
from p2pnet.peering.dial_policy import DialPolicy
from p2pnet.peering.discovery import PeerDirectory
from p2pnet.peering.pacing import Pacer
from p2pnet.peering.refusals import Refusals
from p2pnet.quic import CloseCode, Connection, Endpoint

DIAL_S = limits.HANDSHAKE_S
Address = tuple[str, int]
Greet = Callable[[str, Connection, str], Awaitable[None]]
"""Node, connection dialled with it, and the latest dial known when it was begun: makes a link of it, or raises."""


class Dialer:
    """`table` says whom to dial and when. `linked` are the names of links; `knows` the latest dial with each peer."""

    def __init__(
        self,
        table: DialPolicy,
        *,
        discovery: PeerDirectory,
        refusals: Refusals,
        pacer: Pacer,
        greet: Greet,
        linked: Container[str],
        knows: dict[str, str],
    ) -> None:
        self.table = table
        self.failed = 0
        self._discovery = discovery
        self._refusals = refusals
        self._pacer = pacer
        self._greet = greet
        self._linked = linked
        self._knows = knows
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seeds: dict[Address, asyncio.Event] = {}
        """Seeds being dialled; set when that is over."""
        self._timer: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None

    def start(self, endpoint: Endpoint) -> None:
        """Dial from here, when told so."""
        self._endpoint = endpoint

    def stop(self) -> None:
        """Dial nobody any more."""
        self._endpoint = None
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def want(self, names: Iterable[str]) -> None:
        """These peers from now on and no others."""
        self.table.want(names, self._linked.__contains__, mono_ns())
        self.turn()

    def turn(self) -> None:
        """Start the dials that are due, set the one timer for the next."""
        if self._endpoint is None:
            return
        for name in self.table.start_due(mono_ns()):
            task = self._loop.create_task(self._dial(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._timer is not None:
            self._timer.cancel()
        due = self.table.next_wakeup()
        self._timer = None if due is None else self._loop.call_later(delay_s(due), self.turn)

    async def _dial(self, name: str) -> None:
        await self._seed_dials(name)
        await self._pacer.turn()
        try:
            if self.table.wants_dial(name):  # it may have dialled us in the meantime
                await self._dial_once(name)
        except (P2pnetError, OSError) as error:
            self.failed += 1
            if isinstance(error, TrustError):
                self._refusals.note(error.kind, str(error), peer=name)
            self.table.failed(name, mono_ns())
        else:
            self.table.settled(name)
        finally:
            self._pacer.done()
        self.turn()

    async def _dial_once(self, name: str) -> None:
        """A link with `name`, or an error."""
        addresses, uri = self._discovery.addresses(name), self._discovery.uri_of(name)
        if not addresses or uri is None:
            raise OSError(f"{name} has no address")
        knows = self._knows.get(name, "")
        await self._greet(name, await self._connect(addresses, uri), knows)

    async def _seed_dials(self, name: str) -> None:
        """Wait while the peer is dialled as a seed: no second connection beside that."""
        for address in self._discovery.addresses(name):
            if (over := self._seeds.get(address)) is not None:
                await over.wait()

    async def _connect(self, addresses: list[Address], uri: str) -> Connection:
        """Through the first address that leads to the peer."""
        for address in addresses[:-1]:
            try:
                return await self._reach(address, uri)
            except (P2pnetError, OSError):
                continue
        return await self._reach(addresses[-1], uri)

    async def _reach(self, address: Address, uri: str | None) -> Connection:
        if self._endpoint is None:
            raise OSError("the node stops")
        return await self._endpoint.connect(address, expect=uri, new=True, timeout_s=DIAL_S)

    async def seed(self, address: Address) -> str:
        """Dial whoever serves at this address, and make a link of it unless there is one; its name.

        Raises P2pnetError, OSError.
        """
        over = self._seeds[address] = asyncio.Event()
        try:
            await self._pacer.turn()
            try:
                return await self._seed_once(address)
            finally:
                self._pacer.done()
        finally:
            over.set()
            del self._seeds[address]

    async def _seed_once(self, address: Address) -> str:
        connection = await self._reach(address, None)
        name = self._discovery.name_of(connection.uri)
        if name is None:
            connection.close(CloseCode.REFUSED, "no node of this subnet")
            raise OSError(f"the seed {address_text(*address)} is {connection.uri}, no node of this subnet")
        if name in self._linked:
            connection.close(CloseCode.DONE, "a link already")
            return name
        await self._greet(name, connection, self._knows.get(name, ""))
        return name
