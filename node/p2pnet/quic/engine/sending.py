"""The send queue: which stream's bytes leave next, within the peer's limits (RFC 9000 sections 2.3, 4, 19.4 and 19.8).

aioquic walks all streams for each packet; here only streams with something to send are looked at.
"""

from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any

from aioquic.quic.packet import QuicFrameType, QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder

from p2pnet.quic.engine.flow import ROOM_MIN, PeerLimits
from p2pnet.quic.engine.packets import OnDelivery, put, varint
from p2pnet.quic.engine.streams import Stream

FRAME_DATA_MAX = (1 << 14) - 1
"""Data bytes of one frame, whose length is written in two bytes."""
# Frame types with a length, by whether the frame has an offset (2) and is the last (1); and RESET_STREAM.
_STREAM = tuple(bytes((QuicFrameType.STREAM_BASE | 2 | bits,)) for bits in (0, 1, 4, 5))
_RESET = bytes((QuicFrameType.RESET_STREAM,))


class SendQueue:
    """Streams with something to send: those of the highest priority first, equal ones round robin, a frame each.

    Streams that are `in_line` leave one after the other and share one place in the round: each arrives as early as it can, and
    all together take no more from the others than one of them would.

    `limits` may be raised at any time. `on_sent` is called with each stream of which everything is acknowledged.
    """

    __slots__ = ("_blocked", "_first", "_limits", "_line", "_on_sent", "_quic_logger", "_used", "queues")

    def __init__(self, limits: PeerLimits, on_sent: Callable[[Stream], None], quic_logger: Any = None) -> None:
        self.queues: dict[int, deque[Stream]] = {}
        """Priority -> its streams in order, the highest priority first; none is empty."""
        self._limits = limits
        self._on_sent = on_sent
        self._quic_logger = quic_logger
        self._used = 0  # of the peer's max_data
        self._blocked: dict[Stream, None] = {}  # streams with data that wait for a higher max_data
        self._first: Stream | None = None  # the one in line whose turn it is
        self._line: deque[Stream] = deque()  # the others

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the congestion window, their turn, or the peer's credit; it looks at each of their streams."""
        if not (self.queues or self._blocked):
            return 0
        waiting = chain(*self.queues.values(), self._line, self._blocked)
        return sum(stream.sender.unsent_bytes for stream in waiting)

    def add(self, stream: Stream) -> None:
        """The stream has something to send."""
        # Once in the queue is enough: it sends whatever there is when it comes first.
        if stream.queued:
            return
        stream.queued = True
        if stream.in_line and self._first is not stream:
            if self._first is not None:
                self._line.append(stream)
                return
            self._first = stream
        self._enqueue(stream)

    def _enqueue(self, stream: Stream) -> None:
        queue = self.queues.get(stream.priority)
        if queue is None:
            queue = self.queues[stream.priority] = deque()
            if len(self.queues) > 1:
                self.queues = dict(sorted(self.queues.items(), reverse=True))
        queue.append(stream)

    def reset(self, stream: Stream, code: int) -> bool:
        """Reset our half of the stream; False if that was done already, or the half is over."""
        changed = stream.sender.reset(code)
        if changed:
            self._blocked.pop(stream, None)
            self.add(stream)
        return changed

    def on_stream_credit(self, stream: Stream) -> None:
        """The peer has raised the limit of this stream."""
        if not stream.sender.buffer_is_empty:
            self.add(stream)

    def on_connection_credit(self) -> None:
        """The peer has raised the limit of the connection."""
        blocked, self._blocked = self._blocked, {}
        for stream in blocked:
            self.add(stream)

    def fill(self, room: int, frames: list[bytes], callbacks: list[OnDelivery]) -> int:
        """Add frames of at most `room` bytes in all, each as head and data; the bytes of `room` that are left.

        `callbacks` gets one for each, to be called when the packet is acknowledged or lost.
        """
        while self.queues and room >= ROOM_MIN:
            priority, queue = next(iter(self.queues.items()))
            stream = queue.popleft()
            sender = stream.sender
            if sender.reset_pending:
                room -= self._add_reset(stream, frames, callbacks)
            elif not sender.buffer_is_empty:
                room -= self._add_data(stream, room, frames, callbacks)
            if not sender.buffer_is_empty and stream.queued:
                queue.append(stream)
                continue
            stream.queued = False
            if stream.in_line and sender.buffer_is_empty:
                self._next_in_line(stream)
            if not queue:
                del self.queues[priority]
        return room

    def _next_in_line(self, stream: Stream) -> None:
        """All of the stream has left once: it is the next one's turn."""
        stream.in_line = False
        self._first = self._line.popleft() if self._line else None
        if self._first is not None:
            self._enqueue(self._first)

    def write(self, builder: QuicPacketBuilder) -> None:
        """As `fill`, into the packet of aioquic's builder."""
        frames: list[bytes] = []
        callbacks: list[OnDelivery] = []
        self.fill(builder.remaining_flight_space, frames, callbacks)
        put(builder, frames, callbacks)
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            for data, (handler, arguments) in zip(frames[1::2], callbacks, strict=True):
                if handler == self._on_data_delivery:
                    self._log(builder.quic_logger_frames, data, *arguments)

    def _add_data(self, stream: Stream, room: int, frames: list[bytes], callbacks: list[OnDelivery]) -> int:
        """Add one STREAM frame; its bytes. Without credit the stream leaves the queue, and 0 is returned."""
        sender = stream.sender
        start, stop = sender.next
        fresh = start < stop and start == sender.highest_offset  # repeated bytes need no credit
        if fresh:
            credit = self._limits.max_data - self._used
            if credit <= 0:
                self._blocked[stream] = None
                stream.queued = False
                return 0
            stop = min(stop, start + credit, stream.max_stream_data_remote)
            if stop <= start:
                stream.queued = False
                return 0
        head = varint(stream.stream_id)
        if start:
            head += varint(start)
        # Three bytes: the frame type and a length of two.
        stop = min(stop, start + room - len(head) - 3, start + FRAME_DATA_MAX)
        data, fin = sender.take(start, stop)
        if fresh:
            # Only new bytes count against the peer's limit, repeated ones did before.
            self._used += stop - start
        head = _STREAM[fin | 2 if start else fin] + head + (len(data) | 0x4000).to_bytes(2, "big")
        frames += (head, data)
        callbacks.append((self._on_data_delivery, (stream, start, stop, fin)))
        return len(head) + len(data)

    def _add_reset(self, stream: Stream, frames: list[bytes], callbacks: list[OnDelivery]) -> int:
        sender = stream.sender
        sender.reset_pending = False
        head = _RESET + varint(stream.stream_id) + varint(sender.reset_code or 0) + varint(sender.highest_offset)
        frames += (head, b"")
        callbacks.append((self._on_reset_delivery, (stream,)))
        return len(head)

    def _log(self, log: list[Any], data: bytes, stream: Stream, start: int, _stop: int, fin: bool) -> None:
        frame = QuicStreamFrame(data=data, fin=fin, offset=start)
        log.append(self._quic_logger.encode_stream_frame(frame, stream_id=stream.stream_id))

    def _on_data_delivery(self, delivery: QuicDeliveryState, stream: Stream, start: int, stop: int, fin: bool) -> None:
        if delivery is QuicDeliveryState.ACKED:
            if stream.sender.handle_ack(start, stop, fin):
                self._on_sent(stream)
        elif stream.sender.handle_loss(start, stop, fin):
            self.add(stream)

    def _on_reset_delivery(self, delivery: QuicDeliveryState, stream: Stream) -> None:
        if stream.sender.handle_reset_delivery(acked=delivery is QuicDeliveryState.ACKED):
            self.add(stream)
        else:
            self._on_sent(stream)
