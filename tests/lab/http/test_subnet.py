"""The subnet's own routes, against fake nodes: summary, edits, actions, logs, events, metrics."""

import asyncio
import json
import stat
import time
from pathlib import Path

import msgspec
import pytest
from tests.patience import PATIENCE_S
from tests.samples import true_rows

from p2pnet.lab.http.subnet import metrics_text
from p2pnet.lab_client import ProblemError
from p2pnet.lab_client.client import wait_until_up
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import Payload, RunRequest
from p2pnet.model.report import RunSummary, Status


async def test_the_summary_counts_what_is_connected(lab_client):
    status = await wait_until_up(lab_client, timeout_s=PATIENCE_S)
    assert isinstance(status, Status)
    assert (status.nodes.desired, status.nodes.connected, status.links.expected, status.links.up) == (3, 3, 3, 3)
    assert status.certificates.issued == 3
    assert [member.state for member in status.members] == ["connected"] * 3
    assert {one.type: one.status for one in status.conditions} == {
        "Ready": "True", "Connected": "True", "CertificatesReady": "True", "Progressing": "False", "Degraded": "False",
    }  # fmt: skip


async def test_an_edit_of_the_size_is_live_and_pushed_and_written(lab_client, lab, nodes, state):
    await wait_until_up(lab_client, timeout_s=PATIENCE_S)
    document = await lab_client.patch_spec({"spec": {"nodes": 5}})
    assert document["spec"]["nodes"] == 5
    assert json.loads(state.subnet("demo").document.read_text()) == document == await lab_client.spec()
    status = await wait_until_up(lab_client, timeout_s=PATIENCE_S)
    assert status.nodes.desired == 5
    await lab_client.patch_spec({**document, "spec": {"nodes": 2}})
    assert lab.backend.retired == {"node-2", "node-3", "node-4"}
    membership = await lab_client.members()
    assert [member.name for member in membership.registry.members] == ["node-0", "node-1"]
    assert len(membership.registry.removed) == 3
    while nodes.nodes["node-0"].version != membership.registry.version:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": {"seed": 1}}, "spec.seed"),
        ({"spec": {"identity": {"trustDomain": "x"}}}, "spec.identity.trustDomain"),
        ({"spec": {"broadcast": {"relay": "push"}}}, "spec.broadcast"),
        ({"spec": {"nodes": 0}}, "spec.nodes"),
        ({"spec": {"nodez": 2}}, "did you mean"),
        ({"metadata": {"name": "other"}}, "metadata.name"),
    ],
)
async def test_an_edit_that_is_not_live_is_refused_by_its_path(lab_client, change, words):
    with pytest.raises(ProblemError, match=words) as caught:
        await lab_client.patch_spec(change)
    assert caught.value.exit_code == 2


async def test_actions_reach_the_ground_and_unknown_ones_do_not(lab_client, lab):
    for action in ("restart", "kill", "pause", "resume"):
        await lab_client.node_action("node-1", action)
    assert [action for _, action in lab.backend.acts] == ["restart", "kill", "pause", "resume"]
    with pytest.raises(ProblemError):
        await lab_client.node_action("node-1", "explode")


async def test_logs_are_merged_filtered_and_followed(lab_client, lab, tmp_path):
    for name, stamps in (("node-0", (1, 4)), ("node-1", (2, 3))):
        lab.backend.logs[name] = tmp_path / f"{name}.log"
        lab.backend.logs[name].write_text("".join(f"2026-11-21 10:00:0{s},000 INFO x: line {s}\n" for s in stamps))
    lines = [line async for line in lab_client.logs()]
    assert [line.line[-1] for line in lines] == ["1", "2", "3", "4"]
    assert [line.line[-1] async for line in lab_client.logs(tail=2)] == ["3", "4"]
    assert [line.line[-1] async for line in lab_client.logs(node="node-1", grep="line [34]")] == ["3"]
    both = lab_client.logs(node="node-1,node-0", grep=r"Z INFO node-\d x: line [34]$")
    assert [line.line[-1] async for line in both] == ["3", "4"]
    with pytest.raises(ProblemError, match="there is no node 'node-7'"):
        [line async for line in lab_client.logs(node="node-1,node-7")]
    with pytest.raises(ProblemError, match="regular expression"):
        [line async for line in lab_client.logs(grep="(")]
    follower = lab_client.logs(tail=1, follow=True)
    assert (await anext(follower)).line.endswith("4")
    await asyncio.sleep(0.05)
    with lab.backend.logs["node-0"].open("a") as file:
        file.write("2026-11-21 10:00:09,000 INFO x: line 9\n")
    assert (await asyncio.wait_for(anext(follower), PATIENCE_S)).line.endswith("9")
    await follower.aclose()


async def test_the_events_of_an_artifact_are_filtered_like_lines(lab_client):
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)], publisher="node-0"), key="k")
    state = [one async for one in lab_client.follow(started.run)][-1]
    [artifact] = state.report.artifact_ids

    async def told(**query) -> list[tuple[str, str]]:
        found = lab_client.logs(artifact=artifact[:12], **query)
        return [(line.node, line.line.split()[1]) async for line in found]

    every = await told()
    assert len(every) == 6
    assert await told(node="node-0") == [("node-0", "published"), ("node-0", "validated")]
    assert await told(node="node-0,node-1") == [one for one in every if one[0] != "node-2"]
    assert await told(grep="^[^ ]+Z INFO node-2 event received") == [("node-2", "received")]
    assert await told(since=time.time() + 60) == []
    assert await told(tail=2) == every[-2:]


