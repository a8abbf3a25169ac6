"""`python -m tests.bench.blocks`: a block every second in measured networks, under each way to spread it, in virtual time.

A row is one simulated run: nodes of a preset, access links of `--access`, blocks of one size from nodes chosen by the seed. All
but the last column is the same on every machine. Reach counts what came within ten seconds of the last block.

usage: blocks.py [--seconds 600] [--networks ic-lhg73,aws] [--sizes 100kB,1MiB,4MiB] [--ways push,advert,auto,scatter]
                 [--access 1Gbit] [--seed 1]
"""

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from p2pnet.measure.wording import milliseconds, percent
from p2pnet.model.errors import SpecError
from p2pnet.model.report import Report
from p2pnet.model.units import parse_size
from p2pnet.sim.simulate import SimLoad, simulate
from p2pnet.subnet.document import load_subnet, nodes_max_of

NODES = {"ic-lhg73": 13, "aws": 200}
WAYS: dict[str, dict[str, Any]] = {
    "push": {"relay": "none", "pushBelow": "16MiB"},
    "advert": {"relay": "advert", "pushBelow": 0},
    "auto": {"relay": "auto"},
    "scatter": {"relay": "scatter"},
}
"""push: the publisher sends the whole block to every peer. advert: all announce what they have, and fetch it by parts."""
LOSSY = ("ic-lhg73",)  # presets with losses, of some links half of all packets: no connection bears that
LOSS_MAX = "5%"
WITHIN_S = 10.0
KEEP = "30s"  # of a block: pools hold half a minute of them


class Cell(NamedTuple):
    """One run: a network, a size, a way."""

    network: str
    size: str
    way: str


def document_of(cell: Cell, *, access: str) -> dict[str, Any]:
    """The Subnet of a cell: a full mesh."""
    network = {"preset": cell.network, "access": {"up": access, "down": access}}
    if cell.network in LOSSY:
        network["lossMax"] = LOSS_MAX
    return {
        "apiVersion": "p2pnet.io/v1alpha1",
        "kind": "Subnet",
        "metadata": {"name": "blocks"},
        "spec": {
            "nodes": NODES[cell.network],
            "topology": {"kind": "full"},
            "broadcast": {**WAYS[cell.way], "keep": KEEP},
            "network": network,
        },
    }


def measure(cell: Cell, *, seconds: int, access: str, seed: int) -> Report:
    """A block a second for so many virtual seconds. Raises SpecError for a way that this version has not."""
    subnet = load_subnet(document_of(cell, access=access), nodes_max=nodes_max_of("sim"))
    load = SimLoad(
        payloads=[("block", parse_size(cell.size))], count=seconds, rate_per_s=1.0, within_s=WITHIN_S,
        expectations=["reach >= 0%"],
    )  # fmt: skip
    return simulate(subnet, load, seed=seed, on_events=lambda _: None).report


def lines(cells: Sequence[Cell], *, seconds: int, access: str, seed: int) -> Iterator[str]:
    """A Markdown table, row by row as the figures come."""
    yield "| network, nodes | block | way | p50 | p99 | reach | bytes | digest | took |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for cell in cells:
        began = time.perf_counter()
        try:
            report = measure(cell, seconds=seconds, access=access, seed=seed)
        except SpecError as error:
            yield f"| {cell.network} | {cell.size} | {cell.way} | not in this version: {error} | | | | | |"
            continue
        ratio = "-" if report.bytes.ratio is None else f"{report.bytes.ratio:.3f}"
        latency = report.latency_ms
        yield (
            f"| {cell.network}, {report.nodes} | {cell.size} | {cell.way} | {milliseconds(latency.p50, 'never')}"
            f" | {milliseconds(latency.p99, 'never')} | {percent(report.reach.ratio)} | {ratio}"
            f" | {(report.digest or '')[:12]} | {time.perf_counter() - began:.0f} s |"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield f"\n{seconds} blocks each, one a second; access links of {access} both ways; seed {seed}; at most {peak >> 10} MiB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Blocks in measured networks, simulated.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--networks", default=",".join(NODES))
    parser.add_argument("--sizes", default="100kB,1MiB,4MiB")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--access", default="1Gbit")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    cells = [
        Cell(network, size, way)
        for network in asked.networks.split(",")
        for size in asked.sizes.split(",")
        for way in asked.ways.split(",")
    ]
    for line in lines(cells, seconds=asked.seconds, access=asked.access, seed=asked.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
