"""What peering tells of itself: events, and of refused handshakes, hellos and records one each as long as they are few."""

from typing import Protocol

from p2pnet.model.events import EventKind
from p2pnet.peering.clock import NS, mono_ns

EVENTS_PER_S = 20
"""Beyond this, refusals are only counted: a stranger that knocks all day must not push the events out of the ring."""
DETAIL_CHARS_MAX = 500


class EventLog(Protocol):
    """Takes one event, never blocks, never fails. A node's is its ring of events."""

    incarnation: str
    """Of the node: one start of it."""

    def add(self, mono_ns: int, kind: EventKind, *, peer: str = "", detail: str = "") -> None:
        """Append what happened at `mono_ns` (CLOCK_MONOTONIC, ns)."""


class Refusals:
    """Counts all, tells some."""

    def __init__(self, events: EventLog) -> None:
        self.total = 0
        self._events = events
        self._second = 0
        self._told = 0

    def note(self, kind: str, why: str, *, peer: str = "") -> None:
        """Somebody was refused, here or by a peer. `kind` is a `TrustRefusal`, `hello`, `record` or `handshake`."""
        now = mono_ns()
        self.total += 1
        if now // NS != self._second:
            self._second, self._told = now // NS, 0
        self._told += 1
        if self._told <= EVENTS_PER_S:
            self._events.add(now, EventKind.REFUSED, peer=peer, detail=f"{kind}: {why}"[:DETAIL_CHARS_MAX])
