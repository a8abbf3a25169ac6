"""How a Subnet starts without its cluster: the processes of N pods and of their lab begun at once, as an operator would mount.

    python -m tests.bench.pods [--nodes 20] [--rounds 3]

A line per step: when the first, the median and the last node has taken it, in seconds from the start of the first process;
and the CPU seconds of all pods and of the lab until all links are up. With PYTHONPATH another p2pnet is measured.
"""

import argparse
import asyncio
import re
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil
from tests.lab.podkit import Pods, client_at

from p2pnet.model.errors import P2pnetError

LOOK_S = 0.1
"""Between two looks at the lab."""
UP_S = 300.0
STEPS = {
    "its process is forked": r'"event":"started"',
    "it serves": r" serves on ",
    "all its links are up": r"all \d+ links are up",
}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def steps_of(log: str) -> dict[str, float]:
    """By step the Unix seconds of the first line of a pod's log that tells of it."""
    found: dict[str, float] = {}
    for line in log.splitlines():
        stamp = STAMP.search(line)
        for step, words in STEPS.items():
            if stamp is not None and step not in found and re.search(words, line):
                found[step] = datetime.fromisoformat(stamp[0]).timestamp()
    return found


def cpu_s(pid: int) -> float:
    """Of a process and its children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in [process, *process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


async def connected(port: int, links: int) -> None:
    """Wait until the lab says so."""
    async with asyncio.timeout(UP_S), client_at(port) as lab:
        while True:
            try:
                if (await lab.summary()).links.up == links:
                    return
            except P2pnetError:
                pass
            await asyncio.sleep(LOOK_S)


def measure(nodes: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Sorted seconds by step, and CPU seconds of `pods` and `lab`."""
    with tempfile.TemporaryDirectory() as folder:
        pods = Pods(Path(folder), nodes)
        try:
            began = time.time()
            port = pods.start_lab()
            for index in range(nodes):
                pods.start_pod(index)
            asyncio.run(connected(port, nodes * (nodes - 1) // 2))
            ended = time.time()
            cpu = {"pods": 0.0, "lab": cpu_s(pods.processes["lab"].pid)}
            cpu["pods"] = sum(cpu_s(process.pid) for name, process in pods.processes.items() if name != "lab")
            seen = [steps_of(pods.log(f"pod-{index}")) for index in range(nodes)]
        finally:
            pods.end()
    rows = {step: sorted(one[step] - began for one in seen if step in one) for step in STEPS}
    return rows | {"the lab has seen all links": [ended - began]}, cpu


def main() -> None:
    """Print each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for number in range(1, options.rounds + 1):
        rows, cpu = measure(options.nodes)
        print(f"{number}: {options.nodes} pods {cpu['pods']:.1f} CPU-s, the lab {cpu['lab']:.1f}")
        for step, times in rows.items():
            if times:
                print(f"   {step:30} {times[0]:6.2f} {times[len(times) // 2]:6.2f} {times[-1]:6.2f}")


if __name__ == "__main__":
    main()
