"""A Subnet document as a world: its members by the names that live targets give, its edges, its settings and its clients."""

from collections.abc import Callable
from functools import partial
from itertools import combinations

from p2pnet.broadcast import Client
from p2pnet.broadcast.effects import Emit
from p2pnet.broadcast.loading import maker_of
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE
from p2pnet.sim.context import EventSink
from p2pnet.sim.subnet_faults import SubnetFaults
from p2pnet.sim.subnet_network import SubnetNetwork
from p2pnet.sim.world import World
from p2pnet.subnet.members import adversaries, edges_of, members
from p2pnet.subnet.node_config import broadcast_settings, client_configs
from p2pnet.subnet.spec import Subnet


def subnet_world(
    subnet: Subnet, *, seed: int, client: str, on_event: EventSink
) -> tuple[World, SubnetNetwork, SubnetFaults]:
    """The world of a checked document, with its network in force and its faults ready. `on_event`: of this client alone.

    Each client of a node is a node of the world of its own, which shares the access link of the first: that one, with the name
    of the real node, is the client that publishes. Raises SpecError for a graph or a client that cannot be.
    """
    names = [name for name, _ in members(subnet)]

    def mine(node: str, incarnation: int, event: Emit, now: int) -> None:
        if " " not in node:  # no name of a member has one
            on_event(node, incarnation, event, now)

    makers = _clients(subnet, client, names[0])
    world = World(seed, model="messages", on_event=mine if len(makers) > 1 else on_event)
    settings = broadcast_settings(subnet)
    behaviours = {name: one.behaviour for one in adversaries(subnet) for name in one.nodes}
    for suffix, make in makers.items():
        for name in names:
            world.node(
                name + suffix, client=partial(make, name), settings=settings, beside=name if suffix else "",
                behaviour=behaviours.get(name, HONEST), behaviour_seed=subnet.spec.seed,
            )  # fmt: skip
    found = edges_of(subnet)
    edges = list(combinations(names, 2)) if found is None else found
    # There are no certificates here, but what becomes of a stale one is known: every peer refuses the link.
    edges = [edge for edge in edges if STALE_CERTIFICATE not in (behaviours.get(edge[0]), behaviours.get(edge[1]))]
    for suffix in makers:
        for a, b in edges:
            world.link(a + suffix, b + suffix, delay=0)
    network = SubnetNetwork(world, subnet, edges, list(makers))
    return world, network, SubnetFaults(world, subnet, network, list(makers))


def _clients(subnet: Subnet, publishing: str, example: str) -> dict[str, Callable[[str], Client]]:
    """The clients to simulate, by what the names of their nodes end in: the one that publishes first, and all that may act by
    themselves. The others have nothing to do as long as nobody publishes through them.
    """
    first: dict[str, Callable[[str], Client]] = {}
    others: dict[str, Callable[[str], Client]] = {}
    for index, config in enumerate(client_configs(subnet)):
        make = maker_of(config, f"spec.clients[{index}]")
        acts = make(example).tick_s is not None  # every client is made once, so that one that cannot be is refused
        if config.name == publishing:
            first[""] = make
        elif acts:
            others[f" {config.name}"] = make
    return first | others
