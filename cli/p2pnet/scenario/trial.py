"""What one trial gave, and several of them as one document. Pure."""

from collections.abc import Sequence

import msgspec

from p2pnet.model.report import Verdict
from p2pnet.model.scenario_run import HeldExpectation, ScenarioRun, ScenarioStep, StepExpectation, TrialLine
from p2pnet.scenario.plan import ScenarioPlan

OK, FAILED, USAGE, INVALID = 0, 1, 2, 5  # exit codes, as docs/cli.md has them


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trial from its start to its end."""

    seed: int
    steps: list[ScenarioStep]
    invalid: list[str] = []
    """Why it is invalid; empty otherwise."""
    exit_code: int = 0
    """What its end means: 5 outranks what could not be done (2, 3, 4), which outranks what did not hold (1)."""
    interrupted: bool = False
    kept: str = ""
    """What was left standing, in words; empty: nothing."""
    notes: list[str] = []
    digest: str | None = None
    nodes: int = 0
    seconds: float = 0.0

    @property
    def expectations(self) -> list[StepExpectation]:
        """Those of all steps, in their order."""
        return [one for step in self.steps for one in step.expectations]

    @property
    def verdict(self) -> Verdict:
        """Invalid outranks fail."""
        if self.invalid:
            return "invalid"
        return "pass" if all(one.ok for one in self.expectations) else "fail"


class TrialLost(msgspec.Struct, frozen=True):
    """A trial that gave no result."""

    seed: int
    error: str


def merged(
    plan: ScenarioPlan,
    target: str,
    results: Sequence[TrialResult],
    *,
    seed: int,
    asked: int = 1,
    lost: Sequence[TrialLost] = (),
    ignored: Sequence[str] = (),
) -> ScenarioRun:
    """The trials as one document, whatever order they come in. `rerun` is left to whoever knows the command."""
    ordered = sorted(results, key=lambda one: one.seed)
    shown = next((one for one in ordered if one.verdict != "pass"), ordered[0] if ordered else None)
    interrupted = any(one.interrupted for one in ordered)
    invalid = _invalid(ordered, lost, asked)
    verdict: Verdict = "invalid" if invalid else "pass" if all(one.verdict == "pass" for one in ordered) else "fail"
    return ScenarioRun(
        scenario=plan.scenario.name, description=plan.scenario.metadata.description, subnet=plan.subnet.name, target=target,
        seed=seed, shown_seed=seed if shown is None else shown.seed, nodes=plan.subnet.node_count, asked=asked,
        trials=[_line(one) for one in ordered], held=_held(ordered),
        steps=[] if shown is None else shown.steps, expectations=[] if shown is None else shown.expectations,
        verdict=verdict, invalid=invalid, kept=any(one.kept for one in ordered),
        state="cancelled" if interrupted or len(ordered) + len(lost) < asked else "finished",
        notes=[] if shown is None else shown.notes, ignored=list(ignored), digest=None if shown is None else shown.digest,
        seconds=sum(one.seconds for one in ordered),
    )  # fmt: skip


def first_to_repeat(run: ScenarioRun, lost: Sequence[TrialLost] = ()) -> int | None:
    """The seed of the first trial that did not pass, or gave nothing; None when there is none."""
    seeds = [one.seed for one in run.trials if one.verdict != "pass"] + [one.seed for one in lost]
    return min(seeds, default=None)


def exit_code_of(results: Sequence[TrialResult], run: ScenarioRun) -> int:
    """What the end of all trials means."""
    codes = [one.exit_code for one in results]
    if run.verdict == "invalid":
        rest = [code for code in codes if code > FAILED]
        return INVALID if INVALID in rest or not rest else max(rest)
    return FAILED if run.verdict == "fail" else OK


def _line(one: TrialResult) -> TrialLine:
    return TrialLine(
        seed=one.seed, verdict=one.verdict, missed=[each.expr for each in one.expectations if not each.ok],
        invalid=one.invalid, runs=[step.run for step in one.steps if step.run], digest=one.digest, seconds=one.seconds,
    )  # fmt: skip


def _held(results: Sequence[TrialResult]) -> list[HeldExpectation]:
    counted: dict[tuple[str, str, str], list[StepExpectation]] = {}
    for result in results:
        for one in result.expectations:
            counted.setdefault((one.name, one.step, one.expr), []).append(one)
    return [
        HeldExpectation(
            expr=expr, name=name, held=sum(one.ok for one in found), judged=sum(one.judged for one in found)
        )
        for (name, _, expr), found in counted.items()
    ]


def _invalid(results: Sequence[TrialResult], lost: Sequence[TrialLost], asked: int) -> list[str]:
    """The reasons of a single trial; of several one line for all."""
    if asked == 1 and results:
        return list(results[0].invalid)
    bad = [one for one in results if one.verdict == "invalid"]
    gone = sorted(lost, key=lambda one: one.seed)
    left = asked - len(results) - len(lost)
    return [
        *([f"{_trials(len(bad))} invalid, the first with seed {bad[0].seed}: {bad[0].invalid[0]}"] if bad else []),
        *([f"{_trials(len(gone))} without a result, the first with seed {gone[0].seed}: {gone[0].error}"] if gone else []),
        *([f"{_trials(left)} not finished"] if left > 0 else []),
    ]  # fmt: skip


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
