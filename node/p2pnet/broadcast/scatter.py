"""Scattering: the publisher deals an artifact out in stripes, each to one peer, and each peer passes its share on to all others.

So the artifact leaves its publisher once, not once per peer. Stripes are best effort: the promise rests on the publisher's row,
and what does not come is fetched. What a peer refuses, a lost connection swallows or a silent peer does not acknowledge is dealt
to another one.
"""

from collections import deque
from typing import NamedTuple

from p2pnet.broadcast.artifact import part_length
from p2pnet.broadcast.context import MS, SECOND, Context, Timer
from p2pnet.broadcast.effects import Cancel, SendStripes
from p2pnet.broadcast.inputs import StripesAnswered
from p2pnet.broadcast.merkle import LEAF_BYTES, Node, proof, tree
from p2pnet.broadcast.pool import Artifact
from p2pnet.broadcast.stripes import Stripe, encode_stripe, place_of, plan_shares
from p2pnet.broadcast.table import Table
from p2pnet.broadcast.wire import UpdateStatus, decode_statuses
from p2pnet.model.errors import MalformedError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

REQUESTS_PER_PEER = 32
"""Requests of stripes in flight to one peer."""
SINGLE_REQUESTS = 16
"""While fewer are in flight, a stripe leaves by itself, so that it is passed on soon; then as many as fit travel together."""
BATCH_BYTES = PART_BYTES
"""Bytes of stripes that travel together, of a queue that waits."""
QUEUE_BYTES_PER_PEER = 16 * 1024 * 1024
"""Bytes of stripes to be passed on that may wait for one slow peer; more are dropped, and fetched by it."""
ORDER_STEP = 31
"""By how many peers the order in which stripes are passed on moves from one stripe of an artifact to the next."""
DEALS_MAX = 3
"""To so many peers in turn a stripe is dealt, while they refuse it; then it is left to fetches."""
WHOLE_PROOF_LEVEL = 2
"""Stripes of 8 KiB and more carry their whole proof, 60 bytes at most: so they need not wait for those that they overtake."""
SILENT_LEAST_NS = 20 * MS
"""A peer is silent when its answer is so much later than it was to be expected, or twice as late as answers of it were lately."""
SILENT_MOST_NS = 2 * SECOND
"""However late its answers were."""
REPEATED = 1
"""What was lost of a request, or of its answer, is repeated within so many round trips, mostly."""
STARVED_NS = 10 * MS
"""A look at what peers owe that comes so late itself says that this node waited for a core: answers may wait to be read."""


class QueuedStripe:
    """One stripe that is to be sent to one peer."""

    __slots__ = ("artifact", "deals", "first", "level", "pieces", "size")

    def __init__(self, artifact: ArtifactId, first: int, level: int, pieces: list[bytes], *, deals: int = 0) -> None:
        self.artifact = artifact
        self.first = first
        self.level = level
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.deals = deals
        """How often it was dealt out; 0: it is passed on."""


class StripeRequest(NamedTuple):
    """One request of stripes without an answer."""

    stripes: list[QueuedStripe]
    dealt: int
    """How many of them are dealt to the peer, not passed on."""
    sent_at: int


