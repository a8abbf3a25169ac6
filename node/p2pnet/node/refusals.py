"""Refused handshakes, hellos and records: an event each, as long as they are few."""

from p2pnet.model.events import EventKind
from p2pnet.node.clock import NS, mono_ns
from p2pnet.node.events import EventRing

EVENTS_PER_S = 20
"""Beyond this, refusals are only counted: a stranger that knocks all day must not push the events out of the ring."""
DETAIL_CHARS_MAX = 500


class Refusals:
    """Counts all, tells some."""

    def __init__(self, ring: EventRing) -> None:
        self.total = 0
        self._ring = ring
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
            self._ring.add(now, EventKind.REFUSED, peer=peer, detail=f"{kind}: {why}"[:DETAIL_CHARS_MAX])
