"""What the tests of clusters wait with: on a busy machine a question may fail, and this very process stand still."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster import kit
from tests.cluster.demo import Demo, Standing
from tests.cluster.kit import until
from tests.cluster.server import RefusedError


class Clock:
    """Time that passes only while somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(kit, "time", made)
    return made


@pytest.mark.parametrize("error", [RefusedError(500, "busy"), KeyError("status"), TimeoutError(), StopIteration()])
def test_a_question_that_cannot_be_answered_yet_is_asked_again(clock: Clock, error: Exception) -> None:
    def ask() -> int:
        if clock.now < 2:
            raise error
        return 7

    assert until(ask, "it answers", within_s=3.0) == 7


def test_who_has_waited_in_vain_is_told_for_what_and_what_the_last_question_met(clock: Clock) -> None:
    def ask() -> int:
        raise RefusedError(503, "away")

    with pytest.raises(AssertionError, match="not within 3 s: it answers") as failed:
        until(ask, "it answers", within_s=3.0)
    assert isinstance(failed.value.__cause__, RefusedError)
    assert 3 <= clock.now <= 4


def test_after_a_standstill_that_outlasts_the_time_the_question_is_asked_once_more(clock: Clock) -> None:
    asked = []

    def ask() -> bool:
        asked.append(clock.now)
        if len(asked) == 1:
            clock.sleep(100.0)  # the answer is of before
        return len(asked) == 2

    assert until(ask, "it has come about meanwhile", within_s=3.0)


def test_a_mistake_of_a_test_is_no_answer_that_is_missing(clock: Clock) -> None:
    with pytest.raises(NameError):
        until(lambda: mistaken, "never", within_s=3.0)  # type: ignore[name-defined]  # noqa: F821
    assert clock.now == 0


def pod(name: str, uid: str, *, ready: bool = True, going: bool = False) -> dict[str, Any]:
    metadata = {"name": name, "uid": uid} | ({"deletionTimestamp": "now"} if going else {})
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"conditions": conditions}}


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Demo]:
    """A Subnet of these pods, which another call changes."""
    demo = Demo.__new__(Demo)

    def show(*pods: dict[str, Any]) -> Demo:
        monkeypatch.setattr(demo, "pods", lambda: list(pods))
        return demo

    return show


def test_a_late_probe_takes_nobody_away_and_a_pod_that_is_replaced_is_away_until_it_was_ready(
    shows: Callable[..., Demo],
) -> None:
    standing = Standing(shows(pod("a", "1"), pod("b", "2")))
    shows(pod("a", "1", ready=False), pod("b", "2"))
    assert (standing.look(), standing.least) == ({"a": "1", "b": "2"}, 2)
    shows(pod("a", "1", going=True), pod("b", "2"))
    assert (standing.look(), standing.least) == ({"b": "2"}, 1)
    shows(pod("a", "3", ready=False), pod("b", "2"))
    assert standing.look() == {"b": "2"}
    shows(pod("a", "3"), pod("b", "2"))
    assert (standing.look(), standing.least) == ({"a": "3", "b": "2"}, 1)
