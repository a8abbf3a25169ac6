"""Events in, report out: the journeys of a run's artifacts, the arithmetic of the report contract, and the verdict.

`RunMeasure` learns as events come in; `RunMeasure.report` counts every receipt once, judges the expectations and gives
the `Report`. What events cannot tell (who asked for what, how well clocks are known) is in `RunFacts`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from p2pnet.measure.expectations import all_of
from p2pnet.measure.pace import mean_per_s, pace_of
from p2pnet.measure.wording import measured, stage_notes, stopped_words
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import RunFile, artifacts_asked
from p2pnet.model.report import (
    ByteCost,
    ExpectationResult,
    FaultStatus,
    Hops,
    Latency,
    Load,
    NodeReceipts,
    Reach,
    Report,
    StageFigures,
    StoppedEarly,
    Throughput,
)
from p2pnet.model.units import format_duration, format_rate

MISSED = math.inf
"""The latency of a receipt that never came."""
STOPPED = "stopped early"
BEHIND_SHARE = 0.95  # a run that published at less than this share of its rate did not keep it,
BEHIND_S = 0.02  # unless its last publication came no later than this: two artifacts say little about a rate
LATE_S = 0.1  # a publication this much after it was due is noted even when the rate was kept on the whole
_NS_PER_MS = 1e6
SHARES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
"""Percentiles of latency, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a report says that events cannot tell. Fields that have the names of `Report`'s are copied to it."""

    run: str
    subnet: str
    target: str
    seed: int
    asked: int | None = None
    """How many artifacts were asked for; None: as many as were published. One never published makes the run invalid."""
    expect: Sequence[str] = ()
    """Expressions, as `expectations.parse` reads them."""
    within_s: float | None = None
    """A receipt later than this after the last publication is a miss; None: none is."""
    sent: int | None = None
    """Growth of the nodes' UDP byte counters; None: not known."""
    clock_bound_ms: float = 0.0
    invalid: Sequence[str] = ()
    notes: Sequence[str] = ()
    lost_until_ns: Mapping[str, int] = field(default_factory=dict)
    """Nodes that lost events by an ordered fault, and until when: a receipt that one lacks is unknown if the artifact was
    published by then, missed if later."""
    faults: Sequence[FaultStatus] = ()
    """Faults that were in force at some time of the run."""
    shared: bool = False
    packed: bool = False
    digest: str | None = None
    started_at: float = 0.0
    """Unix seconds."""
    duration_s: float | None = None
    """None: from the first publication to the last receipt."""
    state: str = "finished"
    client: str = DEFAULT_CLIENT
    label: str = ""
    load: Load | None = None
    """What was offered."""
    late_s: float = 0.0
    """The longest that a publication was asked for after it was due."""
    ignored: Sequence[str] = ()
    """Fields of the document that were not in force."""
    adversaries: Sequence[AdversaryGroup] = ()
    """Nodes of the subnet beside those that are measured."""
    stopped_early: StoppedEarly | None = None
    """It was ended because an expectation could hold no more: then `asked` is what was published until then."""


def facts_of(run: RunFile, **more: Any) -> RunFacts:
    """What run.json tells of a run; `more`: fields of `RunFacts` that it does not tell, or that replace what it does."""
    request = run.request
    known: dict[str, Any] = {
        "run": run.run, "subnet": run.subnet, "target": run.target, "seed": run.seed, "label": run.label,
        "expect": request.expect, "within_s": request.within_s, "shared": request.shared,
        "client": request.client or DEFAULT_CLIENT, "load": load_of(run), "ignored": run.ignored,
        "clock_bound_ms": run.clock_bound_ms, "started_at": run.started_at or run.created_at, "faults": run.faults,
        "adversaries": run.adversaries,
    }  # fmt: skip
    return RunFacts(**{**known, **more})


def load_of(run: RunFile) -> Load:
    """What a run was asked to publish."""
    request = run.request
    pace = pace_of(request.rate)
    count = artifacts_asked(
        count=request.count, payloads=len(request.payloads), publisher=request.publisher, nodes=len(run.honest)
    )
    return Load(
        rate_per_s=None if pace is None else mean_per_s(pace, count), publisher=request.publisher,
        within_s=request.within_s, seed=run.seed,
        client=request.client or DEFAULT_CLIENT, count=count,
        stages=pace.planned(count) if pace and pace.is_staged else [],
    )  # fmt: skip


