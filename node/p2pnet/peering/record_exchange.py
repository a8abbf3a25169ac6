"""Peer exchange: this node's own record to every peer, and every so often a question to one of them for those of others.

The own record goes out over each new link and whenever it is signed anew. Who is asked answers with what the asker lacks;
a node that has learned something asks again soon, one that has not waits longer each time. So a newcomer hears of all from
its first link, and a subnet at rest exchanges a few kilobytes per node in PULL_MAX_S.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from p2pnet.model.errors import MalformedError, P2pnetError, TrustError
from p2pnet.model.peer_messages import ANSWER_BYTES_MAX, ROUTE_RECORDS, RecordsReply, RecordsRequest
from p2pnet.peering import clock
from p2pnet.peering.discovery import RecordDirectory
from p2pnet.peering.pacing import Rate
from p2pnet.peering.records import Order, OwnRecord, RecordRefusedError
from p2pnet.peering.refusals import Refusals
from p2pnet.quic import CloseCode, Connection, Exchange, IdentitySource, Message

PULL_FIRST_S = 0.5
PULL_MAX_S = 10.0
"""Between two questions of a node: doubling from the first to the second while there is no news."""
ASK_S = 10.0
"""A question without an answer is asked anew after this long."""
UNKNOWN_S = 30.0
"""A link may last this long without a record of the peer: long enough for several attempts, shorter than any record."""
ANSWERS_PER_S = 20.0
"""Questions of one peer that get records; more get none: each costs a look through the whole book."""

log = logging.getLogger("p2pnet.node")


@dataclass(slots=True, eq=False)
class _Line:
    """A link, as far as records go."""

    connection: Connection
    since_ns: int
    told: Order = (0, -1)
    """Of the own record the peer has answered to."""
    pull: bool = False
    """The peer is to be asked for others' records."""
    asking: Exchange | None = None
    asked_ns: int = 0
    answers: Rate = field(default_factory=lambda: Rate(ANSWERS_PER_S, 2 * int(ANSWERS_PER_S)))


