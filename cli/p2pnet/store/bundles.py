"""Bundles: packed from what is kept of runs, and opened as a state directory of their own."""

import gzip
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from p2pnet.model.bundle import BundledFile, BundleManifest, LeftOut
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import check_subnet_name
from p2pnet.model.jobs import RunFile
from p2pnet.model.scenario_run import ScenarioRecord
from p2pnet.model.units import format_size
from p2pnet.store import archive, logs
from p2pnet.store.bundle_format import (
    BUNDLE_BYTES_MAX,
    COPY_BYTES,
    FILES_MAX,
    BundledContent,
    BundleError,
    is_name,
    unpack,
)
from p2pnet.store.redaction import Redactor, redacted_text
from p2pnet.store.scenario_records import SCENARIO_FILE
from p2pnet.store.simulated import PUBLISHED_FILE
from p2pnet.store.state import State

RUN_FILE_BYTES_MAX = 1 << 30  # of one file of a run: a larger one is left out
PAYLOADS_BYTES_MAX = 256 << 20  # of the files that a run published, together
LOG_BYTES_MAX = 4 << 20  # of one log: the end of a longer one is packed
LOGS_BYTES_MAX = 64 << 20  # of all logs together
PLAIN_BYTES_MAX = 4 << 30  # of the events of a run that is read from a bundle, uncompressed
PLAIN_RATIO_MAX = 200  # times the size of their compressed form; events shrink to a fifth or a fiftieth
PLAIN_RATIO_FROM = 1 << 20  # bytes from which on the ratio says anything
LINE_BYTES_MAX = 1 << 20  # of one event
PAYLOADS = "payload-*.bin"
SUBNET_FILE, ENVIRONMENT_FILE = "subnet.json", "environment.json"
NOT_PACKED = {
    "keys": "certificates' keys, authorities and tokens of subnets are never packed",
    "report.html, junit.xml": "made from the rest: p2pnet report BUNDLE --html FILE --junit FILE",
}


