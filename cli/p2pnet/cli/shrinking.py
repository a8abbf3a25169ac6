"""`run --shrink`: a scenario that fails in the simulator, made as small as it can be with that failure, and written as files.

Which failure: the first expectation that did not hold. A smaller scenario fails in the same way if that expectation, of the
step of that name, does not hold there either, with a value if it had one before; if nothing else fails that held; and if
the run it is about went on in like circumstances: with no other faults in force, and with all links up if they were.
"""

import asyncio
import copy
import math
import shlex
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.scenario_file import CheckedScenario, read_checked
from p2pnet.cli.session import Session
from p2pnet.cli.stages.simulated import SimulatedStage, StepCircumstances, awaited_key
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.scenario_run import StepExpectation
from p2pnet.model.shrunk import ScenarioSize, ShrunkScenario
from p2pnet.model.text import some
from p2pnet.scenario.document import checked_plan, read_scenario
from p2pnet.scenario.plan import PlannedStep, ScenarioPlan
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.shrinking import ScenarioDocuments, Shrinker, ShrinkingEndedError
from p2pnet.scenario.targets import sized
from p2pnet.scenario.trial import TrialResult
from p2pnet.subnet.document import load_subnet, nodes_max_of, to_document

TRIALS_MAX = 1_000  # simulations of one shrinking
SECONDS_MAX = 600.0  # of the wall clock, for all of them
TRIAL_S_MIN, TRIAL_TIMES_MAX = (
    5.0,
    3.0,
)  # one trial takes at most so long, or so many times as long as the whole scenario
SCENARIO_FILE, SUBNET_FILE = "scenario.yaml", "subnet.yaml"
TARGET = "sim"
GROUPS = ("parallel", "steps")


class _TooLongError(P2pnetError):
    """A trial takes longer than one may."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a scenario fails by, and in which circumstances."""

    expectation: StepExpectation
    missed: frozenset[tuple[str, str, str]]
    """Step, subject and text of all expectations that did not hold."""
    circumstances: StepCircumstances | None
    unknown: bool
    """Whether the run it is about has receipts of which nobody knows whether they came."""


