"""What a run publishes leaves in batches that are due and fit, with bytes that follow from the seed."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.patience import PATIENCE_S

from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.lab.runs import injector
from p2pnet.lab.runs.injector import BATCH_BYTES_MAX, Injector, generated, take_batch
from p2pnet.measure.injection import Planned, plan
from p2pnet.model.control import Injected
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


class Redialled:
    """A node whose link is lost for this many requests, and which then publishes."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    async def ask(self, node, route, request, *, timeout_s):
        self.lost -= 1
        if self.lost >= 0:
            raise NodeSilentError(node, "it is not connected")
        return Injected([bytes(32)] * len(request.items))


async def publish(node_client: Redialled, **hooks) -> list[str]:
    published: list[str] = []
    await Injector(
        node_client,
        planned(RunRequest([Payload("x", size=1)])),
        client="blob",
        load=lambda _: b"x",
        on_published=lambda _, artifact: published.append(artifact),
        **hooks,
    ).run()
    return published


async def test_a_publisher_whose_link_takes_its_time_to_come_back_publishes_all_the_same(monkeypatch):
    monkeypatch.setattr(injector, "RETRY_S", 0.001)
    assert await publish(Redialled(20)) == [bytes(32).hex()]


async def test_a_publisher_that_does_not_come_back_ends_the_run(monkeypatch):
    monkeypatch.setattr(injector, "RETRY_S", 0.001)
    monkeypatch.setattr(injector, "LINK_S", 0.05)
    with pytest.raises(NodeSilentError):
        await publish(Redialled(10**6))


async def test_nobody_waits_for_a_publisher_that_a_fault_has_hit(monkeypatch):
    monkeypatch.setattr(injector, "LINK_S", 10**6)
    skipped: list[str] = []
    dead = Redialled(10**6)
    hooks = {"excuse": lambda _: "killed", "on_skipped": lambda node, _: skipped.append(node)}
    assert (await publish(dead, **hooks), skipped, 10**6 - dead.lost) == ([], ["node-0"], 1)


async def test_a_stopped_injector_publishes_no_more_and_does_not_wait_for_what_is_due_later():
    published: list[str] = []
    queue = planned(RunRequest([Payload("x", size=1)], count=3, rate="1/s for 1h"))

    def stop(_: Planned, artifact: str) -> None:
        published.append(artifact)
        stopped.stop()

    stopped = Injector(Redialled(0), queue, client="blob", load=lambda _: b"x", on_published=stop)
    await asyncio.wait_for(stopped.run(), PATIENCE_S)
    assert len(published) == 1
