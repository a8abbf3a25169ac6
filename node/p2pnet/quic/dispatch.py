"""The dispatcher of one endpoint: hands arriving datagrams to connections, makes new ones, and flushes once per loop turn.

Why once: everything a loop turn brings about then leaves in as few packets, and as few system calls, as it fits into.
"""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from p2pnet.model.errors import LimitError
from p2pnet.model.ids import ConnectionId
from p2pnet.quic.addresses import host_of, remote
from p2pnet.quic.connection import Connection
from p2pnet.quic.connection_index import ConnectionIndex
from p2pnet.quic.engine import (
    FIXED_BIT,
    RESET_TOKEN_BYTES,
    Admission,
    Admittance,
    Configurations,
    Datagram,
    Engine,
    Gate,
    Resets,
    destination_cid,
)
from p2pnet.quic.ledger import windows
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Transport
from p2pnet.quic.trust import Trust

TURN_EVENTS_MAX = 40
"""Stream events of one connection in one loop turn, or connections that got a datagram: beyond, they are handled before more
datagrams are, so that latency does not grow with the length of a burst."""
HELD_DATAGRAMS_MAX = 256
"""Datagrams that may wait for the next loop turn; no more are read meanwhile than one loop turn brings."""
EVICT_AFTER_S = 0.25
"""Seconds of silence after which a pending handshake may be evicted: one that still lives speaks sooner, unless its host is
starved of CPU."""

_ids = itertools.count(1)

EgressHook = Callable[[Connection | None, list[Datagram]], list[Datagram]]
"""Given datagrams that are about to leave, and their connection (None: answers to strangers); returns those to send now."""
IngressHook = Callable[[list[Datagram]], list[Datagram]]
"""Given datagrams that one read has brought, in order; returns those to take now."""
ForeignHook = Callable[[bytes, Any], None]
"""Given a datagram that is none of QUIC's, and the raw address it came from."""


class EndpointHooks(Protocol):
    """What the dispatcher reports to its endpoint, and asks of it."""

    def established(self, connection: Connection) -> None:
        """The handshake is complete and the peer's certificate was admitted."""

    def moved(self, connection: Connection) -> None:
        """The peer's address has changed."""

    def ended(self, connection: Connection, failure: Exception | None) -> None:
        """The connection is closed or lost; `failure` only if it was never established."""

    def incoming(self, address: Any) -> Admittance:
        """What to do with a handshake that an unauthenticated peer begins from this address."""

    def find(self, address: Any) -> list[Connection]:
        """Live connections with the peer at this address."""

    def all_disposed(self) -> None:
        """The endpoint is closing, and its last connection has been disposed of."""


