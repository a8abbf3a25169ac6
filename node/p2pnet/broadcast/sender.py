"""The sender: which slot each of this node's artifacts has, and what every peer is due for it."""

from collections import deque

from p2pnet.broadcast.delivery import Delivery
from p2pnet.broadcast.outbox import Content, Outbox
from p2pnet.broadcast.slots import SlotSet
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import MS, Turn
from p2pnet.model.ids import ArtifactId

EMPTY_AFTER_NS = 50 * MS  # most slots are re-used at once, and re-use needs no empty


class Sender:
    """Gives every offered artifact a slot, and has each peer told once per content and connection."""

    def __init__(self, turn: Turn, table: Table) -> None:
        self._turn = turn
        self._table = table
        self._resend_pushes = turn.settings.relay == "push"
        self.slots = SlotSet(turn.settings.slots_per_peer)
        self.contents: dict[int, Content] = {}
        """By slot: active ones, and empties until their slot is taken again."""
        self.active: dict[ArtifactId, Content] = {}
        self.delivery = Delivery(turn, table, self.contents)
        self._freed: deque[tuple[int, int]] = deque()  # (when to say so, slot), oldest first
        self._freed_at: dict[int, int] = {}

    @property
    def boxes(self) -> dict[str, Outbox]:
        """The connected peers."""
        return self.delivery.boxes

    def offer(
        self,
        artifact: ArtifactId,
        size: int,
        hop: int,
        *,
        data: bytes | None = None,
        urgent: bool = False,
        complete: bool = True,
        audience: set[str] | None = None,
    ) -> bool:
        """Announce an artifact of `size` encoded bytes to all peers or to an audience; with `data`, push it.

        An id that has a slot is announced anew only when it was partial and is complete now. False: no slot is free.
        """
        commit = self.slots.commit()
        old = self.active.get(artifact)
        if old is not None:
            if old.complete or not complete:
                self._turn.counters["publications_duplicate"] += 1
                return True
            slot, audience = old.slot, old.audience
            self.delivery.clear(slot)
        else:
            taken = self.slots.take()
            if taken is None:
                return False
            slot = taken
        content = Content(
            slot, commit, artifact, data=data, size=size, hop=hop, urgent=urgent, complete=complete, audience=audience
        )
        self.active[artifact] = self.contents[slot] = content
        self._freed_at.pop(slot, None)
        self._turn.counters["publications"] += 1
        self.delivery.announce(content)
        return True

    def withdraw(self, artifact: ArtifactId) -> bool:
        """Free the artifact's slot, if it has one."""
        self.slots.commit()
        content = self.active.pop(artifact, None)
        if content is None:
            self._turn.counters["withdrawals_unknown"] += 1
            return False
        self._turn.counters["withdrawals"] += 1
        slot = content.slot
        del self.contents[slot]
        self.delivery.clear(slot)
        self.slots.free(slot)
        at = self._turn.now + EMPTY_AFTER_NS
        self._freed.append((at, slot))
        self._freed_at[slot] = at
        if len(self._freed) == 1:
            self._turn.timers.set(Timer.EMPTY, None, at)
        return True

    def widen(self, artifact: ArtifactId, peer: str | None) -> None:
        """Announce what had an audience to one more peer, or (None) to all."""
        content = self.active.get(artifact)
        if content is None or content.audience is None:
            return
        if peer is None:
            audience, content.audience = content.audience, None
            new = [box for box in self.boxes.values() if box.peer not in audience]
        else:
            content.include(peer)
            new = [self.boxes[peer]]
        for box in new:
            self.delivery.mark(box, content, push=self._resend_pushes)

    def say_empty(self) -> None:
        """The time has come for the oldest freed slots: those that were not taken again are announced empty."""
        while self._freed and self._freed[0][0] <= self._turn.now:
            at, slot = self._freed.popleft()
            if self._freed_at.get(slot) != at:
                continue
            del self._freed_at[slot]
            reached = [box for box in self.boxes.values() if slot in box.reached]
            if reached:
                empty = self.contents[slot] = Content(slot, self.slots.commit(), None)
                for box in reached:
                    self.delivery.mark(box, empty, push=False)
                self._turn.counters["empties"] += 1
        if self._freed:
            self._turn.timers.set(Timer.EMPTY, None, self._freed[0][0])

    def connect(self, peer: str, connection: int) -> None:
        """All active slots are due to this peer, as adverts unless the subnet's relay is `push`."""
        box = self.delivery.connect(peer, connection)
        for content in self.active.values():
            if content.is_for(peer):
                self.delivery.mark(box, content, push=self._resend_pushes)
        self._turn.counters["resent"] += len(box.due)

    def row_begun(self, peer: str, artifact: ArtifactId) -> None:
        """The peer now announces this artifact as complete: what is not written to it yet need not be."""
        content = self.active.get(artifact)
        if content is not None and content.complete and peer in self.boxes:
            self.delivery.suppress(self.boxes[peer], content.slot)

    def row_ended(self, peer: str, artifact: ArtifactId) -> None:
        """A row of the peer ended: a suppressed update is due, unless another row still has the id."""
        content, box = self.active.get(artifact), self.boxes.get(peer)
        if content is None or box is None or content.slot not in box.suppressed:
            return
        if not self._table.holds(peer, artifact):
            self.delivery.mark(box, content, push=self._resend_pushes)
