"""The intake of stripes: each is checked by itself, kept, and passed on if its dealer sent it; what does not come is fetched.

Nothing is taken that the bouncer does not want: a stripe is of use only while there is a task for its artifact. A wrong one
closes its sender as a source of stripes of this artifact, and costs nobody else.
"""

from collections.abc import Callable

from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.context import MS, SECOND, Context, Timer
from p2pnet.broadcast.effects import AnswerStripes
from p2pnet.broadcast.inputs import StripesReceived
from p2pnet.broadcast.pool import Pool
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.scatter import Scatter
from p2pnet.broadcast.stripes import SHORT_BYTES, Stripe, StripeVerdict, decode_stripes, place_of
from p2pnet.broadcast.table import SupplierState, Table
from p2pnet.broadcast.task import Arrivals, Awaiting, Task
from p2pnet.broadcast.turns import Turns
from p2pnet.broadcast.wire import UpdateStatus, next_hop
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

FIRST_WAIT_NS = 500 * MS
"""How long the first stripe that a peer passes on may take after the row, or after the last one of anything of its dealer; or
twice as long as such ones took lately."""
WAIT_LEAST_NS = 30 * MS
"""After a pause of so long at least what is missing is fetched."""
TRIPS = 4
"""And not before so many trips after the row: what a silent peer was dealt comes through another one by then."""
WAIT_MOST_NS = 500 * MS
"""However late stripes were lately."""
GAPS = 2
"""A pause counts when it is so many times as long as the longest before it, between stripes of different peers."""
LATE_NS = 10 * MS
"""Shorter pauses before stripes are not remembered."""
STARVED_NS = 10 * MS
"""A look that comes so late itself says that this node waited for a core: stripes may wait to be read."""
HELD_ELSEWHERE_NS = 2 * SECOND
"""Stripes are not waited for longer than this after the last one when somebody else announces the whole artifact."""
EARLY_BYTES_PER_PEER = 1024 * 1024
"""Bytes of one peer's stripes that wait for the artifact's row, or for what their proof builds on."""
EARLY_NS = 2 * SECOND
"""How long they wait."""
_MALFORMED = bytes([UpdateStatus.MALFORMED])


class EarlyStripes:
    """Stripes that cannot be checked yet, by the first bytes of their artifact's id and by peer; bounded per peer."""

    __slots__ = ("_by_id", "_used")

    def __init__(self) -> None:
        self._by_id: dict[bytes, dict[str, list[Stripe]]] = {}
        self._used: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._by_id)

    def keep(self, peer: str, stripe: Stripe) -> bool:
        """Keep a stripe, if the peer's bytes allow it; whether they do."""
        used = self._used.get(peer, 0) + len(stripe.data)
        if used > EARLY_BYTES_PER_PEER:
            return False
        self._used[peer] = used
        self._by_id.setdefault(stripe.short, {}).setdefault(peer, []).append(stripe)
        return True

    def peers(self, short: bytes) -> list[str]:
        """The peers with stripes of an artifact, in the order of the first ones."""
        return list(self._by_id.get(short, ()))

    def take(self, short: bytes, peer: str) -> list[Stripe]:
        """Take out a peer's stripes of an artifact, in the order they came."""
        by_peer = self._by_id.get(short)
        taken = by_peer.pop(peer, []) if by_peer is not None else []
        if by_peer is not None and not by_peer:
            del self._by_id[short]
        if taken:
            self._used[peer] -= sum(len(stripe.data) for stripe in taken)
            if not self._used[peer]:
                del self._used[peer]
        return taken

    def clear(self) -> int:
        """Drop everything; how many stripes."""
        dropped = sum(len(stripes) for by_peer in self._by_id.values() for stripes in by_peer.values())
        self._by_id.clear()
        self._used.clear()
        return dropped


