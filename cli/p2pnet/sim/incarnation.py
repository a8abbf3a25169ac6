"""One start of a node: a real `Broadcast` and its driver, which does in virtual time what `node.driver` does on a loop.

The inputs of one virtual instant are handled together, in a turn, and effects executed at once. Then the core is woken while it
has something due, at most `WAKES_PER_TURN` times; whatever is still due waits for the next turn.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from p2pnet.adversary import DishonestBroadcast, make_conduct
from p2pnet.broadcast import Broadcast, Change, Client, Pool, effects, inputs
from p2pnet.broadcast.manager import PublicationRefusedError
from p2pnet.model.behaviours import HONEST
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.sim.context import EPOCH, MOVES, NodePlan, SimContext
from p2pnet.sim.port import Port, Route, SimRequest
from p2pnet.sim.quantities import NS
from p2pnet.sim.record import NodeRecord

WAKES_PER_TURN = 4
TURNS_PER_INSTANT_MAX = 10_000
"""A core that needs more turns than this at one instant is taken to need them without end."""


class CoreFailedError(Exception):
    """A core raised, or needs turns without end at one instant: a fault of the broadcast layer. `__cause__`: what it raised."""


class ClientRun:
    """A call of `on_state_change` in progress, with the pool and the time as they were when it began."""

    __slots__ = ("changes", "incarnation", "pool", "wall")

    def __init__(self, incarnation: "Incarnation", changes: list[Change]) -> None:
        self.incarnation = incarnation
        self.changes = changes
        self.pool = incarnation.core.pool.snapshot()
        self.wall = incarnation.context.wall


class Incarnation:
    """One start of a node. `count`: which start of its node this is, from 1."""

    __slots__ = (
        "_alarm", "_asked", "_client_delay_ns", "_held", "_inputs", "_number", "_published", "_restless", "_timer", "_tokens",
        "_turn_due", "_turns", "_turns_at", "client", "context", "core", "count", "name", "nonces", "paused", "port", "record",
    )  # fmt: skip

    def __init__(self, context: SimContext, plan: NodePlan, record: NodeRecord, count: int) -> None:
        self.context = context
        self.name = name = plan.name
        self.count = count
        self.client = plan.make_client(plan.name)
        self.record = record
        self.core = _make_core(context, plan, self.client, count)
        rng = context.chance(name, count, "network")
        self.port = Port(context.network, context.timeline, self, name, rng, up=plan.up, down=plan.down)
        self.nonces = context.chance(name, count, "nonces")
        self.paused = False
        self._number = plan.number
        self._client_delay_ns = plan.client_delay_ns
        self._inputs: list[inputs.Input] = []
        self._turn_due = self._restless = self._held = False
        self._timer: int | None = None
        self._alarm: int | None = None  # when `_on_timer` is called next
        self._turns, self._turns_at = 0, -1
        self._tokens = 0
        self._asked: dict[int, SimRequest] = {}
        self._published: ArtifactId | effects.PublishRefused | None = None
        self._soon()

    # Ways in

    def feed(self, what: inputs.Input) -> None:
        """Handle this input in this instant's turn, with whatever else comes in it."""
        if self.port.dead:
            return
        self._inputs.append(what)
        if not self._turn_due:
            self._soon()

    def do(self, what: inputs.Input) -> None:
        """Handle this input now; its consequences wait for the turn."""
        self._handle([what])
        self._soon()

    def publish(self, data: bytes, size: int) -> ArtifactId:
        """Publish an encoded artifact now. Raises PublicationRefusedError."""
        self._published = None
        self.do(inputs.Publish(data, size))
        if isinstance(self._published, effects.PublishRefused):
            raise PublicationRefusedError(self._published.code, self._published.message)
        if self._published is None:
            raise CoreFailedError(f"node {self.name}: a Publish got no answer")
        return self._published

    def pause(self) -> None:
        """Have no turns until `resume`; inputs wait."""
        self.paused = True
        self._hold()

    def resume(self) -> None:
        """Handle what came meanwhile, and go on."""
        self.paused = False
        self._release()
        self._soon()

    def stop(self) -> None:
        """The process has ended: drop its inputs."""
        self._release()
        self._inputs.clear()
        self._judge(restless=False)

    @property
    def waiting(self) -> int:
        """How many inputs are not handled yet."""
        return len(self._inputs)

    # The owner of a port

    def peer_up(self, peer: str, connection: int) -> None:
        """See `PortOwner`."""
        self.feed(inputs.PeerUp(peer, connection))
        self._tell(EventKind.PEER_UP, peer)

    def peer_down(self, peer: str, connection: int) -> None:
        """See `PortOwner`."""
        self.feed(inputs.PeerDown(peer, connection))
        self._tell(EventKind.PEER_DOWN, peer)

    def _tell(self, kind: EventKind, peer: str) -> None:
        """An event that a real node's peering tells of. Links that are there from the start of the world come up untold."""
        context = self.context
        if context.on_event is not None and context.timeline.now:
            context.on_event(self.name, self.count, effects.Emit(kind, None, peer), context.timeline.now)

    def requested(self, request: SimRequest) -> None:
        """See `PortOwner`."""
        end, route, peer = request.at, request.route, request.port.name
        if route is _SYNCED:
            self.port.answer(request, b"")
            self.feed(inputs.SyncedReceived(peer, end.id))
            return
        self._tokens = token = self._tokens + 1
        self._asked[token] = request
        self.feed(_RECEIVED[route](peer, end.id, token, request.body))

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """See `PortOwner`."""
        route = request.route
        if route is _SYNCED:
            self.feed(inputs.SyncedAnswered(request.token, body is not None))
        else:
            self.feed(_ANSWERED[route](request.token, body))

    # A turn

    def _soon(self) -> None:
        if self.paused:
            self._hold()
        elif not self._turn_due:
            self._turn_due = True
            timeline = self.context.timeline
            timeline.send(timeline.now, Incarnation._turn, self)

    def _turn(self) -> None:
        if self.paused or self.port.dead:
            self._turn_due = False
            self._hold()
            return
        now, core, waiting = self.context.timeline.now, self.core, self._inputs
        # Before the inputs: a core that spins must be stopped although each of its turns ends.
        if self._turns_at == now:
            self._count_turn(now)
        else:
            self._turns, self._turns_at = 1, now
        for _ in range(WAKES_PER_TURN):
            self._handle(waiting)
            due = core.next_wakeup()
            if due is None or due > now:
                break
            waiting.append(_WAKE)  # what the inputs left for the end of the turn: updates in batches
        self._turn_due = False
        if waiting:
            self._soon()
        if due is None:
            self._timer = None
            self._judge(restless=False)
        else:
            self._set_timer(due, now)
            self._judge(restless=core.next_wakeup(expiries=False) is not None)

    def _handle(self, waiting: list[inputs.Input]) -> None:
        """Handle these inputs, and those that are added meanwhile."""
        context, handle, execute, number = self.context, self.core.handle, self._execute, self._number
        now, trace, watch = context.timeline.now, context.trace.add, context.watch
        wall = EPOCH + now / NS
        while waiting:
            what = waiting.pop(0)
            context.inputs += 1
            try:
                answer = handle(what, now, wall)
            except Exception as error:
                # The trace shows what the core was given.
                trace(now, number, what)
                where = f"node {self.name}, input {type(what).__name__}, {now / NS:.6f} s after the start"
                raise CoreFailedError(f"{where}: {error!r}") from error
            trace(now, number, what, answer)
            if watch is not None:
                watch(self.core, what, answer, now)
            for effect in answer:
                execute[type(effect)](self, effect)

    def _count_turn(self, now: int) -> None:
        self._turns += 1
        if self._turns > TURNS_PER_INSTANT_MAX:
            raise CoreFailedError(f"node {self.name}: its core is due for ever, {now / NS:.6f} s after the start")

    def _set_timer(self, due: int, now: int) -> None:
        """Have a Wake at this time. A call that is planned for an earlier one is moved when it comes, not planned anew."""
        self._timer = due
        if self._alarm is None or due < self._alarm:
            self._alarm = max(due, now)
            self.context.timeline.at(self._alarm, Incarnation._on_timer, self)

    def _on_timer(self) -> None:
        now = self.context.timeline.now
        # Another call was planned for an earlier time, and has come before this one.
        if self._alarm is None or self._alarm > now or self.port.dead:
            return
        self._alarm = None
        if self._timer is None:
            return
        if self._timer <= now:
            self._timer = None
            self.feed(_WAKE)
        else:
            self._set_timer(self._timer, now)

    def _judge(self, *, restless: bool) -> None:
        if restless is not self._restless:
            self._restless = restless
            self.context.timeline.restless += 1 if restless else -1

    def _hold(self) -> None:
        """Count a paused node with inputs to handle among what keeps the world from being quiet."""
        if self.paused and self._inputs and not self._held:
            self._held = True
            self.context.timeline.flying += 1

    def _release(self) -> None:
        if self._held:
            self._held = False
            self.context.timeline.flying -= 1

    # Effects

    def _send_updates(self, effect: effects.SendUpdates) -> None:
        self.port.ask(Route.UPDATES, effect.token, effect.connection, effect.body)

    def _fetch(self, effect: effects.Fetch) -> None:
        timeout_ns = int(effect.timeout_s * NS)
        self.port.ask(Route.FETCH, effect.token, effect.connection, effect.body, timeout_ns)

    def _send_synced(self, effect: effects.SendSynced) -> None:
        self.port.ask(Route.SYNCED, effect.token, effect.connection, b"")

    def _send_digest(self, effect: effects.SendDigest) -> None:
        self.port.ask(Route.DIGEST, effect.token, effect.connection, effect.body)

    def _send_stripes(self, effect: effects.SendStripes) -> None:
        self.port.ask(Route.STRIPES, effect.token, effect.connection, effect.body)

    def _cancel(self, effect: effects.Cancel) -> None:
        self.port.cancel(effect.token)

    def _answer(self, effect: effects.AnswerUpdates | effects.AnswerDigest | effects.AnswerStripes) -> None:
        self.port.answer(self._asked.pop(effect.token), effect.body)

    def _answer_fetch(self, effect: effects.AnswerFetch) -> None:
        self.port.answer(self._asked.pop(effect.token), effect.body)

    def _note_published(self, effect: effects.Published) -> None:
        self._published = effect.artifact

    def _note_refused(self, effect: effects.PublishRefused) -> None:
        self._published = effect

    def _emit(self, effect: effects.Emit) -> None:
        context = self.context
        self.record.emitted(effect, context.timeline.now)
        if context.on_event is not None:
            context.on_event(self.name, self.count, effect, context.timeline.now)
        if effect.kind in MOVES:
            context.share_payload(effect, self.core.pool)

    # The client

    def _run_client(self, effect: effects.RunClient) -> None:
        self.record.client_told(effect.changes)
        if self._client_delay_ns:
            timeline = self.context.timeline
            # The snapshot is taken now, as a node's thread gets it, and the answer comes later.
            timeline.send(timeline.now + self._client_delay_ns, _finish_run, ClientRun(self, effect.changes))
        else:
            self._inputs.append(self.call_client(effect.changes, self.core.pool, self.context.wall))

    def call_client(self, changes: list[Change], pool: Pool, wall: float) -> inputs.ClientAnswered:
        """Call the client's `on_state_change`; what it raises becomes part of the answer."""
        try:
            actions = self.client.on_state_change(changes, pool, wall)
        except Exception as error:  # noqa: BLE001 - a user's client may raise anything
            return inputs.ClientAnswered([], 0, failed=repr(error))
        self.record.client_did(actions)
        return inputs.ClientAnswered(actions, 0)

    _execute: ClassVar[dict[type[effects.Effect], Callable[["Incarnation", Any], None]]] = {
        effects.SendUpdates: _send_updates,
        effects.Fetch: _fetch,
        effects.SendSynced: _send_synced,
        effects.SendDigest: _send_digest,
        effects.SendStripes: _send_stripes,
        effects.Cancel: _cancel,
        effects.AnswerUpdates: _answer,
        effects.AnswerFetch: _answer_fetch,
        effects.AnswerDigest: _answer,
        effects.AnswerStripes: _answer,
        effects.RunClient: _run_client,
        effects.Published: _note_published,
        effects.PublishRefused: _note_refused,
        effects.Emit: _emit,
    }


