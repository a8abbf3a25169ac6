"""A stream the peer opened: assembles its message under the caps, delivers it, carries the reply."""

from typing import TYPE_CHECKING

from p2pnet.quic.errors import FrameError, MessageTooLarge, StreamCode
from p2pnet.quic.framing import Assembler, Parts, encode
from p2pnet.quic.message import Message
from p2pnet.quic.streams import BoundedStream

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection


class Incoming:
    """Owner of one inbound stream."""

    __slots__ = ("_assembler", "_connection", "_message", "_reserved", "_stream", "answered", "cancelled")

    def __init__(self, connection: "Connection", stream: BoundedStream) -> None:
        self._connection = connection
        self._stream = stream
        self._assembler: Assembler | None = connection.assembler()
        self._message: Message | None = None
        self._reserved = 0
        self.answered = False
        self.cancelled = False

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the message; at its end it is delivered, at the first broken rule the stream is stopped."""
        assembler = self._assembler
        if assembler is None:
            return
        try:
            for piece in pieces:
                assembler.feed(piece)
            if ended:
                self._deliver(*assembler.finish())
                return
        except (FrameError, MessageTooLarge) as error:
            self._fail(error)
            return
        if assembler.total > self._connection.window_bytes:
            if not self._reserved:
                self._reserved = self._connection.reserve(self, assembler.total)
            if self._reserved:
                self._stream.widen()

    def on_reset(self, code: int) -> None:
        """The peer gave up before its message was whole."""
        del code
        self._release()
        self._assembler = None
        self._stream.sender.reset(StreamCode.CANCELLED)
        self._cancel()

    def on_stopped(self, code: int) -> None:
        """The requester does not want the reply any more."""
        del code
        self._cancel()

    def on_sent(self) -> None:
        """The reply has arrived."""
        self._message = None

    def on_lost(self) -> None:
        """The connection has ended."""
        self._assembler = None
        self._reserved = 0
        self._cancel()

    def granted(self, count: int) -> None:
        """Room for the announced bytes has become free."""
        if self._assembler is not None:
            self._reserved = count
            self._stream.widen()
        else:
            self._connection.unreserve(count)

    def answer(self, header: bytes, payload: Parts) -> None:
        """Send the reply and end our half."""
        # A STOP_SENDING resets our half as its packet is read, before its event says that the requester gave up.
        if self.cancelled or self._stream.sender.is_reset:
            self.answered = True
            return
        pieces = encode(header, b"", payload, empty_payload=self._connection.empty_payloads, reply=True)
        self.answered = True
        self._connection.write(self._stream, pieces)

    def refuse(self, code: int) -> None:
        """Reset our half instead of a reply."""
        if not self.answered:
            self.answered = True
            self._stream.sender.reset(code)
            self._connection.touch()

    def _deliver(self, header: bytes, dst: bytes, payload: bytes) -> None:
        self._release()
        self._assembler = None
        two_way = not self._stream.sender.is_finished
        message = Message(self._connection, header, dst, payload, self if two_way else None)
        if two_way:
            self._message = message
        self._connection.deliver(message)

    def _fail(self, error: FrameError | MessageTooLarge) -> None:
        code = StreamCode.TOO_LARGE if isinstance(error, MessageTooLarge) else StreamCode.MALFORMED
        self._release()
        self._assembler = None
        self.answered = True
        self._stream.receiver.stop(code)
        self._stream.sender.reset(code)
        self._connection.malformed(error)

    def _release(self) -> None:
        if self._reserved:
            self._connection.unreserve(self._reserved)
            self._reserved = 0

    def _cancel(self) -> None:
        if self.cancelled or self.answered:
            return
        self.cancelled = True
        message, self._message = self._message, None
        if message is not None and message.on_cancel is not None:
            message.on_cancel(message)
