"""A recorded run, read from a bundle that was checked: what of it can be done again, and what cannot.

What stands in its documents is somebody else's: numbers that make no sense are a BundleError, publications that cannot be are
left out and counted.
"""

from dataclasses import dataclass, field

from p2pnet.cli.replay_limits import live_limits, simulated_limits
from p2pnet.measure import injection
from p2pnet.measure.expectations import parse
from p2pnet.measure.injection import Planned
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload, RunFile
from p2pnet.model.report import Report
from p2pnet.sim.simulate import TARGET
from p2pnet.store import State, archive
from p2pnet.store.bundle_format import BundleError
from p2pnet.store.simulated import published_indexes, published_payload

UNKNOWN_BYTES = 64 << 10  # of a published file whose size nothing tells
SPAN_S_MAX = 7 * 86_400.0  # from the begin of a run to its last publication, or the end of a fault
SEED_MAX = 1 << 63


@dataclass(slots=True)
class RecordedRun:
    """One recorded run, and what of it can be done again."""

    run: RunFile
    report: Report | None
    state: State
    planned: list[Planned] = field(default_factory=list)
    """What a live run published when, by time."""
    artifacts: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Id and name of each artifact by its index in the replay."""
    payloads: list[tuple[str, bytes | int]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    """What cannot be had again of it, a sentence each."""

    @property
    def published_bytes(self) -> int:
        """All that it published, together."""
        if self.planned:
            return sum(one.size for one in self.planned)
        sizes = [data if isinstance(data, int) else len(data) for _, data in self.payloads]
        return (
            sum(sizes) * self.run.request.count * (len(self.run.honest) if self.run.request.publisher == "all" else 1)
        )

    @property
    def simulated(self) -> bool:
        """Whether the simulator made it."""
        return self.run.target == TARGET


def read_recorded(state: State, run_id: str) -> RecordedRun:
    """A recorded run. Raises BundleError for one whose numbers make no sense."""
    run, report = archive.read_run(state, run_id)
    _check(run)
    record = RecordedRun(run, report, state)
    if record.simulated:
        indexes = published_indexes(state, run)
        names = dict(zip(run.artifacts, run.names, strict=False))
        record.artifacts = {
            indexes.get(artifact, number): (artifact, names.get(artifact, ""))
            for number, artifact in enumerate(run.artifacts)
        }
        record.payloads, missing = _kept_payloads(state, run)
        record.limits = simulated_limits(run, missing)
        return record
    record.planned, record.artifacts = _publications(state, run)
    sizes = {one.name: one.size for one in record.planned}
    record.payloads = [(one.name, one.size or sizes.get(one.name, 1)) for one in run.request.payloads]
    record.limits = live_limits(state, run, report, unpublished=len(run.artifacts) - len(record.artifacts))
    return record


def _kept_payloads(state: State, run: RunFile) -> tuple[list[tuple[str, bytes | int]], list[str]]:
    """What a simulated run published, and the names of files that the bundle has not: other bytes stand for them."""
    payloads: list[tuple[str, bytes | int]] = []
    missing = []
    for number, one in enumerate(run.request.payloads):
        data: bytes | int = one.size
        if one.upload:
            found = published_payload(state, run, number)
            if isinstance(found, int):
                missing.append(one.name)
            data = found or UNKNOWN_BYTES
        payloads.append((one.name, data))
    return payloads, missing


def _publications(state: State, run: RunFile) -> tuple[list[Planned], dict[int, tuple[str, str]]]:
    """What a live run published when, by time; and which artifact that was, by index."""
    if run.artifacts:
        _check_events(state, run)
    names = dict(zip(run.artifacts, run.names, strict=False))
    known = dict.fromkeys(run.artifacts)
    events = {
        event.artifact: event
        for event in archive.iter_events(state.run(run.run), kind=EventKind.PUBLISHED)
        if event.artifact in known and _can_be(event, run)
    }
    if run.started_at is not None and run.unix_offset_s is not None:
        begins_ns = round((run.started_at - run.unix_offset_s) * 1e9)
    else:
        begins_ns = min((event.t_ns for event in events.values()), default=0)
    if max((event.t_ns - begins_ns for event in events.values()), default=0) > SPAN_S_MAX * 1e9:
        raise BundleError(f"run {run.run}: a publication more than {SPAN_S_MAX / 86_400:.0f} days after its begin")
    planned: list[Planned] = []
    artifacts: dict[int, tuple[str, str]] = {}
    for event in sorted(events.values(), key=lambda event: (event.t_ns, event.artifact)):
        index, name = len(planned), names.get(event.artifact, "")
        planned.append(
            Planned(
                index, name, event.bytes, event.node, max(0, event.t_ns - begins_ns), Payload(name, size=event.bytes)
            )
        )
        artifacts[index] = (event.artifact, name)
    return planned, artifacts


def _check_events(state: State, run: RunFile) -> None:
    try:
        archive.check_events(state, run.run)
    except SpecError as error:
        raise BundleError(f"{error}: what was published when is not known") from error


def _can_be(event: Collected, run: RunFile) -> bool:
    """Whether a publication can be made again: by a member, of a size that an artifact may have."""
    return event.node in run.nodes and 0 < event.bytes <= limits.ARTIFACT_BYTES_MAX


def _check(run: RunFile) -> None:
    request = run.request
    times = [time_s for one in run.fault_times or () for time_s in (one.begun_s, one.ended_s) if time_s is not None]
    try:
        injection.check(request, run.nodes, len(run.honest))
        for expression in request.expect:
            parse(expression)
        if not 0 <= run.seed < SEED_MAX:
            raise SpecError(f"seed {run.seed}: from 0 to {SEED_MAX - 1}")
        if run.until_s is not None and not 0 < run.until_s <= SPAN_S_MAX:
            raise SpecError(f"it was to end after {run.until_s:g} s: at most {SPAN_S_MAX:g} s")
        if not all(abs(time_s) <= SPAN_S_MAX for time_s in times):
            raise SpecError(f"a fault more than {SPAN_S_MAX:g} s from its begin")
        if not all(abs(time_s or 0.0) < 1e12 for time_s in (run.started_at, run.unix_offset_s)):
            raise SpecError("its times are none")
    except SpecError as error:
        raise BundleError(f"run {run.run}: {error}") from None
