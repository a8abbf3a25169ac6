"""Keeps node processes. `python -m p2pnet.supervisor`: JSON lines on stdin and stdout, its log on stderr.

A node has a process of its own, or lives in a pack with others (`processes`): start, stop and restart are the
node's alone there too, but kill, hold, pause and resume hit the process, and so all nodes of the pack.

One thread and no event loop, because it forks: a loop's descriptors and a second thread's locks do not survive that.
It binds each node's UDP socket once and hands it to every restart, so that a node keeps its port through any death.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from p2pnet.model.agent import NodeProcess
from p2pnet.model.cgroup import OomCounter
from p2pnet.node.parent import Start, choose_start, die_with_parent
from p2pnet.supervisor import child
from p2pnet.supervisor.lines import EventEncoder, LinePipes, Request, read_request
from p2pnet.supervisor.processes import Packs, Singles
from p2pnet.supervisor.table import STOP_S, SupervisedNode, exit_text, halted_text, held_text

OOM_S = 2.0
"""How long a growth of the kernel's counter explains deaths: it counts several kills at once, reaped one by one."""


class Companion(Protocol):
    """Something beside the nodes that the supervisor's loop serves: the agent of a pod."""

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Something has happened; the lab is told the same."""

    def reaped(self, pid: int, code: int) -> None:
        """A process has ended, a node's or any other. `code` is negative for a signal."""

    def next_wakeup_s(self) -> float | None:
        """Monotonic seconds at which `advance` is due at the latest; None: no time is set."""

    def advance(self, now_s: float) -> None:
        """Called after every turn of the loop."""


