"""What the emulated network costs on a real socket, and how well its timer keeps time.

    python -m tests.bench.shaping [ROUNDS]     (default 5 rounds)

Two endpoints in this process, over loopback, with datagrams of Ethernet's size and mutual TLS; at each a node's seam. The
networks take turns, every other round in reverse order, so that whatever else the machine does meets all of them alike: compare
rows, not runs. Bulk is one message of 16 MiB, small are requests of 200 bytes, 32 at a time. CPU is of both ends, per datagram
sent by either, the least of all rounds, for other work on the machine only adds to it; `more` is what that is beyond the first
row's. Throughput is the best round's.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import uvloop
from tests.node.seamkit import SeamedNode, SeamWorld, network
from tests.quic.conftest import World

from p2pnet.model.network import AccessShape, LinkShape, NodeNetwork
from p2pnet.node.precise_timer import KernelTimer, LoopTimer, PreciseTimer
from p2pnet.peering.clock import mono_ns
from p2pnet.quic import Connection, Settings

MS, MIB = 1_000_000, 1 << 20
BULK_BYTES = 16 * MIB
SMALL_COUNT, SMALL_BYTES, AT_A_TIME = 2_000, 200, 32
DATAGRAM_BYTES = 1_452
RINGS = 1_000

ALL_OF_IT = LinkShape(delay_ns=1 * MS, jitter_ns=300_000, loss=0.001, bandwidth_bps=1e9)
NETWORKS: dict[str, Callable[[str], NodeNetwork | None]] = {
    "no network": lambda _peer: None,
    "another peer is shaped": lambda _peer: network({"node-9": LinkShape(delay_ns=MS)}),
    "delay 1 ms": lambda peer: network({peer: LinkShape(delay_ns=MS)}),
    "delay, jitter, loss, bandwidth": lambda peer: network({peer: ALL_OF_IT}),
    "delay, uplink and downlink": lambda peer: network(
        {peer: LinkShape(delay_ns=MS)}, up=AccessShape(1e9), down=AccessShape(1e9)
    ),
}


class Cost(NamedTuple):
    """Of one load under one network."""

    mbit_per_s: float
    cpu_us: float
    """Per datagram."""
    datagrams: int


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rounds", nargs="?", type=int, default=5)
    rounds = options.parse_args().rounds
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(print_timers())
    found: dict[tuple[str, str], list[Cost]] = {}
    for number in range(rounds + 1):
        for name, shape in list(NETWORKS.items())[:: -1 if number % 2 else 1]:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                costs = runner.run(measure(shape))
            for load, cost in costs.items() if number else ():  # the first round only warms up
                found.setdefault((load, name), []).append(cost)
    print_costs(found)


async def measure(shape: Callable[[str], NodeNetwork | None]) -> dict[str, Cost]:
    """Both loads under one network."""
    world = World()
    seams = SeamWorld.real(world)
    one, other = await seams.nodes_up(2, settings=Settings(max_datagram_bytes=DATAGRAM_BYTES))
    connection = await seams.connect(one, other)
    await connection.send(b"/x", b"", bytes(MIB))  # the path's MTU is found, caches are warm
    for node, peer in ((one, "node-1"), (other, "node-0")):
        if (asked := shape(peer)) is not None:
            node.seam.apply(asked)
    costs = {
        "bulk": await _cost(one, other, BULK_BYTES, connection.send(b"/x", b"", bytes(BULK_BYTES))),
        "small": await _cost(one, other, SMALL_COUNT * SMALL_BYTES, _small(connection)),
    }
    seams.close()
    for endpoint in world.endpoints:
        endpoint.close()
        await endpoint.wait_closed()
    return costs


async def _small(connection: Connection) -> None:
    left = iter(range(SMALL_COUNT))

    async def ask() -> None:
        for _ in left:
            await connection.request(b"/x", bytes(SMALL_BYTES))

    await asyncio.gather(*(ask() for _ in range(AT_A_TIME)))


async def _cost(one: SeamedNode, other: SeamedNode, size: int, work: object) -> Cost:
    def datagrams() -> int:
        ends = [one.endpoint.connections[0], other.endpoint.connections[0]]
        return int(sum(end.counters()["sent_packets_total"] for end in ends))

    before, cpu, wall = datagrams(), time.process_time(), time.perf_counter()
    await work  # type: ignore[misc]
    wall, cpu, count = time.perf_counter() - wall, time.process_time() - cpu, datagrams() - before
    return Cost(size * 8 / wall / 1e6, cpu / count * 1e6, count)


def print_costs(found: dict[tuple[str, str], list[Cost]]) -> None:
    """A row for each load and network."""
    print(f"\n{'':40}  Mbit/s  CPU us each  more  datagrams")
    for load in ("bulk", "small"):
        plain = min(cost.cpu_us for cost in found[load, next(iter(NETWORKS))])
        for name in NETWORKS:
            costs = found[load, name]
            cpu_us = min(cost.cpu_us for cost in costs)
            print(
                f"{load + ': ' + name:40}  {max(cost.mbit_per_s for cost in costs):6.0f}  {cpu_us:11.1f}"
                f"  {cpu_us - plain:+4.1f}  {costs[0].datagrams:9,.0f}"
            )


async def print_timers() -> None:
    """How late a node's timer rings, and that of the loop."""
    loop = asyncio.get_running_loop()
    print(f"{'timer, us late':40}     min      p50      p95      p99")
    for name, make in {
        "of the kernel (timerfd)": lambda ring: KernelTimer(loop, ring),
        "of uvloop": lambda ring: LoopTimer(loop, ring, mono_ns),
    }.items():
        late = sorted(await _lateness(make))
        print(f"{name:40}" + "".join(f"  {late[int(part * RINGS)] / 1_000:7.0f}" for part in (0, 0.5, 0.95, 0.99)))


async def _lateness(make: Callable[[Callable[[], None]], PreciseTimer]) -> list[int]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    late: list[int] = []
    due = 0

    def ring() -> None:
        nonlocal due
        now = mono_ns()
        late.append(now - due)
        if len(late) == RINGS:
            timer.clear()
            done.set_result(None)
            return
        due = now + 300_000 + len(late) * 7_919_000 % 3_000_000  # from 0.3 to 3.3 ms ahead
        timer.set(due)

    timer = make(ring)
    due = mono_ns() + MS
    timer.set(due)
    await done
    timer.close()
    return late


if __name__ == "__main__":
    main()
