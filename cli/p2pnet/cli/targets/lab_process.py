"""The process of a lab on this machine: started in a session of its own, and ended by its own route, else by signals."""

import asyncio
import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from p2pnet.cli.exit_code import ExitCode
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.store import SubnetPaths
from p2pnet.store.state import LabRecord

STOP_WAIT_S = 20.0  # nodes drain up to 10 s, the lab waits for them
TERM_WAIT_S = 12.0
POLL_S = 0.05
FREE_BYTES_MIN = 4 << 20  # certificates, logs and the first events of a small subnet
spawned: list[subprocess.Popen[bytes]] = []  # kept, so that no destructor complains about a lab that lives on purpose


@atexit.register
def _let_go() -> None:
    for process in spawned:
        if process.poll() is None:
            process.returncode = 0  # it lives on; at the interpreter's end the destructors run all the same


def environment(python_path: Sequence[Path] = ()) -> dict[str, str]:
    """What processes of ours are given: this one, whose PYTHONPATH means the same from another folder.

    `python_path`: folders whose modules go before those of this program.
    """
    given = dict(os.environ)
    parts = [*map(str, python_path), *(path.split(os.pathsep) if (path := given.get("PYTHONPATH")) else [])]
    if parts:
        given["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in parts)
    return given


def check_room(root: Path) -> None:
    """TargetError (exit 2) where not even a small subnet's files fit."""
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < FREE_BYTES_MIN:
        raise TargetError(
            f"the disk is full: {free >> 10} KiB are free where the state is kept, {FREE_BYTES_MIN >> 10} KiB are needed",
            where=str(root),
            hint="make room there, or set P2PNET_STATE to another directory",
            exit_code=ExitCode.USAGE,
        )


def spawn(root: Path, paths: SubnetPaths, python_path: Sequence[Path] = ()) -> subprocess.Popen[bytes]:
    """Start it, with modules of `python_path` first. Only where no lab of this subnet lives, under the lock of the subnet."""
    with paths.lab_log.open("ab") as log, paths.lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others only ever look whether it is held
        held = lock.fileno()
        command = [sys.executable, "-m", "p2pnet.lab", "--state", str(root), "--name", paths.name]
        process = subprocess.Popen(  # noqa: S603 our own interpreter and module
            [*command, "--lock-fd", str(held)], pass_fds=[held],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env=environment(python_path),
        )  # fmt: skip
    spawned.append(process)
    return process


async def stop(record: LabRecord) -> None:
    """Ask it, then tell it, then force it; returns when it is gone or nothing more can be done."""
    _signal(record, signal.SIGCONT)  # a stopped process hears nothing else
    try:
        async with LabClient.unix(record.socket) as client:
            await asyncio.wait_for(client.stop(), STOP_WAIT_S)
    except (TargetError, ProblemError, TimeoutError):
        if record.foreign:
            return  # no signal of ours reaches it
    for stop_signal, patience in ((None, STOP_WAIT_S), (signal.SIGTERM, TERM_WAIT_S), (signal.SIGKILL, TERM_WAIT_S)):
        if stop_signal is not None:
            _signal(record, stop_signal)
        if await has_ended(record, patience):
            return


def _signal(record: LabRecord, number: signal.Signals) -> None:
    if record.alive and not record.foreign:  # pid and start time: never a another process that took over its pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


async def has_ended(record: LabRecord, patience_s: float) -> bool:
    """Whether it ends within so many seconds."""
    deadline = time.monotonic() + patience_s
    while record.alive:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