class Supervisor:
    """The table of nodes, and the loop that turns requests, deaths and times into starts, signals and events."""

    def __init__(self, how: Start, requests_fd: int = 0, events_fd: int = 1) -> None:
        """Takes the signals SIGTERM, SIGINT and SIGCHLD of this process."""
        self._nodes: dict[str, SupervisedNode] = {}
        self.companion: Companion | None = None
        self.selector = selectors.PollSelector()
        """Calls the `data` of a key that is ready. Unlike epoll, poll also takes a file as stdin."""
        self._quitting = self._quit_asked = False
        self._oom = OomCounter()
        self._oom_until_s = 0.0
        self._operations: dict[str, Callable[[SupervisedNode, Request], None]] = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "hold": self._hold,
            "release": self._release,
        }
        self._death_read, self._death_write = os.pipe()
        self._wake_read, wake_write = os.pipe()
        # Signals are written to this pipe (signal.set_wakeup_fd), so that one during select is not missed.
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_quit)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that the wake-up descriptor is written
        self.selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)
        self._pipes = LinePipes(self.selector, requests_fd, events_fd, self._on_line)
        self._singles = Singles(how, self.selector, self._death_read, on_ready=self._serves)
        self._packs = Packs(how, self.selector, self._death_read, on_ready=self._serves, on_ended=self._ended_in_pack)

    def run(self) -> int:
        """Until asked to quit and all are gone (0), or until nobody reads or writes the pipes any more (1)."""
        self.tell("supervisor", pid=os.getpid())
        while not self._pipes.closed and not (self._quitting and not self._nodes):
            for key, _ in self.selector.select(self._timeout()):
                key.data()
            now_s = time.monotonic()
            self._do_due(now_s)
            if self.companion is not None:
                self.companion.advance(now_s)
        # Nothing outlives the supervisor, and events told so far still reach the lab.
        self._end_all()
        self._pipes.finish()
        return 1 if self._pipes.closed else 0

    def write_events(self, encode: EventEncoder) -> None:
        """Have events written in another form."""
        self._pipes.encode = encode

    def processes(self) -> list[NodeProcess]:
        """All nodes, in the order they were bound."""
        return [node.process() for node in self._nodes.values()]

    def tell(self, event: str, **fields: Any) -> None:
        """Send an event to the lab, and to the companion."""
        self._pipes.send(event, **fields)
        if self.companion is not None:
            self.companion.event(event, fields)

    # --- requests ---

    def _on_line(self, line: bytes) -> None:
        request = read_request(line)
        if isinstance(request, str):
            self.tell("refused", message=request)
        else:
            self.execute(request)

    def execute(self, request: Request) -> None:
        """Do what is requested; what came of it is told as events."""
        if request.op == "quit":
            self._quit()
        elif request.op == "bind":
            self._bind(request)
        elif (node := self._nodes.get(request.name)) is None:
            self.tell("refused", name=request.name, message=f"{request.op}: no such node; bind it first")
        else:
            self._operations[request.op](node, request)

    def _bind(self, request: Request) -> None:
        node = self._nodes.get(request.name)
        try:
            if node is None:
                sock = _bind_udp(request.host, request.port)
                node = self._nodes[request.name] = SupervisedNode(request.name, sock)
            elif request.port not in (0, node.sock.getsockname()[1]):
                self.tell("refused", name=request.name, message="already bound to another port; stop it first")
                return
        except OSError as error:
            self.tell("error", name=request.name, message=error.strerror or str(error), errno=error.errno)
            return
        self.tell("bound", name=request.name, port=node.sock.getsockname()[1])

    def _start(self, node: SupervisedNode, request: Request) -> None:
        if node.held:
            self.tell("refused", name=node.name, message=f"start: it is kept dead ({node.held})")
            return
        node.config = Path(request.config)
        node.log = Path(request.log) if request.log else node.config.with_name("node.log")
        if node.pid is None:  # a running process stays in its pack
            node.pack = request.pack
        node.wanted = True
        if node.stopping or self._quitting:
            self.tell("refused", name=node.name, message="start: it is being stopped")
        elif node.pid is None:
            self._launch(node)
        else:
            self.tell("refused", name=node.name, message=f"start: it runs already as {node.pid}")

    def _stop(self, node: SupervisedNode, _request: Request | None = None) -> None:
        node.wanted, node.stopping, node.start_due_s = False, True, None
        node.held, node.held_until_s = "", None
        node.order = "stop"
        if node.pid is None:
            self._forget(node)
        else:
            self._terminate(node)

    def _restart(self, node: SupervisedNode, request: Request) -> None:
        if not self._may(node, "restart"):
            return
        node.wanted = node.start_at_once = True
        node.order = request.why or "restart"
        if node.pid is None:
            self._launch(node)
        else:
            self._terminate(node)

    def _may(self, node: SupervisedNode, op: str) -> bool:
        """Whether an operation makes sense for a node; says why not."""
        why = "it was never started" if node.config is None else f"it is kept dead ({node.held})" if node.held else ""
        if why:
            self.tell("refused", name=node.name, message=f"{op}: {why}")
        return not why

    def _kill(self, node: SupervisedNode, request: Request) -> None:
        if not self._may(node, "kill"):
            return
        for other in self._of_same_process(node):
            # Those that share the process are revived with it, except for nodes that are being stopped.
            other.wanted = request.revive and other.config is not None and not other.stopping
            other.order = request.why or "kill"
        if node.pid is not None:
            self._signal(node, signal.SIGKILL)
        elif not node.wanted:
            node.start_due_s = None

    def _hold(self, node: SupervisedNode, request: Request) -> None:
        if node.config is None or node.stopping:
            self.tell("refused", name=node.name, message="hold: it is being stopped, or was never started")
            return
        for other in self._of_same_pack(node):
            if other.config is None or other.stopping:
                continue
            fresh = not other.held
            other.hold(request.why or "hold", _until(request))
            if other.pid is not None:
                self._signal(other, signal.SIGKILL)
            elif fresh:
                self.tell("held", name=other.name, how=held_text(other.held))

    def _release(self, node: SupervisedNode, _request: Request | None = None) -> None:
        for other in self._of_same_pack(node):
            if not other.held:
                continue
            other.release()
            if other.pid is None:
                self._launch(other)
            else:  # it still dies
                other.start_at_once = True

    def _of_same_pack(self, node: SupervisedNode) -> list[SupervisedNode]:
        """The nodes that share this one's process whenever it runs, itself included."""
        return [one for one in self._nodes.values() if one is node or (node.pack and one.pack == node.pack)]

    def _of_same_process(self, node: SupervisedNode) -> list[SupervisedNode]:
        """The nodes that share this one's process, itself included."""
        return [one for one in self._nodes.values() if one is node or (node.pid is not None and one.pid == node.pid)]

    def _pause(self, node: SupervisedNode, request: Request) -> None:
        if node.pid is not None:
            self._signal(node, signal.SIGSTOP)
            self._set_paused(node, paused=True)
            for other in self._of_same_process(node):
                other.paused_until_s = _until(request)

    def _resume(self, node: SupervisedNode, _request: Request | None = None) -> None:
        self._signal(node, signal.SIGCONT)
        self._set_paused(node, paused=False)

    def _lapse(self, node: SupervisedNode) -> None:
        """Its pause is over, and nobody has renewed it."""
        for other in self._of_same_process(node):
            self.tell("lapsed", name=other.name, pid=other.pid)
        self._resume(node)

    def _set_paused(self, node: SupervisedNode, *, paused: bool) -> None:
        for other in self._of_same_process(node):
            before = other.paused or other.halted > 0
            other.continues()
            other.paused = other.pause_asked = paused
            if before != paused:
                self.tell("paused" if paused else "resumed", name=other.name, pid=other.pid)

    def _on_stopped(self, pid: int, number: int) -> None:
        """The kernel reports that a process was stopped: by us, or by somebody else."""
        for node in self._nodes.values():
            if node.pid == pid and node.pause_asked and not node.paused:
                node.paused = True
                self.tell("paused", name=node.name, pid=pid)
            elif node.pid == pid and not node.paused and not node.halted:
                node.halted = number
                self.tell("halted", name=node.name, pid=pid, how=halted_text(number, pid))

    def _on_continued(self, pid: int) -> None:
        """The kernel reports that a stopped process runs again; if that was ordered, it was noted before."""
        for node in self._nodes.values():
            if node.pid == pid and (node.paused or node.halted):
                node.paused, node.halted = False, 0
                self.tell("continued", name=node.name, pid=pid)

    def _asked_to_quit(self, *_: object) -> None:
        self._quit_asked = True  # acted upon in the loop: a handler may run in the middle of anything

    def _quit(self) -> None:
        self._quitting = True
        for node in list(self._nodes.values()):
            self._stop(node)

    # --- processes ---

    def _launch(self, node: SupervisedNode) -> None:
        try:
            pid = self._packs.start(node) if node.pack else self._singles.start(node)
        except OSError as error:
            self.tell("error", name=node.name, message=f"start: {error.strerror}", errno=error.errno)
            node.wait(time.monotonic())
            return
        self._oom.grew()  # earlier kills say nothing about this process
        node.started(pid, time.monotonic())
        self.tell("started", name=node.name, pid=pid, starts=node.starts, restarts=node.restarts)

    def _serves(self, name: str) -> None:
        if (node := self._nodes.get(name)) is not None and node.pid is not None:
            node.serves = True
            self.tell("ready", name=name, pid=node.pid)

    def _ended_in_pack(self, name: str, pid: int, code: int) -> None:
        if (node := self._nodes.get(name)) is not None and node.pid == pid:
            self._on_exit(node, pid, code)

    def _terminate(self, node: SupervisedNode) -> None:
        if node.pack:
            self._packs.stop(node)
        else:
            self._signal(node, signal.SIGTERM)
        self._resume(node)  # a stopped process handles no signal but SIGCONT and SIGKILL
        node.kill_due_s = time.monotonic() + STOP_S

    def _signal(self, node: SupervisedNode, number: signal.Signals) -> None:
        if node.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid, number)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self._reap()
        if self._quit_asked and not self._quitting:
            self._quit()

    def _reap(self) -> None:
        while True:
            try:
                # Every child: in a pod the supervisor is PID 1 and inherits orphans. Stops are reported too, whoever causes them.
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._on_stopped(pid, os.WSTOPSIG(status))
            elif os.WIFCONTINUED(status):
                self._on_continued(pid)
            else:
                self._reaped(pid, os.waitstatus_to_exitcode(status))

    def _reaped(self, pid: int, code: int) -> None:
        self._packs.exited(pid)
        for node in list(self._nodes.values()):
            if node.pid == pid:
                self._on_exit(node, pid, code)
        if self.companion is not None:
            self.companion.reaped(pid, code)

    def _on_exit(self, node: SupervisedNode, pid: int, code: int) -> None:
        self._singles.read_rest(node)
        order, memory = node.order, code == -signal.SIGKILL and not node.order and self._ran_out_of_memory()
        node.ending = exit_text(code, order=order, forced=node.forced, out_of_memory=memory)
        delay = node.ended(time.monotonic())
        self.tell(
            "exited", name=node.name, pid=pid, code=code, restarts=node.restarts, restart_in_s=delay,
            how=held_text(node.held) if node.held else node.ending, order=order, oom=memory,
        )  # fmt: skip
        if node.stopping:
            self._forget(node)

    def _ran_out_of_memory(self) -> bool:
        now_s = time.monotonic()
        if self._oom.grew():
            self._oom_until_s = now_s + OOM_S
        return now_s < self._oom_until_s

    def _forget(self, node: SupervisedNode) -> None:
        self._singles.forget(node)
        node.sock.close()
        del self._nodes[node.name]
        if node.pack and all(other.pack != node.pack for other in self._nodes.values()):
            self._packs.dismiss(node.pack)
        self.tell("stopped", name=node.name)

    def _end_all(self) -> None:
        for node in self._nodes.values():
            self._signal(node, signal.SIGKILL)
        for node in self._nodes.values():
            if node.pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(node.pid, 0)

    # --- times and events ---

    def _timeout(self) -> float | None:
        times = [time_s for node in self._nodes.values() for time_s in node.due_s() if time_s is not None]
        if self.companion is not None and (due := self.companion.next_wakeup_s()) is not None:
            times.append(due)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _do_due(self, now_s: float) -> None:
        for node in list(self._nodes.values()):
            if node.start_due_s is not None and node.start_due_s <= now_s and node.pid is None:
                self._launch(node)
            if node.kill_due_s is not None and node.kill_due_s <= now_s:
                node.kill_due_s, node.forced = None, True
                self._signal(node, signal.SIGKILL)
            if node.held_until_s is not None and node.held_until_s <= now_s:
                self._release(node)
            if node.paused_until_s is not None and node.paused_until_s <= now_s:
                self._lapse(node)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run on this process's stdin and stdout; the exit code."""
    import argparse  # a pod is a supervisor, too, and takes no arguments of it

    parser = argparse.ArgumentParser(prog="python -m p2pnet.supervisor", description="Keeps p2pnet node processes.")
    parser.add_argument("--start", choices=("fork", "spawn"), default=choose_start(), help="how nodes are started")
    options = parser.parse_args(arguments)
    parent = os.getppid()
    if parent > 1:  # as PID 1's own child, or as PID 1, there is no lab to outlive
        die_with_parent(parent)
    if options.start == "fork":
        child.warm_up()
    return Supervisor(options.start).run()


def _until(request: Request) -> float | None:
    """Monotonic seconds at which the lease of a request is over; None: it has none."""
    return time.monotonic() + request.lease_s if request.lease_s else None


def _bind_udp(host: str, port: int) -> socket.socket:
    """A bound UDP socket that children may inherit. Raises OSError."""
    from p2pnet.quic.hosts import bind_udp  # for a supervisor that spawns, the rest of quic would be dead weight

    sock = bind_udp(host, port)
    sock.setblocking(False)
    return sock
