"""A dishonest peer: it speaks the wire format over the same ports as a node, and decides for itself what to say.

It collects what honest peers announce, as an honest one would, and then does with it what its `Manner` says. A test makes a
subclass, or calls `say`, `claim`, `push_to` and `ask` itself.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from p2pnet.broadcast.artifact import part_count
from p2pnet.model.ids import ArtifactId
from p2pnet.sim import liar_wire as wire
from p2pnet.sim.clients import ClientLike, client_maker
from p2pnet.sim.context import SimContext
from p2pnet.sim.port import Port, Route, SimRequest
from p2pnet.sim.quantities import NS

if TYPE_CHECKING:
    from random import Random

ACT_NS = (NS // 20, NS // 2)  # between two acts
COLLECT_BYTES_MAX = 4 << 20  # larger artifacts are only heard of
BODIES_KEPT = 200  # of its own and of peers, to be said again


class LiarKnowledge(msgspec.Struct):
    """An artifact a liar has heard of."""

    size: int
    """Encoded bytes, as a peer declared."""
    key: bytes
    data: bytes | None
    """None: not collected, or not yet."""
    parts: dict[int, bytes]
    """Collected so far."""


class Manner(msgspec.Struct, frozen=True):
    """How to lie: each time, one of each is picked by chance."""

    acts: tuple[Callable[["Liar"], None], ...] = ()
    """What to do of its own accord, every now and then."""
    serves: tuple[Callable[["Liar", str, wire.Question], bytes | None], ...] = ()
    """What to answer to a peer's fetch; None: nothing, ever."""
    answers: tuple[Callable[["Liar", int], bytes | None], ...] = ()
    """What to answer to an update of so many entries; None: nothing, ever."""
    digests: tuple[Callable[["Liar", int], bytes | None], ...] = ()
    """What to answer to a digest that expects so many statuses; None: nothing, ever."""