class StripeBox:
    """What is to be sent to one peer, on one connection, and how soon it answers."""

    __slots__ = (
        "answered_to", "best_ns", "connection", "is_silent", "late_ns", "owed", "peer", "queue", "queued_bytes", "requests",
        "since", "urgent",
    )  # fmt: skip

    def __init__(self, peer: str, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.queue: deque[QueuedStripe] = deque()
        self.urgent: deque[QueuedStripe] = deque()
        """These go first."""
        self.queued_bytes = 0
        """In both."""
        self.requests: dict[int, StripeRequest] = {}
        """By token, the oldest first."""
        self.owed = 0
        """Dealt stripes in them."""
        self.best_ns = 0
        """The shortest time until an answer; 0: there was none."""
        self.late_ns = 0
        """How much later than expected answers came lately."""
        self.since = 0
        """When its last answer came, or one to the last request that left this node before the oldest of these."""
        self.answered_to = 0
        """When the latest request was sent that it has answered."""
        self.is_silent = False
        """It is dealt nothing until it answers something."""

    @property
    def can_send(self) -> bool:
        """Whether anything waits that may leave now."""
        return bool(self.queue or self.urgent) and len(self.requests) < REQUESTS_PER_PEER

    def expected_at(self, nearest_ns: int, farthest_ns: int) -> int | None:
        """When the oldest request should be answered. Requests leave in their order, so an answer to one that left before
        shows when this one left. `nearest_ns`, `farthest_ns`: until an answer, of all peers; None: nobody ever answered.
        """
        best = self.best_ns or farthest_ns
        if not best or not self.requests:
            return None
        oldest = next(iter(self.requests.values()))
        return max(oldest.sent_at + best, self.since + max(0, best - nearest_ns))

    @property
    def margin_ns(self) -> int:
        """How much later than expected an answer may come. Who answered what was sent later is not silent: packets were lost."""
        margin = min(SILENT_MOST_NS, max(SILENT_LEAST_NS, 2 * self.late_ns))
        is_heard = self.answered_to and self.answered_to >= next(iter(self.requests.values())).sent_at
        return max(margin, REPEATED * self.best_ns) if is_heard else margin

    def answered(self, token: int, now: int, nearest_ns: int) -> StripeRequest:
        """Take a request off; its answer says how far away the peer is, and how late it may be."""
        expected = self.expected_at(nearest_ns, self.best_ns) if next(iter(self.requests)) == token else None
        request = self.requests.pop(token)
        took = max(1, now - request.sent_at)
        self.best_ns = min(took, self.best_ns + self.best_ns // 256) if self.best_ns else took
        if expected is not None:
            self.late_ns = max(now - expected, self.late_ns - self.late_ns // 64)
        self.owed -= request.dealt
        self.since, self.is_silent = now, False
        self.answered_to = max(self.answered_to, request.sent_at)
        return request

    def put(self, stripe: QueuedStripe, *, urgent: bool) -> None:
        """Queue a stripe."""
        (self.urgent if urgent else self.queue).append(stripe)
        self.queued_bytes += stripe.size

    def take(self) -> list[QueuedStripe]:
        """Take the stripes that leave in one request."""
        taken: list[QueuedStripe] = []
        line, size = self.urgent or self.queue, 0
        most = 1 if len(self.requests) < SINGLE_REQUESTS else BATCH_BYTES
        while line and (not taken or size + line[0].size <= most):
            taken.append(line.popleft())
            size += taken[-1].size
        self.queued_bytes -= size
        return taken

    def drop(self, artifact: ArtifactId) -> list[QueuedStripe]:
        """Take all stripes of an artifact off the queues."""
        dropped = [stripe for line in (self.urgent, self.queue) for stripe in line if stripe.artifact == artifact]
        if dropped:
            self.urgent = deque(stripe for stripe in self.urgent if stripe.artifact != artifact)
            self.queue = deque(stripe for stripe in self.queue if stripe.artifact != artifact)
            self.queued_bytes -= sum(stripe.size for stripe in dropped)
        return dropped


class Deal:
    """An artifact that this node deals out, until each of its stripes was answered."""

    __slots__ = ("artifact", "open", "urgent")

    def __init__(self, artifact: Artifact, *, urgent: bool) -> None:
        self.artifact = artifact
        self.urgent = urgent
        self.open = 0
        """Stripes that are queued or have no answer."""


class Scatter:
    """Sends stripes: of this node's own artifacts, each once, and what others deal to this node, once to every other peer."""

    def __init__(self, context: Context, table: Table, me: str) -> None:
        self._context = context
        self._table = table
        self._me = me
        self._boxes: dict[str, StripeBox] = {}
        self._requests: dict[int, StripeBox] = {}  # by token
        self._deals: dict[ArtifactId, Deal] = {}
        self._due: list[Deal] = []  # to be dealt out at the end of this turn, after their rows
        self._order: list[StripeBox] | None = None
        self._start = 0  # number of the stripe that was passed on last
        self._look_at = 0  # when the timer is set to look at what peers owe

    # Peers

    def connect(self, peer: str, connection: int) -> None:
        """Stripes for the peer go out on this connection from now on."""
        self.disconnect(peer)
        self._boxes[peer] = StripeBox(peer, connection)
        self._order = None

    def disconnect(self, peer: str) -> None:
        """The connection ended: what it was dealt and did not acknowledge is dealt to others."""
        box = self._boxes.pop(peer, None)
        if box is None:
            return
        self._order = None
        lost = [*box.urgent, *box.queue]
        for token, request in box.requests.items():
            del self._requests[token]
            lost += request.stripes
        for stripe in lost:
            self._deal_again(stripe)

    # What is sent

    def deal(self, artifact: Artifact, *, urgent: bool) -> None:
        """Deal out an artifact of this node at the end of this turn. Its row says so to all peers, and leaves before."""
        self._deals[artifact.id] = deal = Deal(artifact, urgent=urgent)
        self._due.append(deal)
        self._context.count("scattered")
        self._context.soon = True

    def pass_on(self, artifact: ArtifactId, stripe: Stripe, dealer: str) -> None:
        """Send a stripe to all peers but the one that dealt it to this node."""
        level = stripe.level
        pieces = encode_stripe(artifact, stripe.first, level, bytes(stripe.proof), stripe.data, first_hand=False)
        queued = QueuedStripe(artifact, stripe.first, level, pieces)
        self._start = stripe.first >> level
        for box in self._boxes.values():
            if box.peer == dealer or self._table.holds(box.peer, artifact):
                continue
            if box.queued_bytes + queued.size > QUEUE_BYTES_PER_PEER:
                self._context.count("stripes_dropped")
                continue
            box.put(queued, urgent=False)
        self._context.soon = True

    def stop(self, artifact: ArtifactId) -> None:
        """The artifact left the pool, or is unwanted here: nothing more is sent of it."""
        deal = self._deals.pop(artifact, None)
        stopped = deal is not None
        for box in self._boxes.values():
            stopped = bool(box.drop(artifact)) or stopped
        if stopped:
            self._context.count("stripes_withdrawn")

    def flush(self) -> None:
        """Send what is due: one request to each peer in turn, so that all have something to pass on early."""
        due, self._due = self._due, []
        for deal in due:
            self._deal_out(deal)
        boxes = [box for box in self._peers() if box.can_send]
        if not due and boxes:
            # Another peer first each time: else all relays would reach the same one at the same moment.
            start = self._start * ORDER_STEP % len(boxes)
            boxes = boxes[start:] + boxes[:start]
        while boxes:
            for box in boxes:
                self._send(box)
            boxes = [box for box in boxes if box.can_send]

    def answered(self, answered: StripesAnswered) -> None:
        """Take the reply to a request, or its failure: what the peer did not take is dealt to another one."""
        box = self._requests.pop(answered.token, None)
        if box is None:
            return
        stripes = self._take_answer(box, answered.token)
        try:
            statuses = None if answered.body is None else decode_statuses(answered.body, len(stripes))
        except MalformedError:
            statuses = None
        for number, stripe in enumerate(stripes):
            status = None if statuses is None else statuses[number]
            if status == UpdateStatus.OK:
                self._settle(stripe)
                continue
            self._deal_again(stripe, box)
            if status in {UpdateStatus.HAVE, UpdateStatus.UNWANTED}:
                # It would answer the same to the rest of its share.
                for other in box.drop(stripe.artifact):
                    self._deal_again(other, box)
        if box.can_send:
            self._context.soon = True

    def check_silence(self) -> None:
        """Deal to others what a silent peer has not acknowledged, although its connection is up."""
        now, starved_ns = self._context.now, self._context.now - self._look_at
        if starved_ns > STARVED_NS:
            self._look_again(min(starved_ns, SILENT_MOST_NS))
            return
        nearest, farthest = self._nearest_and_farthest()
        later: int | None = None
        for box in list(self._boxes.values()):
            if not box.owed:
                continue
            expected = box.expected_at(nearest, farthest)
            if expected is None:
                due = now + max(SILENT_LEAST_NS, (now - next(iter(box.requests.values())).sent_at) // 2)
            else:
                due = expected + box.margin_ns
            if due <= now:
                self._is_silent(box)
            else:
                later = due if later is None else min(later, due)
        if later is not None:
            self._look_again(later - now)

    # Inside

    def _look_again(self, after_ns: int) -> None:
        self._look_at = self._context.now + after_ns
        self._context.timers.set(Timer.DEALT, None, self._look_at)

    def _nearest_and_farthest(self) -> tuple[int, int]:
        """How long the nearest and the farthest peer that ever answered takes for it, nanoseconds; 0: nobody did."""
        times = [box.best_ns for box in self._boxes.values() if box.best_ns]
        return min(times, default=0), max(times, default=0)

    def _take_answer(self, box: StripeBox, token: int) -> list[QueuedStripe]:
        """Take a request off its box. While something is dealt out, its answer tells when later requests left this node."""
        now = self._context.now
        if not self._deals:
            return box.answered(token, now, box.best_ns).stripes
        stripes = box.answered(token, now, self._nearest_and_farthest()[0]).stripes
        for other in self._boxes.values():
            if other.owed and next(iter(other.requests)) > token:
                other.since = now
        return stripes

    def _is_silent(self, box: StripeBox) -> None:
        box.is_silent = True
        box.owed = 0
        self._context.count("silent_relay_met")
        waiting = [stripe for line in (box.urgent, box.queue) for stripe in line if stripe.deals]
        if waiting:
            box.urgent = deque(stripe for stripe in box.urgent if not stripe.deals)
            box.queue = deque(stripe for stripe in box.queue if not stripe.deals)
            box.queued_bytes -= sum(stripe.size for stripe in waiting)
        for number, (token, request) in enumerate(list(box.requests.items())):
            waiting += [stripe for stripe in request.stripes if stripe.deals]
            if number and request.dealt == len(request.stripes):
                del box.requests[token], self._requests[token]
                self._context.effects.append(Cancel(token))
            else:  # the oldest shows by its answer that the peer is back
                box.requests[token] = request._replace(dealt=0)
        for stripe in waiting:
            self._deal_again(stripe, box)
            stripe.deals = 0  # an answer that comes after all settles nothing

    def _peers(self) -> list[StripeBox]:
        """All peers, in the order of their names after this node's: so not all nodes send to the same one first."""
        if self._order is None:
            names = sorted(self._boxes)
            names = [name for name in names if name > self._me] + [name for name in names if name < self._me]
            self._order = [self._boxes[name] for name in names]
        return self._order

    def _deal_out(self, deal: Deal) -> None:
        artifact = deal.artifact
        if self._deals.get(artifact.id) is not deal:  # withdrawn in the turn in which it was published
            return
        boxes = [box for box in self._peers() if not self._table.holds(box.peer, artifact.id)]
        # A silent one would keep its share to itself again. It is dealt something only if all are silent.
        boxes = [box for box in boxes if not box.is_silent] or boxes
        if not boxes:
            del self._deals[artifact.id]
            return
        trees: dict[int, list[list[bytes]]] = {}
        for box, share in zip(boxes, plan_shares(len(artifact.data), len(boxes)), strict=True):
            known: dict[int, set[Node]] = {}
            for first, level in share:
                proven = {} if level >= WHOLE_PROOF_LEVEL else known
                box.put(self._cut(artifact, first, level, trees, proven, deals=1), urgent=deal.urgent)
                deal.open += 1

    def _cut(
        self,
        artifact: Artifact,
        first: int,
        level: int,
        trees: dict[int, list[list[bytes]]],
        known: dict[int, set[Node]],
        *,
        deals: int,
    ) -> QueuedStripe:
        """A stripe of an artifact of this node. `known`: by part, the nodes that its receivers know."""
        data, place = artifact.data, place_of(len(artifact.data), first, level)
        if place is None:
            raise AssertionError(f"no stripe of level {level} begins at leaf {first}")
        part, node, length = place
        view, start = memoryview(data), part * PART_BYTES
        if part not in trees:
            trees[part] = tree(view[start : start + part_length(len(data), part)])
        siblings = proof(trees[part], node, known.setdefault(part, set()))
        start += (node[1] << level) * LEAF_BYTES
        pieces = encode_stripe(artifact.id, first, level, siblings, view[start : start + length], first_hand=True)
        return QueuedStripe(artifact.id, first, level, pieces, deals=deals)

    def _send(self, box: StripeBox) -> None:
        context, stripes = self._context, box.take()
        token = context.token()
        dealt = sum(1 for stripe in stripes if stripe.deals)
        self._requests[token] = box
        if not box.requests:
            box.since = 0
        box.requests[token] = StripeRequest(stripes, dealt, context.now)
        box.owed += dealt
        if dealt and not context.timers.is_set(Timer.DEALT, None):
            self._look_again(SILENT_LEAST_NS)
        context.counters["stripes_sent"] += dealt
        context.counters["stripes_passed_on"] += len(stripes) - dealt
        context.counters["stripe_requests"] += 1
        body = stripes[0].pieces if len(stripes) == 1 else [piece for stripe in stripes for piece in stripe.pieces]
        context.effects.append(SendStripes(token, box.peer, box.connection, body, urgent=False))

    def _settle(self, stripe: QueuedStripe) -> None:
        deal = self._deals.get(stripe.artifact)
        if deal is not None and stripe.deals:
            deal.open -= 1
            if not deal.open:
                del self._deals[stripe.artifact]

    def _deal_again(self, stripe: QueuedStripe, refused_by: StripeBox | None = None) -> None:
        """Deal a stripe of an own artifact to another peer, since it did not arrive or is of no use there."""
        deal = self._deals.get(stripe.artifact)
        if deal is None or not stripe.deals:
            return
        boxes = [box for box in self._peers() if box is not refused_by and not box.is_silent]
        if stripe.deals >= DEALS_MAX or not boxes:
            self._settle(stripe)
            return
        # By itself and with its whole proof: its new receiver passes it on to peers that know nothing of the rest of the share.
        again = self._cut(deal.artifact, stripe.first, stripe.level, {}, {}, deals=stripe.deals + 1)
        boxes[(stripe.first >> stripe.level) % len(boxes)].put(again, urgent=True)
        self._context.count("stripes_dealt_again")
        self._context.soon = True
