"""Runs on disk, read without a lab: `$STATE/runs/ID/{run.json, events.ndjson, summary.json}`.

The events and the samples of an ended run are compressed (`events.ndjson.gz`, `samples.ndjson.gz`); the functions here read
both forms.
"""

import contextlib
import gzip
import io
import itertools
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import check_label
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.model.time_series import NodeSample
from p2pnet.store import heads
from p2pnet.store.files import write_atomic
from p2pnet.store.heads import RunHead, read_head, refresh_head
from p2pnet.store.state import State

if TYPE_CHECKING:
    from p2pnet.measure import RunMeasure  # not for reading what is kept

RUN_FILE = heads.RUN_FILE
SUMMARY_FILE = heads.SUMMARY_FILE
EVENTS_FILE = "events.ndjson"
LOGS_FILE = "logs.ndjson"
"""What the subnet's processes logged during the run, see `logs.write_run`."""
COMPRESSED_FILE = "events.ndjson.gz"
SAMPLES_FILE = "samples.ndjson"
"""The time series of the run's nodes, a `NodeSample` a line."""
COMPRESSED_SAMPLES = "samples.ndjson.gz"
COMPRESSED = {EVENTS_FILE: COMPRESSED_FILE, SAMPLES_FILE: COMPRESSED_SAMPLES}
"""What a run's large files are called once it has ended."""
RUN_FILES = (*COMPRESSED.values(), *COMPRESSED, LOGS_FILE, SUMMARY_FILE, "report.html", "junit.xml", RUN_FILE)
"""The files of a run, in the order in which to copy them: `run.json` comes last, for it says that the others are there.

Of each that may be compressed one form is enough."""
RUN_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,63}")
READ_BYTES = 1 << 20  # of events at a time
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)  # what reading a damaged events file raises
UNPACK_BYTES = 1 << 16  # decompressed at a time: at most so much is lost at the end of a truncated file
COMPRESSION = 1
"""gzip's level, of 9: events shrink to a fifth; the highest would gain a tenth more at six times the work."""
HEX = re.compile(r"[0-9a-f]+")

_run_file = msgspec.json.Decoder(RunFile)
_report = msgspec.json.Decoder(Report)
_collected = msgspec.json.Decoder(Collected)
_sample = msgspec.json.Decoder(NodeSample)


class _SampleEnd(msgspec.Struct):
    """What of a line tells its time."""

    t_ns: int


_sample_end = msgspec.json.Decoder(_SampleEnd)


def list_heads(state_dir: State | Path, subnet: str | None = None) -> list[RunHead]:
    """Heads of all runs or of one subnet's, oldest first; directories without a readable run.json are skipped."""
    state = _state(state_dir)
    try:
        folders = [entry for entry in state.runs.iterdir() if RUN_ID.fullmatch(entry.name)]
    except OSError:
        return []
    heads = [head for folder in folders if (head := read_head(folder)) is not None]
    return sorted(
        (head for head in heads if subnet in (None, head.subnet)), key=lambda head: (head.created_at, head.run)
    )


def read_run(state_dir: State | Path, run_id: str) -> tuple[RunFile, Report | None]:
    """A run and its report; None while it has not ended. Raises SpecError when the run does not exist or is damaged."""
    run = read_run_file(state_dir, run_id)
    summary = _folder(state_dir, run_id) / SUMMARY_FILE
    try:
        report = _report.decode(summary.read_bytes())
        return run, report if report.label == run.label else msgspec.structs.replace(report, label=run.label)
    except FileNotFoundError:
        return run, None
    except (OSError, msgspec.DecodeError) as error:
        raise SpecError(f"{summary}: not a report: {error}") from error


def read_run_file(state_dir: State | Path, run_id: str) -> RunFile:
    """A run without its report. Raises SpecError as `read_run`."""
    folder = _folder(state_dir, run_id)
    run = _read_run_file(folder)
    if run is None:
        raise SpecError(f"there is no run {run_id} under {folder.parent}, or its {RUN_FILE} is damaged")
    return run


