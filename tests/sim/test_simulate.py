"""A run of a document in virtual time gives the report of a live run."""

import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tests.sim.documents import load, subnet

from p2pnet.measure.injection import payload_seed
from p2pnet.model.errors import SpecError
from p2pnet.model.events import EventKind
from p2pnet.sim import virtual_subnet as module
from p2pnet.sim.simulate import SimLoad, SimProgress, simulate
from p2pnet.subnet.document import default_subnet, load_subnet
from p2pnet.subnet.support import unsupported

EXAMPLES = Path(__file__).parents[2] / "examples"
MESH = default_subnet("demo", 5)
SPARSE = load_subnet(
    {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "sparse"},
        "spec": {"nodes": 20, "topology": {"kind": "random-regular", "degree": 4}},
    }
)  # fmt: skip


SUBNETS = [path for path in sorted(EXAMPLES.rglob("*.yaml")) if "kind: Subnet" in path.read_text().splitlines()]


@pytest.mark.parametrize("path", SUBNETS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_runs_whole(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setitem(sys.modules, "chat", None)  # so that what is imported here does not outlive the test
    del sys.modules["chat"]
    example = load_subnet(path.read_text())
    assert unsupported(example, "sim") == []
    for client in example.spec.clients:
        report = simulate(
            example, SimLoad(payloads=[("a", 3_000)], count=2, rate_per_s=1.0, client=client.name), seed=1
        ).report
        assert (report.verdict, report.ignored, report.client) == ("pass", [], client.name)


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


def test_generated_bytes_are_those_of_a_live_run_of_the_seed_and_all_artifacts_differ():
    outcome = simulate(MESH, SimLoad(payloads=[("a", 50), ("b", b"bb")], count=2), seed=9)
    made = [random.Random(payload_seed(9, index, 50)).randbytes(50) for index in (0, 2)]
    assert list(outcome.payloads.values()) == [made[0], b"bb", made[1], b"bb"]
    assert [one.index for one in outcome.payloads.planned.values()] == [0, 1, 2, 3]
    assert len(set(outcome.payloads)) == 4  # the same bytes published twice are two artifacts


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
    seen: list[SimProgress] = []
    load = SimLoad(payloads=[("a", 100)], count=10, rate_per_s=1.0)
    outcome = simulate(MESH, load, seed=1, on_progress=seen.append, is_stopped=lambda: seen[-1].published == 2)
    assert outcome.interrupted
    assert outcome.report.verdict == "invalid"
    assert outcome.report.state == "cancelled"
    assert 0 < outcome.report.artifacts < 10
    assert "of virtual time: 2 of 10 artifacts published, 8 of 40 receipts in" in outcome.report.invalid[0]


def test_a_run_can_be_stopped_in_the_midst_of_an_instant_and_before_it_begins(monkeypatch):
    """Without a network everything happens in one instant."""
    monkeypatch.setattr(module, "CALLS_PER_LOOK", 50)
    crowd, seen = subnet(nodes=60, topology={"kind": "random-regular", "degree": 4}), list[SimProgress]()
    load = SimLoad(payloads=[("a", 100)])
    outcome = simulate(crowd, load, seed=1, on_progress=seen.append, is_stopped=lambda: seen[-1].receipts > 0)
    assert outcome.interrupted
    assert 0 < outcome.report.reach.delivered < outcome.report.reach.expected
    assert seen[-1].virtual_s == 0
    early = simulate(crowd, load, seed=1, is_stopped=lambda: True)
    assert (early.report.verdict, early.report.artifacts) == ("invalid", 0)


def test_a_run_ends_at_its_virtual_end_and_is_invalid_if_anything_was_due_later():
    outcome = simulate(MESH, SimLoad(payloads=[("a", 100)], count=10, rate_per_s=1.0), seed=1, until_s=2.5)
    report = outcome.report
    assert (report.verdict, report.artifacts, report.reach.expected, report.load.count) == ("invalid", 3, 12, 10)
    assert report.invalid == ["the run ended after 2.5 s of virtual time, as asked: 7 of 10 artifacts were due later"]
    assert outcome.run.finished_at - outcome.run.started_at == pytest.approx(2.5)


def test_what_has_not_arrived_at_the_virtual_end_is_missed_and_nothing_published_is_no_pass():
    slow = subnet(nodes=3, network={"default": {"latency": "2s"}})
    report = simulate(slow, SimLoad(payloads=[("a", 100)]), seed=1, until_s=1.0).report
    assert (report.verdict, report.reach.delivered) == ("fail", 0)
    late = simulate(slow, SimLoad(payloads=[("a", 100)], sender="node-0"), seed=1, until_s=0.0).report
    assert (late.verdict, late.reach.delivered) == ("invalid", 0)


def test_a_receipt_later_than_within_is_missed():
    slow = subnet(nodes=3, network={"rules": [{"to": "node-2", "latency": "3s"}]})
    load = SimLoad(payloads=[("a", 100)], sender="node-0", within_s=1.0)
    report = simulate(slow, load, seed=1).report
    assert (report.verdict, report.reach.expected, report.reach.delivered) == ("fail", 2, 1)


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


def test_a_simulated_run_expects_honest_nodes_alone_and_names_the_others() -> None:
    document = subnet(
        nodes=4,
        groups=[
            {"name": "liar", "nodes": 1, "behaviour": "lying"},
            {"name": "old", "nodes": 1, "behaviour": "stale-certificate"},
        ],
    )
    outcome = simulate(document, load(70_000, count=2, sender="all"), seed=1)
    report = outcome.report
    assert (report.verdict, report.reach.expected, report.reach.delivered) == ("pass", 24, 24)
    assert report.publishers == [f"node-{i}" for i in range(4)]
    assert [(one.group, one.behaviour, one.nodes) for one in report.adversaries] == [
        ("liar", "lying", ["liar-0"]),
        ("old", "stale-certificate", ["old-0"]),
    ]
    assert outcome.run.adversaries == report.adversaries
    assert not any(event.node == "old-0" for event in outcome.events), "every peer refuses it"

    lied = simulate(document, load(70_000, sender="liar-0", within_s=1.0), seed=1).report
    assert (lied.verdict, lied.reach.expected, lied.reach.delivered) == ("fail", 4, 0)
    assert "liar-0, which published, is lying" in lied.notes


def test_stages_publish_when_their_rates_are_due():
    load = SimLoad(payloads=[("a", 100)], count=6, rate_per_s="2/s for 1s, then 10/s", sender="node-0")
    outcome = simulate(MESH, load, seed=1)
    published = [event.t_ns for event in outcome.events if event.kind is EventKind.PUBLISHED]
    assert [due - published[0] for due in published] == [
        0,
        500_000_000,
        10**9,
        1_100_000_000,
        1_200_000_000,
        1_300_000_000,
    ]
    assert outcome.run.request.rate == "2/s for 1s, then 10/s"
    assert [one.artifacts for one in outcome.report.load.stages] == [2, 4]


LATE = subnet(nodes=4, network={"default": {"latency": "50ms"}})


def test_a_run_ends_when_an_expectation_can_hold_no_more_at_the_same_moment_every_time():
    def asked(*expect, stop_early=True):
        return SimLoad(
            payloads=[("a", 1_000)], count=100, rate_per_s=10.0, expectations=list(expect), stop_early=stop_early
        )

    reports = [simulate(LATE, asked("p95 <= 40ms"), seed=1).report for _ in range(2)]
    stopped = reports[0].stopped_early
    assert reports[0].digest == reports[1].digest
    assert (reports[0].verdict, reports[0].invalid, stopped.expr) == ("fail", [], "p95 <= 40ms")
    assert stopped.artifacts == reports[0].artifacts < 12 < stopped.asked == 100
    assert reports[0].reach.delivered == reports[0].reach.expected  # what was under way is waited for
    held = [simulate(LATE, asked("p95 <= 60ms", stop_early=early), seed=1).report for early in (True, False)]
    assert (held[0].verdict, held[0].stopped_early, held[0].digest) == ("pass", None, held[1].digest)
