"""The nursery: keeps node processes. `python -m p2pnet.supervisor`, JSON lines on stdin and stdout, its log on stderr.

A node has a process of its own, or lives in a pack with others (`nursery_packs`): start, stop and restart are the
node's alone there too, but kill, pause and resume hit the process, and so all of them.

One thread and no event loop, because it forks: a loop's descriptors and a second thread's locks do not survive that.
It binds each node's UDP socket once and hands it to every restart, so that a node keeps its port through any death.
"""

import argparse
import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2pnet.model.cgroup import OomCounter
from p2pnet.node.parent import Start, choose_start, die_with_parent
from p2pnet.supervisor import child
from p2pnet.supervisor.packs import Packs
from p2pnet.supervisor.pipes import Lines
from p2pnet.supervisor.singles import Singles
from p2pnet.supervisor.table import STOP_S, Kept, Request, exit_words, halted_words, read_request

OOM_S = 2.0
"""One look at the kernel's counter tells of all processes it has killed; they are reaped one after the other."""


class Supervisor:
    """The table of nodes kept, and the loop that turns requests, deaths and times into starts, signals and events."""

    def __init__(self, how: Start, requests_fd: int = 0, events_fd: int = 1) -> None:
        self._nodes: dict[str, Kept] = {}
        self._selector = selectors.PollSelector()  # unlike epoll it also takes a file as stdin
        self._quitting = self._quit_asked = False
        self._oom = OomCounter()
        self._oom_until_s = 0.0
        self._operations: dict[str, Callable[[Kept, Request], None]] = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
        }
        self._death_read, self._death_write = os.pipe()
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_quit)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that the wake-up descriptor is written
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)
        self._lines = Lines(self._selector, requests_fd, events_fd, self._on_request)
        self._loners = Singles(how, self._selector, self._death_read, on_ready=self._serves)
        self._packs = Packs(how, self._selector, self._death_read, on_ready=self._serves, on_ended=self._ended_in_pack)

    def run(self) -> int:
        """Until asked to quit and all are gone (0), or until nobody reads or writes the pipes any more (1)."""
        self._tell("nursery", pid=os.getpid())
        while not self._lines.gone and not (self._quitting and not self._nodes):
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._do_due(time.monotonic())
        self._end_all()
        self._lines.finish()
        return 1 if self._lines.gone else 0

    def _tell(self, event: str, **fields: Any) -> None:
        """Something has happened; whoever watches the nodes besides overrides this."""
        self._lines.tell(event, **fields)

    # --- requests ---

    def _on_request(self, line: bytes) -> None:
        request = read_request(line)
        if isinstance(request, str):
            self._tell("refused", message=request)
        elif request.op == "quit":
            self._quit()
        elif request.op == "bind":
            self._bind(request)
        elif (node := self._nodes.get(request.name)) is None:
            self._tell("refused", name=request.name, message=f"{request.op}: no such node; bind it first")
        else:
            self._operations[request.op](node, request)

    def _bind(self, request: Request) -> None:
        node = self._nodes.get(request.name)
        try:
            if node is None:
                sock = child.bind_node(request.host, request.port)
                node = self._nodes[request.name] = Kept(request.name, sock)
            elif request.port not in (0, node.sock.getsockname()[1]):
                self._tell("refused", name=request.name, message="already bound to another port; stop it first")
                return
        except OSError as error:
            self._tell("error", name=request.name, message=error.strerror or str(error), errno=error.errno)
            return
        self._tell("bound", name=request.name, port=node.sock.getsockname()[1])

    def _start(self, node: Kept, request: Request) -> None:
        node.config = Path(request.config)
        node.log = Path(request.log) if request.log else node.config.with_name("node.log")
        if node.pid is None:
            node.pack = request.pack
        node.wanted = True
        if node.stopping or self._quitting:
            self._tell("refused", name=node.name, message="start: it is being stopped")
        elif node.pid is None:
            self._launch(node)
        else:
            self._tell("refused", name=node.name, message=f"start: it runs already as {node.pid}")

    def _stop(self, node: Kept, _request: Request | None = None) -> None:
        node.wanted, node.stopping, node.start_due_s = False, True, None
        node.order = "stop"
        if node.pid is None:
            self._forget(node)
        else:
            self._terminate(node)

    def _restart(self, node: Kept, _request: Request) -> None:
        if node.config is None:
            self._tell("refused", name=node.name, message="restart: it was never started")
            return
        node.wanted = node.hurry = True
        node.order = "restart"
        if node.pid is None:
            self._launch(node)
        else:
            self._terminate(node)

    def _kill(self, node: Kept, request: Request) -> None:
        for mate in self._mates(node):
            mate.wanted = request.revive and mate.config is not None and not mate.stopping
            mate.order = "kill"
        if node.pid is not None:
            self._signal(node, signal.SIGKILL)
        elif not node.wanted:
            node.start_due_s = None

    def _mates(self, node: Kept) -> list[Kept]:
        """The nodes that die with this one's process, itself included."""
        return [one for one in self._nodes.values() if one is node or (node.pid is not None and one.pid == node.pid)]

    def _pause(self, node: Kept, _request: Request) -> None:
        if node.pid is not None:
            self._signal(node, signal.SIGSTOP)
            self._stands(node, still=True)

    def _resume(self, node: Kept, _request: Request | None = None) -> None:
        self._signal(node, signal.SIGCONT)
        self._stands(node, still=False)

    def _stands(self, node: Kept, *, still: bool) -> None:
        for mate in self._mates(node):
            before = mate.paused or mate.halted > 0
            mate.runs()
            mate.paused = mate.pause_asked = still
            if before != still:
                self._tell("paused" if still else "resumed", name=mate.name, pid=mate.pid)

    def _stood_still(self, pid: int, number: int) -> None:
        """The kernel says that a process was stopped: by us, or by somebody else."""
        for node in self._nodes.values():
            if node.pid == pid and node.pause_asked and not node.paused:
                node.paused = True
                self._tell("paused", name=node.name, pid=pid)
            elif node.pid == pid and not node.paused and not node.halted:
                node.halted = number
                self._tell("halted", name=node.name, pid=pid, how=halted_words(number, pid))

    def _went_on(self, pid: int) -> None:
        """The kernel says that a stopped process runs again; by our doing it was noted before."""
        for node in self._nodes.values():
            if node.pid == pid and (node.paused or node.halted):
                node.paused, node.halted = False, 0
                self._tell("continued", name=node.name, pid=pid)

    def _asked_to_quit(self, *_: object) -> None:
        self._quit_asked = True  # acted upon in the loop: a handler may run in the middle of anything

    def _quit(self) -> None:
        self._quitting = True
        for node in list(self._nodes.values()):
            self._stop(node)

    # --- processes ---

    def _launch(self, node: Kept) -> None:
        try:
            pid = self._packs.start(node) if node.pack else self._loners.start(node)
        except OSError as error:
            self._tell("error", name=node.name, message=f"start: {error.strerror}", errno=error.errno)
            node.wait(time.monotonic())
            return
        self._oom.grew()  # what was killed before is no news of this process
        node.started(pid, time.monotonic())
        self._tell("started", name=node.name, pid=pid, starts=node.starts)

    def _serves(self, name: str) -> None:
        if (node := self._nodes.get(name)) is not None and node.pid is not None:
            node.serves = True
            self._tell("ready", name=name, pid=node.pid)

    def _ended_in_pack(self, name: str, pid: int, code: int) -> None:
        if (node := self._nodes.get(name)) is not None and node.pid == pid:
            self._on_exit(node, pid, code)

    def _terminate(self, node: Kept) -> None:
        if node.pack:
            self._packs.stop(node)
        else:
            self._signal(node, signal.SIGTERM)
        self._resume(node)  # a paused process would take note of nothing
        node.kill_due_s = time.monotonic() + STOP_S

    def _signal(self, node: Kept, number: signal.Signals) -> None:
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
                # All of them: in a pod the nursery is also PID 1. Stops are told as ends are, whoever orders them.
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stood_still(pid, os.WSTOPSIG(status))
            elif os.WIFCONTINUED(status):
                self._went_on(pid)
            else:
                self._reaped(pid, os.waitstatus_to_exitcode(status))

    def _reaped(self, pid: int, code: int) -> None:
        self._packs.exited(pid)
        for node in list(self._nodes.values()):
            if node.pid == pid:
                self._on_exit(node, pid, code)

    def _on_exit(self, node: Kept, pid: int, code: int) -> None:
        self._loners.hear(node)
        order, memory = node.order, code == -signal.SIGKILL and not node.order and self._ran_out_of_memory()
        node.ending = exit_words(code, order=order, forced=node.forced, out_of_memory=memory)
        delay = node.ended(time.monotonic())
        self._tell(
            "exited", name=node.name, pid=pid, code=code, restarts=node.restarts, restart_in_s=delay,
            how=node.ending, order=order, oom=memory,
        )  # fmt: skip
        if node.stopping:
            self._forget(node)

    def _ran_out_of_memory(self) -> bool:
        now_s = time.monotonic()
        if self._oom.grew():
            self._oom_until_s = now_s + OOM_S
        return now_s < self._oom_until_s

    def _forget(self, node: Kept) -> None:
        self._loners.forget(node)
        node.sock.close()
        del self._nodes[node.name]
        if node.pack and all(other.pack != node.pack for other in self._nodes.values()):
            self._packs.dismiss(node.pack)
        self._tell("stopped", name=node.name)

    def _end_all(self) -> None:
        for node in self._nodes.values():
            self._signal(node, signal.SIGKILL)
        for node in self._nodes.values():
            if node.pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(node.pid, 0)

    # --- times and events ---

    def _timeout(self) -> float | None:
        times = [t for node in self._nodes.values() for t in (node.start_due_s, node.kill_due_s) if t is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _do_due(self, now_s: float) -> None:
        for node in list(self._nodes.values()):
            if node.start_due_s is not None and node.start_due_s <= now_s and node.pid is None:
                self._launch(node)
            if node.kill_due_s is not None and node.kill_due_s <= now_s:
                node.kill_due_s, node.forced = None, True
                self._signal(node, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a nursery on this process's stdin and stdout; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m p2pnet.supervisor", description="Keeps p2pnet node processes.")
    parser.add_argument("--start", choices=("fork", "spawn"), default=choose_start(), help="how nodes are started")
    options = parser.parse_args(arguments)
    parent = os.getppid()
    if parent > 1:  # as PID 1's own child, or as PID 1, there is no lab to outlive
        die_with_parent(parent)
    if options.start == "fork":
        child.warm_up()
    return Supervisor(options.start).run()
