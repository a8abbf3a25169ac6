"""Faults of a document act in virtual time as they do on live nodes, at their times, on the same nodes."""

import pytest
from tests.sim.documents import arrivals_ms, load, subnet

from p2pnet.model.events import EventKind
from p2pnet.sim.simulate import simulate
from p2pnet.subnet.faults import victims

SLOW = {"default": {"latency": "2s"}}


def test_a_partition_misses_exactly_the_other_side() -> None:
    spec = {
        "groups": [{"name": "a", "nodes": 3}, {"name": "b", "nodes": 4}],
        "faults": [{"name": "split", "partition": {"groups": ["group=a", "group=b"]}}],
    }
    outcome = simulate(subnet(**spec), load(sender="a-1", within_s=30.0), seed=1)
    assert set(arrivals_ms(outcome)) == {"a-0", "a-2"}
    report = outcome.report
    assert (report.reach.expected, report.reach.delivered, report.unknown, report.verdict) == (6, 2, 0, "fail")
    assert [(fault.name, fault.state, fault.nodes) for fault in report.faults] == [
        ("split", "active", [f"a-{index}" for index in range(3)] + [f"b-{index}" for index in range(4)])
    ]


def test_a_partition_that_ends_delays_the_other_side_until_links_are_back() -> None:
    spec = {"nodes": 10, "faults": [{"name": "cut", "partition": {"minority": "30%"}, "after": "1s", "for": "40s"}]}
    asked = subnet(**spec)
    outcome = simulate(asked, load(sender="node-1", count=2, rate_per_s=0.5), seed=1)
    minority = set(victims(asked, asked.spec.faults[0]))
    assert len(minority) == 3
    assert set(arrivals_ms(outcome, 0).values()) == {0.0}
    late = arrivals_ms(outcome, 1)  # published at 2 s, in the cut
    other = set(late) - minority if "node-1" not in minority else minority - {"node-1"}
    assert {node for node, at in late.items() if at == 0} == other
    assert all(39_000 <= at <= 50_000 for node, at in late.items() if node not in other)
    assert outcome.report.verdict == "pass"


@pytest.mark.parametrize("does", [{}, {"jitter": "3ms"}, {"bandwidth": "50Mbit"}], ids=["delay", "jitter", "bandwidth"])
def test_links_come_back_after_a_partition_whatever_else_they_do_and_whoever_died_in_it(does: dict[str, str]) -> None:
    """A jitter in order and a bandwidth have a state, which outlives a block."""
    faults = [
        {"name": "split", "partition": {"groups": ["group=a", "group=b"]}, "after": "1s", "for": "20s"},
        {"name": "again", "from": "b-0", "restart": True, "after": "5s"},
    ]
    spec = {
        "groups": [{"name": "a", "nodes": 2}, {"name": "b", "nodes": 2}], "network": {"default": {"latency": "20ms", **does}},
        "faults": faults,
    }  # fmt: skip
    outcome = simulate(subnet(**spec), load(sender="a-0", count=2, rate_per_s=0.25), seed=1)
    assert outcome.report.verdict == "pass"
    late = arrivals_ms(outcome, 1)  # published at 4 s
    assert late["a-1"] < 100
    assert all(17_000 <= late[node] <= 25_000 for node in ("b-0", "b-1"))
    ups = {
        (event.node, event.peer) for event in outcome.events if event.kind is EventKind.PEER_UP and event.t_ns > 21e9
    }
    assert {("a-0", "b-0"), ("b-0", "a-0"), ("a-0", "b-1"), ("b-1", "a-0")} <= ups


def test_what_a_one_way_block_holds_up_comes_through_a_third_node() -> None:
    block = {"name": "mute", "from": "node-0", "to": "node-2", "block": True}
    outcome = simulate(subnet(nodes=3, faults=[block]), load(within_s=60.0), seed=1)
    assert arrivals_ms(outcome)["node-1"] == 0
    [late] = [event for event in outcome.events if event.kind is EventKind.VALIDATED and event.node == "node-2"]
    assert (late.peer, late.hop) == ("node-1", 2)


def test_a_fault_acts_from_its_time_on_and_until_its_end() -> None:
    fault = {"name": "slow", "latency": "300ms", "after": "2s", "for": "3s"}
    outcome = simulate(subnet(nodes=2, faults=[fault]), load(count=7, rate_per_s=1.0), seed=1)
    assert [arrivals_ms(outcome, index)["node-1"] for index in range(7)] == [0, 0, 300, 300, 300, 0, 0]
    [status] = outcome.report.faults
    assert (status.state, status.since, status.until) == ("ended", "2023-11-14T22:13:22Z", "2023-11-14T22:13:25Z")


def test_a_fault_narrows_the_access_link_of_its_nodes_alone() -> None:
    fault = {"name": "thin", "from": "node-1", "access": {"down": "1Mbit"}}
    times = arrivals_ms(simulate(subnet(nodes=3, faults=[fault]), load(60_000), seed=1))
    assert times["node-2"] == 0
    assert times["node-1"] == pytest.approx(480, rel=0.02)


