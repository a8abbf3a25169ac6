"""The canary's bookkeeping: which links are measured since when, which trains are on their way, and which of them count.

A train counts when its sender has told that it was sent to its end, its time to arrive is over, and its receiver has been read
since then, both without a restart, a pause or a change of what is asked of the link meanwhile. All others are forgotten: they
tell nothing of the network. Pure: all times are arguments, nanoseconds on the lab's clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from p2pnet.measure.canary import LinkSeen
from p2pnet.measure.probes import Arrival, ProbedLink, SeenTrain, Train, merged, seen
from p2pnet.model.control import Probes, ProbeSent, ProbeTrain
from p2pnet.model.network import PACKET_OVERHEAD_BYTES

BUNDLE_NS = 20_000_000_000  # paced trains of a link within this time are kept as one
BUNDLES_KEPT = 40  # of each link, the latest, and bursts: ten minutes of a run
MARGIN_NS = 500_000_000  # for timers, and for a process that is late, after a train's time to arrive
SPREADS_MAX = 6.0  # standard deviations of jitter that are waited for
LOST_NS = 60_000_000_000  # a train of which nothing was heard for so long after its time is forgotten
PAST_MAX = 16  # starts of a node that are over and remembered, so that a late answer of one changes nothing
TRAIN_NUMBERS = 1 << 32  # that a probe has room for
OPEN_MAX = 20_000  # trains on their way; a round orders some hundred

Key = tuple[str, str]
"""Source and other end of a directed link."""
Offset = Callable[[str], tuple[int, float] | None]
"""By boot id: what is added to its clock to give the lab's, and how well that is known (ns). None: it is not."""


@dataclass(slots=True)
class MeasuredLink:
    """A link, and what its trains told since what is asked of it last changed."""

    link: ProbedLink
    since_ns: int
    trains: deque[SeenTrain] = field(default_factory=lambda: deque(maxlen=BUNDLES_KEPT))
    cut: bool = False
    """Whether there is no link between the two."""
    next_ns: int = 0
    """When the next train may begin: the last one is sent to its end then."""
    open_probes: int = 0
    open_bursts: int = 0
    """The trains that are on their way."""

    def had(self, since_ns: int) -> tuple[int, int]:
        """Paced probes and bursts ordered since then that count, or are on their way."""
        fresh = [train for train in self.trains if train.at_ns >= since_ns]
        probes = sum(train.sent for train in fresh)
        return self.open_probes + probes, self.open_bursts + sum(not train.sent for train in fresh)


@dataclass(slots=True)
class _OpenTrain:
    key: Key
    train: ProbeTrain
    busy: bool
    ordered_ns: int
    arrivals: list[Arrival] = field(default_factory=list)
    """On the clocks of both ends."""
    sent: ProbeSent | None = None
    sender_boot: str = ""
    due_ns: int = 0
    """When its time to arrive is over; 0: it is not known to be sent to its end."""


@dataclass(slots=True)
class _NodeReads:
    incarnation: str = ""
    boot_id: str = ""
    cursor: int = 0
    read_ns: int = 0
    """When it was last asked and answered."""
    past: list[str] = field(default_factory=list)
    """Starts that are over."""


