"""The nodes' logs as one: merged by time, filtered, followed."""

import asyncio
import heapq
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import LogLine

FOLLOW_S = 0.2
LINE_CHARS_MAX = 16_384
TAIL_BYTES_PER_LINE = 512  # how far from its end a file is read when only the last lines are wanted
ARTIFACT_CHARS = 12  # of an id, as logs shorten it
STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d+")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to show."""

    node: str | None = None
    artifact: str | None = None
    grep: str | None = None
    tail: int | None = None

    def matcher(self) -> Callable[[str], bool]:
        """Whether a line is wanted. Raises SpecError for a pattern that is none."""
        try:
            pattern = re.compile(self.grep) if self.grep else None
        except re.error as error:
            raise SpecError(f"{self.grep!r} is no regular expression: {error}") from error
        part = self.artifact[:ARTIFACT_CHARS] if self.artifact else ""
        return lambda line: part in line and (pattern is None or pattern.search(line) is not None)


def ends_of(files: dict[str, Path]) -> dict[str, int]:
    """How long each file is now: where `read_all` ends and `follow` begins."""
    return {node: _size(path) for node, path in files.items()}


def read_all(files: dict[str, Path], query: LogQuery, ends: dict[str, int]) -> list[LogLine]:
    """What the files hold up to `ends`, by time; the last `tail` lines of it."""
    wanted = query.matcher()
    chosen = _chosen(files, query)
    limit = None if query.tail is None or query.grep or query.artifact else query.tail * TAIL_BYTES_PER_LINE
    streams = [_lines(node, _text(path, limit, ends[node])) for node, path in chosen.items()]
    lines = [line for line in heapq.merge(*streams, key=lambda line: line.t) if wanted(line.line)]
    return lines if query.tail is None else lines[len(lines) - min(len(lines), query.tail) :]


async def follow(
    files: Callable[[], dict[str, Path]], query: LogQuery, ends: dict[str, int]
) -> AsyncIterator[list[LogLine]]:
    """What is written after `ends`, in the order in which it is seen; empty lists when there is nothing."""
    wanted = query.matcher()
    at = dict(ends)
    rest: dict[str, bytes] = {}
    while True:
        await asyncio.sleep(FOLLOW_S)
        fresh: list[LogLine] = []
        for node, path in _chosen(files(), query).items():
            at[node], data = _read_from(path, at.get(node, 0))
            whole, _, rest[node] = (rest.get(node, b"") + data).rpartition(b"\n")
            fresh += _lines(node, whole.decode(errors="replace").splitlines())
        yield sorted((line for line in fresh if wanted(line.line)), key=lambda line: line.t)


def stamp_of(line: str) -> float | None:
    """Unix seconds of the time a line begins with, as `logging` writes it; None when it begins otherwise."""
    match = STAMP.match(line)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match.group().replace(",", ".")).timestamp()
    except ValueError:
        return None


def _lines(node: str, lines: Iterable[str]) -> Iterator[LogLine]:
    last = 0.0
    for line in lines:
        if not line.strip():
            continue
        last = stamp_of(line) or last  # a traceback's lines belong to the line before them
        yield LogLine(last, node, line[:LINE_CHARS_MAX])


def _chosen(files: dict[str, Path], query: LogQuery) -> dict[str, Path]:
    if query.node is None:
        return files
    if query.node not in files:
        raise SpecError(f"there is no node {query.node!r}; there are {', '.join(files)}")
    return {query.node: files[query.node]}


def _text(path: Path, limit: int | None, size: int) -> list[str]:
    start = 0 if limit is None else max(0, size - max(limit, 1 << 16))
    lines = _read_from(path, start)[1][: size - start].decode(errors="replace").splitlines()
    return lines[1:] if start else lines


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
