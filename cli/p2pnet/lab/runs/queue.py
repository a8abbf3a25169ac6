"""The runs of a lab as jobs: asked for once by key, one measured at a time, the others visibly in line."""

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

from p2pnet.lab.runs.injector import plan
from p2pnet.lab.runs.recorder import Recorder, new_run_folder
from p2pnet.lab.runs.run import Run
from p2pnet.lab.runs.runner import RunContext, Runner
from p2pnet.measure import expectations
from p2pnet.model.errors import LimitError, SpecError, TargetError
from p2pnet.model.ids import check_label, client_among
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.units import format_size
from p2pnet.store import archive, retention
from p2pnet.store.state import State

QUEUE_MAX = 100
SHARED_MAX = 8  # shared runs at a time
KEPT_MAX = 1_000  # ended runs kept in memory; the archive has all
KEY_CHARS_MAX = 200
SETTLE_WAIT_S = 60.0  # how long an ended run waits for others to end before it is compressed beside them
FORGOTTEN_MAX = 5  # older runs that are compressed with one that ends
SETTLING_S = 30.0  # how long a lab that stops waits for ended runs to be compressed

log = logging.getLogger(__name__)


class KeyReusedError(SpecError):
    """An idempotency key that came with another request before."""


class UnknownRunError(SpecError):
    """A run id that is none of this lab's."""


