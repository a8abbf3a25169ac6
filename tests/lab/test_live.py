"""A real lab with a real supervisor and real nodes, from the outside: as the command line sees it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from tests.patience import PATIENCE_S

from p2pnet.lab_client import LabClient
from p2pnet.lab_client.client import wait_until_up
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Payload, RunRequest, RunState
from p2pnet.store import State, archive
from p2pnet.trust import Identity


class Live:
    """One lab process and its state directory."""

    def __init__(self, root: Path, **spec: object) -> None:
        self.state = State(root)
        self.paths = self.state.subnet("demo").make()
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
        self.paths.document.write_text(json.dumps(document))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.paths.lab_log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pnet.lab", "--state", str(self.state.root), "--name", "demo"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lab_client(self) -> AsyncIterator[LabClient]:
        deadline = time.monotonic() + PATIENCE_S
        while (record := self.paths.live_lab()) is None or not Path(record.socket).exists():
            assert time.monotonic() < deadline, self.paths.lab_log.read_text()
            assert self.process.poll() is None, self.paths.lab_log.read_text()
            await asyncio.sleep(0.05)
        async with LabClient.unix(record.socket) as lab_client:
            yield lab_client

    async def up(self, lab_client: LabClient) -> None:
        status = await wait_until_up(lab_client, timeout_s=PATIENCE_S)
        assert status is not None, (await lab_client.summary(), self.paths.lab_log.read_text())

    def family(self) -> list[psutil.Process]:
        lab = psutil.Process(self.process.pid)
        return [lab, *lab.children(recursive=True)]

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            family = self.family()
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(family, timeout=PATIENCE_S)
        self.paths.socket().unlink(missing_ok=True)  # a killed lab leaves its socket; the next one takes it over


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "state", nodes=3)
    live.start()
    yield live
    live.end()


async def run(lab_client: LabClient, request: RunRequest, key: str) -> RunState:
    started = await lab_client.start_run(request, key=key)
    return [state async for state in lab_client.follow(started.run)][-1]


async def test_three_nodes_take_an_upload_a_burst_and_an_edit_and_stop_in_good_order(live, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(os.urandom(300_000))
    async with live.lab_client() as lab_client:
        await live.up(lab_client)
        sent = await lab_client.upload(photo, "photo.jpg")
        first = await run(lab_client, RunRequest([Payload("photo.jpg", upload=sent)], publisher="node-0"), "a")
        assert (first.report.verdict, first.report.invalid, first.report.reach.delivered) == ("pass", [], 2)
        assert first.report.bytes.sent >= 600_000
        assert first.report.clock_bound_ms == 0

        artifact = first.report.artifact_ids[0]
        got = await lab_client.get(artifact[:10])
        assert got.node != "node-0"
        assert (got.name, got.data) == ("photo.jpg", photo.read_bytes())
        whole, file, events = await lab_client.artifact_events(artifact[:8])
        assert (whole, file.run) == (artifact, first.run)
        assert {event.node for event in events if event.kind == "validated"} >= {"node-1", "node-2"}
        assert events[0].kind == "published"
        assert await lab_client.withdraw(artifact) == 3

        burst = await run(lab_client, RunRequest([Payload("x", size=200)], count=500, seed=1), "b")
        assert burst.report.verdict == "pass", burst.report
        assert burst.report.duplicates_per_delivery == 0

        await lab_client.patch_spec({"spec": {"nodes": 4}})
        await until(lab_client, nodes=4, links=6)
        family = live.family()
        socket = Path(live.paths.read_record().socket)
        assert socket.stat().st_mode & 0o777 == 0o600
        await lab_client.stop()
        assert await asyncio.to_thread(live.process.wait, PATIENCE_S) == 0
    assert not socket.exists()
    assert not live.paths.record.exists()
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    assert archive.read_run(live.state, first.run)[1] == first.report


async def test_killing_the_lab_leaves_nothing_running_and_its_run_is_invalid(live):
    async with live.lab_client() as lab_client:
        await live.up(lab_client)
        await lab_client.node_action("node-2", "pause")
        # With a node that stands still this run cannot end by itself.
        started = await lab_client.start_run(
            RunRequest([Payload("x", size=10)], publisher="node-0", within_s=600), key="k"
        )
        async for state in lab_client.follow(started.run):
            if state.progress.delivered:
                break
        family = live.family()
        assert len(family) == 5
        live.process.kill()
        live.process.wait()
        assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
        with pytest.raises(TargetError) as caught:
            await lab_client.summary()
    assert caught.value.exit_code == 3
    assert live.paths.live_lab() is None
    assert archive.invalidate_open_runs(live.state, "demo", "its lab is gone") == [started.run]
    file, report = archive.read_run(live.state, started.run)
    assert (file.state, report.verdict, report.invalid[0]) == ("finished", "invalid", "its lab is gone")
    assert archive.invalidate_open_runs(live.state, "demo", "its lab is gone") == []


async def test_killed_restarted_paused_and_rotated_nodes_come_back(live):
    async with live.lab_client() as lab_client:
        await live.up(lab_client)
        before = Identity.read(live.paths.node("node-1").identity)
        assert await lab_client.rotate() == ["node-0", "node-1", "node-2"]
        assert Identity.read(live.paths.node("node-1").identity).fingerprint != before.fingerprint
        pid = (await lab_client.node_action("node-1", "kill")).pid
        while (member := (await lab_client.summary()).members[1]).pid in (None, pid):
            await asyncio.sleep(0.05)
        assert member.restarts >= 1
        await until(lab_client, nodes=3, links=3)
        assert (await lab_client.node_action("node-2", "pause")).state == "paused"
        assert (await lab_client.node_action("node-2", "resume")).state != "paused"
        await until(lab_client, nodes=3, links=3)
        after = await run(lab_client, RunRequest([Payload("x", size=10)], publisher="node-1", within_s=10), "k")
        assert (after.report.verdict, after.report.invalid) == ("pass", [])
        lines = [line async for line in lab_client.logs(node="node-1")]
        assert {line.node for line in lines} == {"node-1"}
        os.kill(live.process.pid, signal.SIGTERM)
        assert await asyncio.to_thread(live.process.wait, PATIENCE_S) == 0


@pytest.fixture
def packed(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path / "state", nodes=12, nodesPerPod=4)
    live.start()
    yield live
    live.end()


async def test_packs_share_a_process_die_as_one_come_back_and_grow_and_shrink_without_harm(packed):
    async with packed.lab_client() as lab_client:
        await packed.up(lab_client)
        before = await lab_client.summary()
        assert before.packed
        packs = [{member.pid for member in before.members[first : first + 4]} for first in (0, 4, 8)]
        assert [len(pids) for pids in packs] == [1, 1, 1]
        assert len(set.union(*packs)) == 3
        report = (await run(lab_client, RunRequest([Payload("x", size=5000)], count=5), "a")).report
        assert (report.verdict, report.packed, report.reach.delivered) == ("pass", True, 55)

        await lab_client.node_action("node-5", "pause")
        assert [member.name for member in (await lab_client.summary()).members if member.state == "paused"] == [
            "node-4", "node-5", "node-6", "node-7"
        ]  # fmt: skip
        await lab_client.node_action("node-7", "resume")
        await until(lab_client, nodes=12, links=66)

        await lab_client.node_action("node-5", "kill")
        await restarted(lab_client, {"node-4", "node-5", "node-6", "node-7"})
        await until(lab_client, nodes=12, links=66)
        after = await lab_client.summary()
        assert [member.address for member in after.members] == [member.address for member in before.members]
        assert {member.name for member in after.members if member.restarts} == {"node-4", "node-5", "node-6", "node-7"}

        await lab_client.patch_spec({"spec": {"nodes": 14}})
        await until(lab_client, nodes=14, links=91)
        grown = (await lab_client.summary()).members
        assert grown[12].pid == grown[13].pid not in {member.pid for member in grown[:12]}
        await lab_client.patch_spec({"spec": {"nodes": 10}})
        await until(lab_client, nodes=10, links=45)
        await lab_client.patch_spec({"spec": {"nodes": 11}})
        await until(lab_client, nodes=11, links=55)
        shrunk = (await lab_client.summary()).members
        assert [member.pid for member in shrunk[:10]] == [member.pid for member in after.members[:10]]
        assert shrunk[10].pid == shrunk[9].pid
        family = packed.family()
        assert len(family) == 5
        await lab_client.stop()
        assert await asyncio.to_thread(packed.process.wait, PATIENCE_S) == 0
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


async def restarted(lab_client: LabClient, nodes: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while {member.name for member in (await lab_client.summary()).members if member.restarts} < nodes:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_lab_without_a_document_says_why(tmp_path):
    live = Live(tmp_path / "state", nodes=3)
    live.paths.document.unlink()
    live.start()
    assert await asyncio.to_thread(live.process.wait, PATIENCE_S) == 3
    assert "no subnet demo" in live.paths.read_problem().error


async def until(lab_client: LabClient, *, nodes: int, links: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = await lab_client.summary()
        if (status.nodes.connected, status.links.up) == (nodes, links):
            return
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.05)


async def test_a_run_is_stopped_when_an_expectation_can_hold_no_more(live):
    async with live.lab_client() as lab_client:
        await live.up(lab_client)
        request = RunRequest(
            [Payload("x", size=200)], count=60, rate="20/s for 10m", expect=["p50 <= 0.001ms"], stop_early=True
        )
        ended = (await run(lab_client, request, "a")).report
        assert (ended.verdict, ended.invalid, ended.stopped_early.expr) == ("fail", [], "p50 <= 0.001ms")
        assert ended.stopped_early.artifacts == ended.artifacts < ended.stopped_early.asked == 60
        assert ended.artifacts >= 30  # half of all receipts must be late before it is certain
