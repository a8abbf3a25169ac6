"""A live connection: requests, sends and messages, each on a stream of its own."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from aioquic.quic.events import StopSendingReceived

from p2pnet.model.errors import LimitError
from p2pnet.quic.errors import CloseCode, ConnectionLost, EndpointClosed, RequestTimeout
from p2pnet.quic.framing import Parts, encode
from p2pnet.quic.host import Host, deliver
from p2pnet.quic.inbox import Inbox
from p2pnet.quic.message import Message
from p2pnet.quic.outgoing import URGENT, Exchange, Outgoing, Sending
from p2pnet.quic.streams import BoundedStream

if TYPE_CHECKING:
    from p2pnet.quic.lanes import ReceiveStream, SendStream

Done = Callable[[Message | Exception], None]


class Connection(Inbox):
    """One peer. Made by an Endpoint; all methods belong to its loop."""

    def __init__(self, host: Host, *, address: Any, dialled: bool, expect: str | None) -> None:
        super().__init__(host, address=address, dialled=dialled, expect=expect)
        self.on_closed: Callable[[Connection], None] | None = None
        """Called exactly once, from the loop, however the connection ended."""
        self._callbacks: list[Callable[[Connection], None]] = []
        self._waiting: dict[bool, list[tuple[int, int, Outgoing]]] = {True: [], False: []}
        self._order = itertools.count()

    # Asking and sending

    def start_request(
        self, header: bytes, payload: Parts, done: Done, *, urgent: bool = False, reply_bytes_max: int | None = None
    ) -> Exchange:
        """Ask; `done` gets the reply or the exception, exactly once, from the loop, unless the Exchange is cancelled.

        Raises LimitError when too many requests wait already, FrameError or MessageTooLarge for what cannot be framed.
        """
        cap = self.settings.reply_bytes_max if reply_bytes_max is None else reply_bytes_max
        pieces = encode(header, b"", payload, empty_payload=self.empty_payloads)
        exchange = Exchange(self, pieces, URGENT if urgent else 0, done, cap)
        self.begin(exchange)
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
        answer: asyncio.Future[Message] = self.host.loop.create_future()
        exchange = self.start_request(header, payload, _fill(answer), urgent=urgent, reply_bytes_max=reply_bytes_max)

        def late() -> None:
            if not answer.done():
                exchange.cancel()
                answer.set_exception(RequestTimeout(f"no reply to {header[:64]!r} within {timeout_s:g} s"))

        timer = self.host.loop.call_later(timeout_s, late)
        try:
            return await answer
        finally:
            timer.cancel()
            exchange.cancel()

    def start_send(self, header: bytes, dst: bytes, payload: Parts, done: Done, *, priority: int = 0) -> Sending:
        """As `send`, without a task: `done` gets an empty Message when all is acknowledged, or the exception."""
        sending = Sending(self, encode(header, dst, payload, empty_payload=self.empty_payloads), priority, done)
        self.begin(sending)
        return sending

    async def send(self, header: bytes, dst: bytes, payload: Parts, *, priority: int = 0) -> None:
        """Send one message and await its arrival: every byte acknowledged by the peer's QUIC stack.

        Higher priorities leave first. Raises StreamLost or MessageTooLarge if the peer threw the stream away, and
        ConnectionLost. Cancelling the await resets the stream.
        """
        arrived: asyncio.Future[Message] = self.host.loop.create_future()
        sending = self.start_send(header, dst, payload, _fill(arrived), priority=priority)
        try:
            await arrived
        finally:
            sending.cancel()

    def open_uni(self) -> "SendStream":
        """A stream of one's own for one message, as qp2p has it. The peer learns of it with the first bytes."""
        from p2pnet.quic.lanes import SendStream

        return SendStream(self, uni=True)

    def open_bi(self) -> "tuple[SendStream, ReceiveStream]":
        """A stream for one message and its one reply."""
        from p2pnet.quic.lanes import ReceiveStream, SendStream

        stream = SendStream(self, uni=False)
        return stream, ReceiveStream(stream)

    def add_done_callback(self, callback: "Callable[[Connection], None]") -> None:
        """Have `callback` called once from the loop when the connection has ended, also if it already has."""
        if self.closed:
            self.host.loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    @property
    def busy(self) -> bool:
        """Whether streams are open, or wait to be opened."""
        return bool(self.quic.streams or self._waiting[True] or self._waiting[False])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close(CloseCode.DONE, "lost interest")

    def __repr__(self) -> str:
        return f"Connection({self.id}, {self.uri or '?'} at {self.address[0]}:{self.address[1]}, {self.close_reason})"

    # For streams

    def begin(self, outgoing: Outgoing) -> None:
        """Open its stream now, or when the peer allows one more. Raises LimitError when too many wait."""
        if self.closed:
            self.host.loop.call_soon(outgoing.on_lost)
            return
        if self.host.draining:
            self.host.loop.call_soon(outgoing.fail, EndpointClosed("the endpoint is draining: it begins nothing new"))
            return
        waiting = self._waiting[outgoing.uni]
        if not waiting and self.quic.may_open(uni=outgoing.uni):
            outgoing.start(self.quic.open(uni=outgoing.uni, priority=outgoing.priority))
            return
        if len(waiting) >= self.settings.opens_queued_max:
            raise LimitError(f"{len(waiting)} streams wait for the peer already: opens_queued_max")
        heapq.heappush(waiting, (-outgoing.priority, next(self._order), outgoing))

    def write(self, stream: BoundedStream, pieces: list[bytes]) -> None:
        """Send these pieces as all of our half of the stream."""
        if self.closed:
            return
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            stream.sender.write(piece, end_stream=index == last)
        self.touch()

    def lost(self) -> ConnectionLost | None:
        """The exception for operations the end of the connection cuts short."""
        return None if self.close_reason is None else ConnectionLost(self.close_reason)

    # From the driver

    def _on_streams(self) -> None:
        quic = self.quic
        if quic.acknowledged:
            acknowledged, quic.acknowledged = quic.acknowledged, []
            for stream in acknowledged:
                if stream.owner is not None:
                    deliver(stream.owner.on_sent)
        if quic.readable:
            readable, quic.readable = quic.readable, []
            for stream in readable:
                self._read(stream)
        if quic.resets:
            resets, quic.resets = quic.resets, []
            for stream, code in resets:
                if stream.owner is not None:
                    deliver(stream.owner.on_reset, code)
        if self._waiting[False] or self._waiting[True]:
            self._start_waiting()

    def _on_stopped(self, event: StopSendingReceived) -> None:
        stream = self.quic.streams.get(event.stream_id)
        if stream is not None and stream.owner is not None:
            deliver(stream.owner.on_stopped, event.error_code)

    def _on_end(self) -> None:
        owners = [stream.owner for stream in self.quic.streams.values() if stream.owner is not None]
        waiting = [one for heap in self._waiting.values() for _, _, one in sorted(heap, key=lambda entry: entry[:2])]
        self._waiting = {True: [], False: []}
        self._reserving.clear()
        for owner in owners:
            deliver(owner.on_lost)
        for outgoing in waiting:
            deliver(outgoing.on_lost)
        self._wake()
        callbacks, self._callbacks = self._callbacks, []
        self.host.loop.call_soon(self._tell, callbacks)

    def _tell(self, callbacks: "list[Callable[[Connection], None]]") -> None:
        if self.on_closed is not None:
            callbacks = [self.on_closed, *callbacks]
        for callback in callbacks:
            deliver(callback, self)

    def _start_waiting(self) -> None:
        for uni, waiting in self._waiting.items():
            while waiting and (waiting[0][2].done or self.quic.may_open(uni=uni)):
                _, _, outgoing = heapq.heappop(waiting)
                if not outgoing.done:
                    outgoing.start(self.quic.open(uni=uni, priority=outgoing.priority))


def _fill(future: "asyncio.Future[Message]") -> Done:
    def done(result: Message | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
