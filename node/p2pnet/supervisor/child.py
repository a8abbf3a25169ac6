"""How the nursery makes one node process: a fork of its warm self, or a fresh interpreter where forking is no option."""

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from p2pnet.node.parent import Start, close_all_but, die_with_parent, point_stdio_at, reset_signals


@dataclass(frozen=True, slots=True)
class Birth:
    """What a node process is given: its config, its log, and three descriptors."""

    config: Path
    log: Path
    socket_fd: int
    """The bound UDP socket, the same at every restart."""
    ready_fd: int
    """Write end: one byte when the node serves."""
    death_fd: int
    """Read end: end-of-file when the nursery is gone."""

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors the child keeps."""
        return self.socket_fd, self.ready_fd, self.death_fd

    def run(self) -> int:
        """Be it, in a fork."""
        from p2pnet.node.process import run

        return run(self.config, socket_fd=self.socket_fd, ready_fd=self.ready_fd, death_fd=self.death_fd)

    def command(self) -> list[str]:
        """What a fresh interpreter is asked to run."""
        given = ("--socket-fd", self.socket_fd), ("--ready-fd", self.ready_fd), ("--death-fd", self.death_fd)
        return ["p2pnet.node", str(self.config), *(str(part) for pair in given for part in pair)]


@dataclass(frozen=True, slots=True)
class PackBirth:
    """What a pack of nodes is given: a log for what none of them says, and two descriptors."""

    log: Path
    channel_fd: int
    """Socket to the nursery: orders and bound sockets come through it."""
    death_fd: int
    """As in `Birth`."""

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors the child keeps."""
        return self.channel_fd, self.death_fd

    def run(self) -> int:
        """Be it, in a fork."""
        from p2pnet.supervisor.pack import run

        return run(self.channel_fd, self.death_fd)

    def command(self) -> list[str]:
        """What a fresh interpreter is asked to run."""
        return ["p2pnet.supervisor.pack", "--channel-fd", str(self.channel_fd), "--death-fd", str(self.death_fd)]


def warm_up() -> None:
    """Import everything a node needs, once for all of them, and move it out of the garbage collector's sight.

    Pages the collector never writes to stay shared between the forks.
    """
    for module in WARM:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


def bind_node(host: str, port: int) -> socket.socket:
    """A bound UDP socket that children may inherit. Raises OSError."""
    from p2pnet.quic.hosts import bind_udp

    sock = bind_udp(host, port)
    sock.setblocking(False)
    return sock


def start(how: Start, birth: Birth | PackBirth) -> int:
    """Start a node process, or a pack; its pid. Raises OSError."""
    return _fork(birth) if how == "fork" else _spawn(birth)


def _fork(birth: Birth | PackBirth) -> int:
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_child(birth, parent)
    return pid


def _be_child(birth: Birth | PackBirth, parent: int) -> NoReturn:
    code = 70
    try:
        die_with_parent(parent)
        reset_signals()
        point_stdio_at(birth.log)
        close_all_but(birth.fds)
        code = birth.run()
    except BaseException:  # noqa: BLE001 - nothing may unwind into the nursery's own stack
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _spawn(birth: Birth | PackBirth) -> int:
    command = [sys.executable, "-m", *birth.command(), "--nursery", str(os.getpid())]
    log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Python opens every descriptor close-on-exec; only these are to cross, and only into this child.
        for fd in birth.fds:
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
        for fd in birth.fds:
            os.set_inheritable(fd, False)
        os.close(log)


SIGNALS_RESET = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

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
