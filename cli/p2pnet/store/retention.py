"""Retention: how many runs are kept and how many bytes; the oldest are removed first.

Applied by a lab when a run has ended, and by commands that copy runs from a cluster. Open runs, and those
to which somebody gave a label, are never removed; damaged ones are. What was removed is recorded, for
lists of runs to mention it.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p2pnet.model import units
from p2pnet.model.errors import SpecError
from p2pnet.store.archive import RUN_ID, list_heads
from p2pnet.store.damaged import damaged_runs
from p2pnet.store.files import write_atomic
from p2pnet.store.heads import RunHead, bytes_of
from p2pnet.store.state import State

KEEP_RUNS = 500  # ended runs to which nobody gave a label
KEEP_BYTES = 5 << 30  # of all runs together
ENV_RUNS = "P2PNET_KEEP_RUNS"
ENV_BYTES = "P2PNET_KEEP_BYTES"
ALL = "all"
REMOVED_FILE = ".removed.json"
REMOVED_IDS_MAX = 2_000  # ids of removed runs that are recorded
REMOVING = ".removing-"  # prefix of a run's directory while it is being deleted


@dataclass(frozen=True, slots=True)
class Limits:
    """How many ended runs are kept to which nobody gave a label, and how many bytes of all runs; None: no limit."""

    runs: int | None = KEEP_RUNS
    bytes: int | None = KEEP_BYTES


class RemovedRuns(msgspec.Struct, frozen=True):
    """What was removed from this state directory so far."""

    runs: int = 0
    """How many runs the limits have removed."""
    bytes: int = 0
    """The size of those."""
    last_at: float = 0.0
    """When the limits last removed a run, in Unix seconds; 0: never."""
    ids: list[str] = []
    """Ids of the latest removed runs, by the limits or by people: a removed copy is not copied again."""


def limits_of(environ: Mapping[str, str]) -> Limits:
    """`$P2PNET_KEEP_RUNS` (a number or `all`) and `$P2PNET_KEEP_BYTES` (a size like 5GiB, or `all`). Raises SpecError."""
    runs, size = environ.get(ENV_RUNS, "").strip(), environ.get(ENV_BYTES, "").strip()
    if runs and runs != ALL and not (runs.isdigit() and 0 < int(runs) < 1 << 31):
        raise SpecError(f"{ENV_RUNS}={runs!r}: write a number of runs from 1 on, or {ALL}")
    try:
        octets = KEEP_BYTES if not size else None if size == ALL else units.parse_size(size)
    except SpecError:
        raise SpecError(f"{ENV_BYTES}={size!r}: write a size like 5GiB, or {ALL}") from None
    return Limits(KEEP_RUNS if not runs else None if runs == ALL else int(runs), octets)


def surplus(heads: Sequence[RunHead], limits: Limits, damaged: Sequence[RunHead] = ()) -> list[RunHead]:
    """The runs beyond the limits, oldest first; never an open, a labelled or the newest one.

    `damaged`: what is known of runs that cannot be read; they count as others do, but none of them is the newest.
    """
    newest_first = sorted(heads, key=lambda head: (head.created_at, head.run), reverse=True)
    others = sorted([*newest_first[1:], *damaged], key=lambda head: (head.created_at, head.run), reverse=True)
    removable = [head for head in others if head.ended and not head.spared]
    spared = len(newest_first[:1]) if newest_first and newest_first[0].ended and not newest_first[0].spared else 0
    gone = [] if limits.runs is None else removable[max(0, limits.runs - spared) :]
    left = sum(head.bytes for head in (*heads, *damaged)) - sum(head.bytes for head in gone)
    staying = removable[: len(removable) - len(gone)]
    while limits.bytes is not None and left > limits.bytes and staying:
        gone.append(staying.pop())
        left -= gone[-1].bytes
    return sorted(gone, key=lambda head: (head.created_at, head.run))


def apply(state: State, limits: Limits, now: float) -> list[RunHead]:
    """Remove the runs beyond the limits; their heads. `now` in Unix seconds. Raises OSError."""
    _finish_removals(state)
    heads = list_heads(state)
    damaged = [one.head for one in damaged_runs(state, now, heads)]
    gone = [head for head in surplus(heads, limits, damaged) if remove(state, head.run)]
    if gone:
        before = read_removed(state)
        record = RemovedRuns(
            before.runs + len(gone), before.bytes + sum(head.bytes for head in gone), now,
            [*before.ids, *(head.run for head in gone)][-REMOVED_IDS_MAX:],
        )  # fmt: skip
        write_atomic(_removed_file(state), msgspec.json.encode(record))
    return gone


def remove(state: State, run: str) -> bool:
    """Remove one run; whether it existed. It vanishes for readers in one step, though deleting its files takes longer."""
    folder = state.run(run)
    doomed = state.runs / f"{REMOVING}{run}"
    if doomed.exists():  # an interrupted removal, after which the run was copied again
        shutil.rmtree(doomed, ignore_errors=True)
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return False
    with contextlib.suppress(FileNotFoundError):  # another process finishes it
        shutil.rmtree(doomed)
    return True


def remember(state: State, runs: Sequence[str]) -> None:
    """Record runs that a person removed, so that they are not copied again. Raises OSError."""
    before = read_removed(state)
    record = msgspec.structs.replace(before, ids=[*before.ids, *runs][-REMOVED_IDS_MAX:])
    write_atomic(_removed_file(state), msgspec.json.encode(record))


def read_removed(state: State) -> RemovedRuns:
    """What was removed so far; empty where the record is missing or damaged."""
    try:
        return msgspec.json.decode(_removed_file(state).read_bytes(), type=RemovedRuns)
    except (OSError, msgspec.DecodeError):
        return RemovedRuns()


def kept_bytes(state: State) -> int:
    """The size of all runs, those without a readable `run.json` too."""
    try:
        folders = [entry for entry in state.runs.iterdir() if RUN_ID.fullmatch(entry.name)]
    except OSError:
        return 0
    return sum(map(bytes_of, folders))


def _finish_removals(state: State) -> None:
    for left in state.runs.glob(f"{REMOVING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _removed_file(state: State) -> Path:
    return state.runs / REMOVED_FILE
