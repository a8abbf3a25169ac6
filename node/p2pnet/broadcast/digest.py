"""Digests: how nodes that do not relay to each other find out that one of them lacks an artifact.

In a full mesh an artifact's publisher serves every peer itself, and nobody relays it. That fails when a link is down, or when a
publisher restarts, drops what others keep, or lies. So linked peers compare a digest of the ids each holds, at most once a
second and only after a change. Where the digests differ, the ids that came since they last agreed are listed, and what the
other does not know is advertised to it.

In a sparse topology the same goes over lazy edges: all peers are compared with. There a few new ids are listed at once, by their
first halves, for a digest would differ as long as anything is on its way. Of several peers that offer a node what it lacks, one
is let to send it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from hashlib import blake2b

from p2pnet.broadcast.context import SECOND, Context, Timer
from p2pnet.broadcast.effects import AnswerDigest, SendDigest
from p2pnet.broadcast.pool import Pool
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import (
    DIGEST_BYTES,
    DIGEST_IDS_MAX,
    HALF_BYTES,
    UpdateStatus,
    decode_digest,
    decode_statuses,
    encode_digest,
    encode_halves,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId

PERIOD_NS = SECOND
"""Time between two digests to one peer, and for which an artifact is held before its absence at a peer counts: it may just be
on its way there from its publisher."""
RETRY_MOST_NS = 60 * SECOND
NEIGHBOURS = 2
"""Peers compared with on each side of a ring of all nodes. While no link is missing that is enough: a difference spreads."""
ALL_PEERS_MAX = 2 * NEIGHBOURS
"""Up to so many peers are all compared with."""
LISTED_AT_ONCE = 32
"""In a sparse topology: up to so many ids are listed without comparing digests first, half a KiB."""
PROMISED_NS = 2 * SECOND
"""How long a node that lets a peer send what it lacks waits for it, before it lets others too."""
PROMISED_MAX = DIGEST_IDS_MAX
"""Artifacts that peers were let to send and that are not here yet; of more, whoever offers them is let to send them."""
BUSY_MAX = 8
"""How often a peer may say that another one is about to send it an artifact; then it is taken to have it."""


class PeerDigest:
    """What was exchanged with one peer on its current connection."""

    __slots__ = (
        "attempts",
        "broke_promise",
        "busy",
        "connection",
        "lacks_links",
        "not_before",
        "open",
        "reported_lack",
        "settled",
        "shown",
    )

    def __init__(self, connection: int) -> None:
        self.connection = connection
        self.settled = 0
        """The peer holds, or wants none of, the artifacts that this node has held under numbers up to this one."""
        self.open = False
        """A message to it has no answer yet."""
        self.not_before = 0
        """When the next message may leave, in monotonic nanoseconds."""
        self.attempts = 0
        """Messages in a row that were lost."""
        self.lacks_links = False
        """The peer says that it is not linked to every member."""
        self.reported_lack = False
        """What this node last told it about its own links."""
        self.shown: dict[ArtifactId, None] | None = None
        """Artifacts behind `settled` that it has listed, so it holds them; None: none."""
        self.broke_promise = False
        """It did not send in time what it was let to send: nobody waits for it any more."""
        self.busy = (0, 0)
        """(number of the first artifact that another peer is about to send it, how often it has said so)"""

    def show(self, artifact: ArtifactId) -> None:
        """It has listed this artifact."""
        self.shown = self.shown or {}
        self.shown[artifact] = None


class DigestMessage:
    """One message that has no answer yet."""

    __slots__ = ("ids", "known", "lack", "number", "peer")

    def __init__(self, peer: PeerDigest, known: str, number: int, ids: list[ArtifactId], *, lack: bool) -> None:
        self.peer = peer
        self.known = known
        """The peer's name."""
        self.number = number
        """The value of `PeerDigest.settled` if the answer shows no difference."""
        self.ids = ids
        """The ids listed; none: only the digest was sent."""
        self.lack = lack
        """Whether it says that this node lacks links."""


