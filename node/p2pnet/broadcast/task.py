"""The assembler's state: a task per artifact being fetched, a supplier per connected peer, a part request per request."""

from collections.abc import Callable

from p2pnet.broadcast.artifact import HASH_BYTES, all_parts, part_count, part_length
from p2pnet.broadcast.context import MS, SECOND
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.stripes import OpenPart
from p2pnet.broadcast.table import SupplierState
from p2pnet.model.events import FetchTimes
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER

TIMEOUT_FIRST_S = 15.0
"""Seconds until a request without an answer has failed; doubled for each, for a slow link needs longer."""
TIMEOUT_MOST_S = 120.0
HEDGE_LEAST_NS = 250 * MS
"""Bounds of the wait before a slow request is hedged, in nanoseconds."""
HEDGE_MOST_NS = 4 * SECOND
MISSES_MAX = 8
"""Waiting tasks that may find too little quota in one go before the rest goes on waiting: it bounds the work per freed byte."""
WINDOW_FIRST = 4
"""Requests in flight to a peer of unknown pace."""


class Supplier:
    """One connected peer as a source of parts: its requests in flight, pace and failures.

    The window bounds the requests in flight, so that a slow peer is not asked for more than it can deliver in time.
    """

    __slots__ = (
        "begun",
        "begun_first",
        "best_ns",
        "connection",
        "failures",
        "latency_ns",
        "peer",
        "requests",
        "silent",
        "timeout_s",
        "waiting",
        "window",
    )

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.requests: dict[int, PartRequest] = {}
        """Requests in flight by token; each uses a stream."""
        self.window = WINDOW_FIRST
        self.latency_ns: float | None = None
        """Smoothed time until an answer; None: unknown."""
        self.best_ns = 0
        """The shortest time until an answer; 0: none yet."""
        self.failures = 0
        """Recent failures; each useful answer halves them."""
        self.silent = 0
        """Requests that timed out since the last useful answer."""
        self.timeout_s = TIMEOUT_FIRST_S
        self.begun: dict[ArtifactId, None] = {}
        """Tasks that wait for a stream and have parts of this peer already, longest waiting first."""
        self.begun_first = False
        """Whether `begun` got the last free stream before `waiting`: they take turns."""
        self.waiting: dict[ArtifactId, None] = {}
        """Other tasks that wait for a stream, longest waiting first."""

    @property
    def is_full(self) -> bool:
        """Whether as many requests are in flight as the window allows."""
        return len(self.requests) >= self.window

    def hedge_after_ns(self) -> int:
        """Nanoseconds after which an answer is late enough to ask a second source too."""
        if self.latency_ns is None:
            return HEDGE_LEAST_NS if self.failures else HEDGE_MOST_NS // 2
        return int(min(HEDGE_MOST_NS, max(HEDGE_LEAST_NS, 4 * self.latency_ns)))

    def succeeded(self, took_ns: int) -> None:
        """A useful answer came. The window grows while answers come about as fast as the fastest one did."""
        self.latency_ns = took_ns if self.latency_ns is None else self.latency_ns + (took_ns - self.latency_ns) / 4
        self.best_ns = took_ns if not self.best_ns else min(self.best_ns, took_ns)
        # Halved, not cleared: a peer that fails every other time stays behind one that never does.
        self.failures //= 2
        self.silent = 0
        self.timeout_s = max(TIMEOUT_FIRST_S, self.timeout_s / 2)
        # As in delay-based congestion control: growing times mean that requests queue at the peer.
        if took_ns <= 2 * self.best_ns:
            self.window = min(FETCH_STREAMS_PER_PEER, self.window + 1)
        elif took_ns > 4 * self.best_ns:
            self.window = max(WINDOW_FIRST, self.window - 1)

    def failed(self, *, lost: bool, waited_ns: int = 0) -> None:
        """A request failed: `lost` without an answer after this wait, or with a useless one."""
        self.failures += 1
        # A request that failed early was cut off by a lost connection, not ignored.
        self.silent += lost and waited_ns >= TIMEOUT_FIRST_S * SECOND
        if lost:
            self.window = max(1, self.window // 2)
            self.timeout_s = min(TIMEOUT_MOST_S, self.timeout_s * 2)


class WaitingLines:
    """The lines in which tasks wait for a stream or for quota of one peer, and who is next."""

    __slots__ = ("_pump", "_quota")

    def __init__(self, quota: Quota, pump: Callable[[ArtifactId], None]) -> None:
        """`pump`: lets a task request what it can, after which it may wait again."""
        self._quota = quota
        self._pump = pump

    def resume(self, peer: str, supplier: Supplier | None) -> None:
        """A stream or quota of this peer is free: the tasks that have waited longest may request again.

        Of two streams that become free, one goes first to tasks that have parts of this peer already, the other to the rest:
        so tasks that have begun come to an end, and others are not starved by them. `supplier` None: it is not connected.
        """
        if supplier is None:
            self._resume_line(peer, None, (False, True))
            return
        supplier.begun_first = not supplier.begun_first
        if supplier.begun_first:
            self._resume_begun(supplier)
        self._resume_line(peer, supplier, (False, None, True))
        self._resume_begun(supplier)

    def _resume_begun(self, supplier: Supplier) -> None:
        """Tasks that have parts of this peer; each requests once, and waits at the end of the line again if it wants more."""
        for _ in range(len(supplier.begun)):
            if supplier.is_full or not supplier.begun:
                return
            self._pump(_take_first(supplier.begun))

    def _resume_line(self, peer: str, supplier: Supplier | None, lines: tuple[bool | None, ...]) -> None:
        """Resume tasks of these waiting lines, one line after the other; see `_first_in`."""
        for line in lines:
            misses = 0
            while misses < MISSES_MAX and not (supplier is not None and supplier.is_full):
                artifact = self._first_in(line, peer, supplier)
                if artifact is None:
                    break
                self._pump(artifact)
                misses = misses + 1 if self._quota.is_waiting(artifact, peer) else 0

    def _first_in(self, line: bool | None, peer: str, supplier: Supplier | None) -> ArtifactId | None:
        """Take the longest waiting task off a line: False: for reserved quota, True: for passing quota, None: for a stream."""
        if line is not None:
            return self._quota.first_waiting(peer, passing=line)
        if supplier is None or not supplier.waiting:
            return None
        return _take_first(supplier.waiting)


def _take_first(line: dict[ArtifactId, None]) -> ArtifactId:
    """Remove and return the first id of a line that is not empty."""
    artifact = next(iter(line))
    del line[artifact]
    return artifact


class Arrivals:
    """When new stripes came. One peer that trickles does not hide that the others have ended."""

    __slots__ = ("last", "others", "peer")

    def __init__(self, now: int) -> None:
        self.last = self.others = now
        """When the last one came, and the last one of another peer than that; or the row."""
        self.peer = ""
        """Who sent the last one."""

    def came(self, now: int, peer: str) -> int:
        """A new stripe has come; the pause before it, 0 if it is of the same peer as the one before."""
        pause = 0
        if peer != self.peer:
            pause, self.others, self.peer = now - self.last, self.last, peer
        self.last = now
        return pause


class Awaiting:
    """How the stripes of one artifact have come so far: while they come, nothing is fetched."""

    __slots__ = ("arrivals", "gap_ns", "look_at", "relayed_after_ns", "since")

    def __init__(self, now: int) -> None:
        self.since = now
        """When its row came."""
        self.arrivals = Arrivals(now)
        self.look_at = now
        """When the wait is looked at next."""
        self.relayed_after_ns = 0
        """Time from its row until the first stripe that another peer passed on; 0: none has come."""
        self.gap_ns = 0
        """The longest time between two new stripes of different peers since then."""

    def came(self, now: int, peer: str, *, first_hand: bool) -> bool:
        """A new stripe has come; whether it is the first one that another peer has passed on."""
        pause = self.arrivals.came(now, peer)
        is_first = not first_hand and not self.relayed_after_ns
        if is_first:
            self.relayed_after_ns = max(1, now - self.since)
        elif self.relayed_after_ns:
            self.gap_ns = max(self.gap_ns, pause)
        return is_first


class Task:
    """One artifact being fetched."""

    __slots__ = (
        "artifact",
        "asked_at",
        "awaits",
        "closed",
        "dealer",
        "delivered",
        "first_at",
        "key",
        "lacking",
        "opened",
        "part_list",
        "parts",
        "requests",
        "since",
        "size",
        "unasked",
        "waits",
    )

    def __init__(self, artifact: ArtifactId, now: int) -> None:
        self.artifact = artifact
        self.since = now
        """When it was wanted first."""
        self.asked_at = self.first_at = 0
        """When the first request left and when the first part was here; 0: not yet."""
        self.key = b""
        self.size = 0
        """Encoded bytes; known, like the key, once the part list is."""
        self.part_list = b""
        """Checked against the id; empty: not known yet."""
        self.parts: list[memoryview | None] = []
        """By number; None: not here."""
        self.lacking = 0
        """Bitmap of the parts that have not arrived."""
        self.unasked = 0
        """Bitmap of the lacking parts that are not requested from anybody."""
        self.requests: dict[int, PartRequest] = {}
        self.delivered: dict[str, int] = {}
        """Bytes of parts by the peer that delivered them."""
        self.waits: dict[str, None] = {}
        """Peers in whose lines it waits, or has waited, for a stream; removed from all of them when it ends."""
        self.dealer = ""
        """The peer that deals it out in stripes; empty: none does."""
        self.awaits: Awaiting | None = None
        """Stripes of it are expected, so nothing is fetched."""
        self.opened: dict[int, OpenPart] = {}
        """Parts of which some leaves are here, by number."""
        self.closed: set[str] = set()
        """Peers that sent a wrong stripe of it: they are not believed again."""

    @property
    def here(self) -> int:
        """Bitmap of the parts that have arrived."""
        return all_parts(self.size) & ~self.lacking if self.part_list else 0

    def times(self, now: int) -> FetchTimes:
        """How long it took, complete by now."""
        first = self.first_at or now
        asked = min(self.asked_at or first, first)
        return FetchTimes((asked - self.since) // 1000, (first - asked) // 1000, (now - first) // 1000)

    def begin(self, size: int, key: bytes, part_list: bytes) -> None:
        """Take the checked part list: every part is lacking now."""
        self.size, self.key, self.part_list = size, key, part_list
        self.parts = [None] * part_count(size)
        self.lacking = self.unasked = all_parts(size)

    def open(self, part: int) -> OpenPart:
        """The part with this number, of which some leaves are here or about to be."""
        found = self.opened.get(part)
        if found is None:
            root = self.part_list[part * HASH_BYTES : (part + 1) * HASH_BYTES]
            found = self.opened[part] = OpenPart(part_length(self.size, part), root)
        return found

    def lacking_leaves(self, part: int) -> int:
        """Bitmap of the leaves to ask for, of a part that is lacking; 0: none is here, so the part as a whole."""
        opened = self.opened.get(part)
        return opened.lacking if opened is not None and opened.here else 0


class PartRequest:
    """One request in flight: for one part, or (`part` None) for the part list and parts of the source's choice."""

    __slots__ = (
        "hedged",
        "is_hedge",
        "leaves",
        "most",
        "part",
        "quota_bytes",
        "sent_at",
        "size",
        "source",
        "supplier",
        "task",
        "token",
    )

    def __init__(
        self, token: int, task: Task, source: SupplierState, supplier: Supplier, *, part: int | None, now: int
    ) -> None:
        self.token = token
        self.task = task
        self.source = source
        self.supplier = supplier
        self.part = part
        self.size = task.size if task.part_list else source.size
        self.sent_at = now
        self.most = 1
        """Parts that may come with the answer."""
        self.quota_bytes = 0
        """Passing bytes of the source's quota that were taken for it."""
        self.hedged = False
        """A second source was asked for the same."""
        self.is_hedge = False
        """It is the second request for the same."""
        self.leaves = 0
        """Bitmap of the leaves asked for; 0: the whole part."""
