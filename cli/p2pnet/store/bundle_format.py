"""The form of a bundle: a gzipped tar of plain files, the manifest first. Written the same for the same content.

It is read as what it is, bytes from somebody else: every size is bounded before anything is kept, names cannot lead out
of the folder they are unpacked into, and whatever is no bundle is a `BundleError`. The standard library's tarfile is not
used to read: it believes the sizes of extended headers, and knows links and devices, of which a bundle has none.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from p2pnet.model.bundle import MANIFEST_SCHEMA, BundledFile, BundleManifest
from p2pnet.model.errors import SpecError
from p2pnet.model.units import format_size

MANIFEST = "manifest.json"
BUNDLE_BYTES_MAX = 4 << 30  # of a bundle, and of all that is in it when it is unpacked
FILES_MAX = 10_000  # in a bundle
MANIFEST_BYTES_MAX = 8 << 20
DOCUMENT_BYTES_MAX = 256 << 20  # of any other .json, which is read whole
BLOCK = 512  # of a tar
END_BLOCKS_MAX = 64  # of zeros behind the last file: tars are filled up to 20
COPY_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._ ]{0,79}(/[A-Za-z0-9][-A-Za-z0-9._ ]{0,79}){0,2}")
NAME_BYTES_MAX = 100  # a plain tar header has no room for more
_MAGIC = b"ustar\x0000"
_UNREADABLE = (EOFError, zlib.error, gzip.BadGzipFile)


class BundleError(SpecError):
    """A file that is no bundle, or a damaged one, or of a newer format (exit 2)."""


class BundledContent(NamedTuple):
    """What is to be written of one file: its entry in the manifest, and what opens its bytes."""

    entry: BundledFile
    open: Callable[[], BinaryIO]


def write_bundle(out: BinaryIO, manifest: BundleManifest, contents: list[BundledContent]) -> None:
    """Write manifest and files. Raises OSError; BundleError for a file that is not any more as its entry says."""
    # Without name and time inside, equal content gives equal bytes.
    with gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
        data = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        packed.write(_header(MANIFEST, len(data)) + data + _filling(len(data)))
        for content in contents:
            packed.write(_header(content.entry.name, content.entry.size))
            _copy_in(content, packed)
            packed.write(_filling(content.entry.size))
        packed.write(bytes(2 * BLOCK))


def _copy_in(content: BundledContent, packed: BinaryIO | gzip.GzipFile) -> None:
    left, digest = content.entry.size, hashlib.sha256()
    with content.open() as file:
        while left and (block := file.read(min(left, COPY_BYTES))):
            left -= len(block)
            digest.update(block)
            packed.write(block)
    if left or digest.hexdigest() != content.entry.sha256:
        raise BundleError(f"{content.entry.name} changed while it was packed: try again")


def is_name(name: str) -> bool:
    """Whether a file of a bundle may be called so."""
    return NAME.fullmatch(name) is not None and len(name.encode()) <= NAME_BYTES_MAX


def unpack(path: Path, folder: Path) -> BundleManifest:
    """Unpack the files of a bundle into an empty folder, each checked against the manifest, which is returned.

    Raises BundleError; OSError where the file cannot be read or the folder takes no more.
    """
    size = path.stat().st_size
    if size > BUNDLE_BYTES_MAX:
        raise BundleError(f"it has {format_size(size)}: a bundle has at most {format_size(BUNDLE_BYTES_MAX)}")
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as packed:
        try:
            return _unpack(_Reader(packed), folder)
        except _UNREADABLE as error:
            raise BundleError(f"it is damaged, or no gzipped tar at all ({error})") from None


class _Reader:
    """Reads exactly as many bytes as are asked for, and counts them."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed
        self.left = BUNDLE_BYTES_MAX

    def exactly(self, count: int) -> bytes:
        if count > self.left:
            raise BundleError(f"unpacked it is more than {format_size(BUNDLE_BYTES_MAX)}")
        self.left -= count
        found = bytearray()
        while len(found) < count:
            block = self._packed.read(count - len(found))
            if not block:
                raise BundleError("it is cut short")
            found += block
        return bytes(found)

    def rest(self, most: int) -> bytes:
        """All that is left, at most so much and a byte."""
        found = bytearray()
        while len(found) <= most and (block := self._packed.read(most + 1 - len(found))):
            found += block
        return bytes(found)


