"""CoDel drops what RFC 8289 says: nothing of a burst, and of a standing queue enough to keep waits short."""

from __future__ import annotations

import math
import statistics
from collections import deque
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.netem.traffic import MS, PACKET, US, S, Traffic, numbers, patient

from p2pnet.netem import LinkShape

TEN_MBIT = 10e6
GAP_NS = 960 * US
"""A packet of 1,200 bytes each: ten Mbit/s."""


def codel(bandwidth_bps: float = TEN_MBIT) -> LinkShape:
    return LinkShape(bandwidth_bps=bandwidth_bps, queue_kind="codel")


def offered(traffic: Traffic, share: float, seconds: float) -> Traffic:
    return traffic.stream(round(seconds * S / GAP_NS * share), round(GAP_NS / share))


def greedy(shape: LinkShape, seconds: float) -> Traffic:
    """A sender with a window, as all of them have: one packet more per round trip, half as many after a loss."""
    traffic = Traffic.on(shape)
    window, acked, lost, halved = 10.0, 0, 0, 0
    while traffic.now < seconds * S:
        traffic.go_to(traffic.now + MS)
        dropped, arrived = traffic.counters.overflowed, len(traffic.trips)
        window += (arrived - acked) / window
        if dropped > lost and traffic.now > halved + 2 * shape.delay_ns:
            window, halved = max(2.0, window / 2), traffic.now
        acked, lost = arrived, dropped
        for _ in range(int(window) - (traffic.sent - arrived - dropped)):
            traffic.send()
    traffic.end()
    return traffic


def usual_wait_ms(traffic: Traffic, since_s: float) -> float:
    waits = [trip.took_ns - 20 * MS for trip in traffic.trips if trip.sent_ns >= since_s * S]
    return statistics.median(waits) / MS


def test_a_standing_queue_is_kept_short_where_drop_tail_lets_it_stand() -> None:
    filling = greedy(LinkShape(delay_ns=20 * MS, bandwidth_bps=TEN_MBIT, queue_bytes=500_000), 30)
    short = greedy(LinkShape(delay_ns=20 * MS, bandwidth_bps=TEN_MBIT, queue_bytes=500_000, queue_kind="codel"), 30)
    assert usual_wait_ms(filling, since_s=5) > 150
    assert usual_wait_ms(short, since_s=5) < 15
    assert short.counters.passed > 0.85 * filling.counters.passed


def test_a_sender_that_minds_no_loss_is_held_to_the_bandwidth_and_waits_little_in_the_end() -> None:
    traffic = offered(Traffic.on(codel()), 1.1, 30)
    assert max(trip.took_ns for trip in traffic.end() if trip.sent_ns >= 20 * S) < 50 * MS
    assert traffic.counters.passed == pytest.approx(30 * S / GAP_NS, rel=0.02)


def test_a_burst_loses_nothing() -> None:
    traffic = Traffic.on(codel())
    for _ in range(90):
        traffic.send()
    assert len(traffic.end()) == 90


def test_a_line_that_is_just_full_loses_nothing() -> None:
    assert len(offered(Traffic.on(codel()), 0.99, 20).end()) == round(20 * S / GAP_NS * 0.99)


def test_on_a_slow_line_one_waiting_packet_is_no_standing_queue() -> None:
    """One takes 120 ms here: longer than both target and interval."""
    traffic = Traffic.on(codel(80_000))
    for _ in range(200):
        traffic.go_to(traffic.now + 240 * MS)
        traffic.send()
        traffic.send()
    assert len(traffic.end()) == 400


class ByTheRfc:
    """The pseudocode of RFC 8289 section 5, over a list of (arrival, size), served at a fixed rate."""

    TARGET, INTERVAL = 5 * MS, 100 * MS

    def __init__(self, arrivals: list[tuple[int, int]], ns_per_byte: float) -> None:
        self.coming = deque((at, size, number) for number, (at, size) in enumerate(arrivals))
        self.queue: deque[tuple[int, int, int]] = deque()
        self.first_above_time = self.drop_next = self.count = self.lastcount = self.maxpacket = 0
        self.dropping = False
        self.ns_per_byte = ns_per_byte

    def sent(self) -> list[int]:
        free, passed = 0, []
        while self.coming or self.queue:
            if not self.queue:
                free = max(free, self.coming[0][0])
            while self.coming and self.coming[0][0] <= free:
                came = self.coming.popleft()
                if not self.queue and came[0] == free:  # the line is idle: it does not wait at all
                    passed.append(came[2])
                    free += math.ceil(came[1] * self.ns_per_byte)
                    continue
                self.queue.append(came)
            if self.queue and (packet := self.deque(free)):
                passed.append(packet[2])
                free += math.ceil(packet[1] * self.ns_per_byte)
        return passed

    def dodeque(self, now: int) -> tuple[tuple[int, int, int] | None, bool]:
        if not self.queue:
            self.first_above_time = 0
            return None, False
        packet = self.queue.popleft()
        self.maxpacket = max(self.maxpacket, packet[1])
        waiting = sum(size for _, size, _ in self.queue)
        target = max(self.TARGET, self.maxpacket * self.ns_per_byte)
        if now - packet[0] < target or waiting <= self.maxpacket:
            self.first_above_time = 0
        elif self.first_above_time == 0:
            self.first_above_time = now + self.INTERVAL
        elif now >= self.first_above_time:
            return packet, True
        return packet, False

    def control_law(self, at: int) -> int:
        return at + int(self.INTERVAL / math.sqrt(self.count))

    def deque(self, now: int) -> tuple[int, int, int] | None:
        packet, ok_to_drop = self.dodeque(now)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while self.dropping and now >= self.drop_next:
                self.count += 1
                packet, ok_to_drop = self.dodeque(now)
                if not ok_to_drop:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next)
        elif ok_to_drop:
            packet, ok_to_drop = self.dodeque(now)
            self.dropping = True
            delta = self.count - self.lastcount
            self.count = delta if delta > 1 and now - self.drop_next < 16 * self.INTERVAL else 1
            self.drop_next = self.control_law(now)
            self.lastcount = self.count
        return packet


phases = st.lists(st.tuples(st.floats(0.3, 3.0), st.integers(50, 600)), min_size=1, max_size=6)
"""Loads, and how many packets each lasts: queues that stand, drain, and stand again soon or late."""


@settings(patient, max_examples=20)
@given(st.integers(), phases)
# Dropping that begins again two drops after it began last, soon; and more drops after, but too late to go on at its pace.
@example(20, [(2.0, 500), (0.3, 300), (2.0, 300), (0.6, 100), (1.6, 300), (0.6, 300), (1.6, 800), (0.9, 2_500)])
@example(1, [(1.4, 500), (0.9, 100), (2.0, 300), (0.3, 300), (1.6, 500), (0.3, 2_500), (1.4, 300), (0.3, 2_500)])
def test_the_same_packets_are_dropped_as_by_the_pseudocode_of_the_rfc(
    seed: int, loads: list[tuple[float, int]]
) -> None:
    random, now, arrivals = Random(seed), 0, []
    for load, count in loads:
        for _ in range(count):
            now += round(random.expovariate(load / GAP_NS)) + 1
            arrivals.append((now, random.choice([100, PACKET, 1_500])))
    traffic = Traffic.on(codel())
    for at, size in arrivals:
        traffic.go_to(at)
        traffic.send(size)
    assert numbers(traffic.end()) == ByTheRfc(arrivals, 8e9 / TEN_MBIT).sent()
