"""One stream: its two halves, its place in the send queue, and who is told what becomes of it."""

from typing import TYPE_CHECKING, Protocol

from p2pnet.quic.receiving import ReceiveSide
from p2pnet.quic.sending import SendSide

if TYPE_CHECKING:
    from p2pnet.quic.bounded import BoundedConnection


class StreamOwner(Protocol):
    """Who is told what becomes of a stream. Called by the connection between packets, never inside aioquic."""

    def on_data(self, pieces: list[bytes], ended: bool) -> None:
        """Bytes in order, and whether the peer has finished its half."""

    def on_reset(self, code: int) -> None:
        """The peer gave up its half; what came before is void."""

    def on_stopped(self, code: int) -> None:
        """The peer does not want what we send; our half has been reset."""

    def on_lost(self) -> None:
        """The connection has ended."""

    def on_sent(self) -> None:
        """The peer's QUIC stack has acknowledged our half, the end included."""


class BoundedStream:
    """One stream: both halves, its place in the send queue, and its owner."""

    __slots__ = (
        "connection", "is_blocked", "max_stream_data_local", "max_stream_data_local_sent", "max_stream_data_remote",
        "noted", "owner", "priority", "queued", "receiver", "sender", "stream_id",
    )  # fmt: skip

    def __init__(
        self,
        connection: "BoundedConnection",
        stream_id: int,
        *,
        local: int,
        remote: int,
        readable: bool,
        writable: bool,
    ) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.is_blocked = False
        self.max_stream_data_local = local
        self.max_stream_data_local_sent = local
        self.max_stream_data_remote = remote
        self.receiver = ReceiveSide(self, readable=readable)
        self.sender = SendSide(self, writable=writable)
        self.owner: StreamOwner | None = None
        self.priority = 0
        self.queued = False
        self.noted = False

    @property
    def is_finished(self) -> bool:
        """Both halves are over."""
        return self.receiver.is_finished and self.sender.is_finished

    def enqueue(self) -> None:
        """There is something to send on this stream."""
        if not self.queued:
            self.connection.enqueue(self)

    def readable(self) -> None:
        """There is something for the owner."""
        if not self.noted:
            self.noted = True
            self.connection.readable.append(self)
        if self.receiver.is_finished and self.sender.is_finished:
            self.connection.discard(self)

    def sent(self) -> None:
        """Our half is acknowledged."""
        self.connection.acknowledged.append(self)
        self.settle()

    def settle(self) -> None:
        """A half is over; forget the stream if both are."""
        if self.receiver.is_finished and self.sender.is_finished:
            self.connection.discard(self)

    def credit(self, position: int) -> None:
        """Give the bytes before `position` back to the connection's window."""
        receiver = self.receiver
        if position > receiver.credited:
            self.connection.consumed += position - receiver.credited
            receiver.credited = position

    def widen(self) -> None:
        """Let the peer send a whole window beyond what has come; told in steps of a quarter window."""
        connection = self.connection
        target = self.receiver.position + connection.limits.stream_window_bytes
        self.max_stream_data_local = max(self.max_stream_data_local, target)
        step = connection.limits.stream_window_bytes // 4
        if not self.receiver.is_finished and target - self.max_stream_data_local_sent >= step:
            connection.announce(self)
