"""The processes of nodes as the supervisor starts and hears them: one per node, or packs that hold several nodes each.

A pack and its supervisor share a socket pair: orders and bound sockets go in, reports come out. Every node of a pack is
started, stopped and restarted without the others; only the process, its death and its pauses are common.
"""

import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from p2pnet.node.parent import Start
from p2pnet.supervisor import child
from p2pnet.supervisor.lines import PackOrder, PackReport, read_lines
from p2pnet.supervisor.table import SupervisedNode

log = logging.getLogger("p2pnet.supervisor")

CHANNEL_BYTES = 1 << 20
"""Asked of the kernel for orders a paused pack has not read; all orders of a hundred nodes are a tenth of it."""


class NodeLaunch(msgspec.Struct, frozen=True):
    """A process for one node, see `child.Launch`."""

    config: Path
    log: Path
    socket_fd: int
    """The bound UDP socket, the same at every restart."""
    ready_fd: int
    """Write end: gets one byte when the node serves."""
    death_fd: int
    """Read end: shows end-of-file when the supervisor is gone."""

    @property
    def fds(self) -> tuple[int, ...]:
        """See `child.Launch`."""
        return self.socket_fd, self.ready_fd, self.death_fd

    def run(self) -> int:
        """See `child.Launch`."""
        from p2pnet.node.process import run  # a supervisor that spawns never imports it

        return run(self.config, socket_fd=self.socket_fd, ready_fd=self.ready_fd, death_fd=self.death_fd)

    def command(self) -> list[str]:
        """See `child.Launch`."""
        given = ("--socket-fd", self.socket_fd), ("--ready-fd", self.ready_fd), ("--death-fd", self.death_fd)
        return ["p2pnet.node", str(self.config), *(str(part) for pair in given for part in pair)]


class PackLaunch(msgspec.Struct, frozen=True):
    """A process for a pack of nodes, see `child.Launch`. Its own log takes what is not said by one of its nodes."""

    log: Path
    channel_fd: int
    """Socket to the supervisor: orders and bound sockets come through it."""
    death_fd: int
    """As in `NodeLaunch`."""

    @property
    def fds(self) -> tuple[int, ...]:
        """See `child.Launch`."""
        return self.channel_fd, self.death_fd

    def run(self) -> int:
        """See `child.Launch`."""
        from p2pnet.supervisor.pack import run

        return run(self.channel_fd, self.death_fd)

    def command(self) -> list[str]:
        """See `child.Launch`."""
        return ["p2pnet.supervisor.pack", "--channel-fd", str(self.channel_fd), "--death-fd", str(self.death_fd)]


class Singles:
    """Starts processes of one node each; `on_ready(node)` when one reports that it serves."""

    def __init__(
        self, how: Start, selector: selectors.BaseSelector, death_fd: int, *, on_ready: Callable[[str], None]
    ) -> None:
        self._how = how
        self._selector = selector
        self._death_fd = death_fd
        self._on_ready = on_ready

    def start(self, node: SupervisedNode) -> int:
        """A process for this node only; its pid. Raises OSError."""
        assert node.config is not None  # noqa: S101 - set before anything can be launched
        assert node.log is not None  # noqa: S101
        ready, ready_write = os.pipe()
        os.set_blocking(ready, False)
        launch = NodeLaunch(node.config, node.log, node.sock.fileno(), ready_write, self._death_fd)
        try:
            pid = child.start(self._how, launch)
        except OSError:
            os.close(ready)
            raise
        finally:
            # Only the child holds the write end: its end of file is the child's end.
            os.close(ready_write)
        node.ready_fd = ready
        self._selector.register(ready, selectors.EVENT_READ, lambda: self._read(node, ready))
        return pid

    def read_rest(self, node: SupervisedNode) -> None:
        """Its process has ended: what it reported before comes first."""
        if node.ready_fd is not None:
            self._read(node, node.ready_fd)

    def forget(self, node: SupervisedNode) -> None:
        """Stop reading from its process."""
        if node.ready_fd is not None:
            self._selector.unregister(node.ready_fd)
            os.close(node.ready_fd)
            node.ready_fd = None

    def _read(self, node: SupervisedNode, fd: int) -> None:
        if node.ready_fd != fd:  # its process was reaped by a callback of this same select
            return
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, 1)
        self.forget(node)
        if data:
            self._on_ready(node.name)


class PackProcess(msgspec.Struct, eq=False):
    """One live pack."""

    name: str
    pid: int
    channel: socket.socket
    unread: bytearray = msgspec.field(default_factory=bytearray)
    starting: set[str] = msgspec.field(default_factory=set)
    """Nodes that have neither served nor ended since they were started."""
    serving: list[str] = msgspec.field(default_factory=list)
    """Nodes that serve and whose `on_ready` is still to come: a pack is ready when all its nodes are."""


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

    def start(self, node: SupervisedNode) -> int:
        """Start a node in its pack, the pack itself if it does not run; its pid. Raises OSError."""
        assert node.config is not None  # noqa: S101 - set before anything can be launched
        assert node.log is not None  # noqa: S101
        pack = self._packs.get(node.pack) or self._launch(node.pack, node.log)
        pack.starting.add(node.name)
        self._send(pack, PackOrder("start", node.name, str(node.config), str(node.log)), [node.sock.fileno()])
        return pack.pid

    def stop(self, node: SupervisedNode) -> None:
        """Ask a node to stop in good order; `on_ended` follows."""
        if (pack := self._packs.get(node.pack)) is not None:
            self._send(pack, PackOrder("stop", node.name), [])

    def dismiss(self, name: str) -> None:
        """End a pack that has no nodes any more: it exits when its channel closes."""
        if (pack := self._packs.get(name)) is not None:
            self._drop(pack)

    def exited(self, pid: int) -> None:
        """A process has ended; if it was a pack, what it reported before comes first."""
        for pack in [pack for pack in self._packs.values() if pack.pid == pid]:
            self._read(pack)
            self._drop(pack)

    def _launch(self, name: str, log_path: Path) -> PackProcess:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
            try:
                pid = child.start(self._how, PackLaunch(log_path, theirs.fileno(), self._death_fd))
            except OSError:
                ours.close()
                raise
        pack = self._packs[name] = PackProcess(name, pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read(pack))
        return pack

    def _send(self, pack: PackProcess, order: PackOrder, fds: list[int]) -> None:
        line = msgspec.json.encode(order) + b"\n"
        try:
            sent = socket.send_fds(pack.channel, [line], fds)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is dying; its end is reported when it is reaped
            return
        # A part of a line cannot be taken back, and a paused pack with a full buffer has stopped taking orders.
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
        # All together: while others of the pack start, those that serve share its CPU with them.
        if not pack.starting:
            ready, pack.serving = pack.serving, []
            for name in ready:
                self._on_ready(name)

    def _drop(self, pack: PackProcess) -> None:
        if self._packs.get(pack.name) is pack:
            del self._packs[pack.name]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(pack.channel)
        pack.channel.close()
