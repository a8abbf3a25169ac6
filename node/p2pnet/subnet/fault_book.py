"""Faults and their times: those of the document, and those that somebody leased from the lab. Pure: `now` is an argument.

`now` is in seconds of a clock that only goes forward, so that a step of the wall clock neither ends nor prolongs a fault. What
a fault does is not known here: `control` puts it in force.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from p2pnet.model.errors import LimitError, SpecError
from p2pnet.model.jobs import FaultTime
from p2pnet.model.report import FaultStatus
from p2pnet.model.units import format_duration
from p2pnet.subnet.faults import describe, is_about_nodes
from p2pnet.subnet.network_spec import FaultSpec

LEASE_MIN_S = 1.0  # a shorter one lapses on a busy machine before it can be renewed
LEASE_MAX_S = 3_600.0  # what a command that was killed leaves behind at most; `--keep` makes it permanent
LEASED_MAX = 64  # in force or waiting, as many as a document may have
ENDED_KEPT = 16  # leased faults that are over and still listed, the latest
RECORD_MAX = 500  # faults that a run remembers: a churn is one of them, not one for each death

CLEARED = "it was cleared"
DONE = "it is done"
LAPSED = "its lease lapsed: nobody renewed it"

ChangeKind = Literal["begun", "ended", "lapsed"]
Origin = Literal["spec", "lease"]
State = Literal["waiting", "active", "ended", "failed"]


class UnknownFaultError(SpecError):
    """A name of no fault that is in force or waits."""


@dataclass(slots=True, eq=False)
class BookedFault:
    """One fault from its order to its end. Times are seconds of the lab's monotonic clock."""

    number: int
    """Its own for good, where a name may be used again."""
    spec: FaultSpec
    origin: Origin
    begins_s: float
    ends_s: float | None
    """By its `for`; None: it has none, or nothing of it lasts."""
    lease_until_s: float | None = None
    """None: nobody has to renew it."""
    begun: bool = False
    over: str = ""
    """Why it ended, a sentence; empty: it has not."""
    over_s: float = 0.0
    nodes: list[str] = field(default_factory=list)
    """Whom it acts on, by the document in force."""
    problem: str = ""
    """Why it acts on nobody, or could not be executed; empty: it does what it should."""
    note: str = ""
    """What else there is to say."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def once(self) -> bool:
        """Whether it is done as soon as it has happened: a restart, and a kill without a time."""
        return self.spec.restart or (self.spec.kill and self.spec.for_ is None)

    @property
    def state(self) -> State:
        """As its status says."""
        if self.problem:
            return "failed"
        return "ended" if self.over else "active" if self.begun else "waiting"

    @property
    def acts(self) -> bool:
        """Whether it is in force now."""
        return self.state == "active"

    @property
    def until_s(self) -> float | None:
        """When it ends by itself; None: it stays."""
        return min((end for end in (self.ends_s, self.lease_until_s) if end is not None), default=None)


@dataclass(frozen=True, slots=True)
class FaultChange:
    """What happened to a fault."""

    kind: ChangeKind
    fault: BookedFault


class FaultBook:
    """All faults. Every method takes the time first into account, so none acts on a fault whose time is over."""

    def __init__(self) -> None:
        self._document: dict[str, BookedFault] = {}
        self._leased: dict[str, BookedFault] = {}
        """By name, in the order they came; some of the latest that are over among them."""
        self._count = 0
        self._changes: list[FaultChange] = []
        self._records: list[dict[int, BookedFault]] = []

    # --- orders ---

    def take(self, faults: Iterable[FaultSpec], now: float) -> None:
        """The faults of the document in force: those that are new or differ begin, those that are gone end."""
        self._pass(now)
        before, self._document = self._document, {}
        for spec in faults:
            known = before.get(spec.name)
            if known is not None and known.spec == spec:
                self._document[spec.name] = before.pop(spec.name)
                continue
            leased = self._leased.get(spec.name)
            if leased is not None and not leased.over:
                self._end(leased, "the document has a fault of its name now", now)
            self._document[spec.name] = self._booked(spec, "spec", now)
        for gone in before.values():
            self._end(gone, CLEARED, now)
        self._pass(now)

    def add(self, spec: FaultSpec, lease_s: float | None, now: float) -> BookedFault:
        """A leased fault. Raises SpecError for a name in use or a lease that makes no sense, LimitError."""
        self._pass(now)
        if spec.name in self.taken():
            raise SpecError(f"there is a fault {spec.name!r} already: choose another name, or clear that one first")
        if sum(not fault.over for fault in self._leased.values()) >= LEASED_MAX:
            raise LimitError(f"{LEASED_MAX} faults are in force or wait already: clear some")
        fault = self._booked(spec, "lease", now)
        if lease_s is not None:
            fault.lease_until_s = now + _checked(lease_s)
        elif fault.ends_s is None and not fault.once:
            raise SpecError(
                f"fault {spec.name} has no end: give it a time (`for`) or a lease, or write it into spec.faults"
            )
        self._leased.pop(spec.name, None)
        self._leased[spec.name] = fault
        self._pass(now)
        return fault

    def renew(self, name: str, lease_s: float, now: float) -> BookedFault:
        """Let a leased fault last for `lease_s` from now on. Raises SpecError for one that is over, or has no lease."""
        self._pass(now)
        fault = self._known(name)
        if fault.origin == "spec":
            raise SpecError(f"fault {name} stands in the document: it has no lease")
        if fault.over:
            raise UnknownFaultError(f"fault {name} has ended ({fault.over}): add it again")
        fault.lease_until_s = now + _checked(lease_s)
        return fault

    def clear(self, name: str, now: float) -> BookedFault:
        """End a leased fault. Raises UnknownFaultError; SpecError for one of the document, whose edit clears it."""
        self._pass(now)
        fault = self._known(name)
        if fault.origin == "spec":
            raise SpecError(f"fault {name} stands in the document: take it out of spec.faults")
        if fault.over:
            raise UnknownFaultError(f"fault {name} has ended already ({fault.over})")
        self._end(fault, CLEARED, now)
        return fault

    def clear_leased(self, now: float) -> None:
        """End all leased faults."""
        self._pass(now)
        for fault in list(self._leased.values()):
            if not fault.over:
                self._end(fault, CLEARED, now)

    def done(self, fault: BookedFault, now: float) -> None:
        """What it does once is done."""
        if not fault.over:
            self._end(fault, DONE, now)

    def aim(self, victims: Callable[[FaultSpec], list[str]]) -> None:
        """The document or its members have changed: find anew whom every fault acts on.

        `victims` raises SpecError for a fault that acts on nobody any more: that one has failed until it does again.
        """
        for fault in self._all():
            if not fault.over:
                try:
                    fault.nodes, fault.problem = victims(fault.spec), ""
                except SpecError as error:
                    fault.nodes, fault.problem = [], str(error)

    # --- time ---

    def due(self, now: float) -> list[FaultChange]:
        """What has happened since the last call, in its order."""
        self._pass(now)
        changes, self._changes = self._changes, []
        return changes

    def next_s(self) -> float | None:
        """When something happens by itself; None: nothing will."""
        times = (
            time_s
            for fault in self._all()
            if not fault.over
            for time_s in (None if fault.begun else fault.begins_s, fault.until_s)
        )
        return min((time_s for time_s in times if time_s is not None), default=None)

    # --- reading ---

    def active(self, now: float, *, origin: Origin | None = None) -> list[BookedFault]:
        """The faults in force, of the document first; with `origin` those of one kind."""
        self._pass(now)
        return [fault for fault in self._all() if fault.acts and origin in (None, fault.origin)]

    def all(self) -> list[BookedFault]:
        """All faults: of the document, then leased ones in the order they came, the latest that are over among them."""
        return list(self._all())

    def taken(self) -> set[str]:
        """Names of all faults that are not over, and of all in the document."""
        return {*self._document, *(name for name, fault in self._leased.items() if not fault.over)}

    def is_of_document(self, name: str) -> bool:
        """Whether a fault stands in the document."""
        return name in self._document

    def record(self) -> dict[int, BookedFault]:
        """A mapping by number of the faults in force, which those that begin from now on are put into, see `forget`."""
        record = {fault.number: fault for fault in self._all() if fault.acts}
        self._records.append(record)
        return record

    def forget(self, record: dict[int, BookedFault]) -> None:
        """Put no more faults into a record."""
        self._records = [one for one in self._records if one is not record]

    # --- within ---

    def _all(self) -> Iterator[BookedFault]:
        yield from self._document.values()
        yield from self._leased.values()

    def _booked(self, spec: FaultSpec, origin: Origin, now: float) -> BookedFault:
        begins_s = now + (spec.after.seconds if spec.after else 0.0)
        ends_s = begins_s + spec.for_.seconds if spec.for_ else None
        self._count += 1
        return BookedFault(self._count, spec, origin, begins_s, ends_s)

    def _known(self, name: str) -> BookedFault:
        fault = self._document.get(name) or self._leased.get(name)
        if fault is None:
            raise UnknownFaultError(f"there is no fault {name!r}")
        return fault

    def _pass(self, now: float) -> None:
        """Let all happen that was due until now."""
        for fault in list(self._all()):
            if not fault.begun and not fault.over and fault.begins_s <= now:
                self._begin(fault)
            until_s = fault.until_s
            if not fault.over and until_s is not None and until_s <= now:
                lapsed = fault.ends_s is None or until_s < fault.ends_s
                self._end(fault, LAPSED if lapsed else "its time is over", until_s, lapsed=lapsed)

    def _begin(self, fault: BookedFault) -> None:
        fault.begun = True
        self._changes.append(FaultChange("begun", fault))
        for record in self._records:
            if len(record) < RECORD_MAX:
                record[fault.number] = fault

    def _end(self, fault: BookedFault, why: str, now: float, *, lapsed: bool = False) -> None:
        if fault.over:
            return
        fault.over, fault.over_s = why, now
        self._changes.append(FaultChange("lapsed" if lapsed else "ended", fault))
        if fault.origin == "lease":
            over = [one.name for one in self._leased.values() if one.over]
            for name in over[: max(0, len(over) - ENDED_KEPT)]:
                del self._leased[name]


def status_of_fault(fault: BookedFault, now: float, wall_s: float) -> FaultStatus:
    """A fault as people are told of it. `wall_s`: Unix seconds at `now`."""

    def at(time_s: float | None) -> str | None:
        if time_s is None:
            return None
        return datetime.fromtimestamp(wall_s + time_s - now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    waits = f"begins in {format_duration(fault.begins_s - now)}" if fault.state == "waiting" else ""
    return FaultStatus(
        name=fault.name, what=describe(fault.spec), origin=fault.origin, state=fault.state, nodes=list(fault.nodes),
        since=at(fault.begins_s) if fault.begun else None, until=at(fault.over_s if fault.over else fault.until_s),
        detail="; ".join(filter(None, (fault.problem, fault.over or waits, fault.note))),
    )  # fmt: skip


def time_of_fault(fault: BookedFault, run_began_s: float) -> FaultTime:
    """When it was in force, counted from the begin of a run, which is given on the book's clock."""
    item: dict[str, object] = fault.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    ended_s = fault.over_s - run_began_s if fault.over else None
    return FaultTime({**item, "name": fault.name}, fault.begins_s - run_began_s, ended_s)


def acts_on_nodes(fault: BookedFault) -> bool:
    """Whether it is done to processes, not to links."""
    return is_about_nodes(fault.spec)


def _checked(lease_s: float) -> float:
    if not LEASE_MIN_S <= lease_s <= LEASE_MAX_S:
        raise SpecError(f"a lease of {lease_s:g} s: {LEASE_MIN_S:.0f} to {LEASE_MAX_S:.0f} seconds")
    return lease_s
