"""qp2p's stream objects: a stream of one's own for one message, and the one reply on it."""

import asyncio
from typing import TYPE_CHECKING

from p2pnet.model.errors import LocalError
from p2pnet.quic.framing import Parts, encode
from p2pnet.quic.message import Message
from p2pnet.quic.outgoing import Exchange, Outgoing, Sending

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection


class SendStream:
    """Our half of a stream that will be opened with the first bytes."""

    def __init__(self, connection: "Connection", *, uni: bool) -> None:
        self._connection = connection
        self._uni = uni
        self._priority = 0
        self._outgoing: Outgoing | None = None
        self.result: asyncio.Future[Message] = connection.host.loop.create_future()

    def set_priority(self, priority: int) -> None:
        """Higher leaves first; 0 by default. To be set before the message is sent."""
        self._priority = priority

    async def send_user_msg(self, header: bytes, dst: bytes, payload: Parts) -> None:
        """Send the one message of this stream, end included, without waiting for its arrival."""
        if self._outgoing is not None:
            raise LocalError("one message per stream: this one has been sent")
        connection = self._connection
        pieces = encode(header, dst, payload, empty_payload=connection.empty_payloads)
        if self._uni:
            self._outgoing = Sending(connection, pieces, self._priority, self._done)
        else:
            cap = connection.settings.reply_bytes_max
            self._outgoing = Exchange(connection, pieces, self._priority, self._done, cap)
        connection.begin(self._outgoing)

    async def finish(self) -> None:
        """Await the acknowledgement of every byte. Raises StreamLost, MessageTooLarge or ConnectionLost."""
        if self._outgoing is None:
            raise LocalError("nothing has been sent on this stream")
        if self._uni:
            await asyncio.shield(self.result)
        else:
            await self._outgoing.arrival()

    def reset(self) -> None:
        """Give the stream up: the peer sees a reset, never an end."""
        if self._outgoing is not None:
            self._outgoing.cancel()

    def _done(self, result: Message | Exception) -> None:
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
        return await asyncio.shield(self._stream.result)
