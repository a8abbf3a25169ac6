"""The document of a replay: a recorded run, or scenario, beside the same in the simulator.

Keys are a contract; more may follow.
"""

from typing import Literal

import msgspec

from p2pnet.model.report import Verdict

ReplayVerdict = Literal["reproduced", "not reproduced", "nothing to compare"]


class FigureBeside(msgspec.Struct, frozen=True, kw_only=True):
    """One figure as recorded and as replayed; None: not measured, or infinite, a receipt that never came."""

    metric: str
    """`reach` (0 to 1), `p50` to `max` (ms), `hops` (the most), `duplicates` and `bytes` (per delivery, per payload byte)."""
    recorded: float | None
    replayed: float | None
    gap: float | None = None
    """`replayed - recorded`; None where one of them is."""


class MissedReceipt(msgspec.Struct, frozen=True):
    """A receipt that never came: of which recorded artifact, at which node."""

    artifact: str
    name: str
    node: str


class ReplayedMisses(msgspec.Struct, frozen=True, kw_only=True):
    """Receipts that missed, as pairs of artifact and node. What the record does not know is not counted."""

    recorded: int = 0
    replayed: int = 0
    both: int = 0
    """Pairs that missed in the record and miss in the replay, too."""
    only_recorded: list[MissedReceipt] = []
    """The first ones that came in the replay."""
    only_replayed: list[MissedReceipt] = []
    """The first ones that had come in the record."""


class ReplayedExpectation(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation as recorded and as replayed. A value is in the expression's own unit; None: not measured."""

    expr: str
    step: str = ""
    """The step of a scenario in which it stands."""
    recorded_value: float | None
    recorded_ok: bool
    replayed_value: float | None
    replayed_ok: bool
    same: bool
    """Whether it held in both, or in neither."""
    recorded_judged: bool = True
    """False: its step did not run, or its run was invalid."""
    replayed_judged: bool = True


class DigestBeside(msgspec.Struct, frozen=True, kw_only=True):
    """Trace digests, where the record was made by the simulator; equal ones are one history, to the nanosecond."""

    recorded: str | None = None
    replayed: str | None = None
    same: bool = False


class ReplayedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded run and its replay."""

    run: str
    step: str = ""
    """The inject step of a scenario."""
    replay: str = ""
    """Id of the replay, which is kept as simulated runs are; empty: it was not reached, or could not be kept."""
    artifacts: int = 0
    """Published in the record."""
    republished: int = 0
    """How many of those were published again."""
    recorded_verdict: Verdict | None = None
    replayed_verdict: Verdict | None = None
    figures: list[FigureBeside] = []
    misses: ReplayedMisses = ReplayedMisses()
    expectations: list[ReplayedExpectation] = []
    digest: DigestBeside | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle replayed in the simulator."""

    schema: str = "p2pnet.io/replay/v1"
    bundle: str
    subnet: str
    scenario: str = ""
    target: str
    """Where it was recorded."""
    version: str
    """Version of p2pnet that recorded it."""
    seed: int
    nodes: int
    verdict: ReplayVerdict
    """reproduced: the recorded verdict came again, with the same expectations held and missed."""
    recorded_verdict: Verdict | None = None
    replayed_verdict: Verdict | None = None
    why: list[str] = []
    """Why it is not reproduced, or why nothing can be compared; empty otherwise."""
    runs: list[ReplayedRun] = []
    expectations: list[ReplayedExpectation] = []
    """Those of a scenario, of all its steps; of a run by itself they stand there."""
    digest: DigestBeside | None = None
    """Over the whole history; null where the record was made by live nodes."""
    not_reproduced: list[str] = []
    """What a replay of this record cannot have again, a sentence each."""
    state: Literal["finished", "cancelled"] = "finished"
