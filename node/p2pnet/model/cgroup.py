"""Limits of memory and CPU that control groups (versions 1 and 2) set on this process, and kills for want of memory.

The limits of all groups above it count too. Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
"""

from pathlib import Path

PROC = Path("/proc")
"""Where the kernel shows processes."""
CGROUPS = Path("/sys/fs/cgroup")
"""Where control groups are mounted."""
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2**63


class Cgroups:
    """The control groups of this process, its own first and then those above."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._proc = proc
        self._unified, self._memory, self._cpu = _groups(proc, cgroups)

    def memory_free(self) -> int | None:
        """Bytes left before a limit is met, file cache counted as free; None without any limit."""
        free = [_free(group, "memory.max", "memory.current", "inactive_file") for group in self._unified]
        free += [
            _free(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            for group in self._memory
        ]
        # A group is limited by all groups above it: the tightest one counts.
        return min((one for one in free if one is not None), default=None)

    def cpus(self) -> float | None:
        """CPUs that may be used at a time; None without a quota."""
        quotas = [_cpu_max(group) for group in self._unified] + [_cfs_quota(group) for group in self._cpu]
        return min((one for one in quotas if one is not None), default=None)

    def oom_kills(self) -> int | None:
        """How many processes of this group, or of the machine where no group counts, were killed for want of memory."""
        files = [group / "memory.events" for group in self._unified]
        files += [group / "memory.oom_control" for group in self._memory]
        for file in [*files, self._proc / "vmstat"]:
            count = _counts(file).get("oom_kill")
            if count is not None:
                return count
        return None


class OomCounter:
    """Tells whether the kernel killed a process for want of memory, asked before and after a death."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._groups = Cgroups(proc, cgroups)
        self._last = self._groups.oom_kills()

    def grew(self) -> bool:
        """Whether there was a kill since this was asked last, or since the start."""
        before, self._last = self._last, self._groups.oom_kills()
        return before is not None and self._last is not None and self._last > before


def _groups(proc: Path, cgroups: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Directories of the unified hierarchy, and of the memory and the cpu controller of version 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [], [], []
    unified: list[Path] = []
    memory: list[Path] = []
    cpu: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified = _upwards(cgroups, path)
        if "memory" in controllers.split(","):
            memory = _upwards(cgroups / "memory", path)
        if "cpu" in controllers.split(","):
            cpu = _upwards(cgroups / "cpu", path)
    return unified, memory, cpu


def _upwards(root: Path, path: str) -> list[Path]:
    """The group at `path` and all above it; in a container the path may be the host's, and the mounted root is its own."""
    group = root / path.lstrip("/")
    chain = [one for one in (group, *group.parents) if one.is_relative_to(root)]
    return [one for one in chain if one.is_dir()]


def _free(group: Path, limit_file: str, usage_file: str, cache: str) -> int | None:
    limit = _number(group / limit_file)
    if limit is None or limit >= UNLIMITED_BYTES:
        return None
    used = _number(group / usage_file) or 0
    return max(0, limit - max(0, used - _counts(group / "memory.stat").get(cache, 0)))


def _cpu_max(group: Path) -> float | None:
    """`cpu.max`: microseconds of a period, or `max`."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    return _share(quota, period)


def _cfs_quota(group: Path) -> float | None:
    return _share(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float | None:
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # `max`, or -1
    return int(quota) / int(period)


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdigit() else None


def _counts(file: Path) -> dict[str, int]:
    """A file of lines like `oom_kill 3`."""
    found = (line.split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in found if len(words) == 2 and words[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
