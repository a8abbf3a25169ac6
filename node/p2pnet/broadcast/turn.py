"""What the parts of one Broadcast share: the time, the way out, the counters and the timers."""

from typing import TYPE_CHECKING

from p2pnet.broadcast.effects import Effect, Emit
from p2pnet.broadcast.timers import Timers
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

if TYPE_CHECKING:
    from random import Random

MS = 1_000_000  # nanoseconds
SECOND = 1_000 * MS

COUNTERS = (
    # receiver's table
    "updates", "updates_with_artifact", "rows_new", "rows_overwritten", "rows_stale", "rows_seen_id", "rows_removed",
    "rows_over_limit", "updates_malformed", "updates_busy", "updates_postponed", "updates_dropped", "members_changed",
    # fetching
    "tasks_started", "tasks_completed", "tasks_dropped", "tasks_stashed", "fetches", "fetch_errors", "fetch_hedges",
    "fetches_served", "fetched_bytes",
    # sender
    "publications", "publications_duplicate", "withdrawals", "withdrawals_unknown", "publications_queued",
    "publications_refused", "sent", "sent_requests", "delivered", "send_errors", "send_retries", "cancelled", "resent",
    "empties", "suppressed", "given_up", "synced",
    # pool
    "received", "received_bytes", "validated", "duplicates", "rejected", "removed", "relays_held", "relays_released",
    "client_runs", "client_ns",
)  # fmt: skip


class Turn:
    """One per Broadcast; `now` and `wall` are those of the input being handled."""

    __slots__ = ("chance", "counters", "effects", "now", "settings", "soon", "timers", "tokens", "wall")

    def __init__(self, settings: BroadcastSettings, chance: "Random") -> None:
        self.settings = settings
        self.chance = chance
        self.now = 0
        """Monotonic nanoseconds."""
        self.wall = 0.0
        """Unix seconds."""
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.soon = False
        """Something waits for the end of this turn: the driver's next Wake."""
        self.tokens = 0

    def token(self) -> int:
        """Unique per Broadcast and process."""
        self.tokens += 1
        return self.tokens

    def emit(  # noqa: PLR0917 - as in Emit; called for every artifact, where keywords cost
        self,
        kind: EventKind,
        artifact: ArtifactId | None,
        peer: str = "",
        hop: int = 0,
        size: int = 0,
        detail: str = "",
    ) -> None:
        """An event, at its place among this turn's effects."""
        self.effects.append(Emit(kind, artifact, peer, hop, size, detail))

    def backoff(self, attempts: int, first_ns: int, most_ns: int) -> int:
        """Nanoseconds to wait after the `attempts`-th failure: doubled each time, give or take a quarter."""
        pause = min(most_ns, first_ns << min(attempts - 1, 32))
        return int(pause * self.chance.uniform(0.75, 1.25))
