"""Probe trains of one directed link: what was asked of it, what arrived, and how often a probe was not as it should be.

Every judgement is a count: of so many independent trials, so many hit, where an honest network hits with a known
probability at most (`Trials`). Counts of trains and of links add up, and a late probe of a starved process counts once,
however late it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

from p2pnet.model.network import PACKET_OVERHEAD_BYTES, AccessShape, LinkShape, jitter_max_ns

TOLERANCE = 0.05  # relative, of every figure
TOLERANCE_NS = 500_000  # of times: what timers of a process are good to
UNASKED_DELAY_NS = 5_000_000  # more than this on one machine is no way through its kernel
UNASKED_LOSS = 0.01  # what the socket buffer of a busy process may lose
FAR_SPREADS = 3.0  # standard deviations below the mean that jitter hardly ever reaches
FAR_RATIO = 1.5  # a train that much faster or slower than asked is no matter of timers
MEASURABLE_BPS_MAX = 200e6  # beyond it a node's process is the narrowest place, not the network
MEASURABLE_DELAY_NS = 60_000_000_000  # a longer delay outlasts the patience of QUIC, so of any use of the link
_JITTER_REACH = 4.0  # standard deviations that no jitter goes beyond: netem cuts it off before
APART_SPREADS: Mapping[str, float] = {"normal": 15.0, "uniform": 9.0}
"""Standard deviations of a jitter that keeps order, as time: delays so far apart are independent of each other.

Twice the period of `netem.jitter`, whose line goes from one drawn value to the next."""
_GULP = 0.1  # how much faster a burst may look by how it was read
_NEARLY = 0.8  # of that time, for a sender's timers are not exact; the correlation is below 0.02 then
HOLD_SHARE = 0.375  # of the delay, or of twice HOLD_NS_MIN: the mean time for which a reordered packet is held back
HOLD_NS_MIN = 750_000  # the same on a path with little delay
_NS = 1_000_000_000

Figure = Literal["delay", "jitter", "loss", "bandwidth"]
Narrowest = Literal["path", "up", "down"]


class Trials(NamedTuple):
    """A count: `trials` independent ones, `hits` of them, and how many an honest network hits on average at most."""

    trials: float
    hits: float
    allowed: float

    def plus(self, other: "Trials") -> "Trials":
        """Both together."""
        return Trials(self.trials + other.trials, self.hits + other.hits, self.allowed + other.allowed)


Counts = dict[str, Trials]
"""By the name of a test, see `TESTS`."""

TESTS: Mapping[str, Figure] = {
    "late": "delay", "early": "delay", "far early": "delay",
    "alike": "jitter", "near": "jitter", "wide": "jitter",
    "kept": "loss", "lost": "loss", "leaked": "loss",
    "fast": "bandwidth", "far fast": "bandwidth", "slow": "bandwidth", "far slow": "bandwidth",
}  # fmt: skip
"""What is counted, and which figure is out of tolerance when there are too many.

