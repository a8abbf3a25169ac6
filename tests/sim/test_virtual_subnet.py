"""One continuous world in which runs, faults and other sizes follow each other."""

from typing import Any

import pytest
from tests.sim.documents import load, subnet

from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected
from p2pnet.sim.quantities import NS
from p2pnet.sim.virtual_run import SimLoad, SimOutcome, VirtualRun
from p2pnet.sim.virtual_subnet import VirtualSubnet
from p2pnet.subnet.spec import Subnet

DELAY = {"default": {"latency": "20ms"}}


def up(document: Subnet, **more: Any) -> VirtualSubnet:
    there = VirtualSubnet(document, seed=1, **more)
    while not there.come_to_rest():
        pass
    there.begin_faults()
    return there


def begun(there: VirtualSubnet, given: SimLoad, events: list[Collected] | None = None) -> VirtualRun:
    run = there.make_run(given, seed=1, write=([] if events is None else events).extend)
    run.begin(there.watch_faults)
    return run


def ran(there: VirtualSubnet, given: SimLoad) -> SimOutcome:
    events: list[Collected] = []
    run = begun(there, given, events)
    while not run.is_over:
        there.advance()
    there.end_run(run)
    return run.outcome(events)


def passed(there: VirtualSubnet, seconds: float) -> None:
    until = there.now + int(seconds * NS)
    while there.now < until:
        there.advance(until)


def test_runs_follow_each_other_and_count_only_their_own() -> None:
    there = up(subnet(nodes=4, network=DELAY))
    one, other = ran(there, load(count=3)), ran(there, load(count=2))
    assert [done.report.artifacts for done in (one, other)] == [3, 2]
    assert [done.report.reach.delivered for done in (one, other)] == [9, 6]
    assert other.run.started_at > one.run.finished_at - 1e-6
    assert {event.artifact for event in one.events} & {event.artifact for event in other.events} <= {""}
    assert 0 < other.report.bytes.sent < one.report.bytes.sent


def test_runs_beside_each_other_end_when_each_is_done() -> None:
    there = up(subnet(nodes=4, network=DELAY))
    quick, slow = begun(there, load()), begun(there, load(count=4, rate_per_s=2.0))
    while not quick.is_over:
        there.advance()
    assert not slow.is_over
    there.end_run(quick)
    while not slow.is_over:
        there.advance()
    assert [run.outcome([]).report.reach.delivered for run in (quick, slow)] == [3, 12]


def test_a_fault_that_is_added_is_in_force_until_it_is_cleared_and_stands_in_the_reports_of_its_time() -> None:
    there = up(subnet(nodes=5, network=DELAY))
    before = ran(there, load(within_s=2.0))
    there.add_fault({"name": "cut", "from": "node-4", "block": True, "bothWays": True})
    passed(there, 40)
    cut = ran(there, load(within_s=5.0))
    there.clear_fault("cut")
    passed(there, 10)
    after = ran(there, load(within_s=5.0))
    assert [done.report.reach.delivered for done in (before, cut, after)] == [4, 3, 4]
    assert [[fault.name for fault in done.report.faults] for done in (before, cut, after)] == [[], ["cut"], []]
    assert [[row.rule for row in done.report.network] for done in (before, after)] == [["default"], ["default"]]
    assert "fault cut" in [row.rule for row in cut.report.network][-1]
    with pytest.raises(SpecError, match="cut"):
        there.clear_fault("cut")


def test_a_fault_without_an_end_outlasts_any_lease() -> None:
    there = up(subnet(nodes=3, network=DELAY))
    there.add_fault({"name": "slow", "latency": "300ms"})
    passed(there, 3 * 3600)
    assert ran(there, load()).report.latency_ms.p50 > 290


def test_nodes_that_come_later_get_what_was_published_before_and_count_in_runs_from_then_on() -> None:
    there = up(subnet(nodes=3, network=DELAY))
    early = ran(there, load())
    assert there.links() == (3, 3)
    there.follow(subnet(nodes=5, network=DELAY))
    passed(there, 5)
    assert there.links() == (10, 10)
    assert there.holders(early.run.artifacts[0], "blob") == [f"node-{index}" for index in range(5)]
    late = ran(there, load())
    assert (late.report.nodes, late.report.reach.delivered) == (5, 4)


def test_nodes_that_leave_are_gone_and_may_come_back() -> None:
    sparse = {"topology": {"kind": "random-regular", "degree": 4}, "network": DELAY}
    there = up(subnet(nodes=12, **sparse))
    for nodes in (8, 12, 10, 12):
        there.follow(subnet(nodes=nodes, **sparse))
        passed(there, 20)
        assert there.links() == (2 * nodes, 2 * nodes)
        report = ran(there, load(count=2)).report
        assert (report.nodes, report.verdict) == (nodes, "pass")


def test_an_edit_that_no_running_subnet_takes_is_refused() -> None:
    there = up(subnet(nodes=3))
    with pytest.raises(SpecError, match=r"spec\.broadcast"):
        there.follow(subnet(nodes=3, broadcast={"keep": "5s"}))


def test_nodes_that_leave_under_a_churn_are_not_brought_back_by_it() -> None:
    there = up(subnet(nodes=6, faults=[{"name": "churn", "churn": {"rate": "60/m", "down": "2s"}}]))
    passed(there, 5)
    there.follow(subnet(nodes=3, faults=[{"name": "churn", "churn": {"rate": "60/m", "down": "2s"}}]))
    passed(there, 30)
    assert [name for name in ("node-3", "node-4", "node-5") if there.is_up(name)] == []


def test_nodes_connect_anew_without_a_link_being_down() -> None:
    there = up(subnet(nodes=4, network=DELAY))
    run = begun(there, load(count=20, rate_per_s=10.0))
    there.reconnect(["node-0", "node-2"])
    while not run.is_over:
        there.advance()
        assert there.links() == (6, 6)
    assert run.outcome([]).report.reach.ratio == 1


def test_several_clients_publish_in_one_world_and_each_run_is_told_of_its_own() -> None:
    clients = [{"name": "blob"}, {"name": "other", "class": "p2pnet.broadcast.blob:BlobClient"}]
    there = up(subnet(nodes=3, clients=clients, network=DELAY), others=["other"])
    events: list[Collected] = []
    one = begun(there, load(count=2))
    other = begun(there, load(client="other", count=3), events)
    while not (one.is_over and other.is_over):
        there.advance()
    reports = [run.outcome([]).report for run in (one, other)]
    assert [(report.client, report.artifacts, report.reach.ratio) for report in reports] == [
        ("blob", 2, 1),
        ("other", 3, 1),
    ]
    assert {event.node for event in events} | {event.peer for event in events} <= {"", "node-0", "node-1", "node-2"}
    with pytest.raises(SpecError, match="not to publish"):
        VirtualSubnet(subnet(nodes=3, clients=clients), seed=1).make_run(load(client="other"), seed=1, write=print)


def test_the_same_history_has_the_same_digest() -> None:
    def digest() -> str:
        there = up(subnet(nodes=6, network=DELAY))
        ran(there, load(count=3))
        there.add_fault({"name": "lossy", "loss": "20%"})
        there.follow(subnet(nodes=7, network=DELAY))
        passed(there, 3)
        ran(there, load(count=3))
        return there.digest()

    assert digest() == digest()
