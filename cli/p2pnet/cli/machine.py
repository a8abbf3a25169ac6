"""What this machine has: cores and free memory."""

import os
from pathlib import Path

from p2pnet.cli.estimate import Machine


def this_machine() -> Machine:
    """Cores this process may use, and memory that can be had without swapping where the system says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores=cores, memory_bytes=_free_memory())


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
