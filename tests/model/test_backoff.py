"""Waits between attempts: doubled from the first to the longest, by the last wait or by the number of failures."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.backoff import next_wait, wait_after


def test_waits_double_from_the_first_to_the_longest():
    waits, wait = [], 0.0
    for _ in range(6):
        wait = next_wait(wait, 0.2, 2.0)
        waits.append(wait)
    assert waits == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_forgotten_failure_begins_with_the_first_wait_again():
    assert next_wait(0.0, 0.2, 2.0) == 0.2


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(10, 1_000))
def test_counting_failures_gives_the_same_waits(failures, first, most):
    wait = 0.0
    for _ in range(min(failures, 30)):
        wait = next_wait(wait, first, most)
    assert wait_after(failures, first, most) == wait <= most
