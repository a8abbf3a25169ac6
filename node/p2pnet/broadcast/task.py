"""What the assembler keeps in mind: a task for each id on its way, a supplier for each peer, an ask for each request."""

from p2pnet.broadcast.artifact import all_parts, part_count
from p2pnet.broadcast.context import MS, SECOND
from p2pnet.broadcast.table import SupplierState
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER

TIMEOUT_FIRST_S = 15.0
TIMEOUT_MOST_S = 120.0
HEDGE_LEAST_NS = 250 * MS
HEDGE_MOST_NS = 4 * SECOND
WINDOW_FIRST = 4


class Supplier:
    """One connected peer as a source: streams in use, pace, failures.

    The window keeps a slow peer from being asked for more than it can deliver in time.
    """

    __slots__ = (
        "asks",
        "begun",
        "begun_first",
        "best_ns",
        "connection",
        "failures",
        "latency_ns",
        "peer",
        "silent",
        "timeout_s",
        "waiting",
        "window",
    )

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.asks: dict[int, Ask] = {}
        """By token: streams in use."""
        self.window = WINDOW_FIRST
        self.latency_ns: float | None = None
        """Smoothed; None: unknown, which is neither fast nor slow."""
        self.best_ns = 0
        self.failures = 0
        """Recent ones: an answer halves them."""
        self.silent = 0
        """Requests without an answer since the last answer of use."""
        self.timeout_s = TIMEOUT_FIRST_S
        self.begun: dict[ArtifactId, None] = {}
        """Tasks that could use a stream, of which this peer has delivered something."""
        self.begun_first = False
        self.waiting: dict[ArtifactId, None] = {}
        """Other tasks that could use a stream, longest waiting first."""

    @property
    def is_full(self) -> bool:
        """No stream is free."""
        return len(self.asks) >= self.window

    def hedge_after_ns(self) -> int:
        """When an answer is late enough to ask another peer too."""
        if self.latency_ns is None:
            return HEDGE_LEAST_NS if self.failures else HEDGE_MOST_NS // 2
        return int(min(HEDGE_MOST_NS, max(HEDGE_LEAST_NS, 4 * self.latency_ns)))

    def succeeded(self, took_ns: int) -> None:
        """An answer of use. The window grows while answers come about as fast as the fastest one."""
        self.latency_ns = took_ns if self.latency_ns is None else self.latency_ns + (took_ns - self.latency_ns) / 4
        self.best_ns = took_ns if not self.best_ns else min(self.best_ns, took_ns)
        self.failures //= 2
        self.silent = 0
        self.timeout_s = max(TIMEOUT_FIRST_S, self.timeout_s / 2)
        if took_ns <= 2 * self.best_ns:
            self.window = min(FETCH_STREAMS_PER_PEER, self.window + 1)
        elif took_ns > 4 * self.best_ns:
            self.window = max(WINDOW_FIRST, self.window - 1)

    def failed(self, *, lost: bool, waited_ns: int = 0) -> None:
        """No answer (`lost`) after so long a wait, or one of no use."""
        self.failures += 1
        self.silent += lost and waited_ns >= TIMEOUT_FIRST_S * SECOND
        if lost:
            self.window = max(1, self.window // 2)
            self.timeout_s = min(TIMEOUT_MOST_S, self.timeout_s * 2)


class Task:
    """One id on its way."""

    __slots__ = ("artifact", "asks", "delivered", "key", "lacking", "part_list", "parts", "size", "unasked", "waits")

    def __init__(self, artifact: ArtifactId) -> None:
        self.artifact = artifact
        self.key = b""
        self.size = 0
        """Known with the part list, like the key."""
        self.part_list = b""
        """Checked; empty: not known."""
        self.parts: list[memoryview | None] = []
        self.lacking = 0
        """Bitmap of the parts that have not arrived."""
        self.unasked = 0
        """Those of them that nobody owes."""
        self.asks: dict[int, Ask] = {}
        self.delivered: dict[str, int] = {}
        """Bytes by peer."""
        self.waits: dict[str, None] = {}
        """Peers in whose lines it has waited for a stream: taken off them all when it ends."""

    @property
    def here(self) -> int:
        """Bitmap of the parts that have arrived."""
        return all_parts(self.size) & ~self.lacking if self.part_list else 0

    def begin(self, size: int, key: bytes, part_list: bytes) -> None:
        """The part list is known."""
        self.size, self.key, self.part_list = size, key, part_list
        self.parts = [None] * part_count(size)
        self.lacking = self.unasked = all_parts(size)


class Ask:
    """One request in flight: for one part, or (`part` None) for the part list and some parts."""

    __slots__ = (
        "charged",
        "hedged",
        "is_hedge",
        "most",
        "part",
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
        """Parts that may come."""
        self.charged = 0
        """Passing bytes that were charged for it."""
        self.hedged = False
        self.is_hedge = False
