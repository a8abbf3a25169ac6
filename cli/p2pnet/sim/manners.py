"""`MANNERS`, the kinds of liars: a table made of small functions, each of which breaks one rule of the protocol."""

from itertools import chain

from p2pnet.broadcast.artifact import part_count
from p2pnet.broadcast.stripes import STRIPE_HEAD_BYTES, Stripe
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES, SLOTS_PER_PEER
from p2pnet.sim import liar_wire as wire
from p2pnet.sim.liar import Liar, Manner
from p2pnet.sim.port import Route
from p2pnet.sim.quantities import NS

CLAIMS_PER_ACT = 50
FLOOD_PER_ACT = 200
STRIPES_PER_ACT = 20

# Acts


def claim(liar: Liar) -> None:
    """Announce to every peer whatever it has heard of and not announced yet, as if it held it."""
    for peer in list(liar.peers):
        _claim_new(liar, peer, list(liar.known))


def claim_in_part(liar: Liar) -> None:
    """Announce a random artifact as held in part, with a random bitmap."""
    if liar.known:
        artifact = liar.rng.choice(list(liar.known))
        liar.claim(_peer(liar), [artifact], have=liar.rng.getrandbits(2_048))


def claim_to_some(liar: Liar) -> None:
    """As `claim`, but each artifact to half of the peers only."""
    for peer in list(liar.peers):
        _claim_new(liar, peer, [artifact for artifact in liar.known if _is_chosen(artifact, peer)])


def claim_wrong_size(liar: Liar) -> None:
    """Announce a random artifact with a wrong size."""
    if liar.known:
        artifact = liar.rng.choice(list(liar.known))
        size = liar.rng.choice((1, 70_000, 1_000_000, liar.known[artifact].size + 1))
        liar.claim(_peer(liar), [artifact], size=size)


def publish_to_some(liar: Liar) -> None:
    """Make a valid artifact, and push or announce it to half of the peers only."""
    artifact = liar.make(liar.rng.randbytes(liar.rng.choice((10, 2_000, 150_000))))
    data = liar.known[artifact].data or b""
    for peer in list(liar.peers):
        if _is_chosen(artifact, peer):
            if len(data) < PART_BYTES and liar.rng.random() < 0.5:
                liar.push_to(peer, data, liar.slots.setdefault(artifact, len(liar.slots)))
            else:
                liar.claim(peer, [artifact])


def flood(liar: Liar) -> None:
    """Announce random ids, in random slots, some of them above the limit."""
    sizes = (1, 1_000, 70_000, 200_000, 128 << 20)
    entries = [
        wire.advert(
            liar.rng.randrange(SLOTS_PER_PEER + 3),
            liar.next_commit(),
            ArtifactId(liar.rng.randbytes(32)),
            liar.rng.choice(sizes),
        )
        for _ in range(FLOOD_PER_ACT)
    ]
    peer = _peer(liar)
    for body in wire.batches(entries):
        liar.say(peer, body)


def say_garbage(liar: Liar) -> None:
    """Send random bytes as a request."""
    route = liar.rng.choice((Route.UPDATES, Route.UPDATES, Route.FETCH, Route.DIGEST))
    liar.say(_peer(liar), liar.rng.randbytes(liar.rng.randrange(1, 200)), route)


def push_garbage(liar: Liar) -> None:
    """Push an artifact that no client can read."""
    liar.push_to(_peer(liar), liar.rng.randbytes(liar.rng.randrange(1, 300)), liar.rng.randrange(100))


def say_empty(liar: Liar) -> None:
    """Announce a random slot as empty."""
    liar.say(_peer(liar), wire.empty(liar.rng.randrange(len(liar.slots) + 2), liar.next_commit()))


def say_synced(liar: Liar) -> None:
    """Send `synced`, whatever has not been answered yet."""
    liar.say(_peer(liar), b"", Route.SYNCED)


def say_again(liar: Liar) -> None:
    """Repeat an earlier update request, its own or a peer's, byte for byte."""
    if liar.bodies:
        liar.say(_peer(liar), liar.rng.choice(liar.bodies))


def ask_for_much(liar: Liar) -> None:
    """Fetch the same part twenty times."""
    if liar.known:
        artifact, peer = liar.rng.choice(list(liar.known)), _peer(liar)
        for _ in range(20):
            liar.ask(peer, artifact, 0)


def list_known(liar: Liar) -> None:
    """List artifacts that it has heard of, as if it were about to send what the peer lacks of them."""
    if liar.known:
        ids = list(liar.known)
        liar.say(_peer(liar), wire.halves(liar.rng.sample(ids, min(len(ids), CLAIMS_PER_ACT))), Route.DIGEST)


def flap(liar: Liar) -> None:
    """Drop a connection and dial again within a second."""
    network, timeline = liar.context.network, liar.context.timeline
    link = network.find(liar.name, _peer(liar))
    network.close(link)
    timeline.send(timeline.now + int(liar.rng.random() * NS), network.redial, link)


