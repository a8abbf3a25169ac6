"""Flow control: which streams there are, and what the peer may send on them (RFC 9000 sections 4 and 19.5, 19.9-19.11).

A peer may send as many bytes, and open as many streams, as the windows say, and more only when bytes have left memory and
streams have finished. (aioquic doubles a window by itself, on the highest offset *seen*, so a peer could make it allocate a
gigabyte.) The limits are written into packets here, and again when a packet is lost. Nothing here knows parsing, keys or time.
"""

from dataclasses import dataclass
from enum import IntEnum

from aioquic.buffer import UINT_VAR_MAX
from aioquic.quic.connection import (
    STOP_SENDING_FRAME_CAPACITY,
    Limit,
    QuicConnectionError,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.stream import FinalSizeError, StreamFinishedError

from p2pnet.quic.engine.packets import OnDelivery, put, varint
from p2pnet.quic.engine.streams import Stream

ROOM_MIN = 48
"""Bytes left in a packet below which no further frame is begun; STOP_SENDING and RESET_STREAM fit into it."""
STOPS_REPEATED_MAX = 512
"""STOP_SENDING frames that are repeated with every packet until one is acknowledged."""

_MAX_STREAM_DATA = bytes((QuicFrameType.MAX_STREAM_DATA,))
_SERVER = 1  # bits of a stream's id (RFC 9000 section 2.1): who opened it,
_UNI = 2  # and whether only the opener sends


class FlowEvent(IntEnum):
    """What can happen to a stream."""

    READABLE = 1  # new bytes in order, or the end of the peer's half
    SENT = 2  # all of our half is acknowledged
    RESET = 3  # the peer gave up its half
    STOPPED = 4  # the peer refuses our half


@dataclass(frozen=True, slots=True)
class Windows:
    """What a peer may send, in bytes and streams, before more is granted."""

    connection: int
    """Bytes over all streams."""
    uni: int
    """Bytes on each unidirectional stream."""
    inbound: int
    """Bytes on each bidirectional stream that the peer opened."""
    reply: int
    """Bytes on each bidirectional stream that this end opened."""
    streams: int
    """Streams of each kind."""
    gaps: int
    """Out-of-order pieces kept, over all streams."""


@dataclass(slots=True)
class PeerLimits:
    """What the peer lets this end send: its transport parameters (RFC 9000 section 18.2), raised by its MAX_ frames."""

    max_data: int = 0
    max_stream_data_bidi_local: int = 0
    """Bytes on each bidirectional stream that the peer opened."""
    max_stream_data_bidi_remote: int = 0
    """Bytes on each bidirectional stream that this end opened."""
    max_stream_data_uni: int = 0
    max_streams_bidi: int = 0
    max_streams_uni: int = 0


class FlowControl:
    """The streams of one connection, and the counts of what came on them."""

    def __init__(self, windows: Windows, *, is_client: bool) -> None:
        self.windows = windows
        self.peer = PeerLimits()
        self.streams: dict[int, Stream] = {}
        """Streams with a half that is not over, by id."""
        self.events: list[tuple[FlowEvent, Stream, int]] = []
        """Stream events in order, each with its error code (0: none); the engine takes the list away."""
        self.credited = 0
        """Stream bytes that have left memory for good."""
        self.extra = 0
        """Bytes granted beyond the window."""
        self.withheld_streams = 0
        """Unidirectional streams not granted to the peer while as many messages wait to be read."""
        self.gaps = 0
        """Out-of-order pieces held now, over all streams."""
        self.exchanges = 0
        """Bidirectional streams that this end has open."""
        self.max_data = Limit(QuicFrameType.MAX_DATA, "max_data", windows.connection)
        self.max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", windows.streams)
        self.max_streams_uni = Limit(QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", windows.streams)
        self.widened: list[Stream] = []
        """Streams with a larger window than the peer has been told."""
        self.stops: dict[int, int] = {}
        """Code by stream id, of every STOP_SENDING that is not acknowledged."""
        self.stops_due: dict[int, None] = {}
        """Those `stops` that have not been sent yet, or were lost."""
        self._ours = 0 if is_client else _SERVER
        self._send_only = self._ours | _UNI
        # Indexed by whether streams are unidirectional:
        self._opened = [0, 0]  # by us, so far
        self._allowed = [windows.streams, windows.streams]  # to the peer in all; it is told in batches

    # Streams

    def may_open(self, *, uni: bool) -> bool:
        """Whether the peer allows one more stream of this kind now."""
        return self._opened[uni] < (self.peer.max_streams_uni if uni else self.peer.max_streams_bidi)

    def open(self, *, uni: bool, priority: int, in_line: bool = False) -> Stream:
        """Open a stream. Call `may_open` first."""
        stream_id = self._opened[uni] << 2 | self._ours | (_UNI if uni else 0)
        stream = self.streams[stream_id] = Stream(
            stream_id,
            local=0 if uni else self.windows.reply,
            remote=self.peer.max_stream_data_uni if uni else self.peer.max_stream_data_bidi_remote,
            readable=not uni,
            writable=True,
        )
        self._opened[uni] += 1
        if not uni:
            self.exchanges += 1
        stream.priority = priority
        stream.in_line = in_line
        return stream

    def find(self, frame_type: int, stream_id: int) -> Stream:
        """The stream that a frame of the peer's is about; if it is new and the peer's, the frame opens it.

        Raises StreamFinishedError when the stream has finished, QuicConnectionError when there cannot be such a stream.
        """
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream
        uni = bool(stream_id & _UNI)
        count = (stream_id >> 2) + 1
        if stream_id & _SERVER == self._ours:
            if count <= self._opened[uni]:
                raise StreamFinishedError
            raise violation(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Wrong stream initiator")
        limit = self.max_streams_uni if uni else self.max_streams_bidi
        if count <= limit.used:
            raise StreamFinishedError
        if count > limit.value:
            raise violation(QuicErrorCode.STREAM_LIMIT_ERROR, frame_type, "Too many streams open")
        # Opening a stream also opens all lower-numbered ones of its type (RFC 9000 section 2.1).
        for new_id in range(limit.used << 2 | stream_id & 3, stream_id + 1, 4):
            stream = self.streams[new_id] = Stream(
                new_id,
                local=self.windows.uni if uni else self.windows.inbound,
                remote=0 if uni else self.peer.max_stream_data_bidi_local,
                readable=True,
                writable=not uni,
            )
        limit.used = count
        return self.streams[stream_id]

    def settle(self, stream: Stream) -> None:
        """Forget a stream if both its halves are over, and let the peer open another in place of one of its own."""
        if not (stream.receiver.is_finished and stream.sender.is_finished):
            return
        # Both halves may end in one packet, which settles the stream twice.
        if self.streams.pop(stream.stream_id, None) is None:
            return
        if stream.stream_id & _SERVER == self._ours:
            self.exchanges -= not stream.uni
        # Held streams are returned by `return_stream` instead.
        elif not stream.counts:
            self.return_stream(uni=stream.uni)

    def return_stream(self, *, uni: bool) -> None:
        """The peer may open one more stream of this kind."""
        self._allowed[uni] += 1

    # What comes

    @property
    def held_bytes(self) -> int:
        """Stream bytes that have come and not left memory."""
        return int(self.max_data.used) - self.credited

    def on_data(self, frame_type: int, stream_id: int, offset: int, data: bytes) -> None:
        """Take what a STREAM frame holds.

        Raises QuicConnectionError for one beyond a window, StreamFinishedError when the stream is not known any more.
        """
        end = offset + len(data)
        if end > UINT_VAR_MAX:
            raise violation(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "offset + length cannot exceed 2^62 - 1")
        stream = self.streams.get(stream_id)
        if stream is None or stream_id & 3 == self._send_only:
            stream = self._find_readable(frame_type, stream_id)
        receiver = stream.receiver
        newly = self._newly_received(stream, end, frame_type)
        gaps = receiver.gaps
        try:
            changed = receiver.handle_data(offset, data, fin=frame_type & 1 == 1)
        except FinalSizeError as error:
            raise violation(QuicErrorCode.FINAL_SIZE_ERROR, frame_type, str(error)) from error
        self.max_data.used += newly
        if receiver.stop_code is not None:
            self._discard(stream, gaps)
        # Gaps are limited over all streams: one piece on each of many streams costs as much as many on one.
        elif receiver.gaps != gaps:
            self.gaps += receiver.gaps - gaps
            if self.gaps > self.windows.gaps:
                raise violation(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Too many gaps")
        # Noted once until it is read: a hundred frames of one read are one event.
        if changed and not stream.noted:
            stream.noted = True
            self.events.append((FlowEvent.READABLE, stream, 0))
        if receiver.is_finished and stream.sender.is_finished:
            self.settle(stream)

    def on_reset(self, frame_type: int, stream_id: int, code: int, final_size: int) -> None:
        """Take a RESET_STREAM frame. Raises as `on_data`."""
        stream = self._find_readable(frame_type, stream_id)
        newly = self._newly_received(stream, final_size, frame_type)
        gaps = stream.receiver.gaps
        try:
            ended = stream.receiver.handle_reset(final_size=final_size)
        except FinalSizeError as error:
            raise violation(QuicErrorCode.FINAL_SIZE_ERROR, frame_type, str(error)) from error
        self.max_data.used += newly
        if ended:
            self._discard(stream, gaps)
            self.events.append((FlowEvent.RESET, stream, code))
        self.settle(stream)

    def on_sent(self, stream: Stream) -> None:
        """Our half of the stream is over: the peer has acknowledged all of it, or its reset."""
        if stream.sender.reset_code is None:
            self.events.append((FlowEvent.SENT, stream, 0))
        self.settle(stream)

    def stop(self, stream: Stream, code: int) -> None:
        """Send STOP_SENDING for the peer's half; what still comes is thrown away, and its credit returned."""
        gaps = stream.receiver.gaps
        if not stream.receiver.stop(code):
            return
        self._discard(stream, gaps)
        # Beyond, the stop is not sent at all: the reset of the other half, or the acknowledgement, tells the peer.
        if len(self.stops) < STOPS_REPEATED_MAX:
            self.stops[stream.stream_id] = code
            self.stops_due[stream.stream_id] = None
        self.settle(stream)

    def widen(self, stream: Stream, size: int) -> None:
        """Let the peer send the first `size` bytes of this stream."""
        if size > stream.max_stream_data_local:
            stream.max_stream_data_local = size
            self.widened.append(stream)

    def _find_readable(self, frame_type: int, stream_id: int) -> Stream:
        if stream_id & 3 == self._send_only:
            raise violation(QuicErrorCode.STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        return self.streams.get(stream_id) or self.find(frame_type, stream_id)

    def _newly_received(self, stream: Stream, end: int, frame_type: int) -> int:
        """The bytes that a frame ending at this offset adds to the connection's total. Raises when over a window."""
        if end > stream.max_stream_data_local:
            raise violation(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over stream data limit")
        newly = end - stream.receiver.highest_offset
        if newly <= 0:
            return 0
        limit = self.max_data
        if limit.used + newly > limit.value:
            raise violation(QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "Over connection data limit")
        return newly

    def _discard(self, stream: Stream, gaps: int) -> None:
        """Throw away what came on this stream and was not read, and return its credit to the peer.

        `gaps`: the out-of-order pieces it held before.
        """
        receiver = stream.receiver
        self.gaps += receiver.gaps - gaps
        self.credited += receiver.highest_offset - receiver.handed
        receiver.handed = receiver.highest_offset

    # What the peer is told

    def limits_due(self) -> bool:
        """Whether a limit has grown enough to be worth a frame."""
        window = self.windows.connection
        return bool(
            self.widened
            or self.credited + window + self.extra - self.max_data.sent >= window // 8
            or _streams_due(self.max_streams_bidi, self._allowed[False])
            or _streams_due(self.max_streams_uni, self._allowed[True] - self.withheld_streams)
        )

    def fill_limits(self, room: int, frames: list[bytes], callbacks: list[OnDelivery]) -> int:
        """Add the MAX_DATA, MAX_STREAMS and MAX_STREAM_DATA frames that are due and fit; the bytes of `room` that are left.

        `frames` gets a head and an empty data for each, `callbacks` one entry.
        """
        if room < ROOM_MIN:
            return room
        before = len(frames)
        window = self.windows.connection
        target = self.credited + window + self.extra
        # An eighth of the window: fewer, larger steps would stall a fast sender, smaller ones cost frames.
        if target - self.max_data.sent >= window // 8:
            self._add_limit(self.max_data, target, frames, callbacks)
        uni = self._allowed[True] - self.withheld_streams
        for limit, allowed in ((self.max_streams_bidi, self._allowed[False]), (self.max_streams_uni, uni)):
            if _streams_due(limit, allowed):
                self._add_limit(limit, allowed, frames, callbacks)
        room -= sum(map(len, frames[before:]))
        while self.widened and room >= ROOM_MIN:
            room -= self._add_stream_limit(self.widened.pop(0), frames, callbacks)
        return room

    def write_limits(self, builder: QuicPacketBuilder) -> None:
        """As `fill_limits`, into the packet of aioquic's builder."""
        frames: list[bytes] = []
        callbacks: list[OnDelivery] = []
        self.fill_limits(builder.remaining_flight_space, frames, callbacks)
        put(builder, frames, callbacks)

    def write_stops(self, builder: QuicPacketBuilder) -> None:
        """Write STOP_SENDING frames: those that are due, then the others that are not acknowledged, as far as they fit."""
        due, self.stops_due = self.stops_due, {}
        for stream_id in [*due, *(one for one in self.stops if one not in due)]:
            if builder.remaining_flight_space < ROOM_MIN:
                self.stops_due.update((one, None) for one in due if one in self.stops)
                return
            due.pop(stream_id, None)
            buf = builder.start_frame(
                QuicFrameType.STOP_SENDING,
                capacity=STOP_SENDING_FRAME_CAPACITY,
                handler=self._on_stop_delivery,
                handler_args=(stream_id,),
            )
            buf.push_uint_var(stream_id)
            buf.push_uint_var(self.stops[stream_id])

    def _add_limit(self, limit: Limit, value: int, frames: list[bytes], callbacks: list[OnDelivery]) -> None:
        # A limit that was sent holds for ever, and is enforced exactly: a peer that goes beyond it breaks the protocol.
        limit.value = limit.sent = max(limit.value, value)
        frames += (varint(limit.frame_type) + varint(limit.value), b"")
        callbacks.append((self._on_limit_delivery, (limit,)))

    def _add_stream_limit(self, stream: Stream, frames: list[bytes], callbacks: list[OnDelivery]) -> int:
        if stream.receiver.is_finished:
            return 0
        frame = _MAX_STREAM_DATA + varint(stream.stream_id) + varint(stream.max_stream_data_local)
        frames += (frame, b"")
        callbacks.append((self._on_stream_limit_delivery, (stream,)))
        return len(frame)

    # What became of the frames

    def _on_limit_delivery(self, delivery: QuicDeliveryState, limit: Limit) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            # Due again; the present value is sent then, not the lost one.
            limit.sent = 0

    def _on_stream_limit_delivery(self, delivery: QuicDeliveryState, stream: Stream) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            self.widened.append(stream)

    def _on_stop_delivery(self, delivery: QuicDeliveryState, stream_id: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            self.stops.pop(stream_id, None)
            self.stops_due.pop(stream_id, None)
        elif stream_id in self.stops:
            self.stops_due[stream_id] = None


def violation(code: QuicErrorCode, frame_type: int, reason: str) -> QuicConnectionError:
    """The error that ends the connection because the peer broke a rule with this frame."""
    return QuicConnectionError(error_code=code, frame_type=frame_type, reason_phrase=reason)


def _streams_due(limit: Limit, allowed: int) -> bool:
    """Whether a MAX_STREAMS is worth sending: when the peer has fewer streams left to open than it would grant."""
    return bool(allowed > limit.sent and limit.sent - limit.used < allowed - limit.sent)
