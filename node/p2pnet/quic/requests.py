"""Outbound messages, each on a stream of its own: an Exchange awaits one reply, a Sending only has to arrive.

The `StreamOutbox` of a connection keeps those for which the peer, or this end, does not allow another stream yet.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from p2pnet.model.errors import LimitError, LocalError
from p2pnet.quic.engine import Stream
from p2pnet.quic.errors import (
    ConnectionLost,
    EndpointClosed,
    FrameError,
    MessageTooLarge,
    StreamCode,
    StreamLost,
    stream_error,
)
from p2pnet.quic.framing import HEAD_BYTES, MessageReader, Parts, whole
from p2pnet.quic.ledger import Claim
from p2pnet.quic.mailbox import Carrier
from p2pnet.quic.message import Message

URGENT = 1 << 16
"""Priority of urgent requests, above any that qp2p's users give."""

Done = Callable[[Message | Exception], None]
"""Called once with the outcome of an outbound message."""
Lost = Callable[[], ConnectionLost | None]
"""The exception for operations that the end of the connection interrupts; None while it lives."""


class Outgoing:
    """An outbound message on a stream of its own. `finish` is called exactly once, unless it is cancelled before."""

    uni = True
    __slots__ = ("_arrival", "_finish", "_outbox", "_pieces", "_stream", "in_line", "priority", "sent", "waits")

    def __init__(self, outbox: "StreamOutbox", pieces: list[bytes], priority: int, finish: Done) -> None:
        self._outbox = outbox
        self._pieces = pieces
        self._stream: Stream | None = None
        self._finish: Done | None = finish
        self._arrival: asyncio.Future[None] | None = None
        self.priority = priority
        self.in_line = False
        """It leaves after what was in line before it, not in turn with that."""
        self.waits = False
        """It waits in the outbox for a stream."""
        self.sent = False
        """The peer's QUIC stack has acknowledged every byte."""

    @property
    def done(self) -> bool:
        """Finished or cancelled."""
        return self._finish is None

    def start(self, stream: Stream) -> None:
        """Send it on this stream."""
        self._stream = stream
        stream.owner = self
        pieces, self._pieces = self._pieces, []
        self._outbox.carrier.engine.write(stream, pieces)
        self._outbox.carrier.touch()

    def cancel(self) -> None:
        """Give up: reset both halves of the stream, so that the peer never takes the message for whole. Idempotent."""
        if self._finish is None:
            return
        self._finish = None
        self._pieces = []
        self._discard()
        if self._stream is not None:
            self._drop(StreamCode.CANCELLED)
        elif self.waits:
            # It stays in the heap until there are many such: removing it now would take time in proportion to the heap.
            self._outbox.cancelled(self)
        self._arrive(StreamLost(StreamCode.CANCELLED))

    async def arrival(self) -> None:
        """Return when every byte is acknowledged. Raises what ended the stream before that."""
        if self.sent:
            return
        if self._finish is None:
            raise self._outbox.lost() or StreamLost(StreamCode.CANCELLED)
        if self._arrival is None:
            self._arrival = self._outbox.carrier.loop.create_future()
        # Shared by all that wait: one that is cancelled must not cancel it for the others.
        await asyncio.shield(self._arrival)

    # From the connection

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """Bytes of the peer's half: only an Exchange gets any."""

    def on_reset(self, code: int) -> None:
        """The peer refuses to answer."""
        self._end(stream_error(code))

    def on_stopped(self, code: int) -> None:
        """The peer does not take the message."""
        if not self.sent:
            self._drop(code)
            self._end(stream_error(code))

    def on_sent(self) -> None:
        """All bytes are acknowledged."""
        self.sent = True
        self._arrive(None)

    def on_lost(self) -> None:
        """The connection has ended."""
        if (reason := self._outbox.lost()) is not None:
            self._end(reason)

    def fail(self, error: Exception) -> None:
        """It cannot begin, for this reason."""
        self._end(error)

    # Private

    def _discard(self) -> None:
        """Throw away what has come of a reply."""

    def _drop(self, code: int) -> None:
        stream, carrier = self._stream, self._outbox.carrier
        if stream is not None and not carrier.closed:
            # Both halves: the peer need neither read the rest nor answer.
            carrier.engine.reset(stream, code)
            carrier.engine.stop(stream, code)
            carrier.touch()

    def _arrive(self, error: Exception | None) -> None:
        arrival = self._arrival
        if arrival is None or arrival.done():
            return
        if error is None:
            arrival.set_result(None)
        else:
            arrival.set_exception(error)
            arrival.exception()  # mark it as retrieved: nobody need await it

    def _end(self, result: Message | Exception) -> None:
        # Cleared before the call: what it calls may cancel this very message.
        finish, self._finish = self._finish, None
        self._pieces = []
        self._discard()
        self._arrive(result if isinstance(result, Exception) else None)
        if finish is not None:
            self._outbox.carrier.notify(finish, result)


