"""The document of a comparison: two versions measured beside each other, and judged by gates."""

from typing import Literal

import msgspec

from p2pnet.model.report import Load

GateVerdict = Literal["pass", "regression", "inconclusive"]
ComparisonVerdict = Literal["pass", "regression", "inconclusive", "invalid"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two that are compared."""

    given: str
    """As it was named: a run, a file, a checkout."""
    kind: Literal["run", "document", "checkout", "image"]
    subnet: str = ""
    nodes: int = 0
    artifacts: int = 0
    """Those of all its trials, or of its run."""


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One trial of each, with the same seed. Figures by metric; null: infinite (a miss), or not measured."""

    seed: int
    base: dict[str, float | None]
    head: dict[str, float | None]
    equal: bool = False
    """Both had the same trace digest: not a single message differed."""


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate. `effect`, `low`, `high` and `limit` are changes from BASE to HEAD in the gate's unit: 0.1 for 10 %."""

    gate: str
    metric: str
    unit: Literal["relative", "ms", "points", "number"]
    base: float | None = None
    """The mean of BASE (geometric where the change is relative); null where it is not finite."""
    head: float | None = None
    effect: float | None = None
    low: float | None = None
    """The lower end of the confidence interval of the effect; null: without a bound."""
    high: float | None = None
    limit: float
    """The largest change that passes: negative where less is worse."""
    verdict: GateVerdict
    why: str = ""
    trials_needed: int | None = None
    """How many trials would probably decide (with a power of 90 %); null: it is decided, or no number would."""


class PairLost(msgspec.Struct, frozen=True):
    """A trial without a valid report."""

    side: Literal["base", "head"]
    seed: int
    why: str


class MachineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy this machine was while live nodes were compared on it; null: it does not say."""

    cores: float
    load_before: float | None = None
    """Its load average of one minute before anything was started."""
    waited: float | None = None
    """Share of the trials' time in which some process, ours or not, waited for a core (pressure stall information)."""
    waited_most: float | None = None
    """The largest share in one trial."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions beside each other. Keys are a contract; more may follow."""

    schema: str = "p2pnet.io/comparison/v1"
    base: Side
    head: Side
    target: str
    verdict: ComparisonVerdict
    """invalid outranks regression, which outranks inconclusive."""
    confidence: float
    """That of all gates and looks together: with two equal versions a regression is found at most so seldom as 1 - confidence."""
    gates: list[GateResult]
    trials: int
    """Pairs that were measured; 0: two runs were compared, by their artifacts."""
    asked: int = 0
    """The most pairs that were to be."""
    stopped_early: bool = False
    load: Load | None = None
    pairs: list[PairFigures] = []
    lost: list[PairLost] = []
    invalid: list[str] = []
    warnings: list[str] = []
    machine: MachineLoad | None = None
    """Where trials of live nodes were on this machine; else null."""
    rerun: str = ""
    """The command that would probably decide what is inconclusive; empty: nothing is."""
