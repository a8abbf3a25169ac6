"""The document of a scenario that was run: its steps, what was expected of them, and what became of it."""

from typing import Any, Literal

import msgspec

from p2pnet.model.report import Verdict

StepState = Literal["done", "failed", "skipped", "not run"]
"""failed: it could not be done. skipped: the target lacks it, and that was to be ignored."""


class StepExpectation(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation as it turned out."""

    expr: str
    value: float | None
    """What was measured, in the expression's own unit; a multiple of the other run's metric where two runs are compared, of a
    wait the seconds it took; null when it could not be measured, or is infinite."""
    ok: bool
    name: str
    """The step whose run it is about; of a wait that step itself."""
    step: str
    """The step in which it stands."""
    detail: str = ""
    """What there is to say besides: both values of a comparison, what a wait still waited for."""
    judged: bool = True
    """False: its step did not run, or its run was invalid."""


class ScenarioStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it went. Steps in `parallel` stand on their own, behind it."""

    name: str
    """As written, else its kind and a number, like `wait-2`."""
    kind: str
    number: str
    """`3`, or of a step in parallel `3.2`."""
    what: str
    """What it does, in a few words."""
    state: StepState
    ok: bool
    """Whether it was done and everything expected there held."""
    run: str | None = None
    """The kept run of an inject step."""
    begun_s: float | None = None
    """Seconds since the subnet was up, on the target's clock: virtual ones of a simulated subnet."""
    seconds: float | None = None
    detail: str = ""
    """What became of it, in words: the run's figures, the fault's nodes, why it failed."""
    expectations: list[StepExpectation] = []


class TrialLine(msgspec.Struct, frozen=True, kw_only=True):
    """One trial among several. The command under `rerun` with its `--seed` gives all of it."""

    seed: int
    verdict: Verdict
    missed: list[str] = []
    """Expectations that did not hold."""
    invalid: list[str] = []
    runs: list[str] = []
    """Kept runs, in the order of their steps."""
    digest: str | None = None
    seconds: float = 0.0
    """From its start until all was down again, of the wall clock."""


class HeldExpectation(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation over all trials."""

    expr: str
    name: str
    held: int
    judged: int
    """In how many trials it could be judged."""


class ScenarioRun(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that was run, once or in several trials. Keys are a contract; more may follow.

    `steps` and `expectations` are those of the trial with `shown_seed`: the first that did not pass, else the first.
    """

    schema: str = "p2pnet.io/scenario-run/v1"
    scenario: str
    description: str = ""
    subnet: str
    target: str
    seed: int
    """That of the first trial; each next one has one more."""
    shown_seed: int
    nodes: int
    """At the begin."""
    asked: int = 1
    """Trials asked for."""
    trials: list[TrialLine] = []
    """By seed."""
    held: list[HeldExpectation] = []
    """Over all trials."""
    steps: list[ScenarioStep] = []
    expectations: list[StepExpectation] = []
    verdict: Verdict
    """pass: every expectation of every trial held. invalid outranks fail."""
    invalid: list[str] = []
    """Why it is invalid; empty otherwise."""
    rerun: str = ""
    """The command that runs again what did not pass; empty when all did."""
    kept: bool = False
    """Whether the subnet was left standing, as asked for."""
    state: Literal["finished", "cancelled"] = "finished"
    notes: list[str] = []
    ignored: list[str] = []
    """Steps and fields that the target lacks, `path: why`: skipped, as asked for."""
    digest: str | None = None
    """A hash over all that happened in the trial shown; the simulator's only."""
    seconds: float = 0.0
    """All trials together, by the wall clock."""


class ScenarioRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept with the runs of a scenario, so that it can be run again as it was."""

    schema: str = "p2pnet.io/scenario-record/v1"
    scenario: dict[str, Any]
    """The Scenario, checked."""
    subnet: dict[str, Any]
    """Its Subnet at the begin, as the target honoured it."""
    skipped: dict[str, str] = {}
    """Steps that the target lacked and that were left out, by path."""
    stop_early: bool = False
    """Whether an expectation of a run that could hold no more was to end it, and the scenario."""
    result: ScenarioRun
    """The trial whose runs these are."""
