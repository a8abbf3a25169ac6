"""A process's clocks: CLOCK_MONOTONIC for everything measured, the wall clock for dates. Nodes read clocks here only."""

import time
from datetime import UTC, datetime
from pathlib import Path

from p2pnet.model.control import Clock

NS = 1_000_000_000
"""Nanoseconds per second."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Random for each boot of a Linux kernel (random(4))."""
TIME_NAMESPACE = Path("/proc/self/ns/time_for_children")
"""Names the time namespace of this process (time_namespaces(7))."""


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
    """Seconds until `due_ns` on the monotonic clock, rounded up to whole milliseconds.

    uvloop rounds to milliseconds, and a timer that fires early finds nothing due.
    """
    return max(0, -((mono_ns() - due_ns) // 1_000_000)) / 1000


def cpu_s() -> float:
    """CPU seconds this process has used, user and system."""
    return time.process_time()


def boot_id() -> str:
    """Names the monotonic clock of this process: processes with equal boot ids share it. Boot and, on Linux, time namespace.

    Empty where the system names no boot: then no clock is shared, and the lab measures offsets. Node and lab use this
    one function: they compare what it gives.
    """
    try:
        boot = BOOT_ID.read_text().strip()
    except OSError:
        return ""
    try:
        # A container may run in a time namespace of its own, with another CLOCK_MONOTONIC (time_namespaces(7)).
        return f"{boot}/{TIME_NAMESPACE.readlink()}"
    except OSError:  # a kernel without time namespaces has one clock
        return boot


def read_clock(boot: str) -> Clock:
    """Both clocks, read as close together as Python can: the monotonic one in the middle of two wall readings."""
    before = wall_ns()
    mono = mono_ns()
    return Clock(mono_ns=mono, wall_ns=(before + wall_ns()) // 2, boot_id=boot)
