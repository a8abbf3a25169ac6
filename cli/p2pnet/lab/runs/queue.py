"""The runs of a lab as jobs: created once per idempotency key, one measured at a time, the others queued visibly."""

import asyncio
import contextlib
import logging
import os
import random
import shutil
import time
from collections import deque
from collections.abc import Callable

import msgspec

from p2pnet.lab.runs.recorder import Recorder
from p2pnet.lab.runs.run import Run
from p2pnet.lab.runs.runner import RunContext, Runner
from p2pnet.measure import expectations
from p2pnet.measure.injection import plan, publishers_seed
from p2pnet.measure.pace import count_of, pace_of
from p2pnet.model.errors import LimitError, SpecError, TargetError
from p2pnet.model.ids import check_label, client_among
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.units import format_size
from p2pnet.store import archive, retention
from p2pnet.store.run_folders import new_run_folder
from p2pnet.store.state import State

QUEUE_MAX = 100  # waiting runs
SHARED_MAX = 8  # shared runs at a time
KEPT_MAX = 1_000  # ended runs kept in memory; the archive has all
KEY_CHARS_MAX = 200  # of an idempotency key
COMPACT_WAIT_S = 60.0  # how long an ended run waits for others to end before it is compressed beside them
LEFTOVER_MAX = 5  # runs that an earlier lab left uncompressed and that are compressed with one that ends
COMPACTING_S = 30.0  # how long a lab that stops waits for ended runs to be compressed

log = logging.getLogger(__name__)


class KeyReusedError(SpecError):
    """An idempotency key that was used with another request before."""


class QueueFullError(LimitError):
    """As many runs wait, or go on, as may: later there is room."""


class UnknownRunError(SpecError):
    """A run id that this lab does not know."""


