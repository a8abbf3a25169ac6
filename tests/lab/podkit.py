"""What an operator makes for a lab in a pod, and the processes of it, on this machine."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
from tests.patience import PATIENCE_S
from tests.ports import free_port, ports_in_a_row

from p2pnet.lab.backends.pod import Mounts
from p2pnet.lab_client import LabClient
from p2pnet.lab_client.aio import AioWire
from p2pnet.model.config import NodeConfig, write_node_config
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.jobs import TOKEN_HEADER
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.model.text import address_text
from p2pnet.trust import Authority, Identity

UP_S = PATIENCE_S
NAMESPACE = "lab-7"
TOKEN = "a" * 64


class Pods:
    """What an operator would have made for three nodes, and the processes of it."""

    def __init__(self, root: Path, nodes: int = 3, per_pod: int = 1, *, host: str = "127.0.0.1", at: str = "") -> None:
        """`host`: where pods and the lab listen; `at`: how others reach them, `localhost` where nothing is said."""
        self.root = root
        self.host = host
        self.at = at or "localhost"
        self.per_pod = per_pod
        self.mounts = Mounts(root / "etc")
        self.now = datetime.now(UTC)
        self.authority = Authority.create("demo", now=self.now, ttl=timedelta(days=1))
        self.ports = [port for _ in range(0, nodes, per_pod) for port in ports_of_a_pod(per_pod)][:nodes]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.health: dict[int, int] = {}
        """Port of the health page of each pod, by its first node."""
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
            Member(f"node-{index}", self.uri(index), [address_text(self.at, port)])
            for index, port in enumerate(self.ports)
            if index not in removed
        ]
        return Membership(Registry(version, members, [Removed(self.uri(index), version) for index in removed]))

    def write_members(self, membership: Membership) -> None:
        self.mounts.members.write_bytes(msgspec.json.encode(membership))

    def write_document(self, **spec: object) -> None:
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}
        spec = {"nodes": len(self.ports), "nodesPerPod": self.per_pod, **spec}
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
            name=f"node-{index}", subnet="demo", namespace=NAMESPACE, host=self.host, port=self.ports[index],
            members_file=str(self.mounts.members),
        )  # fmt: skip
        write_node_config(folder / "node.json", config)
        self._start(f"node-{index}", "p2pnet.node", str(folder / "node.json"))

    def start_pod(self, first: int) -> None:
        """The pod that holds node `first` and those that follow it there, under its launcher."""
        indices = range(first, min(first + self.per_pod, len(self.ports)))
        folder = self.root / f"pod-{first}"
        for part in ("config", "members", "identity"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "config" / "node.json").write_text(json.dumps({"subnet": "demo", "namespace": NAMESPACE}))
        (folder / "members" / "members.json").write_bytes(self.mounts.members.read_bytes())
        for index in indices:
            leaf = self.authority.issue(self.uri(index), now=self.now, ttl=timedelta(hours=1))
            (folder / "identity" / f"node-{index}.crt").write_bytes(leaf.chain_pem)
            (folder / "identity" / f"node-{index}.key").write_bytes(leaf.key_pem)
        (folder / "identity" / "ca.crt").write_bytes(self.authority.certificate_pem)
        self.health[first] = ports_in_a_row(1 + len(indices))
        words = [
            "--mounts", folder, "--run", folder / "run", "--udp-port", self.ports[first],
            "--health-port", self.health[first],
        ]  # fmt: skip
        members = ",".join(f"node-{index}" for index in indices)
        environment = {"P2PNET_MEMBERS": members, "P2PNET_HOST": self.host}
        self._start(f"pod-{first}", "p2pnet.supervisor.pod", *map(str, words), **environment)

    def start_lab(self) -> int:
        port = free_port()
        self._start(
            "lab", "p2pnet.lab", "--pod", "--mounts", str(self.mounts.root), "--listen", address_text(self.host, port)
        )
        return port

    def _start(self, name: str, module: str, *words: str, **more: str) -> None:
        environment = os.environ | more | {
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


def ports_of_a_pod(nodes: int) -> list[int]:
    """For its nodes; the one below is free too: its agent's."""
    first = ports_in_a_row(1 + nodes)
    return list(range(first + 1, first + 1 + nodes))


@contextlib.asynccontextmanager
async def client_at(port: int, token: str = TOKEN, at: str = "127.0.0.1") -> AsyncIterator[LabClient]:
    async with LabClient(
        AioWire(aiohttp.TCPConnector(), f"http://{address_text(at, port)}", "the lab", {TOKEN_HEADER: token})
    ) as lab_client:
        yield lab_client


async def until_answers(pods: Pods, port: int, at: str = "127.0.0.1") -> None:
    deadline = time.monotonic() + UP_S
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{address_text(at, port)}/healthz") as answer:
                    assert answer.status == 200
                    return
            assert time.monotonic() < deadline, pods.log()
            assert pods.processes["lab"].poll() is None, pods.log()
            await asyncio.sleep(0.05)


async def until_connected(lab_client: LabClient, nodes: int, pods: Pods) -> None:
    deadline = time.monotonic() + UP_S
    while (status := await lab_client.summary()).nodes.connected != nodes or status.nodes.desired != nodes:
        assert time.monotonic() < deadline, (status, pods.log())
        await asyncio.sleep(0.1)
