"""Fetching: one task per id, whose parts come from every peer that announces it.

A task first asks for the part list (an artifact of one part needs none) and checks it against the id; then it asks for
parts, several at a time and of several peers, each checked by itself. A source that fails is left for the next one at
once; a slow part is asked of a second source; wrong content closes its source.
"""

from collections.abc import Callable, Iterable

from p2pnet.broadcast.artifact import artifact_id, hash_part, is_part, is_part_list
from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.effects import Cancel, Fetch
from p2pnet.broadcast.lanes import Lane
from p2pnet.broadcast.sources import Sources
from p2pnet.broadcast.table import Source, Table
from p2pnet.broadcast.task import FIRST, Ask, Complete, Task
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import MS, SECOND, Turn
from p2pnet.broadcast.wire import FetchKind, FetchStatus, decode_fetch_answer, encode_fetch
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

ASKS_PER_TASK = 64  # in flight; several peers' streams
NOT_YET_NS = 100 * MS
FAILED_FIRST_NS = 250 * MS  # before the same source is asked again; another one is asked at once
FAILED_MOST_NS = 60 * SECOND


class Fetcher:
    """All tasks of one Broadcast."""

    def __init__(
        self,
        turn: Turn,
        table: Table,
        charges: Charges,
        *,
        prefix: bytes,
        complete: Complete,
        begun: Callable[[Task, Source], None],
    ) -> None:
        self._turn = turn
        self._table = table
        self._charges = charges
        self._prefix = prefix
        self._complete = complete
        self._begun = begun
        self.tasks: dict[ArtifactId, Task] = {}
        self.lanes: dict[str, Lane] = {}
        self._sources = Sources(turn, table, charges, self.lanes)
        self._asks: dict[int, Ask] = {}
        self._ready: dict[ArtifactId, None] = {}  # to be looked at when the turn ends
        self._freed: dict[str, Lane] = {}  # a cancelled request left a stream free

    # Peers

    def connect(self, peer: str, connection: int, announced: Iterable[ArtifactId]) -> None:
        """The peer may be asked, on this connection."""
        self.disconnect(peer)
        self.lanes[peer] = Lane(peer, connection)
        self._look_again(announced)

    def disconnect(self, peer: str) -> None:
        """What the peer owed is asked of others."""
        lane = self.lanes.pop(peer, None)
        if lane is None:
            return
        for ask in list(lane.asks.values()):
            self._forget(ask)
            self._put_back(ask)
            self._look_again([ask.task.artifact])

    # Tasks

    def want(self, artifact: ArtifactId) -> None:
        """Start a task, or let it know of a new source."""
        if artifact not in self.tasks:
            self.tasks[artifact] = Task(artifact)
            self._turn.counters["tasks_started"] += 1
        self._look_again([artifact])

    def source_ended(self, artifact: ArtifactId, peer: str) -> None:
        """The peer announces the artifact no more; what it owes may still come."""
        if artifact in self.tasks and self._charges.payer(artifact) == peer:
            self._charges.release(artifact)
            self._look_again([artifact])

    def drop(self, artifact: ArtifactId) -> None:
        """End a task, complete or not; its charge stays."""
        task = self.tasks.pop(artifact, None)
        if task is None:
            return
        self._turn.timers.cancel(Timer.FETCH, artifact)
        for ask in list(task.asks.values()):
            self._cancel(ask)

    def flush(self) -> None:
        """Ask for what can be asked for now."""
        self._look_again(self._charges.relieved())
        while self._ready:
            ready, self._ready = self._ready, {}
            for artifact in ready:
                task = self.tasks.get(artifact)
                if task is not None:
                    self._pump(task)
        freed, self._freed = self._freed, {}
        for lane in freed.values():
            self._serve(lane)

    # Requests

    def answered(self, token: int, body: bytes | None) -> None:
        """The reply to a Fetch, or None when it failed on the way."""
        ask = self._asks.get(token)
        if ask is None:
            return
        self._forget(ask)
        if body is None:
            self._failed(ask, "no answer", lost=True)
        else:
            try:
                self._read(ask, *decode_fetch_answer(body))
            except MalformedError:
                self._failed(ask, "malformed answer", close=True)
        self._look_again([ask.task.artifact])
        self._serve(ask.lane)

    def hedge(self, token: int) -> None:
        """An answer is late: ask another source too."""
        ask = self._asks.get(token)
        if ask is None:
            return
        source = self._sources.choose(ask.task, ask.task.asked(ask.part))
        if source is None:
            self._turn.timers.set(Timer.HEDGE, token, self._turn.now + ask.lane.hedge_after_ns())
            return
        self._ask(ask.task, source, ask.part)
        self._turn.counters["fetch_hedges"] += 1

    def retry(self, artifact: ArtifactId) -> None:
        """A source of this task may be asked again."""
        self._look_again([artifact])

    # Choosing

    def _look_again(self, artifacts: Iterable[ArtifactId]) -> None:
        self._ready.update(dict.fromkeys(artifacts))
        self._turn.soon |= bool(self._ready)

    def _pump(self, task: Task) -> None:
        """Ask for as much as sources, streams and charges allow; else say when to look again."""
        while task.todo and len(task.asks) < ASKS_PER_TASK:
            source = self._sources.choose(task, ())
            if source is None:
                break
            self._ask(task, source, task.todo.pop())
        if not task.todo:
            return
        later: int | None = None
        for source in self._table.holders.get(task.artifact, {}).values():
            lane = self.lanes.get(source.peer)
            if lane is None or source.closed or source.gone:
                continue
            if not self._sources.has_room(task, source):
                self._charges.wait(task.artifact, source.peer)
            elif source.not_before > self._turn.now:
                later = source.not_before if later is None else min(later, source.not_before)
            elif lane.is_full:
                lane.waiting[task.artifact] = None
        if later is not None:
            self._turn.timers.set(Timer.FETCH, task.artifact, later)

    def _serve(self, lane: Lane) -> None:
        """A stream is free: the task that has waited longest asks for one part, then stands at the end again."""
        while lane.waiting and not lane.is_full and self.lanes.get(lane.peer) is lane:
            artifact = next(iter(lane.waiting))
            del lane.waiting[artifact]
            task = self.tasks.get(artifact)
            source = self._table.holders.get(artifact, {}).get(lane.peer)
            if task is None or source is None or not task.todo or not self._sources.may_ask(task, source):
                continue
            self._ask(task, source, task.todo.pop())
            if task.todo:
                lane.waiting[artifact] = None

    # Asking

    def _ask(self, task: Task, source: Source, part: int) -> None:
        """Send one request; the first one charges the whole artifact to its source."""
        turn, lane = self._turn, self.lanes[source.peer]
        self._charges.take(task.artifact, source.peer, source.size)
        ask = Ask(turn.token(), task, source, part, lane=lane, now=turn.now)
        self._asks[ask.token] = task.asks[ask.token] = lane.asks[ask.token] = ask
        if part == FIRST and source.size > PART_BYTES:
            body = encode_fetch(FetchKind.PARTS, task.artifact)
        else:
            body = encode_fetch(FetchKind.PART, task.artifact, max(part, 0))
        turn.counters["fetches"] += 1
        turn.timers.set(Timer.HEDGE, ask.token, turn.now + lane.hedge_after_ns())
        turn.effects.append(Fetch(ask.token, lane.peer, lane.connection, body, lane.timeout_s))

    def _forget(self, ask: Ask) -> None:
        self._turn.timers.cancel(Timer.HEDGE, ask.token)
        del self._asks[ask.token], ask.task.asks[ask.token], ask.lane.asks[ask.token]

    def _cancel(self, ask: Ask) -> None:
        self._forget(ask)
        self._turn.effects.append(Cancel(ask.token))
        if ask.lane.waiting:
            self._freed[ask.lane.peer] = ask.lane
            self._turn.soon = True

    def _put_back(self, ask: Ask) -> None:
        """The part is to be asked for again, unless somebody else owes it."""
        task, part = ask.task, ask.part
        outdated = part == FIRST and task.part_list
        if not outdated and not task.asked(part) and part not in task.todo:
            task.todo.append(part)

    # Answers

    def _read(self, ask: Ask, status: FetchStatus, content: memoryview) -> None:
        if status is FetchStatus.NOT_YET:
            ask.source.not_before = self._turn.now + NOT_YET_NS
            self._put_back(ask)
        elif status is FetchStatus.GONE:
            ask.source.gone = True
            self._failed(ask, "gone")
        elif ask.part == FIRST and ask.size > PART_BYTES:
            self._read_list(ask, status, bytes(content))
        elif status is not FetchStatus.PART:
            self._failed(ask, "malformed answer", close=True)
        elif ask.part == FIRST:
            self._read_only_part(ask, content)
        elif is_part(ask.task.part_list, ask.size, ask.part, content):
            self._arrived(ask, content)
        else:
            self._failed(ask, "wrong content", close=True)

    def _read_list(self, ask: Ask, status: FetchStatus, parts: bytes) -> None:
        if status is not FetchStatus.PARTS or not is_part_list(ask.task.artifact, self._prefix, ask.size, parts):
            self._failed(ask, "wrong content", close=True)
            return
        ask.lane.succeeded(self._turn.now - ask.sent_at)
        self._begin(ask, parts)

    def _read_only_part(self, ask: Ask, content: memoryview) -> None:
        parts = hash_part(content)
        if len(content) != ask.size or artifact_id(self._prefix, ask.size, parts) != ask.task.artifact:
            self._failed(ask, "wrong content", close=True)
            return
        self._begin(ask, parts)
        self._arrived(ask, content)

    def _begin(self, ask: Ask, parts: bytes) -> None:
        """Size and part list are known: whoever declared another size lied."""
        task = ask.task
        for other in list(task.asks.values()):
            self._cancel(other)
        task.begin(ask.size, parts)
        if self._charges.payer(task.artifact) != ask.source.peer:
            self._charges.release(task.artifact)
        if task.missing > 1:
            self._begun(task, ask.source)

    def _arrived(self, ask: Ask, content: memoryview) -> None:
        task, part = ask.task, max(ask.part, 0)
        ask.lane.succeeded(self._turn.now - ask.sent_at)
        ask.source.failures = 0
        self._turn.counters["fetched_bytes"] += len(content)
        for other in [other for other in task.asks.values() if other.part == ask.part]:
            self._cancel(other)
        if task.parts[part] is not None:
            return
        task.parts[part] = content
        task.missing -= 1
        if part in task.todo[-1:]:
            task.todo.pop()
        if task.missing:
            return
        self.drop(task.artifact)
        data = b"".join(filter(None, task.parts))
        self._turn.counters["tasks_completed"] += 1
        self._complete(task.artifact, data, task.part_list, ask.source.peer, ask.source.hop)

    def _failed(self, ask: Ask, why: str, *, lost: bool = False, close: bool = False) -> None:
        source, turn = ask.source, self._turn
        source.failures += 1
        source.closed |= close
        source.not_before = turn.now + turn.backoff(source.failures, FAILED_FIRST_NS, FAILED_MOST_NS)
        ask.lane.failed(lost=lost)
        turn.counters["fetch_errors"] += 1
        turn.emit(EventKind.FETCH_FAILED, ask.task.artifact, source.peer, detail=why)
        if close and self._charges.payer(ask.task.artifact) == source.peer:
            self._charges.release(ask.task.artifact)
        self._put_back(ask)
