"""A checked scenario as what will be done: a tree of steps with names, numbers and words, and every run with its expectations."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2pnet.measure.pace import asked_rate, count_of
from p2pnet.model.limits import KIB
from p2pnet.model.units import format_size
from p2pnet.scenario.expectations import Absolute, NamedExpectation, read_expectation, runs_named
from p2pnet.scenario.spec import InjectSpec, Scenario, StepFault, StepKind, StepSpec, UpgradeSpec
from p2pnet.scenario.stage import Awaited, RunAsk
from p2pnet.subnet.faults import describe
from p2pnet.subnet.members import behaviours_of
from p2pnet.subnet.spec import Subnet

SIZE_DEFAULT = 64 * KIB
WAIT_S = 60.0  # for a condition
ANY_REACH = "reach >= 0%"
"""Asked of a run whose reach is judged by comparison alone, in the place of `reach == 100%`."""
EVERY_FAULT = "*"


@dataclass(slots=True)
class PlannedStep:
    """One step."""

    spec: StepSpec
    path: str
    """In the document, like `spec.steps[2]`."""
    name: str
    number: str
    """`3`; of a branch `3.2`; of a step in a branch `3.2.1`."""
    inner: "list[PlannedStep]" = field(default_factory=list)
    """The branches of `parallel`, or the steps of `steps`."""
    run: RunAsk | None = None
    expectations: list[NamedExpectation] = field(default_factory=list)
    """Those of an `expect` step."""

    @property
    def kind(self) -> StepKind:
        """Its verb."""
        return self.spec.kind

    @property
    def what(self) -> str:
        """What it does, in a few words."""
        return words_of(self.spec)

    @property
    def condition(self) -> Awaited | None:
        """What a wait waits for; None: time alone, or it is none."""
        wait = self.spec.wait
        if wait is None or wait.for_ is not None:
            return None
        return Awaited(
            connected=wait.connected.ratio if wait.connected else None,
            idle=wait.idle.ratio if wait.idle else None,
            holds=tuple(wait.holds or ()),
            gone=tuple(wait.gone or ()),
            promise=wait.promise is not None,
        )

    @property
    def condition_text(self) -> str:
        """The condition of a wait as an expectation: `links up >= 100% within 30s`."""
        wait = self.spec.wait
        if wait is None or self.condition is None:
            return ""
        bound = f"within {wait.within or '60s'}"
        if wait.connected:
            return f"connected >= {wait.connected} {bound}"
        if wait.idle:
            return f"idle >= {wait.idle} {bound}"
        if wait.promise:
            return f"promise {wait.promise} {bound}"
        return f"all hold {_names(wait.holds)} {bound}" if wait.holds else f"none holds {_names(wait.gone)} {bound}"


@dataclass(frozen=True, slots=True)
class ScenarioPlan:
    """What will be done, on any target."""

    scenario: Scenario
    subnet: Subnet
    """The document at the begin; its name is the scenario's."""
    steps: list[PlannedStep]

    def all(self) -> Iterator[PlannedStep]:
        """Every step in the order of the document, `parallel` before its branches."""
        return every(self.steps)


def every(steps: Sequence[PlannedStep]) -> Iterator[PlannedStep]:
    """These steps and all within them, in the order of the document."""
    for step in steps:
        yield step
        yield from every(step.inner)


def plan_of(scenario: Scenario, subnet: Subnet) -> ScenarioPlan:
    """The plan of a checked scenario and its subnet."""
    steps = _tree(scenario.spec.steps, "spec.steps", "", Counter())
    listed = list(every(steps))
    honest = subnet.node_count - len(behaviours_of(subnet))
    for step in listed:
        if step.spec.expect is not None:
            step.expectations = [read_expectation(text) for text in step.spec.expect]
    asked = [one for step in listed for one in step.expectations]
    for step in steps:
        for one in every([step]):
            if one.spec.inject is not None:
                beside = sum(other.kind == "inject" for other in every([step]))
                one.run = _run(scenario, one, one.spec.inject, asked, honest=honest, shared=beside > 1)
    return ScenarioPlan(scenario, subnet, steps)


