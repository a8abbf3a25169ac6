"""What a pod's agent lets the lab do with the pod's processes, with real ones."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.node.kit import Bench, until, until_gone
from tests.patience import PATIENCE_S
from tests.running import is_running
from tests.supervisor.podkit import PodProcess, pod_of

from p2pnet.model.agent import (
    ROUTE_ACT,
    ROUTE_PROCESSES,
    Action,
    AgentReply,
    NodeProcess,
    ProcessAction,
    Processes,
    ProcessesRequest,
)
from p2pnet.model.control import ControlRefusal
from p2pnet.model.ids import lab_uri
from p2pnet.quic import Connection, HandshakeFailed
from p2pnet.supervisor import pod_health

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pods are Linux")


class LabClient:
    """The lab's end of a connection with an agent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seen = Processes("", [])

    async def ask(self, route: bytes, request: msgspec.Struct | bytes) -> AgentReply:
        payload = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
        reply = await self.connection.request(route, payload, timeout_s=PATIENCE_S)
        return msgspec.msgpack.decode(reply.payload, type=AgentReply)

    async def act(self, name: str, action: Action, lease_s: float = 0.0) -> dict[str, NodeProcess]:
        return self._take(await self.ask(ROUTE_ACT, ProcessAction(name, action, lease_s, "fault x")))

    async def until(self, test: Callable[[dict[str, NodeProcess]], bool]) -> dict[str, NodeProcess]:
        """The processes once they are like this, told as they change."""
        async with asyncio.timeout(PATIENCE_S):
            nodes = self._take(await self.ask(ROUTE_PROCESSES, ProcessesRequest()))
            while not test(nodes):
                nodes = self._take(await self.ask(ROUTE_PROCESSES, ProcessesRequest(self.seen.version, 10_000)))
        return nodes

    async def refused(self, route: bytes, request: msgspec.Struct | bytes) -> str:
        reply = await self.ask(route, request)
        assert isinstance(reply, ControlRefusal)
        return reply.message

    def _take(self, reply: AgentReply) -> dict[str, NodeProcess]:
        assert isinstance(reply, Processes), reply
        self.seen = reply
        return {node.name: node for node in reply.nodes}


async def lab_of(bench: Bench, pod: PodProcess) -> LabClient:
    endpoint = await bench.endpoint(bench.subnet.lab_identity())
    uri = bench.subnet.uri(pod.names[0])
    return LabClient(await endpoint.connect(("127.0.0.1", pod.agent_port), expect=uri, new=True))


@asynccontextmanager
async def pod_and_lab(bench: Bench, root: Path, *names: str) -> AsyncIterator[tuple[PodProcess, LabClient]]:
    async with pod_of(bench, root, *names) as pod:
        yield pod, await lab_of(bench, pod)


async def test_a_paused_node_stops_without_harm_to_its_pod_and_continues_when_resumed(
    bench: Bench, tmp_path: Path
) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (pod, lab):
        pid = (await bench.peers("node-0")).pid
        assert (await lab.act("node-0", "pause"))["node-0"].state == "paused"
        await until(lambda: is_stopped(pid), "the process is stopped")
        assert await pod.says("/healthz", 200)
        assert await pod.says("/readyz", 503)
        resumed = (await lab.act("node-0", "resume"))["node-0"]
        assert (resumed.state, resumed.restarts) == ("running", 0)
        assert (await bench.peers("node-0")).pid == pid
        await pod.until_says("/readyz", 200)
        assert await pod.end() == 0
        assert b'"event":"paused","name":"node-0"' in pod.out


