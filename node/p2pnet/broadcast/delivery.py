"""Delivery of slot updates to peers: batches are sent, answers taken, failures retried. `sender` decides what a slot holds.

At one peer, on one connection, a slot's update is in one of the states of `DeliveryState`, or in none: nothing is to be sent.
`NEXT` is the state machine: an event without an entry there changes nothing.
"""

from enum import Enum, IntEnum
from itertools import islice

from p2pnet.broadcast.content import Batch, Content, UpdateItem, batches
from p2pnet.broadcast.context import MS, SECOND, Context, Timer
from p2pnet.broadcast.edges import Edges
from p2pnet.broadcast.effects import Cancel, SendSynced, SendUpdates
from p2pnet.broadcast.inputs import SyncedAnswered, UpdatesAnswered
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import PREFIX_BYTES, UpdateStatus, decode_statuses
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.limits import UPDATE_BATCH_BYTES

RETRY_FIRST_NS = 250 * MS
"""First pause after a failure, in nanoseconds; doubled each time, without end: a delivery is never abandoned silently."""
RETRY_MOST_NS = 60 * SECOND
REQUESTS_PER_PEER = 64
"""Requests in flight to one peer, half of the streams it grants; what waits meanwhile travels in fuller batches."""
_BATCH_ENTRIES_MAX = UPDATE_BATCH_BYTES // PREFIX_BYTES
_ALL_MALFORMED = bytes([UpdateStatus.MALFORMED])


class DeliveryState(IntEnum):
    """How far one slot's update has come at one peer."""

    DUE = 1  # to be sent
    IN_FLIGHT = 2  # sent; no answer yet
    PAUSED = 3  # it failed, and is due again after a pause
    SUPPRESSED = 4  # not to be sent: a complete row of the peer's current connection shows the artifact


_DUE, _IN_FLIGHT = DeliveryState.DUE, DeliveryState.IN_FLIGHT  # where every update passes


class DeliveryEvent(Enum):
    """What can happen to one slot's update at one peer."""

    __hash__ = object.__hash__  # an Enum's own is written in Python, and every event is looked up in `NEXT`

    MARKED = "marked"  # the slot has new content, or the peer a new connection
    HELD = "held"  # a row of the peer begins that shows the artifact complete
    ROW_ENDED = "row ended"  # no row of the peer shows the artifact any more
    WRITTEN = "written"
    ACCEPTED = "accepted"  # answered ok, have or unwanted
    FAILED = "failed"  # lost, or answered busy or limit
    ADVERTISE = "advertise"  # answered advertise-instead: the peer has no quota for the bytes
    MALFORMED = "malformed"  # answered malformed: given up, and reported
    RESUMED = "resumed"  # the pause is over
    FREED = "freed"  # the slot has no content any more


NEXT: dict[tuple[DeliveryState | None, DeliveryEvent], DeliveryState | None] = {
    (None, DeliveryEvent.MARKED): DeliveryState.DUE,
    (None, DeliveryEvent.HELD): None,
    (DeliveryState.DUE, DeliveryEvent.WRITTEN): DeliveryState.IN_FLIGHT,
    (DeliveryState.DUE, DeliveryEvent.HELD): DeliveryState.SUPPRESSED,
    (DeliveryState.DUE, DeliveryEvent.FREED): None,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.MARKED): DeliveryState.DUE,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.ACCEPTED): None,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.FAILED): DeliveryState.PAUSED,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.ADVERTISE): DeliveryState.DUE,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.MALFORMED): None,
    (DeliveryState.IN_FLIGHT, DeliveryEvent.FREED): None,
    (DeliveryState.PAUSED, DeliveryEvent.MARKED): DeliveryState.DUE,
    (DeliveryState.PAUSED, DeliveryEvent.RESUMED): DeliveryState.DUE,
    (DeliveryState.PAUSED, DeliveryEvent.HELD): DeliveryState.SUPPRESSED,
    (DeliveryState.PAUSED, DeliveryEvent.FREED): None,
    (DeliveryState.SUPPRESSED, DeliveryEvent.MARKED): DeliveryState.DUE,
    (DeliveryState.SUPPRESSED, DeliveryEvent.ROW_ENDED): DeliveryState.DUE,
    (DeliveryState.SUPPRESSED, DeliveryEvent.FREED): None,
}

