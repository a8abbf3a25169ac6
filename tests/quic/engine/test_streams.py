"""The two halves of a stream against any order of frames, any loss, any cut."""

from typing import Any

import pytest
from aioquic.quic.stream import FinalSizeError
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.quic.engine.streams import ReceiveSide, SendSide


@given(
    data=st.binary(min_size=1, max_size=500),
    cuts=st.lists(st.tuples(st.integers(0, 499), st.integers(1, 100)), max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_bytes_come_out_once_and_in_order_whatever_came_in(
    data: bytes, cuts: list[tuple[int, int]], order: Any
) -> None:
    side = ReceiveSide()
    frames = [(start, data[start : start + length]) for start, length in cuts if start < len(data)]
    frames += [(start, data[start : start + 50]) for start in range(0, len(data), 50)]
    order.shuffle(frames)
    out = b""
    for start, piece in frames:
        side.handle_data(start, piece, fin=start + len(piece) == len(data))
        out += b"".join(side.take())
        assert out == data[: len(out)]
        assert side.handed == len(out)
    assert out == data
    assert side.ended
    assert side.gaps == 0


@given(ends=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.booleans()), max_size=20))
def test_any_frames_give_bytes_or_a_final_size_error(ends: list[tuple[int, int, bool]]) -> None:
    side = ReceiveSide()
    for offset, length, fin in ends:
        try:
            side.handle_data(offset, b"x" * length, fin=fin)
        except FinalSizeError:
            return
        assert sum(map(len, side.pieces)) == side.position <= side.highest_offset


@given(
    pieces=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    sizes=st.lists(st.integers(30, 120), min_size=1, max_size=50),
    fates=st.lists(st.booleans(), min_size=1, max_size=50),
)
def test_everything_is_sent_until_everything_is_acknowledged(
    pieces: list[bytes], sizes: list[int], fates: list[bool]
) -> None:
    side = SendSide()
    whole = b"".join(pieces)
    for index, piece in enumerate(pieces):
        side.write(piece, end_stream=index == len(pieces) - 1)
    arrived = bytearray(len(whole))
    finished = done = False
    for turn in range(2000):
        if side.buffer_is_empty:
            break
        start, stop = side.next
        stop = min(stop, start + sizes[turn % len(sizes)])
        data, fin = side.take(start, stop)
        assert len(data) == stop - start
        acked = fates[turn % len(fates)] or turn > 500
        if acked:
            arrived[start:stop] = data
            finished |= fin
        if acked:
            done = side.handle_ack(start, stop, fin)
        else:
            assert side.handle_loss(start, stop, fin)
    assert bytes(arrived) == whole
    assert finished
    assert side.is_finished
    assert done


def test_a_reset_ends_sending_and_later_acknowledgements_change_nothing() -> None:
    side = SendSide()
    side.write(b"x" * 100, end_stream=True)
    side.take(0, 50)
    side.reset(7)
    assert side.buffer_is_empty
    assert not side.handle_loss(0, 50, False)
    assert not side.handle_ack(0, 50, False)
    assert side.buffer_is_empty
    assert side.highest_offset == 50
    side.reset_pending = False
    assert side.handle_reset_delivery(acked=False)
    assert side.reset_pending
    assert not side.handle_reset_delivery(acked=True)
    assert side.is_finished
    with pytest.raises(RuntimeError):
        side.write(b"more")


def test_a_receiver_that_reset_knows_the_final_size() -> None:
    side = ReceiveSide()
    side.handle_data(0, b"x" * 10, fin=False)
    with pytest.raises(FinalSizeError):
        side.handle_reset(final_size=5)
    assert side.handle_reset(final_size=20)
    assert side.is_finished
    assert not side.handle_reset(final_size=20)


def test_a_refused_half_keeps_nothing_of_what_came_and_of_what_comes() -> None:
    side = ReceiveSide()
    side.handle_data(0, b"x" * 10, fin=False)
    side.handle_data(20, b"x" * 10, fin=False)
    assert side.stop(7)
    assert not side.stop(7)
    assert not side.handle_data(10, b"x" * 10, fin=False)
    assert (side.pieces, side.gaps, side.highest_offset) == ([], 0, 30)
    side.handle_data(30, b"", fin=True)
    assert side.is_finished
