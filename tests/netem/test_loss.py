"""The share of packets lost is the one asked for, each by itself or in bursts of the mean length asked for."""

from __future__ import annotations

import itertools
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netem.traffic import MS, Traffic, patient

from p2pnet.netem import LinkShape

COUNT = 40_000


def lost(share: float, burst: float, seed: int = 1) -> list[bool]:
    """Of each of 40,000 packets, whether it was lost."""
    traffic = Traffic.on(LinkShape(loss=share, loss_burst=burst), seed)
    arrived = {trip.number for trip in traffic.stream(COUNT, MS).end()}
    assert traffic.counters.lost == COUNT - len(arrived)
    return [number not in arrived for number in range(COUNT)]


def bursts(packets: list[bool]) -> list[int]:
    """Packets lost in a row, of each row."""
    return [len(list(row)) for gone, row in itertools.groupby(packets) if gone]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2, 0.5])
def test_independent_losses_come_as_often_as_asked_and_as_chance_has_it(share: float) -> None:
    packets = lost(share, 1)
    assert sum(packets) / COUNT == pytest.approx(share, abs=4 * (share / COUNT) ** 0.5)
    both = sum(one and other for one, other in itertools.pairwise(packets))
    assert both / COUNT == pytest.approx(share**2, abs=4 * (share**2 / COUNT) ** 0.5 + 1e-4)


@pytest.mark.parametrize(("share", "burst"), [(0.01, 5), (0.05, 20), (0.2, 3), (0.5, 1.5), (0.5, 10), (0.01, 1.01)])
def test_bursts_have_the_mean_length_and_the_share_asked_for(share: float, burst: float) -> None:
    packets = lost(share, burst)
    rows = bursts(packets)
    assert statistics.fmean(rows) == pytest.approx(burst, rel=5 / len(rows) ** 0.5 if burst > 1.1 else 0.02)
    assert sum(packets) / COUNT == pytest.approx(share, rel=5 / len(rows) ** 0.5)


@pytest.mark.parametrize(("share", "burst", "instead"), [(0.75, 2, 3), (0.9, 5, 9)])
def test_a_share_that_bursts_so_short_cannot_make_up_has_longer_ones(
    share: float, burst: float, instead: float
) -> None:
    packets = lost(share, burst)
    assert sum(packets) / COUNT == pytest.approx(share, rel=0.02)
    assert statistics.fmean(bursts(packets)) == pytest.approx(instead, rel=0.05)


@pytest.mark.parametrize("burst", [1, 4])
def test_all_and_nothing_are_all_and_nothing(burst: float) -> None:
    assert all(lost(1.0, burst))
    assert not any(lost(0.0, burst))


def test_the_first_packets_lose_as_many_as_later_ones() -> None:
    """A burst may be going on when the first packet comes: else short runs would lose too little."""
    first = [Traffic.on(LinkShape(loss=0.2, loss_burst=20), seed).stream(1, MS).counters.lost for seed in range(2_000)]
    assert sum(first) / 2_000 == pytest.approx(0.2, abs=0.04)


@patient
@given(st.integers(), st.sampled_from([1.0, 5.0]))
def test_the_same_chance_loses_the_same_packets(seed: int, burst: float) -> None:
    def run() -> list[int]:
        traffic = Traffic.on(LinkShape(loss=0.3, loss_burst=burst), seed).stream(50, MS)
        return [trip.number for trip in traffic.end()]

    assert run() == run()
    assert Random(seed).random() == Random(seed).random()
