"""What a peer may send: never more than it was told, told only for what left memory, and told until it has heard."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.stream import StreamFinishedError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from tests.quic.engine.packet import Packet

from p2pnet.quic.engine import FlowEvent, Stream, Windows
from p2pnet.quic.engine.flow import FlowControl

WINDOWS = Windows(connection=8_000, uni=1_000, inbound=2_000, reply=1_500, streams=4, gaps=3)
STREAM = QuicFrameType.STREAM_BASE
MAX_DATA, MAX_STREAM_DATA, STOP_SENDING = 0x10, 0x11, 0x05
MAX_STREAMS_BIDI, MAX_STREAMS_UNI = 0x12, 0x13


def server() -> FlowControl:
    """Its peer opens streams 0, 4, 8 both ways and 2, 6, 10 one way."""
    return FlowControl(WINDOWS, is_client=False)


def data(flow: FlowControl, stream_id: int, size: int, offset: int = 0, *, fin: bool = False) -> None:
    flow.on_data(STREAM | fin, stream_id, offset, bytes(size))


def take(flow: FlowControl, stream: Stream) -> None:
    """Read what came, and let it leave memory."""
    stream.noted = False
    flow.credited += sum(map(len, stream.receiver.take()))


def limits(flow: FlowControl) -> dict[int, list[int]]:
    """Numbers by frame type, of a packet written now."""
    packet = Packet()
    flow.write_limits(packet)
    return {frame.kind: frame.numbers for frame in packet.frames}


def answered(flow: FlowControl, stream: Stream) -> None:
    """Our half is over too."""
    stream.sender.write(b"", end_stream=True)
    assert stream.sender.take(0, 0) == (b"", True)
    assert stream.sender.handle_ack(0, 0, True)
    flow.on_sent(stream)


def code_of(error: pytest.ExceptionInfo[QuicConnectionError]) -> int:
    return error.value.error_code


def test_a_stream_takes_its_window_and_not_a_byte_more() -> None:
    flow = server()
    data(flow, 2, 1_000)
    data(flow, 0, 2_000)
    for stream_id, end in ((2, 1_000), (0, 2_000)):
        with pytest.raises(QuicConnectionError) as error:
            data(flow, stream_id, 1, end)
        assert code_of(error) == QuicErrorCode.FLOW_CONTROL_ERROR
    with pytest.raises(QuicConnectionError):
        flow.on_reset(QuicFrameType.RESET_STREAM, 2, 0, 1_001)
    assert flow.held_bytes == 3_000


def test_the_connection_takes_its_window_and_not_a_byte_more() -> None:
    flow = server()
    for stream_id in (0, 4, 8, 12):
        data(flow, stream_id, 2_000)
    assert flow.held_bytes == WINDOWS.connection
    with pytest.raises(QuicConnectionError) as error:
        data(flow, 2, 1)
    assert code_of(error) == QuicErrorCode.FLOW_CONTROL_ERROR
    data(flow, 0, 2_000)  # the same again costs nothing


def test_credit_is_for_bytes_that_left_memory_and_worth_an_eighth_of_the_window() -> None:
    flow = server()
    data(flow, 0, 2_000)
    assert not flow.limits_due()
    flow.credited += 999
    assert not flow.limits_due()
    flow.credited += 1
    assert limits(flow) == {MAX_DATA: [9_000]}
    assert not flow.limits_due()
    assert limits(flow) == {}


def test_what_is_granted_beyond_the_window_may_come() -> None:
    flow = server()
    flow.extra = 3_000
    packet = Packet()
    flow.write_limits(packet)
    assert [(frame.kind, frame.numbers) for frame in packet.frames] == [(MAX_DATA, [11_000])]
    flow.extra = 0
    assert limits(flow) == {}
    packet.lost()
    assert limits(flow)[MAX_DATA] == [11_000]  # it may have been heard all the same


def test_a_lost_limit_is_said_again() -> None:
    flow = server()
    flow.credited = 1_000
    packet = Packet()
    flow.write_limits(packet)
    assert not flow.limits_due()
    packet.lost()
    assert flow.limits_due()
    assert limits(flow)[MAX_DATA] == [9_000]
    packet.acked()
    assert not flow.limits_due()


def test_a_stream_is_returned_once_when_both_halves_are_over() -> None:
    flow = server()
    for stream_id in (0, 4, 8, 12):
        data(flow, stream_id, 1, fin=True)
    with pytest.raises(QuicConnectionError) as error:
        data(flow, 16, 1)
    assert code_of(error) == QuicErrorCode.STREAM_LIMIT_ERROR
    assert not flow.limits_due()
    first, second = flow.streams[0], flow.streams[4]
    answered(flow, first)
    flow.settle(first)
    assert 0 not in flow.streams
    with pytest.raises(StreamFinishedError):
        data(flow, 0, 1)
    answered(flow, second)
    flow.credited += 2  # not worth a word yet
    assert limits(flow) == {MAX_STREAMS_BIDI: [6]}
    data(flow, 20, 1)
    with pytest.raises(QuicConnectionError):
        data(flow, 24, 1)


def test_streams_are_returned_in_batches() -> None:
    flow = server()
    data(flow, 2, 1, fin=True)
    data(flow, 6, 1, fin=True)
    assert not flow.limits_due()  # two are left, two would be granted
    data(flow, 10, 1, fin=True)
    assert limits(flow) == {MAX_STREAMS_UNI: [7]}


def test_a_held_stream_is_returned_when_its_holder_says_so() -> None:
    flow = server()
    for stream_id in (0, 4, 8, 12):
        data(flow, stream_id, 1, fin=True)
    flow.streams[0].counts = True
    answered(flow, flow.streams[0])
    assert not flow.limits_due()
    flow.return_stream(uni=False)
    assert limits(flow) == {MAX_STREAMS_BIDI: [5]}


def test_a_peer_that_opens_more_streams_than_it_was_told_breaks_the_rule() -> None:
    flow = server()
    flow.withheld_streams = 3
    for stream_id in (2, 6, 10, 14):
        data(flow, stream_id, 1, fin=True)
    assert flow.streams == {}
    assert limits(flow) == {MAX_STREAMS_UNI: [5]}
    data(flow, 18, 1, fin=True)
    with pytest.raises(QuicConnectionError) as error:
        data(flow, 22, 1)
    assert code_of(error) == QuicErrorCode.STREAM_LIMIT_ERROR
    flow.withheld_streams = 0
    assert limits(flow) == {MAX_STREAMS_UNI: [9]}
    data(flow, 22, 1)


def test_stop_sending_goes_with_every_packet_until_one_is_acknowledged() -> None:
    flow = server()
    data(flow, 2, 10)
    data(flow, 0, 10)
    flow.stop(flow.streams[2], 7)
    flow.stop(flow.streams[0], 9)
    packets = [Packet(), Packet()]
    for packet in packets:
        assert bool(flow.stops_due) == (packet is packets[0])
        flow.write_stops(packet)
        assert [(frame.kind, frame.numbers) for frame in packet.frames] == [
            (STOP_SENDING, [2, 7]),
            (STOP_SENDING, [0, 9]),
        ]
    packets[0].lost()
    assert flow.stops_due
    flow.write_stops(Packet())
    packets[1].acked()
    assert (flow.stops, flow.stops_due) == ({}, {})
    packets[0].lost()
    assert not flow.stops_due


def test_a_stop_is_said_also_when_the_stream_is_over() -> None:
    flow = server()
    data(flow, 2, 10, fin=False)
    stream = flow.streams[2]
    flow.stop(stream, 7)
    data(flow, 2, 0, 10, fin=True)
    assert flow.streams == {}
    assert flow.stops == {2: 7}


def test_what_was_refused_gives_its_credit_back_before_and_after() -> None:
    flow = server()
    data(flow, 0, 500)
    take(flow, flow.streams[0])
    data(flow, 0, 500, 500)
    data(flow, 0, 100, 1_500)
    assert (flow.held_bytes, flow.gaps) == (1_100, 1)
    flow.stop(flow.streams[0], 7)
    assert (flow.held_bytes, flow.gaps) == (0, 0)
    data(flow, 0, 300, 1_600)
    assert flow.held_bytes == 0
    flow.on_reset(QuicFrameType.RESET_STREAM, 0, 7, 2_000)
    assert flow.credited == flow.max_data.used == 2_000


def test_reading_what_was_refused_gives_no_credit_twice() -> None:
    flow = server()
    data(flow, 0, 500)
    data(flow, 0, 100, 900)
    stream = flow.streams[0]
    flow.stop(stream, 7)
    take(flow, stream)
    data(flow, 0, 100, 1_000)
    assert flow.credited == flow.max_data.used == 1_100


def test_a_reset_throws_away_what_came_and_is_told_once() -> None:
    flow = server()
    data(flow, 0, 500, 100)
    stream = flow.streams[0]
    for _ in range(2):
        flow.on_reset(QuicFrameType.RESET_STREAM, 0, 7, 1_000)
    assert flow.events == [(FlowEvent.RESET, stream, 7)]
    assert (flow.held_bytes, flow.gaps, flow.max_data.used) == (0, 0, 1_000)
    with pytest.raises(QuicConnectionError) as error:
        flow.on_reset(QuicFrameType.RESET_STREAM, 0, 7, 1_001)
    assert code_of(error) == QuicErrorCode.FINAL_SIZE_ERROR


def test_gaps_are_counted_over_all_streams() -> None:
    flow = server()
    for stream_id in (0, 2, 4):
        data(flow, stream_id, 1, 10)
    data(flow, 0, 10)
    assert flow.gaps == 2
    data(flow, 0, 1, 20)
    with pytest.raises(QuicConnectionError) as error:
        data(flow, 8, 1, 10)
    assert code_of(error) == QuicErrorCode.PROTOCOL_VIOLATION


def test_a_widened_stream_is_told_until_it_hears_or_is_over() -> None:
    flow = server()
    data(flow, 0, 1)
    stream = flow.streams[0]
    flow.widen(stream, 5_000)
    flow.widen(stream, 4_000)
    packet = Packet()
    flow.write_limits(packet)
    assert [(frame.kind, frame.numbers) for frame in packet.frames] == [(MAX_STREAM_DATA, [0, 5_000])]
    assert not flow.widened
    packet.lost()
    assert limits(flow) == {MAX_STREAM_DATA: [0, 5_000]}
    data(flow, 0, 4_999, 1, fin=True)
    packet.lost()
    assert limits(flow) == {}


def test_limits_wait_for_a_packet_with_room() -> None:
    flow = server()
    data(flow, 0, 1)
    flow.widen(flow.streams[0], 5_000)
    flow.write_limits(Packet(room=20))
    assert flow.widened
    flow.stop(flow.streams[0], 7)
    flow.write_stops(packet := Packet(room=20))
    assert packet.frames == []
    assert flow.stops == {0: 7}


def test_our_own_streams_are_numbered_by_kind_and_end() -> None:
    for is_client, first in ((True, 0), (False, 1)):
        flow = FlowControl(WINDOWS, is_client=is_client)
        assert not flow.may_open(uni=True)
        assert not flow.may_open(uni=False)
        flow.peer.max_streams_bidi, flow.peer.max_streams_uni = 2, 1
        flow.peer.max_stream_data_bidi_remote, flow.peer.max_stream_data_uni = 300, 200
        streams = [flow.open(uni=uni, priority=3) for uni in (False, True, False)]
        assert [one.stream_id for one in streams] == [first, first + 2, first + 4]
        assert [one.max_stream_data_remote for one in streams] == [300, 200, 300]
        assert [one.max_stream_data_local for one in streams] == [1_500, 0, 1_500]
        assert not flow.may_open(uni=True)
        assert not flow.may_open(uni=False)
        assert flow.exchanges == 2
        flow.on_reset(QuicFrameType.RESET_STREAM, first, 0, 0)
        answered(flow, streams[0])
        assert flow.exchanges == 1
        assert not flow.limits_due()  # it was not the peer's


def test_a_peer_must_not_send_on_what_is_ours_to_open() -> None:
    flow = server()
    flow.peer.max_streams_uni = 1
    flow.open(uni=True, priority=0)
    for stream_id in (1, 3, 7):
        with pytest.raises(QuicConnectionError) as error:
            data(flow, stream_id, 0)
        assert code_of(error) == QuicErrorCode.STREAM_STATE_ERROR


def test_a_stream_opens_all_before_it() -> None:
    flow = server()
    flow.peer.max_stream_data_bidi_local = 123
    data(flow, 8, 1)
    assert list(flow.streams) == [0, 4, 8]
    assert all(one.max_stream_data_remote == 123 for one in flow.streams.values())
    assert [stream.stream_id for _, stream, _ in flow.events] == [8]


def test_a_reader_is_called_once_until_it_reads() -> None:
    flow = server()
    data(flow, 0, 1)
    data(flow, 0, 1, 1)
    assert [kind for kind, _, _ in flow.events] == [FlowEvent.READABLE]
    take(flow, flow.streams[0])
    data(flow, 0, 1, 2)
    assert len(flow.events) == 2


class HonestPeer(RuleBasedStateMachine):
    """Keeps to what it has heard, over a network that loses any packet."""

    packets = Bundle("packets")

    def __init__(self) -> None:
        super().__init__()
        self.flow = server()
        self.sent = 0
        self.max_data = WINDOWS.connection
        self.max_streams = {0: WINDOWS.streams, 2: WINDOWS.streams}
        self.opened = {0: 0, 2: 0}
        self.extra_max = 0
        self.over = {0: 0, 2: 0}

    @rule(kind=st.sampled_from([0, 2]), size=st.integers(0, 900), fin=st.booleans())
    def open_a_stream(self, kind: int, size: int, fin: bool) -> None:
        size = min(size, self.max_data - self.sent)
        if self.opened[kind] == self.max_streams[kind]:
            return
        self.sent += size
        self.opened[kind] += 1
        data(self.flow, (self.opened[kind] - 1) * 4 + kind, size, fin=fin)

    @rule(index=st.integers(0, 99), size=st.integers(1, 300), skip=st.integers(0, 2), fin=st.booleans())
    def go_on(self, index: int, size: int, skip: int, fin: bool) -> None:
        going = [one for one in self.flow.streams.values() if not one.receiver.is_finished]
        if not going:
            return
        stream = going[index % len(going)]
        highest = stream.receiver.highest_offset
        offset = highest + (skip if self.flow.gaps < WINDOWS.gaps else 0)
        size = min(size, stream.max_stream_data_local - offset, self.max_data - self.sent - (offset - highest))
        if size > 0 and stream.receiver._final_size is None:
            self.sent += offset + size - highest
            data(self.flow, stream.stream_id, size, offset, fin=fin)

    @rule(index=st.integers(0, 99), act=st.sampled_from(["take", "stop", "answer", "reset", "widen"]))
    def act(self, index: int, act: str) -> None:
        flow = self.flow
        streams = list(flow.streams.values())
        if not streams:
            return
        stream = streams[index % len(streams)]
        if act == "take":
            take(flow, stream)
        elif act == "stop":
            flow.stop(stream, 7)
        elif act == "answer" and not stream.sender.is_finished:
            answered(flow, stream)
        elif act == "reset":
            flow.on_reset(QuicFrameType.RESET_STREAM, stream.stream_id, 0, stream.receiver.highest_offset)
        elif act == "widen":
            flow.widen(stream, stream.max_stream_data_local + 100)

    @rule(extra=st.integers(0, 4_000), withheld=st.integers(0, 3))
    def grant(self, extra: int, withheld: int) -> None:
        self.flow.extra = extra
        self.flow.withheld_streams = withheld
        self.extra_max = max(self.extra_max, extra)

    @rule(target=packets)
    def write(self) -> Packet:
        packet = Packet()
        self.flow.write_stops(packet)
        self.flow.write_limits(packet)
        return packet

    @rule(packet=consumes(packets))
    def hear(self, packet: Packet) -> None:
        for frame in packet.frames:
            if frame.kind == MAX_DATA:
                self.max_data = max(self.max_data, *frame.numbers)
            elif frame.kind in (MAX_STREAMS_BIDI, MAX_STREAMS_UNI):
                kind = 0 if frame.kind == MAX_STREAMS_BIDI else 2
                self.max_streams[kind] = max(self.max_streams[kind], *frame.numbers)
        packet.acked()

    @rule(packet=consumes(packets))
    def lose(self, packet: Packet) -> None:
        packet.lost()

    @invariant()
    def holds_no_more_than_window_and_grant(self) -> None:
        flow = self.flow
        assert flow.max_data.used == self.sent <= self.max_data <= flow.max_data.value
        assert flow.held_bytes >= 0
        assert flow.max_data.value - flow.credited <= WINDOWS.connection + self.extra_max

    @invariant()
    def returns_each_stream_once(self) -> None:
        flow = self.flow
        for kind, limit in ((0, flow.max_streams_bidi), (2, flow.max_streams_uni)):
            at_work = sum(one.stream_id & 3 == kind for one in flow.streams.values())
            over = self.opened[kind] - at_work
            assert self.max_streams[kind] <= limit.value <= WINDOWS.streams + over
            assert at_work <= WINDOWS.streams

    @invariant()
    def counts_gaps(self) -> None:
        assert self.flow.gaps == sum(one.receiver.gaps for one in self.flow.streams.values())


TestAnHonestPeer: Any = HonestPeer.TestCase
TestAnHonestPeer.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
