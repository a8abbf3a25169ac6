"""The inner works of an endpoint: one socket, whose datagram is whose, and one flush per turn of the loop."""

import asyncio
import ipaddress
import itertools
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from p2pnet.model.errors import LimitError, TrustError
from p2pnet.model.ids import ConnectionId
from p2pnet.quic.admission import Gate, destination_cid
from p2pnet.quic.bounded import BoundedConnection
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import QuicError
from p2pnet.quic.host import deliver
from p2pnet.quic.message import Message
from p2pnet.quic.pool import Pool
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Datagram, UdpSocket
from p2pnet.quic.tls import Configurations
from p2pnet.quic.trust import Trust

Address = tuple[str, int]
OnMessage = Callable[[Connection, Message], None]
Egress = Callable[[Connection, list[Datagram]], list[Datagram]]

_ids = itertools.count(1)


class Switchboard(ABC):
    """Owns the socket and the connections on it; the Host of their drivers."""

    def __init__(self, sock: socket.socket, trust: Trust, settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self.trust = trust
        self.settings = settings
        self.on_message: OnMessage | None = None
        self.on_refused: Callable[[Address, TrustError | QuicError], None] | None = None
        self.on_malformed: Callable[[Connection, Exception], None] | None = None
        self.egress: Egress | None = None
        """If set, decides about each turn's datagrams: those it returns leave now, others it may `transmit_raw` later."""
        self._socket = UdpSocket(
            sock,
            self.loop,
            self._on_datagrams,
            buffer_bytes=settings.socket_buffer_bytes,
            segmentation=settings.segmentation,
        )
        self.address: Address = self._socket.address
        """The real bound one."""
        self._configurations = Configurations(trust, settings)
        self._gate = Gate(settings, self._socket.send)
        self._pool = Pool(self.loop, self._dial)
        self._routes: dict[bytes, Connection] = {}
        self._live: dict[int, Connection] = {}
        self._handshakes: set[Connection] = set()  # not established yet, dialled or not
        self._strangers = 0  # of these, not dialled
        self._dirty: list[Connection] = []
        self._in_turn = False
        self._scheduled = False
        self._closed = False
        self.draining = False

    # For connections (see driver.Host)

    def mark(self, driver: Connection) -> None:
        """It has something to send this turn."""
        if not driver.marked:
            driver.marked = True
            self._dirty.append(driver)
            if not self._in_turn and not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._flush)

    def transmit(self, driver: Connection, datagrams: list[Datagram]) -> None:
        """Send these, unless `egress` says otherwise."""
        if self.egress is not None:
            datagrams = self.egress(driver, datagrams)
        self.transmit_raw(driver, datagrams)

    def transmit_raw(self, driver: Connection, datagrams: list[Datagram]) -> None:
        """Send these past `egress`: what it held back goes here when its time has come."""
        if datagrams:
            driver.sent_bytes += sum(len(data) for data, _ in datagrams)
            self._socket.send(datagrams)

    def route(self, cid: bytes, driver: Connection) -> None:
        """Datagrams for this cid are the connection's."""
        self._routes[cid] = driver
        driver.cids.add(cid)

    def unroute(self, cid: bytes) -> None:
        """No longer."""
        driver = self._routes.pop(cid, None)
        if driver is not None:
            driver.cids.discard(cid)

    def established(self, driver: Connection) -> None:
        """The handshake is complete, the peer is known."""
        driver.id = ConnectionId(next(_ids))
        self._leave_handshake(driver)
        self._live[driver.id] = driver
        self._pool.add(driver)
        if not driver.dialled:
            self._offer(driver)

    def ended(self, driver: Connection, failure: Exception | None) -> None:
        """The connection is over; out of the pool before anybody is told."""
        self._leave_handshake(driver)
        self._live.pop(driver.id, None)
        self._pool.remove(driver, failure)
        if not driver.dialled and isinstance(failure, TrustError | QuicError) and self.on_refused is not None:
            deliver(self.on_refused, driver.address, failure)

    # Private

    @abstractmethod
    def _offer(self, connection: Connection) -> None:
        """An inbound connection is established."""

    def _cut(self, code: int, reason: str) -> None:
        """Close every connection, then the socket."""
        everyone = {*self._live.values(), *self._handshakes, *self._routes.values()}
        for connection in everyone:
            connection.close(code, reason)
        self._flush()
        for connection in everyone:
            connection.stop()
        self._routes.clear()
        self._socket.close()

    def _dial(self, address: Address, expect: str | None, timeout_s: float) -> Connection:
        if len(self._live) + len(self._handshakes) >= self.settings.connections_max:
            raise LimitError(f"{self.settings.connections_max} connections are open: connections_max")
        raw: Any = address if self._socket.family == socket.AF_INET else (*address, 0, 0)
        connection = self._make(raw, dialled=True, expect=expect)
        connection.allow(timeout_s)
        connection.quic.connect(raw, now=time.monotonic())
        self.route(connection.quic.host_cid, connection)
        self.mark(connection)
        return connection

    def _make(self, raw: Any, *, dialled: bool, expect: str | None, **cids: bytes | None) -> Connection:
        connection = Connection(self, address=raw, dialled=dialled, expect=expect)
        connection.on_message = self.on_message
        connection.on_malformed = self.on_malformed
        connection.quic = BoundedConnection(
            configuration=self._configurations.get(is_client=dialled, datagram_bytes=self._datagram_bytes(raw[0])),
            limits=self.settings,
            admit=connection.admit,
            ask_client=self.trust.asks_client,
            **cids,
        )
        self._handshakes.add(connection)
        self._strangers += not dialled
        return connection

    def _datagram_bytes(self, host: str) -> int:
        # Other QUIC stacks may not take jumbo datagrams; ours does.
        if self.trust.kind == "anyone" or not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            return self.settings.max_datagram_bytes
        return max(self.settings.loopback_datagram_bytes, self.settings.max_datagram_bytes)

    def _leave_handshake(self, connection: Connection) -> None:
        if connection in self._handshakes:
            self._handshakes.remove(connection)
            self._strangers -= not connection.dialled

    def _on_datagrams(self, datagrams: list[Datagram]) -> None:
        """One turn: feed, act, flush."""
        now = time.monotonic()
        self._in_turn = True
        touched: dict[Connection, None] = {}
        routes = self._routes
        for data, address in datagrams:
            connection = routes.get(destination_cid(data)) or self._stranger(data, address, now)
            if connection is not None:
                try:
                    connection.receive(data, address, now)
                except Exception as error:  # noqa: BLE001  # reported by crash; other connections must not suffer
                    connection.crash(error)
                touched[connection] = None
        for connection in touched:
            try:
                connection.process(now)
            except Exception as error:  # noqa: BLE001
                connection.crash(error)
            self.mark(connection)
        self._flush()

    def _stranger(self, data: bytes, address: Any, now: float) -> Connection | None:
        if self.draining or self._closed:
            return None
        admission = self._gate.judge(
            data,
            address,
            now=now,
            handshakes=self._strangers,
            connections=len(self._live) + len(self._handshakes),
        )
        if admission is None:
            return None
        connection = self._make(
            address,
            dialled=False,
            expect=None,
            original_destination_connection_id=admission.original_cid,
            retry_source_connection_id=admission.retry_cid,
        )
        self.route(admission.destination_cid, connection)
        self.route(connection.quic.host_cid, connection)
        return connection

    def _flush(self) -> None:
        self._scheduled = False
        self._in_turn = True
        now = time.monotonic()
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                try:
                    connection.flush(now)
                except Exception as error:  # noqa: BLE001
                    connection.crash(error)
        self._in_turn = False
