"""What the promise costs beside each kind of adversary, in virtual time (`p2pnet.sim.World`): the same on every machine.

Twelve honest nodes and four of one kind; honest ones publish ten artifacts of 200 kB, one a second, and 50 ms and 100 Mbit/s are
between them. Told are receipts of honest nodes, when the median and the last of them came, what honest nodes sent per byte of
payload, and updates and fetches of honest nodes per receipt; and how the same is with four nodes more that are honest.

usage: adversaries.py [BEHAVIOUR ...]
"""

import sys
from random import Random
from typing import NamedTuple, get_args

from p2pnet.broadcast import ArtifactId
from p2pnet.model.behaviours import STALE_CERTIFICATE, Behaviour
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.sim import World

KINDS: tuple[Behaviour, ...] = tuple(one for one in get_args(Behaviour) if one != STALE_CERTIFICATE)
HONEST, DISHONEST = 12, 4
ARTIFACTS, SIZE = 10, 200_000
SETTLE_S = 20


class Cost(NamedTuple):
    """What honest nodes got, and what it cost them."""

    receipts: int
    p50_ms: float
    last_ms: float
    bytes_per_payload: float
    asked_per_receipt: float
    failures: int
    """Fetches from adversaries that failed or brought wrong content."""


def main(arguments: list[str]) -> None:
    """Print a table for a mesh and one for a sparse topology."""
    kinds = [kind for kind in KINDS if not arguments or kind in arguments]
    for mesh in (True, False):
        print(f"\n{'full mesh' if mesh else 'random-regular, degree 6'}")
        print("receipts, p50, last, bytes / payload, updates and fetches per receipt, failed fetches")
        for kind in kinds:
            cost = measured(kind, mesh=mesh)
            print(
                f"{kind:12} {cost.receipts:4} {cost.p50_ms:7.0f} ms {cost.last_ms:7.0f} ms {cost.bytes_per_payload:7.3f}"
                f" {cost.asked_per_receipt:8.1f} {cost.failures:6}",
                flush=True,
            )


def measured(kind: Behaviour, *, mesh: bool) -> Cost:
    """One world from its start to rest."""
    world = World(1, model="messages")
    # As nodes of a Subnet have it.
    settings = BroadcastSettings(full_mesh=mesh, auto_scatters=False)
    nodes = [world.node(f"n{number}", settings=settings, up="100Mbit") for number in range(HONEST)]
    for number in range(DISHONEST):
        world.node(f"z{number}", settings=settings, up="100Mbit", behaviour=kind)
    if mesh:
        world.full_mesh(delay="50ms")
    else:
        world.regular(6, delay="50ms")
    world.run(1)
    sent = sum(world.wire_bytes_of(node.name) for node in nodes)
    rng, published = Random(1), list[ArtifactId]()
    for _ in range(ARTIFACTS):
        published.append(rng.choice(nodes).publish(rng.randbytes(SIZE)))
        world.run(1)
    world.run(SETTLE_S)
    names = {node.name for node in nodes}
    latencies = sorted(at for x in published for name, at in world.delivered(x).items() if name in names)
    failures = sum(
        event.kind is EventKind.FETCH_FAILED and event.peer not in names for node in nodes for event in node.events
    )
    asked = sum(node.counters["updates"] + node.counters["fetches"] for node in nodes)
    return Cost(
        len(latencies), latencies[len(latencies) // 2] * 1000, latencies[-1] * 1000,
        (sum(world.wire_bytes_of(node.name) for node in nodes) - sent) / (SIZE * len(latencies)),
        asked / len(latencies), failures,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
