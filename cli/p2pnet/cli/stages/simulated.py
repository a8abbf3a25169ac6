"""A scenario's subnet in virtual time: one continuous world, in which every inject step is a run, kept as live ones are."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2pnet.cli.simulated_runs import keep
from p2pnet.cli.stages.turns import VirtualTurns
from p2pnet.measure.injection import Planned
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.report import Report
from p2pnet.model.text import some
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.stage import (
    NAMED_MAX,
    Awaited,
    NotReadyError,
    ProgressSink,
    Rest,
    RunAsk,
    Waited,
    artifacts_words,
    not_withdrawn,
    unfinished_words,
)
from p2pnet.scenario.targets import honest_nodes, sized
from p2pnet.sim.quantities import NS
from p2pnet.sim.timeline import without_collections
from p2pnet.sim.virtual_run import NOTES, SimLoad, VirtualRun
from p2pnet.sim.virtual_subnet import VirtualSubnet
from p2pnet.store import State
from p2pnet.store.simulated import SimulatedRun
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import SIMULATED_NODES_MAX

LOOK_NS = NS // 10  # virtual time between two looks at a condition
RULES_LOOK_NS = NS  # the same, at all that nodes keep
SENTENCES_MAX = 3  # of what is broken
RESTART = "restart"
ROTATED = (
    "modelled: a new certificate is a new connection with every peer, make before break; there are no certificates"
)
RESTARTED = "modelled: a restart is the death of a process, and another one that connects 0.6 s later"


class RecordedLoad(NamedTuple):
    """What an inject step published when it was recorded."""

    payloads: list[tuple[str, bytes | int]]
    """As `SimLoad` has them."""
    planned: Sequence[Planned] | None
    """What was published when, by time; None: as the step says, which is the same in the simulator."""


class StepCircumstances(NamedTuple):
    """How it stood when a run or a wait for a condition began, and what faults were in force in its time."""

    connected: bool
    """Whether all links were up that are to be."""
    faults: frozenset[str]
    """Names, of a restart of a step `restart`."""


class SimulatedStage:
    """See `scenario.Stage`. `state`: where runs are kept; None: they are not. `folder`: where the scenario's files lie.

    `on_turn` is called several times a second of the wall clock.
    """

    def __init__(
        self,
        plan: ScenarioPlan,
        *,
        seed: int,
        state: State | None,
        folder: Path,
        on_turn: Callable[[], None] = lambda: None,
        recorded: Mapping[str, RecordedLoad] | None = None,
    ) -> None:
        """`recorded`: what inject steps published, by name, where they are to do it again as they did."""
        self._plan = plan
        self._seed = seed
        self._state = state
        self._folder = folder
        self._recorded = recorded or {}
        self._notes: dict[str, None] = {}
        self._restarts = 0
        self._up_ns = 0
        self._published: dict[str, tuple[str, list[str]]] = {}
        """Client and artifacts of each inject step, by its name."""
        self._runs: dict[str, str] = {}
        """Kept run of each inject step, by its name."""
        self.circumstances: dict[str, StepCircumstances] = {}
        """By name of the inject step, or by what was waited for, see `awaited_key`."""
        self._under_way: dict[str, tuple[VirtualRun, ProgressSink]] = {}
        clients = dict.fromkeys(step.run.client for step in plan.all() if step.run is not None)
        known = [one.name for one in plan.subnet.spec.clients]
        first = next(iter(clients), "")
        self._there = VirtualSubnet(
            plan.subnet, seed=seed, client=first, others=[name for name in known if name in clients and name != first]
        )
        if any(step.condition is not None and step.condition.promise for step in plan.all()):
            self._there.watch_rules()
        self._turns = VirtualTurns(self._advance, lambda: self._there.now, lambda: self._look(on_turn))

    def _advance(self, limit: int | None) -> None:
        with without_collections():
            self._there.advance(limit)

    def _look(self, on_turn: Callable[[], None]) -> None:
        for run, progress in self._under_way.values():
            far = run.progress(0.0)
            progress("delivered", far.receipts, far.expected)
        on_turn()

    # --- its life ---

    async def up(self, progress: ProgressSink) -> str:
        """See `Stage`."""
        progress(f"{self._plan.subnet.node_count} nodes to be made and linked", 0, 0)
        while not self._there.come_to_rest():  # noqa: ASYNC110 - time passes in it; the pause is for signals
            await asyncio.sleep(0)
        self._there.begin_faults()
        self._up_ns = self._there.now
        up, expected = self._there.links()
        return f"{len(self.nodes())} simulated nodes, {up}/{expected} links"

    async def down(self) -> None:
        """See `Stage`: there is nothing."""

    async def leave(self) -> str:
        """See `Stage`: a simulated subnet ends with its scenario."""
        return ""

    # --- steps ---

    async def inject(self, ask: RunAsk, progress: ProgressSink) -> Report:
        """See `Stage`."""
        load, recorded = self._load(ask), self._recorded.get(ask.name)
        connected = not self._lacking()
        began = time.time()
        kept = None if self._state is None else SimulatedRun(self._state, began, random.Random())
        ended = False
        try:
            run = self._there.make_run(
                load, seed=self._seed if ask.seed is None else ask.seed, write=_sink(kept),
                planned=None if recorded is None else recorded.planned,
            )  # fmt: skip
            self._under_way[ask.name] = run, progress
            run.begin(self._there.watch_faults)
            try:
                await self._turns.until(None, lambda: run.is_over)
            except asyncio.CancelledError:
                run.interrupt()
                ended = self._finish(ask, run, kept, load, began)[1]
                raise
            report, ended = self._finish(ask, run, kept, load, began)
            self.circumstances[ask.name] = StepCircumstances(connected, _names_of(one.name for one in report.faults))
            return report
        finally:
            if kept is not None and not ended:
                kept.remove()

    def _finish(
        self, ask: RunAsk, run: VirtualRun, kept: SimulatedRun | None, load: SimLoad, began: float
    ) -> tuple[Report, bool]:
        """The report, and whether the run is kept. TargetError (exit 5) when the disk refused it."""
        self._there.end_run(run)
        del self._under_way[ask.name]
        outcome = run.outcome([])
        self._published[ask.name] = outcome.report.client, list(outcome.payloads)
        if kept is None:
            return outcome.report, False
        report = keep(kept, outcome, load, began)
        if kept.failed:
            raise TargetError(
                f"the run is not kept: {kept.failed}", exit_code=5,
                hint="make room there, or set P2PNET_STATE to another directory",
            )  # fmt: skip
        self._runs[ask.name] = report.run
        return report, True

    def kept_run(self, name: str) -> str | None:
        """See `Stage`."""
        return self._runs.get(name)

    def _load(self, ask: RunAsk) -> SimLoad:
        payloads: list[tuple[str, bytes | int]] = [(f"generated-{ask.size}", ask.size)]
        label, recorded = ask.label, self._recorded.get(ask.name)
        if recorded is not None:
            payloads, label = recorded.payloads, ""  # the label is the recorded run's
        elif ask.files:
            payloads = [(Path(name).name, (self._folder / name).read_bytes()) for name in ask.files]
        return SimLoad(
            payloads=payloads, count=ask.count, rate_per_s=ask.rate_per_s, sender=ask.publisher, within_s=ask.within_s,
            expectations=list(ask.expect), client=ask.client, label=label, made_label=bool(label),
            shared=ask.shared,
            stop_early=ask.stop_early,
        )  # fmt: skip

    async def withdraw(self, names: Sequence[str], progress: ProgressSink) -> str:
        """See `Stage`. TargetError (exit 5) when a node is paused."""
        count = 0
        for name in names:
            client, artifacts = self._published[name]
            for artifact in artifacts:
                silent = self._there.withdraw(artifact, client)
                if silent:
                    raise TargetError(not_withdrawn(artifact, silent), exit_code=5)
            count += len(artifacts)
            progress("withdrawn", count, 0)
        await self._turns.until(self._there.now)  # nodes take what they were told when time goes on
        return artifacts_words(count)

    async def fault(self, name: str, fault: Mapping[str, object]) -> str:
        """See `Stage`."""
        booked = self._there.add_fault({**fault, "name": name})
        return some(booked.nodes, NAMED_MAX) if booked.nodes else ""

    async def heal(self, names: Sequence[str]) -> str:
        """See `Stage`."""
        over = []
        for name in names:
            try:
                self._there.clear_fault(name)
            except SpecError:
                over.append(name)
        return f"{', '.join(over)} had ended by then" if over else ""

    async def scale(self, group: str, nodes: int, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        lacking = self._lacking()
        self._there.follow(sized(self._there.subnet, group, nodes, SIMULATED_NODES_MAX))
        await self._connected_again(lacking, self.nodes(), within_s, progress)
        return self._links_words()

    async def restart(self, nodes: Sequence[str], within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        self._note(RESTARTED)
        lacking = self._lacking()
        self._restarts += 1
        self._there.add_fault({"name": f"{RESTART}-step-{self._restarts}", "restart": True, "from": ",".join(nodes)})
        await self._connected_again(lacking, nodes, within_s, progress)
        return some(nodes, NAMED_MAX)

    async def upgrade(self, image: str, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`. Raises SpecError: there are no images."""
        del within_s, progress
        raise SpecError(f"there are no images in the simulator: {image}")

    async def rotate(self, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        self._note(ROTATED)
        lacking = self._lacking()
        self._there.reconnect(frozenset(self.nodes()))
        await self._connected_again(lacking, self.nodes(), within_s, progress)
        return f"{len(self.nodes())} nodes"

    async def wait(self, what: Awaited, within_s: float, progress: ProgressSink) -> Waited:
        """See `Stage`."""
        deadline = self._there.now + int(within_s * NS)
        connected, watch = not self._lacking(), self._there.watch_faults()
        try:
            return await self._waited(what, deadline, progress)
        finally:
            seen = watch.statuses(self._there.now / NS)
            self.circumstances[awaited_key(what)] = StepCircumstances(connected, _names_of(one.name for one in seen))
            watch.close()

    async def _waited(self, what: Awaited, deadline: int, progress: ProgressSink) -> Waited:
        if what.promise:
            return await self._kept(deadline, progress)
        rest = Rest()
        while True:
            came, words, done, total = self._stands(what)
            progress(words, done, total)
            if what.idle is not None:
                came = rest.lasts(idle=came, seconds=self.seconds())
            if came or self._there.now >= deadline:
                return Waited(came, f"{words} {done}/{total}{self._busy_words(what)}")
            await self._turns.until(min(deadline, self._there.now + LOOK_NS))

    async def _kept(self, deadline: int, progress: ProgressSink) -> Waited:
        """Until nothing is broken; what was broken on the way never comes right."""
        while True:
            broken = self._there.broken()
            progress(f"the promise, {len(broken)} times broken or not kept yet", 0, 0)
            if not broken or self._there.has_broken_rules or self._there.now >= deadline:
                return Waited(not broken, _sentences(broken) or "kept")
            await self._turns.until(min(deadline, self._there.now + RULES_LOOK_NS))

    def _stands(self, what: Awaited) -> tuple[bool, str, int, int]:
        """Whether it is so, what is counted, how many are, of how many."""
        if what.connected is not None:
            up, expected = self._there.links()
            return up >= expected * what.connected, "links", up, expected
        if what.idle is not None:
            nodes = honest_nodes(self._there.subnet)
            idle = sum(self._there.unfinished(node) == 0 for node in nodes)
            return idle >= what.idle * len(nodes), "idle", idle, len(nodes)
        held, expected, honest = 0, 0, set(honest_nodes(self._there.subnet))
        for name in what.holds or what.gone:
            client, artifacts = self._published[name]
            expected += len(artifacts) * len(honest)
            held += sum(len(honest & set(self._there.holders(artifact, client))) for artifact in artifacts)
        if what.gone:
            return not held, "gone", expected - held, expected
        return held >= expected, "held", held, expected

    def _busy_words(self, what: Awaited) -> str:
        if what.idle is None:
            return ""
        left = {node: self._there.unfinished(node) for node in honest_nodes(self._there.subnet)}
        return unfinished_words({node: count for node, count in left.items() if count != 0})

    async def sleep(self, seconds: float) -> None:
        """See `Stage`."""
        await self._turns.until(self._there.now + int(seconds * NS))

    async def together(self, branches: Sequence[Coroutine[Any, Any, None]]) -> None:
        """See `Stage`."""
        await self._turns.together(branches)

    # --- what is so ---

    def seconds(self) -> float:
        """See `Stage`: virtual ones."""
        return (self._there.now - self._up_ns) / NS

    def nodes(self) -> list[str]:
        """See `Stage`."""
        return [name for name, _ in members(self._there.subnet)]

    def problems(self) -> list[str]:
        """See `Stage`: faults are in force by construction."""
        return []

    def notes(self) -> list[str]:
        """See `Stage`."""
        return [*NOTES, *self._notes]

    def digest(self) -> str:
        """See `Stage`."""
        return self._there.digest()

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _lacking(self) -> int:
        """Links that are not up: those that faults keep down are none that a step has to bring back."""
        up, expected = self._there.links()
        return expected - up

    def _links_words(self) -> str:
        up, expected = self._there.links()
        return f"{len(self.nodes())} nodes, {up}/{expected} links"

    async def _connected_again(
        self, lacking: int, nodes: Sequence[str], within_s: float, progress: ProgressSink
    ) -> None:
        """Once these nodes run and no more links lack than before. Raises NotReadyError."""
        deadline = self._there.now + int(within_s * NS)
        while True:
            up, expected = self._there.links()
            progress("links", up, expected)
            if expected - up <= lacking and all(self._there.is_up(node) for node in nodes):
                return
            if self._there.now >= deadline:
                raise NotReadyError(f"not connected again after {within_s:g} s: links {up}/{expected}")
            await self._turns.until(min(deadline, self._there.now + LOOK_NS))


def awaited_key(what: Awaited) -> str:
    """What was waited for, as a key of `SimulatedStage.circumstances`: no step has such a name."""
    return f"{what.connected} {what.idle} {what.promise} {','.join(what.holds)} {','.join(what.gone)}"


def _sentences(broken: Sequence[str]) -> str:
    more = [f"and {len(broken) - SENTENCES_MAX} more"] if len(broken) > SENTENCES_MAX else []
    return "; ".join([*broken[:SENTENCES_MAX], *more])


def _names_of(faults: Iterable[str]) -> frozenset[str]:
    return frozenset(RESTART if name.startswith(f"{RESTART}-step-") else name for name in faults)


def _sink(kept: SimulatedRun | None) -> Callable[[list[Any]], None]:
    return (lambda _: None) if kept is None else kept.events