class RunQueue:
    """Takes requests for runs and executes them: measured runs one after the other, shared runs at once."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._runs: dict[str, Run] = {}
        """By id, oldest first."""
        self._keys: dict[str, str] = {}
        """Run id by idempotency key."""
        self._queue: deque[Run] = deque()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._measured: Run | None = None
        """The run that is not shared and has started."""
        self._closed = ""
        """Why no more runs are taken; empty: they are."""
        self._compacting: set[asyncio.Task[None]] = set()
        """Runs that have ended and are being compressed."""
        self._idle = asyncio.Event()
        """Set while no run is open, and for good when no more are taken."""
        self._checked_ns = 0
        """Modification time of the directory of all runs when it was last checked for removed runs."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a run has been created, and when one has ended."""
        # Not seeded: the ids of two labs that share a state directory should differ.
        self._rng = random.Random()

    # --- creating ---

    def submit(self, request: RunRequest, key: str) -> tuple[Run, bool]:
        """The run of this key, and whether it is new. Raises SpecError, LimitError, TargetError (exit 2)."""
        client, label = client_among(self._context.clients, request.client), check_label(request.label)
        request = msgspec.structs.replace(
            request, client=client, label=label, count=request.count or self._held(request)
        )
        known = self._keys.get(key) if key else None
        if known is not None:
            run = self._runs[known]
            if run.file.request != request:
                raise KeyReusedError(f"the idempotency key {key!r} belongs to run {known}, which is another request")
            return run, False
        self._check_limits(request, key)
        run = self._make(request)
        self._runs[run.id] = run
        self._idle.clear()
        if key:
            self._keys[key] = run.id
        if request.shared:
            self._start(run)
        else:
            self._queue.append(run)
            self._start_next()
        self._forget_old()
        self.on_change()
        return run, True

    def _held(self, request: RunRequest) -> int:
        """How often each payload is published where the request leaves it to its rate. Raises SpecError."""
        dishonest = sum(len(group.nodes) for group in self._context.adversaries)
        honest = len(self._context.nodes()) - dishonest
        pace, payloads = pace_of(request.rate), len(request.payloads)
        if pace is None or not pace.is_staged:
            raise SpecError("a count of 0: at least 1, unless the rate has stages, which say how many they hold")
        return count_of(pace, payloads=payloads, publisher=request.publisher, nodes=honest)

    def _check_limits(self, request: RunRequest, key: str) -> None:
        if self._closed:
            raise TargetError(self._closed)
        if len(key) > KEY_CHARS_MAX:
            raise LimitError(f"an idempotency key has at most {KEY_CHARS_MAX} characters")
        if len(self._queue) >= QUEUE_MAX:
            raise QueueFullError(f"{QUEUE_MAX} runs are waiting already")
        if request.shared and sum(run.open and run.file.request.shared for run in self._runs.values()) >= SHARED_MAX:
            raise QueueFullError(f"{SHARED_MAX} shared runs are on already")

    def _make(self, request: RunRequest) -> Run:
        context, now, nodes = self._context, time.time(), self._context.nodes()
        for expression in request.expect:
            expectations.parse(expression)
        seed = context.seed if request.seed is None else request.seed
        uploads = _uploads_of(request)
        sizes = context.uploads.take(uploads)
        try:
            planned = plan(
                request, nodes, sizes, random.Random(publishers_seed(seed)).randrange,
                [node for group in context.adversaries for node in group.nodes],
            )  # fmt: skip
            folder = new_run_folder(context.state, now, self._rng)
            file = RunFile(
                run=folder.name, subnet=context.name, target=context.target, seed=seed, request=request, created_at=now,
                nodes=nodes, version=context.version, spec=context.document, label=request.label,
                ignored=context.ignored, adversaries=context.adversaries,
            )  # fmt: skip
            run = Run(file, planned, Recorder(folder))
            run.recorder.save(file)
            if run.recorder.failed:
                shutil.rmtree(folder, ignore_errors=True)  # a run that never began leaves no trace
                raise TargetError(run.recorder.failed, exit_code=2, hint="free some space and inject again")
        except BaseException:
            context.uploads.release(uploads)
            raise
        return run

    # --- reading ---

    def get(self, run_id: str) -> Run:
        """A run of this lab. Raises SpecError."""
        self._forget_removed()
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRunError(f"there is no run {run_id!r} in this lab")
        return run

    def of_key(self, key: str) -> list[Run]:
        """The run of an idempotency key, or none."""
        self._forget_removed()
        return [self._runs[self._keys[key]]] if key in self._keys else []

    def all(self) -> list[Run]:
        """All runs, oldest first, except those that were removed from the disk since."""
        self._forget_removed()
        return list(self._runs.values())

    def open(self) -> list[Run]:
        """Queued and running ones."""
        return [run for run in self._runs.values() if run.open]

    def running(self) -> list[Run]:
        """Those that are on."""
        return [run for run in self._runs.values() if run.state == "running"]

    # --- faults ---

    def ordered(self, nodes: list[str], now_ns: int) -> None:
        """Nodes are hit by an ordered fault, on the lab's monotonic clock: events lost with them cost no run its validity."""
        for run in self.running():
            run.order(nodes, now_ns)

    def ended(self, node: str, now_ns: int, *, ordered: bool) -> None:
        """A node's process has ended, by an order or by itself."""
        for run in self.running():
            if ordered:
                run.order([node], now_ns)
            else:
                run.ordered.pop(node, None)  # this end was nobody's order, whatever was ordered before

    def lapsed(self, fault: str) -> None:
        """The lease of a fault lapsed: what a run measures from here on is something else."""
        for run in self.running():
            run.invalidate(f"the lease of fault {fault} lapsed during the run: nobody renewed it, and it was healed")

    # --- ending ---

    async def cancel(self, run_id: str, reason: str = "cancelled") -> Run:
        """End a run as cancelled; returns once it has ended. A run that had ended stays as it is. Raises SpecError."""
        run = self.get(run_id)
        run.cancel(reason)
        await self._ended(run)
        return run

    async def close(self, reason: str) -> None:
        """Take no more runs; end the open ones as invalid for this reason."""
        self._closed = reason
        for run in self.open():
            run.invalidate(reason)
        for run in self.open():
            await self._ended(run)
        self._idle.set()
        await self.compacted()

    async def _compact(self, run: Run) -> None:
        """Compress an ended run once no open run can be disturbed by it, at the latest after COMPACT_WAIT_S."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), COMPACT_WAIT_S)
        await asyncio.to_thread(_compact_and_retain, self._context.state, run.id)

    async def compacted(self) -> None:
        """Wait until all ended runs are compressed, at most COMPACTING_S."""
        if self._compacting:
            await asyncio.wait(self._compacting, timeout=COMPACTING_S)

    async def _ended(self, run: Run) -> None:
        if run in self._queue:
            self._queue.remove(run)
            self._start(run)  # its end is ordered already: it only writes its report
            self._update_positions()
        task = self._tasks.get(run.id)
        if task is not None:
            await asyncio.wait([task])

    # --- the queue ---

    def _start_next(self) -> None:
        if self._measured is None and self._queue:
            self._measured = self._queue.popleft()
            self._start(self._measured)
        self._update_positions()

    def _update_positions(self) -> None:
        for position, run in enumerate(self._queue, start=1):
            ahead = f"run {self._measured.id}" if self._measured else "its turn"
            if run.queue_position != position or run.waiting_for != ahead:
                run.queue_position, run.waiting_for = position, ahead
                run.touch()

    def _start(self, run: Run) -> None:
        self._tasks[run.id] = asyncio.create_task(self._run(run), name=f"run {run.id}")

    async def _run(self, run: Run) -> None:
        if not run.ending.is_set():  # one that was ended in the queue does nothing beside the others
            self._note_overlap(run)
        try:
            await Runner(self._context, run).execute()
        except Exception:
            log.exception("run %s", run.id)
        finally:
            self._context.uploads.release(_uploads_of(run.file.request))
            self._tasks.pop(run.id, None)
            if run is self._measured:
                self._measured = None
                self._start_next()
            self.on_change()
            if not self.open():
                self._idle.set()
            settling = asyncio.create_task(self._compact(run))
            self._compacting.add(settling)
            settling.add_done_callback(self._compacting.discard)

    def _note_overlap(self, run: Run) -> None:
        """Note in measured runs which shared runs go on beside them; shared runs are marked as such anyway."""
        running = [other for other in self._runs.values() if other is not run and other.state == "running"]
        if running and not run.file.request.shared:
            run.notes.append(f"shared run {', '.join(other.id for other in running)} was on at the same time")
        for other in running:
            if not other.file.request.shared:
                other.notes.append(f"shared run {run.id} was on at the same time")

    def label(self, run_id: str, label: str) -> Run:
        """Give a run another label. Raises SpecError; TargetError (exit 2) when the disk refuses it."""
        run, text = self.get(run_id), check_label(label)
        if run.open:
            run.update(label=text)
            run.recorder.save(run.file)
            return run
        try:
            archive.set_label(self._context.state, run_id, text)
        except OSError as error:
            raise TargetError(f"the label cannot be written: {error.strerror}", exit_code=2) from error
        run.update(label=text)
        return run

    def _forget_removed(self) -> None:
        """Forget ended runs whose directories are gone (removed by people or by retention), if any may be."""
        try:
            changed_ns = self._context.state.runs.stat().st_mtime_ns
        except OSError:
            return
        if changed_ns == self._checked_ns:
            return
        self._checked_ns = changed_ns
        for run in list(self._runs.values()):
            if not run.open and not run.recorder.folder.exists():
                del self._runs[run.id]
        self._keys = {key: run_id for key, run_id in self._keys.items() if run_id in self._runs}

    def _forget_old(self) -> None:
        ended = [run.id for run in self._runs.values() if not run.open]
        for run_id in ended[: max(0, len(ended) - KEPT_MAX)]:
            del self._runs[run_id]
        self._keys = {key: run_id for key, run_id in self._keys.items() if run_id in self._runs}


def _compact_and_retain(state: State, run: str) -> None:
    """Compress an ended run and a few left over, then remove the runs beyond the retention limits. Blocks."""
    try:
        archive.compact(state.run(run))
        archive.compact_leftover(state, most=LEFTOVER_MAX)
        limits = retention.limits_of(os.environ)
        gone = retention.apply(state, limits, time.time())
    except SpecError as error:
        log.warning("no run is removed to make room: %s", error)
    except OSError as error:
        log.warning("run %s: what is kept could not be made smaller: %s", run, error)
    else:
        if gone:
            freed = format_size(sum(head.bytes for head in gone))
            log.info("removed %s of %s to keep within the limits", ", ".join(head.run for head in gone), freed)


def _uploads_of(request: RunRequest) -> set[str]:
    return {payload.upload for payload in request.payloads if payload.upload}
