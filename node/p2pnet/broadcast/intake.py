"""Slot updates from peers: through the table and the bouncer into the pool or to fetching. Turns are fair between peers."""

from collections import deque

from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_list
from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.client import Bounce, Client
from p2pnet.broadcast.effects import AnswerUpdates
from p2pnet.broadcast.fetching import Fetcher
from p2pnet.broadcast.keeper import Keeper
from p2pnet.broadcast.pool import Pool
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.table import PeerRows, Table, Verdict
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import MS, SECOND, Turn
from p2pnet.broadcast.wire import Entry, Kind, Status, decode_updates, next_hop
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import ENVELOPE_BYTES_MAX

TURN_BYTES_PER_PEER = 256 * 1024  # of update requests in one turn; the rest waits behind the other peers
INBOX_BYTES_PER_PEER = 4 * 1024 * 1024  # that wait; more is answered busy
STASH_NS = 3 * SECOND  # between looks at what the bouncer may want later
STASH_SOON_NS = 100 * MS  # the same, after the client has run
_MALFORMED = bytes([Status.MALFORMED])
_PUSH, _ADVERT, _EMPTY = int(Kind.PUSH), int(Kind.ADVERT), int(Kind.EMPTY)


class Inbox:
    """One peer's requests that wait for their turn."""

    __slots__ = ("size", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.size = 0


class Intake:
    """The receiving side."""

    def __init__(
        self,
        turn: Turn,
        client: Client,
        table: Table,
        pool: Pool,
        *,
        charges: Charges,
        keeper: Keeper,
        sender: Sender,
        fetcher: Fetcher,
    ) -> None:
        self._turn = turn
        self._client = client
        self._table = table
        self._pool = pool
        self._charges = charges
        self._keeper = keeper
        self._sender = sender
        self._fetcher = fetcher
        self._prefix = id_prefix(client.name)
        self._bytes_max = turn.settings.artifact_bytes_max + ENVELOPE_BYTES_MAX
        self._stash: dict[ArtifactId, int] = {}
        self._used: dict[str, int] = {}
        self._inboxes: dict[str, Inbox] = {}

    @property
    def stashed(self) -> int:
        """Ids the bouncer may want later."""
        return len(self._stash)

    @property
    def is_waiting(self) -> bool:
        """Requests are left for the next turn."""
        return bool(self._inboxes)

    # Requests

    def updates(self, peer: str, connection: int, token: int, body: bytes) -> None:
        """One request; answered now, or after the other peers' requests of this turn."""
        if not self._table.is_current(peer, connection):
            self._turn.counters["updates_dropped"] += 1
            self._turn.effects.append(AnswerUpdates(token, b""))
            return
        used = self._used.get(peer, 0)
        if used < TURN_BYTES_PER_PEER and peer not in self._inboxes:
            self._used[peer] = used + len(body)
            self._answer(peer, token, body)
            return
        inbox = self._inboxes.setdefault(peer, Inbox())
        if inbox.waiting and inbox.size + len(body) > INBOX_BYTES_PER_PEER:
            self._turn.counters["updates_busy"] += 1
            self._turn.effects.append(AnswerUpdates(token, _busy(body)))
        else:
            inbox.waiting.append((token, body))
            inbox.size += len(body)
        self._turn.soon = True

    def next_turn(self) -> None:
        """A new turn: every peer has its share again; what waits comes first, one request of each peer after another."""
        self._used.clear()
        while self._inboxes:
            served = False
            for peer, inbox in list(self._inboxes.items()):
                used = self._used.get(peer, 0)
                if used >= TURN_BYTES_PER_PEER:
                    continue
                token, body = inbox.waiting.popleft()
                inbox.size -= len(body)
                if not inbox.waiting:
                    del self._inboxes[peer]
                self._used[peer] = used + len(body)
                self._answer(peer, token, body)
                served = True
            if not served:
                return

    def forget(self, peer: str) -> None:
        """Its connection ended: what waits came on it, and is sent again on the next one."""
        self._inboxes.pop(peer, None)

    # Rows

    def rows_ended(self, peer: str, artifacts: list[ArtifactId]) -> None:
        """Rows of the peer ended, each of which had one of these ids."""
        for artifact in artifacts:
            self._row_ended(peer, artifact)

    def _row_ended(self, peer: str, artifact: ArtifactId) -> None:
        self._turn.counters["rows_removed"] += 1
        self._sender.row_ended(peer, artifact)
        if artifact not in self._table.holders:
            self._stash.pop(artifact, None)
            if artifact in self._fetcher.tasks:
                self._turn.counters["tasks_dropped"] += 1
                self.abandon(artifact)
            else:
                self._keeper.lost(artifact)
        else:
            self._fetcher.source_ended(artifact, peer)

    def abandon(self, artifact: ArtifactId) -> None:
        """End a task that has not come to its end, and what was offered of it."""
        self._stash.pop(artifact, None)
        if artifact in self._fetcher.tasks:
            self._fetcher.drop(artifact)
            self._charges.release(artifact)
            if artifact in self._sender.active:
                self._sender.withdraw(artifact)

    # The stash

    def look_at_stash(self) -> None:
        """Ask the bouncer again about what it may want later."""
        self._turn.timers.cancel(Timer.STASH, None)
        for artifact, size in list(self._stash.items()):
            bounce = self._client.bouncer(artifact, b"", size)
            if bounce is not Bounce.MAYBE_LATER:
                del self._stash[artifact]
            if bounce is Bounce.WANTS:
                self._fetcher.want(artifact)
        if self._stash:
            self._turn.timers.set(Timer.STASH, None, self._turn.now + STASH_NS)

    def client_ran(self) -> None:
        """The bouncer may think otherwise now."""
        if self._stash:
            self._turn.timers.set(Timer.STASH, None, self._turn.now + STASH_SOON_NS)

    # One request, one update

    def _answer(self, peer: str, token: int, body: bytes) -> None:
        turn = self._turn
        turn.soon = True  # at the latest then, the peer's share of this turn is given back
        try:
            entries = decode_updates(body)
        except MalformedError as error:
            turn.counters["updates_malformed"] += 1
            turn.emit(EventKind.REJECTED, None, peer, size=len(body), detail=str(error))
            turn.effects.append(AnswerUpdates(token, _MALFORMED))
            return
        peer_rows = self._table.peers[peer]
        turn.counters["updates"] += len(entries)
        statuses = bytes([self._update(peer, peer_rows, entry, body) for entry in entries])
        turn.effects.append(AnswerUpdates(token, statuses))

    def _update(self, peer: str, peer_rows: PeerRows, entry: Entry, body: bytes) -> int:
        counters = self._turn.counters
        verdict = self._table.judge(peer_rows, entry.slot, entry.commit)
        if verdict is Verdict.STALE:
            counters["rows_stale"] += 1
            return Status.OK
        if verdict is Verdict.LIMIT:
            counters["rows_over_limit"] += 1
            return Status.LIMIT
        if entry.size > self._bytes_max:
            counters["updates_malformed"] += 1
            self._turn.emit(EventKind.REJECTED, None, peer, entry.hop, entry.size, "too large")
            return Status.MALFORMED
        if entry.kind == _EMPTY:
            self._put(peer, entry, None, verdict)
            return Status.OK
        if entry.kind == _ADVERT:
            return self._advert(peer, entry, ArtifactId(body[entry.start : entry.end]), verdict)
        return self._push(peer, entry, body[entry.start : entry.end], verdict)

    def _advert(self, peer: str, entry: Entry, artifact: ArtifactId, verdict: Verdict) -> int:
        self._put(peer, entry, artifact, verdict)
        if artifact in self._fetcher.tasks:
            self._turn.counters["rows_seen_id"] += 1
            self._fetcher.want(artifact)
            return Status.OK
        status, wanted = self._ask_whether_wanted(artifact, entry.size)
        if wanted:
            self._turn.emit(EventKind.ADVERTISED, artifact, peer, entry.hop)
            self._fetcher.want(artifact)
        return status

    def _push(self, peer: str, entry: Entry, data: bytes, verdict: Verdict) -> int:
        counters = self._turn.counters
        counters["updates_with_artifact"] += 1
        parts = part_list(data)
        artifact = artifact_id(self._prefix, entry.size, parts)
        status, wanted = self._ask_whether_wanted(artifact, entry.size)
        if wanted and not self._charges.has_room(peer, entry.size):
            counters["updates_postponed"] += 1
            return Status.ADVERTISE
        self._put(peer, entry, artifact, verdict)
        if not wanted:
            if status == Status.HAVE:
                self._duplicate(artifact, peer, entry.hop)
            return status
        if artifact in self._fetcher.tasks:
            self._fetcher.drop(artifact)
            self._charges.release(artifact)
        return self._keeper.insert(artifact, data, parts, peer, next_hop(entry.hop))

    def _put(self, peer: str, entry: Entry, artifact: ArtifactId | None, verdict: Verdict) -> None:
        new = verdict is Verdict.NEW
        self._turn.counters["rows_new" if new else "rows_overwritten"] += 1
        old = self._table.put(
            peer, entry.slot, entry.commit, artifact, complete=entry.complete, size=entry.size, hop=entry.hop
        )
        if artifact is not None and entry.complete:
            self._sender.row_begun(peer, artifact)
        if old is not None and old != artifact:
            self._row_ended(peer, old)

    def _ask_whether_wanted(self, artifact: ArtifactId, size: int) -> tuple[int, bool]:
        """The status to answer, and whether the bytes are wanted now."""
        if self._pool.holds(artifact):
            return Status.HAVE, False
        if self._keeper.lifetimes.is_refused(artifact):
            return Status.UNWANTED, False
        bounce = self._client.bouncer(artifact, b"", size)
        if bounce is Bounce.WANTS:
            self._stash.pop(artifact, None)
            return Status.OK, True
        if bounce is Bounce.UNWANTED:
            return Status.UNWANTED, False
        if artifact not in self._stash:
            self._stash[artifact] = size
            self._turn.counters["tasks_stashed"] += 1
            if not self._turn.timers.is_set(Timer.STASH, None):
                self._turn.timers.set(Timer.STASH, None, self._turn.now + STASH_NS)
        return Status.OK, False

    def _duplicate(self, artifact: ArtifactId, peer: str, hop: int) -> None:
        found = self._pool.validated.get(artifact) or self._pool.unvalidated[artifact]
        self._turn.counters["duplicates"] += 1
        self._turn.emit(EventKind.DUPLICATE, artifact, peer, next_hop(hop), found.size)


def _busy(body: bytes) -> bytes:
    try:
        return bytes([Status.BUSY]) * len(decode_updates(body))
    except MalformedError:
        return _MALFORMED
