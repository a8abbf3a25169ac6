"""Delivery of slot updates: batches out, answers in, failures again, per peer. What a slot holds is the sender's matter.

A slot is, at one peer on one connection, in one of the states of `DeliveryState`, or in none: nothing is owed. `NEXT` says what
every event makes of it; what has no line there changes nothing.
"""

from enum import Enum, IntEnum
from itertools import islice

from p2pnet.broadcast.content import Batch, Content, UpdateItem, batches
from p2pnet.broadcast.context import MS, SECOND, Context, Timer
from p2pnet.broadcast.effects import Cancel, SendSynced, SendUpdates
from p2pnet.broadcast.inputs import SyncedAnswered, UpdatesAnswered
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import PREFIX_BYTES, UpdateStatus, decode_statuses
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.limits import UPDATE_BATCH_BYTES

RETRY_FIRST_NS = 250 * MS
RETRY_MOST_NS = 60 * SECOND
REQUESTS_PER_PEER = 64  # half of the streams a peer grants; what waits meanwhile travels in fuller batches
_BATCH_ENTRIES_MAX = UPDATE_BATCH_BYTES // PREFIX_BYTES
_ALL_MALFORMED = bytes([UpdateStatus.MALFORMED])


class DeliveryState(IntEnum):
    """Of one slot's update at one peer."""

    DUE = 1  # to be written
    FLYING = 2  # written; no answer yet
    PAUSED = 3  # it failed, and is due again after a pause
    SUPPRESSED = 4  # the peer holds it: a current, complete row says so


class DeliveryEvent(Enum):
    """What can happen to it."""

    MARKED = "marked"  # the slot has new content, or the peer a new connection
    HELD = "held"  # a row of the peer begins that shows it complete
    ROW_ENDED = "row ended"  # no row of the peer shows it any more
    WRITTEN = "written"
    ACCEPTED = "accepted"  # ok, have or unwanted
    FAILED = "failed"  # lost, busy or limit
    ADVERTISE = "advertise"  # no room for the bytes there: as an advert
    MALFORMED = "malformed"  # given up, and reported
    RESUMED = "resumed"  # the pause is over
    FREED = "freed"  # the slot has no content any more


