"""The lab's QUIC connections: one to every node, under the lab's own leaf, made again whenever one ends."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from p2pnet.lab.nodes.node_client import ASK_S, NodeSilentError
from p2pnet.model import limits
from p2pnet.model.control import ControlReply
from p2pnet.model.errors import P2pnetError
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.registry import Member
from p2pnet.model.text import parse_address
from p2pnet.quic import CloseCode, CloseReason, Connection, Endpoint, Settings, Trust
from p2pnet.quic.hosts import loopback
from p2pnet.quic.trust import IdentitySource

DIAL_S = 10.0  # a crowd of starting nodes is slow to answer; a dial whose process dies is given up at once
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0
REPLY_BYTES_MAX = 16 * limits.MIB  # 5,000 events of 64 hex digits and names are 2 MiB; a range is 1 MiB

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


class Links:
    """A `Gateway` over QUIC. `on_up` and `on_down` are told of every link that comes and goes."""

    def __init__(self, identity: IdentitySource, dialable: Callable[[str], bool], *, host: str | None = None) -> None:
        """`host`: the address to dial from; None: loopback."""
        self._identity = identity
        self._host = loopback() if host is None else host
        self._dialable = dialable
        self._endpoint: Endpoint | None = None
        self._members: dict[str, Member] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._kicks: dict[str, asyncio.Event] = {}
        self._connections: dict[str, Connection] = {}
        self._dials: dict[str, asyncio.Task[Connection]] = {}
        self._lost: set[str] = set()
        """Nodes whose link was lost while their process was not known to end, and is not back."""
        self.problems: dict[str, str] = {}
        """Why a node could not be reached last."""
        self.on_up: Callable[[str], None] = lambda _node: None
        self.on_down: Callable[[str], None] = lambda _node: None
        self._decoder: msgspec.msgpack.Decoder[ControlReply] = msgspec.msgpack.Decoder(ControlReply)
        self._encoder = msgspec.msgpack.Encoder()

    async def open(self) -> None:
        """Bind the lab's endpoint. It dials and is not dialled."""
        trust = Trust.subnet(self._identity, self._admits)
        self._endpoint = await Endpoint.bind(
            (self._host, 0), trust=trust, settings=Settings(reply_bytes_max=REPLY_BYTES_MAX), listens=False
        )

    async def close(self) -> None:
        """Close all links with a reason."""
        keepers = list(self._keepers.values())
        self.follow(())
        await asyncio.gather(*keepers, return_exceptions=True)
        if self._endpoint is not None:
            self._endpoint.close(0x10, "the lab stops")
            await self._endpoint.wait_closed()

    def follow(self, members: Iterable[Member]) -> None:
        """Keep links with these members, and no others."""
        wanted = {member.name: member for member in members}
        for name in self._keepers.keys() - wanted.keys():
            self._keepers.pop(name).cancel()
            self._lost.discard(name)
            self._kicks.pop(name)
        for name, member in wanted.items():
            self._members[name] = member
            if name not in self._keepers:
                self._kicks[name] = asyncio.Event()
                self._keepers[name] = asyncio.create_task(self._keep(name), name=f"link with {name}")
        self._members = wanted

    def kick(self, node: str) -> None:
        """Something about the node changed: dial now if it is not connected."""
        if node in self._kicks:
            self._kicks[node].set()

    def drop(self, node: str) -> None:
        """The process at the other end is gone: end the link now, not when it has been silent for long."""
        connection, dial = self._connections.get(node), self._dials.get(node)
        if connection is not None:
            connection.close(0, "the node's process ended")
        if dial is not None:
            dial.cancel()
        self.kick(node)

    def connected(self, node: str) -> bool:
        """Whether there is a link now."""
        return node in self._connections

    def identity_changed(self) -> None:
        """The lab has a new leaf: links that live go on, new ones use it."""
        if self._endpoint is not None:
            self._endpoint.identity_changed()

    async def ask(self, node: str, route: bytes, request: msgspec.Struct, *, timeout_s: float = ASK_S) -> ControlReply:
        """See `Gateway`."""
        connection = self._connections.get(node)
        if connection is None:
            raise NodeSilentError(node, self.problems.get(node) or "it is not connected")
        try:
            message = await connection.request(route, self._encoder.encode(request), timeout_s=timeout_s)
            return self._decoder.decode(message.payload)
        except (P2pnetError, TimeoutError) as error:
            raise NodeSilentError(node, str(error) or "no answer in time") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeSilentError(node, f"its answer is none: {error}") from error

    # --- keeping ---

    def _admits(self, uri: str) -> str | None:
        if any(member.uri == uri for member in self._members.values()):
            return None
        return "it is no member of this subnet"

    async def _keep(self, node: str) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            kick = self._kicks[node]
            kick.clear()
            if self._dialable(node):
                connection = await self._dial(node)
                if connection is not None:
                    backoff_s = BACKOFF_FIRST_S
                    await self._until_closed(node, connection)
                    continue
            try:
                await asyncio.wait_for(kick.wait(), backoff_s)
                backoff_s = BACKOFF_FIRST_S
            except TimeoutError:
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)

    async def _dial(self, node: str) -> Connection | None:
        assert self._endpoint is not None  # noqa: S101 - opened before anybody is followed
        member = self._members[node]
        address = parse_address(member.addresses[0]) or (member.addresses[0], 0)
        dial = asyncio.create_task(self._endpoint.connect(address, expect=member.uri, timeout_s=DIAL_S))
        self._dials[node] = dial
        try:
            await asyncio.wait([dial])
            return dial.result()
        except asyncio.CancelledError:
            if not dial.cancelled():
                dial.cancel()
                raise  # it is the keeper that has been cancelled
            return None
        except (P2pnetError, OSError) as error:
            if self.problems.get(node) != str(error):
                log.info("%s is not reachable: %s", node, error)
            self.problems[node] = str(error)
            return None
        finally:
            self._dials.pop(node, None)

    def _say_lost(self, node: str, reason: CloseReason | None) -> None:
        """An end that the lab meant, or the node, is told by who meant it."""
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
            self._say_lost(node, connection.close_reason)
            self.on_down(node)
            if not connection.closed:
                connection.close(0, "the lab needs this link no more")
