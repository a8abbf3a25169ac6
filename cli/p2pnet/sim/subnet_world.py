"""A Subnet document as a world: its members by the names that live targets give, its edges, its settings and its client."""

from itertools import combinations

from p2pnet.broadcast.loading import maker_of
from p2pnet.sim.context import EventSink
from p2pnet.sim.subnet_faults import SubnetFaults
from p2pnet.sim.subnet_network import SubnetNetwork
from p2pnet.sim.world import World
from p2pnet.subnet.members import edges_of, members
from p2pnet.subnet.node_config import broadcast_settings, client_configs
from p2pnet.subnet.spec import Subnet


def subnet_world(
    subnet: Subnet, *, seed: int, client: str, on_event: EventSink
) -> tuple[World, SubnetNetwork, SubnetFaults]:
    """The world of a checked document, whose nodes run this one of its clients, with its network in force and its faults ready.

    Raises SpecError for a graph that cannot be.
    """
    world = World(seed, model="messages", on_event=on_event)
    settings = broadcast_settings(subnet)
    index, config = next((index, one) for index, one in enumerate(client_configs(subnet)) if one.name == client)
    make = maker_of(config, f"spec.clients[{index}]")
    for name, _ in members(subnet):
        world.node(name, client=make, settings=settings)
    names = list(world.nodes)
    found = edges_of(subnet)
    edges = list(combinations(names, 2)) if found is None else found
    for a, b in edges:
        world.link(a, b, delay=0)
    network = SubnetNetwork(world, subnet, edges)
    return world, network, SubnetFaults(world, subnet, network)
