"""`inject`: artifacts uploaded, a run asked for, followed, reported."""

import asyncio
import contextlib
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from p2pnet.cli import report_files
from p2pnet.cli.documents import RunTicket
from p2pnet.cli.following import after_loss, follow, outcome_of, report_of
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.report_files import ReportFiles
from p2pnet.cli.session import Session
from p2pnet.cli.spooling import STDIN, check_sources, spooled
from p2pnet.cli.subject import Subject, subject_of
from p2pnet.lab_client import LabClient
from p2pnet.measure import artifacts_asked, expectations
from p2pnet.model import limits
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.jobs import Payload, RunRequest, RunState
from p2pnet.model.text import some
from p2pnet.model.units import format_size

DEFAULT_SIZE = 64 * limits.KIB
CANCEL_WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line, in plain units."""

    name: str
    files: tuple[Path, ...] = ()
    size: int | None = None
    count: int = 1
    rate: float | None = None
    publisher: str = "random"
    client: str | None = None
    seed: int | None = None
    within_s: float = 60.0
    expect: tuple[str, ...] = ()
    wait: bool = True
    shared: bool = False
    label: str = ""
    cancel_on_interrupt: bool = False
    report_files: ReportFiles = field(default_factory=ReportFiles)


async def run(options: Options, session: Session) -> Outcome:
    """Everything that can be wrong is said before the first byte is sent."""
    streams = _check(options)
    target = session.target()
    async with target.desk(options.name) as desk:
        subnet = await subject_of(options.name, desk)
        client = _client(options, subnet)
        _check_against(options, subnet, streams)
        session.interrupted_note = "interrupted: nothing was published"
        bytes_max = subnet.artifact_bytes_max
        async with spooled(streams, bytes_max, session) as spools:
            payloads = await _payloads(options, spools, desk, session)
        session.interrupted_note = "interrupted while asking for the run: status shows whether it began"
        session.resume = (f"p2pnet status {options.name}",)
        started = await desk.start_run(_request(options, payloads, client), key=uuid.uuid4().hex)
    session.interrupted_note = f"detached: run {started.run} goes on"
    session.resume = (f"p2pnet report {options.name} {started.run}",)
    if not options.wait:
        ticket = RunTicket(
            run=started.run, subnet=options.name, target=target.kind, state=started.state,
            artifacts=_total(options, subnet), progress=started.progress,
        )  # fmt: skip
        return Outcome(ticket, next=session.resume)
    try:
        async with target.desk(options.name) as desk:
            outcome = outcome_of(report_of(await _followed(options, desk, started.run, session), target), target)
    except (CommandError, TargetError) as error:
        if target.look(options.name) == "up":
            raise
        outcome = after_loss(error, started.run, target, options.name)
    return await report_files.write(options.report_files, outcome, target.state, session)


async def _followed(options: Options, desk: LabClient, run_id: str, session: Session) -> RunState:
    try:
        return await follow(desk, run_id, session)
    except asyncio.CancelledError:  # Ctrl-C
        if options.cancel_on_interrupt:
            session.listener.waiting(f"run {run_id} to be cancelled")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(desk.cancel(run_id), CANCEL_WAIT_S)
                session.interrupted_note = f"run {run_id} is cancelled, what it measured is kept"
        raise


def _check(options: Options) -> list[Path]:
    """What is wrong without asking anybody; the sources that must be read to their end first."""
    for expression in options.expect:
        try:
            expectations.parse(expression)
        except SpecError as error:
            raise CommandError(
                str(error), where="--expect", next_step="write it like 'p95 <= 800ms' or 'reach >= 99%'"
            ) from None
    if options.files and options.size is not None:
        raise CommandError(
            "both files and --size: what is to be published?", where="p2pnet inject", next_step="give files, or a size"
        )
    if options.within_s > 86_400:
        raise CommandError(
            "--within is more than a day", where=f"--within {options.within_s:g}s", next_step="write 24h or less"
        )
    report_files.check(options.report_files)
    wanted = [*options.report_files.wanted()]
    if wanted and not options.wait:
        raise CommandError(
            f"--no-wait ends before there is a report: {' '.join(wanted)} cannot be written",
            where="p2pnet inject",
            next_step=f"leave one of the two out, or later: p2pnet report {options.name} {wanted[0]} FILE",
        )
    return check_sources(options.files)


def _client(options: Options, subnet: Subject) -> str:
    """Whose artifacts they become."""
    try:
        return subnet.client(options.client or "")
    except SpecError as error:
        raise CommandError(
            str(error),
            where=f"--client {options.client}",
            next_step=f"one of {', '.join(subnet.clients)}; or add it to spec.clients",
        ) from None


def _check_against(options: Options, subnet: Subject, streams: list[Path]) -> None:
    """What only the document tells: the size limit, the names of nodes, the number of artifacts."""
    bound = subnet.artifact_bytes_max
    sizes = {str(path): path.stat().st_size for path in options.files if path not in streams}
    if not options.files:
        sizes = {"--size": options.size or DEFAULT_SIZE}
    for label, size in sizes.items():
        if size > bound:
            raise CommandError(
                f"{label} is {size} bytes ({format_size(size)}), above the limit of {bound} bytes"
                f" ({format_size(bound)}) in spec.broadcast.artifactBytesMax",
                where=f"Subnet {subnet.name}, spec.broadcast.artifactBytesMax: {subnet.artifact_bytes_max_text}",
                next_step="publish something smaller, or start the subnet with a higher limit",
            )
    if options.publisher not in ("random", "all", *subnet.nodes):
        raise CommandError(
            f"there is no node {options.publisher!r}",
            where=f"--from {options.publisher}",
            next_step=f"one of {some(subnet.nodes)}, or random, or all",
        )
    total = _total(options, subnet)
    if total > limits.RUN_ARTIFACTS_MAX:
        raise CommandError(
            f"{total} artifacts are more than a run publishes, {limits.RUN_ARTIFACTS_MAX}",
            where=f"--count {options.count}",
            next_step="a lower --count, or several runs",
        )


def _total(options: Options, subnet: Subject) -> int:
    payloads = max(1, len(options.files))
    return artifacts_asked(count=options.count, payloads=payloads, publisher=options.publisher, nodes=len(subnet.nodes))


async def _payloads(options: Options, spools: dict[Path, Path], desk: LabClient, session: Session) -> list[Payload]:
    if not options.files:
        size = options.size or DEFAULT_SIZE
        return [Payload(name=f"generated-{size}", size=size)]
    payloads = []
    for path in options.files:
        name = _artifact_name(path)

        def tell(done: int, total: int, name: str = name) -> None:
            session.listener.progress(f"{name} sent", done, total, octets=True)

        payloads.append(Payload(name=name, upload=await desk.upload(spools.get(path, path), name, tell)))
    return payloads


def _artifact_name(path: Path) -> str:
    """The file's own name, as text that fits the bound, whatever bytes it is made of."""
    if path == STDIN:
        return "stdin"
    octets = os.fsencode(path.name)[: limits.NAME_CHARS_MAX]
    return octets.decode("utf-8", "ignore") or "unnamed"


def _request(options: Options, payloads: list[Payload], client: str) -> RunRequest:
    return RunRequest(
        payloads=payloads, count=options.count, rate=options.rate, publisher=options.publisher, seed=options.seed,
        within_s=options.within_s, expect=list(options.expect), shared=options.shared,
        client=client, label=options.label,
    )  # fmt: skip