def read_events(state_dir: State | Path, run_id: str, artifact: str | None = None) -> list[Collected]:
    """A run's events in time order, of one artifact (a whole id) or of all. Raises SpecError for an invalid run id."""
    events = list(iter_events(_folder(state_dir, run_id), artifact))
    events.sort(key=lambda event: (event.t_ns, event.node, event.seq))
    return events


def iter_events(path: Path, artifact: str | None = None, kind: EventKind | None = None) -> Iterator[Collected]:
    """The events of a run in file order, of one artifact or one kind; incomplete lines are skipped.

    `path`: the run's directory or its events file.
    """
    of_kind = f'"{kind}"'.encode() if kind is not None else b""
    wanted = artifact.encode() if artifact is not None else of_kind
    folder = path.parent if path.name in (EVENTS_FILE, COMPRESSED_FILE) else path
    with open_events(folder) as file:
        for line in _lines_with(file, wanted) if wanted else _lines(file):
            if of_kind not in line:  # decoding the line would take ten times as long as this test
                continue
            try:
                event = _collected.decode(line)
            except msgspec.DecodeError:
                continue
            if (artifact is None or event.artifact == artifact) and (kind is None or event.kind is kind):
                yield event


def iter_samples(folder: Path, between_ns: tuple[int, int] | None = None) -> Iterator[NodeSample]:
    """The time series of a run in file order, from its directory; none where there is none, incomplete lines are skipped.

    `between_ns`: only those that end within these times.
    """
    with open_plain(folder, SAMPLES_FILE) as file:
        for line in _lines(file):
            with contextlib.suppress(msgspec.DecodeError):
                # Most lines of a long run are of other times; to see that takes a tenth of decoding them whole.
                if between_ns is None or between_ns[0] <= _sample_end.decode(line).t_ns <= between_ns[1]:
                    yield _sample.decode(line)


def events_file(folder: Path) -> Path:
    """The path of a run's events, compressed or not."""
    plain, packed = folder / EVENTS_FILE, folder / COMPRESSED_FILE
    return packed if not plain.is_file() and packed.is_file() else plain


def has_events(folder: Path) -> bool:
    """Whether a run's directory has events, compressed or not."""
    return any((folder / name).is_file() for name in (EVENTS_FILE, COMPRESSED_FILE))


def check_events(state_dir: State | Path, run_id: str) -> None:
    """SpecError where the events of a run are not kept, or cannot be read to their end: what they lack did not fail to happen."""
    folder = _folder(state_dir, run_id)
    if not has_events(folder):
        raise SpecError(f"no events of run {run_id} are kept")
    if (folder / EVENTS_FILE).is_file():
        return
    try:
        with open_events(folder) as file:
            while file.read(READ_BYTES):
                pass
    except (*DAMAGE, OSError) as error:
        raise SpecError(f"the events of run {run_id} are damaged: {error}") from error


def open_events(folder: Path) -> BinaryIO:
    """A run's events in their plain form; empty when there are none."""
    return open_plain(folder, EVENTS_FILE)


def open_plain(folder: Path, name: str) -> BinaryIO:
    """A file of a run that may be compressed, in its plain form and under its plain name; empty where there is none.

    The plain file is tried first: it is removed only after the compressed one is complete, so one of them is found.
    """
    with contextlib.suppress(FileNotFoundError):
        return (folder / name).open("rb")
    with contextlib.suppress(FileNotFoundError):
        return open_packed(folder, name)
    return io.BytesIO()


def open_packed(folder: Path, name: str) -> BinaryIO:
    """A file of a run that is compressed, in its plain form and under its plain name. Raises OSError."""
    packed = gzip.open(folder / COMPRESSED[name], "rb")  # noqa: SIM115 - closed with the reader around it
    return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", packed), UNPACK_BYTES))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, as far as it can be read."""
    with contextlib.suppress(*DAMAGE):
        yield from file


def _lines_with(file: BinaryIO, text: bytes) -> Iterator[bytes]:
    """The lines that contain a text, found by searching whole blocks: a run may have hundreds of thousands of lines."""
    rest = b""
    with contextlib.suppress(*DAMAGE):
        while block := file.read(READ_BYTES):
            block = rest + block
            end = block.rfind(b"\n") + 1
            rest = block[end:]
            at = block.find(text, 0, end)
            while at >= 0:
                stop = block.index(b"\n", at) + 1
                yield block[block.rfind(b"\n", 0, at) + 1 : stop]
                at = block.find(text, stop, end)
    if text in rest:
        yield rest


