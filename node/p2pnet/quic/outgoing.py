"""Streams we open: an Exchange asks and gets one reply, a Sending is one message that only has to arrive."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pnet.quic.errors import FrameError, MessageTooLarge, StreamCode, StreamLost, stream_error
from p2pnet.quic.framing import Assembler
from p2pnet.quic.message import Message
from p2pnet.quic.streams import BoundedStream

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection

URGENT = 1 << 16  # above whatever priorities qp2p's users give


class Outgoing:
    """A message of ours on a stream of its own. `finish` is called exactly once, unless it is cancelled before."""

    uni = True
    __slots__ = ("_arrival", "_connection", "_finish", "_pieces", "_stream", "priority", "sent")

    def __init__(
        self,
        connection: "Connection",
        pieces: list[bytes],
        priority: int,
        finish: Callable[[Message | Exception], None],
    ) -> None:
        self._connection = connection
        self._pieces = pieces
        self._stream: BoundedStream | None = None
        self._finish: Callable[[Message | Exception], None] | None = finish
        self._arrival: asyncio.Future[None] | None = None
        self.priority = priority
        self.sent = False
        """The peer's QUIC stack has acknowledged every byte."""

    @property
    def done(self) -> bool:
        """Finished or cancelled."""
        return self._finish is None

    def start(self, stream: BoundedStream) -> None:
        """A stream is there: send."""
        self._stream = stream
        stream.owner = self
        pieces, self._pieces = self._pieces, []
        self._connection.write(stream, pieces)

    def cancel(self) -> None:
        """Give up: both halves of the stream are reset, never ended as if the message were whole. Idempotent."""
        if self._finish is None:
            return
        self._finish = None
        self._pieces = []
        if self._stream is not None:
            self._drop(StreamCode.CANCELLED)

    async def arrival(self) -> None:
        """Until every byte is acknowledged. Raises what ended the stream before."""
        if self.sent:
            return
        if self._finish is None:
            raise self._connection.lost() or StreamLost(StreamCode.CANCELLED)
        if self._arrival is None:
            self._arrival = self._connection.host.loop.create_future()
        await asyncio.shield(self._arrival)

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
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def on_lost(self) -> None:
        """The connection has ended."""
        if (reason := self._connection.lost()) is not None:
            self._end(reason)

    def fail(self, error: Exception) -> None:
        """It cannot even begin."""
        self._end(error)

    def _drop(self, code: int) -> None:
        stream = self._stream
        if stream is not None:
            stream.sender.reset(code)
            stream.receiver.stop(code)
            self._connection.touch()

    def _end(self, result: Message | Exception) -> None:
        finish, self._finish = self._finish, None
        if self._arrival is not None and not self._arrival.done():
            if isinstance(result, Exception):
                self._arrival.set_exception(result)
                self._arrival.exception()  # nobody has to await it
            else:
                self._arrival.set_result(None)
        if finish is not None:
            finish(result)


class Sending(Outgoing):
    """A unidirectional message; finished when acknowledged, with itself as an empty Message."""

    __slots__ = ()

    def on_sent(self) -> None:
        """All bytes are acknowledged: that is all there is to wait for."""
        self.sent = True
        self._end(Message(self._connection, b"", b"", b""))


class Exchange(Outgoing):
    """A request on a bidirectional stream; finished by its reply."""

    uni = False
    __slots__ = ("_assembler",)

    def __init__(
        self,
        connection: "Connection",
        pieces: list[bytes],
        priority: int,
        finish: Callable[[Message | Exception], None],
        reply_bytes_max: int,
    ) -> None:
        super().__init__(connection, pieces, priority, finish)
        self._assembler = Assembler(
            lambda _header: reply_bytes_max,
            announced_max=reply_bytes_max,
            header_max=connection.settings.header_bytes_max,
            empty_payload=connection.empty_payloads,
            reply=True,
        )

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """More of the reply."""
        if self._finish is None:
            return
        assembler = self._assembler
        try:
            for piece in pieces:
                assembler.feed(piece)
            if not ended:
                if assembler.total > self._connection.window_bytes and self._stream is not None:
                    self._stream.widen()
                return
            reply = Message(self._connection, *assembler.finish())
        except (FrameError, MessageTooLarge) as error:
            code = StreamCode.TOO_LARGE if isinstance(error, MessageTooLarge) else StreamCode.MALFORMED
            self._drop(code)
            self._end(error)
            return
        self._end(reply)
