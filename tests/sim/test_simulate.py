"""A run of a document in virtual time gives the report of a live run."""

from itertools import pairwise

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.model.events import EventKind
from p2pnet.sim.simulate import SimLoad, SimProgress, simulate
from p2pnet.subnet.document import default_subnet, load_subnet

MESH = default_subnet("demo", 5)
SPARSE = load_subnet(
    {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "sparse"},
        "spec": {"nodes": 20, "topology": {"kind": "random-regular", "degree": 4}},
    }
)  # fmt: skip


def test_everything_reaches_every_node_of_a_mesh_in_one_hop():
    outcome = simulate(MESH, SimLoad(payloads=[("hello", b"hello")], count=3), seed=1)
    report = outcome.report
    assert (report.verdict, report.target, report.subnet, report.nodes, report.artifacts) == (
        "pass",
        "sim",
        "demo",
        5,
        3,
    )
    assert (report.reach.expected, report.reach.delivered) == (12, 12)
    assert report.hops.max == 1
    assert report.bytes.payload == 12 * len(b"hello") < report.bytes.sent
    assert not outcome.interrupted


def test_a_sparse_topology_takes_several_hops():
    report = simulate(SPARSE, SimLoad(payloads=[("a", 700)]), seed=1).report
    assert report.reach.ratio == 1
    assert report.hops.max >= 3  # twenty nodes with four peers each


def test_the_events_and_the_bytes_are_those_of_what_was_published():
    outcome = simulate(MESH, SimLoad(payloads=[("a", b"aa"), ("b", b"bbb")], sender="node-3"), seed=1)
    [first, second] = outcome.run.artifacts
    assert outcome.payloads == {first: b"aa", second: b"bbb"}
    assert outcome.run.names == ["a", "b"]
    published = [event for event in outcome.events if event.kind is EventKind.PUBLISHED]
    assert [(event.node, event.artifact, event.bytes) for event in published] == [
        ("node-3", first, 2),
        ("node-3", second, 3),
    ]
    validated = {
        event.node for event in outcome.events if event.kind is EventKind.VALIDATED and event.artifact == first
    }
    assert validated - {"node-3"} == {"node-0", "node-1", "node-2", "node-4"}
    assert outcome.events == sorted(outcome.events, key=lambda event: event.t_ns)


def test_a_paced_load_keeps_its_rate_to_the_nanosecond():
    outcome = simulate(MESH, SimLoad(payloads=[("a", 100)], count=5, rate_per_s=4.0), seed=1)
    at = [event.t_ns for event in outcome.events if event.kind is EventKind.PUBLISHED]
    assert [b - a for a, b in pairwise(at)] == [250_000_000] * 4
    assert outcome.report.load.published_per_s == 4.0


def test_all_publish_their_own():
    report = simulate(MESH, SimLoad(payloads=[("a", 100)], sender="all"), seed=1).report
    assert report.artifacts == 5
    assert report.publishers == [f"node-{index}" for index in range(5)]


def test_another_seed_gives_other_publishers_and_the_same_seed_the_same_report():
    load = SimLoad(payloads=[("a", 100)], count=8)
    one, same, other = (simulate(SPARSE, load, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.report.digest != other.report.digest
    assert one.payloads != other.payloads


def test_a_run_that_is_stopped_says_how_far_it_was_and_is_invalid():
    looks = iter([False, False, True])
    load = SimLoad(payloads=[("a", 100)], count=10, rate_per_s=1.0)
    outcome = simulate(MESH, load, seed=1, is_stopped=lambda: next(looks, True))
    assert outcome.interrupted
    assert outcome.report.verdict == "invalid"
    assert outcome.report.state == "cancelled"
    assert 0 < outcome.report.artifacts < 10
    assert "of virtual time: 1 of 10 artifacts published, 4 of 40 receipts in" in outcome.report.invalid[0]


def test_a_run_tells_how_far_it_is():
    seen: list[SimProgress] = []
    simulate(MESH, SimLoad(payloads=[("a", 100)], count=3, rate_per_s=1.0), seed=1, on_progress=seen.append)
    assert (seen[-1].published, seen[-1].asked, seen[-1].receipts, seen[-1].expected) == (3, 3, 12, 12)
    assert seen[-1].virtual_s >= 2
    assert [one.virtual_s for one in seen] == sorted(one.virtual_s for one in seen)


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (SimLoad(payloads=[]), "no payloads"),
        (SimLoad(payloads=[("a", 1)], sender="node-9"), "no node 'node-9'"),
        (SimLoad(payloads=[("a", 1)], client="chat"), "no client 'chat'"),
        (SimLoad(payloads=[("a", 1)], expectations=["p95 < fast"]), "expectation"),
    ],
)
def test_a_load_that_cannot_be_is_refused_before_anything_is_simulated(load, says):
    with pytest.raises(SpecError, match=says):
        simulate(MESH, load, seed=1)
