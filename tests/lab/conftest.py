"""A lab without any network: fake nodes behind the node_client protocol, a fake backend under them."""

import asyncio
import hashlib
import itertools
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from p2pnet.lab.backends.backend import LabIdentity, Process
from p2pnet.lab.backends.local import groups_of, membership_of
from p2pnet.lab.http.server import LabServer
from p2pnet.lab.lab import Lab
from p2pnet.lab.nodes import collector
from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.lab.runs import runner
from p2pnet.lab_client import LabClient
from p2pnet.model.control import (
    Clock,
    ClockRequest,
    ControlRefusal,
    Events,
    EventsRequest,
    GetRequest,
    Got,
    Injected,
    InjectRequest,
    MembersPush,
    MembersTaken,
    NetworkPush,
    NetworkTaken,
    PeersReply,
    PeersRequest,
    PeerState,
    ProbeOrder,
    Probes,
    ProbesOrdered,
    ProbesRequest,
    Sample,
    Samples,
    SamplesRequest,
    Withdrawn,
    WithdrawRequest,
)  # fmt: skip
from p2pnet.model.events import Event, EventKind
from p2pnet.model.network import NodeNetwork
from p2pnet.store import State
from p2pnet.subnet.document import load_subnet


class FakeNode:
    def __init__(self, name: str) -> None:
        self.name = name
        self.incarnations = itertools.count()
        self.held: dict[bytes, tuple[str, bytes]] = {}
        self.clients: dict[bytes, str] = {}
        self.silent = False
        self.refuses: ControlRefusal | None = None
        self.deaf = False
        self.udp_sent = 1000
        self.version = 0
        self.boot = "boot"
        self.skew_ns = 0
        self.samples: list[Sample] = []
        self.restart()

    def restart(self) -> None:
        self.incarnation = f"{self.name}.{next(self.incarnations)}"
        self.events: list[Event] = []
        self.first = 0
        self.held.clear()
        self.network = NetworkPush(NodeNetwork())

    def hold(self, artifact: bytes, name: str, data: bytes, client: str) -> None:
        self.held[artifact], self.clients[artifact] = (name, data), client

    def tell(self, kind: EventKind, artifact: bytes, **more: object) -> None:
        seq, client = self.first + len(self.events), self.clients.get(artifact, "blob")
        self.events.append(Event(seq, time.monotonic_ns() + self.skew_ns, kind, client, artifact.hex(), **more))