def find_artifact(state_dir: State | Path, subnet: str | None, prefix: str) -> tuple[str, RunFile]:
    """The one artifact whose id begins with `prefix`, and its run. Raises SpecError when none or several do."""
    return match_artifact(runs_with(state_dir, subnet, check_prefix(prefix)), prefix)


def runs_with(state_dir: State | Path, subnet: str | None, text: str) -> list[RunFile]:
    """The runs that published an artifact whose id or name begins with `text`, oldest first; only these are decoded."""
    state, found = _state(state_dir), []
    wanted = msgspec.json.encode(text)[:-1]  # as it is written in a run.json, with the opening quotation mark
    for head in list_heads(state, subnet):
        folder = state.run(head.run)
        try:
            data = (folder / RUN_FILE).read_bytes() if head.artifacts else b""
        except OSError:
            continue
        if wanted in data and (run := _decoded(data)) is not None:
            found.append(run)
    return found


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
    """An artifact id or the beginning of one, in lower case. Raises SpecError."""
    text = prefix.strip().lower()
    if not HEX.fullmatch(text) or len(text) > 64:
        raise SpecError(f"{prefix!r} is no artifact id: hex digits, at most 64")
    return text


def invalidate_open_runs(state_dir: State | Path, subnet: str, reason: str) -> list[str]:
    """End every open run of a subnet whose lab is dead, as invalid; their ids.

    A living lab writes the same files, so it must be known to be dead. Copies of a cluster's runs belong to another lab,
    whatever their subnet is called, and are left alone.
    """
    state = _state(state_dir)
    closed = []
    for head in list_heads(state, subnet):
        run = None if head.ended or head.context else _read_run_file(state.run(head.run))
        if run is not None:
            close_invalid(state, run, reason)
            closed.append(run.run)
    return closed


def close_invalid(state: State, run: RunFile, reason: str) -> Report:
    """End a run as invalid, with a report of what its events tell.

    Where it cannot be written (a full disk), the run stays open and the next command tries again.
    """
    folder = state.run(run.run)
    run, report = _measured(run, folder, reason)
    ended = msgspec.structs.replace(run, state="finished", finished_at=time.time())
    with contextlib.suppress(OSError):
        write_atomic(folder / SUMMARY_FILE, pretty(report), durable=True)
        write_atomic(folder / RUN_FILE, pretty(ended), durable=True)
        compact(folder)
    return report


def report_of_lost(state_dir: State | Path, run_id: str, reason: str) -> Report:
    """The report of a run whose lab is gone: the written one, else an invalid one from its events. Raises SpecError."""
    run, report = read_run(state_dir, run_id)
    return report or _measured(run, _folder(state_dir, run_id), reason)[1]


def lost_until_ns(report: Report) -> dict[str, int]:
    """Nodes that lost events, and until when; a report of an older p2pnet names them alone: then to its end."""
    return report.lost_until_ns or dict.fromkeys(report.unknown_nodes, sys.maxsize)


def judged_again(state_dir: State | Path, run_id: str, expect: Sequence[str]) -> Report:
    """The report of a run that has ended, judged by other expectations; what is kept stays as it is.

    Raises SpecError for one that cannot be read, for a run that goes on, and for one whose events are gone.
    """
    from p2pnet.measure import facts_of

    run, report = read_run(state_dir, run_id)
    folder = _folder(state_dir, run_id)
    if report is None:
        raise SpecError(f"run {run_id} has not ended: it cannot be judged again")
    check_events(state_dir, run_id)
    measure, _ = _replayed(run, events_file(folder))
    facts = facts_of(
        run, expect=list(expect), sent=report.bytes.sent, clock_bound_ms=report.clock_bound_ms,
        lost_until_ns=lost_until_ns(report),
    )  # fmt: skip
    return measure.judge_again(report, facts)


