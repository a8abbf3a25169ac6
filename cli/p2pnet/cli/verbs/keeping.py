"""`ls`, `runs`: what there is, and what is kept."""

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from p2pnet.cli import options, shell_completion
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


@verb("p2pnet ls --all-namespaces", about="subnets")
def ls(
    *,
    every_namespace: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Of a cluster those of all namespaces.")
    ] = False,
) -> Command:
    """List the subnets there are.

    On this machine and, where a cluster is configured, in its current namespace. Those here are shown even while the
    cluster does not answer.
    """
    from p2pnet.cli.verbs import ls as command

    return partial(command.run, command.Options(every_namespace=every_namespace))


Remove = Annotated[
    list[str] | None,
    typer.Option(
        "--rm",
        metavar="RUN",
        help="Remove a run for good. Repeatable.",
        show_default=False,
        autocompletion=shell_completion.runs,
    ),
]
Keep = Annotated[
    int | None,
    typer.Option(
        "--keep",
        min=0,
        metavar="N",
        help="Remove all that the filters name but the newest N; open and labelled ones stay.",
        show_default=False,
    ),
]
Cancel = Annotated[
    list[str] | None,
    typer.Option(
        "--cancel",
        metavar="RUN",
        help="End an open run. Repeatable.",
        show_default=False,
        autocompletion=shell_completion.runs,
    ),
]
SetLabel = Annotated[
    list[str] | None,
    typer.Option(
        "--set-label",
        metavar="RUN=TEXT",
        help="Give a run a label; RUN= takes it away. Repeatable.",
        show_default=False,
    ),
]
Verdicts = Annotated[
    list[Verdict] | None, typer.Option("--verdict", help="Only these. Repeatable.", show_default=False)
]
States = Annotated[list[State] | None, typer.Option("--state", help="Only these. Repeatable.", show_default=False)]
Label = Annotated[
    str | None,
    typer.Option("--label", metavar="PATTERN", help="Only those with such a label, like 'base*'.", show_default=False),
]
Since = Annotated[
    float | None,
    typer.Option(
        "--since",
        parser=options.duration,
        metavar="DURATION",
        help="Only those asked for since then.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="List at most so many.")]


@verb("p2pnet runs demo --verdict fail --since 2h")
def runs(
    name: Annotated[str | None, options.name_argument("all")] = None,
    *,
    remove: Remove = None,
    keep: Keep = None,
    cancel: Cancel = None,
    set_label: SetLabel = None,
    verdict: Verdicts = None,
    state: States = None,
    label: Label = None,
    since: Since = None,
    limit: Limit = 100,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Remove without asking.")] = False,
) -> Command:
    """List the runs that are kept, or tidy them up.

    Newest first, of one subnet or of all; also after `down`. Label, cancel or remove some.
    """
    from p2pnet.cli.verbs import runs as command

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
