"""Delivery of slot updates: batches out, answers in, failures again, per peer. What a slot holds is the sender's matter."""

from itertools import islice

from p2pnet.broadcast.effects import Cancel, SendSynced, SendUpdates
from p2pnet.broadcast.outbox import AFTER, Batch, Content, Item, Next, Outbox, batches
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import MS, SECOND, Turn
from p2pnet.broadcast.wire import PREFIX_BYTES, Status, decode_statuses
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.limits import UPDATE_BATCH_BYTES

RETRY_FIRST_NS = 250 * MS
RETRY_MOST_NS = 60 * SECOND
REQUESTS_PER_PEER = 64  # half of the streams a peer grants; what waits meanwhile travels in fuller batches
_BATCH_ENTRIES_MAX = UPDATE_BATCH_BYTES // PREFIX_BYTES
_ALL_MALFORMED = bytes([Status.MALFORMED])
_NO_BATCH = Batch([], [], urgent=False)


class Delivery:
    """The outboxes of all connected peers, and the requests on their way."""

    def __init__(self, turn: Turn, table: Table, contents: dict[int, Content]) -> None:
        self._turn = turn
        self._table = table
        self._contents = contents
        self.boxes: dict[str, Outbox] = {}
        self._requests: dict[int, tuple[Outbox, Batch]] = {}
        self._fresh: dict[int, bool] = {}  # due to every peer alike: batched once for all of them
        self._dirty: dict[str, Outbox] = {}
        self._retries: dict[int, tuple[Outbox, list[Item]]] = {}

    # What is due

    def announce(self, content: Content) -> None:
        """A slot has new content: due to all it is for, with its bytes if it has any."""
        push = content.push is not None
        self._turn.soon = True
        if content.audience is None and content.artifact not in self._table.holders:
            self._fresh[content.slot] = push
            return
        for box in self.boxes.values():
            if content.is_for(box.peer):
                self.mark(box, content, push=push)
            elif content.slot in box.reached:  # its row there still has the slot's old content
                content.include(box.peer)
                self.mark(box, content, push=False)

    def mark(self, box: Outbox, content: Content, *, push: bool) -> None:
        """Due to one peer; unless the peer holds it, which leaves at most an older row to be replaced, by an advert."""
        slot, artifact = content.slot, content.artifact
        if not content.complete or artifact is None or not self._table.holds(box.peer, artifact):
            box.mark(slot, push=push)
        elif slot in box.reached:
            box.mark(slot, push=False)
        else:
            box.suppress(slot)
            self._turn.counters["suppressed"] += 1
        self._touch(box)

    def suppress(self, box: Outbox, slot: int) -> None:
        """The peer holds it: not due any more, or only as an advert. What is written already stays so."""
        if slot in self._fresh:
            self._spread_fresh()
        if slot in box.reached:
            if slot in box.due:
                box.due[slot] = False
        elif slot in box.due or slot in box.attempts:
            box.suppress(slot)
            self._turn.counters["suppressed"] += 1
            self._touch(box)

    def clear(self, slot: int) -> None:
        """The slot's content changes: nothing of the old one is due, and a lone large push of it is reset."""
        self._fresh.pop(slot, None)
        for box in self.boxes.values():
            box.forget(slot)
            token = box.lone.pop(slot, None)
            if token is not None:
                del self._requests[token]
                box.flying -= 1
                self._turn.counters["cancelled"] += 1
                self._turn.effects.append(Cancel(token))
            if box.due or box.is_settled:
                self._touch(box)

    # Peers

    def connect(self, peer: str, connection: int) -> Outbox:
        """A new outbox, to which everything is owed that is marked before the turn ends."""
        self.disconnect(peer)
        self._spread_fresh()
        box = self.boxes[peer] = Outbox(peer, connection)
        self._touch(box)
        return box

    def disconnect(self, peer: str) -> None:
        """Forget what was on the way; answers that still come are ignored."""
        box = self.boxes.pop(peer, None)
        if box is None:
            return
        self._dirty.pop(peer, None)
        self._turn.timers.cancel(Timer.SYNCED, peer)
        for token in [token for token, (other, _) in self._requests.items() if other is box]:
            del self._requests[token]

    # Requests

    def flush(self) -> None:
        """Write what is due, as far as the bounds per peer allow."""
        if self._fresh:
            shared = list(batches(self._fresh.items(), self._contents))
            for box in self.boxes.values():
                if box.due or box.flying + len(shared) > REQUESTS_PER_PEER:
                    box.due.update(self._fresh)
                    self._dirty[box.peer] = box
                else:
                    for batch in shared:
                        self._send(box, batch)
            self._fresh = {}
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for box in dirty.values():
                self._flush_box(box)

    def answered(self, token: int, body: bytes | None) -> None:
        """The reply to a request, or None when it failed on the way."""
        request = self._requests.pop(token, None)
        if request is None:
            return
        box, batch = request
        box.flying -= 1
        if body == batch.all_ok and batch.is_plain and not box.attempts and box.owed is None:
            self._turn.counters["delivered"] += len(batch.items)
        else:
            if batch.lone:
                box.lone.pop(batch.items[0].slot, None)
            self._settle(box, batch, body)
        if box.due or box.is_settled:
            self._touch(box)

    def retry(self, group: int) -> None:
        """The pause after a failure is over: what has not changed meanwhile is due again, as it is now."""
        box, items = self._retries.pop(group)
        if self.boxes.get(box.peer) is not box:
            return
        for slot, commit, push in items:
            content = self._contents.get(slot)
            if content is not None and content.commit == commit and slot in box.attempts:
                self._turn.counters["send_retries"] += 1
                self.mark(box, content, push=push)

    # Synced

    def say_synced(self, peer: str) -> None:
        """All active slots were answered on this connection."""
        box = self.boxes[peer]
        box.owed = None
        token = self._turn.token()
        self._requests[token] = (box, _NO_BATCH)
        self._turn.counters["synced"] += 1
        self._turn.effects.append(SendSynced(token, peer, box.connection))

    def synced_answered(self, token: int, *, ok: bool) -> None:
        """The reply to `synced`; it is said again after a failure, while the connection lives."""
        request = self._requests.pop(token, None)
        if request is None:
            return
        box = request[0]
        if not ok:
            box.sync_attempts += 1
            pause = self._turn.backoff(box.sync_attempts, RETRY_FIRST_NS, RETRY_MOST_NS)
            self._turn.timers.set(Timer.SYNCED, box.peer, self._turn.now + pause)

    # Inside

    def _touch(self, box: Outbox) -> None:
        self._dirty[box.peer] = box
        self._turn.soon = True

    def _spread_fresh(self) -> None:
        """Give up batching once for all: from here on the peers differ."""
        if self._fresh:
            for box in self.boxes.values():
                for slot, push in self._fresh.items():
                    box.mark(slot, push=push)
                self._dirty[box.peer] = box
            self._fresh = {}

    def _flush_box(self, box: Outbox) -> None:
        while box.due and box.flying < REQUESTS_PER_PEER:
            batch = next(batches(list(islice(box.due.items(), _BATCH_ENTRIES_MAX)), self._contents))
            self._send(box, batch)
            for slot in batch.slots:
                del box.due[slot]
        if box.is_settled:
            self.say_synced(box.peer)

    def _send(self, box: Outbox, batch: Batch) -> None:
        turn = self._turn
        token = turn.token()
        self._requests[token] = (box, batch)
        box.flying += 1
        box.reached.update(batch.slots)
        if batch.lone:
            box.lone[batch.slots[0]] = token
        turn.counters["sent"] += len(batch.items)
        turn.counters["sent_requests"] += 1
        turn.effects.append(SendUpdates(token, box.peer, box.connection, batch.body, batch.urgent))

    def _settle(self, box: Outbox, batch: Batch, body: bytes | None) -> None:
        """Per update, what its answer says; answers to content that has changed since say nothing."""
        again: list[Item] = []
        for item, after in zip(batch.items, self._read(batch, body), strict=True):
            slot, commit, push = item
            content = self._contents.get(slot)
            if content is None or content.commit != commit or slot in box.due:
                continue
            if after is Next.DONE:
                self._turn.counters["delivered"] += 1
                box.settle(slot)
                if content.artifact is None:
                    box.reached.discard(slot)
            elif after is Next.ADVERT and push:
                box.mark(slot, push=False)
            elif after is Next.GIVEN_UP:
                self._turn.counters["given_up"] += 1
                self._turn.emit(EventKind.GIVEN_UP, content.artifact, box.peer, content.hop, detail="malformed")
                box.settle(slot)
            elif slot not in box.suppressed:
                again.append(item)
                box.attempts[slot] = box.attempts.get(slot, 0) + 1
        if again:
            attempts = max(box.attempts[item.slot] for item in again)
            group = self._turn.token()
            self._retries[group] = (box, again)
            pause = self._turn.backoff(attempts, RETRY_FIRST_NS, RETRY_MOST_NS)
            self._turn.timers.set(Timer.RETRY, group, self._turn.now + pause)

    def _read(self, batch: Batch, body: bytes | None) -> list[Next]:
        """What the answer says to each update; a lost or senseless answer is a failure of all."""
        if body == _ALL_MALFORMED:  # a peer that cannot read the request cannot count its updates
            return [Next.GIVEN_UP] * len(batch.items)
        if body is not None:
            try:
                return [AFTER[status] for status in decode_statuses(body, len(batch.items))]
            except MalformedError:
                pass
        self._turn.counters["send_errors"] += 1
        return [Next.RETRY] * len(batch.items)
