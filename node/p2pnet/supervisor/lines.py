"""JSON lines between the supervisor and its lab, its packs and its agent: their shapes, and the pipes that carry them.

With the lab: `Request` in, events out (`{"event": ..., "name": ...}`, see `Supervisor`). With a pack: `PackOrder` and
`PackReport`. With the agent of a pod: `AgentRequest` and `ProcessTable`.
"""

import os
import selectors
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from p2pnet.model.agent import LEASE_S_MAX, NodeProcess, ProcessAction

LINE_BYTES_MAX = 1 << 20
"""Longest line read; a longer one is refused and dropped."""
BACKLOG_BYTES_MAX = 4 << 20
"""Unread events: beyond this the supervisor reads no requests until the other side reads events."""

Op = Literal["bind", "start", "stop", "restart", "kill", "pause", "resume", "hold", "release", "quit"]


class Request(msgspec.Struct, frozen=True):
    """One line on the supervisor's stdin."""

    op: Op
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    config: str = ""
    """Path of the node's config."""
    log: str = ""
    """File for the node's stdout and stderr; default `node.log` beside the config."""
    revive: bool = True
    """`kill` only: whether the node is started again."""
    pack: str = ""
    """`start` only: nodes that name the same pack share one process; empty: a process of its own."""
    lease_s: float = 0.0
    """`hold` and `pause`: see `ProcessAction.lease_s`."""
    why: str = ""
    """`restart`, `kill`, `pause` and `hold`: what ordered it; empty: the operation's own name."""


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
    """Exit code; `ended` events only."""


class AgentRequest(msgspec.Struct, frozen=True):
    """One line from the agent: what the lab asks for."""

    number: int
    """Grows with every request of one agent process, from 1."""
    action: ProcessAction


class ProcessTable(msgspec.Struct, frozen=True):
    """One line to the agent: all nodes, after every request up to the number `done` was executed."""

    nodes: list[NodeProcess]
    done: int = 0
    refused: dict[int, str] = {}
    """Why a request since the last table was not executed, by number."""


def read_request(line: bytes) -> Request | str:
    """The request in a line, or what is wrong with it."""
    try:
        request = msgspec.json.decode(line, type=Request)
    except msgspec.DecodeError as error:
        return str(error)
    if request.op != "quit" and not request.name:
        return f"{request.op} needs a name"
    if request.op == "start" and not request.config:
        return "start needs a config"
    if not 0 <= request.port < 1 << 16:
        return f"{request.port} is no port"
    if not 0 <= request.lease_s <= LEASE_S_MAX:
        return f"lease_s {request.lease_s}: 0 to {LEASE_S_MAX:.0f} seconds"
    return request


def read_lines(unread: bytearray) -> Iterator[bytes]:
    """Take the whole lines out of what has arrived, without their newline."""
    while (end := unread.find(b"\n")) >= 0:
        line = bytes(unread[:end])
        del unread[: end + 1]
        yield line


EventEncoder = Callable[[str, Mapping[str, Any]], bytes]
"""An event and its fields -> a line without its end."""


def event_line(event: str, fields: Mapping[str, Any]) -> bytes:
    """`{"event": event, **fields}`."""
    return msgspec.json.encode({"event": event, **fields})


class LinePipes:
    """A pipe to read lines from and one to write events to, on the supervisor's selector; neither blocks the supervisor.

    `closed` turns true when the other side has closed either pipe.
    """

    def __init__(
        self, selector: selectors.BaseSelector, in_fd: int, out_fd: int, on_line: Callable[[bytes], None]
    ) -> None:
        self.closed = False
        self.encode: EventEncoder = event_line
        self._selector = selector
        self._in, self._out = in_fd, out_fd
        self._on_line = on_line
        self._unread = bytearray()
        self._unsent = bytearray()
        self._writing = False
        os.set_blocking(out_fd, False)
        self._reading = False
        self._start_reading()

    def send(self, event: str, **fields: Any) -> None:
        """Send one event, by default as `{"event": event, **fields}`."""
        self._unsent += self.encode(event, fields) + b"\n"
        self._write()

    @property
    def busy(self) -> bool:
        """Whether an event has not left yet."""
        return bool(self._unsent)

    def close(self) -> None:
        """Stop reading, and close both pipes."""
        self.closed = True
        self._watch_writable(wanted=False)
        if self._reading:
            self._reading = False
            self._selector.unregister(self._in)
        os.close(self._in)
        os.close(self._out)

    def finish(self) -> None:
        """Send what is left, waiting for the reader: nothing sends it once the process has ended."""
        os.set_blocking(self._out, True)
        if not self.closed:
            self._write()

    def _start_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._selector.register(self._in, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        if self.closed:  # closed by a callback of this same select
            return
        data = os.read(self._in, 1 << 16)
        if not data:
            self.closed = True
            return
        self._unread += data
        for line in read_lines(self._unread):
            if line.strip():
                self._on_line(line)
        if len(self._unread) > LINE_BYTES_MAX:
            self._unread.clear()
            self.send("refused", message=f"a line longer than {LINE_BYTES_MAX} bytes")

    def _write(self) -> None:
        if self.closed:
            return
        try:
            while self._unsent:
                del self._unsent[: os.write(self._out, self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # the other side is gone: nobody reads these
            self.closed = True
            self._unsent.clear()
        # Only while something waits: a pipe is nearly always writable, and the loop would spin.
        self._watch_writable(wanted=bool(self._unsent))
        if len(self._unsent) > BACKLOG_BYTES_MAX and self._reading:
            self._reading = False
            self._selector.unregister(self._in)
        elif not self._unsent:
            self._start_reading()

    def _watch_writable(self, *, wanted: bool) -> None:
        if wanted and not self._writing:
            self._selector.register(self._out, selectors.EVENT_WRITE, self._write)
        elif self._writing and not wanted:
            self._selector.unregister(self._out)
        self._writing = wanted