def _tree(specs: Sequence[StepSpec], path: str, above: str, counts: Counter[str]) -> list[PlannedStep]:
    steps = []
    for index, spec in enumerate(specs):
        here, number = f"{path}[{index}]", f"{above}{index + 1}"
        counts[spec.kind] += 1
        step = PlannedStep(spec, here, spec.name or f"{spec.kind}-{counts[spec.kind]}", number)
        inner = spec.parallel if spec.parallel is not None else spec.steps
        if inner is not None:
            step.inner = _tree(inner, f"{here}.{spec.kind}", f"{number}.", counts)
        steps.append(step)
    return steps


def _run(
    scenario: Scenario, step: PlannedStep, inject: InjectSpec, asked: Sequence[NamedExpectation], *, honest: int,
    shared: bool,
) -> RunAsk:  # fmt: skip
    own = list(inject.expect or ())
    named = [one for one in asked if step.name in runs_named(one)]
    absolute = [one.expectation.expr for one in named if isinstance(one, Absolute)]
    expect = list(dict.fromkeys([*own, *absolute]))
    # Judged in every run in which nobody says anything about reach, here too: see `measure.expectations`.
    compared = any(not isinstance(one, Absolute) and "reach" in (one.metric, one.other_metric) for one in named)
    if compared and not any(text.split()[0].startswith("reach") for text in expect):
        expect.append(ANY_REACH)
    return RunAsk(
        name=step.name, label=f"{scenario.name}/{step.name}"[:80],
        size=0 if inject.files else (inject.size.bytes if inject.size else SIZE_DEFAULT), files=tuple(inject.files),
        count=inject_count(inject, honest), rate_per_s=asked_rate(inject.rate.pace) if inject.rate else None,
        publisher=inject.from_,
        client=inject.client or "", within_s=inject.within.seconds, seed=inject.seed, expect=tuple(expect), shared=shared,
    )  # fmt: skip


def inject_count(inject: InjectSpec, honest: int) -> int:
    """How often an inject step publishes each of its payloads, in a subnet of so many honest nodes."""
    if inject.count is not None:
        return inject.count
    pace = inject.rate.pace if inject.rate else None
    return count_of(pace, payloads=max(1, len(inject.files)), publisher=inject.from_, nodes=honest)


def fault_item(fault: StepFault) -> dict[str, Any]:
    """The item of `spec.faults` that a fault step means, without its name."""
    item: dict[str, Any] = fault.model_dump(mode="json", by_alias=True, exclude_unset=True)
    item.pop("name", None)
    return item


# --- words ---


def words_of(spec: StepSpec) -> str:
    """What a step does, in a few words."""
    words = {
        "inject": spec.inject and _inject_words(spec.inject),
        "withdraw": spec.withdraw and f"what {_names(spec.withdraw)} published",
        "expect": spec.expect and "; ".join(spec.expect),
        "fault": spec.fault and describe(spec.fault) + (f" for {spec.fault.for_}" if spec.fault.for_ else ""),
        "heal": spec.heal and ("every fault" if spec.heal == [EVERY_FAULT] else _names(spec.heal)),
        "scale": spec.scale and f"group {spec.scale.group} to {spec.scale.nodes} nodes",
        "restart": spec.restart and spec.restart.nodes,
        "upgrade": spec.upgrade and _upgrade_words(spec.upgrade),
        "rotate": spec.rotate and "certificates of all nodes",
        "wait": spec.wait and (str(spec.wait.for_) if spec.wait.for_ else PlannedStep(spec, "", "", "").condition_text),
        "parallel": spec.parallel and f"{_count(spec.parallel)} at the same time",
        "steps": spec.steps and _count(spec.steps),
    }
    return words[spec.kind] or ""


def _upgrade_words(upgrade: UpgradeSpec) -> str:
    return f"to {upgrade.image}" if upgrade.image else f"{upgrade.nodes}, {upgrade.max_unavailable} at a time"


def _count(steps: Sequence[StepSpec]) -> str:
    return f"{len(steps)} {'step' if len(steps) == 1 else 'steps'}"


def _inject_words(inject: InjectSpec) -> str:
    what = ", ".join(inject.files) or format_size(inject.size.bytes if inject.size else SIZE_DEFAULT)
    count = f"{inject.count} x " if (inject.count or 1) > 1 else ""
    rate = f" at {inject.rate}" if inject.rate else ""
    return f"{count}{what}{rate} from {inject.from_}"


def _names(names: Sequence[str] | None) -> str:
    return ", ".join(names or ())
