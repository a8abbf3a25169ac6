"""An inbound message, and the answer to it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pnet.model.errors import LocalError
from p2pnet.quic.framing import Parts

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection
    from p2pnet.quic.incoming import Incoming


class Message:
    """One message of a peer: (header, dst, payload), all bytes. On a bidirectional stream it wants a reply."""

    __slots__ = ("_stream", "connection", "dst", "header", "on_cancel", "payload")

    def __init__(
        self,
        connection: "Connection",
        header: bytes,
        dst: bytes,
        payload: bytes,
        stream: "Incoming | None" = None,
    ) -> None:
        self.connection = connection
        self.header = header
        self.dst = dst
        self.payload = payload
        self._stream = stream
        self.on_cancel: Callable[[Message], None] | None = None
        """Called once, from the loop, if the requester gives up, or is lost, before the reply."""

    @property
    def wants_reply(self) -> bool:
        """Whether it came on a bidirectional stream and has not been answered."""
        return self._stream is not None and not self._stream.answered

    @property
    def cancelled(self) -> bool:
        """The requester gave up, or its connection ended, before the reply: it may be saved."""
        return self._stream is not None and self._stream.cancelled

    def reply(self, payload: Parts, header: bytes = b"") -> None:
        """Answer, once; returns at once, the bytes leave with this turn of the loop. No effect when cancelled.

        Raises LocalError for a message that wants no reply or already has one, MessageTooLarge beyond framing.
        """
        if self._stream is None or self._stream.answered:
            raise LocalError("this message wants no reply, or has one")
        self._stream.answer(header, payload)

    def refuse(self, code: int) -> None:
        """Answer by resetting the stream with a StreamCode: the requester gets a StreamLost."""
        if self._stream is not None:
            self._stream.refuse(code)

    def __repr__(self) -> str:
        return f"Message({_short(self.header)}, {_short(self.dst)}, {_short(self.payload)})"


def _short(part: bytes) -> str:
    """Up to 8 bytes in full, else the first and last four, in hex: qp2p's way to show one."""
    return part.hex() if len(part) <= 8 else f"{part[:4].hex()}..{part[-4:].hex()}"
