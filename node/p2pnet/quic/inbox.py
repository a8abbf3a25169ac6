"""The inbound side of a connection: the peer's messages, assembled within bounds, handed over or kept for a reader."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from p2pnet.quic.driver import Driver
from p2pnet.quic.errors import FrameError, MessageTooLarge, StreamCode
from p2pnet.quic.framing import Assembler
from p2pnet.quic.host import Host, deliver
from p2pnet.quic.incoming import Incoming
from p2pnet.quic.message import Message
from p2pnet.quic.streams import BoundedStream

if TYPE_CHECKING:
    from p2pnet.quic.connection import Connection


class Inbox(Driver):
    """A Driver that receives messages."""

    def __init__(self, host: Host, *, address: Any, dialled: bool, expect: str | None) -> None:
        super().__init__(host, address=address, dialled=dialled, expect=expect)
        self.on_message: Callable[[Any, Message], None] | None = None
        """Called with the connection and each inbound message; None: they wait for `messages`."""
        self.on_malformed: Callable[[Any, Exception], None] | None = None
        """Called with the connection and what was wrong with a stream, which has been stopped."""
        self.window_bytes = self.settings.stream_window_bytes
        empties = self.settings.empty_payloads
        self.empty_payloads = host.trust.kind != "anyone" if empties is None else empties
        self._announced_max = self.settings.announced_bytes_max
        self._inbox: deque[Message] = deque()
        self._inbox_waiters: list[asyncio.Future[None]] = []
        self._reserved = 0
        self._reserving: deque[tuple[Incoming, int]] = deque()

    async def messages(self) -> AsyncIterator[Message]:
        """Inbound messages, when no `on_message` takes them; ends with the connection.

        What is not taken holds back the peer: first its bytes, then its streams.
        """
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                self.quic.withheld -= _weight(message)
                self._withhold()
                self.touch()
                yield message
            if self.closed:
                return
            waiter = self.host.loop.create_future()
            self._inbox_waiters.append(waiter)
            await waiter

    def assembler(self) -> Assembler:
        """One for an inbound message."""
        settings = self.settings
        return Assembler(
            settings.cap,
            announced_max=self._announced_max,
            header_max=settings.header_bytes_max,
            empty_payload=self.empty_payloads,
        )

    def touch(self) -> None:
        """Something may have to leave this turn."""
        if not self.marked:
            self.host.mark(self)

    def deliver(self, message: Message) -> None:
        """A whole message has come."""
        if self.on_message is not None:
            deliver(self.on_message, self, message)
            return
        self._inbox.append(message)
        self.quic.withheld += _weight(message)
        self._withhold()
        self._wake()

    def malformed(self, error: FrameError | MessageTooLarge) -> None:
        """A stream was stopped for what was on it."""
        self.touch()
        if self.on_malformed is not None:
            deliver(self.on_malformed, self, error)

    def reserve(self, incoming: Incoming, count: int) -> int:
        """Room for a message larger than a window: `count` now, or 0 and `incoming.granted` later."""
        if self._reserved and self._reserved + count > self.settings.assembly_bytes_max:
            if all(one is not incoming for one, _ in self._reserving):
                self._reserving.append((incoming, count))
            return 0
        self._reserved += count
        return count

    def unreserve(self, count: int) -> None:
        """The message is whole, or void."""
        self._reserved -= count
        while self._reserving:
            incoming, wanted = self._reserving[0]
            if self._reserved and self._reserved + wanted > self.settings.assembly_bytes_max:
                return
            self._reserving.popleft()
            self._reserved += wanted
            incoming.granted(wanted)
            self.touch()

    def _read(self, stream: BoundedStream) -> None:
        receiver = stream.receiver
        stream.noted = False
        pieces, receiver.pieces = receiver.pieces, []
        stream.credit(receiver.position)
        if receiver.ended and stream.stream_id & 2:
            # A sender waits for this acknowledgement; a requester is told by the reply.
            self.quic.acknowledge_now()
        owner = stream.owner
        if owner is None and self.host.draining:
            receiver.stop(StreamCode.UNWANTED)
            stream.sender.reset(StreamCode.UNWANTED)
            return
        if owner is None:
            owner = stream.owner = Incoming(cast("Connection", self), stream)
        if not self.closed:
            deliver(owner.on_data, pieces, receiver.ended)

    def _withhold(self) -> None:
        self.quic.withheld_streams = max(0, len(self._inbox) - self.settings.inbox_messages_max)

    def _wake(self) -> None:
        waiters, self._inbox_waiters = self._inbox_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _weight(message: Message) -> int:
    return len(message.header) + len(message.dst) + len(message.payload)
