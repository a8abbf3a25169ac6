"""Events of peering; refused handshakes, hellos and records get one event each as long as they are few."""

from typing import Protocol

from p2pnet.model.events import EventKind
from p2pnet.peering.clock import NS, mono_ns

EVENTS_PER_S = 20
"""Beyond this, refusals are only counted: whoever dials in vain all day must not push other events out of the ring."""
DETAIL_CHARS_MAX = 500
"""Longest text of an event: peers' names and reasons are part of it."""


class EventLog(Protocol):
    """Takes one event, never blocks, never fails. A node's is its ring of events."""

    incarnation: str
    """Names this start of the node."""

    def add(self, mono_ns: int, kind: EventKind, *, peer: str = "", detail: str = "") -> None:
        """Append what happened at `mono_ns` (CLOCK_MONOTONIC, ns)."""


class Refusals:
    """Counts every refusal, and adds at most EVENTS_PER_S of them per second to the events."""

    def __init__(self, events: EventLog) -> None:
        self.total = 0
        self._events = events
        self._second = 0
        self._added = 0

    def note(self, kind: str, why: str, *, peer: str = "") -> None:
        """Something was refused, here or by a peer. `kind` is a `TrustRefusal`, `hello`, `record` or `handshake`."""
        now = mono_ns()
        self.total += 1
        if now // NS != self._second:
            self._second, self._added = now // NS, 0
        self._added += 1
        if self._added <= EVENTS_PER_S:
            self._events.add(now, EventKind.REFUSED, peer=peer, detail=f"{kind}: {why}"[:DETAIL_CHARS_MAX])
