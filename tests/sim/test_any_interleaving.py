"""The promise as a state machine: whatever is done to a world of four, in whatever order, it holds once it is quiet."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from p2pnet.broadcast import ArtifactId, BroadcastSettings
from p2pnet.sim import World

NAMES = ("a", "b", "c", "d")
PAIRS = [(x, y) for i, x in enumerate(NAMES) for y in NAMES[i + 1 :]]
NODE, PAIR = st.sampled_from(NAMES), st.sampled_from(PAIRS)


class AnyInterleaving(RuleBasedStateMachine):
    """`down` and `cut` are what is so now; both may still be so in the end."""

    @initialize(
        mesh=st.booleans(), seed=st.integers(0, 1 << 16), relay=st.sampled_from(("auto", "advert", "push")),
        loss=st.sampled_from((0.0, 0.1)), lost=st.sampled_from((0.0, 0.05)),
    )  # fmt: skip
    def build(self, mesh: bool, seed: int, relay: str, loss: float, lost: float) -> None:
        self.world = World(seed=seed)
        settings_ = BroadcastSettings(full_mesh=mesh, relay=relay)
        self.nodes = {name: self.world.node(name, settings=settings_, quota="400kB") for name in NAMES}
        for a, b in PAIRS if mesh else [("a", "b"), ("b", "c"), ("c", "d")]:
            self.world.link(a, b, delay="30ms", jitter="10ms", loss=loss, lost_requests=lost, lost_answers=lost)
        self.linked = self.world.links()
        self.known: list[ArtifactId] = []

    @rule(name=NODE, size=st.sampled_from((0, 700, 65_536, 200_000)), keep=st.sampled_from(("1h", "3s")))
    def publish(self, name: str, size: int, keep: str) -> None:
        if self.nodes[name].is_up:
            self.known.append(self.nodes[name].publish(bytes(size), keep=keep))

    @precondition(lambda self: self.known)
    @rule(name=NODE, which=st.integers(0, 50))
    def purge(self, name: str, which: int) -> None:
        if self.nodes[name].is_up:
            self.nodes[name].purge(self.known[which % len(self.known)])

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 50))
    def withdraw(self, which: int) -> None:
        self.world.withdraw(self.known[which % len(self.known)])

    @rule(pair=PAIR)
    def cut(self, pair: tuple[str, str]) -> None:
        if pair in self.linked:
            self.world.cut(*pair)

    @rule(pair=PAIR)
    def heal(self, pair: tuple[str, str]) -> None:
        if pair in self.linked:
            self.world.heal(*pair)

    @rule(pair=PAIR)
    def replace(self, pair: tuple[str, str]) -> None:
        one, other = pair
        if pair in self.linked and self.nodes[one].is_up and other in self.nodes[one].peers():
            self.world.replace(*pair)

    @rule(name=NODE)
    def crash(self, name: str) -> None:
        self.nodes[name].crash()

    @rule(name=NODE)
    def restart(self, name: str) -> None:
        self.nodes[name].restart()

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.04, 0.3, 2.0, 20.0)))
    def run(self, seconds: float) -> None:
        self.world.run(seconds)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle("2h")
            assert self.world.broken() == []
            assert self.world.pending() == {}


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(
    max_examples=300,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
