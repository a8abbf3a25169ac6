"""`logs`: what all processes of a subnet wrote, merged by time."""

import re
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from p2pnet.cli.documents import LogLine, LogLines
from p2pnet.cli.failure import CommandError
from p2pnet.cli.naming import choose_artifact
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.reader import while_read
from p2pnet.cli.render import Output
from p2pnet.cli.session import Session
from p2pnet.model import jobs

BATCH_LINES = 500  # drawn at a time, so that a large log flows


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str
    node: str | None = None
    artifact: str | None = None
    grep: str | None = None
    follow: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """In tables and NDJSON lines are shown as they come; one JSON or YAML document waits for the last."""
    if options.grep is not None:
        _check_expression(options.grep)
    whole = session.output in (Output.JSON, Output.YAML)
    if whole and options.follow:
        raise CommandError(
            f"-o {session.output} is one document, --follow never ends",
            where="p2pnet logs",
            todo="use -o ndjson with --follow",
        )
    session.interrupted_note = ""
    lines: list[LogLine] = []
    target = session.target()
    artifact = None
    if options.artifact is not None:
        artifact = await choose_artifact(options.artifact, target, options.name)
    async with while_read(session.stdout), target.desk(options.name) as desk:
        asked = desk.logs(node=options.node, artifact=artifact, grep=options.grep, follow=options.follow)
        async with aclosing(asked):
            async for line in asked:
                lines.append(_document_line(line))
                if not whole and (options.follow or len(lines) >= BATCH_LINES):
                    session.show(LogLines(subnet=options.name, lines=lines))
                    lines = []
    hint = f"p2pnet status {options.name}"
    return Outcome(LogLines(subnet=options.name, lines=lines) if lines or whole else None, next=(hint,))


def _check_expression(expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise CommandError(
            f"{expression!r} is no regular expression: {error}",
            where="--grep",
            todo="quote it, and escape what is meant literally",
        ) from None


def _document_line(line: jobs.LogLine) -> LogLine:
    moment = "" if not line.t else datetime.fromtimestamp(line.t, UTC).isoformat(timespec="milliseconds")
    return LogLine(time=moment.replace("+00:00", "Z"), node=line.node, line=line.line)
