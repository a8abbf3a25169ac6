"""One run while it is queued or running: its state for followers, and its artifacts, receipts and losses as events come in."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from p2pnet.lab.runs.recorder import Recorder
from p2pnet.measure import RunMeasure
from p2pnet.measure.injection import Planned
from p2pnet.model.events import Collected, EventKind, Gap
from p2pnet.model.jobs import Progress, RunFile, RunState
from p2pnet.model.report import RUN_OPEN, Report, RunStateName, RunSummary, StoppedEarly
from p2pnet.subnet.fault_book import BookedFault

CHANGE_S = 0.05  # followers are told of progress at most this often
EARLY_EVENTS_MAX = 500_000  # events of artifacts whose ids have not come back from the publisher yet


@dataclass(slots=True)
class EarlyStop:
    """Whether a run is to be ended because one of its expectations can hold no more."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing more is to be published."""
    expr: str = ""
    """That expectation."""
    after_s: float = 0.0
    """Since the run began."""


class Run:
    """A sink of events with a state that can be followed. `runner.Runner` moves it through its phases."""

    sent_bytes: Callable[[], int] = staticmethod(lambda: 0)
    """See `RunSampler.sent_bytes`."""

    def __init__(self, file: RunFile, planned: Sequence[Planned], recorder: Recorder) -> None:
        self.file = file
        self.planned = planned
        self.total = len(planned)
        honest = frozenset(file.honest)
        self._expected = sum(len(honest) - (one.publisher in honest) for one in planned)
        self._publishers = frozenset(one.publisher for one in planned)
        self.recorder = recorder
        recorder.on_failure = self.invalidate
        self.measure = RunMeasure(file.honest)
        self.report: Report | None = None
        self.state: RunStateName = "queued"
        self.waiting_for = ""
        self.queue_position = 0
        self.invalid: list[str] = []
        """Why the run is invalid; empty while it is valid."""
        self.notes: list[str] = []
        self.ordered: dict[str, int] = {}
        """Nodes that were hit by a fault that somebody ordered, and when last (`Collected.t_ns`): no events since then."""
        self.lost_until_ns: dict[str, int] = {}
        """Nodes that lost events by an ordered fault, and until when: receipts they lack of what was published before are
        unknown, not missed."""
        self.unpublished: dict[str, int] = {}
        """By publisher: artifacts that were not published because of an ordered fault."""
        self.faults: dict[int, BookedFault] = {}
        """Faults that were in force at some time of the run, see `NetworkControl.record`."""
        self.absent: dict[str, str] = {}
        """Incarnation by node, of the nodes that were silent when the run began."""
        self.ending = asyncio.Event()
        """Set when going on is pointless: the run is cancelled or invalid, or the lab stops."""
        self.complete = asyncio.Event()
        """Set when every receipt is in."""
        self.early = EarlyStop()
        self.cancelled = False
        self.injecting = False
        """Whether publications have begun: there is traffic of the run's own from then on."""
        self.publishing = True
        """Whether ids of artifacts may still be on their way from publishers."""
        self.late_s = 0.0
        """The longest that a publication was asked for after it was due."""
        self._published: dict[str, Planned] = {}
        """By artifact id, in the order of `file.artifacts`."""
        self._early: dict[str, list[Collected]] = {}
        """Events of artifacts that may yet turn out to be this run's, by artifact."""
        self._early_count = 0
        self._cursor = 1
        self._changed = asyncio.Event()
        self._change_due = False
        self._started_s = 0.0
        """Monotonic; 0 until the run starts."""
        self._last_progress: Progress | None = None
        """Set when the run has ended."""

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
        return self._expected

    def snapshot(self) -> RunState:
        """The state now."""
        progress = self._last_progress or self._progress(self.waiting_for)
        return RunState(
            self.id, self.state, self.file.request, self.file.created_at, progress, self.report, self._cursor
        )

    def _progress(self, waiting_for: str) -> Progress:
        return Progress(
            published=len(self._published), artifacts=self.total, delivered=self.measure.delivered,
            expected=self.expected, elapsed_s=time.monotonic() - self._started_s if self._started_s else 0.0,
            waiting_for=waiting_for, queue_position=self.queue_position, sent_bytes=self.sent_bytes(),
        )  # fmt: skip

    def summary(self) -> RunSummary:
        """The run in one line of the status; of an ended one how many artifacts there were, not how many were asked for."""
        report = self.report
        return RunSummary(
            run=self.id, state=self.state, verdict=report.verdict if report else None,
            artifacts=max(len(self._published), report.artifacts) if report else self.total,
            reach=report.reach.ratio if report else None, p95_ms=report.latency_ms.p95 if report else None,
            started_at=self.file.started_at, shared=self.file.request.shared,
            injection=self.file.request.injection,
        )  # fmt: skip

    def touch(self) -> None:
        """Tell followers that the state has changed."""
        self._cursor += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, cursor: int, timeout_s: float) -> RunState:
        """The state, as soon as it is past `cursor` or the run has ended; after `timeout_s` whatever it is."""
        deadline = time.monotonic() + timeout_s
        while self.open and self._cursor <= cursor and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        return self.snapshot()

    # --- from start to end ---

    def start(self, now: float) -> None:
        """The run starts; `now` in Unix seconds."""
        self.state, self.queue_position, self._started_s = "running", 0, time.monotonic()
        self.update(
            state="running", started_at=now, unix_offset_s=time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        )
        self.recorder.begin()
        self.recorder.save(self.file)
        self.touch()

    def end(self, report: Report, now: float) -> None:
        """The run has ended with this report; it is on disk before followers are told. `now` in Unix seconds."""
        state: RunStateName = "cancelled" if self.cancelled else "finished"
        self._last_progress = self._progress("")
        self.update(state=state, finished_at=now, clock_bound_ms=report.clock_bound_ms)
        self.recorder.end(self.file, report)
        if self.recorder.failed and self.recorder.failed not in report.invalid:
            # Not even the report could be written: followers must be told through the lab.
            report = msgspec.structs.replace(report, verdict="invalid", invalid=[*report.invalid, self.recorder.failed])
        self.report, self.state = report, state
        # Ended runs are kept in memory, up to `queue.KEPT_MAX`; the receipts they were measured with would fill it.
        self._early.clear()
        self.planned, self.measure = (), RunMeasure(self.file.honest)
        self.touch()

    def update(self, **fields: object) -> None:
        """Change fields of run.json; `recorder.save` writes them."""
        self.file = msgspec.structs.replace(self.file, **fields)

    def invalidate(self, reason: str, *, stop: bool = True) -> None:
        """Mark the run invalid for this reason; with `stop` it also ends as soon as it can."""
        if reason not in self.invalid:
            self.invalid.append(reason)
        if stop:
            self.ending.set()
        self._touch_soon()

    def cancel(self, reason: str) -> None:
        """End the run as cancelled, if it is open."""
        if self.open:
            self.cancelled = True
            self.invalidate(reason)

    @property
    def attempted(self) -> int:
        """Artifacts that were to be published by now: those that were, and those that ordered faults kept from it."""
        return len(self._published) + sum(self.unpublished.values())

    def stop_early(self, expr: str) -> None:
        """Publish nothing more: this expectation can hold no more."""
        self.early.expr, self.early.after_s = expr, time.monotonic() - self._started_s
        self.early.stopping.set()

    @property
    def stopped_early(self) -> StoppedEarly | None:
        """Why it was stopped, with what had been published by then; None: it was not."""
        early = self.early
        if not early.stopping.is_set():
            return None
        return StoppedEarly(expr=early.expr, artifacts=len(self._published), asked=self.total, after_s=early.after_s)

    def published(self, planned: Planned, artifact: str) -> None:
        """A publisher took what was planned and gave it this id (hex)."""
        self._published[artifact] = planned
        self.measure.announce(artifact, planned.publisher)
        self.file.artifacts.append(artifact)
        self.file.names.append(planned.name)
        early = self._early.pop(artifact, None)
        if early:
            self._early_count -= len(early)
            self._keep(early)
        self._touch_soon()
        self.recorder.save_soon(self.save_published)

    def publishing_is_over(self) -> None:
        """All ids are known: events of other artifacts belong to other runs."""
        self.publishing = False
        self._early.clear()
        self.recorder.save(self.file)  # with the ids: a lab that dies from here on loses none of them
        self._check_complete()

    def save_published(self) -> None:
        """Write run.json with the ids so far, where more are to come: the kept run then tells what is published already."""
        if self.publishing and self.state == "running":
            self.recorder.save(self.file)

    # --- sink of events, see `collector.Sink` ---

    def take(self, events: list[Collected]) -> None:
        """Keep the events that belong to this run."""
        if self.state != "running":
            return
        mine, client = [], self.file.request.client
        for event in events:
            if not event.artifact or event.artifact in self._published:
                mine.append(event)
            elif self.publishing and event.client == client:  # other clients' events must not count against the bound
                self._early.setdefault(event.artifact, []).append(event)
                self._early_count += 1
        if self._early_count > EARLY_EVENTS_MAX:
            self._early.clear()
            self._early_count = 0
            self.invalidate(f"more than {EARLY_EVENTS_MAX} events came before the ids of their artifacts")
        if mine:
            self._keep(mine)

    def lost(self, gap: Gap) -> None:
        """Events of a node are lost for good: whether that makes the run invalid, or receipts unknown, or neither."""
        node = gap.node
        if self.state != "running" or (node not in self.measure.nodes and node not in self._publishers):
            return
        if self.absent.get(node) == gap.incarnation:
            return  # the node was silent before the run began and took no part in it
        if node in self.ordered and gap.missed is None:  # what left a ring is no doing of a fault
            self.lost_until_ns[node] = self.ordered[node]
            return
        what = f"{node}: {'an unknown number of' if gap.missed is None else gap.missed} events lost ({gap.reason})"
        if (
            gap.missed is None
            and not self.publishing
            and node in self.measure.nodes
            and self.measure.lacking(node) == 0
        ):
            # All its receipts had come: only duplicates can be missing from its count.
            self.notes.append(f"{what}, after all its receipts were in: its duplicates may be short")
        else:
            self.invalidate(what, stop=False)

    def order(self, nodes: Iterable[str], now_ns: int) -> None:
        """Somebody ordered a fault that hits these nodes now."""
        self.ordered |= dict.fromkeys(nodes, now_ns)

    def unpublish(self, publisher: str, count: int) -> None:
        """So many artifacts are not published: their publisher is down, as ordered."""
        self.unpublished[publisher] = self.unpublished.get(publisher, 0) + count

    def publisher_of(self, artifact: str) -> str:
        """The node that published an artifact of this run; empty for any other."""
        planned = self._published.get(artifact)
        return planned.publisher if planned is not None else ""

    def _keep(self, events: list[Collected]) -> None:
        for event in events:
            if event.kind is EventKind.PUBLISHED:
                self.measure.published(event.artifact, event.node, event.t_ns, self._published[event.artifact].size)
        self.measure.feed(events)
        self.recorder.events(events)
        self._check_complete()
        self._touch_soon()

    def _check_complete(self) -> None:
        if not self.publishing and self.measure.delivered >= self.measure.awaited:
            self.complete.set()

    def _touch_soon(self) -> None:
        if not self._change_due:
            self._change_due = True
            asyncio.get_running_loop().call_later(CHANGE_S, self._touch_now)

    def _touch_now(self) -> None:
        self._change_due = False
        if self.open:
            self.touch()
