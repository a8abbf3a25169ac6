"""A run in virtual time as it was recorded: its own publications and faults at their own times, not planned ones."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

from p2pnet.measure.injection import Planned
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected
from p2pnet.model.jobs import FaultTime
from p2pnet.sim.quantities import NS
from p2pnet.sim.timeline import without_collections
from p2pnet.sim.virtual_run import SimLoad, SimOutcome, SimProgress
from p2pnet.sim.virtual_subnet import CALLS_PER_LOOK, VirtualSubnet
from p2pnet.subnet.spec import Subnet

BEFORE_S = 30.0  # of virtual time before the run in which faults begin that were in force at its begin, at most
LASTING_S = 86_400.0  # the `for` of a fault that was in force at the end


class Recording(NamedTuple):
    """What happened in a run. Times count from its begin."""

    planned: Sequence[Planned]
    """By time."""
    faults: Sequence[FaultTime]


class _Change(NamedTuple):
    at_ns: int
    """From the begin of the run."""
    number: int
    """Its place: of equal times the one that was recorded first."""
    begins: Mapping[str, object] | None
    """The fault that begins; None: the one called `name` ends."""
    name: str


def simulate_recorded(
    subnet: Subnet,
    load: SimLoad,
    recording: Recording,
    *,
    seed: int,
    on_progress: Callable[[SimProgress], None] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    on_events: Callable[[list[Collected]], None] | None = None,
) -> SimOutcome:
    """As `simulate`, with what was recorded in the place of what the load plans. The document has no `spec.faults`.

    Raises SpecError for a recorded fault that cannot be in this subnet.
    """
    kept: list[Collected] = []
    there = VirtualSubnet(subnet, seed=seed, client=load.client)
    started = perf_counter()
    with without_collections() as collect:
        while not is_stopped() and not there.come_to_rest():
            collect(CALLS_PER_LOOK)
        there.begin_faults()
        agenda = _changes(recording.faults)
        begins_ns = there.now + max([0, *(-change.at_ns for change in agenda)])
        agenda = [change._replace(at_ns=change.at_ns + begins_ns) for change in agenda]
        while there.now < begins_ns and not is_stopped():
            _change_due(there, agenda)
            there.advance(min([begins_ns, *(change.at_ns for change in agenda[:1])]))
            collect(CALLS_PER_LOOK)
        run = there.make_run(load, seed=seed, write=on_events or kept.extend, planned=recording.planned)
        run.begin(there.watch_faults)
        while not run.is_over:
            _change_due(there, agenda)
            there.advance(agenda[0].at_ns if agenda else None)
            collect(CALLS_PER_LOOK)
            if on_progress is not None:
                on_progress(run.progress(perf_counter() - started))
            if is_stopped() and not run.is_over:
                run.interrupt()
    return run.outcome(kept)


def _change_due(there: VirtualSubnet, agenda: list[_Change]) -> None:
    while agenda and agenda[0].at_ns <= there.now and not there.is_mid_instant:
        change = agenda.pop(0)
        if change.begins is not None:
            there.add_fault(change.begins)
        else:
            with suppress(SpecError):  # it ended by itself at the same time
                there.clear_fault(change.name)


def _changes(faults: Sequence[FaultTime]) -> list[_Change]:
    """When faults begin and end, by time."""
    found = []
    for number, one in enumerate(faults):
        begins_s = max(one.begun_s, -BEFORE_S)
        if one.ended_s is not None and one.ended_s <= begins_s and not _is_once(one.fault):
            continue
        item = {key: value for key, value in one.fault.items() if key != "after"}
        name = str(item["name"])
        if "for" in item:  # it ends by itself, and a kill without a time would be another fault
            lasts_s = LASTING_S if one.ended_s is None else one.ended_s - begins_s
            item["for"] = f"{lasts_s:.6f}s"
        elif one.ended_s is not None and not _is_once(one.fault):
            found.append(_Change(round(one.ended_s * NS), number, None, name))
        found.append(_Change(round(begins_s * NS), number, item, name))
    return sorted(found, key=lambda change: (change.at_ns, change.begins is not None, change.number))


def _is_once(fault: Mapping[str, object]) -> bool:
    """Whether it is over as soon as it is done."""
    return bool(fault.get("restart")) or (bool(fault.get("kill")) and "for" not in fault)
