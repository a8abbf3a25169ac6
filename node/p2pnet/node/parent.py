"""What a process owes to its parent: it must not outlive it, and it starts with nothing of it but what it is given.

Death pipes work everywhere: the parent holds the write end and never writes, so that the read end shows end-of-file when
the parent is gone, however it went. A stopped process reads no pipe, hence the parent-death signal on Linux.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Start = Literal["fork", "spawn"]

_PR_SET_PDEATHSIG = 1
_FD_MAX = 1 << 16  # bound for systems whose "highest descriptor" is unlimited


def choose_start(platform: str = sys.platform) -> Start:
    """`fork` on Linux: warm imports, shared pages. `spawn` elsewhere: macOS frameworks do not survive a bare fork."""
    return "fork" if platform.startswith("linux") else "spawn"


def die_with_parent(parent: int, platform: str = sys.platform) -> None:
    """Have the kernel kill this process when `parent` dies; on Linux only. Ends it now if the parent is already gone.

    The kernel watches the parent's *thread* that forked (PR_SET_PDEATHSIG(2const)): it must be one that stays.
    """
    if not platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def reset_signals() -> None:
    """Undo what a parent's signal handling left in a forked child."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_all_but(keep: Sequence[int]) -> None:
    """Close every descriptor from 3 up that is not in `keep`."""
    limit = min(os.sysconf("SC_OPEN_MAX"), _FD_MAX)
    low = 3
    for fd in sorted({fd for fd in keep if fd >= low}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, max(limit, low))


def point_stdio_at(log: Path) -> None:
    """Stdin from nowhere, stdout and stderr appended to `log`."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nowhere, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for fd in (nowhere, out):
        if fd > 2:
            os.close(fd)
