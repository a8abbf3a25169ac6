"""The endpoint: one UDP socket that dials and listens, and all connections on it."""

import asyncio
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

from p2pnet.model.errors import LocalError, TrustError
from p2pnet.quic.connection import Connection
from p2pnet.quic.errors import BadAddress, CloseCode, EndpointClosed, QuicError
from p2pnet.quic.host import deliver
from p2pnet.quic.race import race
from p2pnet.quic.retry import Retry
from p2pnet.quic.settings import Settings
from p2pnet.quic.socket import UdpSocket
from p2pnet.quic.switchboard import OnMessage, Switchboard
from p2pnet.quic.trust import Trust

Address = tuple[str, int]

_DRAIN_POLL_S = 0.01


class Endpoint(Switchboard):
    """Bind one with `await Endpoint.bind(...)`. All callbacks come from its loop and must not block."""

    def __init__(self, sock: socket.socket, trust: Trust, settings: Settings) -> None:
        super().__init__(sock, trust, settings)
        self.on_connection: Callable[[Connection], None] | None = None
        self._accepted: dict[Connection, None] = {}  # oldest first
        self._accepting: deque[asyncio.Future[Connection]] = deque()

    @classmethod
    async def bind(
        cls,
        address: Address = ("127.0.0.1", 0),
        *,
        trust: Trust,
        sock: socket.socket | None = None,
        settings: Settings | None = None,
        on_message: OnMessage | None = None,
        on_connection: Callable[[Connection], None] | None = None,
        on_refused: Callable[[Address, TrustError | QuicError], None] | None = None,
        on_malformed: Callable[[Connection, Exception], None] | None = None,
    ) -> "Endpoint":
        """An endpoint on exactly this address, or on the bound UDP socket given (which it then owns).

        on_connection gets inbound connections, authenticated; without it they wait for `accept`. on_message gets every
        inbound message; without it they wait for `Connection.messages`. Raises EndpointError when it cannot bind.
        """
        endpoint = cls(sock or UdpSocket.bind(address), trust, settings or Settings())
        endpoint.on_message = on_message
        endpoint.on_connection = on_connection
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
        """A connection the server has confirmed: pooled if there is one, joined if one is being dialled.

        `expect` is the exact URI the peer must prove; `new` always dials. Raises TrustError when we refuse the peer,
        HandshakeFailed when it refuses us, is silent or full, BadAddress, EndpointClosed, LimitError.
        """
        if expect is not None and self.trust.kind == "anyone":
            raise LocalError("Trust.anyone proves no name: `expect` cannot be asked for")
        try:
            async with asyncio.timeout(timeout_s):  # a silent name server keeps nobody longer than a silent peer
                target = await self._resolve(address)
        except TimeoutError as error:
            raise BadAddress(f"{address[0]}: its name server does not answer in {timeout_s:g} s") from error

        async def attempt() -> Connection:
            return await self._pool.connect(target, expect, new=new, timeout_s=timeout_s)

        schedule = retry or self.settings.retry
        return await attempt() if schedule is None else await schedule.run(attempt)

    async def connect_any(
        self, addresses: Iterable[Address], *, expect: str | None = None, new: bool = False, timeout_s: float = 10.0
    ) -> tuple[Connection, dict[Address, Exception]]:
        """The first of these that answers, and the errors of those that had failed by then; no loser stays connected.

        Raises ValueError for no address, ExceptionGroup when all fail.
        """

        async def attempt(address: Address) -> Connection:
            return await self.connect(address, expect=expect, new=new, timeout_s=timeout_s)

        return await race(addresses, attempt)

    async def accept(self) -> Connection:
        """The next inbound connection, when there is no `on_connection`. Raises EndpointClosed."""
        while True:
            if (ready := self.try_accept()) is not None:
                return ready
            if self._closed:
                raise EndpointClosed("the endpoint is closed")
            waiter: asyncio.Future[Connection] = self.loop.create_future()
            self._accepting.append(waiter)
            return await waiter

    def try_accept(self) -> Connection | None:
        """The next inbound connection if one waits."""
        connection = next(iter(self._accepted), None)
        if connection is not None:
            del self._accepted[connection]
        return connection

    @property
    def connections(self) -> list[Connection]:
        """All live ones, oldest first."""
        return list(self._live.values())

    @property
    def sent_bytes(self) -> int:
        """UDP payload this socket has sent."""
        return self._socket.sent_bytes

    @property
    def received_bytes(self) -> int:
        """UDP payload this socket has received."""
        return self._socket.received_bytes

    def counters(self) -> dict[str, int]:
        """Gauges and totals, by name."""
        return {
            "connections": len(self._live),
            "handshakes": len(self._handshakes),
            "dialled_total": self._pool.dialled,
            "retries_sent_total": self._gate.retries,
            "refused_full_total": self._gate.refused,
            "datagrams_dropped_total": self._socket.dropped,
            "sent_bytes_total": self.sent_bytes,
            "received_bytes_total": self.received_bytes,
        }

    def identity_changed(self) -> None:
        """The identity source, its bundle, or whom `admits` admits has changed: judge every live peer again.

        New handshakes use the new pair by themselves.
        """
        for connection in self.connections:
            connection.readmit()

    # Ending

    def close(self, code: int = CloseCode.SHUTTING_DOWN, reason: str = "endpoint closed") -> None:
        """Close every connection and the socket, now. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._cut(code, reason)
        while self._accepting:
            waiter = self._accepting.popleft()
            if not waiter.done():
                waiter.set_exception(EndpointClosed("the endpoint is closed"))

    async def drain(self, timeout_s: float) -> None:
        """Accept and dial nothing more, finish the streams that are open (at most `timeout_s`), then close."""
        self.draining = True
        give_up = time.monotonic() + timeout_s
        # Polled, for a drain is rare, and every stream would have to signal its end otherwise.
        while time.monotonic() < give_up and any(one.busy for one in self._live.values()):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_S)
        self.close()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """After `close`: every `on_closed` has been called."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    def ended(self, driver: Connection, failure: Exception | None) -> None:
        """The connection is over; out of pool and queue before anybody is told."""
        self._accepted.pop(driver, None)
        super().ended(driver, failure)

    # Private

    async def _resolve(self, address: Address) -> Address:
        """The numeric address, checked. Raises BadAddress, EndpointClosed."""
        if self._closed or self.draining:
            raise EndpointClosed("the endpoint is closed, or closing")
        host, port = address
        if not 0 < port < 65_536:
            raise BadAddress(f"{host}:{port}: no peer listens on port {port}")
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            try:
                found = await self.loop.getaddrinfo(host, port, family=self._socket.family, type=socket.SOCK_DGRAM)
            except (OSError, UnicodeError) as error:
                raise BadAddress(f"{host}: {error}") from error
            return (str(found[0][4][0]), port)
        if (version == 6) != (self._socket.family == socket.AF_INET6):
            raise BadAddress(f"{host}: this endpoint speaks IPv{4 if version == 6 else 6}")
        return (host, port)

    def _offer(self, connection: Connection) -> None:
        if self.on_connection is not None:
            deliver(self.on_connection, connection)
            return
        while self._accepting:
            waiter = self._accepting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if len(self._accepted) >= self.settings.accept_queue_max:
            connection.close(CloseCode.TOO_MANY, "nobody accepts connections here")
        else:
            self._accepted[connection] = None
