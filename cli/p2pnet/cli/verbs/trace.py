"""`trace`: the hop tree of one artifact, from the lab while it lives and from the archive afterwards."""

import contextlib
import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.documents import Trace, TracedEnds, TracedLoad, TracedPhases, TracedReceipt
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import ARTIFACT_HELP, KeptName, KeptOptions, SpanFiles
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.resolve import choose_artifact, run_meant, simulated_artifact, subnet_meant, telling_artifact
from p2pnet.cli.session import Session
from p2pnet.cli.target_choice import errors_as_given
from p2pnet.cli.targets.target import Target
from p2pnet.measure import EndLoad, HopEnds, HopNode, HopTree, hop_ends, hop_tree, most_telling, window_ns
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.events import Collected
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import RUN_ENDED
from p2pnet.store import archive
from p2pnet.store.heads import RunHead

EXAMPLE = "p2pnet trace demo photo.jpg"


@dataclass(frozen=True)
class TraceOptions(KeptOptions, SpanFiles):
    """Draw an artifact's hop tree.

    Who got it from whom, and which way took longest.
    """

    name: KeptName
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help=f"{ARTIFACT_HELP}  [default: of the latest run one that was missed, else the slowest]",
            show_default=False,
            autocompletion=shell_completion.artifacts,
        ),
    ] = None
    waterfall: Annotated[
        bool,
        typer.Option("--waterfall", help="Draw all receipts on one time axis instead, each by where its time went."),
    ] = False


async def run(options: TraceOptions, session: Session) -> Outcome:
    """Find the artifact, gather its events, draw its tree."""
    _check(options)
    session.next_step = f"p2pnet report {options.name} -o json lists the artifact ids of its latest run"
    target, given = session.target(), options.name
    with errors_as_given(target, given):
        return await _traced(replace(options, name=subnet_meant(given, target)), given, target, session)


async def _traced(options: TraceOptions, given: str, target: Target, session: Session) -> Outcome:
    if (meant := run_meant(given, target)) is not None:
        raise _names_a_run(meant, target)
    if options.artifact is None:
        prefix = await telling_artifact(target, options.name)
    else:
        prefix = await choose_artifact(options.artifact, target, options.name)
    simulated = simulated_artifact(prefix, target, options.name)
    live = simulated is None and target.presence(options.name) == "up"
    if simulated is not None:
        artifact, run_file = simulated
        events = archive.read_events(target.state, run_file.run, artifact)
    elif live:
        async with target.lab(options.name) as client:
            artifact, run_file, events = await client.artifact_events(prefix)
    else:
        with contextlib.suppress(TargetError):
            async with target.lab(options.name):  # a dead lab's open runs end here
                pass
        artifact, run_file, events = _archived(options.name, prefix, target, session)
    _check_events(artifact, run_file, events, target)
    tree = hop_tree(artifact, events, run_file.nodes, run_file.adversaries)
    if tree.publisher is None or tree.unreached:
        _tell_damage(run_file, target, session)
    ends = _ends(tree, run_file, target)
    document = document_of(tree, run_file, ends, waterfall=options.waterfall)
    if not live and simulated is None:
        hint = f"p2pnet report {options.name} {run_file.run}"
    elif document.unreached and simulated is not None:
        hint = f"p2pnet report {options.name} {run_file.run} --html FILE"
    elif document.unreached:
        hint = f"p2pnet logs {options.name} --node {document.unreached[0]}"
    else:
        hint = f"p2pnet get {options.name} {artifact[:12]} -O FILE"
    if given != options.name:
        hint = f"p2pnet replay {shlex.quote(given)}"
    return await _export(options, Outcome(document, next=(hint,)), (tree, run_file, events, ends), session)


def _names_a_run(head: RunHead, target: Target) -> CommandError:
    """The error for a run's id in the place of the subnet: with the command that traces what tells most of that run."""
    artifact = "ARTIFACT"
    with contextlib.suppress(SpecError):
        report = archive.read_run(target.state, head.run)[1]
        artifact = (most_telling(report)[:12] if report is not None else "") or artifact
    return CommandError(
        f"{head.run} is a run of {head.subnet}, and no subnet",
        where=str(target.state.runs),
        next_step=f"name the subnet and an artifact: p2pnet trace {head.subnet} {artifact}",
    )


def _check(options: TraceOptions) -> None:
    """Before anything is asked for: CommandError (exit 2) for a file that cannot be written, or an endpoint that is none."""
    from p2pnet.cli import report_files

    report_files.check(options)
    if options.otlp is not None:
        from p2pnet.cli.otlp import check_endpoint

        check_endpoint(options.otlp)


