"""Runs on disk, read without any lab: `$STATE/runs/ID/{run.json, events.ndjson, summary.json}`."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from p2pnet.desk.files import write_atomic
from p2pnet.desk.state import State
from p2pnet.measure import RunMeasure
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import ARTIFACT_TEXT_MIN, DEFAULT_CLIENT
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import ByteCost, Hops, Latency, Reach, Report

RUN_FILE = "run.json"
EVENTS_FILE = "events.ndjson"
SUMMARY_FILE = "summary.json"
LOGS_FILE = "logs.ndjson"
"""What the subnet's processes logged while the run was on, see `logs.write_run`."""
RUN_FILES = (EVENTS_FILE, LOGS_FILE, SUMMARY_FILE, "report.html", "junit.xml", RUN_FILE)
"""What a run's directory may hold, in the order in which to copy it: `run.json` says that the others are there."""
RUN_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,63}")
HEX = re.compile(r"[0-9a-f]+")

_run_file = msgspec.json.Decoder(RunFile)
_report = msgspec.json.Decoder(Report)
_collected = msgspec.json.Decoder(Collected)


def list_runs(state_dir: State | Path, subnet: str | None = None) -> list[RunFile]:
    """All runs, or one subnet's, oldest first; a directory without a readable run.json is passed over."""
    state = _state(state_dir)
    try:
        folders = sorted(entry for entry in state.runs.iterdir() if RUN_ID.fullmatch(entry.name))
    except OSError:
        return []
    files = [run for folder in folders if (run := _read_run_file(folder)) is not None]
    return sorted((run for run in files if subnet in (None, run.subnet)), key=lambda run: (run.created_at, run.run))


def read_run(state_dir: State | Path, run_id: str) -> tuple[RunFile, Report | None]:
    """One run and its report, if it has ended. Raises SpecError when there is no such run or it is damaged."""
    folder = _folder(state_dir, run_id)
    run = _read_run_file(folder)
    if run is None:
        raise SpecError(f"there is no run {run_id} under {folder.parent}, or its {RUN_FILE} is damaged")
    summary = folder / SUMMARY_FILE
    try:
        return run, _report.decode(summary.read_bytes())
    except FileNotFoundError:
        return run, None
    except (OSError, msgspec.DecodeError) as error:
        raise SpecError(f"{summary}: not a report: {error}") from error


def read_events(state_dir: State | Path, run_id: str, artifact: str | None = None) -> list[Collected]:
    """A run's events in time order, of one artifact (a whole id) or of all."""
    events = list(iter_events(_folder(state_dir, run_id) / EVENTS_FILE, artifact))
    events.sort(key=lambda event: (event.t_ns, event.node, event.seq))
    return events


def iter_events(path: Path, artifact: str | None = None) -> Iterator[Collected]:
    """The events of a file as they stand in it; a line cut short by a crash is passed over."""
    wanted = artifact.encode() if artifact is not None else b""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if wanted not in line:
                continue
            try:
                event = _collected.decode(line)
            except msgspec.DecodeError:
                continue
            if artifact is None or event.artifact == artifact:
                yield event


def find_artifact(state_dir: State | Path, subnet: str | None, prefix: str) -> tuple[str, RunFile]:
    """The one artifact whose id begins with `prefix`, with its run. Raises SpecError when none or several do."""
    return match_artifact(list_runs(state_dir, subnet), prefix)


def match_artifact(runs: list[RunFile], prefix: str) -> tuple[str, RunFile]:
    """As `find_artifact`, among these runs."""
    text = check_prefix(prefix)
    found = {artifact: run for run in runs for artifact in run.artifacts if artifact.startswith(text)}
    if not found:
        raise SpecError(f"no run published an artifact whose id begins with {text}")
    if len(found) > 1:
        some = ", ".join(artifact[: len(text) + 6] for artifact in sorted(found)[:5])
        raise SpecError(f"{text} is ambiguous: {len(found)} artifacts begin with it ({some}); give more of the id")
    return next(iter(found.items()))


