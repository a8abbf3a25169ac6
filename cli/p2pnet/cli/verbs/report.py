"""`report`: a run again from the archive, or followed while it goes on; written to files where asked."""

import contextlib
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.options import KeptName, KeptOptions, ReportFiles
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.resolve import as_given, choose_run, run_meant, subnet_meant
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import errors_as_given
from p2pnet.cli.targets.target import Target
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.report import Report
from p2pnet.store import archive
from p2pnet.store.heads import RunHead

EXAMPLE = "p2pnet report demo"
RUNS_BESIDE_MAX = 7  # curves that can be told apart, with that of the run itself


@dataclass(frozen=True)
class ReportOptions(KeptOptions, ReportFiles):
    """Show the report of a run.

    Also after `down`; a run that goes on is followed to its end. The id of a run alone is enough: p2pnet report RUN.
    """

    name: KeptName
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Its id or a beginning of it, its label, latest, or -1, -2 back from there.  [default: latest]",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None
    beside: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BESIDE",
            help="More runs, whose latencies the page of --full draws beside its own.",
            show_default=False,
            autocompletion=shell_completion.runs,
        ),
    ] = None
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="EXPR",
            help="Judge it again, by this instead of its own expectations, like 'p95 <= 800ms'; repeatable. What is kept stays.",
            show_default=False,
        ),
    ] = None
    links: Annotated[
        bool,
        typer.Option(
            "--links", help="Show its slowest and busiest links instead, with the reason as far as it is known."
        ),
    ] = False


async def run(options: ReportOptions, session: Session) -> Outcome:
    """Runs outlive their subnet: nothing need be up."""
    from p2pnet.cli.expecting import check_expectations

    check_expectations(options.expect)
    target, given = session.target(), options.name
    with errors_as_given(target, given):
        return await _reported(options, given, target, session)


async def _reported(options: ReportOptions, given: str, target: Target, session: Session) -> Outcome:
    from p2pnet.cli.report_files import check_report, write

    options = replace(options, name=subnet_meant(given, target))
    if (meant := run_meant(given, target)) is not None:  # `report RUN`: ids are unique among all subnets
        beside = [word for word in (options.run, *(options.beside or ())) if word is not None]
        given, options = meant.subnet, replace(options, name=meant.subnet, run=meant.run, beside=beside)
    with contextlib.suppress(P2pnetError):  # what is here already can be shown without it
        await target.collect(options.name)
    check_report(options, options.beside or ())
    chosen = choose_run(options.run, target, options.name)
    beside = [choose_run(word, target, options.name).run for word in (options.beside or ())[:RUNS_BESIDE_MAX]]
    outcome = await _report(options, chosen, target, session)
    if options.expect:
        outcome = _judged_again(options.expect, chosen, outcome, target)
    outcome = await write(options, as_given(outcome, options.name, given), target.state, session, beside)
    return _with_links(outcome, target) if options.links else outcome


def _with_links(outcome: Outcome, target: Target) -> Outcome:
    """The links in the place of the report; the exit code stays that of its verdict."""
    from p2pnet.cli.link_report import links_of

    if not isinstance(outcome.document, Report):
        return outcome
    return replace(outcome, document=links_of(outcome.document, target.state))


def _judged_again(expect: list[str], chosen: RunHead, outcome: Outcome, target: Target) -> Outcome:
    """The outcome by these expectations. CommandError (exit 2) where its events are not here."""
    from p2pnet.cli.following import outcome_of

    if outcome.failure is not None:
        return outcome
    try:
        return outcome_of(archive.judged_again(target.state, chosen.run, expect), target)
    except SpecError as error:
        raise CommandError(
            str(error), where=str(target.state.run(chosen.run)), next_step="name another run, or leave --expect out"
        ) from None


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
