"""The two documents that are contracts (design: the command line): the report of a run and the status of a subnet."""

from typing import Literal

import msgspec

from p2pnet.model.ids import DEFAULT_CLIENT

Verdict = Literal["pass", "fail", "invalid"]


class Reach(msgspec.Struct, frozen=True):
    """Receipts expected (nodes - 1 per artifact) and delivered."""

    expected: int
    delivered: int
    ratio: float | None


class Latency(msgspec.Struct, frozen=True):
    """Publication to first validation, milliseconds, over all expected receipts: a miss is infinite and printed null."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Hops(msgspec.Struct, frozen=True):
    """Over receipts."""

    p50: int | None
    max: int | None


class ByteCost(msgspec.Struct, frozen=True):
    """`payload`: user's bytes x receipts. `sent`: growth of the nodes' UDP byte counters, lab traffic left out."""

    payload: int
    sent: int | None
    ratio: float | None


class ExpectationResult(msgspec.Struct, frozen=True):
    """`value` is what was measured, in the expression's own unit; None when it could not be."""

    expr: str
    value: float | None
    ok: bool


class NodeReceipts(msgspec.Struct, frozen=True):
    """What one node got: for the outliers in a table."""

    node: str
    received: int
    expected: int
    p50_ms: float | None
    max_ms: float | None
    slowest_from: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Keys are a contract; more may follow."""

    schema: str = "p2pnet.io/report/v1"
    run: str
    subnet: str
    target: str
    seed: int
    nodes: int
    artifacts: int
    verdict: Verdict
    reach: Reach
    latency_ms: Latency
    hops: Hops
    duplicates_per_delivery: float | None
    bytes: ByteCost
    clock_bound_ms: float
    expectations: list[ExpectationResult] = []
    invalid: list[str] = []
    """Why the run is invalid; empty otherwise."""
    unknown: int = 0
    artifact_ids: list[str] = []
    packed: bool = False
    digest: str | None = None
    """Trace digest; the simulator's only."""
    # Beyond the contract
    client: str = DEFAULT_CLIENT
    """Whose artifacts they were."""
    publishers: list[str] = []
    payload_bytes: int = 0
    """User's bytes, summed over artifacts."""
    duration_s: float = 0.0
    started_at: float = 0.0
    """Unix seconds."""
    per_node: list[NodeReceipts] = []
    cdf_ms: list[float] = []
    """Latencies at 0, 5 ... 100 % of expected receipts that arrived, for a sparkline."""
    negative_latencies: int = 0
    shared: bool = False
    notes: list[str] = []
    state: str = "finished"
    slowest: str = ""
    """Id of the artifact whose last receipt took longest; a miss is infinite. Empty when nothing was published."""


class NodeCounts(msgspec.Struct, frozen=True):
    """`connected`: nodes all of whose edges are up."""

    desired: int
    running: int
    ready: int
    connected: int


class LinkCounts(msgspec.Struct, frozen=True):
    """`expected`: edges between current members; `up`: authenticated at both ends."""

    expected: int
    up: int


class CertificateCounts(msgspec.Struct, frozen=True):
    """`earliest_expiry` in RFC 3339, or None when none is issued."""

    issued: int
    earliest_expiry: str | None


class Condition(msgspec.Struct, frozen=True):
    """As in Kubernetes: type, status True | False | Unknown, reason, message."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""


class RunSummary(msgspec.Struct, frozen=True):
    """One line about a run."""

    run: str
    state: Literal["queued", "running", "finished", "cancelled"]
    verdict: Verdict | None = None
    artifacts: int = 0
    reach: float | None = None
    p95_ms: float | None = None
    started_at: float | None = None
    shared: bool = False


class MemberStatus(msgspec.Struct, frozen=True, omit_defaults=False):
    """One node. `pid` on the local target only."""

    name: str
    group: str
    state: Literal["starting", "running", "ready", "connected", "restarting", "paused", "stopped", "failed", "unknown"]
    address: str
    peers: int
    restarts: int
    cert_not_after: str | None
    pid: int | None = None
    wanted: int = 0
    detail: str = ""
    silent_since: str | None = None
    """Since when it does not answer the lab though it should, in RFC 3339; None: it answers."""
    last_heard: str | None = None
    """When it answered the lab last, in RFC 3339; None: never."""
    trusted: list[str] = []
    """Authorities of the bundle in force: SHA-256 of each, the first 16 hex digits. Empty: not reported."""
    leaf: str = ""
    """SHA-256 of the leaf in use, the first 16 hex digits. Empty: not reported."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet now. Keys are a contract; more may follow."""

    schema: str = "p2pnet.io/status/v1"
    name: str
    target: str
    nodes: NodeCounts
    links: LinkCounts
    certificates: CertificateCounts
    conditions: list[Condition] = []
    runs: list[RunSummary] = []
    faults: list[dict[str, object]] = []
    members: list[MemberStatus] = []
    # Beyond the contract
    packed: bool = False
    seed: int = 0
    registry_version: int = 0
    up_since: float | None = None
    expires_at: str | None = None
    trusted: list[str] = []
    """Of the lab itself, as in `MemberStatus`."""
    leaf: str = ""
    document: str = ""
    """`model.subnet.digest_of` the document in force. Empty: not reported."""
    news: str = ""
    """Version of what this was made from, to wait for another one with. Empty: not to be waited for."""
