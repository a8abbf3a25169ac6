"""A live connection: an engine, a mailbox and an outbox, one timer, a beginning and an end.

Everything here runs on the endpoint's loop, called by the endpoint once per turn; there is no task and no asyncio
object per packet.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol, Self

from p2pnet.model.errors import TrustError
from p2pnet.quic.addresses import Address, readable
from p2pnet.quic.engine import Datagram, Engine, FlowEvent, Stream, failure_of
from p2pnet.quic.errors import (
    CloseCode,
    CloseReason,
    ConnectionLost,
    MessageTooLarge,
    RequestTimeout,
    check_code,
    lost,
)
from p2pnet.quic.framing import Parts, encode
from p2pnet.quic.ledger import Ledger
from p2pnet.quic.mailbox import Mailbox
from p2pnet.quic.message import Message
from p2pnet.quic.requests import URGENT, Done, Exchange, ReceiveStream, Sending, SendStream, StreamOutbox
from p2pnet.quic.retry import Retry
from p2pnet.quic.settings import Settings
from p2pnet.quic.trust import PeerName, Trust

_TIMER_SLACK_S = 0.0005  # a timer this little early is not worth moving
_FAREWELLS = 3  # a close is said so often of its own accord, and again in answer to so many of the peer's datagrams
_FAR_S = 86_400.0  # beyond a day the timer rings in vain: event loops have no use for times that far off


class Traffic(Protocol):
    """What a connection needs of its endpoint."""

    owner: Any

    loop: asyncio.AbstractEventLoop
    settings: Settings
    trust: Trust
    draining: bool
    clock: Callable[[], float]
    utc_now: Callable[[], datetime]

    def mark(self, connection: Any) -> None:
        """It has something to send this turn."""

    def mark_later(self, connection: Any) -> None:
        """It has more to send than one turn's worth."""

    def transmit(self, connection: Any, datagrams: list[Datagram]) -> None:
        """Send these now."""

    def route(self, cid: bytes, connection: Any) -> None:
        """Datagrams for this cid are the connection's."""

    def unroute(self, cid: bytes) -> None:
        """No longer."""

    def route_reset(self, token: bytes | None, connection: Any) -> None:
        """A datagram that ends in this token says that the peer has forgotten the connection."""

    def unroute_reset(self, token: bytes | None) -> None:
        """No longer."""

    def established(self, connection: Any) -> None:
        """The handshake is complete, the peer is known."""

    def moved(self, connection: Any) -> None:
        """The peer speaks from another address now."""

    def ended(self, connection: Any, failure: Exception | None) -> None:
        """It is over; `failure` when it never was established."""

    def buried(self, connection: Any) -> None:
        """Nothing leaves any more, and nothing that comes is for it."""


