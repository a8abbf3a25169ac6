"""`make bench-sim`: figures of the broadcast core in virtual time (`p2pnet.sim.World`): the same on every machine.

Only the cost of garbage is measured in this machine's seconds. The digest is that of a line's world: equal digests, equal
runs.

usage: broadcast.py [--large]      (--large: 10,000 nodes, and 8,000 adverts of garbage; minutes)
"""

import sys
import time
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from p2pnet.broadcast import ArtifactId
from p2pnet.model.limits import ARTIFACT_BYTES_MAX, KIB, MIB
from p2pnet.sim import Liar, World
from p2pnet.sim import liar_wire as wire

DELAY_S = 0.05
UPLINK_BITS = 100e6


class Line(NamedTuple):
    """One figure."""

    what: str
    seen: str
    against: str
    digest: str


def main(arguments: list[str]) -> None:
    """Print a table, line by line as the figures come."""
    large = "--large" in arguments
    print(f"{'':66}  {'seen':28}  {'against':22}  digest")
    for line in lines(large=large):
        print(f"{line.what:66}  {line.seen:28}  {line.against:22}  {line.digest[:12]}", flush=True)


def lines(*, large: bool) -> Iterator[Line]:
    """All figures."""
    yield spread(50, degree=8, size=MIB)
    yield spread(20, degree=None, size=MIB)
    yield from small_in_a_mesh(100, 1_200)
    yield trips(100, 100_000, uplink=None)
    yield trips(100, 100_000, uplink=UPLINK_BITS)
    yield lone(100, degree=None)
    yield paced(20, artifacts=100, per_second=10)
    for nodes in (1_000, 10_000) if large else (1_000,):
        yield lone(nodes, degree=8)
    yield from tree(1_000, 700, publishers=10)
    yield churned(1_000, 700, publishers=10, minutes=2)
    yield from garbage((1_000, 2_000, 4_000, 8_000) if large else (1_000, 2_000, 4_000))
    yield at_rest(20, degree=None)
    yield at_rest(50, degree=8)


# Worlds


def world_of(nodes: int, degree: int | None, *, uplink: float | None = UPLINK_BITS) -> World:
    """A mesh, or a random graph of this degree."""
    world = World(seed=1)
    for number in range(nodes):
        world.node(f"n{number}", up=uplink)
    if degree is None:
        world.full_mesh(delay=DELAY_S)
    else:
        world.regular(degree, delay=DELAY_S)
    return world


def named(nodes: int, degree: int | None) -> str:
    """How a world is called in the table."""
    return f"mesh of {nodes}" if degree is None else f"degree {degree} of {nodes:,}"


def publish(world: World, size: int, node: str = "n0") -> ArtifactId:
    """So many bytes, for a day."""
    return world.nodes[node].publish(bytes(size), keep="1d")


def run_until_all_have(world: World, artifact: ArtifactId) -> None:
    """To the millisecond."""
    while len(world.delivered(artifact)) < len(world.nodes) - 1:
        world.run("1ms")


def longest_path(world: World, start: str) -> int:
    """Links from a node to the one farthest away."""
    peers: dict[str, list[str]] = {}
    for a, b in world.links():
        peers.setdefault(a, []).append(b)
        peers.setdefault(b, []).append(a)
    hops, line = {start: 0}, deque([start])
    while line:
        here = line.popleft()
        for peer in peers[here]:
            if peer not in hops:
                hops[peer] = hops[here] + 1
                line.append(peer)
    return max(hops.values())


def percentile(values: list[float], share: float) -> float:
    """The nearest rank of ascending values."""
    return values[min(len(values) - 1, int(share * len(values)))]


# Latency and bytes


def spread(nodes: int, *, degree: int | None, size: int) -> Line:
    """When the last node has a large artifact, against what the links allow."""
    world = world_of(nodes, degree)
    artifact = publish(world, size)
    world.settle()
    last, path = world.latencies(artifact)[-1], longest_path(world, "n0")
    bound = 1.5 * (3 * DELAY_S * path + 2 * size * 8 / UPLINK_BITS)
    what = f"{named(nodes, degree)}, {size // KIB} KiB, 50 ms, 100 Mbit/s up: complete"
    return Line(what, f"{last:.3f} s", f"{bound:.3f} s (path {path})", world.digest())


