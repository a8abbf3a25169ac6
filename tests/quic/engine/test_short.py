"""The short way of packets: what leaves when, and when what came is acknowledged. No sockets; the test is the clock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from p2pnet.quic import Settings, Trust
from p2pnet.quic.engine import Configurations, Datagram, Engine, Stream, Windows
from p2pnet.quic.engine.recovery import _BurstPacer
from p2pnet.quic.engine.short import ACK_DELAY_S, ACK_PACKETS, FLIGHT_PACKETS

WINDOWS = Windows(connection=1 << 24, uni=1 << 23, inbound=1 << 20, reply=1 << 20, streams=200, gaps=4_096)
CLIENT, SERVER = ("10.0.0.1", 1), ("10.0.0.2", 2)
ROUND_TRIP_S = 0.01


class Pair:
    """Two engines with a confirmed handshake and nothing to say, `one` of which dialled."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(max_datagram_bytes=1_452, **settings)
        self.now = 100.0
        self.one = self._engine(None)
        self.one.dial(SERVER, self.now)
        first = self.one.datagrams(self.now)
        self.other = self._engine(first[0][0][6 : 6 + first[0][0][5]])
        self.carry(first, self.other)
        self.settle()

    def _engine(self, original: bytes | None) -> Engine:
        return Engine(
            configurations=Configurations(Trust.anyone(), self.settings),
            settings=self.settings,
            windows=WINDOWS,
            is_client=original is None,
            admit=lambda _chain: None,
            ask_client=False,
            random_bytes=os.urandom,
            reset_token=lambda _cid: bytes(16),
            original_cid=original,
        )

    def carry(self, datagrams: list[Datagram], to: Engine) -> None:
        for data, _ in datagrams:
            to.receive(data, CLIENT if to is self.other else SERVER, self.now)
        to.take_events()

    def settle(self) -> None:
        """Until both have said all they have to say, half a round trip at a time."""
        quiet = 0
        while quiet < 4:
            self.now += ROUND_TRIP_S / 2
            self.one.on_timer(self.now)
            self.other.on_timer(self.now)
            to_other, to_one = list(self.flights(self.one)), list(self.flights(self.other))
            self.carry(to_other, self.other)
            self.carry(to_one, self.one)
            quiet = 0 if to_other or to_one else quiet + 1

    def flights(self, engine: Engine) -> Iterator[Datagram]:
        while flight := engine.datagrams(self.now):
            yield from flight

    def send(self, size: int, engine: Engine | None = None) -> Stream:
        engine = engine or self.one
        stream = engine.open(uni=True)
        engine.write(stream, [bytes(size)])
        return stream

    def packets(self, count: int) -> list[Datagram]:
        """So many packets of the client's, one at a time."""
        self.one._quic._loss._pacer.packet_time = None
        sent = []
        for _ in range(count):
            self.send(10)
            sent += self.one.datagrams(self.now)
        assert len(sent) == count
        return sent


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_lone_packet_is_acknowledged_late_or_with_what_leaves(pair: Pair) -> None:
    pair.carry(pair.packets(1), pair.other)
    assert pair.other.datagrams(pair.now) == []
    assert pair.other.timer() == pytest.approx(pair.now + ACK_DELAY_S)
    assert pair.other.datagrams(pair.now + ACK_DELAY_S - 0.001) == []
    assert len(pair.other.datagrams(pair.now + ACK_DELAY_S)) == 1
    pair.carry(pair.packets(1), pair.other)
    pair.send(10, pair.other)
    pair.carry(pair.other.datagrams(pair.now), pair.one)
    assert pair.one.counters()["bytes_in_flight"] == 0
    assert pair.other.timer() > pair.now + 2 * ACK_DELAY_S  # it has left


def test_a_few_packets_are_acknowledged_soon_and_many_at_once(pair: Pair) -> None:
    sent = pair.packets(ACK_PACKETS)
    pair.carry(sent[:-1], pair.other)
    assert pair.other.datagrams(pair.now) == []
    assert pair.other.timer() == pytest.approx(pair.now + 0.001)
    pair.carry(sent[-1:], pair.other)
    assert len(pair.other.datagrams(pair.now)) == 1


def test_a_packet_out_of_order_is_acknowledged_at_once(pair: Pair) -> None:
    pair.carry(pair.packets(2)[1:], pair.other)
    assert len(pair.other.datagrams(pair.now)) == 1


def test_more_than_a_flight_leaves_in_several(pair: Pair) -> None:
    for _ in range(3):  # the window opens
        pair.send(200_000)
        pair.settle()
    pair.send(200_000)
    pair.one._quic._loss._pacer.packet_time = None
    first = pair.one.datagrams(pair.now)
    assert pair.one.has_more
    second = [*pair.flights(pair.one)]
    assert not pair.one.has_more
    assert len(first) == FLIGHT_PACKETS
    assert len(second) > FLIGHT_PACKETS
    pair.carry(first + second, pair.other)
    pair.settle()
    assert pair.one.streams == {}


def test_all_windows_that_grew_are_told_of_where_they_fill_more_than_a_packet(pair: Pair) -> None:
    streams = []
    for _ in range(190):
        streams.append(stream := pair.one.open(uni=True))
        pair.one.write(stream, [b"x"], end=False)
    pair.settle()
    for stream in pair.other.streams.values():
        pair.other.widen(stream, (1 << 23) + 5)
    pair.settle()
    assert {stream.max_stream_data_remote for stream in streams} == {(1 << 23) + 5}


@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_keys_change_both_ways_while_bytes_flow(size: int) -> None:
    pair = Pair(key_update_packets=20)
    phases = set()
    for _ in range(50):
        streams = [pair.send(size, engine) for engine in (pair.one, pair.other)]
        pair.settle()
        assert all(stream.sender.is_finished for stream in streams)
        for engine in (pair.one, pair.other):
            engine.credit(size)
        phases.add(pair.one._quic.keys.recv.key_phase)
    assert phases == {0, 1}
    assert not pair.one.ending
    assert not pair.other.ending


def test_nothing_is_paced_on_a_short_path_and_elsewhere_a_burst_at_a_time() -> None:
    pacer = _BurstPacer(max_datagram_size=1_000)
    pacer.update_rate(congestion_window=100_000, smoothed_rtt=0.002)
    assert pacer.next_send_time(5.0) is None
    pacer.update_rate(congestion_window=100_000, smoothed_rtt=0.1)  # 1,250 packets a second
    pacer.update_bucket(now=5.0)
    burst = 0
    while pacer.next_send_time(5.0) is None:
        pacer.update_after_send(5.0)
        burst += 1
    assert 32 <= burst <= 64
    assert pacer.next_send_time(5.0) == pytest.approx(5.0128)
    for _ in range(100):
        pacer.update_after_send(5.0)
    pacer.update_rate(congestion_window=2_000, smoothed_rtt=0.1)  # no burst is longer than half a round trip
    assert pacer.next_send_time(5.0) <= 5.1


def test_a_window_leaves_in_less_than_a_round_trip() -> None:
    pacer = _BurstPacer(max_datagram_size=1_000)
    pacer.update_rate(congestion_window=1_000_000, smoothed_rtt=0.01)  # 1,000 packets in eight milliseconds
    now, sent = 0.0, 0
    while now < 1.0:
        at = pacer.next_send_time(now)
        if at is None:
            pacer.update_after_send(now)
            sent += 1
        else:
            now = at
    assert sent == pytest.approx(125_000, rel=0.05)
