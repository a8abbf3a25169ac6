"""`runs`."""

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from p2pnet.cli import options
from p2pnet.cli.app import Command, verb


class Verdict(StrEnum):
    """`--verdict`."""

    PASS = "pass"  # noqa: S105 - a word of a report
    FAIL = "fail"
    INVALID = "invalid"


class State(StrEnum):
    """`--state`."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@verb("p2pnet runs demo --verdict fail --since 2h")
def runs(
    name: options.OptionalName = None,
    *,
    remove: Annotated[
        list[str] | None,
        typer.Option("--rm", metavar="RUN", help="Remove a run for good. Repeatable.", show_default=False),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=0,
            metavar="N",
            help="Remove all that the filters name but the newest N; open and labelled ones stay.",
            show_default=False,
        ),
    ] = None,
    cancel: Annotated[
        list[str] | None,
        typer.Option("--cancel", metavar="RUN", help="End an open run. Repeatable.", show_default=False),
    ] = None,
    set_label: Annotated[
        list[str] | None,
        typer.Option(
            "--set-label",
            metavar="RUN=TEXT",
            help="Give a run a label; RUN= takes it away. Repeatable.",
            show_default=False,
        ),
    ] = None,
    verdict: Annotated[
        list[Verdict] | None, typer.Option("--verdict", help="Only these. Repeatable.", show_default=False)
    ] = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only these. Repeatable.", show_default=False)
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="PATTERN", help="Only those with such a label, like 'base*'.", show_default=False
        ),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            "--since",
            parser=options.duration,
            metavar="DURATION",
            help="Only those asked for since then.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="List at most so many.")] = 100,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> Command:
    """List the runs that are kept, or tidy them up.

    Newest first, of one subnet or of all; also after `down`. Label, cancel or remove some.
    """
    from p2pnet.cli.commands import runs as command

    chosen = command.Options(
        name=name,
        remove=tuple(remove or ()),
        keep=keep,
        cancel=tuple(cancel or ()),
        set_label=tuple(set_label or ()),
        verdicts=tuple(verdict or ()),
        states=tuple(state or ()),
        label=label,
        since_s=since,
        limit=limit,
        yes=yes,
    )
    return partial(command.run, chosen)
