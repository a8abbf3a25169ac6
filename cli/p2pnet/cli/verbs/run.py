"""`run`: a scenario from its file, on any target: steps with expectations, judged as one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.load import StopEarly
from p2pnet.cli.options import (
    IgnoreUnsupported,
    SummaryFiles,
    VerbOptions,
    context_option,
    jobs_option,
    namespace_option,
    on_option,
)
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import Place
from p2pnet.cli.targets.target import TargetName

if TYPE_CHECKING:  # with pydantic, which help does without
    from collections.abc import Iterator

    from p2pnet.cli.scenario_file import CheckedScenario
    from p2pnet.cli.targets.target import Target
    from p2pnet.model.scenario_run import ScenarioRun
    from p2pnet.scenario.trial import TrialResult

EXAMPLE = "p2pnet run examples/scenarios/partition-and-heal.yaml --on sim --trials 10 --junit scenario.xml"
TRIALS_MAX = 10_000
LIVE_TRIALS_MAX = 100


@dataclass(frozen=True)
class RunOptions(VerbOptions, SummaryFiles):
    """Run a scenario.

    Starts its subnet, does its steps, judges what they expect, and takes the subnet down. Ctrl-C ends it and takes it down, too.
    """

    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The Scenario document (YAML or JSON; - is stdin).", show_default=False),
    ]
    on: Annotated[TargetName | None, on_option("Where to run it; sim is virtual time.  [default: local]")] = None
    trials: Annotated[
        int,
        typer.Option(
            "--trials", min=1, max=TRIALS_MAX, metavar="N", help="Run it with so many seeds, from --seed on. Simulated trials"
            " keep no runs.",
        ),
    ] = 1  # fmt: skip
    jobs: Annotated[
        int | None,
        jobs_option("Simulated trials at the same time.  [default: as many as cores]"),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, metavar="S", help="Of the first trial.  [default: the subnet's]", show_default=False
        ),
    ] = None
    stop_early: StopEarly = False
    keep: Annotated[bool, typer.Option("--keep", help="Leave the subnet standing at the end.")] = False
    shrink: Annotated[
        Path | None,
        typer.Option(
            "--shrink", metavar="DIR", help="When it fails in the simulator, write the smallest scenario that fails by the same"
            " expectation into this new folder.", show_default=False,
        ),
    ] = None  # fmt: skip
    ignore_unsupported: IgnoreUnsupported = False
    namespace: Annotated[
        str | None,
        namespace_option("Namespace to run it in, in a cluster.  [default: the document's, else the context's]"),
    ] = None
    context: Annotated[str | None, context_option("Cluster to run it in")] = None

    @property
    def place(self) -> Place:
        """`--on`, `-n` and `--context`."""
        return Place(self.on, self.namespace, self.context)


async def run(options: RunOptions, session: Session) -> Outcome:
    """Everything that can be wrong is said before anything starts."""
    import msgspec

    from p2pnet.cli import report_files, scenario_trials
    from p2pnet.cli.scenario_file import read_checked
    from p2pnet.scenario.trial import exit_code_of, first_to_repeat, merged

    report_files.check(options)
    target = session.target()
    _check(options, target.kind)
    checked = read_checked(options.file, target.kind, session, ignore=options.ignore_unsupported)
    if options.shrink is not None:
        from p2pnet.cli.shrinking import check_folder

        check_folder(options.shrink)
    target.use_namespace(checked.plan.subnet)
    session.place = session.place.inside(checked.plan.subnet.metadata.namespace, target)
    scenario_trials.check_room(checked.plan, target, jobs=_jobs(options))
    if target.kind == "local":  # a pod has a Python of its own, and the simulator makes each client before it begins
        from p2pnet.cli.client_check import check_clients

        await check_clients(checked.plan.subnet, session.listener)
    seed = checked.plan.subnet.spec.seed if options.seed is None else options.seed
    name = checked.plan.subnet.name
    session.interrupted_note = f"interrupted: {name} may be left; faults heal by themselves within a minute"
    if target.kind == "sim":
        session.interrupted_note = "interrupted: nothing is left"
    else:
        session.resume = (f"p2pnet down {name}",)
    trials = scenario_trials.ScenarioTrials(
        checked,
        seeds=range(seed, seed + options.trials),
        jobs=_jobs(options),
        keep=options.keep,
        stop_early=options.stop_early,
    )
    results, lost = await trials.run(target, session)
    session.resume = ()
    document = merged(
        checked.plan, target.kind, results, seed=seed, asked=options.trials, lost=lost, ignored=checked.ignored
    )
    _keep_records(options, checked, target, results)
    again = first_to_repeat(document, lost)
    document = msgspec.structs.replace(document, rerun="" if again is None else _rerun(options, again))
    outcome = await _outcome(options, document, exit_code_of(results, document), session)
    if options.shrink is None or outcome.failure is not None or outcome.exit_code != ExitCode.EXPECTATION_FAILED:
        _unshrunk(options, document, session)
        return outcome
    return await _shrunk(options, checked, document, session)


def _unshrunk(options: RunOptions, document: "ScenarioRun", session: Session) -> None:
    """Say why there is nothing to shrink, where that was asked for; the folder goes again."""
    import contextlib

    if options.shrink is None:
        return
    with contextlib.suppress(OSError):
        options.shrink.rmdir()
    if document.state != "cancelled":
        words = "it passes" if document.verdict == "pass" else "it is invalid, which is no failure of what it expects"
        session.note(f"nothing to shrink: {words}")


async def _shrunk(
    options: RunOptions, checked: "CheckedScenario", document: "ScenarioRun", session: Session
) -> Outcome:
    """The smaller one in the place of the whole. It fails as that does, and so does the command."""
    import contextlib

    from p2pnet.cli.shrinking import shrink

    folder = options.shrink or Path()
    session.interrupted_note = "interrupted: nothing was written"
    try:
        found = await shrink(checked, seed=document.shown_seed, folder=folder, file=options.file, session=session)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    if not found.verified and found.state != "cancelled":
        raise CommandError(
            f"what was written does not fail by {found.expectation.expr}: shrinking went wrong", where=found.scenario_file,
            next_step=f"keep to the whole scenario: {document.rerun}", exit_code=ExitCode.BUG,
        )  # fmt: skip
    code = ExitCode.INTERRUPTED if found.state == "cancelled" else ExitCode.EXPECTATION_FAILED
    return Outcome(found, exit_code=code, next=(found.rerun,))


def _keep_records(
    options: RunOptions, checked: "CheckedScenario", target: "Target", results: "list[TrialResult]"
) -> None:
    """Put the scenario beside the runs of each trial, so that they can be carried away and replayed as one."""
    from p2pnet.model.scenario_run import ScenarioRecord
    from p2pnet.scenario.trial import merged
    from p2pnet.store.scenario_records import keep_record
    from p2pnet.subnet.document import to_document

    plan = checked.plan
    scenario = plan.scenario.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for one in results:
        document = merged(plan, target.kind, [one], seed=one.seed, ignored=checked.ignored)
        record = ScenarioRecord(
            scenario=scenario, subnet=to_document(plan.subnet), skipped=checked.skipped, stop_early=options.stop_early,
            result=document,
        )  # fmt: skip
        keep_record(target.state, record)


async def _outcome(options: RunOptions, document: "ScenarioRun", exit_code: int, session: Session) -> Outcome:
    from dataclasses import replace

    from p2pnet.cli import report_files

    name = document.subnet
    if document.kept:
        session.note(f"{name} is left standing: p2pnet down {name} takes it down")
    _offer(options, document, session)
    place, session.place = session.place, Place()  # the commands say themselves where
    outcome = Outcome(document, exit_code=exit_code, next=(document.rerun or _next(options, document, place),))
    outcome = await report_files.write_each(options, lambda option: _text(option, document), outcome, session)
    return replace(outcome, exit_code=ExitCode.INTERRUPTED) if document.state == "cancelled" else outcome


def _offer(options: RunOptions, document: "ScenarioRun", session: Session) -> None:
    """Say how a failure in the simulator is made smaller: there it comes again, as often as is wanted."""
    import shlex

    if document.target == "sim" and document.verdict == "fail" and options.shrink is None and str(options.file) != "-":
        folder = shlex.quote(f"{options.file.stem}-smaller")
        session.note(f"a smaller scenario that fails like this: {document.rerun} --shrink {folder}")


def _text(option: str, document: "ScenarioRun") -> "Iterator[str]":
    from p2pnet.present.scenario import scenario_junit, scenario_markdown

    yield scenario_junit(document) if option == "--junit" else scenario_markdown(document)


def _next(options: RunOptions, document: "ScenarioRun", place: Place) -> str:
    """What to look at when all is well."""
    name = document.subnet
    if document.kept:
        return f"p2pnet down {name}{place.typed()}"
    run = next((step.run for step in document.steps if step.run), None)
    if run is None:
        return _rerun(options, document.seed)
    return f"p2pnet report {name} {run}" + (Place("sim").typed() if document.target == "sim" else place.typed())


def _check(options: RunOptions, target: TargetName) -> None:
    """CommandError (exit 2) for options that contradict each other."""
    what = ""
    if options.jobs is not None and (target != "sim" or options.trials == 1):
        what, hint = "--jobs is for several simulated trials: others follow each other", "leave it out"
    elif options.keep and target == "sim":
        what, hint = "--keep: a simulated subnet ends with its scenario", "leave it out; runs are kept without it"
    elif options.keep and options.trials > 1:
        what, hint = "--keep with several trials: each one begins with a new subnet", "leave one of the two out"
    elif options.shrink is not None and target != "sim":
        what, hint = "--shrink is for the simulator, where a failure comes again with its seed", "add --on sim"
    elif target != "sim" and options.trials > LIVE_TRIALS_MAX:
        what, hint = f"--trials {options.trials}: at most {LIVE_TRIALS_MAX} of live nodes", "simulate more: --on sim"
    if what:
        raise CommandError(what, where="p2pnet run", next_step=hint)


def _jobs(options: RunOptions) -> int:
    """Processes that simulate at the same time."""
    from p2pnet.cli.capacity import at_a_time

    return at_a_time(options.trials, options.jobs)


def _rerun(options: RunOptions, seed: int) -> str:
    """The command that runs again what did not pass."""
    import shlex

    words = ["p2pnet", "run", str(options.file), "--seed", str(seed)]
    valued = {"--on": options.on, "-n": options.namespace, "--context": options.context}
    words += [word for option, value in valued.items() if value is not None for word in (option, value)]
    words += ["--stop-early"] if options.stop_early else []
    words += ["--ignore-unsupported"] if options.ignore_unsupported else []
    return shlex.join(words)
