"""What the parts of one Broadcast share: the time of the present input, the effects so far, counters, events and timers."""

from collections.abc import Hashable, Iterator
from enum import IntEnum
from heapq import heappop, heappush

from p2pnet.broadcast.artifact import RandomSource
from p2pnet.broadcast.effects import Effect, Emit
from p2pnet.model.backoff import wait_after
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

MS = 1_000_000
"""Nanoseconds of a millisecond."""
SECOND = 1_000 * MS

COUNTERS = (
    # receiver
    "updates", "updates_with_artifact", "rows_new", "rows_overwritten", "rows_stale", "rows_seen_id", "rows_removed",
    "rows_over_limit", "updates_malformed", "updates_busy", "updates_postponed", "updates_dropped", "members_changed",
    # assembler
    "tasks_started", "tasks_looked_at", "tasks_completed", "tasks_dropped", "tasks_stashed", "fetches", "fetch_errors",
    "fetch_hedges", "fetches_served", "fetched_bytes", "parts_served",
    "assembled", "assemblies_failed", "pieces_fetched",
    # sender
    "publications", "publications_duplicate", "withdrawals", "withdrawals_unknown", "publications_queued",
    "publications_refused", "sent", "sent_requests", "delivered", "send_errors", "send_retries", "cancelled", "resent",
    "empties", "suppressed", "given_up", "synced", "progress",
    # pool and client
    "received", "received_bytes", "validated", "duplicates", "rejected", "removed", "relays_held", "relays_released",
    "client_runs", "client_ns", "client_failures", "refusals_evicted", "events_left_out",
    # digests
    "digests", "digests_same", "digests_listed",
    # stripes
    "scattered", "stripes_sent", "stripes_passed_on", "stripe_requests", "stripes_received", "stripes_duplicate",
    "stripes_dropped",
)  # fmt: skip

BRANCHES = (
    # receiver
    "tombstone_met", "stale_update", "row_limit_met", "same_id_in_two_slots", "turn_share_used",
    "update_of_replaced_connection", "advertise_instead_answered", "push_completed_a_fetch", "restarted_by_new_row",
    "stash_woke", "unwanted_answered", "ghost_rows_ended",
    # assembler
    "two_holders_at_once", "another_source_after_failure", "hedge_sent", "hedge_won", "wrong_content", "source_gone",
    "source_answered_have", "source_given_up", "task_without_path_ended", "task_waited_for_quota",
    "task_waited_for_stream", "passing_bytes_evicted", "parts_from_several_peers",
    "last_source_left", "silent_peer_given_up",
    # sender
    "resent_after_reconnect", "sent_again_after_failure", "advertise_instead_obeyed", "slot_queue_used",
    "slot_queue_withdrawn", "slot_reused", "empty_sent", "lone_push_reset", "suppressed_by_row", "due_when_row_ended",
    "content_changed_on_its_way", "partial_offered", "partial_became_complete", "partial_withdrawn", "relay_waited_for_slot",
    "connection_replaced", "synced_after_retry",
    "edge_turned_eager_again", "eager_edge_turned_lazy",
    # pool and client
    "produced_what_was_fetched", "client_raised", "purged_id_met", "expired_on_arrival", "unvalidated_lost",
    # digests
    "another_peer_let_to_send", "promise_broken",
    "digest_mismatch", "listed_id_unknown_there", "held_artifact_offered", "digest_lost",
    # stripes
    "stripe_before_its_row", "stripe_wrong", "stripe_unproven", "stripe_unwanted", "stripes_missed", "stripes_repaired",
    "stripes_dealt_again", "stripes_withdrawn", "silent_relay_met",
)  # fmt: skip
"""Rare states: counted like the rest, so that tests can say which of them were never reached."""

_ZEROS = dict.fromkeys(COUNTERS + BRANCHES, 0)

EVENTS_PER_PEER = 200
"""Events about one peer's misbehaviour that may come at once; what is left out is counted."""
EVENTS_PER_PEER_S = 20.0
DUPLICATES_PER_PEER = 20_000
"""The same for duplicate payloads: more, for each has cost its sender a whole payload."""
DUPLICATES_PER_PEER_S = 2_000.0


