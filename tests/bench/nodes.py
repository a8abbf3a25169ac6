"""`make bench`: ten real nodes on this machine. Figures are of this machine and this hour: compare only within one run.

usage: nodes.py [NODES...]      (default 10)
"""

import platform
import sys
from importlib.metadata import version

from tests.bench.subnet import MeasuredSubnet

LOADS = [
    ("2,000 x 200 B, a burst", ["--size", "200B", "--count", "2000"]),
    ("100 x 1 KiB at 100/s", ["--size", "1KiB", "--count", "100", "--rate", "100/s"]),
    ("20 x 1 MiB, a burst", ["--size", "1MiB", "--count", "20"]),
]


def main(sizes: list[int]) -> None:
    """Print one block per subnet size."""
    print(f"python {platform.python_version()}, aioquic {version('aioquic')}, {platform.machine()}")
    for nodes in sizes:
        with MeasuredSubnet(nodes) as subnet:
            start(subnet)
            for name, options in LOADS:
                load(subnet, name, options)


def start(subnet: MeasuredSubnet) -> None:
    """What it cost to get there."""
    links = subnet.document_of("status", subnet.name)["links"]
    cpu, memory = subnet.cpu_seconds(), subnet.pss_mb()
    print(f"\n{subnet.nodes} nodes, {links['up']}/{links['expected']} links")
    print(f"  to connected      {subnet.seconds_to_connected:.2f} s, {cpu:.2f} CPU-s in nodes ", end="")
    print(f"({cpu / subnet.nodes:.3f} per node, {1000 * cpu / max(links['expected'], 1):.1f} ms per link)")
    print(f"  memory (PSS)      {sum(memory) / subnet.nodes:.1f} MB per node, largest {max(memory):.1f} MB")


def load(subnet: MeasuredSubnet, name: str, options: list[str]) -> None:
    """One load's line."""
    before = subnet.cpu_seconds()
    report = subnet.document_of("inject", subnet.name, *options, "--from", "node-0", "--seed", "7", "--within", "120s")
    cpu = subnet.cpu_seconds() - before
    latency, reach = report["latency_ms"], report["reach"]
    seconds, delivered = report["duration_s"], reach["delivered"]
    rate = delivered / seconds if seconds else 0.0
    print(f"  {name:24}{delivered}/{reach['expected']} in {seconds:.2f} s, {rate:,.0f} deliveries/s, ", end="")
    print(
        f"p50 {latency['p50'] or 0:.1f} ms, p95 {latency['p95'] or 0:.1f} ms, p99 {latency['p99'] or 0:.1f} ms, ",
        end="",
    )
    print(
        f"bytes x{report['bytes']['ratio'] or float('nan'):.2f}, {1e6 * cpu / max(delivered, 1):.0f} us CPU per delivery"
    )


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [10])
