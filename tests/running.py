"""Whether a process that a test watches runs."""

from p2pnet.store import processes


def is_running(pid: int) -> bool:
    """Whether a process runs or still holds its files; one that waits only for its parent's look does not."""
    return processes.start_time(pid) is not None
