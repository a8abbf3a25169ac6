"""`Broadcast`: one client's broadcast at one node. It decides; its driver (`node` or `sim`) obeys.

A driver hands over every input of its turn with `handle`, does what the effects say, and then, whenever `next_wakeup()` is
not later than now, hands over a `Wake`: that ends the turn. Updates leave, and the client is run, only at a Wake: so they are
batched by the driver's turn. A Wake that comes for nothing does no harm.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2pnet.broadcast import inputs
from p2pnet.broadcast.artifact import id_prefix
from p2pnet.broadcast.charges import Charges
from p2pnet.broadcast.client import Client
from p2pnet.broadcast.effects import AnswerDigest, AnswerFetch, Effect, Published, PublishRefused, RunClient
from p2pnet.broadcast.fetching import Fetcher
from p2pnet.broadcast.inputs import Input, Wake
from p2pnet.broadcast.intake import Intake
from p2pnet.broadcast.keeper import Keeper, PublicationRefusedError
from p2pnet.broadcast.pending import Pending
from p2pnet.broadcast.pool import Change, Pool, RemoveFromValidated
from p2pnet.broadcast.relay import Relay
from p2pnet.broadcast.sender import Sender
from p2pnet.broadcast.serving import Serving
from p2pnet.broadcast.table import Source, Table
from p2pnet.broadcast.task import Task
from p2pnet.broadcast.timers import Timer
from p2pnet.broadcast.turn import SECOND, Turn
from p2pnet.broadcast.wire import next_hop
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER

if TYPE_CHECKING:
    from random import Random

FORGET_PEER_NS = 600 * SECOND  # the rows of a peer that stays away this long end


class Broadcast:
    """Composes table, fetching, pool, relay and sender. `me` is this node's name, `rng` its own generator."""

    def __init__(
        self,
        client: Client,
        me: str,
        settings: BroadcastSettings,
        rng: "Random",
        *,
        unvalidated_bytes_per_peer: int = UNVALIDATED_BYTES_PER_PEER,
    ) -> None:
        self.client = client
        self.me = me
        self.settings = settings
        self.pool = Pool()
        self._turn = turn = Turn(settings, rng)
        self._table = Table(settings.slots_per_peer)
        self._charges = Charges(unvalidated_bytes_per_peer)
        self._sender = Sender(turn, self._table)
        self._relay = Relay(turn, client, self.pool, self._sender)
        self._keeper = Keeper(turn, client, self.pool, charges=self._charges, sender=self._sender, relay=self._relay)
        self._fetcher = Fetcher(
            turn,
            self._table,
            self._charges,
            prefix=id_prefix(client.name),
            complete=self._completed,
            begun=self._offer_parts,
        )
        self._intake = Intake(
            turn,
            client,
            self._table,
            self.pool,
            charges=self._charges,
            keeper=self._keeper,
            sender=self._sender,
            fetcher=self._fetcher,
        )
        self._serving = Serving(turn, self.pool, self._sender, self._fetcher)
        self._members: frozenset[str] | None = None
        self._running = False
        self._run_due = True  # once at the start: a client may have something to say first
        turn.soon = True
        self._handlers: dict[type[Input], Callable[[Any], None]] = {
            inputs.Publish: self._publish,
            inputs.Withdraw: self._withdraw,
            inputs.Purge: self._purge,
            inputs.PeerUp: self._peer_up,
            inputs.PeerDown: self._peer_down,
            inputs.UpdatesReceived: self._updates_received,
            inputs.UpdatesAnswered: self._updates_answered,
            inputs.FetchReceived: self._fetch_received,
            inputs.FetchAnswered: self._fetch_answered,
            inputs.SyncedReceived: self._synced_received,
            inputs.SyncedAnswered: self._synced_answered,
            inputs.DigestReceived: self._digest_received,
            inputs.DigestAnswered: lambda _: None,
            inputs.MembersChanged: self._members_changed,
            inputs.ClientAnswered: self._client_answered,
            inputs.Wake: self._wake,
        }
        self._timers: dict[Timer, Callable[[Any], None]] = {
            Timer.RETRY: self._sender.delivery.retry,
            Timer.EMPTY: lambda _: self._sender.say_empty(),
            Timer.SYNCED: self._sender.delivery.say_synced,
            Timer.HEDGE: self._fetcher.hedge,
            Timer.FETCH: self._fetcher.retry,
            Timer.STASH: lambda _: self._intake.look_at_stash(),
            Timer.EXPIRE: self._expire,
            Timer.FORGET: self._forget_peer,
            Timer.TICK: self._tick,
        }

    def handle(self, what: Input, now: int, wall: float) -> list[Effect]:
        """What follows from an input. `now`: monotonic nanoseconds, `wall`: Unix seconds."""
        turn = self._turn
        turn.now, turn.wall = now, wall
        effects: list[Effect] = []
        turn.effects = effects
        self._handlers[type(what)](what)
        return effects

    def next_wakeup(self) -> int | None:
        """When the next Wake is due, in monotonic nanoseconds; None: never. Look again after every `handle`."""
        return self._turn.now if self._turn.soon else self._turn.timers.next()

    @property
    def at_rest(self) -> bool:
        """Nothing is due but what time alone brings: expiries, and the client's own ticks."""
        return not self.pending()

    def pending(self) -> list[Pending]:
        """What this node still has to do or to wait for, the expiry of artifacts and the client's ticks left out."""
        return [Pending("task", artifact) for artifact in self._fetcher.tasks]

    # What a driver may read

    @property
    def counters(self) -> dict[str, int]:
        """Monotonic counts by name (`turn.COUNTERS`)."""
        return self._turn.counters

    def gauges(self) -> dict[str, int]:
        """What there is now, by name."""
        return {
            "slots_in_use": self._sender.slots.in_use,
            "slots_allocated": self._sender.slots.allocated,
            "publications_waiting": self._keeper.queued,
            "rows": sum(len(peer.rows) for peer in self._table.peers.values()),
            "tasks": len(self._fetcher.tasks),
            "stashed": self._intake.stashed,
            "validated": len(self.pool.validated),
            "unvalidated": len(self.pool.unvalidated),
            "peers": len(self._sender.boxes),
        }

    def user_bytes(self, artifact: ArtifactId) -> tuple[str, memoryview] | None:
        """Name and user's bytes of a validated artifact."""
        found = self.pool.get(artifact)
        return None if found is None else (found.inspected.name, found.user_bytes)

    # The user

    def _publish(self, publish: inputs.Publish) -> None:
        try:
            artifact = self._keeper.publish(publish.data)
        except PublicationRefusedError as refusal:
            self._turn.effects.append(PublishRefused(refusal.code, str(refusal)))
        else:
            self._intake.abandon(artifact)
            self._turn.effects.append(Published(artifact))

    def _withdraw(self, withdraw: inputs.Withdraw) -> None:
        self._intake.abandon(withdraw.artifact)
        self._keeper.withdraw(withdraw.artifact)

    def _purge(self, purge: inputs.Purge) -> None:
        self._keeper.apply([RemoveFromValidated(purge.artifact)])

    def _digest_received(self, digest: inputs.DigestReceived) -> None:
        self._turn.effects.append(AnswerDigest(digest.token, b""))

    # Peers

    def _peer_up(self, up: inputs.PeerUp) -> None:
        peer = up.peer
        if self._table.is_current(peer, up.connection):
            return
        self._intake.forget(peer)
        self._turn.timers.cancel(Timer.FORGET, peer)
        self._table.connect(peer, up.connection)
        self._sender.connect(peer, up.connection)
        self._relay.connect(peer)
        self._fetcher.connect(peer, up.connection, self._table.peers[peer].sources)

    def _peer_down(self, down: inputs.PeerDown) -> None:
        peer = down.peer
        if not self._table.disconnect(peer, down.connection):
            return
        self._intake.forget(peer)
        self._sender.delivery.disconnect(peer)
        self._fetcher.disconnect(peer)
        self._relay.disconnect(peer)
        self._turn.timers.set(Timer.FORGET, peer, self._turn.now + FORGET_PEER_NS)

    def _members_changed(self, changed: inputs.MembersChanged) -> None:
        """Peers that were members and are no more lose their rows at once, others when they are away."""
        self._turn.counters["members_changed"] += 1
        before, self._members = self._members or frozenset(), changed.members
        for peer in list(self._table.peers):
            if peer not in changed.members and (peer in before or not self._table.peers[peer].connection):
                self._forget_peer(peer)

    def _forget_peer(self, peer: str) -> None:
        self._intake.rows_ended(peer, self._table.drop(peer))

    def _synced_received(self, synced: inputs.SyncedReceived) -> None:
        if self._table.is_current(synced.peer, synced.connection):
            self._intake.rows_ended(synced.peer, self._table.synced(synced.peer))

    # Requests and answers

    def _updates_received(self, updates: inputs.UpdatesReceived) -> None:
        self._intake.updates(updates.peer, updates.connection, updates.token, updates.body)

    def _updates_answered(self, answered: inputs.UpdatesAnswered) -> None:
        self._sender.delivery.answered(answered.token, answered.body)

    def _fetch_answered(self, answered: inputs.FetchAnswered) -> None:
        self._fetcher.answered(answered.token, answered.body)

    def _synced_answered(self, answered: inputs.SyncedAnswered) -> None:
        self._sender.delivery.synced_answered(answered.token, ok=answered.ok)

    def _fetch_received(self, fetch: inputs.FetchReceived) -> None:
        self._turn.effects.append(AnswerFetch(fetch.token, self._serving.answer(fetch.body)))

    # Fetching's results

    def _completed(self, artifact: ArtifactId, data: bytes, parts: bytes, peer: str, hop: int) -> None:
        if not self._keeper.lifetimes.is_refused(artifact):
            self._keeper.insert(artifact, data, parts, peer, next_hop(hop))
        if artifact not in self.pool.unvalidated:
            self._charges.release(artifact)
            if artifact in self._sender.active:
                self._sender.withdraw(artifact)

    def _offer_parts(self, task: Task, source: Source) -> None:
        self._relay.partial(task.artifact, task.size, next_hop(source.hop))

    # The client

    def _client_answered(self, answered: inputs.ClientAnswered) -> None:
        self._running = False
        self._turn.counters["client_runs"] += 1
        self._turn.counters["client_ns"] += answered.took_ns
        self._keeper.apply(answered.actions)
        self._intake.client_ran()
        if self._keeper.changes or self._run_due or self._charges.has_relieved:
            self._turn.soon = True

    def _run_client(self) -> None:
        if self._running or not (self._keeper.changes or self._run_due):
            return
        self._running, self._run_due = True, False
        changes: list[Change] = self._keeper.changes
        self._keeper.changes = []
        tick_s = self.client.tick_s
        if tick_s is not None:
            self._turn.timers.set(Timer.TICK, None, self._turn.now + int(tick_s * SECOND))
        self._turn.effects.append(RunClient(changes))

    def _tick(self, _: None) -> None:
        self._run_due = self._turn.soon = True

    # Time

    def _wake(self, _: Wake) -> None:
        turn = self._turn
        turn.soon = False
        for timer, key in turn.timers.due(turn.now):
            self._timers[timer](key)
        self._intake.next_turn()
        self._fetcher.flush()
        self._keeper.drain()
        self._sender.delivery.flush()
        self._run_client()
        turn.soon = self._intake.is_waiting

    def _expire(self, _: None) -> None:
        for artifact in self._keeper.expire():
            self._intake.abandon(artifact)