class Sending(Outgoing):
    """A message on a unidirectional stream; finished with an empty Message when every byte is acknowledged."""

    __slots__ = ()

    def on_sent(self) -> None:
        """All bytes are acknowledged: the message has arrived."""
        self.sent = True
        self._end(Message(self._outbox.carrier.source, b"", b"", b""))


class Exchange(Outgoing):
    """A request on a bidirectional stream; finished with its reply."""

    uni = False
    __slots__ = ("_claim", "_expected", "_held", "_reader", "_reply_max")

    def __init__(
        self,
        outbox: "StreamOutbox",
        pieces: list[bytes],
        priority: int,
        finish: Done,
        *,
        reply_bytes_max: int,
        large_reply: bool,
    ) -> None:
        super().__init__(outbox, pieces, priority, finish)
        self._reader: MessageReader | None = None  # made for replies that do not come in one piece
        self._reply_max = reply_bytes_max
        # Only a caller that names a size expects one; claims for every small reply would starve the large ones.
        self._expected = HEAD_BYTES + reply_bytes_max if large_reply else 0
        self._claim: Claim | None = None
        self._held = 0

    def start(self, stream: Stream) -> None:
        """As any; the room for a large reply is claimed at once, which saves its sender a round trip."""
        super().start(stream)
        if self._expected > stream.max_stream_data_local:
            self._claim = self._outbox.carrier.ledger.claim(self._expected, self._widen)

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the reply came."""
        count = sum(map(len, pieces))
        carrier = self._outbox.carrier
        if self._finish is None:
            carrier.ledger.free(count)
            return
        self._held += count
        reader, stream = self._reader, self._stream
        if reader is None:
            if ended and len(pieces) == 1 and (parts := self._whole(pieces[0])) is not None:
                self._end(Message(carrier.source, *parts))
                return
            reader = self._reader = self._make_reader()
        try:
            for piece in pieces:
                reader.feed(piece)
            if not ended:
                if stream is not None and reader.total > stream.max_stream_data_local and self._claim is None:
                    self._claim = carrier.ledger.claim(reader.total, self._widen)
                return
            reply = Message(carrier.source, *reader.finish())
        except (FrameError, MessageTooLarge) as error:
            code = StreamCode.TOO_LARGE if isinstance(error, MessageTooLarge) else StreamCode.MALFORMED
            self._drop(code)
            self._end(error)
            return
        self._end(reply)

    def _cap(self, _header: bytes) -> int:
        return self._reply_max

    def _whole(self, data: bytes) -> tuple[bytes, bytes, bytes] | None:
        header_max = self._outbox.carrier.settings.header_bytes_max
        return whole(data, self._cap, announced_max=self._reply_max, header_max=header_max)

    def _make_reader(self) -> MessageReader:
        carrier = self._outbox.carrier
        return MessageReader(
            self._cap,
            announced_max=self._reply_max,
            header_max=carrier.settings.header_bytes_max,
            empty_payload=carrier.empty_payloads,
            reply=True,
        )

    def _widen(self) -> None:
        stream = self._stream
        if stream is not None and not self.done:
            # The real size where it is known by now: less than expected, mostly.
            announced = 0 if self._reader is None else self._reader.total
            self._outbox.carrier.engine.widen(stream, announced or self._expected)
            self._outbox.carrier.touch()

    def _discard(self) -> None:
        ledger = self._outbox.carrier.ledger
        ledger.free(self._held)
        self._held = 0
        claim, self._claim = self._claim, None
        if claim is not None:
            ledger.release(claim)


class StreamOutbox:
    """The outbound messages of a connection: those that wait until the peer, and this end, allow another stream."""

    __slots__ = ("_dead", "_order", "_waiting", "carrier", "lost", "unsent")

    def __init__(self, carrier: Carrier, lost: Lost) -> None:
        self.carrier = carrier
        self.lost = lost
        """See `Lost`."""
        # Indexed by whether streams are unidirectional:
        self._waiting: list[list[tuple[int, int, Outgoing]]] = [[], []]
        self._dead = [0, 0]  # cancelled while they waited, still in the heaps
        self._order = itertools.count()
        self.unsent: dict[SendStream, None] = {}
        """Streams without a message yet whose reply somebody awaits."""

    @property
    def waits(self) -> bool:
        """Whether any message waits for a stream."""
        return bool(self._waiting[True] or self._waiting[False])

    def begin(self, outgoing: Outgoing) -> None:
        """Open a stream for this message now, or when one may be opened. Raises LimitError when too many wait."""
        carrier = self.carrier
        if carrier.closed:
            # Later: a caller does not expect its callback to run before its call has returned.
            carrier.loop.call_soon(outgoing.on_lost)
            return
        if carrier.draining:
            error = EndpointClosed("the endpoint is draining: it begins nothing new")
            carrier.loop.call_soon(outgoing.fail, error)
            return
        uni = outgoing.uni
        waiting = self._waiting[uni]
        if not waiting and self._may_open(uni=uni):
            self._start(outgoing)
            return
        if len(waiting) - self._dead[uni] >= carrier.settings.opens_queued_max:
            raise LimitError(f"{len(waiting)} streams wait for the peer already: opens_queued_max")
        outgoing.waits = True
        # The order breaks ties, so that equal priorities are served first come first served.
        heapq.heappush(waiting, (-outgoing.priority, next(self._order), outgoing))

    def cancelled(self, outgoing: Outgoing) -> None:
        """A waiting message was cancelled; cancelled ones leave the heap when they are most of it."""
        uni = outgoing.uni
        self._dead[uni] += 1
        waiting = self._waiting[uni]
        if 2 * self._dead[uni] > len(waiting):
            self._waiting[uni] = [entry for entry in waiting if not entry[2].done]
            heapq.heapify(self._waiting[uni])
            self._dead[uni] = 0

    def start_waiting(self) -> None:
        """Open streams for messages that wait, those of the highest priority first."""
        for uni in (True, False):
            waiting = self._waiting[uni]
            while waiting and (waiting[0][2].done or self._may_open(uni=uni)):
                _, _, outgoing = heapq.heappop(waiting)
                if outgoing.done:
                    self._dead[uni] -= 1
                else:
                    self._start(outgoing)

    def end(self) -> "list[Outgoing | SendStream]":
        """The connection has ended: take everything that will never have a stream, in order."""
        unsent, self.unsent = self.unsent, {}
        everyone = [entry for heap in self._waiting for entry in heap]
        self._waiting = [[], []]
        return [*(outgoing for _, _, outgoing in sorted(everyone, key=lambda entry: entry[:2])), *unsent]

    def _start(self, outgoing: Outgoing) -> None:
        engine = self.carrier.engine
        outgoing.start(engine.open(uni=outgoing.uni, priority=outgoing.priority, in_line=outgoing.in_line))

    def _may_open(self, *, uni: bool) -> bool:
        engine = self.carrier.engine
        # The replies must fit into this end's window too, however many streams the peer allows.
        return engine.may_open(uni=uni) and (uni or engine.exchanges < self.carrier.settings.streams_max)


class SendStream:
    """Our half of a stream, which is opened when its one message is sent: qp2p's interface."""

    def __init__(self, outbox: StreamOutbox, *, uni: bool) -> None:
        self._outbox = outbox
        self._uni = uni
        self._priority = 0
        self._outgoing: Outgoing | None = None
        self.result: asyncio.Future[Message] = outbox.carrier.loop.create_future()

    def set_priority(self, priority: int) -> None:
        """Set the priority, 0 by default, before the message is sent; higher ones leave first."""
        self._priority = priority

    async def send_user_msg(self, header: bytes, dst: bytes, payload: Parts) -> None:
        """Send the one message of this stream, with its end, without waiting for its arrival.

        Raises LocalError when one was sent already, or the stream was reset; MessageTooLarge, FrameError or LimitError, after
        which another message may be tried.
        """
        if self._outgoing is not None or self.result.done():
            raise LocalError("one message per stream: this one has been sent, or given up")
        outbox = self._outbox
        pieces = outbox.carrier.encoded(header, dst, payload)
        outgoing: Outgoing
        if self._uni:
            outgoing = Sending(outbox, pieces, self._priority, self._done)
        else:
            cap = outbox.carrier.settings.reply_bytes_max
            outgoing = Exchange(outbox, pieces, self._priority, self._done, reply_bytes_max=cap, large_reply=False)
        outbox.begin(outgoing)
        self._outgoing = outgoing
        outbox.unsent.pop(self, None)

    async def finish(self) -> None:
        """Await the acknowledgement of every byte. Raises StreamLost, MessageTooLarge or ConnectionLost."""
        if self._outgoing is None:
            raise LocalError("nothing has been sent on this stream")
        if self._uni:
            await asyncio.shield(self.result)
        else:
            await self._outgoing.arrival()

    def reset(self) -> None:
        """Give up the stream: the peer sees a reset, never an end; whoever awaits it gets a StreamLost."""
        if self._outgoing is not None:
            self._outgoing.cancel()
        self._done(StreamLost(StreamCode.CANCELLED))

    def on_lost(self) -> None:
        """The connection has ended before a message was sent."""
        if (reason := self._outbox.lost()) is not None:
            self._done(reason)

    def await_first(self) -> None:
        """The reply is awaited before a message is sent: have the end of the connection reported here until then."""
        if self._outgoing is None and not self.result.done():
            self._outbox.unsent[self] = None
            self.on_lost()

    def _done(self, result: Message | Exception) -> None:
        self._outbox.unsent.pop(self, None)
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
            self.result.exception()  # mark it as retrieved: nobody need await it
        else:
            self.result.set_result(result)


class ReceiveStream:
    """The peer's half of a stream that we opened: exactly one reply."""

    def __init__(self, stream: SendStream) -> None:
        self._stream = stream

    async def read(self) -> Message:
        """Await the reply. Raises StreamLost, MessageTooLarge, FrameError or ConnectionLost."""
        self._stream.await_first()
        return await asyncio.shield(self._stream.result)
