"""What all nodes of a world share: timeline, network, trace and payloads; and the plan from which a node is started."""

import sys
from array import array
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from p2pnet.broadcast import Broadcast, Client, Pool
from p2pnet.broadcast.effects import Effect, Emit
from p2pnet.broadcast.inputs import Input
from p2pnet.model.behaviours import HONEST, Behaviour
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId
from p2pnet.sim.chance import Chance
from p2pnet.sim.message_carriage import MessageCarriage
from p2pnet.sim.network import SimNetwork
from p2pnet.sim.quantities import NS
from p2pnet.sim.record import Deliveries
from p2pnet.sim.timeline import Timeline

EPOCH = 1_700_000_000.0
"""Unix seconds at which every world begins."""
_KEPT = frozenset({EventKind.VALIDATED, EventKind.PUBLISHED})
MOVES = _KEPT | {EventKind.REMOVED}
"""Kinds of events that say that an artifact has entered or left a validated pool."""
_LINES_KEPT = 8_192  # integers of the trace that wait to be hashed
_NOTHING, _BODY, _PIECES, _ARTIFACT, _EVENT = range(5)  # what a kind of input or effect has that counts
_EVENT_CODES = {kind: 128 + number << 32 for number, kind in enumerate(EventKind)}


EventSink = Callable[[str, int, Emit, int], None]
"""Told of every event of a world: node, which of its incarnations, the event, nanoseconds since the start of the world."""
CoreWatch = Callable[[Broadcast, Input, list[Effect], int], None]
"""Told of every input of every core: the core, the input, its effects, nanoseconds since the start of the world."""


class NodePlan(msgspec.Struct, frozen=True):
    """What every incarnation of one node is started from."""

    name: str
    number: int
    """Its number in its world, in the order nodes were made."""
    make_client: Callable[[str], Client]
    """Given the node's name."""
    settings: BroadcastSettings
    quota: int
    """Bytes of the unvalidated pool per peer."""
    up: float | None
    """Bandwidth of its access link in bits per second, as `down`; None: no limit."""
    down: float | None
    client_delay_ns: int
    """How long a call of the client takes; 0: it is called within the node's turn."""
    behaviour: Behaviour = HONEST
    behaviour_seed: int = 0
    """From which an adversary's choice of peers follows."""
    narrow_uplink: bool = False
    """Its access link limits what it sends, as `Broadcast.limit_uplink` is told."""


class TraceDigest:
    """A running BLAKE2b over the seed and every input and effect: time, node, kind, size and artifact id.

    Lines are gathered as integers and hashed in batches: a call of the hash for each costs more than the hash.
    """

    __slots__ = ("_artifacts", "_hash", "_lines", "_shapes")

    def __init__(self, seed: int) -> None:
        self._hash = blake2b(str(seed).encode(), digest_size=32)
        self._shapes: dict[type[Any], tuple[int, int]] = {}
        self._lines: list[int] = []
        self._artifacts: list[bytes] = []

    def add(self, now: int, node: int, what: Any, effects: Iterable[Any] = ()) -> None:
        """An input of the node with this number, and what followed from it."""
        shapes, base, line = self._shapes, node << 40, self._lines.append
        line(now)
        for one in (what, *effects):
            try:
                code, has = shapes[type(one)]
            except KeyError:
                code, has = self._shape(one)
            # Numbers and ids only, so that the digest is the same whatever Python makes of names and sets.
            if has is _BODY:
                line(base + code + len(one.body or b""))
            elif has is _PIECES:
                line(base + code + sum(map(len, one.body)))
            elif has is _NOTHING:
                line(base + code)
            else:
                line(base + (code if has is _ARTIFACT else _EVENT_CODES[one.kind] + one.bytes))
                if one.artifact:
                    self._artifacts.append(one.artifact)
        if len(self._lines) > _LINES_KEPT:
            self._take_in()

    def _shape(self, one: Any) -> tuple[int, int]:
        """The number of a kind of input or effect, from the order in which they first come, and what counts besides."""
        if isinstance(one, Emit):
            has = _EVENT
        elif hasattr(one, "body"):
            has = _PIECES if isinstance(one.body, list) else _BODY
        else:
            has = _ARTIFACT if hasattr(one, "artifact") else _NOTHING
        shape = self._shapes[type(one)] = (len(self._shapes) << 32, has)
        return shape

    def hex(self) -> str:
        """The digest so far, in hex."""
        found = self._hash.copy()
        for piece in self._pieces():
            found.update(piece)
        return found.hexdigest()

    def _take_in(self) -> None:
        for piece in self._pieces():
            self._hash.update(piece)
        self._lines.clear()
        self._artifacts.clear()

    def _pieces(self) -> tuple[bytes, bytes]:
        lines = array("Q", self._lines)
        if sys.byteorder == "big":
            lines.byteswap()
        return lines.tobytes(), b"".join(self._artifacts)


class SimContext:
    """Shared state of one world."""

    __slots__ = (
        "begin", "deliveries", "inputs", "network", "on_event", "payloads", "seed", "timeline", "trace", "watch", "withdrawn",
    )  # fmt: skip

    def __init__(
        self, seed: int, begin: Callable[[], None], on_event: EventSink | None = None, *, messages: bool = False
    ) -> None:
        self.seed = seed
        self.on_event = on_event
        """Takes the events in the place of the nodes' records; None: these keep them."""
        self.begin = begin
        """Starts the nodes and links that were made since the world last went on."""
        self.timeline = Timeline()
        self.network = SimNetwork(self.timeline, MessageCarriage(self.timeline) if messages else None)
        self.trace = TraceDigest(seed)
        self.inputs = 0
        """Inputs handled by all cores."""
        self.deliveries = Deliveries()
        self.payloads: dict[ArtifactId, bytes] = {}
        """One copy of every artifact in validated pools: ten thousand nodes would hold ten thousand equal ones."""
        self.watch: CoreWatch | None = None
        """Sees what every core does."""
        self.withdrawn: dict[ArtifactId, None] = {}
        """Artifacts withdrawn at every node; nodes that start later withdraw them too."""

    @property
    def wall(self) -> float:
        """The time of day, in Unix seconds."""
        return EPOCH + self.timeline.now / NS

    def share_payload(self, event: Emit, pool: Pool) -> None:
        """After an event of `MOVES`: make the pool hold the shared copy of what has entered it; equal ids mean equal bytes."""
        artifact = event.artifact
        if artifact is None:
            return
        if event.kind is EventKind.REMOVED:
            self.payloads.pop(artifact, None)
        elif event.kind in _KEPT and (found := pool.validated.get(artifact)):
            # The first node to have it provides the copy.
            found.data = self.payloads.setdefault(artifact, found.data)

    def chance(self, node: str, incarnation: int, purpose: str) -> Chance:
        """A random generator for one purpose of one incarnation: what it draws changes nothing for others."""
        return Chance(f"{self.seed}/{node}/{incarnation}/{purpose}")
