"""Subnets on this machine: a detached lab per subnet, found through the state directory, spoken to by its socket."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.lab_process import check_room, has_ended, spawn, stop
from p2pnet.cli.targets.target import Change, Presence, TargetName, TargetProgress
from p2pnet.lab_client import LabClient
from p2pnet.model.cgroup import Cgroups, OomCounter
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.jobs import RunFile
from p2pnet.model.text import signal_name
from p2pnet.store import State, SubnetPaths, archive, logs, processes
from p2pnet.store.files import write_atomic
from p2pnet.store.heads import RunHead
from p2pnet.store.simulated import TARGET as SIMULATED
from p2pnet.store.state import LabRecord

if TYPE_CHECKING:
    from p2pnet.subnet.spec import Subnet

LOCK_WAIT_S = 30.0
LAB_KNOWN_S = 30.0  # from a lab's first step to its record, on a loaded machine
DEATH_WAIT_S = 2.0
SOCKET_WAIT_S = 3.0  # a lab looks for its socket every second
POLL_S = 0.05
STOPPED_S = 0.2
LOG_TAIL_LINES = 3


class _Started(NamedTuple):
    """A lab that this command started, and what the kernel had killed for want of memory before."""

    process: "subprocess.Popen[bytes]"
    kills: OomCounter


class LocalTarget:
    """The target `local`."""

    kind: TargetName = "local"

    def __init__(self, state: State, *, simulated: bool = True, python_path: Sequence[Path] = ()) -> None:
        """`python_path`: folders whose modules labs and nodes that it starts run, before those of this program."""
        self.state = state
        self._python_path = python_path
        self._simulated = simulated
        """Whether runs of the simulator, which are kept here, count as this target's."""
        self._labs: dict[str, _Started] = {}

    def names(self) -> list[str]:
        """Subnets with a directory."""
        return self.state.names()

    def location(self) -> tuple[str | None, str | None]:
        """This machine has neither context nor namespace."""
        return None, None

    def presence(self, name: str) -> Presence:
        """By files and process ids alone."""
        paths = self.state.subnet(name)
        if not paths.root.exists() or (not paths.begun and not paths.is_locked()):
            return "absent"
        if paths.live_lab() is not None:
            return "up"
        if paths.is_locked() or (paths.lab_exists() and paths.live_lab() is None):
            return "starting"
        if paths.live_lab() is not None:  # it came up while we looked
            return "up"
        try:
            self.subnet(name)
        except TargetError:
            return "damaged"
        return "dead"

    def subnet(self, name: str) -> "Subnet":
        """subnet.json."""
        from p2pnet.subnet.document import load_subnet

        paths = self.state.subnet(name)
        try:
            return load_subnet(paths.document.read_bytes())
        except FileNotFoundError:
            if not paths.root.exists():
                raise self._absent(name) from None
            raise _damaged(paths, "it is missing") from None
        except (SpecError, OSError) as error:
            raise _damaged(paths, str(error)) from error

    @contextlib.asynccontextmanager
    async def lab(self, name: str) -> AsyncIterator[LabClient]:
        """Over the lab's unix socket."""
        await self._known(name)
        record = await self._reachable(name, self._record(name))
        if not record.foreign and await _stays_stopped(record.pid):  # it would be waited for, and to no end
            raise self._silent(name, record, TargetError("its process is stopped"))
        try:
            async with LabClient.unix(record.socket) as client:
                yield client
        except TargetError as error:
            # a killed process refuses us a moment before it is has_ended
            if await has_ended(record, DEATH_WAIT_S):
                raise self._dead(name) from error
            raise self._silent(name, record, error) from error

    async def _reachable(self, name: str, record: LabRecord) -> LabRecord:
        """The record once its socket is there: a lab whose socket was removed makes it again, perhaps elsewhere."""
        deadline = time.monotonic() + SOCKET_WAIT_S
        while record.alive and not _has_socket(record) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            record = self.state.subnet(name).live_lab() or record
        return record

    async def _known(self, name: str) -> None:
        """Return once the subnet's lab has a record, or is gone: without one, it may begin as well as end."""
        locked = self.state.subnet(name).is_locked
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEATH_WAIT_S):
                while self.presence(name) == "starting" and not locked():  # noqa: ASYNC110 - another process makes it so
                    await asyncio.sleep(POLL_S)

    def _record(self, name: str) -> LabRecord:
        match self.presence(name):
            case "absent":
                raise self._absent(name)
            case "starting":
                raise TargetError(
                    f"another p2pnet command is starting or removing {name}",
                    where=str(self.state.subnet(name).lock_file),
                    hint=f"try again in a moment: p2pnet status {name}",
                    exit_code=ExitCode.NOT_FOUND,
                )
            case "damaged":
                self.subnet(name)  # says how
            case _:
                pass
        record = self.state.subnet(name).live_lab()
        if record is None:
            raise self._dead(name)
        return record

    def _absent(self, name: str) -> TargetError:
        others = self.names()
        here = f" (there: {', '.join(others[:8])})" if others else ""
        ended = self.state.subnet(name).read_end_reason()
        if not ended and any(head.target == SIMULATED for head in archive.list_heads(self.state, name)):
            return TargetError(
                f"there is no subnet {name}: it was simulated, and only its runs are here",
                where=str(self.state.runs),
                hint=f"p2pnet up {name} -f FILE starts nodes; p2pnet report {name} shows its latest run",
                exit_code=ExitCode.NOT_FOUND,
            )
        return TargetError(
            f"there is no subnet {name} any more: {ended}" if ended else f"there is no subnet {name}{here}",
            where=str(self.state.subnets),
            hint=f"p2pnet up {name}",
            exit_code=ExitCode.NOT_FOUND,
        )

    def _dead(self, name: str) -> TargetError:
        closed = archive.invalidate_open_runs(self.state, name, f"the lab of {name} died while the run was open")
        runs = f"; open runs are now invalid: {', '.join(closed)}" if closed else ""
        record, kills = self.state.subnet(name).read_record(), Cgroups().oom_kills() or 0
        killed = 0 if record is None or record.oom_kills is None else kills - record.oom_kills
        memory = f"; since it began the kernel killed {killed} for want of memory" if killed > 0 else ""
        problem = self.state.subnet(name).read_problem()
        why = f": {problem.error}" if problem is not None else ""
        return TargetError(
            f"the lab of {name} is dead, and its nodes with it{why}{memory}{runs}",
            where=str(self.state.subnet(name).lab_log),
            hint=f"p2pnet up {name}",
            exit_code=ExitCode.NOT_FOUND,
        )

    def _silent(self, name: str, record: LabRecord, error: TargetError) -> TargetError:
        if record.foreign:
            return self._elsewhere(name, record)
        stopped = processes.is_stopped(record.pid)
        return TargetError(
            f"the lab of {name} runs (process {record.pid}) but does not answer"
            + (": the process is stopped" if stopped else f": {error}"),
            where=str(self.state.subnet(name).lab_log),
            hint=(f"kill -CONT {record.pid}" if stopped else "try again") + f", or p2pnet down {name}",
            exit_code=ExitCode.NOT_FOUND,
        )

    def _elsewhere(self, name: str, record: LabRecord) -> TargetError:
        return TargetError(
            f"the lab of {name} runs in another PID namespace, a container perhaps, and its socket is not to be reached here",
            where=record.socket,
            hint="ask for it where it was started, or share that directory with it",
            exit_code=ExitCode.NOT_FOUND,
        )

    def why_it_ended(self, name: str) -> TargetError | None:
        """problem.json, or the log of a lab that this command started itself."""
        paths = self.state.subnet(name)
        problem, started = paths.read_problem(), self._labs.get(name)
        if problem is None:
            return None if started is None or started.process.poll() is None else _stillborn(started, paths)
        hint = problem.hint or f"read that log, then p2pnet up {name}"
        return TargetError(problem.error, where=str(paths.lab_log), hint=hint, exit_code=problem.exit_code)

    def owns(self, run: RunFile | RunHead) -> bool:
        """Any: who names no cluster may mean a copy of a cluster's run, whose subnet is gone, or one of the simulator."""
        return self._simulated or run.target != SIMULATED

    async def collect(self, name: str) -> None:
        """Nothing: its lab writes there."""

    def use_namespace(self, subnet: "Subnet") -> None:
        """Here, whatever namespace it names."""

    @contextlib.asynccontextmanager
    async def lock(self, name: str, progress: TargetProgress) -> AsyncIterator[None]:
        """The lock of the subnet; waits up to 30 s, asking often rather than blocking: Ctrl-C must work."""
        paths = self.state.subnet(name)
        deadline = time.monotonic() + LOCK_WAIT_S
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(paths.lock(wait_s=0.0))
                    break
                except TargetError as error:
                    if time.monotonic() >= deadline:
                        raise TargetError(
                            f"another p2pnet command has been working on {name} for {LOCK_WAIT_S:.0f} s",
                            where=str(paths.lock_file),
                            hint=error.hint or "wait for it to end, then try again",
                            exit_code=ExitCode.USAGE,
                        ) from error
                    progress.waiting(f"another p2pnet command is working on {name}")
                    await asyncio.sleep(POLL_S)
            yield

    async def prepare(self, subnet: "Subnet", progress: TargetProgress) -> None:
        """Nothing: this machine has what it takes."""

    async def start(self, subnet: "Subnet", progress: TargetProgress, *, timeout_s: float) -> None:
        """Write the document, start the lab in a session of its own, wait until its socket answers."""
        from p2pnet.subnet.document import to_document

        paths = self.state.subnet(subnet.name)
        await self._end_lab(paths, progress)  # one whose `up` was killed meanwhile: nobody was told of it
        archive.invalidate_open_runs(self.state, subnet.name, "the lab was started again while the run was open")
        check_room(self.state.root)
        document = msgspec.json.format(msgspec.json.encode(to_document(subnet)))
        if paths.root.exists() and not _holds(paths.document, document):
            logs.keep(paths)
            shutil.rmtree(paths.root)  # another document: nothing of the old one may leak into it
        paths.make()
        for stale in (paths.record, paths.problem, paths.end_reason):
            stale.unlink(missing_ok=True)
        write_atomic(paths.document, document, durable=True)
        progress.waiting("the lab")
        kills = OomCounter()
        started = self._labs[subnet.name] = _Started(spawn(self.state.root, paths, self._python_path), kills)
        await self._until_it_answers(started, paths, timeout_s)

    async def _until_it_answers(self, started: _Started, paths: SubnetPaths, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if _answers(started.process, paths):
                return
            if started.process.poll() is not None:
                raise self.why_it_ended(paths.name) or _stillborn(started, paths)
            if time.monotonic() >= deadline:
                raise TargetError(
                    f"the lab of {paths.name} does not answer after {timeout_s:.0f} s",
                    where=str(paths.lab_log),
                    hint=f"read that log; p2pnet down {paths.name}",
                    exit_code=ExitCode.NOT_READY,
                )
            await asyncio.sleep(POLL_S)

    async def _end_lab(self, paths: SubnetPaths, progress: TargetProgress) -> LabRecord | None:
        """Stop the lab, waiting for one that is still starting to be known; its record. Only under `hold`."""
        deadline = time.monotonic() + LAB_KNOWN_S
        while (record := paths.live_lab()) is None and paths.lab_exists() and time.monotonic() < deadline:
            progress.waiting(f"the lab of {paths.name}, which is starting")
            await asyncio.sleep(POLL_S)
        if record is not None:
            progress.waiting(f"the nodes of {paths.name} to stop")
            await stop(record)
            if record.foreign and record.alive:
                raise self._elsewhere(paths.name, record)
        elif paths.lab_exists():
            raise TargetError(
                f"a lab of {paths.name} lives but is not known after {LAB_KNOWN_S:.0f} s",
                where=str(paths.lab_lock),
                hint=f"end it: fuser -k {paths.lab_lock}, then try again",
                exit_code=ExitCode.USAGE,
            )
        return record

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        """By its lab, one command at a time."""
        async with self.lock(name, progress), self.lab(name) as client:
            await client.patch_spec(change(await client.written()))

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """Ask the lab to stop; if it does not, signals. Then remove the directory and the socket."""
        paths = self.state.subnet(name)
        record = await self._end_lab(paths, progress) or paths.read_record()
        archive.invalidate_open_runs(self.state, name, f"{name} was taken down while the run was open")
        return _remove_files(paths, record)


def _remove_files(paths: SubnetPaths, record: LabRecord | None) -> bool:
    if record is not None:
        Path(record.socket).unlink(missing_ok=True)
    if not paths.root.exists():
        return False
    logs.keep(paths)
    shutil.rmtree(paths.root)
    return True


def _has_socket(record: LabRecord) -> bool:
    return Path(record.socket).exists()


def _damaged(paths: SubnetPaths, why: str) -> TargetError:
    return TargetError(
        f"the state of {paths.name} is damaged: {why}",
        where=str(paths.document),
        hint=f"p2pnet down {paths.name}, then p2pnet up {paths.name}",
        exit_code=ExitCode.USAGE,
    )


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


async def _stays_stopped(pid: int) -> bool:
    """Whether a process is stopped, and not only for the moment in which a debugger looks at it."""
    if not processes.is_stopped(pid):
        return False
    await asyncio.sleep(STOPPED_S)
    return processes.is_stopped(pid)


def _answers(process: "subprocess.Popen[bytes]", paths: SubnetPaths) -> bool:
    record = paths.read_record()
    return record is not None and record.pid == process.pid and Path(record.socket).exists()


def _stillborn(started: _Started, paths: SubnetPaths) -> TargetError:
    """The lab ended before it answered and left no words but its log; who was killed leaves none at all."""
    process = started.process
    if process.returncode < 0:
        name = signal_name(-process.returncode)
        memory = process.returncode == -signal.SIGKILL and started.kills.grew()
        return TargetError(
            f"the lab of {paths.name} was killed ({name}) before it answered"
            + (": the kernel ended it for want of memory" if memory else ""),
            where=str(paths.lab_log),
            hint=f"{'fewer nodes, or more memory (p2pnet doctor shows it)' if memory else 'find out by whom'};"
            f" then p2pnet up {paths.name}",
            exit_code=ExitCode.NOT_FOUND,
        )
    try:
        tail = paths.lab_log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        tail = []
    last = next((line.strip() for line in reversed(tail) if line.strip()), "it said nothing")
    code = (
        process.returncode if process.returncode in (ExitCode.USAGE, ExitCode.INVALID, ExitCode.BUG) else ExitCode.BUG
    )
    return TargetError(
        f"the lab of {paths.name} ended with exit code {process.returncode} before it answered: {last}",
        where=str(paths.lab_log),
        hint=f"read that log, then p2pnet up {paths.name}",
        exit_code=code,
    )
