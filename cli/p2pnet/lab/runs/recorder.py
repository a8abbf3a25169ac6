"""A run on disk, as it happens: run.json, events.ndjson, summary.json, report files. A failing disk is recorded, never raised."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from p2pnet.measure import hop_tree
from p2pnet.model.events import Collected
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.store.archive import EVENTS_FILE, has_events, iter_events, pretty
from p2pnet.store.files import sync_directory, write_atomic
from p2pnet.store.heads import RUN_FILE, SUMMARY_FILE

HTML_FILE = "report.html"
JUNIT_FILE = "junit.xml"
BUFFER_BYTES = 256 << 10  # some thousand events per write
SAVE_S = 1.0  # between two saves of a run.json that grows: the age at which `latest` finds an artifact in it
SAVES_APART = 20  # times as long as a save takes: the lab has more to do than to write the ids of long runs
FIRST_SAVE_S = 0.05  # what comes at once comes in one save
FLUSH_S = 1.0  # the age at which an event must be in the file: what a killed lab loses at most

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


class Recorder:
    """Writes one run's files. After the first failure, of which `on_failure` is told, it writes no more events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed = ""
        """Why the disk refused; empty: it did not."""
        self.report_files: dict[str, bytes] = {}
        """Renderings of the report by file name, written when the run ends."""
        self.on_failure: Callable[[str], None] = lambda _why: None
        self._file: BinaryIO | None = None
        self._flushed_s = 0.0
        self._save_due = False
        self._save_not_before_s = 0.0
        """Monotonic."""

    def begin(self) -> None:
        """Open the events file."""
        try:
            self._file = (self.folder / EVENTS_FILE).open("ab", buffering=BUFFER_BYTES)
        except OSError as error:
            self._fail(error)

    def events(self, events: list[Collected]) -> None:
        """Append events."""
        if self._file is None:
            return
        try:
            self._file.write(b"".join(_encoder.encode(event) + b"\n" for event in events))
            if time.monotonic() - self._flushed_s > FLUSH_S:
                self._flushed_s = time.monotonic()
                self._file.flush()
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Make readable what was appended."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def save(self, run: RunFile) -> None:
        """Replace run.json."""
        began_s = time.monotonic()
        try:
            write_atomic(self.folder / RUN_FILE, pretty(run))
        except OSError as error:
            self._fail(error)
        ended_s = time.monotonic()
        self._save_not_before_s = ended_s + max(SAVE_S, SAVES_APART * (ended_s - began_s))

    def save_soon(self, save: Callable[[], None]) -> None:
        """Call `save`, once, as soon as the last save is long enough ago."""
        if self._save_due:
            return
        self._save_due = True

        def due() -> None:
            self._save_due = False
            save()

        wait_s = max(FIRST_SAVE_S, self._save_not_before_s - time.monotonic())
        asyncio.get_running_loop().call_later(wait_s, due)

    def end_events(self) -> None:
        """Close the events file, durably; a failure is then known."""
        if self._file is not None:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                self._fail(error)
            self._close()

    def end(self, run: RunFile, report: Report) -> None:
        """Write the report, then the run as ended, both durably: run.json says that the rest is there.

        The report files come last and may fail: they can be rendered again at any time.
        """
        try:
            write_atomic(self.folder / SUMMARY_FILE, pretty(report), durable=True)
            write_atomic(self.folder / RUN_FILE, pretty(run), durable=True)
            sync_directory(self.folder.parent)
        except OSError as error:
            self._fail(error)
            return
        for name, data in self.report_files.items():
            with contextlib.suppress(OSError):
                write_atomic(self.folder / name, data)

    def _fail(self, error: OSError) -> None:
        self._close()
        if not self.failed:
            self.failed = f"the run could not be written to {self.folder}: {error.strerror or error}"
            self.on_failure(self.failed)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def render_report_files(folder: Path, run: RunFile, report: Report) -> dict[str, bytes]:
    """The report as HTML and JUnit, by file name; none when rendering fails, for a run's result does not depend on it.

    Reads the run's events: call it in a thread.
    """
    from p2pnet.present import to_html, to_junit  # nodes wait for a lab that starts, nobody for this

    try:
        tree = None
        if report.slowest and has_events(folder):
            tree = hop_tree(report.slowest, iter_events(folder, report.slowest), run.nodes, run.adversaries)
        texts = {HTML_FILE: to_html(report, run, tree), JUNIT_FILE: to_junit(report)}
    except Exception:
        log.exception("run %s: its report files could not be rendered", run.run)
        return {}
    return {name: text.encode() for name, text in texts.items()}
