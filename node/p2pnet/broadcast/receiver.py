"""The receiver: slot updates of peers, through the slot table and the bouncer, into the pool or to the assembler.

Peers share each loop turn fairly, see `turns`.
"""

from p2pnet.broadcast.artifact import artifact_id, id_prefix, is_part_list, part_list
from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.client import Bounce, ClientCalls, ClientRaisedError
from p2pnet.broadcast.context import MS, Context, Timer
from p2pnet.broadcast.edges import Edges
from p2pnet.broadcast.effects import AnswerUpdates
from p2pnet.broadcast.inputs import UpdatesReceived
from p2pnet.broadcast.manager import PoolManager
from p2pnet.broadcast.pool import Artifact, Pool
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.stripe_intake import StripeIntake
from p2pnet.broadcast.stripping import Stripping
from p2pnet.broadcast.table import PeerRows, Table, UpdateVerdict
from p2pnet.broadcast.turns import Turns
from p2pnet.broadcast.wire import Entry, EntryKind, UpdateStatus, decode_updates, next_hop
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.limits import ENVELOPE_BYTES_MAX

STASH_SOON_NS = 100 * MS
"""Pause before the bouncer is asked again about stashed ids, after the client has run: it bounds the cost of many short runs."""
_MALFORMED = bytes([UpdateStatus.MALFORMED])
_NEW, _STALE, _LIMIT = UpdateVerdict.NEW, UpdateVerdict.STALE, UpdateVerdict.LIMIT
_ALONE = [bytes([status]) for status in sorted(UpdateStatus)]  # answers to requests of one update, by status
_ADVERT, _EMPTY = int(EntryKind.ADVERT), int(EntryKind.EMPTY)
_PUSH, _STRIPE = int(EntryKind.PUSH), int(EntryKind.STRIPE)


