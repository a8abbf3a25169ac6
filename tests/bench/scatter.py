"""`python -m tests.bench.scatter [--quick]`: large artifacts in full meshes, in virtual time: the same on every machine.

50 ms one way, 100 Mbit/s up, World's plain model. Of a mesh with bad relays only the honest nodes count. The digest is that of
a line's world. `--quick` leaves out 16 MiB.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench.broadcast import DELAY_S, UPLINK_BITS, percentile

from p2pnet.broadcast import ArtifactId, BroadcastSettings
from p2pnet.model.limits import KIB, MIB
from p2pnet.sim import World

Spoil = Callable[[World, int], None]
"""Makes so many relays of a mesh bad."""


class ScatterFigure(NamedTuple):
    """One line."""

    what: str
    p99_s: float
    bytes_ratio: float
    digest: str


def main(arguments: list[str]) -> None:
    """Print a table, line by line as the figures come."""
    print(f"{'':62} {'p99':>8} {'delays':>7} {'bytes/payload':>14}  digest")
    for figure in figures(quick="--quick" in arguments):
        delays = figure.p99_s / DELAY_S
        print(
            f"{figure.what:62} {figure.p99_s:7.3f}s {delays:7.2f} {figure.bytes_ratio:14.3f}  {figure.digest[:12]}",
            flush=True,
        )


def figures(*, quick: bool) -> Iterator[ScatterFigure]:
    """All of them."""
    yield lone(50, MIB, relay="advert")
    for size in (MIB, 4 * MIB) if quick else (MIB, 4 * MIB, 16 * MIB):
        yield lone(50, size)
    yield lone(100, 100_000, relay="advert")
    yield lone(100, 100_000)
    yield lone(100, 700, relay="auto", uplink=None)
    yield lone(100, 64 * KIB, relay="auto", uplink=None)
    for bad in (1, 5):
        yield lone(50, MIB, bad=bad, spoil=silence, how="silent")
        yield lone(50, MIB, bad=bad, spoil=withhold, how="keeping what they are dealt")
        yield lone(50, MIB, bad=bad, spoil=spoil_bytes, how="passing on wrong bytes, twice, to some")
        yield lone(50, MIB, bad=bad, spoil=slow, how="with 10 Mbit/s up, all counted")
    for relay in ("advert", "scatter"):
        yield blocks(13, 100_000, relay)


# Worlds


def mesh(nodes: int, relay: str, uplink: float | None = UPLINK_BITS) -> World:
    """Nodes without links."""
    world = World(seed=1)
    for number in range(nodes):
        world.node(f"n{number:03}", up=uplink, settings=BroadcastSettings(relay=relay))
    return world


def silence(world: World, bad: int) -> None:
    """The last of them hear everything and answer nothing."""
    for name in list(world.nodes)[-bad:]:
        world.nodes[name].pause()


def withhold(world: World, bad: int) -> None:
    """As many more peers say yes to every stripe, and pass none on."""
    for number in range(bad):
        world.liar(f"z{number}", "silent", until=0)


def spoil_bytes(world: World, bad: int) -> None:
    """As many more peers pass on something else than they were dealt."""
    for number in range(bad):
        world.liar(f"z{number}", "bad-relay", until="1h")


def slow(world: World, bad: int) -> None:
    """As many more nodes have a tenth of the uplink."""
    for number in range(bad):
        world.node(f"z{number}", up=UPLINK_BITS / 10, settings=BroadcastSettings(relay="scatter"))


# Figures


def lone(
    nodes: int,
    size: int,
    *,
    relay: str = "scatter",
    uplink: float | None = UPLINK_BITS,
    bad: int = 0,
    spoil: Spoil | None = None,
    how: str = "",
) -> ScatterFigure:
    """One artifact in a mesh of so many nodes, bad relays among them."""
    late = spoil is silence
    world = mesh(nodes if late else nodes - bad, relay, uplink)
    if spoil is not None and not late:
        spoil(world, bad)
    world.full_mesh(delay=DELAY_S)
    world.run("3s")
    if spoil is not None and late:
        spoil(world, bad)
    artifact = world.nodes["n000"].publish(bytes(size), keep="1d")
    before = world.bytes_sent
    waiting = len(world.nodes) - 1 - (bad if late else 0)
    while len(world.delivered(artifact)) < waiting:
        world.run("5ms")
    sent = (world.bytes_sent - before) / (size * waiting)
    what = f"mesh of {nodes}, {_size(size)}, {relay}" + (f", {bad} relays {how}" if bad else "")
    return ScatterFigure(what, percentile(world.latencies(artifact), 0.99), sent, world.digest())


def blocks(nodes: int, size: int, relay: str) -> ScatterFigure:
    """A block every second for a minute, from each node in turn."""
    world = mesh(nodes, relay)
    world.full_mesh(delay=DELAY_S)
    world.run("3s")
    before, made = world.bytes_sent, list[ArtifactId]()
    for number in range(60):
        made.append(world.nodes[f"n{number % nodes:03}"].publish(bytes(size), keep="1d"))
        world.run("1s")
    world.settle()
    latencies = sorted(latency for artifact in made for latency in world.latencies(artifact))
    sent = (world.bytes_sent - before) / (size * len(latencies))
    what = f"mesh of {nodes}, {_size(size)} every second for a minute, {relay}"
    return ScatterFigure(what, percentile(latencies, 0.99), sent, world.digest())


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size / 1000:g} kB"


if __name__ == "__main__":
    main(sys.argv[1:])
