"""A bundle replayed in the simulator, and compared with what was recorded: of a run by itself, or of a whole scenario."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from p2pnet.broadcast.loading import OURS
from p2pnet.cli.capacity import check_simulated, this_machine
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.replay_limits import other_bytes
from p2pnet.cli.replay_record import UNKNOWN_BYTES, RecordedRun, read_recorded
from p2pnet.cli.run_receipts import receipt_rows
from p2pnet.cli.scenario_progress import ScenarioProgress
from p2pnet.cli.session import Session
from p2pnet.cli.simulated_runs import retain
from p2pnet.cli.simulating import simulated
from p2pnet.cli.spec_file import supported
from p2pnet.cli.stages.simulated import RecordedLoad, SimulatedStage
from p2pnet.measure import replay as beside
from p2pnet.measure.replay import JudgedValue
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import FaultTime, RunFile
from p2pnet.model.replay import Replay, ReplayedExpectation, ReplayedRun
from p2pnet.model.report import Report, Verdict
from p2pnet.model.scenario_run import ScenarioRecord, ScenarioRun
from p2pnet.model.units import format_duration, format_size
from p2pnet.scenario.document import checked_plan, read_scenario
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.runner import ScenarioRunner
from p2pnet.scenario.targets import unsupported_steps
from p2pnet.scenario.trial import merged
from p2pnet.sim.recorded import Recording
from p2pnet.sim.simulate import TARGET, SimLoad
from p2pnet.store import State, archive
from p2pnet.store.bundle_format import BundleError
from p2pnet.store.bundles import OpenedBundle
from p2pnet.store.scenario_records import keep_record, runs_of_record
from p2pnet.store.simulated import published_indexes
from p2pnet.subnet.document import load_subnet, nodes_max_of, to_document
from p2pnet.subnet.faults import read_fault, victims
from p2pnet.subnet.spec import Subnet


async def replay_bundle(
    opened: OpenedBundle, state: State, session: Session, *, trust_clients: bool
) -> tuple[Replay, bool]:
    """The bundle's runs beside their replays, which are kept in `state`; and whether that was interrupted.

    CommandError (exit 2) for what this machine cannot simulate, BundleError for a bundle whose documents contradict each other.
    """
    record = opened.scenario
    if record is None:
        found = await _replay_run(opened, state, session, trust_clients=trust_clients)
    else:
        found = await _replay_scenario(opened, record, state, session, trust_clients=trust_clients)
    retain(state)
    return found


# --- a run by itself ---


def _check_memory(records: Sequence[RecordedRun], opened: OpenedBundle) -> None:
    """CommandError (exit 2) for artifacts that this machine has no memory for: a world holds each of them once."""
    total = max((one.published_bytes for one in records), default=0)
    free = this_machine().memory_bytes
    if free is not None and total > free:
        raise CommandError(
            f"it published {format_size(total)}, and this machine has {format_size(free)} of memory left",
            where=str(opened.path), next_step="replay it on a larger machine",
        )  # fmt: skip


async def _replay_run(
    opened: OpenedBundle, state: State, session: Session, *, trust_clients: bool
) -> tuple[Replay, bool]:
    record = read_recorded(opened.state, opened.manifest.runs[0])
    run = record.run
    _check_memory([record], opened)
    subnet, ignored = _subnet(run.spec, trust_clients=trust_clients)
    replay = Replay(
        bundle=str(opened.path), subnet=run.subnet, target=run.target, version=run.version, seed=run.seed,
        nodes=len(run.nodes), verdict="nothing to compare", recorded_verdict=_verdict(record.report),
        not_reproduced=record.limits + ignored,
    )  # fmt: skip
    if not record.artifacts:
        mine = _compared(record, None, state, step="")
        why = beside.why_incomparable([mine], {}) or [f"run {run.run} published nothing"]
        return msgspec.structs.replace(replay, runs=[mine], why=why), False
    load = SimLoad(
        payloads=record.payloads, count=run.request.count, rate_per_s=run.request.rate, sender=run.request.publisher,
        within_s=run.request.within_s, expectations=run.request.expect, client=run.request.client, shared=run.request.shared,
        stop_early=run.request.stop_early,
    )  # fmt: skip
    recording = None
    if not record.simulated:
        faults, refused = _faults(subnet, run)
        replay.not_reproduced.extend(refused)
        subnet = _without_faults(subnet)
        recording = Recording(record.planned, faults)
    done = await simulated(
        subnet, load, seed=run.seed, until_s=run.until_s, state=state, session=session, recording=recording
    )
    session.remark(f"replayed {format_duration(done.virtual_s)} of virtual time in {done.wall_s:.1f} s")
    if done.not_kept:
        raise CommandError(
            f"the replay is not kept, so it cannot be compared: {done.not_kept}", where=str(state.runs),
            next_step="make room there, or set P2PNET_STATE to another directory", exit_code=5,
        )  # fmt: skip
    compared = _compared(record, done.report, state, step="")
    replay = msgspec.structs.replace(
        replay, runs=[compared], replayed_verdict=done.report.verdict, digest=compared.digest,
        state="cancelled" if done.interrupted else "finished",
    )  # fmt: skip
    reasons = {run.run: record.report.invalid if record.report else []}
    return _judged(replay, reasons, interrupted=done.interrupted), done.interrupted


def _without_faults(subnet: Subnet) -> Subnet:
    """The document without `spec.faults`: they come from the record, at their times."""
    document = to_document(subnet)
    document["spec"].pop("faults", None)
    return load_subnet(document, nodes_max=nodes_max_of(TARGET))


def _faults(subnet: Subnet, run: RunFile) -> tuple[list[FaultTime], list[str]]:
    """The recorded faults that can be done again, and a sentence for each that cannot."""
    if run.fault_times is None:
        lost = [
            f"fault {one.name} ({one.what}): it was recorded without its times, by an older version"
            for one in run.faults
        ]
        return [], lost
    faults, refused = [], []
    for one in run.fault_times:
        packets = [key for key in ("duplication", "reorder") if key in one.fault]
        item = {key: value for key, value in one.fault.items() if key not in packets}
        name = str(item.get("name"))
        if packets:
            refused.append(
                f"fault {name}: {' and '.join(packets)} of packets, of which simulated messages know nothing"
            )
        try:
            victims(subnet, read_fault(subnet, item))
        except SpecError as error:
            refused.append(f"fault {name}: {error}")
        else:
            faults.append(msgspec.structs.replace(one, fault=item))
    return faults, refused


# --- a scenario ---


async def _replay_scenario(
    opened: OpenedBundle, record: ScenarioRecord, state: State, session: Session, *, trust_clients: bool
) -> tuple[Replay, bool]:
    result = record.result
    steps = {step: run for step, run in runs_of_record(record).items() if run in opened.manifest.runs}
    records = {step: read_recorded(opened.state, run) for step, run in steps.items()}
    _check_memory(list(records.values()), opened)
    live = result.target != TARGET
    subnet, limits = _subnet(record.subnet, trust_clients=trust_clients)
    plan = _plan(record, subnet)
    skipped = record.skipped | unsupported_steps(plan, TARGET)
    limits += [f"step left out: {why}" for path, why in skipped.items() if path not in record.skipped]
    for one in records.values():
        limits += one.limits
    if live:
        limits.append(
            "how long the steps took: they follow each other as written, each as fast as the simulator is done with it"
        )
    absent = _without_runs(plan, records)
    recorded = {step: _load_of(one) for step, one in records.items()} | absent
    progress = ScenarioProgress(plan, session)
    stage = SimulatedStage(plan, seed=result.seed, state=state, folder=Path(), recorded=recorded)
    # Older records say it with each run alone.
    early = record.stop_early or any(one.run.request.stop_early for one in records.values())
    runner = ScenarioRunner(
        plan, stage, seed=result.seed, tell=progress.hear, clock=time.monotonic, skipped=skipped, stop_early=early
    )
    trial = await runner.run()
    again = merged(plan, TARGET, [trial], seed=result.seed)
    # Beside the replays, so that they can be carried away as one, too.
    kept = {"subnet": to_document(plan.subnet), "skipped": skipped, "stop_early": early, "result": again}
    keep_record(state, msgspec.structs.replace(record, **kept))
    replayed = {step.name: step.run for step in again.steps if step.run}
    for name in [name for step, load in absent.items() if step in replayed for name, _ in load.payloads]:
        limits.append(other_bytes(name, f"others of {format_size(UNKNOWN_BYTES)}"))
    runs = [_compared(one, _report(state, replayed.get(step)), state, step=step) for step, one in records.items()]
    # What a step expected is judged as a step of the scenario, once.
    runs = [msgspec.structs.replace(one, expectations=[]) for one in runs]
    replay = Replay(
        bundle=str(opened.path), subnet=result.subnet, scenario=result.scenario, target=result.target,
        version=next((one.run.version for one in records.values()), opened.manifest.version), seed=result.seed,
        nodes=result.nodes, verdict="nothing to compare", recorded_verdict=result.verdict, replayed_verdict=again.verdict,
        runs=runs, expectations=_expectations(result, again), digest=beside.digests_beside(result.digest, again.digest),
        not_reproduced=list(dict.fromkeys(limits)), state="cancelled" if trial.interrupted else "finished",
    )  # fmt: skip
    reasons = {one.run.run: one.report.invalid if one.report else [] for one in records.values()}
    judged = _judged(replay, reasons, interrupted=trial.interrupted, invalid=result.invalid)
    return judged, trial.interrupted


def _plan(record: ScenarioRecord, subnet: Subnet) -> ScenarioPlan:
    try:
        return checked_plan(read_scenario(record.scenario).scenario, subnet, nodes_max=nodes_max_of(TARGET))
    except SpecError as error:
        raise BundleError(f"its scenario is wrong: {error}") from None


def _load_of(record: RecordedRun) -> RecordedLoad:
    return RecordedLoad(record.payloads, None if record.simulated else record.planned)


def _without_runs(plan: ScenarioPlan, records: Mapping[str, RecordedRun]) -> dict[str, RecordedLoad]:
    """Steps that publish files and of which no run was recorded: the files are not here."""
    asks = [step.run for step in plan.all() if step.run is not None and step.run.files]
    return {
        ask.name: RecordedLoad([(Path(name).name, UNKNOWN_BYTES) for name in ask.files], None)
        for ask in asks
        if ask.name not in records
    }


def _expectations(recorded: ScenarioRun, again: ScenarioRun) -> list[ReplayedExpectation]:
    replayed = {(one.step, one.name, one.expr): one for one in again.expectations}
    found = []
    for one in recorded.expectations:
        other = replayed.get((one.step, one.name, one.expr))
        again_as = beside.NOT_JUDGED if other is None else JudgedValue(other.value, other.ok, other.judged)
        found.append(beside.beside(one.expr, JudgedValue(one.value, one.ok, one.judged), again_as, step=one.step))
    return found


# --- the document ---


def _subnet(document: Mapping[str, object], *, trust_clients: bool) -> tuple[Subnet, list[str]]:
    """The recorded document as the simulator honours it, and what of it that leaves out."""
    try:
        subnet = load_subnet(document, nodes_max=nodes_max_of(TARGET))
    except SpecError as error:
        raise BundleError(f"its Subnet is wrong: {error}") from None
    own = [one for one in subnet.spec.clients if one.class_ is not None or one.name not in OURS]
    if own and not trust_clients:
        raise CommandError(
            f"client {own[0].name} is code of its own ({own[0].class_ or 'an entry point'}), which a replay imports and runs",
            where=f"Subnet {subnet.name} of the bundle", next_step="if you trust who made the bundle, add --trust-clients",
        )  # fmt: skip
    check_simulated(subnet, less="replay it on a larger machine", what=" of the bundle")
    left, notes = supported(subnet, TARGET, ignore=True)
    clients = [f"client {one.name}: it runs as it is installed here" for one in own]
    return left, [note.removeprefix("ignored: ") for note in notes] + clients


# --- beside each other ---


def _report(state: State, run: str | None) -> Report | None:
    return None if run is None else archive.read_run(state, run)[1]


def _verdict(report: Report | None) -> Verdict | None:
    return None if report is None else report.verdict


def _compared(record: RecordedRun, replayed: Report | None, state: State, *, step: str) -> ReplayedRun:
    recorded, run = record.report, record.run
    found = ReplayedRun(
        run=run.run, step=step, artifacts=len(run.artifacts), recorded_verdict=_verdict(recorded),
        replayed_verdict=_verdict(replayed), replay=replayed.run if replayed else "",
    )  # fmt: skip
    if recorded is None or replayed is None:
        return found
    again = archive.read_run_file(state, replayed.run)
    indexes = published_indexes(state, again)
    mine = {artifact: index for index, (artifact, _) in record.artifacts.items()}
    try:
        before = beside.outcomes((row for rows in receipt_rows(recorded, run, record.state) for row in rows), mine)
        after = beside.outcomes((row for rows in receipt_rows(replayed, again, state) for row in rows), indexes)
    except SpecError as error:
        raise BundleError(f"run {run.run}: {error}") from None
    both = {index: about for index, about in record.artifacts.items() if index in set(indexes.values())}
    return msgspec.structs.replace(
        found, republished=len(both), figures=beside.figures_beside(recorded, replayed),
        misses=beside.misses_of(before, after, both),
        expectations=beside.expectations_beside(recorded, replayed),
        digest=beside.digests_beside(recorded.digest, replayed.digest),
    )  # fmt: skip


def _judged(
    replay: Replay, reasons: Mapping[str, Sequence[str]], *, interrupted: bool, invalid: Sequence[str] = ()
) -> Replay:
    """With its verdict. Equal digests are one history: what was made of it still has to be a verdict, and the same one."""
    if interrupted:  # half a history is another one, which says nothing
        return msgspec.structs.replace(replay, why=["the replay was interrupted"], digest=None)
    same = replay.digest is not None and replay.digest.same
    why = [] if same and _has_verdict(replay) else beside.why_incomparable(replay.runs, reasons)
    if not why and not _has_verdict(replay):
        why = [f"the record is invalid: {next(iter(invalid), 'no reason is recorded')}"]
    if why:
        return msgspec.structs.replace(replay, why=why)
    limits = list(replay.not_reproduced)
    if replay.digest is not None and not same:
        limits.insert(
            0,
            f"the same history: the digests differ (recorded by p2pnet {replay.version}, this is {version('p2pnet')})",
        )
    for one in replay.runs:
        if one.republished < one.artifacts:
            missing = one.artifacts - one.republished
            limits.append(
                f"{missing} of {one.artifacts} artifacts of {one.run}: their publishers were down in the replay"
            )
    why = beside.why_not(replay)
    return msgspec.structs.replace(
        replay, verdict="not reproduced" if why else "reproduced", why=why, not_reproduced=limits
    )


def _has_verdict(replay: Replay) -> bool:
    return replay.recorded_verdict in ("pass", "fail")
