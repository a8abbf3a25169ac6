"""Probe trains over an emulated link, honest or not, on a process that is now and then late. For tests of the canary."""

import random
from dataclasses import dataclass, replace

from p2pnet.measure.canary import LinkSeen
from p2pnet.measure.probes import Arrival, ProbedLink, Train, seen
from p2pnet.model.network import CLEAR, PACKET_OVERHEAD_BYTES, AccessShape, LinkShape, NodeNetwork
from p2pnet.netem import Egress, Ingress

MS = 1_000_000
S = 1_000_000_000
PROBE_BYTES = 64
BURST_BYTES = 1_200


@dataclass(frozen=True)
class Process:
    """How late a node's process is with a packet: a little always, at times in crowds."""

    usual_ns: float = 100_000
    stall_ns: float = 30 * MS
    stalls_per_s: float = 1.0

    def late(self, rng: random.Random, times: list[int]) -> list[int]:
        """When the packets that reached it at these times (sorted) are read."""
        found, until, next_stall = [], 0, rng.expovariate(self.stalls_per_s) * S
        for at in times:
            while next_stall <= at:
                until = int(next_stall + rng.uniform(0, self.stall_ns))
                next_stall += rng.expovariate(self.stalls_per_s) * S
            found.append(max(at, until) + int(rng.expovariate(1 / self.usual_ns)))
        return found


CALM = Process()


@dataclass(frozen=True)
class Truth:
    """What a link really does."""

    shape: LinkShape = CLEAR
    up: AccessShape | None = None
    down: AccessShape | None = None


def truth_of(link: ProbedLink) -> Truth:
    return Truth(link.shape, link.up, link.down)


@dataclass(frozen=True)
class Course:
    """Which trains are sent: so many probes, one every `interval_ns`, in trains; and trains of back-to-back probes."""

    probes: int = 40
    train: int = 8
    interval_ns: int = 100 * MS
    bursts: int = 10
    burst: int = 60


def carried(
    truth: Truth, sent: list[tuple[int, int]], rng: random.Random, process: Process = CALM
) -> list[tuple[int, int]]:
    """Which probes arrive when: (index, time). `sent`: time and size of each, in order of time."""
    egress: Egress[int] = Egress(rng.random)
    ingress: Ingress[int] = Ingress()
    network = NodeNetwork(1, [truth.shape], {"b": 0}, up=truth.up, down=truth.down)
    egress.apply(network, 0)
    ingress.apply(network, 0)
    found: list[tuple[int, int]] = []

    def until(now: int) -> None:
        while (times := [at for at in (egress.next_at(), ingress.next_at()) if at is not None]) and min(times) <= now:
            at = min(times)
            for index in egress.due(at):
                ingress.send(index, sent[index][1] + PACKET_OVERHEAD_BYTES, at)
            found.extend((at, index) for index in ingress.due(at))

    for index, (at, size) in enumerate(sent):
        until(at)
        egress.send("b", index, size + PACKET_OVERHEAD_BYTES, at)
    until(1 << 62)
    found.sort()
    late = process.late(rng, [at for at, _ in found])
    return [(index, at) for (_, index), at in zip(found, late, strict=True)]


def probe(
    link: ProbedLink, truth: Truth, seed: int, course: Course = Course(), process: Process = CALM, *,
    busy: bool = False, bound_ns: float = 0.0, start_ns: int = S,
) -> LinkSeen:  # fmt: skip
    """Send a course of trains over a link that really does `truth`; what the canary has of it."""
    rng = random.Random(f"{seed} {link.source} {link.to}")
    interval = max(course.interval_ns, int(link.apart_ns))
    plans: list[tuple[int, int, int, int]] = []  # begin, probes, interval, size
    at = start_ns + rng.randrange(interval)
    for _ in range(max(1, course.probes // course.train)):
        plans.append((at, course.train, interval, PROBE_BYTES))
        at += (course.train + 1) * interval
    if link.asked_bps is not None:
        gap = int(2 * course.burst * (BURST_BYTES + 28) * 8 * S / link.asked_bps) + link.shape.delay_ns + S
        for _ in range(course.bursts):
            at += gap
            plans.append((at, course.burst, 0, BURST_BYTES))
    sent = [(begin + index * every, size) for begin, count, every, size in plans for index in range(count)]
    arrived: dict[int, list[int]] = {}
    for index, when in carried(truth, sent, rng, process):
        arrived.setdefault(index, []).append(when)
    trains, base = [], 0
    for begin, count, every, size in plans:
        arrivals = tuple(
            Arrival(seq, sent[base + seq][0], when) for seq in range(count) for when in arrived.get(base + seq, ())
        )
        trains.append(Train(begin, count, size, arrivals, burst=not every, busy=busy, bound_ns=bound_ns))
        base += count
    return LinkSeen(link, [seen(link, train) for train in trains])


def many(
    links: list[ProbedLink], seed: int, course: Course = Course(), process: Process = CALM, **lies: Truth
) -> list[LinkSeen]:
    """As `probe`, over all links; honest ones but for those in `lies`, by `source_to`."""
    return [
        probe(link, lies.get(f"{link.source}_{link.to}", truth_of(link)), seed, course, process) for link in links
    ]  # fmt: skip


__all__ = [
    "CALM",
    "MS",
    "Course",
    "LinkSeen",
    "Process",
    "S",
    "Truth",
    "carried",
    "many",
    "probe",
    "replace",
    "truth_of",
]
