"""Probe datagrams, by which the lab sees what the network does: sent to linked peers on its order, stamped where they arrive.

They pass the same seam as everything else, and are no part of QUIC: the fixed bit of their first byte is clear. They are counted
here alone. A probe is `PROBE`, padded with zeros to its size.
"""

import hashlib
import struct
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from heapq import heappop, heappush
from itertools import islice
from typing import Any

import msgspec

from p2pnet.model.control import (
    PROBES_KEPT_MAX,
    PROBES_PER_ORDER_MAX,
    ROUTE_PROBE,
    ROUTE_PROBES,
    ControlRefusal,
    ControlReply,
    ProbeArrived,
    ProbeOrder,
    Probes,
    ProbeSent,
    ProbesOrdered,
    ProbesRequest,
    ProbeTrain,
)
from p2pnet.model.limits import NODES_MAX
from p2pnet.node.precise_timer import PreciseTimer, Ring, make_timer
from p2pnet.node.seam import NetworkSeam
from p2pnet.peering.clock import NS, mono_ns
from p2pnet.peering.peers import PeerLink
from p2pnet.quic.addresses import remote

PROBE = struct.Struct(">4sB3x8sQIQ")
"""Magic, version, three bytes of zero, whom it is for (`probe_tag`), train, number within the train, when it was sent (ns)."""
PROBE_MAGIC = b"\x05p2p"  # RFC 9443 leaves 4 to 15 to nobody: neither STUN, nor DTLS, nor QUIC
PROBE_VERSION = 1
PROBE_BYTES_MAX = 1_472
"""The largest probe: with its headers an Ethernet packet."""
PROBES_PER_S = 2_000
"""Probes a second that orders may ask of a node in the long run: a tenth of one core."""
PROBES_AT_ONCE = 2 * PROBES_PER_ORDER_MAX
"""Probes that may be ordered beyond that rate; also those that one peer may send."""
ARRIVALS_PER_S = 2 * PROBES_PER_S
"""Probes a second taken from one peer in the long run: one that is healed of a pause sends what was held back."""
TRAINS_MAX = 2_000
"""Trains under way: four to each of 500 peers."""
TRAIN_NS_MAX = 600 * NS
"""From a train's first probe to its last."""
PROBES_PER_TURN = 256
"""Probes sent in one turn of the loop; more follow in the next."""
PROBES_PER_READ = 5_000
"""In one answer to the lab: about a quarter of a MiB."""
SOON_NS = 50_000
"""What is due within this time is sent now: the loop could not wait for it any better."""
PROBE_FATES = ("sent", "arrived", "malformed", "stray", "flooded")
"""What is counted: `stray` are of nobody linked, or for somebody else; `flooded` came faster than a peer may send."""
_TRAIN_MAX = (1 << 64) - 1

Links = Callable[[str], PeerLink | None]
"""The link with a peer; None while there is none."""


class Allowance:
    """A bound on how often: `per_s` in the long run, `most` at once. Times are ns of one clock."""

    def __init__(self, per_s: float, most: int) -> None:
        self._per_ns, self._most = per_s / NS, most
        self._left = float(most)
        self._counted_ns = 0

    def take(self, count: int, now_ns: int) -> bool:
        """Take so many; False, and nothing is taken, if there are not as many."""
        self._left = min(self._most, self._left + (now_ns - self._counted_ns) * self._per_ns)
        self._counted_ns = now_ns
        if count > self._left:
            return False
        self._left -= count
        return True


class _Train(msgspec.Struct):
    """A train under way."""

    asked: ProbeTrain
    due_ns: int
    sent: int = 0
    first_ns: int = 0
    last_ns: int = 0
    late_ns: int = 0


