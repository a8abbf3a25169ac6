"""Heads: what a list of runs shows of each, in `head.json`, so that listing need not read whole runs.

A head is made from the `run.json` beside it and holds while that has the same stamp; otherwise it is made anew. A
directory whose `run.json` cannot be read, or is of another run, has none (`damaged` tells of it).
"""

import contextlib
import os
from pathlib import Path

import msgspec

from p2pnet.model.jobs import artifacts_asked
from p2pnet.model.report import RUN_ENDED, RunStateName, Verdict
from p2pnet.store.files import write_atomic

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
HEAD_FILE = "head.json"
RUN_SHOWN = 64  # characters of an id that another file tells


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
    """How many were published so far."""
    asked: int = 0
    """How many it is to publish, while it is open; else 0."""
    nodes: int = 0
    label: str = ""
    made_label: bool = False
    """Whether the label is still the one that a scenario made."""
    shared: bool = False
    context: str = ""
    """The kubeconfig context that a copied run is from; empty: the run was made on this machine."""
    namespace: str = ""
    """The namespace of that context's cluster; empty as well for a run of this machine."""
    verdict: Verdict | None = None
    reach: float | None = None
    p95_ms: float | None = None
    bytes: int = 0
    """Size on disk of all its files."""
    stamp: tuple[int, int] = (0, 0)
    """Modification time (ns) and size of the `run.json` it was made from."""

    @property
    def ended(self) -> bool:
        """Whether the run is finished or cancelled."""
        return self.state in RUN_ENDED

    @property
    def spared(self) -> bool:
        """Whether somebody gave it a label, so that it is not removed to make room."""
        return bool(self.label) and not self.made_label


class _Request(msgspec.Struct):
    payloads: list[msgspec.Raw] = []
    count: int = 1
    publisher: str = ""
    shared: bool = False
    label: str = ""
    made_label: bool = False


class _Adversaries(msgspec.Struct):
    nodes: list[str] = []


class _Run(msgspec.Struct):
    """The fields of `RunFile` that a head needs: msgspec skips the others without decoding them."""

    run: str
    subnet: str
    target: str
    created_at: float
    request: _Request
    nodes: list[msgspec.Raw] = []
    adversaries: list[_Adversaries] = []
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
    """The fields of `Report` that a head needs."""

    verdict: Verdict
    reach: _Ratio = _Ratio()
    latency_ms: _Latency = _Latency()
    artifacts: int = 0


_head = msgspec.json.Decoder(RunHead)
_run = msgspec.json.Decoder(_Run)
_summary = msgspec.json.Decoder(_Summary)


def read_head(folder: Path) -> RunHead | None:
    """The head of the run in a directory, made anew if it is out of date; None when there is no readable run."""
    stamp = _stamp(folder)
    if stamp is None:
        return None
    try:
        head = _head.decode((folder / HEAD_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return refresh_head(folder)
    return head if head.stamp == stamp and head.run == folder.name else refresh_head(folder)


def refresh_head(folder: Path) -> RunHead | None:
    """Make the head anew from the run's files, and write it if the run has ended; a failure to write is ignored."""
    head = _made(folder)
    if head is not None and head.ended:
        with contextlib.suppress(OSError):
            write_atomic(folder / HEAD_FILE, msgspec.json.encode(head))
    return head


def stray_run(folder: Path) -> str | None:
    """Why a directory has no head, in words; None where it has one."""
    try:
        run = _run.decode((folder / RUN_FILE).read_bytes())
    except FileNotFoundError:
        return f"it has no {RUN_FILE}"
    except OSError as error:
        return f"its {RUN_FILE} cannot be read: {error.strerror}"
    except (msgspec.DecodeError, RecursionError) as error:
        return f"its {RUN_FILE} is none: {error}"
    return None if run.run == folder.name else f"its {RUN_FILE} is of run {run.run[:RUN_SHOWN]}"


def bytes_of(folder: Path) -> int:
    """The size of a directory's files together."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _made(folder: Path) -> RunHead | None:
    stamp = _stamp(folder)  # taken first: if the file is replaced meanwhile, the head is out of date, not wrong
    try:
        run = _run.decode((folder / RUN_FILE).read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
    if run.run != folder.name:
        return None
    try:
        summary = _summary.decode((folder / SUMMARY_FILE).read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        summary = None
    return RunHead(
        run=run.run, subnet=run.subnet, target=run.target, created_at=run.created_at, state=run.state,
        started_at=run.started_at, finished_at=run.finished_at,
        artifacts=max(len(run.artifacts), summary.artifacts if summary else 0),
        asked=0 if run.state in RUN_ENDED else _asked(run), nodes=len(run.nodes),
        label=run.label, made_label=run.request.made_label and run.label == run.request.label,
        shared=run.request.shared, context=run.context, namespace=run.namespace,
        verdict=summary.verdict if summary else None, reach=summary.reach.ratio if summary else None,
        p95_ms=summary.latency_ms.p95 if summary else None, bytes=bytes_of(folder), stamp=stamp or (0, 0),
    )  # fmt: skip


def _asked(run: _Run) -> int:
    """As `Run.total` of the lab."""
    honest = len(run.nodes) - len({node for group in run.adversaries for node in group.nodes})
    request = run.request
    return artifacts_asked(
        count=request.count, payloads=len(request.payloads), publisher=request.publisher, nodes=honest
    )


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / RUN_FILE).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
