"""`inject`: upload artifacts, ask for a run, follow it, report."""

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli import load
from p2pnet.cli.documents import RunTicket
from p2pnet.cli.load import InjectedSubnet, LoadOptions
from p2pnet.cli.options import Name, ReportFiles, SubnetOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import Payload, RunState
from p2pnet.model.report import FaultStatus

if TYPE_CHECKING:
    from p2pnet.lab_client import LabClient  # with asyncio, which help does without

EXAMPLE = "p2pnet inject demo --size 64KiB --count 20 --rate 10/s --expect 'p95 <= 800ms'"
CANCEL_WAIT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """How a run is asked for and followed."""

    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the run's id and end.")] = False
    shared: Annotated[bool, typer.Option("--shared", help="Run beside other runs; the report says so.")] = False
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C stops the run instead of leaving it.")
    ] = False


@dataclass(frozen=True)
class InjectOptions(SubnetOptions, ReportFiles, _Ways, LoadOptions):
    """Publish artifacts and report.

    Follows them until every node has them; Ctrl-C leaves the run to go on.
    """

    name: Name


async def run(options: InjectOptions, session: Session) -> Outcome:
    """Everything that can be wrong is said before the first byte is sent."""
    from p2pnet.cli import report_files
    from p2pnet.cli.following import after_loss, outcome_of, report_of
    from p2pnet.cli.spooling import spooled

    streams = _check(options)
    target = session.target()
    async with target.lab(options.name) as lab:
        subnet, shaped = await _injected_subnet(options.name, lab)
        client = load.check_client(options, subnet)
        load.check_against(options, subnet, streams)
        if shaped:
            session.remark(f"in force: {shaped}")
        session.interrupted_note = "interrupted: nothing was published"
        bytes_max = subnet.artifact_bytes_max
        async with spooled(streams, bytes_max, session) as spools:
            payloads = await _payloads(options, spools, lab, session)
        session.interrupted_note = "interrupted while asking for the run: status shows whether it began"
        session.resume = (f"p2pnet status {options.name}",)
        started = await lab.start_run(
            load.request_of(options, payloads, client, honest=subnet.honest, shared=options.shared),
            key=uuid.uuid4().hex,
        )
    session.interrupted_note = f"detached: run {started.run} goes on"
    session.resume = (f"p2pnet report {options.name} {started.run}",)
    if options.no_wait:
        ticket = RunTicket(
            run=started.run, subnet=options.name, target=target.kind, state=started.state,
            artifacts=load.total(options, subnet.honest), progress=started.progress,
        )  # fmt: skip
        return Outcome(ticket, next=session.resume)
    try:
        async with target.lab(options.name) as lab:
            outcome = outcome_of(report_of(await _followed(options, lab, started.run, session), target), target)
    except (CommandError, TargetError) as error:
        if target.presence(options.name) == "up":
            raise
        outcome = after_loss(error, started.run, target, options.name)
    return await report_files.write(options, outcome, target.state, session)


async def _followed(options: InjectOptions, lab: "LabClient", run_id: str, session: Session) -> RunState:
    import asyncio

    from p2pnet.cli.following import follow

    try:
        return await follow(lab, run_id, session)
    except asyncio.CancelledError:  # Ctrl-C
        if options.cancel_on_interrupt:
            session.listener.waiting(f"run {run_id} to be cancelled")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lab.cancel(run_id), CANCEL_WAIT_S)
                session.interrupted_note = f"run {run_id} is cancelled, what it measured is kept"
        raise


def _check(options: InjectOptions) -> list[Path]:
    """What is wrong without asking anybody; the sources that must be read to their end first."""
    from p2pnet.cli import report_files

    report_files.check_report(options)
    wanted = options.forms()
    if wanted and options.no_wait:
        raise CommandError(
            f"--no-wait ends before there is a report: {' '.join(wanted)} cannot be done",
            where="p2pnet inject",
            next_step=f"leave one of the two out, or later: p2pnet report {options.name} {wanted[0]}"
            f" {'URL' if wanted[0] == '--otlp' else 'FILE'}",
        )
    return load.check(options, "inject")


async def _payloads(
    options: InjectOptions, spools: dict[Path, Path], lab: "LabClient", session: Session
) -> list[Payload]:
    if not options.files:
        return [load.generated_payload(options)]
    payloads = []
    for path in options.files:
        name = load.artifact_name(path)

        def tell(done: int, total: int, name: str = name) -> None:
            session.listener.progress(f"{name} sent", done, total, octets=True)

        payloads.append(Payload(name=name, upload=await lab.upload(spools.get(path, path), name, tell)))
    return payloads


async def _injected_subnet(name: str, lab: "LabClient") -> tuple[InjectedSubnet, str]:
    """Ask a lab; also what its network and faults do now, in words. Raises as `LabClient` does."""
    import asyncio

    from p2pnet.cli.shaping import in_force

    document, membership, faults = await asyncio.gather(lab.spec(), lab.members(), _faults(lab))
    shaped = in_force(document.get("spec") or {}, faults)
    return load.injected_subnet(name, document, [member.name for member in membership.registry.members]), shaped


async def _faults(lab: "LabClient") -> list[FaultStatus]:
    """All faults; none that a lab of an older version tells of. What is wrong with a lab, the other questions show."""
    try:
        return (await lab.faults()).faults
    except P2pnetError:
        return []
