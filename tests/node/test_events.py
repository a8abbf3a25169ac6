from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.events import EventKind
from p2pnet.node.events import WAITERS_MAX, EventRing


def filled(capacity: int, count: int) -> EventRing:
    ring = EventRing("a1", "boot", capacity)
    for number in range(count):
        ring.add(1000 + number, EventKind.PEER_UP, detail=str(number))
    return ring


@given(
    capacity=st.integers(1, 40),
    count=st.integers(0, 120),
    cursor=st.integers(-5, 150),
    limit=st.integers(-1, 60),
)
def test_a_read_returns_a_gapless_piece_and_counts_what_is_missing_before_it(
    capacity: int, count: int, cursor: int, limit: int
) -> None:
    events = filled(capacity, count).read(cursor, limit=limit)
    seqs = [event.seq for event in events.events]
    asked = min(max(cursor, 0), count)
    start = max(asked, count - min(count, capacity))
    assert seqs == list(range(start, min(count, start + max(limit, 0))))
    assert events.missed == start - asked
    assert events.cursor == start + len(seqs)
    assert [event.detail for event in events.events] == [str(seq) for seq in seqs]


@given(capacity=st.integers(1, 30), steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=20))
def test_a_reader_that_follows_its_cursor_accounts_for_every_event(capacity: int, steps: list[tuple[int, int]]) -> None:
    ring = EventRing("a1", "boot", capacity)
    cursor = seen = missed = 0
    for added, limit in steps:
        for _ in range(added):
            ring.add(0, EventKind.REMOVED)
        got = ring.read(cursor, "a1", limit)
        cursor, seen, missed = got.cursor, seen + len(got.events), missed + got.missed
        assert seen + missed == cursor
    assert sum(ring.counts.values()) == sum(added for added, _ in steps)


def test_a_reader_of_another_incarnation_starts_over() -> None:
    ring = filled(10, 4)
    events = ring.read(3, "former")
    assert [event.seq for event in events.events] == [0, 1, 2, 3]
    assert (events.incarnation, events.missed, events.cursor) == ("a1", 0, 4)


def test_events_of_another_incarnation_need_no_wait() -> None:
    ring = EventRing("a1", "boot")
    assert ring.has_new(0, "former")
    assert not ring.has_new(0, "a1")
    assert not ring.has_new(0)


def test_a_waiter_is_called_once_at_the_next_event() -> None:
    ring, calls = EventRing("a1", "boot"), []
    ring.wait(lambda: calls.append(1))
    ring.add(0, EventKind.MEMBERS)
    ring.add(0, EventKind.MEMBERS)
    assert calls == [1]


def test_a_forgotten_waiter_is_not_called() -> None:
    ring, calls = EventRing("a1", "boot"), []
    handle = ring.wait(lambda: calls.append(1))
    assert handle is not None
    ring.forget(handle)
    ring.forget(handle)
    ring.add(0, EventKind.MEMBERS)
    assert calls == []


def test_waiters_are_bounded() -> None:
    ring = EventRing("a1", "boot")
    handles = [ring.wait(lambda: None) for _ in range(WAITERS_MAX + 1)]
    assert handles[-1] is None
    assert None not in handles[:-1]
