"""A dishonest peer: it speaks the wire format over the same ports as a node, but not by the rules of the protocol.

It collects what honest peers announce, as an honest one would, and then acts and answers according to its `Manner`. A test
makes a subclass, or calls `say`, `claim`, `push_to` and `ask` itself.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from p2pnet.broadcast.artifact import part_count
from p2pnet.broadcast.stripes import Stripe
from p2pnet.model.ids import ArtifactId
from p2pnet.sim import liar_wire as wire
from p2pnet.sim.clients import ClientLike, client_maker
from p2pnet.sim.context import SimContext
from p2pnet.sim.port import Port, Route, SimRequest
from p2pnet.sim.quantities import NS

if TYPE_CHECKING:
    from random import Random

ACT_NS = (NS // 20, NS // 2)
"""Least and most time between two acts, in nanoseconds."""
COLLECT_BYTES_MAX = 4 << 20
"""Larger artifacts are not fetched."""
BODIES_KEPT = 200
"""Update requests, its own and of peers, kept to be repeated."""


class LiarKnowledge(msgspec.Struct):
    """An artifact a liar has heard of."""

    size: int
    """Encoded bytes, as a peer declared."""
    key: bytes
    data: bytes | None
    """The encoded artifact; None: it has not been fetched."""
    parts: dict[int, bytes]
    """The parts fetched so far, by number."""


class Manner(msgspec.Struct, frozen=True):
    """How a liar behaves: for each occasion a choice of functions, of which one is picked at random each time."""

    acts: tuple[Callable[["Liar"], None], ...] = ()
    """Called from time to time, to do something unasked."""
    serves: tuple[Callable[["Liar", str, wire.Question], bytes | None], ...] = ()
    """The answer to a peer's fetch; None: it is never answered."""
    answers: tuple[Callable[["Liar", int], bytes | None], ...] = ()
    """The answer to an update request of so many entries; None: it is never answered."""
    digests: tuple[Callable[["Liar", int], bytes | None], ...] = ()
    """The answer to a digest that expects so many statuses; None: it is never answered."""
    stripes: tuple[Callable[["Liar", str, list[Stripe]], None], ...] = ()
    """What it does with the stripes that a peer sent it; without any it keeps them to itself."""