def most_telling(report: Report) -> str:
    """The artifact to look at first: the one that missed most nodes, else the slowest; empty when nothing was published."""
    return report.slowest or next(iter(report.artifact_ids), "")


# --- measuring ---


class Receipt(NamedTuple):
    """The first validation of an artifact at a node, in any of its incarnations."""

    t_ns: int
    hop: int
    peer: str


@dataclass(slots=True)
class Journey:
    """One artifact: its publication, once known, and its receipts by node (the publisher's own validation among them)."""

    publisher: str = ""
    t_ns: int = 0
    size: int = 0
    published: bool = False
    receipts: dict[str, Receipt] = field(default_factory=dict)
    duplicates: int = 0
    duplicate_bytes: int = 0

    def delivered(self) -> Iterator[tuple[str, Receipt]]:
        """The receipts that count: all but the publisher's."""
        return ((node, receipt) for node, receipt in self.receipts.items() if node != self.publisher)


class RunMeasure:
    """The measurement of one run over these nodes, the honest ones: who has which artifact, since when, by which way.

    Events may come in any order, a receipt before its publication too. Time is the run's one axis, `Collected.t_ns`.
    Events of nodes outside the run are not looked at.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = list(nodes)
        self.delivered = 0
        """Receipts of artifacts whose publisher is known, the publishers' own left out."""
        self.awaited = 0
        """What `delivered` is when everybody has all of these artifacts."""
        self._members = frozenset(nodes)
        self._journeys: dict[str, Journey] = {}
        self._artifacts = 0
        self._received = dict.fromkeys(nodes, 0)
        self._own = dict.fromkeys(nodes, 0)

    def announce(self, artifact: str, publisher: str) -> None:
        """Who publishes an artifact (id in hex). The first word counts; from here on its receipts do, too."""
        journey = self._journey(artifact)
        if journey.publisher:
            return
        journey.publisher = publisher
        self._artifacts += 1
        self.awaited += len(self.nodes) - (publisher in self._members)
        if publisher in self._own:
            self._own[publisher] += 1
        for node, _ in journey.delivered():
            self._received[node] += 1
            self.delivered += 1

    def published(self, artifact: str, node: str, t_ns: int, size: int) -> None:
        """An artifact of `size` user's bytes was published by `node`. The first word counts."""
        self.announce(artifact, node)
        journey = self._journeys[artifact]
        if not journey.published:
            journey.t_ns, journey.size, journey.published = t_ns, size, True

    def feed(self, events: Iterable[Collected]) -> None:
        """Take in events: `validated` and `duplicate` count, all others are left aside."""
        members, journeys = self._members, self._journeys
        for event in events:
            kind = event.kind
            if kind is not EventKind.VALIDATED and kind is not EventKind.DUPLICATE:
                continue
            node = event.node
            if node not in members or not event.artifact:
                continue
            journey = journeys.get(event.artifact) or self._journey(event.artifact)
            if kind is EventKind.DUPLICATE:
                journey.duplicates += 1
                journey.duplicate_bytes += event.bytes
                continue
            known = journey.receipts.get(node)
            if known is None:
                if journey.publisher and node != journey.publisher:
                    self._received[node] += 1
                    self.delivered += 1
            elif known.t_ns <= event.t_ns:
                continue
            journey.receipts[node] = Receipt(event.t_ns, event.hop, event.peer)

    def is_published(self, artifact: str) -> bool:
        """Whether the publication of an artifact is on record."""
        journey = self._journeys.get(artifact)
        return journey is not None and journey.published

    def lacking(self, node: str) -> int:
        """How many of the artifacts whose publisher is known a node of the run has not received; its own not counted."""
        return self._artifacts - self._own[node] - self._received[node]

    def journeys(self) -> Iterator[Journey]:
        """Those of artifacts whose publication is on record."""
        return (one for one in self._journeys.values() if one.published)

    def report(self, facts: RunFacts) -> Report:
        """The report of the run as measured so far. Raises SpecError for an expectation that cannot be read."""
        journeys = {artifact: one for artifact, one in self._journeys.items() if one.published}
        ordered = dict(sorted(journeys.items(), key=lambda item: (item[1].t_ns, item[0])))
        return _assemble(self.nodes, ordered, facts)

    def judge_again(self, report: Report, facts: RunFacts) -> Report:
        """The report of the same run with the expectations of `facts` in the place of its own. Raises SpecError as `report`.

        What made the run invalid besides its own expectations still does.
        """
        fresh = self.report(replace(facts, stopped_early=report.stopped_early))
        own = tuple(f"{one.expr}: " for one in report.expectations)
        anew = tuple(f"{one.expr}: " for one in fresh.expectations)
        invalid = [reason for reason in report.invalid if not reason.startswith(own)]
        invalid += [reason for reason in fresh.invalid if reason.startswith(anew)]
        passed = all(one.ok for one in fresh.expectations)
        if passed and report.stopped_early is not None:
            invalid += [reason for reason in fresh.invalid if reason.startswith(STOPPED)]
        return msgspec.structs.replace(
            report, expectations=fresh.expectations, invalid=invalid,
            verdict="invalid" if invalid else "pass" if passed else "fail",
        )  # fmt: skip

    def _journey(self, artifact: str) -> Journey:
        return self._journeys.setdefault(artifact, Journey())