def small_in_a_mesh(nodes: int, size: int) -> Iterator[Line]:
    """Trips, and bytes per byte of payload, when the last one has it and when all is said."""
    world = world_of(nodes, None, uplink=None)
    artifact = publish(world, size)
    run_until_all_have(world, artifact)
    payload = (nodes - 1) * size
    at_last = world.bytes_sent / payload
    world.settle()
    what = f"{named(nodes, None)}, {size / 1000:g} kB: "
    seen = f"{percentile(world.latencies(artifact), 0.99) / DELAY_S:.2f}"
    yield Line(what + "p99, in one-way delays", seen, "1: pushed to all", world.digest())
    seen = f"{at_last:.3f}, then {world.bytes_sent / payload:.3f}"
    yield Line(what + "bytes / payload, at last receipt, at rest", seen, "1", world.digest())


def trips(nodes: int, size: int, *, uplink: float | None) -> Line:
    """Latencies in one-way delays, with a limit of bandwidth or none."""
    world = world_of(nodes, None, uplink=uplink)
    artifact = publish(world, size)
    world.settle()
    latencies = world.latencies(artifact)
    seen = f"{percentile(latencies, 0.99) / DELAY_S:.2f}, {latencies[-1] / DELAY_S:.2f}"
    serial = 0.0 if uplink is None else (nodes - 1) * size * 8 / uplink / DELAY_S
    limit = "no limit" if uplink is None else f"{uplink / 1e6:g} Mbit/s up"
    what = f"{named(nodes, None)}, {size / 1000:g} kB, {limit}: p99 and last, in one-way delays"
    return Line(what, seen, f"{1 + serial:.1f}: pushed to all", world.digest())


# Sparse topologies: a tree for each publisher


def tree(nodes: int, size: int, *, publishers: int) -> Iterator[Line]:
    """Of random publishers: what the first artifact of each costs, and what the second one does, over the tree of the first."""
    world = world_of(nodes, 8, uplink=None)
    world.settle()
    chosen = Random(1).sample(sorted(world.nodes), publishers)
    for ordinal in ("first", "second"):
        ratios, spent, before = [], world.bytes_sent, world.inputs
        for name in chosen:
            artifact = publish(world, size, name)
            world.settle()
            assert len(world.delivered(artifact)) == nodes - 1
            ratios.append(percentile(world.latencies(artifact), 0.99) / DELAY_S / longest_path(world, name))
        receipts = publishers * (nodes - 1)
        what = f"{named(nodes, 8)}, {size} B, the {ordinal} of each of {publishers} publishers: p99, bytes"
        against = "1.2 paths, 1.3 bytes" if ordinal == "second" else "1 path"
        inputs = (world.inputs - before) / receipts
        cost = (world.bytes_sent - spent) / receipts / size
        yield Line(what, f"{max(ratios):.2f} paths, {cost:.2f}, {inputs:.1f} in", against, world.digest())