class Connection:
    """One peer. Made by an Endpoint; all methods belong to its loop."""

    __slots__ = (
        "__weakref__",
        "_answers", "_callbacks", "_chain", "_cids", "_deadline", "_established", "_events", "_expect", "_farewell",
        "_farewell_at", "_farewells", "_halted", "_refusal", "_reset_token", "_timer", "_timer_at", "close_reason",
        "dialled", "empty_payloads", "engine", "first_address", "heard_at", "id", "ledger", "loop", "mailbox",
        "marked", "on_closed", "outbox", "peer", "raw_address", "received_bytes", "sent_bytes", "settings",
        "traffic",
    )  # fmt: skip

    def __init__(
        self,
        traffic: Traffic,
        make_engine: Callable[[Callable[[list[bytes]], None]], Engine],
        *,
        address: Any,
        dialled: bool,
        expect: str | None,
    ) -> None:
        self.traffic = traffic
        self.loop = traffic.loop
        self.settings = traffic.settings
        self.dialled = dialled
        self.id = 0
        """Unique on this machine's process, growing, the same over changes of address; 0 until established."""
        self.sent_bytes = 0
        """UDP payload sent."""
        self.received_bytes = 0
        """UDP payload received."""
        self.close_reason: CloseReason | None = None
        self.peer = PeerName()
        """Whom its certificate proved the peer to be."""
        self.on_closed: Callable[[Connection], None] | None = None
        """Called exactly once, from the loop, however the connection ended."""
        empties = self.settings.empty_payloads
        self.empty_payloads = traffic.trust.kind != "anyone" if empties is None else empties
        self.engine = make_engine(self._admit)
        self.ledger = Ledger(self.settings.connection_window_bytes, credit=self.engine.credit, grant=self.engine.grant)
        self.mailbox = Mailbox(self)
        self.outbox = StreamOutbox(self, self.lost)
        self.marked = False
        self.heard_at = traffic.clock()
        """When the peer was last heard, in the endpoint's time."""
        self.first_address = address
        """Where the peer was at first, in the transport's form."""
        self.raw_address = address
        """Where it is now, in the transport's form."""
        self._expect = expect
        self._chain: list[bytes] = []
        self._refusal: TrustError | None = None
        self._established = False
        self._events: list[tuple[FlowEvent, Stream, int]] = []
        self._callbacks: list[Callable[[Connection], None]] = []
        self._cids: set[bytes] = set()
        self._reset_token: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline: float | None = self.heard_at + self.settings.handshake_s
        self._halted = False
        self._farewell: list[Datagram] = []
        self._farewell_at = math.inf
        self._farewells = 0
        self._answers = 0

    # What the owner sees

    @property
    def host(self) -> Any:
        """The endpoint it belongs to."""
        return self.traffic.owner

    @property
    def uri(self) -> str:
        """The peer's identity, proved by its certificate; empty where trust proves none."""
        return self.peer.uri

    @property
    def not_after(self) -> datetime | None:
        """When the peer's certificate ends, and with it the connection."""
        return self.peer.not_after

    @property
    def address(self) -> Address:
        """The peer's present address."""
        return readable(self.raw_address)

    @property
    def rtt_s(self) -> float:
        """Smoothed round-trip time in seconds; 0 before the first sample."""
        return self.engine.rtt_s

    @property
    def closed(self) -> bool:
        """Closed by either end, or lost."""
        return self.close_reason is not None

    @property
    def busy(self) -> bool:
        """Whether streams are open, or wait to be opened."""
        return bool(self.engine.streams) or self.outbox.waits

    @property
    def on_message(self) -> Callable[[Any, Message], None] | None:
        """Called with the connection and each inbound message; None: they wait for `messages`."""
        return self.mailbox.on_message

    @on_message.setter
    def on_message(self, callback: Callable[[Any, Message], None] | None) -> None:
        self.mailbox.on_message = callback

    @property
    def on_malformed(self) -> Callable[[Any, Exception], None] | None:
        """Called with the connection and what was wrong with a stream, which has been stopped."""
        return self.mailbox.on_malformed

    @on_malformed.setter
    def on_malformed(self, callback: Callable[[Any, Exception], None] | None) -> None:
        self.mailbox.on_malformed = callback

    def counters(self) -> dict[str, float]:
        """Gauges and totals of this connection, by name, each with its unit."""
        return {
            **self.engine.counters(),
            "held_bytes": self.engine.held_bytes + self.ledger.owed,
            "sent_bytes_total": self.sent_bytes,
            "received_bytes_total": self.received_bytes,
        }

    def add_done_callback(self, callback: "Callable[[Connection], None]") -> None:
        """Have `callback` called once from the loop when the connection has ended, also if it already has."""
        if self.closed:
            self.loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def close(self, code: int = CloseCode.DONE, reason: str = "") -> None:
        """Close now, without waiting for what is in flight. Idempotent. Raises LocalError for no possible code."""
        check_code(code)
        if self.closed:
            return
        self.engine.close(int(code), reason)
        self._finish(CloseReason("local", int(code), reason))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close(CloseCode.DONE, "lost interest")

    def __repr__(self) -> str:
        host, port = self.address
        return f"Connection({self.id}, {self.uri or '?'} at {host}:{port}, {self.close_reason})"

    # Asking and sending

    def start_request(
        self, header: bytes, payload: Parts, done: Done, *, urgent: bool = False, reply_bytes_max: int | None = None
    ) -> Exchange:
        """Ask; `done` gets the reply or the exception, exactly once, from the loop, unless the Exchange is cancelled.

        A `reply_bytes_max` of one's own also says that the reply may well be that large: room is made at once.
        Raises LimitError when too many requests wait already, FrameError or MessageTooLarge for what cannot be sent.
        """
        exchange = Exchange(
            self.outbox,
            self.encoded(header, b"", payload),
            URGENT if urgent else 0,
            done,
            reply_bytes_max=self.settings.reply_bytes_max if reply_bytes_max is None else reply_bytes_max,
            large_reply=reply_bytes_max is not None,
        )
        self.outbox.begin(exchange)
        return exchange

    async def request(
        self,
        header: bytes,
        payload: Parts,
        *,
        timeout_s: float = 30.0,
        urgent: bool = False,
        reply_bytes_max: int | None = None,
    ) -> Message:
        """Ask and await the reply. Raises RequestTimeout, StreamLost, MessageTooLarge, ConnectionLost.

        Cancelling the await, or running out of time, resets the stream.
        """
        answer: asyncio.Future[Message] = self.loop.create_future()
        exchange = self.start_request(header, payload, _fill(answer), urgent=urgent, reply_bytes_max=reply_bytes_max)

        def late() -> None:
            if not answer.done():
                exchange.cancel()
                answer.set_exception(RequestTimeout(f"no reply to {header[:64]!r} within {timeout_s:g} s"))

        timer = self.loop.call_later(timeout_s, late)
        try:
            return await answer
        finally:
            timer.cancel()
            exchange.cancel()

    def start_send(self, header: bytes, dst: bytes, payload: Parts, done: Done, *, priority: int = 0) -> Sending:
        """As `send`, without a task: `done` gets an empty Message when all is acknowledged, or the exception."""
        sending = Sending(self.outbox, self.encoded(header, dst, payload), priority, done)
        self.outbox.begin(sending)
        return sending

    async def send(
        self, header: bytes, dst: bytes, payload: Parts, *, priority: int = 0, retry: Retry | None = None
    ) -> None:
        """Send one message and await its arrival: every byte acknowledged by the peer's QUIC stack.

        Higher priorities leave first. Raises StreamLost or MessageTooLarge if the peer threw the stream away, and
        ConnectionLost. Cancelling the await resets the stream. What is sent again by `retry` may arrive twice.
        """

        async def attempt() -> None:
            arrived: asyncio.Future[Message] = self.loop.create_future()
            sending = self.start_send(header, dst, payload, _fill(arrived), priority=priority)
            try:
                await arrived
            finally:
                sending.cancel()

        schedule = retry or self.settings.retry
        if schedule is None:
            await attempt()
        else:
            await self._until_closed(schedule, attempt)

    def open_uni(self) -> SendStream:
        """A stream of one's own for one message, as qp2p has it. The peer learns of it with the first bytes."""
        return SendStream(self.outbox, uni=True)

    def open_bi(self) -> tuple[SendStream, ReceiveStream]:
        """A stream for one message and its one reply."""
        stream = SendStream(self.outbox, uni=False)
        return stream, ReceiveStream(stream)

    def messages(self) -> AsyncIterator[Message]:
        """Inbound messages, when no `on_message` takes them; ends with the connection.

        What is not taken holds back the peer: first its bytes, then its streams.
        """
        return self.mailbox.messages()

    def lost(self) -> ConnectionLost | None:
        """The exception for operations the end of the connection cuts short; None while it lives."""
        return None if self.close_reason is None else lost(self.close_reason)

    # For its parts

    @property
    def source(self) -> "Connection":
        """Itself, as messages know it."""
        return self

    @property
    def draining(self) -> bool:
        """Nothing new is begun or taken; what is in flight is finished."""
        return self.traffic.draining

    def touch(self) -> None:
        """Something may have to leave this turn."""
        if not self.marked:
            self.traffic.mark(self)

    def tell(self, callback: Callable[..., None], *arguments: Any) -> bool:
        """Call an owner's callback: what it raises is the owner's fault, and reported; False then."""
        try:
            callback(*arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a CancelledError too: reported as any loop does
            self.loop.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
            return False
        return True

    def encoded(self, header: bytes, dst: bytes, payload: Parts) -> list[bytes]:
        """The pieces of a message of ours. Raises MessageTooLarge, FrameError for one that may not be sent."""
        pieces = encode(header, dst, payload, empty_payload=self.empty_payloads)
        size = sum(map(len, pieces))
        if size > self.settings.send_bytes_max:
            raise MessageTooLarge(f"a message of {size} bytes: this end sends at most {self.settings.send_bytes_max}")
        return pieces

    # What the endpoint calls

    def dial(self, timeout_s: float) -> None:
        """Begin the handshake; it may take this long, or as long as the settings say if that is more."""
        now = self.traffic.clock()
        self._deadline = now + max(timeout_s, self.settings.handshake_s)
        self.engine.dial(self.first_address, now)
        self._route()
        self.touch()

    def start(self) -> None:
        """A stranger's handshake has begun."""
        self._route()

    def readmit(self) -> None:
        """Judge a live peer again, after the bundle or the registry changed; close it if it is admitted no more."""
        if self.closed or not self._established or not (self.dialled or self.traffic.trust.asks_client):
            return
        try:
            self._admit(self._chain)
        except TrustError as error:
            self.close(CloseCode.EXPIRED if error.kind == "expired" else CloseCode.REFUSED, str(error))

    def receive(self, data: bytes, address: Any, now: float) -> None:
        """One datagram of the peer's. `process` follows once per turn."""
        self.received_bytes += len(data)
        self.heard_at = now
        self.engine.receive(data, address, now)
        if not (self._established or self.dialled or self.engine.begun):
            self._finish(CloseReason("transport", 0, "no packet that could be read"))
            self._bury()
            return
        if self._farewell and self.closed and self._answers < _FAREWELLS and not self.engine.close_heard:
            self._answers += 1  # the peer has not heard our close
            self.traffic.transmit(self, self._farewell)

    def process(self, now: float) -> None:
        """Act on what the datagrams of this turn brought."""
        if self._halted:
            return
        engine = self.engine
        events = engine.take_events()
        if events:
            self._events.extend(events)
        if engine.new_cids or engine.old_cids:
            self._route()
        if engine.reset_token is not self._reset_token:
            self.traffic.unroute_reset(self._reset_token)
            self._reset_token = engine.reset_token
            self.traffic.route_reset(self._reset_token, self)
        if not self._established and (engine.confirmed if self.dialled else engine.complete):
            self._establish(now)
        if self._established:
            if engine.address is not self.raw_address and engine.address != self.raw_address:
                self.raw_address = engine.address
                self.traffic.moved(self)
            self._dispatch()
            if not self.closed and self.outbox.waits:
                self.outbox.start_waiting()
        if engine.ending and not self.closed:
            self._finish(engine.end(None if self._established else self._refusal))

    def flush(self, now: float) -> None:
        """Send what may leave now, and set the timer."""
        self.marked = False
        if self._halted:
            return
        engine = self.engine
        datagrams = engine.datagrams(now)
        if datagrams:
            if self.closed and not self._farewell:
                self._farewell = datagrams
                self._farewells = 1
                self._farewell_at = now + engine.probe_timeout_s
            self.traffic.transmit(self, datagrams)
            self.process(now)
            if engine.has_more and not self.closed:
                # The peer works on this flight while the next is built, and others have their turn in between.
                self.traffic.mark_later(self)
                return
        # A dial that nobody answered has nobody to tell more than once.
        if engine.terminated or (self.closed and (engine.close_heard or not engine.begun)):
            self._bury()
        else:
            self._arm(now)

    def forgotten(self) -> None:
        """A stateless reset: the peer does not know this connection, or has heard that it ended."""
        if not self.closed:
            self._finish(CloseReason("reset", 0, "the peer does not know this connection: it was restarted"))
        self._bury()

    def too_big(self, size: int) -> None:
        """The system refused a datagram of this size."""
        if not self._established and not self.closed:
            text = f"the path does not carry datagrams of {size} bytes, which QUIC needs (RFC 9000 section 14)"
            self._finish(CloseReason("transport", 0, text))
            self._bury()
            return
        self.engine.too_big(size)
        self.touch()

    def stop(self) -> None:
        """No timer and no packet any more: the endpoint's socket is going."""
        self._halted = True
        self._disarm()
        self.engine.end_trace()

    def crash(self, error: Exception) -> None:
        """A packet of the peer's met a mistake in this program: it costs this connection only, and is reported."""
        self.loop.call_exception_handler({"message": f"{self!r} failed", "exception": error})
        if self.closed:
            self._bury()
            return
        self._finish(self.engine.fail(f"{type(error).__name__}: {error}"))

    # Private

    async def _until_closed(self, schedule: Retry, attempt: Callable[[], Awaitable[None]]) -> None:
        """Attempt on schedule; the end of the connection cuts a wait short."""
        end: asyncio.Future[Exception] = self.loop.create_future()

        def ended(_: Connection) -> None:
            if (reason := self.lost()) is not None and not end.done():
                end.set_result(reason)

        self.add_done_callback(ended)
        try:
            await schedule.run(attempt, until=end)
        finally:
            if ended in self._callbacks:
                self._callbacks.remove(ended)

    def _admit(self, chain_der: list[bytes]) -> None:
        """Judge the peer's chain, from inside the handshake. Raises TrustError."""
        self._chain = chain_der
        traffic = self.traffic
        try:
            self.peer = traffic.trust.admit(chain_der, expect=self._expect, dialled=self.dialled, now=traffic.utc_now())
        except TrustError as error:
            self._refusal = error
            raise

    def _route(self) -> None:
        engine = self.engine
        for cid in engine.new_cids:
            self._cids.add(cid)
            self.traffic.route(cid, self)
        for cid in engine.old_cids:
            self._cids.discard(cid)
            self.traffic.unroute(cid)
        engine.new_cids.clear()
        engine.old_cids.clear()

    def _establish(self, now: float) -> None:
        if self.closed:
            return
        self._established = True
        self.raw_address = self.engine.address
        self._deadline = None
        if self.peer.not_after is not None:
            self._deadline = now + (self.peer.not_after - self.traffic.utc_now()).total_seconds()
        self.traffic.established(self)

    def _dispatch(self) -> None:
        """Hand out what happened to streams. A callback may end the connection: then the rest is told so."""
        events = self._events
        events.reverse()  # so that the next one is cheap to take
        while events and not self.closed:
            kind, stream, code = events.pop()
            owner = stream.owner
            if kind is FlowEvent.READABLE:
                self.mailbox.read(stream)
            elif owner is None:
                continue
            elif kind is FlowEvent.SENT:
                self.tell(owner.on_sent)
            elif kind is FlowEvent.RESET:
                self.tell(owner.on_reset, code)
            else:
                self.tell(owner.on_stopped, code)

    def _finish(self, reason: CloseReason) -> None:
        nobody = self._established or not (self.dialled or self.engine.begun)
        failure = None if nobody else failure_of(reason, self._refusal)
        self.close_reason = reason
        self.traffic.ended(self, failure)
        # Streams that are over already may have owners who have not been told yet, also of what this turn brought.
        self._events.extend(self.engine.take_events())
        streams = {id(stream): stream for stream in self.engine.streams.values()}
        streams.update((id(stream), stream) for _, stream, _ in self._events)
        self._events.clear()
        self.ledger.clear()
        for stream in streams.values():
            if stream.owner is not None:
                self.tell(stream.owner.on_lost)
        for outgoing in self.outbox.end():
            self.tell(outgoing.on_lost)
        self.mailbox.wake()
        callbacks, self._callbacks = self._callbacks, []
        self.loop.call_soon(self._tell_closed, callbacks)
        self.traffic.mark(self)

    def _tell_closed(self, callbacks: "list[Callable[[Connection], None]]") -> None:
        if self.on_closed is not None:
            callbacks = [self.on_closed, *callbacks]
        for callback in callbacks:
            self.tell(callback, self)

    def _arm(self, now: float) -> None:
        """One timer for all: moved only when it must ring earlier, a late one finds nothing to do and is set anew."""
        at = self._next(now)
        if at is None:
            self._disarm()
        else:
            self._arm_at(at, now)

    def _arm_at(self, at: float, now: float) -> None:
        if self._timer is not None:
            if at >= self._timer_at - _TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_later(max(0.0, at - now), self._ring)

    def _next(self, now: float) -> float | None:
        at = self.engine.timer()
        if at is None:
            return None
        if self.closed:
            return min(at, self._farewell_at)
        if self._deadline is not None and self._deadline < at:
            at = min(self._deadline, now + _FAR_S)
        if self._established and (ping_at := self._ping_at()) is not None:
            at = min(at, ping_at)
        return at

    def _ping_at(self) -> float | None:
        if not (self.dialled and self.settings.keep_alive):
            return None
        return self.heard_at + self.engine.idle_s / 3

    def _ring(self) -> None:
        self._timer = None
        try:
            now = self.traffic.clock()
            at = self._next(now)
            if at is not None and now < at - _TIMER_SLACK_S:
                self._arm_at(at, now)  # what it was set for need not be done any more
            else:
                self._on_time(now)
        except Exception as error:  # noqa: BLE001  # reported; without its timer the connection would never end
            self.crash(error)

    def _on_time(self, now: float) -> None:
        self.engine.on_timer(now)
        self.process(now)
        if self.closed:
            if now >= self._farewell_at:
                self._say_farewell(now)
        else:
            if self._deadline is not None and now >= self._deadline:
                self._expire()
            ping_at = self._ping_at() if self._established else None
            if ping_at is not None and now >= ping_at and not self.closed:
                self.engine.ping()
                self.heard_at = now  # the next ping a third later, whatever becomes of this one
        self.flush(now)

    def _say_farewell(self, now: float) -> None:
        """Once more: the last one may have been lost, and the peer would wait out its idle time."""
        self.traffic.transmit(self, self._farewell)
        self._farewells += 1
        again = self._farewells < _FAREWELLS
        self._farewell_at = now + self.engine.probe_timeout_s if again else math.inf

    def _expire(self) -> None:
        """The deadline has come: of the handshake, or of the peer's certificate."""
        if self._established:
            self.close(CloseCode.EXPIRED, "the peer's certificate has expired")
            return
        self.engine.give_up_handshake("handshake timeout")
        self._finish(CloseReason("idle", 0, "the handshake took too long"))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _bury(self) -> None:
        self.stop()
        for cid in self._cids:
            self.traffic.unroute(cid)
        self._cids.clear()
        self.traffic.unroute_reset(self._reset_token)
        if not self.closed:
            self._finish(self.engine.end(None if self._established else self._refusal))
        self.traffic.buried(self)


def _fill(future: "asyncio.Future[Message]") -> Done:
    def done(result: Message | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
