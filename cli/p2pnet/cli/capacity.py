"""Whether this machine can connect that many nodes in time: what it has, and what a subnet takes.

An estimate, rough on purpose: it refuses only what cannot work.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from p2pnet.cli.outcome import CommandError
from p2pnet.model.cgroup import Cgroups
from p2pnet.model.units import format_size
from p2pnet.subnet.members import edge_count
from p2pnet.subnet.spec import Subnet

LINK_CPU_S = 0.009  # a mutual handshake and both hellos, both ends together
NODE_CPU_S = 0.03  # to issue its leaf, start it, and for the lab to get to know it
PROCESS_CPU_S = 0.02  # to fork one and touch its pages
PROCESS_BYTES = 14 << 20  # private memory of a process with one idle node, forked from a warm parent
PACKED_BYTES = 400 << 10  # of one more node in it
LINK_END_BYTES = 92 << 10  # an established QUIC connection at one end
SIM_BYTES = 50 << 20  # a process that simulates, before its first node
SIM_NODE_BYTES = 10 << 10  # a simulated node, less its links
SIM_LINK_BYTES = 7 << 10  # a simulated link, at both ends
LAB_BYTES = 100 << 20  # the lab, and the supervisor's warm pages
LESS = "fewer nodes, a sparser spec.topology, or fewer --jobs"


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores and free memory. `memory_bytes` None: unknown, so no reason to refuse."""

    cores: float
    memory_bytes: int | None
    confined: bool = False
    """Whether a control group, of a container say, allows less than the machine has."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a subnet takes until it is connected."""

    cpu_s: float
    memory_bytes: int


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


def at_a_time(trials: int, jobs: int | None) -> int:
    """How many of these trials are simulated at the same time: as asked, else as many as there are cores."""
    return min(trials, jobs or max(1, int(this_machine().cores)))


def cost(nodes: int, edges: int, processes: int) -> Cost:
    """What nodes, edges and processes of these numbers cost: CPU in seconds, memory in bytes."""
    return Cost(
        cpu_s=edges * LINK_CPU_S + nodes * NODE_CPU_S + processes * PROCESS_CPU_S,
        memory_bytes=LAB_BYTES
        + processes * PROCESS_BYTES
        + (nodes - processes) * PACKED_BYTES
        + 2 * edges * LINK_END_BYTES,
    )


def too_much(nodes: int, edges: int, within_s: float, machine: Machine, *, processes: int | None = None) -> str:
    """Why it cannot work here, or empty. `processes`: fewer than nodes where they are packed."""
    wanted = cost(nodes, edges, nodes if processes is None else processes)
    seconds = wanted.cpu_s / min(machine.cores, nodes if processes is None else processes)
    if seconds > within_s:
        return (
            f"{nodes} nodes with {edges} links need about {seconds:.0f} s on {machine.cores:g} cores{_whose(machine)},"
            f" more than the {within_s:.0f} s they are given"
        )
    if machine.memory_bytes is not None and wanted.memory_bytes > machine.memory_bytes:
        return (
            f"{nodes} nodes with {edges} links need about {format_size(wanted.memory_bytes)} of memory,"
            f" {format_size(machine.memory_bytes)} are free{_whose(machine)}"
        )
    return ""


def too_much_to_simulate(nodes: int, edges: int, machine: Machine, *, jobs: int = 1, payload_bytes: int = 0) -> str:
    """Why so much cannot fit here, `jobs` times beside each other; or empty. `payload_bytes`: of artifacts, at a time."""
    wanted = jobs * (SIM_BYTES + nodes * SIM_NODE_BYTES + edges * SIM_LINK_BYTES + payload_bytes)
    if machine.memory_bytes is None or wanted <= machine.memory_bytes:
        return ""
    times = f", {jobs} trials at a time," if jobs > 1 else ""
    load = f" and {format_size(payload_bytes)} of artifacts that live at the same time" if payload_bytes else ""
    return (
        f"{nodes} simulated nodes with {edges} links{load}{times} need more than {format_size(wanted)} of memory,"
        f" {format_size(machine.memory_bytes)} are free{_whose(machine)}"
    )


def check_simulated(subnet: Subnet, *, jobs: int = 1, payload_bytes: int = 0, less: str = LESS, what: str = "") -> None:
    """CommandError (exit 2) for what cannot fit here; `less`: what to ask for instead, `what`: where the Subnet stands."""
    why = too_much_to_simulate(
        subnet.node_count, edge_count(subnet), this_machine(), jobs=jobs, payload_bytes=payload_bytes
    )
    if why:
        load = "a smaller size or count of artifacts, " if payload_bytes else ""
        raise CommandError(why, where=f"Subnet {subnet.name}{what}", next_step=load + less)


def _whose(machine: Machine) -> str:
    return " in this control group" if machine.confined else ""


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
