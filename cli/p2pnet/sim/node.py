"""One honest node of a world: a real core, and a driver that obeys it as `node` does over QUIC."""

import copy
import importlib
from collections import deque
from collections.abc import Callable
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pnet.broadcast import (
    Artifact,
    ArtifactId,
    BeaconClient,
    BlobClient,
    Broadcast,
    BroadcastSettings,
    Client,
    effects,
    inputs,
)
from p2pnet.broadcast.effects import Effect
from p2pnet.broadcast.inputs import Input
from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.events import EventKind
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER
from p2pnet.sim.port import Port, Route, SimRequest
from p2pnet.sim.quantities import NS, Duration, nanoseconds

if TYPE_CHECKING:
    from p2pnet.sim.world import World

EPOCH_S = 1_700_000_000.0  # Unix time at a world's start
WAKES_PER_TURN = 4  # as in the driver of real nodes
TURNS_AT_ONE_INSTANT = 5_000  # a core that asks for more is in a busy loop
EVENTS_KEPT = 100_000  # of one node; the oldest leave first
NONCE_BYTES = 16
_TRACE = Struct(">QIBI")

ClientSource = str | Client | Callable[[], Client]
"""A name (`blob`, `beacon`), `module:Class`, a class, a function without arguments, or a client (copied for each start)."""


class SimEvent(NamedTuple):
    """What a core said happened."""

    at_s: float
    """Virtual seconds since the world's start."""
    kind: EventKind
    artifact: ArtifactId | None
    peer: str
    hop: int
    bytes: int
    detail: str


class PublishRefusedError(LocalError):
    """A node took no publication; `code` as in `effects.PublishRefused`."""

    def __init__(self, node: str, code: str, message: str) -> None:
        super().__init__(f"{node}: {message}")
        self.code = code


class CoreFailedError(Exception):
    """A core raised: a bug of the broadcast layer. The original error is its cause."""


