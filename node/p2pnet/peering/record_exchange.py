"""Peer exchange: this node's own record goes to every peer, and every so often one of them is asked for others' records.

The own record goes out over each new link and whenever it is signed anew. A peer that is asked answers with the records the
asker lacks; a node that has learned something asks again soon, one that has not waits longer each time. So a newcomer hears
of all nodes from its first link, and a subnet at rest exchanges a few kilobytes per node in PULL_MAX_S.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from p2pnet.model.errors import MalformedError, P2pnetError, TrustError
from p2pnet.model.peer_messages import ANSWER_BYTES_MAX, ROUTE_RECORDS, RecordsReply, RecordsRequest
from p2pnet.peering import clock
from p2pnet.peering.pacing import Rate
from p2pnet.peering.records import Order, OwnRecord, RecordRefusedError, RecordStore
from p2pnet.peering.refusals import Refusals
from p2pnet.quic import CloseCode, Connection, Exchange, IdentitySource, Message

PULL_FIRST_S = 0.5
"""Between a node's question that brought something and its next."""
PULL_MAX_S = 10.0
"""Longest gap between questions: it doubles with each one that brings nothing."""
ASK_S = 10.0
"""A question without an answer is asked again after this long."""
UNKNOWN_S = 30.0
"""A link may last this long without a record of the peer: long enough for several attempts, shorter than any record."""
ANSWERS_PER_S = 20.0
"""Questions of one peer that get records; more get none: each costs a walk over the whole record store."""

log = logging.getLogger("p2pnet.node")


class _RecordLink(msgspec.Struct, eq=False):
    """What the exchange knows about one link."""

    connection: Connection
    since_ns: int
    acked: Order = (0, -1)
    """The order of the own record that the peer has acknowledged."""
    pull: bool = False
    """The peer is to be asked for others' records."""
    asking: Exchange | None = None
    asked_ns: int = 0
    answers: Rate = msgspec.field(default_factory=lambda: Rate(ANSWERS_PER_S, 2 * int(ANSWERS_PER_S)))


