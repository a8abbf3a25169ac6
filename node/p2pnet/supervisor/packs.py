"""The nursery's side of packs: processes that hold several nodes each. Orders and bound sockets go in, reports come out.

A pack and its nursery share a socket pair. Every node of a pack has a life of its own on it: it is started, stopped and
started again without its siblings; only the process, its death and its pauses are common.
"""

import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from p2pnet.node.parent import Start
from p2pnet.supervisor import child
from p2pnet.supervisor.table import Kept

log = logging.getLogger("p2pnet.nursery")

CHANNEL_BYTES = 1 << 20
"""Asked of the kernel for orders a paused pack has not read; all orders of a hundred nodes are a tenth of it."""


class PackOrder(msgspec.Struct, frozen=True):
    """One line to a pack. A start comes with the node's socket; the n-th start belongs to the n-th socket."""

    op: Literal["start", "stop"]
    name: str
    config: str = ""
    log: str = ""


class PackReport(msgspec.Struct, frozen=True):
    """One line from a pack."""

    event: Literal["serves", "ended"]
    name: str
    code: int = 0
    """Of an end: what the node's process would have exited with, had it been alone."""


def read_lines(unread: bytearray) -> Iterator[bytes]:
    """Take the whole lines out of what has arrived."""
    while (end := unread.find(b"\n")) >= 0:
        line = bytes(unread[:end])
        del unread[: end + 1]
        yield line


@dataclass(slots=True, eq=False)
class PackProcess:
    """One live process."""

    name: str
    pid: int
    channel: socket.socket
    unread: bytearray = field(default_factory=bytearray)
    starting: set[str] = field(default_factory=set)
    """Nodes that have neither served nor ended since they were started."""
    serving: list[str] = field(default_factory=list)
    """Nodes that serve and of which that has not been told: a pack is ready when all are."""


class Packs:
    """Starts packs and speaks with them. A pack that is gone is made anew by the next start of one of its nodes."""

    def __init__(
        self,
        how: Start,
        selector: selectors.BaseSelector,
        death_fd: int,
        *,
        on_ready: Callable[[str], None],
        on_ended: Callable[[str, int, int], None],
    ) -> None:
        """`on_ready(node)`; `on_ended(node, pid, code)`: it ended by itself or as asked, and its pack lives on."""
        self._how = how
        self._selector = selector
        self._death_fd = death_fd
        self._on_ready = on_ready
        self._on_ended = on_ended
        self._packs: dict[str, PackProcess] = {}

    def start(self, node: Kept) -> int:
        """Start a node in its pack, the pack itself if it does not run; its pid. Raises OSError."""
        assert node.config is not None  # noqa: S101 - set before anything can be launched
        assert node.log is not None  # noqa: S101
        pack = self._packs.get(node.pack) or self._fork(node.pack, node.log)
        pack.starting.add(node.name)
        self._tell(pack, PackOrder("start", node.name, str(node.config), str(node.log)), [node.sock.fileno()])
        return pack.pid

    def stop(self, node: Kept) -> None:
        """Ask a node to stop in good order; `on_ended` follows."""
        if (pack := self._packs.get(node.pack)) is not None:
            self._tell(pack, PackOrder("stop", node.name), [])

    def dismiss(self, name: str) -> None:
        """End a pack that has no nodes any more: it goes when its channel closes."""
        if (pack := self._packs.get(name)) is not None:
            self._drop(pack)

    def exited(self, pid: int) -> None:
        """A process has ended; if it was a pack, what it said before comes first."""
        for pack in [pack for pack in self._packs.values() if pack.pid == pid]:
            self._read(pack)
            self._drop(pack)

    def _fork(self, name: str, log_path: Path) -> PackProcess:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
            try:
                pid = child.start(self._how, child.PackBirth(log_path, theirs.fileno(), self._death_fd))
            except OSError:
                ours.close()
                raise
        pack = self._packs[name] = PackProcess(name, pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read(pack))
        return pack

    def _tell(self, pack: PackProcess, order: PackOrder, fds: list[int]) -> None:
        line = msgspec.json.encode(order) + b"\n"
        try:
            sent = socket.send_fds(pack.channel, [line], fds)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dying; its end is told when it is reaped
            return
        if sent != len(line):
            log.error("pack %s (%d) reads no orders and is killed", pack.name, pack.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pack.pid, 9)

    def _read(self, pack: PackProcess) -> None:
        try:
            while data := pack.channel.recv(1 << 16):
                pack.unread += data
        except BlockingIOError:
            data = b" "
        except OSError:
            data = b""
        for line in read_lines(pack.unread):
            self._take(pack, msgspec.json.decode(line, type=PackReport))
        if not data:
            self._drop(pack)

    def _take(self, pack: PackProcess, report: PackReport) -> None:
        pack.starting.discard(report.name)
        if report.event == "serves":
            pack.serving.append(report.name)
        else:
            if report.name in pack.serving:
                pack.serving.remove(report.name)
            self._on_ended(report.name, pack.pid, report.code)
        if not pack.starting:
            told, pack.serving = pack.serving, []
            for name in told:
                self._on_ready(name)

    def _drop(self, pack: PackProcess) -> None:
        if self._packs.get(pack.name) is pack:
            del self._packs[pack.name]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(pack.channel)
        pack.channel.close()