class Node:
    """Made by `World.node`. It lives from its start to a `crash`, and again from a `restart`, with an empty memory."""

    def __init__(
        self,
        world: "World",
        name: str,
        index: int,
        client: ClientSource,
        *,
        settings: BroadcastSettings | None,
        quota: int | None,
        up: float | None,
        down: float | None,
        client_delay: Duration = 0,
    ) -> None:
        self.world = world
        self.name = name
        self._index = index
        self._source = client
        self._settings = settings
        self._quota = UNVALIDATED_BYTES_PER_PEER if quota is None else quota
        self._access = (up, down)
        self._client_delay_ns = nanoseconds(client_delay)
        self.incarnation = 0
        self.alive = False
        self.paused = False
        self.events: deque[SimEvent] = deque(maxlen=EVENTS_KEPT)
        self._core: Broadcast | None = None
        self._port: Port | None = None
        self._nonces = Random(f"{world.seed}/{name}/nonces")
        self._inputs: deque[Input] = deque()
        self._turn_due = False
        self._turns_here = 0
        self._turns_at = -1
        self._armed: int | None = None
        self._restless = False
        self._asked: dict[int, SimRequest] = {}
        self._tokens = 0
        self._published: list[ArtifactId | effects.PublishRefused] = []

    # --- what people do with it ---

    @property
    def core(self) -> Broadcast:
        """The broadcast of this incarnation, or of the last one of a node that is down. Read it; it is fed by the world."""
        if self._core is None:
            self.start()
        if self._core is None:
            raise LocalError(f"{self.name} has never been up")
        return self._core

    @property
    def client(self) -> Client:
        """The client of this incarnation."""
        return self.core.client

    @property
    def counters(self) -> dict[str, int]:
        """The core's counts by name."""
        return self.core.counters

    def publish(self, data: bytes, *, keep: Duration = "10m", name: str = "file") -> ArtifactId:
        """Publish these bytes now: the artifact's id. Raises PublishRefusedError, and LocalError on a node that is down."""
        self._must_live()
        made = self.client.make(
            name, data, nonce=self._nonces.randbytes(NONCE_BYTES), now=self.world.wall, keep_s=nanoseconds(keep) / NS
        )
        return self.publish_encoded(made, len(data))

    def publish_encoded(self, artifact: bytes, size: int) -> ArtifactId:
        """Publish an artifact that a client has encoded; `size`: bytes of user payload in it."""
        self._must_live()
        self._published = []
        self._handle(inputs.Publish(artifact, size))
        self._soon()
        answer = self._published[0]
        if isinstance(answer, effects.PublishRefused):
            raise PublishRefusedError(self.name, answer.code, answer.message)
        self.world.note_published(answer, self.name)
        return answer

    def purge(self, artifact: ArtifactId) -> None:
        """This node's own decision: it drops the artifact, refuses it from now on, and tells nobody."""
        self._must_live()
        self.feed(inputs.Purge(artifact))

    def holds(self, artifact: ArtifactId) -> bool:
        """Whether it is in the validated pool. False while the node is down."""
        return self.alive and artifact in self.core.pool.validated

    def held(self) -> list[Artifact]:
        """The validated pool, oldest first; nothing while the node is down."""
        return list(self.core.pool.validated.values()) if self.alive else []

    def peers(self) -> list[str]:
        """Peers whose connection is in use at both ends."""
        return self.world.network.peers_up(self.name)

    def crash(self) -> None:
        """The process is gone, and its memory; peers notice late, or when it is back."""
        if not self.alive:
            return
        self.alive = False
        self.world.network.detach(self._live_port())
        self._inputs.clear()
        self._asked.clear()
        self._armed = None
        self._set_restless(None)

    def restart(self) -> None:
        """A new incarnation with nothing in memory, which dials what it should be linked with."""
        if not self.alive:
            self.start()
            self.world.dial_all(self.name)

    def pause(self) -> None:
        """It does nothing, like a stopped process; what arrives waits."""
        self.paused = True

    def resume(self) -> None:
        """It goes on with what has arrived meanwhile."""
        self.paused = False
        if self.alive:
            self._soon()

    # --- its start ---

    def start(self) -> None:
        """Bring this incarnation up; the world does it when the node is first needed."""
        if self.alive:
            return
        self.incarnation += 1
        self.alive = True
        chance = f"{self.world.seed}/{self.name}/{self.incarnation}"
        settings = self._settings
        if settings is None:
            settings = BroadcastSettings(full_mesh=not self.world.is_sparse)
        client = make_client(self._source, self.name)
        rng = Random(f"{chance}/core")
        self._core = Broadcast(client, self.name, settings, rng, unvalidated_bytes_per_peer=self._quota)
        up, down = self._access
        network = self.world.network
        self._port = Port(network, self.world.timeline, self, self.name, Random(f"{chance}/network"), up=up, down=down)
        network.attach(self._port)
        self._turn_due = False
        self.feed(inputs.MembersChanged(self.world.member_names()))
        for artifact in self.world.withdrawn:
            self.feed(inputs.Withdraw(artifact))

    def _must_live(self) -> None:
        if not self.alive:
            if self.incarnation:
                raise LocalError(f"{self.name} is down: restart it first")
            self.start()

    def _live_port(self) -> Port:
        if self._port is None:
            raise LocalError(f"{self.name} has never been up")
        return self._port

    # --- the network's side (`Host`) ---

    def peer_up(self, peer: str, connection: int) -> None:
        """See `Host`."""
        self.feed(inputs.PeerUp(peer, connection))

    def peer_down(self, peer: str, connection: int) -> None:
        """See `Host`."""
        self.feed(inputs.PeerDown(peer, connection))

    def requested(self, request: SimRequest) -> None:
        """See `Host`."""
        end = request.at
        if request.route is Route.SYNCED:
            self._live_port().answer(request, b"")
            self.feed(inputs.SyncedReceived(end.peer, end.id))
            return
        self._tokens += 1
        self._asked[self._tokens] = request
        self.feed(_RECEIVED[request.route](end.peer, end.id, self._tokens, request.body))

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """See `Host`."""
        if request.route is Route.SYNCED:
            self.feed(inputs.SyncedAnswered(request.token, body is not None))
        else:
            self.feed(_ANSWERED[request.route](request.token, body))

    # --- the driver ---

    def feed(self, item: Input) -> None:
        """Have this handled at this instant, together with whatever else comes in it."""
        if self.alive:
            self._inputs.append(item)
            self._soon()

    def _soon(self) -> None:
        if not self._turn_due and not self.paused:
            self._turn_due = True
            self.world.timeline.send(self.world.timeline.now, self._turn, self.incarnation)

    def _turn(self, incarnation: int) -> None:
        if not self.alive or incarnation != self.incarnation:
            return
        self._turn_due = False
        if self.paused:
            return
        self._count_turn()
        now, core, waiting = self.world.timeline.now, self.core, self._inputs
        for _ in range(WAKES_PER_TURN):
            while waiting:
                self._handle(waiting.popleft())
            due = core.next_wakeup()
            if due is None or due > now:
                break
            waiting.append(_WAKE)
        if waiting:
            self._soon()
        self._arm(core.next_wakeup())
        self._set_restless(core.next_wakeup(lifetimes=False))

    def _count_turn(self) -> None:
        now = self.world.timeline.now
        self._turns_here = self._turns_here + 1 if now == self._turns_at else 0
        self._turns_at = now
        if self._turns_here > TURNS_AT_ONE_INSTANT:
            raise CoreFailedError(f"{self.name}: a busy loop at {self.world.now} s: {self.core.pending()[:5]}")

    def _arm(self, due: int | None) -> None:
        if due != self._armed:
            self._armed = due
            if due is not None:
                self.world.timeline.at(max(due, self.world.timeline.now), self._on_timer, (self.incarnation, due))

    def _on_timer(self, timer: tuple[int, int]) -> None:
        incarnation, due = timer
        if self.alive and incarnation == self.incarnation and due == self._armed:
            self._armed = None
            self.feed(_WAKE)

    def _set_restless(self, due: int | None) -> None:
        restless = due is not None
        if restless != self._restless:
            self._restless = restless
            self.world.timeline.restless += 1 if restless else -1

    def _handle(self, item: Input) -> None:
        world, now = self.world, self.world.timeline.now
        world.inputs += 1
        world.trace(_TRACE.pack(now, self._index, _CODES[type(item)], _size_of(item)))
        try:
            done = self.core.handle(item, now, world.wall)
        except Exception as error:
            raise CoreFailedError(f"{self.name}: {type(item).__name__} at {world.now} s: {error!r}") from error
        for effect in done:
            self._obey(effect)

    def _obey(self, effect: Effect) -> None:
        port = self._live_port()
        match effect:
            case effects.Emit():
                self._emit(effect)
            case effects.SendUpdates(token, _, connection, body, _):
                port.ask(Route.UPDATES, token, connection, b"".join(body))
            case effects.Fetch(token, _, connection, body, timeout_s):
                port.ask(Route.FETCH, token, connection, body, int(timeout_s * NS))
            case effects.SendSynced(token, _, connection):
                port.ask(Route.SYNCED, token, connection, b"")
            case effects.SendDigest(token, _, connection, body):
                port.ask(Route.DIGEST, token, connection, body)
            case effects.Cancel(token):
                port.cancel(token)
            case effects.AnswerUpdates(token, body) | effects.AnswerDigest(token, body):
                port.answer(self._asked.pop(token), body)
            case effects.AnswerFetch(token, parts):
                port.answer(self._asked.pop(token), b"".join(parts))
            case effects.RunClient(changes):
                self._run_client(changes)
            case effects.Published(artifact):
                self._published.append(artifact)
            case effects.PublishRefused():
                self._published.append(effect)

    def _emit(self, effect: effects.Emit) -> None:
        world = self.world
        event = SimEvent(
            world.now, effect.kind, effect.artifact, effect.peer, effect.hop, effect.bytes, effect.detail
        )  # fmt: skip
        self.events.append(event)
        world.trace(f"{effect.kind}{effect.peer}{effect.hop}".encode() + (effect.artifact or b""))
        if effect.kind is EventKind.VALIDATED and effect.artifact is not None:
            world.note_validated(effect.artifact, self.name)

    def _run_client(self, changes: list[Any]) -> None:
        if not self._client_delay_ns:
            self._inputs.append(self._call_client(changes, self.core.pool))
            return
        call = (self.incarnation, changes, self.core.pool.snapshot())
        self.world.timeline.send(self.world.timeline.now + self._client_delay_ns, self._client_done, call)

    def _client_done(self, call: tuple[int, list[Any], Any]) -> None:
        incarnation, changes, pool = call
        if self.alive and incarnation == self.incarnation:
            self.feed(self._call_client(changes, pool))

    def _call_client(self, changes: list[Any], pool: Any) -> inputs.ClientAnswered:
        try:
            actions = self.client.on_state_change(changes, pool, self.world.wall)
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            return inputs.ClientAnswered([], self._client_delay_ns, f"{type(error).__name__}: {error}")
        return inputs.ClientAnswered(actions, self._client_delay_ns)


