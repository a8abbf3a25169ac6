"""Trying again: its schedule, its budget, what is worth it, and what cuts it short. All in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import LimitError, LocalError, TrustError
from p2pnet.quic import (
    BadAddress,
    CloseReason,
    ConnectionLost,
    EndpointClosed,
    EndpointError,
    FrameError,
    HandshakeFailed,
    MessageTooLarge,
    RequestTimeout,
    Retry,
    StreamCode,
    StreamLost,
)
from p2pnet.quic.memory import run_virtual
from p2pnet.quic.retry import worth_retrying

CURABLE = [
    HandshakeFailed("timeout", "nobody there"),
    HandshakeFailed("too-many", "full"),
    HandshakeFailed("closed", "going"),
    RequestTimeout("late"),
    StreamLost(StreamCode.CANCELLED),
    StreamLost(0),
    StreamLost(7_777),
    LimitError("a queue is full"),
]
PERMANENT = [
    HandshakeFailed("refused", "no"),
    HandshakeFailed("protocol", "what"),
    TrustError("untrusted", "no"),
    BadAddress("nowhere"),
    EndpointClosed("closed"),
    EndpointError("taken", 98),
    LocalError("yours"),
    MessageTooLarge("too long"),
    FrameError("empty", "nothing"),
    StreamLost(StreamCode.UNWANTED),
    StreamLost(StreamCode.MALFORMED),
    StreamLost(StreamCode.TOO_LARGE),
    ConnectionLost(CloseReason("idle", 0, "")),
    TimeoutError(),
    OSError(),
    ValueError(),
]


class Attempts:
    """Each takes `duration_s` and fails with `error`, until `succeeds_at`; when each began and ended is noted."""

    def __init__(self, error: Exception, *, duration_s: float = 0.0, succeeds_at: float = float("inf")) -> None:
        self.error = error
        self.duration_s = duration_s
        self.succeeds_at = succeeds_at
        self.began: list[float] = []
        self.ended: list[float] = []

    async def __call__(self) -> str:
        loop = asyncio.get_running_loop()
        self.began.append(loop.time())
        try:
            await asyncio.sleep(self.duration_s)
        finally:
            self.ended.append(loop.time())
        if loop.time() >= self.succeeds_at:
            return "there"
        raise self.error

    @property
    def waits(self) -> list[float]:
        return [began - ended for began, ended in zip(self.began[1:], self.ended, strict=False)]


def run(retry: Retry, attempts: Any, **options: Any) -> tuple[Any, float]:
    """What came of it, result or exception, and when."""

    async def scenario() -> tuple[Any, float]:
        result: Any
        try:
            result = await retry.run(attempts, **options)
        except Exception as error:
            result = error
        return result, asyncio.get_running_loop().time()

    return run_virtual(scenario())


@given(
    seed=st.integers(0, 2**32),
    initial=st.floats(0.01, 5),
    factor=st.floats(1, 4),
    cap=st.floats(5, 60),
    budget=st.floats(0.1, 300),
    jitter=st.floats(0, 0.9),
    duration=st.floats(0, 40),
)
def test_waits_stay_inside_their_bounds_and_all_inside_the_budget(
    seed: int, initial: float, factor: float, cap: float, budget: float, jitter: float, duration: float
) -> None:
    attempts = Attempts(CURABLE[0], duration_s=duration)
    retry = Retry(initial, factor, cap, budget, jitter, random.Random(seed))
    result, at = run(retry, attempts)
    assert at <= max(budget, duration) + 1e-6
    interval = initial
    for wait in attempts.waits:
        assert interval * (1 - jitter) - 1e-6 <= wait <= interval * (1 + jitter) + 1e-6
        interval = min(interval * factor, cap)
    assert result is attempts.error
    if duration < budget:
        # No time is given away: the next wait would have passed the end.
        assert at + interval * (1 + jitter) >= budget - 1e-6
    else:
        assert len(attempts.began) == 1


@pytest.mark.parametrize("seed", range(10))
def test_qp2ps_schedule_is_the_default(seed: int) -> None:
    attempts = Attempts(CURABLE[0])
    result, at = run(Retry(rng=random.Random(seed)), attempts)
    assert result is attempts.error
    assert at <= 30.0
    assert 6 <= len(attempts.began) <= 11
    interval = 0.5
    for wait in attempts.waits:
        assert interval * 0.7 - 1e-9 <= wait <= interval * 1.3 + 1e-9
        interval = min(interval * 1.5, 15.0)


def test_the_same_seed_gives_the_same_waits_and_another_gives_others() -> None:
    def began(seed: int) -> list[float]:
        attempts = Attempts(CURABLE[0])
        run(Retry(rng=random.Random(seed)), attempts)
        return attempts.began

    assert began(1) == began(1)
    assert began(1) != began(2)


def test_nobody_waits_for_what_will_not_be_tried() -> None:
    attempts = Attempts(CURABLE[0])
    assert run(Retry(budget_s=1.0, jitter=0.0), attempts) == (attempts.error, 0.5)
    assert attempts.began == [0.0, 0.5]


def test_the_last_attempt_is_cut_at_the_end_of_the_budget_and_the_error_before_it_is_raised() -> None:
    attempts = Attempts(CURABLE[0], duration_s=18.0)
    result, at = run(Retry(), attempts)
    assert result is attempts.error
    assert at == pytest.approx(30.0)
    assert len(attempts.began) == 2


def test_the_first_attempt_may_take_as_long_as_without_a_schedule() -> None:
    attempts = Attempts(CURABLE[0], duration_s=60.0)
    assert run(Retry(budget_s=5), attempts) == (attempts.error, 60.0)
    assert len(attempts.began) == 1
    assert run(Retry(budget_s=5), Attempts(CURABLE[0], duration_s=60.0, succeeds_at=1.0)) == ("there", 60.0)


def test_it_returns_what_the_first_attempt_that_succeeds_returns() -> None:
    attempts = Attempts(CURABLE[0], succeeds_at=2.0)
    result, at = run(Retry(), attempts)
    assert result == "there"
    assert 2.0 <= at <= 2.0 + 1.125 * 1.5 * 1.3
    assert len(attempts.began) >= 3


@pytest.mark.parametrize("error", CURABLE, ids=repr)
def test_what_time_may_cure_is_tried_again(error: Exception) -> None:
    assert worth_retrying(error)
    attempts = Attempts(error, succeeds_at=1.0)
    assert run(Retry(), attempts)[0] == "there"


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_what_time_cannot_cure_fails_at_the_first_attempt(error: Exception) -> None:
    attempts = Attempts(error)
    assert run(Retry(), attempts) == (error, 0.0)
    assert len(attempts.began) == 1


def test_the_caller_may_say_what_is_worth_it() -> None:
    lost = ConnectionLost(CloseReason("idle", 0, ""))
    attempts = Attempts(lost, succeeds_at=1.0)
    assert run(Retry(), attempts, worth=lambda error: isinstance(error, ConnectionLost))[0] == "there"
    attempts = Attempts(CURABLE[0])
    assert run(Retry(), attempts, worth=lambda _error: False) == (CURABLE[0], 0.0)


@pytest.mark.parametrize(("at", "duration"), [(0.25, 0.0), (0.25, 1.0), (10.0, 0.1), (0.0, 5.0)])
def test_what_it_lives_by_may_end_and_cuts_wait_and_attempt_short(at: float, duration: float) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[Exception] = loop.create_future()
        loop.call_later(at, closed.set_result, EndpointClosed("the endpoint is closed"))
        attempts = Attempts(CURABLE[0], duration_s=duration)
        with pytest.raises(EndpointClosed):
            await Retry(rng=random.Random(1)).run(attempts, until=closed)
        assert loop.time() == pytest.approx(at)
        count = len(attempts.began)
        await asyncio.sleep(100)
        assert len(attempts.began) == count

    run_virtual(scenario())


def test_what_has_ended_before_is_noticed_before_anything_is_tried_again() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[Exception] = loop.create_future()
        closed.set_result(EndpointClosed("the endpoint is closed"))
        attempts = Attempts(CURABLE[0])
        with pytest.raises(EndpointClosed):
            await Retry().run(attempts, until=closed)
        assert loop.time() == 0.0
        assert len(attempts.began) == 1

    run_virtual(scenario())


@pytest.mark.parametrize("error", [None, PERMANENT[0]], ids=repr)
def test_an_end_in_the_turn_of_success_or_failure_disturbs_nobody(error: Exception | None) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        closed: asyncio.Future[Exception] = loop.create_future()

        async def attempt() -> str:
            closed.set_result(EndpointClosed("in the same turn"))
            if error is not None:
                raise error
            return "there"

        with contextlib.suppress(HandshakeFailed):
            assert await Retry().run(attempt, until=closed) == "there"
        await asyncio.sleep(1)
        assert not reported

    run_virtual(scenario())


def test_a_timeout_of_the_attempts_own_is_its_error_not_the_budgets_end() -> None:
    async def attempt() -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(10)

    result, at = run(Retry(), attempt)
    assert type(result) is TimeoutError
    assert at == pytest.approx(1.0)


def test_cancelling_cancels_wait_and_attempt() -> None:
    async def scenario() -> None:
        for duration in (0.0, 5.0):
            attempts = Attempts(CURABLE[0], duration_s=duration)
            task = asyncio.ensure_future(Retry().run(attempts))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(attempts.began) == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    "values",
    [{"initial_s": 0}, {"factor": 0.9}, {"budget_s": 0}, {"jitter": 1}, {"jitter": -0.1}, {"cap_s": 0.1}],
    ids=str,
)
def test_values_that_make_no_schedule_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(LocalError, match="no schedule"):
        Retry(**values)