late, early: probes beyond the tolerance of the delay, at most half of them (the median is judged). far early: so early
that jitter cannot explain it. alike, near, wide: pairs of probes whose delays differ too little or too much. kept, lost:
probes that arrived or not. leaked: probes that passed a block. fast: trains that came sooner than the bandwidth lets them.
slow: trains whose probes came further apart than it does."""

# Shares of honest probes that hit at most. Those of early, late and near are the definition of a median; the others are
# somewhat above what the normal and the uniform distribution give, for the shape between them that order kept makes.
_HALF = 0.5
_FAR_EARLY = 0.02
_ALIKE = 0.13  # of a tenth of all pairs
_NEAR = 0.55
_WIDE = 0.58  # of half of all pairs, and up to a sixth of pairs that hold a late probe
_FAST = 0.01  # for no probe comes sooner than it can
_FAR_FAST = 0.001
_FAR_SLOW = 0.05
_LONG_BURSTS = 2.5
"""Bursts are now and then very long, so that many losses are more probable than their variance tells: as a factor of that."""

# Quantiles of the difference of two independent delays, in standard deviations of one.
_ALIKE_SPREADS = 0.1777
"""A tenth of all pairs differ by less, of normal and of uniform delays."""
_MIDDLE_NORMAL, _MIDDLE_UNIFORM = 0.955, 1.01
"""Half of all pairs differ by less."""
_FLATTENS = (
    0.5  # share of the largest possible jitter from which on a normal one becomes a uniform one, see `jitter_max_ns`
)


class ProbedLink(NamedTuple):
    """What is asked of one directed link. `label` names the rule of its path; empty: nothing acts on it."""

    source: str
    to: str
    label: str
    shape: LinkShape
    up: AccessShape | None = None
    """Uplink of the source."""
    down: AccessShape | None = None
    """Downlink of the other end."""
    up_label: str = ""
    """Name of the rule of the uplink."""
    down_label: str = ""

    @property
    def narrowest(self) -> tuple[float, Narrowest] | None:
        """The smallest bandwidth on the way and where it is; None: no bandwidth is limited."""
        stages: list[tuple[float, Narrowest]] = []
        if self.shape.bandwidth_bps:
            stages.append((self.shape.bandwidth_bps, "path"))
        stages += [(self.up.bandwidth_bps, "up")] if self.up else []
        stages += [(self.down.bandwidth_bps, "down")] if self.down else []
        return min(stages, default=None)

    @property
    def asked_bps(self) -> float | None:
        """The smallest bandwidth on the way, where it can be measured."""
        found = self.narrowest
        return found[0] if found and found[0] <= MEASURABLE_BPS_MAX and not self.blocked else None

    @property
    def blocked(self) -> bool:
        """Whether nothing may pass."""
        return self.shape.blocked or self.shape.loss >= 1

    @property
    def spread_ns(self) -> float:
        """Standard deviation of the delay asked for."""
        return self.shape.jitter_std_ns

    @property
    def middle_difference(self) -> float:
        """The median difference of two independent delays, in standard deviations of one."""
        if self.shape.jitter_kind == "uniform":
            return _MIDDLE_UNIFORM
        most = jitter_max_ns(self.shape.delay_ns, self.shape.jitter_kind, self.shape.keep_order)
        flat = max(0.0, min(1.0, self.shape.jitter_ns / max(1, most)) - _FLATTENS) / (1 - _FLATTENS)
        return _MIDDLE_NORMAL + flat * (_MIDDLE_UNIFORM - _MIDDLE_NORMAL)

    @property
    def apart_ns(self) -> int:
        """How far apart two probes are whose delays are independent of each other."""
        return int(APART_SPREADS[self.shape.jitter_kind] * self.spread_ns) if self.shape.keep_order else 0

    @property
    def held_ns(self) -> float:
        """How much longer reordered packets make the mean delay; so much shorter may that of the others be."""
        return self.shape.reorder * max(HOLD_NS_MIN, HOLD_SHARE * self.shape.delay_ns)

    @property
    def queueing_ns(self) -> float:
        """The longest that queues on the way may hold a packet up."""
        stages = [stage for stage in (self.shape, self.up, self.down) if stage is not None and stage.bandwidth_bps]
        return sum(stage.queue_bytes * 8 * _NS / stage.bandwidth_bps for stage in stages if stage.bandwidth_bps)

    @property
    def measurable(self) -> bool:
        """Whether the canary has something to look for on it."""
        shape = self.shape
        asked = shape.delay_ns or shape.jitter_ns or shape.loss or self.blocked or self.asked_bps
        return bool(asked) and shape.delay_ns <= MEASURABLE_DELAY_NS

    def serialized_ns(self, size: int) -> float:
        """How long the bandwidths on the way need for one packet of `size` bytes of UDP payload."""
        stages = [stage for stage in (self.shape, self.up, self.down) if stage is not None and stage.bandwidth_bps]
        bits = (size + PACKET_OVERHEAD_BYTES) * 8
        return sum(bits * _NS / stage.bandwidth_bps for stage in stages if stage.bandwidth_bps)


class Arrival(NamedTuple):
    """One probe that arrived, on the lab's time axis (nanoseconds)."""

    seq: int
    sent_ns: int
    arrived_ns: int


class Train(NamedTuple):
    """A train that was sent to its end and whose time to arrive is over.

    `burst`: its probes were sent at once, to measure a bandwidth. `busy`: other traffic may have used the link meanwhile.
    `bound_ns`: how well the clocks of both ends are known to each other; 0: they are the same clock.
    """

    at_ns: int
    probes: int
    size: int
    arrivals: tuple[Arrival, ...]
    burst: bool = False
    busy: bool = False
    bound_ns: float = 0.0


@dataclass(frozen=True, slots=True)
class SeenTrain:
    """What a train, or some in a row, tell of their link."""

    at_ns: int
    """When the first of them was sent."""
    counts: Counts
    sent: int = 0
    """Probes that count for the loss."""
    arrived: int = 0
    delays_ns: tuple[float, ...] = ()
    """In the order sent, without the time that bandwidths need."""
    differences: tuple[float, ...] = ()
    """Differences of consecutive independent delays, in standard deviations asked for."""
    rate_bps: float | None = None
    busy: bool = False


