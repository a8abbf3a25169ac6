"""An inbound message, and the reply to it."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from p2pnet.model.errors import LocalError
from p2pnet.quic.errors import StreamCode, check_code
from p2pnet.quic.framing import Parts


class Source(Protocol):
    """The connection that a message came on, as its reader may use it."""

    id: int

    @property
    def uri(self) -> str:
        """The peer's identity, proved by its certificate; empty where trust proves none."""

    @property
    def not_after(self) -> datetime | None:
        """When the peer's certificate expires; None where trust proves nothing."""

    @property
    def address(self) -> tuple[str, int]:
        """The peer's present address."""

    @property
    def closed(self) -> bool:
        """Closed by either end, or lost."""


class ReplyStream(Protocol):
    """The stream that a request came on, as its message uses it."""

    answered: bool
    cancelled: bool
    on_cancel: "Callable[[Message], None] | None"

    def answer(self, header: bytes, payload: Parts) -> None:
        """Send the reply and end our half."""

    def refuse(self, code: int) -> None:
        """Reset our half instead of a reply."""

    def dropped(self) -> None:
        """The message was dropped without an answer after the requester had given up; may be called from any thread."""


class Message:
    """One message of a peer: header, destination and payload, all bytes. On a bidirectional stream it wants a reply."""

    __slots__ = ("__weakref__", "_stream", "connection", "dst", "header", "payload")

    def __init__(
        self,
        connection: Source,
        header: bytes,
        dst: bytes,
        payload: bytes,
        stream: ReplyStream | None = None,
    ) -> None:
        self.connection = connection
        self.header = header
        self.dst = dst
        self.payload = payload
        self._stream = stream

    @property
    def wants_reply(self) -> bool:
        """Whether it came on a bidirectional stream and has not been answered."""
        # Also false after `refuse`, and after the stream was reset for a broken rule.
        return self._stream is not None and not self._stream.answered

    @property
    def cancelled(self) -> bool:
        """Whether the requester gave up, or its connection ended, before the reply: the work for it can be spared."""
        return self._stream is not None and self._stream.cancelled

    @property
    def on_cancel(self) -> "Callable[[Message], None] | None":
        """Called once, from the loop, if the requester gives up or its connection ends before the reply."""
        return None if self._stream is None else self._stream.on_cancel

    @on_cancel.setter
    def on_cancel(self, callback: "Callable[[Message], None] | None") -> None:
        if self._stream is not None:
            self._stream.on_cancel = callback

    def reply(self, payload: Parts, header: bytes = b"") -> None:
        """Reply, once, without waiting: the bytes leave at the end of this loop turn. No effect when cancelled.

        Raises LocalError for a message that wants no reply or already has one, MessageTooLarge as `framing.encode`.
        """
        if self._stream is None or self._stream.answered:
            raise LocalError("this message wants no reply, or has one")
        self._stream.answer(header, payload)

    def refuse(self, code: int = StreamCode.UNWANTED) -> None:
        """Refuse to reply: reset the stream with this StreamCode, so that the requester gets a StreamLost.

        Raises LocalError for a code that QUIC cannot say.
        """
        check_code(code)
        if self._stream is not None:
            self._stream.refuse(code)

    def __repr__(self) -> str:
        return f"Message({_short(self.header)}, {_short(self.dst)}, {_short(self.payload)})"

    def __del__(self) -> None:
        stream = self._stream
        if stream is not None and stream.cancelled and not stream.answered:
            with contextlib.suppress(Exception):  # the loop may be gone
                stream.dropped()


def _short(part: bytes) -> str:
    """A part in hex, as qp2p shows it: up to 8 bytes in full, else the first and the last four."""
    return part.hex() if len(part) <= 8 else f"{part[:4].hex()}..{part[-4:].hex()}"
