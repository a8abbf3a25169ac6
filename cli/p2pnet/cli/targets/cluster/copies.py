"""Copies of a lab's runs in the state directory of this user, so that `report` and `trace` work after `down`."""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunFile, RunState
from p2pnet.model.report import RUN_ENDED
from p2pnet.store import State, archive, retention


@dataclass(frozen=True, slots=True)
class ClusterLocation:
    """Where the runs are that are copied, which their copies tell."""

    context: str
    namespace: str


async def collect(client: LabClient, state: State, run: RunState, place: ClusterLocation) -> None:
    """Copy a run that is not here yet: whole when it has ended, else what it was asked for."""
    if run.state not in RUN_ENDED:
        await copy(client, state, run.run, place, (archive.RUN_FILE,))
    elif not _is_here(state, run.run) and run.run not in retention.read_removed(state).ids:
        await copy(client, state, run.run, place)


async def copy(
    client: LabClient, state: State, run: str, place: ClusterLocation, files: tuple[str, ...] = archive.RUN_FILES
) -> None:  # fmt: skip
    """Copy these files of a run, those that it has; `run.json` last, for it says that the others are there."""
    if not archive.RUN_ID.fullmatch(run):
        raise SpecError(f"{run!r} is no run id")  # a path made of it could lead anywhere
    folder = state.run(run)
    folder.mkdir(parents=True, exist_ok=True)
    copied = set()
    for name in files:
        if archive.COMPRESSED.get(name) in copied:
            continue  # the same in its other form
        try:
            await _copy_file(client, run, name, folder / name, place)
            copied.add(name)
        except ProblemError as error:
            if error.status != 404:
                raise
    if len(files) > 1:
        await asyncio.to_thread(_settle, state, run)


def invalidate(state: State, run: str, reason: str) -> None:
    """End the copy of a run that its lab has lost."""
    with contextlib.suppress(SpecError):
        file, report = archive.read_run(state, run)
        if report is None and file.state not in RUN_ENDED:
            archive.close_invalid(state, file, reason)


def _settle(state: State, run: str) -> None:
    """Keep the copy small, and all runs within the limits. A disk or a setting that does not let us is no error here."""
    with contextlib.suppress(OSError, SpecError):
        archive.compact(state.run(run))
        retention.apply(state, retention.limits_of(os.environ), time.time())


def _is_here(state: State, run: str) -> bool:
    try:
        file, report = archive.read_run(state, run)
    except SpecError:
        return False
    return report is not None and file.state in RUN_ENDED


async def _copy_file(client: LabClient, run: str, name: str, path: Path, place: ClusterLocation) -> None:
    temporary = path.with_name(f".{name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as out:
            async for part in client.run_file(run, name):
                out.write(part)
        if name == archive.RUN_FILE:
            _say_where(temporary, place)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _say_where(path: Path, place: ClusterLocation) -> None:
    try:
        run = msgspec.json.decode(path.read_bytes(), type=RunFile)
    except msgspec.DecodeError as error:
        raise SpecError(f"the lab's {archive.RUN_FILE} is none: {error}") from error
    told = msgspec.structs.replace(run, context=place.context, namespace=place.namespace)
    path.write_bytes(archive.pretty(told))
