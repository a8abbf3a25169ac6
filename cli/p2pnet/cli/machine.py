"""What this machine, or the control group p2pnet runs in, has: cores and free memory."""

import os
from pathlib import Path

from p2pnet.cli.estimate import Machine
from p2pnet.model.cgroup import Cgroups


def this_machine(groups: Cgroups | None = None) -> Machine:
    """Cores this process may use, and memory that can be had without swapping, where the system says so."""
    groups = groups or Cgroups()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, allowed, free = groups.cpus(), groups.memory_free(), _free_memory()
    known = [one for one in (allowed, free) if one is not None]
    return Machine(
        cores=affinity if quota is None else min(float(affinity), quota),
        memory_bytes=min(known, default=None),
        confined=(quota is not None and quota < affinity) or (allowed is not None and (free is None or allowed < free)),
    )


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
