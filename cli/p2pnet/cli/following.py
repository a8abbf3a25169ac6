"""A run followed to its end, and the exit code its report means. Shared by `inject` and `report`."""

import asyncio

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.targets.target import Target
from p2pnet.lab_client import LabClient
from p2pnet.measure import most_telling
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.jobs import RunState
from p2pnet.model.report import Report
from p2pnet.store import archive

REDRAW_S = 1.0
VERDICT_CODES = {"pass": ExitCode.OK, "fail": ExitCode.EXPECTATION_FAILED, "invalid": ExitCode.INVALID}


async def follow(client: LabClient, run: str, session: Session) -> RunState:
    """Tell the listener how the run goes, also while nothing new is heard of it; its last state."""
    heard: list[RunState] = []
    reminder = asyncio.create_task(_remind(heard, session))
    try:
        async for state in client.follow(run):
            heard[:] = [state]
            _tell(state, session)
    finally:
        reminder.cancel()
        await asyncio.gather(reminder, return_exceptions=True)
    return state


async def _remind(heard: list[RunState], session: Session) -> None:
    while True:
        await asyncio.sleep(REDRAW_S)
        for state in heard:
            _tell(state, session)


def _tell(state: RunState, session: Session) -> None:
    done = state.progress
    if state.state == "queued":
        place = f" (place {done.queue_position})" if done.queue_position else ""
        session.listener.waiting(f"run {state.run} is in line{place}: {done.waiting_for or 'waiting for its turn'}")
    elif state.state == "running":
        publishing = done.published < done.artifacts
        # Nothing is published yet, or what is left are the last looks: that is what is waited for.
        looking = done.waiting_for if done.waiting_for not in ("publications", "receipts") else ""
        beside = f"published {done.published}/{done.artifacts}" if publishing and done.published else looking
        session.listener.progress("delivered", done.delivered, done.expected, beside=beside)


def outcome_of(report: Report, target: Target) -> Outcome:
    """The report, its exit code, and what to look at next."""
    if artifact := most_telling(report):
        hint = f"p2pnet trace {report.subnet} {artifact[:12]}"
    elif target.kind == "sim":
        hint = f"p2pnet runs {report.subnet}"
    else:
        hint = f"p2pnet {'logs' if target.presence(report.subnet) == 'up' else 'up'} {report.subnet}"
    return Outcome(report, exit_code=VERDICT_CODES[report.verdict], next=(hint,))


def after_loss(error: CommandError | TargetError, run: str, target: Target, name: str) -> Outcome:
    """The lab died under a run: the run is invalid (exit 5), with the report that says so where there is one."""
    failure = CommandError(
        str(error) if f"run {run} is invalid" in str(error) else f"run {run} is invalid: {error}",
        where=error.where if isinstance(error, CommandError) else name,
        next_step=f"p2pnet up {name}, then inject again",
        exit_code=ExitCode.INVALID,
    )
    try:
        report = archive.report_of_lost(target.state, run, str(error))
    except SpecError:
        report = None
    return Outcome(report, exit_code=ExitCode.INVALID, failure=failure)


def report_of(state: RunState, target: Target) -> Report:
    """The report of a run that has ended. CommandError (exit 5) when it left none."""
    report = state.report
    if report is None:
        try:
            report = archive.read_run(target.state, state.run)[1]
        except SpecError:
            report = None
    if report is None:
        raise CommandError(
            f"run {state.run} ended ({state.state}) without a report",
            where=str(target.state.run(state.run)),
            next_step="look into the lab's log, then inject again",
            exit_code=ExitCode.INVALID,
        )
    return report