class FakeNodes:
    """Links and nodes at once: `ask` answers as the nodes would. Deliveries wait for `open_gate`."""

    def __init__(self) -> None:
        self.nodes: dict[str, FakeNode] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.injected: list[tuple[str, int]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.on_up = self.on_down = lambda _node: None

    def add(self, *names: str) -> None:
        for name in names:
            self.nodes.setdefault(name, FakeNode(name))

    async def open(self) -> None: ...

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()

    def follow(self, members) -> None:
        members = list(members)
        self.add(*(member.name for member in members))
        for name in self.nodes.keys() - {member.name for member in members}:
            del self.nodes[name]

    def dial_now(self, node: str) -> None: ...

    def dial_anew(self, node: str) -> None: ...

    def drop(self, node: str) -> None: ...

    def identity_changed(self) -> None: ...

    async def ask(self, node: str, route: bytes, request: msgspec.Struct, *, timeout_s: float = 5.0):
        one = self.nodes.get(node)
        if one is None or one.silent:
            raise NodeSilentError(node, "a fake that is silent")
        await asyncio.sleep(0)
        match request:
            case EventsRequest():
                return await self._events(one, request)
            case InjectRequest():
                return self._inject(one, request)
            case PeersRequest():
                return self._peers(one)
            case GetRequest(artifact, offset, length, client):
                if artifact not in one.held or one.clients[artifact] != client:
                    return ControlRefusal("unknown-artifact", "not here")
                name, data = one.held[artifact]
                return Got(name, len(data), data[offset : offset + length])
            case WithdrawRequest(artifact, client):
                held = artifact in one.held and one.clients[artifact] == client
                return Withdrawn(held and one.held.pop(artifact) is not None)
            case MembersPush(membership):
                one.version = membership.registry.version
                return MembersTaken(one.version)
            case NetworkPush(network):
                one.network = request
                return NetworkTaken(network.version)
            case ClockRequest():
                return Clock(time.monotonic_ns() + one.skew_ns, time.time_ns(), one.boot)
            case ProbeOrder(trains):  # whose links are always down
                return ProbesOrdered(0, [train.peer for train in trains])
            case ProbesRequest():
                return Probes(one.incarnation, one.boot, [], [], request.cursor)
            case SamplesRequest():
                return Samples(one.incarnation, one.boot, one.samples)
        raise AssertionError(request)

    async def _events(self, one: FakeNode, request: EventsRequest) -> Events:
        cursor = request.cursor if request.incarnation in ("", one.incarnation) else 0
        if request.incarnation in ("", one.incarnation):
            deadline = time.monotonic() + request.wait_ms / 1000
            while cursor >= one.first + len(one.events) and time.monotonic() < deadline and not one.silent:
                await asyncio.sleep(0.005)
                if request.incarnation not in ("", one.incarnation):
                    raise NodeSilentError(one.name, "restarted")
        start = max(cursor, one.first)
        events = one.events[start - one.first : start - one.first + request.limit]
        return Events(one.incarnation, one.boot, events, start + len(events), start - cursor)

    def _inject(self, one: FakeNode, request: InjectRequest) -> Injected | ControlRefusal:
        self.injected.append((one.name, len(request.items)))
        results = []
        for item in request.items:
            if one.refuses is not None:
                results.append(one.refuses)
                continue
            artifact = hashlib.blake2b(item.nonce + item.data, digest_size=32).digest()
            one.hold(artifact, item.name, item.data, request.client)
            one.tell(EventKind.PUBLISHED, artifact, bytes=len(item.data))
            one.tell(EventKind.VALIDATED, artifact)
            results.append(artifact)
            task = asyncio.create_task(self._deliver(one, artifact, item.name, item.data))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return Injected(results)

    async def _deliver(self, source: FakeNode, artifact: bytes, name: str, data: bytes) -> None:
        await self.gate.wait()
        for other in list(self.nodes.values()):
            if other is not source and not other.deaf:
                other.hold(artifact, name, data, source.clients[artifact])
                other.udp_sent += len(data)
                other.tell(EventKind.RECEIVED, artifact, peer=source.name, hop=1)
                other.tell(EventKind.VALIDATED, artifact, peer=source.name, hop=1)

    def _peers(self, one: FakeNode) -> PeersReply:
        others = [name for name in self.nodes if name != one.name]
        return PeersReply(
            one.name, one.incarnation, one.boot, 1, one.version, others, [PeerState(o, 1, 0.1, 0, 0) for o in others],
            one.udp_sent, 0, 0.0, time.time() + 3600, 0, len(one.events), ready=True,
            network_version=one.network.network.version,
        )  # fmt: skip


class FakeBackend:
    target = "local"

    def __init__(self, subnet) -> None:
        self.subnet = subnet
        self.membership = membership_of(subnet, self._ports(), None)
        self.on_process = self.on_lost = lambda _x: None
        self.on_members = lambda: None
        self.acts: list[tuple[str, str]] = []
        self.whys: list[str] = []
        self.networks: dict[str, NodeNetwork] = {}
        self.states: dict[str, Process] = {}
        self.retired: set[str] = set()
        self.identity = LabIdentity()
        self.logs: dict[str, Path] = {}
        self.nodes: FakeNodes | None = None

    def _ports(self):
        return {name: 4000 + index for index, name in enumerate(groups_of(self.subnet))}

    async def start(self) -> None:
        self.on_members()

    async def close(self) -> None: ...

    def keep_networks(self, networks) -> None:
        self.networks |= networks

    def groups(self):
        return groups_of(self.subnet)

    def process(self, node):
        return self.states.get(node, Process("running", 1))

    def leaves(self):
        return {node: datetime.now(UTC) + timedelta(days=1) for node in self.groups()}

    def log_files(self):
        return self.logs

    def nodes_sharing_process(self, node):
        return [node]

    def check_process(self, node): ...

    async def execute(self, node, action, *, lease_s=0.0, why=""):
        self.acts.append((node, action))
        self.whys.append(why)
        one = self.nodes.nodes[node]
        if action in ("restart", "kill"):
            one.restart()
        elif action in ("hold", "pause"):
            one.silent = True
            self.states[node] = Process("stopped" if action == "hold" else "paused")
        else:
            one.silent = False
            if action == "release":
                one.restart()
            self.states.pop(node, None)
        self.on_process(node)

    async def edit(self, subnet):
        before = set(self.groups())
        self.subnet = subnet
        self.membership = membership_of(subnet, self._ports(), self.membership)
        self.on_members()
        return before - set(self.groups())

    async def retire(self, nodes):
        self.retired |= nodes

    async def renew(self, now, *, everything=False):
        return list(self.groups()) if everything else []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is on a network here: look and settle quickly."""
    monkeypatch.setattr(runner, "SETTLE_S", 0.02)
    monkeypatch.setattr(runner, "BEFORE_S", 0.2)
    monkeypatch.setattr(runner, "ANSWER_S", 0.3)
    monkeypatch.setattr(collector, "SILENT_PAUSE_S", 0.02)
    monkeypatch.setattr(collector, "WAIT_MS", 200)
    monkeypatch.setattr(collector, "READ_PAUSE_MIN_S", 0.005)


@pytest.fixture
def document() -> dict:
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": {"nodes": 3}}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
async def nodes() -> FakeNodes:
    return FakeNodes()


@pytest.fixture
async def lab(state: State, document: dict, nodes: FakeNodes) -> AsyncIterator[Lab]:
    """A lab of three fake nodes, started."""
    backend = FakeBackend(load_subnet(document))
    backend.nodes = nodes
    lab = Lab(state.subnet("demo").make(), backend, nodes)
    await lab.start()
    yield lab
    await lab.close()


@pytest.fixture
async def lab_client(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LabClient]:
    """A lab_client at that lab, over a real socket."""
    socket = tmp_path_factory.mktemp("s") / "lab.sock"
    server = LabServer(lab, socket)
    await server.open()
    async with LabClient.unix(socket) as lab_client:
        yield lab_client
    await server.close()
