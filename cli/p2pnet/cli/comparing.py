"""Two versions measured beside each other: paired simulated trials until they decide, or the artifacts of two kept runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.run_receipts import receipt_rows
from p2pnet.cli.session import Session
from p2pnet.cli.trial_worker import TrialJob
from p2pnet.cli.trials import TrialResults, run_trials
from p2pnet.measure import comparison
from p2pnet.measure.comparison import Pair
from p2pnet.measure.gates import ChangeGate
from p2pnet.model.comparison import GateResult, MachineLoad, PairLost
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.store import State, archive
from p2pnet.store.heads import RunHead

ROOTS = ("node", "operator", "cli")
"""Where the modules of a checkout are."""
NEEDED = {
    "sim": ("node/p2pnet/broadcast", "cli/p2pnet/cli/trial_worker.py"),
    "local": ("node/p2pnet/node", "node/p2pnet/supervisor", "cli/p2pnet/lab/__main__.py"),
}
"""By target: without these the modules that are installed would be measured instead, unnoticed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One side of paired trials."""

    job: TrialJob
    python_path: Sequence[Path] = ()
    """Where its modules are; none: those of this program."""


@dataclass(slots=True)
class Paired:
    """What paired trials gave."""

    pairs: list[Pair] = field(default_factory=list)
    lost: list[PairLost] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)
    machine: MachineLoad | None = None


def checkout_path(folder: Path, target: str) -> list[Path]:
    """The folders of modules in a checkout of p2pnet. CommandError (exit 2) for any other folder."""
    missing = [name for name in NEEDED[target] if not (folder / name).exists()]
    if missing:
        raise CommandError(
            f"{folder} is no checkout of this program that can run trials: it has no {missing[0]}",
            where=str(folder), next_step="name a Subnet document, a run, or the folder of a checkout, such as a git worktree",
        )  # fmt: skip
    return [folder / root for root in ROOTS if (folder / root).is_dir()]


async def paired_trials(
    base: Contender, head: Contender, gates: Sequence[ChangeGate], *, seed: int, most: int, jobs: int, session: Session
) -> Paired:
    """Both with equal seeds from `seed` on, until the gates are decided or `most` pairs are measured. Raises SpecError."""
    done, measured = Paired(), 0
    for look in comparison.looks(most):
        seeds = range(seed + measured, seed + look)
        results: list[TrialResults] = []
        for side, contender in (("BASE", base), ("HEAD", head)):
            what = f"{side} trials {measured + 1} to {look} of {most} at most"
            results.append(
                await run_trials(contender.job, seeds, jobs, session, python_path=contender.python_path, what=what)
            )
            if results[-1].interrupted:
                done.interrupted = True
                break
        if len(results) == 2:
            pair_up(results[0], results[1], done)
        measured = look
        done.gates = comparison.judge(done.pairs, gates, most=most)
        if done.interrupted or done.lost or comparison.is_decided(done.gates):
            break
    return done


def pair_up(base: TrialResults, head: TrialResults, done: Paired) -> None:
    """Add what trials of both sides under the same seeds gave."""
    sides: list[tuple[comparison.SideName, TrialResults]] = [("base", base), ("head", head)]
    for name, results in sides:
        done.lost += [PairLost(name, one.seed, one.error) for one in results.failed]
        done.lost += [PairLost(name, one.seed, one.invalid[0]) for one in results.reports if one.verdict == "invalid"]
    heads = {report.seed: report for report in head.reports if report.verdict != "invalid"}
    for report in base.reports:
        other = heads.get(report.seed)
        if other is not None and report.verdict != "invalid":
            done.pairs.append(Pair(report.seed, report, other))
    done.pairs.sort(key=lambda pair: pair.seed)
    done.lost.sort(key=lambda one: (one.seed, one.side))  # trials beside each other end in any order


# --- kept runs ---


def latencies_of(head: RunHead, state: State) -> tuple[RunFile, Report, list[list[float]]]:
    """A kept run, and per artifact its latencies in ms: one for each receipt that was expected, infinite where it is missing.

    CommandError (exit 2) for a run that goes on or whose events are gone.
    """
    try:
        run, report = archive.read_run(state, head.run)
        if report is None:
            raise SpecError(f"run {head.run} has not ended")
        latencies: dict[str, list[float]] = {}
        for rows in receipt_rows(report, run, state):
            for row in rows:
                if row.state != "unknown":
                    came = row.state == "received" and row.latency_ms is not None
                    latencies.setdefault(row.artifact, []).append(row.latency_ms or 0.0 if came else math.inf)
    except (SpecError, OSError) as error:
        raise CommandError(
            f"run {head.run} cannot be compared: {error}", where=str(state.run(head.run)),
            next_step=f"p2pnet report {head.subnet} {head.run} shows what there is; or name another run",
        ) from None  # fmt: skip
    return run, report, list(latencies.values())


def windows_overlap(base: Report, head: Report) -> bool:
    """Whether two live runs went on at the same time, and so took the machine from each other."""
    live = base.target != "sim" and head.target != "sim"
    ends = [report.started_at + report.duration_s for report in (base, head)]
    return live and base.started_at < ends[1] and head.started_at < ends[0]


def starved(report: Report) -> list[str]:
    """What the run's time series says of processes that waited for a core."""
    return [f"{one.node}: {one.what}" for one in report.findings if one.kind == "starved"]
