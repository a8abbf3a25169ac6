"""Each object is reconciled soon, never twice at once, less and less often while it fails, and by the controller of its kind."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.patience import PATIENCE_S

from p2pnet.operator.kube.api import POD, SECRET, BusyError, ResourceKind
from p2pnet.operator.kube.queue import BACKOFF_MAX_S, DEBOUNCE_S, Controller, Key, Schedule, Workers

A, B = Key(POD, "ns", "a"), Key(POD, "ns", "b")


def test_many_events_cause_one_reconciliation() -> None:
    schedule = Schedule()
    for index in range(50):
        schedule.add(A, index / 1000)
    assert schedule.take(0.1) is None
    assert schedule.take(DEBOUNCE_S) == A
    assert schedule.take(DEBOUNCE_S) is None


def test_an_event_during_a_reconciliation_causes_another_one_after_it() -> None:
    schedule = Schedule()
    schedule.add(A, 0, delay=0)
    assert schedule.take(0) == A
    schedule.add(A, 1, delay=0)
    assert schedule.take(5) is None, "one at a time"
    schedule.done(A, 5)
    assert schedule.take(5) == A


def test_a_failing_key_waits_longer_each_time_whatever_its_pods_do() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    waits, now, tries = [], 0.0, 0
    schedule.add(A, now, delay=0)
    while now < 3600:
        if schedule.take(now) == A:
            tries += 1
            waits.append(schedule.failed(A, now))
        schedule.add(A, now)  # events all the time
        now += 0.5
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert max(waits) == BACKOFF_MAX_S
    assert tries <= 21


def test_an_edit_by_a_person_is_reconciled_at_once() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    schedule.add(A, 0, delay=0)
    for _ in range(9):
        now = schedule.next_due() or 0
        assert schedule.take(now) == A
        schedule.failed(A, now)
    schedule.add(A, now + 1, urgent=True)
    assert schedule.take(now + 1 + DEBOUNCE_S) == A


def test_a_pause_the_server_asks_for_is_kept() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    schedule.add(A, 0, delay=0)
    schedule.take(0)
    assert schedule.failed(A, 0, at_least=17) == 17


def test_not_even_an_edit_shortens_the_servers_pause() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    schedule.add(A, 0, delay=0)
    schedule.take(0)
    schedule.failed(A, 0, at_least=17)
    schedule.add(A, 1, urgent=True)
    assert schedule.take(16.9) is None
    assert schedule.take(17) == A


def test_a_failure_that_passes_by_itself_is_tried_again_within_its_own_bound() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    schedule.add(A, 0, delay=0)
    waits, now = [], 0.0
    for _ in range(8):
        assert schedule.take(now) == A
        waits.append(schedule.failed(A, now, at_most=BusyError.wait_s_max))
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 20, 20, 20]


def test_failures_with_progress_between_do_not_add_up() -> None:
    schedule = Schedule(rng=lambda: 0.5)
    schedule.add(A, 0, delay=0)
    now = 0.0
    for _ in range(8):
        assert schedule.take(now) == A
        assert schedule.failed(A, now, progress=True) == 1
        now += 1


def test_a_key_that_is_done_is_forgotten() -> None:
    schedule = Schedule()
    schedule.add(A, 0, delay=0)
    schedule.take(0)
    schedule.done(A, 1)
    assert schedule.next_due() is None


def test_only_what_is_due_and_not_running_waits() -> None:
    schedule = Schedule()
    schedule.add(A, 0, delay=0)
    schedule.add(B, 0, delay=60)
    assert schedule.waiting(0) == 1, "who rests does not wait"
    assert schedule.waiting(60) == 2
    schedule.take(60)
    assert schedule.waiting(60) == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "urgent", "take", "done", "again", "fail"]), st.sampled_from([A, B]), st.floats(0, 5)
    ),
    max_size=60,
)


@given(STEPS)
def test_no_event_is_ever_lost_and_nothing_is_reconciled_twice_at_once(steps: list[tuple[str, Key, float]]) -> None:
    schedule, now = Schedule(), 0.0
    running: set[Key] = set()
    asked: set[Key] = set()
    for what, key, wait in steps:
        now += wait
        if what in ("add", "urgent"):
            schedule.add(key, now, urgent=what == "urgent")
            asked.add(key)
        elif what == "take":
            taken = schedule.take(now)
            if taken is not None:
                assert taken not in running
                running.add(taken)
                asked.discard(taken)
        elif key in running:
            running.discard(key)
            if what == "fail":
                schedule.failed(key, now)
                asked.add(key)
            else:
                schedule.done(key, now, again=7.0 if what == "again" else None)
    for key in list(running):
        schedule.done(key, now)
    now += 2 * BACKOFF_MAX_S
    found = set()
    while (taken := schedule.take(now)) is not None:
        found.add(taken)
    assert asked <= found


async def test_a_failing_object_does_not_hold_up_another() -> None:
    reconciled: list[Key] = []
    reached = asyncio.Event()

    async def reconcile(key: Key) -> float | None:
        reconciled.append(key)
        if key == A:
            raise BusyError(503, "Busy", "later")
        if reconciled.count(B) == 3:
            reached.set()
        return 0.01

    workers = Workers([Controller(POD, (), "name", reconcile)], workers=2)
    workers.start()
    workers.add(A)
    workers.add(B)
    await asyncio.wait_for(reached.wait(), PATIENCE_S)
    assert workers.alive
    assert workers.schedule.failures(A) >= 1
    await workers.stop()


async def test_an_unexpected_error_does_not_end_a_worker() -> None:
    tries = 0
    reached = asyncio.Event()

    async def reconcile(_: Key) -> float | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("a bug")
        reached.set()
        return None

    workers = Workers([Controller(POD, (), "name", reconcile)], workers=1)
    workers.start()
    workers.add(A)
    await asyncio.wait_for(reached.wait(), PATIENCE_S)
    await workers.stop()
    assert not workers.alive


async def test_each_kind_has_its_own_reconciler() -> None:
    reconciled: list[tuple[str, Key]] = []
    both = asyncio.Event()

    def controller(kind: ResourceKind) -> Controller:
        async def reconcile(key: Key) -> float | None:
            reconciled.append((kind.kind, key))
            if len(reconciled) == 2:
                both.set()
            return None

        return Controller(kind, (), "name", reconcile)

    workers = Workers([controller(POD), controller(SECRET)])
    workers.start()
    keys = [Key(POD, "ns", "a"), Key(SECRET, "ns", "a")]
    for key in keys:
        workers.add(key)
    await asyncio.wait_for(both.wait(), PATIENCE_S)
    await workers.stop()
    assert sorted(reconciled) == [("Pod", keys[0]), ("Secret", keys[1])]
