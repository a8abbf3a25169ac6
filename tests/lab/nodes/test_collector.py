"""The events of nodes: every one once, in order, gaps counted."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.nodes.collector import Collector, NodeCursor
from p2pnet.model.control import Events
from p2pnet.model.events import Collected, Event, EventKind


def collected(seq: int) -> Collected:
    return Collected("n", "a", seq, seq, EventKind.VALIDATED)


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(0, 60))
def test_the_log_tells_what_it_still_holds_from_a_cursor_on(batches, cursor):
    collector = Collector(None, lambda _node: None)
    every: list[Collected] = []
    collector._log = deque(maxlen=10)
    for count in batches:
        some = [collected(len(every) + index) for index in range(count)]
        collector._dispatch(some)
        every += some
    told, after = collector.since(cursor)
    assert told == every[max(cursor, len(every) - 10) :]
    assert after == max(cursor, len(every))


def page(incarnation: str, first: int, count: int, asked: int | None = None) -> Events:
    events = [Event(seq, seq, EventKind.VALIDATED) for seq in range(first, first + count)]
    return Events(incarnation, "boot", events, first + count, first - (first if asked is None else asked))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=20))
def test_every_event_is_seen_once_whatever_order_replies_come_in(pages):
    cursor, seen, missed = NodeCursor("n"), [], 0
    for first, count in pages:
        fresh, gaps = cursor.accept(page("a", first, count))
        seen += [event.seq for event in fresh]
        missed += sum(gap.missed or 0 for gap in gaps)
    assert seen == sorted(set(seen))
    assert len(seen) + missed == cursor.next_seq


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=20))
def test_an_incarnation_that_is_over_never_comes_back(pages):
    cursor, order = NodeCursor("n"), []
    for incarnation, count in pages:
        fresh, _ = cursor.accept(page(incarnation, 0, count))
        if fresh:
            order.append(incarnation)
    runs = [name for index, name in enumerate(order) if index == 0 or order[index - 1] != name]
    assert len(runs) == len(set(runs))


def test_a_restart_is_a_gap_of_unknown_size():
    cursor = NodeCursor("n")
    cursor.accept(page("a", 0, 5))
    assert cursor.request(wait_ms=1, limit=2).incarnation == "a"
    fresh, gaps = cursor.accept(page("b", 0, 2))
    assert [event.seq for event in fresh] == [0, 1]
    assert [(gap.incarnation, gap.missed) for gap in gaps] == [("a", None)]


def test_events_that_left_the_ring_are_counted():
    cursor = NodeCursor("n")
    cursor.accept(page("a", 0, 5))
    _, gaps = cursor.accept(page("a", 8, 1, asked=5))
    assert [gap.missed for gap in gaps] == [3]
