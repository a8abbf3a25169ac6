"""The nursery's side of nodes with a process of their own: starting it, and hearing from it that it serves."""

import contextlib
import os
import selectors
from collections.abc import Callable

from p2pnet.node.parent import Start
from p2pnet.supervisor import child
from p2pnet.supervisor.table import Kept


class Singles:
    """Starts processes; `on_ready(node)` when one says that it serves."""

    def __init__(
        self, how: Start, selector: selectors.BaseSelector, death_fd: int, *, on_ready: Callable[[str], None]
    ) -> None:
        self._how = how
        self._selector = selector
        self._death_fd = death_fd
        self._on_ready = on_ready

    def start(self, node: Kept) -> int:
        """A process for this node only; its pid. Raises OSError."""
        assert node.config is not None  # noqa: S101 - set before anything can be launched
        assert node.log is not None  # noqa: S101
        ready, ready_write = os.pipe()
        os.set_blocking(ready, False)
        birth = child.Birth(node.config, node.log, node.sock.fileno(), ready_write, self._death_fd)
        try:
            pid = child.start(self._how, birth)
        except OSError:
            os.close(ready)
            raise
        finally:
            os.close(ready_write)
        node.ready_fd = ready
        self._selector.register(ready, selectors.EVENT_READ, lambda: self._read(node, ready))
        return pid

    def hear(self, node: Kept) -> None:
        """Its process has ended: what it said before came first."""
        if node.ready_fd is not None:
            self._read(node, node.ready_fd)

    def forget(self, node: Kept) -> None:
        """Listen to it no more."""
        if node.ready_fd is not None:
            self._selector.unregister(node.ready_fd)
            os.close(node.ready_fd)
            node.ready_fd = None

    def _read(self, node: Kept, fd: int) -> None:
        if node.ready_fd != fd:  # its process was reaped in this very turn
            return
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(fd, 1)
        self.forget(node)
        if said:
            self._on_ready(node.name)