def check_prefix(prefix: str) -> str:
    """An artifact id or the beginning of one, lower case. Raises SpecError."""
    text = prefix.strip().lower()
    if not HEX.fullmatch(text) or not ARTIFACT_TEXT_MIN <= len(text) <= 64:
        raise SpecError(f"{prefix!r} is no artifact id: at least {ARTIFACT_TEXT_MIN} and at most 64 hex digits")
    return text


def invalidate_open_runs(state_dir: State | Path, subnet: str, reason: str) -> list[str]:
    """Mark every queued or running run of a subnet finished and invalid, because its lab is gone; their ids.

    Only for a subnet whose lab is known to be dead: a living lab writes the same files. Copies of a cluster's runs are
    of another lab, whatever their subnet is called.
    """
    state = _state(state_dir)
    closed = []
    for run in list_runs(state, subnet):
        if run.state in ("queued", "running") and not run.context:
            close_invalid(state, run, reason)
            closed.append(run.run)
    return closed


def close_invalid(state: State, run: RunFile, reason: str) -> Report:
    """End a run as invalid, with a report of what its events tell."""
    folder = state.run(run.run)
    run, report = _measured(run, folder / EVENTS_FILE, reason)
    ended = msgspec.structs.replace(run, state="finished", finished_at=time.time())
    write_atomic(folder / SUMMARY_FILE, pretty(report), durable=True)
    write_atomic(folder / RUN_FILE, pretty(ended), durable=True)
    return report


def _measured(run: RunFile, events: Path, reason: str) -> tuple[RunFile, Report]:
    """The report of what a run's events tell, and the run with the artifacts that they add to those it names."""
    measure, published = RunMeasure(run.nodes), []
    for event in iter_events(events):
        if event.kind is EventKind.PUBLISHED:
            measure.published(event.artifact, event.node, event.t_ns, event.bytes)
            published.append(event.artifact)
        measure.feed([event])
    known = set(run.artifacts)
    more = [artifact for artifact in published if artifact not in known]
    name = run.request.payloads[0].name if len(run.request.payloads) == 1 else ""
    run = msgspec.structs.replace(run, artifacts=run.artifacts + more, names=run.names + [name] * len(more))
    if not published:
        return run, unmeasured(run, [reason])
    return run, measure.report(
        run=run.run, subnet=run.subnet, target=run.target, seed=run.seed, expect=run.request.expect,
        within_s=run.request.within_s, invalid=[reason], shared=run.request.shared,
        started_at=run.started_at or run.created_at, client=run.request.client or DEFAULT_CLIENT,
    )  # fmt: skip


def unmeasured(run: RunFile, reasons: list[str], *, state: str = "finished") -> Report:
    """The report of a run that measured nothing, and why."""
    return Report(
        run=run.run, subnet=run.subnet, target=run.target, seed=run.seed, nodes=len(run.nodes),
        artifacts=len(run.artifacts), verdict="invalid", reach=Reach(0, 0, None),
        latency_ms=Latency(None, None, None, None, None), hops=Hops(None, None), duplicates_per_delivery=None,
        bytes=ByteCost(0, None, None), clock_bound_ms=run.clock_bound_ms, invalid=reasons,
        artifact_ids=list(run.artifacts), started_at=run.started_at or run.created_at, shared=run.request.shared,
        state=state, client=run.request.client or DEFAULT_CLIENT,
    )  # fmt: skip


def pretty(document: msgspec.Struct) -> bytes:
    """JSON for files that people open."""
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def _state(state_dir: State | Path) -> State:
    return state_dir if isinstance(state_dir, State) else State(state_dir)


def _folder(state_dir: State | Path, run_id: str) -> Path:
    if not RUN_ID.fullmatch(run_id):
        raise SpecError(f"{run_id!r} is no run id: it looks like r-20261121-201530-3f")
    return _state(state_dir).run(run_id)


def _read_run_file(folder: Path) -> RunFile | None:
    try:
        return _run_file.decode((folder / RUN_FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
