"""The endpoint: one UDP socket that dials and listens, and all connections on it."""

import asyncio
import errno
import hashlib
import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from p2pnet.model.errors import LocalError, TrustError
from p2pnet.quic.addresses import Address, numeric, readable, resolve
from p2pnet.quic.bootstrap_cache import BootstrapCache
from p2pnet.quic.connection import Connection
from p2pnet.quic.dispatch import Dispatcher, EgressHook, ForeignHook, IngressHook
from p2pnet.quic.engine import Admittance, Datagram
from p2pnet.quic.errors import BadAddress, CloseCode, EndpointClosed, EndpointError, QuicError, check_code
from p2pnet.quic.message import Message
from p2pnet.quic.pool import ConnectionPool, race
from p2pnet.quic.retry import Retry
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import Transport, UdpSocket
from p2pnet.quic.trust import Trust

OnMessage = Callable[[Connection, Message], None]
"""Called with the connection and each inbound message."""
OnRefused = Callable[[Address, TrustError | QuicError], None]
"""Called with the address of a client whose handshake failed, and why."""
T = TypeVar("T")

CLOSE_S = 1.0
"""A closed endpoint keeps its socket at most this long, to repeat close packets."""
_POLL_S = 0.01


_lingering: "weakref.WeakSet[Endpoint]" = weakref.WeakSet()
"""Closed endpoints whose sockets are still open: one of them gives up its address for a new one that wants it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Endpoint:
    """One UDP socket and all connections on it. Make one with `await Endpoint.bind(...)`.

    All callbacks come from its loop and must not block.
    """

    def __init__(
        self,
        transport: Transport,
        trust: Trust,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = _utc_now,
        random_bytes: Callable[[int], bytes] = os.urandom,
        reset_key: bytes | None = None,
        listens: bool = True,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.trust = trust
        self.settings = settings
        self.on_message: OnMessage | None = None
        self.handlers: dict[bytes, OnMessage] = {}
        """Header -> called in place of `on_message` with messages that have exactly this header, on every connection."""
        self.on_connection: Callable[[Connection], None] | None = None
        self.on_incoming: Callable[[Address], str] | None = None
        self.on_refused: OnRefused | None = None
        self.on_malformed: Callable[[Connection, Exception], None] | None = None
        self.egress_holds: Callable[[], bool] | None = None
        """Whether `egress` still holds datagrams back: a closed endpoint keeps its socket for them, within CLOSE_S."""
        self.address: Address = transport.address
        """The bound address."""
        self.clock = clock
        self._dispatcher = Dispatcher(
            transport,
            trust,
            settings,
            self,
            clock=clock,
            utc_now=utc_now,
            random_bytes=random_bytes,
            reset_key=reset_key or _reset_key(trust, transport.address),
            listens=listens,
        )
        self._transport = transport
        self._pool = ConnectionPool(self.loop, self._dispatcher.dial)
        self._accepted: dict[Connection, None] = {}  # oldest first
        self._accepting: deque[asyncio.Future[Connection]] = deque()
        self.closing: asyncio.Future[Exception] = self.loop.create_future()
        """Done when the endpoint is closed; its result is the EndpointClosed that ends every wait."""
        self._gone: asyncio.Future[None] = self.loop.create_future()  # the socket is closed
        self._linger: asyncio.TimerHandle | None = None
        self._dispatcher.start()

    @classmethod
    async def bind(
        cls,
        address: Address = ("127.0.0.1", 0),
        *,
        trust: Trust,
        sock: socket.socket | None = None,
        transport: Transport | None = None,
        settings: Settings | None = None,
        listens: bool = True,
        on_message: OnMessage | None = None,
        on_connection: Callable[[Connection], None] | None = None,
        on_incoming: Callable[[Address], str] | None = None,
        on_refused: OnRefused | None = None,
        on_malformed: Callable[[Connection, Exception], None] | None = None,
        reset_key: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = _utc_now,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> "Endpoint":
        """An endpoint on exactly this address, or on the bound UDP socket or transport given, which it then owns.

        listens: False for one that only dials and answers no handshakes. on_connection: called with inbound connections,
        authenticated; without it they wait for `accept`. on_message: called with every inbound message; without it they wait
        for `Connection.messages`. on_incoming: called with the address of a client before any work is done for it; returns
        "accept", "retry", "refuse" or "ignore". on_refused: called when a client's handshake has failed. on_malformed: called
        when a stream was stopped for what was on it. reset_key: 32 bytes that prove after a restart that this is the same
        endpoint; by default derived from the trust's private key. clock (monotonic seconds), utc_now and random_bytes: the
        system's. Raises EndpointError when it cannot bind.
        """
        settings = settings or Settings()
        if transport is None:
            bound = sock or _bind(address)
            try:
                transport = UdpSocket(
                    bound,
                    asyncio.get_running_loop(),
                    buffer_bytes=settings.socket_buffer_bytes,
                    segmentation=settings.segmentation,
                )
            except OSError as error:
                bound.close()
                raise EndpointError(f"this socket cannot be used: {error}", error.errno) from error
        endpoint = cls(
            transport,
            trust,
            settings,
            clock=clock,
            utc_now=utc_now,
            random_bytes=random_bytes,
            reset_key=reset_key,
            listens=listens,
        )
        # Set after the constructor, which has started the socket: nothing is read before the loop runs again.
        endpoint.on_message = on_message
        endpoint.on_connection = on_connection
        endpoint.on_incoming = on_incoming
        endpoint.on_refused = on_refused
        endpoint.on_malformed = on_malformed
        return endpoint

    # Connecting

    async def connect(
        self,
        address: Address,
        *,
        expect: str | None = None,
        new: bool = False,
        timeout_s: float = 10.0,
        retry: Retry | None = None,
    ) -> Connection:
        """A connection that the server has confirmed: a pooled one, one being dialled already, or a new one.

        `expect`: the exact URI that the peer must prove. `new`: always dial. Raises TrustError when this end refuses the
        peer, HandshakeFailed when the peer refuses, is silent or full, BadAddress, EndpointClosed, LimitError.
        """
        # Failing here is better than a check that anybody would pass.
        if expect is not None and self.trust.kind == "anyone":
            raise LocalError("Trust.anyone proves no name: `expect` cannot be asked for")

        async def attempt() -> Connection:
            self._check_open()
            target = await self._resolve(address, timeout_s)
            self._check_open()
            return await self._pool.connect(target, expect, new=new, timeout_s=timeout_s)

        schedule = retry or self.settings.retry
        if schedule is None:
            return await attempt()
        return await schedule.run(attempt, until=self.closing)

    async def connect_any(
        self,
        addresses: Iterable[Address],
        *,
        expect: str | None = None,
        new: bool = False,
        timeout_s: float = 10.0,
        retry: Retry | None = None,
    ) -> tuple[Connection, dict[Address, Exception]]:
        """Race these addresses: the first connection, and the errors of those that had failed by then.

        No loser stays connected. Raises ValueError for no address, ExceptionGroup when all fail.
        """

        async def attempt(address: Address) -> Connection:
            return await self.connect(address, expect=expect, new=new, timeout_s=timeout_s, retry=retry)

        # Losers are given back, not closed: another caller may have joined the same dial.
        return await race(addresses, attempt, self._pool.give_back)

    async def bootstrap(
        self, cache: BootstrapCache, *, expect: str | None = None, timeout_s: float = 10.0
    ) -> Connection:
        """A connection to the first address in the cache that answers, which is remembered there.

        Raises ValueError when there is no address to try, ExceptionGroup when all fail.
        """
        return await cache.bootstrap(self, expect=expect, timeout_s=timeout_s)

    async def rebootstrap(
        self,
        cache: BootstrapCache,
        *,
        expect: str | None = None,
        timeout_s: float = 10.0,
        retry: Retry | None = None,
    ) -> Connection:
        """As `bootstrap`, repeated within `retry`'s budget: for use after a partition, when every connection is lost."""
        return await cache.rebootstrap(self, expect=expect, timeout_s=timeout_s, retry=retry, until=self.closing)

    async def accept(self) -> Connection:
        """Await the next inbound connection, where no `on_connection` is set. Raises EndpointClosed."""
        if (ready := self.try_accept()) is not None:
            return ready
        if self.closing.done():
            raise EndpointClosed("the endpoint is closed")
        waiter: asyncio.Future[Connection] = self.loop.create_future()
        self._accepting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._accepting:
                self._accepting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None and not waiter.result().closed:
                # Cancelled in the loop turn in which it got a connection: that is for the next who accepts.
                # To the front of the queue, where it was taken from.
                self._accepted = {waiter.result(): None, **self._accepted}
                self._serve()
            raise

    def try_accept(self) -> Connection | None:
        """The next inbound connection; None if none waits."""
        connection = next(iter(self._accepted), None)
        if connection is not None:
            del self._accepted[connection]
        return connection

    # State

    @property
    def connections(self) -> list[Connection]:
        """All live connections, oldest first."""
        return list(self._dispatcher.live.values())

    @property
    def draining(self) -> bool:
        """Nothing new is begun or accepted; what is in flight is finished."""
        return self._dispatcher.draining

    # The seam between QUIC and the network

    @property
    def egress(self) -> EgressHook | None:
        """If set, called with everything that is about to leave: what it does not return may `transmit_raw` later.

        A connection's datagrams come together, one flush at a time, from its first to its last close packet; None comes with
        answers to strangers (Retry, refusals, resets). They count as sent, whatever becomes of them.
        """
        return self._dispatcher.egress

    @egress.setter
    def egress(self, hook: EgressHook | None) -> None:
        self._dispatcher.egress = hook

    @property
    def ingress(self) -> IngressHook | None:
        """If set, called with everything that arrives: what it does not return may be taken by `receive_raw` later."""
        return self._dispatcher.ingress

    @ingress.setter
    def ingress(self, hook: IngressHook | None) -> None:
        self._dispatcher.ingress = hook

    @property
    def on_foreign(self) -> ForeignHook | None:
        """If set, called with datagrams that are none of QUIC's: for no connection, and without QUIC's fixed bit."""
        return self._dispatcher.on_foreign

    @on_foreign.setter
    def on_foreign(self, hook: ForeignHook | None) -> None:
        self._dispatcher.on_foreign = hook

    def transmit_raw(self, datagrams: list[Datagram]) -> None:
        """Send these without asking `egress`: for what it held back, also when the connection is gone by then."""
        self._transport.send(datagrams)

    def receive_raw(self, datagrams: list[Datagram]) -> None:
        """Take these without asking `ingress`: for what it held back."""
        if not self._gone.done():
            self._dispatcher.on_datagrams(datagrams)

    def connection_for(self, data: bytes) -> Connection | None:
        """The connection that an arriving datagram is for, if it is for any."""
        return self._dispatcher.connection_for(data)

    # Counters

    @property
    def sent_bytes(self) -> int:
        """Bytes of UDP payload this socket has sent."""
        return self._transport.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes of UDP payload this socket has received."""
        return self._transport.received_bytes

    def counters(self) -> dict[str, int]:
        """Gauges and totals, by name."""
        gate = self._dispatcher.gate
        return {
            "connections": len(self._dispatcher.live),
            "handshakes": len(self._dispatcher.handshakes),
            "dialled_total": self._pool.dialled,
            "retries_sent_total": gate.retries,
            "refused_full_total": gate.refused,
            "resets_sent_total": gate.resets,
            "datagrams_dropped_total": self._transport.dropped,
            "send_calls_total": getattr(self._transport, "send_calls", 0),
            "sent_bytes_total": self.sent_bytes,
            "received_bytes_total": self.received_bytes,
        }

    def identity_changed(self) -> None:
        """The identity source, its bundle, or what `admits` decides has changed: verify every live peer again.

        New handshakes use the new identity by themselves.
        """
        for connection in self.connections:
            connection.readmit()

    # Ending

    def close(self, code: int = CloseCode.SHUTTING_DOWN, reason: str = "endpoint closed") -> None:
        """Close every connection now, and the socket when all peers have heard it, at most a second later.

        Idempotent; `wait_closed` awaits the end. Raises LocalError for a code that QUIC cannot say.
        """
        check_code(code)
        if self.closing.done():
            return
        closed = EndpointClosed("the endpoint is closed")
        # Before anything else: whoever is woken below must find the endpoint closed.
        self.closing.set_result(closed)
        self._pool.abandon(closed)
        while self._accepting:
            waiter = self._accepting.popleft()
            if not waiter.done():
                waiter.set_exception(closed)
        repeats = self._dispatcher.close(code, reason)
        if repeats or self._waits_to_leave:
            # Kept until the peers have heard: the owner may drop its last reference now.
            _lingering.add(self)
            self._linger = self.loop.call_later(CLOSE_S, self._cut)
            if not repeats:
                self.all_disposed()
        else:
            self._cut()

    async def drain(self, timeout_s: float) -> None:
        """Accept and dial nothing more, finish the open streams within `timeout_s`, then close and await the end."""
        self._dispatcher.draining = True
        give_up = self.clock() + timeout_s
        # Polled: a drain is rare, and otherwise every stream would have to signal its end.
        while self.clock() < give_up and any(one.busy for one in self.connections):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        self.close()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """After `close`: return when every `on_closed` was called, every peer was told, and the socket is closed."""
        await asyncio.shield(self._gone)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    # From the dispatcher (see dispatch.EndpointHooks)

    def established(self, connection: Connection) -> None:
        """The handshake is complete: pool the connection, and offer it if it is inbound."""
        connection.on_message = self.on_message
        connection.mailbox.handlers = self.handlers
        connection.on_malformed = self.on_malformed
        self._pool.add(connection, connection.raw_address)
        if not connection.dialled:
            self._offer(connection)

    def moved(self, connection: Connection) -> None:
        """The peer's address has changed."""
        self._pool.move(connection, connection.raw_address)

    def ended(self, connection: Connection, failure: Exception | None) -> None:
        """The connection is closed or lost: remove it from pool and queue before any callback can see it there."""
        # Nobody may accept a connection that is already closed.
        self._accepted.pop(connection, None)
        self._pool.remove(connection, failure)
        if not connection.dialled and isinstance(failure, TrustError | QuicError) and self.on_refused is not None:
            connection.notify(self.on_refused, connection.address, failure)

    def incoming(self, address: Any) -> Admittance:
        """What to do with a handshake that an unauthenticated peer begins from this address: `on_incoming` decides."""
        if self.on_incoming is None:
            return Admittance.ACCEPT
        try:
            return Admittance(self.on_incoming(readable(address)))
        except Exception as error:  # noqa: BLE001  # the owner's mistake, reported; nobody gets in by it
            self.loop.call_exception_handler({"message": "on_incoming failed", "exception": error})
            return Admittance.IGNORE

    def find(self, address: Any) -> list[Connection]:
        """Live connections with the peer at this address."""
        return self._pool.at(address)

    def all_disposed(self) -> None:
        """Every connection is disposed of: close the socket, once the datagrams that wait in it have left."""
        if self._waits_to_leave:
            self.loop.call_later(_POLL_S, self._retry_cut)
        else:
            self.loop.call_soon(self._cut)

    # Private

    @property
    def _waits_to_leave(self) -> bool:
        """Whether datagrams given to the socket, or held back by `egress`, are still to leave."""
        return self._transport.congested or (self.egress_holds is not None and self.egress_holds())

    async def _resolve(self, address: Address, timeout_s: float) -> Any:
        """The raw form of an address. Raises BadAddress, EndpointClosed."""
        raw = numeric(address, self._transport.family)
        if raw is not None:
            return raw
        try:
            # The system's resolver has a timeout of its own, but it may be a minute.
            async with asyncio.timeout(timeout_s):  # a silent name server keeps nobody longer than a silent peer
                return await self._unless_closed(resolve(address, self._transport.family, self.loop))
        except TimeoutError as error:
            raise BadAddress(f"{address[0]}: its name server does not answer in {timeout_s:g} s") from error

    async def _unless_closed(self, work: Awaitable[T]) -> T:
        """Await this, but not beyond the end of the endpoint. Raises EndpointClosed."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            raise EndpointClosed("the endpoint is closed")
        return task.result()

    def _check_open(self) -> None:
        if self.closing.done() or self.draining:
            raise EndpointClosed("the endpoint is closed, or closing")

    def _offer(self, connection: Connection) -> None:
        """Offer an inbound connection to `on_connection`, or to `accept`."""
        if self.on_connection is not None:
            connection.notify(self.on_connection, connection)
        elif len(self._accepted) >= self.settings.accept_queue_max:
            connection.close(CloseCode.TOO_MANY, "nobody accepts connections here")
        else:
            self._accepted[connection] = None
            self._serve()

    def _serve(self) -> None:
        """Give waiting connections to waiting calls of `accept`."""
        while self._accepting and self._accepted:
            waiter = self._accepting.popleft()
            if not waiter.done():
                connection = self.try_accept()
                if connection is not None:
                    waiter.set_result(connection)

    def give_way(self) -> None:
        """A closed endpoint that still repeats close packets gives up its socket: a new one wants the address."""
        self._cut()

    def _retry_cut(self) -> None:
        if not self._gone.done():  # CLOSE_S bounds this
            self.all_disposed()

    def _cut(self) -> None:
        if self._gone.done():
            return
        _lingering.discard(self)
        if self._linger is not None:
            self._linger.cancel()
        self._dispatcher.cut()
        self._gone.set_result(None)


def _bind(address: Address) -> socket.socket:
    """A socket on this address; an endpoint of this loop that was closed there gives way. Raises EndpointError."""
    try:
        return UdpSocket.bind(address)
    except EndpointError as error:
        loop = asyncio.get_running_loop()
        closed = [one for one in _lingering if one.address[1] == address[1] and one.loop is loop]
        if error.errno != errno.EADDRINUSE or not closed:
            raise
        for one in closed:
            one.give_way()
        return UdpSocket.bind(address)


def _reset_key(trust: Trust, address: Address) -> bytes:
    """The default reset key: the same after a restart, for it is a hash of the private key.

    Without a lasting identity it is a hash of the address. Then whoever sees a connection's ids could end it; but where
    nobody is authenticated, whoever is on the path can do so anyway.
    """
    secret = trust.secret or f"{address[0]}:{address[1]}".encode()
    return hashlib.sha256(b"p2pnet stateless reset" + secret).digest()
