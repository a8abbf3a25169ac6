"""Which trains the canary sends next: enough before a run, few throughout it, hardly any at rest. Pure; chance is an argument."""

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import NamedTuple

from p2pnet.lab.network.probe_book import Key, MeasuredLink, ProbeBook
from p2pnet.measure.probes import ProbedLink, clustering
from p2pnet.model.control import ProbeTrain
from p2pnet.model.network import PACKET_OVERHEAD_BYTES

_S = 1_000_000_000
PROBE_BYTES = 64  # of a paced probe: it uses next to nothing of a bandwidth
BURST_BYTES = 1_200  # of a burst's: what QUIC sends, and within every MTU
TRAIN_PROBES = 8  # of a paced train: enough for a median to mean something, few enough to reach many links
LOSS_TRAIN_PROBES = 32  # where a small loss is to be told
SMALL_LOSS = 0.05
INTERVAL_NS = 50_000_000  # between paced probes: a process that halts for a moment delays one or two of them
INTERVAL_NS_MIN = 2_000_000  # before a run, where many are needed of one link
INTERVAL_NS_MAX = 2 * _S
SPREAD_NS = 2 * _S  # over which the probes of a link are spread before a run: the halts of a process last no longer
BANDWIDTH_SHARE = 0.1  # of a narrow link, that probes may use

LINK_PROBES = 40
"""Probes of each link before a run: if all of them are late, that is no chance, whatever the number of links."""
LINK_PROBES_MIN = 8  # with fewer a link is left out instead: a seeded choice covers every rule
BEFORE_PROBES = 9_600  # of all links: 8 s at the pace of `BEFORE`
SURE = 20.0  # lost probes that were to be expected where none is: such luck has the probability exp(-20)
LINE_TRAINS = 3  # of every access link: no honest one comes too soon three times
BURST_PROBES = 20_000  # of all bursts before a run: some seconds of a core
RATE_TRAINS = 6  # bursts for each rule about bandwidth: if all are slow, that is no chance
BURST_NS = 40_000_000  # of a burst, as asked: long beside the gulps in which a process reads
BURST_SPREADS = 34.0  # the same, in standard deviations of jitter, which then blurs a rate by a quarter at most
BURST_NS_MAX = 1_000_000_000
BURST_PACKET_NS = 20_000_000  # a packet takes no longer, as long as it can be made smaller
BURST_PROBES_MIN, BURST_PROBES_MAX = 6, 600
BURSTS_BPS_MAX = 200e6  # of all bursts at a time: more would measure the machine


Order = tuple[Key, ProbeTrain]


class ProbePace(NamedTuple):
    """How much is probed: `probes_per_s` of the whole subnet, a round every `round_s`, bursts every `bursts_s`."""

    probes_per_s: float
    round_s: float
    bursts_s: float


