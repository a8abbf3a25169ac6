"""The document of several trials: the same simulated run under one seed after the other."""

import msgspec

from p2pnet.model.report import Load, Verdict


class Spread(msgspec.Struct, frozen=True):
    """One figure over all trials. Where it was infinite (a miss) or not measured in one of them, mean and bounds are null."""

    mean: float | None = None
    low: float | None = None
    """Lower end of the 95 % confidence interval of the mean (Student's t); null for fewer than two trials."""
    high: float | None = None
    least: float | None = None
    """The smallest finite value of any trial."""
    most: float | None = None
    """The largest; null when one was infinite."""
    trials: int = 0
    """In how many trials it was finite."""


class LatencySpread(msgspec.Struct, frozen=True):
    """Percentiles of latency in milliseconds, each over all trials."""

    p50: Spread = Spread()
    p90: Spread = Spread()
    p95: Spread = Spread()
    p99: Spread = Spread()
    max: Spread = Spread()


class TrialFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One trial: what tells it apart from the others. The same command with `--seed` gives the whole report."""

    seed: int
    verdict: Verdict
    digest: str | None = None
    reach: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    hops_max: int | None = None
    duplicates_per_delivery: float | None = None
    bytes_ratio: float | None = None
    missed: list[str] = []
    """Expectations that did not hold."""
    invalid: list[str] = []


class TrialFailure(msgspec.Struct, frozen=True):
    """A trial that gave no report."""

    seed: int
    error: str


class TrialExpectation(msgspec.Struct, frozen=True):
    """One expectation over all trials; `ok`: it held in each."""

    expr: str
    held: int
    trials: int
    ok: bool


class TrialsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Several trials of one simulated run. Keys are a contract; more may follow."""

    schema: str = "p2pnet.io/trials/v1"
    subnet: str
    target: str = "sim"
    seed: int
    """That of the first trial; each next one has one more."""
    nodes: int
    asked: int
    """Trials asked for."""
    finished: int
    """Trials that gave a report: all figures are over these."""
    verdict: Verdict
    """pass: every trial passed. invalid: one was invalid, gave no report, or did not finish."""
    load: Load | None = None
    reach: Spread = Spread()
    latency_ms: LatencySpread = LatencySpread()
    hops_max: Spread = Spread()
    duplicates_per_delivery: Spread = Spread()
    bytes_ratio: Spread = Spread()
    payload_bytes_per_s: Spread = Spread()
    expectations: list[TrialExpectation] = []
    trials: list[TrialFigures] = []
    """By seed."""
    failed: list[TrialFailure] = []
    invalid: list[str] = []
    """Why they are invalid as a whole; empty otherwise."""
    repeat: str = ""
    """The command that repeats the first trial which did not pass; empty when all did."""
    notes: list[str] = []
    ignored: list[str] = []
    """Fields of the document that were not in force."""
