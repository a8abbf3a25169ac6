"""Files that a person named to be written: whole or not at all where they are files, written through everywhere else."""

import asyncio
import errno
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

from p2pnet.cli.outcome import CommandError

READER_POLL_S = 0.05  # for a FIFO's reader to come, and to read on
DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,9})")
STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
NO_NEW_FILE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a directory says in which no file can be made; one that stands there may be writable all the same."""


class OutputFile:
    """`async with OutputFile(path) as file: await file.write(data)`. Raises CommandError (exit 2) when it cannot be opened.

    A regular file, or one that a link points to, takes its new content when the block ends well, and keeps mode and
    owner; after a failure it is as it was. A device, a FIFO, a socket or a descriptor is written to, never replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._temporary: Path | None = None
        self._in_place = False

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except OSError as error:
            raise CommandError(
                f"cannot write {self._path}: {error.strerror}", where=str(self._path),
                next_step="name a file that can be written",
            ) from None  # fmt: skip
        return self

    async def write(self, data: bytes) -> None:
        """Append; waits for a reader that is slow. Raises OSError, BrokenPipeError when the reader has gone."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await asyncio.sleep(READER_POLL_S)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._in_place:
                os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR))
            if kind is None and self._temporary is not None:
                self._take_place(self._temporary)
        finally:
            os.close(self._descriptor)
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    def _take_place(self, new: Path) -> None:
        """Under the name that was asked for; a mount point, as a container has for a file of its host, is written over."""
        target = self._path.resolve()
        try:
            new.replace(target)
            self._temporary = None
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            shutil.copyfile(new, target)

    async def _open(self) -> None:
        number = descriptor_of(self._path)
        if number is not None:
            self._descriptor = os.dup(number)
            return
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._make(None)
            return
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if stat.S_ISREG(found.st_mode):
            self._make(found)
        else:
            await self._open_stream()

    def _make(self, old: os.stat_result | None) -> None:
        """A new file beside the old one, with its mode and owner; where that cannot be, the old one itself."""
        target = self._path.resolve()
        try:
            self._descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        except OSError as error:
            if old is None or error.errno not in NO_NEW_FILE:
                raise
            self._open_in_place(target)
            return
        self._temporary = Path(name)
        try:
            if old is not None and (old.st_uid, old.st_gid) != (os.getuid(), os.getgid()):
                os.fchown(self._descriptor, old.st_uid, old.st_gid)
            os.fchmod(self._descriptor, 0o666 & ~_umask() if old is None else stat.S_IMODE(old.st_mode))
        except OSError:  # somebody else's, who let us write: it stays theirs
            os.close(self._descriptor)
            self._temporary.unlink(missing_ok=True)
            self._temporary = None
            self._open_in_place(target)

    def _open_in_place(self, target: Path) -> None:
        self._descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        self._in_place = True

    async def _open_stream(self) -> None:
        while True:
            try:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO or not self._path.is_fifo():
                    raise
                await asyncio.sleep(READER_POLL_S)  # nobody reads the FIFO yet
            else:
                return


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process that a path means, like /dev/stdout and /dev/fd/3; None for any other."""
    text = os.fspath(path)
    match = DESCRIPTOR.fullmatch(text)
    return int(match[1]) if match else STANDARD.get(text)


def is_replaced(path: Path) -> bool:
    """Whether writing there makes a new file, or one that is not there yet."""
    return descriptor_of(path) is None and (not path.exists() or path.is_file())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
