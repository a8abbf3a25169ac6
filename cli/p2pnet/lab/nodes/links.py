"""The lab's QUIC connections: one to every node, under the lab's own leaf, made again whenever one ends."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

import msgspec

from p2pnet.lab.nodes.node_client import ANSWER_S, NodeSilentError
from p2pnet.model import limits
from p2pnet.model.backoff import next_wait
from p2pnet.model.control import ControlReply
from p2pnet.model.errors import P2pnetError, TrustError
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.registry import Member
from p2pnet.model.text import parse_address
from p2pnet.quic import Address, CloseCode, CloseReason, Connection, Endpoint, Settings, Trust
from p2pnet.quic.hosts import loopback
from p2pnet.quic.trust import IdentitySource, PeerName
from p2pnet.trust import ended_at

DIAL_S = 10.0  # many nodes starting at once are slow to answer; a dial whose process ends is cancelled at once
LOOK_S = 1.0  # between two looks where the name that is dialled leads
REDIAL_FIRST_S = 0.05  # a node that has just started answers the second dial at the latest
REDIAL_MAX_S = 2.0  # the longest that a node that is back is not noticed
REPLY_BYTES_MAX = 16 * limits.MIB  # 5,000 events of 64 hex digits and names are 2 MiB; a range is 1 MiB

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


class StaleTrust(Trust):
    """Another trust, which also admits a peer whose leaf has ended if `tolerates(uri)`: whoever measures adversaries must
    speak with them.
    """

    def __init__(self, identity: IdentitySource, strict: Trust, tolerates: Callable[[str], bool]) -> None:
        super().__init__(identity)
        self._strict = strict
        self._tolerates = tolerates

    def admit(self, chain_der: list[bytes], *, expect: str | None, dialled: bool, now: datetime) -> PeerName:
        """See `Trust.admit`."""
        try:
            return self._strict.admit(chain_der, expect=expect, dialled=dialled, now=now)
        except TrustError as error:
            if error.kind != "expired" or expect is None or not self._tolerates(expect):
                raise
            # All else must be right, at the last second of the leaf.
            ended = ended_at(chain_der)
            peer = self._strict.admit(chain_der, expect=expect, dialled=dialled, now=ended - timedelta(seconds=1))
            return PeerName(peer.uri, None, peer.fingerprint)


class Links:
    """A `NodeClient` over QUIC. `on_up` and `on_down` are called with the node of every link that comes and goes."""

    def __init__(
        self,
        identity: IdentitySource,
        dialable: Callable[[str], bool],
        *,
        host: str | None = None,
        stale: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`dialable(node)`: whether a dial makes sense now; `host`: the address to dial from, None for loopback.

        `stale()`: the nodes whose leaf may have ended, because that is how they misbehave.
        """
        self._stale = stale
        self._identity = identity
        self._host = loopback() if host is None else host
        self._dialable = dialable
        self._endpoint: Endpoint | None = None
        self._members: dict[str, Member] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By node, the task that keeps its link."""
        self._wakeups: dict[str, asyncio.Event] = {}
        """By node, set to end a wait between two dials."""
        self._connections: dict[str, Connection] = {}
        self._attempts: dict[str, asyncio.Task[Connection]] = {}
        self._lost: set[str] = set()
        """Nodes whose link was lost without an order, until they have one again: both are logged."""
        self.problems: dict[str, str] = {}
        """Why there is no link with a node, by node."""
        self.on_up: Callable[[str], None] = lambda _node: None
        self.on_down: Callable[[str], None] = lambda _node: None
        self._decoder: msgspec.msgpack.Decoder[ControlReply] = msgspec.msgpack.Decoder(ControlReply)
        self._encoder = msgspec.msgpack.Encoder()

    async def open(self) -> None:
        """Bind the lab's endpoint, which dials and does not listen. Raises OSError."""
        trust = StaleTrust(self._identity, Trust.subnet(self._identity, self._admits), self._may_be_stale)
        self._endpoint = await Endpoint.bind(
            (self._host, 0), trust=trust, settings=Settings(reply_bytes_max=REPLY_BYTES_MAX), listens=False
        )

    async def close(self) -> None:
        """Close all links, with a reason for the nodes."""
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._endpoint is not None:
            self._endpoint.close(0x10, "the lab stops")
            await self._endpoint.wait_closed()

    def follow(self, members: Iterable[Member]) -> None:
        """Keep a link with each of these members, and with no others."""
        wanted = {member.name: member for member in members}
        for name in self._tasks.keys() - wanted.keys():
            self._tasks.pop(name).cancel()
            self._lost.discard(name)
            self._wakeups.pop(name)
        for name, member in wanted.items():
            self._members[name] = member
            if name not in self._tasks:
                self._wakeups[name] = asyncio.Event()
                self._tasks[name] = asyncio.create_task(self._keep(name), name=f"link with {name}")
        self._members = wanted

    def dial_now(self, node: str) -> None:
        """Dial the node without further wait, if it has no link: something about it has changed."""
        if node in self._wakeups:
            self._wakeups[node].set()

    def dial_anew(self, node: str) -> None:
        """As `dial_now`, and in place of a dial under way: that was begun before anybody could answer, and waits meanwhile."""
        if (dial := self._attempts.get(node)) is not None:
            dial.cancel()
        self.dial_now(node)

    def drop(self, node: str) -> None:
        """End the link now, without waiting for QUIC's idle timeout: the process at the other end is gone."""
        connection, dial = self._connections.get(node), self._attempts.get(node)
        if connection is not None:
            connection.close(0, "the node's process ended")
        if dial is not None:
            dial.cancel()
        self.dial_now(node)

    def connected(self, node: str) -> bool:
        """Whether there is a link now."""
        return node in self._connections

    def identity_changed(self) -> None:
        """Use the lab's new leaf for new links; existing ones stay."""
        if self._endpoint is not None:
            self._endpoint.identity_changed()

    async def ask(
        self, node: str, route: bytes, request: msgspec.Struct, *, timeout_s: float = ANSWER_S
    ) -> ControlReply:
        """See `NodeClient`."""
        connection = self._connections.get(node)
        if connection is None:
            raise NodeSilentError(node, self.problems.get(node) or "it is not connected")
        try:
            message = await connection.request(route, self._encoder.encode(request), timeout_s=timeout_s)
            return self._decoder.decode(message.payload)
        except (P2pnetError, TimeoutError) as error:
            raise NodeSilentError(node, str(error) or "no answer in time") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeSilentError(node, f"its answer cannot be read: {error}") from error

    # --- keeping links ---

    def _admits(self, uri: str) -> str | None:
        if any(member.uri == uri for member in self._members.values()):
            return None
        return "it is no member of this subnet"

    def _may_be_stale(self, uri: str) -> bool:
        return any(member.uri == uri for node in self._stale() if (member := self._members.get(node)) is not None)

    async def _keep(self, node: str) -> None:
        wait_s = 0.0
        while True:
            wakeup = self._wakeups[node]
            wakeup.clear()
            if self._dialable(node):
                connection = await self._dial(node)
                if connection is not None:
                    wait_s = 0.0
                    await self._until_closed(node, connection)
                    continue
            wait_s = next_wait(wait_s, REDIAL_FIRST_S, REDIAL_MAX_S)
            try:
                await asyncio.wait_for(wakeup.wait(), wait_s)
                wait_s = 0.0
            except TimeoutError:
                pass

    async def _dial(self, node: str) -> Connection | None:
        assert self._endpoint is not None  # noqa: S101 - opened before anybody is followed
        member = self._members[node]
        address = parse_address(member.addresses[0]) or (member.addresses[0], 0)
        dial = asyncio.create_task(self._endpoint.connect(address, expect=member.uri, timeout_s=DIAL_S))
        look = asyncio.create_task(_cancel_if_moved(address, dial))
        self._attempts[node] = dial
        try:
            await asyncio.wait([dial])
            return dial.result()
        except asyncio.CancelledError:
            if not dial.cancelled():
                dial.cancel()
                raise  # the task that keeps the link has been cancelled, not the dial
            return None
        except (P2pnetError, OSError) as error:
            if self.problems.get(node) != str(error):
                log.info("%s is not reachable: %s", node, error)
            self.problems[node] = str(error)
            return None
        finally:
            self._attempts.pop(node, None)
            look.cancel()

    def _log_loss(self, node: str, reason: CloseReason | None) -> None:
        # An end that the lab or the node ordered is logged where it was ordered.
        if reason is not None and reason.kind != "local" and reason.code != CloseCode.SHUTTING_DOWN:
            about_nodes.warning("%s: the lab's link with it is lost: %s", node, reason)
            self._lost.add(node)

    async def _until_closed(self, node: str, connection: Connection) -> None:
        closed = asyncio.Event()
        connection.add_done_callback(lambda _connection: closed.set())
        if connection.closed:
            closed.set()
        self._connections[node] = connection
        self.problems.pop(node, None)
        if node in self._lost:
            about_nodes.info("%s: the lab's link with it is back", node)
            self._lost.discard(node)
        self.on_up(node)
        try:
            await closed.wait()
        finally:
            self._connections.pop(node, None)
            self.problems[node] = f"the connection ended: {connection.close_reason or 'the lab needs it no more'}"
            self._log_loss(node, connection.close_reason)
            self.on_down(node)
            if not connection.closed:
                connection.close(0, "the lab needs this link no more")


async def _cancel_if_moved(address: Address, dial: asyncio.Task[Connection]) -> None:
    """Cancel a dial when the name leads to another address: its pod was made again, and nobody answers at the former one."""
    loop = asyncio.get_running_loop()
    before: set[str | int] | None = None
    while True:
        with contextlib.suppress(OSError):  # a pod that is being made has no address
            found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
            now = {sockaddr[0] for *_, sockaddr in found}
            if before not in (None, now):
                dial.cancel()
                return
            before = now
        await asyncio.sleep(LOOK_S)