class Dispatcher:
    """Makes, feeds, flushes and disposes of the connections of one endpoint. All methods belong to the loop."""

    def __init__(
        self,
        transport: Transport,
        trust: Trust,
        settings: Settings,
        owner: EndpointHooks,
        *,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes] = os.urandom,
        reset_key: bytes,
        listens: bool,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.trust = trust
        self.settings = settings
        self.clock = clock
        self.utc_now = utc_now
        self.draining = False
        self.listens = listens
        self.egress: EgressHook | None = None
        self.ingress: IngressHook | None = None
        self.on_foreign: ForeignHook | None = None
        self.transport = transport
        self.index = ConnectionIndex()
        self.handshakes: dict[Connection, None] = {}
        """Connections not established yet, dialled or accepted; oldest first."""
        self.live: dict[int, Connection] = {}
        """Established connections by id, oldest first."""
        self.gate = Gate(
            settings,
            self._answer_stranger,
            resets=(resets := Resets(reset_key)),
            random_bytes=random_bytes,
            decide=owner.incoming,
            make_room=self._make_room,
        )
        self.owner = owner
        self._random_bytes = random_bytes
        self._resets = resets
        self._configurations = Configurations(trust, settings)
        self._windows = windows(settings.connection_window_bytes, settings.streams_max, settings.gaps_max)
        self._undisposed: set[Connection] = set()
        self._pending: Counter[Any] = Counter()  # handshakes of unauthenticated clients, by host
        self._dirty: list[Connection] = []
        self._later: list[Connection] = []
        self._held: list[Datagram] = []
        self._in_turn = False
        self._scheduled = False
        self._closing = False

    def start(self) -> None:
        """Begin to receive."""
        self.transport.start(self._arrived, self._on_too_big)

    # For connections (see connection.DispatcherHooks)

    def mark(self, connection: Connection) -> None:
        """Flush this connection at the end of this loop turn."""
        if not connection.marked:
            connection.marked = True
            self._dirty.append(connection)
            if not self._in_turn and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self.flush)

    def mark_later(self, connection: Connection) -> None:
        """Flush this connection in the next loop turn."""
        connection.marked = True
        self._later.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def transmit(self, connection: Connection, datagrams: list[Datagram]) -> None:
        """Send these, unless `egress` says otherwise."""
        # Counted here, before egress: to whoever counts bytes, what the network loses was sent.
        connection.sent_bytes += sum(len(data) for data, _ in datagrams)
        if self.egress is not None:
            datagrams = self.egress(connection, datagrams)
        self.transport.send(datagrams)

    def established(self, connection: Connection) -> None:
        """The handshake is complete: give the connection its id."""
        self._leave_handshake(connection)
        connection.id = ConnectionId(next(_ids))
        self.live[connection.id] = connection
        self.owner.established(connection)

    def moved(self, connection: Connection) -> None:
        """The peer's address has changed."""
        self.owner.moved(connection)

    def ended(self, connection: Connection, failure: Exception | None) -> None:
        """The connection is closed or lost: remove it from every list before any callback can see it there."""
        self._leave_handshake(connection)
        self.live.pop(connection.id, None)
        self.owner.ended(connection, failure)

    def disposed(self, connection: Connection) -> None:
        """The connection sends and receives nothing any more."""
        self._undisposed.discard(connection)
        if self._closing and not self._undisposed:
            self.owner.all_disposed()

    # For the endpoint

    def dial(self, address: Any, expect: str | None, timeout_s: float) -> Connection:
        """Begin a handshake with the peer at this address, which must prove the URI `expect`.

        Raises LimitError when `connections_max` are open.
        """
        # Pending handshakes count: they become connections without asking again.
        if len(self.live) + len(self.handshakes) >= self.settings.connections_max:
            raise LimitError(f"{self.settings.connections_max} connections are open: connections_max")
        connection = self._make(address, dialled=True, expect=expect)
        connection.dial(timeout_s)
        return connection

    def close(self, code: int, reason: str) -> bool:
        """Close every connection; whether any of them still has close packets to repeat."""
        self._closing = True
        self.transport.forget()  # close packets must not wait behind data that nobody will read
        for connection in [*self.live.values(), *self.handshakes]:
            connection.close(code, reason)
        self.flush()
        return bool(self._undisposed)

    def cut(self) -> None:
        """Close the socket: nothing is sent or received any more."""
        for connection in list(self._undisposed):
            connection.stop()
        self._undisposed.clear()
        self.index.clear()
        self._held.clear()
        self._configurations.close()
        self.transport.close()

    def flush(self) -> None:
        """Send what this loop turn brought about, for every marked connection."""
        self._scheduled = False
        self._in_turn = True
        now = self.clock()
        # What had more to send than one flight goes on together with what is new.
        self._dirty += self._later
        self._later = []
        try:
            # Flushing may mark others: a callback of one connection may write on another.
            while self._dirty:
                dirty, self._dirty = self._dirty, []
                for connection in dirty:
                    try:
                        connection.flush(now)
                    except Exception as error:  # noqa: BLE001  # reported by crash; other connections must not suffer
                        connection.crash(error)
        finally:
            self._in_turn = False

    def connection_for(self, data: bytes) -> Connection | None:
        """The connection that this datagram is for, by its connection id."""
        return self.index.by_cid.get(destination_cid(data))

    def on_datagrams(self, datagrams: list[Datagram] | None = None) -> None:
        """Feed datagrams to their connections, let these act, and flush: at once, or after the tasks that were woken.

        `datagrams`: what one read of the socket brought, in order of arrival; None: go on with those held since the last loop
        turn. Data that is ready leaves at once. Mere acknowledgements wait for the tasks woken just now: what they send next
        then shares a packet with them.
        """
        if datagrams is not None:
            if self._held:
                self._held += datagrams  # behind those for which the next loop turn is already scheduled
                return
            self._held = datagrams
        self._in_turn = eager = True
        try:
            now = self.clock()
            eager = False
            for connection in self._feed(now):
                try:
                    connection.process(now)
                except Exception as error:  # noqa: BLE001  # reported by crash; other connections must not suffer
                    connection.crash(error)
                # Also without events: there is at least an acknowledgement to send or to plan.
                self.mark(connection)
                eager = eager or connection.engine.has_data
        finally:
            if eager or self._closing:
                self.flush()
            else:
                self._in_turn = False
                if not self._scheduled:
                    self._scheduled = True
                    self.loop.call_soon(self.flush)
            if self._held:
                self.loop.call_soon(self.on_datagrams)

    # Private

    def _arrived(self, datagrams: list[Datagram]) -> None:
        """The transport has read these."""
        if self.ingress is not None:
            datagrams = self.ingress(datagrams)
            if not datagrams:
                return
        self.on_datagrams(datagrams)

    def _answer_stranger(self, datagrams: list[Datagram]) -> None:
        """Send what the gate answers without a connection, unless `egress` says otherwise."""
        if self.egress is not None:
            datagrams = self.egress(None, datagrams)
        self.transport.send(datagrams)

    def _feed(self, now: float) -> dict[Connection, None]:
        """Give datagrams to their connections until there is enough to act on; the connections that got any."""
        held, self._held = self._held, []
        enough = len(held) - HELD_DATAGRAMS_MAX
        by_cid = self.index.by_cid
        touched: dict[Connection, None] = {}
        for index, (data, address) in enumerate(held, 1):
            connection = by_cid.get(destination_cid(data)) or self._begin(data, address, now)
            if connection is None:
                continue
            try:
                # A dialler keeps answering from its one socket address; only servers bound to every address need the
                # local one.
                connection.receive(data, remote(address) if connection.dialled else address, now)
            except Exception as error:  # noqa: BLE001  # as above
                connection.crash(error)
            touched[connection] = None
            events = max(connection.engine.events_waiting, len(touched))
            if events >= TURN_EVENTS_MAX and index > enough:
                self._held = held[index:]
                break
        return touched

    def _make(
        self, address: Any, *, dialled: bool, expect: str | None, admission: Admission | None = None
    ) -> Connection:
        def make_engine(admit: Callable[[list[bytes]], None]) -> Engine:
            return Engine(
                configurations=self._configurations,
                settings=self.settings,
                windows=self._windows,
                is_client=dialled,
                admit=admit,
                ask_client=self.trust.asks_client,
                random_bytes=self._random_bytes,
                reset_token=self._resets.token,
                original_cid=admission.original_cid if admission else None,
                retry_cid=admission.retry_cid if admission else None,
            )

        connection = Connection(self, make_engine, address=address, dialled=dialled, expect=expect)
        self.handshakes[connection] = None
        self._undisposed.add(connection)
        if not dialled:
            self._pending[host_of(address)] += 1
        return connection

    def _leave_handshake(self, connection: Connection) -> None:
        if connection not in self.handshakes:
            return
        del self.handshakes[connection]
        if not connection.dialled:
            host = host_of(connection.first_address)
            self._pending[host] -= 1
            if not self._pending[host]:
                del self._pending[host]

    def _begin(self, data: bytes, address: Any, now: float) -> Connection | None:
        """The connection that this datagram begins, which is for none in the index; None if it begins none."""
        if self.on_foreign is not None and data and not data[0] & FIXED_BIT:
            self._pass_foreign(self.on_foreign, data, address)
            return None
        if self._is_reset(data, address) or self.draining or self._closing or not self.listens:
            return None
        # After the cheap tests: judging may cost a decryption and a token.
        admission = self.gate.judge(
            data,
            address,
            now=now,
            handshakes=self._pending.total(),
            connections=len(self.live) + len(self.handshakes),
        )
        if admission is None or self._closing:  # the owner was asked, and may have closed the endpoint
            return None
        try:
            connection = self._make(address, dialled=False, expect=None, admission=admission)
        except Exception as error:  # noqa: BLE001  # an identity that cannot be read, say: it costs this handshake only
            self.loop.call_exception_handler({"message": "no handshake can begin", "exception": error})
            return None
        connection.accept(admission.destination_cid)
        return connection

    def _pass_foreign(self, hook: ForeignHook, data: bytes, address: Any) -> None:
        if self._closing:
            return
        try:
            hook(data, address)
        except Exception as error:  # noqa: BLE001  # the owner's mistake: connections must not suffer
            self.loop.call_exception_handler({"message": "on_foreign failed", "exception": error})

    def _is_reset(self, data: bytes, address: Any) -> bool:
        """Whether this is a stateless reset (RFC 9000 section 10.3), from the address of its connection; acts on it."""
        if len(data) <= RESET_TOKEN_BYTES or data[0] & 0xC0 != 0x40:
            return False
        connection = self.index.by_reset_token.get(data[-RESET_TOKEN_BYTES:])
        if connection is None or remote(address) != remote(connection.raw_address):
            return False
        connection.peer_reset()
        return True

    def _make_room(self, address: Any) -> bool:
        """Evict a pending handshake, one that is silent or of a host with more than its share; whether there was one.

        Called when `handshakes_max` are pending: so no single host can keep all others out.
        """
        host = host_of(address)
        greedy, count = self._pending.most_common(1)[0]
        # Oldest first, so the one most likely to be dead goes first.
        silent_since = self.clock() - EVICT_AFTER_S
        for connection in self.handshakes:
            if connection.dialled:
                continue
            owner = host_of(connection.first_address)
            if connection.heard_at < silent_since or (owner == greedy and count > self._pending[host] + 1):
                connection.close(0, "")
                return True
        return False

    def _on_too_big(self, address: Any, size: int) -> None:
        """The system refused a datagram of this many bytes to this address."""
        place = remote(address)
        for connection in [*self.owner.find(address), *self.handshakes]:
            if remote(connection.raw_address) == place:
                connection.too_big(size)
