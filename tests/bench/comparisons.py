"""How far a verdict of `compare` can be trusted: `python -m tests.bench.comparisons [TIMES] [TRIALS]`.

Simulates one load often enough under different seeds, once as it is and once with every latency of the network 10 % longer; then
makes TIMES (200) comparisons of TRIALS (20) pairs each out of them. Pairs have unequal seeds here, for with equal ones two equal
versions do the same to the last message: so chance has more room than `compare` leaves it.
"""

import random
import sys
import time
from typing import Any

from p2pnet.measure.comparison import Pair, is_decided, judge, looks, verdict_of
from p2pnet.measure.gates import DEFAULT_GATES, ChangeGate, all_of
from p2pnet.model.report import Report
from p2pnet.sim.simulate import SimLoad, simulate
from p2pnet.subnet.document import load_subnet

POOL = 400
"""Trials of each version."""
NODES = 8
LOAD: dict[str, Any] = {"payloads": [("block", 4096)], "count": 40, "rate_per_s": 20.0}


def document(latency_ms: float) -> dict[str, Any]:
    network = {"default": {"latency": f"{latency_ms:g}ms", "jitter": "5ms", "loss": "0.1%"}}
    return {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "trust"},
        "spec": {"nodes": NODES, "network": network},
    }  # fmt: skip


def trials(latency_ms: float, first: int) -> list[Report]:
    subnet = load_subnet(document(latency_ms))
    return [simulate(subnet, SimLoad(**LOAD), seed=first + number).report for number in range(POOL)]


def compared(
    base: list[Report], head: list[Report], gates: list[ChangeGate], most: int, rng: random.Random
) -> tuple[str, int]:
    """The verdict of one comparison, and after how many pairs."""
    drawn = list(zip(rng.sample(base, most), rng.sample(head, most), strict=True))
    pairs: list[Pair] = []
    for look in looks(most):
        pairs = [Pair(seed, one, other) for seed, (one, other) in enumerate(drawn[:look])]
        results = judge(pairs, gates, most=most)
        if is_decided(results):
            break
    return verdict_of(results, []), len(pairs)


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    began = time.process_time()
    base, equal, slower = trials(50, 1), trials(50, 1 + POOL), trials(55, 1 + 2 * POOL)
    print(f"{3 * POOL} trials of {NODES} nodes and {LOAD['count']} x 4 KiB: {time.process_time() - began:.0f} s of CPU")
    print("| versions | gates | pass | regression | inconclusive | pairs, mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    for words, head in (("equal", equal), ("10 % slower", slower)):
        for texts in (("p99:+0%",), ("p99:+3%",), ("p99:+5%",), DEFAULT_GATES):
            rng = random.Random(7)
            found = [compared(base, head, all_of(texts), most, rng) for _ in range(times)]
            counts = {
                one: sum(verdict == one for verdict, _ in found) for one in ("pass", "regression", "inconclusive")
            }
            shares = " | ".join(f"{counts[one] / times:.1%}" for one in counts)
            print(f"| {words} | {' '.join(texts)} | {shares} | {sum(pairs for _, pairs in found) / times:.1f} |")


if __name__ == "__main__":
    main()