def check_folder(folder: Path) -> None:
    """Make the folder that the smaller scenario is written to. CommandError (exit 2) where it holds something or cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = next(folder.iterdir(), None)
    except OSError as error:
        raise CommandError(
            f"cannot write to {folder}: {error.strerror}",
            where=f"--shrink {folder}",
            next_step="name a folder that can be made",
        ) from None
    if there is not None:
        raise CommandError(
            f"{folder} is not empty: {there.name} is there", where=f"--shrink {folder}", next_step="name a new folder"
        )


async def shrink(checked: CheckedScenario, *, seed: int, folder: Path, file: Path, session: Session) -> ShrunkScenario:
    """Shrink a scenario that failed with this seed, write the smaller one into the folder, and run what was written.

    Ctrl-C ends it with the smallest so far. CommandError (exit 5) where it does not fail by an expectation.
    """
    shrinking = _Shrinking(checked, seed, session)
    await shrinking.begin()
    state, why = await shrinking.run()
    return await shrinking.written(folder, file, state, why)


class _Shrinking:
    """One shrinking from its first trial to its files."""

    def __init__(self, checked: CheckedScenario, seed: int, session: Session) -> None:
        self._checked = checked
        self._seed = seed
        self._session = session
        self._first = _named_documents(checked.plan, checked.skipped)
        self._failure: Failure | None = None
        self._size = size_of(checked.plan, self._first, checked.folder)
        self._began_s = time.monotonic()
        self._trial_s = TRIAL_S_MIN
        self._trials = 0
        self._interrupted = False
        self._sizes: dict[str, ScenarioSize] = {}
        self._shrinker = Shrinker(self._first, self._fails, self._tell)

    async def begin(self) -> None:
        """The whole scenario once more, to know its failure and how long a trial takes."""
        began = time.monotonic()
        self._trials, seed, folder = 1, self._seed, self._checked.folder
        found = await failure_of(_plan(self._first), seed, folder, wanted=None, trial_s=math.inf)
        if found == "interrupted":
            raise asyncio.CancelledError
        self._failure = found if isinstance(found, Failure) else None
        self._trial_s = max(TRIAL_S_MIN, TRIAL_TIMES_MAX * (time.monotonic() - began))
        if self._failure is None:
            raise CommandError(
                "it does not fail by an expectation any more, so there is nothing to shrink", where=f"seed {self._seed}",
                next_step="run it again without --shrink", exit_code=5,
            )  # fmt: skip
        self._session.remark(f"shrinking while {_words(self._failure.expectation)}: {_told(self._size)}")

    async def run(self) -> tuple[Any, str]:
        """How it ended, and which bound ended it."""
        try:
            await self._files_to_bytes()
            await self._shrinker.shrink()
            await self._own_seed()
        except ShrinkingEndedError as error:
            return ("cancelled", "") if self._interrupted else ("bounded", str(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return "cancelled", ""
        return "finished", ""

    # --- one candidate ---

    async def _fails(self, documents: ScenarioDocuments) -> bool:
        """Whether a candidate is smaller, and fails as the whole scenario does."""
        try:
            plan = _plan(documents)
            size = size_of(plan, documents, self._checked.folder)
        except (SpecError, OSError):
            return False
        best = self._sizes.get("best", self._size)
        grown = (size.nodes, size.steps, size.faults, size.artifacts, size.bytes)
        if any(
            one > other
            for one, other in zip(grown, (best.nodes, best.steps, best.faults, best.artifacts, best.bytes), strict=True)
        ):
            return False
        failure = await self._failure_of(documents, plan)
        if failure is None or self._failure is None or not is_same(self._failure, failure):
            return False
        self._sizes["best"] = size
        return True

    async def _failure_of(self, documents: ScenarioDocuments, plan: ScenarioPlan | None = None) -> Failure | None:
        """How it fails; None: it does not, or is no scenario. Raises ShrinkingEndedError at a bound, and after Ctrl-C."""
        self._check_bounds()
        self._trials += 1
        self._draw()
        wanted = None if self._failure is None else key_of(self._failure.expectation)
        try:
            found = await failure_of(
                plan or _plan(documents), self._seed, self._checked.folder, wanted=wanted, trial_s=self._trial_s
            )
        except SpecError:  # a client or a graph that cannot be
            return None
        if found == "interrupted":
            self._interrupted = True
            raise ShrinkingEndedError("interrupted")
        return found if isinstance(found, Failure) else None

    def _check_bounds(self) -> None:
        if self._trials >= TRIALS_MAX:
            raise ShrinkingEndedError(f"after {TRIALS_MAX} trials")
        if time.monotonic() - self._began_s >= SECONDS_MAX:
            raise ShrinkingEndedError(f"after {SECONDS_MAX:.0f} s")

    async def _files_to_bytes(self) -> None:
        """Generated artifacts in the place of files, where it fails with them too."""
        scenario = copy.deepcopy(self._first.scenario)
        found = False
        for step in _injects(scenario["spec"]["steps"]):
            if files := step["inject"].pop("files", None):
                size = max((self._checked.folder / name).stat().st_size for name in files)
                step["inject"] |= {"size": f"{size}B", "count": step["inject"].get("count", 1) * len(files)}
                found = True
        documents = ScenarioDocuments(scenario, self._first.subnet)
        if found and await self._fails(documents):
            self._shrinker.best = documents
            self._tell("generated artifacts for files")

    async def _own_seed(self) -> None:
        """The seed in the Subnet, so that nobody need say it."""
        subnet = copy.deepcopy(self._shrinker.best.subnet)
        if _plan(self._shrinker.best).subnet.spec.seed != self._seed:
            subnet["spec"]["seed"] = self._seed
            documents = ScenarioDocuments(self._shrinker.best.scenario, subnet)
            if await self._fails(documents):
                self._shrinker.best = documents

    # --- what a person sees ---

    def _tell(self, what: str) -> None:
        self._session.remark(f"{self._trials:>5}  {what:<58.58} {_told(self._sizes.get('best', self._size))}")

    def _draw(self) -> None:
        now = self._sizes.get("best", self._size)
        self._session.listener.waiting(f"trial {self._trials} of {TRIALS_MAX} at most; by now {_told(now)}")

    # --- files ---

    async def written(self, folder: Path, file: Path, state: Any, why: str) -> ShrunkScenario:
        """Write the smallest, run what was written, and say how it came to be."""
        best, failure = self._shrinker.best, self._failure
        assert failure is not None  # noqa: S101 - `begin` has seen it
        copied = self._copy_files(best, folder)
        about = f"# Shrunk from {file.name}: fails by {_words(failure.expectation)}.\n"
        paths = folder / SCENARIO_FILE, folder / SUBNET_FILE
        for path, document in zip(paths, best, strict=True):
            text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
            path.write_text(about + text, encoding="utf-8")
        again = read_checked(paths[0], TARGET, self._session, ignore=False)
        own = again.plan.subnet.spec.seed == self._seed
        key = key_of(failure.expectation)
        found = await failure_of(again.plan, self._seed, again.folder, wanted=key, trial_s=math.inf)
        state = "cancelled" if found == "interrupted" else state
        verified = isinstance(found, Failure) and is_same(failure, found)
        shown = found.expectation if isinstance(found, Failure) else failure.expectation
        words = ["p2pnet", "run", str(paths[0]), "--on", TARGET, *([] if own else ["--seed", str(self._seed)])]
        return ShrunkScenario(
            scenario=self._checked.plan.scenario.name, file=str(file), seed=self._seed, expectation=shown,
            before=self._size, after=size_of(again.plan, best, folder), trials=self._trials,
            seconds=round(time.monotonic() - self._began_s, 3), state=state, why=why, verified=verified,
            scenario_file=str(paths[0]), subnet_file=str(paths[1]), files=copied, rerun=shlex.join(words),
            scenario_document=best.scenario, subnet_document=best.subnet,
        )  # fmt: skip

    def _copy_files(self, documents: ScenarioDocuments, folder: Path) -> list[str]:
        """The files that it still publishes, beside it, each by its last name."""
        copied: dict[str, str] = {}
        for step in _injects(documents.scenario["spec"]["steps"]):
            names = step["inject"].get("files") or []
            for index, name in enumerate(names):
                if name not in copied:
                    own = (
                        Path(name).name
                        if Path(name).name not in copied.values()
                        else f"{len(copied)}-{Path(name).name}"
                    )
                    shutil.copyfile(self._checked.folder / name, folder / own)
                    copied[name] = own
                names[index] = copied[name]
        return [str(folder / own) for own in copied.values()]


# --- trials ---


async def failure_of(
    plan: ScenarioPlan, seed: int, folder: Path, *, wanted: tuple[str, str, str] | None, trial_s: float
) -> Failure | str | None:
    """How a trial fails by the wanted expectation, or else by the first that does not hold; None: it does not.

    `interrupted`: Ctrl-C ended it. A trial that is invalid, or takes longer than `trial_s`, does not fail. Raises SpecError.
    """
    deadline = time.monotonic() + trial_s

    def look() -> None:
        if time.monotonic() > deadline:
            raise _TooLongError(f"a trial of more than {trial_s:.0f} s")

    stage = SimulatedStage(plan, seed=seed, state=None, folder=folder, on_turn=look)
    runner = ScenarioRunner(plan, stage, seed=seed, tell=lambda _: None, clock=time.monotonic)
    result = await runner.run()
    if result.interrupted:
        return "interrupted"
    return None if result.verdict != "fail" else _failure(plan, stage, result, wanted)


def _failure(
    plan: ScenarioPlan, stage: SimulatedStage, result: TrialResult, wanted: tuple[str, str, str] | None
) -> Failure | None:
    missed = [one for one in result.expectations if not one.ok]
    found = next((one for one in missed if wanted in (None, key_of(one))), None)
    if found is None:
        return None
    [step, *_] = [one for one in plan.all() if one.name == found.name]
    subject = found.name if step.condition is None else awaited_key(step.condition)
    report_of = next((one for one in result.steps if one.name == found.name), None)
    unknown = report_of is not None and "unknown" in report_of.detail
    return Failure(found, frozenset(map(key_of, missed)), stage.circumstances.get(subject), unknown)


def is_same(before: Failure, after: Failure) -> bool:
    """Whether the one is the other again, as this module's head says."""
    then, now = before.circumstances, after.circumstances
    if then is None or now is None:
        return False
    return (
        key_of(before.expectation) == key_of(after.expectation)
        and (before.expectation.value is None) == (after.expectation.value is None)
        and after.missed <= before.missed
        and now.faults <= then.faults
        and (now.connected or not then.connected)
        and (before.unknown or not after.unknown)
    )