def set_label(state_dir: State | Path, run_id: str, label: str) -> None:
    """Give an ended run another label; an empty one removes it. Raises SpecError, OSError."""
    folder = _folder(state_dir, run_id)
    run = read_run(state_dir, run_id)[0]
    labelled = msgspec.structs.replace(run, label=check_label(label))
    write_atomic(folder / RUN_FILE, pretty(labelled), durable=True)
    refresh_head(folder)


def compress(folder: Path, name: str = EVENTS_FILE) -> bool:
    """Replace a large file of an ended run by a gzip file; whether there was one to replace.

    The plain file is removed once the other one is durable. Raises OSError; the plain file then stays.
    """
    plain, packed = folder / name, folder / COMPRESSED[name]
    if plain.is_symlink() or not plain.is_file():
        return False
    temporary = folder / f".{COMPRESSED[name]}.{os.getpid()}.new"
    try:
        with plain.open("rb") as source, temporary.open("wb") as out:
            # Without name and time inside, equal events give equal bytes.
            with gzip.GzipFile("", "wb", COMPRESSION, out, mtime=0) as sink:
                shutil.copyfileobj(source, sink, READ_BYTES)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(packed)
    except FileNotFoundError:  # another process has done it meanwhile
        return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    plain.unlink(missing_ok=True)
    return True


def compact(folder: Path) -> None:
    """Compress an ended run and write its head. Raises OSError; the run is complete all the same."""
    try:
        for name, packed in COMPRESSED.items():
            for left in folder.glob(f".{packed}.*.new"):  # left by a process that was killed
                left.unlink(missing_ok=True)
            compress(folder, name)
    finally:
        refresh_head(folder)


def compact_leftover(state_dir: State | Path, *, most: int) -> list[str]:
    """Compact at most `most` ended runs that their lab left uncompressed; their ids. Raises OSError."""
    state = _state(state_dir)
    ended = (head.run for head in list_heads(state) if head.ended)
    plain = (run for run in ended if any((state.run(run) / name).is_file() for name in COMPRESSED))
    runs = list(itertools.islice(plain, most))
    for run in runs:
        compact(state.run(run))
    return runs


def _measured(run: RunFile, events: Path, reason: str) -> tuple[RunFile, Report]:
    """The report of what a run's events tell, and the run with the artifacts that they add to those it names."""
    from p2pnet.measure import facts_of, unmeasured  # only for runs whose lab died

    measure, published = _replayed(run, events)
    known = set(run.artifacts)
    more = [artifact for artifact in published if artifact not in known]
    name = run.request.payloads[0].name if len(run.request.payloads) == 1 else ""
    run = msgspec.structs.replace(run, artifacts=run.artifacts + more, names=run.names + [name] * len(more))
    if not published:
        return run, unmeasured(run, [reason])
    return run, measure.report(facts_of(run, invalid=[reason]))


def _replayed(run: RunFile, events: Path) -> "tuple[RunMeasure, list[str]]":
    """The measurement of a run from its events, and what they say was published, in their order."""
    from p2pnet.measure import RunMeasure

    measure, published = RunMeasure(run.honest), []
    for event in iter_events(events):
        if event.kind is EventKind.PUBLISHED:
            measure.published(event.artifact, event.node, event.t_ns, event.bytes)
            published.append(event.artifact)
        measure.feed([event])
    return measure, published


def pretty(document: msgspec.Struct) -> bytes:
    """A document as indented JSON, for files that people open."""
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def _state(state_dir: State | Path) -> State:
    return state_dir if isinstance(state_dir, State) else State(state_dir)


def _folder(state_dir: State | Path, run_id: str) -> Path:
    if not RUN_ID.fullmatch(run_id):
        raise SpecError(f"{run_id!r} is no run id: it looks like r-20261121-201530-3f")
    return _state(state_dir).run(run_id)


def _read_run_file(folder: Path) -> RunFile | None:
    try:
        return _decoded((folder / RUN_FILE).read_bytes())
    except OSError:
        return None


def _decoded(data: bytes) -> RunFile | None:
    try:
        return _run_file.decode(data)
    except msgspec.DecodeError:
        return None