def _check_events(artifact: str, run: RunFile, events: list[Collected], target: Target) -> None:
    """CommandError (exit 2) where an ended run tells nothing of an artifact: that is no artifact which reached nobody."""
    if events or not run.run or run.state not in RUN_ENDED:
        return
    raise CommandError(
        f"no event of run {run.run} about {artifact[:16]} is kept: who got it cannot be told",
        where=str(target.state.run(run.run)),
        next_step=f"p2pnet report {run.subnet} {run.run} has the figures of that time",
    )


def _tell_damage(run: RunFile, target: Target, session: Session) -> None:
    """Note that events are missing, where it is that which makes a tree odd."""
    if not run.run or not archive.has_events(target.state.run(run.run)):  # a run of the lab alone
        return
    try:
        archive.check_events(target.state, run.run)
    except SpecError as error:
        session.note(f"{error}; what came after that is not told")


async def _export(
    options: TraceOptions,
    outcome: Outcome,
    told: tuple[HopTree, RunFile, list[Collected], Mapping[str, HopEnds]],
    session: Session,
) -> Outcome:
    """The spans of the artifact to where `--otel` and `--otlp` say."""
    if options.otel is None and options.otlp is None:
        return outcome
    from p2pnet.cli import report_files
    from p2pnet.present import artifact_spans, otlp_lines, trace_id_of

    tree, run_file, events, ends = told
    spans = artifact_spans(tree, run_file, events, ends)
    outcome = await report_files.write_each(options, lambda _: otlp_lines(spans, run_file), outcome, session)
    if options.otlp is not None and outcome.failure is None:
        outcome = await report_files.send_spans(options.otlp, lambda: spans, run_file, outcome, session)
    if outcome.failure is None:
        session.note(f"its trace id is {trace_id_of(run_file.run, tree.artifact)}")
    return outcome


def _archived(name: str, prefix: str, target: Target, session: Session) -> tuple[str, RunFile, list[Collected]]:
    presence = target.presence(name)
    if not archive.list_heads(target.state, name) and presence == "absent":
        raise CommandError(
            f"there is no subnet {name}, and no run of one",
            where=str(target.state.runs),
            next_step=f"p2pnet up {name}",
            exit_code=ExitCode.NOT_FOUND,
        )
    artifact, run_file = archive.find_artifact(target.state, name, prefix)
    if subnet_meant("", target) != name:  # not from a bundle
        gone = "gone" if presence == "absent" else presence
        session.note(f"{name} is {gone}: this is from the archive of run {run_file.run}")
    return artifact, run_file, archive.read_events(target.state, run_file.run, artifact)


def _ends(tree: HopTree, run_file: RunFile, target: Target) -> dict[str, HopEnds]:
    """By receiver, what both ends of a hop did, as far as samples of its run are on this machine."""
    window = window_ns(tree)
    if not run_file.run or window is None:
        return {}
    return hop_ends(tree, archive.iter_samples(target.state.run(run_file.run), window))


def document_of(
    tree: HopTree, run_file: RunFile, ends: Mapping[str, HopEnds] | None = None, *, waterfall: bool = False
) -> Trace:
    """The hop tree with what the run knows about it. `ends`: by receiver."""
    names = dict(zip(run_file.artifacts, run_file.names, strict=False))
    latencies = [node.latency_ms for node in tree.nodes if node.latency_ms is not None]
    return Trace(
        subnet=run_file.subnet,
        target=run_file.target,
        run=run_file.run,
        artifact=tree.artifact,
        name=names.get(tree.artifact, ""),
        size=tree.size,
        publisher=tree.publisher,
        nodes=len(run_file.nodes),
        reached=len(tree.nodes),
        receipts=[_receipt(node, (ends or {}).get(node.node)) for node in tree.nodes],
        critical_path=tree.critical_path,
        unreached=tree.unreached,
        duplicates=tree.duplicates,
        duplicate_bytes=tree.duplicate_bytes,
        hops_max=tree.hops_max,
        latency_ms_max=max(latencies, default=None),
        state=run_file.state,
        clock_bound_ms=run_file.clock_bound_ms,
        client=run_file.request.client or DEFAULT_CLIENT,
        waterfall=waterfall,
    )


def _receipt(node: HopNode, ends: HopEnds | None) -> TracedReceipt:
    return TracedReceipt(
        node=node.node,
        sender=node.parent or None,
        hop=node.hop,
        latency_ms=node.latency_ms,
        edge_ms=node.edge_ms,
        critical=node.critical,
        duplicates=node.duplicates,
        orphan=node.orphan,
        phases=None if node.phases is None else TracedPhases(**dataclasses.asdict(node.phases)),
        ends=None if ends is None else TracedEnds(sender=_load(ends.sender), receiver=_load(ends.receiver)),
    )


def _load(load: EndLoad | None) -> TracedLoad | None:
    return None if load is None else TracedLoad(**dataclasses.asdict(load))
