"""One run in a subnet in virtual time: what it publishes when, when it is over, and its report."""

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from p2pnet.broadcast.manager import PublicationRefusedError
from p2pnet.measure import RunMeasure, facts_of, parse
from p2pnet.measure.early import DRAIN_S, EarlyWatch
from p2pnet.measure.injection import Planned, payload_seed, plan, publishers_seed, unpublished_notes
from p2pnet.model.errors import LocalError
from p2pnet.model.events import Collected
from p2pnet.model.ids import client_among
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.report import Report, StoppedEarly
from p2pnet.model.units import format_duration
from p2pnet.sim.context import EPOCH
from p2pnet.sim.published import PublishedPayloads
from p2pnet.sim.quantities import NS
from p2pnet.sim.run_events import RunEvents
from p2pnet.sim.subnet_faults import FaultWatch
from p2pnet.sim.subnet_world import SubnetWorld
from p2pnet.subnet.document import in_force
from p2pnet.subnet.members import adversaries, cut_off_notes, members
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import ignored

TARGET = "sim"
SETTLE_S = 2.0  # virtual time after the last receipt for what is still under way, at most: some clients never rest
NOTES = (
    "simulated: the broadcast and its clients, by the code that live nodes run, in virtual time",
    "modelled: the network between nodes, message by message, with the headers of their packets; starts and deaths of nodes",
    "left out: the time that nodes compute, certificates, and how nodes find each other",
)


class SimLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What is injected, as `p2pnet inject` has it."""

    payloads: list[tuple[str, bytes | int]]
    """Name, and bytes or the size of generated ones, each `count` times."""
    count: int = 1
    rate_per_s: float | str | None = None
    """Artifacts per second, or stages as `measure.pace` reads them; None: all at once."""
    sender: str = "random"
    """A node's name, `random` (seeded) or `all`."""
    within_s: float = 60.0
    """Virtual seconds after the last publication in which a receipt counts."""
    expectations: list[str] = []
    client: str = ""
    """The client that publishes; empty: the subnet's `blob`, or its first client."""
    label: str = ""
    made_label: bool = False
    """Whether a scenario made the label."""
    shared: bool = False
    """Beside other runs, which the report says."""
    stop_early: bool = False
    """End it as soon as one of its expectations can hold no more."""


class SimProgress(msgspec.Struct, frozen=True):
    """How far a run is. Seconds since its begin, virtual and of the wall clock."""

    virtual_s: float
    wall_s: float
    published: int
    asked: int
    receipts: int
    expected: int


class SimOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gave."""

    report: Report
    """Its `run` is empty: whoever keeps it gives it an id. Times are virtual: the world begins at `EPOCH`."""
    run: RunFile
    """As a live run's run.json, also without an id; `version` is empty."""
    events: list[Collected]
    """In time order, as a live run's archive has them; empty where `on_events` took them."""
    payloads: PublishedPayloads
    """The bytes that were published, by artifact id in hex."""
    interrupted: bool


