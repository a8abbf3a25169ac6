"""Streams we open: an Exchange asks and gets one reply, a Sending is one message that only has to arrive."""

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

URGENT = 1 << 16  # above whatever priorities qp2p's users give

Done = Callable[[Message | Exception], None]
Lost = Callable[[], ConnectionLost | None]


class Outgoing:
    """A message of ours on a stream of its own. Its `finish` is called exactly once, unless it is cancelled before."""

    uni = True
    __slots__ = ("_arrival", "_finish", "_outbox", "_pieces", "_stream", "priority", "sent", "waits")

    def __init__(self, outbox: "StreamOutbox", pieces: list[bytes], priority: int, finish: Done) -> None:
        self._outbox = outbox
        self._pieces = pieces
        self._stream: Stream | None = None
        self._finish: Done | None = finish
        self._arrival: asyncio.Future[None] | None = None
        self.priority = priority
        self.waits = False
        """For a stream, in the outbox."""
        self.sent = False
        """The peer's QUIC stack has acknowledged every byte."""

    @property
    def done(self) -> bool:
        """Finished or cancelled."""
        return self._finish is None

    def start(self, stream: Stream) -> None:
        """A stream is there: send."""
        self._stream = stream
        stream.owner = self
        pieces, self._pieces = self._pieces, []
        self._outbox.carrier.engine.write(stream, pieces)
        self._outbox.carrier.touch()

    def cancel(self) -> None:
        """Give up: both halves of the stream are reset, never ended as if the message were whole. Idempotent."""
        if self._finish is None:
            return
        self._finish = None
        self._pieces = []
        self._void()
        if self._stream is not None:
            self._drop(StreamCode.CANCELLED)
        elif self.waits:
            self._outbox.cancelled(self)
        self._arrive(StreamLost(StreamCode.CANCELLED))

    async def arrival(self) -> None:
        """Until every byte is acknowledged. Raises what ended the stream before."""
        if self.sent:
            return
        if self._finish is None:
            raise self._outbox.lost() or StreamLost(StreamCode.CANCELLED)
        if self._arrival is None:
            self._arrival = self._outbox.carrier.loop.create_future()
        await asyncio.shield(self._arrival)

    # From the connection

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """Only an Exchange gets any."""

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
        """It cannot even begin."""
        self._end(error)

    # Private

    def _void(self) -> None:
        """Nothing that came of an answer is kept."""

    def _drop(self, code: int) -> None:
        stream, carrier = self._stream, self._outbox.carrier
        if stream is not None and not carrier.closed:
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
            arrival.exception()  # nobody has to await it

    def _end(self, result: Message | Exception) -> None:
        finish, self._finish = self._finish, None
        self._pieces = []
        self._void()
        self._arrive(result if isinstance(result, Exception) else None)
        if finish is not None:
            self._outbox.carrier.notify(finish, result)


class Sending(Outgoing):
    """A unidirectional message; finished when acknowledged, with itself as an empty Message."""

    __slots__ = ()

    def on_sent(self) -> None:
        """All bytes are acknowledged: that is all there is to wait for."""
        self.sent = True
        self._end(Message(self._outbox.carrier.source, b"", b"", b""))


