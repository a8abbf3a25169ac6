"""What the node's tests are made of: a subnet on disk, a lab that speaks the control routes, real node processes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tests.patience import PATIENCE_S
from tests.running import is_running

from p2pnet.model import limits
from p2pnet.model.config import BroadcastSettings, NodeConfig, read_node_config, write_node_config
from p2pnet.model.control import (
    ROUTE_EVENTS,
    ROUTE_GET,
    ROUTE_INJECT,
    ROUTE_MEMBERS,
    ROUTE_PEERS,
    ROUTE_WITHDRAW,
    ControlRefusal,
    ControlReply,
    Events,
    EventsRequest,
    GetRequest,
    Got,
    Injected,
    InjectItem,
    InjectRequest,
    MembersPush,
    MembersTaken,
    PeersReply,
    PeersRequest,
    Withdrawn,
    WithdrawRequest,
)
from p2pnet.model.events import Event, EventKind
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.peer_messages import ROUTE_HELLO, Hello
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.node.service import Service
from p2pnet.quic import Connection, ConnectionLost, Endpoint, Message, Settings, Trust
from p2pnet.trust import Authority, Identity

SCOPE = ("p2pnet", "local", "demo")
"""How long a condition may take: far above what it takes, for the machine may be busy."""

T = TypeVar("T")


class FixedIdentity:
    """An identity source that never changes."""

    def __init__(self, identity: Identity) -> None:
        self.current = identity
        self.version = 1


class SubnetDir:
    """Authority, leaves, members and node configs of a subnet under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        self.authority = Authority.create("demo", now=self.now, ttl=timedelta(days=1))
        self.ports: dict[str, int] = {}

    def uri(self, name: str) -> str:
        return member_uri(*SCOPE, name)

    def identity(self, uri: str, *, authority: Authority | None = None, now: datetime | None = None) -> Identity:
        """A leaf for `uri`, issued at `now` for two hours, with this subnet's bundle."""
        leaf = (authority or self.authority).issue(uri, now=now or self.now, ttl=timedelta(hours=2))
        return Identity(leaf.chain_pem, leaf.key_pem, self.authority.certificate_pem)

    def lab_identity(self) -> Identity:
        return self.identity(lab_uri(*SCOPE))

    def membership(
        self,
        version: int,
        names: Iterable[str],
        *,
        removed: Iterable[str] = (),
        edges: list[tuple[str, str]] | None = None,
    ) -> Membership:
        members = [Member(name, self.uri(name), [f"127.0.0.1:{self.ports[name]}"]) for name in names]
        return Membership(Registry(version, members, [Removed(self.uri(name), version) for name in removed]), edges)

    def write_node(self, name: str, **settings: Any) -> Path:
        """Identity and config of a node; the config's path."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "identity").exists():
            self.identity(self.uri(name)).write(folder / "identity")
        config = NodeConfig(
            name=name,
            subnet=SCOPE[2],
            members_file="../members.json",
            **{
                "port": self.ports.get(name, 0),
                "broadcast": BroadcastSettings(full_mesh=True),
                "idle_s": 3.0,
                **settings,
            },
        )
        write_node_config(folder / "node.json", config)
        return folder / "node.json"

    def write_members(self, membership: Membership) -> None:
        (self.folder / "members.json").write_bytes(msgspec.json.encode(membership))


class Bench:
    """One subnet with its lab, and whatever was started for it."""

    def __init__(self, subnet: SubnetDir) -> None:
        self.subnet = subnet
        self.supervisors: list[SupervisorProcess] = []
        self._lab: Endpoint | None = None
        self._endpoints: list[Endpoint] = []
        self._connections: dict[str, Connection] = {}

    async def supervisor(self, *options: str) -> "SupervisorProcess":
        supervisor = await SupervisorProcess.start(*options)
        self.supervisors.append(supervisor)
        return supervisor

    async def up(
        self, names: Sequence[str], *, edges: list[tuple[str, str]] | None = None, **settings: Any
    ) -> "SupervisorProcess":
        """A supervisor with these nodes started, ready and connected with all they want."""
        supervisor = await self.supervisor()
        await self.bind(supervisor, names)
        self.subnet.write_members(self.subnet.membership(1, names, edges=edges))
        for name in names:
            supervisor.ask(op="start", name=name, config=str(self.subnet.write_node(name, **settings)))
        for name in names:
            await supervisor.event("ready", name)
        for name in names:
            await self.until_connected(name)
        return supervisor

    async def serve(self, name: str, **settings: Any) -> Service:
        """A node in this process."""
        config = self.subnet.write_node(name, **settings)
        service = await Service.start(read_node_config(config), config.parent)
        self.subnet.ports[name] = service.address[1]
        return service

    async def bind(self, supervisor: "SupervisorProcess", names: Iterable[str]) -> None:
        for name in names:
            supervisor.ask(op="bind", name=name, host="127.0.0.1", port=self.subnet.ports.get(name, 0))
            self.subnet.ports[name] = (await supervisor.event("bound", name))["port"]

    async def until_connected(self, name: str) -> PeersReply:
        async def connected() -> PeersReply | None:
            state = await self.peers(name)
            return state if {peer.name for peer in state.peers} >= set(state.wanted) else None

        return await until(connected, f"{name} is connected")

    async def endpoint(self, identity: Identity, **callbacks: Any) -> Endpoint:
        """An endpoint of one's own in the subnet, admitting everyone the bundle vouches for."""
        trust = Trust.subnet(FixedIdentity(identity), lambda _uri: None)
        endpoint = await Endpoint.bind(trust=trust, settings=Settings(), **{"on_message": say_nothing, **callbacks})
        self._endpoints.append(endpoint)
        return endpoint

    async def dial(self, name: str, identity: Identity) -> Connection:
        """A connection with a node under an identity of one's own; it says no hello."""
        endpoint = await self.endpoint(identity)
        return await endpoint.connect(("127.0.0.1", self.subnet.ports[name]), expect=self.subnet.uri(name))

    # --- the lab ---

    async def lab(self, name: str) -> Connection:
        """The lab's connection with a node."""
        if self._lab is None:
            self._lab = await self.endpoint(self.subnet.lab_identity())
        connection = self._connections.get(name)
        if connection is None or connection.closed:
            connection = await self._lab.connect(
                ("127.0.0.1", self.subnet.ports[name]), expect=self.subnet.uri(name), new=True
            )
            self._connections[name] = connection
        return connection

    def forget(self, name: str) -> None:
        """Its process is dead: no use in waiting until the connection notices."""
        if (connection := self._connections.pop(name, None)) is not None:
            connection.close(0, "")

    async def ask(self, name: str, route: bytes, request: msgspec.Struct) -> ControlReply:
        body = msgspec.msgpack.encode(request)
        try:
            reply = await (await self.lab(name)).request(route, body, timeout_s=PATIENCE_S)
        except ConnectionLost:  # the node was started anew
            reply = await (await self.lab(name)).request(route, body, timeout_s=PATIENCE_S)
        return read_reply(reply.payload)

    async def peers(self, name: str) -> PeersReply:
        return expect(PeersReply, await self.ask(name, ROUTE_PEERS, PeersRequest()))

    async def inject(self, name: str, *payloads: bytes, file: str = "file", client: str = "blob") -> list[bytes]:
        items = [InjectItem(file, data, os.urandom(16)) for data in payloads]
        injected = expect(Injected, await self.ask(name, ROUTE_INJECT, InjectRequest(items, client)))
        return [expect(bytes, result) for result in injected.results]

    async def get(self, name: str, artifact: bytes, client: str = "blob") -> bytes:
        """All the bytes of an artifact, range by range."""
        data = b""
        while True:
            got = expect(Got, await self.ask(name, ROUTE_GET, GetRequest(artifact, len(data), client=client)))
            data += got.data
            if len(data) == got.size:
                return data

    async def until_held(self, name: str, artifact: bytes, client: str = "blob") -> bytes:
        async def held() -> bool:
            reply = await self.ask(name, ROUTE_GET, GetRequest(artifact, length=1, client=client))
            return isinstance(reply, Got)

        await until(held, f"{name} holds {artifact.hex()[:8]}")
        return await self.get(name, artifact, client)

    async def withdraw(self, name: str, artifact: bytes) -> bool:
        return expect(Withdrawn, await self.ask(name, ROUTE_WITHDRAW, WithdrawRequest(artifact))).held

    async def push(self, name: str, membership: Membership) -> int:
        return expect(MembersTaken, await self.ask(name, ROUTE_MEMBERS, MembersPush(membership))).version

    async def events(self, name: str, cursor: int = 0, *, wait_ms: int = 0, incarnation: str = "") -> Events:
        request = EventsRequest(cursor, incarnation, wait_ms, limits.EVENTS_PER_READ)
        return expect(Events, await self.ask(name, ROUTE_EVENTS, request))

    async def until_event(self, name: str, kind: EventKind, test: Callable[[Event], bool] = lambda _: True) -> Event:
        """The first event of a kind that passes, whenever it happens."""
        cursor, deadline = 0, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            events = await self.events(name, cursor, wait_ms=1000)
            for event in events.events:
                if event.kind is kind and test(event):
                    return event
            cursor = events.cursor
        raise AssertionError(f"{name}: no {kind} came")

    async def close(self) -> None:
        for supervisor in self.supervisors:
            await supervisor.kill()
        for endpoint in self._endpoints:
            endpoint.close()
            await endpoint.wait_closed()


