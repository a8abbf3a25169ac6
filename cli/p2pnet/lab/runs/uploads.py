"""Uploads: files on their way to a run, spooled to disk in resumable parts."""

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from p2pnet.model import limits
from p2pnet.model.errors import LimitError, SpecError, TargetError
from p2pnet.model.jobs import Upload, UploadRequest
from p2pnet.store.files import private_directory

UPLOADS_MAX = 1_000  # kept at a time
KEEP_S = 3600.0  # an upload unused for so long is removed when another one needs its place


class OffsetError(SpecError):
    """A part that does not begin where the upload so far ends."""


class UnknownUploadError(SpecError):
    """An upload id that this lab does not know."""


@dataclass(slots=True)
class _Spooled:
    name: str
    size: int
    path: Path
    touched_s: float
    """Monotonic time of the last use."""
    offset: int = 0
    """Bytes on disk so far."""
    users: int = 0
    """Open runs that need it."""


class Uploads:
    """The spool directory. Uploads do not survive a restart of the lab."""

    def __init__(self, directory: Path, *, bytes_max: int = limits.ARTIFACT_BYTES_MAX) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._known: dict[str, _Spooled] = {}

    def open(self) -> None:
        """Make the directory, empty. Raises OSError."""
        private_directory(self._directory)
        for left in self._directory.iterdir():
            left.unlink(missing_ok=True)

    def announce(self, request: UploadRequest) -> Upload:
        """Begin an upload. Raises SpecError, LimitError, TargetError (exit 2) when the disk refuses."""
        if not 0 <= request.size <= self._bytes_max:
            raise LimitError(
                f"{request.name}: {request.size} bytes; an artifact has at most {self._bytes_max} in this subnet"
            )
        if len(request.name.encode()) > limits.NAME_CHARS_MAX:
            raise SpecError(f"upload name {request.name[:40]!r}...: at most {limits.NAME_CHARS_MAX} bytes")
        self._make_room()
        upload = f"u-{secrets.token_hex(8)}"
        spooled = _Spooled(request.name, request.size, self._directory / upload, time.monotonic())
        try:
            spooled.path.touch(mode=0o600)
        except OSError as error:
            raise _refused(spooled, error) from error
        self._known[upload] = spooled
        return self.state(upload)

    def state(self, upload: str) -> Upload:
        """How much of an upload is here. Raises UnknownUploadError."""
        spooled = self._spooled(upload)
        return Upload(upload, spooled.name, spooled.size, spooled.offset)

    def append(self, upload: str, offset: int, part: bytes) -> Upload:
        """Write the next part. Raises OffsetError for another part, LimitError for one too large, UnknownUploadError."""
        spooled = self._spooled(upload)
        if offset != spooled.offset:
            raise OffsetError(f"upload {upload}: the next part begins at {spooled.offset}, not at {offset}")
        if len(part) > limits.UPLOAD_PART_BYTES or offset + len(part) > spooled.size:
            raise LimitError(f"upload {upload}: parts have at most 1 MiB, and all together {spooled.size} bytes")
        try:
            with spooled.path.open("r+b") as file:
                file.seek(offset)
                file.write(part)
        except OSError as error:
            raise _refused(spooled, error) from error
        spooled.offset += len(part)
        spooled.touched_s = time.monotonic()
        return self.state(upload)

    def take(self, uploads: set[str]) -> dict[str, int]:
        """Keep these uploads until `release`; their sizes by id. Raises SpecError for one that is unknown or incomplete."""
        sizes = {}
        for upload in uploads:
            spooled = self._spooled(upload)
            if spooled.offset != spooled.size:
                raise SpecError(f"upload {upload} is not whole: {spooled.offset} of {spooled.size} bytes are here")
            sizes[upload] = spooled.size
        for upload in uploads:
            self._known[upload].users += 1
        return sizes

    def release(self, uploads: set[str]) -> None:
        """A run needs them no more; they stay for others until they have been unused for KEEP_S."""
        for upload in uploads & self._known.keys():
            self._known[upload].users -= 1
            self._known[upload].touched_s = time.monotonic()

    def read(self, upload: str) -> bytes:
        """All bytes of an upload. Raises UnknownUploadError, TargetError when the disk has lost them."""
        spooled = self._spooled(upload)
        try:
            data = spooled.path.read_bytes()
        except OSError as error:
            raise TargetError(f"upload {spooled.name}: cannot be read again: {error.strerror}") from error
        if len(data) != spooled.size:
            raise TargetError(f"upload {spooled.name}: {len(data)} of {spooled.size} bytes are left on disk")
        return data

    def _spooled(self, upload: str) -> _Spooled:
        if upload not in self._known:
            raise UnknownUploadError(
                f"there is no upload {upload!r}; uploads end with their lab, and after an hour unused"
            )
        return self._known[upload]

    def _make_room(self) -> None:
        now = time.monotonic()
        idle = [key for key, spooled in self._known.items() if not spooled.users and now - spooled.touched_s > KEEP_S]
        for key in idle:
            self._known.pop(key).path.unlink(missing_ok=True)
        if len(self._known) >= UPLOADS_MAX:
            raise LimitError(f"{UPLOADS_MAX} uploads are kept already; use or wait for those")


def _refused(spooled: _Spooled, error: OSError) -> TargetError:
    hint = f"{os.fspath(spooled.path.parent)} needs {spooled.size} bytes"
    return TargetError(f"upload {spooled.name}: cannot be written: {error.strerror}", exit_code=2, hint=hint)