class Exchange(Outgoing):
    """A request on a bidirectional stream; finished by its reply."""

    uni = False
    __slots__ = ("_assembler", "_claim", "_expected", "_held", "_reply_max")

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
        self._assembler: MessageReader | None = None  # made for what does not come in one piece
        self._reply_max = reply_bytes_max
        self._expected = HEAD_BYTES + reply_bytes_max if large_reply else 0
        self._claim: Claim | None = None
        self._held = 0

    def start(self, stream: Stream) -> None:
        """As any; room for a reply that will be large is asked for at once, which spares its sender a round trip."""
        super().start(stream)
        if self._expected > stream.max_stream_data_local:
            self._claim = self._outbox.carrier.ledger.claim(self._expected, self._room)

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the reply."""
        count = sum(map(len, pieces))
        carrier = self._outbox.carrier
        if self._finish is None:
            carrier.ledger.free(count)
            return
        self._held += count
        assembler, stream = self._assembler, self._stream
        if assembler is None:
            if ended and len(pieces) == 1 and (parts := self._whole(pieces[0])) is not None:
                self._end(Message(carrier.source, *parts))
                return
            assembler = self._assembler = self._make_assembler()
        try:
            for piece in pieces:
                assembler.feed(piece)
            if not ended:
                if stream is not None and assembler.total > stream.max_stream_data_local and self._claim is None:
                    self._claim = carrier.ledger.claim(assembler.total, self._room)
                return
            reply = Message(carrier.source, *assembler.finish())
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

    def _make_assembler(self) -> MessageReader:
        carrier = self._outbox.carrier
        return MessageReader(
            self._cap,
            announced_max=self._reply_max,
            header_max=carrier.settings.header_bytes_max,
            empty_payload=carrier.empty_payloads,
            reply=True,
        )

    def _room(self) -> None:
        stream = self._stream
        if stream is not None and not self.done:
            announced = 0 if self._assembler is None else self._assembler.total
            self._outbox.carrier.engine.widen(stream, announced or self._expected)
            self._outbox.carrier.touch()

    def _void(self) -> None:
        ledger = self._outbox.carrier.ledger
        ledger.free(self._held)
        self._held = 0
        claim, self._claim = self._claim, None
        if claim is not None:
            ledger.settle(claim)


class StreamOutbox:
    """The outbound side of a connection: messages that wait until the peer, and we, allow another stream."""

    __slots__ = ("_dead", "_order", "_waiting", "carrier", "lost", "unsent")

    def __init__(self, carrier: Carrier, lost: Lost) -> None:
        self.carrier = carrier
        self.lost = lost
        """The exception for operations the end of the connection cuts short."""
        # By whether streams are one-way:
        self._waiting: list[list[tuple[int, int, Outgoing]]] = [[], []]
        self._dead = [0, 0]  # cancelled while they waited, still in the heaps
        self._order = itertools.count()
        self.unsent: dict[SendStream, None] = {}
        """Streams without a message as yet, whose reply somebody awaits."""

    @property
    def waits(self) -> bool:
        """Whether something has no stream yet."""
        return bool(self._waiting[True] or self._waiting[False])

    def begin(self, outgoing: Outgoing) -> None:
        """Open its stream now, or when one may be opened. Raises LimitError when too many wait."""
        carrier = self.carrier
        if carrier.closed:
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
        heapq.heappush(waiting, (-outgoing.priority, next(self._order), outgoing))

    def cancelled(self, outgoing: Outgoing) -> None:
        """One that waits will not be sent; the heap is cleared of such when they are the most of it."""
        uni = outgoing.uni
        self._dead[uni] += 1
        waiting = self._waiting[uni]
        if 2 * self._dead[uni] > len(waiting):
            self._waiting[uni] = [entry for entry in waiting if not entry[2].done]
            heapq.heapify(self._waiting[uni])
            self._dead[uni] = 0

    def start_waiting(self) -> None:
        """Open streams for those that wait, the most urgent first."""
        for uni in (True, False):
            waiting = self._waiting[uni]
            while waiting and (waiting[0][2].done or self._may_open(uni=uni)):
                _, _, outgoing = heapq.heappop(waiting)
                if outgoing.done:
                    self._dead[uni] -= 1
                else:
                    self._start(outgoing)

    def end(self) -> "list[Outgoing | SendStream]":
        """The connection has ended: those that will never have a stream, in order."""
        unsent, self.unsent = self.unsent, {}
        everyone = [entry for heap in self._waiting for entry in heap]
        self._waiting = [[], []]
        return [*(outgoing for _, _, outgoing in sorted(everyone, key=lambda entry: entry[:2])), *unsent]

    def _start(self, outgoing: Outgoing) -> None:
        outgoing.start(self.carrier.engine.open(uni=outgoing.uni, priority=outgoing.priority))

    def _may_open(self, *, uni: bool) -> bool:
        engine = self.carrier.engine
        # The replies we wait for must fit into our own window as well, whatever the peer allows.
        return engine.may_open(uni=uni) and (uni or engine.exchanges < self.carrier.settings.streams_max)


class SendStream:
    """Our half of a stream that will be opened with the first bytes: qp2p's way to send one message."""

    def __init__(self, outbox: StreamOutbox, *, uni: bool) -> None:
        self._outbox = outbox
        self._uni = uni
        self._priority = 0
        self._outgoing: Outgoing | None = None
        self.result: asyncio.Future[Message] = outbox.carrier.loop.create_future()

    def set_priority(self, priority: int) -> None:
        """Higher leaves first; 0 by default. To be set before the message is sent."""
        self._priority = priority

    async def send_user_msg(self, header: bytes, dst: bytes, payload: Parts) -> None:
        """Send the one message of this stream, end included, without waiting for its arrival.

        Raises LocalError when one was sent already, or the stream was given up; MessageTooLarge, FrameError, LimitError,
        after which another may be tried.
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
        """Give the stream up: the peer sees a reset, never an end; who awaits it gets a StreamLost."""
        if self._outgoing is not None:
            self._outgoing.cancel()
        self._done(StreamLost(StreamCode.CANCELLED))

    def on_lost(self) -> None:
        """The connection has ended before anything was sent."""
        if (reason := self._outbox.lost()) is not None:
            self._done(reason)

    def await_first(self) -> None:
        """Somebody waits for the reply already: until a message is sent, the end of the connection is told here."""
        if self._outgoing is None and not self.result.done():
            self._outbox.unsent[self] = None
            self.on_lost()

    def _done(self, result: Message | Exception) -> None:
        self._outbox.unsent.pop(self, None)
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
            self.result.exception()  # whoever awaits it gets it; nobody has to
        else:
            self.result.set_result(result)


class ReceiveStream:
    """The peer's half of a stream we opened: exactly one reply."""

    def __init__(self, stream: SendStream) -> None:
        self._stream = stream

    async def read(self) -> Message:
        """The reply. Raises StreamLost, MessageTooLarge, FrameError or ConnectionLost."""
        self._stream.await_first()
        return await asyncio.shield(self._stream.result)
