"""The promise of the broadcast layer, as a model that looks at a quiet world."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pnet.broadcast import Artifact, ArtifactId, Bounce
from p2pnet.sim.node import Node

if TYPE_CHECKING:
    from p2pnet.sim.world import World


def broken(world: "World") -> list[str]:
    """Sentences about everything that is not as promised:

    what stays in the validated pool of an honest node is held by every honest node that is connected with it through honest
    nodes and wants it; nothing withdrawn or expired is held anywhere; nothing is left to be done.
    """
    found = [*_missing(world), *_left_over(world)]
    for name, things in world.pending().items():
        for one in things:
            about = f" of {one.artifact.hex()[:8]}" if one.artifact else ""
            found.append(f"{name or 'the network'} still has a {one.kind}{about} {one.peer} {one.detail}".rstrip())
    return found


def _missing(world: "World") -> Iterator[str]:
    honest = {name: node for name, node in world.nodes.items() if node.alive and not node.paused}
    offered: dict[bytes, tuple[Node, Artifact]] = {}
    holders: dict[bytes, list[str]] = {}
    waiting = {name: set(node.core.waiting_for_slot()) for name, node in honest.items()}
    for node in honest.values():
        for artifact in node.held():
            if artifact.id not in waiting[node.name] and _is_passed_on(node, artifact):
                offered.setdefault(artifact.id, (node, artifact))
                holders.setdefault(artifact.id, []).append(node.name)
    for holder, artifact in offered.values():
        for name in _reachable(world, honest, waiting, artifact, holders[artifact.id]):
            if not honest[name].holds(artifact.id):
                yield f"{name} has no {artifact.id.hex()[:8]}, which {holder.name} holds"


def _reachable(
    world: "World", honest: dict[str, Node], waiting: dict[str, set[ArtifactId]], artifact: Artifact, holders: list[str]
) -> Iterator[str]:
    """Who is connected with a holder through honest nodes that pass it on: not one that refuses it, or has no slot for it."""
    seen, edge = set(holders), list(holders)
    while edge:
        for peer in world.network.peers_up(edge.pop()):
            if (
                peer in honest
                and peer not in seen
                and (honest[peer].holds(artifact.id) or _wants(honest[peer], artifact))
            ):
                seen.add(peer)
                yield peer
                if artifact.id not in waiting[peer]:
                    edge.append(peer)


def _is_passed_on(node: Node, artifact: Artifact) -> bool:
    relay = node.client.relay(artifact.id, artifact.inspected.key) or node.core.settings.relay
    return relay != "none" or not artifact.peer


def _wants(node: Node, artifact: Artifact) -> bool:
    if node.core.is_refused(artifact.id):
        return False
    return node.client.bouncer(artifact.id, artifact.inspected.key, len(artifact.data)) is Bounce.WANTS


def _left_over(world: "World") -> Iterator[str]:
    for node in world.nodes.values():
        for artifact in node.held():
            if artifact.id in world.withdrawn:
                yield f"{node.name} holds {artifact.id.hex()[:8]}, which was withdrawn"
            if artifact.inspected.expires <= world.wall - 1e-6:
                yield f"{node.name} holds {artifact.id.hex()[:8]}, which has expired"
