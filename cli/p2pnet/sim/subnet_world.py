"""A Subnet document as a world: its members by the names that live targets give, its edges, its settings and its clients."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import combinations
from typing import NamedTuple

from p2pnet.broadcast import Client
from p2pnet.broadcast.effects import Emit
from p2pnet.broadcast.loading import maker_of
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE
from p2pnet.sim.context import EventSink
from p2pnet.sim.subnet_faults import SubnetFaults
from p2pnet.sim.subnet_network import SubnetNetwork
from p2pnet.sim.world import World
from p2pnet.subnet.members import Edge, behaviours_of, edges_of, members
from p2pnet.subnet.node_config import broadcast_settings, client_configs
from p2pnet.subnet.spec import Subnet

Makers = dict[str, Callable[[str], Client]]
"""What makes a node's clients, by what the names of their nodes in the world end in."""


class SubnetWorld(NamedTuple):
    """The world of a document, with its network in force and its faults ready."""

    world: World
    network: SubnetNetwork
    faults: SubnetFaults
    makers: Makers


def subnet_world(
    subnet: Subnet, *, seed: int, client: str, on_event: EventSink, others: Collection[str] = ()
) -> SubnetWorld:
    """The world of a checked document. `on_event`: of the nodes of `client`, and of `others` too where there are any.

    Each client of a node is a node of the world of its own, which shares the access link of the first: that one, with the name
    of the real node, is the client that publishes. Raises SpecError for a graph or a client that cannot be.
    """
    names = [name for name, _ in members(subnet)]

    def mine(node: str, incarnation: int, event: Emit, now: int) -> None:
        if " " not in node:  # no name of a member has one
            on_event(node, incarnation, event, now)

    makers = _clients(subnet, client, names[0], others)
    world = World(seed, model="messages", on_event=mine if len(makers) > 1 and not others else on_event)
    add_nodes(world, subnet, makers, names)
    edges = edges_between(subnet)
    for suffix in makers:
        for a, b in edges:
            world.link(a + suffix, b + suffix, delay=0)
    network = SubnetNetwork(world, subnet, edges, list(makers))
    return SubnetWorld(world, network, SubnetFaults(world, subnet, network, list(makers)), makers)


def add_nodes(world: World, subnet: Subnet, makers: Makers, names: Iterable[str]) -> None:
    """Make the nodes of these names, with all of their clients."""
    settings, made, behaviours = broadcast_settings(subnet), list(names), behaviours_of(subnet)
    for suffix, make in makers.items():
        for name in made:
            world.node(
                name + suffix, client=partial(make, name), settings=settings, beside=name if suffix else "",
                behaviour=behaviours.get(name, HONEST), behaviour_seed=subnet.spec.seed,
            )  # fmt: skip


def edges_between(subnet: Subnet) -> list[Edge]:
    """Who is to be linked with whom. Raises SpecError for a graph that cannot be."""
    found, behaviours = edges_of(subnet), behaviours_of(subnet)
    edges = list(combinations([name for name, _ in members(subnet)], 2)) if found is None else found
    # There are no certificates here, but what becomes of a stale one is known: every peer refuses the link.
    return [edge for edge in edges if STALE_CERTIFICATE not in map(behaviours.get, edge)]


def suffix_of(client: str, first: str) -> str:
    """What the names of the nodes of a client end in, in a world that was made for `first`."""
    return "" if client == first else f" {client}"


def _clients(subnet: Subnet, publishing: str, example: str, others: Collection[str]) -> Makers:
    """The clients to simulate: the one that publishes first, then `others` that will, and all that may act by themselves.

    The rest has nothing to do as long as nobody publishes through it.
    """
    first: Makers = {}
    beside: Makers = {}
    for index, config in enumerate(client_configs(subnet)):
        make = maker_of(config, f"spec.clients[{index}]")
        acts = make(example).tick_s is not None  # every client is made once, so that one that cannot be is refused
        suffix = suffix_of(config.name, publishing)
        if not suffix:
            first[suffix] = make
        elif acts or config.name in others:
            beside[suffix] = make
    return first | beside
