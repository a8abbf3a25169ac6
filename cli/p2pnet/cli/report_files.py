"""A report written to the files a person named: `--html`, `--junit`, `--md`, `--csv`, `--otel`; and its spans sent by `--otlp`.

Shared by the verbs that report.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from p2pnet.cli.options import ReportFiles
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.output_file import OutputFile, descriptor_of, is_replaced
from p2pnet.cli.run_receipts import receipt_rows
from p2pnet.cli.session import Session
from p2pnet.cli.terminal import drop_stdout
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.model.text import plural
from p2pnet.store import State, archive

if TYPE_CHECKING:  # not for verbs that write no spans
    from p2pnet.present import ArtifactSpan

STDOUT = Path("-")


class NamedFiles(Protocol):
    """Options that name files to be written."""

    def wanted(self) -> dict[str, Path]:
        """Option as typed -> its file, of those that were given."""


def check(files: NamedFiles) -> None:
    """Before anything is waited for: no path that is a directory, lies in none, or is named twice. CommandError (exit 2)."""
    seen: dict[Path, str] = {}
    for option, path in files.wanted().items():
        if path != STDOUT and path.is_dir():
            raise _unwritable(option, path, "it is a directory")
        if path != STDOUT and descriptor_of(path) is None and not path.resolve().parent.is_dir():
            raise _unwritable(option, path, f"there is no directory {path.resolve().parent}")
        other = seen.setdefault(path if path == STDOUT else path.resolve(), option)
        if other != option and (path == STDOUT or is_replaced(path)):
            raise _unwritable(option, path, f"{other} names it too")


def check_report(files: ReportFiles, beside: Sequence[str] = ()) -> None:
    """As `check`, and that `--full` has a file to go to, runs `beside` a page to be drawn in, and spans can be sent.

    CommandError (exit 2).
    """
    if files.full and files.html is None:
        raise CommandError(
            "--full is of the HTML page, and none is written", where="--full", next_step="add --html FILE"
        )
    if beside and not files.full:
        raise CommandError(
            "several runs are drawn beside each other in the page of --full only", where=" ".join(beside),
            next_step="add --html FILE --full; or p2pnet compare BASE HEAD",
        )  # fmt: skip
    check(files)
    if files.otlp is not None:
        from p2pnet.cli.otlp import check_endpoint

        check_endpoint(files.otlp)


async def write(
    files: ReportFiles, outcome: Outcome, state: State, session: Session, beside: Sequence[str] = ()
) -> Outcome:
    """Write every form, each file whole or not at all, and send; the outcome says what could not be written (exit 2) or sent (3).

    What goes to stdout stands there instead of the document. `beside`: ids of runs whose latencies the full page has, too.
    """
    report = outcome.document
    if not isinstance(report, Report):
        if wanted := files.forms():
            session.note(f"there is no report: {' '.join(wanted)} not written")
        return outcome
    full = beside if files.full else None
    drawn = report if files.html is None else _without_events(report, state, session)

    def pieces(option: str) -> Iterator[str]:
        return _pieces(option, drawn if option == "--html" else report, state, full)

    outcome = await write_each(files, pieces, outcome, session)
    if files.otlp is None or outcome.failure is not None:
        return outcome
    from p2pnet.cli.run_spans import run_spans

    try:
        run = archive.read_run_file(state, report.run)
    except SpecError as error:
        failure = CommandError(str(error), where=f"--otlp {files.otlp}", next_step="name a run that is kept here")
        return failed(outcome, failure)
    return await send_spans(files.otlp, lambda: run_spans(run, state), run, outcome, session)


def _without_events(report: Report, state: State, session: Session) -> Report:
    """The report that a page shows: where the run's events are not kept it says so, for much of a page is drawn from them."""
    if not report.artifact_ids or (lack := _lacking(report, state)) is None:
        return report
    why = f"{lack}: the page has no receipts, and no way of an artifact"
    session.note(why)
    return msgspec.structs.replace(report, notes=[*report.notes, why])


async def write_each(
    files: NamedFiles, pieces: Callable[[str], Iterator[str]], outcome: Outcome, session: Session
) -> Outcome:
    """As `write`, with the pieces of the text that each option means."""
    wanted = files.wanted()
    if not wanted:
        return outcome
    if STDOUT in wanted.values():
        outcome = replace(outcome, document=None)
    failure = await _write_all(wanted, pieces, session)
    if failure is not None:
        return failed(outcome, failure)
    for path in wanted.values():
        if path != STDOUT:
            session.note(f"wrote {path}")
    return outcome


def failed(outcome: Outcome, failure: CommandError) -> Outcome:
    """The outcome of what was done, but for that."""
    return replace(outcome, exit_code=failure.exit_code, failure=failure, next=())


