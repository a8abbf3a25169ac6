"""How the supervisor makes a child process: a fork of its warm self, or a fresh interpreter where forking is no option."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from p2pnet.node.parent import Start, close_all_but, die_with_parent, point_stdio_at, reset_signals

EXIT_FAULT = 70
"""Exit code of a child that raised: a fault of p2pnet (EX_SOFTWARE of sysexits.h)."""

SIGNALS_RESET = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Back to their defaults in a spawned child."""

WARM = (
    "uvloop",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "p2pnet.trust",
    "p2pnet.quic",
    "p2pnet.broadcast",
    "p2pnet.broadcast.blob",
    "p2pnet.node.process",
    "p2pnet.supervisor.pack",
    "p2pnet.node.service",
    "p2pnet.node.health",
)
"""What forks find imported. By name, for a supervisor that spawns needs none of it."""


class Launch(Protocol):
    """What a child process is to be, and what it is given."""

    @property
    def log(self) -> Path:
        """File for its stdout and stderr."""

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors it keeps, besides stdin, stdout and stderr."""

    def run(self) -> int:
        """In a fork: be it; the exit code."""

    def command(self) -> list[str]:
        """For a fresh interpreter: arguments after `python -m`."""


def warm_up() -> None:
    """Import everything a node needs, once for all of them, and hide it from the garbage collector.

    Pages the collector never writes to stay shared between the forks. What little garbage imports leave, some 600 objects, stays
    for ever: to look for it among 40,000 takes 30 ms, and all that is to be started would wait.
    """
    collects = gc.isenabled()
    gc.disable()  # looking for garbage takes a tenth of the time of imports, and they leave next to none
    for module in WARM:
        importlib.import_module(module)
    gc.freeze()  # first, or the collector would go through all of it at once
    if collects:
        gc.enable()


def start(how: Start, launch: Launch) -> int:
    """Start a child; its pid. Raises OSError."""
    return fork(launch.run, launch.fds, launch.log) if how == "fork" else _spawn(launch)


def fork(run: Callable[[], int], fds: Sequence[int], log: Path | None = None) -> int:
    """Fork a child that ends with what `run` returns; its pid. Without a `log` it keeps stdout and stderr. Raises OSError."""
    parent = os.getpid()
    # What is buffered would be written twice, by parent and child.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run_child(run, fds, log, parent)
    return pid


def _run_child(run: Callable[[], int], fds: Sequence[int], log: Path | None, parent: int) -> NoReturn:
    code = EXIT_FAULT
    try:
        # First: a parent that dies from here on takes the child along.
        die_with_parent(parent)
        reset_signals()
        if log is not None:
            point_stdio_at(log)
        close_all_but(fds)
        code = run()
    except BaseException:  # noqa: BLE001 - nothing may unwind into the supervisor's own stack
        sys.excepthook(*sys.exc_info())  # printed, or logged as an object where this process logs objects
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _spawn(launch: Launch) -> int:
    command = [sys.executable, "-m", *launch.command(), "--supervisor", str(os.getpid())]
    log = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Python opens every descriptor close-on-exec; only these are to cross, and only into this child.
        for fd in launch.fds:
            os.set_inheritable(fd, True)
        return os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsigmask=(),
            setsigdef=SIGNALS_RESET,
        )
    finally:
        for fd in launch.fds:
            os.set_inheritable(fd, False)
        os.close(log)
