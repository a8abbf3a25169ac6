"""The assembler: one task per artifact id, which collects the artifact's parts from all peers that announce some of them.

A task first asks one source for the part list, with parts of that source's choice, and checks the list against the id. Then it
requests the missing parts, the rarest first, several at a time from several peers, each only for what it said it holds, and
checks each part by itself. After a failure the next source is asked at once; a slow part is requested from a second source;
wrong content closes its source. A task without a path to its missing parts ends with everything it held, and starts again
when a peer announces more.
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
from p2pnet.broadcast.merkle import LEAF_BYTES
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.sources import Sources
from p2pnet.broadcast.stripes import StripeVerdict, take_leaves
from p2pnet.broadcast.table import FAILURES_MAX, SupplierState, Table
from p2pnet.broadcast.task import PartRequest, Supplier, Task, WaitingLines
from p2pnet.broadcast.wire import (
    FIRST_PARTS_MAX,
    FetchAnswer,
    FetchStatus,
    decode_fetch_answer,
    encode_fetch,
    encode_first_fetch,
    encode_leaves_fetch,
)
from p2pnet.model.errors import MalformedError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

REQUESTS_PER_TASK = 64
"""Requests of one task in flight, over all peers."""
FAILED_FIRST_NS = 250 * MS
"""First pause before a failed source is asked again, in nanoseconds; doubled each time. Another source is asked at once."""
FAILED_MOST_NS = 60 * SECOND
SILENT_MAX = 6
"""Requests in a row that timed out at one peer: then every task gives it up, instead of each losing the time by itself."""
NO_PATH_NS = 30 * SECOND
"""How long a task lives without a path to its missing parts: a holder may well come back."""


Complete = Callable[[Task, bytes, SupplierState], None]
"""Called with the task, the encoded artifact and the source that completed it."""


class Assembler:
    """The fetch tasks of one Broadcast."""

    __slots__ = (
        "_arrived", "_complete", "_context", "_ended", "_exhausted", "_freed", "_lines", "_postponed", "_prefix",
        "_quota", "_ready", "_requests", "_sources", "_table", "tasks",
    )  # fmt: skip

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
        """`prefix`: of ids, see `artifact.id_prefix`.

        `complete`, `arrived` and `ended` are called when all parts of a task are here, some are, and when it has given up.
        """
        self._context = context
        self._table = table
        self._quota = quota
        self._prefix = prefix
        self._complete = complete
        self._arrived = arrived
        self._ended = ended
        self.tasks: dict[ArtifactId, Task] = {}
        self._sources = Sources(context, table)
        self._lines = WaitingLines(quota, lambda artifact: self._pump(artifact))  # noqa: PLW0108 - looked up at each call
        self._requests: dict[int, PartRequest] = {}
        self._ready: dict[ArtifactId, None] = {}  # tasks to look at in `flush`
        self._freed: dict[str, None] = {}  # peers with a free stream, since a request ended
        self._exhausted: dict[ArtifactId, int] = {}  # bitmap of the parts seen by a task that ended without a path
        self._postponed: dict[ArtifactId, int] = {}  # how often the client raised when it was shown the artifact

    # Peers

    def disconnect(self, peer: str) -> None:
        """The connection ended, or another one took its place: what was requested on it is requested from other peers."""
        supplier = self._sources.disconnect(peer)
        for request in list(supplier.requests.values()) if supplier is not None else ():
            self._forget(request)
            self._put_back(request)
            self._look_again(request.task.artifact)  # whose row may have ended since it was asked
        # Also those without a request to this peer: they may have waited for it alone.
        for artifact in self._table.peers[peer].artifacts() if peer in self._table.peers else ():
            self._look_again(artifact)

    # Tasks

    def want(self, artifact: ArtifactId, *, row: SupplierState | None = None) -> bool:
        """Start a task, or look again at the one there is; whether there is one now.

        `row`: what a peer has just announced. A task that ended without a path starts again only when this shows parts that
        were not announced then; else a peer could make it start, and end, without end.
        """
        if artifact not in self.tasks:
            if row is not None and not row.complete and not row.have & ~self._exhausted.get(artifact, 0):
                return False
            # It gets another chance, and a clean record.
            if self._exhausted.pop(artifact, None) is not None:
                self._context.count("restarted_by_new_row")
            self.tasks[artifact] = Task(artifact, self._context.now)
            self._context.count("tasks_started")
        self._look_again(artifact)
        return True

    def expect(self, artifact: ArtifactId, source: SupplierState, part_list: bytes) -> Task | None:
        """Start a task whose parts are to come as stripes, or let the one there is have them too.

        `part_list`: checked. None: there is no quota for it now, so it is fetched as any other.
        """
        task = self.tasks.get(artifact)
        if task is None:
            self._exhausted.pop(artifact, None)
            task = self.tasks[artifact] = Task(artifact, self._context.now)
            self._context.count("tasks_started")
        self._look_again(artifact)
        if self._take_quota(task, source, None) is None:
            return None
        if not task.part_list:
            self._begin(task, source, source.size, part_list)
        return task

    def source_changed(self, artifact: ArtifactId) -> None:
        """A peer no longer announces the artifact, or announces other parts; requests to it go on."""
        if artifact in self.tasks:
            self._look_again(artifact)

    def drop(self, artifact: ArtifactId) -> None:
        """End a task, complete or not: cancel its requests and release its quota. Idempotent."""
        task = self.tasks.pop(artifact, None)
        if task is None:
            return
        # Timers of a task that is gone would call for an id that is not there.
        self._context.timers.cancel(Timer.FETCH, artifact)
        self._context.timers.cancel(Timer.NO_PATH, artifact)
        self._context.timers.cancel(Timer.STRIPES, artifact)
        for request in list(task.requests.values()):
            self._cancel(request)
        self._ready.pop(artifact, None)
        for peer in task.waits:
            supplier = self._sources.supplier(peer)
            if supplier is not None:
                supplier.waiting.pop(artifact, None)
                supplier.begun.pop(artifact, None)
        self._quota.release(artifact)

    def postpone(self, artifact: ArtifactId) -> None:
        """Fetch the artifact again after a pause: the client raised when it was shown it."""
        self._postponed[artifact] = attempts = self._postponed.get(artifact, 0) + 1
        later = self._context.now + self._context.backoff(attempts, FAILED_FIRST_NS, FAILED_MOST_NS)
        for source in self._table.holders.get(artifact, {}).values():
            # At every source: the client raises for what stands in the artifact, whoever serves it.
            source.not_before = later
        self.want(artifact)

    def forget(self, artifact: ArtifactId) -> None:
        """No peer announces the artifact any more: drop what was remembered about failed attempts."""
        self._exhausted.pop(artifact, None)
        self._postponed.pop(artifact, None)

    def flush(self) -> None:
        """Send the requests that are possible now. Tasks that wait for a stream or quota come before new ones."""
        # Pumping one task may free a stream or quota for another.
        while self._ready or self._freed or self._quota.has_relieved:
            freed, self._freed = self._freed, {}
            for peer in (*freed, *self._quota.relieved()):
                self._resume_waiting(peer)
            ready, self._ready = self._ready, {}
            for artifact in ready:
                self._pump(artifact)

    def retry(self, artifact: ArtifactId) -> None:
        """A source's pause after a failure is over."""
        self._look_again(artifact)

    def end_without_path(self, artifact: ArtifactId) -> None:
        """End a task that has had no path to its missing parts for `NO_PATH_NS`."""
        self._end(self.tasks[artifact], "task_without_path_ended")

    def hedge(self, token: int) -> None:
        """The answer to this request is late: send the same request to a second source."""
        request = self._requests[token]
        task = request.task
        owing = {other.source.peer for other in task.requests.values() if other.part == request.part}
        wanted = 0 if request.part is None else 1 << request.part
        usable = [
            source
            for source in self._sources.usable(task)
            if source.peer not in owing and source.have & wanted == wanted
        ]
        source = self._sources.best(task, usable)
        if source is None or not self._request(task, source, request.part, is_hedge=True):
            self._context.timers.set(Timer.HEDGE, token, self._context.now + request.supplier.hedge_after_ns())
            return
        request.hedged = True
        self._context.count("fetch_hedges")
        self._context.count("hedge_sent")

    # Choosing

    def _look_again(self, artifact: ArtifactId) -> None:
        self._ready[artifact] = None
        self._context.soon = True

    def _pump(self, artifact: ArtifactId) -> None:
        """Request as much as sources, streams and quota allow; register with whatever the rest waits for."""
        task = self.tasks.get(artifact)
        if task is None or task.awaits is not None:
            return
        self._context.counters["tasks_looked_at"] += 1
        if not task.part_list:
            if not task.requests:
                self._request_first(task)
        else:
            self._request_parts(task)
        if artifact not in self.tasks:
            return
        if (task.unasked if task.part_list else not task.requests) and len(task.requests) < REQUESTS_PER_TASK:
            self._wait(task)
        else:
            self._context.timers.cancel(Timer.NO_PATH, artifact)

    def _request_first(self, task: Task) -> None:
        usable = self._sources.usable(task)
        while usable:
            source = self._sources.best(task, usable)
            if source is None or self._request(task, source, None):
                return
            usable.remove(source)

    def _request_parts(self, task: Task) -> None:
        """Request the rarest part that a source with a free stream holds, until there is none or enough are in flight."""
        usable = self._sources.usable(task)
        held = [
            source.have
            for source in self._table.holders.get(task.artifact, {}).values()
            if self._sources.is_path(task, source)
        ]
        while usable and len(task.requests) < REQUESTS_PER_TASK:
            offered = 0
            for source in usable:
                offered |= source.have
            # Parts that are requested already come, or become due again when their request fails.
            offered &= task.unasked
            if not offered:
                return
            # At random among the rarest: equal peers would otherwise all fetch the same part first.
            part = pick_part(rarest(offered, held), self._context.rng)
            chosen = self._sources.best(task, [source for source in usable if source.have >> part & 1])
            if chosen is None:
                return
            if not self._request(task, chosen, part) or self._supplier(chosen).is_full:
                usable.remove(chosen)

    def _supplier(self, source: SupplierState) -> Supplier:
        """The supplier of a source that may be asked, so it is connected."""
        supplier = self._sources.supplier(source.peer)
        if supplier is None:
            raise AssertionError(f"{source.peer} is asked but not connected")
        return supplier

    def _wait(self, task: Task) -> None:
        """Register the task with what it waits for: a free stream, quota, or the end of a source's pause."""
        later: int | None = None
        path, crowded = bool(task.requests), False
        if not (task.requests or task.delivered):
            self._quota.free(task.artifact)  # nothing is in flight or here: others can use its quota meanwhile
        for source in self._table.holders.get(task.artifact, {}).values():
            offers = source.have & task.unasked if task.part_list else source.have
            if not offers or not self._sources.is_path(task, source):
                continue
            supplier = self._supplier(source)
            if source.not_before > self._context.now:
                later = source.not_before if later is None else min(later, source.not_before)
            elif supplier.is_full:
                line = supplier.begun if source.peer in task.delivered else supplier.waiting
                line[task.artifact] = task.waits[source.peer] = None
                self._context.count("task_waited_for_stream")
            elif not source.complete:
                crowded = True  # its parts wait for quota that other tasks may never give back
                continue
            path = True
        if later is not None:
            self._context.timers.set(Timer.FETCH, task.artifact, later)
        if path:
            self._context.timers.cancel(Timer.NO_PATH, task.artifact)
        elif not (task.delivered or crowded) or not self._sources.may_recover(task):
            self._end(task, "last_source_left")
        elif not self._context.timers.is_set(Timer.NO_PATH, task.artifact):
            if not crowded:
                self._quota.keep_passing(task.artifact, task.delivered)
            self._context.timers.set(Timer.NO_PATH, task.artifact, self._context.now + NO_PATH_NS)

    def _resume_waiting(self, peer: str) -> None:
        """A stream or quota of this peer is free: the tasks that have waited longest may request again."""
        self._lines.resume(peer, self._sources.supplier(peer))

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
        """Drop the parts of an artifact for the quota they use; if it has a path, it begins again when there is quota."""
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
        self.tasks[artifact] = Task(artifact, self._context.now)
        self._look_again(artifact)

    # Requests

    def _request(self, task: Task, source: SupplierState, part: int | None, *, is_hedge: bool = False) -> bool:
        """Send one request (`part` None: for the part list); False when the source has no quota left for the answer."""
        context, supplier = self._context, self._supplier(source)
        most = self._take_quota(task, source, part)
        if most is None:
            self._quota.wait(task.artifact, source.peer, passing=not source.complete)
            context.count("task_waited_for_quota")
            return False
        if self._sources.supplier(source.peer) is not supplier or task.artifact not in self.tasks:
            return False
        request = PartRequest(context.token(), task, source, supplier, part=part, now=context.now)
        request.most = most
        request.quota_bytes = 0 if source.complete else most * PART_BYTES
        request.is_hedge = is_hedge
        task.asked_at = task.asked_at or context.now
        self._requests[request.token] = task.requests[request.token] = supplier.requests[request.token] = request
        if part is None:
            # As many parts as quota allows travel with the list, for most artifacts all of them.
            body = encode_first_fetch(task.artifact, most)
        else:
            request.leaves = leaves = task.lacking_leaves(part)
            body = encode_leaves_fetch(task.artifact, part, leaves) if leaves else encode_fetch(task.artifact, [part])
            task.unasked &= ~(1 << part)
        context.counters["fetches"] += 1
        # Set with the request: whether it will be late depends on this peer's pace alone.
        context.timers.set(Timer.HEDGE, request.token, context.now + supplier.hedge_after_ns())
        context.effects.append(Fetch(request.token, source.peer, supplier.connection, body, supplier.timeout_s))
        return True

    def _take_quota(self, task: Task, source: SupplierState, part: int | None) -> int | None:
        """Take quota for one request: how many parts the source may send, or None when it has to wait.

        A source that holds the whole artifact gets quota for all of it at once, so that what was begun can end.
        """
        quota, artifact, peer = self._quota, task.artifact, source.peer
        if source.complete:
            victims = quota.reserve(artifact, peer, source.size)
            if victims is None:
                return None
            for victim in victims:
                self._evict(victim)
            quota.use(artifact, peer, source.size)
            return FIRST_PARTS_MAX if part is None else 1
        most = 1 if part is not None else min(FIRST_PARTS_MAX, source.have.bit_count())
        while most and not quota.pass_on(artifact, peer, most * PART_BYTES):
            most //= 2
        return most or None

    def _forget(self, request: PartRequest) -> None:
        self._context.timers.cancel(Timer.HEDGE, request.token)
        del (
            self._requests[request.token],
            request.task.requests[request.token],
            request.supplier.requests[request.token],
        )
        if request.supplier.waiting or request.supplier.begun or self._quota.is_waited_for(request.supplier.peer):
            self._freed[request.supplier.peer] = None
            self._context.soon = True

    def _cancel(self, request: PartRequest) -> None:
        self._forget(request)
        self._context.effects.append(Cancel(request.token))

    def _overtake(self, request: PartRequest) -> None:
        """Cancel a request whose part has come from elsewhere; a source that was late is asked after others from now on."""
        if request.hedged:
            request.supplier.failed(lost=False)
        self._cancel(request)
        self._put_back(request)

    def _put_back(self, request: PartRequest) -> None:
        """Make the request's part due again, unless it has arrived or is requested from another source."""
        task, part = request.task, request.part
        # Firm quota stays: it was reserved for the whole artifact.
        if request.quota_bytes:
            self._quota.give_back(task.artifact, request.source.peer, request.quota_bytes)
        if part is not None and not any(other.part == part for other in task.requests.values()):
            task.unasked |= task.lacking & 1 << part

    # Answers

    def answered(self, answered: FetchAnswered) -> None:
        """Take the reply to a fetch, or its failure."""
        request, body = self._requests.get(answered.token), answered.body
        if request is None:
            return
        self._forget(request)
        if body is None:
            self._failed(request, "no answer", lost=True)
        else:
            try:
                answer = decode_fetch_answer(body, request.size)
            except MalformedError:
                self._failed(request, "malformed answer", close=True)
            else:
                self._read(request, answer)
        self._look_again(request.task.artifact)

    def _read(self, request: PartRequest, answer: FetchAnswer) -> None:
        source = request.source
        if answer.status is FetchStatus.HAVE:
            self._context.count("source_answered_have")
            source.have = answer.have
            self._failed(request, "has not got it")
        elif answer.status is FetchStatus.GONE:
            self._context.count("source_gone")
            source.have = 0
            self._failed(request, "gone")
        elif request.part is None:
            self._read_first(request, answer)
        elif request.leaves and answer.status is FetchStatus.LEAVES:
            self._read_leaves(request, request.part, answer.part_list)
        # Exactly what was asked for: anything else is an attempt to use quota that was not taken.
        elif request.leaves or answer.part_list or [number for number, _ in answer.parts] != [request.part]:
            self._failed(request, "malformed answer", close=True)
        else:
            self._take(request, answer.parts)

    def _read_first(self, request: PartRequest, answer: FetchAnswer) -> None:
        task, source, parts = request.task, request.source, bytes(answer.part_list)
        if len(answer.parts) > request.most:
            self._failed(request, "malformed answer", close=True)
            return
        if not is_part_list(task.artifact, self._prefix, source.key, request.size, parts):
            self._failed(request, "wrong content", close=True)
            return
        if not task.part_list:
            self._begin(task, source, request.size, parts)
            if source.complete and len(answer.parts) < min(FIRST_PARTS_MAX, part_count(task.size)):
                # It gives other askers the parts it did not give here: ask those peers for one round trip, not the source.
                source.not_before = 2 * self._context.now - request.sent_at
        self._take(request, answer.parts)

    def _begin(self, task: Task, source: SupplierState, size: int, part_list: bytes) -> None:
        # Other first requests are of no use any more: the list is here.
        for other in list(task.requests.values()):
            self._overtake(other)
        task.begin(size, source.key, part_list)

    def _read_leaves(self, request: PartRequest, part: int, answer: memoryview) -> None:
        """Take the leaves of an answer; with them the part must be complete."""
        opened, peer = request.task.open(part), request.source.peer
        lacked = opened.lacking
        verdict = take_leaves(opened, request.task.size, part, answer)
        if verdict is StripeVerdict.WRONG:
            self._failed(request, "wrong content", close=True)
        elif verdict is StripeVerdict.UNPROVEN:
            self._failed(request, "has not got it")
        else:
            self._context.count("stripes_repaired")
            self._succeeded(request)
            self.take_part(request.task, part, peer, lacked.bit_count() * LEAF_BYTES, request.source)

    def take_part(self, task: Task, part: int, peer: str, size: int, source: SupplierState) -> None:
        """A part is complete by leaves, the last `size` bytes of it from this peer."""
        self._place(task, peer, part, memoryview(task.opened.pop(part).content), size)
        if not task.lacking:
            self._finish(task, source)
        elif task.awaits is None:
            self._arrived(task, source)

    def _succeeded(self, request: PartRequest) -> None:
        request.supplier.succeeded(self._context.now - request.sent_at)
        request.source.failures = 0
        if request.is_hedge:
            self._context.count("hedge_won")

    def _take(self, request: PartRequest, parts: list[tuple[int, memoryview]]) -> None:
        """Check each part of an answer and keep it; wrong content closes the source, whatever came before it."""
        task = request.task
        for number, content in parts:
            if not is_part(task.part_list, task.size, number, content):
                self._failed(request, "wrong content", close=True)
                break
            self._place(task, request.source.peer, number, content, len(content))
        else:
            self._succeeded(request)
            # A peer may send fewer parts than were allowed with the list.
            unused = request.quota_bytes - len(parts) * PART_BYTES
            if unused > 0:
                self._quota.give_back(task.artifact, request.source.peer, unused)
        if not task.lacking and task.artifact in self.tasks:
            self._finish(task, request.source)
        elif parts and task.artifact in self.tasks:
            self._arrived(task, request.source)

    def _place(self, task: Task, peer: str, number: int, content: memoryview, size: int) -> None:
        self._context.counters["fetched_bytes"] += size
        for other in [other for other in task.requests.values() if other.part == number]:
            self._overtake(other)
        task.parts[number] = content
        task.first_at = task.first_at or self._context.now
        task.lacking &= ~(1 << number)
        task.unasked &= task.lacking
        task.opened.pop(number, None)
        if size:  # stripes were counted as they came
            task.delivered[peer] = task.delivered.get(peer, 0) + size

    def _finish(self, task: Task, source: SupplierState) -> None:
        self.drop(task.artifact)
        for peer, size in task.delivered.items():
            # From here on the bytes are kept, until the client has judged the artifact.
            self._quota.use(task.artifact, peer, size)
        if len(task.delivered) > 1:
            self._context.count("parts_from_several_peers")
        data = b"".join(filter(None, task.parts))
        self._context.count("tasks_completed")
        self._complete(task, data, source)

    def _give_up(self, supplier: Supplier) -> None:
        """Give up a silent peer as a source of every artifact it announces."""
        # Half: a new announcement of this peer is tried, but not six times again.
        supplier.silent = SILENT_MAX // 2
        for artifact in self._table.peers[supplier.peer].artifacts():
            # Only a new announcement of the artifact makes the source usable again.
            self._table.holders[artifact][supplier.peer].failures = FAILURES_MAX
            if artifact in self.tasks:
                self._look_again(artifact)
        self._context.count("silent_peer_given_up")

    def _failed(self, request: PartRequest, why: str, *, lost: bool = False, close: bool = False) -> None:
        source, context = request.source, self._context
        source.failures += 1
        if close:
            context.count("wrong_content")
            source.closed = True
        elif source.failures >= FAILURES_MAX:
            context.count("source_given_up")
        if len(self._table.holders.get(request.task.artifact, ())) > 1:
            context.count("another_source_after_failure")
        source.not_before = context.now + context.backoff(source.failures, FAILED_FIRST_NS, FAILED_MOST_NS)
        request.supplier.failed(lost=lost, waited_ns=context.now - request.sent_at)
        if request.supplier.silent >= SILENT_MAX:
            self._give_up(request.supplier)
        context.counters["fetch_errors"] += 1
        context.emit_about(EventKind.FETCH_FAILED, request.task.artifact, source.peer, detail=why)
        self._put_back(request)
        if not any(other.source is source for other in request.task.requests.values()):
            # Nothing is in flight from there: a task must not keep quota of one peer while it waits for another's.
            self._quota.shrink(request.task.artifact, source.peer, request.task.delivered.get(source.peer, 0))
