"""The life of a pack: one process and one loop, many nodes, each with its own endpoint, identity, registry and control.

What the nodes share is the process: its death, its pauses, its CPU. A node that cannot start, or that is stopped, ends
alone. Orders come from the supervisor, see `processes`. `python -m p2pnet.supervisor.pack` serves where forking is no option.
"""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

import msgspec
import uvloop

from p2pnet.model.config import read_node_config
from p2pnet.model.errors import P2pnetError
from p2pnet.model.text import address_text
from p2pnet.node.parent import die_with_parent
from p2pnet.node.process import EXIT_FAULT, EXIT_OK, EXIT_ORPHAN, exit_code_of, log_to, stop_on_signals
from p2pnet.node.service import Service
from p2pnet.peering.pacing import Pacer
from p2pnet.supervisor.lines import PackOrder, PackReport, read_lines

ORDER_BYTES_MAX = 1 << 16
"""Read from the channel at a time."""
SOCKETS_PER_READ = 16
"""Descriptors taken with one read; a hundred starts at once need several reads."""
GC_ALLOCATIONS = 20_000
"""Threshold of the garbage collector's first generation: connections make many objects, hardly ever in cycles."""

log = logging.getLogger("p2pnet.node")

_node_log: ContextVar[TextIO | None] = ContextVar("node_log", default=None)


class NodeLogs(logging.Handler):
    """Writes a node's log lines to that node's log: tasks, timers and callbacks carry the context they were made in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; stderr takes those of no node, or of one that has ended."""
        out = _node_log.get()
        if out is None or out.closed:
            out = sys.stderr
        try:
            out.write(self.format(record) + "\n")
            out.flush()
        except (OSError, ValueError):
            self.handleError(record)


class Pack:
    """The nodes of this process, by name."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._unread = bytearray()
        self._sockets: deque[int] = deque()
        self._stops: dict[str, asyncio.Event] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer()
        self._closing = False
        self.dismissed = asyncio.Event()
        """Set when the supervisor has closed the channel: no pack is wanted any more."""
        channel.setblocking(False)
        self._loop.add_reader(channel, self._read)

    async def close(self) -> None:
        """Stop every node in good order, all at the same time."""
        self._closing = True
        self._loop.remove_reader(self._channel)
        for stop in self._stops.values():
            stop.set()
        await asyncio.gather(*self._running)

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, ORDER_BYTES_MAX, SOCKETS_PER_READ)
        except BlockingIOError:
            return
        # Descriptors may arrive ahead of their lines, never behind them: they are queued in order.
        self._sockets.extend(fds)
        if not data:
            self._loop.remove_reader(self._channel)
            self.dismissed.set()
            return
        self._unread += data
        for line in read_lines(self._unread):
            self._execute(msgspec.json.decode(line, type=PackOrder))

    def _execute(self, order: PackOrder) -> None:
        if order.op == "start":
            sock = socket.socket(fileno=self._sockets.popleft())
            stop = self._stops[order.name] = asyncio.Event()
            task = self._loop.create_task(self._run_node(order, sock, stop), name=order.name)
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif (known := self._stops.get(order.name)) is not None:
            known.set()

    async def _run_node(self, order: PackOrder, sock: socket.socket, stop: asyncio.Event) -> None:
        """One node from start to end; its failure ends no other node."""
        code = EXIT_FAULT
        self._pacer.join()
        with contextlib.ExitStack() as stack:
            try:
                _node_log.set(stack.enter_context(open_log(Path(order.log))))
                await self._serve(order, sock, stop)
                code = EXIT_OK
            except (P2pnetError, OSError) as error:
                code = exit_code_of(error)
            except Exception:
                log.exception("%s ends", order.name)
            finally:
                sock.close()
                self._pacer.leave()
                if self._stops.get(order.name) is stop:
                    del self._stops[order.name]
                self._report(PackReport("ended", order.name, code))

    async def _serve(self, order: PackOrder, sock: socket.socket, stop: asyncio.Event) -> None:
        path = Path(order.config)
        config = read_node_config(path)
        service = await Service.start(config, path.parent, sock, self._pacer)
        where = address_text(*service.address)
        log.info("%s serves on %s as %s, in pack %d", config.name, where, service.incarnation, os.getpid())
        self._report(PackReport("serves", order.name))
        await stop.wait()
        log.info("%s stops", config.name)
        await service.stop()

    def _report(self, report: PackReport) -> None:
        # A pack that ends is reported by its exit; and it must not wait for a supervisor that is gone or does not read.
        if not self._closing:
            with contextlib.suppress(OSError):
                self._channel.send(msgspec.json.encode(report) + b"\n")


def open_log(path: Path) -> TextIO:
    """A file to append log lines to, readable by its owner only."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8", errors="replace")  # noqa: PTH123


def run(channel_fd: int, death_fd: int | None = None) -> int:
    """Be a pack until told to stop, or until the supervisor closes the channel; the exit code."""
    log_to(NodeLogs())
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_told(socket.socket(fileno=channel_fd), death_fd))


async def _until_told(channel: socket.socket, death_fd: int | None) -> int:
    loop = asyncio.get_running_loop()
    asked = stop_on_signals(loop)
    if death_fd is not None:
        loop.add_reader(death_fd, os._exit, EXIT_ORPHAN)
    pack = Pack(channel)
    waits = [loop.create_task(event.wait()) for event in (asked, pack.dismissed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await pack.close()
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; the exit code: 0 stopped, 4 parent gone."""
    import argparse  # forks, which most packs are, have no arguments

    parser = argparse.ArgumentParser(prog="python -m p2pnet.supervisor.pack", description="A pack of p2pnet nodes.")
    parser.add_argument("--supervisor", type=int, metavar="PID", required=True, help="the process not to outlive")
    parser.add_argument("--channel-fd", type=int, metavar="FD", required=True, help="socket to the supervisor")
    parser.add_argument("--death-fd", type=int, metavar="FD", help="shows end-of-file when the supervisor is gone")
    options = parser.parse_args(arguments)
    die_with_parent(options.supervisor)
    return run(options.channel_fd, options.death_fd)


if __name__ == "__main__":
    sys.exit(main())
