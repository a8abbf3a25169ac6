"""A run of the simulator that is over, on disk as live runs are."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version

import msgspec

from p2pnet.measure.injection import payload_number
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.sim.simulate import SimLoad, SimOutcome
from p2pnet.store import State, retention
from p2pnet.store.simulated import PublishedArtifact, SimulatedRun, digest_of


def keep(kept: SimulatedRun, outcome: SimOutcome, load: SimLoad, began: float) -> Report:
    """The report under the run's id, on disk with everything else of the run."""
    run = msgspec.structs.replace(
        outcome.run,
        run=kept.run,
        version=version("p2pnet"),
        created_at=began,
        started_at=began,
        finished_at=time.time(),
    )
    notes = list(outcome.report.notes)
    if kept.events_left_out:
        notes.append(f"{kept.events_left_out} events were too many to be kept: trace and CSV do not show them")
    report = msgspec.structs.replace(outcome.report, run=kept.run, started_at=began, label=run.label, notes=notes)
    files = {number: data for number, (_, data) in enumerate(load.payloads) if isinstance(data, bytes)}
    kept.keep_payloads(files, _published(run, outcome, files))
    kept.end(run, report)
    return report


def _published(run: RunFile, outcome: SimOutcome, files: Mapping[int, bytes]) -> Iterable[PublishedArtifact]:
    digests = {number: digest_of(data) for number, data in files.items()}
    for artifact, planned in outcome.payloads.planned.items():
        number = payload_number(run.request, planned.index, len(run.honest))
        yield PublishedArtifact(artifact, planned.index, number, planned.size, digests.get(number, ""))


def retain(state: State) -> None:
    """Remove the runs beyond the limits, as a lab does when a run has ended; limits that cannot be read remove nothing."""
    with contextlib.suppress(SpecError, OSError):
        retention.apply(state, retention.limits_of(os.environ), time.time())
