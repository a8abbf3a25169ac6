"""What a run publishes: a plan by request and seed, in batches that are due and fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.runs.injector import BATCH_BYTES_MAX, generated, plan, take_batch
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import Payload, RunRequest

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