# A probe costs some 0.1 ms of CPU at both nodes and the lab together, and a machine of two cores carries the nodes too.
BEFORE = ProbePace(1_200, 0.25, 0.0)  # nothing else happens then: a twentieth of such a machine
DURING = ProbePace(200, 2.0, 15.0)  # a hundredth
REST = ProbePace(10, 20.0, 120.0)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be measured before a run: probes by link, and bursts by link."""

    probes: Mapping[Key, int] = field(default_factory=dict)
    bursts: Mapping[Key, int] = field(default_factory=dict)


def goal_of(links: Mapping[Key, ProbedLink], rng: random.Random) -> Goal:
    """So many probes of every link as the budget gives, of some links where it gives too few; more where a loss is small."""
    chosen = chosen_links(links, BEFORE_PROBES // LINK_PROBES_MIN, rng)
    each = min(LINK_PROBES, max(LINK_PROBES_MIN, BEFORE_PROBES // max(1, len(chosen))))
    probes = dict.fromkeys(chosen, each)
    lossy = [
        keys
        for keys in by_rule({key: links[key] for key in chosen}).values()
        if any(links[key].shape.loss for key in keys)
    ]
    left = max(0, BEFORE_PROBES - sum(probes.values()))
    for keys in lossy:
        losing = [key for key in keys if 0 < links[key].shape.loss < 1]
        needed = sum(SURE * clustering(links[key].shape) / links[key].shape.loss for key in losing) / max(
            1, len(losing)
        )
        extra = min(left / len(lossy), max(0.0, needed - each * len(losing)))
        for key in losing:
            probes[key] += int(extra / len(losing))
    return Goal(probes, _burst_goal(links, rng))


def chosen_links(links: Mapping[Key, ProbedLink], most: int, rng: random.Random) -> list[Key]:
    """At most so many links that can be measured, of every rule as many as of the others as far as it has so many."""
    measurable = {key: link for key, link in links.items() if link.measurable}
    if len(measurable) <= most:
        return list(measurable)
    columns = [rng.sample(keys, len(keys)) for keys in by_rule(measurable).values()]
    return list(islice((key for row in zip_longest(*columns) for key in row if key is not None), most))


def by_rule(links: Mapping[Key, ProbedLink]) -> dict[str, list[Key]]:
    """The links of each rule."""
    found: dict[str, list[Key]] = {}
    for key, link in links.items():
        found.setdefault(link.label, []).append(key)
    return found


def _burst_goal(links: Mapping[Key, ProbedLink], rng: random.Random) -> dict[Key, int]:
    """Bursts for each rule about a bandwidth, on links as different as there are, and for every single access link."""
    goal: dict[Key, int] = {}
    budget = BURST_PROBES
    for keys in by_bandwidth(links).values():
        for key in _burst_links(rng.sample(keys, len(keys)), links):
            budget -= (burst_of(links[key]) or (0, 0))[0]
            if budget < 0:
                return goal
            goal[key] = goal.get(key, 0) + 1
    return goal


def _burst_links(keys: list[Key], links: Mapping[Key, ProbedLink]) -> list[Key]:
    """On which of a rule's links its bursts are sent, a link for each burst."""
    lines: dict[Key, list[Key]] = {}  # those that share an access link are one
    for key in spread_out(keys):
        narrowest = links[key].narrowest
        side = "path" if narrowest is None else narrowest[1]
        ends = {"path": key, "up": (key[0], "*"), "down": ("*", key[1])}
        lines.setdefault(ends[side], []).append(key)
    few = RATE_TRAINS if all("*" not in ends for ends in lines) else max(RATE_TRAINS, LINE_TRAINS * len(lines))
    rounds = -(-few // len(lines))
    return [line[number % len(line)] for number in range(rounds) for line in lines.values()][:few]


def by_bandwidth(links: Mapping[Key, ProbedLink]) -> dict[str, list[Key]]:
    """The links whose bandwidth can be measured, by the rule that it is of."""
    found: dict[str, list[Key]] = {}
    for key, link in links.items():
        if burst_of(link) is not None and link.narrowest is not None:
            labels = {"path": link.label, "up": link.up_label, "down": link.down_label}
            found.setdefault(labels[link.narrowest[1]], []).append(key)
    return found


def spread_out(keys: Iterable[Key]) -> list[Key]:
    """The same keys, those first whose ends have not been among the ones before."""
    first: list[Key] = []
    rest: list[Key] = []
    ends: set[str] = set()
    for key in keys:
        (rest if ends & set(key) else first).append(key)
        ends |= set(key)
    return first + rest


def burst_of(link: ProbedLink) -> tuple[int, int] | None:
    """Probes and bytes of payload of a burst that measures a link's bandwidth; None: it cannot be measured so.

    It fits into half of every queue on its way, so that nothing of it is dropped.
    """
    asked = link.asked_bps
    if asked is None:
        return None
    packet = min(BURST_BYTES + PACKET_OVERHEAD_BYTES, max(PROBE_BYTES, int(asked * BURST_PACKET_NS / (8 * _S))))
    size = max(PROBE_BYTES, packet - PACKET_OVERHEAD_BYTES)
    octets = size + PACKET_OVERHEAD_BYTES
    span_ns = min(BURST_NS_MAX, max(BURST_NS, BURST_SPREADS * link.spread_ns))
    queues = [
        stage.queue_bytes for stage in (link.shape, link.up, link.down) if stage is not None and stage.bandwidth_bps
    ]
    most = min(BURST_PROBES_MAX, min(queues) // 2 // octets)
    count = min(most, max(2 * BURST_PROBES_MIN, int(span_ns * asked / (8 * _S * octets))))
    return (count, size) if count >= BURST_PROBES_MIN else None


# --- the next trains ---


class Chooser:
    """Chooses the trains of each round and orders them in the book."""

    def __init__(self, book: ProbeBook, rng: random.Random) -> None:
        self._book = book
        self._rng = rng
        self._bursts_ns = 0
        """When bursts are due next, but for those before a run."""
        self._end_free_ns: dict[str, int] = {}
        """When a node's last burst is through."""

    def before(self, goal: Goal, keys: Collection[Key], since_ns: int, now_ns: int, *, busy: bool) -> list[Order]:
        """Trains towards a goal, of these links. Narrow links get their bursts first, and paced probes when these are over.

        What was ordered since `since_ns` counts.
        """
        links = self._book.links
        had = {key: links[key].had(since_ns) for key in keys}
        bursts = [key for key in keys for _ in range(goal.bursts.get(key, 0) - had[key][1])]
        quiet = bool(bursts) or any(burst for _, burst in self._book.under_way())
        left = {key: goal.probes.get(key, 0) - had[key][0] for key in keys}
        waiting = sorted(
            (
                key
                for key, more in left.items()
                if more > 0 and links[key].next_ns <= now_ns and not (quiet and _is_narrow(links[key].link))
            ),
            key=lambda key: (had[key][0] / goal.probes[key], self._rng.random()),
        )
        orders = self._bursts(bursts, now_ns, busy=busy)
        budget = int(BEFORE.probes_per_s * BEFORE.round_s)
        for key in waiting:
            if budget <= 0:
                break
            interval = hurried_interval_ns(links[key].link, goal.probes[key])
            count = min(left[key], budget, max(4, int(BEFORE.round_s * _S / interval)))
            budget -= count
            self._add(orders, key, count, interval, busy=busy, now_ns=now_ns)
        return orders

    def reached(self, goal: Goal, keys: Collection[Key], since_ns: int) -> bool:
        """Whether all that a goal asks of these links has been ordered since then, and has come in."""
        for key in keys:
            one = self._book.links[key]
            probes, bursts = one.had(since_ns)
            if (
                one.open_probes
                or one.open_bursts
                or probes < goal.probes.get(key, 0)
                or bursts < goal.bursts.get(key, 0)
            ):
                return False
        return True

    def steady(self, pace: ProbePace, keys: Collection[Key], now_ns: int, *, busy: bool) -> list[Order]:
        """Trains at a steady pace, of the links first that were probed longest ago."""
        budget = int(pace.probes_per_s * pace.round_s)
        bursting = now_ns >= self._bursts_ns and bool(by_bandwidth({key: self._book.links[key].link for key in keys}))
        quiet = bursting or any(burst for _, burst in self._book.under_way())
        orders: list[Order] = []
        ready = [key for key in keys if self._book.links[key].next_ns <= now_ns]
        for key in sorted(ready, key=lambda key: (self._book.links[key].next_ns, self._rng.random())):
            link = self._book.links[key].link
            if budget < TRAIN_PROBES or not link.measurable:
                continue
            if quiet and _is_narrow(link):
                continue
            count = LOSS_TRAIN_PROBES if 0 < link.shape.loss < SMALL_LOSS else TRAIN_PROBES
            budget -= count
            self._add(orders, key, count, steady_interval_ns(link), busy=busy, now_ns=now_ns)
        if bursting and not any(_is_narrow(self._book.links[key].link) for key, _ in self._book.under_way()):
            self._bursts_ns = now_ns + int(pace.bursts_s * _S)
            rules = by_bandwidth({key: self._book.links[key].link for key in keys})
            orders += self._bursts([self._rng.choice(rules[rule]) for rule in rules], now_ns, busy=busy)
        return orders

    def _bursts(self, keys: Iterable[Key], now_ns: int, *, busy: bool) -> list[Order]:
        """A burst on each of these links whose ends have none now, as far as a machine can carry them at a time."""
        orders: list[Order] = []
        if any(_is_narrow(self._book.links[key].link) for key, burst in self._book.under_way() if not burst):
            return orders
        bps = sum(self._book.links[key].link.asked_bps or 0.0 for key, burst in self._book.under_way() if burst)
        for key in keys:
            link = self._book.links[key].link
            shape, asked = burst_of(link), link.asked_bps
            if shape is None or asked is None or any(self._end_free_ns.get(end, 0) > now_ns for end in key):
                continue
            if bps and bps + asked > BURSTS_BPS_MAX:
                continue
            bps += asked
            count, size = shape
            through_ns = count * link.serialized_ns(size) + link.shape.delay_ns + 2 * link.spread_ns + BURST_NS
            self._end_free_ns |= dict.fromkeys(key, now_ns + int(through_ns))
            train = self._book.order(key, count=count, interval_ns=0, size=size, busy=busy, now_ns=now_ns)
            orders += [] if train is None else [(key, train)]
        return orders

    def _add(self, orders: list[Order], key: Key, count: int, interval_ns: int, *, busy: bool, now_ns: int) -> None:
        train = self._book.order(key, count=count, interval_ns=interval_ns, size=PROBE_BYTES, busy=busy, now_ns=now_ns)
        if train is not None:
            orders.append((key, train))


def steady_interval_ns(link: ProbedLink) -> int:
    """Between probes of a train when there is time."""
    return int(min(INTERVAL_NS_MAX, max(INTERVAL_NS, link.apart_ns, _narrow_interval_ns(link))))


def hurried_interval_ns(link: ProbedLink, probes: int) -> int:
    """Between probes of which so many are to be sent soon; delays that depend on each other tell of losses alone."""
    fits = max(INTERVAL_NS_MIN, min(2 * INTERVAL_NS, SPREAD_NS / max(1, probes)))
    apart = 0 if link.shape.loss else link.apart_ns
    return int(min(INTERVAL_NS_MAX, max(fits, apart, _narrow_interval_ns(link))))


def _narrow_interval_ns(link: ProbedLink) -> float:
    return link.serialized_ns(PROBE_BYTES) / BANDWIDTH_SHARE


def _is_narrow(link: ProbedLink) -> bool:
    """Whether a burst on another link of the same ends may hold up its probes."""
    return link.narrowest is not None


__all__ = ["BEFORE", "DURING", "REST", "Chooser", "Goal", "MeasuredLink", "ProbePace", "goal_of"]