class Packing:
    """A bundle while it is put together. `work`: a folder for what has to be written before it is packed."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.contents: list[BundledContent] = []
        self.left_out: list[LeftOut] = [LeftOut(what, why) for what, why in NOT_PACKED.items()]
        self.size = 0
        """Bytes of all contents."""
        self._redactor = Redactor()

    def leave_out(self, what: str, why: str) -> None:
        """Say that something is not in the bundle."""
        self.left_out.append(LeftOut(what, why))

    def add_bytes(self, name: str, data: bytes, *, cut: str = "", count: int = 0) -> None:
        """A file of these bytes. `count`: secrets that were taken out of it."""
        if self._has_room(name, len(data)):
            entry = BundledFile(
                name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), cut=cut, redacted=count
            )
            self.contents.append(BundledContent(entry, lambda: io.BytesIO(data)))

    def add_json(self, name: str, data: bytes) -> None:
        """A document, without its secrets."""
        try:
            left, count = self._redactor.redacted_json(data)
        except msgspec.DecodeError as error:
            self.leave_out(name, f"it cannot be read: {error}")
            return
        self.add_bytes(name, left, count=count)

    def add_value(self, name: str, value: object) -> None:
        """A value as a document, without its secrets."""
        self.add_json(name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")

    def add_file(self, name: str, path: Path, *, most: int = RUN_FILE_BYTES_MAX, open_as: str = "") -> None:
        """A file as it is; one that is not there is left out, and so is one of more than `most` bytes."""
        try:
            size = path.stat().st_size
            if size > most:
                self.leave_out(open_as or name, f"it has {format_size(size)}, at most {format_size(most)} are packed")
                return
            if self._has_room(name, size):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                self.contents.append(
                    BundledContent(BundledFile(name=name, size=size, sha256=digest), lambda: path.open("rb"))
                )
        except OSError as error:
            self.leave_out(name, error.strerror or str(error))

    def _has_room(self, name: str, size: int) -> bool:
        if not is_name(name):
            self.leave_out(name, "no file of a bundle can be called so")
        elif len(self.contents) >= FILES_MAX:
            self.leave_out(name, f"a bundle has at most {FILES_MAX} files")
        elif self.size + size > BUNDLE_BYTES_MAX - (1 << 26):  # the manifest, headers and fillings take the rest
            self.leave_out(name, f"a bundle holds at most {format_size(BUNDLE_BYTES_MAX)}")
        else:
            self.size += size
            return True
        return False

    def manifest(self, run: RunFile, runs: Sequence[str], *, scenario: str, version: str) -> BundleManifest:
        """What there is, and what is not."""
        return BundleManifest(
            version=version, subnet=run.subnet, target=run.target, scenario=scenario, runs=list(runs),
            files=[content.entry for content in self.contents], left_out=self.left_out,
        )  # fmt: skip


def pack_run(packing: Packing, state: State, run: RunFile, *, payloads: bool) -> None:
    """All that is kept of one run."""
    folder, place = state.run(run.run), f"runs/{run.run}"
    for name in (archive.RUN_FILE, archive.SUMMARY_FILE):
        try:
            packing.add_json(f"{place}/{name}", (folder / name).read_bytes())
        except FileNotFoundError:
            packing.leave_out(f"{place}/{name}", "the run has not ended")
        except OSError as error:
            packing.leave_out(f"{place}/{name}", error.strerror or str(error))
    for name, packed in archive.COMPRESSED.items():
        if _add_compressed(packing, f"{place}/{packed}", folder / name):
            continue
        if (folder / packed).is_file():  # looked for after the plain one, which is removed once this is complete
            packing.add_file(f"{place}/{packed}", folder / packed)
        else:
            packing.leave_out(f"{place}/{packed}", _why_none(name, run))
    _add_run_logs(packing, f"{place}/{archive.LOGS_FILE}", folder / archive.LOGS_FILE, run)
    if (folder / PUBLISHED_FILE).is_file():
        packing.add_file(f"{place}/{PUBLISHED_FILE}", folder / PUBLISHED_FILE)
    _add_payloads(packing, place, folder, run, wanted=payloads)


def _why_none(name: str, run: RunFile) -> str:
    if name == archive.SAMPLES_FILE and run.target == "sim":
        return "the simulator takes no time series"
    return "none are kept"


def _add_compressed(packing: Packing, name: str, path: Path) -> bool:
    """A large file that is not compressed yet, as an ended run has it; whether there is such a file."""
    copy = packing.work / name.replace("/", "-")
    try:
        with path.open("rb") as plain, copy.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            shutil.copyfileobj(plain, out, COPY_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        packing.leave_out(name, error.strerror or str(error))
        return True
    packing.add_file(name, copy)
    return True


def _add_run_logs(packing: Packing, name: str, path: Path, run: RunFile) -> None:
    try:
        lines = logs.read_run(path, logs.LogQuery())
    except SpecError:
        packing.leave_out(name, "simulated nodes log nothing" if run.target == "sim" else "none are kept with the run")
        return
    total, out = 0, []
    for line in lines:
        text, count = redacted_text(line.line)
        total += count
        out.append(msgspec.json.encode(msgspec.structs.replace(line, line=text)) + b"\n")
    packing.add_bytes(name, b"".join(out), count=total)


def _add_payloads(packing: Packing, place: str, folder: Path, run: RunFile, *, wanted: bool) -> None:
    """The files that a simulated run published; of a live run none are kept."""
    files = sorted(folder.glob(PAYLOADS))
    uploads = sum(bool(payload.upload) for payload in run.request.payloads)
    if uploads and not files:
        packing.leave_out(f"{place}: bytes of {uploads} files that were published", "live runs do not keep them")
    if not wanted:
        for path in files:
            packing.leave_out(f"{place}/{path.name}", "left out as asked for")
        return
    room = PAYLOADS_BYTES_MAX
    for path in files:
        before = packing.size
        packing.add_file(f"{place}/{path.name}", path, most=room)
        room -= packing.size - before


def pack_logs(packing: Packing, files: Mapping[str, Path]) -> None:
    """The logs of a subnet's processes, by node, as far as they are still there."""
    room = LOGS_BYTES_MAX
    for node, path in files.items():
        for suffix in (logs.FORMER, ""):
            room -= _add_log(packing, f"logs/{node}.log{suffix}", path.with_name(path.name + suffix), room)


def _add_log(packing: Packing, name: str, path: Path, room: int) -> int:
    """The end of a log; how many bytes it takes."""
    try:
        size = path.stat().st_size
        most = min(LOG_BYTES_MAX, room)
        if size and not most:
            packing.leave_out(name, f"logs take {format_size(LOGS_BYTES_MAX)} already")
            return 0
        with path.open("rb") as file:
            file.seek(max(0, size - most))
            data = file.read(most)
    except FileNotFoundError:
        return 0
    except OSError as error:
        packing.leave_out(name, error.strerror or str(error))
        return 0
    cut = f"its first {format_size(size - most)} are left out: at most {format_size(most)}" if size > most else ""
    text, count = redacted_text(data.decode("utf-8", "replace"))
    packing.add_bytes(name, text.encode(), cut=cut, count=count)
    return len(data)


