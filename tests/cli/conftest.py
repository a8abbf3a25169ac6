"""A target without processes, documents to draw, and the command line in this process."""

import contextlib
import io
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import sample_report

from p2pnet.cli.progress import NoProgress
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Change, Presence, TargetName, TargetProgress
from p2pnet.lab_client import Downloaded, LabClient, ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.events import Collected
from p2pnet.model.jobs import (
    FaultList,
    FaultRequest,
    LogLine,
    Problem,
    Progress,
    RunFile,
    RunRequest,
    RunState,
    Withdrawal,
)
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.report import (
    CertificateCounts,
    FaultStatus,
    LinkCounts,
    MemberStatus,
    NodeCounts,
    NodeReceipts,
    Report,
    RunSummary,
    Status,
)
from p2pnet.store import State
from p2pnet.store.heads import RunHead
from p2pnet.subnet.document import default_subnet, load_subnet, to_document
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import Subnet

NOW = 1_795_292_000.0  # 2026-11-21T20:13:20Z


@pytest.fixture
def now() -> float:
    return NOW


@pytest.fixture
def report() -> Report:
    receipts = [NodeReceipts("node-11", 20, 20, 141.0, 455.0, "node-3"), NodeReceipts("node-4", 20, 20, 90.0, 99.0)]
    return sample_report(per_node=receipts)


