"""A report written to the files a person named: `--html`, `--junit`, `--md`. Shared by the verbs that report."""

import contextlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from p2pnet.cli.commands.get import LateFile
from p2pnet.cli.failure import CommandError, ExitCode
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session
from p2pnet.desk import State, archive
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Report


@dataclass(frozen=True, slots=True)
class Papers:
    """Where each paper goes; None where it is not wanted."""

    html: Path | None = None
    junit: Path | None = None
    md: Path | None = None

    def wanted(self) -> dict[str, Path]:
        """By option."""
        named = ((f"--{field.name}", getattr(self, field.name)) for field in fields(self))
        return {option: path for option, path in named if path is not None}


def check(papers: Papers) -> None:
    """Before anything is waited for: no path that is a directory, lies in none, or is named twice. CommandError (exit 2)."""
    seen: dict[Path, str] = {}
    for option, path in papers.wanted().items():
        if path.is_dir():
            raise _unwritable(option, path, "it is a directory")
        if not path.resolve().parent.is_dir():
            raise _unwritable(option, path, f"there is no directory {path.resolve().parent}")
        other = seen.setdefault(path.resolve(), option)
        if other != option and not _is_stream(path):
            raise _unwritable(option, path, f"{other} names it too")


def write(papers: Papers, outcome: Outcome, state: State, session: Session) -> Outcome:
    """Write every paper, each whole or not at all; the outcome says what could not be written (exit 2)."""
    wanted = papers.wanted()
    if not wanted:
        return outcome
    if not isinstance(outcome.document, Report):
        session.note(f"there is no report: {' '.join(wanted)} not written")
        return outcome
    texts = _draw(wanted, outcome.document, state)
    option, path = next(iter(wanted.items()))
    try:
        with contextlib.ExitStack() as files:
            for option, path in wanted.items():
                if _is_stream(path):
                    with path.open("ab") as stream:
                        stream.write(texts[option])
                else:
                    # the file a link points to is replaced, not the link
                    files.enter_context(LateFile(path.resolve())).write(texts[option])
    except CommandError as error:
        return replace(outcome, exit_code=error.exit_code, failure=error, next=())
    except OSError as error:
        failure = _unwritable(option, path, error.strerror or str(error))
        return replace(outcome, exit_code=int(ExitCode.USAGE), failure=failure, next=())
    for path in wanted.values():
        session.note(f"wrote {path}")
    return outcome


def _draw(wanted: dict[str, Path], report: Report, state: State) -> dict[str, bytes]:
    from p2pnet.present import to_junit, to_markdown

    texts = {}
    if "--html" in wanted:
        texts["--html"] = _page(report, state)
    if "--junit" in wanted:
        texts["--junit"] = to_junit(report)
    if "--md" in wanted:
        texts["--md"] = to_markdown(report)
    return {option: text.encode() for option, text in texts.items()}


def _page(report: Report, state: State) -> str:
    """With what the archive knows beside the report: the run's facts, and the tree of its slowest artifact."""
    from p2pnet.measure import HopTree, hop_tree
    from p2pnet.present import to_html

    try:
        run = archive.read_run(state, report.run)[0]
    except SpecError:
        return to_html(report)
    tree: HopTree | None = None
    if report.slowest:
        tree = hop_tree(report.slowest, archive.read_events(state, report.run, report.slowest), run.nodes)
    return to_html(report, run, tree)


def _is_stream(path: Path) -> bool:
    """A pipe, a terminal, a descriptor under /dev: written to, never replaced."""
    return path.is_relative_to("/dev") or (path.exists() and not path.is_file() and not path.is_dir())


def _unwritable(option: str, path: Path, why: str) -> CommandError:
    return CommandError(f"cannot write {path}: {why}", where=f"{option} {path}", todo="name a file that can be written")
