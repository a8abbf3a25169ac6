"""What a list of runs shows of each, without reading whole runs: `head.json` beside `run.json`, made from it.

A head is a copy: it counts only while it carries the stamp of the `run.json` beside it, and is made anew otherwise. A
directory whose `run.json` cannot be read is no run.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from p2pnet.model.report import RUN_ENDED, RunStateName, Verdict
from p2pnet.store.files import write_atomic

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
HEAD_FILE = "head.json"


class RunHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run in one line; times in Unix seconds."""

    run: str
    subnet: str
    target: str
    created_at: float
    state: RunStateName = "queued"
    started_at: float | None = None
    finished_at: float | None = None
    artifacts: int = 0
    nodes: int = 0
    label: str = ""
    shared: bool = False
    context: str = ""
    """Of a copy of a cluster's run; empty: the run was made beside this file."""
    namespace: str = ""
    verdict: Verdict | None = None
    reach: float | None = None
    p95_ms: float | None = None
    bytes: int = 0
    """On disk, all files together."""
    stamp: tuple[int, int] = (0, 0)
    """Of `run.json`: when it was written, in nanoseconds, and its size."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in RUN_ENDED


class _Request(msgspec.Struct):
    shared: bool = False


class _Run(msgspec.Struct):
    """Of `RunFile`, what a head needs: the rest is skipped, not read."""

    run: str
    subnet: str
    target: str
    created_at: float
    request: _Request
    nodes: list[msgspec.Raw] = []
    artifacts: list[msgspec.Raw] = []
    state: RunStateName = "queued"
    started_at: float | None = None
    finished_at: float | None = None
    label: str = ""
    context: str = ""
    namespace: str = ""


class _Ratio(msgspec.Struct, frozen=True):
    ratio: float | None = None


class _Latency(msgspec.Struct, frozen=True):
    p95: float | None = None


class _Summary(msgspec.Struct):
    """Of `Report`, likewise."""

    verdict: Verdict
    reach: _Ratio = _Ratio()
    latency_ms: _Latency = _Latency()
    artifacts: int = 0


_head = msgspec.json.Decoder(RunHead)
_run = msgspec.json.Decoder(_Run)
_summary = msgspec.json.Decoder(_Summary)


def read_head(folder: Path) -> RunHead | None:
    """The head of the run in a directory; None when there is no readable run."""
    stamp = _stamp(folder)
    if stamp is None:
        return None
    try:
        head = _head.decode((folder / HEAD_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return refresh_head(folder)
    return head if head.stamp == stamp and head.run == folder.name else refresh_head(folder)


def refresh_head(folder: Path) -> RunHead | None:
    """Make the head anew from the run's files, and keep it if the run has ended. Where it cannot be kept, that is no error."""
    head = _made(folder)
    if head is not None and head.ended:
        with contextlib.suppress(OSError):
            write_atomic(folder / HEAD_FILE, msgspec.json.encode(head))
    return head


def bytes_of(folder: Path) -> int:
    """What a directory's files take."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _made(folder: Path) -> RunHead | None:
    stamp = _stamp(folder)  # before the file is read: a newer one is met with a head that does not fit it
    try:
        run = _run.decode((folder / RUN_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    try:
        summary = _summary.decode((folder / SUMMARY_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        summary = None
    return RunHead(
        run=run.run, subnet=run.subnet, target=run.target, created_at=run.created_at, state=run.state,
        started_at=run.started_at, finished_at=run.finished_at,
        artifacts=max(len(run.artifacts), summary.artifacts if summary else 0), nodes=len(run.nodes),
        label=run.label, shared=run.request.shared, context=run.context, namespace=run.namespace,
        verdict=summary.verdict if summary else None, reach=summary.reach.ratio if summary else None,
        p95_ms=summary.latency_ms.p95 if summary else None, bytes=bytes_of(folder), stamp=stamp or (0, 0),
    )  # fmt: skip


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / RUN_FILE).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