class ProbeLog:
    """The probes of one incarnation that arrived, and the trains it has sent: the last PROBES_KEPT_MAX, read by cursor."""

    def __init__(self, incarnation: str, boot_id: str, capacity: int = PROBES_KEPT_MAX) -> None:
        self._incarnation, self._boot_id = incarnation, boot_id
        self._entries: deque[ProbeSent | ProbeArrived] = deque(maxlen=capacity)
        self._cursor = 0

    def add(self, entry: ProbeSent | ProbeArrived) -> None:
        """Append; the oldest goes when there is no room."""
        self._entries.append(entry)
        self._cursor += 1

    def read(self, request: ProbesRequest) -> Probes:
        """At most PROBES_PER_READ entries from the request's cursor on."""
        cursor = min(max(request.cursor, 0), self._cursor)
        oldest = self._cursor - len(self._entries)
        start = max(cursor, oldest)
        limit = min(max(request.limit, 0), PROBES_PER_READ)
        found = list(islice(self._entries, start - oldest, start - oldest + limit))
        return Probes(
            incarnation=self._incarnation,
            boot_id=self._boot_id,
            sent=[one for one in found if isinstance(one, ProbeSent)],
            arrived=[one for one in found if isinstance(one, ProbeArrived)],
            cursor=start + len(found),
            missed=start - cursor,
        )


class ProbeSender:
    """Sends the trains that the lab orders, and logs what arrives. All methods belong to the loop."""

    def __init__(
        self,
        start: tuple[str, str],
        seam: NetworkSeam,
        links: Links,
        *,
        clock_ns: Callable[[], int] = mono_ns,
        timer: Callable[[Ring], PreciseTimer] = make_timer,
    ) -> None:
        """`start`: incarnation and boot id of this node."""
        self.log = ProbeLog(*start)
        self.counts: Counter[str] = Counter()
        """By fate, see PROBE_FATES."""
        self.routes: Mapping[bytes, tuple[type[Any], Callable[[Any], ControlReply]]] = {
            ROUTE_PROBE: (ProbeOrder, self.order),
            ROUTE_PROBES: (ProbesRequest, self.log.read),
        }
        self._seam, self._links = seam, links
        self._tag = probe_tag(start[0])
        self._clock_ns, self._make_timer = clock_ns, timer
        self._timer: PreciseTimer | None = None
        self._trains: list[tuple[int, int, _Train]] = []  # a heap, the earliest first
        self._order = 0
        self._allowance = Allowance(PROBES_PER_S, PROBES_AT_ONCE)
        self._allowances: dict[str, Allowance] = {}  # by peer

    def stop(self) -> None:
        """Send no more probes."""
        self._trains.clear()
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def link_down(self, peer: str) -> None:
        """There is no link with this peer any more."""
        self._allowances.pop(peer, None)

    # --- sending ---

    def order(self, order: ProbeOrder) -> ControlReply:
        """Begin to send these trains, unless they are too many."""
        if (problem := _problem(order)) is not None:
            return ControlRefusal("bad-request", problem)
        linked = [train for train in order.trains if self._links(train.peer) is not None]
        count = sum(train.count for train in linked)
        now = self._clock_ns()
        if len(self._trains) + len(linked) > TRAINS_MAX or not self._allowance.take(count, now):
            return ControlRefusal(
                "not-yet", f"this node sends at most {PROBES_PER_S} probes a second, {TRAINS_MAX} trains"
            )
        for train in linked:
            self._push(_Train(train, now))
        self._send_due()
        unlinked = {train.peer: None for train in order.trains if self._links(train.peer) is None}
        return ProbesOrdered(count, list(unlinked))

    def _push(self, train: _Train) -> None:
        self._order += 1
        heappush(self._trains, (train.due_ns, self._order, train))

    def _send_due(self) -> None:
        """Send what is due, and set the timer for the rest."""
        for _ in range(PROBES_PER_TURN):
            now = self._clock_ns()
            if not self._trains or self._trains[0][0] > now + SOON_NS:
                break
            _, _, train = heappop(self._trains)
            if self._send_one(train, now) and train.sent < train.asked.count:
                train.due_ns += train.asked.interval_ns
                self._push(train)
            else:
                self.log.add(
                    ProbeSent(
                        train.asked.peer, train.asked.train, train.sent, train.first_ns, train.last_ns, train.late_ns
                    )
                )
        self._arm()

    def _send_one(self, train: _Train, now: int) -> bool:
        """Send the next probe of a train; False without a link to send it on."""
        asked, link = train.asked, self._links(train.asked.peer)
        if link is None:
            return False
        head = PROBE.pack(
            PROBE_MAGIC, PROBE_VERSION, probe_tag(link.candidate.incarnation), asked.train, train.sent, now
        )
        self._seam.send_probe(asked.peer, (head.ljust(asked.size, b"\0"), link.connection.raw_address))
        self.counts["sent"] += 1
        if not train.sent:
            train.first_ns = now
        train.last_ns = now
        train.late_ns = max(train.late_ns, now - train.due_ns)
        train.sent += 1
        return True

    def _arm(self) -> None:
        if self._trains:
            if self._timer is None:
                self._timer = self._make_timer(self._send_due)
            self._timer.set(self._trains[0][0])
        elif self._timer is not None:
            self._timer.clear()

    # --- receiving ---

    def arrived(self, data: bytes, address: Any) -> None:
        """Take a datagram that is none of QUIC's: see `quic.ForeignHook`."""
        now = self._clock_ns()
        probe = read_probe(data)
        if probe is None:
            self.counts["malformed"] += 1
            return
        tag, train, number, sent_ns = probe
        peer = self._seam.addresses.peer_at(address)
        link = None if peer is None else self._links(peer)
        # The address must be that of the link now in use; the tag shows that its sender has spoken to this start of the node.
        if peer is None or link is None or remote(link.connection.raw_address) != remote(address) or tag != self._tag:
            self.counts["stray"] += 1
            return
        if not self._allowances.setdefault(peer, Allowance(ARRIVALS_PER_S, PROBES_AT_ONCE)).take(1, now):
            self.counts["flooded"] += 1
            return
        self.counts["arrived"] += 1
        self.log.add(ProbeArrived(peer, train, number, sent_ns, now, len(data)))


