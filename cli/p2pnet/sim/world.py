"""`World`: nodes with real `Broadcast` cores and clients, links between them, and time that is only a number.

One seed, one run: the same calls give the same trace, to the nanosecond.
"""

from collections.abc import Iterable
from itertools import combinations
from typing import Unpack

from p2pnet.broadcast import Pending
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import UNVALIDATED_BYTES_PER_PEER
from p2pnet.sim.clients import ClientLike, client_maker
from p2pnet.sim.context import NodePlan, SimContext
from p2pnet.sim.liar import Liar
from p2pnet.sim.links import LinkOptions, link_numbers
from p2pnet.sim.manners import MANNERS
from p2pnet.sim.network import SimLink
from p2pnet.sim.node import Node
from p2pnet.sim.promise import NotQuiet, Promise, on_their_way
from p2pnet.sim.quantities import NS, Bandwidth, Duration, Size, bits_per_second, byte_count, nanoseconds
from p2pnet.topology import edges


class World:
    """A network of nodes in virtual time.

    Durations are strings with a unit or seconds, bandwidths strings or bits per second, sizes strings or bytes. Nodes and
    links made before the world first goes on are there from the start; later ones join with a handshake.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        """The honest ones, by name, in the order they were made."""
        self.liars: dict[str, Liar] = {}
        self._context = SimContext(seed, self._begin)
        self._network = self._context.network
        self._timeline = self._context.timeline
        self._members: dict[str, None] = {}
        self._new_nodes: list[Node] = []
        self._new_links: list[SimLink] = []
        self._full_mesh = True

    # Who and what there is

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
    ) -> Node:
        """A node, and a member from now on.

        `client`: see `ClientLike`. `settings`: by default those of a full mesh, or of a sparse world after `regular`.
        `quota`: bytes a peer may have in the unvalidated pool. `up`, `down`: its access link, shared by all its peers; None:
        no limit. `client_delay`: how long a call of the client takes; 0 calls it within the turn, as the node does with the
        shipped ones. Raises LocalError for a name that is taken.
        """
        self._check_new(name)
        plan = NodePlan(
            name,
            len(self.nodes) + len(self.liars),
            client_maker(client),
            BroadcastSettings(full_mesh=self._full_mesh) if settings is None else settings,
            byte_count(quota),
            bits_per_second(up),
            bits_per_second(down),
            nanoseconds(client_delay),
        )
        node = Node(self._context, plan, has_own_settings=settings is not None)
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
        """A member that speaks the protocol and breaks it: see `MANNERS`. It acts until that time, then only reacts.

        `client`: whose artifacts it lies about. `kind`: a class of your own. Raises LocalError for a
        name that is taken or a manner there is not.
        """
        self._check_new(name)
        if manner not in MANNERS:
            raise LocalError(f"a liar with the manner {manner!r}: one of {' '.join(MANNERS)}")
        rng = self._context.rng(name, seed, "liar")
        liar = kind(self._context, name, MANNERS[manner], rng, client=client, until_ns=nanoseconds(until))
        self.liars[name] = liar
        self._members[name] = None
        return liar

    def link(self, a: str, b: str, **link: Unpack[LinkOptions]) -> None:
        """Have two nodes linked, both directions alike: `delay` one way ("50ms"), `jitter` ("0ms"), `loss` (late delivery),
        `lost_requests` and `lost_answers` (shares of requests that fail on the way, before or after they arrive).

        A pair that has a link keeps it, with these numbers. Raises LocalError for nodes there are not.
        """
        numbers = link_numbers(**link)
        self._check_there(a)
        self._check_there(b)
        if a == b:
            raise LocalError(f"{a} cannot be its own peer")
        self._new_links.append(self._network.link(a, b, numbers))

    def full_mesh(self, **link: Unpack[LinkOptions]) -> None:
        """Link everybody with everybody."""
        for a, b in combinations([*self.nodes, *self.liars], 2):
            self.link(a, b, **link)

    def regular(self, degree: int, **link: Unpack[LinkOptions]) -> None:
        """Link everybody with `degree` others: a connected graph, by chance of the seed.

        Nodes without settings of their own, and those made later, take the world for sparse. Raises SpecError for a degree
        that these nodes cannot have.
        """
        names = [*self.nodes, *self.liars]
        found = edges("random-regular", names, degree=degree, seed=self.seed) or []
        self._full_mesh = False
        for node in self.nodes.values():
            node.prefer(full_mesh=False)
        for a, b in found:
            self.link(a, b, **link)

    def members(self, names: Iterable[str]) -> None:
        """The registry's members from now on: links to others close, links among them come up again."""
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
        """Take a node out of the members; its process goes on, without links."""
        self.members([member for member in self._members if member != name])

    def links(self) -> list[tuple[str, str]]:
        """Every pair that was linked, in the order they were."""
        return [(link.a, link.b) for link in self._network.all_links()]

    # What happens to links

    def cut(self, a: str, b: str) -> None:
        """Nothing gets from one to the other any more, and both notice within half a second."""
        self._begin()
        link = self._network.find(a, b)
        link.is_cut = True
        self._network.close(link)

    def heal(self, a: str, b: str) -> None:
        """A new connection comes up after a `cut`; a pair that is linked is left alone."""
        self._begin()
        link = self._network.find(a, b)
        link.is_cut = False
        self._network.dial(link)

    def replace(self, a: str, b: str) -> None:
        """A new connection comes up without the old one's end; that closes a second later. Nothing for a pair that is down."""
        self._begin()
        self._network.connect(self._network.find(a, b))

    # What users do at all nodes

    def withdraw(self, artifact: ArtifactId) -> None:
        """Take an artifact back at every node; those that are down are told when they start."""
        self._begin()
        self._context.withdrawn[artifact] = None
        for node in self._running():
            node.withdraw(artifact)

    # Time

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._timeline.now / NS

    def run(self, duration: Duration) -> None:
        """Let so much time pass. What a core raises comes out here, with a note of node and input."""
        self._begin()
        self._timeline.run(self._timeline.now + nanoseconds(duration))

    def settle(self, limit: Duration = "1h") -> None:
        """Let time pass until nothing is due: no message on its way, no core with a timer other than expiries and ticks.

        Raises NotQuiet, naming what is left, when that takes longer than `limit`.
        """
        self._begin()
        if not self._timeline.run_until_quiet(self._timeline.now + nanoseconds(limit)):
            raise NotQuiet(self.now, self.pending())

    # What there is to see

    @property
    def inputs(self) -> int:
        """Handled by all cores so far."""
        return self._context.inputs

    @property
    def bytes_sent(self) -> int:
        """Bodies of all requests and answers so far, without modelled headers (`HEADER_BYTES` each)."""
        return self._network.bytes_sent

    def digest(self) -> str:
        """Hex of a hash over the seed and all inputs and effects so far: equal for equal runs."""
        return self._context.trace.hex()

    def delivered(self, artifact: ArtifactId) -> dict[str, float]:
        """By node, how many seconds after its publication it was first validated there; the publisher is not among them."""
        published = self._context.deliveries.published.get(artifact, 0)
        validated = self._context.deliveries.validated.get(artifact, {})
        return {name: (at - published) / NS for name, at in validated.items()}

    def latencies(self, artifact: ArtifactId) -> list[float]:
        """The seconds of `delivered`, ascending."""
        return sorted(self.delivered(artifact).values())

    def pending(self) -> dict[str, list[Pending]]:
        """What is left to do, by node: tasks, rows of dead connections, timers, bytes, messages on their way. {} when quiet."""
        self._begin()
        found = {node.name: node.pending() for node in self._running()}
        for name, left in on_their_way(self._timeline):
            found.setdefault(name, []).append(left)
        return {name: left for name, left in found.items() if left}

    def broken(self) -> list[str]:
        """What the promise of the broadcast misses now, as sentences; [] when it is kept. Ask when the world has settled."""
        self._begin()
        return Promise(self._context, self._running()).broken(self.pending(), self.liars)

    # Inside

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
        """Start what is new. At the very start, links are up at once, and everybody has handled that."""
        if not self._new_nodes and not self._new_links and len(self._network.members) == len(self._members):
            return
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
