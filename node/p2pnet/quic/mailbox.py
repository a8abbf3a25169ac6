"""The peer's messages: assembled within bounds, handed over or kept for a reader, and the replies to them."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from p2pnet.quic.engine import Engine, Stream
from p2pnet.quic.errors import FrameError, MessageTooLarge, StreamCode
from p2pnet.quic.framing import MessageReader, Parts, encode, whole
from p2pnet.quic.ledger import Claim, Ledger
from p2pnet.quic.message import Message, Source
from p2pnet.quic.settings import Settings


class Carrier(Protocol):
    """What messages need of the connection that carries them."""

    engine: Engine
    ledger: Ledger
    settings: Settings
    loop: asyncio.AbstractEventLoop
    empty_payloads: bool

    @property
    def draining(self) -> bool:
        """Nothing new is begun or taken; what is in flight is finished."""

    @property
    def closed(self) -> bool:
        """Closed by either end, or lost."""

    @property
    def source(self) -> Source:
        """The connection, as messages know it."""

    def touch(self) -> None:
        """Something may have to leave this turn."""

    def encoded(self, header: bytes, dst: bytes, payload: Parts) -> list[bytes]:
        """The pieces of a message of ours. Raises MessageTooLarge, FrameError for one that may not be sent."""

    def notify(self, callback: Callable[..., None], *arguments: Any) -> bool:
        """Call a user's callback; False when it raised, which has been reported."""