def key_of(one: StepExpectation) -> tuple[str, str, str]:
    """What makes an expectation the same in another run of the scenario."""
    return one.step, one.name, one.expr


def _words(one: StepExpectation) -> str:
    return one.expr if one.expr.startswith(f"{one.name}.") else f"{one.expr} of {one.name}"


# --- documents ---


def _plan(documents: ScenarioDocuments) -> ScenarioPlan:
    """The checked plan of a candidate. Raises SpecError."""
    subnet = load_subnet(documents.subnet, nodes_max=nodes_max_of(TARGET))
    return checked_plan(read_scenario(documents.scenario).scenario, subnet, nodes_max=nodes_max_of(TARGET))


def _named_documents(plan: ScenarioPlan, skipped: Container[str]) -> ScenarioDocuments:
    """The documents of a plan without the steps that are skipped, by path, with the Subnet by itself and a name for every step.

    Names are what a step is known by.
    """
    scenario: dict[str, Any] = plan.scenario.model_dump(mode="json", by_alias=True, exclude_unset=True)
    scenario["spec"].pop("subnet", None)
    scenario["spec"] = {"subnetFrom": SUBNET_FILE, "steps": _named(scenario["spec"]["steps"], plan.steps, skipped)}
    scenario["metadata"] = {"name": plan.scenario.name}
    subnet = to_document(plan.subnet)
    subnet["metadata"] = {"name": plan.subnet.name}
    return ScenarioDocuments(scenario, subnet)


