"""The bounded ring of a node's events: written by its loop, read by cursor, every lost event counted."""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice

from p2pnet.model import limits
from p2pnet.model.control import Events
from p2pnet.model.events import Event, EventKind

WAITERS_MAX = 64
"""Long polls open at a time; a lab holds one, and one more after a reconnect."""

Waiter = Callable[[], None]


class EventRing:
    """The last `capacity` events of one incarnation. `cursor` is the seq of the event that comes next.

    `add` never blocks and never fails: when the ring is full its oldest event is dropped, and a reader that had not read
    it is told how many it missed.
    """

    def __init__(self, incarnation: str, boot_id: str, capacity: int = limits.EVENT_RING) -> None:
        self.incarnation = incarnation
        self.boot_id = boot_id
        self.cursor = 0
        self.counts: Counter[EventKind] = Counter()
        """Events of each kind since the start, dropped ones included."""
        self._events: deque[Event] = deque(maxlen=max(1, capacity))
        self._waiters: dict[int, Waiter] = {}
        self._waiter_ids = 0

    @property
    def first(self) -> int:
        """The seq of the oldest event still here; `cursor` when there is none."""
        return self.cursor - len(self._events)

    def add(
        self,
        mono_ns: int,
        kind: EventKind,
        *,
        client: str = "",
        artifact: str = "",
        peer: str = "",
        hop: int = 0,
        size: int = 0,
        detail: str = "",
    ) -> None:
        """Append one event and call all waiters. `size` becomes the event's `bytes`."""
        self._events.append(Event(self.cursor, mono_ns, kind, client, artifact, peer, hop, size, detail))
        self.cursor += 1
        self.counts[kind] += 1
        if self._waiters:
            # Taken out before they are called: a waiter may wait again.
            waiters, self._waiters = list(self._waiters.values()), {}
            for waiter in waiters:
                waiter()

    def read(self, cursor: int, incarnation: str = "", limit: int = limits.EVENTS_PER_READ) -> Events:
        """At most `limit` events from `cursor` on; asked about another incarnation, from the first one still in the ring."""
        if incarnation not in ("", self.incarnation):
            cursor = 0
        cursor = min(max(cursor, 0), self.cursor)
        start = max(cursor, self.first)
        limit = min(max(limit, 0), limits.EVENTS_PER_READ)
        offset = start - self.first
        # islice walks a deque from its start; a reader that keeps up reads the end, so that is walked backwards
        if offset > len(self._events) // 2:
            tail = list(islice(reversed(self._events), len(self._events) - offset))
            tail.reverse()
            events = tail[:limit]
        else:
            events = list(islice(self._events, offset, offset + limit))
        return Events(
            incarnation=self.incarnation,
            boot_id=self.boot_id,
            events=events,
            cursor=start + len(events),
            missed=start - cursor,
        )

    def has_new(self, cursor: int, incarnation: str = "") -> bool:
        """Whether `read` with these arguments would return anything new."""
        return cursor < self.cursor or incarnation not in ("", self.incarnation)

    def wait(self, waiter: Waiter) -> int | None:
        """Call `waiter` once, at the next event. Returns a handle for `forget`, or None when too many wait already."""
        if len(self._waiters) >= WAITERS_MAX:
            return None
        self._waiter_ids += 1
        self._waiters[self._waiter_ids] = waiter
        return self._waiter_ids

    def forget(self, handle: int) -> None:
        """Drop the waiter of `handle`; unknown handles are ignored."""
        self._waiters.pop(handle, None)
