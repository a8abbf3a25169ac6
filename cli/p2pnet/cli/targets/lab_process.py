"""A lab's process started: in a session of its own, with a lock that says for how long it lives."""

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from p2pnet.cli.failure import CommandError
from p2pnet.store import SubnetPaths

FREE_BYTES_MIN = 4 << 20  # certificates, logs and the first events of a small subnet
spawned: list[subprocess.Popen[bytes]] = []  # kept, so that no destructor complains about a lab that lives on purpose


@atexit.register
def _let_go() -> None:
    for process in spawned:
        if process.poll() is None:
            process.returncode = 0  # it lives on; at the interpreter's end the destructors run all the same


def environment() -> dict[str, str]:
    """What a lab and its nodes are given: this one, whose PYTHONPATH means the same from another folder."""
    given = dict(os.environ)
    if path := given.get("PYTHONPATH"):
        given["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in path.split(os.pathsep))
    return given


def check_room(root: Path) -> None:
    """CommandError (exit 2) where not even a small subnet's files fit."""
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < FREE_BYTES_MIN:
        raise CommandError(
            f"the disk is full: {free >> 10} KiB are free where the state is kept, {FREE_BYTES_MIN >> 10} KiB are needed",
            where=str(root),
            todo="make room there, or set P2PNET_STATE to another directory",
        )


def spawn(root: Path, paths: SubnetPaths) -> subprocess.Popen[bytes]:
    """Start it. Only where no lab of this subnet lives, under the lock of the subnet."""
    with paths.lab_log.open("ab") as log, paths.lab_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others only ever look whether it is held
        held = lock.fileno()
        command = [sys.executable, "-m", "p2pnet.lab", "--state", str(root), "--name", paths.name]
        process = subprocess.Popen(  # noqa: S603 our own interpreter and module
            [*command, "--lock-fd", str(held)], pass_fds=[held],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=environment(),
        )  # fmt: skip
    spawned.append(process)
    return process
