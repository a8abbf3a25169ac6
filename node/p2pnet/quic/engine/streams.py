"""One stream: its two halves as pure data. Each method returns what the frame or acknowledgement it was given has changed.

aioquic allocates the gap in front of out-of-order data, up to the window, and copies all that is written into an unbounded
buffer. `ReceiveSide` keeps only what has come, and counts the pieces. `SendSide` cuts each frame from the message's own pieces
when there is room in a packet: nothing is buffered ahead, and one payload goes to a thousand peers without a copy.
"""

from bisect import bisect_right
from typing import Any

from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import FinalSizeError


class ReceiveSide:
    """The peer's half of a stream: takes frames, gives bytes in order."""

    __slots__ = (
        "_early", "_final_size", "ended", "gaps", "handed", "highest_offset", "is_finished", "pieces", "position", "stop_code",
    )  # fmt: skip

    def __init__(self, *, readable: bool = True) -> None:
        self.highest_offset = 0
        self.is_finished = not readable
        self.pieces: list[bytes] = []
        """Bytes in order that were not taken yet."""
        self.position = 0
        """Everything before this offset has come."""
        self.handed = 0
        """Bytes that were taken, or thrown away."""
        self.ended = False
        """The peer has ended this half, and all of it has come."""
        self.gaps = 0
        """Out-of-order pieces kept."""
        self.stop_code: int | None = None
        """The error code of our STOP_SENDING, if there was one."""
        self._early: list[tuple[int, bytearray]] = []
        self._final_size: int | None = None

    def handle_data(self, start: int, data: bytes, *, fin: bool) -> bool:
        """Take one STREAM frame, whose bounds were checked; whether there is anything for `take`.

        Raises FinalSizeError for a frame that contradicts the size of the stream.
        """
        end = start + len(data)
        if fin or self._final_size is not None:
            self._check_final(end, fin=fin)
        if end > self.highest_offset:  # noqa: PLR1730  # once per packet, and max() takes ten times as long
            self.highest_offset = end
        if self.is_finished:
            return False
        if self.stop_code is not None:
            self._discard()
            return False
        position = self.position
        if start <= position:
            if end > position:
                self.pieces.append(data if start == position else data[position - start :])
                self.position = end
                # Out-of-order pieces may follow directly now.
                if self._early:
                    self._catch_up()
        elif data:
            self._keep(start, data)
            return False
        if self.position == self._final_size:
            self.is_finished = self.ended = True
        return bool(self.pieces) or self.ended

    def handle_reset(self, *, final_size: int) -> bool:
        """Take a RESET_STREAM frame; whether it has ended this half. Raises FinalSizeError."""
        if self._final_size is not None and final_size != self._final_size:
            raise FinalSizeError("Cannot change final size")
        if final_size < self.highest_offset:
            raise FinalSizeError("Data received beyond final size")
        self.highest_offset = final_size
        if self.is_finished:
            return False
        self._final_size = final_size
        self._discard()
        return True

    def take(self) -> list[bytes]:
        """The bytes in order that have come since the last call."""
        pieces, self.pieces = self.pieces, []
        if pieces:  # else it may have been refused, and more thrown away than came in order
            self.handed = self.position
        return pieces

    def stop(self, error_code: int = QuicErrorCode.NO_ERROR) -> bool:
        """Refuse this half; whether a STOP_SENDING has to be sent.

        Also useful when everything has come: if it arrives before the acknowledgement, the sender learns of the refusal.
        """
        if self.stop_code is not None or (self.is_finished and not self.ended):
            return False
        self.stop_code = error_code
        self._discard()
        return True

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
        self._early = []
        self.gaps = 0
        self.pieces = []
        if self._final_size is not None:
            self.is_finished = True

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
        self.gaps = len(early)

    def _keep(self, start: int, data: bytes) -> None:
        """Keep out-of-order data: only what has come, never the gap before it, and nothing twice.

        Data that follows a piece is appended to it; pieces are never joined: an attacker could have long ones moved for little.
        """
        early = self._early
        index = bisect_right(early, start, key=_start) - 1
        while data:
            held_start, held = early[index] if index >= 0 else (start, None)
            held_end = start if held is None else held_start + len(held)
            if held is not None and start <= held_end:
                data = data[held_end - start :]
                start = held_end
            following = early[index + 1][0] if index + 1 < len(early) else start + len(data)
            piece = data[: following - start]
            if piece and held is not None and start == held_end:
                held += piece
            elif piece:
                early.insert(index + 1, (start, bytearray(piece)))
                index += 1
            data = data[len(piece) :]
            start += len(piece)
            index += 1
        self.gaps = len(early)


