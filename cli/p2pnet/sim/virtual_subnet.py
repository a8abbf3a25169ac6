"""A subnet in virtual time for as long as somebody lets time pass: runs, faults, another size, in one continuous world."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from p2pnet.broadcast.effects import Emit
from p2pnet.measure.injection import Planned
from p2pnet.model.behaviours import HONEST
from p2pnet.model.errors import SpecError
from p2pnet.model.events import Collected
from p2pnet.model.ids import ArtifactId, client_among
from p2pnet.sim.quantities import NS
from p2pnet.sim.subnet_faults import FaultWatch
from p2pnet.sim.subnet_world import SubnetWorld, add_nodes, edges_between, subnet_world, suffix_of
from p2pnet.sim.virtual_run import SimLoad, VirtualRun
from p2pnet.subnet.edits import changed, refused
from p2pnet.subnet.fault_book import BookedFault
from p2pnet.subnet.members import Edge, behaviours_of, members
from p2pnet.subnet.spec import Subnet

START_NS = 30 * NS  # virtual time in which the nodes of a new subnet come to rest before the run begins, at most
CALLS_PER_LOOK = (
    5_000  # planned calls between two looks at `is_stopped`, which are a tenth of a second or so of the wall clock
)


class VirtualSubnet:
    """One document in virtual time. Times are nanoseconds since the start of its world.

    `seed`: of all chance in the world; topology and faults are drawn from `spec.seed`, as everywhere. `client`, `others`: those
    that will publish. Raises SpecError for a graph or a client that cannot be.
    """

    def __init__(self, subnet: Subnet, *, seed: int, client: str = "", others: Collection[str] = ()) -> None:
        self.subnet = subnet
        """The document in force."""
        self._first = client_among([one.name for one in subnet.spec.clients], client)
        there = subnet_world(subnet, seed=seed, client=self._first, on_event=_nobody, others=others)
        self._there: SubnetWorld = there
        self._edges = edges_between(subnet)
        self._cut: set[Edge] = set()
        """Links of the world that are none of the document in force."""
        self._runs: list[VirtualRun] = []

    # Time

    @property
    def now(self) -> int:
        """Nanoseconds since the start."""
        return round(self._there.world.now * NS)

    @property
    def is_mid_instant(self) -> bool:
        """Whether calls of the present instant are left."""
        return self._there.world.is_mid_instant

    def come_to_rest(self) -> bool:
        """Let some virtual time pass; whether the nodes of the new subnet are at rest, or had their time for it."""
        quiet = self._there.world.run_until_quiet(START_NS, CALLS_PER_LOOK)
        return quiet or (self.now >= START_NS and not self.is_mid_instant)

    def advance(self, limit: int | None = None) -> None:
        """Let some virtual time pass: to what is due next at most, and not beyond `limit`."""
        world, faults = self._there.world, self._there.faults
        if not world.is_mid_instant:
            self._fault_due()
            for run in self._runs:
                run.publish_due()
        due = self._due(limit)
        if world.run_until_quiet(due, CALLS_PER_LOOK):
            self._flush()
            self._skip_quiet(due)
        self._flush()
        faults.renew(world.now)

    def _due(self, limit: int | None) -> int:
        """When the next publication, fault or end is due, at most a second after the present one."""
        now = self.now
        due = [(now // NS + 1) * NS, *(at for run in self._runs if (at := run.due) is not None)]
        if limit is not None:
            due.append(limit)
        if (fault_s := self._there.faults.next_s()) is not None:
            due.append(round(fault_s * NS))
        return max(now, min(due))

    def _skip_quiet(self, due: int) -> None:
        """Nothing is under way: runs that have all are over, else go on with what is due next."""
        complete = [run for run in self._runs if run.is_complete]
        for run in complete:
            run.is_at_rest = True
        if not complete and (due > self.now or self.is_mid_instant):
            self._there.world.run((due - self.now) / NS)

    def _fault_due(self) -> None:
        faults = self._there.faults
        while (due_s := faults.next_s()) is not None and round(due_s * NS) <= self.now:
            faults.advance(due_s)

    def _flush(self) -> None:
        for run in self._runs:
            run.log.flush()

    # Runs

    def make_run(
        self, load: SimLoad, *, seed: int, write: Callable[[list[Collected]], None], until_s: float | None = None,
        planned: Sequence[Planned] | None = None,
    ) -> VirtualRun:  # fmt: skip
        """A run among the members there are, which is told of events from now on. Raises SpecError."""
        client = client_among([one.name for one in self.subnet.spec.clients], load.client)
        suffix = suffix_of(client, self._first)
        if suffix not in self._there.makers:
            raise SpecError(f"client {client!r} was not to publish in this world")
        run = VirtualRun(
            self.subnet, self._there, load, seed=seed, write=write, until_s=until_s, suffix=suffix, planned=planned
        )
        self._runs.append(run)
        self._route()
        return run

    def watch_faults(self) -> FaultWatch:
        """What faults do from now on."""
        return self._there.faults.watch(self._there.world.now)

    def end_run(self, run: VirtualRun) -> None:
        """It hears of no more events."""
        run.log.flush()
        self._runs.remove(run)
        self._route()

    def _route(self) -> None:
        """Let the world tell its events to the runs."""
        world = self._there.world
        if not self._runs:
            world.tell(_nobody)
        elif len(self._there.makers) == 1 and len(self._runs) == 1:
            world.tell(self._runs[0].log.add)
        else:
            world.tell(self._fan_out)

    def _fan_out(self, node: str, incarnation: int, event: Emit, now: int) -> None:
        """Each run hears of the nodes of its own client, by their real names."""
        name, blank, client = node.partition(" ")  # no name of a member has one
        if blank:
            event = msgspec.structs.replace(event, peer=event.peer.partition(" ")[0])
        for run in self._runs:
            if run.suffix == blank + client:
                run.log.add(name, incarnation, event, now)

    # Faults

    def begin_faults(self) -> FaultWatch:
        """The subnet is up: the times of the document's faults count from now on."""
        return self._there.faults.begin(self._there.world.now)

    def add_fault(self, fault: Mapping[str, object]) -> BookedFault:
        """Put an item of `spec.faults` in force. Raises SpecError."""
        return self._there.faults.add(fault, self._there.world.now)

    def clear_fault(self, name: str) -> None:
        """End a fault that was added. Raises SpecError when there is none of that name any more."""
        self._there.faults.clear(name, self._there.world.now)

    def is_up(self, node: str) -> bool:
        """Whether its process exists, running or paused."""
        return self._there.world.nodes[node].is_up

    # What an operator does

    def follow(self, subnet: Subnet) -> None:
        """Put another document in force, as a lab takes a live edit: nodes come and go. Raises SpecError for any other edit."""
        fixed = refused(changed(self.subnet, subnet), "local")
        if fixed:
            raise SpecError("cannot be changed while the subnet is up: " + ", ".join(fixed))
        world, network, faults, makers = self._there
        before, after = ([name for name, _ in members(one)] for one in (self.subnet, subnet))
        edges, behaviours = edges_between(subnet), behaviours_of(subnet)
        add_nodes(world, subnet, makers, [name for name in after if name not in world.nodes])
        for name in after:
            if name not in before:
                for suffix in makers:
                    node = world.nodes[name + suffix]
                    if not node.is_up:  # one that was here before: its group may have come back as another
                        node.behave(behaviours.get(name, HONEST))
                        node.restart()
        self._relink(edges)
        self.subnet, self._edges = subnet, edges
        network.follow(subnet, edges, faults.about_links(world.now))
        world.members([name + suffix for suffix in makers for name in after])
        for name in [name for name in before if name not in after]:  # in their order: the same in every process
            for suffix in makers:
                world.nodes[name + suffix].crash()
        faults.follow(subnet, world.now)

    def _relink(self, edges: Iterable[Edge]) -> None:
        """Have these links, and no others between nodes that stay."""
        world, wanted, known = self._there.world, set(edges), set(self._edges) | self._cut
        for a, b in dict.fromkeys(edges):
            for suffix in self._there.makers:
                if (a, b) in self._cut:
                    world.heal(a + suffix, b + suffix)
                elif (a, b) not in known:
                    world.link(a + suffix, b + suffix, delay=0)
        gone = [edge for edge in self._edges if edge not in wanted]
        for a, b in gone:
            for suffix in self._there.makers:
                world.cut(a + suffix, b + suffix)
        self._cut = (self._cut | set(gone)) - wanted

    def reconnect(self, nodes: Collection[str]) -> None:
        """Let these nodes connect anew to all their peers, make before break, as live ones do with a new leaf."""
        world, makers = self._there.world, self._there.makers
        for a, b in self._edges:
            for end in (a, b):
                if end in nodes:
                    for suffix in makers:
                        world.replace(a + suffix, b + suffix)

    # What is so

    def links(self) -> tuple[int, int]:
        """How many links of the document are up at both ends, for all clients, and how many there are to be."""
        world = self._there.world
        up = 0
        peers = {name: set(node.peers()) for name, node in world.nodes.items()}
        for a, b in self._edges:
            up += all(b + suffix in peers[a + suffix] for suffix in self._there.makers)
        return up, len(self._edges)

    def holders(self, artifact: str, client: str) -> list[str]:
        """The members that hold an artifact (its id in hex) of a client."""
        suffix, key = suffix_of(client, self._first), ArtifactId(bytes.fromhex(artifact))
        nodes = self._there.world.nodes
        return [name for name, _ in members(self.subnet) if nodes[name + suffix].holds(key)]

    def unfinished(self, name: str) -> int | None:
        """How much a member has left to do, see `Broadcast.unfinished`, for all clients together; None while it is down."""
        nodes = [self._there.world.nodes[name + suffix] for suffix in self._there.makers]
        return sum(node.core.unfinished() for node in nodes) if all(node.is_up for node in nodes) else None

    def watch_rules(self) -> None:
        """Judge the rules of the broadcast from now on, for `broken`."""
        self._there.world.watch_rules()

    @property
    def has_broken_rules(self) -> bool:
        """Whether a rule was broken that no time makes good."""
        return self._there.world.has_broken_rules

    def broken(self) -> list[str]:
        """How honest nodes break the broadcast's promise now, and its rules since `watch_rules`, as sentences; [] at rest."""
        world = self._there.world
        return [*world.broken_rules(), *world.broken()]

    def withdraw(self, artifact: str, client: str) -> list[str]:
        """Take an artifact (its id in hex) of a client back from every node that runs, as a lab does; the paused, not asked."""
        suffix, key = suffix_of(client, self._first), ArtifactId(bytes.fromhex(artifact))
        paused = []
        for name, _ in members(self.subnet):
            node = self._there.world.nodes[name + suffix]
            if node.is_paused:
                paused.append(name)
            elif node.is_up:
                node.withdraw(key)
        return paused

    def digest(self) -> str:
        """A hash over everything that has happened so far: equal for equal histories."""
        return self._there.world.digest()


def _nobody(node: str, incarnation: int, event: Emit, now: int) -> None:
    """Take an event and forget it."""
