"""A node pod as it runs in a cluster, on this machine: everything mounted, its words read."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.node.kit import Bench, until
from tests.ports import ports_in_a_row
from tests.running import is_running

from p2pnet.model.control import ROUTE_NETWORK, NetworkPush
from p2pnet.model.errors import P2pnetError
from p2pnet.model.network import NodeNetwork
from p2pnet.supervisor import pod_health
from p2pnet.trust import Identity


class PodProcess:
    """The launcher of some members; the agent's port is the one below the first member's."""

    def __init__(self, bench: Bench, root: Path, names: Sequence[str]) -> None:
        self.bench = bench
        self.root = root
        self.names = names
        self.agent_port = ports_in_a_row(1 + len(names))
        self.page = ports_in_a_row(1 + len(names))
        for offset, name in enumerate(names, 1):
            bench.subnet.ports[name] = self.agent_port + offset
        self._process: asyncio.subprocess.Process | None = None
        self.out = self.err = b""

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def write(self, **base: Any) -> None:
        """Its mounts; `base` is more of the config that its members share."""
        mounts = self.root / "mounts"
        for folder in ("config", "members", "identity"):
            (mounts / folder).mkdir(parents=True)
        (mounts / "config" / "node.json").write_text(
            json.dumps({"subnet": "demo", "idle_s": 3.0, "await_network": False, **base})
        )
        (mounts / "members" / "members.json").write_bytes(
            msgspec.json.encode(self.bench.subnet.membership(1, self.names))
        )
        for name in self.names:
            write_identity(self.bench.subnet.identity(self.bench.subnet.uri(name)), mounts / "identity", name)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "p2pnet.supervisor.pod", "--mounts", self.root / "mounts", "--run", self.root / "run",
            "--udp-port", str(self.agent_port + 1), "--health-port", str(self.page),
            env=os.environ
            | {"P2PNET_MEMBERS": ",".join(self.names), "P2PNET_HOST": "127.0.0.1", "P2PNET_LOG_FORMAT": "json"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Started and ready, with a lab that tells each node that nothing is shaped; gone afterwards."""
        await self.start()
        told = [asyncio.create_task(self._tell_network(name)) for name in self.names]
        try:
            await self.until_says("/readyz", 200)
            yield
        finally:
            for task in told:
                task.cancel()
            await asyncio.gather(*told, return_exceptions=True)
            if self.process.returncode is None:
                self.process.kill()
                await self.process.communicate()
        assert not is_running(self.process.pid)

    async def _tell_network(self, name: str) -> None:
        """As a lab does after each start of a node."""
        endpoint = await self.bench.endpoint(self.bench.subnet.lab_identity())
        within_s = 1.0
        while True:
            within_s = min(2 * within_s, 30.0)  # the longer, the busier the machine is
            with contextlib.suppress(P2pnetError, TimeoutError):
                async with asyncio.timeout(within_s):
                    address = ("127.0.0.1", self.bench.subnet.ports[name])
                    connection = await endpoint.connect(address, expect=self.bench.subnet.uri(name), new=True)
                    await connection.request(ROUTE_NETWORK, msgspec.msgpack.encode(NetworkPush(NodeNetwork())))
                within_s = 1.0
                while not connection.closed:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)

    async def says(self, path: str, status: int) -> bool:
        """Whether the pod's page answers like this."""
        return (await pod_health.ask(self.page, path))[0] == status

    async def until_says(self, path: str, status: int) -> None:
        await until(lambda: self.says(path, status), f"{path} says {status}")

    async def end(self) -> int:
        """Asked by a signal; the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        self.out, self.err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def pod_of(bench: Bench, root: Path, *names: str) -> AsyncIterator[PodProcess]:
    """A pod that is ready."""
    pod = PodProcess(bench, root, names)
    pod.write()
    async with pod.running():
        yield pod


def write_identity(identity: Identity, folder: Path, name: str) -> None:
    (folder / f"{name}.crt").write_bytes(identity.chain_pem)
    (folder / f"{name}.key").write_bytes(identity.key_pem)
    (folder / "ca.crt").write_bytes(identity.bundle_pem)