class SupervisorProcess:
    """A supervisor process and its JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._taken: set[int] = set()
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *options: str) -> "SupervisorProcess":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "p2pnet.supervisor", *options, stdin=-1, stdout=-1
        )
        supervisor = cls(process)
        await supervisor.event("supervisor")
        return supervisor

    def ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")

    async def event(self, kind: str, name: str | None = None, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next event of a kind (about a node) that was not taken before."""
        async with asyncio.timeout(within_s), self._news:
            while True:
                for number, event in enumerate(self.told):
                    if number not in self._taken and event["event"] == kind and name in (None, event.get("name")):
                        self._taken.add(number)
                        return event
                await self._news.wait()

    def pid(self, name: str) -> int:
        """Of the latest start."""
        return int([event for event in self.told if event["event"] == "started" and event["name"] == name][-1]["pid"])

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self._news:
                self.told.append(json.loads(line))
                self._news.notify_all()

    async def kill(self) -> None:
        """Close its stdin and wait for the end of it and of all it made."""
        assert self.process.stdin is not None
        if self.process.returncode is None:
            self.process.stdin.close()
            try:
                await asyncio.wait_for(self.process.wait(), PATIENCE_S)
            except TimeoutError:
                self.process.kill()
        await self.process.wait()
        await self._reader
        # closes the transport's pipes while the loop still runs
        self.process._transport.close()  # type: ignore[attr-defined]


