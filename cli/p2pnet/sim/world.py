"""`World`: nodes with real `Broadcast` cores and clients, links between them, and time that is only a number.

One seed, one run: the same calls give the same trace, to the nanosecond.
"""

from collections.abc import Iterable
from itertools import combinations
from random import Random
from typing import Literal, Unpack

from p2pnet.broadcast import Pending
from p2pnet.model.behaviours import HONEST, Behaviour
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER
from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.sim.clients import ClientLike, client_maker
from p2pnet.sim.context import EventSink, NodePlan, SimContext
from p2pnet.sim.liar import Liar
from p2pnet.sim.links import LinkNumbers, LinkOptions, link_numbers
from p2pnet.sim.manners import MANNERS
from p2pnet.sim.network import SimLink
from p2pnet.sim.node import Node
from p2pnet.sim.port import HEADER_BYTES
from p2pnet.sim.promise import NotQuiet, Promise, on_their_way
from p2pnet.sim.quantities import NS, Bandwidth, Duration, Size, bits_per_second, byte_count, nanoseconds
from p2pnet.sim.rules import RuleWatch, broken_at_rest
from p2pnet.sim.timeline import without_collections
from p2pnet.topology import edges

NetworkModel = Literal["plain", "messages"]


class World:
    """A network of nodes in virtual time.

    Durations are strings with a unit or seconds, bandwidths strings or bits per second, sizes strings or bytes. Nodes and
    links made before the world first goes on are there from the start; later ones join with a handshake.

    `model`: how messages get from node to node. `plain`: one after the other on access links, then their link's latency;
    `messages`: netem's message model, with windows, shared access links and losses as delay (docs/network-model.md).
    `on_event` takes all events of nodes as they happen; `Node.events` and `delivered` then stay empty.
    """

    def __init__(self, seed: int = 0, *, model: NetworkModel = "plain", on_event: EventSink | None = None) -> None:
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        """The nodes by name, in the order they were made: honest ones, and those with a behaviour of their own."""
        self.liars: dict[str, Liar] = {}
        self._context = SimContext(seed, self._begin, on_event, messages=model == "messages")
        self._network = self._context.network
        self._timeline = self._context.timeline
        self._members: dict[str, None] = {}
        self._new_nodes: list[Node] = []
        self._new_links: list[SimLink] = []
        self._full_mesh = True
        self._rules = RuleWatch()

    # Nodes and links

    def node(
        self,
        name: str,
        *,
        client: ClientLike = "blob",
        settings: BroadcastSettings | None = None,
        quota: Size = UNVALIDATED_BYTES_PER_PEER,
        up: Bandwidth | None = None,
        down: Bandwidth | None = None,
        client_delay: Duration = 0,
        beside: str = "",
        behaviour: Behaviour = HONEST,
        behaviour_seed: int | None = None,
    ) -> Node:
        """Make a node, which is a member from now on.

        `client`: see `ClientLike`. `settings`: by default those of a full mesh, or of a sparse world after `regular`.
        `quota`: bytes a peer may have in the unvalidated pool. `up`, `down`: its access link, shared by all its peers; None:
        no limit. `client_delay`: how long a call of the client takes; 0 calls it within the node's turn, as a real node does
        with the shipped clients. `beside`: a node whose access link it shares, as several clients of one real node do; for
        `model="messages"`. `behaviour`: what it does wrong, as `p2pnet.adversary` has it; the peers that a selective node is
        honest to follow from `behaviour_seed`, None: the world's. Raises LocalError for a name that is taken.
        """
        self._check_new(name)
        if beside:
            self._check_there(beside)
            self._network.message_model().share_access(name, beside)
        # Everything that can be wrong raises here, where the node is made, not when it starts.
        plan = NodePlan(
            name,
            len(self.nodes) + len(self.liars),
            client_maker(client),
            BroadcastSettings(full_mesh=self._full_mesh) if settings is None else settings,
            byte_count(quota),
            bits_per_second(up),
            bits_per_second(down),
            nanoseconds(client_delay),
            behaviour,
            self.seed if behaviour_seed is None else behaviour_seed,
        )
        node = Node(self._context, plan, has_own_settings=settings is not None)
        if self._network.model is not None and (plan.up is not None or plan.down is not None):
            self._network.shape_access(name, up=_access(plan.up), down=_access(plan.down))
        self.nodes[name] = node
        self._members[name] = None
        self._new_nodes.append(node)
        return node

    def liar(
        self,
        name: str,
        manner: str = "random",
        *,
        seed: int = 0,
        client: ClientLike = "blob",
        until: Duration = 60,
        kind: type[Liar] = Liar,
    ) -> Liar:
        """Make a dishonest member, which speaks the wire format but breaks the protocol: see `MANNERS`.

        It acts by itself until `until`, then only answers. `client`: the client whose artifacts it lies about. `kind`: a class
        of your own. Raises LocalError for a name that is taken or an unknown manner.
        """
        self._check_new(name)
        if manner not in MANNERS:
            raise LocalError(f"a liar with the manner {manner!r}: one of {' '.join(MANNERS)}")
        rng = Random(f"{self.seed}/{name}/{seed}/liar")
        liar = kind(self._context, name, MANNERS[manner], rng, client=client, until_ns=nanoseconds(until))
        self.liars[name] = liar
        self._members[name] = None
        return liar

    def link(self, a: str, b: str, **link: Unpack[LinkOptions]) -> None:
        """Link two nodes, with the same properties in both directions.

        `delay`: one way ("50ms"). `jitter`: "0ms". `loss`: share of messages delivered late. `lost_requests`, `lost_answers`:
        shares of requests that fail, before or after they arrive. An existing link gets these properties. Raises LocalError
        for unknown nodes.
        """
        self._link(a, b, link_numbers(**link))

    def _link(self, a: str, b: str, numbers: LinkNumbers) -> None:
        self._check_there(a)
        self._check_there(b)
        if a == b:
            raise LocalError(f"{a} cannot be its own peer")
        self._new_links.append(self._network.link(a, b, numbers))

    def full_mesh(self, **link: Unpack[LinkOptions]) -> None:
        """Link every pair of nodes."""
        numbers = link_numbers(**link)
        for a, b in combinations([*self.nodes, *self.liars], 2):
            self._link(a, b, numbers)

    def regular(self, degree: int, **link: Unpack[LinkOptions]) -> None:
        """Link every node with `degree` others: a random connected graph, which follows from the seed.

        Nodes without settings of their own, and those made later, get the settings of a sparse topology. Raises SpecError for
        a degree that these nodes cannot have.
        """
        names = [*self.nodes, *self.liars]
        # The function that real subnets use, so that the same seed gives the same graph.
        found = edges("random-regular", names, degree=degree, seed=self.seed) or []
        self._full_mesh = False
        for node in self.nodes.values():
            node.prefer(full_mesh=False)
        numbers = link_numbers(**link)
        for a, b in found:
            self._link(a, b, numbers)

    def members(self, names: Iterable[str]) -> None:
        """Change the registry's members to these: links of other nodes close, links among members come up."""
        self._begin()
        given = list(names)
        for name in given:
            self._check_there(name)
        wanted = {name: None for name in [*self.nodes, *self.liars] if name in given}
        left = [name for name in self._members if name not in wanted]
        joined = [name for name in wanted if name not in self._members]
        self._members = wanted
        self._tell_members()
        for name in left:
            for link in self._network.links_of(name):
                self._network.close(link)
        for name in joined:
            for link in self._network.links_of(name):
                self._network.dial(link)

    def remove(self, name: str) -> None:
        """Remove a node from the members; its process goes on, without links."""
        self.members([member for member in self._members if member != name])

    def links(self) -> list[tuple[str, str]]:
        """Every pair that was linked, in the order they were linked."""
        return [(link.a, link.b) for link in self._network.all_links()]

    # What happens to links

    def cut(self, a: str, b: str) -> None:
        """Cut the link between two nodes: nothing arrives any more, and both notice within half a second."""
        self._begin()
        link = self._network.find(a, b)
        link.is_cut = True
        self._network.close(link)

    def heal(self, a: str, b: str) -> None:
        """Undo a `cut`: a new connection comes up. No effect on a link that is up."""
        self._begin()
        link = self._network.find(a, b)
        link.is_cut = False
        self._network.dial(link)

    def replace(self, a: str, b: str) -> None:
        """Bring up a second connection of a link; the old one closes a second later. No effect if either node is down."""
        self._begin()
        self._network.connect(self._network.find(a, b))

    def shape(self, a: str, b: str, shape: LinkShape) -> None:
        """Give the way from `a` to `b` this shape from now on; what is under way keeps its times. For `model="messages"`.

        A block lets nothing arrive: the connection ends after the idle timeout, and comes up again when both ways are open.
        Raises LocalError when they have no link, or in the plain model.
        """
        self._network.shape(a, b, shape)

    def access(self, node: str, up: AccessShape | None = None, down: AccessShape | None = None) -> None:
        """Give a node's uplink and downlink these shapes from now on; None: no limit. For `model="messages"`.

        Raises LocalError for an unknown node, or in the plain model.
        """
        self._check_there(node)
        self._network.shape_access(node, up=up, down=down)

    # All nodes

    def withdraw(self, artifact: ArtifactId) -> None:
        """Withdraw an artifact at every node; those that are down do so when they start."""
        self._begin()
        self._context.withdrawn[artifact] = None
        for node in self._running():
            node.withdraw(artifact)

    def tell(self, on_event: EventSink) -> None:
        """Let another one take the events from now on. For a world that was made with `on_event`."""
        self._context.on_event = on_event

    # Time

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._timeline.now / NS

    def run(self, duration: Duration) -> None:
        """Let this much time pass. Raises CoreFailedError, naming node and input, when a core raises."""
        self._begin()
        self._timeline.run(self._timeline.now + nanoseconds(duration))

    def run_until_quiet(self, until: int, calls: int | None = None) -> bool:
        """Let time pass until nothing is due, at most until so many nanoseconds after the start; whether nothing is.

        `calls`: stop after so many planned calls, maybe in the midst of an instant. Raises CoreFailedError as `run`.
        """
        self._begin()
        return self._timeline.run_until_quiet(until, calls)

    @property
    def is_mid_instant(self) -> bool:
        """Whether planned calls of the present instant are left, because `run_until_quiet` has stopped before them."""
        return self._timeline.is_mid_instant

    def settle(self, limit: Duration = "1h") -> None:
        """Let time pass until nothing is due: no message on its way, no timer of a core but expiries and ticks.

        Raises NotQuiet, naming what is left, when that takes longer than `limit`, and CoreFailedError as `run`.
        """
        self._begin()
        if not self._timeline.run_until_quiet(self._timeline.now + nanoseconds(limit)):
            raise NotQuiet(self.now, self.pending())

    # State

    @property
    def inputs(self) -> int:
        """Inputs handled by all cores so far."""
        return self._context.inputs

    @property
    def bytes_sent(self) -> int:
        """Bytes of all request and answer bodies so far, without modelled headers (`HEADER_BYTES` each)."""
        return self._network.bytes_sent

    @property
    def wire_bytes(self) -> int:
        """The same with headers: what real nodes' UDP byte counters would have grown by, and in the message model IP's too."""
        network = self._network
        if network.model is not None:
            return network.model.wire_bytes
        return network.bytes_sent + HEADER_BYTES * network.messages

    def wire_bytes_of(self, node: str) -> int:
        """Bytes of all IP packets a node has sent so far, with acknowledgements, repetitions and handshakes.

        For `model="messages"`. Raises LocalError for an unknown node, or in the plain model.
        """
        self._check_there(node)
        return self._network.message_model().access(node).wire_bytes

    def digest(self) -> str:
        """A hash, in hex, over the seed and all inputs and effects so far: equal for equal runs."""
        return self._context.trace.hex()

    def delivered(self, artifact: ArtifactId) -> dict[str, float]:
        """Node -> seconds from an artifact's publication until the node first validated it, without the publisher."""
        published = self._context.deliveries.published.get(artifact, 0)
        validated = self._context.deliveries.validated.get(artifact, {})
        return {name: (at - published) / NS for name, at in validated.items()}

    def latencies(self, artifact: ArtifactId) -> list[float]:
        """The values of `delivered`, ascending."""
        return sorted(self.delivered(artifact).values())

    def pending(self) -> dict[str, list[Pending]]:
        """What is left to do, by node: tasks, rows of ended connections, timers, bytes, messages on their way; {} when quiet."""
        self._begin()
        found = {node.name: node.pending() for node in self._running()}
        for name, left in on_their_way(self._timeline):
            found.setdefault(name, []).append(left)
        return {name: left for name, left in found.items() if left}

    def broken(self) -> list[str]:
        """Violations of the broadcast's promise now, as sentences; [] when it is kept. Call it when the world has settled."""
        self._begin()
        dishonest = {node.name for node in self.nodes.values() if node.plan.behaviour != HONEST}
        pending = {name: left for name, left in self.pending().items() if name not in dishonest}
        return Promise(self._context, self._honest()).broken(pending, dishonest | self.liars.keys())

    def watch_rules(self, *, raises: bool = False) -> None:
        """Judge the rules of the broadcast from now on, in every honest node and input. Costs some time of the CPU.

        `raises`: whatever lets time pass raises BrokenRuleError when the first is broken on the way.
        """
        self._context.watch = self._rules = RuleWatch(raises=raises)

    @property
    def has_broken_rules(self) -> bool:
        """Whether a node has broken a rule on the way, which no time makes good."""
        return bool(self._rules.broken)

    def broken_rules(self) -> list[str]:
        """Rules that honest nodes have broken since `watch_rules`, as sentences; [] when they are kept.

        Call it when the world has settled: what nodes keep although they should not is judged now.
        """
        self._begin()
        honest = self._honest()
        self._rules.look_at_all(honest, self._timeline.now)
        return [*self._rules.broken, *broken_at_rest(honest)]

    # Inside

    def _honest(self) -> list[Node]:
        return [node for node in self._running() if node.plan.behaviour == HONEST]

    def _running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_up]

    def _check_new(self, name: str) -> None:
        if name in self.nodes or name in self.liars:
            raise LocalError(f"a node is named {name!r} already")

    def _check_there(self, name: str) -> None:
        if name not in self.nodes and name not in self.liars:
            raise LocalError(f"no node is named {name!r}")

    def _tell_members(self) -> None:
        self._network.members = frozenset(self._members)
        for node in self.nodes.values():
            node.tell_members(self._network.members)

    def _begin(self) -> None:
        """Start new nodes and links. At the start of the world links come up at once, without a handshake."""
        if not self._new_nodes and not self._new_links and len(self._network.members) == len(self._members):
            return
        with without_collections():
            if len(self._network.members) != len(self._members):
                self._tell_members()
            nodes, self._new_nodes = self._new_nodes, []
            for node in nodes:
                node.start()
            links, self._new_links = self._new_links, []
            for link in links:
                self._network.dial(link, at_once=not self._timeline.now)
            if not self._timeline.now:
                self._timeline.run(0)


def _access(bits_per_second: float | None) -> AccessShape | None:
    return None if bits_per_second is None else AccessShape(bandwidth_bps=bits_per_second)