def seen(link: ProbedLink, train: Train) -> SeenTrain:
    """What a train tells of the link it was sent on. The first copy of a probe counts."""
    first: dict[int, Arrival] = {}
    for arrival in sorted(train.arrivals, key=lambda one: one.arrived_ns):
        first.setdefault(arrival.seq, arrival)
    arrivals = sorted(first.values())
    if link.blocked:
        counts = {"leaked": Trials(train.probes, len(arrivals), 0.0)}
        return SeenTrain(train.at_ns, counts, train.probes, len(arrivals), busy=train.busy)
    if train.burst:
        rate = dispersion(arrivals, train.size, every=link.narrowest is None or link.narrowest[1] != "down")
        counts = _rate_counts(link, train, rate, _soonest_bps(link, train, arrivals))
        return SeenTrain(train.at_ns, counts, rate_bps=_told_bps(link, train, arrivals, rate), busy=train.busy)
    return _paced(link, train, arrivals)


def merged(one: SeenTrain, other: SeenTrain) -> SeenTrain:
    """Two paced trains as one: what is counted adds up. Keeps an account of many links short."""
    return SeenTrain(
        min(one.at_ns, other.at_ns), added((one.counts, other.counts)), one.sent + other.sent, one.arrived + other.arrived,
        one.delays_ns + other.delays_ns, one.differences + other.differences, busy=one.busy,
    )  # fmt: skip


def dispersion(arrivals: Sequence[Arrival], size: int, *, every: bool) -> float | None:
    """Bits per second at which a train of back-to-back probes came; None: too few came.

    The median over pairs that are half a train apart, so that a process that reads in gulps changes little. `every`: probes
    that did not arrive used the bandwidth too.
    """
    ordered = sorted(arrivals)
    half = len(ordered) // 2
    if half < 2:
        return None
    bits = (size + PACKET_OVERHEAD_BYTES) * 8
    # Reordering on the way changes which probe came, not when one did.
    times = sorted(one.arrived_ns for one in ordered)
    spans = [
        ((ordered[i + half].seq - ordered[i].seq) if every else half, times[i + half] - times[i])
        for i in range(len(ordered) - half)
    ]
    return median(count * bits * _NS / max(1, span) for count, span in spans)


# --- counting ---


def _paced(link: ProbedLink, train: Train, arrivals: Sequence[Arrival]) -> SeenTrain:
    serialized = link.serialized_ns(train.size)
    delays = tuple(one.arrived_ns - one.sent_ns - serialized for one in arrivals)
    apart = _apart(arrivals, delays, _NEARLY * link.apart_ns)
    spread = link.spread_ns
    counts = _loss_counts(link, train, len(arrivals)) | _delay_counts(link, train, apart)
    pairs: list[float] = []
    if spread:
        counts |= _jitter_counts(link, train, [abs(a - b) for a, b in zip(apart[::2], apart[1::2], strict=False)])
        pairs = [abs(a - b) / spread for a, b in pairwise(apart)]
    return SeenTrain(train.at_ns, counts, train.probes, len(arrivals), delays, tuple(pairs), busy=train.busy)


def _apart(arrivals: Sequence[Arrival], delays: Sequence[float], apart_ns: float) -> list[float]:
    """The delays of probes that were sent at least so far apart."""
    found: list[float] = []
    last = -math.inf
    for one, delay in zip(arrivals, delays, strict=True):
        if one.sent_ns - last >= apart_ns:
            found.append(delay)
            last = one.sent_ns
    return found


def _delay_counts(link: ProbedLink, train: Train, delays: Sequence[float]) -> Counts:
    asked, count = link.shape.delay_ns, len(delays)
    queueing = link.queueing_ns if train.busy else 0.0
    if not asked:
        if train.bound_ns:
            return {}  # on another machine the real network has a delay that nobody asked for
        late = sum(one > UNASKED_DELAY_NS + queueing for one in delays)
        return {"late": Trials(count, late, 0.9 * count)}  # a crowd of late probes is a busy machine
    within = max(TOLERANCE * asked, TOLERANCE_NS) + train.bound_ns + link.held_ns
    far = asked - within - FAR_SPREADS * link.spread_ns
    late_share = _HALF + link.shape.reorder / 2  # what is held back is late as asked
    counts = {
        "late": Trials(count, sum(one > asked + within + queueing for one in delays), late_share * count),
        "early": Trials(count, sum(one < asked - within for one in delays), _HALF * count),
    }
    if far > 0:
        counts["far early"] = Trials(count, sum(one < far for one in delays), _FAR_EARLY * count)
    return counts


