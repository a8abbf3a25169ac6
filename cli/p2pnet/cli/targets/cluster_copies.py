"""Copies of a lab's runs in the state directory of this user, so that `report` and `trace` work after `down`."""

import contextlib
import os
from pathlib import Path

from p2pnet.desk import Desk, ProblemError, State, archive
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunState

ENDED = ("finished", "cancelled")


async def collect(desk: Desk, state: State, run: RunState) -> None:
    """Copy a run that is not here yet: whole when it has ended, else what it was asked for."""
    if run.state not in ENDED:
        await copy(desk, state, run.run, (archive.RUN_FILE,))
    elif not _is_here(state, run.run):
        await copy(desk, state, run.run)


async def copy(desk: Desk, state: State, run: str, files: tuple[str, ...] = archive.RUN_FILES) -> None:
    """Copy these files of a run, those that it has; `run.json` last, for it says that the others are there."""
    if not archive.RUN_ID.fullmatch(run):
        raise SpecError(f"{run!r} is no run id")  # a path made of it could lead anywhere
    folder = state.run(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        try:
            await _copy_file(desk, run, name, folder / name)
        except ProblemError as error:
            if error.status != 404:
                raise


def invalidate(state: State, run: str, reason: str) -> None:
    """End the copy of a run that its lab has lost."""
    with contextlib.suppress(SpecError):
        file, report = archive.read_run(state, run)
        if report is None and file.state not in ENDED:
            archive.close_invalid(state, file, reason)


def _is_here(state: State, run: str) -> bool:
    try:
        file, report = archive.read_run(state, run)
    except SpecError:
        return False
    return report is not None and file.state in ENDED


async def _copy_file(desk: Desk, run: str, name: str, path: Path) -> None:
    temporary = path.with_name(f".{name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as out:
            async for part in desk.run_file(run, name):
                out.write(part)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
