"""Reading a node's ring of events by cursor, once each, across overlapping reads and restarts. No I/O."""

from dataclasses import dataclass, field

from p2pnet.model.control import Events, EventsRequest
from p2pnet.model.events import Event, Gap

PAST_MAX = 16  # incarnations remembered, so that a late answer of one of them changes nothing


@dataclass(slots=True)
class NodeCursor:
    """Where the lab is in one node's events. `accept` may be fed replies in any order, as often as they come."""

    node: str
    incarnation: str = ""
    boot_id: str = ""
    next_seq: int = 0
    past: list[str] = field(default_factory=list)

    def request(self, *, wait_ms: int, limit: int) -> EventsRequest:
        """What to ask next. It names the incarnation: another one then starts from its own first event."""
        return EventsRequest(self.next_seq, self.incarnation, wait_ms, limit)

    def accept(self, reply: Events) -> tuple[list[Event], list[Gap]]:
        """The events of a reply not seen before, and what is lost for good before them."""
        if reply.incarnation in self.past:
            return [], []
        gaps = []
        if reply.incarnation != self.incarnation:
            if self.incarnation:
                # What it did after the last read died with it, and nobody can say whether that was anything.
                gaps.append(Gap(self.node, self.incarnation, None, "restarted"))
                self.past = [*self.past[-PAST_MAX + 1 :], self.incarnation]
            self.incarnation, self.boot_id, self.next_seq = reply.incarnation, reply.boot_id, 0
        fresh = [event for event in reply.events if event.seq >= self.next_seq]
        first = fresh[0].seq if fresh else max(reply.cursor, self.next_seq)
        if first > self.next_seq:
            gaps.append(
                Gap(self.node, self.incarnation, first - self.next_seq, "left the node's ring before being read")
            )
        self.next_seq = max(self.next_seq, reply.cursor, fresh[-1].seq + 1 if fresh else 0)
        return fresh, gaps
