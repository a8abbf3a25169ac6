"""`World`: many nodes in virtual time, one thread, one seed. The same seed gives the same trace, to the last byte."""

from collections.abc import Iterable
from hashlib import blake2b
from itertools import combinations

from p2pnet.broadcast import ArtifactId, BroadcastSettings, Pending
from p2pnet.broadcast.inputs import MembersChanged, Withdraw
from p2pnet.model.errors import LocalError
from p2pnet.sim.liar import Liar
from p2pnet.sim.links import LinkNumbers, link_numbers
from p2pnet.sim.network import SimNetwork
from p2pnet.sim.node import EPOCH_S, ClientSource, Node
from p2pnet.sim.promise import broken
from p2pnet.sim.quantities import NS, Bandwidth, Duration, Share, Size, bits_per_second, byte_count, nanoseconds
from p2pnet.sim.timeline import Timeline
from p2pnet.topology import edges


class NotQuiet(Exception):  # noqa: N818 - the word of the contract
    """Something is still due at the limit; `pending` has it by node."""

    def __init__(self, pending: dict[str, list[Pending]], now: float) -> None:
        found = [
            f"{node}: {one.kind} {one.artifact.hex()[:8] if one.artifact else ''} {one.peer} {one.detail}".rstrip()
            for node, things in pending.items()
            for one in things
        ]
        more = f", and {len(found) - 8} more" if len(found) > 8 else ""
        super().__init__(f"not quiet after {now:g} s: {'; '.join(found[:8])}{more}")
        self.pending = pending


