"""The dials of a node as tasks: they execute `DialPolicy`, wait for the `Pacer`, and hand connections to `open_link`."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping

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
"""A dial without a connection ends after this long."""
Address = tuple[str, int]
"""Host and UDP port."""
OpenLink = Callable[[str, Connection, str], Awaitable[None]]
"""Peer, the connection dialled with it, and the latest dial known when that began: makes a link of it, or raises."""


class Dialer:
    """Dials whom `policy` says, when it says so, at most one dial per peer at a time."""

    def __init__(
        self,
        policy: DialPolicy,
        *,
        directory: PeerDirectory,
        refusals: Refusals,
        pacer: Pacer,
        open_link: OpenLink,
        linked: Container[str],
        latest_dials: Mapping[str, str],
    ) -> None:
        """`linked`: names of links. `latest_dials`: by peer, the dial behind the latest link with it."""
        self.policy = policy
        self._directory = directory
        self._refusals = refusals
        self._pacer = pacer
        self._open_link = open_link
        self._linked = linked
        self._latest_dials = latest_dials
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seed_dials: dict[Address, asyncio.Event] = {}
        """Seeds being dialled; the event is set when the dial is over."""
        self._timer: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None
        self._started = asyncio.Event()

    def start(self, endpoint: Endpoint) -> None:
        """Dial from this endpoint; before, nothing is dialled."""
        self._endpoint = endpoint
        self._started.set()

    def stop(self) -> None:
        """Dial nobody any more."""
        self._endpoint = None
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def want(self, names: Iterable[str]) -> None:
        """These peers from now on and no others."""
        self.policy.want(names, self._linked.__contains__, mono_ns())
        self.start_due()

    def start_due(self) -> None:
        """Start the dials that are due, set the one timer for the next."""
        if self._endpoint is None:
            return
        for name in self.policy.start_due(mono_ns()):
            task = self._loop.create_task(self._dial(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._timer is not None:
            self._timer.cancel()
        due = self.policy.next_wakeup()
        self._timer = None if due is None else self._loop.call_later(delay_s(due), self.start_due)

    async def dial_seed(self, address: Address) -> str:
        """Dial whoever serves at this address, once this node dials at all, and make a link of it unless there is one; its name.

        Raises P2pnetError, OSError.
        """
        await self._started.wait()
        over = self._seed_dials[address] = asyncio.Event()
        try:
            await self._pacer.turn()
            try:
                return await self._dial_seed_once(address)
            finally:
                self._pacer.done()
        finally:
            over.set()
            del self._seed_dials[address]

    async def _dial(self, name: str) -> None:
        # Unless it is cancelled, a dial ends with exactly one of `failed` and `settled`: without, the peer is never redialled.
        await self._wait_for_seed_dial(name)
        await self._pacer.turn()
        try:
            if self.policy.wants_dial(name):  # the peer may have dialled us in the meantime
                await self._dial_once(name)
        except (P2pnetError, OSError) as error:
            if isinstance(error, TrustError):
                self._refusals.note(error.kind, str(error), peer=name)
            self.policy.failed(name, mono_ns())
        else:
            self.policy.settled(name)
        finally:
            self._pacer.done()
        self.start_due()

    async def _dial_once(self, name: str) -> None:
        """A link with `name`, or an error."""
        addresses, uri = self._directory.addresses(name), self._directory.uri_of(name)
        if not addresses or uri is None:
            raise OSError(f"{name} has no address")
        # Read before the connection is made: a link that comes up meanwhile did cross this dial.
        knows = self._latest_dials.get(name, "")
        await self._open_link(name, await self._connect_any(addresses, uri), knows)

    async def _wait_for_seed_dial(self, name: str) -> None:
        """Wait while the peer is dialled as a seed: a second connection beside that would only be closed again."""
        for address in self._directory.addresses(name):
            if (over := self._seed_dials.get(address)) is not None:
                await over.wait()

    async def _connect_any(self, addresses: list[Address], uri: str) -> Connection:
        """A connection through the first address that leads to the peer."""
        for address in addresses[:-1]:
            try:
                return await self._connect(address, uri)
            except (P2pnetError, OSError):
                continue  # the error of the last address is the one reported
        return await self._connect(addresses[-1], uri)

    async def _connect(self, address: Address, uri: str | None) -> Connection:
        if self._endpoint is None:
            raise OSError("the node stops")
        return await self._endpoint.connect(address, expect=uri, new=True, timeout_s=DIAL_S)

    async def _dial_seed_once(self, address: Address) -> str:
        connection = await self._connect(address, None)
        name = self._directory.name_of(connection.uri)
        if name is None:
            connection.close(CloseCode.REFUSED, "no node of this subnet")
            raise OSError(f"the seed {address_text(*address)} is {connection.uri}, no node of this subnet")
        if name in self._linked:
            connection.close(CloseCode.DONE, "a link already")
            return name
        await self._open_link(name, connection, self._latest_dials.get(name, ""))
        return name
