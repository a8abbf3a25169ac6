"""What a run publishes leaves in batches that are due and fit, with bytes that follow from the seed."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.runs.injector import BATCH_BYTES_MAX, generated, take_batch
from p2pnet.measure.injection import Planned, plan
from p2pnet.model.jobs import Payload, RunRequest


def planned(request: RunRequest) -> list[Planned]:
    return plan(request, ["node-0"], {}, lambda _: 0)


def test_generated_bytes_follow_from_seed_index_and_size():
    assert generated(1, 0, 64) == generated(1, 0, 64) != generated(2, 0, 64)
    assert generated(1, 0, 64) != generated(1, 1, 64)
    assert len(generated(1, 0, 0)) == 0


@given(st.lists(st.integers(0, 2 << 20), min_size=1, max_size=30), st.floats(0, 10))
def test_batches_keep_order_and_size_and_what_is_due(sizes, elapsed):
    request = RunRequest([Payload(str(i), size=size) for i, size in enumerate(sizes)], rate=3.0, publisher="node-0")
    queue, done = planned(request), 0
    while done < len(queue):
        batch = take_batch(queue, done, elapsed)
        assert batch == queue[done : done + len(batch)]
        assert len(batch) == 1 or sum(one.cost for one in batch) <= BATCH_BYTES_MAX
        assert all(one.due_s <= elapsed for one in batch[1:])
        done += len(batch)
