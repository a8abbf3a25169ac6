"""The node's clocks: CLOCK_MONOTONIC for everything measured, the wall clock for what people date. Read nowhere else."""

import time
from datetime import UTC, datetime
from pathlib import Path

from p2pnet.model.control import Clock

NS = 1_000_000_000
"""Nanoseconds of a second."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time_for_children")


def mono_ns() -> int:
    """CLOCK_MONOTONIC, nanoseconds: one axis for all processes with the same `boot_id`."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def wall_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def utc_now() -> datetime:
    """The wall clock as an aware datetime, for certificates."""
    return datetime.now(UTC)


def delay_s(due_ns: int) -> float:
    """Seconds until `due_ns` on the monotonic clock, up to the next millisecond: uvloop rounds, and early is in vain."""
    return max(0, -((mono_ns() - due_ns) // 1_000_000)) / 1000


def cpu_s() -> float:
    """CPU seconds this process has used, user and system."""
    return time.process_time()


def boot_id() -> str:
    """What two processes must have in common for their monotonic clocks to be one: boot and, on Linux, time namespace.

    Empty where the system names no boot: then nobody shares a clock with this node, and offsets are measured.
    """
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return ""
    try:
        return f"{boot}/{_TIME_NAMESPACE.readlink()}"
    except OSError:  # a kernel without time namespaces has one clock
        return boot


def read_clock(boot: str) -> Clock:
    """Both clocks, read as close together as Python can: the monotonic one in the middle of two wall readings."""
    before = wall_ns()
    mono = mono_ns()
    return Clock(mono_ns=mono, wall_ns=(before + wall_ns()) // 2, boot_id=boot)
