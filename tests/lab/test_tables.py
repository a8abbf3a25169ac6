"""The lab's pure parts: cursors, plans, clocks, run ids, merge patches."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.nodes.clocks import offset_of
from p2pnet.lab.nodes.collector import NodeCursor
from p2pnet.lab.runs.injector import BATCH_BYTES_MAX, generated, plan, take_batch
from p2pnet.lab.runs.recorder import new_run_folder
from p2pnet.model.control import Events
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Event, EventKind
from p2pnet.model.jobs import Payload, RunRequest
from p2pnet.model.log_lines import stamp_of
from p2pnet.store.state import State


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


NODES = ["node-0", "node-1", "node-2"]


@given(st.integers(1, 20), st.integers(1, 3), st.sampled_from(["random", "all", "node-1"]), st.integers(0, 5))
def test_a_plan_is_a_function_of_request_and_seed(count, payloads, publisher, seed):
    request = RunRequest([Payload(f"p{i}", size=i) for i in range(payloads)], count, publisher=publisher, rate=2.0)
    first, again = plan(request, NODES, seed, {}), plan(request, NODES, seed, {})
    assert first == again
    assert len(first) == count * payloads * (3 if publisher == "all" else 1)
    assert [one.index for one in first] == list(range(len(first)))
    assert [one.due_s for one in first] == [index / 2.0 for index in range(len(first))]
    assert {one.publisher for one in first} <= set(NODES)


def test_another_seed_gives_other_publishers_and_other_bytes():
    request = RunRequest([Payload("x", size=1)], 50)
    assert plan(request, NODES, 1, {}) != plan(request, NODES, 2, {})
    assert generated(1, 0, 64) == generated(1, 0, 64) != generated(2, 0, 64)
    assert generated(1, 0, 64) != generated(1, 1, 64)
    assert len(generated(1, 0, 0)) == 0


@given(st.lists(st.integers(0, 2 << 20), min_size=1, max_size=30), st.floats(0, 10))
def test_batches_keep_order_and_size_and_what_is_due(sizes, elapsed):
    request = RunRequest([Payload(str(i), size=size) for i, size in enumerate(sizes)], rate=3.0, publisher="node-0")
    queue, done = plan(request, NODES, 0, {}), 0
    while done < len(queue):
        batch = take_batch(queue, done, elapsed)
        assert batch == queue[done : done + len(batch)]
        assert len(batch) == 1 or sum(one.cost for one in batch) <= BATCH_BYTES_MAX
        assert all(one.due_s <= elapsed for one in batch[1:])
        done += len(batch)


def test_a_plan_without_nodes_is_refused():
    with pytest.raises(SpecError):
        plan(RunRequest([Payload("x")]), [], 0, {})


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12))
def test_an_offset_is_true_within_its_bound(there, back, start, skew):
    # We ask at `start`; they read after `there`; their clock is `skew` behind ours; the answer takes `back`.
    offset = offset_of(start, start + there - skew, start + there + back)
    assert abs(offset.ns - skew) <= offset.error_ns + 1
    assert offset.bound_ns(offset.taken_ns + 10**9) >= offset.error_ns + 10**5


def test_run_ids_sort_by_time_and_are_nobody_elses():
    with tempfile.TemporaryDirectory() as folder:
        state, rng = State(Path(folder)), random.Random(1)
        names = [new_run_folder(state, 1_795_291_200.0 + i // 20, rng).name for i in range(60)]
    assert names == sorted(set(names))
    assert all(len(name) == len("r-20261121-201530-3f") for name in names)


def test_lines_without_a_time_carry_the_one_before_them():
    assert stamp_of("Traceback (most recent call last):") is None
    assert stamp_of("2026-11-21 10:00:01,500 INFO x") - stamp_of("2026-11-21 10:00:01,000 INFO x") == 0.5
