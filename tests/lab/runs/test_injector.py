"""What a run publishes: a plan by request and seed, in batches that are due and fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.lab.runs import injector
from p2pnet.lab.runs.injector import BATCH_BYTES_MAX, Injector, generated, plan, take_batch
from p2pnet.model.control import Injected
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
    planned = plan(RunRequest([Payload("x", size=1)]), ["node-0"], 0, {})
    await Injector(
        node_client, planned, client="blob", load=lambda _: b"x", on_published=lambda _, artifact: published.append(artifact), **hooks
    ).run()  # fmt: skip
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
