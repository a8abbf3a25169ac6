"""`report`: a run again from the archive, or followed while it goes on; on paper where asked."""

import contextlib
from dataclasses import dataclass, field

from p2pnet.cli.following import after_loss, follow, outcome_of, report_of
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.report_files import ReportFiles, check, write
from p2pnet.cli.resolve import choose_run
from p2pnet.cli.session import Session
from p2pnet.cli.targets import Target
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.store import archive
from p2pnet.store.heads import RunHead


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str
    run: str | None = None
    report_files: ReportFiles = field(default_factory=ReportFiles)


async def run(options: Options, session: Session) -> Outcome:
    """Runs outlive their subnet: nothing need be up."""
    target = session.target()
    with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
        await target.collect(options.name)
    check(options.report_files)
    chosen = choose_run(options.run, target, options.name)
    outcome = await _report(options, chosen, target, session)
    return await write(options.report_files, outcome, target.state, session)


async def _report(options: Options, chosen: RunHead, target: Target, session: Session) -> Outcome:
    folder = target.state.run(chosen.run)
    session.next_step = f"its events may still be whole: {archive.events_file(folder)}; or name another run"
    report = archive.read_run(target.state, chosen.run)[1]
    session.next_step = ""
    if report is not None and chosen.ended:
        return outcome_of(report, target)
    session.interrupted_note = f"detached: run {chosen.run} goes on"
    session.resume = (f"p2pnet report {options.name} {chosen.run}",)
    try:
        async with target.desk(options.name) as desk:
            return outcome_of(report_of(await follow(desk, chosen.run, session), target), target)
    except (CommandError, TargetError) as error:
        if target.look(options.name) == "up":
            raise
        return after_loss(error, chosen.run, target, options.name)