def test_churn_misses_nothing() -> None:
    churn = {"name": "churn", "churn": {"rate": "60/m", "down": "2s"}, "for": "30s"}
    spec = {"nodes": 20, "topology": {"kind": "random-regular", "degree": 4}, "faults": [churn]}
    report = simulate(subnet(**spec), load(sender="random", count=30, rate_per_s=1.0), seed=3).report
    assert report.verdict == "pass"
    assert report.reach.delivered == report.reach.expected
    assert len(report.unknown_nodes) > 10  # nodes that died: nothing of theirs is unknown, for all came in the end
    assert any("not published" in note for note in report.notes)


def test_what_a_killed_node_lacks_is_unknown_if_published_before_and_missed_if_after() -> None:
    kill = {"name": "gone", "from": "node-2", "kill": True, "after": "1s", "for": "1h"}
    outcome = simulate(
        subnet(nodes=4, network=SLOW, faults=[kill]), load(count=2, rate_per_s=0.5, within_s=10.0), seed=1
    )
    report = outcome.report
    assert set(arrivals_ms(outcome, 0)) == set(arrivals_ms(outcome, 1)) == {"node-1", "node-3"}
    assert (report.reach.expected, report.reach.delivered, report.unknown) == (6, 4, 1)
    assert report.unknown_nodes == ["node-2"]
    assert report.reach.ratio == pytest.approx(4 / 5)


def test_a_node_that_is_dead_from_the_begin_took_no_part_and_its_receipts_are_missed() -> None:
    kill = {"name": "gone", "from": "node-2", "kill": True, "for": "1h"}
    report = simulate(subnet(nodes=4, faults=[kill]), load(within_s=10.0), seed=1).report
    assert (report.reach.expected, report.reach.delivered, report.unknown, report.verdict) == (3, 2, 0, "fail")


def test_the_events_tell_of_links_that_are_lost_and_made_again() -> None:
    kill = {"name": "gone", "from": "node-2", "kill": True, "after": "1s", "for": "20s"}
    outcome = simulate(subnet(nodes=3, faults=[kill]), load(count=2, rate_per_s=0.03), seed=1)
    links = [
        (event.node, event.kind, event.peer)
        for event in outcome.events
        if event.kind in {EventKind.PEER_UP, EventKind.PEER_DOWN}
    ]
    others = ["node-0", "node-1"]
    assert sorted(links[:2]) == [(node, EventKind.PEER_DOWN, "node-2") for node in others]
    assert sorted(links[2:]) == sorted(
        [(node, EventKind.PEER_UP, "node-2") for node in others]
        + [("node-2", EventKind.PEER_UP, node) for node in others]
    )
    assert {event.client for event in outcome.events if event.kind is EventKind.PEER_UP} == {""}


@pytest.mark.parametrize("kind", ["kill", "restart"])
def test_a_node_that_dies_once_comes_back_and_gets_what_it_missed(kind: str) -> None:
    fault = {"name": "once", "from": "node-2", kind: True, "after": "1s"}
    outcome = simulate(subnet(nodes=4, network=SLOW, faults=[fault]), load(), seed=1)
    assert outcome.report.verdict == "pass"
    assert arrivals_ms(outcome)["node-1"] == 2000
    assert arrivals_ms(outcome)["node-2"] > 4000
    assert {event.incarnation for event in outcome.events if event.node == "node-2"} == {"node-2/2"}
    assert [(status.state, status.detail) for status in outcome.report.faults] == [
        ("ended", "1 s after the begin of the run; it is done")
    ]


def test_a_paused_node_gets_what_came_meanwhile_when_it_goes_on() -> None:
    pause = {"name": "still", "from": "node-2", "pause": True, "for": "5s"}
    outcome = simulate(subnet(nodes=4, faults=[pause]), load(), seed=1)
    assert arrivals_ms(outcome) == {"node-1": 0, "node-3": 0, "node-2": 5000}
    assert outcome.report.unknown_nodes == []


def test_what_a_dead_publisher_was_to_publish_is_left_out_and_noted() -> None:
    kill = {"name": "gone", "from": "node-0", "kill": True, "after": "1500ms", "for": "1700ms"}
    report = simulate(subnet(nodes=3, faults=[kill]), load(count=5, rate_per_s=1.0), seed=1).report
    assert report.artifacts == 3  # those of 2 s and 3 s are not: it serves again at 3.8 s
    assert "2 artifacts were not published: node-0 was down, as ordered" in report.notes
    assert report.verdict == "pass"


def test_a_share_means_the_nodes_that_the_document_draws() -> None:
    fault = {"name": "some", "from": "40%", "kill": True, "for": "1h"}
    asked = subnet(nodes=10, faults=[fault])
    dead = victims(asked, asked.spec.faults[0])
    alive = next(name for name in (f"node-{index}" for index in range(10)) if name not in dead)
    outcome = simulate(asked, load(sender=alive, within_s=5.0), seed=1)
    assert {f"node-{index}" for index in range(10)} - set(arrivals_ms(outcome)) == {*dead, alive}


def test_a_paused_node_that_is_killed_stands_still_again_when_it_is_back() -> None:
    faults = [
        {"name": "still", "from": "node-2", "pause": True, "for": "8s"},
        {"name": "dead", "from": "node-2", "kill": True, "after": "1s", "for": "1s"},
    ]
    outcome = simulate(subnet(nodes=3, faults=faults), load(), seed=1)
    assert arrivals_ms(outcome)["node-2"] >= 8000
    assert {event.incarnation for event in outcome.events if event.node == "node-2"} == {"node-2/2"}