async def send_spans(
    endpoint: str, spans: Callable[[], "Iterable[ArtifactSpan]"], run: RunFile, outcome: Outcome, session: Session
) -> Outcome:
    """Send spans to a collector and note it; the outcome says why they were not taken (exit 3)."""
    from p2pnet.cli.otlp import check_endpoint, send

    try:
        sent = await send(check_endpoint(endpoint), spans(), run)
    except CommandError as error:
        return failed(outcome, error)
    session.note(f"sent {plural(sent, 'span')} to {endpoint}")
    return outcome


async def _write_all(
    wanted: dict[str, Path], pieces_of: Callable[[str], Iterator[str]], session: Session
) -> CommandError | None:
    """Why one of them could not be written; the files are replaced when all could."""
    option, path = next(iter(wanted.items()))
    try:
        async with contextlib.AsyncExitStack() as files:
            for option, path in wanted.items():
                pieces = pieces_of(option)
                if path == STDOUT:
                    _to_stdout(pieces, session)
                    continue
                file = await files.enter_async_context(OutputFile(path))
                with contextlib.suppress(BrokenPipeError):  # whoever read it has seen enough; the others are written
                    for piece in pieces:
                        await file.write(_octets(piece))
    except CommandError as error:
        return error
    except SpecError as error:
        return CommandError(
            f"cannot write {path}: {error}",
            where=f"{option} {path}",
            next_step=f"name another run, or leave {option} out",
        )
    except OSError as error:
        return _unwritable(option, path, error.strerror or str(error))
    return None


def _pieces(option: str, report: Report, state: State, full: Sequence[str] | None = None) -> Iterator[str]:
    """A paper's text, piece by piece. `full`: runs beside this one in the full page; None: the page without scripts."""
    from p2pnet.cli.full_report import full_page
    from p2pnet.present import otlp_lines, to_junit, to_markdown

    match option:
        case "--html" if full is not None:
            yield full_page(report, state, full)
        case "--html":
            yield _page(report, state)
        case "--junit":
            yield to_junit(report)
        case "--md":
            yield to_markdown(report)
        case "--otel":
            from p2pnet.cli.run_spans import run_spans

            run = archive.read_run_file(state, report.run)
            yield from otlp_lines(run_spans(run, state), run)
        case "--events":
            yield from _events(report, state)
        case _:
            yield from _receipts(report, state)


def _page(report: Report, state: State) -> str:
    """With what the archive knows beside the report: the run's facts, and the tree of its most telling artifact."""
    from p2pnet.measure import HopTree, hop_tree
    from p2pnet.present import to_html

    try:
        run = archive.read_run(state, report.run)[0]
    except SpecError:
        return to_html(report)
    tree: HopTree | None = None
    if report.slowest and _lacking(report, state) is None:
        tree = hop_tree(
            report.slowest, archive.read_events(state, report.run, report.slowest), run.nodes, run.adversaries
        )
    return to_html(report, run, tree)


def _lacking(report: Report, state: State) -> str | None:
    """Why nothing can be drawn from the run's events; None where it can."""
    try:
        archive.check_events(state, report.run)
    except SpecError as error:
        return str(error)
    return None


def _events(report: Report, state: State) -> Iterator[str]:
    """The event log, as it is kept: an event a line."""
    with archive.open_events(state.run(report.run)) as file:
        while block := file.read(archive.READ_BYTES):
            yield block.decode("utf-8", "replace")


def _receipts(report: Report, state: State) -> Iterator[str]:
    """The header, then a row for each artifact and node but its publisher, from the run's events."""
    from p2pnet.present import csv_head, csv_rows

    known = _known(run := archive.read_run(state, report.run)[0])
    blocks = receipt_rows(report, run, state)  # whose events are checked before anything is written
    yield csv_head()
    for rows in blocks:
        yield from csv_rows(rows, known, run.unix_offset_s)


def _known(run: RunFile) -> dict[str, str]:
    return dict(zip(run.artifacts, run.names, strict=False))


def _to_stdout(pieces: Iterator[str], session: Session) -> None:
    """As UTF-8, whatever the terminal speaks: a paper says so itself. A reader that has seen enough is no failure."""
    binary = getattr(session.stdout, "buffer", None)
    session.stdout.flush()
    try:
        for piece in pieces:
            if binary is None:
                session.stdout.write(piece)
            else:
                binary.write(_octets(piece))
        session.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _unwritable(option: str, path: Path, why: str) -> CommandError:
    next_step = "let one paper have stdout" if path == STDOUT else "name a file that can be written"
    return CommandError(f"cannot write {path}: {why}", where=f"{option} {path}", next_step=next_step)