def _make_core(context: SimContext, plan: NodePlan, client: Client, count: int) -> Broadcast:
    core = _make_broadcast(context, plan, client, count)
    if plan.narrow_uplink:
        core.limit_uplink(True)
    return core


def _make_broadcast(context: SimContext, plan: NodePlan, client: Client, count: int) -> Broadcast:
    rng = context.chance(plan.name, count, "core")
    if plan.behaviour == HONEST:
        return Broadcast(client, plan.name, plan.settings, rng, unvalidated_bytes_per_peer=plan.quota)
    conduct = make_conduct(
        plan.behaviour, context.chance(plan.name, count, "adversary"), me=plan.name, seed=plan.behaviour_seed,
        client=client.name, settings=plan.settings,
    )  # fmt: skip
    return DishonestBroadcast(
        client, plan.name, plan.settings, rng, conduct=conduct, unvalidated_bytes_per_peer=plan.quota
    )


def _finish_run(run: ClientRun) -> None:
    incarnation = run.incarnation
    if not incarnation.port.dead:
        incarnation.feed(incarnation.call_client(run.changes, run.pool, run.wall))


_WAKE, _SYNCED = inputs.Wake(), Route.SYNCED
# By route.
_RECEIVED: tuple[Callable[[str, int, int, bytes], inputs.Input], ...] = (
    inputs.UpdatesReceived, inputs.FetchReceived, inputs.DigestReceived, inputs.DigestReceived, inputs.StripesReceived
)  # fmt: skip
_ANSWERED: tuple[Callable[[int, bytes | None], inputs.Input], ...] = (
    inputs.UpdatesAnswered, inputs.FetchAnswered, inputs.DigestAnswered, inputs.DigestAnswered, inputs.StripesAnswered
)  # fmt: skip
