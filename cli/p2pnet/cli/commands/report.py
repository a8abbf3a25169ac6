"""`report`: a run again from the archive, or followed while it goes on; on paper where asked."""

import contextlib
from dataclasses import dataclass, field

from p2pnet.cli.failure import CommandError, ExitCode
from p2pnet.cli.following import after_loss, follow, outcome_of, report_of
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.papers import Papers, check, write
from p2pnet.cli.session import Session
from p2pnet.cli.targets import Target
from p2pnet.desk import archive
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import RunFile


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    name: str
    run: str | None = None
    papers: Papers = field(default_factory=Papers)


async def run(options: Options, session: Session) -> Outcome:
    """Runs outlive their subnet: nothing need be up."""
    target = session.target()
    with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
        await target.collect(options.name)
    check(options.papers)
    chosen = _choose(options, target)
    outcome = await _report(options, chosen, target, session)
    return write(options.papers, outcome, target.state, session)


async def _report(options: Options, chosen: RunFile, target: Target, session: Session) -> Outcome:
    folder = target.state.run(chosen.run)
    session.todo = f"its events may still be whole: {folder / archive.EVENTS_FILE}; or name another run"
    report = archive.read_run(target.state, chosen.run)[1]
    session.todo = ""
    if report is not None and chosen.state in ("finished", "cancelled"):
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


def _choose(options: Options, target: Target) -> RunFile:
    runs = [run for run in archive.list_runs(target.state, options.name) if target.made(run)]
    if not runs:
        absent = target.look(options.name) == "absent"
        raise CommandError(
            f"there is no {'subnet' if absent else 'run of'} {options.name}",
            where=str(target.state.runs),
            todo=f"p2pnet {'up' if absent else 'inject'} {options.name}",
            exit_code=ExitCode.NOT_FOUND if absent else ExitCode.USAGE,
        )
    if options.run is None:
        return runs[-1]
    exact = [run for run in runs if run.run == options.run]
    found = exact or [run for run in runs if run.run.startswith(options.run)]
    if len(found) == 1:
        return found[0]
    recent = ", ".join(run.run for run in reversed(runs[-5:]))
    what = "several runs begin with" if found else f"{options.name} has no run"
    folder = target.state.run(options.run)
    if "/" not in options.run and folder.is_dir() and not found:
        raise CommandError(
            f"run {options.run} is damaged: its {archive.RUN_FILE} cannot be read, or is of another subnet",
            where=str(folder / archive.RUN_FILE),
            todo=f"name another run; the latest: {recent}",
        )
    raise CommandError(f"{what} {options.run}", where=str(target.state.runs), todo=f"one of the latest: {recent}")