# --- counting ---


class Counted(NamedTuple):
    """A receipt that counts."""

    latency_ms: float
    hop: int
    node: str
    peer: str


@dataclass(slots=True)
class Tally:
    """All receipts of a run, counted once; every number of the report is computed from here."""

    receipts: list[Counted] = field(default_factory=list)
    """Sorted by latency."""
    expected: int = 0
    unknown: int = 0
    """Expected receipts that nothing is known of, see `RunFacts.lost_until_ns`."""
    late: int = 0
    """Receipts after the end of the run: they count as missed."""
    payload: int = 0
    """User's bytes, summed over receipts."""
    duplicates: int = 0
    sent: int | None = None
    negative: int = 0
    """Receipts before their publication, as far as the clocks tell."""
    first_ns: int = 0
    """Time of the first publication."""
    last_ns: int = 0
    """Time of the last publication or receipt."""
    artifacts: int = 0
    last_published_ns: int = 0
    slowest: str = ""
    """The artifact that missed most nodes and, of those, had the latest receipt."""

    @property
    def known(self) -> int:
        """Expected receipts without the unknown ones."""
        return self.expected - self.unknown

    @property
    def seconds(self) -> float:
        """The time from the first publication to the last receipt."""
        return (self.last_ns - self.first_ns) / 1e9

    @property
    def published_per_s(self) -> float | None:
        """The rate of publications; None for fewer than two."""
        return ratio(self.artifacts - 1, (self.last_published_ns - self.first_ns) / 1e9) if self.artifacts > 1 else None

    def value(self, metric: str, within_s: float | None = None) -> float | None:
        """A metric in its base unit: milliseconds (a miss is infinite), a ratio, hops. None when it was not measured."""
        counted = self.receipts
        if within_s is not None:
            counted = [one for one in counted if one.latency_ms <= within_s * 1000]
        match metric:
            case "reach":
                return ratio(len(counted), self.known)
            case "duplicates":
                return ratio(self.duplicates, len(counted))
            case "bytes":
                return None if self.sent is None else ratio(self.sent, self.payload)
            case "hops":
                return max((one.hop for one in counted), default=None)
            case "throughput":
                return self._per_second(self.payload)
            case "rate":
                return self._per_second(self.artifacts * len(self.receipts) / self.known if self.known else 0)
            case _:
                return percentile([one.latency_ms for one in counted], SHARES[metric], self.known)

    def bounds(self, metric: str, value: float, bound_ms: float) -> tuple[float, float]:
        """The bounds within which the true value lies when clocks are known to `bound_ms`."""
        if metric in SHARES:
            return value - bound_ms, value + bound_ms
        if metric not in ("throughput", "rate") or not value:
            return value, value
        bound_s, seconds = bound_ms / 1000, self.seconds
        high = value * seconds / (seconds - bound_s) if seconds > bound_s else math.inf
        return value * seconds / (seconds + bound_s), high

    def _per_second(self, amount: float) -> float | None:
        """An amount per second; 0 when no expected receipt came, None when none was expected or no time passed."""
        if not self.receipts:
            return 0.0 if self.known > 0 else None
        return ratio(amount, self.seconds) if self.seconds > 0 else None


def unmeasured(run: RunFile, reasons: Sequence[str], *, state: str = "finished") -> Report:
    """The report of a run that measured nothing, and why: always invalid, no expectation judged."""
    facts = facts_of(run, invalid=reasons, state=state)
    return msgspec.structs.replace(_blank(run.honest, facts), artifacts=len(run.artifacts), artifact_ids=run.artifacts)


