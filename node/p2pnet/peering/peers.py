"""The peers of a node: connections whose hellos are through become links, at most one per peer.

A connection is authenticated by quic, then pending until its hello is answered, then a link or closed. What the rules
decide stands in `dial_policy` (which of two connections stays) and in a `PeerDirectory` (who may become a link).
"""

import asyncio
import logging
import os
from collections.abc import Callable, Container
from typing import Protocol

import msgspec

from p2pnet.model import limits
from p2pnet.model.errors import P2pnetError, RemoteError
from p2pnet.model.events import EventKind
from p2pnet.model.peer_messages import ROUTE_HELLO, Hello
from p2pnet.peering.clock import NS, mono_ns
from p2pnet.peering.dial_policy import Candidate, Choice, DialPolicy, choose, is_lower, no_peer
from p2pnet.peering.dialer import Dialer
from p2pnet.peering.discovery import PeerDirectory
from p2pnet.peering.pacing import Pacer, Rate
from p2pnet.peering.refusals import EventLog, Refusals
from p2pnet.quic import CloseCode, CloseReason, Connection, Endpoint, Message

PROTOCOL = 2
"""Version of what nodes say to each other after the hello; another one is refused."""
HELLO_S = limits.HANDSHAKE_S
"""From an authenticated connection to its hello, either way."""
LINGER_S = 1.0
"""How long a connection outlives its replacement: answers under way still arrive."""
EARLY_MAX = limits.STREAMS_MAX
"""Messages of a peer that may arrive before its hello is answered: streams overtake each other."""
PENDING_PER_PEER_MAX = 4
"""Connections of one peer whose hello is still to come: crossed dials and a restart need fewer."""
CROSSED = "crossed"
"""Reason of a refused hello: this dial loses to one in the other direction."""
NO_EDGE = "no edge"
"""Reason of a refused hello: the topology does not connect the peer with this node."""
ORDERLY = frozenset({CloseCode.DONE, CloseCode.SHUTTING_DOWN, CloseCode.REPLACED, CloseCode.REMOVED, CloseCode.RENEWED})
"""Codes of closes that somebody meant: logged as information, all others as warnings."""

log = logging.getLogger("p2pnet.node")


class PeerListener(Protocol):
    """Who is told about links: the node's service."""

    def link_up(self, name: str, connection: Connection) -> None:
        """A link is in use; it may replace a former one of the same peer, for which no `link_down` comes."""

    def link_down(self, name: str, connection: Connection) -> None:
        """The link in use has ended."""

    def peer_message(self, name: str, connection: Connection, message: Message) -> None:
        """A message on the link in use."""


class PeerLink(msgspec.Struct, eq=False):
    """The connection in use with a peer."""

    name: str
    connection: Connection
    candidate: Candidate


class PendingConnection(msgspec.Struct, eq=False):
    """An authenticated connection whose hellos are not through."""

    name: str
    connection: Connection
    since_ns: int
    dial: str = ""
    """Random name of the dial that made it, see `Hello.dial`."""
    knows: str = ""
    """See `Hello.knows`."""
    early: list[Message] = msgspec.field(default_factory=list)
    """Messages that overtook the hello, kept for the link."""


class HelloRefusedError(RemoteError):
    """The peer is who its certificate says, and there will be no link."""


