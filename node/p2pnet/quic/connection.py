"""A live connection: composed of an engine, a mailbox and an outbox, from its handshake to its close.

Everything here runs on the endpoint's loop, called by the dispatcher once per loop turn. There is no task and no asyncio
object per packet: those cost more than the packet itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol, Self

from p2pnet.model.errors import TrustError
from p2pnet.quic.addresses import Address, readable
from p2pnet.quic.connection_index import ConnectionIndex, IndexEntries
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
from p2pnet.quic.liveness import STALL_S, TIMER_SLACK_S, ClosePackets, ConnectionTimer
from p2pnet.quic.mailbox import Mailbox
from p2pnet.quic.message import Message
from p2pnet.quic.requests import URGENT, Done, Exchange, ReceiveStream, Sending, SendStream, StreamOutbox
from p2pnet.quic.retry import Retry
from p2pnet.quic.settings import Settings
from p2pnet.quic.trust import PeerName, Trust

_FAR_S = 86_400.0
"""The timer is never set further ahead: event loops refuse, or lose precision on, times that far off (a leaf of ten years)."""


class DispatcherHooks(Protocol):
    """What a connection uses of the dispatcher of its endpoint."""

    owner: Any
    """The endpoint."""
    index: ConnectionIndex
    loop: asyncio.AbstractEventLoop
    settings: Settings
    trust: Trust
    draining: bool
    clock: Callable[[], float]
    utc_now: Callable[[], datetime]

    def mark(self, connection: Any) -> None:
        """Flush this connection at the end of this loop turn: it has something to send."""

    def mark_later(self, connection: Any) -> None:
        """Flush it in the next loop turn: it has more to send than one turn's flight."""

    def transmit(self, connection: Any, datagrams: list[Datagram]) -> None:
        """Hand these to the socket now."""

    def established(self, connection: Any) -> None:
        """The handshake is complete and the peer's certificate was admitted."""

    def moved(self, connection: Any) -> None:
        """The peer's address has changed (RFC 9000 section 9)."""

    def ended(self, connection: Any, failure: Exception | None) -> None:
        """The connection is closed or lost; `failure` only if it was never established."""

    def disposed(self, connection: Any) -> None:
        """The connection sends nothing any more, not even close packets, and its index entries are gone."""


