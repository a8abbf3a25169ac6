"""Percentiles are latencies somebody had, and a miss is infinite."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.statistics import MISSED, distribution, finite, percentile, ratio

latencies = st.lists(st.floats(-10, 1e6), max_size=50).map(sorted)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (1, 1), (10, 1), (11, 2), (50, 5), (90, 9), (95, 10), (100, 10)]
)
def test_the_nearest_rank_is_taken_without_interpolation(share: int, expected: int) -> None:
    assert percentile([float(value) for value in range(1, 11)], share) == expected


def test_a_miss_counts_as_infinite() -> None:
    nine_of_ten = [float(value) for value in range(1, 10)]
    assert percentile(nine_of_ten, 90, 10) == 9
    assert percentile(nine_of_ten, 95, 10) == MISSED
    assert percentile([], 50, 10) == MISSED


def test_of_nothing_expected_there_is_no_percentile() -> None:
    assert percentile([], 50) is None
    assert percentile([], 50, 0) is None


def test_infinite_is_printed_null() -> None:
    assert finite(MISSED) is None
    assert finite(None) is None
    assert finite(1.5) == 1.5
    assert ratio(1, 0) is None
    assert ratio(1, 2) == 0.5


@given(latencies, st.integers(0, 20))
def test_percentiles_grow_and_are_values_that_came(arrived: list[float], missing: int) -> None:
    expected = len(arrived) + missing
    points = [percentile(arrived, share, expected) for share in range(101)]
    if not expected:
        assert points == [None] * 101
        return
    values = [point for point in points if point is not None]
    assert values == sorted(values)
    assert all(value in arrived or math.isinf(value) for value in values)
    assert math.isinf(values[-1]) == bool(missing)


@given(latencies)
def test_a_distribution_goes_from_the_first_to_the_last_in_twenty_steps(arrived: list[float]) -> None:
    points = distribution(arrived)
    assert len(points) == (21 if arrived else 0)
    if arrived:
        assert (points[0], points[-1]) == (arrived[0], arrived[-1])