def make_client(source: ClientSource, node: str) -> Client:
    """A client of this source for a node. Raises SpecError for a name that leads nowhere."""
    if isinstance(source, str):
        if source == "blob":
            return BlobClient()
        if source == "beacon":
            return BeaconClient(node)
        module, colon, name = source.partition(":")
        try:
            found = getattr(importlib.import_module(module), name) if colon else None
        except (ImportError, AttributeError) as error:
            raise SpecError(f"client {source!r}: {error}") from error
        if found is None:
            raise SpecError(f"client {source!r}: it is blob, beacon, or of the form module:Class")
        made: Client = found()
        return made
    return source() if callable(source) else copy.deepcopy(source)


def _size_of(item: Input) -> int:
    body = getattr(item, "body", None)
    return 0 if body is None else len(body)


_WAKE = inputs.Wake()
_RECEIVED: dict[Route, Callable[[str, int, int, bytes], Input]] = {
    Route.UPDATES: inputs.UpdatesReceived,
    Route.FETCH: inputs.FetchReceived,
    Route.DIGEST: inputs.DigestReceived,
}
_ANSWERED: dict[Route, Callable[[int, bytes | None], Input]] = {
    Route.UPDATES: inputs.UpdatesAnswered,
    Route.FETCH: inputs.FetchAnswered,
    Route.DIGEST: inputs.DigestAnswered,
}
_CODES: dict[type, int] = {kind: code for code, kind in enumerate(Input.__args__)}