class VirtualRun:
    """One run from its plan to its outcome. Times are nanoseconds since the start of the world.

    Whoever lets time pass calls `begin` once, `publish_due` whenever it has passed, and looks at `is_over`. `suffix`: what the
    names of the publishing client's nodes end in. `write`: is given the run's events. `planned`: what it publishes, by time,
    as far as its publishers are members; None: what the load means. Raises SpecError for a load that cannot be published.
    """

    def __init__(
        self,
        subnet: Subnet,
        there: SubnetWorld,
        load: SimLoad,
        *,
        seed: int,
        write: Callable[[list[Collected]], None],
        until_s: float | None = None,
        suffix: str = "",
        planned: Sequence[Planned] | None = None,
    ) -> None:
        client = client_among([one.name for one in subnet.spec.clients], load.client)
        request, sizes = _request_of(load, client)
        for expression in load.expectations:
            parse(expression)
        names = [name for name, _ in members(subnet)]
        self.suffix = suffix
        self._subnet = subnet
        self._load = load
        self._seed = seed
        self._until_s = until_s
        there_are = adversaries(subnet)
        dishonest = {name for group in there_are for name in group.nodes}
        honest = [name for name in names if name not in dishonest]
        self._measure = RunMeasure(honest)
        self.log = RunEvents(self._measure, client, write)
        if planned is None:
            self._planned = plan(request, names, sizes, Random(publishers_seed(seed)).randrange, dishonest)
        else:
            self._planned = [one for one in planned if one.publisher in frozenset(names)]
        self._expected = sum(len(honest) - (one.publisher not in dishonest) for one in self._planned)
        self._early = EarlyWatch(self._measure, load.expectations, self._planned, honest) if load.stop_early else None
        self._next_look = 0
        """When to look next whether an expectation can hold no more."""
        self._stopped: StoppedEarly | None = None
        self._stopped_at = 0
        self._world, self._network, self._faults, _ = there
        self._file = RunFile(
            run="", subnet=subnet.name, target=TARGET, seed=seed, request=request, created_at=EPOCH, nodes=names,
            version="", spec=in_force(subnet, TARGET), label=load.label, ignored=ignored(subnet, TARGET),
            unix_offset_s=EPOCH, adversaries=there_are, until_s=until_s,
        )  # fmt: skip
        self._next = 0
        """Index of the artifact to publish next."""
        self._begins = 0
        self._sent_before = 0
        self._watch: FaultWatch | None = None
        self._links = self._network.watch()
        self.interrupted = False
        self.is_at_rest = False
        """Everything is delivered, and nothing under way."""
        self._invalid: list[str] = []
        self.payloads = PublishedPayloads(self._bytes_of)
        self._names: list[str] = []
        self._unpublished: dict[str, int] = {}
        """By publisher: artifacts that were not published, because a fault kept it from working."""

    def begin(self, watch: Callable[[], FaultWatch]) -> None:
        """It begins now. `watch` gives that of the faults, which may begin with it."""
        self._begins = self._now
        self._next_look = EarlyWatch.next_look_ns(self._begins, self._begins)
        self.log.begin()
        self._watch = watch()
        self._sent_before = self._world.wire_bytes

    # The way to the end

    @property
    def _now(self) -> int:
        return round(self._world.now * NS)

    @property
    def due(self) -> int | None:
        """When it has something to do next, a publication or its end; None: not known yet."""
        due = []
        if self._next < len(self._planned):
            due.append(self._begins + self._planned[self._next].due_ns)
        if (ends := self._ends) is not None:
            due.append(ends)
        if self._early is not None:
            due.append(self._next_look)
        return min(due, default=None)

    @property
    def _ends(self) -> int | None:
        """When the run is over at the latest; None: not known before the last publication."""
        ends = [self._begins + int(self._until_s * NS)] if self._until_s is not None else []
        if self._next == len(self._planned) or self._invalid:
            ends.append(self._last_published + int(self._load.within_s * NS))
        if self._stopped is not None:
            ends.append(self._stopped_at + int(min(DRAIN_S, self._load.within_s) * NS))
        if self.is_complete:
            ends.append(max(self.log.last_receipt_ns, self._last_published) + int(SETTLE_S * NS))
        return min(ends, default=None)

    @property
    def _last_published(self) -> int:
        return self._begins + (self._planned[max(0, self._next - 1)].due_ns if self._planned else 0)

    @property
    def is_complete(self) -> bool:
        """Whether all is published and delivered."""
        return self._next == len(self._planned) and self._measure.delivered >= self._measure.awaited

    @property
    def is_over(self) -> bool:
        """Whether nothing that happens from now on counts."""
        if self.interrupted or self.is_at_rest or self._invalid:
            return True
        # What happens at the end's own instant is part of the run.
        ends = self._ends
        return ends is not None and self._now >= ends and not self._world.is_mid_instant

    def publish_due(self) -> None:
        """Publish what is due by now, if there is still something to find out."""
        self._look_ahead()
        while self._next < len(self._planned) and not self._invalid:
            planned = self._planned[self._next]
            if self._begins + planned.due_ns > self._now:
                return
            self._publish(planned)

    def _look_ahead(self) -> None:
        """Publish nothing more once an expectation can hold no more. When it looks depends on virtual time alone."""
        if self._early is None or self._watch is None or self._now < self._next_look:
            return
        self._next_look = self._early.next_look_ns(self._begins, self._now)
        excused = {*self._watch.lost_until_ns(), *filter(self._faults.has_down, self._measure.nodes)}
        lost = self._early.look(self._now, excused=excused)
        if lost is None:
            return
        self._stopped = StoppedEarly(
            expr=lost.expr,
            artifacts=len(self._names),
            asked=len(self._planned),
            after_s=(self._now - self._begins) / NS,
        )
        self._early, self._stopped_at = None, self._now
        self._planned = self._planned[: self._next]

    def _publish(self, planned: Planned) -> None:
        self._next += 1
        if self._faults.has_down(planned.publisher):
            self._unpublished[planned.publisher] = self._unpublished.get(planned.publisher, 0) + 1
            return
        data = self._bytes_of(planned)
        self.log.publishing = True
        try:
            node = self._world.nodes[planned.publisher + self.suffix]
            artifact = node.publish(data, keep=self._subnet.spec.broadcast.keep.seconds, name=planned.name)
        except LocalError as error:
            code = f"{error.code}: " if isinstance(error, PublicationRefusedError) else ""
            self._invalid.append(
                f"not everything could be published: {planned.publisher} refused {planned.name}: {code}{error}"
            )
            return
        finally:
            self.log.publishing = False
        self.payloads.planned[artifact.hex()] = planned
        self._names.append(planned.name)

    def _bytes_of(self, planned: Planned) -> bytes:
        if planned.payload.upload:
            data = self._load.payloads[int(planned.payload.upload)][1]
            assert isinstance(data, bytes)  # noqa: S101 - as `_request_of` says
            return data
        return Random(payload_seed(self._seed, planned.index, planned.size)).randbytes(planned.size)

    @property
    def _not_due(self) -> int:
        """Artifacts that were due after the end that was asked for."""
        if self._until_s is None or self.interrupted or self._invalid:
            return 0
        return len(self._planned) - self._next

    def _why_not_all(self, not_due: int) -> list[str]:
        """A run that published less than it was to is no measurement of what was asked, even if that was asked, too."""
        if not not_due:
            return []
        end, later = (
            format_duration(self._until_s or 0.0),
            f"{not_due} of {len(self._planned)} artifacts were due later",
        )
        return [f"the run ended after {end} of virtual time, as asked: {later}"]

    def _notes(self) -> list[str]:
        """What there is to say beside the figures, what is simulated and what is modelled last."""
        clients, notes = [one.name for one in self._subnet.spec.clients], []
        if len(clients) > 1:
            notes.append(f"bytes sent are those of all clients ({', '.join(clients)})")
        notes += [*cut_off_notes(self._subnet), *unpublished_notes(self._unpublished)]
        return [*notes, *self._network.plan.notes, *NOTES]

    def interrupt(self) -> None:
        """End it with what there is."""
        self.interrupted = True
        after = format_duration(self._now / NS - self._begins / NS)
        self._invalid.append(
            f"interrupted after {after} of virtual time: {self._next} of {len(self._planned)} artifacts published,"
            f" {self._measure.delivered} of {self._expected} receipts in"
        )

    # What it gave

    def progress(self, wall_s: float) -> SimProgress:
        """How far it is."""
        return SimProgress(
            (self._now - self._begins) / NS, wall_s, self._next, len(self._planned), self._measure.delivered,
            self._expected,
        )  # fmt: skip

    def outcome(self, kept: list[Collected]) -> SimOutcome:
        """What it gave, now that it is over. `kept`: its events, where nobody else took them."""
        self.log.flush()
        report = self._report()
        file = msgspec.structs.replace(
            self._file, state=report.state, started_at=EPOCH + self._begins / NS, finished_at=EPOCH + self._now / NS,
            artifacts=list(self.payloads), names=self._names, faults=report.faults,
        )  # fmt: skip
        return SimOutcome(report=report, run=file, events=kept, payloads=self.payloads, interrupted=self.interrupted)

    def _report(self) -> Report:
        assert self._watch is not None  # noqa: S101 - a run that never began has no outcome
        watch, not_due = self._watch, self._not_due
        facts = facts_of(
            self._file, asked=len(self._planned) - sum(self._unpublished.values()) - not_due,
            sent=self._world.wire_bytes - self._sent_before,
            invalid=[*self._invalid, *self._why_not_all(not_due), *self._faults.problems()], digest=self._world.digest(),
            notes=self._notes(),
            state="cancelled" if self.interrupted else "finished", started_at=EPOCH + self._begins / NS,
            faults=watch.statuses(self._world.now), lost_until_ns=watch.lost_until_ns(), stopped_early=self._stopped,
        )  # fmt: skip
        watch.close()
        self._links.close()
        return msgspec.structs.replace(self._measure.report(facts), network=self._links.rows)


def _request_of(load: SimLoad, client: str) -> tuple[RunRequest, dict[str, int]]:
    """The load as a live run's request, and the sizes of its uploads, which are named by their numbers."""
    payloads, sizes = [], {}
    for index, (name, data) in enumerate(load.payloads):
        if isinstance(data, bytes):
            sizes[str(index)] = len(data)
            payloads.append(Payload(name, upload=str(index)))
        else:
            payloads.append(Payload(name, size=data))
    request = RunRequest(
        payloads, load.count, load.rate_per_s, load.sender, within_s=load.within_s, expect=load.expectations,
        shared=load.shared, client=client, label=load.label, made_label=load.made_label, stop_early=load.stop_early,
    )  # fmt: skip
    return request, sizes