class RecordExchange:
    """Keeps the book of a `RecordDirectory` filled, and the peers' books with this node."""

    def __init__(
        self,
        name: str,
        table: RecordDirectory,
        *,
        identity: IdentitySource,
        refusals: Refusals,
        chance: Callable[[], float],
        changed: Callable[[], None],
        cut: Callable[[str, str], None],
    ) -> None:
        """`changed()` is called when the book has; `cut(name, reason)` ends a link."""
        self._name = name
        self._table = table
        self._book = table.book
        self._identity = identity
        self._refusals = refusals
        self._chance = chance
        self._changed = changed
        self._cut = cut
        self._own: OwnRecord | None = None
        self._lines: dict[str, _Line] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._gap_s = PULL_FIRST_S
        self._pulls = Rate(1 / PULL_FIRST_S, 2)

    def start(self, own: OwnRecord) -> None:
        """Speak for this node from now on. Raises LimitError or SpecError when its record cannot be made."""
        own.sign(self._identity.current, clock.utc_now(), self._book.echo)
        self._own = own
        for name in self._lines:  # who dialled before
            self._ask(name)
            self._pull_in(PULL_FIRST_S)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._own = None
        if self._timer is not None:
            self._timer.cancel()

    # --- what happens ---

    def link_up(self, name: str, connection: Connection) -> None:
        """A link is in use, perhaps in place of a former one."""
        former = self._lines.pop(name, None)
        if former is not None and former.asking is not None:
            former.asking.cancel()
        now = clock.mono_ns()
        self._lines[name] = _Line(connection, now, pull=self._pulls.take(now))
        self._ask(name)
        self._pull_in(PULL_FIRST_S)

    def link_down(self, name: str) -> None:
        """It has ended."""
        self._lines.pop(name, None)

    def leaf_changed(self) -> None:
        """The own record must carry the leaf in use."""
        self._sign()

    def bundle_changed(self) -> None:
        """Records stand as long as their chains do."""
        if self._book.judge(self._identity.current.bundle, now=clock.utc_now()):
            self._changed()

    def tick(self) -> None:
        """Called about every second."""
        now = clock.utc_now()
        ended = self._book.expire(now)
        if ended:
            self._changed()
        for name in ended:
            self._cut(name, "its record has ended")
        if self._own is not None and self._own.due(now, self._book.echo):
            self._sign()
        late, unknown = clock.mono_ns() - int(ASK_S * clock.NS), clock.mono_ns() - int(UNKNOWN_S * clock.NS)
        for name, line in list(self._lines.items()):
            if line.asking is not None and line.asked_ns < late:
                line.asking.cancel()
                line.asking = None
            if line.since_ns < unknown and name not in self._book.names:
                self._cut(name, "no record of it is in force")
            self._ask(name)

    def _sign(self) -> None:
        if self._own is None:
            return
        try:
            self._own.sign(self._identity.current, clock.utc_now(), self._book.echo)
        except P2pnetError as error:
            log.error("others will lose sight of this node: %s", error)  # noqa: TRY400 - a sentence for people
            return
        for name in list(self._lines):
            self._ask(name)

    # --- asking ---

    def _pull_in(self, gap_s: float) -> None:
        self._gap_s = gap_s
        due_s = self._loop.time() + gap_s * (0.75 + self._chance() / 2)
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._pull) if self._own is not None else None

    def _pull(self) -> None:
        self._timer = None
        names = list(self._lines)
        if not names:
            return  # the next link begins anew
        chosen = names[int(self._chance() * len(names))]
        self._lines[chosen].pull = True
        self._ask(chosen)
        self._pull_in(min(PULL_MAX_S, self._gap_s * 2))

    def _ask(self, name: str) -> None:
        """Tell the peer what it has not heard, ask it what it is to be asked; one question at a time."""
        line, own = self._lines[name], self._own
        if own is None or line.asking is not None or not (line.pull or line.told < own.order):
            return
        known = {**self._book.known(), self._name: own.order} if line.pull else None
        pull, line.pull = line.pull, False
        done = partial(self._answered, name, line, own.order, pull)
        ask = msgspec.msgpack.encode(RecordsRequest(own.envelope, known))
        try:
            line.asking = line.connection.start_request(ROUTE_RECORDS, ask, done, reply_bytes_max=ANSWER_BYTES_MAX)
            line.asked_ns = clock.mono_ns()
        except P2pnetError as error:
            log.debug("%s was not asked for records: %s", name, error)  # the next tick asks again

    def _answered(self, name: str, line: _Line, told: Order, pulled: bool, result: Message | Exception) -> None:
        line.asking = None
        if self._lines.get(name) is not line or isinstance(result, Exception):
            return
        line.told = told
        try:
            answer = msgspec.msgpack.decode(result.payload, type=RecordsReply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._misspoken(name, line.connection, f"not an answer about records: {error}")
            return
        if self._take(name, answer.records):
            self._pull_in(PULL_FIRST_S)
            line.pull = pulled and answer.more
        self._ask(name)

    # --- being asked ---

    def message(self, name: str, connection: Connection, message: Message) -> None:
        """A question of a peer. Bytes that are none end the link."""
        try:
            ask = msgspec.msgpack.decode(message.payload, type=RecordsRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._misspoken(name, connection, f"not a question about records: {error}")
            return
        if ask.record:
            self._take(name, [ask.record], of=name)
        if message.wants_reply:
            message.reply(msgspec.msgpack.encode(self._answer(name, ask)))

    def _answer(self, name: str, ask: RecordsRequest) -> RecordsReply:
        line, own = self._lines.get(name), self._own
        if ask.known is None or own is None or line is None or not line.answers.take(clock.mono_ns()):
            return RecordsReply()
        page, more = self._book.newer(ask.known, clock.utc_now(), self._chance())
        mine = [own.envelope] if own.order > ask.known.get(self._name, (0, -1)) else []
        return RecordsReply(mine + page, more)

    def _take(self, teller: str, envelopes: list[bytes], *, of: str = "") -> bool:
        """Whether any was news. Those that cannot be used are passed over: they cost whoever sent them a line in the log."""
        now, bundle, news = clock.utc_now(), self._identity.current.bundle, False
        for envelope in envelopes:
            try:
                news |= bool(self._book.offer(envelope, bundle, now=now, of=of))
            except TrustError as error:
                self._refusals.note(error.kind, f"a record: {error}", peer=teller)
            except (MalformedError, RecordRefusedError) as error:
                self._refusals.note("record", str(error), peer=teller)
        if news:
            self._changed()
        return news

    def _misspoken(self, name: str, connection: Connection, why: str) -> None:
        self._refusals.note("record", why, peer=name)
        connection.close(CloseCode.PROTOCOL_VIOLATION, why)