class Receiver:
    """Handles peers' update requests, and what follows from the end of their rows."""

    __slots__ = (
        "_assembler", "_bytes_max", "_calls", "_context", "_edges", "_intake", "_manager", "_pool", "_prefix",
        "_quota", "_sender", "_stash", "_stripping", "_table", "_turns",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        calls: ClientCalls,
        client_name: str,
        table: Table,
        pool: Pool,
        *,
        quota: Quota,
        manager: PoolManager,
        sender: Sender,
        edges: Edges,
        assembler: Assembler,
        intake: StripeIntake,
        stripping: Stripping,
        turns: Turns,
    ) -> None:
        self._context = context
        self._calls = calls
        self._table = table
        self._pool = pool
        self._quota = quota
        self._manager = manager
        self._sender = sender
        self._edges = edges
        self._assembler = assembler
        self._intake = intake
        self._stripping = stripping
        self._turns = turns
        self._prefix = id_prefix(client_name)
        self._bytes_max = context.settings.artifact_bytes_max + ENVELOPE_BYTES_MAX
        self._stash: dict[ArtifactId, None] = {}

    @property
    def stashed(self) -> int:
        """How many ids the bouncer may want later."""
        return len(self._stash)

    # Requests

    def updates(self, received: UpdatesReceived) -> None:
        """Handle one request; it is answered now, or after the other peers' requests of this loop turn."""
        peer, token, body, context = received.peer, received.token, received.body, self._context
        if not self._table.is_current(peer, received.connection):
            context.count("updates_dropped")
            context.count("update_of_replaced_connection")
            context.effects.append(AnswerUpdates(token, b""))
            return
        self._turns.take(peer, token, body, self._answer, self._refuse)

    # Rows

    def rows_ended(self, peer: str, artifacts: list[ArtifactId]) -> None:
        """Rows of the peer that showed these artifacts have ended."""
        for artifact in artifacts:
            self._row_ended(peer, artifact)

    def _row_ended(self, peer: str, artifact: ArtifactId) -> None:
        self._context.counters["rows_removed"] += 1
        self._sender.row_ended(peer, artifact)
        if artifact in self._table.holders:
            self._assembler.source_changed(artifact)
            return
        self._stash.pop(artifact, None)
        self._assembler.forget(artifact)
        self._intake.forget(artifact)
        self._stripping.drop(artifact)
        if artifact in self._assembler.tasks:
            self._context.count("tasks_dropped")
            self._context.count("last_source_left")
            self._manager.end_task(artifact)
        else:
            self._manager.lost(artifact)

    def unstash(self, artifact: ArtifactId) -> None:
        """The artifact is here, or gone for good: ask the bouncer no more about it."""
        self._stash.pop(artifact, None)

    # What the bouncer may want later

    def retry_stash(self) -> None:
        """Ask the bouncer again about every stashed id, with the key and size of each source: one of them may lie."""
        for artifact in list(self._stash):
            if self._pool.holds(artifact):  # the client has produced it meanwhile
                del self._stash[artifact]
                continue
            sources = self._table.holders.get(artifact, {}).values()
            try:
                words = {self._calls.bouncer(artifact, source.key, source.size) for source in sources}
            except ClientRaisedError:
                continue
            if Bounce.WANTS in words:
                self._context.count("stash_woke")
                self._assembler.want(artifact)
            if Bounce.WANTS in words or Bounce.MAYBE_LATER not in words:
                self._stash.pop(artifact, None)

    def client_ran(self) -> None:
        """The client has run: the bouncer may answer otherwise now."""
        if self._stash and not self._context.timers.is_set(Timer.STASH, None):
            self._context.timers.set(Timer.STASH, None, self._context.now + STASH_SOON_NS)

    # One request, one update

    def _answer(self, peer: str, token: int, body: bytes) -> None:
        context = self._context
        try:
            entries = decode_updates(body)
        except MalformedError as error:
            context.count("updates_malformed")
            context.emit_about(EventKind.REJECTED, None, peer, size=len(body), detail=str(error))
            context.effects.append(AnswerUpdates(token, _MALFORMED))
            return
        peer_rows = self._table.peers[peer]
        context.counters["updates"] += len(entries)
        if len(entries) == 1:
            statuses = _ALONE[self._update(peer, peer_rows, entries[0], body)]
        else:
            statuses = bytes([self._update(peer, peer_rows, entry, body) for entry in entries])
        context.effects.append(AnswerUpdates(token, statuses))

    def _refuse(self, token: int, body: bytes) -> None:
        self._context.count("updates_busy")
        self._context.effects.append(AnswerUpdates(token, _busy(body)))

    def _update(self, peer: str, peer_rows: PeerRows, entry: Entry, body: bytes) -> int:
        context = self._context
        verdict = self._table.judge(peer_rows, entry.slot, entry.commit)
        if verdict is _STALE:
            context.count("rows_stale")
            context.count("tombstone_met" if peer_rows.rows[entry.slot].artifact is None else "stale_update")
            return UpdateStatus.OK
        if verdict is _LIMIT:
            context.count("rows_over_limit")
            context.count("row_limit_met")
            return UpdateStatus.LIMIT
        # Refused by its declared size, before anything is hashed or fetched.
        if entry.size > self._bytes_max:
            context.count("updates_malformed")
            context.emit_about(EventKind.REJECTED, None, peer, entry.hop, entry.size, "too large")
            return UpdateStatus.MALFORMED
        if entry.kind == _EMPTY:
            self._put(peer, entry, None, verdict)
            return UpdateStatus.OK
        try:
            if entry.kind == _PUSH:
                return self._push(peer, entry, body, verdict)
            if entry.kind == _ADVERT:
                return self._advert(peer, entry, ArtifactId(body[entry.start : entry.end]), verdict)
            announced = self._scattered if entry.kind == _STRIPE else self._stripped
            return announced(peer, entry, body[entry.start : entry.end], verdict)
        except ClientRaisedError:  # nothing was applied: the peer sends it again later
            return UpdateStatus.BUSY

    def _advert(self, peer: str, entry: Entry, artifact: ArtifactId, verdict: UpdateVerdict) -> int:
        context = self._context
        if artifact in self._stripping.assemblies:  # another peer's, from its form
            self._put(peer, entry, artifact, verdict)
            return UpdateStatus.OK
        if artifact in self._assembler.tasks:
            self._put(peer, entry, artifact, verdict)
            context.counters["rows_seen_id"] += 1
            if len(self._table.holders[artifact]) > 1:
                context.count("two_holders_at_once")
            self._assembler.want(artifact)
            return UpdateStatus.OK
        status, wanted = self._ask_whether_wanted(artifact, entry)
        self._put(peer, entry, artifact, verdict)
        if wanted and self._assembler.want(artifact, row=self._table.holders[artifact][peer]):
            self._stash.pop(artifact, None)
            context.emit_about(EventKind.ADVERTISED, artifact, peer, entry.hop)
        return status

    def _scattered(self, peer: str, entry: Entry, content: bytes, verdict: UpdateVerdict) -> int:
        """An advert of an artifact whose stripes come, with its part list."""
        artifact, parts = ArtifactId(content[:ARTIFACT_ID_BYTES]), content[ARTIFACT_ID_BYTES:]
        context = self._context
        if not is_part_list(artifact, self._prefix, entry.key, entry.size, parts):
            context.count("updates_malformed")
            context.emit_about(EventKind.REJECTED, artifact, peer, entry.hop, entry.size, "wrong part list")
            return UpdateStatus.MALFORMED
        status, wanted = (
            (UpdateStatus.OK, True) if artifact in self._assembler.tasks else self._ask_whether_wanted(artifact, entry)
        )
        self._put(peer, entry, artifact, verdict)
        self._intake.note(artifact)
        if wanted:
            self._stash.pop(artifact, None)
            if artifact not in self._assembler.tasks:
                context.emit(EventKind.ADVERTISED, artifact, peer, entry.hop)
            self._intake.expect(artifact, self._table.holders[artifact][peer], parts)
        return status

    def _stripped(self, peer: str, entry: Entry, content: bytes, verdict: UpdateVerdict) -> int:
        """An artifact's id, and its stripped form."""
        artifact = ArtifactId(content[:ARTIFACT_ID_BYTES])
        if artifact in self._stripping.assemblies or artifact in self._assembler.tasks:
            return self._advert(peer, entry, artifact, verdict)
        status, wanted = self._ask_whether_wanted(artifact, entry)
        # The whole is charged to whoever sends its form.
        if wanted and not self._quota.has_room(peer, entry.size):
            self._context.count("updates_postponed")
            self._context.count("advertise_instead_answered")
            return UpdateStatus.ADVERTISE
        self._put(peer, entry, artifact, verdict)
        if status == UpdateStatus.HAVE:
            self._duplicate(self._pool.held(artifact), peer, entry.hop)
        elif wanted:
            self._stash.pop(artifact, None)
            connection = self._table.peers[peer].connection
            self._stripping.begin(peer, connection, artifact, entry, content[ARTIFACT_ID_BYTES:])
        return status

    def _held_copy(self, entry: Entry, body: bytes) -> Artifact | None:
        """The artifact that is pushed, if it is its publisher's last one here, or came last of all and is not judged yet.

        Found by comparing it, which costs less than hashing.
        """
        latest = self._edges.latest(entry.origin)
        held = None if latest is None else self._pool.get(latest)
        if held is None and (unjudged := self._pool.unvalidated):
            held = unjudged[next(reversed(unjudged))]
        # The same key and bytes have the same id.
        if held is None or len(held.data) != entry.size or held.inspected.key != entry.key:
            return None
        return held if body.startswith(held.data, entry.start) else None

    def _push(self, peer: str, entry: Entry, body: bytes, verdict: UpdateVerdict) -> int:
        self._context.counters["updates_with_artifact"] += 1
        held = self._held_copy(entry, body)  # a new publisher's first artifact floods: five copies in six
        if held is not None:
            self._put(peer, entry, held.id, verdict)
            self._duplicate(held, peer, entry.hop)
            return UpdateStatus.HAVE
        data = body[entry.start : entry.end]
        # Hashing is the first cost of a push: it comes after the table and the size, and before the bouncer, which
        # needs the id.
        parts = part_list(data)
        artifact = artifact_id(self._prefix, entry.key, entry.size, parts)
        status, wanted = self._ask_whether_wanted(artifact, entry)
        if not wanted:
            self._put(peer, entry, artifact, verdict)
            if status == UpdateStatus.HAVE:
                self._duplicate(self._pool.held(artifact), peer, entry.hop)
            return status
        # Nothing is applied: the advert that follows makes the row.
        if not self._quota.has_room(peer, entry.size):
            self._context.count("updates_postponed")
            self._context.count("advertise_instead_answered")
            return UpdateStatus.ADVERTISE
        return self._take(peer, entry, artifact, data, parts, verdict)

    def _take(  # noqa: PLR0917 - the update, and what follows from it
        self, peer: str, entry: Entry, artifact: ArtifactId, data: bytes, parts: bytes, verdict: UpdateVerdict
    ) -> int:
        """Insert a wanted artifact that was pushed; the status to answer."""
        fetched = artifact in self._assembler.tasks
        inspected = self._manager.inspect(artifact, entry.key, data, peer, next_hop(entry.hop))
        self._put(peer, entry, artifact, verdict)
        if inspected is None:
            self._manager.end_task(artifact)
            return UpdateStatus.MALFORMED
        self._stash.pop(artifact, None)
        self._stripping.drop(artifact)
        if fetched:
            self._context.count("push_completed_a_fetch")
            self._assembler.drop(artifact)
        hop = next_hop(entry.hop)
        delivered = {peer: len(data)}
        status = self._manager.insert(artifact, data, parts, inspected, peer, hop, delivered, origin=entry.origin)
        if status != UpdateStatus.OK:
            self._manager.end_task(artifact)
        return status

    def _put(self, peer: str, entry: Entry, artifact: ArtifactId | None, verdict: UpdateVerdict) -> None:
        self._context.counters["rows_new" if verdict is _NEW else "rows_overwritten"] += 1
        have, origin = entry.have, entry.origin
        old = self._table.put(peer, entry.slot, entry.commit, artifact, have, entry.size, entry.hop, entry.key, origin)
        if artifact is not None:
            if self._table.holders[artifact][peer].rows > 1 and old != artifact:
                self._context.count("same_id_in_two_slots")
            if have is None:
                self._sender.row_begun(peer, artifact, origin)
        # After the new row is in: its artifact may be the old one in another slot.
        if old is not None and old != artifact:
            self._row_ended(peer, old)

    def _ask_whether_wanted(self, artifact: ArtifactId, entry: Entry) -> tuple[int, bool]:
        """The status to answer, and whether the artifact is wanted now. Raises ClientRaisedError."""
        if self._pool.holds(artifact):
            return UpdateStatus.HAVE, False
        if self._manager.expiry.is_refused(artifact):
            self._context.count("purged_id_met")
            return UpdateStatus.UNWANTED, False
        bounce = self._calls.bouncer(artifact, entry.key, entry.size)
        if bounce is Bounce.WANTS:
            return UpdateStatus.OK, True
        if bounce is Bounce.UNWANTED:
            self._context.count("unwanted_answered")
            return UpdateStatus.UNWANTED, False
        if artifact not in self._stash:
            self._stash[artifact] = None
            self._context.count("tasks_stashed")
        return UpdateStatus.OK, False

    def _duplicate(self, held: Artifact, peer: str, hop: int) -> None:
        self._context.counters["duplicates"] += 1
        self._context.emit_about(EventKind.DUPLICATE, held.id, peer, next_hop(hop), held.inspected.size)


def _busy(body: bytes) -> bytes:
    try:
        return bytes([UpdateStatus.BUSY]) * len(decode_updates(body))
    except MalformedError:
        return _MALFORMED