# --- opened ---


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """A bundle that is unpacked, until it is closed."""

    path: Path
    manifest: BundleManifest
    state: State
    """A state directory with its runs."""
    close: Callable[[], None]

    def document(self, name: str) -> bytes | None:
        """A file of it; None where it is not there."""
        try:
            return (self.state.root / name).read_bytes()
        except OSError:
            return None

    @property
    def scenario(self) -> ScenarioRecord | None:
        """The scenario whose runs it holds. Raises BundleError for one that cannot be read."""
        data = self.document(SCENARIO_FILE)
        if data is None:
            return None
        try:
            record = msgspec.json.decode(data, type=ScenarioRecord)
        except msgspec.DecodeError as error:
            raise BundleError(f"{SCENARIO_FILE} cannot be read: {error}") from None
        if record.result.subnet != self.manifest.subnet:
            raise BundleError(f"{SCENARIO_FILE} is of another subnet")
        return record


def open_bundle(path: Path) -> OpenedBundle:
    """Unpack and check a bundle. Raises BundleError; OSError where it cannot be read, or nothing can be written."""
    root = Path(tempfile.mkdtemp(prefix="p2pnet-bundle-"))
    try:
        manifest = unpack(path, root)
        state = State(root)
        _check_documents(manifest, root)
        if not manifest.runs:
            raise BundleError("it holds no run")
        _check_name(manifest.subnet)
        for run in manifest.runs:
            _check_run(manifest, state, run)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return OpenedBundle(path, manifest, state, partial(shutil.rmtree, root, ignore_errors=True))


def _check_name(subnet: str) -> None:
    try:
        check_subnet_name(subnet)
    except SpecError as error:
        raise BundleError(f"its runs are of {subnet[:40]!r}: {error}") from None


def _check_documents(manifest: BundleManifest, root: Path) -> None:
    for entry in manifest.files:
        if not entry.name.endswith(".json"):
            continue
        try:
            msgspec.json.decode((root / entry.name).read_bytes())
        except (msgspec.DecodeError, RecursionError) as error:
            raise BundleError(f"{entry.name} is no JSON: {error}") from None


def _check_run(manifest: BundleManifest, state: State, run: str) -> None:
    if not archive.RUN_ID.fullmatch(run):
        raise BundleError(f"{run[:80]!r} is no run's id")
    place = f"runs/{run}"
    names = {entry.name for entry in manifest.files}
    if f"{place}/{archive.RUN_FILE}" not in names:
        raise BundleError(f"it has no {place}/{archive.RUN_FILE}")
    try:
        file, report = archive.read_run(state, run)
    except SpecError:
        raise BundleError(f"{place}: {archive.RUN_FILE} or {archive.SUMMARY_FILE} is not that of a run") from None
    if file.run != run or file.subnet != manifest.subnet:
        raise BundleError(f"{place}/{archive.RUN_FILE} is that of another run")
    # Names and ids stand in commands that a person is told to type next.
    ids = [*file.artifacts, *([] if report is None else [*report.artifact_ids, report.slowest])]
    if not all(archive.HEX.fullmatch(one) for one in ids if one) or (
        report is not None and report.subnet != file.subnet
    ):
        raise BundleError(f"{place}: an artifact's id is none, or the report is of another subnet")
    for name, packed in archive.COMPRESSED.items():
        if f"{place}/{packed}" in names:
            _check_plain(state.run(run), name)


def _check_plain(folder: Path, name: str) -> None:
    """Whether a large file of a run, by its plain name, is whole and no bomb. Raises BundleError."""
    packed = archive.COMPRESSED[name]
    most = max(PLAIN_RATIO_FROM, min(PLAIN_BYTES_MAX, PLAIN_RATIO_MAX * (folder / packed).stat().st_size))
    plain = 0
    try:
        with archive.open_plain(folder, name) as file:
            while line := file.readline(LINE_BYTES_MAX + 1):
                plain += len(line)
                if len(line) > LINE_BYTES_MAX:
                    raise BundleError(f"{packed} has a line of more than {format_size(LINE_BYTES_MAX)}")
                if plain > most:
                    raise BundleError(f"{packed} has more than {format_size(most)} uncompressed")
    except archive.DAMAGE as error:
        raise BundleError(f"{packed} is damaged: {error}") from None