class RunQueue:
    """Takes requests for runs and sees to it that they are run."""

    def __init__(self, world: RunContext) -> None:
        self._world = world
        self._runs: dict[str, Run] = {}
        self._keys: dict[str, str] = {}
        self._queue: deque[Run] = deque()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._measured: Run | None = None
        self._closed = ""
        self._settling: set[asyncio.Task[None]] = set()
        """Runs that have ended and are being compressed."""
        self._idle = asyncio.Event()
        """Set while no run is open, and for good when no more are taken."""
        self._looked_ns = 0
        """When the directory of all runs had last changed, as far as was looked."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a run has been taken, and when one has ended."""
        # Not the run's seed: the ids of two labs that share a state directory should differ.
        self._rng = random.Random()

    # --- asking ---

    def submit(self, request: RunRequest, key: str) -> tuple[Run, bool]:
        """The run of this key, and whether it is new. Raises SpecError, LimitError, TargetError (exit 2)."""
        client, label = client_among(self._world.clients(), request.client), check_label(request.label)
        request = msgspec.structs.replace(request, client=client, label=label)
        known = self._keys.get(key) if key else None
        if known is not None:
            run = self._runs[known]
            if run.file.request != request:
                raise KeyReusedError(f"the idempotency key {key!r} belongs to run {known}, which is another request")
            return run, False
        self._check_room(request, key)
        run = self._make(request)
        self._runs[run.id] = run
        self._idle.clear()
        if key:
            self._keys[key] = run.id
        if request.shared:
            self._start(run)
        else:
            self._queue.append(run)
            self._advance()
        self._forget_old()
        self.on_change()
        return run, True

    def _check_room(self, request: RunRequest, key: str) -> None:
        if self._closed:
            raise TargetError(self._closed)
        if len(key) > KEY_CHARS_MAX:
            raise LimitError(f"an idempotency key has at most {KEY_CHARS_MAX} characters")
        if len(self._queue) >= QUEUE_MAX:
            raise LimitError(f"{QUEUE_MAX} runs are waiting already")
        if request.shared and sum(run.open and run.file.request.shared for run in self._runs.values()) >= SHARED_MAX:
            raise LimitError(f"{SHARED_MAX} shared runs are on already")

    def _make(self, request: RunRequest) -> Run:
        world, now, nodes = self._world, time.time(), self._world.nodes()
        for expression in request.expect:
            expectations.parse(expression)
        seed = world.seed() if request.seed is None else request.seed
        uploads = _uploads_of(request)
        sizes = world.uploads.take(uploads)
        try:
            planned = plan(request, nodes, seed, sizes)
            folder = new_run_folder(world.state, now, self._rng)
            file = RunFile(
                run=folder.name, subnet=world.subnet, target=world.target, seed=seed, request=request, created_at=now,
                nodes=nodes, version=world.version, spec=world.spec(), label=request.label, ignored=world.ignored(),
            )  # fmt: skip
            run = Run(file, planned, Recorder(folder))
            run.recorder.save(file)
            if run.recorder.failed:
                shutil.rmtree(folder, ignore_errors=True)  # a run that never began leaves nothing
                raise TargetError(run.recorder.failed, exit_code=2, hint="free some space and inject again")
        except BaseException:
            world.uploads.release(uploads)
            raise
        return run

    # --- looking ---

    def get(self, run_id: str) -> Run:
        """A run of this lab. Raises SpecError."""
        self._forget_removed()
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRunError(f"there is no run {run_id!r} in this lab")
        return run

    def all(self) -> list[Run]:
        """Oldest first; without those that were removed from the disk since."""
        self._forget_removed()
        return list(self._runs.values())

    def open(self) -> list[Run]:
        """Queued and running ones."""
        return [run for run in self._runs.values() if run.open]

    # --- ending ---

    async def cancel(self, run_id: str, reason: str = "cancelled") -> Run:
        """End a run; returns once it has ended. One that had ended stays as it is."""
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
        await self.settled()

    async def _settle(self, run: Run) -> None:
        """Once no run is on that it could disturb, or after a while in any case."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), SETTLE_WAIT_S)
        await asyncio.to_thread(_settle, self._world.state, run.id)

    async def settled(self) -> None:
        """Wait until what ended runs left behind is small; for a bounded time."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLING_S)

    async def _ended(self, run: Run) -> None:
        if run in self._queue:
            self._queue.remove(run)
            self._start(run)  # with its end already ordered: it writes its report and is done
            self._place()
        task = self._tasks.get(run.id)
        if task is not None:
            await asyncio.wait([task])

    # --- the line ---

    def _advance(self) -> None:
        if self._measured is None and self._queue:
            self._measured = self._queue.popleft()
            self._start(self._measured)
        self._place()

    def _place(self) -> None:
        for position, run in enumerate(self._queue, start=1):
            ahead = f"run {self._measured.id}" if self._measured else "its turn"
            if run.queue_position != position or run.waiting_for != ahead:
                run.queue_position, run.waiting_for = position, ahead
                run.touch()

    def _start(self, run: Run) -> None:
        self._tasks[run.id] = asyncio.create_task(self._run(run), name=f"run {run.id}")

    async def _run(self, run: Run) -> None:
        beside = [other.id for other in self._runs.values() if other is not run and other.state == "running"]
        if beside and not run.file.request.shared:
            run.notes.append(f"shared run {', '.join(beside)} was on at the same time")
        for other in self._runs.values():
            if other is not run and other.state == "running" and not other.file.request.shared:
                other.notes.append(f"shared run {run.id} was on at the same time")
        try:
            await Runner(self._world, run).go()
        except Exception:
            log.exception("run %s", run.id)
        finally:
            self._world.uploads.release(_uploads_of(run.file.request))
            self._tasks.pop(run.id, None)
            if run is self._measured:
                self._measured = None
                self._advance()
            self.on_change()
            if not self.open():
                self._idle.set()
            settling = asyncio.create_task(self._settle(run))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    def label(self, run_id: str, label: str) -> Run:
        """Give a run another label. Raises SpecError; TargetError (exit 2) when the disk refuses it."""
        run, text = self.get(run_id), check_label(label)
        if run.open:
            run.update(label=text)
            run.recorder.save(run.file)
            return run
        try:
            archive.set_label(self._world.state, run_id, text)
        except OSError as error:
            raise TargetError(f"the label cannot be written: {error.strerror}", exit_code=2) from error
        run.update(label=text)
        return run

    def _forget_removed(self) -> None:
        """People and limits remove ended runs from the disk: look, whenever the directory of all runs has changed."""
        try:
            changed_ns = self._world.state.runs.stat().st_mtime_ns
        except OSError:
            return
        if changed_ns == self._looked_ns:
            return
        self._looked_ns = changed_ns
        for run in list(self._runs.values()):
            if not run.open and not run.recorder.folder.exists():
                del self._runs[run.id]
        self._keys = {key: run_id for key, run_id in self._keys.items() if run_id in self._runs}

    def _forget_old(self) -> None:
        ended = [run.id for run in self._runs.values() if not run.open]
        for run_id in ended[: max(0, len(ended) - KEPT_MAX)]:
            del self._runs[run_id]
        self._keys = {key: run_id for key, run_id in self._keys.items() if run_id in self._runs}


def _settle(state: State, run: str) -> None:
    """What an ended run leaves behind, made small; and what is beyond the limits, removed. Blocks."""
    try:
        archive.settle(state.run(run))
        archive.settle_forgotten(state, most=FORGOTTEN_MAX)
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
