"""The lab's client of the local supervisor: JSON lines over its pipes, and the table of processes that it reports."""

import asyncio
import contextlib
import errno
import logging
import signal
import sys
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as Child
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from p2pnet.lab.backends.backend import Process
from p2pnet.model.agent import Action
from p2pnet.model.cgroup import OomCounter
from p2pnet.model.errors import TargetError
from p2pnet.model.log_lines import ABOUT_NODES

STOP_S = 15.0  # a node is gone 10 s after it was asked to stop
LINE_BYTES_MAX = 1 << 20  # one event

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


class SupervisorEvent(msgspec.Struct, frozen=True):
    """One line from the supervisor; fields that an event does not have keep their defaults."""

    event: str
    name: str = ""
    pid: int | None = None
    port: int = 0
    code: int | None = None
    restarts: int | None = None
    restart_in_s: float | None = None
    starts: int = 0
    message: str = ""
    errno: int = 0
    how: str = ""
    """`exited`, `held` and `halted` events: how it came about, in words."""
    order: str = ""
    """`exited` events: the order that led to it; empty: the process ended by itself."""
    oom: bool = False


@dataclass
class _Node:
    process: Process
    bound: asyncio.Future[int] | None = None
    """The port, while the socket is being bound."""
    stopped: asyncio.Event | None = None
    """Set when the node has ended for good; None: no stop was ordered."""


class SupervisorClient:
    """Starts the supervisor and orders processes from it.

    `on_process(node)` is called when a process has changed; `on_lost(reason)` when the supervisor has ended by itself,
    and with it all nodes.
    """

    def __init__(self, on_process: Callable[[str], None], on_lost: Callable[[str], None]) -> None:
        self._on_process = on_process
        self._on_lost = on_lost
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._nodes: dict[str, _Node] = {}
        self._closing = False
        self._oom = OomCounter()

    async def open(self) -> None:
        """Start the supervisor; it logs to the lab's stderr. Raises OSError."""
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "p2pnet.supervisor", stdin=PIPE, stdout=PIPE, limit=LINE_BYTES_MAX
        )
        self._reader = asyncio.create_task(self._read(self._child), name="supervisor")

    @property
    def pid(self) -> int:
        """The supervisor's process. Raises TargetError before `open`."""
        if self._child is None:
            raise TargetError("the supervisor has not been started")
        return self._child.pid

    async def close(self) -> None:
        """End all nodes, then the supervisor; by force after STOP_S."""
        self._closing = True
        child = self._child
        if child is None:
            return
        self._send({"op": "quit"})
        try:
            await asyncio.wait_for(child.wait(), STOP_S)
        except TimeoutError:
            log.warning("the supervisor did not end in %s s and is killed; its nodes die with it", STOP_S)
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        if self._reader is not None:
            await self._reader

    async def bind(self, node: str, host: str, port: int) -> int:
        """Bind the node's UDP socket to `port`, or to a free one when that is 0 or taken; the port. Raises TargetError."""
        try:
            return await self._bind(node, host, port)
        except OSError as error:
            if port == 0 or error.errno != errno.EADDRINUSE:
                raise TargetError(f"{node}: cannot bind a UDP port: {error.strerror}", exit_code=2) from error
            log.warning("%s: port %s is in use by another process; taking another one", node, port)
            return await self.bind(node, host, 0)

    async def _bind(self, node: str, host: str, port: int) -> int:
        kept = self._nodes.setdefault(node, _Node(Process("starting")))
        kept.bound = asyncio.get_running_loop().create_future()
        self._send({"op": "bind", "name": node, "host": host, "port": port})
        return await kept.bound

    def start(self, node: str, config: Path, node_log: Path, pack: str = "") -> None:
        """Keep this node running from now on: in a process of its own, or in the one of its pack."""
        self._set(node, Process("starting"))
        self._send({"op": "start", "name": node, "config": str(config), "log": str(node_log), "pack": pack})

    async def stop(self, node: str) -> None:
        """End the node for good; returns when it is gone, or after STOP_S."""
        kept = self._nodes.get(node)
        if kept is None:
            return
        kept.stopped = asyncio.Event()
        self._mark_resumed(self._sharing(kept.process.pid))
        self._send({"op": "stop", "name": node})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(kept.stopped.wait(), STOP_S)
        self._nodes.pop(node, None)

    def execute(self, node: str, action: Action, *, lease_s: float = 0.0, why: str = "") -> None:
        """Act on the node's process and so on its pack, see `ProcessAction`. Raises TargetError: the supervisor is gone."""
        self._send({"op": action, "name": node, "lease_s": lease_s, "why": why})
        sharing = self._sharing(self.process(node).pid)
        if action == "pause":
            self._mark_paused(sharing, f"paused by {why or 'the lab'}")
        elif action in ("restart", "resume"):
            self._mark_resumed(sharing)

    def _mark_paused(self, nodes: list[str], detail: str) -> None:
        for node in nodes:
            if (paused := replace(self.process(node), state="paused", detail=detail, halted=False)) != self.process(
                node
            ):
                self._set(node, paused)

    def _sharing(self, pid: int | None) -> list[str]:
        """The nodes of a live process."""
        return [] if pid is None else [node for node, kept in self._nodes.items() if kept.process.pid == pid]

    def _mark_resumed(self, nodes: list[str]) -> None:
        # The supervisor resumes a paused process before it signals it to stop or restart, and reports no change of that.
        for node in nodes:
            if (now := self.process(node)).state == "paused" or now.halted:
                self._set(node, replace(now, state="running", detail="", halted=False))

    def process(self, node: str) -> Process:
        """The node's process now."""
        kept = self._nodes.get(node)
        return kept.process if kept else Process()

    def _set(self, node: str, process: Process) -> None:
        self._nodes.setdefault(node, _Node(process)).process = process
        self._on_process(node)

    def _send(self, request: dict[str, object]) -> None:
        if self._child is None or self._child.stdin is None or self._child.stdin.is_closing():
            if not self._closing:
                raise TargetError("the supervisor is gone, and with it all nodes")
            return
        self._child.stdin.write(msgspec.json.encode(request) + b"\n")

    async def _read(self, child: Child) -> None:
        assert child.stdout is not None  # noqa: S101 - it was started with a pipe
        decoder = msgspec.json.Decoder(SupervisorEvent)
        with contextlib.suppress(ConnectionError):
            while line := await child.stdout.readline():
                try:
                    self._take(decoder.decode(line))
                except msgspec.DecodeError:
                    log.warning("the supervisor sent a line that is no event: %r", line[:200])
        await child.wait()
        self._all_gone()

    def _all_gone(self) -> None:
        """The supervisor has ended: so have all processes, and waits for them end."""
        for node, kept in self._nodes.items():
            if kept.bound is not None and not kept.bound.done():
                kept.bound.set_exception(TargetError("the supervisor ended while a node was being bound"))
            if kept.stopped is not None:
                kept.stopped.set()
            kept.process = Process("stopped", None, kept.process.restarts, "the supervisor is gone")
            self._on_process(node)
        if not self._closing:
            code = self._child.returncode if self._child else None
            why = ": out of memory, killed by the kernel" if code == -signal.SIGKILL and self._oom.grew() else ""
            self._on_lost(f"the supervisor ended by itself (code {code}){why}, and with it all nodes")

    def _take(self, event: SupervisorEvent) -> None:
        kept = self._nodes.get(event.name)
        if kept is None:
            if event.event in ("refused", "error"):
                log.error("supervisor: %s %s", event.event, event.message)
            return
        match event.event:
            case "bound" | "error" if kept.bound is not None and not kept.bound.done():
                if event.event == "bound":
                    kept.bound.set_result(event.port)
                else:
                    kept.bound.set_exception(OSError(event.errno, event.message))
            case "refused" | "error":
                log.error("supervisor: %s: %s", event.name, event.message)
                if event.event == "error":
                    self._set(event.name, replace(kept.process, state="failed", detail=event.message))
            case _:
                _log_event(event)
                if (now := process_after(event, kept.process)) is not None:
                    self._set(event.name, now)
                if event.event == "stopped" and kept.stopped is not None:
                    kept.stopped.set()


