"""Whose datagram is whose, and one flush per turn of the loop: the traffic of one endpoint."""

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
from p2pnet.quic.engine import (
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

TURN_HAPPENINGS = 40  # messages that came, or have arrived, in one turn: then they are dealt with before more is read
HELD_DATAGRAMS_MAX = 256  # that wait for the next turn; no more are read meanwhile than one turn brings
EVICT_AFTER_S = 0.25  # of silence: a handshake that still lives speaks sooner, unless its host is starved of CPU

_ids = itertools.count(1)

Egress = Callable[[Connection, list[Datagram]], list[Datagram]]


class Owner(Protocol):
    """What the traffic tells its endpoint, and asks it."""

    def established(self, connection: Connection) -> None:
        """The handshake is complete, the peer is known."""

    def moved(self, connection: Connection) -> None:
        """The peer speaks from another address now."""

    def ended(self, connection: Connection, failure: Exception | None) -> None:
        """It is over; `failure` when it never was established."""

    def incoming(self, address: Any) -> Admittance:
        """What to do with a stranger at this address."""

    def find(self, address: Any) -> list[Connection]:
        """Live connections with the peer at this address."""

    def quiet(self) -> None:
        """No connection has anything to say any more."""


class Dispatcher:
    """The host of an endpoint's connections: makes them, feeds them, flushes them, buries them."""

    def __init__(
        self,
        transport: Transport,
        trust: Trust,
        settings: Settings,
        owner: Owner,
        *,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        chance: Callable[[int], bytes] = os.urandom,
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
        self.egress: Egress | None = None
        self.transport = transport
        self.handshakes: dict[Connection, None] = {}  # not established yet, dialled or not; oldest first
        self.live: dict[int, Connection] = {}
        self.gate = Gate(
            settings,
            transport.send,
            resets=(resets := Resets(reset_key)),
            chance=chance,
            decide=owner.incoming,
            make_room=self._make_room,
        )
        self.owner = owner
        self._chance = chance
        self._resets = resets
        self._configurations = Configurations(trust, settings)
        self._windows = windows(settings.connection_window_bytes, settings.streams_max, settings.gaps_max)
        self._routes: dict[bytes, Connection] = {}
        self._reset_tokens: dict[bytes, Connection] = {}
        self._unburied: set[Connection] = set()
        self._strangers: Counter[Any] = Counter()  # handshakes not dialled, by host
        self._dirty: list[Connection] = []
        self._later: list[Connection] = []
        self._held: list[Datagram] = []
        self._in_turn = False
        self._scheduled = False
        self._closing = False

    def start(self) -> None:
        """Begin to receive."""
        self.transport.start(self.on_datagrams, self._on_too_big)

    # For connections (see connection.Traffic)

    def mark(self, connection: Connection) -> None:
        """It has something to send this turn."""
        if not connection.marked:
            connection.marked = True
            self._dirty.append(connection)
            if not self._in_turn and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self.flush)

    def mark_later(self, connection: Connection) -> None:
        """It has more to send than one turn's worth: the rest leaves in the next."""
        connection.marked = True
        self._later.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def transmit(self, connection: Connection, datagrams: list[Datagram]) -> None:
        """Send these, unless `egress` says otherwise."""
        if self.egress is not None:
            datagrams = self.egress(connection, datagrams)
        self.transmit_raw(connection, datagrams)

    def transmit_raw(self, connection: Connection, datagrams: list[Datagram]) -> None:
        """Send these past `egress`: what it held back goes here when its time has come."""
        if datagrams:
            connection.sent_bytes += sum(len(data) for data, _ in datagrams)
            self.transport.send(datagrams)

    def route(self, cid: bytes, connection: Connection) -> None:
        """Datagrams for this cid are the connection's."""
        self._routes[cid] = connection

    def unroute(self, cid: bytes) -> None:
        """No longer."""
        self._routes.pop(cid, None)

    def route_reset(self, token: bytes | None, connection: Connection) -> None:
        """A datagram that ends in this token says that the peer has forgotten the connection."""
        if token is not None:
            self._reset_tokens[token] = connection

    def unroute_reset(self, token: bytes | None) -> None:
        """No longer."""
        if token is not None:
            self._reset_tokens.pop(token, None)

    def established(self, connection: Connection) -> None:
        """The handshake is complete, the peer is known."""
        self._leave_handshake(connection)
        connection.id = ConnectionId(next(_ids))
        self.live[connection.id] = connection
        self.owner.established(connection)

    def moved(self, connection: Connection) -> None:
        """The peer speaks from another address now."""
        self.owner.moved(connection)

    def ended(self, connection: Connection, failure: Exception | None) -> None:
        """The connection is over; out of every list before anybody is told."""
        self._leave_handshake(connection)
        self.live.pop(connection.id, None)
        self.owner.ended(connection, failure)

    def buried(self, connection: Connection) -> None:
        """Nothing leaves any more, and nothing that comes is for it."""
        self._unburied.discard(connection)
        if self._closing and not self._unburied:
            self.owner.quiet()

    # For the endpoint

    def dial(self, address: Any, expect: str | None, timeout_s: float) -> Connection:
        """Begin a handshake. Raises LimitError when there are too many connections."""
        if len(self.live) + len(self.handshakes) >= self.settings.connections_max:
            raise LimitError(f"{self.settings.connections_max} connections are open: connections_max")
        connection = self._make(address, dialled=True, expect=expect)
        connection.dial(timeout_s)
        return connection

    def close(self, code: int, reason: str) -> bool:
        """Close every connection; whether any of them still has to hear that its peer knows."""
        self._closing = True
        self.transport.forget()  # the farewells must not wait behind what nobody will read
        for connection in [*self.live.values(), *self.handshakes]:
            connection.close(code, reason)
        self.flush()
        return bool(self._unburied)

    def cut(self) -> None:
        """Nothing is sent or received any more."""
        for connection in list(self._unburied):
            connection.stop()
        self._unburied.clear()
        self._routes.clear()
        self._held.clear()
        self._configurations.close()
        self.transport.close()

    def flush(self) -> None:
        """Send what this turn brought about."""
        self._scheduled = False
        self._in_turn = True
        now = self.clock()
        self._dirty += self._later
        self._later = []
        try:
            while self._dirty:
                dirty, self._dirty = self._dirty, []
                for connection in dirty:
                    try:
                        connection.flush(now)
                    except Exception as error:  # noqa: BLE001  # reported by crash; other connections must not suffer
                        connection.crash(error)
        finally:
            self._in_turn = False

    def on_datagrams(self, datagrams: list[Datagram]) -> None:
        """What one read brought, in order."""
        if self._held:
            self._held += datagrams
        else:
            self._held = datagrams
            self._take_turn()

    # Private

    def _take_turn(self) -> None:
        """Feed until there is something to go on with, act, and flush, now or after those who have been woken."""
        self._in_turn = eager = True
        try:
            eager = self._take(self.clock())
        finally:
            if eager or self._closing:
                self.flush()
            else:
                self._flush_soon()
            if self._held:
                self.loop.call_soon(self._take_turn)

    def _flush_soon(self) -> None:
        """Those who were woken run first: what they ask next, and what there is to acknowledge, share a packet."""
        self._in_turn = False
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def _take(self, now: float) -> bool:
        """Feed and act; whether there is something to send that need not wait."""
        eager = False
        for connection in self._feed(now):
            try:
                connection.process(now)
            except Exception as error:  # noqa: BLE001
                connection.crash(error)
            self.mark(connection)
            eager = eager or connection.engine.has_data
        return eager

    def _feed(self, now: float) -> dict[Connection, None]:
        """Hand out datagrams; the connections that got any. The rest waits while peers and owners work on these."""
        held, self._held = self._held, []
        enough = len(held) - HELD_DATAGRAMS_MAX
        routes = self._routes
        touched: dict[Connection, None] = {}
        for index, (data, address) in enumerate(held, 1):
            connection = routes.get(destination_cid(data)) or self._stranger(data, address, now)
            if connection is None:
                continue
            try:
                connection.receive(data, remote(address) if connection.dialled else address, now)
            except Exception as error:  # noqa: BLE001
                connection.crash(error)
            touched[connection] = None
            happened = max(connection.engine.happened, len(touched))
            if happened >= TURN_HAPPENINGS and index > enough:
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
                chance=self._chance,
                reset_token=self._resets.token,
                original_cid=admission.original_cid if admission else None,
                retry_cid=admission.retry_cid if admission else None,
            )

        connection = Connection(self, make_engine, address=address, dialled=dialled, expect=expect)
        self.handshakes[connection] = None
        self._unburied.add(connection)
        if not dialled:
            self._strangers[host_of(address)] += 1
        return connection

    def _leave_handshake(self, connection: Connection) -> None:
        if connection not in self.handshakes:
            return
        del self.handshakes[connection]
        if not connection.dialled:
            host = host_of(connection.first_address)
            self._strangers[host] -= 1
            if not self._strangers[host]:
                del self._strangers[host]

    def _stranger(self, data: bytes, address: Any, now: float) -> Connection | None:
        """The new connection a datagram begins, if it is for none that we know."""
        if self._is_reset(data, address) or self.draining or self._closing or not self.listens:
            return None
        admission = self.gate.judge(
            data,
            address,
            now=now,
            handshakes=self._strangers.total(),
            connections=len(self.live) + len(self.handshakes),
        )
        if admission is None or self._closing:  # the owner was asked, and may have closed the endpoint
            return None
        try:
            connection = self._make(address, dialled=False, expect=None, admission=admission)
        except Exception as error:  # noqa: BLE001  # an identity that cannot be read, say: it costs this handshake only
            self.loop.call_exception_handler({"message": "no handshake can begin", "exception": error})
            return None
        connection.engine.new_cids.append(admission.destination_cid)
        connection.start()
        return connection

    def _is_reset(self, data: bytes, address: Any) -> bool:
        """A datagram that ends in a token of the peer's says that it has forgotten the connection."""
        if len(data) <= RESET_TOKEN_BYTES or data[0] & 0xC0 != 0x40:
            return False
        connection = self._reset_tokens.get(data[-RESET_TOKEN_BYTES:])
        if connection is None or remote(address) != remote(connection.raw_address):
            return False
        connection.forgotten()
        return True

    def _make_room(self, address: Any) -> bool:
        """All places for handshakes are taken: end one that is silent, or one of a host that has more than its share."""
        host = host_of(address)
        greedy, count = self._strangers.most_common(1)[0]
        silent_since = self.clock() - EVICT_AFTER_S
        for connection in self.handshakes:
            if connection.dialled:
                continue
            owner = host_of(connection.first_address)
            if connection.heard_at < silent_since or (owner == greedy and count > self._strangers[host] + 1):
                connection.close(0, "")
                return True
        return False

    def _on_too_big(self, address: Any, size: int) -> None:
        """The system refused a datagram of this size to this address."""
        place = remote(address)
        for connection in [*self.owner.find(address), *self.handshakes]:
            if remote(connection.raw_address) == place:
                connection.too_big(size)