ORIGIN_MAX = (1 << 32) - 1
"""The greatest number of a publisher: four bytes of every update."""


class Timer(IntEnum):
    """Every reason to wake up, with the key that tells timers of one kind apart."""

    RETRY = 0  # updates that failed are due again; key: the number of their group
    EMPTY = 1  # freed slots have not been re-used for 50 ms
    SYNCED = 2  # `synced` failed on the way; key: peer
    HEDGE = 3  # the answer to a part request is late; key: its token
    FETCH = 4  # a source of a task may be asked again; key: artifact id
    NO_PATH = 5  # a task has had no path to its missing parts for long; key: artifact id
    STASH = 6  # ask the bouncer again about ids that it may want later
    FORGET = 7  # rows of a peer's ended connections end; key: peer
    PROGRESS = 8  # more parts of a partial artifact are to be announced; key: slot
    DIGEST = 9  # compare digests with some peers
    CLIENT = 10  # call a client again that raised
    EXPIRE = 11  # the first artifact expires, or the first refusal ends
    TICK = 12  # run a client that asked to be run periodically
    STRIPES = 13  # no new stripe of an artifact may have come for too long; key: artifact id
    EARLY = 14  # stripes whose artifact nobody has announced are dropped
    DEALT = 15  # peers that were dealt stripes may be silent


_LASTING = (Timer.EXPIRE, Timer.TICK)


class Timers:
    """Timers by kind and key, in one heap with lazy deletion: a heap entry counts only while `_armed` has the same time.

    EXPIRE and TICK are kept apart: they also run while a node is at rest.
    """

    __slots__ = ("_armed", "_heap", "_lasting", "_sequence")

    def __init__(self) -> None:
        self._armed: dict[tuple[Timer, Hashable], int] = {}
        self._heap: list[tuple[int, int, tuple[Timer, Hashable]]] = []
        self._lasting: dict[Timer, int] = {}
        self._sequence = 0

    def set(self, kind: Timer, key: Hashable, at_ns: int) -> None:
        """Fire at this time, in monotonic nanoseconds, in place of any earlier setting of the same timer."""
        if kind in _LASTING:
            self._lasting[kind] = at_ns
            return
        name = (kind, key)
        self._armed[name] = at_ns
        self._sequence += 1  # ties fire in the order they were set, and keys are never compared
        heappush(self._heap, (at_ns, self._sequence, name))

    def cancel(self, kind: Timer, key: Hashable) -> None:
        """Unset the timer, if it is set."""
        self._armed.pop((kind, key), None)
        if kind in _LASTING:
            self._lasting.pop(kind, None)

    def is_set(self, kind: Timer, key: Hashable) -> bool:
        """Whether the timer is set."""
        return (kind, key) in self._armed or kind in self._lasting

    def armed(self) -> list[tuple[Timer, Hashable]]:
        """All timers that are set, without EXPIRE and TICK."""
        return list(self._armed)

    def next(self, *, lasting: bool = True) -> int | None:
        """When the first timer fires, None if none is set; `lasting` False leaves out EXPIRE and TICK."""
        heap, armed = self._heap, self._armed
        # Void: unset, or set anew for another time.
        while heap and armed.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        first = heap[0][0] if heap else None
        if lasting:
            for at in self._lasting.values():
                first = at if first is None else min(first, at)
        return first

    def due(self, now: int) -> Iterator[tuple[Timer, Hashable]]:
        """The timers whose time has come, each unset before it is yielded."""
        while (at := self.next(lasting=False)) is not None and at <= now:
            name = heappop(self._heap)[2]
            del self._armed[name]
            yield name
        for kind in _LASTING:
            if self._lasting.get(kind, now + 1) <= now:
                del self._lasting[kind]
                yield kind, None


