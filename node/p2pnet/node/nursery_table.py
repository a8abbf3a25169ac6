"""What the nursery knows about each node, and its words with the lab: JSON lines, requests in, events out. No I/O."""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from p2pnet.model.warden import NodeProcess, State

Op = Literal["bind", "start", "stop", "restart", "kill", "pause", "resume", "quit"]

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
SETTLED_S = 10.0
"""A node that lived as long as this starts its back-off anew."""
STOP_S = 10.0
"""From SIGTERM to SIGKILL; the node itself promises to be gone by then."""


class Request(msgspec.Struct, frozen=True):
    """One line on the nursery's stdin."""

    op: Op
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    config: str = ""
    log: str = ""
    """Of the node's stdout and stderr; default `node.log` beside the config."""
    revive: bool = True
    pack: str = ""
    """Of a start: the process to share with all nodes that name the same; empty: one of its own."""


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
    return request


@dataclass(slots=True)
class Kept:
    """One node the nursery keeps: its socket lives from `bind` to `stop`, its processes come and go."""

    name: str
    sock: socket.socket
    config: Path | None = None
    log: Path | None = None
    pack: str = ""
    """The pack it lives in; empty: its process is its own."""
    pid: int | None = None
    """Of its process while it lives there: several nodes of a pack have the same."""
    starts: int = 0
    restarts: int = 0
    """Starts that replaced a process that had ended by itself or by a kill."""
    wanted: bool = False
    """Whether a process that ends is to be replaced."""
    stopping: bool = False
    """Whether `stop` has been asked; `stopped` is owed."""
    serves: bool = False
    """Whether its process has said that it does."""
    paused: bool = False
    ending: str = ""
    """How its last process ended; empty: none has."""
    hurry: bool = False
    """Whether the next start is due at once: the node was asked to restart."""
    born_s: float = 0.0
    backoff_s: float = 0.0
    start_due_s: float | None = None
    kill_due_s: float | None = None
    ready_fd: int | None = field(default=None, repr=False)
    """Read end of the pipe on which its process says it serves."""

    def started(self, pid: int, now_s: float) -> None:
        """A process of it runs."""
        self.pid, self.born_s, self.starts = pid, now_s, self.starts + 1
        self.start_due_s = self.kill_due_s = None
        self.hurry = self.serves = self.paused = False

    def ended(self, now_s: float) -> float | None:
        """Its process is gone. In how many seconds the next one starts; None when none shall."""
        self.pid = self.kill_due_s = None
        self.serves = self.paused = False
        if not self.wanted:
            return None
        self.restarts += 1
        return self.wait(now_s)

    def wait(self, now_s: float) -> float:
        """Plan the next start: 0.2 s doubled to 10 s, afresh after 10 s of life; a restart asked for is due at once."""
        if self.hurry:
            delay = 0.0
        else:
            lived = now_s - self.born_s
            self.backoff_s = (
                BACKOFF_FIRST_S if lived >= SETTLED_S else min(BACKOFF_MAX_S, self.backoff_s * 2 or BACKOFF_FIRST_S)
            )
            delay = self.backoff_s
        self.start_due_s = now_s + delay
        return delay

    def process(self) -> NodeProcess:
        """Its process, for those who watch."""
        state: State = "restarting" if self.wanted else "stopped"
        if self.pid is not None:
            state = "paused" if self.paused else "running" if self.serves else "starting"
        return NodeProcess(self.name, state, self.restarts, self.starts, "" if self.pid is not None else self.ending)
