"""The mailbox of a connection: the peer's messages, assembled within bounds and delivered, and the replies to them."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from p2pnet.quic.engine import Engine, Stream
from p2pnet.quic.errors import FrameError, MessageTooLarge, StreamCode
from p2pnet.quic.framing import MessageReader, Parts, encode, whole
from p2pnet.quic.ledger import Claim, Ledger
from p2pnet.quic.message import Message, Source
from p2pnet.quic.settings import Settings


class Carrier(Protocol):
    """What inbound and outbound messages use of their connection."""

    engine: Engine
    ledger: Ledger
    settings: Settings
    loop: asyncio.AbstractEventLoop
    empty_payloads: bool

    @property
    def draining(self) -> bool:
        """Nothing new is begun or accepted; what is in flight is finished."""

    @property
    def closed(self) -> bool:
        """Closed by either end, or lost."""

    @property
    def source(self) -> Source:
        """The connection, as messages know it."""

    def touch(self) -> None:
        """Flush the connection in this loop turn."""

    def encoded(self, header: bytes, dst: bytes, payload: Parts) -> list[bytes]:
        """The pieces of one outbound message. Raises MessageTooLarge, FrameError for one that may not be sent."""

    def notify(self, callback: Callable[..., None], *arguments: Any) -> bool:
        """Call a user's callback; False when it raised, which has been reported."""


