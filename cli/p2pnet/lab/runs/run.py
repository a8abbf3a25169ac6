"""One run as the lab knows it: its state for those who follow, its artifacts, receipts and losses as events come in."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from p2pnet.lab.runs.plan import Planned
from p2pnet.lab.runs.recorder import Recorder
from p2pnet.measure import RunMeasure
from p2pnet.model.events import Collected, EventKind, Gap
from p2pnet.model.jobs import Progress, RunFile, RunState
from p2pnet.model.report import RUN_OPEN, Report, RunStateName, RunSummary

CHANGE_S = 0.05  # followers hear of progress at most this often
EARLY_EVENTS_MAX = 500_000  # events of artifacts whose ids are still on their way from the publisher


class Run:
    """A sink of events with a state that can be followed. `runner` moves it through its phases."""

    def __init__(self, file: RunFile, planned: Sequence[Planned], folder: Recorder) -> None:
        self.file = file
        self.planned = planned
        self.total = len(planned)
        self.recorder = folder
        folder.on_failure = self.spoil
        self.measure = RunMeasure(list(file.nodes))
        self.report: Report | None = None
        self.state: RunStateName = "queued"
        self.waiting_for = ""
        self.queue_position = 0
        self.invalid: list[str] = []
        self.notes: list[str] = []
        self.ordered: set[str] = set()
        """Nodes that this run itself ordered a fault for."""
        self.unknown_nodes: set[str] = set()
        self.absent: dict[str, str] = {}
        """Nodes that were silent when the run began, with the incarnation they had."""
        self.ending = asyncio.Event()
        """Set when there is no point in going on: cancelled, invalid beyond doubt, the lab stops."""
        self.complete = asyncio.Event()
        """Set when every receipt is in."""
        self.cancelled = False
        self.publishing = True
        self.late_s = 0.0
        """The most that a publication was asked for after it was due."""
        self._sizes: dict[str, int] = {}
        self._order: list[Planned] = []
        """What was published, in the order of `file.artifacts`."""
        self._own = dict.fromkeys(file.nodes, 0)
        self._masks: dict[str, int] = {}
        self._bits = {node: 1 << index for index, node in enumerate(file.nodes)}
        self.received = dict.fromkeys(file.nodes, 0)
        self._delivered = 0
        self._early: dict[str, list[Collected]] = {}
        self._early_count = 0
        self._cursor = 1
        self._changed = asyncio.Event()
        self._change_due = False
        self._started_mono = 0.0
        self._ended_mono = 0.0

    # --- for those who follow ---

    @property
    def id(self) -> str:
        """The run's id."""
        return self.file.run

    @property
    def open(self) -> bool:
        """Whether it is queued or running."""
        return self.state in RUN_OPEN

    @property
    def expected(self) -> int:
        """Receipts that make the run complete."""
        return self.total * (len(self.file.nodes) - 1)

    def snapshot(self) -> RunState:
        """The state now."""
        ended = self._ended_mono or time.monotonic()
        progress = Progress(
            published=len(self._sizes), artifacts=self.total, delivered=self._delivered, expected=self.expected,
            elapsed_s=ended - self._started_mono if self._started_mono else 0.0,
            waiting_for=self.waiting_for if self.open else "", queue_position=self.queue_position,
        )  # fmt: skip
        return RunState(
            self.id, self.state, self.file.request, self.file.created_at, progress, self.report, self._cursor
        )

    def summary(self) -> RunSummary:
        """One line."""
        report = self.report
        return RunSummary(
            run=self.id, state=self.state, verdict=report.verdict if report else None, artifacts=self.total,
            reach=report.reach.ratio if report else None, p95_ms=report.latency_ms.p95 if report else None,
            started_at=self.file.started_at, shared=self.file.request.shared,
        )  # fmt: skip

    def touch(self) -> None:
        """Something followers want to know has changed."""
        self._cursor += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, cursor: int, timeout_s: float) -> RunState:
        """The state once it is past `cursor` or the run has ended, or after `timeout_s` as it is."""
        deadline = time.monotonic() + timeout_s
        while self.open and self._cursor <= cursor and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        return self.snapshot()

    # --- its life ---

    def start(self, now: float) -> None:
        """It is on."""
        self.state, self.queue_position, self._started_mono = "running", 0, time.monotonic()
        self.update(
            state="running", started_at=now, unix_offset_s=time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        )
        self.recorder.begin()
        self.recorder.save(self.file)
        self.touch()

    def end(self, report: Report, now: float) -> None:
        """It is over, as the report says; on disk before anybody hears of it."""
        state: RunStateName = "cancelled" if self.cancelled else "finished"
        self._ended_mono = time.monotonic()
        self.update(state=state, finished_at=now, clock_bound_ms=report.clock_bound_ms)
        self.recorder.end(self.file, report)
        if self.recorder.failed and self.recorder.failed not in report.invalid:
            # Even the report did not fit on the disk: those who follow must hear it all the same.
            report = msgspec.structs.replace(report, verdict="invalid", invalid=[*report.invalid, self.recorder.failed])
        self.report, self.state = report, state
        # An ended run stays for those who ask; what it was measured with does not.
        self._early.clear()
        self._masks.clear()
        self.planned, self.measure = (), RunMeasure(self.file.nodes)
        self.touch()

    def update(self, **fields: object) -> None:
        """Change run.json's contents; the recorder saves them."""
        self.file = msgspec.structs.replace(self.file, **fields)

    def spoil(self, reason: str, *, stop: bool = True) -> None:
        """The run is invalid, because. With `stop` it also ends as soon as it can."""
        if reason not in self.invalid:
            self.invalid.append(reason)
        if stop:
            self.ending.set()
        self._soon()

    def cancel(self, reason: str) -> None:
        """End it as cancelled."""
        if self.open:
            self.cancelled = True
            self.spoil(reason)

    def published(self, planned: Planned, artifact: str) -> None:
        """A publisher took an artifact: its id."""
        self._sizes[artifact] = planned.size
        self._own[planned.publisher] += 1
        self._masks[artifact] = self._bits.get(planned.publisher, 0)
        self._order.append(planned)
        self.file.artifacts.append(artifact)
        self.file.names.append(planned.name)
        early = self._early.pop(artifact, None)
        if early:
            self._early_count -= len(early)
            self._keep(early)
        self._soon()

    def publishing_is_over(self) -> None:
        """No id is on its way any more: events of other artifacts are none of this run's."""
        self.publishing = False
        self._early.clear()
        self.recorder.save(self.file)  # with the ids, so that a lab that dies from here on loses none of them
        self._check_complete()

    # --- a sink ---

    def take(self, events: list[Collected]) -> None:
        """Keep what belongs to this run; see `Collector`."""
        if self.state != "running":
            return
        mine, client = [], self.file.request.client
        for event in events:
            if not event.artifact or event.artifact in self._sizes:
                mine.append(event)
            elif self.publishing and event.client == client:  # other clients may be busy: they fill no room here
                self._early.setdefault(event.artifact, []).append(event)
                self._early_count += 1
        if self._early_count > EARLY_EVENTS_MAX:
            self._early.clear()
            self._early_count = 0
            self.spoil(f"more than {EARLY_EVENTS_MAX} events came before the ids of their artifacts")
        if mine:
            self._keep(mine)

    def lost(self, gap: Gap) -> None:
        """Events of a node are lost for good: does it matter here?"""
        node = gap.node
        if self.state != "running" or node not in self._bits:
            return
        if self.absent.get(node) == gap.incarnation:
            return  # it had been silent since before the run began, and did nothing in it
        if node in self.ordered:
            self.unknown_nodes.add(node)
            return
        what = f"{node}: {'an unknown number of' if gap.missed is None else gap.missed} events lost ({gap.reason})"
        if gap.missed is None and not self.publishing and self.received[node] == self._due(node):
            # All its receipts were in; what it may still have counted are duplicates.
            self.notes.append(f"{what}, after all its receipts were in: its duplicates may be short")
        else:
            self.spoil(what, stop=False)

    def publisher_of(self, artifact: str) -> str:
        """Who published it, or empty."""
        return next(
            (one.publisher for one, known in zip(self._order, self.file.artifacts, strict=True) if known == artifact),
            "",
        )

    def missing(self) -> dict[str, int]:
        """Nodes that lack receipts, with how many."""
        return {node: lack for node in self.file.nodes if (lack := self._due(node) - self.received[node]) > 0}

    def _due(self, node: str) -> int:
        return len(self._sizes) - self._own[node]

    def _keep(self, events: list[Collected]) -> None:
        for event in events:
            if event.kind is EventKind.PUBLISHED:
                self.measure.published(event.artifact, event.node, event.t_ns, self._sizes[event.artifact])
            elif event.kind is EventKind.VALIDATED:
                self._receipt(event)
        self.measure.feed(events)
        self.recorder.events(events)
        self._check_complete()
        self._soon()

    def _receipt(self, event: Collected) -> None:
        bit = self._bits.get(event.node, 0)
        mask = self._masks[event.artifact]
        if bit and not mask & bit:
            self._masks[event.artifact] = mask | bit
            self.received[event.node] += 1
            self._delivered += 1

    def _check_complete(self) -> None:
        if not self.publishing and self._delivered >= len(self._sizes) * (len(self.file.nodes) - 1):
            self.complete.set()

    def _soon(self) -> None:
        if not self._change_due:
            self._change_due = True
            asyncio.get_running_loop().call_later(CHANGE_S, self._change)

    def _change(self) -> None:
        self._change_due = False
        if self.open:
            self.touch()
