"""Endpoints of a subnet whose datagrams pass the seams of their nodes: in virtual time, or on loopback."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.quic.conftest import World
from tests.quic.virtual import VirtualWorld

from p2pnet.model.ids import lab_uri
from p2pnet.model.network import AccessShape, LinkShape, NodeNetwork
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.model.text import address_text
from p2pnet.node.peer_addresses import PeerAddresses
from p2pnet.node.precise_timer import LoopTimer, make_timer
from p2pnet.node.seam import NetworkSeam
from p2pnet.peering.clock import NS, mono_ns
from p2pnet.peering.discovery import RegistryDirectory
from p2pnet.quic import Connection, Endpoint, Settings
from p2pnet.trust import Identity

MS = 1_000_000
SCOPE = ("p2pnet.test", "default", "demo")
"""Of `World.uri`."""


class SeamedNode:
    """An endpoint with its seam."""

    def __init__(self, name: str, endpoint: Endpoint, seam: NetworkSeam, directory: RegistryDirectory) -> None:
        self.name, self.endpoint, self.seam, self.directory = name, endpoint, seam, directory

    def shape(self, *, up: AccessShape | None = None, down: AccessShape | None = None, **paths: LinkShape) -> None:
        """Put paths in force: `node_1=LinkShape(...)`."""
        named = {name.replace("_", "-"): shape for name, shape in paths.items()}
        self.seam.apply(network(named, up=up, down=down, version=self.seam.network.version + 1))


class SeamWorld:
    """Nodes that know each other's addresses, and a lab nobody is told of."""

    def __init__(self, world: World, *, clock_ns: Callable[[], int], timer: Callable[..., Any]) -> None:
        self.world = world
        self.nodes: dict[str, SeamedNode] = {}
        self._clock_ns, self._timer = clock_ns, timer

    @staticmethod
    def virtual(world: VirtualWorld) -> SeamWorld:
        def now() -> int:
            return round(world.loop.time() * NS)

        return SeamWorld(world, clock_ns=now, timer=lambda ring: LoopTimer(world.loop, ring, now))

    @staticmethod
    def real(world: World) -> SeamWorld:
        return SeamWorld(world, clock_ns=mono_ns, timer=make_timer)

    async def nodes_up(self, count: int, **options: Any) -> list[SeamedNode]:
        """So many nodes, `node-0` first, that echo."""
        return [await self.node(f"node-{number}", **options) for number in range(count)]

    async def node(self, name: str, *, seed: int = 1, settings: Settings | None = None, **options: Any) -> SeamedNode:
        options.setdefault("on_message", self.world.echo)
        endpoint = await self.world.endpoint(name, settings=settings or Settings(), **options)
        directory = RegistryDirectory(name, *SCOPE)
        addresses = PeerAddresses(name, directory)
        seam = NetworkSeam(
            addresses,
            directory.name_of,
            random.Random(seed).random,
            clock_ns=self._clock_ns,
            timer=self._timer,
        )
        seam.attach(endpoint)
        self.nodes[name] = SeamedNode(name, endpoint, seam, directory)
        self.tell_all()
        return self.nodes[name]

    def tell_all(self) -> None:
        """Tell every node where the others are."""
        members = [
            Member(one.name, self.world.uri(one.name), [address_text(*one.endpoint.address)])
            for one in self.nodes.values()
        ]
        for one in self.nodes.values():
            one.directory.offer(Membership(Registry(one.directory.version + 1, members)))
            one.seam.addresses.directory_changed()

    async def lab(self) -> Endpoint:
        """An endpoint with the lab's leaf."""
        leaf = self.world.authority.issue(lab_uri(*SCOPE), now=datetime.now(UTC), ttl=timedelta(hours=1))
        identity = Identity.of(leaf, self.world.authority.certificate_pem)
        return await self.world.endpoint("lab", trust=self.world.trust(identity))

    async def connect(self, one: SeamedNode, other: SeamedNode, *, timeout_s: float = 10.0) -> Connection:
        """A new connection, its peer named."""
        return await one.endpoint.connect(
            other.endpoint.address, expect=self.world.uri(other.name), new=True, timeout_s=timeout_s
        )

    def close(self) -> None:
        for one in self.nodes.values():
            one.seam.close()


def network(
    paths: dict[str, LinkShape], *, up: AccessShape | None = None, down: AccessShape | None = None, version: int = 1
) -> NodeNetwork:
    """A node's network of these paths."""
    shapes = list(dict.fromkeys(paths.values()))
    return NodeNetwork(version, shapes, {name: shapes.index(shape) for name, shape in paths.items()}, up, down)


def delay(ms: float) -> LinkShape:
    """Nothing but a delay."""
    return LinkShape(delay_ns=round(ms * MS))


BLOCKED = LinkShape(blocked=True)


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
