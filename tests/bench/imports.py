"""`make bench-imports`: what it costs to start Python and import a node pod's modules, beside Python alone, in turns.

usage: imports.py [ROUNDS]      (default 20)
CPU seconds of whole processes; the ratio tells more than the time where others are at work.
"""

import os
import resource
import statistics
import subprocess
import sys

CASES = {
    "python alone": "pass",
    "the pod of nodes": "import gc; gc.disable(); import p2pnet.supervisor.pod",
    "the same, with what is left for later": (
        "import cryptography.x509, OpenSSL.crypto, certifi, service_identity, argparse, difflib, tempfile;"
        "import p2pnet.supervisor.pod"
    ),
    "a pod, until it forks its nodes": (
        "import gc; gc.disable(); import p2pnet.supervisor.pod; gc.freeze(); gc.enable();"
        "from p2pnet.supervisor import child; child.warm_up()"
    ),
    "the lab": (
        "import gc; gc.disable(); from p2pnet.lab.early import without_authorities\n"
        "with without_authorities(): import aiohttp.web\n"
        "import p2pnet.lab.__main__"
    ),
}


def cpu_s(code: str) -> float:
    """CPU seconds of a Python that runs this, and leaves bytecode for the next one as an image has it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int) -> None:
    """Print a line per case: median, best, and the median's ratio to Python alone."""
    seen: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, code in CASES.items():
            seconds = cpu_s(code)
            if number:  # the first round compiles
                seen[name].append(seconds)
    alone = statistics.median(seen["python alone"])
    for name, times in seen.items():
        median = statistics.median(times)
        print(
            f"{name:44} median {median * 1e3:4.0f} ms, best {min(times) * 1e3:4.0f} ms, {median / alone:5.1f} x python"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
