"""Killing, pausing, resuming and restarting nodes in pods through the lab, with real pods' processes."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.lab.podkit import UP_S, Pods, client_at, until_answers, until_connected

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.jobs import FaultRequest
from p2pnet.model.report import MemberStatus

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pods are Linux")

Members = dict[str, MemberStatus]


@asynccontextmanager
async def desk_over(pods: Pods) -> AsyncIterator[LabClient]:
    """A lab_client at the lab of a connected subnet."""
    try:
        for first in range(0, len(pods.ports), pods.per_pod):
            pods.start_pod(first)
        port = pods.start_lab()
        await until_answers(pods, port)
        async with client_at(port) as lab_client:
            await until_connected(lab_client, len(pods.ports), pods)
            yield lab_client
    finally:
        pods.end()


async def until(lab_client: LabClient, pods: Pods, test: Callable[[Members], bool]) -> Members:
    deadline = time.monotonic() + UP_S
    while not test(members := {one.name: one for one in (await lab_client.summary()).members}):
        assert time.monotonic() < deadline, (members, pods.log())
        await asyncio.sleep(0.05)
    return members


async def test_a_node_in_a_pod_is_paused_resumed_killed_and_restarted_by_the_lab(tmp_path: Path) -> None:
    pods = Pods(tmp_path, nodes=2)
    async with desk_over(pods) as lab_client:
        paused = await lab_client.node_action("node-1", "pause")
        assert (paused.state, paused.pid) == ("paused", None)
        status = await lab_client.summary()
        assert [one.message for one in status.conditions if one.type == "Degraded"] == ["node-1 paused"]
        assert (await lab_client.node_action("node-1", "resume")).state != "paused"
        await until_connected(lab_client, 2, pods)

        await lab_client.node_action("node-1", "kill")
        await until(lab_client, pods, lambda members: members["node-1"].restarts == 1)
        await until_connected(lab_client, 2, pods)
        await lab_client.node_action("node-0", "restart")
        await until(lab_client, pods, lambda members: members["node-0"].restarts == 1)
        await until_connected(lab_client, 2, pods)
        with pytest.raises(ProblemError, match="no node 'node-7'"):
            await lab_client.node_action("node-7", "kill")


async def test_nodes_in_pods_are_told_their_network_and_are_dead_and_paused_while_faults_want_it(
    tmp_path: Path,
) -> None:
    pods = Pods(tmp_path, nodes=2)
    async with desk_over(pods) as lab_client:
        for pod in ("pod-0", "pod-1"):  # nothing is shaped, and that is what they waited for
            assert "no network from the lab" not in pods.log(pod)
        document = await lab_client.spec()
        document["spec"]["network"] = {"default": {"latency": "20ms"}}
        document["spec"]["faults"] = [{"name": "nap", "from": "node-0", "pause": True}]
        await lab_client.put_spec(document)
        members = await until(lab_client, pods, lambda members: members["node-0"].state == "paused")
        assert members["node-0"].detail == "paused by fault nap"
        assert "1 paths shaped" in pods.log("pod-1")
        with pytest.raises(ProblemError, match="stands in the Subnet object"):
            await lab_client.clear_fault("nap")
        await lab_client.put_spec({**document, "spec": {**document["spec"], "faults": []}})
        await until_connected(lab_client, 2, pods)

        died = await lab_client.add_fault(FaultRequest({"name": "die", "from": "node-1", "kill": True, "for": "60s"}))
        assert died.nodes == ["node-1"]
        members = await until(lab_client, pods, lambda members: members["node-1"].state == "stopped")
        assert members["node-1"].detail.startswith("killed as ordered (fault die), back in ")
        await lab_client.clear_fault("die")
        await until_connected(lab_client, 2, pods)
        assert pods.log("pod-1").count("1 paths shaped") == 2  # the new process was told, too


async def test_a_node_that_dies_by_itself_is_counted_too(tmp_path: Path) -> None:
    pods = Pods(tmp_path, nodes=2)
    async with desk_over(pods) as lab_client:
        os.kill(node_process(pods, 0), signal.SIGKILL)
        await until(lab_client, pods, lambda members: members["node-0"].restarts == 1)
        await until_connected(lab_client, 2, pods)


async def test_a_node_in_a_pod_that_somebody_stops_is_not_called_paused(tmp_path: Path) -> None:
    pods = Pods(tmp_path, nodes=2)
    async with desk_over(pods) as lab_client:
        node = node_process(pods, 0)
        os.kill(node, signal.SIGSTOP)
        members = await until(lab_client, pods, lambda members: "SIGSTOP" in members["node-0"].detail)
        assert members["node-0"].state == "unknown"
        assert members["node-1"].detail == ""
        os.kill(node, signal.SIGCONT)
        await until_connected(lab_client, 2, pods)
        os.kill(node, signal.SIGKILL)
        await until(lab_client, pods, lambda members: members["node-0"].restarts == 1)
        await until_connected(lab_client, 2, pods)
        written = [(line.level, line.line) for line in [line async for line in lab_client.logs(node="node-0")]]
        for words in (
            "is stopped by SIGSTOP, which nobody here ordered",
            "ended with signal 9 (SIGKILL), which nobody",
        ):
            assert any(level == "WARNING" and words in line for level, line in written), written


async def test_a_pause_hits_all_nodes_of_a_packed_pod_and_no_other(tmp_path: Path) -> None:
    pods = Pods(tmp_path, nodes=3, per_pod=2)
    async with desk_over(pods) as lab_client:
        await lab_client.node_action("node-1", "pause")
        members = {one.name: one.state for one in (await lab_client.summary()).members}
        assert (members["node-0"], members["node-1"]) == ("paused", "paused")
        assert members["node-2"] != "paused"
        await lab_client.node_action("node-0", "kill")
        back = await until(lab_client, pods, lambda members: members["node-0"].restarts == 1)
        assert [back[name].restarts for name in ("node-0", "node-1", "node-2")] == [1, 1, 0]
        await until_connected(lab_client, 3, pods)


async def test_a_pod_that_does_not_answer_is_named_with_the_command_that_helps(tmp_path: Path) -> None:
    pods = Pods(tmp_path, nodes=2)
    async with desk_over(pods) as lab_client:
        pods.processes["pod-1"].kill()
        pods.processes["pod-1"].wait()
        with pytest.raises(ProblemError, match="its pod demo-node-1 does not answer") as caught:
            await lab_client.node_action("node-1", "restart")
        assert caught.value.exit_code == 3
        assert "kubectl get pod demo-node-1 -n lab-7" in caught.value.hint


def node_process(pods: Pods, index: int) -> int:
    """The process of a pod's first node."""
    launcher = pods.processes[f"pod-{index}"].pid
    words = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    udp = f":{pods.ports[index]:04X} "
    [node] = [int(word) for word in words if holds(int(word), udp)]
    return node


def holds(pid: int, udp: str) -> bool:
    """Whether a process has this UDP port's socket; a pod's agent has another."""
    inodes = {line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines() if udp in line}
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return any(f"socket:[{inode}]" in links for inode in inodes)
