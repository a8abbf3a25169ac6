"""How often the kernel has killed processes here because memory ran out: a counter to be read before and after a death."""

from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class OomCounter:
    """The number of OOM kills in this process's cgroup, or on this machine where no cgroup counts them."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._files = [*_cgroup_files(proc, cgroups), proc / "vmstat"]
        self._last = self.read()

    def read(self) -> int | None:
        """The count now; None where the system does not tell."""
        return next((count for file in self._files if (count := _count_in(file)) is not None), None)

    def grew(self) -> bool:
        """Whether somebody was killed for want of memory since this was asked last, or since the start."""
        before, self._last = self._last, self.read()
        return before is not None and self._last is not None and self._last > before


def _cgroup_files(proc: Path, cgroups: Path) -> Sequence[Path]:
    """Where this process's own cgroup counts: version 2, then version 1; in a container the mounted root is its own."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files += [cgroups / path.lstrip("/") / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            memory = cgroups / "memory"
            files += [memory / path.lstrip("/") / "memory.oom_control", memory / "memory.oom_control"]
    return files


def _count_in(file: Path) -> int | None:
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None
