"""Random episodes of a world: many kinds of bad luck, then quiet, and then the promise must hold.

An episode is a function of its number alone. `play(number)` raises AssertionError with the sentences that were broken.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
from tests.sim.clients import Choosy, Moody, Producer, Stripper

from p2pnet.broadcast import ArtifactId, BroadcastSettings
from p2pnet.model.errors import LocalError
from p2pnet.sim import MANNERS, Node, World
from p2pnet.sim.manners import EDGE_MANNERS

STRIPPED = 0.25  # share of the episodes of blobs whose client sends stripped forms
EDGE_LIARS = 0.3  # share of the sparse episodes with one more liar, which lies about edges
SMALL, PART, LARGE = (10, 700, 1200), (60_000, 70_000, 140_000), (200_000, 500_000, 1_300_000)
SCATTERED = 0.4  # share of the meshes that deal artifacts above 16 KiB out in stripes
TREE_AFTER = 3  # artifacts of a publisher, after which its tree must be whole
SLOTS_AMPLE = 1_000
INPUTS_PER_STEP = 200_000  # of all nodes, in one step or while settling: what polls never comes to rest


class Episode:
    """One world and what is done to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rng = Random(f"episode {number}")
        self.world = World(seed=number)
        self.nodes: dict[str, Node] = {}
        self.down: set[str] = set()
        self.cuts: set[tuple[str, str]] = set()
        self.known: list[ArtifactId] = []
        self.owed: list[tuple[ArtifactId, float]] = []
        self.sizes: tuple[int, ...] = SMALL
        self.keep = "1h"
        self.moody: list[Moody] = []
        self.is_produced = number % 15 == 10
        """A ring in which some make what others bring them just then."""
        self.is_flickering = number % 15 == 13
        """Artifacts leave while they are on their way, and messages overtake each other."""
        self.is_replayed = number % 15 == 6
        """Garbage and withdrawn artifacts come again and again."""

    def name(self) -> str:
        return self.rng.choice(sorted(self.nodes))

    def up(self) -> list[Node]:
        return [node for name, node in sorted(self.nodes.items()) if name not in self.down]

    # What is done to it

    def publish_many(self) -> None:
        """At one node and instant."""
        node = self.rng.choice(self.up())
        for _ in range(self.rng.randint(2, 6)):
            self.publish(node)

    def publish(self, node: Node | None = None) -> None:
        node = node or self.rng.choice(self.up())
        keep = self.rng.choice((self.keep, self.keep, self.keep, "20s"))
        word = self.rng.choice(("file", "file", "make 96000", "make 640", "make 320000"))
        data = self.rng.randbytes(min(64, self.rng.choice(self.sizes))).ljust(self.rng.choice(self.sizes), b"x")
        try:
            self.known.append(node.publish(data, keep=keep, name=word if self.word_makes else "file"))
        except LocalError as refusal:
            reasons = (node.core.waiting_for_slot(), "withdrawn" in str(refusal), self.moody)
            if not any(reasons):
                raise AssertionError(f"{node.name} refused without need: {refusal}") from refusal

    word_makes = False

    def flicker(self) -> None:
        """What has just been published is purged, while it is on its way."""
        node, before = self.rng.choice(self.up()), len(self.known)
        self.publish(node)
        self.step(self.rng.choice((0.01, 0.06, 0.2)))
        for artifact in self.known[before:]:
            node.purge(artifact)

    def purge(self) -> None:
        if self.known:
            self.rng.choice(self.up()).purge(self.rng.choice(self.known[-6:]))

    def withdraw(self) -> None:
        if self.known:
            self.world.withdraw(self.rng.choice(self.known[-6:]))

    def pair(self) -> tuple[str, str]:
        return self.rng.choice(self.world.links())

    def cut(self) -> None:
        pair = self.pair()
        self.cuts.add(pair)
        self.world.cut(*pair)

    def heal(self) -> None:
        for pair in sorted(self.cuts):
            if self.rng.random() < 0.7:
                self.cuts.discard(pair)
                self.world.heal(*pair)

    def replace(self) -> None:
        self.world.replace(*self.pair())

    def crash(self) -> None:
        up = self.up()
        if len(up) > 2:
            node = self.rng.choice(up)
            self.down.add(node.name)
            node.crash()

    def restart(self) -> None:
        for name in sorted(self.down):
            if self.rng.random() < 0.7:
                self.down.discard(name)
                self.nodes[name].restart()

    def restart_at_once(self) -> None:
        node = self.rng.choice(self.up())
        node.crash()
        node.restart()

    def join(self) -> None:
        if len(self.nodes) < 9:
            name = f"late{len(self.nodes)}"
            others = self.rng.sample(sorted(self.nodes), min(len(self.nodes), 3))
            self.nodes[name] = self.make(name)
            for other in sorted(self.nodes) if self.is_mesh else others:
                if other != name:
                    self.world.link(name, other, **self.link)

    def pause(self) -> None:
        node = self.rng.choice(self.up())
        node.pause()
        self.world.run(self.rng.choice((0.3, 2, 20)))
        node.resume()

    def mood(self) -> None:
        for client in self.moody:
            client.mood = self.rng.choice(("", "inspect", "bouncer", "run", "inspect bouncer run"))

    # The whole

    def build(self) -> Callable[[], None]:
        rng = self.rng
        self.is_mesh = rng.random() < 0.5
        count = rng.randint(3, 8)
        self.link = {
            "delay": rng.choice(("2ms", "20ms", "60ms", "150ms")), "jitter": rng.choice(("0ms", "2ms")),
            "loss": rng.choice((0.0, 0.0, 0.02)),
            "lost_requests": rng.choice((0.0, 0.0, 0.0, 0.03)), "lost_answers": rng.choice((0.0, 0.0, 0.0, 0.03)),
        }  # fmt: skip
        self.speed = rng.choice((None, None, "20Mbit", "100Mbit"))
        self.quota = rng.choice((None, None, "400kB", "250kB"))
        slots = rng.choice((10_000, 10_000, 10_000, 24, 5))
        relay = rng.choice(("auto", "auto", "auto", "advert", "push"))
        push_below = rng.choice((None, None, None, 400_000))
        self.settings = BroadcastSettings(
            full_mesh=self.is_mesh, slots_per_peer=slots, relay=relay, push_below=push_below
        )  # fmt: skip
        self.sizes = rng.choice((SMALL, SMALL + PART, SMALL + PART + LARGE, LARGE))
        self.client = rng.choice(("blob", "blob", "blob", "produce", "moody", "choosy"))
        self.word_makes = self.client == "produce"
        # Drawn apart, so that episodes stay what they were.
        if self.is_mesh and Random(f"stripes in episode {self.number}").random() < SCATTERED:
            self.settings = msgspec.structs.replace(self.settings, relay="scatter")
        if self.is_replayed:
            self.is_mesh, self.sizes, self.client = True, SMALL, "blob"
            self.settings = BroadcastSettings()
        if self.is_produced:
            self.is_mesh, self.sizes, self.client, self.word_makes, count = False, SMALL, "produce", True, 7
            self.settings = BroadcastSettings(full_mesh=False)
        if self.is_produced or self.is_flickering:
            self.link |= {"delay": "40ms", "jitter": "20ms", "loss": 0.0 if self.is_produced else 0.2}
        for i in range(count):
            self.nodes[f"n{i}"] = self.make(f"n{i}")
        if self.is_mesh:
            self.world.full_mesh(**self.link)
        else:
            self.sparse(count)
        return self.play_out

    def make(self, name: str) -> Node:
        client: object = "blob"
        if self.client == "produce":
            client = Producer
        elif self.client == "blob" and Random(f"forms in episode {self.number}").random() < STRIPPED:
            client = Stripper
        elif self.client == "choosy":
            client = Choosy
        elif self.client == "moody":
            client = self.make_moody
        more = {} if self.quota is None else {"quota": self.quota}
        return self.world.node(name, client=client, settings=self.settings, up=self.speed, down=self.speed, **more)

    def make_moody(self) -> Moody:
        client = Moody()
        self.moody.append(client)
        return client

    def sparse(self, count: int) -> None:
        """A ring, and some chords."""
        names = [f"n{i}" for i in range(count)]
        for i, name in enumerate(names):
            self.world.link(name, names[(i + 1) % count], **self.link)
        for _ in range(0 if self.is_produced else self.rng.randint(0, count)):
            a, b = self.rng.sample(names, 2)
            self.world.link(a, b, **self.link)

    def play_out(self) -> None:
        rng = self.rng
        liars = []
        if self.number % 3 == 0:
            manners = dict.fromkeys(
                rng.choice(sorted(MANNERS.keys() - EDGE_MANNERS.keys())) for _ in range(rng.choice((1, 1, 2)))
            )
            for i, manner in enumerate(["malformed", "replay"] if self.is_replayed else manners):
                liar = self.world.liar(f"liar{i}", manner=manner)
                liars.append(liar)
                for name in sorted(self.nodes):
                    if self.is_mesh or rng.random() < 0.6:
                        self.world.link(liar.name, name, **self.link)
        # Drawn apart, so that episodes stay what they were.
        apart = Random(f"edges in episode {self.number}")
        if not self.is_mesh and apart.random() < EDGE_LIARS:
            liar = self.world.liar("edges", manner=apart.choice(sorted(EDGE_MANNERS)))
            liars.append(liar)
            for name in apart.sample(sorted(self.nodes), min(4, len(self.nodes))):
                self.world.link(liar.name, name, **self.link)
        self.world.run(rng.choice((0.2, 1.0)))
        common = [self.publish] * 5 + [self.publish_many, self.purge, self.withdraw]
        trouble = [
            self.cut,
            self.cut,
            self.heal,
            self.heal,
            self.replace,
            self.replace,
            self.crash,
            self.restart,
            self.restart,
        ]
        trouble += [self.restart_at_once, self.join, self.pause]
        if self.moody or self.client == "moody":
            trouble += [self.mood] * 4
        if self.is_replayed:
            common = [self.publish] * 3 + [self.withdraw] * 2
        if self.is_produced:
            common = [self.publish]
        if self.is_flickering:
            common = [self.publish, self.flicker]
        is_calm = self.is_replayed or self.is_produced or self.is_flickering or rng.random() < 0.25
        for _ in range(40 if self.is_replayed else rng.randint(6, 26)):
            self.step(rng.choice((0.0, 0.02, 0.1, 0.4, 1.5, 4.0)))
            rng.choice(common if is_calm or rng.random() < 0.55 else trouble)()
        self.end(liars)

    def step(self, seconds: float) -> None:
        before = self.world.inputs
        self.world.run(seconds)
        assert self.world.inputs - before < INPUTS_PER_STEP, f"{self.world.inputs - before} inputs in {seconds} s"

    def end(self, liars: list) -> None:
        """Trouble ends, mostly: some links stay cut, some nodes down."""
        rng = self.rng
        for client in self.moody:
            client.mood = ""
        if rng.random() < 0.8:
            for name in sorted(self.down):
                self.nodes[name].restart()
            self.down.clear()
        if rng.random() < 0.8:
            for pair in sorted(self.cuts):
                self.world.heal(*pair)
        if self.client == "choosy":
            self.step(5)
            for node in self.up():
                node.publish(b"open", name="now", keep=self.keep)
        for liar in liars:
            liar.stop()
        before = self.world.inputs
        self.world.settle(limit="2h")
        spent = self.world.inputs - before
        assert spent < INPUTS_PER_STEP, f"{spent} inputs until it was quiet"
        missed = self.world.broken()
        assert not missed, missed
        broken = self.world.broken_rules()
        assert not broken, broken
        plain = self.client == "blob" and self.settings.relay == "auto" and self.settings.slots_per_peer > SLOTS_AMPLE
        if not (self.is_mesh or liars) and plain and not (self.link["loss"] or self.link["lost_requests"]):
            self.look_at_trees(Random(f"trees in episode {self.number}"))

    def look_at_trees(self, apart: Random) -> None:
        """When nothing happens but that one node publishes, its tree is whole before long: nobody is left to a repair."""
        node = apart.choice(self.up())
        for number in range(2 * TREE_AFTER + 1):
            if number == TREE_AFTER:  # a link of the tree, perhaps
                self.world.cut(*apart.choice(self.world.links()))
                self.world.settle(limit="1h")
            before = self.repairs()
            artifact = node.publish(apart.randbytes(100), keep="1h")
            self.world.settle(limit="1h")
            mended = self.repairs() - before
            assert mended == 0 or number < 2 * TREE_AFTER, f"{mended} nodes got {artifact.hex()[:8]} by a repair"

    def repairs(self) -> int:
        return sum(node.counters["held_artifact_offered"] for node in self.up())


def play(number: int) -> Counter[str]:
    """Play one episode; the rare states its nodes reached."""
    episode = Episode(number)
    episode.world.watch_rules(raises=True)
    episode.build()()
    reached: Counter[str] = Counter()
    for node in episode.up():
        reached.update({name: count for name, count in node.counters.items() if count})
    return reached
