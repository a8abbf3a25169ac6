"""The broadcast in virtual time: real cores, one thread, one seed. For tests of the layer itself, and of users' clients.

from p2pnet.sim import World
world = World(seed=7)
a, b = world.node("a"), world.node("b", up="100Mbit")
world.link("a", "b", delay="50ms")
x = a.publish(b"hello")
world.settle()
assert b.holds(x) and world.broken() == []
"""

from p2pnet.sim.liar import MANNERS, Liar
from p2pnet.sim.node import CoreFailedError, Node, PublishRefusedError, SimEvent
from p2pnet.sim.world import NotQuiet, World

__all__ = ["MANNERS", "CoreFailedError", "Liar", "Node", "NotQuiet", "PublishRefusedError", "SimEvent", "World"]
