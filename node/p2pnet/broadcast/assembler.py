"""The assembler: one task per id, whose parts come from every peer that announces some of them.

A task first asks one source for the part list and parts of that source's choice, and checks the list against the id; then it
asks for parts, the rarest first, several at a time and of several peers, each only for what it said it holds, and checks each
by itself. A source that fails is left for the next one at once; a slow part is asked of a second source; wrong content closes
its source. A task without a path to what it lacks ends with everything it held, and starts again when somebody has more.
"""

from collections.abc import Callable

from p2pnet.broadcast.artifact import (
    is_part,
    is_part_list,
    part_count,
    pick_part,
    rarest,
)
from p2pnet.broadcast.context import MS, SECOND, Context, Timer
from p2pnet.broadcast.effects import Cancel, Fetch
from p2pnet.broadcast.inputs import FetchAnswered
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.sources import Sources
from p2pnet.broadcast.table import FAILURES_MAX, SupplierState, Table
from p2pnet.broadcast.task import Ask, Supplier, Task
from p2pnet.broadcast.wire import (
    FIRST_PARTS_MAX,
    FetchAnswer,
    FetchStatus,
    decode_fetch_answer,
    encode_fetch,
    encode_first_fetch,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

ASKS_PER_TASK = 64  # in flight; several peers' streams
FAILED_FIRST_NS = 250 * MS  # before the same source is asked again; another one is asked at once
FAILED_MOST_NS = 60 * SECOND
SILENT_MAX = 6  # requests to one peer without an answer, none of use between: all it has announced is given up
MISSES_MAX = 8  # of those who wait for room in one line: so many may find too little before the rest waits on
DRY_NS = 30 * SECOND  # how long a task lives without a path to what it lacks


Complete = Callable[[Task, bytes, SupplierState], None]
"""(task, encoded artifact, the source that completed it)."""


class Assembler:
    """All tasks of one Broadcast."""

    def __init__(
        self,
        context: Context,
        table: Table,
        quota: Quota,
        prefix: bytes,
        *,
        complete: Complete,
        arrived: Callable[[Task, SupplierState], None],
        ended: Callable[[ArtifactId], None],
    ) -> None:
        """`arrived`: some, not all parts are here. `ended`: a task has given up."""
        self._context = context
        self._table = table
        self._quota = quota
        self._prefix = prefix
        self._complete = complete
        self._arrived = arrived
        self._ended = ended
        self.tasks: dict[ArtifactId, Task] = {}
        self._sources = Sources(context, table)
        self._asks: dict[int, Ask] = {}
        self._ready: dict[ArtifactId, None] = {}  # to be looked at when the turn ends
        self._freed: dict[str, None] = {}  # peers of which a request ended: a stream is free
        self._exhausted: dict[ArtifactId, int] = {}  # what tasks that ended without a path had seen offered
        self._put_off: dict[ArtifactId, int] = {}  # how often the client could not even look at it

    # Peers

    def connect(self, peer: str, connection: int) -> None:
        """The peer may be asked, on this connection."""
        self.disconnect(peer)
        self._sources.suppliers[peer] = Supplier(peer, connection)

    def disconnect(self, peer: str) -> None:
        """What the peer owed is asked of others."""
        supplier = self._sources.suppliers.pop(peer, None)
        if supplier is None:
            return
        for ask in list(supplier.asks.values()):
            self._forget(ask)
            self._put_back(ask)
        for artifact in self._table.peers[peer].sources if peer in self._table.peers else ():
            self._look_again(artifact)

    # Tasks

    def want(self, artifact: ArtifactId, *, row: SupplierState | None = None) -> bool:
        """Start a task, or let it know of a new source; whether there is one now. `row`: what a peer has just announced: a
        task that found no path starts again only when it shows more than was seen then.
        """
        if artifact not in self.tasks:
            if row is not None and not row.complete and not row.have & ~self._exhausted.get(artifact, 0):
                return False
            if self._exhausted.pop(artifact, None) is not None:
                self._context.count("restarted_by_new_row")
            self.tasks[artifact] = Task(artifact)
            self._context.count("tasks_started")
        self._look_again(artifact)
        return True

    def source_changed(self, artifact: ArtifactId) -> None:
        """A peer announces the artifact no more, or another way; what it owes may still come."""
        if artifact in self.tasks:
            self._look_again(artifact)

    def drop(self, artifact: ArtifactId) -> None:
        """End a task, complete or not, and what was charged for it."""
        task = self.tasks.pop(artifact, None)
        if task is None:
            return
        self._context.timers.cancel(Timer.FETCH, artifact)
        self._context.timers.cancel(Timer.DRY, artifact)
        for ask in list(task.asks.values()):
            self._cancel(ask)
        self._ready.pop(artifact, None)
        for peer in task.waits:
            supplier = self._sources.suppliers.get(peer)
            if supplier is not None:
                supplier.waiting.pop(artifact, None)
                supplier.begun.pop(artifact, None)
        self._quota.release(artifact)

    def put_off(self, artifact: ArtifactId) -> None:
        """The client raised when it was shown the artifact: fetch it again after a pause."""
        self._put_off[artifact] = attempts = self._put_off.get(artifact, 0) + 1
        later = self._context.now + self._context.backoff(attempts, FAILED_FIRST_NS, FAILED_MOST_NS)
        for source in self._table.holders.get(artifact, {}).values():
            source.not_before = later
        self.want(artifact)

    def forget(self, artifact: ArtifactId) -> None:
        """Nobody announces it any more."""
        self._exhausted.pop(artifact, None)
        self._put_off.pop(artifact, None)

    def flush(self) -> None:
        """Ask for what can be asked for now; those that wait come before those whose turn has just come."""
        while self._ready or self._freed or self._quota.has_relieved:
            freed, self._freed = self._freed, {}
            for peer in (*freed, *self._quota.relieved()):
                self._let_in(peer)
            ready, self._ready = self._ready, {}
            for artifact in ready:
                self._pump(artifact)

    def retry(self, artifact: ArtifactId) -> None:
        """A source of this task may be asked again."""
        self._look_again(artifact)

    def dry(self, artifact: ArtifactId) -> None:
        """The task has had no path to what it lacks for long."""
        self._end(self.tasks[artifact], "task_without_path_ended")

    def hedge(self, token: int) -> None:
        """An answer is late: ask another source too."""
        ask = self._asks[token]
        task = ask.task
        owing = {other.source.peer for other in task.asks.values() if other.part == ask.part}
        wanted = 0 if ask.part is None else 1 << ask.part
        usable = [
            source
            for source in self._sources.usable(task)
            if source.peer not in owing and source.have & wanted == wanted
        ]
        source = self._sources.best(task, usable)
        if source is None or not self._ask(task, source, ask.part, is_hedge=True):
            self._context.timers.set(Timer.HEDGE, token, self._context.now + ask.supplier.hedge_after_ns())
            return
        ask.hedged = True
        self._context.count("fetch_hedges")
        self._context.count("hedge_sent")

    # Choosing

    def _look_again(self, artifact: ArtifactId) -> None:
        self._ready[artifact] = None
        self._context.soon = True

    def _pump(self, artifact: ArtifactId) -> None:
        """Ask for as much as sources, streams and quota allow; else register with whatever it waits for."""
        task = self.tasks.get(artifact)
        if task is None:
            return
        self._context.counters["tasks_looked_at"] += 1
        if not task.part_list:
            if not task.asks:
                self._ask_first(task)
        else:
            self._ask_parts(task)
        if artifact not in self.tasks:
            return
        if (task.unasked if task.part_list else not task.asks) and len(task.asks) < ASKS_PER_TASK:
            self._wait(task)
        else:
            self._context.timers.cancel(Timer.DRY, artifact)

    def _ask_first(self, task: Task) -> None:
        usable = self._sources.usable(task)
        while usable:
            source = self._sources.best(task, usable)
            if source is None or self._ask(task, source, None):
                return
            usable.remove(source)

    def _ask_parts(self, task: Task) -> None:
        """The rarest part that somebody with a free stream holds, again and again."""
        usable = self._sources.usable(task)
        held = [
            source.have
            for source in self._table.holders.get(task.artifact, {}).values()
            if self._sources.is_path(task, source)
        ]
        while usable and len(task.asks) < ASKS_PER_TASK:
            offered = 0
            for source in usable:
                offered |= source.have
            offered &= task.unasked
            if not offered:
                return
            part = pick_part(rarest(offered, held), self._context.rng)
            chosen = self._sources.best(task, [source for source in usable if source.have >> part & 1])
            if chosen is None:
                return
            if not self._ask(task, chosen, part) or self._sources.suppliers[chosen.peer].is_full:
                usable.remove(chosen)

    def _wait(self, task: Task) -> None:
        """It could ask for more: have it looked at again when a stream, room or a failed source is there."""
        later: int | None = None
        path, crowded = bool(task.asks), False
        if not (task.asks or task.delivered):
            self._quota.discharge(task.artifact)  # nothing is on its way: the room is for those that ask
        for source in self._table.holders.get(task.artifact, {}).values():
            offers = source.have & task.unasked if task.part_list else source.have
            if not offers or not self._sources.is_path(task, source):
                continue
            supplier = self._sources.suppliers[source.peer]
            if source.not_before > self._context.now:
                later = source.not_before if later is None else min(later, source.not_before)
            elif supplier.is_full:
                line = supplier.begun if source.peer in task.delivered else supplier.waiting
                line[task.artifact] = task.waits[source.peer] = None
                self._context.count("task_waited_for_stream")
            elif not source.complete:
                crowded = True  # its parts wait for room, which those that have it may never give back
                continue
            path = True
        if later is not None:
            self._context.timers.set(Timer.FETCH, task.artifact, later)
        if path:
            self._context.timers.cancel(Timer.DRY, task.artifact)
        elif not (task.delivered or crowded) or not self._sources.may_recover(task):
            self._end(task, "last_source_left")
        elif not self._context.timers.is_set(Timer.DRY, task.artifact):
            if not crowded:
                self._quota.keep_passing(task.artifact, task.delivered)
            self._context.timers.set(Timer.DRY, task.artifact, self._context.now + DRY_NS)

    def _let_in(self, peer: str) -> None:
        """A stream or room of a peer is free: those who wait longest ask. Of two streams that become free, those that have begun
        get one first, the others the other.
        """
        supplier = self._sources.suppliers.get(peer)
        if supplier is None:
            self._let_in_line(peer, None, (False, True))
            return
        supplier.begun_first = not supplier.begun_first
        if supplier.begun_first:
            self._let_in_begun(supplier)
        self._let_in_line(peer, supplier, (False, None, True))
        self._let_in_begun(supplier)

    def _let_in_begun(self, supplier: Supplier) -> None:
        """They have room reserved, or what passes; each asks, and stands at the end again if it wants more."""
        for _ in range(len(supplier.begun)):
            if supplier.is_full or not supplier.begun:
                return
            self._pump(_take_first(supplier.begun))

    def _let_in_line(self, peer: str, supplier: Supplier | None, lines: tuple[bool | None, ...]) -> None:
        """First those that wait for room to be reserved, then for a stream, then those whose parts would pass."""
        for line in lines:
            misses = 0
            while misses < MISSES_MAX and not (supplier is not None and supplier.is_full):
                artifact = self._first_in(line, peer, supplier)
                if artifact is None:
                    break
                self._pump(artifact)
                misses = misses + 1 if self._quota.is_waiting(artifact, peer) else 0

    def _first_in(self, line: bool | None, peer: str, supplier: Supplier | None) -> ArtifactId | None:
        """Who waits longest, taken off: for room (`line`: whether its parts would pass), or (None) for a stream."""
        if line is not None:
            return self._quota.first_waiting(peer, passing=line)
        if supplier is None or not supplier.waiting:
            return None
        return _take_first(supplier.waiting)

    def _end(self, task: Task, why: str) -> None:
        seen = task.here
        for source in self._table.holders.get(task.artifact, {}).values():
            seen |= source.have if not source.complete else 0
        self.drop(task.artifact)
        if task.artifact in self._table.holders:
            self._exhausted[task.artifact] = seen
        self._context.count(why)
        self._context.count("tasks_dropped")
        self._ended(task.artifact)

    def _evict(self, artifact: ArtifactId) -> None:
        """Give up what has arrived of an artifact, for the room it takes; if it has a path, begin again when there is room."""
        self._context.count("passing_bytes_evicted")
        task = self.tasks[artifact]
        sources = self._table.holders.get(artifact, {}).values()
        if not any(
            self._sources.is_path(task, source) and source.have & (task.lacking or source.have) for source in sources
        ):
            self._end(task, "task_without_path_ended")
            return
        self.drop(artifact)
        self._ended(artifact)
        self.tasks[artifact] = Task(artifact)
        self._look_again(artifact)

    # Asking

    def _ask(self, task: Task, source: SupplierState, part: int | None, *, is_hedge: bool = False) -> bool:
        """Send one request, if the source's quota has room for it."""
        context, supplier = self._context, self._sources.suppliers[source.peer]
        most = self._charge(task, source, part)
        if most is None:
            self._quota.wait(task.artifact, source.peer, passing=not source.complete)
            context.count("task_waited_for_quota")
            return False
        if self._sources.suppliers.get(source.peer) is not supplier or task.artifact not in self.tasks:
            return False
        ask = Ask(context.token(), task, source, supplier, part=part, now=context.now)
        ask.most = most
        ask.charged = 0 if source.complete else most * PART_BYTES
        ask.is_hedge = is_hedge
        self._asks[ask.token] = task.asks[ask.token] = supplier.asks[ask.token] = ask
        if part is None:
            body = encode_first_fetch(task.artifact, most)
        else:
            body = encode_fetch(task.artifact, [part])
            task.unasked &= ~(1 << part)
        context.counters["fetches"] += 1
        context.timers.set(Timer.HEDGE, ask.token, context.now + supplier.hedge_after_ns())
        context.effects.append(Fetch(ask.token, source.peer, supplier.connection, body, supplier.timeout_s))
        return True

    def _charge(self, task: Task, source: SupplierState, part: int | None) -> int | None:
        """How many parts the source may send now; None: no room."""
        quota, artifact, peer = self._quota, task.artifact, source.peer
        if source.complete:
            victims = quota.reserve(artifact, peer, source.size)
            if victims is None:
                return None
            for victim in victims:
                self._evict(victim)
            quota.charge(artifact, peer, source.size)
            return FIRST_PARTS_MAX if part is None else 1
        most = 1 if part is not None else min(FIRST_PARTS_MAX, source.have.bit_count())
        while most and not quota.pass_on(artifact, peer, most * PART_BYTES):
            most //= 2
        return most or None

    def _forget(self, ask: Ask) -> None:
        self._context.timers.cancel(Timer.HEDGE, ask.token)
        del self._asks[ask.token], ask.task.asks[ask.token], ask.supplier.asks[ask.token]
        if ask.supplier.waiting or ask.supplier.begun or self._quota.is_waited_for(ask.supplier.peer):
            self._freed[ask.supplier.peer] = None
            self._context.soon = True

    def _cancel(self, ask: Ask) -> None:
        self._forget(ask)
        self._context.effects.append(Cancel(ask.token))

    def _overtake(self, ask: Ask) -> None:
        """What it asks for has come from elsewhere; a source that was late besides is asked after others from now on."""
        if ask.hedged:
            ask.supplier.failed(lost=False)
        self._cancel(ask)
        self._put_back(ask)

    def _put_back(self, ask: Ask) -> None:
        """The part is to be asked for again, unless it is here or somebody else owes it."""
        task, part = ask.task, ask.part
        if ask.charged:
            self._quota.give_back(task.artifact, ask.source.peer, ask.charged)
        if part is not None and not any(other.part == part for other in task.asks.values()):
            task.unasked |= task.lacking & 1 << part

    # Answers

    def answered(self, answered: FetchAnswered) -> None:
        """Take the reply to a fetch, or its failure."""
        ask, body = self._asks.get(answered.token), answered.body
        if ask is None:
            return
        self._forget(ask)
        if body is None:
            self._failed(ask, "no answer", lost=True)
        else:
            try:
                answer = decode_fetch_answer(body, ask.size)
            except MalformedError:
                self._failed(ask, "malformed answer", close=True)
            else:
                self._read(ask, answer)
        self._look_again(ask.task.artifact)

    def _read(self, ask: Ask, answer: FetchAnswer) -> None:
        source = ask.source
        if answer.status is FetchStatus.HAVE:
            self._context.count("source_answered_have")
            source.have = answer.have
            self._failed(ask, "has not got it")
        elif answer.status is FetchStatus.GONE:
            self._context.count("source_gone")
            source.have = 0
            self._failed(ask, "gone")
        elif ask.part is None:
            self._read_first(ask, answer)
        elif answer.part_list or [number for number, _ in answer.parts] != [ask.part]:
            self._failed(ask, "malformed answer", close=True)
        else:
            self._take(ask, answer.parts)

    def _read_first(self, ask: Ask, answer: FetchAnswer) -> None:
        task, source, parts = ask.task, ask.source, bytes(answer.part_list)
        if len(answer.parts) > ask.most:
            self._failed(ask, "malformed answer", close=True)
            return
        if not is_part_list(task.artifact, self._prefix, source.key, ask.size, parts):
            self._failed(ask, "wrong content", close=True)
            return
        if not task.part_list:
            for other in list(task.asks.values()):
                self._overtake(other)
            task.begin(ask.size, source.key, parts)
            if source.complete and len(answer.parts) < min(FIRST_PARTS_MAX, part_count(task.size)):
                # It gives others what it did not give here: for one more round trip they are asked, not it.
                source.not_before = 2 * self._context.now - ask.sent_at
        self._take(ask, answer.parts)

    def _take(self, ask: Ask, parts: list[tuple[int, memoryview]]) -> None:
        """Parts of an answer: each is checked by itself; wrong content closes the source, whatever came before."""
        task = ask.task
        for number, content in parts:
            if not is_part(task.part_list, task.size, number, content):
                self._failed(ask, "wrong content", close=True)
                break
            self._place(ask, number, content)
        else:
            ask.supplier.succeeded(self._context.now - ask.sent_at)
            ask.source.failures = 0
            if ask.is_hedge:
                self._context.count("hedge_won")
            unused = ask.charged - len(parts) * PART_BYTES
            if unused > 0:
                self._quota.give_back(task.artifact, ask.source.peer, unused)
        if not task.lacking and task.artifact in self.tasks:
            self._finish(task, ask.source)
        elif parts and task.artifact in self.tasks:
            self._arrived(task, ask.source)

    def _place(self, ask: Ask, number: int, content: memoryview) -> None:
        task, peer = ask.task, ask.source.peer
        self._context.counters["fetched_bytes"] += len(content)
        for other in [other for other in task.asks.values() if other.part == number]:
            self._overtake(other)
        task.parts[number] = content
        task.lacking &= ~(1 << number)
        task.unasked &= task.lacking
        task.delivered[peer] = task.delivered.get(peer, 0) + len(content)

    def _finish(self, task: Task, source: SupplierState) -> None:
        self.drop(task.artifact)
        for peer, size in task.delivered.items():
            self._quota.charge(task.artifact, peer, size)
        if len(task.delivered) > 1:
            self._context.count("parts_from_several_peers")
        data = b"".join(filter(None, task.parts))
        self._context.count("tasks_completed")
        self._complete(task, data, source)

    def _give_up(self, supplier: Supplier) -> None:
        """A peer that answers nothing loses every task, not only the time of each."""
        supplier.silent = SILENT_MAX // 2
        for artifact, source in self._table.peers[supplier.peer].sources.items():
            source.failures = FAILURES_MAX
            if artifact in self.tasks:
                self._look_again(artifact)
        self._context.count("silent_peer_given_up")

    def _failed(self, ask: Ask, why: str, *, lost: bool = False, close: bool = False) -> None:
        source, context = ask.source, self._context
        source.failures += 1
        if close:
            context.count("wrong_content")
            source.closed = True
        elif source.failures >= FAILURES_MAX:
            context.count("source_given_up")
        if len(self._table.holders.get(ask.task.artifact, ())) > 1:
            context.count("another_source_after_failure")
        source.not_before = context.now + context.backoff(source.failures, FAILED_FIRST_NS, FAILED_MOST_NS)
        ask.supplier.failed(lost=lost, waited_ns=context.now - ask.sent_at)
        if ask.supplier.silent >= SILENT_MAX:
            self._give_up(ask.supplier)
        context.counters["fetch_errors"] += 1
        context.emit_about(EventKind.FETCH_FAILED, ask.task.artifact, source.peer, detail=why)
        self._put_back(ask)
        if not any(other.source is source for other in ask.task.asks.values()):
            # Nothing is on its way from there: who holds room and waits for another's must not hold up a third.
            self._quota.shrink(ask.task.artifact, source.peer, ask.task.delivered.get(source.peer, 0))


def _take_first(line: dict[ArtifactId, None]) -> ArtifactId:
    """Who waits longest, taken off the line (which is not empty)."""
    artifact = next(iter(line))
    del line[artifact]
    return artifact