@lru_cache(maxsize=2 * NODES_MAX)
def probe_tag(incarnation: str) -> bytes:
    """What a probe for this start of a node carries: whoever sends it has had its hello."""
    return hashlib.sha256(incarnation.encode(errors="replace")).digest()[:8]


def read_probe(data: bytes) -> tuple[bytes, int, int, int] | None:
    """Tag, train, number and time of sending; None for what is no probe of this version."""
    if len(data) < PROBE.size or len(data) > PROBE_BYTES_MAX:
        return None
    magic, version, tag, train, number, sent_ns = PROBE.unpack_from(data)
    return (tag, train, number, sent_ns) if magic == PROBE_MAGIC and version == PROBE_VERSION else None


def _problem(order: ProbeOrder) -> str | None:
    """What is wrong with an order; None: nothing."""
    count = 0
    for train in order.trains:
        if train.count < 1:
            return f"count: {train.count} is below 1"
        count += train.count
        if not 0 <= train.train <= _TRAIN_MAX:
            return f"train: {train.train} is not between 0 and {_TRAIN_MAX}"
        if not PROBE.size <= train.size <= PROBE_BYTES_MAX:
            return f"size: {train.size} is not between {PROBE.size} and {PROBE_BYTES_MAX}"
        if train.interval_ns < 0 or train.interval_ns * train.count > TRAIN_NS_MAX:
            return f"interval_ns: {train.count} probes every {train.interval_ns} ns: at most {TRAIN_NS_MAX} ns together"
    if count > PROBES_PER_ORDER_MAX:
        return f"{count} probes, at most {PROBES_PER_ORDER_MAX}"
    return None
