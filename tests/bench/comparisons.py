"""How far a verdict of `compare` can be trusted: `python -m tests.bench.comparisons [--live] [TIMES] [TRIALS]`.

Simulates one load often enough under different seeds, once as it is and once with every latency of the network 10 % longer; then
makes TIMES (200) comparisons of TRIALS (20) pairs each out of them. Pairs have unequal seeds here, for with equal ones two equal
versions do the same to the last message: so chance has more room than `compare` leaves it.

With `--live`, real nodes: `p2pnet compare ... --on local` TIMES (10) times with at most TRIALS (12) pairs, as a person types it,
for two equal versions, for a planted rule of 20 ms, and for 50 ms against 55 ms. Its figures are worth what the machine was: it
says how busy that was.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

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


class LiveRow(NamedTuple):
    """Two versions of a subnet on this machine, and the gates between them."""

    words: str
    base: dict[str, Any]
    head: dict[str, Any]
    gates: tuple[str, ...]


PLANTED = {"rules": [{"from": "*", "to": "*", "latency": "20ms"}]}
LIVE_NODES = 12
LIVE_LOAD = ("--size", "1KiB", "--count", "40", "--rate", "20/s")
"""Two seconds: a process that waits for a core now and then must not be half of a trial."""
LIVE_GATES = ("p50:+10%", "reach:-0.1%")
LIVE_ROWS = (
    LiveRow("equal", {}, {}, LIVE_GATES),
    LiveRow("equal, 50 ms", {"default": {"latency": "50ms"}}, {"default": {"latency": "50ms"}}, ("p50:+5%",)),
    LiveRow("a rule of 20 ms in HEAD", {}, PLANTED, LIVE_GATES),
    LiveRow("50 ms, and 55 ms", {"default": {"latency": "50ms"}}, {"default": {"latency": "55ms"}}, ("p50:+5%",)),
)


def live_compared(row: LiveRow, folder: Path, seed: int, most: int) -> dict[str, Any]:
    """The document of one comparison of live nodes."""
    files = []
    for name, network in (("base", row.base), ("head", row.head)):
        spec = {"nodes": LIVE_NODES, **({"network": network} if network else {})}
        document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "trust"}, "spec": spec}
        files.append(str(folder / f"{name}.json"))
        Path(files[-1]).write_text(json.dumps(document))
    words = [*files, "--on", "local", *LIVE_LOAD, "--trials", str(most), "--seed", str(seed), "-o", "json", "-q"]
    gates = [word for gate in row.gates for word in ("--gate", gate)]
    done = subprocess.run(
        [sys.executable, "-m", "p2pnet.cli", "compare", *words, *gates], stdout=subprocess.PIPE, check=False,
        env={**os.environ, "P2PNET_STATE": str(folder / "state")},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def live(times: int, most: int) -> None:
    """The table of live comparisons."""
    print(f"up to {most} pairs of {LIVE_NODES} live nodes each, {' '.join(LIVE_LOAD)}, {times} comparisons a row")
    print(
        "| versions | gates | pass | regression | inconclusive | invalid | pairs, mean | p50 of BASE | change of p50 | waited |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in LIVE_ROWS:
        found = []
        for number in range(times):
            with tempfile.TemporaryDirectory(prefix="p2pnet-trust-") as folder:
                found.append(live_compared(row, Path(folder), 1 + 100 * number, most))
            print(f"  {row.words}: {found[-1]['verdict']}, {found[-1]['warnings'][:2]}", file=sys.stderr)
        counts = [
            sum(one["verdict"] == verdict for one in found)
            for verdict in ("pass", "regression", "inconclusive", "invalid")
        ]
        first = [gate for one in found for gate in one["gates"][:1] if gate["effect"] is not None]
        effects = sorted(gate["effect"] for gate in first) or [float("nan")]
        base = sorted(gate["base"] for gate in first) or [float("nan")]
        waited = [one["machine"]["waited"] for one in found if one["machine"] and one["machine"]["waited"] is not None]
        loads = [one["machine"]["load_before"] for one in found if one["machine"]]
        print(
            f"| {row.words} | {' '.join(row.gates)} | {' | '.join(map(str, counts))}"
            f" | {sum(one['trials'] for one in found) / times:.1f} | {base[0]:.1f} to {base[-1]:.1f} ms"
            f" | {effects[0]:+.1%} to {effects[-1]:+.1%}"
            f" | {f'{min(waited):.0%} to {max(waited):.0%}' if waited else '-'}, load {min(loads):.1f} to {max(loads):.1f} |"
        )


def main() -> None:
    given = [int(word) for word in sys.argv[1:] if word != "--live"]
    if "--live" in sys.argv[1:]:
        live(*(given + [10, 12][len(given) :]))
    else:
        simulated(*(given + [200, 20][len(given) :]))


def simulated(times: int, most: int) -> None:
    """The table of simulated comparisons."""
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