async def test_a_killed_node_comes_back_and_is_counted(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (_pod, lab):
        pid = (await bench.peers("node-0")).pid
        await lab.act("node-0", "pause")  # a stopped process can be killed too
        await lab.act("node-0", "kill")
        killed = await lab.until(lambda nodes: nodes["node-0"].restarts == 1)
        assert killed["node-0"].state in ("restarting", "starting", "running")
        await lab.until(lambda nodes: nodes["node-0"].state == "running")
        bench.forget("node-0")
        assert (await bench.peers("node-0")).pid != pid
        assert not is_running(pid)


async def test_a_node_that_is_held_is_no_harm_to_its_pod_and_comes_back_when_its_lab_is_gone(
    bench: Bench, tmp_path: Path
) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (pod, lab):
        pid = (await bench.peers("node-0")).pid
        await lab.act("node-0", "hold", 3.0)
        held = (await lab.until(lambda nodes: nodes["node-0"].state == "stopped"))["node-0"]
        assert (held.detail, held.restarts) == ("killed as ordered (fault x)", 0)
        assert not is_running(pid)
        assert await pod.says("/healthz", 200)
        assert (await pod_health.ask(pod.page, "/readyz"))[1] == "node-0: it is kept dead\n"
        lab.connection.close(0, "the lab dies")
        await pod.until_says("/readyz", 200)
        back = (await (await lab_of(bench, pod)).until(lambda _: True))["node-0"]
        assert (back.state, back.restarts, back.starts) == ("running", 1, 2)
        assert back.ending == "ended with signal 9 (SIGKILL), as ordered (fault x)"


async def test_a_restart_is_in_good_order_and_at_once(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (pod, lab):
        await lab.act("node-0", "restart")
        await lab.until(lambda nodes: nodes["node-0"].starts == 2 and nodes["node-0"].state == "running")
        assert await pod.end() == 0
        assert b'"code":0,"restarts":1,"restart_in_s":0.0' in pod.out


async def test_a_kill_and_a_pause_hit_all_nodes_of_a_packed_pod(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0", "node-1") as (_pod, lab):
        paused = await lab.act("node-1", "pause")
        assert {node.state for node in paused.values()} == {"paused"}
        await lab.act("node-0", "kill")
        back = await lab.until(lambda nodes: all(node.state == "running" for node in nodes.values()))
        assert [node.restarts for node in back.values()] == [1, 1]


async def test_a_agent_that_dies_comes_back_and_knows_the_processes(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (pod, lab):
        node = (await bench.peers("node-0")).pid
        await lab.act("node-0", "pause")
        [agent] = children(pod.process.pid) - {node}
        os.kill(agent, signal.SIGKILL)
        await until(lambda: pod.says("/healthz", 200), "the page is back")
        fresh = await lab_of(bench, pod)
        assert (await fresh.until(lambda _: True))["node-0"].state == "paused"
        assert (await fresh.act("node-0", "resume"))["node-0"].state == "running"
        assert await pod.end() == 0
        assert b'"event":"agent-exited"' in pod.out
        await until_gone([node])


async def test_nothing_outlives_a_killed_launcher(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (pod, lab):
        await lab.act("node-0", "pause")
        left = children(pod.process.pid)
        assert len(left) == 2
        pod.process.kill()
        await until_gone(left)
        await pod.process.communicate()


@pytest.mark.parametrize("name", ["node-0", "node-9"])
async def test_only_the_subnets_lab_is_admitted(bench: Bench, tmp_path: Path, name: str) -> None:
    async with pod_of(bench, tmp_path, "node-0") as pod:
        for uri in (bench.subnet.uri(name), lab_uri("p2pnet", "local", "other"), lab_uri("p2pnet", "other", "demo")):
            endpoint = await bench.endpoint(bench.subnet.identity(uri))
            with pytest.raises(HandshakeFailed, match="is not admitted"):
                await endpoint.connect(("127.0.0.1", pod.agent_port))


async def test_what_cannot_be_done_is_refused_with_a_reason(bench: Bench, tmp_path: Path) -> None:
    async with pod_and_lab(bench, tmp_path, "node-0") as (_pod, lab):
        assert "no node 'node-7'" in await lab.refused(ROUTE_ACT, ProcessAction("node-7", "kill"))
        assert "not a ProcessAction" in await lab.refused(
            ROUTE_ACT, msgspec.msgpack.encode({"name": "node-0", "action": "quit"})
        )
        for bad in (ProcessAction("node-0", "hold", -1.0), ProcessAction("node-0", "kill", 0.0, "x" * 101)):
            assert "a lease of 0 to" in await lab.refused(ROUTE_ACT, bad)
        assert "not a ProcessAction" in await lab.refused(ROUTE_ACT, b"\xc1")
        assert "not a ProcessesRequest" in await lab.refused(ROUTE_PROCESSES, b"x")
        assert "no such route" in await lab.refused(b"/control/inject", b"")


async def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