class ProbeBook:
    """Links and trains of one subnet."""

    def __init__(self, first: int) -> None:
        """`first`: number of the first train, unlike those of a former lab, of which nodes may still tell."""
        self.links: dict[Key, MeasuredLink] = {}
        self._open: dict[int, _OpenTrain] = {}
        self._nodes: dict[str, _NodeReads] = {}
        self._count = first
        self._mark_ns = 0

    # --- what is asked ---

    def ask(self, links: Mapping[Key, ProbedLink], now_ns: int) -> bool:
        """Measure these links from now on, and no others; whether anything changed. Those that changed begin anew."""
        changed = False
        for key in self.links.keys() - links.keys():
            del self.links[key]
            changed = True
        for key, link in links.items():
            known = self.links.get(key)
            if known is None or known.link != link:
                self.links[key] = MeasuredLink(link, now_ns)
                changed = True
        if changed:
            self._forget(lambda one: one.key not in self.links or one.ordered_ns < self.links[one.key].since_ns)
        return changed

    def started(self, node: str, incarnation: str, now_ns: int) -> None:
        """This start of a node serves now; if it is another than before, its links begin anew."""
        known = self._nodes.setdefault(node, _NodeReads())
        if known.incarnation != incarnation and incarnation not in known.past:
            before, fresh = (
                known.incarnation,
                _NodeReads(incarnation, past=[*known.past[-PAST_MAX:], known.incarnation]),
            )
            self._nodes[node] = fresh
            if before:
                self._begin_anew(node, now_ns)

    def _begin_anew(self, node: str, now_ns: int) -> None:
        for key, measured in list(self.links.items()):
            if node in key:
                self.links[key] = MeasuredLink(measured.link, now_ns, cut=measured.cut)
        self.void(node)

    def void(self, node: str) -> None:
        """The node was silent, paused or lost what it knew: trains on their way to or from it do not count."""
        self._forget(lambda one: node in one.key)

    def unlinked(self, key: Key) -> None:
        """There is no link between the two now: receivers take no probes without one. A block is one all the same."""
        measured = self.links[key]
        measured.cut = True
        if not measured.link.blocked:
            self._forget(lambda one: one.key == key)

    def _forget(self, gone: Callable[[_OpenTrain], bool]) -> None:
        for number, train in list(self._open.items()):
            if gone(train):
                del self._open[number]
                self._no_longer_open(train)

    def _no_longer_open(self, train: _OpenTrain) -> None:
        measured = self.links.get(train.key)
        if measured is not None and train.ordered_ns >= measured.since_ns:
            measured.open_probes -= train.train.count if train.train.interval_ns else 0
            measured.open_bursts -= not train.train.interval_ns

    # --- trains ---

    def order(self, key: Key, *, count: int, interval_ns: int, size: int, busy: bool, now_ns: int) -> ProbeTrain | None:
        """A train for this link, to be sent now; without an interval a burst. None: too many are on their way."""
        if len(self._open) >= OPEN_MAX:
            return None
        self._count = (self._count + 1) % TRAIN_NUMBERS
        measured = self.links[key]
        train = ProbeTrain(key[1], count, interval_ns, size, self._count)
        self._open[self._count] = _OpenTrain(key, train, busy, now_ns)
        measured.next_ns = now_ns + count * interval_ns
        measured.open_probes += count if interval_ns else 0
        measured.open_bursts += not interval_ns
        return train

    def refused(self, node: str, trains: Iterable[ProbeTrain]) -> None:
        """The node did not take these trains."""
        for train in trains:
            one = self._open.pop(train.train, None)
            if one is not None:
                self._no_longer_open(one)
            measured = self.links.get((node, train.peer))
            if measured is not None:
                measured.next_ns = 0

    def cursor(self, node: str) -> int:
        """Where to go on reading the node's probes."""
        return self._nodes.setdefault(node, _NodeReads()).cursor

    def read(self, node: str, reply: Probes, asked_ns: int) -> None:
        """Take in what a node tells of probes; `asked_ns`: when it was asked."""
        self.started(node, reply.incarnation, asked_ns)
        known = self._nodes[node]
        if known.incarnation != reply.incarnation:
            return  # a late answer of a start that is over
        if reply.missed and known.boot_id:
            self.void(node)
        known.boot_id, known.cursor, known.read_ns = reply.boot_id, reply.cursor, asked_ns
        for sent in reply.sent:
            one = self._open.get(sent.train)
            if one is not None and one.key == (node, sent.peer):
                one.sent, one.sender_boot = sent, reply.boot_id
        for probe in reply.arrived:
            one = self._open.get(probe.train)
            if one is not None and one.key == (probe.peer, node) and len(one.arrivals) < 2 * one.train.count:
                one.arrivals.append(Arrival(probe.seq, probe.sent_ns, probe.arrived_ns))

    def close_due(self, now_ns: int, offset: Offset) -> int:
        """Let the trains count whose time is over; how many did."""
        closed = 0
        for number, one in list(self._open.items()):
            link = self.links[one.key].link
            if one.sent is not None and not one.due_ns and (known := offset(one.sender_boot)) is not None:
                one.due_ns = one.sent.last_ns + known[0] + int(time_on_the_way_ns(link, one.train, busy=one.busy))
            if one.due_ns and self._nodes.get(one.key[1], _NodeReads()).read_ns > one.due_ns:
                closed += self._count_train(one, offset)
            elif now_ns < one.ordered_ns + one.train.count * one.train.interval_ns + LOST_NS + link.shape.delay_ns:
                continue
            del self._open[number]
            self._no_longer_open(one)
        return closed

    def _count_train(self, one: _OpenTrain, offset: Offset) -> bool:
        source, to = self._nodes[one.key[0]], self._nodes[one.key[1]]
        ours, theirs = offset(source.boot_id), offset(to.boot_id)
        # A train that was not sent to its end lost its link on the way, and with it probes that were sent.
        if ours is None or theirs is None or one.sent is None or one.sent.count < one.train.count:
            return False
        bound = 0.0 if source.boot_id == to.boot_id else ours[1] + theirs[1]
        arrivals = tuple(Arrival(seq, sent + ours[0], arrived + theirs[0]) for seq, sent, arrived in one.arrivals)
        train = one.train
        told = Train(
            one.ordered_ns,
            train.count,
            train.size,
            arrivals,
            burst=not train.interval_ns,
            busy=one.busy,
            bound_ns=bound,
        )
        measured = self.links[one.key]
        self._keep(measured, seen(measured.link, told))
        return True

    def _keep(self, measured: MeasuredLink, train: SeenTrain) -> None:
        trains = measured.trains
        last = trains[-1] if trains else None
        if (
            last is not None and train.rate_bps is None and last.rate_bps is None and last.busy == train.busy
            and self._mark_ns <= last.at_ns <= train.at_ns < last.at_ns + BUNDLE_NS
        ):  # fmt: skip
            trains[-1] = merged(last, train)
        else:
            trains.append(train)

    def mark(self, now_ns: int) -> None:
        """What is ordered from now on can be told from what was ordered before."""
        self._mark_ns = now_ns

    # --- what is known ---

    def open_of(self, node: str) -> bool:
        """Whether trains to or from this node are on their way."""
        return any(node in one.key for one in self._open.values())

    def open_nodes(self) -> set[str]:
        """Nodes that trains are on their way to or from."""
        return {end for one in self._open.values() for end in one.key}

    def under_way(self) -> Iterator[tuple[Key, bool]]:
        """The links that trains are on their way on, and whether as a burst."""
        return ((one.key, not one.train.interval_ns) for one in self._open.values())

    def seen(self, since_ns: int = 0) -> list[LinkSeen]:
        """What is known of all links, by trains ordered since then."""
        return [
            LinkSeen(one.link, [train for train in one.trains if train.at_ns >= since_ns], one.cut)
            for one in self.links.values()
        ]


def time_on_the_way_ns(link: ProbedLink, train: ProbeTrain, *, busy: bool) -> float:
    """The longest that an honest link may take for the last probe of a train."""
    own = link.serialized_ns((train.size + PACKET_OVERHEAD_BYTES) * (train.count if not train.interval_ns else 1))
    delay = link.shape.delay_ns * (2 if link.shape.reorder else 1) + SPREADS_MAX * link.spread_ns
    return delay + own + (link.queueing_ns if busy else 0.0) + MARGIN_NS