class Connection:
    """A connection with one peer. Made by an Endpoint; all methods must be called on its loop."""

    __slots__ = (
        "__weakref__", "_callbacks", "_chain", "_close_packets", "_deadline", "_established", "_events", "_expect",
        "_halted", "_index_entries", "_refusal", "_timer", "close_reason", "dialled", "dispatcher", "empty_payloads",
        "engine", "first_address", "heard_at", "id", "ledger", "loop", "mailbox", "marked", "on_closed", "outbox",
        "peer", "raw_address", "received_bytes", "sent_bytes", "settings",
    )  # fmt: skip

    def __init__(
        self,
        dispatcher: DispatcherHooks,
        make_engine: Callable[[Callable[[list[bytes]], None]], Engine],
        *,
        address: Any,
        dialled: bool,
        expect: str | None,
    ) -> None:
        """`make_engine` is given the check of the peer's chain; `address` is in the transport's form, `expect` a URI."""
        self.dispatcher = dispatcher
        self.loop = dispatcher.loop
        self.settings = dispatcher.settings
        self.dialled = dialled
        self.id = 0
        """Unique within this process, growing, unchanged when the peer's address changes; 0 until established."""
        self.sent_bytes = 0
        """Bytes of UDP payload sent."""
        self.received_bytes = 0
        """Bytes of UDP payload received."""
        self.close_reason: CloseReason | None = None
        self.peer = PeerName()
        """The peer's identity, as its certificate proves it."""
        self.on_closed: Callable[[Connection], None] | None = None
        """Called exactly once, from the loop, whatever ended the connection."""
        empties = self.settings.empty_payloads
        self.empty_payloads = dispatcher.trust.kind != "anyone" if empties is None else empties
        """Whether messages may have an empty payload; qp2p allows none."""
        self.engine = make_engine(self._admit)
        self.ledger = Ledger(self.settings.connection_window_bytes, credit=self.engine.credit, grant=self.engine.grant)
        self.mailbox = Mailbox(self)
        self.outbox = StreamOutbox(self, self.lost)
        self.marked = False
        """The dispatcher will flush it in this loop turn or the next."""
        self.heard_at = dispatcher.clock()
        """When a datagram of the peer's last arrived, in monotonic seconds of the endpoint's clock."""
        self.first_address = address
        """The peer's address during the handshake, in the transport's form."""
        self.raw_address = address
        """The peer's present address, in the transport's form."""
        self._expect = expect
        self._chain: list[bytes] = []
        self._refusal: TrustError | None = None
        self._established = False
        self._events: list[tuple[FlowEvent, Stream, int]] = []
        self._callbacks: list[Callable[[Connection], None]] = []
        self._index_entries = IndexEntries(dispatcher.index, self)
        self._timer = ConnectionTimer(self.loop, self._ring)
        self._deadline: float | None = self.heard_at + self.settings.handshake_s  # then of the peer's certificate
        self._halted = False
        self._close_packets: ClosePackets | None = None

    # What the owner sees

    @property
    def endpoint(self) -> Any:
        """The endpoint it belongs to."""
        return self.dispatcher.owner

    @property
    def uri(self) -> str:
        """The peer's identity, proved by its certificate; empty where trust proves none."""
        return self.peer.uri

    @property
    def expected_uri(self) -> str:
        """The identity that a dialled peer must prove; empty if any will do."""
        return self._expect or ""

    @property
    def not_after(self) -> datetime | None:
        """When the peer's certificate expires, and with it the connection; None where trust proves nothing."""
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
        """Whether streams are open, or messages wait for one."""
        return bool(self.engine.streams) or self.outbox.waits

    @property
    def on_message(self) -> Callable[[Any, Message], None] | None:
        """Called with the connection and each inbound message; None: messages wait for `messages()`."""
        return self.mailbox.on_message

    @on_message.setter
    def on_message(self, callback: Callable[[Any, Message], None] | None) -> None:
        self.mailbox.on_message = callback

    @property
    def on_malformed(self) -> Callable[[Any, Exception], None] | None:
        """Called with the connection and the FrameError or MessageTooLarge for which a stream was stopped."""
        return self.mailbox.on_malformed

    @on_malformed.setter
    def on_malformed(self, callback: Callable[[Any, Exception], None] | None) -> None:
        self.mailbox.on_malformed = callback

    @property
    def unsent_bytes(self) -> int:
        """Bytes of messages that wait here to leave: for the congestion window, their turn, or the peer's credit."""
        return self.engine.unsent_bytes

    def counters(self) -> dict[str, float]:
        """Gauges and totals of this connection, by a name that ends in its unit."""
        return {
            **self.engine.counters(),
            "held_bytes": self.engine.held_bytes + self.ledger.unacknowledged,
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
        # Not flushed here: everything closed in one loop turn leaves together.
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
        self,
        header: bytes,
        payload: Parts,
        done: Done,
        *,
        urgent: bool = False,
        in_line: bool = False,
        reply_bytes_max: int | None = None,
    ) -> Exchange:
        """As `request`, without a task: `done` is called once, from the loop, with the reply or the exception.

        It is not called after `Exchange.cancel`. `in_line`: it leaves after all of this connection that were begun so before,
        not in turn with them: many large requests then arrive one by one, not all at the end. `reply_bytes_max`: payload
        bytes; naming it also says that the reply may well be that large, so flow control makes room for it at once. Raises
        LimitError when too many requests wait already, FrameError or MessageTooLarge for what cannot be sent.
        """
        exchange = Exchange(
            self.outbox,
            self.encoded(header, b"", payload),
            URGENT if urgent else 0,
            done,
            reply_bytes_max=self.settings.reply_bytes_max if reply_bytes_max is None else reply_bytes_max,
            large_reply=reply_bytes_max is not None,
        )
        exchange.in_line = in_line
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
        """Send a request and await its reply. Raises RequestTimeout, StreamLost, MessageTooLarge, ConnectionLost.

        Cancelling the await, or running out of time, resets the stream: the peer sees that nobody waits.
        """
        answer: asyncio.Future[Message] = self.loop.create_future()
        exchange = self.start_request(header, payload, _fill(answer), urgent=urgent, reply_bytes_max=reply_bytes_max)

        def late() -> None:
            if not answer.done():
                exchange.cancel()
                # The exchange was cancelled first, so its own callback cannot set another result.
                answer.set_exception(RequestTimeout(f"no reply to {header[:64]!r} within {timeout_s:g} s"))

        # A plain timer: asyncio.timeout would cancel and uncancel the task, and costs more.
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

        Higher priorities leave first. Raises StreamLost or MessageTooLarge if the peer refused the stream, and
        ConnectionLost. Cancelling the await resets the stream. What `retry` sends again may arrive twice.
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
        """A stream for one message, as qp2p has it. The peer learns of it with its first bytes."""
        return SendStream(self.outbox, uni=True)

    def open_bi(self) -> tuple[SendStream, ReceiveStream]:
        """A stream for one message and its one reply."""
        stream = SendStream(self.outbox, uni=False)
        return stream, ReceiveStream(stream)

    def messages(self) -> AsyncIterator[Message]:
        """Inbound messages in order of arrival, where no `on_message` is set; ends with the connection.

        Messages that are not read hold back the peer by flow control: first its bytes, then its streams.
        """
        return self.mailbox.messages()

    def lost(self) -> ConnectionLost | None:
        """The exception for operations that the end of the connection interrupts; None while it lives."""
        return None if self.close_reason is None else lost(self.close_reason)

    # For its parts

    @property
    def source(self) -> "Connection":
        """The connection as its messages know it: see `mailbox.Carrier`."""
        return self

    @property
    def draining(self) -> bool:
        """Nothing new is begun or accepted; what is in flight is finished."""
        return self.dispatcher.draining

    def touch(self) -> None:
        """Flush the connection in this loop turn: it may have something to send."""
        if not self.marked:
            self.dispatcher.mark(self)

    def notify(self, callback: Callable[..., None], *arguments: Any) -> bool:
        """Call a user's callback. What it raises is reported to the loop's exception handler; False then."""
        try:
            callback(*arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a CancelledError too: reported as any loop does
            self.loop.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
            return False
        return True

    def encoded(self, header: bytes, dst: bytes, payload: Parts) -> list[bytes]:
        """The pieces of one outbound message. Raises MessageTooLarge, FrameError for one that may not be sent."""
        pieces = encode(header, dst, payload, empty_payload=self.empty_payloads)
        size = sum(map(len, pieces))
        if size > self.settings.send_bytes_max:
            raise MessageTooLarge(f"a message of {size} bytes: this end sends at most {self.settings.send_bytes_max}")
        return pieces

    # What the dispatcher and the endpoint call

    def dial(self, timeout_s: float) -> None:
        """Begin the handshake as its client; its deadline is the longer of `timeout_s` and `Settings.handshake_s`."""
        now = self.dispatcher.clock()
        self._deadline = now + max(timeout_s, self.settings.handshake_s)
        # The deadline is set before: a dial to an address that drops everything must end too.
        self.engine.dial(self.first_address, now)
        self._index_entries.follow(self.engine)
        self.touch()

    def accept(self, cid: bytes) -> None:
        """Begin the handshake as its server: datagrams for `cid`, the client's choice, are this connection's."""
        self.engine.new_cids.append(cid)
        self._index_entries.follow(self.engine)

    def readmit(self) -> None:
        """Verify a live peer's chain again, after the bundle or the registry changed; close if it is admitted no more."""
        # A server that asks for no certificates has no chain to verify again.
        if self.closed or not self._established or not (self.dialled or self.dispatcher.trust.asks_client):
            return
        try:
            self._admit(self._chain)
        except TrustError as error:
            # The peer learns which of the two it is: after a renewal a new dial may succeed, after a removal it cannot.
            self.close(CloseCode.EXPIRED if error.kind == "expired" else CloseCode.REFUSED, str(error))

    def receive(self, data: bytes, address: Any, now: float) -> None:
        """Take one datagram of the peer's. `process` must follow once per loop turn."""
        self.received_bytes += len(data)
        self.heard_at = now
        self.engine.receive(data, address, now)
        if not (self._established or self.dialled or self.engine.begun):
            # A first datagram that cannot be read costs no state: whoever sent it need not exist.
            self._finish(CloseReason("transport", 0, "no packet that could be read"))
            self._dispose()
            return
        packets = self._close_packets
        if packets is not None and not self.engine.close_heard and packets.answers():
            self.dispatcher.transmit(self, packets.datagrams)

    def process(self, now: float) -> None:
        """Act on what the datagrams of this loop turn brought: connection ids, handshake, address, stream events, the end."""
        if self._halted:
            return
        engine = self.engine
        events = engine.take_events()
        if events:
            self._events.extend(events)
        if engine.new_cids or engine.old_cids or engine.reset_token is not self._index_entries.reset_token:
            self._index_entries.follow(engine)
        # A client is only established when the server has confirmed: before, its certificate may still be refused.
        if not self._established and (engine.confirmed if self.dialled else engine.complete):
            self._establish(now)
        if self._established:
            if engine.address is not self.raw_address and engine.address != self.raw_address:
                self.raw_address = engine.address
                self.dispatcher.moved(self)
            self._handle_events()
            # Finished streams, or a MAX_STREAMS, may have made room for messages that wait.
            if not self.closed and self.outbox.waits:
                self.outbox.start_waiting()
        # Last, so that what arrived with the close, or before it, is still delivered.
        if engine.ending and not self.closed:
            self._finish(engine.end(None if self._established else self._refusal))

    def flush(self, now: float) -> None:
        """Send what may leave now, and set the timer for the rest."""
        self.marked = False
        if self._halted:
            return
        engine = self.engine
        datagrams = engine.datagrams(now)
        if datagrams:
            if self.closed and self._close_packets is None:
                self._close_packets = ClosePackets(datagrams, now, engine.probe_timeout_s)
            self.dispatcher.transmit(self, datagrams)
            self.process(now)
            if engine.has_more and not self.closed:
                # The peer works on this flight while the next is built, and other connections are served in between.
                self.dispatcher.mark_later(self)
                return
        # A dial that nobody answered has nobody to repeat its close packets to.
        if engine.terminated or (self.closed and (engine.close_heard or not engine.begun)):
            self._dispose()
        else:
            self._arm(now)

    def peer_reset(self) -> None:
        """A stateless reset came: the peer does not know this connection, or has heard that it ended."""
        if not self.closed:
            self._finish(CloseReason("reset", 0, "the peer does not know this connection: it was restarted"))
        self._dispose()

    def too_big(self, size: int) -> None:
        """The system refused a datagram of this many bytes (EMSGSIZE): the path is narrower than was thought."""
        if not self._established and not self.closed:
            text = f"the path does not carry datagrams of {size} bytes, which QUIC needs (RFC 9000 section 14)"
            self._finish(CloseReason("transport", 0, text))
            self._dispose()
            return
        self.engine.too_big(size)
        self.touch()

    def stop(self) -> None:
        """Set no timer and send no packet any more: the endpoint's socket is about to close."""
        self._halted = True
        self._timer.cancel()
        self.engine.end_trace()

    def crash(self, error: Exception) -> None:
        """An unexpected exception of this program: it costs this connection only, and is reported to the loop."""
        self.loop.call_exception_handler({"message": f"{self!r} failed", "exception": error})
        if self.closed:
            self._dispose()
            return
        self._finish(self.engine.fail(f"{type(error).__name__}: {error}"))

    # Private

    async def _until_closed(self, schedule: Retry, attempt: Callable[[], Awaitable[None]]) -> None:
        """Attempt on this schedule; the end of the connection interrupts attempts and waits."""
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
        """Verify the peer's chain, called from inside the handshake. Raises TrustError."""
        self._chain = chain_der
        hooks = self.dispatcher
        try:
            self.peer = hooks.trust.admit(chain_der, expect=self._expect, dialled=self.dialled, now=hooks.utc_now())
        except TrustError as error:
            self._refusal = error
            raise

    def _establish(self, now: float) -> None:
        if self.closed:
            return
        self._established = True
        self.raw_address = self.engine.address
        self._deadline = None
        if self.peer.not_after is not None:
            self._deadline = now + (self.peer.not_after - self.dispatcher.utc_now()).total_seconds()
        self.dispatcher.established(self)

    def _handle_events(self) -> None:
        """Pass each stream event to the stream's owner. A user's callback may close the connection: `_finish` does the rest."""
        events = self._events
        events.reverse()  # so that the next one can be popped from the end
        while events and not self.closed:
            kind, stream, code = events.pop()
            owner = stream.owner
            if kind is FlowEvent.READABLE:
                self.mailbox.read(stream)
            elif owner is None:
                continue
            elif kind is FlowEvent.SENT:
                owner.on_sent()
            elif kind is FlowEvent.RESET:
                owner.on_reset(code)
            else:
                owner.on_stopped(code)

    def _finish(self, reason: CloseReason) -> None:
        """The connection has ended: leave every table first, then fail what is in flight, then call `on_closed`."""
        unreported = self._established or not (self.dialled or self.engine.begun)
        failure = None if unreported else failure_of(reason, self._refusal)
        self.close_reason = reason
        self.dispatcher.ended(self, failure)
        # Streams that have finished already may have owners that have not heard of it, even of events of this loop turn.
        self._events.extend(self.engine.take_events())
        # By identity: a stream with waiting events may be among the open ones too.
        streams = {id(stream): stream for stream in self.engine.streams.values()}
        streams.update((id(stream), stream) for _, stream, _ in self._events)
        self._events.clear()
        self.ledger.clear()
        for stream in streams.values():
            if stream.owner is not None:
                stream.owner.on_lost()
        for outgoing in self.outbox.end():
            outgoing.on_lost()
        self.mailbox.wake()
        callbacks, self._callbacks = self._callbacks, []
        # Never synchronously: `close` may have been called from inside another callback of the same owner.
        self.loop.call_soon(self._notify_closed, callbacks)
        self.dispatcher.mark(self)

    def _notify_closed(self, callbacks: "list[Callable[[Connection], None]]") -> None:
        if self.on_closed is not None:
            callbacks = [self.on_closed, *callbacks]
        for callback in callbacks:
            self.notify(callback, self)

    def _arm(self, now: float) -> None:
        at = self._next(now)
        if at is None:
            self._timer.cancel()
        else:
            self._timer.set(at, now)

    def _next(self, now: float) -> float | None:
        """When the connection has to act by itself, in monotonic seconds; None: never again."""
        at = self.engine.timer()
        if at is None:
            return None
        if self.closed:
            return at if self._close_packets is None else min(at, self._close_packets.next_at)
        # Compared with the engine's time first: nearly always that is earlier.
        if self._deadline is not None and self._deadline < at:
            at = min(self._deadline, now + _FAR_S)
        if self._established and (ping_at := self._ping_at()) is not None:
            at = min(at, ping_at)
        return at

    def _ping_at(self) -> float | None:
        """When to ping; None: never. Only the dialer does, after a third of the idle time, so that two may be lost."""
        if not (self.dialled and self.settings.keep_alive):
            return None
        return self.heard_at + self.engine.idle_s / 3

    def _ring(self) -> None:
        self._timer.rang()
        try:
            now = self.dispatcher.clock()
            stalled_s = now - self._timer.at
            if stalled_s >= STALL_S and self._established and not self.closed:
                self.engine.excuse_silence(stalled_s, now)  # timers may ring before the socket is read again
            at = self._next(now)
            if at is not None and now < at - TIMER_SLACK_S:
                self._timer.set(at, now)  # what it was set for need not be done any more
            else:
                self._on_time(now)
        except Exception as error:  # noqa: BLE001  # reported by crash; without its timer the connection would never end
            self.crash(error)

    def _on_time(self, now: float) -> None:
        self.engine.on_timer(now)
        self.process(now)
        if self.closed:
            packets = self._close_packets
            if packets is not None and now >= packets.next_at:
                self.dispatcher.transmit(self, packets.datagrams)
                packets.repeated(now, self.engine.probe_timeout_s)
        else:
            if self._deadline is not None and now >= self._deadline:
                self._expire()
            ping_at = self._ping_at() if self._established else None
            if ping_at is not None and now >= ping_at and not self.closed:
                # Only after silence: traffic proves that the peer is alive without a ping.
                self.engine.ping()
                self.heard_at = (
                    now  # the next ping follows a third of the idle time later, whatever becomes of this one
                )
        self.flush(now)

    def _expire(self) -> None:
        """The deadline has passed: the handshake's, or the peer certificate's."""
        if self._established:
            self.close(CloseCode.EXPIRED, "the peer's certificate has expired")
            return
        self.engine.give_up_handshake("handshake timeout")
        self._finish(CloseReason("idle", 0, "the handshake took too long"))

    def _dispose(self) -> None:
        """Give up timer and index entries: nothing is sent or received on this connection any more."""
        self.stop()
        self._index_entries.end()
        if not self.closed:
            self._finish(self.engine.end(None if self._established else self._refusal))
        self.dispatcher.disposed(self)


def _fill(future: "asyncio.Future[Message]") -> Done:
    """A callback that completes this future, unless its awaiter has gone."""

    def done(result: Message | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
