"""What stands out in the time series of a run: why was node-7 slow?"""

import pytest

from p2pnet.measure.findings import FINDINGS_MAX, TimeSeries, slow_nodes
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.report import NodeReceipts
from p2pnet.model.time_series import NodeSample

S = 1_000_000_000


def series(*samples: NodeSample) -> TimeSeries:
    one = TimeSeries()
    for sample in samples:
        one.add(sample)
    return one


def second(at_s: int, node: str = "node-7", *links: LinkSample, **more: object) -> NodeSample:
    fields = {"lag_s": 0.001, "cpu_s": 0.1, **more}
    return NodeSample(node, at_s * S, Sample(at_s * S, 1.0, links=list(links), **fields))


def link(peer: str = "node-3", sent: int = 50_000, received: int = 50_000, **more: object) -> LinkSample:
    fields = {"lost": 0, "dropped": 0, "queued_bytes": 0, "rtt_ms": 20.0, "window_bytes": 100_000, **more}
    return LinkSample(peer, sent, received, **fields)


def test_a_quiet_time_has_no_findings():
    assert series(*(second(at, "node-7", link()) for at in range(10))).findings() == []
    assert TimeSeries().findings() == []


@pytest.mark.parametrize(
    ("amiss", "kind", "what"),
    [
        ({"up_queued_bytes": 1_153_434}, "uplink-full", "its uplink was full for 4 of 9 s (1.1 MiB waited)"),
        ({"up_dropped": 3}, "uplink-full", "its uplink was full for 4 of 9 s (packets were dropped)"),
        ({"down_queued_bytes": 65_536}, "downlink-full", "its downlink was full for 4 of 9 s (64 KiB waited)"),
        (
            {"lag_s": 0.31}, "starved",
            "its process was starved of CPU or stood still in 4 of 9 s: its event loop came up to 310 ms late",
        ),
        ({"handlers": 120}, "slow-handlers", "its handlers were slow for 4 of 9 s: up to 120 messages waited for them"),
    ],
)  # fmt: skip
def test_what_a_node_suffered_from_is_told_with_its_length(amiss, kind, what):
    (found,) = series(*(second(at, **(amiss if at < 4 else {})) for at in range(9))).findings()
    assert (found.node, found.kind, found.what, found.seconds, found.peer) == ("node-7", kind, what, 4.0, "")


def test_a_path_that_was_full_names_the_peer():
    (found,) = series(*(second(at, "node-7", link(queued_bytes=65_536)) for at in range(5))).findings()
    assert (found.kind, found.peer) == ("link-full", "node-3")
    assert found.what == "its path to node-3 was full for 5 of 5 s (64 KiB waited)"


def test_a_peer_that_says_nothing_while_it_is_sent_much_is_silent():
    (found,) = series(*(second(at, "node-7", link(received=0)) for at in range(5))).findings()
    assert (found.kind, found.what) == ("silent-peer", "it sent to node-3 for 5 s and heard nothing")


def test_keeping_a_connection_alive_is_no_talk_to_a_silent_peer():
    assert series(*(second(at, "node-7", link(sent=29, received=0)) for at in range(20))).findings() == []


def test_a_second_without_an_answer_now_and_then_is_no_silence():
    quiet = [second(2 * at, "node-7", link(received=0)) for at in range(20)]  # in between there was no traffic at all
    assert series(*quiet).findings() == []


def test_a_lossy_peer_is_told_by_share():
    (found,) = series(*(second(at, "node-7", link(sent=120_000, lost=10)) for at in range(5))).findings()
    assert (found.kind, found.what) == ("lossy-peer", "50 datagrams to node-3 were lost, about 10%")
    assert series(*(second(at, "node-7", link(sent=1_200_000, lost=10)) for at in range(5))).findings() == []


def test_what_happened_to_a_slow_node_comes_first():
    calm = NodeReceipts("node-1", 5, 5, 20.0, 25.0)
    slow = NodeReceipts("node-7", 5, 5, 90.0, 99.0)
    samples = [second(at, "node-1", up_queued_bytes=99_999) for at in range(9)]
    samples += [second(at, "node-7", up_queued_bytes=99_999 if at < 4 else 0) for at in range(9)]
    assert [one.node for one in series(*samples).findings()] == ["node-1", "node-7"]
    assert [one.node for one in series(*samples).findings([calm, calm, slow])] == ["node-7", "node-1"]


def test_slow_are_nodes_that_missed_something_or_stand_out():
    def node(name: str, p50_ms: float | None, received: int = 5) -> NodeReceipts:
        return NodeReceipts(name, received, 5, p50_ms, p50_ms)

    assert slow_nodes([node("a", 10.0), node("b", 12.0), node("c", 30.0), node("d", 11.0, 4), node("e", None, 0)]) == {
        "c",
        "d",
        "e",
    }
    assert slow_nodes([]) == set()


def test_there_are_no_more_findings_than_people_read():
    samples = [second(at, f"node-{i}", up_queued_bytes=99_999) for at in range(3) for i in range(40)]
    assert len(series(*samples).findings()) == FINDINGS_MAX


def test_lag_is_told_by_node():
    assert series(second(1, lag_s=0.2), second(2, lag_s=0.1), second(1, "node-1")).longest_lag_s() == {
        "node-7": 0.2,
        "node-1": 0.001,
    }
