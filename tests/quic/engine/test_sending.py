"""What leaves next: the urgent before the rest, equals in turn, and never more than the peer allows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quic.engine.packet import Packet

from p2pnet.quic.engine import Stream
from p2pnet.quic.engine.flow import PeerLimits
from p2pnet.quic.engine.sending import SendQueue

PLENTY = 1 << 40
RESET_STREAM = 0x04


class Sender:
    """A send queue, and what it wrote."""

    def __init__(self, max_data: int = PLENTY, stream_data: int = PLENTY) -> None:
        self.limits = PeerLimits(max_data=max_data)
        self.stream_data = stream_data
        self.over: list[int] = []
        self.queue = SendQueue(self.limits, lambda stream: self.over.append(stream.stream_id))

    def stream(self, number: int, size: int = 0, *, priority: int = 0) -> Stream:
        stream = Stream(number, local=0, remote=self.stream_data, readable=False, writable=True)
        stream.priority = priority
        if size:
            self.write(stream, size)
        return stream

    def in_line(self, number: int, size: int) -> Stream:
        stream = self.stream(number)
        stream.in_line = True
        self.write(stream, size)
        return stream

    def write(self, stream: Stream, size: int, *, end: bool = False) -> None:
        stream.sender.write(bytes(size), end_stream=end)
        self.queue.add(stream)

    def packet(self, room: int = 1_200) -> Packet:
        packet = Packet(room)
        self.queue.write(packet)
        return packet

    def numbers(self, packets: int) -> list[int]:
        """Whose frames fill so many packets."""
        return [number for _ in range(packets) for number, _, _ in data(self.packet())]


def data(packet: Packet) -> list[tuple[int, int, int]]:
    """Stream, first and last offset of each STREAM frame."""
    return [
        (frame.arguments[0].stream_id, frame.arguments[1], frame.arguments[2])
        for frame in packet.frames
        if frame.kind != RESET_STREAM
    ]


def test_equals_take_turns() -> None:
    sender = Sender()
    for number in (2, 6, 10):
        sender.stream(number, 10_000)
    assert sender.numbers(6) == [2, 6, 10, 2, 6, 10]


def test_small_ones_share_a_packet() -> None:
    sender = Sender()
    for number in (2, 6, 10):
        sender.stream(number, 100)
    assert data(sender.packet()) == [(2, 0, 100), (6, 0, 100), (10, 0, 100)]
    assert sender.queue.queues == {}
    assert sender.packet().frames == []


@pytest.mark.parametrize("credit", [PLENTY, 6_000])
def test_what_waits_is_what_was_written_and_has_not_left(credit: int) -> None:
    sender, left = Sender(max_data=credit), 10_000 + 500 + 3_000 + 700
    sender.stream(2, 10_000)
    sender.stream(6, 500, priority=1)
    sender.in_line(10, 3_000)
    sender.in_line(14, 700)
    while True:
        assert sender.queue.unsent_bytes == left
        frames = data(sender.packet())
        if not frames:
            break
        left -= sum(stop - start for _, start, stop in frames)
    assert left == max(0, 14_200 - credit)


def test_the_urgent_overtake_what_has_begun() -> None:
    sender = Sender()
    sender.stream(2, 10_000, priority=-1)
    sender.stream(6, 10_000)
    assert sender.numbers(1) == [6]
    sender.stream(10, 2_000, priority=5)
    assert sender.numbers(2) == [10, 10, 6]
    assert list(sender.queue.queues) == [0, -1]


def test_those_in_line_leave_one_after_the_other_in_one_place_of_the_round() -> None:
    sender = Sender()
    for number in (2, 6, 10):
        sender.in_line(number, 2_000)
    sender.stream(14, 10_000)
    assert [number for number in sender.numbers(12) if number != 14] == [2, 2, 6, 6, 10, 10]
    assert sender.queue.queues.keys() == {0}
    assert sender.in_line(18, 100).queued, "the line is empty and begins anew"
    assert 18 in sender.numbers(2)


def test_what_is_reset_or_waits_for_credit_in_line_holds_up_nobody_for_good() -> None:
    sender = Sender(max_data=3_000)
    first, second, third = (sender.in_line(number, 2_000) for number in (2, 6, 10))
    assert sender.queue.reset(second, 1)
    sender.numbers(5)
    assert sender.queue.queues == {}
    sender.limits.max_data = PLENTY
    sender.queue.on_connection_credit()
    sender.numbers(5)
    assert [stream.sender.buffer_is_empty for stream in (first, second, third)] == [True] * 3
    assert not third.in_line


def test_what_is_lost_of_one_in_line_is_repeated_before_the_next_ones_end() -> None:
    sender = Sender()
    first = sender.in_line(2, 1_000)
    packet = sender.packet()
    for number in (6, 10):
        sender.in_line(number, 5_000)
    packet.lost()
    assert not first.in_line
    assert 2 in sender.numbers(2)


def test_a_stream_waits_in_line_once() -> None:
    sender = Sender()
    stream = sender.stream(2, 4_000)
    sender.write(stream, 4_000)
    sender.queue.add(stream)
    sender.stream(6, 4_000)
    assert sender.numbers(4) == [2, 6, 2, 6]


def test_without_room_nothing_is_begun_and_nothing_forgotten() -> None:
    sender = Sender()
    sender.stream(2, 1_000)
    assert sender.packet(room=40).frames == []
    assert data(sender.packet()) == [(2, 0, 1_000)]


def test_a_stream_stops_at_its_own_limit_and_others_go_on() -> None:
    sender = Sender(stream_data=300)
    first = sender.stream(2, 1_000)
    sender.stream(6, 300)
    assert data(sender.packet()) == [(2, 0, 300), (6, 0, 300)]
    sender.stream(10, 300)
    assert data(sender.packet()) == [(10, 0, 300)]
    first.max_stream_data_remote = 400
    sender.queue.on_stream_credit(first)
    assert data(sender.packet()) == [(2, 300, 400)]


def test_a_stream_with_nothing_to_say_is_not_woken_by_credit() -> None:
    sender = Sender()
    sender.queue.on_stream_credit(sender.stream(2))
    assert sender.queue.queues == {}


def test_all_wait_for_the_connection_and_go_on_in_the_same_order() -> None:
    sender = Sender(max_data=500)
    streams = [sender.stream(number, 400) for number in (2, 6, 10)]
    assert data(sender.packet()) == [(2, 0, 400), (6, 0, 100)]
    for _ in range(100):  # a peer that gives room on each stream and none on the connection costs nothing
        for stream in streams:
            sender.queue.on_stream_credit(stream)
        assert sender.packet().frames == []
    assert len(sender.queue._blocked) == 2
    sender.limits.max_data = 2_000
    assert sender.packet().frames == []
    sender.queue.on_connection_credit()
    assert sorted(data(sender.packet())) == [(6, 100, 400), (10, 0, 400)]


def test_what_was_lost_goes_again_without_new_credit() -> None:
    sender = Sender(max_data=500)
    sender.stream(2, 500)
    packet = sender.packet()
    packet.lost()
    again = sender.packet()
    assert data(again) == data(packet) == [(2, 0, 500)]
    assert sender.queue._used == 500


def test_a_half_is_over_when_all_of_it_is_acknowledged() -> None:
    sender = Sender()
    stream = sender.stream(2)
    sender.write(stream, 2_000, end=True)
    first, second = sender.packet(), sender.packet()
    second.acked()
    assert sender.over == []
    first.acked()
    first.acked()
    assert sender.over == [2]


def test_a_reset_takes_the_place_of_the_data_and_is_repeated_until_acknowledged() -> None:
    sender = Sender()
    stream = sender.stream(2, 5_000)
    before = sender.packet()
    assert sender.queue.reset(stream, 7)
    assert not sender.queue.reset(stream, 8)
    packet = sender.packet()
    assert [(frame.kind, frame.numbers) for frame in packet.frames] == [(RESET_STREAM, [2, 7, data(before)[0][2]])]
    assert sender.packet().frames == []
    packet.lost()
    again = sender.packet()
    assert [frame.kind for frame in again.frames] == [RESET_STREAM]
    before.lost()
    assert sender.packet().frames == []
    again.acked()
    assert sender.over == [2]
    assert not sender.queue.reset(stream, 7)


@pytest.mark.parametrize("waiting", ["connection", "stream"])
def test_a_stream_that_waits_for_credit_can_be_reset(waiting: str) -> None:
    sender = Sender(max_data=0) if waiting == "connection" else Sender(stream_data=0)
    stream = sender.stream(2, 100)
    assert sender.packet().frames == []
    sender.queue.reset(stream, 7)
    assert [frame.numbers for frame in sender.packet().frames] == [[2, 7, 0]]
    assert not sender.queue._blocked
    sender.queue.on_connection_credit()
    assert sender.packet().frames == []
    assert sender.queue.queues == {}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3_000), st.integers(-1, 1)), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 1_500), st.integers(20, 1_200), st.booleans()), min_size=1, max_size=40),
)
def test_all_that_is_written_leaves_once_as_credit_comes(sizes: list[Any], steps: list[Any]) -> None:
    sender = Sender(max_data=0)
    arrived = {number * 4 + 2: bytearray(size) for number, (size, _) in enumerate(sizes)}
    streams = [sender.stream(number * 4 + 2, priority=priority) for number, (_, priority) in enumerate(sizes)]
    for stream, (size, _) in zip(streams, sizes, strict=True):
        sender.write(stream, size, end=True)
    steps += [(PLENTY, 1_200, True)] + [(0, 1_200, True)] * 100
    for credit, room, arrives in steps:
        sender.limits.max_data += credit
        if credit:
            sender.queue.on_connection_credit()
        packet = sender.packet(room)
        assert sum(stream.sender.highest_offset for stream in streams) == sender.queue._used <= sender.limits.max_data
        if arrives:
            for number, start, stop in data(packet):
                assert not any(arrived[number][start:stop])
                arrived[number][start:stop] = b"x" * (stop - start)
            packet.acked()
        else:
            packet.lost()
    assert all(all(one) for one in arrived.values())
    assert sorted(sender.over) == sorted(arrived)
    assert sender.queue.queues == {}
