"""`make bench-rivals`: p2pnet beside gossipsub over QUIC (rust-libp2p) in one run on this machine, the two in turn.

The rival is `peers/gossipsub`: all its nodes live in one process, unsigned certificates of its own, sizes and counts the same.
Both publish from one node. Deliveries per second count from the first publication to the last receipt. Needs cargo.

usage: rivals.py [ROUNDS]      (default 3; medians are printed)
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.bench.subnet import MeasuredSubnet

HERE = Path(__file__).parent
TARGET = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "p2pnet-bench" / "gossipsub"


class Load(NamedTuple):
    """One load, the same for both: rate 0 is a burst."""

    nodes: int
    artifacts: int
    size: int
    rate: int

    def __str__(self) -> str:
        pace = f"at {self.rate}/s" if self.rate else "burst"
        return f"{self.nodes} nodes, {self.artifacts} x {self.size:,} B, {pace}"


class Outcome(NamedTuple):
    """What one program made of a load; milliseconds. `bytes_ratio` and `cpu_us` per delivery; what was not counted is nan."""

    delivered: int
    expected: int
    per_second: float
    p50: float
    p95: float
    p99: float
    cpu_us: float = 0.0
    bytes_ratio: float = float("nan")


LOADS = [
    Load(10, 2000, 200, 0),
    Load(10, 300, 1024, 100),
    Load(10, 20, 1 << 20, 0),
    Load(10, 100, 1 << 20, 0),
    Load(20, 20, 64 << 10, 2),
    Load(20, 100, 64 << 10, 0),
]


def gossipsub(load: Load) -> Outcome:
    """The rival's figures; its degree is 8 for 20 nodes, as its mesh wants, and full for 10."""
    degree = 9 if load.nodes == 10 else 8
    command = [
        str(TARGET / "release" / "gossipsub-bench"),
        str(load.nodes),
        str(load.artifacts),
        str(load.size),
        str(degree),
        str(load.rate),
    ]
    before = os.times()
    text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    found = re.search(r"reach (\d+)/(\d+) .*?p50 ([\d.]+) ms p95 ([\d.]+) p99 ([\d.]+) .*?deliveries/s (\d+)", text)
    if found is None:
        return Outcome(0, load.artifacts * (load.nodes - 1), 0, 0, 0, 0)
    delivered, expected, p50, p95, p99, rate = (float(group) for group in found.groups())
    return Outcome(int(delivered), int(expected), rate, p50, p95, p99, 1e6 * cpu / max(delivered, 1))


def p2pnet(subnet: MeasuredSubnet, load: Load) -> Outcome:
    """Our figures, as the report gives them."""
    options = [
        "--size",
        f"{load.size}B",
        "--count",
        str(load.artifacts),
        "--from",
        "node-0",
        "--seed",
        "7",
        "--within",
        "120s",
    ]
    if load.rate:
        options += ["--rate", f"{load.rate}/s"]
    before = subnet.cpu_seconds()
    report = json.loads(subnet.cli("inject", subnet.name, *options, "-o", "json"))
    cpu = subnet.cpu_seconds() - before
    reach, latency = report["reach"], report["latency_ms"]
    rate = reach["delivered"] / report["duration_s"] if report["duration_s"] else 0.0
    infinite = float("inf")
    p50, p95, p99 = (infinite if latency[key] is None else latency[key] for key in ("p50", "p95", "p99"))
    per_delivery = 1e6 * cpu / max(reach["delivered"], 1)
    ratio = report["bytes"]["ratio"] or float("nan")
    return Outcome(reach["delivered"], reach["expected"], rate, p50, p95, p99, per_delivery, ratio)


def median(outcomes: list[Outcome]) -> Outcome:
    """Figure by figure."""
    return Outcome._make(statistics.median(values) for values in zip(*outcomes, strict=True))


def show(who: str, outcome: Outcome) -> None:
    """One line."""
    reached = f"{outcome.delivered:.0f}/{outcome.expected:.0f}"
    latency = f"p50 {outcome.p50:8.1f}   p95 {outcome.p95:8.1f}   p99 {outcome.p99:8.1f} ms"
    cost = f"{outcome.cpu_us:8,.0f} us CPU   bytes x{outcome.bytes_ratio:.2f}"
    print(f"  {who:10} {reached:>13} {outcome.per_second:8,.0f}/s   {latency}   {cost}")


def main(rounds: int) -> None:
    """Build the rival once, then alternate."""
    cargo = shutil.which("cargo")
    if cargo is None:
        sys.exit("cargo is needed to build the rival (tests/bench/peers/gossipsub)")
    manifest = HERE / "peers" / "gossipsub" / "Cargo.toml"
    subprocess.run(
        [cargo, "build", "--release", "--quiet", "--manifest-path", manifest, "--target-dir", TARGET], check=True
    )
    for load in LOADS:
        ours, theirs = [], []
        with MeasuredSubnet(load.nodes) as subnet:
            for _ in range(rounds):
                ours.append(p2pnet(subnet, load))
                theirs.append(gossipsub(load))
        us, them = median(ours), median(theirs)
        print(f"\n{load}")
        show("p2pnet", us)
        show("gossipsub", them)
        quotients = sorted(a.per_second / max(b.per_second, 1e-9) for a, b in zip(ours, theirs, strict=True))
        span = f"{quotients[0]:.2f} to {quotients[-1]:.2f}"
        print(f"  deliveries/s, p2pnet / gossipsub: median {statistics.median(quotients):.2f} ({span})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