class Peers:
    """Links and pending connections of one node. Executes `DialPolicy` and `choose`; asks its `PeerDirectory` whom to take."""

    def __init__(
        self,
        name: str,
        *,
        directory: PeerDirectory,
        events: EventLog,
        refusals: Refusals,
        listener: PeerListener,
        rng: Callable[[], float],
        pacer: Pacer | None = None,
        rate: Rate | None = None,
        at_once: Callable[[str], bool] = no_peer,
    ) -> None:
        """`rng`, `rate` and `at_once` are the `DialPolicy`'s."""
        self._name = name
        self._directory = directory
        self._events = events
        self._refusals = refusals
        self._listener = listener
        self._pending: dict[int, PendingConnection] = {}
        self._connections: dict[int, Connection] = {}
        self._latest_dials: dict[str, str] = {}
        """By peer: the dial behind the latest link with it, also when that is gone."""
        self._ended_bytes = (0, 0)
        """UDP payload sent and received by connections that have ended."""
        self._loop, self._closing = asyncio.get_running_loop(), False
        self._log = LinkLog()
        self.links: dict[str, PeerLink] = {}
        self.last_linked_ns: int | None = None
        """When there last was a link; None before the first."""
        self._policy = DialPolicy(name, rng, rate=rate, at_once=at_once)
        self.dialer = Dialer(
            self._policy,
            directory=directory,
            refusals=refusals,
            pacer=pacer or Pacer(),
            open_link=self._open_link,
            linked=self.links,
            latest_dials=self._latest_dials,
        )

    def start(self, endpoint: Endpoint) -> None:
        """Dial whom the directory wants."""
        self.dialer.start(endpoint)
        self.directory_changed()

    def stop(self) -> None:
        """Dial nobody any more; links stay."""
        self._closing = True
        self.dialer.stop()

    def connection(self, number: int) -> Connection | None:
        """A live connection with a peer by its `id`."""
        found = self._connections.get(number)
        return None if found is None or found.closed else found

    def udp_bytes(self) -> tuple[int, int]:
        """UDP payload sent to and received from peers since the node started, over all connections there ever were."""
        sent, received = self._ended_bytes
        for connection in self._connections.values():
            sent, received = sent + connection.sent_bytes, received + connection.received_bytes
        return sent, received

    # --- who is wanted ---

    def directory_changed(self) -> None:
        """Close links of nodes that were removed, or without an edge; dial whom the directory wants now."""
        # Copies of the tables: closing a connection may change them at once.
        for link in list(self.links.values()):
            if (reason := self._directory.refusal(link.connection.uri)) is not None:
                link.connection.close(CloseCode.REMOVED, reason)
            elif not self._directory.wants(link.name, 0):
                link.connection.close(CloseCode.DONE, NO_EDGE)
        for pending in list(self._pending.values()):
            if (reason := self._directory.refusal(pending.connection.uri)) is not None:
                pending.connection.close(CloseCode.REMOVED, reason)
        self.dialer.want(self._directory.wanted)
        self._log.keep_only(self._directory.wanted)

    def cut(self, name: str, reason: str) -> None:
        """End the link with a node that is no peer any more, if there is one."""
        if (link := self.links.get(name)) is not None:
            link.connection.close(CloseCode.REMOVED, reason)

    def leaf_changed(self) -> None:
        """Connect anew to everyone, make before break: present connections were verified with the former leaf."""
        for name in self.links:
            self._policy.renew(name, mono_ns())
        self.dialer.start_due()

    def close_late(self) -> None:
        """Close connections that never said hello. Called about every second."""
        late = mono_ns() - int(HELLO_S * NS)
        for pending in list(self._pending.values()):
            if pending.since_ns < late:
                pending.connection.close(CloseCode.PROTOCOL_VIOLATION, "no hello")

    # --- connections and hellos ---

    async def _open_link(self, name: str, connection: Connection, knows: str) -> None:
        """Say hello on a connection this node dialled, and make it a link; see `dialer.OpenLink`."""
        pending = self._track(name, connection)
        # Random, not counted: the peer compares names of dials over restarts of either side.
        pending.dial, pending.knows = os.urandom(4).hex(), knows
        mine = write_hello(self._hello(dial=pending.dial, knows=knows))
        try:
            reply = await connection.request(ROUTE_HELLO, mine, timeout_s=HELLO_S)
            hello = read_hello(reply.payload, name)
        except P2pnetError as error:
            connection.close(CloseCode.PROTOCOL_VIOLATION, str(error))
            raise
        except asyncio.CancelledError:
            connection.close(CloseCode.SHUTTING_DOWN, "")
            raise
        if hello.refused:
            connection.close(CloseCode.DONE, "hello refused")
            raise HelloRefusedError(f"{name} refused the hello: {hello.refused}")
        self._establish(pending, hello, ours=True)

    def accepted(self, connection: Connection) -> None:
        """An authenticated connection of a node of this subnet, dialled by it."""
        name = self._directory.name_of(connection.uri)
        same = [pending for pending in self._pending.values() if pending.name == name]
        # Bounded per peer, so that one with a valid leaf cannot fill memory with connections that never say hello.
        if name is None or self._closing or len(same) >= PENDING_PER_PEER_MAX:
            connection.close(CloseCode.TOO_MANY, "too many connections without a hello")
            return
        self._track(name, connection)

    def message(self, connection: Connection, message: Message) -> None:
        """Something arrived on a connection that is not the lab's."""
        link = self.links.get(self._directory.name_of(connection.uri) or "")
        if link is not None and link.connection is connection:
            self._listener.peer_message(link.name, connection, message)
            return
        pending = self._pending.get(connection.id)
        if pending is None:
            return  # the connection has been replaced: its slot tables have ended
        if message.header == ROUTE_HELLO:
            self._on_hello(pending, message)
        elif len(pending.early) < EARLY_MAX:
            pending.early.append(message)
        else:
            connection.close(CloseCode.PROTOCOL_VIOLATION, "no hello")

    def _track(self, name: str, connection: Connection) -> PendingConnection:
        connection.on_closed = self._on_closed
        self._connections[connection.id] = connection
        pending = self._pending[connection.id] = PendingConnection(name, connection, mono_ns())
        return pending

    def _on_hello(self, pending: PendingConnection, message: Message) -> None:
        try:
            hello = read_hello(message.payload, pending.name)
        except P2pnetError as error:
            pending.connection.close(CloseCode.PROTOCOL_VIOLATION, str(error))
            return
        refusal = self._hello_refusal(pending, hello)
        message.reply(write_hello(self._hello(refusal)))
        if refusal:
            # The dialling side closes when it has read why; one that does not is closed by `close_late`.
            if refusal != CROSSED:
                self._refusals.note("hello", refusal, peer=pending.name)
        else:
            self._establish(pending, hello, ours=False)

    def _hello_refusal(self, pending: PendingConnection, hello: Hello) -> str:
        """Why there will be no link; empty: there will."""
        if hello.protocol != PROTOCOL:
            return f"protocol {hello.protocol} is not {PROTOCOL}"
        if not self._directory.wants(pending.name, hello.registry_version):
            return NO_EDGE
        pending.dial, pending.knows = hello.dial, hello.knows
        return CROSSED if self._choose(pending, self._candidate(pending, hello, ours=False)) == "keep" else ""

    def _candidate(self, pending: PendingConnection, hello: Hello, *, ours: bool) -> Candidate:
        return Candidate(hello.incarnation, ours, mono_ns(), pending.dial, pending.knows)

    def _choose(self, pending: PendingConnection, new: Candidate) -> Choice:
        held = self.links.get(pending.name)
        return choose(held.candidate if held else None, new, lower=is_lower(self._name, pending.name))

    def _establish(self, pending: PendingConnection, hello: Hello, *, ours: bool) -> None:
        """Both hellos are fine: make the connection the link, unless the present one is to stay."""
        name, connection = pending.name, pending.connection
        self._pending.pop(connection.id, None)
        if connection.closed:
            if ours:
                raise HelloRefusedError(f"{name} closed the connection")
            return
        new = self._candidate(pending, hello, ours=ours)
        held = self.links.get(name)
        if self._choose(pending, new) == "keep":
            connection.close(CloseCode.REPLACED, CROSSED)
            return
        self.links[name] = PeerLink(name, connection, new)
        self._latest_dials[name] = new.dial
        self.last_linked_ns = new.since_ns
        self._policy.up(name, new.since_ns)
        self._log.up(name, new.since_ns, links=len(self.links), wanted=len(self._directory.wanted))
        if held is not None:
            self._events.add(new.since_ns, EventKind.PEER_DOWN, peer=name, detail="replaced")
            if held.candidate.incarnation != new.incarnation:
                self._log.replaced(name)
        # Down and up carry one time: to readers of events there is no moment without a link.
        self._events.add(new.since_ns, EventKind.PEER_UP, peer=name, detail=hello.incarnation)
        self._listener.link_up(name, connection)
        if held is not None:
            # The peer may not have read our hello yet: closing at once would leave it without a link for a moment.
            self._loop.call_later(LINGER_S, held.connection.close, CloseCode.REPLACED, "replaced by a newer connection")
        # After link_up: the broadcast must know the connection before its messages.
        for message in pending.early:
            self._listener.peer_message(name, connection, message)

    def _on_closed(self, connection: Connection) -> None:
        self._pending.pop(connection.id, None)
        if self._connections.pop(connection.id, None) is not None:
            sent, received = self._ended_bytes
            self._ended_bytes = (sent + connection.sent_bytes, received + connection.received_bytes)
        link = self.links.get(self._directory.name_of(connection.uri) or "")
        if link is None or link.connection is not connection:
            return  # a replaced or pending connection: the link in use is not affected
        now = mono_ns()
        del self.links[link.name]
        self.last_linked_ns = now
        reason = connection.close_reason
        self._events.add(now, EventKind.PEER_DOWN, peer=link.name, detail=str(reason or ""))
        if not self._closing:
            self._log.down(link.name, reason, now)
        self._listener.link_down(link.name, connection)
        self._policy.down(link.name, now)
        self.dialer.start_due()

    def _hello(self, refused: str = "", *, dial: str = "", knows: str = "") -> Hello:
        return Hello(
            name=self._name,
            incarnation=self._events.incarnation,
            protocol=PROTOCOL,
            registry_version=self._directory.version,
            refused=refused,
            dial=dial,
            knows=knows,
        )