class World:
    """Durations are strings with a unit, or seconds; all of them are virtual."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.timeline = Timeline()
        self.network = SimNetwork(self.timeline)
        self.nodes: dict[str, Node] = {}
        self.liars: dict[str, Liar] = {}
        self.inputs = 0
        """Handled by all cores so far."""
        self.is_sparse = False
        """Whether nodes without settings of their own are told that not everybody is linked with everybody."""
        self.withdrawn: dict[ArtifactId, float] = {}
        """When each was taken back, in seconds."""
        self._published: dict[ArtifactId, tuple[int, str]] = {}
        self._validated: dict[ArtifactId, dict[str, int]] = {}
        self._trace = blake2b(digest_size=16)

    # --- who is there ---

    def node(
        self,
        name: str,
        *,
        client: ClientSource = "blob",
        settings: BroadcastSettings | None = None,
        quota: Size | None = None,
        up: Bandwidth | None = None,
        down: Bandwidth | None = None,
        client_delay: Duration = 0,
    ) -> Node:
        """A new node, at any time. `quota`: unvalidated bytes per peer. `up`, `down`: its access link, None: no limit.

        `client_delay`: how long its client takes to answer, on a snapshot of the pool.
        """
        self._check_new(name)
        node = self.nodes[name] = Node(
            self,
            name,
            len(self.nodes),
            client,
            settings=settings,
            quota=None if quota is None else byte_count(quota),
            up=bits_per_second(up),
            down=bits_per_second(down),
            client_delay=client_delay,
        )
        self.members([*self.network.members, name])
        return node

    def liar(
        self, name: str, *, manner: str = "any", up: Bandwidth | None = None, down: Bandwidth | None = None
    ) -> Liar:
        """A dishonest peer; `manner` is one of `liar.MANNERS`, or `any` for all of them by chance."""
        self._check_new(name)
        liar = self.liars[name] = Liar(self, name, manner, up=bits_per_second(up), down=bits_per_second(down))
        self.members([*self.network.members, name])
        liar.start()
        return liar

    def _check_new(self, name: str) -> None:
        if name in self.nodes or name in self.liars:
            raise LocalError(f"there is a {name} already")

    def members(self, names: Iterable[str]) -> None:
        """The registry's members from now on: every node is told, and links with others end."""
        before, self.network.members = self.network.members, frozenset(names)
        for node in self.nodes.values():
            if node.alive:
                node.feed(MembersChanged(self.network.members))
        for name in sorted(before - self.network.members):
            for link in list(self.network.links_of(name)):
                self.network.close(link)

    def member_names(self) -> frozenset[str]:
        """Who belongs."""
        return self.network.members

    def remove(self, name: str) -> None:
        """It is a member no more."""
        self.members(sorted(self.network.members - {name}))

    # --- links ---

    def link(
        self,
        a: str,
        b: str,
        *,
        delay: Duration = "50ms",
        jitter: Duration = "0ms",
        loss: Share = 0.0,
        lost_requests: Share = 0.0,
        lost_answers: Share = 0.0,
    ) -> None:
        """Link two nodes now, both directions alike; or give their link these figures from now on."""
        self._link(a, b, link_numbers(delay, jitter, loss, lost_requests, lost_answers))

    def full_mesh(self, **link: Duration | Share) -> None:
        """Link every two nodes."""
        numbers = link_numbers(**link)
        for a, b in combinations(self.nodes, 2):
            self._link(a, b, numbers)

    def regular(self, degree: int, **link: Duration | Share) -> None:
        """Link every node with `degree` others, by the seed. Nodes without settings learn that the topology is sparse."""
        self.is_sparse = True
        numbers = link_numbers(**link)
        for a, b in edges("random-regular", list(self.nodes), degree=degree, seed=self.seed) or []:
            self._link(a, b, numbers)

    def links(self) -> list[tuple[str, str]]:
        """Every link that should be up, in the order they were made."""
        return [(a, b) for a, peers in self.network.links.items() for b, link in peers.items() if link.a == a]

    def _link(self, a: str, b: str, numbers: LinkNumbers) -> None:
        for name in (a, b):
            if name in self.nodes and not self.nodes[name].incarnation:
                self.nodes[name].start()
            elif name not in self.nodes and name not in self.liars:
                raise LocalError(f"there is no {name}")
        self.network.dial(self.network.link(a, b, numbers), at_once=True)

    def dial_all(self, name: str) -> None:
        """Bring up the links of a node that has just started."""
        for link in list(self.network.links_of(name)):
            self.network.connect(link)

    def cut(self, a: str, b: str) -> None:
        """The link breaks and stays down; each end notices within half a second."""
        link = self.network.find(a, b)
        link.is_cut = True
        self.network.close(link)

    def heal(self, a: str, b: str) -> None:
        """A cut link comes back; one that is up is left alone."""
        link = self.network.find(a, b)
        link.is_cut = False
        self.network.dial(link)

    def replace(self, a: str, b: str) -> None:
        """A new connection comes up beside the old one, which ends a second after it was replaced."""
        self.network.connect(self.network.find(a, b))

    # --- artifacts ---

    def withdraw(self, artifact: ArtifactId) -> None:
        """Take it back at every node, as the lab does: at those that live now, and at the others when they start."""
        self.withdrawn[artifact] = self.now
        for node in self.nodes.values():
            if node.alive:
                node.feed(Withdraw(artifact))

    def delivered(self, artifact: ArtifactId) -> dict[str, float]:
        """Node -> seconds from the publication to its first validation there, in any incarnation."""
        if artifact not in self._published:
            raise LocalError(f"nobody has published {artifact.hex()[:8]}")
        published, _ = self._published[artifact]
        return {name: (at - published) / NS for name, at in self._validated.get(artifact, {}).items()}

    def latencies(self, artifact: ArtifactId) -> list[float]:
        """`delivered`, ascending, without the names."""
        return sorted(self.delivered(artifact).values())

    # --- time ---

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.timeline.now / NS

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return EPOCH_S + self.timeline.now / NS

    def run(self, duration: Duration) -> None:
        """Let virtual time go on."""
        self._start_all()
        self.timeline.run(self.timeline.now + nanoseconds(duration))

    def settle(self, limit: Duration = "1h") -> None:
        """Let time go on until nothing is due, expiries and clients' own ticks apart. Raises NotQuiet at the limit."""
        self._start_all()
        if not self.timeline.run_until_quiet(self.timeline.now + nanoseconds(limit)):
            raise NotQuiet(self.pending(), self.now)

    def _start_all(self) -> None:
        for node in self.nodes.values():
            if not node.incarnation:
                node.start()

    # --- what an observer sees ---

    @property
    def bytes_sent(self) -> int:
        """Bodies of all requests and answers; modelled headers (`port.HEADER_BYTES` each) are left out."""
        return self.network.bytes_sent

    def pending(self) -> dict[str, list[Pending]]:
        """Node -> what it still has to do; what is on the wire under its sender's name. {} when quiet."""
        found = {name: things for name, node in self.nodes.items() if node.alive and (things := node.core.pending())}
        if self.timeline.flying:
            found.setdefault("", []).append(Pending("message", detail=f"{self.timeline.flying} on their way"))
        return found

    def broken(self) -> list[str]:
        """What the promise misses now, as sentences; [] when it is kept. Ask when the world is quiet."""
        return broken(self)

    def all_counters(self) -> list[dict[str, int]]:
        """The counts of every core that lives or was the last to live."""
        return [node.core.counters for node in self.nodes.values() if node.incarnation]

    def digest(self) -> str:
        """Of everything that has happened so far, as hex."""
        return self._trace.hexdigest()

    # --- for nodes ---

    def trace(self, what: bytes) -> None:
        """Something happened."""
        self._trace.update(what)

    def note_published(self, artifact: ArtifactId, node: str) -> None:
        """A node's user published it."""
        self._published.setdefault(artifact, (self.timeline.now, node))

    def note_validated(self, artifact: ArtifactId, node: str) -> None:
        """A peer's artifact is valid there."""
        self._validated.setdefault(artifact, {}).setdefault(node, self.timeline.now)
