"""What fetching knows of each connected peer: streams in use, pace, failures."""

from typing import TYPE_CHECKING

from p2pnet.broadcast.turn import MS, SECOND
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import FETCH_STREAMS_PER_PEER

if TYPE_CHECKING:
    from p2pnet.broadcast.task import Ask

TIMEOUT_FIRST_S = 10.0
TIMEOUT_MOST_S = 120.0
HEDGE_LEAST_NS = 200 * MS
HEDGE_MOST_NS = 2 * SECOND
_WINDOW_FIRST = 8
_UNKNOWN_LATENCY_NS = 20.0 * MS


class Lane:
    """One peer, one connection. The window keeps a slow peer from being asked for more than it can deliver in time."""

    __slots__ = ("asks", "connection", "failures", "latency_ns", "peer", "timeout_s", "waiting", "window")

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.asks: dict[int, Ask] = {}
        """By token: streams in use."""
        self.window = _WINDOW_FIRST
        self.latency_ns = _UNKNOWN_LATENCY_NS
        self.failures = 0
        """Recent ones: an answer halves them."""
        self.timeout_s = TIMEOUT_FIRST_S
        self.waiting: dict[ArtifactId, None] = {}
        """Tasks that could use a stream, longest waiting first."""

    @property
    def is_full(self) -> bool:
        """No stream is free."""
        return len(self.asks) >= self.window

    def score(self) -> tuple[int, float]:
        """Lower is better: fewer failures, then the time until an answer."""
        return self.failures, self.latency_ns * (1 + len(self.asks))

    def hedge_after_ns(self) -> int:
        """When an answer is late enough to ask another peer too."""
        return int(min(HEDGE_MOST_NS, max(HEDGE_LEAST_NS, 4 * self.latency_ns)))

    def succeeded(self, took_ns: int) -> None:
        """An answer of use."""
        self.latency_ns += (took_ns - self.latency_ns) / 4
        self.failures //= 2
        self.window = min(FETCH_STREAMS_PER_PEER, self.window + 1)
        self.timeout_s = max(TIMEOUT_FIRST_S, self.timeout_s / 2)

    def failed(self, *, lost: bool) -> None:
        """No answer (`lost`), or one of no use."""
        self.failures += 1
        if lost:
            self.window = max(1, self.window // 2)
            self.timeout_s = min(TIMEOUT_MOST_S, self.timeout_s * 2)
