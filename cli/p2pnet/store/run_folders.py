"""Directories of new runs: their names are the runs' ids."""

import random
import time
from pathlib import Path

from p2pnet.model.errors import TargetError
from p2pnet.store.state import State

SUFFIX_DIGITS = slice(18, None)  # of a run's directory, behind r-20261121-201530-


def new_run_folder(state: State, now: float, rng: random.Random) -> Path:
    """Make the directory of a new run; its name is the run's id, sorts by time and is unique in this state directory.

    Raises TargetError (exit 2) when the state directory cannot take it.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
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


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdef" for letter in text)
