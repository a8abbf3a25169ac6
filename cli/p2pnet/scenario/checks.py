"""What the shapes of the Scenario document cannot say: its contradictions, with the subnet as each step finds it. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from p2pnet.measure.expectations import parse
from p2pnet.measure.pace import schedule
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import client_among
from p2pnet.model.jobs import artifacts_asked
from p2pnet.scenario.expectations import read_expectation, runs_named
from p2pnet.scenario.plan import EVERY_FAULT, SIZE_DEFAULT, fault_item, inject_count
from p2pnet.scenario.spec import InjectSpec, Scenario, StepSpec, UpgradeSpec, WaitSpec
from p2pnet.scenario.targets import honest_nodes, nodes_meant, sized
from p2pnet.subnet.faults import read_fault
from p2pnet.subnet.members import members
from p2pnet.subnet.mistakes import Mistake
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import Subnet

WAIT_S_MAX = 86_400.0  # a day
WITHIN_S_MAX = 86_400.0  # the lab's own bound
_FAULT_KEYS = frozenset(field.alias or name for name, field in FaultSpec.model_fields.items())
_AWAITED = ("for", "connected", "idle", "holds", "gone", "promise")  # one of them in a wait
KINDS_TEXT = "inject, withdraw, expect, fault, heal, scale, restart, upgrade, rotate, wait or parallel"


@dataclass(slots=True)
class _Found:
    """What a step finds."""

    subnet: Subnet
    runs: frozenset[str] = frozenset()
    """Names of inject steps that are over."""
    faults: Mapping[str, FaultSpec] = field(default_factory=dict)
    """Faults in force by the name of their steps."""
    ended: frozenset[str] = frozenset()
    """Names of faults that were healed."""
    withdrawn: frozenset[str] = frozenset()
    """Names of inject steps whose artifacts were taken back."""


def contradictions(scenario: Scenario, subnet: Subnet, nodes_max: int) -> list[Mistake]:
    """Every contradiction of a scenario whose shapes are right, in the order of the document."""
    walk = _Walk(nodes_max, dict(_named(scenario.spec.steps, "spec.steps")))
    walk.sequence(scenario.spec.steps, "spec.steps", _Found(subnet))
    if not walk.mistakes and not walk.measures:
        walk.mistakes.append(("spec.steps", "nothing is measured: add an inject step, or a wait for a condition"))
    return walk.mistakes


class _Walk:
    def __init__(self, nodes_max: int, named: Mapping[str, str]) -> None:
        self.mistakes: list[Mistake] = []
        self.measures = False
        self._nodes_max = nodes_max
        self._later = named
        """Path by name, of all steps; of those that were not met yet while the walk goes on."""
        self._names: dict[str, str] = {}
        """Path by name."""

    def sequence(self, steps: list[StepSpec], path: str, found: _Found, *, branch: bool = False) -> _Found:
        """Check steps that follow each other; what the next one after them finds."""
        for index, step in enumerate(steps):
            found = self._step(step, f"{path}[{index}]", found, in_parallel=False, in_branch=branch)
        return found

    def _step(self, step: StepSpec, path: str, found: _Found, *, in_parallel: bool, in_branch: bool) -> _Found:
        kinds = step.kinds
        if len(kinds) != 1:
            both = " and ".join(kinds)
            self._say(
                path,
                f"a step does one thing, not {both}: make steps of them"
                if kinds
                else f"a step does one of {KINDS_TEXT}",
            )
            return found
        if step.name is not None:
            if step.name in self._names:
                self._say(f"{path}.name", f"{step.name!r} is the name of {self._names[step.name]} already")
            self._names.setdefault(step.name, path)
        if step.at is not None and not in_parallel:
            self._say(f"{path}.at", "belongs to steps in parallel: write a wait step before this one")
        if step.kind == "steps" and not in_parallel:
            self._say(f"{path}.steps", "belongs into parallel: write the steps themselves here")
            return found
        if step.kind == "parallel" and in_branch:
            self._say(f"{path}.parallel", "stands in another parallel: add its steps to that one")
            return found
        check: Callable[[StepSpec, str, _Found], _Found] = getattr(self, f"_{step.kind}")
        return check(step, path, found)

    def _say(self, path: str, text: str) -> None:
        self.mistakes.append((path, text))

    def _try(self, path: str, work: Callable[[], object]) -> None:
        """Say what it raises, a mistake for each line."""
        try:
            work()
        except SpecError as error:
            lines = str(error).splitlines()
            for line in lines[1:] if len(lines) > 1 else lines:
                key, colon, text = line.strip().partition(": ")
                if colon and key.partition(".")[0].partition("[")[0] in _FAULT_KEYS:
                    self._say(path if key == "from" and path.endswith("nodes") else f"{path}.{key}", text)
                else:
                    self._say(path, line.strip())

    # --- kinds of steps ---

    def _inject(self, step: StepSpec, path: str, found: _Found) -> _Found:
        inject, here = step.inject or InjectSpec(), f"{path}.inject"
        self.measures = True
        self.mistakes += _load(inject, here, found.subnet)
        for index, text in enumerate(inject.expect or ()):
            self._try(f"{here}.expect[{index}]", lambda text=text: parse(text))  # type: ignore[misc]
        return replace(found, runs=found.runs | {step.name}) if step.name else found

    def _expect(self, step: StepSpec, path: str, found: _Found) -> _Found:
        for index, text in enumerate(step.expect or ()):
            here = f"{path}.expect[{index}]"
            try:
                named = runs_named(read_expectation(text))
            except SpecError as error:
                self._say(here, str(error))
                continue
            for name in named:
                if name not in found.runs:
                    self._say(here, self._unknown(name, found.runs, "inject", "run"))
        return found

    def _fault(self, step: StepSpec, path: str, found: _Found) -> _Found:
        fault, here = step.fault, f"{path}.fault"
        assert fault is not None  # noqa: S101 - it is a fault step
        if "name" in fault.model_fields_set:
            self._say(f"{here}.name", "a fault has the name of its step: write it beside fault")
            return found
        given = {"name": step.name} if step.name else {}
        taken = {one.name for one in found.subnet.spec.faults} | found.faults.keys()
        before = len(self.mistakes)
        read: list[FaultSpec] = []
        self._try(here, lambda: read.append(read_fault(found.subnet, {**fault_item(fault), **given}, taken=taken)))
        if len(self.mistakes) > before or step.name is None:
            return found
        return replace(found, faults={**found.faults, step.name: read[0]}, ended=found.ended - {step.name})

    def _heal(self, step: StepSpec, path: str, found: _Found) -> _Found:
        names = step.heal or []
        if names == [EVERY_FAULT]:
            return replace(found, faults={}, ended=found.ended | found.faults.keys())
        for index, name in enumerate(names):
            if name in found.ended:
                self._say(f"{path}.heal[{index}]", f"fault {name} was healed before")
            elif name not in found.faults:
                self._say(f"{path}.heal[{index}]", self._unknown(name, frozenset(found.faults), "fault", "fault"))
        left = {name: fault for name, fault in found.faults.items() if name not in names}
        return replace(found, faults=left, ended=found.ended | (found.faults.keys() & set(names)))

    def _scale(self, step: StepSpec, path: str, found: _Found) -> _Found:
        scale, here = step.scale, f"{path}.scale"
        assert scale is not None  # noqa: S101 - it is a scale step
        self._bound(f"{here}.within", scale.within.seconds)
        changed: list[Subnet] = []
        self._try(here, lambda: changed.append(sized(found.subnet, scale.group, scale.nodes, self._nodes_max)))
        return replace(found, subnet=changed[0]) if changed else found

    def _restart(self, step: StepSpec, path: str, found: _Found) -> _Found:
        restart, here = step.restart, f"{path}.restart"
        assert restart is not None  # noqa: S101 - it is a restart step
        self._bound(f"{here}.within", restart.within.seconds)
        self._try(f"{here}.nodes", lambda: nodes_meant(found.subnet, restart.nodes, step.name or "restart"))
        return found

    def _upgrade(self, step: StepSpec, path: str, found: _Found) -> _Found:
        upgrade, here = step.upgrade or UpgradeSpec(), f"{path}.upgrade"
        self._bound(f"{here}.within", upgrade.within.seconds)
        if upgrade.image is not None:
            for key, name in (("nodes", "nodes"), ("maxUnavailable", "max_unavailable")):
                if name in upgrade.model_fields_set:
                    self._say(f"{here}.{key}", "contradicts image, which the operator rolls out to all nodes its way")
        else:
            self._try(f"{here}.nodes", lambda: nodes_meant(found.subnet, upgrade.nodes, step.name or "upgrade"))
        return found

    def _rotate(self, step: StepSpec, path: str, found: _Found) -> _Found:
        if step.rotate is not None:
            self._bound(f"{path}.rotate.within", step.rotate.within.seconds)
        return found

    def _wait(self, step: StepSpec, path: str, found: _Found) -> _Found:
        wait, here = step.wait or WaitSpec(), f"{path}.wait"
        given = [key for key in _AWAITED if getattr(wait, "for_" if key == "for" else key)]
        if len(given) != 1:
            both = f"not {' and '.join(given)}" if given else "and none is given"
            self._say(here, f"a wait is for a time, connected, idle, holds, gone or promise: one of them, {both}")
        if wait.within is not None:
            if wait.for_ is not None:
                self._say(f"{here}.within", "belongs to a condition: for says how long to wait")
            self._bound(f"{here}.within", wait.within.seconds)
        if wait.for_ is not None:
            self._bound(f"{here}.for", wait.for_.seconds)
        else:
            self.measures = True
        for key, names in (("holds", wait.holds), ("gone", wait.gone)):
            self._runs(names or (), f"{here}.{key}", found)
        taken = sorted(found.withdrawn.intersection(wait.holds or ()))
        if taken:
            self._say(
                f"{here}.holds", f"{', '.join(taken)} was withdrawn before: no node holds it, wait until it is gone"
            )
        return found

    def _withdraw(self, step: StepSpec, path: str, found: _Found) -> _Found:
        names = step.withdraw or []
        self._runs(names, f"{path}.withdraw", found)
        for index, name in enumerate(names):
            if name in found.withdrawn:
                self._say(f"{path}.withdraw[{index}]", f"{name} was withdrawn before")
        return replace(found, withdrawn=found.withdrawn | set(names))

    def _steps(self, step: StepSpec, path: str, found: _Found) -> _Found:
        return self.sequence(step.steps or [], f"{path}.steps", found, branch=True)

    def _parallel(self, step: StepSpec, path: str, found: _Found) -> _Found:
        """Every branch finds what was before all of them; what comes after finds what all have done."""
        scaled = [path for path, inner in _scales(step.parallel or [], f"{path}.parallel") if inner]
        if len(scaled) > 1:
            self._say(scaled[1], "two steps change the size of the subnet at the same time: put one behind the other")
        ends = []
        for index, inner in enumerate(step.parallel or []):
            here = f"{path}.parallel[{index}]"
            if inner.at is not None and not inner.at.seconds <= WAIT_S_MAX:
                self._say(f"{here}.at", f"{inner.at}: at most a day")
            ends.append(self._step(inner, here, found, in_parallel=True, in_branch=True))
        ended = frozenset().union(*(one.ended for one in ends))
        faults = {name: fault for one in ends for name, fault in one.faults.items() if name not in ended}
        subnet = next((one.subnet for one in ends if one.subnet is not found.subnet), found.subnet)
        runs, withdrawn = (
            frozenset().union(*found) for found in zip(*((one.runs, one.withdrawn) for one in ends), strict=True)
        )
        return _Found(subnet, runs, faults, ended, withdrawn)

    # --- parts ---

    def _unknown(self, name: str, known: frozenset[str], kind: str, what: str) -> str:
        if name in self._names:
            return f"{name} ({self._names[name]}) is no {kind} step that is over before this one"
        there = f": one of {', '.join(sorted(known))}" if known else f": give the {kind} step a name"
        if name in self._later:
            there = f", it is {self._later[name]}: put this step behind it"
        return f"no {what} before this step has the name {name!r}{there}"

    def _runs(self, names: Sequence[str], path: str, found: _Found) -> None:
        """Say which of these are no runs before a step."""
        for index, name in enumerate(names):
            if name not in found.runs:
                self._say(f"{path}[{index}]", self._unknown(name, found.runs, "inject", "run"))

    def _bound(self, path: str, seconds: float) -> None:
        if not 0 < seconds <= WAIT_S_MAX:
            self._say(path, "more than nothing, and at most a day")


def _named(steps: list[StepSpec], path: str) -> Iterator[tuple[str, str]]:
    """Name and path of every step that has a name, the first of a name last."""
    for index, step in reversed(list(enumerate(steps))):
        here = f"{path}[{index}]"
        yield from _named(step.parallel or [], f"{here}.parallel")
        yield from _named(step.steps or [], f"{here}.steps")
        if step.name is not None:
            yield step.name, here


def _scales(steps: list[StepSpec], path: str) -> Iterator[tuple[str, bool]]:
    for index, step in enumerate(steps):
        here = f"{path}[{index}]"
        yield here, step.scale is not None
        yield from _scales(step.steps or [], f"{here}.steps")


def _load(inject: InjectSpec, path: str, subnet: Subnet) -> Iterator[Mistake]:
    """What a run cannot publish in this subnet."""
    if inject.size is not None and inject.files:
        yield f"{path}.size", "contradicts files: give one of the two"
    size, bound = inject.size.bytes if inject.size else SIZE_DEFAULT, subnet.spec.broadcast.artifact_bytes_max
    if not inject.files and not 1 <= size <= bound.bytes:
        yield f"{path}.size", f"{inject.size or '64KiB'}: from 1B to {bound} (broadcast.artifactBytesMax)"
    names = [name for name, _ in members(subnet)]
    if inject.from_ not in ("random", "all", *names):
        yield f"{path}.from", f"there is no node {inject.from_!r} at this step: a node's name, random or all"
    clients = [one.name for one in subnet.spec.clients]
    if inject.client is not None:
        try:
            client_among(clients, inject.client)
        except SpecError as error:
            yield f"{path}.client", str(error)
    honest = len(honest_nodes(subnet))
    asked = artifacts_asked(
        count=inject_count(inject, honest),
        payloads=max(1, len(inject.files)),
        publisher=inject.from_,
        nodes=honest,
    )
    if asked > limits.RUN_ARTIFACTS_MAX:
        yield f"{path}.count", f"{asked} artifacts are more than a run publishes, {limits.RUN_ARTIFACTS_MAX}"
    if not 0 < inject.within.seconds <= WITHIN_S_MAX:
        yield f"{path}.within", f"{inject.within}: more than nothing, and at most a day"
    if inject.rate is not None and asked <= limits.RUN_ARTIFACTS_MAX:
        try:
            schedule(inject.rate.pace, asked)
        except SpecError as error:
            yield f"{path}.rate", str(error)
