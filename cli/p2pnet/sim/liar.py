"""Dishonest peers: they speak the wire format, and lie in one manner or in all of them."""

from random import Random
from typing import TYPE_CHECKING

from p2pnet.broadcast import ArtifactId, make_blob, wire
from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_count, part_length, part_list
from p2pnet.model.errors import SpecError
from p2pnet.model.limits import PART_BYTES
from p2pnet.sim.port import Port, Route, SimRequest
from p2pnet.sim.quantities import NS

if TYPE_CHECKING:
    from p2pnet.sim.world import World

MANNERS = (
    "wrong-bytes",  # answers fetches with other bytes, pushes garbage
    "silent",  # advertises what it does not have, and never answers a fetch
    "selective",  # publishes to some peers only, serves some questions only
    "half-serve",  # serves the first half of what it publishes
    "flood-slots",  # advertises ids that nobody has, in as many slots as it may
    "malformed",  # sends and answers what is no message
    "never-remove",  # announces for ever whatever it has heard of
    "replay",  # pushes again what it has heard, long after
    "refuse-acks",  # answers updates with busy, with nonsense, or never
)
SLOTS = 40  # that most liars play with; a flood uses many more
ADVERTS_MAX = 250  # in one request: 16 KiB


class Liar:
    """One dishonest peer. `heard` is what it has heard of; `mine` what it has really made, by id."""

    def __init__(self, world: "World", name: str, manner: str, *, up: float | None, down: float | None) -> None:
        if manner != "any" and manner not in MANNERS:
            raise SpecError(f"a liar's manner is one of {', '.join(MANNERS)}, or any; not {manner!r}")
        self.world = world
        self.name = name
        self.manner = manner
        self.rng = Random(f"{world.seed}/{name}/liar")
        self.stopped = False
        self.heard: dict[ArtifactId, int] = {}
        self.pushes: dict[ArtifactId, bytes] = {}
        self.mine: dict[ArtifactId, bytes] = {}
        self.prefix = id_prefix("blob")
        self._every_ns = int((0.05 + self.rng.random() * 0.5) * NS)
        self._port = Port(
            world.network, world.timeline, self, name, Random(f"{world.seed}/{name}/network"), up=up, down=down
        )
        self._commit = 0
        self._token = 0

    def start(self) -> None:
        """Begin to act."""
        self.world.network.attach(self._port)
        self.world.timeline.at(self.world.timeline.now + self._every_ns, self._act, None)

    def stop(self) -> None:
        """Act no more, and answer updates as it should; questions are still answered in its manner."""
        self.stopped = True

    def does(self, manner: str) -> bool:
        """Whether it lies in this manner now."""
        return self.manner == manner or (self.manner == "any" and self.rng.random() < 0.3)

    # --- the network's side (`Host`) ---

    def peer_up(self, peer: str, connection: int) -> None:
        """See `Host`."""

    def peer_down(self, peer: str, connection: int) -> None:
        """See `Host`."""

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """See `Host`."""

    def requested(self, request: SimRequest) -> None:
        """See `Host`."""
        if request.route is Route.UPDATES:
            self._on_updates(request)
        elif request.route is Route.FETCH:
            self._on_fetch(request)
        elif request.route is Route.DIGEST:
            self._on_digest(request)
        elif self.stopped or not self.does("refuse-acks"):
            self._port.answer(request, b"")

    def _on_updates(self, request: SimRequest) -> None:
        entries = wire.decode_updates(request.body)
        for entry in entries:
            content = request.body[entry.start : entry.end]
            if entry.kind == wire.Kind.ADVERT:
                self.heard[ArtifactId(content)] = entry.size
            elif entry.kind == wire.Kind.PUSH:
                artifact = artifact_id(self.prefix, entry.key, entry.size, part_list(content))
                self.heard[artifact], self.pushes[artifact] = entry.size, content
        rng, count = self.rng, len(entries)
        if self.stopped:
            self._port.answer(request, bytes(count))
        elif self.does("refuse-acks"):
            lie = rng.randrange(5)
            if lie:
                busy, unwanted = bytes([wire.Status.BUSY]) * count, bytes([wire.Status.UNWANTED]) * count
                self._port.answer(
                    request, (busy, unwanted, bytes([wire.Status.MALFORMED]), rng.randbytes(count))[lie - 1]
                )
        elif self.does("malformed"):
            self._port.answer(request, rng.randbytes(rng.randrange(5)))
        else:
            self._port.answer(request, bytes(count))

    def _on_fetch(self, request: SimRequest) -> None:
        asked = wire.decode_fetch(request.body)
        data = self.mine.get(asked.artifact) or self.pushes.get(asked.artifact)
        if self.does("silent") or (self.does("selective") and self.rng.random() < 0.5):
            return
        if self.does("malformed"):
            answer = [self.rng.randbytes(self.rng.randrange(40))]
        elif data is None or self.does("wrong-bytes"):
            answer = self._wrong_answer(asked)
        else:
            answer = self._true_answer(asked, data)
        self._port.answer(request, b"".join(answer))

    def _on_digest(self, request: SimRequest) -> None:
        ids = wire.decode_digest(request.body).ids
        if self.does("silent"):
            return
        lie = wire.Status.OK if self.does("selective") else wire.Status.ADVERTISE
        answer = self.rng.randbytes(7) if self.does("malformed") else bytes([lie]) * max(1, len(ids))
        self._port.answer(request, answer)

    # --- what it answers ---

    def _true_answer(self, asked: wire.FetchRequest, data: bytes) -> list[bytes]:
        """As an honest node would; whoever serves halves has the first half of the parts only."""
        count = part_count(len(data))
        most = max(1, count // 2) if self.does("half-serve") else count
        numbers = [number for number in asked.parts or range(min(asked.most, count)) if number < most]
        parts = [(number, data[number * PART_BYTES : (number + 1) * PART_BYTES]) for number in numbers]
        if asked.parts and not parts:
            return wire.encode_have(0 if self.rng.random() < 0.5 else (1 << most) - 1, len(data))
        return wire.encode_parts(b"" if asked.parts else part_list(data), parts)

    def _wrong_answer(self, asked: wire.FetchRequest) -> list[bytes]:
        size = self.heard.get(asked.artifact, 100)
        lie = self.rng.randrange(3)
        if lie == 0:
            return wire.encode_gone()
        if lie == 1:
            return wire.encode_have(0, size)
        numbers = [number for number in asked.parts or [0] if number < part_count(size)]
        parts = [(number, self.rng.randbytes(part_length(size, number))) for number in numbers]
        return wire.encode_parts(b"" if asked.parts else self.rng.randbytes(32 * part_count(size)), parts)

    # --- what it does by itself ---

    def _act(self, _: None) -> None:
        if self.stopped:
            return
        self.world.timeline.at(self.world.timeline.now + self._every_ns, self._act, None)
        peers = list(self._port.in_use)
        if not peers:
            return
        acts = {
            "wrong-bytes": (self._push_garbage, self._claim, self._publish),
            "silent": (self._claim, self._claim_unknown),
            "selective": (self._publish,),
            "half-serve": (self._publish,),
            "flood-slots": (self._flood,),
            "malformed": (self._garble,),
            "never-remove": (self._claim, self._publish),
            "replay": (self._replay, self._claim),
            "refuse-acks": (self._publish, self._empty, self._say_synced),
        }
        manner = self.rng.choice(MANNERS) if self.manner == "any" else self.manner
        self.rng.choice(acts[manner])(peers)

    def say(self, peer: str, body: bytes) -> None:
        """Send one update request."""
        self._ask(peer, Route.UPDATES, body)

    def _ask(self, peer: str, route: Route, body: bytes) -> None:
        self._token += 1
        self._port.ask(route, self._token, self._port.in_use[peer].id, body)

    def _advert(self, artifact: ArtifactId, size: int, *, slots: int = SLOTS) -> bytes:
        self._commit += 1
        have = None
        if self.rng.random() < 0.3:
            have = self.rng.getrandbits(part_count(size))
        return wire.encode_advert(self.rng.randrange(slots), self._commit, 0, size, artifact, have=have)

    def _claim(self, peers: list[str]) -> None:
        """Advertise what others have: the right size, mostly."""
        if self.heard:
            ids = self.rng.sample(list(self.heard), min(len(self.heard), self.rng.choice((1, 5, 50))))
            lies = (1, 70_000, 1_000_000)
            adverts = [
                self._advert(x, self.heard[x] if self.rng.random() < 0.8 else self.rng.choice(lies)) for x in ids
            ]
            self.say(self.rng.choice(peers), b"".join(adverts))

    def _claim_unknown(self, peers: list[str]) -> None:
        ids = [ArtifactId(self.rng.randbytes(32)) for _ in range(self.rng.choice((1, 10)))]
        body = b"".join(self._advert(x, self.rng.choice((10, 70_000, 300_000))) for x in ids)
        for peer in peers if self.rng.random() < 0.5 else peers[:1]:
            self.say(peer, body)

    def _flood(self, peers: list[str]) -> None:
        sizes = (10, 70_000, 300_000, 128 << 20)
        adverts = [
            self._advert(ArtifactId(self.rng.randbytes(32)), self.rng.choice(sizes), slots=20_000)
            for _ in range(self.rng.choice((1, 20, 150)))
        ]
        self.say(self.rng.choice(peers), b"".join(adverts))

    def _publish(self, peers: list[str]) -> None:
        """A real artifact, announced to all or to some."""
        size = self.rng.choice((100, 2_000, 150_000, 199_000))
        lives = self.rng.choice((5.0, 10_000.0))
        data = make_blob("liar", bytes(size), self.rng.randbytes(16), self.world.wall, self.world.wall + lives)
        artifact = artifact_id(self.prefix, b"", len(data), part_list(data))
        self.mine[artifact] = data
        some = self.rng.sample(peers, self.rng.randint(1, len(peers)))
        for peer in some if self.does("selective") else peers:
            if size < PART_BYTES and self.rng.random() < 0.5:
                self._push(peer, data)
            else:
                self._commit += 1
                self.say(peer, wire.encode_advert(self.rng.randrange(SLOTS), self._commit, 0, len(data), artifact))

    def _push(self, peer: str, data: bytes) -> None:
        self._commit += 1
        self.say(peer, b"".join(wire.encode_push(self.rng.randrange(SLOTS), self._commit, 0, data)))

    def _push_garbage(self, peers: list[str]) -> None:
        self._push(self.rng.choice(peers), self.rng.randbytes(self.rng.randint(1, 300)))

    def _replay(self, peers: list[str]) -> None:
        if self.pushes:
            self._push(self.rng.choice(peers), self.pushes[self.rng.choice(list(self.pushes))])

    def _garble(self, peers: list[str]) -> None:
        route = self.rng.choice((Route.UPDATES, Route.FETCH, Route.DIGEST))
        self._ask(self.rng.choice(peers), route, self.rng.randbytes(self.rng.randint(0, 200)))

    def _empty(self, peers: list[str]) -> None:
        self._commit += 1
        self.say(self.rng.choice(peers), wire.encode_empty(self.rng.randrange(SLOTS), self._commit))

    def _say_synced(self, peers: list[str]) -> None:
        self._ask(self.rng.choice(peers), Route.SYNCED, b"")