class Incoming:
    """Owner of one stream the peer opened: assembles its message under the caps, delivers it, carries the reply."""

    __slots__ = (
        "_assembler", "_claim", "_held", "_mailbox", "_message", "_over", "_owed", "_stream", "answered", "cancelled",
        "on_cancel",
    )  # fmt: skip

    def __init__(self, mailbox: "Mailbox", stream: Stream) -> None:
        self._mailbox = mailbox
        self._stream = stream
        self._assembler: MessageReader | None = None  # made for what does not come in one piece
        self._over = False  # nothing more of the message is taken
        self._claim: Claim | None = None
        self._held = 0
        self._owed = 0
        self._message: weakref.ref[Message] | None = None
        self.answered = False
        self.cancelled = False
        self.on_cancel: Callable[[Message], None] | None = None

    # From the connection

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the message; at its end it is delivered, at the first broken rule the stream is stopped."""
        count = sum(map(len, pieces))
        mailbox = self._mailbox
        if self._over:
            mailbox.carrier.ledger.free(count)
            return
        self._held += count
        assembler = self._assembler
        if assembler is None:
            if ended and len(pieces) == 1 and (parts := mailbox.whole(pieces[0])) is not None:
                self._deliver(*parts)
                return
            assembler = self._assembler = mailbox.assembler()
        try:
            for piece in pieces:
                assembler.feed(piece)
            if ended:
                self._deliver(*assembler.finish())
                return
        except (FrameError, MessageTooLarge) as error:
            self._fail(error)
            return
        if self._claim is None and assembler.total > self._stream.max_stream_data_local:
            self._claim = mailbox.carrier.ledger.claim(assembler.total, self._room)

    def on_reset(self, code: int) -> None:
        """The peer gave up before its message was whole."""
        del code
        self._void()
        self._mailbox.carrier.engine.reset(self._stream, StreamCode.CANCELLED)
        self._cancel()

    def on_stopped(self, code: int) -> None:
        """The requester does not want the reply any more."""
        del code
        self._pay()
        self._cancel()

    def on_sent(self) -> None:
        """The reply has arrived."""
        self._pay()

    def on_lost(self) -> None:
        """The connection has ended."""
        self._over, self._assembler = True, None
        self._cancel()

    # From the message

    def answer(self, header: bytes, payload: Parts) -> None:
        """Send the reply and end our half."""
        carrier = self._mailbox.carrier
        # A STOP_SENDING resets our half as its packet is read, before its event says that the requester gave up.
        if not (self.cancelled or carrier.closed or self._stream.sender.reset_code is not None):
            pieces = encode(header, b"", payload, empty_payload=carrier.empty_payloads, reply=True)
            carrier.engine.write(self._stream, pieces)
            carrier.touch()
            self._owed = sum(map(len, pieces))
            carrier.ledger.owe(self._owed)
        self._done()

    def refuse(self, code: int) -> None:
        """Reset our half instead of a reply."""
        if self.answered:
            return
        if not self._mailbox.carrier.closed:
            self._mailbox.carrier.engine.reset(self._stream, code)
            self._mailbox.carrier.touch()
        self._done()

    def forgotten(self) -> None:
        """The handler is at work on it no more."""
        self._mailbox.carrier.loop.call_soon_threadsafe(self._done)

    # Private

    def _room(self) -> None:
        """There is room for all of it now."""
        assembler = self._assembler
        if assembler is not None:
            self._mailbox.carrier.engine.widen(self._stream, assembler.total)
            self._mailbox.carrier.touch()

    def _deliver(self, header: bytes, dst: bytes, payload: bytes) -> None:
        self._over, self._assembler = True, None
        self._settle()
        mailbox = self._mailbox
        two_way = not self._stream.uni
        message = Message(mailbox.carrier.source, header, dst, payload, self if two_way else None)
        if two_way:
            self._message = weakref.ref(message)
        held, self._held = self._held, 0
        mailbox.deliver(message, held)

    def _fail(self, error: FrameError | MessageTooLarge) -> None:
        carrier = self._mailbox.carrier
        code = StreamCode.TOO_LARGE if isinstance(error, MessageTooLarge) else StreamCode.MALFORMED
        self._void()
        self.answered = True
        carrier.engine.stop(self._stream, code)
        carrier.engine.reset(self._stream, code)
        carrier.touch()
        self._mailbox.malformed(error)

    def _void(self) -> None:
        """What came of the message is thrown away."""
        self._over, self._assembler = True, None
        self._mailbox.carrier.ledger.free(self._held)
        self._held = 0
        self._settle()

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._mailbox.carrier.ledger.pay(owed)
            self._mailbox.resume()

    def _settle(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            self._mailbox.carrier.ledger.settle(claim)

    def _cancel(self) -> None:
        if self.cancelled or self.answered:
            return
        self.cancelled = True
        message = None if self._message is None else self._message()
        if message is None:
            return
        # Its handler is at work until it has answered, or dropped, the message: it counts among the peer's streams.
        self._mailbox.carrier.engine.hold(self._stream)
        if self.on_cancel is not None:
            self._mailbox.carrier.notify(self.on_cancel, message)

    def _done(self) -> None:
        self.answered = True
        if self._stream.counts:
            self._stream.counts = False
            if self._stream.is_finished:
                self._mailbox.carrier.engine.return_stream()
                self._mailbox.carrier.touch()


class Mailbox:
    """The inbound side of a connection."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.on_message: Callable[[Any, Message], None] | None = None
        """Called with the connection and each inbound message; None: they wait for `messages`."""
        self.on_malformed: Callable[[Any, Exception], None] | None = None
        """Called with the connection and what was wrong with a stream, which has been stopped."""
        self._announced_max = carrier.settings.announced_bytes_max
        self._waiting: list[tuple[Message, int]] = []
        self._held_back: list[tuple[Message, int]] = []  # requests, while too many replies are on their way
        self._readers: list[asyncio.Future[None]] = []

    def read(self, stream: Stream) -> None:
        """Something came on a stream the peer opened."""
        carrier = self.carrier
        if carrier.closed:
            return
        if stream.owner is None:
            if carrier.draining:
                carrier.engine.stop(stream, StreamCode.UNWANTED)
                carrier.engine.reset(stream, StreamCode.UNWANTED)
                return
            stream.owner = Incoming(self, stream)
        pieces, ended = carrier.engine.read(stream)
        if ended and stream.uni:
            # A sender waits for this acknowledgement; a requester is told by the reply.
            carrier.engine.acknowledge_now()
        stream.owner.on_data(pieces, ended)

    async def messages(self) -> AsyncIterator[Message]:
        """Inbound messages, when no `on_message` takes them; ends with the connection.

        What is not taken holds back the peer: first its bytes, then its streams.
        """
        carrier = self.carrier
        while True:
            while self._waiting:
                message, held = self._waiting.pop(0)
                carrier.ledger.free(held)
                self._withhold()
                carrier.touch()
                yield message
            if carrier.closed:
                return
            waiter = carrier.loop.create_future()
            self._readers.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._readers:  # who gives up waiting is not kept
                    self._readers.remove(waiter)

    def whole(self, data: bytes) -> tuple[bytes, bytes, bytes] | None:
        """An inbound message that came in one piece; None for one that is to be assembled."""
        settings = self.carrier.settings
        return whole(data, settings.cap, announced_max=self._announced_max, header_max=settings.header_bytes_max)

    def assembler(self) -> MessageReader:
        """One for an inbound message."""
        settings = self.carrier.settings
        return MessageReader(
            settings.cap,
            announced_max=self._announced_max,
            header_max=settings.header_bytes_max,
            empty_payload=self.carrier.empty_payloads,
        )

    def deliver(self, message: Message, held: int) -> None:
        """A whole message has come, in so many bytes."""
        if self._held_back or (self.carrier.ledger.indebted and message.wants_reply):
            self._held_back.append((message, held))
        else:
            self._hand_over(message, held)

    def resume(self) -> None:
        """Some reply has arrived."""
        while self._held_back and not self.carrier.ledger.indebted and not self.carrier.closed:
            self._hand_over(*self._held_back.pop(0))

    def _hand_over(self, message: Message, held: int) -> None:
        if self.on_message is None:
            self._waiting.append((message, held))
            self._withhold()
            self.wake()
            return
        self.carrier.ledger.free(held)
        if not self.carrier.notify(self.on_message, self.carrier.source, message) and message.wants_reply:
            message.refuse(StreamCode.FAILED)

    def malformed(self, error: FrameError | MessageTooLarge) -> None:
        """A stream was stopped for what was on it."""
        if self.on_malformed is not None:
            self.carrier.notify(self.on_malformed, self.carrier.source, error)

    def wake(self) -> None:
        """There is something for whoever reads `messages`, or the end."""
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)

    def _withhold(self) -> None:
        self.carrier.engine.withhold_streams(max(0, len(self._waiting) - self.carrier.settings.inbox_messages_max))
