"""`logs`: what all processes of a subnet wrote, merged by time; of a run, or of a subnet that is dead or gone, what is kept."""

import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import LoggedLine, LogLines
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import Name, SubnetOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.resolve import choose_artifact, choose_run
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.model import jobs
from p2pnet.model.errors import P2pnetError
from p2pnet.model.log_lines import stamp
from p2pnet.store import archive
from p2pnet.store.heads import RunHead

if TYPE_CHECKING:
    from p2pnet.store.logs import LogQuery  # with asyncio, which help does without

EXAMPLE = "p2pnet logs demo --grep handshake --follow"
BATCH_LINES = 500  # drawn at a time, so that a large log flows


@dataclass(frozen=True)
class LogsOptions(SubnetOptions):
    """Show the logs of all nodes.

    Merged and sorted by time: what nodes wrote, and what happened to them (ends, stops, silences, lost links). Of a subnet
    that is dead or was taken down, what is kept.
    """

    name: Name
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Lines of this node; `lab` for the lab's. Repeatable.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None
    artifact: Annotated[
        str | None,
        typer.Option(
            "--artifact",
            metavar="ID",
            help="Lines that name this artifact, and its events.",
            show_default=False,
            autocompletion=shell_completion.artifacts,
        ),
    ] = None
    grep: Annotated[
        str | None,
        typer.Option(
            "--grep",
            metavar="RE",
            help="Lines, as shown here with one space between columns, in which this is found.",
            show_default=False,
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="What was logged while this run was on.",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False


async def run(options: LogsOptions, session: Session) -> Outcome:
    """In tables and NDJSON lines are shown as they come; one JSON or YAML document waits for the last."""
    from p2pnet.cli.interaction import while_read
    from p2pnet.store.logs import LogQuery

    if options.grep is not None:
        _check_expression(options.grep)
    whole = session.output in (Output.JSON, Output.YAML)
    if whole and options.follow:
        raise CommandError(
            f"-o {session.output} is one document, --follow never ends",
            where="p2pnet logs",
            next_step="use -o ndjson with --follow",
        )
    session.interrupted_note = ""
    session.next_step = f"name one of those, or leave --node out; p2pnet status {options.name} lists the nodes"
    target = session.target()
    lines: list[LoggedLine] = []
    chosen = None if options.run is None else await _run(options, target)
    artifact = None
    if options.artifact is not None:
        artifact = await choose_artifact(options.artifact, target, options.name, chosen)
    query = LogQuery(tuple(options.node or ()), artifact, options.grep)
    if chosen is not None and not chosen.ended:
        query = replace(query, since=chosen.started_at or chosen.created_at)
    async with while_read(session.stdout), aclosing(_lines(options, query, chosen, session)) as asked:
        async for line in asked:
            lines.append(_document_line(line))
            if not whole and (options.follow or len(lines) >= BATCH_LINES):
                session.show(LogLines(subnet=options.name, lines=lines))
                lines = []
    hint = f"p2pnet {'status' if target.presence(options.name) == 'up' else 'up'} {options.name}"
    return Outcome(LogLines(subnet=options.name, lines=lines) if lines or whole else None, next=(hint,))


async def _lines(
    options: LogsOptions, query: "LogQuery", run: RunHead | None, session: Session
) -> AsyncGenerator[jobs.LogLine, None]:  # fmt: skip
    target = session.target()
    if run is not None and run.ended:
        for line in _of_run(run, query, target):
            yield line
        return
    live = False
    try:
        async with target.lab(options.name) as client:
            asked = client.logs(
                node=",".join(query.nodes) or None, artifact=query.artifact, grep=query.grep, follow=options.follow,
                since=query.since,
            )  # fmt: skip
            async with aclosing(asked):
                async for line in asked:
                    live = True
                    yield line
    except P2pnetError as error:
        gone = not live and getattr(error, "exit_code", None) == ExitCode.NOT_FOUND
        past = _of_gone(options.name, query, target) if gone else None
        if past is None:
            raise
        session.note(f"{error}; this is what was logged until then")
        for line in past:
            yield line


def _of_run(run: RunHead, query: "LogQuery", target: Target) -> list[jobs.LogLine]:
    """What was kept with an ended run; where its lab died before it could keep any, what its subnet has of that time."""
    from p2pnet.store import logs as files

    path = target.state.run(run.run) / archive.LOGS_FILE
    kept = {} if path.exists() else _kept(run.subnet, target)
    known = _events(query, [archive.read_run_file(target.state, run.run)], target)
    if kept:
        span = replace(query, since=run.started_at or run.created_at, until=run.finished_at)
        lines = files.read_all(kept, span, files.ends_of(kept))
    else:
        lines = [] if known and not path.exists() else files.read_run(path, query)
    return _with_events(lines, known, query, f"run {run.run}")


def _of_gone(name: str, query: "LogQuery", target: Target) -> list[jobs.LogLine] | None:
    """What is kept of a subnet that is dead or was taken down; None where that is nothing."""
    from p2pnet.store import logs as files

    kept = _kept(name, target)
    text = query.artifact
    runs = [run for run in archive.runs_with(target.state, name, text) if target.owns(run)] if text else []
    known = _events(query, runs, target)
    if not kept and known is None:
        return None
    lines = files.read_all(kept, query, files.ends_of(kept)) if kept else []
    return _with_events(lines, known, query, name)


def _events(query: "LogQuery", runs: list[jobs.RunFile], target: Target) -> list[jobs.LogLine] | None:
    """The events of the artifact that one of these runs published, as lines; None where none did, or nothing is kept of it.

    SpecError (exit 2) where several artifacts are meant.
    """
    from p2pnet.store import logs as files

    prefix = query.artifact or ""
    if not prefix or not any(artifact.startswith(prefix) for run in runs for artifact in run.artifacts):
        return None
    artifact, run = archive.match_artifact(runs, prefix)
    if run.unix_offset_s is None:  # simulated: its time is none of a clock's
        return None
    events = archive.read_events(target.state, run.run, artifact)
    return files.event_lines(events, run.unix_offset_s, query)


def _with_events(
    lines: list[jobs.LogLine], events: list[jobs.LogLine] | None, query: "LogQuery", where: str
) -> list[jobs.LogLine]:  # fmt: skip
    """Both by time. CommandError (exit 2) where an artifact is neither published nor named there."""
    if query.artifact and events is None and not lines:
        raise CommandError(
            f"no artifact of {where} begins with {query.artifact}, and no line that was kept names it",
            where=f"--artifact {query.artifact}",
            next_step="name another one; p2pnet runs lists the runs that are kept",
        )
    return sorted([*lines, *(events or ())], key=lambda line: line.t)


def _kept(name: str, target: Target) -> dict[str, Path]:
    """The files of a local subnet whose lab is dead, or that was taken down."""
    from p2pnet.store import logs as files

    if target.kind != "local":
        return {}
    paths = target.state.subnet(name)
    return files.files_of(paths) or files.kept_files(target.state, name)


async def _run(options: LogsOptions, target: Target) -> RunHead:
    """The run that is meant; its copy is brought here where it is kept elsewhere."""
    with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
        await target.collect(options.name)
    return choose_run(options.run, target, options.name)


def _check_expression(expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise CommandError(
            f"{expression!r} is no regular expression: {error}",
            where="--grep",
            next_step="quote it, and escape what is meant literally",
        ) from None


def _document_line(line: jobs.LogLine) -> LoggedLine:
    return LoggedLine(time=stamp(line.t) if line.t else "", node=line.node, level=line.level, line=line.line)
