"""The network of a document in its world: the same plan of shapes and access links that live nodes are told, for edges only."""

from collections import Counter
from collections.abc import Iterable, Sequence

from p2pnet.measure.modelled import ModelledLine, ModelledPath, modelled_rows
from p2pnet.model.network import CLEAR, AccessShape, LinkShape
from p2pnet.model.report import NetworkRow
from p2pnet.sim.world import World
from p2pnet.subnet.members import Edge
from p2pnet.subnet.network import NetworkPlan, network_plan
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import Subnet

Lines = tuple[AccessShape | None, AccessShape | None]
"""An access link: up, down."""


class NetworkWatch:
    """What was asked of links by all rules and faults since it began: what the report of a run tells of the network."""

    def __init__(self, watches: "list[NetworkWatch]") -> None:
        self._rows: dict[str, NetworkRow] = {}
        self._watches = watches
        watches.append(self)

    def see(self, rows: Iterable[NetworkRow]) -> None:
        """These are in force now."""
        for row in rows:
            # What was in force first: a rule asks for the same of more or fewer links as faults come and go.
            self._rows.setdefault(row.rule, row)

    @property
    def rows(self) -> list[NetworkRow]:
        """One for each rule or fault, in the order they came into force."""
        return list(self._rows.values())

    def close(self) -> None:
        """See no more."""
        if self in self._watches:
            self._watches.remove(self)


class SubnetNetwork:
    """What the links of a world do, by the document and the faults about links that are in force.

    `edges`: all links between nodes. `clients`: what the names of nodes in the world end in, for each client that is simulated.
    """

    def __init__(self, world: World, subnet: Subnet, edges: Sequence[Edge], clients: Sequence[str] = ("",)) -> None:
        self._world = world
        self._subnet = subnet
        self._edges = edges
        self._clients = clients
        self._shapes: dict[Edge, tuple[LinkShape, LinkShape]] = {}
        """What links do now, there and back; those that are not here do nothing."""
        self._lines: dict[str, Lines] = {}
        self._rows: list[NetworkRow] = []
        """What is asked of links now."""
        self._watches: list[NetworkWatch] = []
        self.plan: NetworkPlan = network_plan(subnet)
        """What is asked for now."""
        self._apply()

    def put_in_force(self, faults: Iterable[FaultSpec]) -> None:
        """Let these faults about links act, and no others."""
        self.plan = network_plan(self._subnet, faults)
        self._apply()

    def follow(self, subnet: Subnet, edges: Sequence[Edge], faults: Iterable[FaultSpec]) -> None:
        """Another document is in force, with these links."""
        self._subnet = subnet
        self._edges = edges
        self.put_in_force(faults)

    def watch(self) -> "NetworkWatch":
        """What is asked of links from now on, until it is closed."""
        watch = NetworkWatch(self._watches)
        watch.see(self._rows)
        return watch

    def _apply(self) -> None:
        plan = self.plan
        if not plan.shaped and not self._shapes and not self._lines:
            return
        paths, lines = Counter[ModelledPath](), Counter[ModelledLine]()
        for edge in self._edges:
            a, b = edge
            there, why_there = plan.path(a, b)
            back, why_back = plan.path(b, a)
            paths[ModelledPath(why_there, there)] += 1
            paths[ModelledPath(why_back, back)] += 1
            if (there, back) != self._shapes.get(edge, (CLEAR, CLEAR)):
                self._shapes[edge] = there, back
                for client in self._clients:
                    self._world.shape(a + client, b + client, there)
                    self._world.shape(b + client, a + client, back)
        for node in plan.members:
            up, down = plan.access(node)
            lines.update(ModelledLine(plan.access_label(node), line) for line in (up, down) if line is not None)
            if (up, down) != self._lines.get(node, (None, None)):
                self._lines[node] = up, down
                self._world.access(node, up, down)
                for client in self._clients:
                    self._world.nodes[node + client].limit_uplink(up is not None)
        self._rows = modelled_rows(paths, lines, plan.selectors)
        for watch in self._watches:
            watch.see(self._rows)
