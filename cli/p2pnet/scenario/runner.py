"""Walks the steps of a plan on a stage, and tells listeners how it goes. Knows nothing of where the subnet lives."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from p2pnet.measure.wording import milliseconds, percent, stopped_words
from p2pnet.model.errors import LocalError, P2pnetError
from p2pnet.model.report import Report
from p2pnet.model.scenario_run import ScenarioStep, StepExpectation
from p2pnet.model.text import some
from p2pnet.scenario.events import (
    Ending,
    EventListener,
    StepBegan,
    StepEnded,
    StepProgress,
    SubnetUp,
    TrialEnded,
)
from p2pnet.scenario.expectations import Absolute, judge, runs_named
from p2pnet.scenario.plan import ANY_REACH, EVERY_FAULT, WAIT_S, PlannedStep, ScenarioPlan, every, fault_item
from p2pnet.scenario.spec import StepKind
from p2pnet.scenario.stage import NAMED_MAX, ProgressSink, Stage
from p2pnet.scenario.targets import nodes_meant, sized
from p2pnet.scenario.trial import FAILED, INVALID, USAGE, TrialResult
from p2pnet.subnet.spec import SIMULATED_NODES_MAX, Subnet

Part = TypeVar("Part")
INTERRUPTED = "interrupted"
NOT_REACHED = "the scenario ended before this step"


class ScenarioRunner:
    """One trial. `skipped`: why a step is left out, by its path. `clock`: seconds of the wall clock.

    `stop_early`: an expectation of a run that can hold no more ends it, and the scenario.
    """

    def __init__(
        self,
        plan: ScenarioPlan,
        stage: Stage,
        *,
        seed: int,
        tell: EventListener,
        clock: Callable[[], float],
        keep: bool = False,
        stop_early: bool = False,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self._plan = plan
        self._stage = stage
        self._seed = seed
        self._tell = tell
        self._clock = clock
        self._keep = keep
        self._stop_early = stop_early
        self._skipped = skipped or {}
        self._subnet: Subnet = plan.subnet
        self._results = {step.path: _unreached(step) for step in plan.all()}
        self._named = [one for step in plan.all() for one in step.expectations]
        self._reports: dict[str, Report] = {}
        """By name of the inject step."""
        self._faults: list[str] = []
        """Names of those in force."""
        self._invalid: list[str] = []
        self._codes: set[int] = set()
        self._failed = False
        """A step could not be done, or its run was stopped early: nothing after it is."""
        self._interrupted = False
        self._kept = ""

    async def run(self) -> TrialResult:
        """From the start of the subnet to its end. Cancelled once, it ends what goes on, takes the subnet down and says so."""
        began = self._clock()
        try:
            await self._execute()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()  # once: what follows is the end that is wanted, the second time nothing is waited for
            self._interrupted = True
            self._invalid.append("interrupted: the steps after that did not run")
        digest = self._stage.digest()
        self._invalid += self._stage.problems()
        self._tell(Ending(self._interrupted))
        await self._end()
        result = TrialResult(
            seed=self._seed, steps=self._steps(), invalid=self._reasons(), exit_code=self._exit_code(),
            interrupted=self._interrupted, kept=self._kept, notes=self._stage.notes(), digest=digest,
            nodes=self._plan.subnet.node_count, seconds=self._clock() - began,
        )  # fmt: skip
        self._tell(TrialEnded(result))
        return result

    async def _execute(self) -> None:
        try:
            self._tell(SubnetUp(await self._stage.up(self._progress(None))))
        except P2pnetError as error:
            self._refuse(f"the subnet: {error}", error)
            return
        await self._sequence(self._plan.steps)

    async def _end(self) -> None:
        """Down, or left standing; what goes wrong there is told, and changes no verdict of what was measured."""
        try:
            if self._keep:
                self._kept = await self._stage.leave()
            else:
                await self._stage.down()
        except P2pnetError as error:
            self._refuse(f"at the end: {error}", error)

    # --- steps ---

    async def _sequence(self, steps: Sequence[PlannedStep]) -> None:
        for step in steps:
            if self._failed:
                return
            await self._step(step)

    async def _step(self, step: PlannedStep) -> None:
        if why := self._skipped.get(step.path):
            self._put(step, state="skipped", ok=True, detail=why)
            return
        begun = self._stage.seconds()
        self._tell(StepBegan(step))
        try:
            done = await self._do(step)
        except P2pnetError as error:
            self._refuse(f"step {step.number} ({step.name}): {error}", error)
            done = {"state": "failed", "ok": False, "detail": str(error), "run": self._kept_run(step)}
        except asyncio.CancelledError:
            run = self._kept_run(step)
            self._put(step, state="failed", ok=False, detail=INTERRUPTED, begun_s=round(begun, 6), run=run)
            raise
        ended = self._stage.seconds()
        self._put(step, begun_s=round(begun, 6), seconds=round(ended - begun, 6), **done)

    def _kept_run(self, step: PlannedStep) -> str | None:
        """What an inject step that did not come to its end left."""
        return self._stage.kept_run(step.name) if step.run is not None else None

    def _put(self, step: PlannedStep, **fields: Any) -> None:
        result = self._results[step.path] = msgspec.structs.replace(self._results[step.path], **fields)
        self._tell(StepEnded(step, result))

    async def _do(self, step: PlannedStep) -> dict[str, Any]:
        """What became of it: fields of `ScenarioStep`."""
        does: dict[StepKind, Callable[[PlannedStep], Coroutine[Any, Any, dict[str, Any]]]] = {
            "inject": self._inject, "withdraw": self._withdraw, "expect": self._expect, "fault": self._fault, "heal": self._heal,
            "scale": self._scale, "restart": self._restart, "upgrade": self._upgrade, "rotate": self._rotate, "wait": self._wait,
            "parallel": self._parallel, "steps": self._inner,
        }  # fmt: skip
        return await does[step.kind](step)

    async def _inject(self, step: PlannedStep) -> dict[str, Any]:
        ask = step.run
        assert ask is not None  # noqa: S101 - the plan gives every inject step one
        if ask.seed is None:
            ask = replace(ask, seed=self._seed)
        ask = replace(ask, stop_early=self._stop_early)
        report = self._reports[step.name] = await self._stage.inject(ask, self._progress(step))
        stopped = report.stopped_early
        self._failed |= stopped is not None
        # The steps that would judge the rest are not reached any more.
        named = self._judged_elsewhere(step) if stopped is None else {ANY_REACH}
        invalid = report.verdict == "invalid"
        found = [
            StepExpectation(
                expr=one.expr,
                value=one.value,
                ok=one.ok and not invalid,
                name=step.name,
                step=step.name,
                judged=not invalid,
            )
            for one in report.expectations
            if one.expr not in named
        ]
        if invalid:
            self._codes.add(INVALID)
            self._invalid += [f"run {report.run} of {step.name}: {reason}" for reason in report.invalid]
        ok = not invalid and all(one.ok for one in found)
        detail = f"invalid: {report.invalid[0]}" if report.invalid else figures(report)
        if stopped is not None:
            detail = f"{stopped_words(stopped)}; {detail}"
        return {"state": "done", "ok": ok, "run": report.run or None, "expectations": found, "detail": detail}

    def _judged_elsewhere(self, step: PlannedStep) -> set[str]:
        """What a run judges for the sake of later steps, and not of its own."""
        own = set(step.spec.inject.expect or ()) if step.spec.inject else set()
        named = {one.expectation.expr for one in self._named if isinstance(one, Absolute) and one.run == step.name}
        return (named | {ANY_REACH}) - own

    async def _expect(self, step: PlannedStep) -> dict[str, Any]:
        found = []
        for one in step.expectations:
            judged = judge(one, self._reports)
            bad = [name for name in runs_named(one) if self._reports[name].verdict == "invalid"]
            if judged.invalid:
                self._codes.add(INVALID)
                self._invalid.append(judged.invalid)
            held = judged.ok and not bad and not judged.invalid
            detail = judged.detail or (f"{' and '.join(bad)} invalid" if bad else "")
            found.append(
                StepExpectation(
                    expr=one.expr, value=judged.value, ok=held, name=one.run, step=step.name, detail=detail,
                    judged=not (bad or judged.invalid),
                )
            )  # fmt: skip
        return {"state": "done", "ok": all(one.ok for one in found), "expectations": found}

    async def _wait(self, step: PlannedStep) -> dict[str, Any]:
        wait, condition = _given(step.spec.wait), step.condition
        if condition is None:
            await self._stage.sleep(wait.for_.seconds if wait.for_ else 0.0)
            return _done("")
        began = self._stage.seconds()
        waited = await self._stage.wait(condition, wait.within.seconds if wait.within else WAIT_S, self._progress(step))
        result = StepExpectation(
            expr=step.condition_text, value=round(self._stage.seconds() - began, 6) if waited.came else None, ok=waited.came,
            name=step.name, step=step.name, detail=waited.detail,
        )  # fmt: skip
        return {"state": "done", "ok": waited.came, "expectations": [result], "detail": waited.detail}

    async def _withdraw(self, step: PlannedStep) -> dict[str, Any]:
        return _done(await self._stage.withdraw(_given(step.spec.withdraw), self._progress(step)))

    async def _fault(self, step: PlannedStep) -> dict[str, Any]:
        fault = _given(step.spec.fault)
        words = await self._stage.fault(step.name, fault_item(fault))
        self._faults.append(step.name)
        return _done(words)

    async def _heal(self, step: PlannedStep) -> dict[str, Any]:
        names = _given(step.spec.heal)
        meant = list(self._faults) if names == [EVERY_FAULT] else [name for name in names if name in self._faults]
        self._faults = [name for name in self._faults if name not in meant]
        return _done(await self._stage.heal(meant) if meant else "nothing was in force")

    async def _scale(self, step: PlannedStep) -> dict[str, Any]:
        scale = _given(step.spec.scale)
        words = await self._stage.scale(scale.group, scale.nodes, scale.within.seconds, self._progress(step))
        self._subnet = sized(self._subnet, scale.group, scale.nodes, SIMULATED_NODES_MAX)
        return _done(words)

    async def _restart(self, step: PlannedStep) -> dict[str, Any]:
        restart = _given(step.spec.restart)
        nodes = nodes_meant(self._subnet, restart.nodes, step.name)
        return _done(await self._stage.restart(nodes, restart.within.seconds, self._progress(step)))

    async def _rotate(self, step: PlannedStep) -> dict[str, Any]:
        return _done(await self._stage.rotate(_given(step.spec.rotate).within.seconds, self._progress(step)))

    async def _upgrade(self, step: PlannedStep) -> dict[str, Any]:
        upgrade, progress = _given(step.spec.upgrade), self._progress(step)
        if upgrade.image is not None:
            return _done(await self._stage.upgrade(upgrade.image, upgrade.within.seconds, progress))
        nodes = nodes_meant(self._subnet, upgrade.nodes, step.name)
        for at in range(0, len(nodes), upgrade.max_unavailable):
            progress("nodes replaced", at, len(nodes))
            await self._stage.restart(nodes[at : at + upgrade.max_unavailable], upgrade.within.seconds, _quiet)
        return _done(f"{some(nodes, NAMED_MAX)} restarted, {upgrade.max_unavailable} at a time")

    async def _parallel(self, step: PlannedStep) -> dict[str, Any]:
        await self._stage.together([self._branch(inner) for inner in step.inner])
        return self._all_of(step)

    async def _inner(self, step: PlannedStep) -> dict[str, Any]:
        await self._sequence(step.inner)
        return self._all_of(step)

    def _all_of(self, step: PlannedStep) -> dict[str, Any]:
        return {"state": "done", "ok": all(self._results[one.path].ok for one in every(step.inner))}

    def _branch(self, step: PlannedStep) -> Coroutine[Any, Any, None]:
        async def work() -> None:
            if step.spec.at is not None:
                await self._stage.sleep(step.spec.at.seconds)
            if not self._failed:
                await self._step(step)

        return work()

    # --- what it comes to ---

    def _progress(self, step: PlannedStep | None) -> ProgressSink:
        return lambda text, done, total: self._tell(StepProgress(step, text, done, total))

    def _refuse(self, what: str, error: P2pnetError) -> None:
        """Something could not be done: nothing more is."""
        self._failed = True
        self._codes.add(int(getattr(error, "exit_code", USAGE if isinstance(error, LocalError) else INVALID)))
        hint = getattr(error, "hint", "")
        self._invalid.append(f"{what} ({hint})" if hint else what)

    def _steps(self) -> list[ScenarioStep]:
        return [self._results[step.path] for step in self._plan.all()]

    def _reasons(self) -> list[str]:
        return list(dict.fromkeys(self._invalid))

    def _exit_code(self) -> int:
        if self._invalid:
            rest = self._codes - {FAILED}
            return INVALID if INVALID in rest or not rest else max(rest)
        return 0 if all(one.ok for step in self._results.values() for one in step.expectations) else FAILED


def figures(report: Report) -> str:
    """A run in a line: `reach 100%, p50 20 ms, p95 41 ms`."""
    latency = report.latency_ms
    parts = [
        f"reach {percent(report.reach.ratio)}",
        f"p50 {milliseconds(latency.p50)}",
        f"p95 {milliseconds(latency.p95)}",
    ]
    if report.unknown:
        parts.append(f"{report.unknown} unknown")
    return ", ".join(parts)


def _unreached(step: PlannedStep) -> ScenarioStep:
    """A step before anything was done, with what is expected of it: what never ran must not look like a pass."""
    named = [(one.run, one.expr) for one in step.expectations]
    if step.spec.inject is not None:
        named += [(step.name, text) for text in step.spec.inject.expect or ()]
    if step.condition is not None:
        named.append((step.name, step.condition_text))
    return ScenarioStep(
        name=step.name, kind=step.kind, number=step.number, what=step.what, state="not run", ok=False,
        expectations=[
            StepExpectation(expr=expr, value=None, ok=False, name=name, step=step.name, detail=NOT_REACHED, judged=False)
            for name, expr in named
        ],
    )  # fmt: skip


def _given(part: Part | None) -> Part:
    assert part is not None  # noqa: S101 - a step's kind is the part that it has
    return part


def _done(detail: str) -> dict[str, Any]:
    return {"state": "done", "ok": True, "detail": detail}


def _quiet(text: str, done: int, total: int) -> None:
    """Tell nobody."""