NEXT: dict[tuple[DeliveryState | None, DeliveryEvent], DeliveryState | None] = {
    (None, DeliveryEvent.MARKED): DeliveryState.DUE,
    (None, DeliveryEvent.HELD): None,
    (DeliveryState.DUE, DeliveryEvent.WRITTEN): DeliveryState.FLYING,
    (DeliveryState.DUE, DeliveryEvent.HELD): DeliveryState.SUPPRESSED,
    (DeliveryState.DUE, DeliveryEvent.FREED): None,
    (DeliveryState.FLYING, DeliveryEvent.MARKED): DeliveryState.DUE,
    (DeliveryState.FLYING, DeliveryEvent.ACCEPTED): None,
    (DeliveryState.FLYING, DeliveryEvent.FAILED): DeliveryState.PAUSED,
    (DeliveryState.FLYING, DeliveryEvent.ADVERTISE): DeliveryState.DUE,
    (DeliveryState.FLYING, DeliveryEvent.MALFORMED): None,
    (DeliveryState.FLYING, DeliveryEvent.FREED): None,
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
    """One peer, one connection: how far each slot's update has come."""

    __slots__ = (
        "attempts", "connection", "due", "flying", "groups", "lone", "owed", "peer", "reached", "states", "sync_attempts",
    )  # fmt: skip

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.states: dict[int, DeliveryState] = {}
        """Slot -> state; a slot without one is owed nothing."""
        self.due: dict[int, bool] = {}
        """The slots in state DUE, in order -> with its bytes, if it may be pushed."""
        self.reached: set[int] = set()
        """Slots of which an update was written: they need an empty when they end."""
        self.attempts: dict[int, int] = {}
        """Slots whose last attempt failed, and how many did."""
        self.flying = 0
        """Requests without an answer."""
        self.lone: dict[int, int] = {}
        """Slot -> token of its large push without an answer."""
        self.groups: set[int] = set()
        """Retries that wait for the end of their pause."""
        self.owed: set[int] | None = set()
        """Slots to be answered before `synced` can be said; None: it is said."""
        self.sync_attempts = 0

    @property
    def is_settled(self) -> bool:
        """`synced` is to be said, and may be."""
        return self.owed is not None and not self.owed

    def step(self, slot: int, happening: DeliveryEvent, *, push: bool = False) -> DeliveryState | None:
        """The state of this slot's update after this; `push`: where it becomes DUE, with its bytes."""
        before = self.states.get(slot)
        after = NEXT.get((before, happening), before)
        if after is DeliveryState.DUE:
            if before is not DeliveryState.DUE or happening is DeliveryEvent.MARKED:
                self.due[slot] = push
        elif before is DeliveryState.DUE:
            self.due.pop(slot, None)
        if after is None:
            self.states.pop(slot, None)
        else:
            self.states[slot] = after
        if after is None or after is DeliveryState.SUPPRESSED:
            self.attempts.pop(slot, None)
            if self.owed is not None:
                self.owed.discard(slot)
        return after


class Delivery:
    """The outboxes of all connected peers, and the requests on their way."""

    def __init__(self, context: Context, table: Table, contents: dict[int, Content]) -> None:
        self._context = context
        self._table = table
        self._contents = contents
        self.boxes: dict[str, PeerOutbox] = {}
        self._requests: dict[int, tuple[PeerOutbox, Batch]] = {}
        self._fresh: dict[int, bool] = {}  # due to every peer alike: batched once for all of them
        self._dirty: dict[str, PeerOutbox] = {}
        self._retries: dict[int, tuple[PeerOutbox, list[UpdateItem]]] = {}

    # What is due

    def announce(self, content: Content) -> None:
        """A slot has new content: due to all it is for, with its bytes if it has any."""
        push = content.push is not None
        self._context.soon = True
        if content.audience is None and content.artifact not in self._table.holders:
            self._fresh[content.slot] = push
            return
        for box in self.boxes.values():
            if content.is_for(box.peer):
                self.mark(box, content, push=push)
            elif content.slot in box.reached:  # its row there still has the slot's old content
                content.include(box.peer)
                self.mark(box, content, push=False)

    def mark(self, box: PeerOutbox, content: Content, *, push: bool) -> None:
        """Due to one peer; unless the peer holds it, which leaves at most an older row to be replaced, by an advert."""
        slot, artifact = content.slot, content.artifact
        held = artifact is not None and content.complete and self._table.holds(box.peer, artifact)
        box.step(slot, DeliveryEvent.MARKED, push=push and not held)
        if held and slot not in box.reached:
            box.step(slot, DeliveryEvent.HELD)
            self._suppressed()
        self._touch(box)

    def held(self, peer: str, content: Content) -> None:
        """The peer shows it complete: not due any more, or only as an advert. What is written already stays so."""
        slot, box = content.slot, self.boxes.get(peer)
        if box is None or not content.complete:
            return
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
        """A row of the peer ended: a suppressed update is due, unless another row still has the id."""
        box = self.boxes.get(peer)
        if box is None or box.states.get(content.slot) is not DeliveryState.SUPPRESSED or content.artifact is None:
            return
        if not self._table.holds(peer, content.artifact):
            box.step(content.slot, DeliveryEvent.ROW_ENDED, push=push)
            self._context.count("due_when_row_ended")
            self._touch(box)

    def clear(self, slot: int) -> None:
        """The slot's content changes: nothing of the old one is due, and a lone large push of it is reset."""
        self._fresh.pop(slot, None)
        for box in self.boxes.values():
            if box.step(slot, DeliveryEvent.FREED) is None and box.owed is not None:
                box.owed.discard(slot)
            token = box.lone.pop(slot, None)
            if token is not None:
                del self._requests[token]
                box.flying -= 1
                self._context.count("cancelled")
                self._context.count("lone_push_reset")
                self._context.effects.append(Cancel(token))
            if box.due or box.is_settled:
                self._touch(box)

    # Peers

    def connect(self, peer: str, connection: int) -> PeerOutbox:
        """A new outbox. Mark what is active, then say `owe_synced`."""
        self.disconnect(peer)
        self._spread_fresh()
        box = self.boxes[peer] = PeerOutbox(peer, connection)
        self._touch(box)
        return box

    def owe_synced(self, box: PeerOutbox) -> None:
        """`synced` is said when what is due now was answered."""
        box.owed = set(box.due)

    def disconnect(self, peer: str) -> None:
        """Forget what was on the way; answers that still come are ignored."""
        box = self.boxes.pop(peer, None)
        if box is None:
            return
        self._dirty.pop(peer, None)
        self._context.timers.cancel(Timer.SYNCED, peer)
        for group in box.groups:
            del self._retries[group]
            self._context.timers.cancel(Timer.RETRY, group)
        for token in [token for token, (other, _) in self._requests.items() if other is box]:
            del self._requests[token]

    # Requests

    def flush(self) -> None:
        """Write what is due, as far as the bounds per peer allow."""
        if self._fresh:
            shared = list(batches(self._fresh.items(), self._contents))
            for box in self.boxes.values():
                if (
                    box.due
                    or box.flying + len(shared) > REQUESTS_PER_PEER
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
            for box in dirty.values():
                self._flush_box(box)

    def answered(self, answered: UpdatesAnswered) -> None:
        """Take the reply to a request of updates, or its failure."""
        request, body = self._requests.pop(answered.token, None), answered.body
        if request is None:
            return
        box, batch = request
        box.flying -= 1
        if batch.lone:
            box.lone.pop(batch.items[0].slot, None)
        if body == batch.all_ok and batch.is_plain and not box.attempts and box.owed is None:
            self._settle_all(box, batch)
        else:
            self._settle(box, batch, body)
        if box.due or box.is_settled:
            self._touch(box)

    def retry(self, group: int) -> None:
        """The pause after a failure is over: what has not changed meanwhile is due again, as it is now."""
        box, items = self._retries.pop(group)
        box.groups.discard(group)
        for slot, commit, push in items:
            content = self._contents.get(slot)
            if content is not None and content.commit == commit and box.states.get(slot) is DeliveryState.PAUSED:
                held = content.artifact is not None and self._table.holds(box.peer, content.artifact)
                box.step(slot, DeliveryEvent.RESUMED, push=push and not held)
                self._context.count("send_retries")
                self._context.count("sent_again_after_failure")
        self._touch(box)

    # Synced

    def say_synced(self, peer: str) -> None:
        """All slots that were active when it connected were answered on this connection."""
        box = self.boxes[peer]
        box.owed = None
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
        """Give up batching once for all: from here on the peers differ."""
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            for box in self.boxes.values():
                for slot, push in fresh.items():
                    box.step(slot, DeliveryEvent.MARKED, push=push)
                self._dirty[box.peer] = box

    def _flush_box(self, box: PeerOutbox) -> None:
        while box.due and box.flying < REQUESTS_PER_PEER:
            batch = next(batches(list(islice(box.due.items(), _BATCH_ENTRIES_MAX)), self._contents))
            self._send(box, batch)
        if box.is_settled:
            self.say_synced(box.peer)

    def _send(self, box: PeerOutbox, batch: Batch) -> None:
        context = self._context
        token = context.token()
        self._requests[token] = (box, batch)
        box.flying += 1
        for item in batch.items:
            slot = item.slot
            box.reached.add(slot)
            box.states[slot] = DeliveryState.FLYING  # as the table says of DUE and WRITTEN
            box.due.pop(slot, None)
        if batch.lone:
            box.lone[batch.items[0].slot] = token
        context.counters["sent"] += len(batch.items)
        context.counters["sent_requests"] += 1
        context.effects.append(SendUpdates(token, box.peer, box.connection, batch.body, batch.urgent))

    def _settle_all(self, box: PeerOutbox, batch: Batch) -> None:
        """Every update was taken, and none asks for more than its state."""
        states, contents = box.states, self._contents
        for slot, commit, _ in batch.items:
            content = contents.get(slot)
            if content is not None and content.commit == commit and states.get(slot) is DeliveryState.FLYING:
                del states[slot]  # as the table says of FLYING and ACCEPTED
                self._context.counters["delivered"] += 1
            elif content is not None:
                self._context.count("content_changed_on_its_way")

    def _settle(self, box: PeerOutbox, batch: Batch, body: bytes | None) -> None:
        """Per update, what its answer says; answers to content that has changed since say nothing."""
        again: list[UpdateItem] = []
        for item, status in zip(batch.items, self._read(batch, body), strict=True):
            slot, commit, push = item
            content = self._contents.get(slot)
            if content is None or content.commit != commit or box.states.get(slot) is not DeliveryState.FLYING:
                if content is not None:
                    self._context.count("content_changed_on_its_way")
                continue
            happening = DeliveryEvent.FAILED if status is None else AFTER[status]
            if happening is DeliveryEvent.ADVERTISE and not push:
                happening = DeliveryEvent.FAILED
            box.step(slot, happening)
            if happening is DeliveryEvent.FAILED:
                again.append(item)
                box.attempts[slot] = box.attempts.get(slot, 0) + 1
            else:
                self._settled(box, content, status)
        if again:
            self._pause(box, again)

    def _settled(self, box: PeerOutbox, content: Content, status: int | None) -> None:
        if status == UpdateStatus.MALFORMED:
            self._context.count("given_up")
            self._context.emit_about(EventKind.GIVEN_UP, content.artifact, box.peer, content.hop, detail="malformed")
        elif status == UpdateStatus.ADVERTISE:
            self._context.count("advertise_instead_obeyed")
        else:
            self._context.count("delivered")
            if content.artifact is None:
                box.reached.discard(content.slot)
            elif status in {UpdateStatus.HAVE, UpdateStatus.UNWANTED}:
                content.done.add(box.peer)

    def _pause(self, box: PeerOutbox, again: list[UpdateItem]) -> None:
        attempts = max(box.attempts[item.slot] for item in again)
        group = self._context.token()
        self._retries[group] = (box, again)
        box.groups.add(group)
        pause = self._context.backoff(attempts, RETRY_FIRST_NS, RETRY_MOST_NS)
        self._context.timers.set(Timer.RETRY, group, self._context.now + pause)

    def _read(self, batch: Batch, body: bytes | None) -> list[int] | list[None]:
        """What the answer says to each update; a lost or senseless answer is a failure of all."""
        if body == _ALL_MALFORMED:  # a peer that cannot read the request cannot count its updates
            return [int(UpdateStatus.MALFORMED)] * len(batch.items)
        if body is not None:
            try:
                return list(decode_statuses(body, len(batch.items)))
            except MalformedError:
                pass
        self._context.count("send_errors")
        return [None] * len(batch.items)