class Liar:
    """A host of the network. Made by `World.liar`."""

    def __init__(
        self, context: SimContext, name: str, manner: Manner, rng: "Random", *, client: ClientLike, until_ns: int
    ) -> None:
        self.name = name
        self.manner = manner
        self.rng = rng
        self.context = context
        self.client = client_maker(client)(name)
        self.peers: dict[str, int] = {}
        """The connections in use, by peer."""
        self.known: dict[ArtifactId, LiarKnowledge] = {}
        self.own: list[ArtifactId] = []
        """Valid artifacts of its own making, among `known`."""
        self.slots: dict[ArtifactId, int] = {}
        """The slot in which each artifact is claimed."""
        self.told: set[tuple[str, int, ArtifactId]] = set()
        """What was claimed to which peer on which connection."""
        self.bodies: list[bytes] = []
        """Update requests, its own and of peers, that it may say again."""
        self.commit = 0
        self._until_ns = until_ns
        self._tokens = 0
        self._collecting: dict[int, tuple[ArtifactId, int]] = {}
        network, timeline = context.network, context.timeline
        self.port = Port(network, timeline, self, name, rng, up=None, down=None)
        network.attach(self.port)
        if manner.acts:
            self._plan()

    @property
    def is_acting(self) -> bool:
        """It has not stopped yet."""
        return self.context.timeline.now < self._until_ns

    # To be overridden

    def act(self) -> None:
        """Do something; called every now and then until it stops."""
        self.rng.choice(self.manner.acts)(self)

    def serve(self, peer: str, asked: wire.Question) -> bytes | None:
        """The answer to a fetch; None: nothing, ever."""
        return self.rng.choice(self.manner.serves)(self, peer, asked) if self.manner.serves else wire.serve_nothing()

    def answer(self, peer: str, entries: list[wire.Heard]) -> bytes | None:  # noqa: ARG002 - for subclasses
        """The answer to an update; None: nothing, ever."""
        return self._lie(self.manner.answers, len(entries))

    def answer_digest(self, peer: str, body: bytes) -> bytes | None:  # noqa: ARG002 - for subclasses
        """The answer to a digest; None: nothing, ever."""
        return self._lie(self.manner.digests, wire.count_digest(body))

    # What it can do

    def stop(self) -> None:
        """End its acting: it still serves in its manner, and takes what comes as it should."""
        self._until_ns = self.context.timeline.now

    def say(self, peer: str, body: bytes, route: Route = Route.UPDATES) -> int:
        """Send a request on the connection in use with this peer; its token."""
        self._tokens += 1
        self.port.ask(route, self._tokens, self.peers.get(peer, 0), body)
        if route is Route.UPDATES:
            self._keep(body)
        return self._tokens

    def next_commit(self) -> int:
        """Greater than all before."""
        self.commit += 1
        return self.commit

    def claim(
        self, peer: str, artifacts: list[ArtifactId], *, size: int | None = None, have: int | None = None
    ) -> None:
        """Announce these, each in a slot of its own. `size`: in place of the true one; `have`: only these parts (bits)."""
        entries = []
        for artifact in artifacts:
            known = self.known[artifact]
            slot = self.slots.setdefault(artifact, len(self.slots))
            declared = known.size if size is None else size
            entries.append(wire.advert(slot, self.next_commit(), artifact, declared, known.key, have=have))
            self.told.add((peer, self.peers.get(peer, 0), artifact))
        for body in wire.batches(entries):
            self.say(peer, body)

    def push_to(self, peer: str, data: bytes, slot: int = 0) -> None:
        """Push these bytes."""
        self.say(peer, wire.push(slot, self.next_commit(), data))

    def ask(self, peer: str, artifact: ArtifactId, part: int) -> None:
        """Fetch a part, and keep it when it comes."""
        self._collecting[self.say(peer, wire.question(artifact, part), Route.FETCH)] = (artifact, part)

    def make(self, data: bytes, keep_s: float = 3600.0) -> ArtifactId:
        """A valid artifact of its own around these bytes, known to nobody else."""
        made = self.client.make("lie", data, nonce=self.rng.randbytes(16), now=self.context.wall, keep_s=keep_s)
        key = self.client.inspect(made).key
        artifact = wire.identify(self.client.name, made, key)
        self.known[artifact] = LiarKnowledge(len(made), key, made, wire.split(made))
        self.own.append(artifact)
        return artifact

    # A host

    def peer_up(self, peer: str, connection: int) -> None:
        """See `Host`."""
        self.peers[peer] = connection

    def peer_down(self, peer: str, connection: int) -> None:
        """See `Host`."""
        if self.peers.get(peer) == connection:
            del self.peers[peer]

    def requested(self, request: SimRequest) -> None:
        """See `Host`."""
        peer, answer = request.at.peer, b""
        match request.route:
            case Route.UPDATES:
                entries = wire.read_updates(self.client.name, request.body)
                reply = self.answer(peer, entries)
                self._keep(request.body)
                for entry in entries:
                    self._hear(peer, entry)
            case Route.FETCH:
                asked = wire.read_question(request.body)
                reply = None if asked is None else self.serve(peer, asked)
            case Route.DIGEST:
                reply = self.answer_digest(peer, request.body)
            case Route.SYNCED:
                reply = answer
        if reply is not None:
            self.port.answer(request, reply)

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """See `Host`."""
        artifact, part = self._collecting.pop(request.token, (None, 0))
        if artifact is None or body is None:
            return
        known = self.known[artifact]
        content = wire.read_part(body, known.size, part)
        if content is None or known.data is not None:
            return
        known.parts[part] = content
        if len(known.parts) == part_count(known.size):
            known.data = b"".join(known.parts[number] for number in sorted(known.parts))

    # Inside

    def _lie(self, lies: tuple[Callable[["Liar", int], bytes | None], ...], count: int) -> bytes | None:
        """One of these by chance, as long as it acts; the proper answer where there are none, and after."""
        if not lies or not self.is_acting:
            return bytes([wire.OK]) * count
        return self.rng.choice(lies)(self, count)

    def _hear(self, peer: str, entry: wire.Heard) -> None:
        if entry.artifact is None or entry.artifact in self.known:
            return
        parts = {} if entry.data is None else wire.split(entry.data)
        self.known[entry.artifact] = LiarKnowledge(entry.size, entry.key, entry.data, parts)
        if entry.data is None and entry.size <= COLLECT_BYTES_MAX:
            for part in range(part_count(entry.size)):
                self.ask(peer, entry.artifact, part)

    def _keep(self, body: bytes) -> None:
        if len(self.bodies) < BODIES_KEPT:
            self.bodies.append(body)
        else:
            self.bodies[self.rng.randrange(BODIES_KEPT)] = body

    def _plan(self) -> None:
        least, most = ACT_NS
        at = self.context.timeline.now + least + int(self.rng.random() * (most - least))
        self.context.timeline.send(at, Liar._act, self)

    def _act(self) -> None:
        if self.is_acting:
            if self.peers:
                self.act()
            self._plan()