def deal(liar: Liar) -> None:
    """Make a valid artifact and deal it out in stripes, some of them wrong, missing or twice."""
    artifact = liar.make(liar.rng.randbytes(liar.rng.choice((20_000, 150_000))))
    known, peers = liar.known[artifact], list(liar.peers)
    data = known.data or b""
    slot = liar.slots.setdefault(artifact, len(liar.slots))
    for peer, stripes in zip(peers, wire.cut(artifact, data, len(peers)), strict=True):
        if liar.rng.random() < 0.9:
            liar.say(peer, wire.scattered(slot, liar.next_commit(), data, known.key, artifact))
        for stripe in stripes:
            for _ in range(liar.rng.choice((0, 1, 1, 1, 2))):
                is_wrong = liar.rng.random() < 0.2
                liar.say(peer, _spoilt(liar, stripe) if is_wrong else stripe, Route.STRIPES)


def flood_stripes(liar: Liar) -> None:
    """Send stripes of artifacts that nobody has announced."""
    for _ in range(STRIPES_PER_ACT):
        artifact = ArtifactId(liar.rng.randbytes(32))
        body = wire.stripe(artifact, liar.rng.randrange(100), 0, b"", liar.rng.randbytes(2048), first_hand=True)
        liar.say(_peer(liar), body, Route.STRIPES)


# What it does with the stripes it is dealt


def pass_on_wrong(liar: Liar, sender: str, stripes: list[Stripe]) -> None:
    """Pass them on to all other peers, each with a byte changed."""
    _pass_on(liar, sender, [_spoilt(liar, stripe) for stripe in _encoded(liar, stripes)])


def pass_on_twice(liar: Liar, sender: str, stripes: list[Stripe]) -> None:
    """Pass them on to all other peers twice, and say that they are first hand."""
    _pass_on(liar, sender, _encoded(liar, stripes) * 2)


def pass_on_to_some(liar: Liar, sender: str, stripes: list[Stripe]) -> None:
    """Pass each on to one peer."""
    others = [peer for peer in liar.peers if peer != sender]
    for stripe in _encoded(liar, stripes) if others else ():
        liar.say(liar.rng.choice(others), stripe, Route.STRIPES)


# Answers to fetches


def serve_truth(liar: Liar, _: str, asked: wire.Question) -> bytes:
    """The answer of an honest holder, also for artifacts that have been withdrawn."""
    known = liar.known.get(asked.artifact)
    if known is None or known.data is None:
        return wire.serve_nothing()
    return wire.serve(asked, known.size, wire.true_list(known.data), known.parts)


def serve_half(liar: Liar, _: str, asked: wire.Question) -> bytes:
    """The true part list and every second part; for the others "not yet", for ever."""
    known = liar.known.get(asked.artifact)
    if known is None or known.data is None:
        return wire.serve_nothing()
    half = {number: part for number, part in known.parts.items() if number % 2}
    return wire.serve(asked, known.size, wire.true_list(known.data), half)


def serve_some(liar: Liar, peer: str, asked: wire.Question) -> bytes:
    """As `serve_truth` for half of the peers, different ones for each artifact; `gone` for the others."""
    return serve_truth(liar, peer, asked) if _is_chosen(asked.artifact, peer) else wire.serve_nothing()


def serve_wrong_bytes(liar: Liar, _: str, asked: wire.Question) -> bytes:
    """A random part list, and random parts of the right length."""
    known = liar.known.get(asked.artifact)
    size = 10 if known is None else known.size
    parts = {number: liar.rng.randbytes(max(0, min(PART_BYTES, size - number * PART_BYTES))) for number in asked.parts}
    return wire.serve(asked, size, liar.rng.randbytes(32 * part_count(size)), parts)


def serve_later(liar: Liar, _: str, asked: wire.Question) -> bytes:
    """Always "not yet", with an empty or a random bitmap."""
    known = liar.known.get(asked.artifact)
    return wire.serve_later(10 if known is None else known.size, liar.rng.choice((0, liar.rng.getrandbits(2_048))))


def serve_garbage(liar: Liar, _: str, asked: wire.Question) -> bytes:  # noqa: ARG001 - whatever it is
    """Random bytes."""
    return liar.rng.randbytes(liar.rng.randrange(40))


def serve_silence(liar: Liar, _: str, asked: wire.Question) -> None:
    """No answer."""


def serve_gone(liar: Liar, _: str, asked: wire.Question) -> bytes:  # noqa: ARG001 - whatever it is
    """`gone`."""
    return wire.serve_nothing()


# Answers to updates and digests


def say_ok(_: Liar, count: int) -> bytes:
    """OK for every entry."""
    return bytes([wire.OK]) * count


def say_have(_: Liar, count: int) -> bytes:
    """HAVE for every entry."""
    return bytes([wire.HAVE]) * count


def say_busy(_: Liar, count: int) -> bytes:
    """BUSY for every entry."""
    return bytes([wire.BUSY]) * count


