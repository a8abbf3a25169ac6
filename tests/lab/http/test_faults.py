"""Faults and the network by the lab's HTTP, against fake nodes: what nodes are told, what status and runs say."""

import asyncio
import time
from collections.abc import Callable

import pytest
from tests.patience import PATIENCE_S

from p2pnet.lab.network import control
from p2pnet.lab_client import ProblemError
from p2pnet.model.jobs import FaultRequest, Payload, RunRequest
from p2pnet.store import archive
from p2pnet.subnet.document import load_subnet

CUT = {"name": "cut", "from": "node-0", "block": True}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IN_FORCE_S", 30.0)  # a fake has it at once, as soon as it gets its turn


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def connected(lab) -> None:
    await until(lambda: lab.status().nodes.connected == 3)


def condition(status, kind: str):
    return next(one for one in status.conditions if one.type == kind)


def request(count: int = 1, **more) -> RunRequest:
    return RunRequest([Payload("x", size=100)], count=count, **more)


async def ended(lab_client, run):
    return [state async for state in lab_client.follow(run.run)][-1]


# --- links ---


async def test_a_leased_fault_reaches_its_nodes_with_the_lease_and_goes_when_it_is_cleared(lab, lab_client, nodes):
    await connected(lab)
    status = await lab_client.add_fault(FaultRequest(CUT, 60.0))
    assert (status.state, status.what, status.origin) == ("active", "block from node-0 to *", "lease")
    assert status.nodes == ["node-0"]
    assert status.since is not None
    assert status.until is not None
    push = nodes.nodes["node-0"].network
    assert {peer for peer in push.network.paths if push.network.shape(peer).blocked} == {"node-1", "node-2"}
    assert (push.lease_s, push.healed) == (30.0, type(push.network)())
    assert nodes.nodes["node-1"].network.network.paths == {}
    assert lab.backend.networks["node-0"] == push.network  # a node that is started again is shaped at once

    summary = await lab_client.summary()
    assert [fault.name for fault in summary.faults] == ["cut"]
    degraded = condition(summary, "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "Faults")
    assert degraded.message == "fault in force: cut (block from node-0 to *)"

    assert [fault.state for fault in (await lab_client.clear_fault("cut")).faults] == ["ended"]
    await until(lambda: not nodes.nodes["node-0"].network.network.paths)
    assert nodes.nodes["node-0"].network.lease_s is None
    assert condition(await lab_client.summary(), "Degraded").status == "False"
    with pytest.raises(ProblemError, match="has ended already") as caught:
        await lab_client.clear_fault("cut")
    assert (caught.value.status, caught.value.exit_code) == (404, 2)


async def test_an_edit_of_network_and_faults_reaches_nodes_and_their_boot_copies_at_once(lab, lab_client, nodes):
    await connected(lab)
    await lab.poller.close()  # nobody looks whether nodes have it
    network = {"default": {"latency": "20ms"}, "rules": [{"from": "node-1", "latency": "90ms"}]}
    await lab_client.patch_spec({"spec": {"network": network, "faults": [{"name": "lossy", "loss": "5%"}]}})
    shape = lab.backend.networks["node-1"].shape("node-0")  # written before the answer
    assert (shape.delay_ns, shape.loss) == (90_000_000, pytest.approx(0.05))
    await until(lambda: nodes.nodes["node-1"].network.network.shape("node-0") == shape)
    assert nodes.nodes["node-1"].network.lease_s is None
    before = nodes.nodes["node-1"].network.network.version
    await lab_client.patch_spec({"spec": {"network": {"rules": [{"from": "node-1", "latency": "91ms"}]}}})
    await until(lambda: nodes.nodes["node-1"].network.network.shape("node-0").delay_ns == 91_000_000)
    assert nodes.nodes["node-1"].network.network.version > before


async def test_a_node_that_starts_again_is_told_again(lab, lab_client, nodes):
    await connected(lab)
    await lab_client.add_fault(FaultRequest(CUT, 60.0))
    one = nodes.nodes["node-0"]
    had = one.network
    one.restart()
    assert one.network != had
    lab.poller.stale("node-0")
    await until(lambda: one.network == had)
    await lab.poller.close()  # the lab need not wait for what the node reports of itself
    one.restart()
    nodes.on_up("node-0")
    await until(lambda: one.network == had)


async def test_a_node_that_does_not_take_its_network_keeps_the_fault_waiting_and_is_told_of(
    lab, lab_client, nodes, monkeypatch
):
    await connected(lab)
    monkeypatch.setattr(control, "IN_FORCE_S", 0.5)
    monkeypatch.setattr(control, "LATE_S", 1.0)
    monkeypatch.setattr("p2pnet.lab.network.pusher.LATE_S", 1.0)
    monkeypatch.setattr("p2pnet.lab.network.pusher.ANSWER_S", 0.05)
    one = nodes.nodes["node-0"]
    one.silent = True
    status = await lab_client.add_fault(FaultRequest(CUT, 60.0))
    assert (status.state, status.detail) == ("waiting", "node-0 has not taken it yet")
    await until(lambda: lab.network.statuses()[0].detail == "node-0 has not taken it")
    assert lab.network.statuses()[0].state == "active"
    await until(lambda: condition(lab.status(), "Degraded").reason == "Trouble")
    assert "node-0 has not taken its network for " in condition(lab.status(), "Degraded").message
    one.silent = False
    await until(lambda: lab.network.statuses()[0].detail == "")


async def test_two_orders_at_once_both_hold_and_a_name_is_taken_once(lab, lab_client):
    await connected(lab)
    unnamed = {"from": "node-0", "loss": "5%"}
    both = await asyncio.gather(*(lab_client.add_fault(FaultRequest(unnamed, 60.0)) for _ in range(2)))
    assert {status.name for status in both} == {"loss-1", "loss-2"}
    results = await asyncio.gather(
        *(lab_client.add_fault(FaultRequest(CUT, 60.0)) for _ in range(2)), return_exceptions=True
    )
    [refused] = [one for one in results if isinstance(one, ProblemError)]
    assert "there is a fault 'cut' already" in str(refused)
    assert refused.exit_code == 2
    assert len((await lab_client.faults()).faults) == 3
    assert all(fault.state == "ended" for fault in (await lab_client.clear_fault()).faults)


@pytest.mark.parametrize(
    ("fault", "lease_s", "words"),
    [
        ({"from": "group=none", "block": True}, 60.0, "from"),
        ({"from": "1%", "kill": True}, None, "is nobody"),
        ({"from": "99%", "kill": True}, None, "is everybody"),
        ({"from": "node-0", "loss": "120%"}, 60.0, "loss"),
        ({"from": "node-0", "block": True}, None, "no end"),
        ({"from": "node-0", "block": True}, 0.1, "a lease of"),
        ({"name": "No", "block": True}, 60.0, "name"),
        ({"name": "x", "blok": True}, 60.0, "blok"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_exit_2_and_changes_nothing(lab_client, fault, lease_s, words):
    with pytest.raises(ProblemError, match=words) as caught:
        await lab_client.add_fault(FaultRequest(fault, lease_s))
    assert caught.value.exit_code == 2
    assert (await lab_client.faults()).faults == []


async def test_a_renewal_needs_a_fault_and_a_number(lab, lab_client):
    await connected(lab)
    await lab_client.add_fault(FaultRequest(CUT, 30.0))
    assert (await lab_client.renew_fault("cut", 60.0)).state == "active"
    for name, status, words in (("nothing", 404, "no fault 'nothing'"), ("cut", 400, "a lease of 99999 s")):
        with pytest.raises(ProblemError, match=words) as caught:
            await lab_client.renew_fault(name, 99_999.0)
        assert caught.value.status == status
    with pytest.raises(ProblemError, match="a number of seconds"):
        await lab_client.wire.ask("POST", "/v1/faults/cut/renew", dict, query={"lease_s": "nan"})


async def test_a_fault_of_the_document_is_cleared_by_an_edit_of_it(lab, lab_client, state):
    await connected(lab)
    await lab_client.patch_spec({"spec": {"faults": [CUT, {"name": "slow", "latency": "5ms"}]}})
    assert [fault.origin for fault in (await lab_client.faults()).faults] == ["spec", "spec"]
    with pytest.raises(ProblemError, match="stands in the document"):
        await lab_client.renew_fault("cut", 60.0)
    assert [fault.name for fault in (await lab_client.clear_fault("cut")).faults] == ["slow"]
    assert [fault["name"] for fault in (await lab_client.spec())["spec"]["faults"]] == ["slow"]
    assert load_subnet(state.subnet("demo").document.read_bytes()).spec.faults[0].name == "slow"
    await lab_client.add_fault(FaultRequest(CUT, 60.0))
    assert [fault.state for fault in (await lab_client.clear_fault()).faults] == ["ended"]
    assert (await lab_client.spec())["spec"]["faults"] == []


async def test_scaling_under_faults_shapes_new_nodes_and_finds_new_victims(lab, lab_client, nodes):
    await connected(lab)
    await lab_client.add_fault(FaultRequest({"name": "third", "from": "34%", "to": "*", "block": True}, 60.0))
    assert len(lab.network.statuses()[0].nodes) == 1
    await lab_client.patch_spec({"spec": {"nodes": 6}})
    victims = lab.network.statuses()[0].nodes
    assert len(victims) == 2
    assert all(lab.backend.networks[node].paths for node in victims)
    await lab_client.patch_spec({"spec": {"nodes": 1}})
    [status] = (await lab_client.faults()).faults
    assert status.state == "failed"
    assert "is nobody" in status.detail
    assert "fault third: from: 34% of 1 nodes" in condition(await lab_client.summary(), "Degraded").message
    await lab_client.patch_spec({"spec": {"nodes": 3}})
    assert lab.network.statuses()[0].state in ("waiting", "active")


async def test_an_edit_that_fails_leaves_the_network_as_it_was(lab, lab_client):
    await connected(lab)
    plan = lab.network.plan
    with pytest.raises(ProblemError):
        await lab_client.patch_spec({"spec": {"faults": [{"name": "x", "from": "group=none", "block": True}]}})
    assert lab.network.plan is plan


async def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs_a_fault(lab, lab_client, monkeypatch):
    await connected(lab)
    await lab_client.add_fault(FaultRequest(CUT, 60.0))
    wall = time.time
    for step_s in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda: wall() + step_s)  # noqa: B023
        assert lab.network.book.next_s() - asyncio.get_running_loop().time() == pytest.approx(60.0, abs=30.0)
        [status] = (await lab_client.faults()).faults
        assert status.state == "active"


# --- nodes ---


async def test_a_node_that_is_kept_dead_is_told_of_and_is_back_afterwards(lab, lab_client, nodes):
    await connected(lab)
    status = await lab_client.add_fault(FaultRequest({"name": "two-die", "from": "node-1", "kill": True, "for": "60s"}))
    assert status.state == "active"
    assert lab.backend.acts == [("node-1", "hold")]
    assert lab.backend.whys == ["fault two-die"]
    member = lab.member("node-1")
    assert member.state == "stopped"
    assert member.detail.startswith("killed as ordered (fault two-die), back in ")
    degraded = condition(await lab_client.summary(), "Degraded")
    assert degraded.reason == "Faults"
    assert "node-1 killed as ordered (fault two-die), back in" in degraded.message
    progressing = condition(await lab_client.summary(), "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "Faults")
    with pytest.raises(ProblemError, match="node-1 is kept dead by fault two-die: clear that first"):
        await lab_client.node_action("node-1", "restart")
    await lab_client.clear_fault("two-die")
    await until(lambda: lab.backend.acts[-1] == ("node-1", "release"))


async def test_a_paused_node_is_not_resumed_by_hand_and_by_its_end(lab, lab_client):
    await connected(lab)
    await lab_client.add_fault(FaultRequest({"name": "nap", "from": "node-1", "pause": True}, 60.0))
    assert lab.member("node-1").detail == "paused by fault nap, goes on in 60 s"
    with pytest.raises(ProblemError, match="node-1 is paused by fault nap"):
        await lab_client.node_action("node-1", "resume")
    await lab_client.clear_fault("nap")
    await until(lambda: lab.backend.acts == [("node-1", "pause"), ("node-1", "resume")])


async def test_a_lab_under_a_lasting_fault_comes_to_rest(lab, lab_client, monkeypatch):
    monkeypatch.setattr("p2pnet.lab.lab.FAULTY_REST_S", 0.1)
    await connected(lab)
    await lab_client.add_fault(FaultRequest({"name": "nap", "from": "node-1", "pause": True}, 60.0))
    await until(lambda: lab.status().nodes.connected < 3)
    await until(lab.settled)


# --- runs ---


async def test_a_run_with_dying_nodes_is_valid_and_judged_by_what_is_known(lab, lab_client, nodes, state):
    await connected(lab)
    nodes.gate.clear()
    run = await lab_client.start_run(request(publisher="node-0", within_s=2.0, expect=["reach >= 95%"]), key="k")
    await until(lambda: nodes.injected)
    await lab_client.add_fault(FaultRequest({"name": "die", "from": "node-1", "kill": True, "for": "60s"}))
    nodes.nodes["node-1"].deaf = True
    nodes.gate.set()
    report = (await ended(lab_client, run)).report
    assert (report.invalid, report.verdict, report.unknown) == ([], "pass", 1)
    assert report.unknown_nodes == ["node-1"]
    assert [(fault.name, fault.state) for fault in report.faults] == [("die", "active")]
    file, again = archive.read_run(state, run.run)
    assert file.faults == again.faults == report.faults
    assert report.bytes.sent is None


async def test_what_is_published_after_a_node_died_is_a_known_miss(lab, lab_client, nodes):
    await connected(lab)
    run = await lab_client.start_run(request(2, publisher="node-0", rate=1.0, within_s=2.0), key="k")
    await until(lambda: nodes.injected)
    await lab_client.add_fault(FaultRequest({"name": "die", "from": "node-1", "kill": True, "for": "60s"}))
    nodes.nodes["node-1"].deaf = True
    report = (await ended(lab_client, run)).report
    assert (report.invalid, report.verdict) == ([], "fail")
    assert (report.reach.expected, report.reach.delivered, report.unknown) == (4, 3, 0)


async def test_a_node_that_is_still_throughout_has_missed_what_it_did_not_get(lab, lab_client, nodes):
    await connected(lab)
    await lab_client.add_fault(FaultRequest({"name": "die", "from": "node-1", "kill": True, "for": "60s"}))
    await lab_client.add_fault(FaultRequest({"name": "nap", "from": "node-2", "pause": True}, 60.0))
    for node in ("node-1", "node-2"):
        nodes.nodes[node].deaf = True
    run = await lab_client.start_run(request(publisher="node-0", within_s=0.3, expect=["reach >= 0%"]), key="k")
    report = (await ended(lab_client, run)).report
    assert (report.invalid, report.verdict, report.unknown) == ([], "pass", 0)
    assert (report.reach.expected, report.reach.delivered) == (2, 0)
    assert report.bytes.sent == 0  # a node that does nothing sends nothing
    assert [fault.name for fault in report.faults] == ["die", "nap"]


async def test_a_death_that_nobody_ordered_is_not_excused_by_one_that_was(lab, lab_client, nodes, monkeypatch):
    monkeypatch.setattr("p2pnet.lab.network.actions.FRESH_S", 0.0)
    await connected(lab)
    nodes.gate.clear()
    run = await lab_client.start_run(request(publisher="node-0", within_s=0.6), key="k")
    await until(lambda: nodes.injected)
    await lab_client.add_fault(FaultRequest({"name": "once", "from": "node-1", "kill": True}))
    lab.backend.states["node-1"] = type(lab.backend.process("node-1"))("restarting")
    lab.backend.on_process("node-1")  # ... and once more, by itself
    nodes.nodes["node-1"].restart()
    lab.backend.states.pop("node-1")
    lab.backend.on_process("node-1")
    nodes.gate.set()
    assert any("node-1" in reason for reason in (await ended(lab_client, run)).report.invalid)


async def test_what_a_dead_publisher_could_not_publish_is_left_out_and_said(lab, lab_client, nodes):
    await connected(lab)
    run = await lab_client.start_run(request(4, publisher="all", rate=10.0, within_s=0.5), key="k")
    await until(lambda: nodes.injected)
    await lab_client.add_fault(FaultRequest({"name": "die", "from": "node-1", "kill": True, "for": "60s"}))
    nodes.nodes["node-1"].deaf = True
    report = (await ended(lab_client, run)).report
    assert report.invalid == []
    assert 8 <= report.artifacts < 12
    left = 12 - report.artifacts
    words = "1 artifact was" if left == 1 else f"{left} artifacts were"
    assert f"{words} not published: node-1 was down, as ordered" in report.notes


async def test_a_fault_on_everybody_works_as_asked_and_the_run_says_what_came_of_it(lab, lab_client, nodes):
    await connected(lab)
    nodes.gate.clear()
    run = await lab_client.start_run(request(publisher="node-0", within_s=0.5), key="k")
    await until(lambda: nodes.injected)
    status = await lab_client.add_fault(FaultRequest({"name": "all", "from": "*", "kill": True, "for": "60s"}))
    assert status.nodes == ["node-0", "node-1", "node-2"]
    assert {member.state for member in (await lab_client.summary()).members} == {"stopped"}
    for node in nodes.nodes.values():
        node.deaf = True
    nodes.gate.set()
    report = (await ended(lab_client, run)).report
    assert report.invalid == ["nothing was measured: every receipt is unknown"]
    assert report.unknown == 2


async def test_a_publisher_that_is_gone_without_an_order_still_makes_the_run_invalid(lab, lab_client, nodes):
    await connected(lab)
    run = await lab_client.start_run(request(4, publisher="node-1", rate=10.0, within_s=0.5), key="k")
    await until(lambda: nodes.injected)
    nodes.nodes["node-1"].silent = True
    report = (await ended(lab_client, run)).report
    assert any("not everything could be published" in reason for reason in report.invalid)


async def test_a_lease_that_lapses_heals_and_ends_the_run_invalid_and_the_next_one_is_not_touched(
    lab, lab_client, nodes
):
    await connected(lab)
    nodes.gate.clear()
    await lab_client.add_fault(FaultRequest(CUT, 1.0))
    running = await lab_client.start_run(request(within_s=30), key="a")
    queued = await lab_client.start_run(request(within_s=30), key="b")
    report = (await ended(lab_client, running)).report
    assert report.invalid[0] == "the lease of fault cut lapsed during the run: nobody renewed it, and it was healed"
    assert [(fault.name, fault.state) for fault in report.faults] == [("cut", "ended")]
    assert not nodes.nodes["node-0"].network.network.paths
    nodes.gate.set()
    report = (await ended(lab_client, queued)).report
    assert (report.verdict, report.faults) == ("pass", [])
    with pytest.raises(ProblemError, match="its lease lapsed") as caught:
        await lab_client.renew_fault("cut", 60.0)
    assert caught.value.status == 404
