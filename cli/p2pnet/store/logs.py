"""The logs of a subnet's processes as one: merged by time, filtered, followed, kept after the subnet is removed.

`LAB` is the lab's own file, which also reports on nodes (ends, halts, silences, links); such a line belongs to the node it
names. Beside each file there may be its former part, `FILE.1`, see `rotate`.
"""

import asyncio
import contextlib
import heapq
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected
from p2pnet.model.jobs import LogLine
from p2pnet.model.log_lines import ABOUT_NODES, parts_of, stamp, stamp_of, words_of
from p2pnet.store.state import State, SubnetPaths

LAB = "lab"
FOLLOW_S = 0.2  # between two looks at files that are followed
LINE_CHARS_MAX = 16_384  # of a line that is shown; the rest is cut off
TAIL_BYTES_PER_LINE = 512  # read from the end of a file for each of the last lines wanted
ARTIFACT_CHARS = 12  # of an id, as logs shorten it
LOG_BYTES_MAX = 4 << 20  # of one file before it is rotated; its former part is at most as long
LOG_BYTES_MIN = 256 << 10  # of one file, however many there are
LOGS_BYTES_MAX = 256 << 20  # of all files of a subnet together
RUN_LOG_BYTES_MAX = 4 << 20  # kept with a run
WARNINGS_MAX = 1_000  # that a run's report may draw on
KEPT_SUBNETS_MAX = 20  # removed subnets whose logs are kept; the oldest are dropped first
FORMER = ".1"
AT_WORK = "the lab is at work"
"""A lab logs this once it has started, and STOPS when it ends in good order: see `cut_short`."""
STOPS = "the lab stops"
EVENT_BEGINS = '{"event":"'  # a line that the supervisor of a pod wrote


class _Event(msgspec.Struct, frozen=True):
    event: str
    name: str = ""
    order: str = ""


_event = msgspec.json.Decoder(_Event)
_encoder = msgspec.json.Encoder()
_line = msgspec.json.Decoder(LogLine)


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines are wanted; None: any. `since` and `until` are Unix seconds, `tail` counts the last lines."""

    nodes: tuple[str, ...] = ()
    """Lines of any of these; empty: of all."""
    artifact: str | None = None
    grep: str | None = None
    """A regular expression, searched for in the line as it is shown, see `shown`."""
    tail: int | None = None
    since: float | None = None
    until: float | None = None

    def matcher(self) -> Callable[[LogLine], bool]:
        """A function that says whether a line is wanted. Raises SpecError for an invalid regular expression."""
        try:
            pattern = re.compile(self.grep) if self.grep else None
        except re.error as error:
            raise SpecError(f"{self.grep!r} is no regular expression: {error}") from error
        part = self.artifact[:ARTIFACT_CHARS] if self.artifact else ""
        nodes = frozenset(self.nodes)
        since, until = self.since or float("-inf"), float("inf") if self.until is None else self.until

        def wanted(line: LogLine) -> bool:
            return (
                part in line.line
                and (not self.nodes or not nodes.isdisjoint(line.node.split()))  # a pod may hold several
                and since <= line.t <= until
                and (pattern is None or pattern.search(shown(line)) is not None)
            )

        return wanted

    @property
    def narrow(self) -> bool:
        """Whether the last lines wanted may be far from the end of a file."""
        return bool(self.grep or self.artifact or self.nodes or self.since is not None or self.until is not None)


def nodes_of(text: str | None) -> tuple[str, ...]:
    """The nodes that are named, joined by commas, as `LogQuery.nodes`."""
    return tuple(filter(None, (text or "").split(",")))


def shown(line: LogLine) -> str:
    """A line as a table shows it, with one space between time (if it has one), level, node and words."""
    return " ".join(filter(None, (stamp(line.t) if line.t else "", line.level, line.node, words_of(line.line))))


def event_lines(events: Iterable[Collected], offset_s: float, query: LogQuery) -> list[LogLine]:
    """The wanted ones of an artifact's events as lines: nodes do not log what they report as events.

    `offset_s`: added to an event's time it gives Unix seconds. Raises SpecError as `LogQuery.matcher`.
    """
    wanted = query.matcher()
    lines = [LogLine(offset_s + event.t_ns / 1e9, event.node, _event_text(event)) for event in events]
    return [line for line in lines if wanted(line)]


def _event_text(event: Collected) -> str:
    parts = [f"event {event.kind} artifact={event.artifact[:ARTIFACT_CHARS]}"]
    parts += [f"peer={event.peer} hop={event.hop}"] if event.peer else []
    parts += [event.detail] if event.detail else []
    return " ".join(parts)


# --- which files ---


def files_of(paths: SubnetPaths) -> dict[str, Path]:
    """Existing log files of a subnet by node: the lab's, and those of present and former nodes."""
    nodes = sorted(path.parent.name for path in (paths.root / "nodes").glob("*/node.log"))
    found = {LAB: paths.lab_log, **{node: paths.node(node).log for node in nodes}}
    return {node: path for node, path in found.items() if path.exists()}