AFTER: dict[int, DeliveryEvent] = {
    UpdateStatus.OK: DeliveryEvent.ACCEPTED,
    UpdateStatus.HAVE: DeliveryEvent.ACCEPTED,
    UpdateStatus.UNWANTED: DeliveryEvent.ACCEPTED,
    UpdateStatus.ADVERTISE: DeliveryEvent.ADVERTISE,
    UpdateStatus.BUSY: DeliveryEvent.FAILED,
    UpdateStatus.LIMIT: DeliveryEvent.FAILED,
    UpdateStatus.MALFORMED: DeliveryEvent.MALFORMED,
}


_NO_BATCH = Batch([], [], urgent=False)


class PeerOutbox:
    """The delivery states of all slots at one peer, on one connection.

    Dicts in the place of sets: an empty one takes a third of the memory, and a large simulated world has a million.
    """

    __slots__ = (
        "attempts",
        "before_synced",
        "connection",
        "due",
        "groups",
        "in_flight",
        "lone",
        "peer",
        "reached",
        "states",
        "sync_attempts",
    )  # fmt: skip

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.states: dict[int, DeliveryState] = {}
        """Slot -> state; for a slot without a state nothing is to be sent."""
        self.due: dict[int, bool] = {}
        """Slots in state DUE, in the order they became so -> whether to push their bytes."""
        self.reached: dict[int, None] = {}
        """Slots of which any update was sent: the peer may have a row, so it needs an empty when the slot is freed."""
        self.attempts: dict[int, int] | None = None
        """Slot -> failures in a row, of slots whose last attempt failed. None, as the next two: nothing yet."""
        self.in_flight = 0
        """Requests without an answer."""
        self.lone: dict[int, int] | None = None
        """Slot -> token of its large push that has no answer yet."""
        self.groups: dict[int, None] | None = None
        """Numbers of the retries that wait for the end of their pause."""
        self.before_synced: dict[int, None] | None = {}
        """Slots that must be answered before `synced` is sent; None: it was sent."""
        self.sync_attempts = 0

    @property
    def is_synced_due(self) -> bool:
        """Whether `synced` has to be sent, and nothing has to be answered before."""
        return self.before_synced is not None and not self.before_synced

    def step(self, slot: int, event: DeliveryEvent, *, push: bool = False) -> DeliveryState | None:
        """Apply an event to this slot's update; its new state. `push`: if it becomes DUE, with its bytes."""
        before = self.states.get(slot)
        after = NEXT.get((before, event), before)
        if after is DeliveryState.DUE:
            if before is not DeliveryState.DUE or event is DeliveryEvent.MARKED:
                self.due[slot] = push
        elif before is DeliveryState.DUE:
            self.due.pop(slot, None)
        if after is None:
            self.states.pop(slot, None)
            if not self.states:
                self.states = {}  # without the room of those that were in it
        else:
            self.states[slot] = after
        if after is None or after is DeliveryState.SUPPRESSED:
            if self.attempts:
                self.attempts.pop(slot, None)
            if self.before_synced is not None:
                self.before_synced.pop(slot, None)
        return after


