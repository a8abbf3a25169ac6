"""`report`: a run again from the archive, or followed while it goes on; written to files where asked."""

import contextlib
from dataclasses import dataclass
from typing import Annotated

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.options import KeptOptions, Name, ReportFiles
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.resolve import choose_run
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.store import archive
from p2pnet.store.heads import RunHead

EXAMPLE = "p2pnet report demo"


@dataclass(frozen=True)
class ReportOptions(KeptOptions, ReportFiles):
    """Show the report of a run.

    Also after `down`; a run that goes on is followed to its end.
    """

    name: Name
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Its id or a beginning of it, its label, latest, or -1, -2 back from there.  [default: latest]",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None


async def run(options: ReportOptions, session: Session) -> Outcome:
    """Runs outlive their subnet: nothing need be up."""
    from p2pnet.cli.report_files import check, write

    target = session.target()
    with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
        await target.collect(options.name)
    check(options)
    chosen = choose_run(options.run, target, options.name)
    outcome = await _report(options, chosen, target, session)
    return await write(options, outcome, target.state, session)


async def _report(options: ReportOptions, chosen: RunHead, target: Target, session: Session) -> Outcome:
    from p2pnet.cli.following import after_loss, follow, outcome_of, report_of

    folder = target.state.run(chosen.run)
    session.next_step = f"its events may still be whole: {archive.events_file(folder)}; or name another run"
    report = archive.read_run(target.state, chosen.run)[1]
    session.next_step = ""
    if report is not None and chosen.ended:
        return outcome_of(report, target)
    session.interrupted_note = f"detached: run {chosen.run} goes on"
    session.resume = (f"p2pnet report {options.name} {chosen.run}",)
    try:
        async with target.lab(options.name) as client:
            return outcome_of(report_of(await follow(client, chosen.run, session), target), target)
    except (CommandError, TargetError) as error:
        if target.presence(options.name) == "up":
            raise
        return after_loss(error, chosen.run, target, options.name)
