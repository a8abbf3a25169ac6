"""A lab as in a pod: everything mounted, real nodes beside it, HTTP behind a token."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest

from p2pnet.desk import Desk, ProblemError
from p2pnet.desk.http import Wire
from p2pnet.lab.pod import Mounts, PodGround
from p2pnet.model.config import NodeConfig, write_node_config
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.jobs import TOKEN_HEADER, Payload, RunRequest
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.trust import Authority, Identity

UP_S = 40.0
NAMESPACE = "lab-7"
TOKEN = "a" * 64


class Pods:
    """What an operator would have made for three nodes, and the processes of it."""

    def __init__(self, root: Path, nodes: int = 3) -> None:
        self.root = root
        self.mounts = Mounts(root / "etc")
        self.now = datetime.now(UTC)
        self.authority = Authority.create("demo", now=self.now, ttl=timedelta(days=1))
        self.ports = [free_port() for _ in range(nodes)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for folder in (self.mounts.members, self.mounts.document, self.mounts.token):
            folder.parent.mkdir(parents=True, exist_ok=True)
        self.write_members(self.membership(1))
        self.write_document()
        self.mounts.token.write_text(TOKEN + "\n")
        self.issue_lab()

    def uri(self, index: int) -> str:
        return member_uri("p2pnet", NAMESPACE, "demo", f"node-{index}")

    def membership(self, version: int, *, removed: tuple[int, ...] = ()) -> Membership:
        members = [
            Member(f"node-{index}", self.uri(index), [f"localhost:{port}"])
            for index, port in enumerate(self.ports)
            if index not in removed
        ]
        return Membership(Registry(version, members, [Removed(self.uri(index), version) for index in removed]))

    def write_members(self, membership: Membership) -> None:
        self.mounts.members.write_bytes(msgspec.json.encode(membership))

    def write_document(self, **spec: object) -> None:
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}
        spec = {"nodes": len(self.ports), **spec}
        self.mounts.document.write_text(json.dumps({**document, "spec": spec}))

    def issue_lab(self, uri: str = "") -> None:
        uri = uri or lab_uri("p2pnet", NAMESPACE, "demo")
        leaf = self.authority.issue(uri, now=self.now, ttl=timedelta(hours=1))
        Identity.of(leaf, self.authority.certificate_pem).write(self.mounts.identity)

    def start_node(self, index: int) -> None:
        folder = self.root / f"node-{index}"
        folder.mkdir()
        leaf = self.authority.issue(self.uri(index), now=self.now, ttl=timedelta(hours=1))
        Identity.of(leaf, self.authority.certificate_pem).write(folder / "identity")
        config = NodeConfig(
            name=f"node-{index}", subnet="demo", namespace=NAMESPACE, host="127.0.0.1", port=self.ports[index],
            members_file=str(self.mounts.members),
        )  # fmt: skip
        write_node_config(folder / "node.json", config)
        self._start(f"node-{index}", "p2pnet.node", str(folder / "node.json"))

    def start_lab(self) -> int:
        port = free_port(socket.SOCK_STREAM)
        self._start("lab", "p2pnet.lab", "--pod", "--mounts", str(self.mounts.root), "--listen", f"127.0.0.1:{port}")
        return port

    def _start(self, name: str, module: str, *words: str) -> None:
        environment = os.environ | {
            "P2PNET_STATE": str(self.root / "state"), "P2PNET_SUBNET": "demo", "P2PNET_NAMESPACE": NAMESPACE,
        }  # fmt: skip
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self, name: str = "lab") -> str:
        return (self.root / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    pods = Pods(tmp_path)
    yield pods
    pods.end()


@contextlib.asynccontextmanager
async def desk_at(port: int, token: str = TOKEN) -> AsyncIterator[Desk]:
    async with Desk(Wire(aiohttp.TCPConnector(), f"http://127.0.0.1:{port}", "the lab", {TOKEN_HEADER: token})) as desk:
        yield desk


async def until_answers(pods: Pods, port: int) -> None:
    deadline = time.monotonic() + UP_S
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200
                    return
            assert time.monotonic() < deadline, pods.log()
            assert pods.processes["lab"].poll() is None, pods.log()
            await asyncio.sleep(0.05)


async def until_connected(desk: Desk, nodes: int, pods: Pods) -> None:
    deadline = time.monotonic() + UP_S
    while (status := await desk.summary()).nodes.connected != nodes or status.nodes.desired != nodes:
        assert time.monotonic() < deadline, (status, pods.log())
        await asyncio.sleep(0.1)


async def test_a_lab_in_a_pod_finds_nodes_by_name_runs_and_takes_newer_members(pods: Pods):
    for index in range(3):
        pods.start_node(index)
    port = pods.start_lab()
    await until_answers(pods, port)
    async with desk_at(port) as desk:
        await until_connected(desk, 3, pods)
        status = await desk.summary()
        assert (status.target, status.certificates.issued, status.links.up) == ("cluster", 3, 3)
        assert len(status.trusted) == 1
        assert all(member.trusted == status.trusted and member.leaf for member in status.members)

        started = await desk.start_run(RunRequest([Payload("x", size=100_000)], count=3), key="k")
        *_, last = [state async for state in desk.follow(started.run)]
        assert (last.report.verdict, last.report.target, last.report.clock_bound_ms) == ("pass", "cluster", 0)
        copied = b"".join([part async for part in desk.run_file(started.run, "events.ndjson")])
        assert copied.count(b"validated") >= 6
        with pytest.raises(ProblemError, match="no file"):
            _ = [part async for part in desk.run_file(started.run, "../../lab/tls.key")]

        with pytest.raises(ProblemError, match="kubectl delete pod demo-node-2 -n lab-7"):
            await desk.node_action("node-2", "restart")
        with pytest.raises(ProblemError, match="the Subnet object's"):
            await desk.patch_spec({"spec": {"nodes": 4}})

        assert await desk.push_members(pods.membership(2, removed=(2,))) == 2
        await until_connected(desk, 2, pods)
        assert await desk.push_members(pods.membership(1)) == 2  # an older one never overrides

    pods.processes["lab"].send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(pods.processes["lab"].wait, 20) == 0
    assert pods.processes["node-0"].poll() is None  # nodes outlive their lab


async def test_nothing_but_healthz_is_had_without_the_token(pods: Pods):
    port = pods.start_lab()
    await until_answers(pods, port)
    for token in ("", TOKEN[:-1], TOKEN + "a", "é"):
        async with desk_at(port, token) as desk:
            with pytest.raises(ProblemError) as caught:
                await desk.summary()
            assert (caught.value.status, caught.value.exit_code) == (401, 3)
            assert "X-P2pnet-Token" in str(caught.value)
    pods.mounts.token.write_text("b" * 64)
    async with desk_at(port, "b" * 64) as desk:
        assert (await desk.summary()).nodes.desired == 3
        pods.mounts.token.unlink()
        with pytest.raises(ProblemError):
            await desk.summary()
    async with aiohttp.ClientSession() as session:
        pods.mounts.token.write_text(TOKEN)
        big = session.post(
            f"http://127.0.0.1:{port}/v1/members", data=io.BytesIO(bytes(9 << 20)), headers={TOKEN_HEADER: TOKEN}
        )
        async with big as answer:
            assert answer.status == 413


async def test_a_lab_whose_mounts_do_not_fit_says_so_and_ends(pods: Pods):
    pods.issue_lab(lab_uri("p2pnet", "elsewhere", "demo"))
    pods.start_lab()
    assert await asyncio.to_thread(pods.processes["lab"].wait, UP_S) == 2
    assert "this lab is spiffe://p2pnet/ns/lab-7/subnet/demo/lab" in pods.log()


async def test_changed_files_are_taken_when_they_fit_and_told_when_they_do_not(pods: Pods):
    ground = PodGround(pods.mounts, NAMESPACE)
    await ground.start()
    assert ground.version == 1
    await ground.renew(pods.now)
    assert ground.version == 1
    pods.issue_lab()
    pods.write_members(pods.membership(5, removed=(1,)))
    pods.write_document(seed=7)
    await ground.renew(pods.now)
    assert (ground.version, ground.membership.registry.version, ground.subnet.spec.seed) == (2, 5, 7)
    assert ground.groups() == {"node-0": "node", "node-2": "node"}
    held = ground.current
    pods.issue_lab(lab_uri("p2pnet", "elsewhere", "demo"))
    pods.mounts.members.write_text("{")
    with pytest.raises(SpecError, match="this lab is"):
        await ground.renew(pods.now)
    assert ground.current is held
    assert ground.membership.registry.version == 5
    with pytest.raises(SpecError, match="force-renew"):
        await ground.renew(pods.now, everything=True)
