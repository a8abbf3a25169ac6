"""`sim`: a run of a Subnet document in virtual time, with the report of a live one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli import load
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.load import LoadOptions
from p2pnet.cli.options import (
    IgnoreUnsupported,
    ReportFiles,
    VerbOptions,
    duration,
    file_option,
    jobs_option,
    subnet_name,
)
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place
from p2pnet.measure.pace import asked_rate
from p2pnet.model.errors import SpecError
from p2pnet.model.units import format_duration

if TYPE_CHECKING:
    from p2pnet.cli.simulating import Simulated
    from p2pnet.cli.targets.target import Target
    from p2pnet.sim.simulate import SimLoad  # with the broadcast, which help does without
    from p2pnet.subnet.spec import Subnet

EXAMPLE = "p2pnet sim -f examples/subnet.yaml --nodes 1000 --size 64KiB --count 20 --rate 10/s --expect 'p95 <= 800ms'"
STDIN = Path("-")
TRIALS_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class _World:
    """What is simulated, and for how long."""

    file: Annotated[Path, file_option("The Subnet document")]
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            parser=subnet_name,
            help="Which of several Subnets in the file.  [default: the only one]",
            show_default=False,
        ),
    ] = None
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, metavar="N", help="Size of group `node`.  [default: the file's]")
    ] = None
    until_s: Annotated[
        float | None,
        typer.Option(
            "--until",
            parser=duration,
            metavar="DURATION",
            help="End after so much virtual time.  [default: when all is delivered, or --within has passed]",
            show_default=False,
        ),
    ] = None
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            min=1,
            max=TRIALS_MAX,
            metavar="N",
            help="Simulate with so many seeds, from --seed on, and report intervals. No run of them is kept.",
            show_default=False,
        ),
    ] = None
    jobs: Annotated[int | None, jobs_option("Trials at the same time.  [default: as many as cores]")] = None
    ignore_unsupported: IgnoreUnsupported = False
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            metavar="FILE",
            help="Write every event as a line of NDJSON, too; - is stdout.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class SimOptions(VerbOptions, ReportFiles, LoadOptions, _World):
    """Simulate a subnet and report.

    Publishes artifacts in a subnet in virtual time, in this process: the same document, clients and report as with nodes, and
    the same digest for the same seed. Ctrl-C ends it with what there is.
    """

    def wanted(self) -> dict[str, Path]:
        """The event log, too."""
        return super().wanted() | ({} if self.events is None else {"--events": self.events})

    @property
    def place(self) -> Place:
        """Where its runs are kept, for commands to type next."""
        return Place("sim")


async def run(options: SimOptions, session: Session) -> Outcome:
    """Everything that can be wrong is said before anything is simulated."""
    from p2pnet.cli import report_files
    from p2pnet.cli.capacity import check_simulated
    from p2pnet.cli.spooling import spooled

    report_files.check_report(options)
    _check_trials(options)
    streams = load.check(options, "sim")
    if STDIN in streams and options.file == STDIN:
        raise CommandError(
            "both the document and an artifact from stdin",
            where="p2pnet sim -f - -",
            next_step="give one of them a file",
        )
    target = session.target()
    subnet = _subnet(options, session)
    injected = _injected(subnet)
    client = load.check_client(options, injected)
    load.check_against(options, injected, streams)
    held = load.bytes_at_once(options, subnet, client, injected.honest)
    check_simulated(subnet, jobs=_jobs(options), payload_bytes=held)
    session.interrupted_note = "interrupted: nothing is kept"
    async with spooled(streams, injected.artifact_bytes_max, session) as spools:
        try:
            if options.trials is not None:
                return await _tried(options, subnet, injected, spools, session)
            return await _simulated(options, subnet, _load(options, spools, client, injected.honest), target, session)
        except (
            SpecError
        ) as error:  # a client that cannot be loaded, a graph that cannot be: only making the nodes shows it
            importing = "install its package for this Python, or name its folder in PYTHONPATH"
            hint = importing if "cannot be imported" in str(error) else "correct it and try again"
            raise CommandError(str(error), where=f"{options.file}, Subnet {subnet.name}", next_step=hint) from None


def _jobs(options: SimOptions) -> int:
    """Processes that simulate at the same time."""
    from p2pnet.cli.capacity import at_a_time

    return at_a_time(options.trials or 1, options.jobs)


def _check_trials(options: SimOptions) -> None:
    """What does not go with `--trials`, or not without."""
    if options.trials is None:
        if options.jobs is not None:
            raise CommandError(
                "--jobs is for trials: one run is simulated in one process",
                where=f"--jobs {options.jobs}",
                next_step="add --trials N",
            )
        return
    given = [*options.forms(), *(["--label"] if options.label else [])]
    if given:
        raise CommandError(
            f"{' '.join(given)} {'is' if len(given) == 1 else 'are'} for one run, and of trials no run is kept",
            where=f"--trials {options.trials}",
            next_step="leave one of the two out; -o json has the figures of every trial, --seed repeats one as a run",
        )


async def _simulated(
    options: SimOptions, subnet: "Subnet", offered: "SimLoad", target: "Target", session: Session
) -> Outcome:
    from dataclasses import replace

    from p2pnet.cli import report_files
    from p2pnet.cli.following import outcome_of
    from p2pnet.cli.simulated_runs import retain
    from p2pnet.cli.simulating import simulated

    seed = subnet.spec.seed if options.seed is None else options.seed
    done = await simulated(subnet, offered, seed=seed, until_s=options.until_s, state=target.state, session=session)
    session.remark(_took(done))
    outcome = outcome_of(done.report, target)
    if done.not_kept:
        failure = CommandError(
            f"the run is not kept: {done.not_kept}", where=str(target.state.runs),
            next_step="make room there, or set P2PNET_STATE to another directory", exit_code=ExitCode.INVALID,
        )  # fmt: skip
        return replace(outcome, failure=failure, exit_code=failure.exit_code, next=())
    retain(target.state)
    outcome = await report_files.write(options, outcome, target.state, session)
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if done.interrupted else outcome


async def _tried(
    options: SimOptions, subnet: "Subnet", injected: load.InjectedSubnet, spools: dict[Path, Path], session: Session
) -> Outcome:
    """The same run once with each seed."""
    import time
    from dataclasses import replace

    import msgspec

    from p2pnet.cli.following import VERDICT_CODES
    from p2pnet.cli.trials import job_of, run_trials
    from p2pnet.measure.trials import first_unsuccessful, merge

    count, began_s = options.trials or 1, time.monotonic()
    first = subnet.spec.seed if options.seed is None else options.seed
    jobs = _jobs(options)
    session.interrupted_note = "interrupted: no trial is left"
    client = load.check_client(options, injected)
    job = job_of(options, subnet, client, spools, honest=injected.honest, until_s=options.until_s)
    results = await run_trials(job, range(first, first + count), jobs, session)
    trials = merge(results.reports, results.failed, asked=count, seed=first, subnet=subnet.name)
    seed = first_unsuccessful(trials)
    repeat = "" if seed is None else _repeat(options, seed)
    took = f"{trials.finished} of {count} trials in {time.monotonic() - began_s:.1f} s, {jobs} at a time"
    session.remark(f"interrupted after {took}: this is what there was" if results.interrupted else f"simulated {took}")
    session.place = Place()  # nothing of them is kept anywhere
    hint = repeat or _repeat(options, first)
    outcome = Outcome(
        msgspec.structs.replace(trials, repeat=repeat), exit_code=VERDICT_CODES[trials.verdict], next=(hint,)
    )
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if results.interrupted else outcome


def _took(done: "Simulated") -> str:
    took = f"{format_duration(done.virtual_s)} of virtual time in {done.wall_s:.1f} s"
    if done.interrupted:
        return f"interrupted after {took}: this is what there was, and it is kept"
    return f"simulated {took}"


def _repeat(options: SimOptions, seed: int) -> str:
    """The command that simulates one trial as a run."""
    import shlex

    words = ["p2pnet", "sim", "-f", str(options.file), "--seed", str(seed)]
    valued = {
        "--name": options.name, "--nodes": options.nodes, "--size": options.size and f"{options.size}B",
        "--count": options.count, "--rate": options.rate and options.rate.text,
        "--from": options.publisher if options.publisher != "random" else None, "--client": options.client,
        "--within": options.within_s and f"{options.within_s:g}s", "--until": options.until_s and f"{options.until_s:g}s",
    }  # fmt: skip
    words += [word for option, value in valued.items() if value is not None for word in (option, str(value))]
    words += [word for expression in options.expect or () for word in ("--expect", expression)]
    words += ["--stop-early"] if options.stop_early else []
    words += ["--ignore-unsupported"] if options.ignore_unsupported else []
    return shlex.join([*words, *map(str, options.files or ())])


# --- the document and the load ---


def _subnet(options: SimOptions, session: Session) -> "Subnet":
    """The document as the simulator honours it; what it does not is named."""
    from p2pnet.cli.shaping import written
    from p2pnet.cli.spec_file import read_spec, supported, with_nodes
    from p2pnet.subnet.document import to_document
    from p2pnet.subnet.spec import SIMULATED_NODES_MAX

    try:
        subnet = read_spec(options.file, name=options.name, note=session.note, nodes_max=SIMULATED_NODES_MAX)
    except CommandError as error:
        if error.what.endswith("give a NAME"):
            error.next_step = "say which one with --name NAME"
        raise
    if options.nodes is not None:
        subnet = with_nodes(subnet, options.nodes, nodes_max=SIMULATED_NODES_MAX)
    subnet, notes = supported(subnet, "sim", ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    if not written(to_document(subnet).get("spec") or {}):
        session.note("spec.network shapes nothing: messages take no time, so latencies say nothing; try preset: aws")
    return subnet


def _injected(subnet: "Subnet") -> load.InjectedSubnet:
    from p2pnet.subnet.document import to_document
    from p2pnet.subnet.members import members

    return load.injected_subnet(subnet.name, to_document(subnet), [name for name, _ in members(subnet)])


def _load(options: SimOptions, spools: dict[Path, Path], client: str, honest: int) -> "SimLoad":
    from p2pnet.cli.spec_file import unreadable
    from p2pnet.sim.simulate import SimLoad

    payloads: list[tuple[str, bytes | int]] = []
    for path in options.files or ():
        try:
            payloads.append((load.artifact_name(path), spools.get(path, path).read_bytes()))
        except OSError as error:
            raise unreadable(path, error) from None
    if not payloads:
        generated = load.generated_payload(options)
        payloads.append((generated.name, generated.size))
    return SimLoad(
        payloads=payloads, count=load.count(options, honest), rate_per_s=asked_rate(options.rate), sender=options.publisher,
        within_s=options.within_s or load.WITHIN_S, expectations=list(options.expect or ()), client=client,
        label=options.label, stop_early=options.stop_early,
    )  # fmt: skip