def _unpack(reader: _Reader, folder: Path) -> BundleManifest:
    first = _next(reader)
    if first is None or first[0] != MANIFEST:
        raise BundleError(f"it is no bundle of p2pnet: it does not begin with {MANIFEST}")
    if first[1] > MANIFEST_BYTES_MAX:
        raise BundleError(f"its {MANIFEST} has {format_size(first[1])}: at most {format_size(MANIFEST_BYTES_MAX)}")
    manifest = read_manifest(reader.exactly(first[1]))
    reader.exactly(len(_filling(first[1])))
    for entry in manifest.files:
        _unpack_one(reader, entry, folder)
    if (more := _next(reader)) is not None:
        raise BundleError(f"{more[0]} is not in its {MANIFEST}")
    return manifest


def _unpack_one(reader: _Reader, entry: BundledFile, folder: Path) -> None:
    found = _next(reader)
    if found != (entry.name, entry.size):
        there = "nothing" if found is None else f"{found[0]} with {found[1]} bytes"
        raise BundleError(
            f"{entry.name} with {entry.size} bytes should follow, by its {MANIFEST}, and there is {there}"
        )
    digest, left, target = hashlib.sha256(), entry.size, folder / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while left:
            block = reader.exactly(min(left, COPY_BYTES))
            left -= len(block)
            digest.update(block)
            out.write(block)
    reader.exactly(len(_filling(entry.size)))
    if digest.hexdigest() != entry.sha256:
        raise BundleError(f"{entry.name} is damaged: its SHA-256 is not that of the {MANIFEST}")


def read_manifest(data: bytes) -> BundleManifest:
    """A manifest whose names are names, each there once. Raises BundleError."""
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"its {MANIFEST} cannot be read: {error}") from None
    if schema != MANIFEST_SCHEMA:
        kind, _, version = schema[:80].rpartition("/v")
        if kind == MANIFEST_SCHEMA.rpartition("/v")[0] and version.isdigit() and int(version) > 1:
            raise BundleError(f"it is of a newer format ({kind}/v{version}): this version reads {MANIFEST_SCHEMA}")
        raise BundleError(f"it is no bundle of p2pnet: the schema of its {MANIFEST} is {schema[:80]!r}")
    try:
        manifest = msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"its {MANIFEST} cannot be read: {error}") from None
    if len(manifest.files) > FILES_MAX:
        raise BundleError(f"it has {len(manifest.files)} files: a bundle has at most {FILES_MAX}")
    names = [entry.name for entry in manifest.files]
    folders = {name.rpartition("/")[0] for name in names} | {name.split("/")[0] for name in names if "/" in name}
    for entry in manifest.files:
        if not is_name(entry.name) or entry.name == MANIFEST or entry.name in folders:
            raise BundleError(f"{entry.name[:80]!r} is no name of a file in a bundle")
        if entry.size < 0:
            raise BundleError(f"{entry.name} has {entry.size} bytes in its {MANIFEST}")
        if entry.name.endswith(".json") and entry.size > DOCUMENT_BYTES_MAX:
            raise BundleError(f"{entry.name} has {format_size(entry.size)}: at most {format_size(DOCUMENT_BYTES_MAX)}")
    if len({name.casefold() for name in names}) < len(names):
        raise BundleError(f"a file is twice in its {MANIFEST}")
    return manifest


class _Schema(msgspec.Struct):
    schema: str = ""


# --- tar ---


def _header(name: str, size: int) -> bytes:
    """A header of a plain file, of no owner and no time (POSIX.1-1988, ustar)."""
    head = bytearray(BLOCK)
    head[: len(name)] = name.encode()
    head[100:148] = b"0000644\x00" + b"0000000\x00" * 2 + b"%011o\x00" % size + b"00000000000\x00"
    head[148:156] = b" " * 8
    head[156:157] = b"0"
    head[257:265] = _MAGIC
    head[148:156] = b"%06o\x00 " % sum(head)
    return bytes(head)


def _filling(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _next(reader: _Reader) -> tuple[str, int] | None:
    """Name and size of the next file; None at the end, behind which there is nothing. Raises BundleError."""
    head = reader.exactly(BLOCK)
    if not any(head):
        rest = reader.rest(END_BLOCKS_MAX * BLOCK)
        if len(rest) > END_BLOCKS_MAX * BLOCK or any(rest):
            raise BundleError("something follows behind its end")
        return None
    name = head[:100].rstrip(b"\0").decode("ascii", "replace")
    size = head[124:135]
    if not size.isdigit() or any(digit > 0x37 for digit in size) or not is_name(name):
        raise BundleError(f"it is no bundle of p2pnet: {name[:80]!r} is no plain file, or its header is damaged")
    if head != _header(name, int(size, 8)):
        raise BundleError(f"{name} is no plain file as a bundle has them, or its header is damaged")
    return name, int(size, 8)