def _jitter_counts(link: ProbedLink, train: Train, differences: Sequence[float]) -> Counts:
    spread, count = link.spread_ns, len(differences)
    within = max(TOLERANCE * spread, TOLERANCE_NS)
    low, high = max(0.0, spread - within), spread + within
    middle = link.middle_difference
    counts = {
        "alike": Trials(count, sum(one < _ALIKE_SPREADS * low for one in differences), _ALIKE * count),
        "near": Trials(count, sum(one < middle * low for one in differences), _NEAR * count),
    }
    if not (train.busy and link.narrowest) and not link.shape.reorder:  # queues and overtaking spread delays too
        counts["wide"] = Trials(count, sum(one > middle * high for one in differences), _WIDE * count)
    return counts


def _loss_counts(link: ProbedLink, train: Train, arrived: int) -> Counts:
    """Lost probes come in bursts where they were asked to: as many fewer independent trials, see `clustering`."""
    share, cluster = link.shape.loss, clustering(link.shape)
    lost = train.probes - arrived
    counts: Counts = {}
    if share:
        sent = train.probes / cluster
        counts["kept"] = Trials(sent, arrived / cluster, (1 - share * (1 - TOLERANCE)) * sent)
    if not (train.busy and link.narrowest):  # a full queue drops too
        most, cluster = (
            share * (1 + TOLERANCE) if share else UNASKED_LOSS,
            cluster * (_LONG_BURSTS if cluster > 1 else 1),
        )
        sent = train.probes / cluster
        counts["lost"] = Trials(sent, lost / cluster, most * sent)
    return counts


def clustering(shape: LinkShape) -> float:
    """By how much losses in bursts widen the spread of their number, as a factor of its variance (Gilbert-Elliott).

    (1 + r) / (1 - r) with the correlation r of two packets in a row, 1 - 1/(burst x (1 - loss)).
    """
    return max(1.0, 2 * shape.loss_burst * (1 - shape.loss) - 1) if shape.loss_burst > 1 else 1.0


def _rate_counts(link: ProbedLink, train: Train, rate: float | None, soonest: float | None) -> Counts:
    asked = link.asked_bps
    if asked is None or rate is None or soonest is None:
        return {}
    counts = {
        "fast": Trials(1, soonest > asked * (1 + TOLERANCE), _FAST),
        "far fast": Trials(1, soonest > asked * FAR_RATIO, _FAR_FAST),
    }
    # By how much jitter may stretch half a train.
    half_ns = train.probes / 2 * (train.size + PACKET_OVERHEAD_BYTES) * 8 * _NS / asked
    slowest = asked / (1 + FAR_SPREADS * math.sqrt(2) * link.spread_ns / half_ns)
    if not train.busy:  # a train among other traffic has a part of the bandwidth only
        counts["slow"] = Trials(1, rate < slowest * (1 - TOLERANCE), _HALF)
        counts["far slow"] = Trials(1, rate < slowest / FAR_RATIO, _FAR_SLOW)
    return counts


def _told_bps(link: ProbedLink, train: Train, arrivals: Sequence[Arrival], rate: float | None) -> float | None:
    """The rate to tell: a process that halts and then reads all at once makes probes look closer together than they came.

    Then the time from the sending of the first to the arrival of the last tells more.
    """
    if rate is None:
        return None
    last = max(arrivals, key=lambda one: one.arrived_ns)
    span = last.arrived_ns - min(one.sent_ns for one in arrivals) - link.shape.delay_ns
    whole = (last.seq + 1) * (train.size + PACKET_OVERHEAD_BYTES) * 8 * _NS / max(1.0, span)
    blur = FAR_SPREADS * link.spread_ns / max(1.0, span)
    return whole if rate > whole * (1 + _GULP + blur) else rate


def _soonest_bps(link: ProbedLink, train: Train, arrivals: Sequence[Arrival]) -> float | None:
    """The bandwidth that a train must have had at least, for its last probe to come when it did; None: too few came.

    From the sending of the first on, so that a process that halts and then reads all at once makes it smaller, never larger.
    """
    if len(arrivals) < 4:
        return None
    delay = link.shape.delay_ns
    early = max(TOLERANCE * delay, TOLERANCE_NS) + _JITTER_REACH * link.spread_ns + link.held_ns + train.bound_ns
    bits = len(arrivals) * (train.size + PACKET_OVERHEAD_BYTES) * 8
    span = max(one.arrived_ns for one in arrivals) - min(one.sent_ns for one in arrivals) - delay + early
    return bits * _NS / max(1.0, span)


def added(every: Iterable[Counts]) -> Counts:
    """The counts of several trains or links together."""
    total: Counts = {}
    for counts in every:
        for test, trials in counts.items():
            known = total.get(test)
            total[test] = trials if known is None else known.plus(trials)
    return total
