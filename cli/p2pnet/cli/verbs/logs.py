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
        str | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Lines of this node; `lab` for the lab's.",
            show_default=False,
            autocompletion=shell_completion.nodes,
        ),
    ] = None
    artifact: Annotated[
        str | None,
        typer.Option(
            "--artifact",
            metavar="ID",
            help="Lines that name this artifact.",
            show_default=False,
            autocompletion=shell_completion.artifacts,
        ),
    ] = None
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="RE", help="Lines that match this expression.", show_default=False)
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
    artifact = None
    if options.artifact is not None:
        artifact = await choose_artifact(options.artifact, target, options.name)
    query = LogQuery(options.node, artifact, options.grep)
    async with while_read(session.stdout), aclosing(_lines(options, query, target, session)) as asked:
        async for line in asked:
            lines.append(_document_line(line))
            if not whole and (options.follow or len(lines) >= BATCH_LINES):
                session.show(LogLines(subnet=options.name, lines=lines))
                lines = []
    hint = f"p2pnet {'status' if target.presence(options.name) == 'up' else 'up'} {options.name}"
    return Outcome(LogLines(subnet=options.name, lines=lines) if lines or whole else None, next=(hint,))


async def _lines(
    options: LogsOptions, query: "LogQuery", target: Target, session: Session
) -> AsyncGenerator[jobs.LogLine, None]:  # fmt: skip
    from p2pnet.store import logs as files

    since = None
    if options.run is not None:
        run = await _run(options, target)
        if run.ended:
            for line in _of_run(run, query, target):
                yield line
            return
        since = run.started_at or run.created_at
    live = False
    try:
        async with target.lab(options.name) as client:
            asked = client.logs(
                node=query.node, artifact=query.artifact, grep=query.grep, follow=options.follow, since=since
            )  # fmt: skip
            async with aclosing(asked):
                async for line in asked:
                    live = True
                    yield line
    except P2pnetError as error:
        kept = {} if live or getattr(error, "exit_code", None) != ExitCode.NOT_FOUND else _kept(options.name, target)
        if not kept:
            raise
        session.note(f"{error}; this is what was logged until then")
        for line in files.read_all(kept, query, files.ends_of(kept)):
            yield line


def _of_run(run: RunHead, query: "LogQuery", target: Target) -> list[jobs.LogLine]:
    """What was kept with an ended run; where its lab died before it could keep any, what its subnet has of that time."""
    from p2pnet.store import logs as files

    path = target.state.run(run.run) / archive.LOGS_FILE
    kept = {} if path.exists() else _kept(run.subnet, target)
    if not kept:
        return files.read_run(path, query)
    span = replace(query, since=run.started_at or run.created_at, until=run.finished_at)
    return files.read_all(kept, span, files.ends_of(kept))


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