class Liar:
    """A dishonest peer. Made by `World.liar`."""

    def __init__(
        self, context: SimContext, name: str, manner: Manner, rng: "Random", *, client: ClientLike, until_ns: int
    ) -> None:
        self.name = name
        self.manner = manner
        self.rng = rng
        self.context = context
        self.client = client_maker(client)(name)
        self.peers: dict[str, int] = {}
        """Peer -> id of the connection in use."""
        self.known: dict[ArtifactId, LiarKnowledge] = {}
        self.own: list[ArtifactId] = []
        """Valid artifacts of its own making, among `known`."""
        self.slots: dict[ArtifactId, int] = {}
        """The slot in which each artifact is claimed."""
        self.claimed: set[tuple[str, int, ArtifactId]] = set()
        """(peer, connection, artifact) of every claim so far."""
        self.bodies: list[bytes] = []
        """Update requests, its own and of peers, that it may repeat."""
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
        """Whether it still lies by itself."""
        return self.context.timeline.now < self._until_ns

    # To be overridden

    def act(self) -> None:
        """Do something unasked; called from time to time until it stops."""
        self.rng.choice(self.manner.acts)(self)

    def serve(self, peer: str, asked: wire.Question) -> bytes | None:
        """The answer to a fetch; None: it is never answered."""
        return self.rng.choice(self.manner.serves)(self, peer, asked) if self.manner.serves else wire.serve_nothing()

    def answer(self, peer: str, entries: list[wire.Heard]) -> bytes | None:  # noqa: ARG002 - for subclasses
        """The answer to an update request; None: it is never answered."""
        return self._lie(self.manner.answers, len(entries))

    def answer_digest(self, peer: str, body: bytes) -> bytes | None:  # noqa: ARG002 - for subclasses
        """The answer to a digest; None: it is never answered."""
        return self._lie(self.manner.digests, wire.count_digest(body))

    def answer_stripes(self, peer: str, body: bytes) -> bytes | None:
        """The answer to a request of stripes; None: it is never answered. By `manner.stripes` it may pass them on."""
        stripes = wire.read_stripes(body)
        for lie in (self.rng.choice(self.manner.stripes),) if self.manner.stripes and self.is_acting else ():
            lie(self, peer, stripes)
        return self._lie(self.manner.answers, len(stripes))

    # What it can do

    def stop(self) -> None:
        """Stop acting: it still serves fetches in its manner, and answers updates and digests properly."""
        self._until_ns = self.context.timeline.now

    def say(self, peer: str, body: bytes, route: Route = Route.UPDATES) -> int:
        """Send a request on the connection in use with this peer; the request's token."""
        self._tokens += 1
        self.port.ask(route, self._tokens, self.peers.get(peer, 0), body)
        if route is Route.UPDATES:
            self._keep(body)
        return self._tokens

    def next_commit(self) -> int:
        """A commit id greater than all before."""
        self.commit += 1
        return self.commit

    def claim(
        self, peer: str, artifacts: list[ArtifactId], *, size: int | None = None, have: int | None = None
    ) -> None:
        """Announce these artifacts, each in a slot of its own.

        `size`: declared in place of the true one. `have`: bitmap of the parts it claims to hold; None: all.
        """
        entries = []
        for artifact in artifacts:
            known = self.known[artifact]
            slot = self.slots.setdefault(artifact, len(self.slots))
            declared = known.size if size is None else size
            entries.append(wire.advert(slot, self.next_commit(), artifact, declared, known.key, have=have))
            self.claimed.add((peer, self.peers.get(peer, 0), artifact))
        for body in wire.batches(entries):
            self.say(peer, body)

    def push_to(self, peer: str, data: bytes, slot: int = 0) -> None:
        """Push these bytes as an artifact."""
        self.say(peer, wire.push(slot, self.next_commit(), data))

    def ask(self, peer: str, artifact: ArtifactId, part: int) -> None:
        """Fetch a part, to be kept in `known`."""
        self._collecting[self.say(peer, wire.question(artifact, part), Route.FETCH)] = (artifact, part)

    def make(self, data: bytes, keep_s: float = 3600.0) -> ArtifactId:
        """Make a valid artifact of these bytes, which no peer knows yet."""
        made = self.client.make("lie", data, nonce=self.rng.randbytes(16), now=self.context.wall, keep_s=keep_s)
        key = self.client.inspect(made).key
        artifact = wire.identify(self.client.name, made, key)
        self.known[artifact] = LiarKnowledge(len(made), key, made, wire.split(made))
        self.own.append(artifact)
        return artifact

    # The owner of a port

    def peer_up(self, peer: str, connection: int) -> None:
        """See `PortOwner`."""
        self.peers[peer] = connection

    def peer_down(self, peer: str, connection: int) -> None:
        """See `PortOwner`."""
        if self.peers.get(peer) == connection:
            del self.peers[peer]

    def requested(self, request: SimRequest) -> None:
        """See `PortOwner`."""
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
            case Route.STRIPES:
                reply = self.answer_stripes(peer, request.body)
            case Route.DIGEST:
                reply = self.answer_digest(peer, request.body)
            case Route.SYNCED:
                reply = answer
        if reply is not None:
            self.port.answer(request, reply)

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """See `PortOwner`."""
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
        """The answer of one of these functions, picked at random; the proper one if there are none or it has stopped."""
        if not lies or not self.is_acting:
            return bytes([wire.OK]) * count
        return self.rng.choice(lies)(self, count)

    def _hear(self, peer: str, entry: wire.Heard) -> None:
        if entry.artifact is None or entry.artifact in self.known:
            return
        # Pushed artifacts are known at once, announced ones are fetched.
        parts = {} if entry.data is None else wire.split(entry.data)
        self.known[entry.artifact] = LiarKnowledge(entry.size, entry.key, entry.data, parts)
        if entry.data is None and entry.size <= COLLECT_BYTES_MAX:
            for part in range(part_count(entry.size)):
                self.ask(peer, entry.artifact, part)

    def _keep(self, body: bytes) -> None:
        if len(self.bodies) < BODIES_KEPT:
            self.bodies.append(body)
        else:
            # A random one goes, so that old requests are kept for long as well.
            self.bodies[self.rng.randrange(BODIES_KEPT)] = body

    def _plan(self) -> None:
        # Irregular, so that its acts meet every phase of the protocol.
        least, most = ACT_NS
        at = self.context.timeline.now + least + int(self.rng.random() * (most - least))
        self.context.timeline.send(at, Liar._act, self)

    def _act(self) -> None:
        if self.is_acting:
            if self.peers:
                self.act()
            self._plan()