class Incoming:
    """The owner of one stream that the peer opened: reads its message under the caps, delivers it, sends the reply."""

    __slots__ = (
        "_claim",
        "_held",
        "_mailbox",
        "_message",
        "_over",
        "_reader",
        "_reply_bytes",
        "_stream",
        "answered",
        "cancelled",
        "on_cancel",
    )  # fmt: skip

    def __init__(self, mailbox: "Mailbox", stream: Stream) -> None:
        self._mailbox = mailbox
        self._stream = stream
        self._reader: MessageReader | None = None  # made for messages that do not come in one piece
        self._over = False  # the message is whole or refused: further bytes are dropped
        self._claim: Claim | None = None
        self._held = 0
        self._reply_bytes = 0
        self._message: weakref.ref[Message] | None = None
        self.answered = False
        self.cancelled = False
        self.on_cancel: Callable[[Message], None] | None = None

    # From the connection

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the message came: deliver it at its end, stop the stream at the first broken rule."""
        count = sum(map(len, pieces))
        mailbox = self._mailbox
        if self._over:
            mailbox.carrier.ledger.free(count)
            return
        self._held += count
        reader, parts = self._reader, None
        if reader is None and ended and len(pieces) == 1:
            parts = mailbox.whole(pieces[0])
        if parts is None:
            reader = reader or mailbox.reader()
            try:
                for piece in pieces:
                    reader.feed(piece)
                parts = reader.finish() if ended else None
            except (FrameError, MessageTooLarge) as error:
                self._fail(error)
                return
        if parts is None:
            self._reader = reader
            if reader is not None and self._claim is None and reader.total > self._stream.max_stream_data_local:
                self._claim = mailbox.carrier.ledger.claim(reader.total, self._widen)
            return
        self._over, self._reader = True, None
        self._release_claim()
        two_way = not self._stream.uni
        message = Message(mailbox.carrier.source, *parts, self if two_way else None)
        if two_way:
            self._message = weakref.ref(message)
        held, self._held = self._held, 0
        mailbox.deliver(message, held)

    def on_reset(self, code: int) -> None:
        """The peer gave up its message before it was whole."""
        del code
        self._discard()
        self._mailbox.carrier.engine.reset(self._stream, StreamCode.CANCELLED)
        self._cancel()

    def on_stopped(self, code: int) -> None:
        """The requester does not want the reply any more."""
        del code
        self._reply_over()
        self._cancel()

    def on_sent(self) -> None:
        """The reply has arrived."""
        self._reply_over()

    def on_lost(self) -> None:
        """The connection has ended."""
        self._over, self._reader = True, None
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
            self._reply_bytes = sum(map(len, pieces))
            carrier.ledger.reply_queued(self._reply_bytes)
        self._done()

    def refuse(self, code: int) -> None:
        """Reset our half instead of a reply."""
        if self.answered:
            return
        if not self._mailbox.carrier.closed:
            self._mailbox.carrier.engine.reset(self._stream, code)
            self._mailbox.carrier.touch()
        self._done()

    def dropped(self) -> None:
        """The handler has dropped a cancelled message; may be called from any thread."""
        self._mailbox.carrier.loop.call_soon_threadsafe(self._done)

    # Private

    def _widen(self) -> None:
        """The whole message has been set aside in the ledger: let the peer send all of it."""
        reader = self._reader
        if reader is not None:
            self._mailbox.carrier.engine.widen(self._stream, reader.total)
            self._mailbox.carrier.touch()

    def _fail(self, error: FrameError | MessageTooLarge) -> None:
        carrier = self._mailbox.carrier
        code = StreamCode.TOO_LARGE if isinstance(error, MessageTooLarge) else StreamCode.MALFORMED
        self._discard()
        self.answered = True
        carrier.engine.stop(self._stream, code)
        carrier.engine.reset(self._stream, code)
        carrier.touch()
        self._mailbox.malformed(error)

    def _discard(self) -> None:
        """Throw away what has come of the message, and give up its claim."""
        self._over, self._reader = True, None
        self._mailbox.carrier.ledger.free(self._held)
        self._held = 0
        self._release_claim()

    def _reply_over(self) -> None:
        count, self._reply_bytes = self._reply_bytes, 0
        if count:
            self._mailbox.carrier.ledger.reply_done(count)
            self._mailbox.resume()

    def _release_claim(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            self._mailbox.carrier.ledger.release(claim)

    def _cancel(self) -> None:
        if self.cancelled or self.answered:
            return
        self.cancelled = True
        # A weak reference: a handler that drops the message has finished with it.
        message = None if self._message is None else self._message()
        if message is None:
            return
        # The handler works until it has answered or dropped the message: until then it counts among the peer's streams, or a
        # peer could start any number of handlers by cancelling.
        self._mailbox.carrier.engine.hold(self._stream)
        if self.on_cancel is not None:
            self._mailbox.carrier.notify(self.on_cancel, message)

    def _done(self) -> None:
        self.answered = True
        if self._stream.counts:
            self._stream.counts = False
            # Held by `Engine.hold` because its handler was still at work: only now may the peer open another.
            if self._stream.is_finished:
                self._mailbox.carrier.engine.return_stream()
                self._mailbox.carrier.touch()


class Mailbox:
    """The inbound messages of a connection."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.on_message: Callable[[Any, Message], None] | None = None
        """Called with the connection and each inbound message; None: messages wait for `messages()`."""
        self.handlers: Mapping[bytes, Callable[[Any, Message], None]] = {}
        """See `Endpoint.handlers`."""
        self.on_malformed: Callable[[Any, Exception], None] | None = None
        """Called with the connection and the FrameError or MessageTooLarge for which a stream was stopped."""
        self._announced_max = carrier.settings.announced_bytes_max
        self._waiting: list[tuple[Message, int]] = []
        self._held_back: list[tuple[Message, int]] = []  # messages, while `Ledger.replies_full`; with their bytes
        self._readers: list[asyncio.Future[None]] = []

    def read(self, stream: Stream) -> None:
        """Bytes, or the end, came on a stream; a new one of the peer's gets an `Incoming` as owner."""
        carrier = self.carrier
        if carrier.closed:
            return
        if stream.owner is None:
            if carrier.draining:
                carrier.engine.stop(stream, StreamCode.UNWANTED)
                carrier.engine.reset(stream, StreamCode.UNWANTED)
                return
            # The stream is opened by its first frame; its owner is only made when there is something to read.
            stream.owner = Incoming(self, stream)
        # Taken at once, credited later: the bytes count as held until the handler has the message.
        pieces, ended = carrier.engine.read(stream)
        if ended and stream.uni:
            # The sender awaits this acknowledgement; a requester awaits the reply, which carries it.
            carrier.engine.acknowledge_now()
        stream.owner.on_data(pieces, ended)

    async def messages(self) -> AsyncIterator[Message]:
        """Inbound messages in order of arrival, where no `on_message` is set; ends with the connection.

        Messages that are not read hold back the peer by flow control: first its bytes, then its streams.
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
                if waiter in self._readers:  # it was cancelled
                    self._readers.remove(waiter)

    def whole(self, data: bytes) -> tuple[bytes, bytes, bytes] | None:
        """The parts of an inbound message that came in one piece; None: it needs a reader."""
        settings = self.carrier.settings
        return whole(data, settings.cap, announced_max=self._announced_max, header_max=settings.header_bytes_max)

    def reader(self) -> MessageReader:
        """A reader for one inbound message, with this end's caps."""
        settings = self.carrier.settings
        return MessageReader(
            settings.cap,
            announced_max=self._announced_max,
            header_max=settings.header_bytes_max,
            empty_payload=self.carrier.empty_payloads,
        )

    def deliver(self, message: Message, held: int) -> None:
        """Deliver a whole message of `held` bytes, or hold it back while too many replies are unacknowledged."""
        carrier = self.carrier
        if self._held_back or (carrier.ledger.replies_full and message.wants_reply):
            self._held_back.append((message, held))
            return
        handler = self.handlers.get(message.header, self.on_message)
        if handler is None:
            self._waiting.append((message, held))
            self._withhold()
            self.wake()
            return
        carrier.ledger.free(held)
        if not carrier.notify(handler, carrier.source, message) and message.wants_reply:
            message.refuse(StreamCode.FAILED)

    def resume(self) -> None:
        """A reply was acknowledged: deliver messages that were held back, in order, as far as replies have room again."""
        held_back, self._held_back = self._held_back, []
        while held_back and not self.carrier.ledger.replies_full and not self.carrier.closed:
            self.deliver(*held_back.pop(0))
        self._held_back = held_back + self._held_back

    def malformed(self, error: FrameError | MessageTooLarge) -> None:
        """A stream was stopped because of this error."""
        if self.on_malformed is not None:
            self.carrier.notify(self.on_malformed, self.carrier.source, error)

    def wake(self) -> None:
        """Wake those that wait in `messages()`: a message is there, or the connection has ended."""
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)

    def _withhold(self) -> None:
        self.carrier.engine.withhold_streams(max(0, len(self._waiting) - self.carrier.settings.inbox_messages_max))
