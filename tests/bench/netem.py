"""What the network model costs: processor time per packet through `p2pnet.netem`, sent and taken again, one core, virtual time.

    python -m tests.bench.netem [PACKETS] [--peers N]     (default 40,000 packets to 20 peers)

Packets of 1,228 bytes leave one after another, 20,000 a second, to each peer in turn; what is due is taken when it is due, as a
node does it, so that most packets come with calls of `send`, `next_at` and `due` of their own. The best of 25 rounds, for
whatever else the machine does makes them slower. Beside it: times the cost of a list that packets are appended to and popped
from, which is the machine's own speed, and how many packets were on their way in the end.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

from p2pnet.netem import AccessShape, Egress, Ingress, LinkShape, NodeNetwork

MS = 1_000_000
GAP_NS = 50_000
SIZE = 1_228
ROUNDS = 25

SHAPES = {
    "delay": LinkShape(delay_ns=50 * MS),
    "delay, jitter": LinkShape(delay_ns=50 * MS, jitter_ns=5 * MS),
    "delay, jitter without order": LinkShape(delay_ns=50 * MS, jitter_ns=5 * MS, keep_order=False),
    "delay, jitter, loss": LinkShape(delay_ns=50 * MS, jitter_ns=5 * MS, loss=0.01),
    "delay, jitter, loss in bursts": LinkShape(delay_ns=50 * MS, jitter_ns=5 * MS, loss=0.01, loss_burst=5),
    "delay, reorder, duplication": LinkShape(delay_ns=50 * MS, reorder=0.01, duplication=0.01),
    "bandwidth": LinkShape(bandwidth_bps=20e6),
    "bandwidth, CoDel, delay": LinkShape(delay_ns=50 * MS, bandwidth_bps=20e6, queue_kind="codel"),
    "blocked": LinkShape(blocked=True),
}
UPLINK = AccessShape(bandwidth_bps=300e6)


def main() -> None:
    """Print the table, line by line as the figures come."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("packets", nargs="?", type=int, default=40_000)
    options.add_argument("--peers", type=int, default=20)
    given = options.parse_args()
    floor = least(given.packets)
    print(f"{'':32}  us per packet  x the list  on their way")
    for what, measure in rows(given.peers):
        each, under_way = min(measure(given.packets) for _ in range(ROUNDS))
        print(f"{what:32}  {each:13.2f}  {each / floor:10.1f}  {under_way:12,}", flush=True)


Measure = Callable[[int], tuple[float, int]]
"""Packets -> microseconds for each, and packets on their way in the end."""


def rows(peers: int) -> Iterator[tuple[str, Measure]]:
    """Each row and how to measure it."""
    yield "clear: asked whether it is", partial(clear, peers)
    for what, shape in SHAPES.items():
        yield what, partial(shaped, peers, NodeNetwork(shapes=[shape]))
    yield "access link, up", partial(shaped, peers, NodeNetwork(shapes=[LinkShape()], up=UPLINK))
    yield "access link, up, delay", partial(shaped, peers, NodeNetwork(shapes=[SHAPES["delay"]], up=UPLINK))
    yield "access link, down", downlink


def least(packets: int) -> float:
    """Microseconds per packet of a list."""
    began = time.process_time()
    held: list[int] = []
    for packet in range(packets):
        held.append(packet)
        held.pop()
    return 1e6 * (time.process_time() - began) / packets


def clear(peers: int, packets: int) -> tuple[float, int]:
    """A network that shapes other peers than those packets are for."""
    egress: Egress[int] = Egress(random.Random(1).random)
    egress.apply(NodeNetwork(shapes=[SHAPES["delay"]], paths={"other": 0}), 0)
    names = [f"node-{number}" for number in range(peers)]
    began = time.process_time()
    touched = sum(egress.touches(names[packet % peers]) for packet in range(packets))
    return 1e6 * (time.process_time() - began) / packets, touched


def shaped(peers: int, network: NodeNetwork, packets: int) -> tuple[float, int]:
    """Every path with the first shape."""
    names = [f"node-{number}" for number in range(peers)]
    egress: Egress[int] = Egress(random.Random(1).random)
    egress.apply(NodeNetwork(shapes=network.shapes, paths=dict.fromkeys(names, 0), up=network.up), 0)
    now, at = 0, None
    began = time.process_time()
    for packet in range(packets):
        now += GAP_NS
        if at is None or at <= now:
            egress.due(now)
        egress.send(names[packet % peers], packet, SIZE, now)
        at = egress.next_at()
    return 1e6 * (time.process_time() - began) / packets, egress.held[0]


def downlink(packets: int) -> tuple[float, int]:
    """Everything through one downlink."""
    ingress: Ingress[int] = Ingress()
    ingress.apply(NodeNetwork(down=UPLINK), 0)
    now, at = 0, None
    began = time.process_time()
    for packet in range(packets):
        now += GAP_NS
        if at is None or at <= now:
            ingress.due(now)
        ingress.send(packet, SIZE, now)
        at = ingress.next_at()
    return 1e6 * (time.process_time() - began) / packets, ingress.held[0]


if __name__ == "__main__":
    main()
