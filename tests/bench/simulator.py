"""`make bench-sim`: what the simulator costs: one artifact of 700 B in a network of degree 8, beside a bare event loop.

Every run is a process of its own; runs of one size have different hash seeds and must have one digest. Seconds and rates are
this machine's; the ratio, of inputs handled per second to calls per second of a bare loop over a heap in the same process,
is nearly the same on others. Rates are per second of processor time: what else the machine does costs both alike.

usage: simulator.py [--runs N] [--bytes B] [NODES ...]      (default: 3 runs of 700 B, 10,000 nodes)
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any

DEGREE = 8
DELAY = "50ms"
BARE_CALLS = 200_000
"""Of the bare loop, before and after the run: the machine is never as fast twice."""
MIB = 1 << 20


def main(arguments: list[str]) -> None:
    """Print a line per run, or with `--one` the figures of one run as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="*", type=int, default=[10_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=700)
    parser.add_argument("--one", action="store_true")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measured(options.nodes[0], options.bytes)))
        return
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"degree {DEGREE}, {DELAY} one way, one artifact of {options.bytes} B\n")
    print(
        " nodes  make s  start s  CPU s  run s  CPU s  inputs  per CPU s  bare calls/s  ratio  peak MB  KB/node"
        "  reached  max s  digest"
    )
    for nodes in options.nodes:
        digests = set()
        for run in range(options.runs):
            seen = one(nodes, options.bytes, hash_seed=run)
            digests.add(seen["digest"])
            print(line(seen), flush=True)
        if len(digests) > 1:
            sys.exit(f"{len(digests)} different digests: a run depends on more than its seed")


def line(seen: dict[str, Any]) -> str:
    """One row of the table."""
    rate = seen["inputs"] / seen["cpu_s"]
    return (
        f"{seen['nodes']:6} {seen['make_s']:7.2f} {seen['start_s']:8.2f} {seen['start_cpu_s']:6.2f} {seen['run_s']:6.2f} "
        f"{seen['cpu_s']:6.2f} "
        f"{seen['inputs']:7} {rate:10,.0f} {seen['bare']:13,.0f} {rate / seen['bare']:6.3f} "
        f"{seen['peak_mb']:8.0f} {seen['kb_per_node']:8.1f} "
        f"{seen['reached']:8} {seen['last_s']:6.2f}  {seen['digest'][:12]}"
    )


def one(nodes: int, size: int, *, hash_seed: int) -> dict[str, Any]:
    """The figures of one run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.simulator", "--one", "--bytes", str(size), str(nodes)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(nodes: int, size: int) -> dict[str, Any]:
    """Make a world, start it, publish one artifact, and let it spread."""
    from p2pnet.sim import World

    before = peak_mb()
    begun = time.perf_counter()
    world = World(1)
    made = [world.node(f"n{number}") for number in range(nodes)]
    world.regular(DEGREE, delay=DELAY)
    ready, cpu = time.perf_counter(), time.process_time()
    world.settle()
    start_cpu = time.process_time() - cpu
    started, handled = time.perf_counter(), world.inputs
    bare = bare_rate(nodes)
    published = time.perf_counter()
    cpu = time.process_time()
    artifact = made[0].publish(bytes(size))
    world.settle()
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    latencies = world.latencies(artifact)
    peak = peak_mb()
    return {
        "nodes": nodes,
        "make_s": ready - begun,
        "start_s": started - ready,
        "start_cpu_s": start_cpu,
        "run_s": ended - published,
        "cpu_s": cpu,
        "inputs": world.inputs - handled,
        "bare": (bare + bare_rate(nodes)) / 2,
        "peak_mb": peak,
        "kb_per_node": (peak - before) * 1024 / nodes,
        "reached": len(latencies),
        "last_s": latencies[-1],
        "digest": world.digest(),
    }


def bare_rate(waiting: int) -> float:
    """Calls per second of an event loop that does nothing else: pop the first of so many from a heap, call it, push the next."""
    rng = Random(1)
    heap: list[tuple[int, int, Any, Any]] = []
    for number in range(waiting):
        heappush(heap, (rng.randrange(100_000_000), number, len, ()))
    begun = time.process_time()
    for number in range(waiting, waiting + BARE_CALLS):
        at, _, call, what = heappop(heap)
        call(what)
        heappush(heap, (at + 50_000_000, number, call, what))
    return BARE_CALLS / (time.process_time() - begun)


def peak_mb() -> float:
    """The most memory this process has had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def processor() -> str:
    """The name of the machine's processor."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main(sys.argv[1:])
