"""What the supervisor knows about each node: its socket, its process, what was ordered, when the next start is due. No I/O."""

import socket
from pathlib import Path

import msgspec

from p2pnet.model.agent import ORDERED, NodeProcess, ProcessState
from p2pnet.model.backoff import next_wait
from p2pnet.model.text import signal_name

BACKOFF_FIRST_S = 0.2
"""Before the second start of a node that died young."""
BACKOFF_MAX_S = 10.0
"""Longest back-off: it doubles from the first."""
SETTLED_S = 10.0
"""A node that lived as long as this starts its back-off anew."""
STOP_S = 10.0
"""From SIGTERM to SIGKILL; the node itself promises to be gone by then."""
EXIT_REASONS = {
    2: "its config or identity cannot be used",
    3: "its address cannot be had",
    4: "its parent was gone",
    70: "a fault of p2pnet",
}
"""What a node means by its exit code, see `node.process`; more stands in its log."""


class SupervisedNode(msgspec.Struct):
    """One node: its socket lives from `bind` to `stop`, its processes come and go."""

    name: str
    sock: socket.socket
    config: Path | None = None
    log: Path | None = None
    pack: str = ""
    """The pack it lives in; empty: its process is its own."""
    pid: int | None = None
    """Pid of its process while it runs: the nodes of a pack have the same."""
    starts: int = 0
    restarts: int = 0
    """Starts that replaced a process that had ended by itself or by a kill."""
    wanted: bool = False
    """Whether a process that ends is to be replaced."""
    stopping: bool = False
    """Whether `stop` has been asked; a `stopped` event follows."""
    serves: bool = False
    """Whether its process has reported that it serves."""
    paused: bool = False
    """Whether it is stopped because that was ordered."""
    pause_asked: bool = False
    """Whether a pause was the last order of its kind: somebody else may have let it run meanwhile."""
    paused_until_s: float | None = None
    """When a pause is undone though nobody asks; None: never."""
    held: str = ""
    """What ordered that it is kept dead; empty: nothing did."""
    held_until_s: float | None = None
    """When it is started again though nobody asks; None: never."""
    halted: int = 0
    """The signal with which somebody else stopped it; 0: nobody did."""
    order: str = ""
    """What was ordered that ends its present process: `kill`, `stop`, `restart` or who did it; empty: nothing."""
    forced: bool = False
    """Whether it had to be killed because it did not stop when asked."""
    ending: str = ""
    """How its last process ended; empty: none has."""
    start_at_once: bool = False
    """Whether the next start waits for no back-off: the node was asked to restart."""
    started_s: float = 0.0
    """Monotonic seconds, as all times here."""
    backoff_s: float = 0.0
    start_due_s: float | None = None
    kill_due_s: float | None = None
    ready_fd: int | None = None
    """Read end of the pipe on which its process reports that it serves."""

    def started(self, pid: int, now_s: float) -> None:
        """A process of it runs."""
        self.pid, self.started_s, self.starts = pid, now_s, self.starts + 1
        self.start_due_s = self.kill_due_s = None
        self.start_at_once = self.serves = self.forced = False
        self.order = ""
        self.continues()

    def due_s(self) -> tuple[float | None, ...]:
        """When something is to be done about it."""
        return self.start_due_s, self.kill_due_s, self.held_until_s, self.paused_until_s

    def continues(self) -> None:
        """It is not stopped any more, whoever had stopped it."""
        self.paused = self.pause_asked = False
        self.paused_until_s = None
        self.halted = 0

    def ended(self, now_s: float) -> float | None:
        """Its process is gone. Seconds to the next start; None when there will be none."""
        self.pid = self.kill_due_s = None
        self.serves = False
        self.continues()
        if not self.wanted or self.held:
            return None
        self.restarts += 1
        return self.wait(now_s)

    def wait(self, now_s: float) -> float:
        """Plan the next start: 0.2 s doubled to 10 s, afresh after 10 s of life; a restart asked for is due at once."""
        if self.start_at_once:
            delay = 0.0
        else:
            lived = now_s - self.started_s
            former_s = 0.0 if lived >= SETTLED_S else self.backoff_s
            self.backoff_s = next_wait(former_s, BACKOFF_FIRST_S, BACKOFF_MAX_S)
            delay = self.backoff_s
        self.start_due_s = now_s + delay
        return delay

    def hold(self, why: str, until_s: float | None) -> None:
        """It is to be dead from now on, until `until_s` at most."""
        self.held, self.held_until_s, self.order = why, until_s, why
        self.start_due_s = None

    def release(self) -> None:
        """It need not be dead any more."""
        self.held, self.held_until_s = "", None
        self.backoff_s = 0.0  # its death was no fault of its own
        if self.pid is None:
            self.restarts += 1  # one that still dies counts when it has

    def process(self) -> NodeProcess:
        """Its process as the lab is told of it."""
        state: ProcessState = "restarting" if self.wanted and not self.held else "stopped"
        detail = held_text(self.held) if self.held else self.ending
        if self.pid is not None:
            state = "paused" if self.paused else "running" if self.serves else "starting"
            state = "unknown" if self.halted else state
            detail = halted_text(self.halted, self.pid) if self.halted else ""
        return NodeProcess(self.name, state, self.restarts, self.starts, detail, self.ending)


def held_text(why: str) -> str:
    """Sentence about a process that is kept dead."""
    return f"killed {ORDERED} ({why})"


def halted_text(number: int, pid: int | None) -> str:
    """Sentence about a process that somebody stopped with the signal `number`."""
    return f"process {pid} is stopped by {signal_name(number)}, which nobody here ordered (kill -CONT {pid})"


def exit_text(code: int, *, order: str = "", forced: bool = False, out_of_memory: bool = False) -> str:
    """How a process ended and whose doing it was. `code` is negative for a signal."""
    how = f"ended with signal {-code} ({signal_name(-code)})" if code < 0 else f"ended with code {code}"
    if forced:
        return f"{how}: it had not stopped {STOP_S:.0f} s after it was asked to ({order})"
    if order:
        return f"{how}, {ORDERED} ({order})"
    if out_of_memory:
        return f"{how}: out of memory, killed by the kernel"
    return f"{how}, which nobody here ordered" if code < 0 else f"{how}: {EXIT_REASONS.get(code, 'by itself')}"