class Digests:
    """Compares what this node holds with what its peers hold."""

    __slots__ = (
        "_context", "_digest", "_halves", "_held", "_is_announced", "_lack_since", "_lacks_links", "_log", "_me",
        "_members", "_messages", "_neighbours", "_next_at", "_number", "_peers", "_pool", "_private", "_promised",
        "_sparse", "_swept_at", "_table", "_wide",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        table: Table,
        pool: Pool,
        me: str,
        is_announced: Callable[[str, ArtifactId], bool],
    ) -> None:
        """`is_announced`: whether a slot of this node announces an artifact to a peer."""
        self._context = context
        self._is_announced = is_announced
        self._sparse = not context.settings.full_mesh
        self._halves: dict[bytes, ArtifactId] = {}  # of what is held, in a sparse topology
        self._promised: dict[bytes, tuple[PeerDigest, int]] = {}  # half -> (peer let to send it, until when)
        self._swept_at = -1
        self._table = table
        self._pool = pool
        self._me = me
        self._peers: dict[str, PeerDigest] = {}
        self._members: frozenset[str] = frozenset()
        self._held: dict[ArtifactId, int] = {}
        self._log: list[tuple[int, int, ArtifactId]] = []  # (number, held since, id); some are not held any more
        self._number = 0
        self._private: dict[ArtifactId, None] = {}
        self._digest: bytes | None = None
        self._messages: dict[int, DigestMessage] = {}
        self._neighbours: frozenset[str] | None = None
        self._wide = False  # a difference was found: compare with everybody until it is settled
        self._lack_since = 0
        self._lacks_links = False
        self._next_at = 0

    # What is held

    def add(self, artifact: ArtifactId) -> None:
        """This node holds an artifact that a peer may lack."""
        self._number += 1
        self._held[artifact] = self._number
        self._log.append((self._number, self._context.now, artifact))
        if self._sparse:
            self._halves[artifact[:HALF_BYTES]] = artifact
            self._promised.pop(artifact[:HALF_BYTES], None)
        if self._sparse:
            # Only for those who may lack it: most know it by now, or are just told.
            lacking = self._table.lack(self._peers, artifact)
            lags = [self._lag(name) for name in lacking if not self._is_shown(name, self._peers[name], artifact)]
            if lags:
                self._wake(self._context.now + min(lags))
        elif self._peers:
            self._wake(self._context.now + PERIOD_NS)

    def forget(self, artifact: ArtifactId) -> None:
        """The artifact is not held any more."""
        self._held.pop(artifact, None)
        self._halves.pop(artifact[:HALF_BYTES], None)
        # Compacted when most of it is old: the cost is spread over as many changes.
        if len(self._log) > 2 * len(self._held) + 100:
            self._log = [entry for entry in self._log if self._held.get(entry[2]) == entry[0]]

    def keep_private(self, artifact: ArtifactId) -> None:
        """Leave an artifact that nobody relays out of the digests."""
        self._private[artifact] = None

    def changed(self, artifact: ArtifactId, *, gone: bool = False) -> None:
        """The validated pool changed."""
        self._digest = None
        if gone:
            self._private.pop(artifact, None)
            self.forget(artifact)

    def digest(self) -> bytes:
        """16 bytes: BLAKE2b over the sorted ids of the validated pool, without those that nobody relays."""
        if self._digest is None:
            ids = sorted(artifact for artifact in self._pool.validated if artifact not in self._private)
            self._digest = blake2b(b"".join(ids), digest_size=DIGEST_BYTES).digest()
        return self._digest

    # Peers

    def connect(self, peer: str, connection: int) -> None:
        """A new connection: nothing is known of what the peer holds."""
        known = self._peers[peer] = PeerDigest(connection)
        self._links_changed()
        first = PERIOD_NS
        if self._sparse:
            # One end first: the other need not, if they turn out to hold the same.
            first = self._lag(peer)
            known.not_before = self._context.now + first
        if self._held:
            self._wake(self._context.now + first)

    def disconnect(self, peer: str) -> None:
        """The connection ended: answers that still come are ignored."""
        known = self._peers.pop(peer, None)
        if known is not None:
            for token in [token for token, message in self._messages.items() if message.peer is known]:
                del self._messages[token]
            for half in [half for half, (other, _) in self._promised.items() if other is known]:
                del self._promised[half]
            self._links_changed()

    def members_changed(self, members: frozenset[str]) -> None:
        """The registry's members now."""
        self._members = members
        self._links_changed()

    def _links_changed(self) -> None:
        self._neighbours = None
        if not self._context.settings.full_mesh:
            return
        lacks = any(member != self._me and member not in self._peers for member in self._members)
        if lacks != self._lacks_links:
            self._lacks_links = lacks
            self._lack_since = self._context.now
        if len(self._peers) > ALL_PEERS_MAX and any(peer.reported_lack != lacks for peer in self._peers.values()):
            self._wake(self._lack_since + 2 * PERIOD_NS)

    # Messages in

    def received(
        self, peer: str, connection: int, token: int, body: bytes, is_unwanted: Callable[[ArtifactId], bool]
    ) -> None:
        """Answer a peer's message; `is_unwanted` says whether this node refuses an id."""
        try:
            request = decode_digest(body)
        except MalformedError:
            self._context.effects.append(AnswerDigest(token, bytes([UpdateStatus.MALFORMED])))
            return
        known = self._peers.get(peer)
        if known is not None and known.connection != connection:
            known = None  # it spoke on a former connection: it may have started anew since, with nothing
        if request.halves:
            statuses = bytes([self._half_status(known, half) for half in request.halves])
            self._context.effects.append(AnswerDigest(token, statuses))
            self._rest_if_settled()
            return
        same = request.digest == self.digest()
        if known is not None:
            if known.lacks_links != request.lacks_links:
                known.lacks_links, self._neighbours = request.lacks_links, None
                self._wake(self._context.now)
            if same:
                # Equal digests: everything held so far is settled at once.
                known.settled = self._number
                self._rest_if_settled()
        if not request.ids:
            answer = bytes([UpdateStatus.OK if same else UpdateStatus.ADVERTISE])
        else:
            answer = bytes([self._status(artifact, is_unwanted) for artifact in request.ids])
        self._context.effects.append(AnswerDigest(token, answer))

    def _rest_if_settled(self) -> None:
        """Unset the timer when no comparison is due with anybody."""
        if self._context.timers.is_set(Timer.DIGEST, None) and all(
            self._due(name, other) is None for name, other in self._peers.items() if self._is_compared(name)
        ):
            self._context.timers.cancel(Timer.DIGEST, None)

    def _half_status(self, peer: PeerDigest | None, half: bytes) -> UpdateStatus:
        """The answer to a listed half: the peer holds that artifact, and is let to send it if it is lacked here."""
        artifact = self._halves.get(half)
        if artifact is not None:
            if peer is not None and self._held[artifact] > peer.settled:
                peer.show(artifact)
            return UpdateStatus.HAVE
        now, promise = self._context.now, self._promised.get(half)
        if promise is None:
            if peer is not None and not peer.broke_promise and self._has_room_for_promise():
                self._promised[half] = (peer, now + PROMISED_NS)
            return UpdateStatus.ADVERTISE
        other, until = promise
        if other is not peer and now < until and not other.broke_promise:
            self._context.count("another_peer_let_to_send")
            return UpdateStatus.BUSY
        if now >= until:
            self._broke(other)
        return UpdateStatus.ADVERTISE

    def _broke(self, peer: PeerDigest) -> None:
        peer.broke_promise = True
        self._context.count("promise_broken")

    def _has_room_for_promise(self) -> bool:
        """Whether one more promise may be kept; makes room by ending those that were broken."""
        if len(self._promised) < PROMISED_MAX:
            return True
        now = self._context.now
        if now == self._swept_at:  # once for all halves of a message: a flood of them must not cost more than its bytes
            return False
        self._swept_at = now
        for half, (peer, until) in list(self._promised.items()):
            if now >= until:
                self._broke(peer)
                del self._promised[half]
        return len(self._promised) < PROMISED_MAX

    def _status(self, artifact: ArtifactId, is_unwanted: Callable[[ArtifactId], bool]) -> UpdateStatus:
        if self._pool.holds(artifact):
            return UpdateStatus.HAVE
        return UpdateStatus.UNWANTED if is_unwanted(artifact) else UpdateStatus.ADVERTISE

    # Messages out

    def exchange(self) -> None:
        """Send digests to the peers with which a comparison is due."""
        now, soonest = self._context.now, None
        for name, peer in self._peers.items():
            due = self._due(name, peer)
            if due is None or peer.open:
                continue
            if due <= now:
                if not (self._sparse and self._list(name, peer, LISTED_AT_ONCE)):
                    self._send(name, peer, [], self._number)
            else:
                soonest = due if soonest is None else min(soonest, due)
        if soonest is not None:
            self._wake(soonest)
        elif self._wide and all(self._is_settled(name, peer) for name, peer in self._peers.items()):
            self._wide = False

    def answered(self, token: int, body: bytes | None) -> list[tuple[ArtifactId, str]]:
        """Take the reply to a message, None if it was lost; the (artifact, peer) pairs to advertise."""
        message = self._messages.pop(token, None)
        if message is None:
            return []
        peer, context = message.peer, self._context
        peer.open = False
        if body is None:
            peer.attempts += 1
            context.count("digest_lost")
            peer.not_before = context.now + context.backoff(peer.attempts, PERIOD_NS, RETRY_MOST_NS)
            self._wake(peer.not_before)
            return []
        statuses = self._read(message, body)
        if statuses is None:  # after a malformed answer the peer is asked again after the next change
            peer.settled, peer.reported_lack = self._number, message.lack
            return []
        peer.attempts, peer.reported_lack = 0, message.lack
        wanted: list[tuple[ArtifactId, str]] = []
        if message.ids:
            self._settle(peer, message, statuses)
            wanted = [
                (artifact, message.known)
                for artifact, status in zip(message.ids, statuses, strict=True)
                if status == UpdateStatus.ADVERTISE and artifact in self._held
            ]
            context.count("listed_id_unknown_there", len(wanted))
            if wanted and not self._wide and not self._sparse:
                self._wide = True
                self._wake(context.now)
        elif statuses[0] == UpdateStatus.OK:
            context.count("digests_same")
            peer.settled = max(peer.settled, message.number)
        else:
            context.count("digest_mismatch")
            self._list(message.known, peer, DIGEST_IDS_MAX)
        due = None if peer.open else self._due(message.known, peer)
        if due is not None:
            self._wake(max(due, context.now))
        return wanted

    @staticmethod
    def _read(message: DigestMessage, body: bytes) -> bytes | None:
        try:
            return decode_statuses(body, max(1, len(message.ids)))
        except MalformedError:
            return None

    def _settle(self, peer: PeerDigest, message: DigestMessage, statuses: bytes) -> None:
        """Everything up to the message's number is settled, or up to the first id that another peer is about to send."""
        number = message.number
        busy = [
            self._held[artifact]
            for artifact, status in zip(message.ids, statuses, strict=True)
            if status == UpdateStatus.BUSY and artifact in self._held
        ]
        if busy:
            for artifact, status in zip(message.ids, statuses, strict=True):
                if status == UpdateStatus.HAVE and artifact in self._held:  # not to be listed again with the busy ones
                    peer.show(artifact)
            first = min(busy)
            peer.busy = (first, peer.busy[1] + 1) if peer.busy[0] == first else (first, 1)
            # Nobody honest says so for long.
            number = min(number, first - 1 if peer.busy[1] < BUSY_MAX else first)
        self._settled_up_to(peer, number)

    def _settled_up_to(self, peer: PeerDigest, number: int) -> None:
        peer.settled = max(peer.settled, number)
        if peer.settled == self._number:
            peer.shown = None

    def _list(self, name: str, peer: PeerDigest, most: int) -> bool:
        """List the ids that the peer does not show and that have been held for PERIOD_NS, if they are at most `most`.

        Whether that was done. As many ids as a message holds are always listed, the rest later.
        """
        ids: list[ArtifactId] = []
        number = peer.settled
        for number_of, since, artifact in self._unsettled(peer):
            if since + PERIOD_NS > self._context.now or len(ids) == DIGEST_IDS_MAX:
                break
            # Everything up to here is settled if the answer wants none of the listed ids.
            number = number_of
            if self._held.get(artifact) == number_of and not self._is_shown(name, peer, artifact):
                ids.append(artifact)
                if len(ids) > most:
                    return False
        if ids:
            self._context.count("digests_listed")
            self._send(name, peer, ids, number)
        else:
            self._settled_up_to(peer, number)
        return True

    def _is_shown(self, name: str, peer: PeerDigest, artifact: ArtifactId) -> bool:
        """Whether the peer need not be asked about this artifact: it announces or has listed it, or it is announced to it."""
        return (
            self._table.holds(name, artifact)
            or (peer.shown is not None and artifact in peer.shown)
            or (self._sparse and self._is_announced(name, artifact))
        )

    def _send(self, name: str, peer: PeerDigest, ids: list[ArtifactId], number: int) -> None:
        context = self._context
        token = context.token()
        peer.open = True
        peer.not_before = context.now + PERIOD_NS
        self._messages[token] = DigestMessage(peer, name, number, ids, lack=self._lacks_links)
        context.count("digests")
        halves = self._sparse and ids
        body = encode_halves(ids) if halves else encode_digest(self.digest(), ids, lacks_links=self._lacks_links)
        context.effects.append(SendDigest(token, name, peer.connection, body))

    # Whom, and when

    def _due(self, name: str, peer: PeerDigest) -> int | None:
        """When a comparison with this peer is due, in monotonic nanoseconds; None: there is nothing to compare."""
        if not self._sparse and len(self._peers) > ALL_PEERS_MAX and peer.reported_lack != self._lacks_links:
            return max(peer.not_before, self._lack_since + 2 * PERIOD_NS)
        if not self._is_compared(name) or self._is_settled(name, peer):
            return None
        _, since, _ = next(self._unsettled(peer))
        return max(peer.not_before, since + self._lag(name))

    def _lag(self, name: str) -> int:
        """One end asks; the other need not, once it was asked."""
        return PERIOD_NS if self._me < name else 2 * PERIOD_NS

    def _is_settled(self, name: str, peer: PeerDigest) -> bool:
        """Whether the peer is known to hold all that is held here; advances `settled` over what it announces."""
        for number, _, artifact in self._unsettled(peer):
            if self._held.get(artifact) == number and not self._is_shown(name, peer, artifact):
                return False
            peer.settled = number
        peer.shown = None
        return True

    def _unsettled(self, peer: PeerDigest) -> Iterator[tuple[int, int, ArtifactId]]:
        start = bisect_right(self._log, peer.settled, key=lambda entry: entry[0])
        return (self._log[i] for i in range(start, len(self._log)))

    def _is_compared(self, name: str) -> bool:
        # A node without all links cannot trust the ring: its neighbours there may be the missing ones.
        if self._sparse or len(self._peers) <= ALL_PEERS_MAX or self._wide or self._lacks_links:
            return True
        if self._neighbours is None:
            self._neighbours = self._ring()
        return name in self._neighbours

    def _ring(self) -> frozenset[str]:
        """The nearest peers on either side of this node, on a ring ordered by a hash of names: the same at every node."""
        if any(peer.lacks_links for peer in self._peers.values()):
            return frozenset(self._peers)
        ring = sorted([*self._peers, self._me], key=lambda name: (blake2b(name.encode(), digest_size=8).digest(), name))
        here = ring.index(self._me)
        steps = [*range(1, NEIGHBOURS + 1), *range(-NEIGHBOURS, 0)]
        return frozenset(ring[(here + step) % len(ring)] for step in steps)

    def _wake(self, at: int) -> None:
        timers = self._context.timers
        if not timers.is_set(Timer.DIGEST, None) or at < self._next_at:
            timers.set(Timer.DIGEST, None, at)
        else:
            return
        self._next_at = at
