"""The sender: which slot each of this node's artifacts has, and what is announced of it to whom."""

from p2pnet.broadcast.content import Content
from p2pnet.broadcast.context import MS, Context, Timer
from p2pnet.broadcast.delivery import Delivery, DeliveryState, PeerOutbox
from p2pnet.broadcast.edges import Edges
from p2pnet.broadcast.table import Table
from p2pnet.model.ids import ArtifactId, CommitId, Slot

EMPTY_AFTER_NS = 50 * MS
"""How long a freed slot waits to be re-used before it is announced empty: most are re-used at once, which needs no empty."""
PROGRESS_FACTOR = 2
"""By which the pause between two announcements of an artifact's parts grows."""
PROGRESS_PEERS = 4
"""Peers in a full mesh that are told of more parts of one artifact: to tell all of them would cost more than the parts."""


class SlotSet:
    """The slot numbers, all below `limit`. The most recently freed is taken first, so that it need not be announced empty."""

    __slots__ = ("_commit", "_free", "_next", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: list[int] = []
        self._next = 0
        self._commit = 0

    @property
    def allocated(self) -> int:
        """How many slots were ever in use."""
        return self._next

    @property
    def in_use(self) -> int:
        """How many slots are taken now."""
        return self._next - len(self._free)

    @property
    def room(self) -> int:
        """How many more slots could be taken."""
        return self.limit - self.in_use

    def take(self) -> Slot | None:
        """Take a slot; None when all are taken."""
        if self._free:
            return Slot(self._free.pop())
        if self._next >= self.limit:
            return None
        self._next += 1
        return Slot(self._next - 1)

    def free(self, slot: int) -> None:
        """Give a taken slot back."""
        self._free.append(slot)

    def commit(self) -> CommitId:
        """The next commit id, from 0; every change of any slot has one, also a call that turns out to change nothing."""
        self._commit += 1
        return CommitId(self._commit - 1)


class Sender:
    """Gives every offered artifact a slot, and has its content delivered once to each peer and connection."""

    __slots__ = (
        "_context", "_edges", "_freed", "_freed_at", "_progress", "_resend_pushes", "active", "contents", "delivery",
        "slots",
    )  # fmt: skip

    def __init__(self, context: Context, table: Table, edges: Edges) -> None:
        self._context = context
        self._edges = edges
        self._resend_pushes = context.settings.relay == "push"
        self.slots = SlotSet(context.settings.slots_per_peer)
        self.contents: dict[int, Content] = {}
        """By slot: the active ones, and empties until their slot is taken again."""
        self.active: dict[ArtifactId, Content] = {}
        """By artifact: those that have a slot."""
        self.delivery = Delivery(context, table, edges, self.contents)
        self._freed: list[tuple[int, int]] = []  # (when to announce it empty, slot), oldest first
        self._freed_at: dict[int, int] = {}
        self._progress: dict[int, int] = {}  # slot -> the parts to announce at the end of its pause

    @property
    def boxes(self) -> dict[str, PeerOutbox]:
        """The outboxes of the connected peers, by name."""
        return self.delivery.boxes

    def room_for(self, artifact: ArtifactId) -> bool:
        """Whether `offer` would find a slot for this artifact."""
        return artifact in self.active or self.slots.room > 0

    def offer(
        self,
        artifact: ArtifactId,
        size: int,
        hop: int,
        *,
        key: bytes = b"",
        data: bytes | None = None,
        part_list: bytes | None = None,
        urgent: bool = False,
        have: int | None = None,
        audience: set[str] | None = None,
        few: bool = False,
        origin: int = 0,
        pushed_to: set[str] | None = None,
        form: bytes | None = None,
    ) -> bool:
        """Announce an artifact of `size` encoded bytes to all peers, or to an audience; whether it has a slot.

        `data`: push these bytes; `form`: in stripped form. `part_list`: say that stripes of it come. `have`: bitmap, only these
        parts are here so far; `few`: of more parts tell only some peers, chosen at random. `origin`: the number of its
        publisher. `pushed_to`: the peers of the audience that get the bytes at once, over edges (`Edges`); None: all. An
        artifact that has a slot already is announced anew only if it was partial and is complete now.
        """
        commit = self.slots.commit()
        old = self.active.get(artifact)
        done: set[str] = set()
        if old is not None:
            if old.complete or have is not None:
                self._context.count("publications_duplicate")
                return True
            # The complete artifact takes the slot of the partial one: receivers see one row change.
            slot, audience, done = old.slot, old.audience, old.done
            self._forget_progress(slot)
            self.delivery.clear(slot)
            self._context.count("partial_became_complete")
        else:
            taken = self.slots.take()
            if taken is None:
                return False
            slot = taken
            if slot in self._freed_at:  # in time: the new content replaces the row, and no empty is sent
                self._context.count("slot_reused")
        content = Content(
            slot, commit, artifact, data=data, part_list=part_list, form=form, size=size, hop=hop, key=key, urgent=urgent,
            have=have, audience=audience, pushed_to=pushed_to, origin=origin,
        )  # fmt: skip
        self.active[artifact] = self.contents[slot] = content
        self._freed_at.pop(slot, None)
        self._context.count("publications")
        if have is not None:
            self._context.count("partial_offered")
            if few and len(self.boxes) > PROGRESS_PEERS:
                content.progress_peers = set(self._context.rng.sample(list(self.boxes), PROGRESS_PEERS))
        if old is None:
            self.delivery.announce(content)
        else:
            content.progress_peers, content.done = old.progress_peers, done
            self._announce_more(content)
        return True

    def withdraw(self, artifact: ArtifactId) -> bool:
        """Free the artifact's slot; whether it had one."""
        self.slots.commit()
        content = self.active.pop(artifact, None)
        if content is None:
            self._context.count("withdrawals_unknown")
            return False
        self._context.count("withdrawals")
        if not content.complete:
            self._context.count("partial_withdrawn")
        slot = content.slot
        del self.contents[slot]
        self._forget_progress(slot)
        self.delivery.clear(slot)
        self.slots.free(slot)
        at = self._context.now + EMPTY_AFTER_NS
        self._freed.append((at, slot))
        self._freed_at[slot] = at
        if len(self._freed) == 1:
            self._context.timers.set(Timer.EMPTY, None, at)
        return True

    def again(self, artifact: ArtifactId, peer: str) -> None:
        """Announce an artifact that has a slot here to this peer, whose answer showed that it does not know it."""
        content, box = self.active.get(artifact), self.boxes.get(peer)
        if (
            content is None
            or box is None
            or slot_state(box, content) in {DeliveryState.DUE, DeliveryState.IN_FLIGHT, DeliveryState.PAUSED}
        ):
            return
        was_told = content.is_for(peer) and content.slot in box.reached
        content.include(peer)
        content.done.discard(peer)
        if content.pushed_to is not None:
            content.pushed_to.add(peer)
        if was_told:
            # The peer would take the same commit id for stale: use a newer one, with everybody to whom it is still due.
            content.renew(self.slots.commit(), content.have)
            for other in self.boxes.values():
                if slot_state(other, content) in {DeliveryState.IN_FLIGHT, DeliveryState.PAUSED}:
                    self.delivery.mark(other, content, push=False)
        self.delivery.mark(
            box, content, push=self._resend_pushes or (content.is_over_edges and content.pushes_to(peer))
        )

    def announce_empty(self) -> None:
        """Announce those slots empty that were freed EMPTY_AFTER_NS ago and not taken again."""
        while self._freed and self._freed[0][0] <= self._context.now:
            at, slot = self._freed.pop(0)
            # The slot was taken again, or freed again later.
            if self._freed_at.get(slot) != at:
                continue
            del self._freed_at[slot]
            reached = [box for box in self.boxes.values() if slot in box.reached]
            if reached:
                empty = self.contents[slot] = Content(slot, self.slots.commit(), None)
                for box in reached:
                    self.delivery.mark(box, empty, push=False)
                self._context.count("empties")
                self._context.count("empty_sent")
        if self._freed:
            self._context.timers.set(Timer.EMPTY, None, self._freed[0][0])

    # Partial artifacts

    def more_parts(self, artifact: ArtifactId, have: int) -> None:
        """More parts of an artifact that was offered in part are here: announce them after its pause."""
        content = self.active.get(artifact)
        if content is None or content.have is None:
            return
        if content.slot not in self._progress:
            self._context.timers.set(Timer.PROGRESS, content.slot, self._context.now + content.pause_ns)
            content.pause_ns *= PROGRESS_FACTOR
        self._progress[content.slot] = have

    def tell_progress(self, slot: int) -> None:
        """The pause is over: announce the parts of the artifact in this slot."""
        content = self.contents[slot]
        content.renew(self.slots.commit(), self._progress.pop(slot))
        self._context.count("progress")
        self._announce_more(content)

    def _forget_progress(self, slot: int) -> None:
        if self._progress.pop(slot, None) is not None:
            self._context.timers.cancel(Timer.PROGRESS, slot)

    def _announce_more(self, content: Content) -> None:
        """Make the content due to the peers that are told of more parts and need some, and where it is due or in flight."""
        progress_peers, done = content.progress_peers, content.done
        for box in self.boxes.values():
            peer = box.peer
            hears = content.is_for(peer) and peer not in done and (progress_peers is None or peer in progress_peers)
            if hears or slot_state(box, content) in {DeliveryState.DUE, DeliveryState.IN_FLIGHT, DeliveryState.PAUSED}:
                self.delivery.mark(box, content, push=content.pushes_to(peer))

    # Peers

    def connect(self, peer: str, connection: int) -> None:
        """Make all active slots due to this peer, as adverts unless the subnet's relay is `push`."""
        self._edges.connect(peer)
        box = self.delivery.connect(peer, connection)
        for content in self.active.values():
            content.done.discard(peer)
            # Of what this node relays over edges, digests find what the peer lacks; its own it tells at once.
            if not content.hop:
                content.include(peer)
            if content.is_for(peer):
                self.delivery.mark(box, content, push=self._resend_pushes)
        self.delivery.plan_synced(box)
        self._context.count("resent", len(box.due))
        if box.due:
            self._context.count("resent_after_reconnect")

    def disconnect(self, peer: str) -> None:
        """The connection ended."""
        self._edges.disconnect(peer)
        self.delivery.disconnect(peer)

    def is_announced(self, peer: str, artifact: ArtifactId) -> bool:
        """Whether a slot announces this artifact to the peer, now or soon: its delivery ends only with the connection."""
        content = self.active.get(artifact)
        return content is not None and content.complete and content.is_for(peer)

    def asked(self, peer: str, artifact: ArtifactId) -> None:
        """The peer fetches this artifact: its edge turns eager."""
        content = self.active.get(artifact)
        if content is not None and content.is_over_edges:
            self._edges.graft(content.origin, peer)

    def row_begun(self, peer: str, artifact: ArtifactId, origin: int) -> None:
        """The peer now announces this artifact as complete: an update of it that was not sent yet is suppressed.

        `origin`: the number of its publisher, as the peer says. It needs no push of that publisher's from here.
        """
        self._edges.prune(origin, peer)
        content = self.active.get(artifact)
        if content is not None:
            self.delivery.held(peer, content)

    def row_ended(self, peer: str, artifact: ArtifactId) -> None:
        """A row of the peer ended: a suppressed update becomes due, unless another row still shows the artifact."""
        content = self.active.get(artifact)
        if content is not None:
            self.delivery.row_ended(peer, content, push=self._resend_pushes)


def slot_state(box: PeerOutbox, content: Content) -> DeliveryState | None:
    """The delivery state of a slot's content at one peer."""
    return box.states.get(content.slot)