def say_unwanted(_: Liar, count: int) -> bytes:
    """UNWANTED for every entry."""
    return bytes([wire.UNWANTED]) * count


def say_malformed(_: Liar, count: int) -> bytes:  # noqa: ARG001 - whatever they are
    """MALFORMED for the whole request."""
    return bytes([wire.MALFORMED])


def say_anything(liar: Liar, count: int) -> bytes:
    """A random status for every entry."""
    return bytes(liar.rng.randrange(wire.STATUSES) for _ in range(count))


def say_noise(liar: Liar, count: int) -> bytes:  # noqa: ARG001 - whatever they are
    """Random bytes."""
    return liar.rng.randbytes(liar.rng.randrange(5))


def say_advertise(_: Liar, count: int) -> bytes:
    """ADVERTISE for every entry or listed id."""
    return bytes([wire.ADVERTISE]) * count


def say_nothing(_: Liar, count: int) -> None:
    """No answer."""


# Manners

MANNERS: dict[str, Manner] = {
    "wrong-bytes": Manner((claim,), (serve_wrong_bytes,)),
    "silent": Manner((claim,), (serve_silence,), digests=(say_nothing,)),
    "selective": Manner((claim_to_some, publish_to_some), (serve_some,)),
    "half-serve": Manner((claim, publish_to_some), (serve_half,)),
    "flood-slots": Manner((flood,), (serve_gone,)),
    "malformed": Manner((claim, say_garbage, push_garbage), (serve_garbage,), (say_noise, say_malformed), (say_noise,)),
    "never-remove": Manner((claim,), (serve_truth,), digests=(say_advertise,)),
    "replay": Manner((claim, say_again), (serve_truth,)),
    "bad-relay": Manner((), (serve_gone,), stripes=(pass_on_wrong, pass_on_twice, pass_on_to_some)),
    "bad-dealer": Manner((deal, flood_stripes), (serve_half, serve_truth)),
    "refuse-acks": Manner((), (serve_gone,), (say_busy, say_unwanted, say_nothing)),
}
"""By name; each is one kind of dishonesty, and `random` all of them at once."""
MANNERS["random"] = Manner(
    (
        *dict.fromkeys(chain.from_iterable(manner.acts for manner in MANNERS.values())),
        claim_wrong_size, claim_in_part, say_empty, say_synced, ask_for_much, flap,
    ),
    (*dict.fromkeys(chain.from_iterable(manner.serves for manner in MANNERS.values())), serve_later),
    (say_ok, say_busy, say_unwanted, say_advertise, say_malformed, say_anything, say_noise, say_nothing),
    (say_ok, say_advertise, say_anything, say_noise, say_nothing),
    (pass_on_wrong, pass_on_twice, pass_on_to_some),
)  # fmt: skip

EDGE_MANNERS: dict[str, Manner] = {
    "has-it-all": Manner((), (serve_gone,), (say_have,), (say_have,)),
    "wants-it-all": Manner((ask_for_much,), (serve_gone,), (say_ok,), (say_advertise,)),
    "sends-nothing": Manner((list_known,), (serve_gone,), (say_ok,), (say_advertise, say_have)),
}
"""Those about eager and lazy edges: they do what `random` does, but every time."""
MANNERS |= EDGE_MANNERS


def _peer(liar: Liar) -> str:
    return liar.rng.choice(list(liar.peers))


def _encoded(liar: Liar, stripes: list[Stripe]) -> list[bytes]:
    """Stripes as requests again, for the artifacts it knows."""
    ids = {artifact[: len(stripe.short)]: artifact for artifact in liar.known for stripe in stripes[:1]}
    return [
        wire.stripe(
            ids[stripe.short], stripe.first, stripe.level, bytes(stripe.proof), bytes(stripe.data), first_hand=True
        )
        for stripe in stripes
        if stripe.short in ids
    ]


def _spoilt(liar: Liar, stripe: bytes) -> bytes:
    """The same with one byte of its end changed."""
    at = -1 - liar.rng.randrange(min(100, len(stripe) - STRIPE_HEAD_BYTES))
    spoilt = bytearray(stripe)
    spoilt[at] ^= 1 + liar.rng.randrange(255)
    return bytes(spoilt)


def _pass_on(liar: Liar, sender: str, bodies: list[bytes]) -> None:
    for peer in list(liar.peers):
        for body in bodies if peer != sender else ():
            liar.say(peer, body, Route.STRIPES)


def _is_chosen(artifact: ArtifactId, peer: str) -> bool:
    """Whether the peer is in the half of the peers that is chosen for this artifact, the same every time."""
    return (artifact[0] + sum(peer.encode())) % 2 == 0


def _claim_new(liar: Liar, peer: str, artifacts: list[ArtifactId]) -> None:
    connection = liar.peers[peer]
    new = [artifact for artifact in artifacts if (peer, connection, artifact) not in liar.claimed]
    if new:
        liar.claim(peer, new[:CLAIMS_PER_ACT])