def kept_files(state: State, name: str) -> dict[str, Path]:
    """Log files of a removed subnet by node, see `keep`."""
    return {path.stem: path for path in sorted(_kept(state, name).glob("*.log"))}


def keep(paths: SubnetPaths) -> None:
    """Move a subnet's logs to where they stay when it is removed, replacing those kept before. Works on a full disk."""
    files = files_of(paths)
    folder = _kept(paths.state, paths.name)
    if not files:
        return
    with contextlib.suppress(OSError):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        for node, path in files.items():
            for suffix in (FORMER, ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", folder / f"{node}.log{suffix}")  # noqa: PTH105
        older = sorted(folder.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for one in older[: max(0, len(older) - KEPT_SUBNETS_MAX)]:
            shutil.rmtree(one, ignore_errors=True)


def _kept(state: State, name: str) -> Path:
    return state.root / "logs" / name


def rotate(files: dict[str, Path]) -> list[str]:
    """Truncate files that have become too long, keeping their last part as `FILE.1`; the nodes whose files they were.

    Copied and truncated, not renamed, for processes have them open: what is written between the two steps is lost. On a
    full disk they are truncated without a copy.
    """
    bound = max(LOG_BYTES_MIN, min(LOG_BYTES_MAX, LOGS_BYTES_MAX // (2 * max(1, len(files)))))
    cut = []
    for node, path in files.items():
        if _size(path) <= bound:
            continue
        cut.append(node)
        former = path.with_name(path.name + FORMER)
        try:
            with path.open("rb") as file, former.open("wb") as copy:
                file.seek(max(0, _size(path) - bound))
                file.readline()  # most likely the rest of a line
                shutil.copyfileobj(file, copy)
        except OSError:
            with contextlib.suppress(OSError):
                former.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.truncate(path, 0)
    return cut


# --- reading ---


def ends_of(files: dict[str, Path]) -> dict[str, int]:
    """The length of each file now, by node: where `read_all` ends and `follow` begins."""
    return {node: _size(path) for node, path in files.items()}


def read_all(
    files: dict[str, Path], query: LogQuery, ends: dict[str, int], *, members: Iterable[str] = ()
) -> list[LogLine]:  # fmt: skip
    """The wanted lines of the files up to `ends`, in time order; the last `tail` of them.

    Raises SpecError for a node that has no file and is none of the `members`, who may log elsewhere.
    """
    wanted = query.matcher()
    known = list(dict.fromkeys([*files, *members]))
    for node in query.nodes:
        if node not in known:
            raise SpecError(f"there is no node {node!r}; there are {', '.join(known)}")
    chosen = _chosen(files, query)
    limit = None if query.tail is None or query.narrow else query.tail * TAIL_BYTES_PER_LINE
    streams = [_lines(node, _text(path, limit, ends[node])) for node, path in chosen.items()]
    lines = [line for line in heapq.merge(*streams, key=lambda line: line.t) if wanted(line)]
    return lines if query.tail is None else lines[len(lines) - min(len(lines), query.tail) :]


async def follow(
    files: Callable[[], dict[str, Path]], query: LogQuery, ends: dict[str, int]
) -> AsyncIterator[list[LogLine]]:
    """The wanted lines written after `ends`, as they are seen; an empty list when there is nothing new."""
    wanted = query.matcher()
    at = dict(ends)
    rest: dict[str, bytes] = {}
    while True:
        await asyncio.sleep(FOLLOW_S)
        fresh: list[LogLine] = []
        for node, path in _chosen(files(), query).items():
            start = at.get(node, 0)
            at[node], data = _read_from(path, 0 if _size(path) < start else start)
            whole, _, rest[node] = (rest.get(node, b"") + data).rpartition(b"\n")
            fresh += _lines(node, whole.decode(errors="replace").splitlines())
        yield sorted((line for line in fresh if wanted(line)), key=lambda line: line.t)


def _lines(node: str, lines: Iterable[str]) -> Iterator[LogLine]:
    """Parse lines of a node's file; lines without a time (a traceback's) take time and level of the line before."""
    last, level, subject = 0.0, "INFO", node
    for line in lines:
        if not line.strip():
            continue
        if (time_s := stamp_of(line)) is not None:
            last = time_s
            level, subject = about(line, node)
        yield LogLine(last, subject, line[:LINE_CHARS_MAX], level)


def about(line: str, node: str) -> tuple[str, str]:
    """The level of a line in the file of `node`, and the node that it is about."""
    parts = parts_of(line)
    if parts is None:
        return _about_event(line, node) if line.startswith(EVENT_BEGINS) else ("INFO", node)
    level, logger, message = parts
    return level, message.partition(":")[0] if logger == ABOUT_NODES else node


def _about_event(line: str, node: str) -> tuple[str, str]:
    """As `about`, for an event that the supervisor of a pod wrote."""
    try:
        event = _event.decode(line)
    except msgspec.DecodeError:
        return "INFO", node
    bad = event.event in ("halted", "error", "refused") or (event.event.endswith("exited") and not event.order)
    return "WARNING" if bad else "INFO", event.name or node


def _chosen(files: dict[str, Path], query: LogQuery) -> dict[str, Path]:
    """The files to read: of some nodes, their own and the lab's, which reports on them too."""
    if not query.nodes:
        return files
    return {name: files[name] for name in (LAB, *query.nodes) if name in files}


def _text(path: Path, limit: int | None, size: int) -> list[str]:
    start = 0 if limit is None else max(0, size - max(limit, 1 << 16))
    lines = _read_from(path, start)[1][: size - start].decode(errors="replace").splitlines()
    if start:
        return lines[1:]
    former = path.with_name(path.name + FORMER)
    return _read_from(former, 0)[1].decode(errors="replace").splitlines() + lines


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_from(path: Path, offset: int) -> tuple[int, bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return offset, b""
    return offset + len(data), data


def cut_short(lab_log: Path) -> str:
    """The time of the last line of a lab that did not end in good order; empty where it did, or there was none."""
    text = _read_from(lab_log, max(0, _size(lab_log) - LOG_BYTES_MIN))[1].decode(errors="replace")
    if text.rfind(f": {AT_WORK}") <= text.rfind(f" {STOPS}: "):
        return ""
    stamps = [line.partition(" ")[0] for line in text.splitlines() if stamp_of(line) is not None]
    return stamps[-1] if stamps else ""


# --- kept with a run ---


def write_run(path: Path, files: dict[str, Path], begun: dict[str, int], since: float, until: float) -> list[LogLine]:
    """Write what was logged during a run as NDJSON of `LogLine`; the lab's warnings about nodes, at most WARNINGS_MAX.

    `begun`: lengths of the files when the run started; `since` and `until` in Unix seconds. At most RUN_LOG_BYTES_MAX are
    written; if lines are left out, the last one says so. Raises OSError.
    """
    warnings: list[LogLine] = []
    query = LogQuery(since=since, until=until)
    streams = [_lines(node, _since(file, begun.get(node, 0))) for node, file in files.items()]
    wanted, room, left_out = query.matcher(), RUN_LOG_BYTES_MAX, 0
    with path.open("wb") as out:
        for line in heapq.merge(*streams, key=lambda line: line.t):
            if not wanted(line):
                continue
            if line.level == "WARNING" and f" {ABOUT_NODES}: " in line.line and len(warnings) < WARNINGS_MAX:
                warnings.append(line)
            text = _encoder.encode(line) + b"\n"
            if left_out or len(text) > room:
                left_out += 1
                continue
            room -= len(text)
            out.write(text)
        if left_out:
            words = f"cut: {left_out} more lines of this run are not kept, over {RUN_LOG_BYTES_MAX >> 20} MiB"
            out.write(_encoder.encode(LogLine(until, LAB, words, "WARNING")) + b"\n")
    return warnings


def read_run(path: Path, query: LogQuery) -> list[LogLine]:
    """The wanted lines of those kept with a run. Raises SpecError when there are none or the file is damaged."""
    wanted = query.matcher()
    try:
        lines = [_line.decode(text) for text in path.read_bytes().splitlines() if text.strip()]
    except FileNotFoundError:
        raise SpecError(f"{path}: no logs were kept with this run") from None
    except (OSError, msgspec.DecodeError) as error:
        raise SpecError(f"{path}: not the logs of a run: {error}") from error
    return [line for line in lines if wanted(line)]


def _since(path: Path, offset: int) -> list[str]:
    """What was written from an offset on; all that is left of a file that was rotated since."""
    if _size(path) < offset:
        return _text(path, None, _size(path))
    return _read_from(path, offset)[1].decode(errors="replace").splitlines()