def _blank(nodes: Sequence[str], facts: RunFacts) -> Report:
    """The report of these facts before anything is measured."""
    return Report(
        run=facts.run, subnet=facts.subnet, target=facts.target, seed=facts.seed, artifacts=0,
        nodes=len(nodes) + sum(len(group.nodes) for group in facts.adversaries), adversaries=list(facts.adversaries),
        verdict="invalid", reach=Reach(0, 0, None), latency_ms=Latency(None, None, None, None, None),
        hops=Hops(None, None), duplicates_per_delivery=None, bytes=ByteCost(0, None, None),
        clock_bound_ms=facts.clock_bound_ms, invalid=list(facts.invalid), packed=facts.packed, digest=facts.digest,
        started_at=facts.started_at, shared=facts.shared, state=facts.state, client=facts.client, label=facts.label,
        load=facts.load, ignored=list(facts.ignored),
        unknown_nodes=[node for node in nodes if node in facts.lost_until_ns],
        lost_until_ns=dict(facts.lost_until_ns), faults=list(facts.faults), stopped_early=facts.stopped_early,
    )  # fmt: skip


def _assemble(nodes: Sequence[str], journeys: Mapping[str, Journey], facts: RunFacts) -> Report:
    """The report of the journeys (in order of publication) among these nodes."""
    tally = _tally(nodes, journeys, facts)
    publishers = sorted({journey.publisher for journey in journeys.values()})
    results, reasons = _judge(tally, facts)
    invalid = [*facts.invalid, *_invalid(len(journeys), tally, facts), *reasons]
    if facts.stopped_early is not None and all(result.ok for result in results):
        invalid.append(f"{STOPPED} for {facts.stopped_early.expr}: what would have come after that is not known")
    latencies = [one.latency_ms for one in tally.receipts]
    hops = sorted(one.hop for one in tally.receipts)
    delivered = len(tally.receipts)
    at = {name: percentile(latencies, share, tally.known) for name, share in SHARES.items()}
    hop_p50, hop_max = percentile(hops, 50), percentile(hops, 100)
    return msgspec.structs.replace(
        _blank(nodes, facts), artifacts=len(journeys), artifact_ids=list(journeys), slowest=tally.slowest,
        verdict="invalid" if invalid else "pass" if all(result.ok for result in results) else "fail",
        expectations=results, invalid=invalid,
        notes=[*facts.notes, *_about_publishers(publishers, facts), *_notes(at, tally, facts)],
        reach=Reach(tally.expected, delivered, ratio(delivered, tally.known)), unknown=tally.unknown,
        latency_ms=Latency(**{name: finite(value) for name, value in at.items()}), cdf_ms=distribution(latencies),
        negative_latencies=tally.negative,
        hops=Hops(None if hop_p50 is None else int(hop_p50), None if hop_max is None else int(hop_max)),
        duplicates_per_delivery=tally.value("duplicates"),
        bytes=ByteCost(tally.payload, facts.sent, tally.value("bytes")),
        publishers=publishers,
        payload_bytes=sum(journey.size for journey in journeys.values()),
        duration_s=tally.seconds if facts.duration_s is None else facts.duration_s,
        throughput=Throughput(tally.value("throughput"), tally.value("rate")), load=_load(tally, facts),
        per_node=_per_node(nodes, journeys, tally), stages=_stages(nodes, journeys, facts, tally.last_published_ns),
    )  # fmt: skip


def _load(tally: Tally, facts: RunFacts) -> Load | None:
    """The offered load, with the rate of publications where one was asked for."""
    if facts.load is None or facts.load.rate_per_s is None:
        return facts.load
    return msgspec.structs.replace(facts.load, published_per_s=tally.published_per_s)