class Delivery:
    """The outboxes of all connected peers, and the update requests in flight."""

    __slots__ = ("_contents", "_context", "_dirty", "_edges", "_fresh", "_requests", "_retries", "_table", "boxes")

    def __init__(self, context: Context, table: Table, edges: Edges, contents: dict[int, Content]) -> None:
        self._context = context
        self._edges = edges
        self._table = table
        self._contents = contents
        """`contents`: what each slot holds, kept by the sender."""
        self.boxes: dict[str, PeerOutbox] = {}
        """By peer, of every connected one."""
        self._requests: dict[int, tuple[PeerOutbox, Batch]] = {}
        self._fresh: dict[int, bool] = {}  # slot -> push, due to every peer alike: batched once for all
        self._dirty: dict[str, PeerOutbox] = {}
        self._retries: dict[int, tuple[PeerOutbox, list[UpdateItem]]] = {}

    # What is due

    def announce(self, content: Content) -> None:
        """A slot has new content: make it due to its audience, pushed if it has a push entry."""
        self._context.soon = True
        # No peer shows it: it is due to all alike, and batched once for all.
        if content.audience is None and content.artifact not in self._table.holders:
            self._fresh[content.slot] = content.push is not None
            return
        over_edges, slot, audience = content.is_over_edges, content.slot, content.audience
        for peer, box in self.boxes.items():
            if audience is None or peer in audience:
                push = content.pushes_to(peer)
                if over_edges:  # whoever holds it is not in the audience: what `mark` does then, without the calls
                    box.states[slot] = _DUE
                    box.due[slot] = push
                    self._dirty[peer] = box
                else:
                    self.mark(box, content, push=push)
            elif slot in box.reached:  # the peer's row still shows the slot's old content
                content.include(peer)
                self.mark(box, content, push=False)

    def mark(self, box: PeerOutbox, content: Content, *, push: bool) -> None:
        """Make it due to one peer. If the peer holds it, it is suppressed, or an advert replaces the peer's older row."""
        slot, artifact = content.slot, content.artifact
        held = artifact is not None and content.complete and self._table.holds(box.peer, artifact)
        box.step(slot, DeliveryEvent.MARKED, push=push and not held)
        if held and slot not in box.reached:
            box.step(slot, DeliveryEvent.HELD)
            self._suppressed()
        self._touch(box)

    def held(self, peer: str, content: Content) -> None:
        """The peer's rows now show it complete: suppress it, or advertise it. What is in flight goes on."""
        slot, box = content.slot, self.boxes.get(peer)
        if box is None or not content.complete:
            return
        # The peer differs from the others now.
        if slot in self._fresh:
            self._spread_fresh()
        if slot in box.reached:
            if slot in box.due:
                box.due[slot] = False
        elif box.states.get(slot) in {DeliveryState.DUE, DeliveryState.PAUSED}:
            box.step(slot, DeliveryEvent.HELD)
            self._suppressed()
            self._touch(box)

    def row_ended(self, peer: str, content: Content, *, push: bool) -> None:
        """A row of the peer ended: a suppressed update becomes due, unless another row still shows the artifact."""
        box = self.boxes.get(peer)
        if box is None or box.states.get(content.slot) is not DeliveryState.SUPPRESSED or content.artifact is None:
            return
        if not self._table.holds(peer, content.artifact):
            box.step(content.slot, DeliveryEvent.ROW_ENDED, push=push)
            self._context.count("due_when_row_ended")
            self._touch(box)

    def clear(self, slot: int) -> None:
        """The slot's content changes: nothing of the old one is due any more, and a large push of it is reset."""
        self._fresh.pop(slot, None)
        for box in self.boxes.values():
            if box.step(slot, DeliveryEvent.FREED) is None and box.before_synced is not None:
                box.before_synced.pop(slot, None)
            if box.lone and (token := box.lone.pop(slot, None)) is not None:
                del self._requests[token]
                box.in_flight -= 1
                self._context.count("cancelled")
                self._context.count("lone_push_reset")
                self._context.effects.append(Cancel(token))
            if box.due or box.is_synced_due:
                self._touch(box)

    # Peers

    def connect(self, peer: str, connection: int) -> PeerOutbox:
        """Open an outbox for this connection. The caller marks the active slots in it, then calls `plan_synced`."""
        self.disconnect(peer)
        self._spread_fresh()
        box = self.boxes[peer] = PeerOutbox(peer, connection)
        self._touch(box)
        return box

    def plan_synced(self, box: PeerOutbox) -> None:
        """Have `synced` sent when everything that is due now was answered."""
        box.before_synced = dict.fromkeys(box.due)

    def disconnect(self, peer: str) -> None:
        """Drop the peer's outbox; answers that still come are ignored."""
        box = self.boxes.pop(peer, None)
        if box is None:
            return
        self._dirty.pop(peer, None)
        self._context.timers.cancel(Timer.SYNCED, peer)
        for group in box.groups or ():
            del self._retries[group]
            self._context.timers.cancel(Timer.RETRY, group)
        # The driver answers them with a failure; the new connection starts from the slots, not from these.
        for token in [token for token, (other, _) in self._requests.items() if other is box]:
            del self._requests[token]

    # Requests

    def flush(self) -> None:
        """Send what is due, as far as the bounds per peer allow."""
        if self._fresh:
            shared = list(batches(self._fresh.items(), self._contents))
            for box in self.boxes.values():
                if (
                    box.due
                    or box.in_flight + len(shared) > REQUESTS_PER_PEER
                    or not self._fresh.keys().isdisjoint(box.states)
                ):
                    for slot, push in self._fresh.items():
                        box.step(slot, DeliveryEvent.MARKED, push=push)
                    self._dirty[box.peer] = box
                else:
                    for batch in shared:
                        self._send(box, batch)
            self._fresh = {}
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            singles: dict[tuple[int, bool], Batch] = {}
            for box in dirty.values():
                self._flush_box(box, singles)

    def answered(self, answered: UpdatesAnswered) -> None:
        """Take the reply to a request of updates, or its failure."""
        request, body = self._requests.pop(answered.token, None), answered.body
        if request is None:
            return
        box, batch = request
        box.in_flight -= 1
        if batch.lone and box.lone:
            box.lone.pop(batch.items[0].slot, None)
        # Nearly every answer: checked first, and without decoding.
        have = body == batch.all_have
        if (have or body == batch.all_ok) and batch.is_plain and not box.attempts and box.before_synced is None:
            self._settle_all(box, batch, have=have)
        else:
            self._settle(box, batch, body)
        if box.due or box.is_synced_due:
            self._touch(box)

    def retry(self, group: int) -> None:
        """The pause after a failure is over: slots whose content has not changed meanwhile are due again."""
        box, items = self._retries.pop(group)
        if box.groups:
            box.groups.pop(group, None)
        for slot, commit, push in items:
            content = self._contents.get(slot)
            # Anything else has been replaced, freed or marked anew during the pause.
            if content is not None and content.commit == commit and box.states.get(slot) is DeliveryState.PAUSED:
                held = content.artifact is not None and self._table.holds(box.peer, content.artifact)
                box.step(slot, DeliveryEvent.RESUMED, push=push and not held)
                self._context.count("send_retries")
                self._context.count("sent_again_after_failure")
        self._touch(box)

    # Synced

    def send_synced(self, peer: str) -> None:
        """Tell the peer that all slots that were active when it connected were answered on this connection."""
        box = self.boxes[peer]
        box.before_synced = None
        token = self._context.token()
        self._requests[token] = (box, _NO_BATCH)
        self._context.count("synced")
        if box.sync_attempts:
            self._context.count("synced_after_retry")
        self._context.effects.append(SendSynced(token, peer, box.connection))

    def synced_answered(self, answered: SyncedAnswered) -> None:
        """Take the reply to `synced`; after a failure it is sent again, while the connection lives."""
        request = self._requests.pop(answered.token, None)
        if request is None:
            return
        box = request[0]
        if not answered.ok:
            box.sync_attempts += 1
            pause = self._context.backoff(box.sync_attempts, RETRY_FIRST_NS, RETRY_MOST_NS)
            self._context.timers.set(Timer.SYNCED, box.peer, self._context.now + pause)

    # Inside

    def _suppressed(self) -> None:
        self._context.count("suppressed")
        self._context.count("suppressed_by_row")

    def _touch(self, box: PeerOutbox) -> None:
        self._dirty[box.peer] = box
        self._context.soon = True

    def _spread_fresh(self) -> None:
        """Make the shared batch due at each peer by itself: the peers are about to differ."""
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            for box in self.boxes.values():
                for slot, push in fresh.items():
                    box.step(slot, DeliveryEvent.MARKED, push=push)
                self._dirty[box.peer] = box

    def _flush_box(self, box: PeerOutbox, singles: dict[tuple[int, bool], Batch]) -> None:
        """`singles`: batches of one update, shared by the boxes that are due the same."""
        while box.due and box.in_flight < REQUESTS_PER_PEER:
            if len(box.due) == 1:
                (due,) = box.due.items()
                batch = singles.get(due)
                if batch is None:
                    batch = singles[due] = next(batches([due], self._contents))
            else:
                batch = next(batches(list(islice(box.due.items(), _BATCH_ENTRIES_MAX)), self._contents))
            self._send(box, batch)
        if box.is_synced_due:
            self.send_synced(box.peer)

    def _send(self, box: PeerOutbox, batch: Batch) -> None:
        context, due = self._context, box.due
        token = context.token()
        self._requests[token] = (box, batch)
        box.in_flight += 1
        for slot, _, _ in batch.items:
            box.reached[slot] = None
            box.states[slot] = _IN_FLIGHT  # what `NEXT` has for DUE and WRITTEN, without the calls
            due.pop(slot, None)
        if not due:
            box.due = {}  # without the room of those that were in it
        if batch.lone:
            box.lone = box.lone or {}
            box.lone[batch.items[0].slot] = token
        context.counters["sent"] += len(batch.items)
        context.counters["sent_requests"] += 1
        context.effects.append(SendUpdates(token, box.peer, box.connection, batch.body, batch.urgent))

    def _settle_all(self, box: PeerOutbox, batch: Batch, *, have: bool) -> None:
        """Every update of a plain batch was answered OK, or every one HAVE: the fast path of `_settle`."""
        states, contents, delivered = box.states, self._contents, 0
        for slot, commit, push in batch.items:
            content = contents.get(slot)
            if content is not None and content.commit == commit and states.get(slot) is _IN_FLIGHT:
                del states[slot]  # what `NEXT` has for IN_FLIGHT and ACCEPTED
                delivered += 1
                if have:
                    content.done.add(box.peer)
                if content.is_over_edges and (have or push):
                    (self._edges.prune if have else self._edges.graft)(content.origin, box.peer)
            elif content is not None:
                self._context.count("content_changed_on_its_way")
        self._context.counters["delivered"] += delivered
        if not states:
            box.states = {}

    def _settle(self, box: PeerOutbox, batch: Batch, body: bytes | None) -> None:
        """Apply the answer to each update; one to content that has changed since is ignored."""
        again: list[UpdateItem] = []
        for item, status in zip(batch.items, self._read(batch, body), strict=True):
            slot, commit, push = item
            content = self._contents.get(slot)
            if content is None or content.commit != commit or box.states.get(slot) is not DeliveryState.IN_FLIGHT:
                if content is not None:
                    self._context.count("content_changed_on_its_way")
                continue
            event = DeliveryEvent.FAILED if status is None else AFTER[status]
            # The peer asks for an advert in answer to one: not an answer that helps, so try again later.
            if event is DeliveryEvent.ADVERTISE and not push:
                event = DeliveryEvent.FAILED
            box.step(slot, event)
            if event is DeliveryEvent.FAILED:
                again.append(item)
            else:
                self._settled(box, content, status, push=push)
        if again:
            self._pause(box, again)

    def _settled(self, box: PeerOutbox, content: Content, status: int | None, *, push: bool) -> None:
        if status == UpdateStatus.MALFORMED:
            self._context.count("given_up")
            self._context.emit_about(EventKind.GIVEN_UP, content.artifact, box.peer, content.hop, detail="malformed")
        elif status == UpdateStatus.ADVERTISE:
            self._context.count("advertise_instead_obeyed")
        else:
            self._context.count("delivered")
            if content.artifact is None:
                box.reached.pop(content.slot, None)
            elif status in {UpdateStatus.HAVE, UpdateStatus.UNWANTED}:
                content.done.add(box.peer)
                if content.is_over_edges:
                    self._edges.prune(content.origin, box.peer)
            elif push and content.is_over_edges:
                self._edges.graft(content.origin, box.peer)

    def _pause(self, box: PeerOutbox, again: list[UpdateItem]) -> None:
        attempts = box.attempts = box.attempts or {}
        for item in again:
            attempts[item.slot] = attempts.get(item.slot, 0) + 1
        group = self._context.token()
        self._retries[group] = (box, again)
        box.groups = box.groups or {}
        box.groups[group] = None
        # One timer for all that failed together: the longest pause of any.
        longest = max(attempts[item.slot] for item in again)
        pause = self._context.backoff(longest, RETRY_FIRST_NS, RETRY_MOST_NS)
        self._context.timers.set(Timer.RETRY, group, self._context.now + pause)

    def _read(self, batch: Batch, body: bytes | None) -> list[int] | list[None]:
        """The status of each update in an answer; None for all when the answer is lost or malformed."""
        if body == _ALL_MALFORMED:  # a peer that cannot read the request cannot count its updates
            return [int(UpdateStatus.MALFORMED)] * len(batch.items)
        if body is not None:
            try:
                return list(decode_statuses(body, len(batch.items)))
            except MalformedError:
                pass
        self._context.count("send_errors")
        return [None] * len(batch.items)