class EventBudgets:
    """A token bucket for each peer, for events that it can cause at will, so that no peer fills the event log.

    A bucket is one number: when it will be full again. So ten thousand simulated nodes can have one for each of their peers.
    """

    __slots__ = ("_each_ns", "_full_at", "_most_ns")

    def __init__(self, most: int, per_s: float) -> None:
        self._each_ns = int(SECOND / per_s)  # in which one token comes back
        self._most_ns = (most - 1) * self._each_ns  # with more of them to wait, less than one token is left
        self._full_at: dict[str, int] = {}

    def take(self, peer: str, now: int) -> bool:
        """Whether one more event about this peer may be emitted at `now` (ns)."""
        full_at = max(now, self._full_at.get(peer, 0))
        if full_at - now > self._most_ns:
            return False
        self._full_at[peer] = full_at + self._each_ns
        return True

    def forget(self, peer: str) -> None:
        """Drop a peer's bucket."""
        self._full_at.pop(peer, None)


class Counts(dict[str, int]):
    """Counters by name, each 0 until it is counted: ten thousand simulated nodes need no place for those that never are."""

    __slots__ = ()

    # In C, for each node counts a dozen things for the first time. KeyError: there is no such counter.
    __missing__ = _ZEROS.__getitem__

    def every(self) -> dict[str, int]:
        """All counters there are, with those that are 0."""
        return _ZEROS | self


class Context:
    """Shared state of one Broadcast; `now`, `wall` and `effects` belong to the input being handled."""

    __slots__ = (
        "_duplicates", "_misdeeds", "counters", "effects", "narrow_uplink", "now", "origin", "rng", "settings", "soon",
        "timers", "tokens", "wall",
    )  # fmt: skip

    def __init__(self, settings: BroadcastSettings, rng: RandomSource) -> None:
        self.settings = settings
        self.rng = rng
        self.origin = 1 + int(rng.random() * ORIGIN_MAX)
        """What this node's own artifacts carry: it says which of them came from the same start of a node, not which node."""
        self.now = 0
        """Monotonic nanoseconds."""
        self.wall = 0.0
        """Unix seconds."""
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.counters = Counts()
        self.narrow_uplink = False
        """What this node sends waits for its access link."""
        self.soon = False
        """Something has to be done at the end of this loop turn: the driver shall pass a Wake."""
        self.tokens = 0
        self._misdeeds = EventBudgets(EVENTS_PER_PEER, EVENTS_PER_PEER_S)
        self._duplicates = EventBudgets(DUPLICATES_PER_PEER, DUPLICATES_PER_PEER_S)

    def token(self) -> int:
        """A new number, unique per Broadcast."""
        self.tokens += 1
        return self.tokens

    def count(self, what: str, n: int = 1) -> None:
        """Add to a counter in COUNTERS or BRANCHES."""
        self.counters[what] += n

    def emit(  # noqa: PLR0917 - as in Emit; called for every artifact, where keywords cost
        self,
        kind: EventKind,
        artifact: ArtifactId | None,
        peer: str = "",
        hop: int = 0,
        size: int = 0,
        detail: str = "",
    ) -> None:
        """Add an event to the effects."""
        self.effects.append(Emit(kind, artifact, peer, hop, size, detail))

    def emit_about(  # noqa: PLR0917 - as `emit`
        self,
        kind: EventKind,
        artifact: ArtifactId | None,
        peer: str,
        hop: int = 0,
        size: int = 0,
        detail: str = "",
    ) -> None:
        """Add an event that a peer can cause at will, as far as the peer's budget goes; else only count it."""
        budgets = self._duplicates if kind is EventKind.DUPLICATE else self._misdeeds
        if budgets.take(peer, self.now):
            self.effects.append(Emit(kind, artifact, peer, hop, size, detail))
        else:
            self.counters["events_left_out"] += 1

    def forget_peer(self, peer: str) -> None:
        """Drop the budgets of a peer that has no rows and no connection."""
        self._misdeeds.forget(peer)
        self._duplicates.forget(peer)

    def backoff(self, attempts: int, first_ns: int, most_ns: int) -> int:
        """Nanoseconds to wait after the `attempts`-th failure in a row: doubled each time, jittered by 25 %."""
        # Bounded before it is shifted: attempts have no end.
        pause = wait_after(attempts, first_ns, most_ns)
        # Jitter: peers that failed together must not all come back together.
        return int(pause * self.rng.uniform(0.75, 1.25))
