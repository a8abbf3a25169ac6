"""Adversaries: nodes that break the rules of the broadcast in one named way each, the same live and in virtual time.

A dishonest node runs the `Broadcast` of an honest one inside a `DishonestBroadcast`, which changes what the core is told and what
it wants done, and adds requests of its own. Drivers see a `Broadcast` either way; an honest node has none of this.
"""

from p2pnet.adversary.conduct import AdversaryChance, Conduct
from p2pnet.adversary.dishonest import DishonestBroadcast, make_conduct

__all__ = ["AdversaryChance", "Conduct", "DishonestBroadcast", "make_conduct"]
