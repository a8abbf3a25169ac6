"""Damaged runs: directories of runs whose `run.json` is missing, cannot be read or is of another run.

No list of heads has them, but they take disk: here they are told, with what the files beside it still know, and can be removed.
"""

import calendar
import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from p2pnet.store.archive import RUN_ID, list_heads
from p2pnet.store.heads import HEAD_FILE, RUN_FILE, SUMMARY_FILE, RunHead, bytes_of, stray_run
from p2pnet.store.run_folders import STAMP, STAMP_FORMAT, writer_lives
from p2pnet.store.state import State

BEGINNING_S = 600.0  # a run that begins, or is being copied, has its run.json within this


class DamagedRun(msgspec.Struct, frozen=True):
    """A run that cannot be read."""

    head: RunHead
    """What is known of it all the same: `subnet` and `target` are empty where nothing tells them."""
    why: str
    """What is wrong with it, in words."""


class _Told(msgspec.Struct):
    """The fields of `Report` that say whose run it was."""

    run: str
    subnet: str
    target: str


def damaged_runs(state: State, now: float, heads: Iterable[RunHead] | None = None) -> list[DamagedRun]:
    """All of them, oldest first; `now` in Unix seconds. `heads`: those of all runs that can be read, where they are at hand.

    A run that begins, is copied, or is written by a simulation that goes on is none.
    """
    readable = {head.run for head in (list_heads(state) if heads is None else heads)}
    try:
        folders = [entry for entry in state.runs.iterdir() if RUN_ID.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []
    told = (_damaged(folder, now) for folder in folders if folder.name not in readable)
    return sorted((one for one in told if one is not None), key=lambda one: (one.head.created_at, one.head.run))


def _damaged(folder: Path, now: float) -> DamagedRun | None:
    try:
        changed = folder.stat().st_mtime
        unfinished = not (folder / RUN_FILE).exists() and not (folder / HEAD_FILE).exists()
        if unfinished and (writer_lives(folder) or now - changed < BEGINNING_S):
            return None
        if (why := stray_run(folder)) is None:  # it has become readable meanwhile
            return None
    except OSError as error:
        changed, why = 0.0, f"{folder}: {error.strerror}"
    return DamagedRun(_known(folder, changed), why)


def _known(folder: Path, changed: float) -> RunHead:
    """Its head as it was, else what its report says; `changed` in Unix seconds stands in for a time nobody tells."""
    octets = bytes_of(folder)
    with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
        head = msgspec.json.decode((folder / HEAD_FILE).read_bytes(), type=RunHead)
        if head.run == folder.name:
            return msgspec.structs.replace(head, state="finished", bytes=octets)
    subnet = target = ""
    with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
        told = msgspec.json.decode((folder / SUMMARY_FILE).read_bytes(), type=_Told)
        if told.run == folder.name:
            subnet, target = told.subnet, told.target
    return RunHead(
        run=folder.name, subnet=subnet, target=target, created_at=_stamped(folder.name) or changed, state="finished",
        bytes=octets,
    )  # fmt: skip


def _stamped(run: str) -> float | None:
    """When a run was made, in Unix seconds, by its id."""
    match = STAMP.match(run)
    with contextlib.suppress(ValueError):
        return float(calendar.timegm(time.strptime(match[1], STAMP_FORMAT))) if match else None
    return None