def churned(nodes: int, size: int, *, publishers: int, minutes: int) -> Line:
    """One artifact every two seconds while 1 % of the nodes a minute are killed and start again half a second later."""
    world = world_of(nodes, 8, uplink=None)
    world.settle()
    rng = Random(1)
    chosen = rng.sample(sorted(world.nodes), publishers)
    for name in chosen:
        publish(world, size, name)
        world.settle()
    spent, artifacts, others = world.bytes_sent, [], sorted(world.nodes.keys() - set(chosen))
    for second in range(0, 60 * minutes, 2):
        artifacts.append(publish(world, size, rng.choice(chosen)))
        world.run(1)
        if not second % (60 // (nodes // 100)):
            killed = world.nodes[rng.choice(others)]
            killed.crash()
            world.run("500ms")
            killed.restart()
        world.run(1)
    world.settle()
    missed = sum(nodes - 1 - len(world.delivered(artifact)) for artifact in artifacts) + len(world.broken())
    latencies = sorted(latency for artifact in artifacts for latency in world.latencies(artifact))
    cost = (world.bytes_sent - spent) / (len(artifacts) * (nodes - 1) * size)
    seen = f"{cost:.2f}, missed {missed}, p99 {percentile(latencies, 0.99):.2f} s"
    return Line(
        f"{named(nodes, 8)}, {size} B, 1 % killed a minute: bytes, missed, p99", seen, "1.6, none", world.digest()
    )


# Inputs


def lone(nodes: int, *, degree: int | None) -> Line:
    """What all cores handle until a lone small artifact is everywhere and all is quiet."""
    world = world_of(nodes, degree)
    world.settle()
    before = world.inputs
    artifact = publish(world, 1_200)
    world.settle()
    receipts = len(world.delivered(artifact))
    assert receipts == nodes - 1
    what = f"{named(nodes, degree)}, a lone 1.2 kB: inputs per delivery"
    return Line(what, f"{(world.inputs - before) / receipts:.2f}", "", world.digest())


def paced(nodes: int, *, artifacts: int, per_second: int) -> Line:
    """The same of many, from all nodes in turn."""
    world = world_of(nodes, None)
    world.settle()
    before = world.inputs
    for number in range(artifacts):
        publish(world, 1_200, f"n{number % nodes}")
        world.run(1 / per_second)
    world.settle()
    seen = (world.inputs - before) / (artifacts * (nodes - 1))
    what = f"{named(nodes, None)}, {artifacts} x 1.2 kB at {per_second}/s: inputs per delivery"
    return Line(what, f"{seen:.2f}", "", world.digest())


def at_rest(nodes: int, *, degree: int | None) -> Line:
    """What all cores handle in an hour when nothing happens."""
    world = world_of(nodes, degree)
    for number in range(20):
        publish(world, 1_200 if number % 2 else 200_000, f"n{number % nodes}")
        world.run("500ms")
    world.settle()
    before = world.inputs
    world.run("1h")
    what = f"{named(nodes, degree)}, at rest after traffic: inputs in an hour"
    return Line(what, f"{world.inputs - before}", "0", world.digest())


# Garbage


class Garbage(Liar):
    """Announces ids of nothing as large as may be, and serves a part list of the right length that is none of theirs."""

    def announce(self, peer: str, count: int) -> None:
        """So many, each in a slot of its own."""
        size = ARTIFACT_BYTES_MAX
        entries = [
            wire.advert(slot, self.next_commit(), ArtifactId(self.rng.randbytes(32)), size) for slot in range(count)
        ]
        for body in wire.batches(entries):
            self.say(peer, body)

    def serve(self, peer: str, asked: wire.Question) -> bytes | None:
        """The same wrong list to everybody."""
        return wire.serve(asked, ARTIFACT_BYTES_MAX, _WRONG_LIST, {})


_WRONG_LIST = bytes(32 * (ARTIFACT_BYTES_MAX // (64 * KIB)))


def garbage(counts: tuple[int, ...]) -> Iterator[Line]:
    """Processor time that an advert of garbage costs, the liar's own included: it must not grow with their number."""
    first = 0.0
    for count in counts:
        world = World(seed=1)
        node = world.node("honest")
        liar = world.liar("liar", "silent", until=0, kind=Garbage)
        assert isinstance(liar, Garbage)
        world.link("honest", "liar", delay="1ms")
        world.run("1s")
        began = time.process_time()
        liar.announce("honest", count)
        world.settle("10h")
        each = 1e6 * (time.process_time() - began) / count
        first = first or each
        wrong = node.counters["wrong_content"]
        what = f"{count:,} adverts of 128 MiB answered with garbage"
        yield Line(what, f"{each:.0f} us each, {wrong:,} closed", f"x{each / first:.2f} of the first", world.digest())


if __name__ == "__main__":
    main(sys.argv[1:])
