"""The broadcast in virtual time: thousands of nodes, one thread, one seed.

`World` runs real `Broadcast` cores and clients over a modelled network, to the nanosecond the same every time:

    from p2pnet.sim import World

    world = World(seed=7)
    a, b = world.node("a", up="100Mbit"), world.node("b")
    world.link("a", "b", delay="50ms")
    x = a.publish(b"hello")
    world.settle()
    assert b.holds(x) and world.broken() == []

A client of your own is tested as `world.node("a", client=MyClient)`. Messages, not packets, are simulated: each is serialised on
the sender's uplink and the receiver's downlink and, in between, takes its link's delay. `World(model="messages")` has windows,
losses as delay, and shapes of every path and access link: `World.shape`, `World.access`.
"""

from p2pnet.broadcast import Pending
from p2pnet.broadcast.manager import PublicationRefusedError
from p2pnet.sim.clients import ClientLike
from p2pnet.sim.incarnation import CoreFailedError
from p2pnet.sim.liar import Liar, Manner
from p2pnet.sim.manners import MANNERS
from p2pnet.sim.node import Node
from p2pnet.sim.port import HEADER_BYTES
from p2pnet.sim.promise import NotQuiet
from p2pnet.sim.record import NodeEvent
from p2pnet.sim.world import World

__all__ = [
    "HEADER_BYTES",
    "MANNERS",
    "ClientLike",
    "CoreFailedError",
    "Liar",
    "Manner",
    "Node",
    "NodeEvent",
    "NotQuiet",
    "Pending",
    "PublicationRefusedError",
    "World",
]
