"""Whether a recorded process still runs: identified by pid and start time, for pids are reused."""

import os
import socket
import struct
import subprocess
from pathlib import Path

PROBE_S = 0.5  # for a listener at a unix socket to accept
LOCAL_PEERPID = 2  # macOS, sys/un.h; its level SOL_LOCAL is 0


def start_time(pid: int) -> str | None:
    """When a live process started, as an opaque text that differs for another process of that pid; None: there is none."""
    if pid <= 0:
        return None
    stat = Path("/proc/self/stat")
    if stat.exists():
        return _linux_start_time(pid)
    return portable_start_time(pid)


def pid_namespace() -> str:
    """The PID namespace of this process, as an opaque text; empty where the system has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def is_alive(pid: int, started: str) -> bool:
    """Whether the process recorded with this pid and start time still runs, or still holds its files; a zombie does neither."""
    return bool(started) and start_time(pid) == started


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger; False where the system does not tell (only Linux does)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def listener_pid(path: Path) -> int | None:
    """The pid of the process that listens at a unix socket; None when none does, or the system does not tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
            if hasattr(socket, "SO_PEERCRED"):
                pid = int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
            else:
                pid = int(struct.unpack("i", probe.getsockopt(0, LOCAL_PEERPID, 4))[0])
        except OSError:
            return None
    return pid or None


def _linux_start_time(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # proc(5): the command, in parentheses, may hold any character; behind the last ")" come state, ppid, ... starttime.
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or (fields[0] in ("Z", "X") and not _has_threads(pid)):
        return None
    return fields[19]


def _has_threads(pid: int) -> bool:
    """Whether a process has more threads than its first, which is a zombie before the last of them has closed files."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def portable_start_time(pid: int) -> str | None:
    """As `start_time`, by ps: for systems without /proc."""
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    answer = subprocess.run(  # noqa: S603 - fixed words and a number
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True, text=True, check=False, timeout=10, env=environment,
    )  # fmt: skip
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
