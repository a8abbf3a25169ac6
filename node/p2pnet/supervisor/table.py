"""What the nursery knows about each node, and its words with the lab: JSON lines, requests in, events out. No I/O."""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from p2pnet.model.agent import ORDERED, NodeProcess, State
from p2pnet.model.text import signal_name

Op = Literal["bind", "start", "stop", "restart", "kill", "pause", "resume", "quit"]

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
SETTLED_S = 10.0
"""A node that lived as long as this starts its back-off anew."""
STOP_S = 10.0
"""From SIGTERM to SIGKILL; the node itself promises to be gone by then."""
EXIT_WORDS = {
    2: "its config or identity cannot be used",
    3: "its address cannot be had",
    4: "its parent was gone",
    70: "a fault of p2pnet",
}
"""What a node means by its exit code, see `process`; more stands in its log."""


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
    """Whether it stands still because that was asked."""
    pause_asked: bool = False
    """Whether a pause was the last word about that: somebody else may have let it run meanwhile."""
    halted: int = 0
    """The signal with which somebody else stopped it; 0: nobody did."""
    order: str = ""
    """What was asked that ends its present process: `kill`, `stop` or `restart`; empty: nothing."""
    forced: bool = False
    """Whether it had to be killed because it did not stop when asked."""
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
        self.hurry = self.serves = self.forced = False
        self.order = ""
        self.runs()

    def runs(self) -> None:
        """It does not stand still, whoever had stopped it."""
        self.paused = self.pause_asked = False
        self.halted = 0

    def ended(self, now_s: float) -> float | None:
        """Its process is gone. In how many seconds the next one starts; None when none shall."""
        self.pid = self.kill_due_s = None
        self.serves = False
        self.runs()
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
        detail = self.ending
        if self.pid is not None:
            state = "paused" if self.paused else "running" if self.serves else "starting"
            state = "unknown" if self.halted else state
            detail = halted_words(self.halted, self.pid) if self.halted else ""
        return NodeProcess(self.name, state, self.restarts, self.starts, detail, self.ending)


def halted_words(number: int, pid: int | None) -> str:
    """What is said of a process that somebody stopped."""
    return f"process {pid} is stopped by {signal_name(number)}, which nobody here ordered (kill -CONT {pid})"


def exit_words(code: int, *, order: str = "", forced: bool = False, out_of_memory: bool = False) -> str:
    """How a process ended and whose doing it was. `code` is negative for a signal."""
    how = f"ended with signal {-code} ({signal_name(-code)})" if code < 0 else f"ended with code {code}"
    if forced:
        return f"{how}: it had not stopped {STOP_S:.0f} s after it was asked to ({order})"
    if order:
        return f"{how}, {ORDERED} ({order})"
    if out_of_memory:
        return f"{how}: out of memory, killed by the kernel"
    return f"{how}, which nobody here ordered" if code < 0 else f"{how}: {EXIT_WORDS.get(code, 'by itself')}"
