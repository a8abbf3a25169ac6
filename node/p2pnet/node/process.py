"""The life of one node process: loop, signals, parent, exit code. Used by `__main__` and by the supervisor's forks."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from p2pnet.model.config import NodeConfig, read_node_config
from p2pnet.model.errors import P2pnetError
from p2pnet.model.log_lines import log_all
from p2pnet.model.text import address_text
from p2pnet.node.service import Service
from p2pnet.quic import EndpointError

EXIT_OK = 0
"""Stopped as asked."""
EXIT_CONFIG = 2
"""Config or identity cannot be used."""
EXIT_ADDRESS = 3
"""The address cannot be bound."""
EXIT_ORPHAN = 4
"""The parent is gone."""
EXIT_FAULT = 70
"""A fault of p2pnet."""
EXIT_S = 9.5
"""From SIGTERM to a hard exit: the promise is 10 s, whatever hangs."""

QUIC_LINES_PER_MINUTE = 10
"""Lines of aioquic in a node's log; refusals are events too, `Refusals` counts them all."""

log = logging.getLogger("p2pnet.node")


def run(
    config_path: Path, *, socket_fd: int | None = None, ready_fd: int | None = None, death_fd: int | None = None
) -> int:
    """Run a node until it is asked to stop; the exit code. Descriptors: see `supervisor.processes.NodeLaunch`."""
    log_to(logging.StreamHandler(sys.stderr))
    try:
        config = read_node_config(config_path)
        sock = socket.socket(fileno=socket_fd) if socket_fd is not None else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, config_path.parent, sock, ready_fd, death_fd))
    except (P2pnetError, OSError) as error:
        return exit_code_of(error)


def log_to(handler: logging.Handler) -> None:
    """Have this process log through `handler` alone."""
    log_all(handler)
    aioquic = logging.getLogger("quic")
    aioquic.setLevel(logging.WARNING)  # it tells every handshake; what matters is an event
    aioquic.filters[:] = [FewLines()]


class FewLines(logging.Filter):
    """Lets through `QUIC_LINES_PER_MINUTE` of what peers can cause: one that dials in vain all day must not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._minute = 0.0
        self._lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is among the first of its minute."""
        if not self._minute <= record.created < self._minute + 60:
            self._minute, self._lines = record.created, 0
        self._lines += 1
        return self._lines <= QUIC_LINES_PER_MINUTE


def exit_code_of(error: P2pnetError | OSError) -> int:
    """Exit code of a node that could not start for this error. Logs the error as a sentence: a traceback would hide it."""
    if isinstance(error, P2pnetError):
        log.error("%s", error)
        return EXIT_ADDRESS if isinstance(error, EndpointError) else EXIT_CONFIG
    log.error("cannot start: %s", error)
    return EXIT_ADDRESS


def stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event set by the first SIGTERM or SIGINT; EXIT_S later the process exits, whatever hangs."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _once(asked, loop))
    return asked


async def _serve(
    config: NodeConfig, folder: Path, sock: socket.socket | None, ready_fd: int | None, death_fd: int | None
) -> int:
    loop = asyncio.get_running_loop()
    asked = stop_on_signals(loop)
    if death_fd is not None:
        # At once: whoever would wait for an orderly stop is gone, and so are all the peers.
        loop.add_reader(death_fd, os._exit, EXIT_ORPHAN)
    service = await Service.start(config, folder, sock)
    log.info("%s serves on %s as %s", config.name, address_text(*service.address), service.incarnation)
    if ready_fd is not None:
        # After `start`: whoever reads the byte may rely on the node being bound.
        os.write(ready_fd, b"r")
        os.close(ready_fd)
    await asked.wait()
    log.info("%s stops", config.name)
    await service.stop()
    return EXIT_OK


def _once(asked: asyncio.Event, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """A handler that ignores every signal after the first."""

    def handler() -> None:
        if not asked.is_set():
            asked.set()
            loop.call_later(EXIT_S, os._exit, EXIT_OK)

    return handler
