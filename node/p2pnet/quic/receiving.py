"""The peer's half of a stream, in place of aioquic's.

aioquic allocates the gap in front of data that comes too early, up to the window, without an event. `ReceiveSide` keeps
only what came, and counts the pieces.
"""

from bisect import bisect_right
from typing import TYPE_CHECKING

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStopSendingFrame, QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import FinalSizeError

if TYPE_CHECKING:
    from p2pnet.quic.streams import BoundedStream


class ReceiveSide:
    """The peer's half of a stream: frames in, bytes in order out through the stream's owner."""

    __slots__ = (
        "_early", "_final_size", "_stop_code", "_stream", "credited", "ended", "highest_offset", "is_finished",
        "pieces", "position", "stop_pending",
    )  # fmt: skip

    def __init__(self, stream: "BoundedStream", *, readable: bool) -> None:
        self._stream = stream
        self.highest_offset = 0
        self.is_finished = not readable
        self.stop_pending = False
        self.pieces: list[bytes] = []
        """In order, not yet handed to the owner."""
        self.position = 0
        """Everything before this offset has come."""
        self.credited = 0
        """Bytes given back to the connection's window."""
        self.ended = False
        self._early: list[tuple[int, bytearray]] = []
        self._final_size: int | None = None
        self._stop_code: int | None = None

    def starting_offset(self) -> int:
        """As `position`; aioquic's name for it."""
        return self.position

    def handle_frame(self, frame: QuicStreamFrame) -> None:
        """Take one STREAM frame. The bounds have been checked by then."""
        start, data = frame.offset, frame.data
        end = start + len(data)
        self._check_final(end, fin=frame.fin)
        self.highest_offset = max(self.highest_offset, end)
        if self.is_finished:
            return
        if self._stop_code is not None:
            self._discard()
            return
        position = self.position
        if start <= position:
            if end > position:
                self.pieces.append(data if start == position else data[position - start :])
                self.position = end
                if self._early:
                    self._catch_up()
        elif data:
            self._keep(start, data)
            return
        if self.position == self._final_size:
            self.is_finished = self.ended = True
        if self.pieces or self.ended:
            self._stream.readable()

    def handle_reset(self, *, final_size: int, error_code: int = QuicErrorCode.NO_ERROR) -> None:
        """Take a RESET_STREAM."""
        if self._final_size is not None and final_size != self._final_size:
            raise FinalSizeError("Cannot change final size")
        if final_size < self.highest_offset:
            raise FinalSizeError("Data received beyond final size")
        self.highest_offset = final_size
        if self.is_finished:
            return
        self._final_size = final_size
        self.is_finished = True
        self._drop()
        self._stream.connection.resets.append((self._stream, error_code))
        self._stream.settle()

    def stop(self, error_code: int = QuicErrorCode.NO_ERROR) -> None:
        """Ask the peer to stop; what still comes is thrown away, and its credit returned.

        Also of use when all has come: told before the acknowledgement, the sender learns that it was refused.
        """
        if self._stop_code is not None or (self.is_finished and not self.ended):
            return
        self._stop_code = error_code
        self.stop_pending = True
        self._stream.connection.stopping.append(self._stream)
        if not self.is_finished:
            self._discard()

    def get_stop_frame(self) -> QuicStopSendingFrame:
        """The STOP_SENDING that was asked for."""
        self.stop_pending = False
        return QuicStopSendingFrame(error_code=self._stop_code or 0, stream_id=self._stream.stream_id)

    def on_stop_sending_delivery(self, delivery: QuicDeliveryState) -> None:
        """Our STOP_SENDING was acknowledged or lost."""
        if delivery is not QuicDeliveryState.ACKED and not self.is_finished:
            self.stop_pending = True
            self._stream.connection.stopping.append(self._stream)

    def _check_final(self, end: int, *, fin: bool) -> None:
        if self._final_size is not None:
            if end > self._final_size:
                raise FinalSizeError("Data received beyond final size")
            if fin and end != self._final_size:
                raise FinalSizeError("Cannot change final size")
        if fin:
            if end < self.highest_offset:
                raise FinalSizeError("Data received beyond final size")
            self._final_size = end

    def _discard(self) -> None:
        self._drop()
        if self._final_size is not None:
            self.is_finished = True
            self._stream.settle()

    def _drop(self) -> None:
        self._stream.connection.gaps -= len(self._early)
        self._early = []
        self.pieces = []
        self._stream.credit(self.highest_offset)

    def _catch_up(self) -> None:
        early = self._early
        used = 0
        for start, data in early:
            if start > self.position:
                break
            used += 1
            skip = self.position - start
            if skip < len(data):
                self.pieces.append(bytes(data[skip:]) if skip else bytes(data))
                self.position = start + len(data)
        del early[:used]
        self._stream.connection.gaps -= used

    def _keep(self, start: int, data: bytes) -> None:
        """Keep data that came too early, merged with its neighbours: only what came, never the gap before it."""
        early = self._early
        before = len(early)
        index = bisect_right(early, start, key=_start) - 1
        held_start, held = early[index] if index >= 0 else (0, bytearray())
        if index >= 0 and start <= held_start + len(held):
            held += data[held_start + len(held) - start :]
        else:
            index += 1
            held_start, held = start, bytearray(data)
            early.insert(index, (held_start, held))
        while index + 1 < len(early) and early[index + 1][0] <= held_start + len(held):
            next_start, following = early.pop(index + 1)
            held += following[held_start + len(held) - next_start :]
        connection = self._stream.connection
        connection.gaps += len(early) - before
        if connection.gaps > connection.limits.gaps_max:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=QuicFrameType.STREAM_BASE,
                reason_phrase="Too many gaps",
            )


def _start(piece: tuple[int, bytearray]) -> int:
    return piece[0]
