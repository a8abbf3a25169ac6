"""`Broadcast`: one client's broadcast at one node. It decides; its driver (in `node` or `sim`) executes the effects.

A driver passes every input of one loop turn to `handle`, executes the effects, and then, whenever `next_wakeup()` is not later
than now, passes a `Wake`: that ends the turn. Updates leave, and the client is run, only at a Wake, so they are batched by the
driver's turn. A Wake too many does no harm.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from p2pnet.broadcast import inputs
from p2pnet.broadcast.artifact import RandomSource, id_prefix
from p2pnet.broadcast.assembler import Assembler
from p2pnet.broadcast.client import Client, ClientCalls, ClientRaisedError
from p2pnet.broadcast.context import SECOND, Context, Timer
from p2pnet.broadcast.digest import Digests
from p2pnet.broadcast.edges import Edges
from p2pnet.broadcast.effects import AnswerFetch, Effect, Published, PublishRefused, RunClient
from p2pnet.broadcast.inputs import Input, Wake
from p2pnet.broadcast.manager import PoolManager, PublicationRefusedError
from p2pnet.broadcast.pool import Change, Pool, RemoveFromUnvalidated, RemoveFromValidated
from p2pnet.broadcast.quota import Quota
from p2pnet.broadcast.receiver import Receiver
from p2pnet.broadcast.relay import Relay
from p2pnet.broadcast.scatter import Scatter
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.serving import PartServer
from p2pnet.broadcast.stripe_intake import StripeIntake
from p2pnet.broadcast.stripping import Stripping
from p2pnet.broadcast.table import SupplierState, Table
from p2pnet.broadcast.task import Task
from p2pnet.broadcast.turns import Turns
from p2pnet.broadcast.wire import next_hop
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER

FORGET_NS = 60 * SECOND
"""How long the rows of an ended connection stay, in nanoseconds, unless `synced` on the next one ends them before."""
SHARED_BELOW = 4
"""While less than one part in so many is missing of what came by stripes, no parts are announced: peers have the others."""
CLIENT_AGAIN_FIRST_NS = SECOND // 4
"""First pause before a client that raised is called again, in nanoseconds; doubled each time."""
CLIENT_AGAIN_MOST_NS = 60 * SECOND


class Pending(msgspec.Struct, frozen=True):
    """One thing a node still has to do or waits for. `kind`: task | row | bytes | timer | client | request | wake."""

    kind: str
    artifact: ArtifactId | None = None
    peer: str = ""
    detail: str = ""


class Broadcast:
    """One client's broadcast, composed of table, receiver, assembler, pool manager, relay, digests and sender."""

    __slots__ = (
        "_assembler", "_calls", "_client_failures", "_client_run", "_context", "_digests", "_edges", "_has_stripe_boxes",
        "_intake", "_manager", "_members", "_quota", "_receiver", "_relay", "_run_due", "_scatter", "_sender", "_server",
        "_stripping", "_table", "_turns", "client", "me", "pool", "settings",
    )  # fmt: skip

    def __init__(
        self,
        client: Client,
        me: str,
        settings: BroadcastSettings,
        rng: RandomSource,
        *,
        unvalidated_bytes_per_peer: int = UNVALIDATED_BYTES_PER_PEER,
    ) -> None:
        """`me`: this node's name. `rng`: a generator that nothing else draws from."""
        self.client = client
        self.me = me
        self.settings = settings
        self.pool = Pool()
        self._context = context = Context(settings, rng)
        self._calls = calls = ClientCalls(context, client)
        self._table = Table(settings.slots_per_peer)
        self._quota = Quota(unvalidated_bytes_per_peer)
        self._edges = Edges(context)
        self._sender = Sender(context, self._table, self._edges)
        self._scatter = Scatter(context, self._table, me)
        self._digests = Digests(context, self._table, self.pool, me, self._sender.is_announced)
        self._relay = Relay(
            context, calls, self._table, self.pool, sender=self._sender, digests=self._digests, edges=self._edges,
            scatter=self._scatter,
        )  # fmt: skip
        self._assembler = Assembler(
            context,
            self._table,
            self._quota,
            id_prefix(client.name),
            complete=self._completed,
            arrived=self._parts_arrived,
            ended=self._relay.end_partial,
        )
        self._server = PartServer(context, self._table, self.pool, self._sender, self._assembler)
        self._manager = self._make_manager()
        self._turns = Turns(context)
        self._intake = StripeIntake(
            context,
            self._table,
            self.pool,
            quota=self._quota,
            assembler=self._assembler,
            scatter=self._scatter,
            turns=self._turns,
            is_refused=self.is_refused,
        )
        self._stripping = Stripping(
            context,
            calls,
            id_prefix(client.name),
            self.pool,
            table=self._table,
            quota=self._quota,
            manager=self._manager,
            assembler=self._assembler,
        )
        self._receiver = self._make_receiver()
        # Honest peers deal nothing out in a sparse topology, so there are boxes from the first stripe on.
        self._has_stripe_boxes = settings.full_mesh
        self._members: frozenset[str] = frozenset()
        self._client_run: list[Change] | None = None
        self._client_failures = 0
        self._run_due = True  # once at the start: a client may have something to say first
        context.soon = True

    def _make_manager(self) -> PoolManager:
        return PoolManager(
            self._context,
            self._calls,
            self.client.name,
            self.pool,
            quota=self._quota,
            sender=self._sender,
            relay=self._relay,
            digests=self._digests,
            assembler=self._assembler,
            scatter=self._scatter,
        )

    def _make_receiver(self) -> Receiver:
        return Receiver(
            self._context,
            self._calls,
            self.client.name,
            self._table,
            self.pool,
            quota=self._quota,
            manager=self._manager,
            sender=self._sender,
            edges=self._edges,
            assembler=self._assembler,
            stripping=self._stripping,
            intake=self._intake,
            turns=self._turns,
        )

    def handle(self, what: Input, now: int, wall: float) -> list[Effect]:
        """Handle one input; the effects to execute, in order. `now`: monotonic nanoseconds, `wall`: Unix seconds."""
        context = self._context
        context.now, context.wall = now, wall
        effects: list[Effect] = []
        context.effects = effects
        # A table, not a match: this is called for every message of every peer.
        self._handlers[type(what)](self, what)
        return effects

    def limit_uplink(self, narrow: bool) -> None:
        """Whether an access link limits what this node sends: `relay: auto` then deals out in stripes what it publishes."""
        self._context.narrow_uplink = narrow

    def next_wakeup(self, *, expiries: bool = True) -> int | None:
        """When the next Wake is due, in monotonic nanoseconds; None: never. Ask again after every `handle`.

        `expiries` False leaves out expiries and the client's ticks; None then means that the node is at rest.
        """
        return self._context.now if self._context.soon else self._context.timers.next(lasting=expiries)

    # What a driver or an observer may read

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start by name (`context.COUNTERS` and `context.BRANCHES`)."""
        return self._context.counters.every()

    def gauges(self) -> dict[str, int]:
        """Present counts by name: slots, rows, tasks, artifacts, peers."""
        return {
            "slots_in_use": self._sender.slots.in_use,
            "slots_allocated": self._sender.slots.allocated,
            "publications_waiting": len(self._manager.queued),
            "relays_waiting": len(self._relay.waiting),
            "rows": sum(len(peer.rows) for peer in self._table.peers.values()),
            "tasks": len(self._assembler.tasks),
            "stashed": self._receiver.stashed,
            "validated": len(self.pool.validated),
            "unvalidated": len(self.pool.unvalidated),
            "peers": len(self._sender.boxes),
        }

    def unfinished(self) -> int:
        """What is left to do: fetches, artifacts not judged yet, and those that wait for a slot. See `pending` for all of it."""
        fetches = len(self._assembler.tasks) + len(self._stripping.assemblies)
        return fetches + len(self.pool.unvalidated) + len(self._manager.queued) + len(self._relay.waiting)

    def user_bytes(self, artifact: ArtifactId) -> tuple[str, memoryview] | None:
        """Name and user's bytes of a validated artifact."""
        found = self.pool.get(artifact)
        return None if found is None else (found.inspected.name, found.user_bytes)

    def waiting_for_slot(self) -> list[ArtifactId]:
        """Artifacts that are announced to nobody yet, because all slots are taken."""
        return [*self._manager.queued, *self._relay.waiting]

    def is_refused(self, artifact: ArtifactId) -> bool:
        """Whether the id is unwanted here: withdrawn, purged, expired or found invalid."""
        return self._manager.expiry.is_refused(artifact)

    def announcing(self, peer: str | None = None) -> list[ArtifactId]:
        """Artifacts that have a slot here, complete or not; only those announced to `peer`, if one is named."""
        active = self._sender.active
        return [artifact for artifact, content in active.items() if peer is None or content.is_for(peer)]

    def announced_slots(self, peer: str) -> dict[ArtifactId, int]:
        """The slot of each artifact that is announced to this peer."""
        return {artifact: content.slot for artifact, content in self._sender.active.items() if content.is_for(peer)}

    def announced_by(self, peer: str) -> list[ArtifactId]:
        """The ids in the rows of a peer's current connection."""
        rows = self._table.peers.get(peer)
        if rows is None or not rows.connection:
            return []
        return [row.artifact for row in rows.rows.values() if row.artifact and row.connection == rows.connection]

    def quota_used(self, peer: str) -> int:
        """Unvalidated bytes of this peer's quota that are in use now."""
        return self._quota.held(peer)

    def parts_here(self, artifact: ArtifactId) -> tuple[int, int] | None:
        """(parts that have arrived, parts in all, 0 if unknown) of an artifact being fetched; None: it is not."""
        task = self._assembler.tasks.get(artifact)
        return None if task is None else (task.here.bit_count(), len(task.parts))

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do but expiries and the client's own ticks."""
        return self.next_wakeup(expiries=False) is None and not self.pending()

    def pending(self) -> list[Pending]:
        """What this node still has to do or waits for, without expiries, the client's ticks, and answers due from peers."""
        context, found = self._context, []
        for artifact, task in self._assembler.tasks.items():
            lacking = (
                f"{task.lacking.bit_count()} of {len(task.parts)} parts lacking" if task.part_list else "no part list"
            )
            found.append(Pending("task", artifact, detail=lacking))
        for artifact, assembly in self._stripping.assemblies.items():
            found.append(Pending("task", artifact, assembly.peer, f"{len(assembly.awaited)} pieces lacking"))
        for peer in self._table.peers:
            rows = self._table.peers[peer].rows
            found += [
                Pending("row", rows[slot].artifact, peer, "of an ended connection")
                for slot in self._table.older_rows(peer)
            ]
        for artifact, peer in self._quota.uses():
            if artifact not in self.pool.unvalidated:
                found.append(Pending("bytes", artifact, peer, f"{self._quota.held(peer)} bytes of its quota"))
        found += [Pending("bytes", artifact, peer, "waits for quota") for artifact, peer in self._quota.waiting()]
        found += [Pending("timer", _id_in(key), detail=kind.name.lower()) for kind, key in context.timers.armed()]
        if self._client_run is not None or self._manager.changes:
            found.append(Pending("client"))
        if self._turns.is_waiting:
            found.append(Pending("request"))
        if context.soon:
            found.append(Pending("wake"))
        return found

    # The user

    def _publish(self, publish: inputs.Publish) -> None:
        try:
            artifact = self._manager.publish(publish.data)
        except PublicationRefusedError as refusal:
            self._context.effects.append(PublishRefused(refusal.code, str(refusal)))
        else:
            self._receiver.unstash(artifact)
            self._context.effects.append(Published(artifact))

    def _withdraw(self, withdraw: inputs.Withdraw) -> None:
        self._receiver.unstash(withdraw.artifact)
        self._manager.withdraw(withdraw.artifact)

    def _purge(self, purge: inputs.Purge) -> None:
        self._manager.apply([RemoveFromValidated(purge.artifact), RemoveFromUnvalidated(purge.artifact)])

    # Peers

    def _peer_up(self, up: inputs.PeerUp) -> None:
        peer = up.peer
        # A driver may report a connection twice.
        if self._table.is_current(peer, up.connection):
            return
        replaces = peer in self._sender.boxes
        if replaces:
            self._context.count("connection_replaced")
        self._turns.disconnect(peer)
        self._stripping.disconnect(peer)
        self._table.connect(peer, up.connection)
        self._sender.connect(peer, up.connection)
        if replaces:
            self._assembler.disconnect(peer)
        if self._has_stripe_boxes:
            self._scatter.connect(peer, up.connection)
        self._digests.connect(peer, up.connection)
        self._arm_forgetting(peer)

    def _peer_down(self, down: inputs.PeerDown) -> None:
        peer = down.peer
        if not self._table.disconnect(peer, down.connection):
            return
        self._turns.disconnect(peer)
        self._stripping.disconnect(peer)
        self._sender.disconnect(peer)
        self._assembler.disconnect(peer)
        self._scatter.disconnect(peer)
        self._intake.disconnect(peer)
        self._digests.disconnect(peer)
        self._arm_forgetting(peer)

    def _arm_forgetting(self, peer: str) -> None:
        """Rows of ended connections end after FORGET_NS, whatever the peer says or leaves unsaid."""
        if self._table.older_rows(peer):
            self._context.timers.set(Timer.FORGET, peer, self._context.now + FORGET_NS)
        elif peer in self._table.peers and not self._table.peers[peer].connection:
            self._forget_older_rows(peer)

    def _forget_older_rows(self, peer: str) -> None:
        self._context.timers.cancel(Timer.FORGET, peer)
        ended = self._table.end_older(peer)
        if ended:
            self._context.count("ghost_rows_ended")
            self._receiver.rows_ended(peer, ended)
        if peer not in self._table.peers:
            self._context.forget_peer(peer)

    def _members_changed(self, changed: inputs.MembersChanged) -> None:
        """End the rows of peers that are not members: at once if they were, else when they are not connected."""
        self._context.count("members_changed")
        before, self._members = self._members, changed.members
        for peer in list(self._table.peers):
            if peer not in changed.members and (peer in before or not self._table.peers[peer].connection):
                self._context.timers.cancel(Timer.FORGET, peer)
                self._receiver.rows_ended(peer, self._table.end_all(peer))
                if peer not in self._table.peers:
                    self._context.forget_peer(peer)
        self._digests.members_changed(changed.members)

    def _synced_received(self, synced: inputs.SyncedReceived) -> None:
        if self._table.is_current(synced.peer, synced.connection):
            self._forget_older_rows(synced.peer)

    # Fetches and digests

    def _fetch_received(self, fetch: inputs.FetchReceived) -> None:
        self._context.effects.append(AnswerFetch(fetch.token, self._server.answer(fetch.peer, fetch.body)))

    def _fetch_answered(self, answered: inputs.FetchAnswered) -> None:
        if not self._stripping.answered(answered):
            self._assembler.answered(answered)

    def _parts_arrived(self, task: Task, source: SupplierState) -> None:
        """Some parts of an artifact are here: announce them, unless peers have nearly all of it by stripes."""
        if task.dealer and task.lacking.bit_count() * SHARED_BELOW < len(task.parts):
            return
        if task.artifact in self._sender.active:
            self._sender.more_parts(task.artifact, task.here)
        else:
            hop, origin = next_hop(source.hop), source.origin
            self._relay.partial(task.artifact, task.key, task.size, hop, task.here, origin=origin)

    def _completed(self, task: Task, data: bytes, source: SupplierState) -> None:
        """All parts of an artifact are here: insert it. What the client or the pool refuses is neither kept nor announced."""
        artifact, hop = task.artifact, next_hop(source.hop)
        if not self._manager.expiry.is_refused(artifact):
            try:
                inspected = self._manager.inspect(artifact, task.key, data, task.dealer or source.peer, hop)
            except ClientRaisedError:
                self._assembler.postpone(artifact)
                inspected = None
            if inspected is not None:
                self._manager.insert(
                    artifact,
                    data,
                    task.part_list,
                    inspected,
                    source.peer,
                    hop,
                    task.delivered,
                    origin=source.origin,
                    announced_by=task.dealer,
                    times=task.times(self._context.now).to_detail(),
                )
        if artifact in self.pool.unvalidated:
            self._sender.more_parts(artifact, task.here)
        else:
            self._quota.release(artifact)
            # What was announced in part must not be announced for ever.
            self._relay.end_partial(artifact)

    def _digest_received(self, digest: inputs.DigestReceived) -> None:
        self._digests.received(digest.peer, digest.connection, digest.token, digest.body, self.is_refused)

    def _digest_answered(self, answered: inputs.DigestAnswered) -> None:
        for artifact, peer in self._digests.answered(answered.token, answered.body):
            self._relay.offer_held(artifact, peer)

    # The client

    def _client_answered(self, answered: inputs.ClientAnswered) -> None:
        context, changes = self._context, self._client_run or []
        self._client_run = None
        context.count("client_runs")
        context.counters["client_ns"] += answered.took_ns
        if answered.failed:
            self._calls.raised(f"on_state_change: {answered.failed}")
            self._client_failures += 1
            self._manager.changes[:0] = changes  # the next call gets them again
            pause = context.backoff(self._client_failures, CLIENT_AGAIN_FIRST_NS, CLIENT_AGAIN_MOST_NS)
            context.timers.set(Timer.CLIENT, None, context.now + pause)
            return
        self._client_failures = 0
        self._manager.apply(answered.actions)
        self._receiver.client_ran()
        if self._manager.changes or self._run_due or self._quota.has_relieved:
            context.soon = True

    def _run_client(self) -> None:
        timers = self._context.timers
        if self._client_run is not None or timers.is_set(Timer.CLIENT, None):
            return
        if not (self._manager.changes or self._run_due):
            return
        self._client_run, self._run_due = self._manager.changes, False
        self._manager.changes = []
        tick_ns = self._calls.tick_ns
        if tick_ns is not None:
            timers.set(Timer.TICK, None, self._context.now + tick_ns)
        self._context.effects.append(RunClient(self._client_run))

    # Time

    def _wake(self, _: Wake) -> None:
        context = self._context
        context.soon = False
        # Timers first: what they make due leaves with this Wake.
        for timer, key in context.timers.due(context.now):
            self._timer(timer, key)
        # Then requests that waited, tasks, slots, and last the updates: each may make something due for the next.
        self._turns.next_turn()
        self._assembler.flush()
        self._manager.drain()
        self._sender.delivery.flush()
        # After their rows, which say what the stripes are of.
        self._scatter.flush()
        # After everything that may change the pool, so that one run sees all of it.
        self._run_client()
        # Only waiting requests need another Wake at once.
        context.soon = self._turns.is_waiting

    # What its parts handle

    def _updates_received(self, received: inputs.UpdatesReceived) -> None:
        self._receiver.updates(received)

    def _updates_answered(self, answered: inputs.UpdatesAnswered) -> None:
        self._sender.delivery.answered(answered)

    def _synced_answered(self, answered: inputs.SyncedAnswered) -> None:
        self._sender.delivery.synced_answered(answered)

    def _stripes_received(self, received: inputs.StripesReceived) -> None:
        if not self._has_stripe_boxes:
            self._has_stripe_boxes = True
            for box in self._sender.boxes.values():
                self._scatter.connect(box.peer, box.connection)
        self._intake.received(received)

    def _stripes_answered(self, answered: inputs.StripesAnswered) -> None:
        self._scatter.answered(answered)

    def _timer(self, timer: Timer, key: Any) -> None:  # noqa: C901, PLR0912 - a case for each
        match timer:
            case Timer.RETRY:
                self._sender.delivery.retry(key)
            case Timer.EMPTY:
                self._sender.announce_empty()
            case Timer.SYNCED:
                self._sender.delivery.send_synced(key)
            case Timer.HEDGE:
                self._assembler.hedge(key)
            case Timer.FETCH:
                self._assembler.retry(key)
            case Timer.NO_PATH:
                self._assembler.end_without_path(key)
            case Timer.STASH:
                self._receiver.retry_stash()
            case Timer.FORGET:
                self._forget_older_rows(key)
            case Timer.PROGRESS:
                self._sender.tell_progress(key)
            case Timer.DIGEST:
                self._digests.exchange()
            case Timer.CLIENT | Timer.TICK:
                self._run_due = self._context.soon = True
            case Timer.EXPIRE:
                for artifact in self._manager.expire():
                    self._receiver.unstash(artifact)
            case Timer.STRIPES:
                self._intake.check(key)
            case Timer.EARLY:
                self._intake.drop_early()
            case Timer.DEALT:
                self._scatter.check_silence()

    # One table for all Broadcasts: ten thousand simulated nodes need no bound methods of their own.
    _handlers: ClassVar[dict[type[Input], Callable[["Broadcast", Any], None]]] = {
        inputs.Publish: _publish,
        inputs.Withdraw: _withdraw,
        inputs.Purge: _purge,
        inputs.PeerUp: _peer_up,
        inputs.PeerDown: _peer_down,
        inputs.UpdatesReceived: _updates_received,
        inputs.UpdatesAnswered: _updates_answered,
        inputs.FetchReceived: _fetch_received,
        inputs.FetchAnswered: _fetch_answered,
        inputs.SyncedReceived: _synced_received,
        inputs.SyncedAnswered: _synced_answered,
        inputs.DigestReceived: _digest_received,
        inputs.DigestAnswered: _digest_answered,
        inputs.StripesReceived: _stripes_received,
        inputs.StripesAnswered: _stripes_answered,
        inputs.MembersChanged: _members_changed,
        inputs.ClientAnswered: _client_answered,
        inputs.Wake: _wake,
    }


def _id_in(key: object) -> ArtifactId | None:
    """The artifact a timer is about, where its key is one."""
    return ArtifactId(key) if isinstance(key, bytes) else None
