"""The assembler's state: a task per artifact being fetched, a supplier per connected peer, a part request per request."""

from p2pnet.broadcast.artifact import all_parts, part_count
from p2pnet.broadcast.context import MS, SECOND
from p2pnet.broadcast.table import SupplierState
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER

TIMEOUT_FIRST_S = 15.0
"""Seconds until a request without an answer has failed; doubled for each, for a slow link needs longer."""
TIMEOUT_MOST_S = 120.0
HEDGE_LEAST_NS = 250 * MS
"""Bounds of the wait before a slow request is hedged, in nanoseconds."""
HEDGE_MOST_NS = 4 * SECOND
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


class Task:
    """One artifact being fetched."""

    __slots__ = (
        "artifact",
        "delivered",
        "key",
        "lacking",
        "part_list",
        "parts",
        "requests",
        "size",
        "unasked",
        "waits",
    )

    def __init__(self, artifact: ArtifactId) -> None:
        self.artifact = artifact
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

    @property
    def here(self) -> int:
        """Bitmap of the parts that have arrived."""
        return all_parts(self.size) & ~self.lacking if self.part_list else 0

    def begin(self, size: int, key: bytes, part_list: bytes) -> None:
        """Take the checked part list: every part is lacking now."""
        self.size, self.key, self.part_list = size, key, part_list
        self.parts = [None] * part_count(size)
        self.lacking = self.unasked = all_parts(size)


class PartRequest:
    """One request in flight: for one part, or (`part` None) for the part list and parts of the source's choice."""

    __slots__ = (
        "hedged",
        "is_hedge",
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
