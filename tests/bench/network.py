"""The emulated network on real nodes: asked against seen, at idle and with every core busy; a measured matrix; what it costs.

    python -m tests.bench.network [accuracy] [matrix] [cost]

`accuracy`: pairs of nodes under one rule each; seen is what the canary reports. `matrix`: 20 nodes under ic-lhg73. `cost`: CPU of
50 nodes with and without shaping.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.subnet import MeasuredSubnet

DELAYS_MS = (1, 5, 20, 50, 100, 300)
LOSSES = ("0.1%", "0.5%", "1%", "5%", "20%")
BANDWIDTHS = ("1Mbit", "10Mbit", "50Mbit", "200Mbit")
JITTERS = (("50ms", "5ms"), ("50ms", "20ms"), ("100ms", "10ms"))
TOGETHER = {"latency": "60ms", "jitter": "6ms", "loss": "2%", "bandwidth": "20Mbit"}


def shapes() -> Iterator[tuple[str, dict[str, str]]]:
    """Every shape that is measured, with its name."""
    for delay in DELAYS_MS:
        yield f"delay {delay} ms", {"latency": f"{delay}ms"}
    for latency, jitter in JITTERS:
        yield f"delay {latency}, jitter {jitter}", {"latency": latency, "jitter": jitter}
    for loss in LOSSES:
        yield f"loss {loss}", {"latency": "10ms", "loss": loss}
    for bandwidth in BANDWIDTHS:
        yield f"bandwidth {bandwidth}", {"latency": "10ms", "bandwidth": bandwidth}
    yield "together", TOGETHER


def document(spec: dict[str, Any], name: str = "bench") -> str:
    """A Subnet as JSON, which is YAML."""
    return json.dumps({"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec})


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Every core busy with something else, at the same priority as the nodes."""
    spinners = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(processes)]
    for one in spinners:
        one.start()
    try:
        yield
    finally:
        for one in spinners:
            one.terminate()


def _spin() -> None:
    while True:
        pass


def accuracy() -> None:
    """One row per shape: asked, and seen by the canary, at idle and, of the same subnet, with busy cores after that."""
    print("| shape | load | asked | seen | samples | verdict |\n| --- | --- | --- | --- | --- | --- |")
    for name, shape in shapes():
        with MeasuredSubnet(2, document=document({"nodes": 2, "network": {"default": shape}})) as subnet:
            for load, processes in (("idle", 0), ("busy", os.cpu_count() or 1)):
                with busy(processes):
                    report = subnet.document_of(
                        "inject", subnet.name, "--size", "32KiB", "--count", "20", "--rate", "2/s"
                    )
                for line in rows(name, load, report):
                    print(line, flush=True)


def rows(name: str, load: str, report: dict[str, Any]) -> Iterator[str]:
    """The table's lines of one report."""
    for row in report["network"]:
        if not row.get("worst"):
            verdict = report["verdict"] if row["ok"] else f"{report['verdict']}: {row['problem']}"
            print_of = (figures(row["asked"]), figures(row["seen"]), str(row["seen"]["samples"]), verdict)
            yield f"| {name} | {load} | " + " | ".join(print_of) + " |"


def figures(found: dict[str, Any]) -> str:
    """One side of a row, without what is null."""
    texts = []
    for key, unit, scale in (
        ("delay_ms", "ms", 1),
        ("jitter_ms", "ms", 1),
        ("loss", "%", 100),
        ("bandwidth_bps", "Mbit/s", 1e-6),
    ):
        if found[key] is not None:
            texts.append(f"{found[key] * scale:.3g} {unit}")
    return ", ".join(texts)


def matrix() -> None:
    """20 nodes under ic-lhg73: a paced artifact of 1 KiB and of 1 MiB, against the longest one-way delays of the matrix."""
    spec = {
        "nodes": 20,
        "network": {"preset": "ic-lhg73", "lossMax": "5%", "access": {"up": "100Mbit", "down": "1Gbit"}},
    }
    with MeasuredSubnet(20, document=document(spec)) as subnet:
        print(f"connected in {subnet.seconds_to_connected:.1f} s")
        for size, count, rate in (("1KiB", 40, "2/s"), ("1MiB", 20, "0.2/s")):
            report = subnet.document_of(
                "inject", subnet.name, "--size", size, "--count", str(count), "--rate", rate, "--from", "node-0"
            )
            latency = report["latency_ms"]
            print(
                f"{size}: {report['verdict']}, reach {report['reach']['ratio']:.2%}, p50 {latency['p50']} ms,"
                f" p99 {latency['p99']} ms, max {latency['max']} ms, bytes {report['bytes']['ratio']}"
            )
            for row in report["network"]:
                print(
                    "   ",
                    row["rule"],
                    row["from"],
                    row["to"],
                    figures(row["asked"]),
                    "->",
                    figures(row["seen"]),
                    row["ok"],
                )
            print("   ", *report["invalid"], sep="\n    ")


def cost() -> None:
    """CPU of 50 nodes at rest and under a paced load, without and with a network."""
    for name, network in (("clear", {}), ("shaped", {"default": {"latency": "50ms", "jitter": "5ms", "loss": "0.5%"}})):
        with MeasuredSubnet(50, document=document({"nodes": 50, "network": network})) as subnet:
            before, start = subnet.cpu_seconds(), time.monotonic()
            time.sleep(20)
            rest = (subnet.cpu_seconds() - before) / (time.monotonic() - start)
            before = subnet.cpu_seconds()
            report = subnet.document_of("inject", subnet.name, "--size", "4KiB", "--count", "50", "--rate", "2/s")
            spent = subnet.cpu_seconds() - before
            print(
                f"{name}: connected in {subnet.seconds_to_connected:.1f} s, at rest {rest:.3f} cores; 50 x 4 KiB:"
                f" {spent:.1f} s CPU, {report['verdict']}, reach {report['reach']['ratio']:.2%},"
                f" p50 {report['latency_ms']['p50']} ms, p99 {report['latency_ms']['p99']} ms"
            )


def main() -> None:
    """Measure what is named, or all."""
    known = {"accuracy": accuracy, "matrix": matrix, "cost": cost}
    for name in sys.argv[1:] or known:
        print(f"## {name}")
        known[name]()


if __name__ == "__main__":
    main()