class SendSide:
    """Our half of a stream: takes pieces, gives the data of frames on demand."""

    __slots__ = (
        "_acked", "_acked_fin", "_acked_to", "_fin", "_fin_pending", "_lost", "_pieces", "_size", "_starts",
        "buffer_is_empty", "highest_offset", "is_finished", "reset_code", "reset_pending",
    )  # fmt: skip

    def __init__(self, *, writable: bool = True) -> None:
        self.buffer_is_empty = True
        self.highest_offset = 0
        self.is_finished = not writable
        self.reset_pending = False
        self.reset_code: int | None = None
        """The error code with which this half was given up, by this end or on the peer's STOP_SENDING; None: it was not."""
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._size = 0
        self._fin = False
        self._fin_pending = False
        self._lost: RangeSet | None = None
        self._acked: RangeSet | None = None
        self._acked_to = 0
        self._acked_fin = False

    def write(self, data: bytes, end_stream: bool = False) -> None:
        """Add one piece; it is kept, not copied."""
        if self._fin or self.reset_code is not None:
            raise RuntimeError("cannot write after the end of a stream")
        if data:
            self._starts.append(self._size)
            self._pieces.append(data)
            self._size += len(data)
            self.buffer_is_empty = False
        if end_stream:
            self._fin = self._fin_pending = True
            self.buffer_is_empty = False

    @property
    def next(self) -> tuple[int, int]:
        """The range (start, stop) of offsets that the next frame may take from: lost data first, then new data."""
        lost = self._lost
        if lost is not None and len(lost):
            return lost[0].start, lost[0].stop
        return self.highest_offset, self._size

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and have not left yet, not even once."""
        return self._size - self.highest_offset

    def take(self, start: int, stop: int) -> tuple[bytes, bool]:
        """The bytes from `start` to `stop`, within what `next` returned; and whether the half ends there."""
        lost = self._lost
        if lost is not None and len(lost):
            lost.subtract(start, stop)
            again = bool(len(lost))
        else:
            again = False
        pieces = self._pieces
        if len(pieces) == 1:
            # A whole small message leaves without a copy.
            data = pieces[0] if stop - start == self._size else pieces[0][start:stop]
        else:
            data = self._cut(start, stop) if stop > start else b""
        self.highest_offset = max(self.highest_offset, stop)
        fin = self._fin and stop == self._size
        if fin:
            self._fin_pending = False
        if not (again or self._fin_pending) and self.highest_offset == self._size:
            self.buffer_is_empty = True
        return data, fin

    def handle_ack(self, start: int, stop: int, fin: bool) -> bool:
        """A frame was acknowledged; whether all of this half is acknowledged now."""
        if self.reset_code is not None or self.is_finished:
            return False
        # The common case: acknowledged in order, without a set of ranges.
        if self._acked is None and start <= self._acked_to:
            self._acked_to = max(self._acked_to, stop)
        elif stop > start:
            self._acknowledge(start, stop)
        if fin:
            self._acked_fin = True
        if self._acked_fin and self._acked_to == self._size:
            self._finish()
            return True
        return False

    def handle_loss(self, start: int, stop: int, fin: bool) -> bool:
        """A frame was lost; whether there is something to send again."""
        if self.reset_code is not None or self.is_finished:
            return False
        if stop > start:
            if self._lost is None:
                self._lost = RangeSet()
            self._lost.add(start, stop)
        if fin:
            self._fin_pending = True
        self.buffer_is_empty = False
        return True

    def handle_reset_delivery(self, *, acked: bool) -> bool:
        """Our RESET_STREAM was acknowledged or lost; whether it has to be sent again."""
        if acked:
            self._finish()
        else:
            self.reset_pending = True
        return not acked

    def reset(self, error_code: int) -> bool:
        """Give up this half; whether a RESET_STREAM has to be sent: not if all is acknowledged or it is given up already."""
        if self.reset_code is not None or self.is_finished:
            return False
        self.reset_code = error_code
        self.reset_pending = True
        self.buffer_is_empty = True
        self._pieces = []
        return True

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


# The halves that unidirectional streams do not have: over from the start, so that nothing is ever changed in them.
_NO_RECEIVER = ReceiveSide(readable=False)
_NO_SENDER = SendSide(writable=False)


class Stream:
    """A stream: both halves, its state in the send queue, and its owner, who is called when something happens to it."""

    __slots__ = (
        "counts", "in_line", "max_stream_data_local", "max_stream_data_remote", "noted", "owner", "priority", "queued",
        "receiver", "sender", "stream_id",
    )  # fmt: skip

    def __init__(self, stream_id: int, *, local: int, remote: int, readable: bool, writable: bool) -> None:
        self.stream_id = stream_id
        self.receiver = ReceiveSide() if readable else _NO_RECEIVER
        self.sender = SendSide() if writable else _NO_SENDER
        self.owner: Any = None
        """Set by the user of the engine."""
        self.priority = 0
        self.in_line = False
        """It leaves after those that were in line before it, until it has left once; what is lost of it is repeated at once."""
        self.queued = False
        self.noted = False
        self.counts = False
        """The peer opened it, and may open another in its place only after `Engine.return_stream`."""
        self.max_stream_data_local = local
        self.max_stream_data_remote = remote

    @property
    def uni(self) -> bool:
        """Whether it is unidirectional: only its opener sends (RFC 9000 section 2.1)."""
        return bool(self.stream_id & 2)

    @property
    def is_finished(self) -> bool:
        """Whether both halves are over."""
        return self.receiver.is_finished and self.sender.is_finished


def _start(piece: tuple[int, bytearray]) -> int:
    return piece[0]