def _stages(nodes: Sequence[str], journeys: Mapping[str, Journey], facts: RunFacts, last_ns: int) -> list[StageFigures]:
    """By stage of the load, whose artifacts follow each other; `last_ns`: time of the last publication of the run."""
    stages = facts.load.stages if facts.load else []
    whole = facts.load is not None and len(journeys) == facts.load.count
    if not stages or not (whole or facts.stopped_early is not None):
        return []  # what faults left out leaves gaps, and whose stage an artifact is cannot be told
    found, ordered = [], iter(journeys.items())
    for stage in stages:
        tally = _tally(nodes, dict(islice(ordered, stage.artifacts)), facts, last_ns)
        if tally.artifacts:
            p50, p95 = (finite(tally.value(name)) for name in ("p50", "p95"))
            found.append(
                StageFigures(
                    artifacts=tally.artifacts, published_per_s=tally.published_per_s, reach=tally.value("reach"), p50_ms=p50,
                    p95_ms=p95,
                )
            )  # fmt: skip
    return found


def _tally(nodes: Sequence[str], journeys: Mapping[str, Journey], facts: RunFacts, last_ns: int | None = None) -> Tally:
    """Count every receipt once; one later than `within_s` after the last publication is a miss.

    `last_ns`: when that was, where it is none of these.
    """
    tally = Tally(sent=facts.sent, artifacts=len(journeys))
    members = frozenset(nodes)
    silent = {node: until_ns for node, until_ns in facts.lost_until_ns.items() if node in members}
    published = [journey.t_ns for journey in journeys.values()]
    tally.first_ns = min(published, default=0)
    tally.last_ns = tally.last_published_ns = max(published, default=0)
    last_ns = tally.last_ns if last_ns is None else last_ns
    deadline_ns = None if facts.within_s is None else last_ns + int(facts.within_s * 1e9)
    most = (-1, 0.0)
    for artifact, journey in journeys.items():
        expected = len(nodes) - (journey.publisher in members)
        unknown = sum(
            journey.t_ns <= until_ns and node != journey.publisher and node not in journey.receipts
            for node, until_ns in silent.items()
        )
        tally.expected += expected
        tally.duplicates += journey.duplicates
        tally.unknown += unknown
        latencies = [0.0]
        for node, receipt in journey.delivered():
            if deadline_ns is not None and receipt.t_ns > deadline_ns:
                tally.late += 1
                continue
            latency_ms = (receipt.t_ns - journey.t_ns) / _NS_PER_MS
            latencies.append(latency_ms)
            tally.receipts.append(Counted(latency_ms, receipt.hop, node, receipt.peer))
            tally.payload += journey.size
            tally.negative += latency_ms < 0
            tally.last_ns = max(tally.last_ns, receipt.t_ns)
        missed = expected - unknown - (len(latencies) - 1)
        if (missed, max(latencies)) > most:
            most, tally.slowest = (missed, max(latencies)), artifact
    tally.receipts.sort()
    return tally


def _judge(tally: Tally, facts: RunFacts) -> tuple[list[ExpectationResult], list[str]]:
    """The result of every expectation, and the reasons why some cannot be judged."""
    results: list[ExpectationResult] = []
    reasons: list[str] = []
    for expectation in all_of(facts.expect):
        value = tally.value(expectation.metric, expectation.within_s)
        results.append(expectation.evaluate(value))
        if value is None and tally.known > 0:
            reasons.append(f"{expectation.expr}: {expectation.metric} could not be measured")
        elif value is not None and math.isfinite(value) and expectation.could_flip(
            value, *tally.bounds(expectation.metric, value, facts.clock_bound_ms)
        ):  # fmt: skip
            shown = measured(results[-1])
            reasons.append(
                f"{expectation.expr}: measured {shown}, and clocks are known only to {facts.clock_bound_ms:.3f} ms"
            )
    return results, reasons


def _invalid(published: int, tally: Tally, facts: RunFacts) -> list[str]:
    reasons = []
    if facts.asked is not None and published < facts.asked:
        reasons.append(f"{facts.asked - published} of {facts.asked} artifacts have no publication on record")
    if tally.known <= 0:
        what = "no artifact was published" if not published else "no receipt was expected"
        reasons.append(f"nothing was measured: {'every receipt is unknown' if tally.unknown else what}")
    earliest = tally.receipts[0] if tally.receipts else None
    if earliest is not None and -earliest.latency_ms > facts.clock_bound_ms:
        reasons.append(
            f"{earliest.node} received {-earliest.latency_ms:.3f} ms before the publication, with clocks known to"
            f" {facts.clock_bound_ms:.3f} ms"
        )
    return reasons


