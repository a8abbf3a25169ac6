"""The documents the verbs print besides the model's Report and Status. Each carries its `schema`."""

from typing import Any, Literal, Self

import msgspec

from p2pnet.model.bundle import BundleManifest
from p2pnet.model.comparison import Comparison
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import Progress
from p2pnet.model.replay import Replay
from p2pnet.model.report import FaultStatus, Report, RunStateName, Status, Verdict
from p2pnet.model.scenario_run import ScenarioRun
from p2pnet.model.shrunk import ShrunkScenario
from p2pnet.model.trials import TrialsReport

SubnetState = Literal["starting", "up", "silent", "dead", "damaged"]
"""silent: it runs, but its lab does not answer."""
CheckResult = Literal["ok", "warning", "failed"]


class SubnetLine(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet in a list; counts are None when its lab does not answer."""

    schema: str = "p2pnet.io/subnet-line/v1"
    name: str
    target: str
    state: SubnetState
    context: str | None = None
    """The kubeconfig context of a subnet in a cluster; None on this machine."""
    namespace: str | None = None
    desired: int | None = None
    connected: int | None = None
    links_expected: int | None = None
    links_up: int | None = None
    up_since: float | None = None
    """Unix seconds."""


class SubnetList(msgspec.Struct, frozen=True, kw_only=True):
    """The subnets of a target, or of all: `status` without a name, and `ls`."""

    schema: str = "p2pnet.io/subnets/v1"
    subnets: list[SubnetLine] = []


class RunTicket(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was asked for but not waited for."""

    schema: str = "p2pnet.io/run/v1"
    run: str
    subnet: str
    target: str
    state: RunStateName
    artifacts: int
    progress: Progress = Progress()


class LivePage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the live page of a subnet is served."""

    schema: str = "p2pnet.io/live-page/v1"
    subnet: str
    target: str
    url: str
    """With a token in it, which works once."""


class TracedPhases(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one hop went, in this order: see `HopPhases`."""

    announce_ms: float
    wait_ms: float
    request_ms: float
    transfer_ms: float
    validate_ms: float


class TracedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What one end of a hop did in the seconds of the hop: see `EndLoad`."""

    cpu: float
    lag_ms: float
    queued_bytes: int
    handlers: int


class TracedEnds(msgspec.Struct, frozen=True, kw_only=True):
    """Both ends of a hop; None for one that was not sampled then."""

    sender: TracedLoad | None
    receiver: TracedLoad | None


class TracedReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """One node in a hop tree. `latency_ms` counts from the publication, `edge_ms` from the sender's own receipt.

    It is None of an orphan, and where the sender, which passes parts on as they come, had everything only after the receiver.
    """

    node: str
    sender: str | None
    hop: int
    latency_ms: float | None
    edge_ms: float | None
    critical: bool = False
    duplicates: int = 0
    orphan: bool = False
    """Its sender is not known to have had the artifact before."""
    phases: TracedPhases | None = None
    """None where the arrival of its bytes is not on record, and for an orphan that was pushed."""
    ends: TracedEnds | None = None
    """None where neither end was sampled: in virtual time, and of what no run published."""


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is kept on this machine; times in Unix seconds."""

    schema: str = "p2pnet.io/kept-run/v1"
    run: str
    subnet: str
    target: str
    context: str = ""
    """Context and namespace of a run copied from a cluster; empty: it was made on this machine."""
    namespace: str = ""
    state: RunStateName
    verdict: Verdict | None = None
    label: str = ""
    nodes: int
    artifacts: int
    """As in a status: of an open run how many it is to publish, of an ended one how many there were."""
    reach: float | None = None
    p95_ms: float | None = None
    shared: bool = False
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    bytes: int
    """On disk."""


class DamagedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is kept on this machine, and cannot be read."""

    run: str
    subnet: str = ""
    """Empty where nothing of it tells."""
    why: str
    bytes: int
    """On disk."""


class KeptWithin(msgspec.Struct, frozen=True, kw_only=True):
    """The limits beyond which the oldest ended runs without a label are removed, and what was; None: no limit."""

    runs: int | None
    bytes: int | None
    removed_runs: int = 0
    removed_bytes: int = 0
    last_removed_at: float | None = None


class KeptRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Kept runs, newest first, and what was done to them."""

    schema: str = "p2pnet.io/runs/v1"
    runs: list[KeptRun]
    matched: int
    """Runs that the filters let through; `runs` holds the newest of them."""
    kept: int
    """All runs of the state directory that can be read, and what they take on disk."""
    kept_bytes: int
    within: KeptWithin
    damaged: list[DamagedLine] = []
    """Those that cannot be read, oldest first; `runs --rm RUN` removes one."""
    removed: list[str] = []
    freed_bytes: int = 0
    cancelled: list[str] = []
    labelled: list[str] = []


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """How one artifact travelled."""

    schema: str = "p2pnet.io/trace/v1"
    subnet: str
    target: str
    run: str
    """Empty for a client's own product."""
    artifact: str
    name: str
    size: int | None
    publisher: str | None
    nodes: int
    reached: int
    receipts: list[TracedReceipt]
    """In the order of arrival; the publisher is not among them."""
    critical_path: list[str]
    """From the publisher to the last receipt."""
    unreached: list[str]
    duplicates: int
    duplicate_bytes: int
    hops_max: int | None
    latency_ms_max: float | None
    state: RunStateName
    clock_bound_ms: float = 0.0
    client: str = DEFAULT_CLIENT
    waterfall: bool = False
    """Whether a terminal shows it on a time axis instead of as a tree."""


class LinkLine(msgspec.Struct, frozen=True, kw_only=True):
    """One way over one link, by the receipts that it completed."""

    sender: str
    to: str
    receipts: int
    bytes: int
    """User's bytes."""
    wait_ms_mean: float | None
    """From the sender's own receipt to the receiver's; None where no wait is known."""
    wait_ms_max: float | None
    why: str = ""
    """Whose fault the longest wait is, as far as receipts and samples tell."""


class RunLinks(msgspec.Struct, frozen=True, kw_only=True):
    """The links of a run: which were used most, and over which it took longest."""

    schema: str = "p2pnet.io/links/v1"
    run: str
    subnet: str
    target: str
    verdict: Verdict
    ways: int
    """How many ways between two nodes completed an artifact."""
    links: list[LinkLine]
    """The slowest first, then those whose waits are not known by their bytes; at most LINKS_MAX."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of an artifact, written to a file."""

    schema: str = "p2pnet.io/fetched/v1"
    subnet: str
    artifact: str
    name: str
    size: int
    node: str
    file: str


class WithdrawnArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact taken back; `held` nodes had it."""

    schema: str = "p2pnet.io/withdrawal/v1"
    subnet: str
    artifact: str
    held: int
    nodes: list[str] = []
    """Those that held it."""
    silent: list[str] = []
    """Those that could not be asked."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What `down` did."""

    schema: str = "p2pnet.io/removal/v1"
    removed: list[str]
    absent: list[str] = []
    """Asked for, but already gone."""


class FaultLine(msgspec.Struct, frozen=True, kw_only=True):
    """One fault in a list: a `FaultStatus` with a schema of its own."""

    schema: str = "p2pnet.io/fault/v1"
    name: str
    what: str
    origin: Literal["spec", "lease"]
    """spec: it stands in the document. lease: a command, or its `--for`, keeps it."""
    state: Literal["waiting", "active", "ended", "failed"]
    nodes: list[str] = []
    since: str | None = None
    """RFC 3339."""
    until: str | None = None
    """RFC 3339: when it ends by itself, or its lease does; None: it stays."""
    detail: str = ""

    @classmethod
    def of(cls, fault: FaultStatus) -> Self:
        """As the lab tells it."""
        return cls(**msgspec.structs.asdict(fault))


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of a subnet: all, those that were added, or those left when some were cleared."""

    schema: str = "p2pnet.io/faults/v1"
    subnet: str
    faults: list[FaultLine]
    cleared: list[str] = []
    """Names of those that this command cleared."""


class LoggedLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of one process; `time` in RFC 3339, empty for a line that carries none. `node`: whom it tells of, or `lab`."""

    schema: str = "p2pnet.io/log-line/v1"
    time: str
    node: str
    line: str
    level: str = "INFO"


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of all processes, sorted by time."""

    schema: str = "p2pnet.io/logs/v1"
    subnet: str
    lines: list[LoggedLine]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing `doctor` looked at."""

    name: str
    result: CheckResult
    found: str
    next_step: str = msgspec.field(default="", name="todo")


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this machine can hold a local subnet."""

    schema: str = "p2pnet.io/doctor/v1"
    checks: list[Check]


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds to a peer and back: of `echoes` echoes, and as QUIC smooths what it measures itself."""

    min: float | None = None
    median: float | None = None
    smoothed: float | None = None
    echoes: int = 0


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer proved itself with; `not_after` in RFC 3339, `sha256` of the leaf in hex."""

    uri: str
    not_after: str
    sha256: str


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """How one peer answered: it proved itself in a handshake; whether it serves the echo is another matter."""

    schema: str = "p2pnet.io/ping-answer/v1"
    address: str
    """As it was asked for."""
    node: str = ""
    """Its name, in a subnet."""
    answered: bool
    error: str = ""
    peer: str | None = None
    """The numeric address that answered."""
    handshake_ms: float | None = None
    echo: bool = False
    rtt_ms: RoundTrip = RoundTrip()
    mtu_bytes: int | None = None
    """UDP payload that the path was found to carry in one datagram."""
    seen_as: str | None = None
    """Our own address, as the peer sees it."""
    certificate: Certificate | None = None
    """None where trust proves nothing."""


class Pings(msgspec.Struct, frozen=True, kw_only=True):
    """How peers answered, in the order they were asked for; `trust` says who had to vouch for them."""

    schema: str = "p2pnet.io/ping/v1"
    trust: str
    subnet: str | None = None
    pings: list[Ping]


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What `install` applied, or `uninstall` removed: `Kind namespace/name` each."""

    schema: str = "p2pnet.io/installation/v1"
    context: str
    applied: list[str] = []
    removed: list[str] = []
    absent: list[str] = []
    """To be removed, but already gone."""


class Objects(msgspec.Struct, frozen=True):
    """Kubernetes objects, printed as they are: a stream of YAML, a List in JSON, one a line in NDJSON."""

    items: list[dict[str, Any]]


class JsonSchema(msgspec.Struct, frozen=True):
    """A JSON Schema, printed as it is."""

    kind: str
    body: dict[str, Any]


Document = (
    Report
    | TrialsReport
    | Comparison
    | ScenarioRun
    | ShrunkScenario
    | BundleManifest
    | Replay
    | Status
    | SubnetList
    | RunTicket
    | LivePage
    | KeptRuns
    | Trace
    | RunLinks
    | Fetched
    | WithdrawnArtifact
    | Removal
    | Faults
    | LogLines
    | Examination
    | Pings
    | Installation
    | Objects
    | JsonSchema
)

SHAPES: dict[str, type[msgspec.Struct]] = {
    "report": Report,
    "trials": TrialsReport,
    "comparison": Comparison,
    "scenario-run": ScenarioRun,
    "shrunk": ShrunkScenario,
    "bundle": BundleManifest,
    "replay": Replay,
    "status": Status,
    "trace": Trace,
    "links": RunLinks,
    "run": RunTicket,
    "live-page": LivePage,
    "runs": KeptRuns,
    "kept-run": KeptRun,
    "subnets": SubnetList,
    "subnet-line": SubnetLine,
    "fetched": Fetched,
    "withdrawal": WithdrawnArtifact,
    "removal": Removal,
    "faults": Faults,
    "fault": FaultLine,
    "logs": LogLines,
    "log-line": LoggedLine,
    "doctor": Examination,
    "ping": Pings,
    "ping-answer": Ping,
    "installation": Installation,
}
KINDS = (*SHAPES, "subnet", "scenario", "injection")