class RecordExchange:
    """Keeps a node's record store filled, and those of its peers with this node's record."""

    def __init__(
        self,
        name: str,
        records: RecordStore,
        *,
        identity: IdentitySource,
        refusals: Refusals,
        rng: Callable[[], float],
        changed: Callable[[], None],
        cut: Callable[[str, str], None],
    ) -> None:
        """`changed()` is called when the record store has changed; `cut(name, reason)` ends a link."""
        self._name = name
        self._records = records
        self._identity = identity
        self._refusals = refusals
        self._rng = rng
        self._changed = changed
        self._cut = cut
        self._own: OwnRecord | None = None
        self._links: dict[str, _RecordLink] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.gap_s = PULL_FIRST_S
        """Seconds until `pull` is due next, before a random quarter more or less."""
        self._pulls = Rate(1 / PULL_FIRST_S, 2)

    def start(self, own: OwnRecord) -> None:
        """Announce this node from now on. Raises LimitError or SpecError when its record cannot be made."""
        own.sign(self._identity.current, clock.utc_now(), self._records.echo)
        self._own = own
        for name in self._links:  # links that came up before the node served
            self._ask(name)
            self._pull_in(PULL_FIRST_S)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._own = None
        if self._timer is not None:
            self._timer.cancel()

    # --- links, identity and time ---

    def link_up(self, name: str, connection: Connection) -> None:
        """A link is in use, perhaps in place of a former one."""
        former = self._links.pop(name, None)
        if former is not None and former.asking is not None:
            former.asking.cancel()  # the new connection is asked instead
        now = clock.mono_ns()
        # Not every new link is asked: a node that gets a hundred at once would be sent a hundred copies.
        self._links[name] = _RecordLink(connection, now, pull=self._pulls.take(now))
        self._ask(name)
        self._pull_in(PULL_FIRST_S)

    def link_down(self, name: str) -> None:
        """The link has ended."""
        self._links.pop(name, None)

    def leaf_changed(self) -> None:
        """Sign the own record anew: it must carry the leaf in use."""
        self._sign()

    def bundle_changed(self) -> None:
        """Drop records whose chain the new bundle does not vouch for."""
        if self._records.recheck(self._identity.current.bundle, now=clock.utc_now()):
            self._changed()

    def tick(self) -> None:
        """Called about every second."""
        now = clock.utc_now()
        ended = self._records.expire(now)
        if ended:
            self._changed()
        for name in ended:
            self._cut(name, "its record has ended")  # a peer without a record in force is no member any more
        if self._own is not None and self._own.due(now, self._records.echo):
            self._sign()
        late, unknown = clock.mono_ns() - int(ASK_S * clock.NS), clock.mono_ns() - int(UNKNOWN_S * clock.NS)
        for name, link in list(self._links.items()):
            if link.asking is not None and link.asked_ns < late:
                link.asking.cancel()
                link.asking = None
            if link.since_ns < unknown and name not in self._records.names:
                self._cut(name, "no record of it is in force")
            self._ask(name)

    def _sign(self) -> None:
        if self._own is None:
            return
        try:
            self._own.sign(self._identity.current, clock.utc_now(), self._records.echo)
        except P2pnetError as error:
            log.error("others will lose sight of this node: %s", error)  # noqa: TRY400 - a sentence for people
            return
        for name in list(self._links):
            self._ask(name)

    # --- asking ---

    @property
    def is_pulling(self) -> bool:
        """Whether a next question is planned."""
        return self._timer is not None

    def _pull_in(self, gap_s: float) -> None:
        self.gap_s = gap_s
        due_s = self._loop.time() + gap_s * (0.75 + self._rng() / 2)
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self.pull) if self._own is not None else None

    def pull(self) -> None:
        """Ask a random peer for others' records, and again later: called by the timer."""
        self._timer = None
        names = list(self._links)
        if not names:
            return  # the next link starts the timer again
        chosen = names[int(self._rng() * len(names))]
        self._links[chosen].pull = True
        self._ask(chosen)
        self._pull_in(min(PULL_MAX_S, self.gap_s * 2))

    def _ask(self, name: str) -> None:
        """Send the peer the own record if it lacks it, ask it for others' if that is due; one question at a time."""
        link, own = self._links[name], self._own
        if own is None or link.asking is not None or not (link.pull or link.acked < own.order):
            return
        # The own record is listed as known, or every peer would send it back.
        known = {**self._records.known(), self._name: own.order} if link.pull else None
        pull, link.pull = link.pull, False
        done = partial(self._answered, name, link, own.order, pull)
        ask = msgspec.msgpack.encode(RecordsRequest(own.envelope, known))
        try:
            link.asking = link.connection.start_request(ROUTE_RECORDS, ask, done, reply_bytes_max=ANSWER_BYTES_MAX)
            link.asked_ns = clock.mono_ns()
        except P2pnetError as error:
            log.debug("%s was not asked for records: %s", name, error)  # the next tick asks again

    def _answered(self, name: str, link: _RecordLink, acked: Order, pulled: bool, result: Message | Exception) -> None:
        link.asking = None
        if self._links.get(name) is not link or isinstance(result, Exception):
            return
        link.acked = acked
        try:
            answer = msgspec.msgpack.decode(result.payload, type=RecordsReply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._malformed(name, link.connection, f"not an answer about records: {error}")
            return
        if self._take(name, answer.records):
            self._pull_in(PULL_FIRST_S)
            link.pull = pulled and answer.more
        self._ask(name)

    # --- being asked ---

    def message(self, name: str, connection: Connection, message: Message) -> None:
        """A question of a peer. Malformed bytes end the link."""
        try:
            ask = msgspec.msgpack.decode(message.payload, type=RecordsRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._malformed(name, connection, f"not a question about records: {error}")
            return
        if ask.record:
            self._take(name, [ask.record], of=name)
        if message.wants_reply:
            message.reply(msgspec.msgpack.encode(self._answer(name, ask)))

    def _answer(self, name: str, ask: RecordsRequest) -> RecordsReply:
        link, own = self._links.get(name), self._own
        if ask.known is None or own is None or link is None or not link.answers.take(clock.mono_ns()):
            return RecordsReply()
        page, more = self._records.newer(ask.known, clock.utc_now(), self._rng())
        mine = [own.envelope] if own.order > ask.known.get(self._name, (0, -1)) else []
        return RecordsReply(mine + page, more)

    def _take(self, sender: str, envelopes: list[bytes], *, of: str = "") -> bool:
        """Whether any was newer. Those that cannot be used are skipped, and noted as refusals of `sender`."""
        now, bundle, newer = clock.utc_now(), self._identity.current.bundle, False
        for envelope in envelopes:
            try:
                newer |= bool(self._records.offer(envelope, bundle, now=now, of=of))
            except TrustError as error:
                self._refusals.note(error.kind, f"a record: {error}", peer=sender)
            except (MalformedError, RecordRefusedError) as error:
                self._refusals.note("record", str(error), peer=sender)
        if newer:
            self._changed()
        return newer

    def _malformed(self, name: str, connection: Connection, why: str) -> None:
        self._refusals.note("record", why, peer=name)
        connection.close(CloseCode.PROTOCOL_VIOLATION, why)