def _notes(at: Mapping[str, float | None], tally: Tally, facts: RunFacts) -> list[str]:
    notes = [*_about_the_stop(tally, facts), *(stage_notes(facts.load) if facts.load else []), *_behind(tally, facts)]
    below = [name for name, value in at.items() if value is not None and value < facts.clock_bound_ms]
    if below:
        notes.append(f"{' '.join(below)} below the clock bound of {facts.clock_bound_ms:.3f} ms")
    if tally.unknown:
        notes.append(f"{tally.unknown} receipts were lost to an ordered fault: reach and latency leave them out")
    if tally.late:
        notes.append(f"{tally.late} receipts came after the end of the run and count as missed")
    return notes


def _about_the_stop(tally: Tally, facts: RunFacts) -> list[str]:
    if facts.stopped_early is None:
        return []
    left = tally.known - len(tally.receipts)
    under_way = f"{left:,} receipts had not come when it ended, and count as missed"
    return [stopped_words(facts.stopped_early), *([under_way] if left > 0 else [])]


def _about_publishers(publishers: Sequence[str], facts: RunFacts) -> list[str]:
    """A note for each adversary that published: what reach says is then no matter of the promise."""
    return [
        f"{publisher}, which published, is {group.behaviour}"
        for group in facts.adversaries
        for publisher in publishers
        if publisher in group.nodes
    ]


def _behind(tally: Tally, facts: RunFacts) -> list[str]:
    """A note if a paced run did not keep its rate, for its latencies are then those of another load."""
    wanted, kept = facts.load.rate_per_s if facts.load else None, tally.published_per_s
    if facts.load is None or wanted is None or kept is None:
        return []
    if tally.artifacts < facts.load.count:
        # What was left out leaves gaps, and the rate says nothing of lateness.
        return [_came_late(facts.late_s)] if facts.late_s > LATE_S else []
    lag_s = max(facts.late_s, (tally.artifacts - 1) / kept - (tally.artifacts - 1) / wanted)
    if kept < BEHIND_SHARE * wanted and lag_s > BEHIND_S:
        mean = "a mean of " if facts.load.stages else ""
        rates = f"{mean}{format_rate(wanted)} offered, {format_rate(kept)} published"
        return [f"the rate was not kept: {rates}, up to {format_duration(lag_s)} late"]
    return [_came_late(lag_s)] if lag_s > LATE_S else []


def _came_late(lag_s: float) -> str:
    return f"publications came up to {format_duration(lag_s)} after they were due"


def _per_node(nodes: Sequence[str], journeys: Mapping[str, Journey], tally: Tally) -> list[NodeReceipts]:
    """What each node got; percentiles are over the receipts that came, its misses are `expected` less `received`."""
    got: dict[str, list[Counted]] = {node: [] for node in nodes}
    for one in tally.receipts:  # by latency, so each node's list is too
        got[one.node].append(one)
    own = dict.fromkeys(nodes, 0)
    for journey in journeys.values():
        if journey.publisher in own:
            own[journey.publisher] += 1
    return [
        NodeReceipts(
            node=node,
            received=len(here),
            expected=len(journeys) - own[node],
            p50_ms=percentile([one.latency_ms for one in here], 50),
            max_ms=here[-1].latency_ms if here else None,
            slowest_from=here[-1].peer if here else "",
        )
        for node, here in got.items()
    ]


# --- statistics over receipts that may be missing ---


def percentile(arrived: Sequence[float], share: int, expected: int | None = None) -> float | None:
    """The nearest-rank percentile (`share` in percent, 0 to 100) of `expected` values of which `arrived` (sorted) came.

    A value that did not come is infinite: with 9 of 10 arrived, p90 is the slowest and p95 is infinite. None when
    nothing was expected. No interpolation: the result is a latency that a receipt really had.
    """
    count = len(arrived) if expected is None else expected
    if count <= 0:
        return None
    rank = max(1, -(-share * count // 100))
    return arrived[rank - 1] if rank <= len(arrived) else MISSED


def finite(value: float | None) -> float | None:
    """The value for JSON, which has no infinity: None for it."""
    return None if value is None or math.isinf(value) else value


def ratio(part: float, whole: float) -> float | None:
    """`part / whole`; None when `whole` is 0."""
    return part / whole if whole else None


def distribution(arrived: Sequence[float]) -> list[float]:
    """The latencies at 0, 5 ... 100 % of those that arrived (sorted); empty when none did."""
    points = (percentile(arrived, share) for share in range(0, 101, 5))
    return [point for point in points if point is not None]
