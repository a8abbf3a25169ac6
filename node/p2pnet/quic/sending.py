"""Our half of a stream, in place of aioquic's.

aioquic copies all that is written into a buffer without end. `SendSide` cuts each frame from the message's own pieces
when there is room in a packet, so nothing is fed ahead, and one payload may go to a thousand peers uncopied.
"""

from bisect import bisect_right
from typing import TYPE_CHECKING

from aioquic.quic.packet import QuicResetStreamFrame, QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet

if TYPE_CHECKING:
    from p2pnet.quic.streams import BoundedStream

_FRAME_MIN = 24  # a shorter tail of a packet is left empty: a frame's own cost would exceed its content


class SendSide:
    """Our half of a stream: pieces in, frames out, on demand."""

    __slots__ = (
        "_acked", "_acked_fin", "_acked_to", "_fin", "_fin_pending", "_lost", "_pieces", "_reset_code", "_size",
        "_starts", "_stream", "buffer_is_empty", "highest_offset", "is_finished", "reset_pending",
    )  # fmt: skip

    def __init__(self, stream: "BoundedStream", *, writable: bool) -> None:
        self._stream = stream
        self.buffer_is_empty = True
        self.highest_offset = 0
        self.is_finished = not writable
        self.reset_pending = False
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._size = 0
        self._fin = False
        self._fin_pending = False
        self._lost: RangeSet | None = None
        self._acked: RangeSet | None = None
        self._acked_to = 0
        self._acked_fin = False
        self._reset_code: int | None = None

    @property
    def next_offset(self) -> int:
        """Where the next frame starts: aioquic sizes the frame's head by it."""
        lost = self._lost
        return lost[0].start if lost is not None and len(lost) else self.highest_offset

    @property
    def has_unsent(self) -> bool:
        """Whether some bytes have never been sent: those need credit, repeated ones do not."""
        return self.highest_offset < self._size

    @property
    def unacknowledged(self) -> bool:
        """Whether a message was begun and its end is not acknowledged yet."""
        return not self.is_finished and self._size > 0

    @property
    def is_reset(self) -> bool:
        """Whether this half was given up: by us, or because the peer asked to stop."""
        return self._reset_code is not None

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """Add one piece; it is kept, not copied."""
        if self._fin or self._reset_code is not None:
            raise RuntimeError("cannot write after the end of a stream")
        if data:
            self._starts.append(self._size)
            self._pieces.append(data)
            self._size += len(data)
            self.buffer_is_empty = False
        if end_stream:
            self._fin = self._fin_pending = True
            self.buffer_is_empty = False
        self._stream.enqueue()

    def get_frame(self, max_size: int, max_offset: int | None = None) -> QuicStreamFrame | None:
        """The next frame of at most `max_size` bytes, up to the peer's credit; None when nothing fits."""
        if max_size < 0:
            return None
        lost = self._lost
        if lost is not None and len(lost):
            start, end = lost[0].start, lost[0].stop
        elif self.highest_offset < self._size:
            start, end = self.highest_offset, self._size
        else:
            self.buffer_is_empty = True
            if not self._fin_pending:
                return None
            self._fin_pending = False
            return QuicStreamFrame(fin=True, offset=self._size)
        stop = min(end, start + max_size)
        if max_offset is not None and stop > max_offset:
            stop = max_offset
        if stop <= start or (stop - start < _FRAME_MIN and stop == start + max_size and stop < end):
            return None
        frame = QuicStreamFrame(data=self._cut(start, stop), offset=start)
        if lost is not None and len(lost):
            lost.subtract(start, stop)
        self.highest_offset = max(self.highest_offset, stop)
        if stop == self._size and self._fin:
            frame.fin = True
            self._fin_pending = False
        if self.highest_offset == self._size and not self._fin_pending and not (lost is not None and len(lost)):
            self.buffer_is_empty = True
        return frame

    def get_reset_frame(self) -> QuicResetStreamFrame:
        """The RESET_STREAM that was asked for."""
        self.reset_pending = False
        return QuicResetStreamFrame(
            error_code=self._reset_code or 0, final_size=self.highest_offset, stream_id=self._stream.stream_id
        )

    def on_data_delivery(self, delivery: QuicDeliveryState, start: int, stop: int, fin: bool) -> None:
        """A frame was acknowledged, or is given up for lost."""
        if self._reset_code is not None or self.is_finished:
            return
        if delivery is not QuicDeliveryState.ACKED:
            if stop > start:
                if self._lost is None:
                    self._lost = RangeSet()
                self._lost.add(start, stop)
            if fin:
                self._fin_pending = True
            self.buffer_is_empty = False
            self._stream.enqueue()
            return
        if stop > start:
            self._acknowledge(start, stop)
        if fin:
            self._acked_fin = True
        if self._acked_fin and self._acked_to == self._size:
            self._finish()
            self._stream.sent()

    def on_reset_delivery(self, delivery: QuicDeliveryState) -> None:
        """Our RESET_STREAM was acknowledged or lost."""
        if delivery is QuicDeliveryState.ACKED:
            self._finish()
            self._stream.settle()
        else:
            self.reset_pending = True
            self._stream.enqueue()

    def reset(self, error_code: int) -> None:
        """Give up this half; no effect once it is acknowledged or already reset."""
        if self._reset_code is None and not self.is_finished:
            self._reset_code = error_code
            self.reset_pending = True
            self.buffer_is_empty = True
            self._pieces = []
            self._stream.enqueue()

    def _acknowledge(self, start: int, stop: int) -> None:
        if start <= self._acked_to:
            self._acked_to = max(self._acked_to, stop)
            if self._acked is not None and len(self._acked) and self._acked[0].start <= self._acked_to:
                self._acked_to = max(self._acked_to, self._acked.shift().stop)
            return
        if self._acked is None:
            self._acked = RangeSet()
        self._acked.add(start, stop)

    def _cut(self, start: int, stop: int) -> bytes:
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces[0] if stop - start == self._size else pieces[0][start:stop]
        index = bisect_right(self._starts, start) - 1
        first = self._starts[index]
        data = pieces[index][start - first : stop - first]
        while len(data) < stop - start:
            index += 1
            data += pieces[index][: stop - start - len(data)]
        return data

    def _finish(self) -> None:
        self.is_finished = True
        self.buffer_is_empty = True
        self._pieces = []