async def test_events_of_an_artifact_are_followed_and_none_is_told_twice(lab_client, lab, nodes):
    nodes.gate.clear()
    request = RunRequest([Payload("x", size=1)], publisher="node-0", within_s=PATIENCE_S)
    started = await lab_client.start_run(request, key="k")
    async with asyncio.timeout(PATIENCE_S):
        while not (artifacts := lab.runs.get(started.run).file.artifacts):
            await asyncio.sleep(0.01)
        while len(lab.collector.of_artifact(artifacts[0])) < 2:
            await asyncio.sleep(0.01)
    follower = lab_client.logs(artifact=artifacts[0], follow=True)
    told = [(line.node, line.line.split()[1]) for line in [await anext(follower), await anext(follower)]]
    assert told == [("node-0", "published"), ("node-0", "validated")]
    nodes.gate.set()
    async with asyncio.timeout(PATIENCE_S):
        fresh = [(line.node, line.line.split()[1]) for line in [await anext(follower) for _ in range(4)]]
    assert sorted(fresh) == [(node, kind) for node in ("node-1", "node-2") for kind in ("received", "validated")]
    await follower.aclose()


async def test_events_stream_from_a_cursor(lab_client):
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)], count=2), key="k")
    state = [one async for one in lab_client.follow(started.run)][-1]
    events = lab_client.events()
    seen = [await anext(events) for _ in range(8)]
    await events.aclose()
    assert {event.artifact for event in seen} == set(state.report.artifact_ids)


async def test_events_of_some_kinds_are_streamed_alone_and_unknown_kinds_are_refused(lab_client):
    started = await lab_client.start_run(RunRequest([Payload("x", size=1)], count=2), key="k")
    assert [one async for one in lab_client.follow(started.run)][-1].report.reach.ratio == 1
    asked = {EventKind.PUBLISHED, EventKind.VALIDATED}
    every, events = lab_client.events(), lab_client.events(kinds=asked)
    told = [await anext(every) for _ in range(8)]
    wanted = [event for event in told if event.kind in asked]
    assert [await anext(events) for _ in wanted] == wanted
    await events.aclose()
    await every.aclose()
    with pytest.raises(ProblemError, match="kinds"):
        await anext(lab_client.events(kinds=["nothing"]))


async def test_metrics_are_for_prometheus(lab_client, lab):
    await wait_until_up(lab_client, timeout_s=PATIENCE_S)
    async with lab_client.wire.open("GET", "/v1/metrics") as response:
        text = (await response.read()).decode()
    assert 'p2pnet_lab_links{state="up"} 3.0' in text
    assert 'p2pnet_lab_faults{state="active"} 0.0' in text
    assert "p2pnet_lab_network_in_force{" not in text  # nothing is shaped


async def test_metrics_tell_the_network_by_rule(lab):
    rows = true_rows()
    text = metrics_text(msgspec.structs.replace(lab.status(), network=rows)).decode()
    for row in rows:
        if not row.worst:
            assert f'p2pnet_lab_network_in_force{{rule="{row.rule}"}} {float(row.ok)}' in text
    assert 'figure="delay_ms"' in text
    assert text.count("p2pnet_lab_network_in_force{") == sum(not row.worst for row in rows)


async def test_metrics_tell_what_the_last_run_that_ended_has_found(lab):
    assert "\np2pnet_lab_last_run_reach_ratio " not in metrics_text(lab.status()).decode(), "there was none"
    runs = [
        RunSummary("r-1", "finished", "fail", artifacts=3, reach=0.5, p95_ms=20.0),
        RunSummary("r-2", "finished", "pass", artifacts=2, reach=0.75, p95_ms=1500.0),
        RunSummary("r-3", "running", artifacts=9),
    ]
    text = metrics_text(msgspec.structs.replace(lab.status(), runs=runs)).decode()
    for line in (
        "p2pnet_lab_last_run_reach_ratio 0.75", "p2pnet_lab_last_run_p95_seconds 1.5", "p2pnet_lab_last_run_artifacts 2.0",
        'p2pnet_lab_run_verdicts{verdict="fail"} 1.0', 'p2pnet_lab_run_verdicts{verdict="invalid"} 0.0',
        'p2pnet_lab_runs{state="running"} 1.0',
    ):  # fmt: skip
        assert f"\n{line}\n" in text


async def test_unknown_routes_and_broken_bodies_are_problems(lab_client):
    for method, path, data in (("GET", "/v1/nothing", None), ("POST", "/v1/runs", b"{"), ("POST", "/v1/runs", b"\xff")):
        with pytest.raises(ProblemError) as caught:
            await lab_client.wire.ask(method, path, dict, data=data)
        assert caught.value.exit_code == 2


async def test_a_bug_of_ours_is_exit_70(lab_client, lab, monkeypatch, caplog):
    monkeypatch.setattr(lab, "status", lambda: 1 / 0)
    with pytest.raises(ProblemError) as caught:
        await lab_client.summary()
    assert caught.value.exit_code == 70


async def test_the_socket_is_its_owners_alone(lab_client, lab):
    socket = Path(lab_client.wire.path)
    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert not (socket.stat().st_mode | socket.parent.stat().st_mode) & 0o077