def expect(kind: type[T], reply: object) -> T:
    assert isinstance(reply, kind), reply
    return reply


async def until(condition: Callable[[], Awaitable[T | None]], what: str, within_s: float = PATIENCE_S) -> T:
    """The first truthy answer; asked every 50 ms."""
    deadline = time.monotonic() + within_s
    while not (answer := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.05)
    return answer


async def until_gone(pids: Iterable[int]) -> None:
    for pid in pids:

        async def gone(pid: int = pid) -> bool:
            return not is_running(pid)

        await until(gone, f"process {pid} is gone")


def say_nothing(_connection: Connection, message: Message) -> None:
    """What a peer that only pretends to be a node says to every request."""
    if message.wants_reply:
        message.reply(b"")


def read_reply(payload: bytes) -> ControlReply:
    reply: ControlReply = msgspec.msgpack.decode(payload, type=ControlReply)
    return reply


def send_signal(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def refusal(reply: object) -> str:
    return expect(ControlRefusal, reply).code


async def say_hello(connection: Connection, name: str, incarnation: str = "cafe") -> Hello:
    reply = await connection.request(
        ROUTE_HELLO, msgspec.msgpack.encode(Hello(name, incarnation)), timeout_s=PATIENCE_S
    )
    return msgspec.msgpack.decode(reply.payload, type=Hello)


async def ask_state(connection: Connection) -> ControlReply:
    reply = await connection.request(ROUTE_PEERS, msgspec.msgpack.encode(PeersRequest()), timeout_s=PATIENCE_S)
    return read_reply(reply.payload)


async def run_node(config: Path) -> asyncio.subprocess.Process:
    """A node without a supervisor."""
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "p2pnet.node", str(config), stderr=-1)


async def port_of(process: asyncio.subprocess.Process) -> int:
    """Where it says that it serves."""
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    assert " serves on " in line, line
    return int(line.split(" serves on ")[1].split()[0].rpartition(":")[2])


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Its exit code, and what it wrote to stderr."""
    _, words = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, words.decode()