@pytest.fixture
def make_status() -> Callable[..., Status]:
    def make(nodes: int = 3, *, connected: int | None = None, name: str = "demo") -> Status:
        connected = nodes if connected is None else connected
        members = [
            MemberStatus(
                name=f"node-{index}",
                group="node",
                state="connected" if index < connected else "starting",
                address=f"127.0.0.1:{41000 + index}",
                peers=nodes - 1 if index < connected else 0,
                restarts=0 if index < connected else 2,
                cert_not_after="2026-11-28T20:03:20Z",
                pid=900 + index,
                wanted=nodes - 1,
                detail="" if index < connected else "exit code 1",
            )
            for index in range(nodes)
        ]
        return Status(
            name=name,
            target="local",
            nodes=NodeCounts(nodes, nodes, connected, connected),
            links=LinkCounts(nodes * (nodes - 1) // 2, connected * (connected - 1) // 2),
            certificates=CertificateCounts(nodes, "2026-11-28T20:03:20Z"),
            members=members,
            runs=[RunSummary("r-1", "finished", "pass", 20, 1.0, 312.0, NOW - 100)],
            seed=42,
            up_since=NOW - 800,
        )

    return make


@dataclass
class FakeLabClient:
    """Answers from its fields; keeps what it was asked."""

    statuses: list[Status]
    subnet: Subnet
    states: list[RunState] = field(default_factory=list)
    events: tuple[str, RunFile, list[Collected]] | None = None
    held: dict[str, bytes] = field(default_factory=dict)
    log: list[LogLine] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    range_bytes: int = 4
    faulty: dict[str, FaultStatus] = field(default_factory=dict)
    stand: dict[str, Any] = field(default_factory=dict)
    """How faults stand when they were added, where that is unlike a lab at its best."""
    renewals: list[Callable[[], None]] = field(default_factory=list)
    """What happens at renewals, one after the other."""
    healing: Exception | None = None
    """What clearing ends with."""
    on_faults: list[Callable[[], None]] = field(default_factory=list)
    """What happens before each question for all faults."""

    async def summary(self) -> Status:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    async def runs(self) -> list[RunState]:
        return self.states

    async def spec(self) -> dict[str, Any]:
        return to_document(self.subnet)

    async def members(self) -> Membership:
        names = [name for name, _ in members(self.subnet)]
        return Membership(Registry(1, [Member(name, f"spiffe://x/{name}") for name in names]))

    async def written(self) -> dict[str, Any]:
        return await self.spec()

    async def patch_spec(self, document: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(("patch", document))
        self.subnet = load_subnet(document)
        return document

    async def upload(self, path: Path, name: str, on_progress: Callable[[int, int], None] | None = None) -> str:
        self.asked.append(("upload", name))
        if on_progress is not None:
            on_progress(1, 1)
        return f"upload-{name}"

    async def start_run(self, request: RunRequest, *, key: str) -> RunState:
        self.asked.append(("run", request))
        return msgspec.structs.replace(self.states[0], request=request)

    async def follow(self, run_id: str, cursor: int = 0) -> AsyncIterator[RunState]:
        for state in self.states:
            yield state

    async def cancel(self, run_id: str) -> RunState:
        self.asked.append(("cancel", run_id))
        return self.states[-1]

    async def artifact_events(self, prefix: str) -> tuple[str, RunFile, list[Collected]]:
        assert self.events is not None
        return self.events

    async def get(self, artifact: str, *, node: str | None = None, offset: int = 0, length: int = 0) -> Downloaded:
        self.asked.append(("get", node, offset))
        node = node or next(iter(self.held), "")
        if node not in self.held:
            raise ProblemError(Problem(f"{node} does not hold {artifact}", exit_code=1), status=404)
        data = self.held[node]
        return Downloaded("photo.jpg", len(data), data[offset : offset + self.range_bytes], node)

    def take_faults(self, faults: list[dict[str, Any]]) -> None:
        """As a lab whose document has them now."""
        document = to_document(self.subnet)
        document["spec"]["faults"] = faults
        self.subnet = load_subnet(document)
        leased = {name: fault for name, fault in self.faulty.items() if fault.origin == "lease"}
        written = {one["name"]: FaultStatus(one["name"], "as written", "spec", "active", ["node-0"]) for one in faults}
        self.faulty = written | leased

    async def faults(self) -> FaultList:
        if self.on_faults:
            self.on_faults.pop(0)()
        return FaultList([*self.faulty.values()])

    async def add_fault(self, request: FaultRequest) -> FaultStatus:
        self.asked.append(("add", request.fault, request.lease_s))
        if "lossy" in str(request.fault):
            raise ProblemError(Problem("fault.from: 'lossy' selects no node", exit_code=2), status=400)
        done = request.lease_s is None and "for" not in request.fault
        name = str(request.fault.get("name") or f"fault-{len(self.faulty) + 1}")
        status = FaultStatus(
            name=name, what="in the fake's words", origin="lease", state="ended" if done else "active", nodes=["node-0"],
            since="2026-11-21T20:13:20Z", until=None if done else "2026-11-21T20:14:20Z",
        )  # fmt: skip
        self.faulty[name] = msgspec.structs.replace(status, **self.stand)
        return self.faulty[name]

    async def renew_fault(self, name: str, lease_s: float) -> FaultStatus:
        self.asked.append(("renew", name, lease_s))
        if self.renewals:
            self.renewals.pop(0)()
        if name not in self.faulty:
            raise ProblemError(Problem(f"there is no fault {name}", exit_code=2), status=404)
        return self.faulty[name]

    async def clear_fault(self, name: str | None = None) -> FaultList:
        self.asked.append(("clear", name))
        if self.healing is not None:
            raise self.healing
        if name is not None and name not in self.faulty:
            raise ProblemError(Problem(f"there is no fault {name}", exit_code=2), status=404)
        for one in [name] if name is not None else list(self.faulty):
            del self.faulty[one]
        return FaultList([*self.faulty.values()])

    async def withdrawal(self, artifact: str) -> Withdrawal:
        return Withdrawal(artifact=artifact.ljust(64, "0"), held=sorted(self.held))

    async def logs(self, **asked: Any) -> AsyncIterator[LogLine]:
        self.asked.append(("logs", asked))
        for line in self.log:
            yield line


class FakeTarget:
    """One subnet that is as it is told to be."""

    kind: TargetName = "local"

    def __init__(self, client: FakeLabClient, state: State, presence: Presence = "up") -> None:
        self.fake = client
        self.state = state
        self.seen: Presence = presence
        self.prepared: list[Subnet] = []
        self.started: list[Subnet] = []
        self.removed: list[str] = []

    def names(self) -> list[str]:
        return [] if self.seen == "absent" else [self.fake.subnet.name]

    def location(self) -> tuple[str | None, str | None]:
        return None, None

    def presence(self, name: str) -> Presence:
        return self.seen if name == self.fake.subnet.name else "absent"

    async def collect(self, name: str) -> None: ...

    def owns(self, run: RunFile | RunHead) -> bool:
        return run.subnet == self.fake.subnet.name

    def use_namespace(self, subnet: Subnet) -> None: ...

    def why_it_ended(self, name: str) -> TargetError | None:
        return None

    def subnet(self, name: str) -> Subnet:
        return self.fake.subnet

    @contextlib.asynccontextmanager
    async def lab(self, name: str) -> AsyncIterator[LabClient]:
        if self.presence(name) != "up":
            raise TargetError(f"no {name}", where="here", hint=f"p2pnet up {name}", exit_code=3)
        yield cast("LabClient", self.fake)

    @contextlib.asynccontextmanager
    async def lock(self, name: str, progress: TargetProgress) -> AsyncIterator[None]:
        yield

    async def prepare(self, subnet: Subnet, progress: TargetProgress) -> None:
        self.prepared.append(subnet)

    async def start(self, subnet: Subnet, progress: TargetProgress, *, timeout_s: float) -> None:
        self.started.append(subnet)
        self.fake.subnet = subnet
        self.seen = "up"

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        patch = change(to_document(self.fake.subnet))
        self.fake.asked.append(("edit", patch))
        self.fake.take_faults(patch["spec"]["faults"])

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        there = self.presence(name) != "absent"
        self.removed.append(name)
        self.seen = "absent"
        return there


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    root = tmp_path / "state"
    monkeypatch.setenv("P2PNET_STATE", str(root))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))  # whatever clusters this machine knows
    return State(root)


@pytest.fixture
def target(state: State, make_status: Callable[..., Status], report: Report) -> FakeTarget:
    request = RunRequest(payloads=[])
    run = RunState(run=report.run, state="running", request=request, created_at=NOW, progress=Progress(1, 20, 10, 380))
    done = msgspec.structs.replace(run, state="finished", report=report, cursor=2)
    return FakeTarget(FakeLabClient([make_status()], default_subnet("demo", 3), states=[run, done]), state)


@pytest.fixture
def session(target: FakeTarget) -> Session:
    return Session(
        target=lambda: target,
        output=Output.TABLE,
        listener=NoProgress(),
        stdout=io.StringIO(),
        stderr=io.StringIO(),
        now=lambda: NOW,
    )


@dataclass
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def p2pnet(state: State, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command line, in this process, with a state directory of its own."""
    from p2pnet.cli.app import main

    def call(*words: str) -> Ended:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Ended(int(code), captured.out, captured.err)

    return call