def process_after(event: SupervisorEvent, was: Process) -> Process | None:
    """The process after an event; None when the event changes nothing here."""
    match event.event:
        case "started":
            return Process("starting", event.pid, was.restarts if event.restarts is None else event.restarts)
        case "ready":
            return Process("running", event.pid, was.restarts)
        case "halted":
            return replace(was, state="unknown", detail=event.how, halted=True)
        case "continued":
            return replace(was, state="running", detail="", halted=False)
        case "exited":
            return _exited(event, was)
        case "held" | "stopped":
            return Process("stopped", None, was.restarts, event.how)
        case "lapsed" if was.state == "paused" and was.pid == event.pid:
            return replace(was, state="running", detail="")
        case _:
            return None  # `paused` and `resumed`: `execute` has noted them already


def _log_event(event: SupervisorEvent) -> None:
    match event.event:
        case "started" if event.starts > 1:
            about_nodes.info("%s: started again as process %s (start %d)", event.name, event.pid, event.starts)
        case "lapsed":
            about_nodes.warning("%s: process %s goes on: nobody renewed its pause", event.name, event.pid)
        case "paused" | "resumed":
            about_nodes.info("%s: process %s is %s, as ordered", event.name, event.pid, event.event)
        case "halted":
            about_nodes.warning("%s: %s", event.name, event.how)
        case "continued":
            about_nodes.info("%s: process %s goes on", event.name, event.pid)
        case "exited":
            level = logging.INFO if event.order else logging.WARNING
            about_nodes.log(level, "%s: process %s %s", event.name, event.pid, _exited(event, Process()).detail)
        case _:
            pass


def _exited(event: SupervisorEvent, was: Process) -> Process:
    restarts = was.restarts if event.restarts is None else event.restarts
    if event.restart_in_s is None:
        return Process("stopped", None, restarts, event.how)
    return Process("restarting", None, restarts, f"{event.how}; starts again in {event.restart_in_s:.1f} s")
