"""What a simulated node costs, by counts: a world of a hundred thousand must fit into a few GB."""

import gc
import tracemalloc
from collections import Counter

import pytest

from p2pnet.broadcast.inputs import StripesReceived
from p2pnet.broadcast.scatter import StripeBox
from p2pnet.broadcast.task import Supplier
from p2pnet.model.limits import EVENT_RING
from p2pnet.sim import World
from p2pnet.sim.record import Deliveries, NodeRecord

NODES, DEGREE = 200, 8
IDLE_BYTES_MAX = 30_000
"""Bytes of a node at rest with eight peers; 20,000 were seen."""
HOLDING_BYTES_MAX = 46_000
"""The same when it has one small artifact, which came eight times; 31,000 were seen."""


@pytest.fixture
def traced():
    gc.collect()
    tracemalloc.start()
    yield tracemalloc
    tracemalloc.stop()


def sparse() -> World:
    world = World(1)
    for number in range(NODES):
        world.node(f"n{number}")
    world.regular(DEGREE)
    return world


def test_a_node_at_rest_and_one_with_an_artifact_have_bounded_bytes(traced):
    world = sparse()
    world.settle()
    idle = traced.get_traced_memory()[0] / NODES
    artifact = world.nodes["n0"].publish(bytes(700))
    world.settle()
    assert len(world.delivered(artifact)) == NODES - 1
    holding = traced.get_traced_memory()[0] / NODES
    assert idle < IDLE_BYTES_MAX
    assert holding < HOLDING_BYTES_MAX


@pytest.mark.parametrize("size", [0, 700])
def test_nodes_that_neither_fetch_nor_deal_out_have_no_suppliers_and_no_boxes_of_stripes(size):
    before = made()
    world = sparse()
    world.settle()
    if size:
        world.nodes["n0"].publish(bytes(size))
        world.settle()
    assert made() == before


def made() -> Counter[type]:
    gc.collect()
    return Counter(kind for one in gc.get_objects() if (kind := type(one)) in {StripeBox, Supplier})


def test_a_node_starts_with_three_inputs_a_link_and_three_more():
    world = sparse()
    world.settle()
    # A link up, a synced and the answer to one's own; the members, the wake-up and the client's first run.
    assert world.inputs == NODES * (3 * DEGREE + 3)


def test_an_artifact_takes_two_inputs_for_each_copy_and_three_for_each_node():
    world = sparse()
    world.settle()
    before = world.inputs
    world.nodes["n0"].publish(bytes(700))
    world.settle()
    copies = sum(node.counters["sent"] for node in world.nodes.values())
    # A copy and its answer; a wake-up, the client's run, and a wake-up to pass it on.
    assert world.inputs - before <= 2 * copies + 3 * NODES + 1


def test_a_node_remembers_the_last_hundred_thousand_events():
    world = World(1)
    node = world.node("a")
    node.publish(b"")
    (emitted,) = node.record._emitted
    record = NodeRecord("a", Deliveries())
    for now in range(3 * EVENT_RING):
        record.emitted(emitted, now)
    assert [round(event.time * 1e9) for event in record.events] == list(range(2 * EVENT_RING, 3 * EVENT_RING))
    assert len(record._emitted) <= 2 * EVENT_RING


def test_boxes_of_stripes_are_made_in_a_sparse_topology_when_a_peer_deals_something_out():
    before = made()[StripeBox]
    world = World(1)
    a, b, c = (world.node(name) for name in "abc")
    for one, other in ("ab", "bc"):
        world.link(one, other)
    for node in (a, b, c):
        node.prefer(full_mesh=False)
    world.settle()
    assert made()[StripeBox] == before
    b.core.handle(StripesReceived("a", 1, 1, b""), 0, 0.0)
    assert made()[StripeBox] == before + 2  # one for each peer, in place before the stripe is looked at
