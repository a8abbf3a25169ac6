"""Artifacts whose size nobody knows beforehand, from stdin, pipes and devices: read to disk, within the subnet's limit."""

import asyncio
import os
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.session import Session
from p2pnet.model.units import format_size

STDIN = Path("-")
CHUNK_BYTES = 256 << 10
STREAMS_MAX = 16  # of one run, so that the room they take on disk is bounded too


def check_sources(paths: Sequence[Path], verb: str = "inject") -> list[Path]:
    """Those of the paths that must be read to their end before anything is known of them. CommandError (exit 2) for what
    cannot be published at all: a directory, nothing, a terminal, the same stream twice.
    """
    streams = [path for path in paths if _check(path, verb)]
    for path in streams:
        if streams.count(path) > 1:
            raise CommandError(f"{path} is named twice: it can be read once", where=str(path), next_step="name it once")
    if len(streams) > STREAMS_MAX:
        raise CommandError(
            f"{len(streams)} streams are more than a run takes, {STREAMS_MAX}",
            where=f"p2pnet {verb}",
            next_step="use files",
        )
    return streams


def _check(path: Path, verb: str) -> bool:
    """Whether it is a stream."""
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise CommandError(
                "stdin is a terminal: nothing is piped in",
                where=f"p2pnet {verb} -",
                next_step="pipe something in, or name files",
            )
        return True
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "is a directory", str(path))
        if stat.S_ISSOCK(mode):
            raise CommandError(f"{path} is a socket", where=str(path), next_step="name a file or a pipe")
        if not stat.S_ISREG(mode):
            if not os.access(path, os.R_OK):
                raise PermissionError(13, "permission denied", str(path))
            return True
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                if not file.read(1):
                    raise _empty(str(path), str(path))
                return True  # of /proc and its like: there is more than its size says
    except OSError as error:
        raise _unreadable(path, error) from None
    return False


@asynccontextmanager
async def spooled(streams: Sequence[Path], bytes_max: int, session: Session) -> AsyncIterator[dict[Path, Path]]:
    """Every stream read to its end: where its bytes are, until the context ends.

    CommandError (exit 2) for one that is empty, longer than `bytes_max`, or finds no room.
    """
    with tempfile.TemporaryDirectory(prefix="p2pnet-", ignore_cleanup_errors=True) as folder:
        yield {
            path: await _spool(path, Path(folder) / str(index), bytes_max, session)
            for index, path in enumerate(streams)
        }


async def _spool(path: Path, spool: Path, bytes_max: int, session: Session) -> Path:
    label = "stdin" if path == STDIN else str(path)
    source = os.dup(sys.stdin.fileno()) if path == STDIN else _open(path)
    size = 0
    try:
        if os.isatty(source):
            raise CommandError(f"{label} is a terminal", where=label, next_step="name a file or a pipe")
        with spool.open("wb") as file:
            async for chunk in _chunks(source, label, session):
                size += len(chunk)
                if size > bytes_max:
                    raise CommandError(
                        f"{label} is more than {bytes_max} bytes ({format_size(bytes_max)}), the limit of"
                        " spec.broadcast.artifactBytesMax",
                        where=label,
                        next_step="publish something smaller, or start the subnet with a higher limit",
                    )
                file.write(chunk)
    except OSError as error:
        raise CommandError(
            f"{label} cannot be read to disk: {error.strerror}",
            where=str(spool.parent),
            next_step="make room there, or set TMPDIR to another directory",
        ) from None
    finally:
        os.close(source)
    if not size:
        raise _empty(label, label)
    return spool


async def _chunks(source: int, label: str, session: Session) -> AsyncIterator[bytes]:
    size = 0
    while True:
        session.listener.waiting(f"reading {label}, {format_size(size)} so far")
        await _readable(source)
        try:
            chunk = os.read(source, CHUNK_BYTES)
        except BlockingIOError:
            continue
        if not chunk:
            return
        size += len(chunk)
        yield chunk


async def _readable(source: int) -> None:
    """Until a read does not block: on a pipe whose writer is slow, Ctrl-C must be heard meanwhile."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    if stat.S_ISREG(os.fstat(source).st_mode):  # never waited for: kqueue would never tell its end
        await asyncio.sleep(0)
        return
    try:
        loop.add_reader(source, ready.set)
    except OSError:  # a device like /dev/zero: nothing to wait for
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(source)


def _open(path: Path) -> int:
    try:
        # not blocking: a FIFO without a writer would be waited for here, deaf to Ctrl-C
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> CommandError:
    from p2pnet.cli.spec_file import unreadable  # with pydantic, which nobody else needs here

    return unreadable(path, error)


def _empty(label: str, where: str) -> CommandError:
    return CommandError(
        f"{label} is empty: an artifact holds at least one byte", where=where, next_step="give it some content"
    )
