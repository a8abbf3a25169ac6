"""Directories of new runs: their names are the runs' ids."""

import os
import random
import re
import time
from pathlib import Path

import msgspec

from p2pnet.model.errors import TargetError
from p2pnet.store.files import write_atomic
from p2pnet.store.processes import is_alive, start_time
from p2pnet.store.state import State

STAMP_FORMAT = "%Y%m%d-%H%M%S"
STAMP = re.compile(r"r-([0-9]{8}-[0-9]{6})-")
"""How an id begins: with the time, UTC, in that format."""
WRITER_FILE = "writer.json"
"""Which process writes the run of a simulation, until it has ended."""
SUFFIX_DIGITS = slice(18, None)  # of a run's directory, behind r-20261121-201530-


def new_run_folder(state: State, now: float, rng: random.Random) -> Path:
    """Make the directory of a new run; its name is the run's id, sorts by time and is unique in this state directory.

    Raises TargetError (exit 2) when the state directory cannot take it.
    """
    stamp = time.strftime(STAMP_FORMAT, time.gmtime(now))
    suffix = rng.randrange(0x10, 0x80)
    try:
        state.runs.mkdir(parents=True, exist_ok=True)
        suffixes = [path.name[SUFFIX_DIGITS] for path in state.runs.glob(f"r-{stamp}-*")]
        taken = [int(text, 16) for text in suffixes if _is_hex(text)]
        suffix = max([suffix, *(number + 1 for number in taken)])
        while True:
            folder = state.runs / f"r-{stamp}-{suffix:02x}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process of this state directory was faster
                suffix += 1
                continue
            return folder
    except OSError as error:
        raise TargetError(
            f"{state.runs}: cannot begin a run: {error.strerror}",
            exit_code=2,
            hint="free some space there, or set P2PNET_STATE to a directory that can be written",
        ) from error


class _Writer(msgspec.Struct, frozen=True):
    pid: int
    start_time: str


def record_writer(folder: Path) -> None:
    """Record that this process writes the run. Raises OSError."""
    writer = _Writer(os.getpid(), start_time(os.getpid()) or "")
    write_atomic(folder / WRITER_FILE, msgspec.json.encode(writer))


def writer_lives(folder: Path) -> bool | None:
    """Whether the process that writes the run still runs; None where none is recorded."""
    try:
        writer = msgspec.json.decode((folder / WRITER_FILE).read_bytes(), type=_Writer)
    except (OSError, msgspec.DecodeError):
        return None
    return is_alive(writer.pid, writer.start_time)


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdef" for letter in text)
