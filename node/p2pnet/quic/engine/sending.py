"""The send queue: which stream's bytes leave next, within what the peer allows (RFC 9000 sections 2.3, 4 and 19.4, 19.8).

aioquic walks every stream for each packet; here only streams with something to send are looked at.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from aioquic.buffer import size_uint_var
from aioquic.quic.connection import RESET_STREAM_FRAME_CAPACITY
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder

from p2pnet.quic.engine.flow import ROOM_MIN, PeerLimits
from p2pnet.quic.engine.streams import Stream


class SendQueue:
    """Streams with something to send: the most urgent first, equals in turn, a frame each.

    `limits` may be raised at any time; `on_sent` is called with each stream whose half is over and acknowledged.
    """

    def __init__(self, limits: PeerLimits, on_sent: Callable[[Stream], None], quic_logger: Any = None) -> None:
        self.queues: dict[int, deque[Stream]] = {}
        """By priority, the highest first; none is empty."""
        self._limits = limits
        self._on_sent = on_sent
        self._quic_logger = quic_logger
        self._used = 0  # of the peer's max_data
        self._blocked: dict[Stream, None] = {}  # have data, wait for the peer to raise it

    def add(self, stream: Stream) -> None:
        """The stream has something to send."""
        if stream.queued:
            return
        stream.queued = True
        queue = self.queues.get(stream.priority)
        if queue is None:
            queue = self.queues[stream.priority] = deque()
            if len(self.queues) > 1:
                self.queues = dict(sorted(self.queues.items(), reverse=True))
        queue.append(stream)

    def reset(self, stream: Stream, code: int) -> bool:
        """Give up our half of the stream; whether that was news."""
        news = stream.sender.reset(code)
        if news:
            self._blocked.pop(stream, None)
            self.add(stream)
        return news

    def on_stream_credit(self, stream: Stream) -> None:
        """The peer may take more on this stream."""
        if not stream.sender.buffer_is_empty:
            self.add(stream)

    def on_connection_credit(self) -> None:
        """The peer may take more on the connection as a whole."""
        blocked, self._blocked = self._blocked, {}
        for stream in blocked:
            self.add(stream)

    def write(self, builder: QuicPacketBuilder) -> None:
        """Fill the packet."""
        while self.queues and builder.remaining_flight_space >= ROOM_MIN:
            priority, queue = next(iter(self.queues.items()))
            stream = queue[0]
            sender = stream.sender
            if sender.reset_pending:
                self._write_reset(builder, stream)
            elif not sender.buffer_is_empty and not self._write_data(builder, stream):
                return
            queue.popleft()
            if not sender.buffer_is_empty and stream.queued:
                queue.append(stream)
                continue
            stream.queued = False
            if not queue:
                del self.queues[priority]

    def _write_data(self, builder: QuicPacketBuilder, stream: Stream) -> bool:
        """One STREAM frame. False when the packet has no room; without credit the stream leaves the queue."""
        sender = stream.sender
        credit = self._limits.max_data - self._used
        highest = sender.highest_offset
        if sender.next_offset == highest and sender.has_unsent:
            if credit <= 0:
                self._blocked[stream] = None
                stream.queued = False
                return True
            if stream.max_stream_data_remote <= highest:
                stream.queued = False
                return True
        if not self._write_frame(builder, stream, min(highest + credit, stream.max_stream_data_remote)):
            return False
        self._used += sender.highest_offset - highest
        return True

    def _write_frame(self, builder: QuicPacketBuilder, stream: Stream, max_offset: int) -> bool:
        sender = stream.sender
        position = sender.next_offset
        overhead = 3 + size_uint_var(stream.stream_id) + (size_uint_var(position) if position else 0)
        frame = sender.get_frame(builder.remaining_flight_space - overhead, max_offset)
        if frame is None:
            return False
        data = frame.data
        buf = builder.start_frame(
            QuicFrameType.STREAM_BASE | 2 | (4 if frame.offset else 0) | (1 if frame.fin else 0),
            capacity=overhead,
            handler=self._on_data_delivery,
            handler_args=(stream, frame.offset, frame.offset + len(data), frame.fin),
        )
        buf.push_uint_var(stream.stream_id)
        if frame.offset:
            buf.push_uint_var(frame.offset)
        buf.push_uint16(len(data) | 0x4000)
        buf.push_bytes(data)
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            builder.quic_logger_frames.append(self._quic_logger.encode_stream_frame(frame, stream_id=stream.stream_id))
        return True

    def _write_reset(self, builder: QuicPacketBuilder, stream: Stream) -> None:
        buf = builder.start_frame(
            QuicFrameType.RESET_STREAM,
            capacity=RESET_STREAM_FRAME_CAPACITY,
            handler=self._on_reset_delivery,
            handler_args=(stream,),
        )
        stream.sender.reset_pending = False
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.sender.reset_code or 0)
        buf.push_uint_var(stream.sender.highest_offset)

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
