"""Timers, budgets of events and pauses: what all parts of one core share."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.broadcast.kit import MS, SECOND

from p2pnet.broadcast.context import (
    BRANCHES,
    COUNTERS,
    DUPLICATES_PER_PEER,
    EVENTS_PER_PEER,
    Context,
    EventBudgets,
    Timer,
    Timers,
)
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind

K = EventKind
LASTING = {Timer.EXPIRE, Timer.TICK}


def context() -> Context:
    return Context(BroadcastSettings(), Random(1))


# Timers


def test_timers_fire_in_the_order_of_their_times_and_ties_as_they_were_set() -> None:
    timers = Timers()
    timers.set(Timer.HEDGE, 2, 20)
    timers.set(Timer.RETRY, b"key", 10)
    timers.set(Timer.FETCH, None, 10)
    assert list(timers.due(20)) == [(Timer.RETRY, b"key"), (Timer.FETCH, None), (Timer.HEDGE, 2)]
    assert list(timers.due(20)) == []


def test_setting_a_timer_again_voids_the_earlier_setting() -> None:
    timers = Timers()
    timers.set(Timer.RETRY, 1, 10)
    timers.set(Timer.RETRY, 1, 30)
    assert timers.next() == 30
    assert list(timers.due(20)) == []
    timers.set(Timer.RETRY, 1, 5)
    assert list(timers.due(40)) == [(Timer.RETRY, 1)]


def test_a_timer_that_is_cancelled_while_others_fire_does_not_fire() -> None:
    timers = Timers()
    timers.set(Timer.RETRY, 1, 10)
    timers.set(Timer.RETRY, 2, 11)
    fired = []
    for name in timers.due(20):
        fired.append(name)
        timers.cancel(Timer.RETRY, 2)
    assert fired == [(Timer.RETRY, 1)]


def test_expiries_and_ticks_come_while_a_node_is_at_rest() -> None:
    timers = Timers()
    timers.set(Timer.EXPIRE, None, 10)
    timers.set(Timer.TICK, None, 20)
    assert timers.next() == 10
    assert timers.next(lasting=False) is None
    assert timers.armed() == []
    timers.set(Timer.RETRY, 1, 30)
    assert timers.next(lasting=False) == 30


def test_cancelling_what_is_not_set_does_nothing() -> None:
    timers = Timers()
    timers.cancel(Timer.RETRY, 1)
    timers.cancel(Timer.EXPIRE, None)
    assert timers.next() is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "set", "cancel", "pass"]),
            st.sampled_from([Timer.RETRY, Timer.HEDGE, Timer.EXPIRE, Timer.TICK]),
            st.integers(0, 2),
            st.integers(0, 40),
        ),
        max_size=60,
    )
)
def test_any_story_agrees_with_a_plain_book_of_times(steps: list[tuple[str, Timer, int, int]]) -> None:
    timers, now = Timers(), 0
    book: dict[tuple[Timer, int | None], int] = {}
    for what, kind, number, span in steps:
        key = None if kind in LASTING else number
        if what == "set":
            timers.set(kind, key, now + span)
            book[kind, key] = now + span
        elif what == "cancel":
            timers.cancel(kind, key)
            book.pop((kind, key), None)
        else:
            now += span
            fired = list(timers.due(now))
            assert set(fired) == {name for name, at in book.items() if at <= now}
            assert len(set(fired)) == len(fired)
            ours = [book.pop(name) for name in fired if name[0] not in LASTING]
            assert ours == sorted(ours)
            book = {name: at for name, at in book.items() if at > now}
        assert timers.next() == min(book.values(), default=None)
        at_work = {name: at for name, at in book.items() if name[0] not in LASTING}
        assert timers.next(lasting=False) == min(at_work.values(), default=None)
        assert set(timers.armed()) == set(at_work)
        assert timers.is_set(kind, key) == ((kind, key) in book)


# Events


def test_a_budget_is_used_up_and_fills_again_with_time() -> None:
    budgets = EventBudgets(3, 1.0)
    assert [budgets.take("p", 0) for _ in range(4)] == [True, True, True, False]
    assert not budgets.take("p", SECOND // 2)
    assert budgets.take("p", SECOND)
    assert [budgets.take("p", 100 * SECOND) for _ in range(4)] == [True, True, True, False]


def test_every_peer_has_a_budget_of_its_own_and_a_forgotten_one_a_full_one() -> None:
    budgets = EventBudgets(1, 1.0)
    assert [budgets.take("p", 0), budgets.take("p", 0), budgets.take("q", 0)] == [True, False, True]
    budgets.forget("p")
    assert [budgets.take("p", 0), budgets.take("q", 0)] == [True, False]


@given(st.lists(st.integers(0, 3 * SECOND), max_size=100))
def test_a_budget_never_gives_more_than_its_size_and_its_rate(pauses: list[int]) -> None:
    budgets, now, taken = EventBudgets(5, 2.0), 0, 0
    for pause in pauses:
        now += pause
        taken += budgets.take("p", now)
    assert taken <= 5 + 2.0 * now / SECOND + 1e-6


def test_events_about_one_peer_are_bounded_and_what_is_left_out_is_counted() -> None:
    shared = context()
    for _ in range(10_000):
        shared.emit_about(K.REJECTED, None, "flood")
    shared.emit_about(K.REJECTED, None, "calm")
    assert len(shared.effects) == EVENTS_PER_PEER + 1
    assert shared.counters["events_left_out"] == 10_000 - EVENTS_PER_PEER


def test_duplicates_have_a_budget_of_their_own() -> None:
    shared = context()
    for _ in range(2 * DUPLICATES_PER_PEER):
        shared.emit_about(K.DUPLICATE, None, "p")
    shared.emit_about(K.REJECTED, None, "p")
    assert [emit.kind for emit in shared.effects].count(K.DUPLICATE) == DUPLICATES_PER_PEER
    assert shared.effects[-1].kind is K.REJECTED


def test_a_peer_that_comes_again_after_it_was_forgotten_starts_anew() -> None:
    shared = context()
    for _ in range(2 * EVENTS_PER_PEER):
        shared.emit_about(K.REJECTED, None, "p")
    shared.forget_peer("p")
    shared.forget_peer("nobody")
    shared.emit_about(K.REJECTED, None, "p")
    assert len(shared.effects) == EVENTS_PER_PEER + 1


# Pauses, counters


@pytest.mark.parametrize(("attempts", "pause_ms"), [(1, 250), (2, 500), (5, 4000), (9, 60_000), (1000, 60_000)])
def test_a_pause_doubles_up_to_a_minute_give_or_take_a_quarter(attempts: int, pause_ms: int) -> None:
    shared = context()
    pauses = [shared.backoff(attempts, 250 * MS, 60 * SECOND) / MS for _ in range(200)]
    assert 0.75 * pause_ms <= min(pauses) < 0.85 * pause_ms
    assert 1.15 * pause_ms < max(pauses) <= 1.25 * pause_ms


def test_no_counter_has_two_meanings_and_all_begin_at_zero() -> None:
    assert len({*COUNTERS, *BRANCHES}) == len(COUNTERS) + len(BRANCHES)
    counters = context().counters
    assert counters.every() == dict.fromkeys(COUNTERS + BRANCHES, 0)
    counters["updates"] += 2
    assert (counters["updates"], counters["sent"]) == (2, 0)
    assert counters.every()["updates"] == 2
    with pytest.raises(KeyError):
        counters["update"] += 1  # a misspelt name is no new counter
