"""The simulator against real nodes: the same document and load, 20 live nodes under the emulated network and as many simulated.

    python -m tests.bench.calibration [NODES]      (default: 20)

A live node computes, and shares its cores with the others; a simulated one takes no time to compute. The gap shows both that and
how far the message model is from packets. Loads are paced, so that the machine has time for them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple

from tests.bench.subnet import MeasuredSubnet

from p2pnet.sim.simulate import SimLoad, simulate
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.spec import SIMULATED_NODES_MAX

KIB, MIB = 1 << 10, 1 << 20
NETWORKS: dict[str, dict[str, Any]] = {
    "50 ms": {"default": {"latency": "50ms"}},
    "50 ms +- 5 ms, 1 % loss": {"default": {"latency": "50ms", "jitter": "5ms", "loss": "1%"}},
    "50 ms, 20 Mbit/s up": {"default": {"latency": "50ms"}, "access": {"up": "20Mbit", "down": "100Mbit"}},
}


class Load(NamedTuple):
    """What node-0 publishes."""

    size: int
    artifacts: int
    rate_per_s: float


LOADS = (Load(KIB, 40, 4), Load(64 * KIB, 20, 1), Load(MIB, 6, 0.2))


def main(arguments: list[str]) -> None:
    """Print a row per network and load."""
    nodes = int(arguments[0]) if arguments else 20
    print(f"{nodes} nodes, full mesh, {os.cpu_count()} cores; live nodes against the simulator, ms\n")
    print("| network | load | live p50 | sim p50 | gap | live p95 | sim p95 | gap | live verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, network in NETWORKS.items():
        text = document(nodes, network)
        with MeasuredSubnet(nodes, document=text) as subnet:
            for load in LOADS:
                real, verdict = live(subnet, load)
                print(row(name, load, real, simulated(text, load), verdict), flush=True)


def document(nodes: int, network: dict[str, Any]) -> str:
    """A Subnet as JSON, which is YAML."""
    spec = {"nodes": nodes, "network": network}
    return json.dumps(
        {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "bench"}, "spec": spec}
    )


def live(subnet: MeasuredSubnet, load: Load) -> tuple[dict[str, float | None], str]:
    """Latencies of real nodes in milliseconds, by percentile, and the run's verdict."""
    report = subnet.document_of(
        "inject", subnet.name, "--size", f"{load.size}B", "--count", str(load.artifacts), "--rate", f"{load.rate_per_s}/s",
        "--from", "node-0",
    )  # fmt: skip
    return report["latency_ms"], report["verdict"]


def simulated(text: str, load: Load) -> dict[str, float]:
    """The same of simulated ones."""
    outcome = simulate(
        load_subnet(text, nodes_max=SIMULATED_NODES_MAX),
        SimLoad(payloads=[("block", load.size)], count=load.artifacts, rate_per_s=load.rate_per_s, sender="node-0"),
        seed=1,
    )
    latency = outcome.report.latency_ms
    return {"p50": latency.p50 or 0.0, "p95": latency.p95 or 0.0}


def row(name: str, load: Load, real: dict[str, float | None], sim: dict[str, float], verdict: str) -> str:
    """One line of the table."""
    cells = [name, f"{load.artifacts} x {load.size // KIB} KiB at {load.rate_per_s:g}/s"]
    for key in ("p50", "p95"):
        seen = real[key]
        # None: too few nodes got it for this percentile.
        cells += ["-" if seen is None else f"{seen:.1f}", f"{sim[key]:.1f}"]
        cells.append("-" if seen is None else f"{sim[key] / seen - 1:+.1%}")
    return "| " + " | ".join([*cells, verdict]) + " |"


if __name__ == "__main__":
    main(sys.argv[1:])