class Lateness:
    """How late stripes were lately, by the peer that sent them, in nanoseconds: where many peers are late, links or machines are
    busy, and patience costs less than fetching what comes anyway.
    """

    __slots__ = ("_by_peer", "first_ns")

    def __init__(self) -> None:
        self._by_peer: dict[str, int] = {}
        self.first_ns = 0
        """From a row to the first stripe that a peer passed on."""

    def fade(self) -> None:
        """A sixteenth is forgotten with each artifact that begins."""
        self.first_ns -= self.first_ns // 16
        if self._by_peer:
            faded = {peer: late - late // 16 for peer, late in self._by_peer.items()}
            self._by_peer = {peer: late for peer, late in faded.items() if late >= LATE_NS}

    def met(self, peer: str, pause_ns: int) -> None:
        """A stripe of this peer came after such a pause."""
        if pause_ns >= LATE_NS and pause_ns > self._by_peer.get(peer, 0):
            self._by_peer[peer] = pause_ns

    def forget(self, peer: str) -> None:
        """The peer is not connected any more."""
        self._by_peer.pop(peer, None)

    def usual(self, peers: int) -> int:
        """The greatest, but for a quarter of so many peers: a few that are late, or lie, make nobody wait for the others."""
        spared = (peers + 1) // 4
        return 0 if len(self._by_peer) <= spared else sorted(self._by_peer.values(), reverse=True)[spared]


class StripeIntake:
    """Takes peers' stripes for the tasks of the assembler."""

    def __init__(
        self,
        context: Context,
        table: Table,
        pool: Pool,
        *,
        quota: Quota,
        assembler: Assembler,
        scatter: Scatter,
        turns: Turns,
        is_refused: Callable[[ArtifactId], bool],
    ) -> None:
        """`is_refused`: whether an id is unwanted here for good."""
        self._context = context
        self._table = table
        self._pool = pool
        self._quota = quota
        self._assembler = assembler
        self._scatter = scatter
        self._turns = turns
        self._is_refused = is_refused
        self._known: dict[bytes, ArtifactId] = {}  # by its first bytes, every artifact in rows that said stripes come
        self._early = EarlyStripes()
        self._missed: dict[
            ArtifactId, int
        ] = {}  # what was fetched because stripes did not come, and when the last one had
        self._late = Lateness()
        self._heard: dict[str, Arrivals] = {}  # new stripes of anything that this peer deals out

    # Rows

    def note(self, artifact: ArtifactId) -> None:
        """A peer's row says that stripes of this artifact come, wanted or not."""
        self._known[artifact[:SHORT_BYTES]] = artifact

    def expect(self, artifact: ArtifactId, source: SupplierState, part_list: bytes) -> None:
        """A wanted artifact is being dealt out by `source`: wait for its stripes instead of fetching it."""
        context, is_new = self._context, artifact not in self._assembler.tasks
        task = self._assembler.expect(artifact, source, part_list)
        if task is None:
            return
        # A second dealer is a source as any other: each stripe is passed on once.
        if not task.dealer:
            task.dealer = source.peer
        if is_new:
            self._late.fade()
            task.awaits = Awaiting(context.now)
            self._look_again(task.artifact, task.awaits, context.now + self._patience_ns(task.awaits))
        for peer in self._early.peers(artifact[:SHORT_BYTES]):
            self._take_early(artifact[:SHORT_BYTES], peer)

    def forget(self, artifact: ArtifactId) -> None:
        """No peer announces the artifact any more."""
        self._known.pop(artifact[:SHORT_BYTES], None)
        self._missed.pop(artifact, None)

    def disconnect(self, peer: str) -> None:
        """The peer's connection ended: it deals out nothing more."""
        self._heard.pop(peer, None)
        self._late.forget(peer)

    # Stripes

    def received(self, received: StripesReceived) -> None:
        """Take one request of stripes; it is answered now, or after the other peers' requests of this loop turn."""
        if self._table.is_current(received.peer, received.connection):
            self._turns.take(received.peer, received.token, received.body, self._answer, self._refuse)
        else:
            self._context.effects.append(AnswerStripes(received.token, b""))

    def _refuse(self, token: int, body: bytes) -> None:
        try:
            count = len(decode_stripes(body))
        except MalformedError:
            self._context.effects.append(AnswerStripes(token, _MALFORMED))
            return
        self._context.count("stripes_dropped", count)
        self._context.effects.append(AnswerStripes(token, bytes([UpdateStatus.BUSY]) * count))

    def _answer(self, peer: str, token: int, body: bytes) -> None:
        context = self._context
        try:
            stripes = decode_stripes(body)
        except MalformedError as error:
            context.emit_about(EventKind.REJECTED, None, peer, size=len(body), detail=str(error))
            context.effects.append(AnswerStripes(token, _MALFORMED))
            return
        before = context.counters["stripes_received"]
        statuses = bytes([self._stripe(peer, stripe) for stripe in stripes])
        context.effects.append(AnswerStripes(token, statuses))
        if self._early and context.counters["stripes_received"] > before:
            for short in dict.fromkeys(stripe.short for stripe in stripes):
                self._take_early(short, peer)

    def _stripe(self, peer: str, stripe: Stripe) -> int:
        artifact = self._known.get(stripe.short)
        if artifact is None:
            return self._keep(peer, stripe, "stripe_before_its_row")
        if artifact in self._missed:  # it was late, not lost
            self._late.met(peer, self._context.now - self._missed[artifact])
        if self._pool.holds(artifact):
            self._context.count("stripes_duplicate")
            return UpdateStatus.HAVE
        task = self._assembler.tasks.get(artifact)
        if task is None or self._is_refused(artifact):
            self._context.count("stripe_unwanted")
            return UpdateStatus.UNWANTED
        # A task without quota has no part list yet; it gets everything by fetches.
        if not task.part_list or peer in task.closed:
            self._context.count("stripes_dropped")
            return UpdateStatus.BUSY
        return self._take(task, peer, stripe)

    def _take(self, task: Task, peer: str, stripe: Stripe) -> int:
        place = place_of(task.size, stripe.first, stripe.level)
        if place is None or place[2] != len(stripe.data):
            return self._wrong(task, peer)
        part, node, length = place
        if not task.lacking >> part & 1:
            self._context.count("stripes_duplicate")
            return UpdateStatus.OK
        if not self._quota.pass_on(task.artifact, peer, length):
            self._context.count("stripes_dropped")
            return UpdateStatus.BUSY
        opened = task.open(part)
        verdict = opened.take(node, stripe.proof, stripe.data)
        if verdict is StripeVerdict.NEW:
            self._new(task, peer, stripe, part)
            return UpdateStatus.OK
        self._quota.give_back(task.artifact, peer, length)
        if verdict is StripeVerdict.WRONG:
            return self._wrong(task, peer)
        if verdict is StripeVerdict.UNPROVEN:
            return self._keep(peer, stripe, "stripe_unproven")
        self._context.count("stripes_duplicate")
        return UpdateStatus.OK

    def _new(self, task: Task, peer: str, stripe: Stripe, part: int) -> None:
        context, now = self._context, self._context.now
        context.counters["stripes_received"] += 1
        task.delivered[peer] = task.delivered.get(peer, 0) + len(stripe.data)
        is_dealt = stripe.first_hand and peer == task.dealer
        awaits = task.awaits
        if awaits is not None:
            if awaits.relayed_after_ns:
                heard = self._heard.get(task.dealer, awaits.arrivals)
                self._late.met(peer, now - max(awaits.arrivals.last, heard.last))
            if awaits.came(now, peer, first_hand=is_dealt):
                self._late.first_ns = max(self._late.first_ns, awaits.relayed_after_ns)
                # Set for the first stripe until now, and from here on looked at again whenever it fires in vain.
                self._look_again(task.artifact, awaits, now + self._patience_ns(awaits))
        if task.dealer:
            if task.dealer not in self._heard:
                self._heard[task.dealer] = Arrivals(now)
            self._heard[task.dealer].came(now, peer)
        if is_dealt:
            self._scatter.pass_on(task.artifact, stripe, peer)
        if not task.open(part).lacking:
            self._assembler.take_part(task, part, peer, 0, self._source(task, peer))

    def _source(self, task: Task, peer: str) -> SupplierState:
        """Who completes the artifact by a stripe: its dealer, or a peer that got it from the dealer."""
        found = self._table.holders.get(task.artifact, {})
        source = found.get(peer)
        if source is not None:
            return source
        dealer = found.get(task.dealer)
        hop = next_hop(dealer.hop) if dealer is not None else 1
        origin = dealer.origin if dealer is not None else 0
        return SupplierState(peer, 0, 0, 0, task.size, hop, task.key, 0, origin=origin)

    def _wrong(self, task: Task, peer: str) -> int:
        task.closed.add(peer)
        self._context.count("stripe_wrong")
        self._context.emit_about(EventKind.FETCH_FAILED, task.artifact, peer, detail="wrong stripe")
        return UpdateStatus.MALFORMED

    # What cannot be checked yet

    def _keep(self, peer: str, stripe: Stripe, why: str) -> int:
        context = self._context
        if not self._early.keep(peer, stripe):
            context.count("stripes_dropped")
            return UpdateStatus.BUSY
        context.count(why)
        if not context.timers.is_set(Timer.EARLY, None):
            context.timers.set(Timer.EARLY, None, context.now + EARLY_NS)
        return UpdateStatus.OK

    def _take_early(self, short: bytes, peer: str) -> None:
        """Look again at what waits of this peer and artifact, as long as that brings something new: each may prove the next."""
        counters = self._context.counters
        while short in self._known and (early := self._early.take(short, peer)):
            before = counters["stripes_received"]
            for stripe in early:
                self._stripe(peer, stripe)
            if counters["stripes_received"] == before:
                break
        if not self._early:
            self._context.timers.cancel(Timer.EARLY, None)

    def drop_early(self) -> None:
        """Drop what still waits: whatever is missing is fetched."""
        self._context.count("stripes_dropped", self._early.clear())

    # What does not come

    def check(self, artifact: ArtifactId) -> None:
        """Fetch what is missing of an artifact, if its stripes have not come for too long."""
        context, task = self._context, self._assembler.tasks.get(artifact)
        if task is None or task.awaits is None:
            return
        awaits, late_ns = task.awaits, context.now - task.awaits.look_at
        patience, trips = self._patience_ns(awaits), 0 if task.closed else TRIPS
        if late_ns > STARVED_NS:
            self._look_again(artifact, awaits, context.now + min(late_ns, patience))
            return
        others = sum(1 for source in self._table.holders.get(artifact, {}).values() if source.complete)
        heard = self._heard.get(task.dealer, awaits.arrivals)
        if awaits.relayed_after_ns:
            due = patience + max(awaits.arrivals.others, heard.others)
        else:
            due = patience + max(awaits.arrivals.last, heard.last)
        due = max(due, awaits.since + WAIT_LEAST_NS + trips * awaits.relayed_after_ns)
        if others > 1:
            due = min(due, awaits.arrivals.last + HELD_ELSEWHERE_NS)
        if context.now < due:
            self._look_again(artifact, awaits, due)
            return
        context.count("stripes_missed")
        self._missed[artifact] = awaits.arrivals.last
        task.awaits = None
        self._assembler.source_changed(artifact)

    def _look_again(self, artifact: ArtifactId, awaits: Awaiting, at: int) -> None:
        awaits.look_at = at
        self._context.timers.set(Timer.STRIPES, artifact, at)

    def _patience_ns(self, awaits: Awaiting) -> int:
        if not awaits.relayed_after_ns:
            return max(FIRST_WAIT_NS, min(WAIT_MOST_NS, 2 * self._late.first_ns))
        usual = min(WAIT_MOST_NS, 2 * self._late.usual(len(self._table.peers)))
        return max(WAIT_LEAST_NS, awaits.relayed_after_ns, GAPS * awaits.gap_ns, usual)