def _named(
    steps: list[dict[str, Any]], planned: Iterable[PlannedStep], skipped: Container[str]
) -> list[dict[str, Any]]:
    found = []
    for step, plan in zip(steps, planned, strict=True):
        if plan.path in skipped:
            continue
        inner = {key: _named(step[key], plan.inner, skipped) for key in GROUPS if key in step}
        found.append({"name": plan.name, **step, **inner} if not inner else {**step, **inner})
    return found


def _injects(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        if "inject" in step:
            yield step
        for key in GROUPS:
            yield from _injects(step.get(key) or [])


def size_of(plan: ScenarioPlan, documents: ScenarioDocuments, folder: Path) -> ScenarioSize:
    """How large it is. Raises OSError for a file that is not there."""
    nodes, subnet = plan.subnet.node_count, plan.subnet
    leaves = [step for step in plan.all() if step.kind not in GROUPS]
    artifacts = octets = 0
    for step in leaves:
        if step.spec.scale is not None:
            subnet = sized(subnet, step.spec.scale.group, step.spec.scale.nodes, nodes_max_of(TARGET))
            nodes = max(nodes, subnet.node_count)
        if step.run is not None:
            senders = subnet.node_count if step.run.publisher == "all" else 1
            sizes = [(folder / name).stat().st_size for name in step.run.files] or [step.run.size]
            artifacts += step.run.count * senders * len(sizes)
            octets += step.run.count * senders * sum(sizes)
    faults = len(plan.subnet.spec.faults) + sum(step.kind == "fault" for step in leaves)
    lines = sum(len(yaml.safe_dump(one, sort_keys=False).splitlines()) for one in documents)
    return ScenarioSize(nodes=nodes, steps=len(leaves), faults=faults, artifacts=artifacts, bytes=octets, lines=lines)


def _told(size: ScenarioSize) -> str:
    counted = {"node": size.nodes, "step": size.steps, "fault": size.faults, "artifact": size.artifacts}
    return some([f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counted.items()])
