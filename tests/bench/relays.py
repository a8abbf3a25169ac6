"""`python -m tests.bench.relays [ROUNDS [LOAD...]]`: relay modes of live nodes beside each other on this machine, in turn.

A load is NODESxCOUNTxSIZE, e.g. 10x20x1MiB; without any: `LOADS`. Modes take turns.

One publisher, a full mesh. Deliveries per second count from the first publication to the last receipt; medians are printed.
"""

import statistics
import sys
from typing import NamedTuple

from tests.bench.subnet import MeasuredSubnet

MODES = ("advert", "auto", "scatter")
"""Live, `auto` is as `advert` above one part: peers fetch."""


class RelayLoad(NamedTuple):
    """One load: a burst from one node."""

    nodes: int
    artifacts: int
    size: str


LOADS = (
    RelayLoad(10, 100, "1MiB"), RelayLoad(10, 20, "1MiB"), RelayLoad(20, 100, "64KiB"), RelayLoad(20, 20, "256KiB"),
)  # fmt: skip


class RelayOutcome(NamedTuple):
    """What became of one load."""

    delivered: int
    expected: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Per delivery, of all nodes."""
    bytes_ratio: float


def main(rounds: int, loads: tuple[RelayLoad, ...]) -> None:
    """One line per load and mode."""
    for load in loads:
        outcomes: dict[str, list[RelayOutcome]] = {mode: [] for mode in MODES}
        for _ in range(rounds):
            for mode in MODES:
                with MeasuredSubnet(load.nodes, document=document(load.nodes, mode)) as subnet:
                    outcomes[mode].append(measure(subnet, load))
        print(f"\n{load.nodes} nodes, {load.artifacts} x {load.size}, burst")
        for mode, seen in outcomes.items():
            show(mode, RelayOutcome._make(statistics.median(values) for values in zip(*seen, strict=True)))


def document(nodes: int, relay: str) -> str:
    """A mesh with this relay mode."""
    return f"""\
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {{name: bench}}
spec:
  nodes: {nodes}
  broadcast: {{relay: {relay}}}
"""


def measure(subnet: MeasuredSubnet, load: RelayLoad) -> RelayOutcome:
    """Inject the load, once it has been done with less."""
    options = ["--size", load.size, "--from", "node-0", "--within", "120s"]
    subnet.document_of("inject", subnet.name, *options, "--count", "3", "--seed", "1")
    before = subnet.cpu_seconds()
    report = subnet.document_of("inject", subnet.name, *options, "--count", str(load.artifacts), "--seed", "7")
    cpu = subnet.cpu_seconds() - before
    reach, latency = report["reach"], report["latency_ms"]
    delivered, seconds = reach["delivered"], report["duration_s"]
    return RelayOutcome(
        delivered, reach["expected"], delivered / seconds if seconds else 0.0, latency["p50"] or 0.0,
        latency["p99"] or 0.0, 1e3 * cpu / max(delivered, 1), report["bytes"]["ratio"] or float("nan"),
    )  # fmt: skip


def show(mode: str, outcome: RelayOutcome) -> None:
    """One line."""
    print(
        f"  {mode:8} {outcome.delivered:.0f}/{outcome.expected:.0f} {outcome.per_second:8,.0f}/s"
        f"   p50 {outcome.p50_ms:8.1f}   p99 {outcome.p99_ms:8.1f} ms"
        f"   {outcome.cpu_ms:6.2f} ms CPU   bytes x{outcome.bytes_ratio:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    named = [argument.split("x") for argument in sys.argv[2:]]
    given = tuple(RelayLoad(int(nodes), int(count), size) for nodes, count, size in named)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, given or LOADS)
