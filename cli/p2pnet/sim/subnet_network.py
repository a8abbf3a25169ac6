"""The network of a document in its world: the same plan of shapes and access links that live nodes are told, for edges only."""

from collections.abc import Iterable, Sequence

from p2pnet.model.network import CLEAR, AccessShape, LinkShape
from p2pnet.sim.world import World
from p2pnet.subnet.members import Edge
from p2pnet.subnet.network import NetworkPlan, network_plan
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import Subnet

Lines = tuple[AccessShape | None, AccessShape | None]
"""An access link: up, down."""


class SubnetNetwork:
    """What the links of a world do, by the document and the faults about links that are in force. `edges`: all links."""

    def __init__(self, world: World, subnet: Subnet, edges: Sequence[Edge]) -> None:
        self._world = world
        self._subnet = subnet
        self._edges = edges
        self._shapes: dict[Edge, tuple[LinkShape, LinkShape]] = {}
        """What links do now, there and back; those that are not here do nothing."""
        self._lines: dict[str, Lines] = {}
        self.plan: NetworkPlan = network_plan(subnet)
        """What is asked for now."""
        self._apply()

    def put_in_force(self, faults: Iterable[FaultSpec]) -> None:
        """Let these faults about links act, and no others."""
        self.plan = network_plan(self._subnet, faults)
        self._apply()

    def _apply(self) -> None:
        plan = self.plan
        if not plan.shaped and not self._shapes and not self._lines:
            return
        clear = (CLEAR, CLEAR)
        for edge in self._edges:
            a, b = edge
            shapes = plan.path(a, b)[0], plan.path(b, a)[0]
            if shapes != self._shapes.get(edge, clear):
                self._shapes[edge] = shapes
                self._world.shape(a, b, shapes[0])
                self._world.shape(b, a, shapes[1])
        for node in plan.members:
            lines = plan.access(node)
            if lines != self._lines.get(node, (None, None)):
                self._lines[node] = lines
                self._world.access(node, *lines)