def write_hello(hello: Hello) -> bytes:
    """The hello as it travels: msgpack."""
    return msgspec.msgpack.encode(hello)


def read_hello(payload: bytes, name: str) -> Hello:
    """The hello of the peer that its certificate calls `name`. Raises HelloRefusedError for anything else."""
    try:
        hello = msgspec.msgpack.decode(payload, type=Hello)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HelloRefusedError(f"not a hello: {error}") from error
    if hello.name != name:
        raise HelloRefusedError(f"the hello names {hello.name[:80]!r}, the certificate {name}")
    return hello


class LinkLog:
    """Logs which links are lost and found again. The first links get one line together, when all are up."""

    def __init__(self) -> None:
        self._lost_ns: dict[str, int] = {}
        """When links were lost that have not come back."""
        self._complete = False

    def up(self, name: str, now_ns: int, *, links: int, wanted: int) -> None:
        """There is a link with this peer; it makes `links` of those `wanted`."""
        since = self._lost_ns.pop(name, None)
        if since is not None:
            log.info("link with %s is back after %.1f s", name, (now_ns - since) / NS)
        if not self._complete and links >= wanted:
            self._complete = True
            log.info("all %d links are up", wanted)

    def down(self, name: str, reason: CloseReason | None, now_ns: int) -> None:
        """The link has ended."""
        self._lost_ns[name], self._complete = now_ns, False
        orderly = reason is not None and reason.kind in ("local", "application") and reason.code in ORDERLY
        log.log(logging.INFO if orderly else logging.WARNING, "link with %s lost: %s", name, reason or "closed")

    def replaced(self, name: str) -> None:
        """A link took the place of one with a former start of the same node, whose end nobody noticed."""
        log.warning("link with %s lost: it was started again; there is a new one", name)

    def keep_only(self, wanted: Container[str]) -> None:
        """Forget lost links with all other peers: those will not come back."""
        for name in [name for name in self._lost_ns if name not in wanted]:
            del self._lost_ns[name]
