"""The supervisor's side of a pod's agent: keeps its process, tells it how the nodes are, executes what it asks.

The supervisor can answer nobody from outside, for it has no event loop, and a paused node answers nothing: so a process
of its own does. One that dies is started again, and is told everything afresh.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from p2pnet.model.backoff import next_wait
from p2pnet.supervisor import child
from p2pnet.supervisor.lines import AgentRequest, LinePipes, Request
from p2pnet.supervisor.supervisor import Supervisor
from p2pnet.supervisor.table import BACKOFF_MAX_S

BACKOFF_FIRST_S = 0.2
"""Before the second start; doubled to BACKOFF_MAX_S."""
SETTLED_S = 60.0
"""An agent that lived as long as this starts its back-off anew."""

RunAgent = Callable[[int, int], None]
"""Be the agent, in a fork: descriptors to read process tables from and to write requests to. Returns at its end."""


class AgentProcess:
    """The agent's process as a `Companion` of the supervisor."""

    def __init__(self, supervisor: Supervisor, run_agent: RunAgent, fds: Sequence[int] = ()) -> None:
        """`fds`: descriptors that every agent keeps."""
        self._supervisor = supervisor
        self._run_agent = run_agent
        self._fds = tuple(fds)
        self._pipes: LinePipes | None = None
        self._pid: int | None = None
        self._changed = False
        """Whether the agent is to be sent a new table."""
        self._done = 0
        """Number of the agent's latest request that was executed."""
        self._executing: int | None = None
        self._refused: dict[int, str] = {}
        self._started_s = self._backoff_s = 0.0
        self._start_due_s: float | None = 0.0
        supervisor.companion = self

    def event(self, event: str, fields: Mapping[str, Any]) -> None:
        """See `Companion`."""
        self._changed = True
        if event in ("refused", "error") and self._executing is not None:
            self._refused[self._executing] = str(fields.get("message", event))

    def reaped(self, pid: int, code: int) -> None:
        """See `Companion`."""
        if pid == self._pid:
            self._pid = None
            self._end()
            delay = self._plan_start(time.monotonic())
            self._supervisor.tell("agent-exited", pid=pid, code=code, restart_in_s=delay)

    def next_wakeup_s(self) -> float | None:
        """See `Companion`."""
        return self._start_due_s

    def advance(self, now_s: float) -> None:
        """See `Companion`."""
        if self._pipes is not None and self._pipes.closed:
            self._end()
        if self._start_due_s is not None and self._start_due_s <= now_s:
            self._start(now_s)
        # One table at a time: an agent that reads slowly gets the latest one next, not all of them.
        if self._changed and self._pipes is not None and not self._pipes.busy:
            self._changed, refused, self._refused = False, self._refused, {}
            self._pipes.send("table", nodes=self._supervisor.processes(), done=self._done, refused=refused)

    def _on_line(self, line: bytes) -> None:
        request = msgspec.json.decode(line, type=AgentRequest)
        self._executing = request.number
        asked = request.action
        self._supervisor.execute(Request(asked.action, asked.name, lease_s=asked.lease_s, why=asked.why))
        self._executing, self._done, self._changed = None, request.number, True

    def _start(self, now_s: float) -> None:
        """Fork it. Each agent gets pipes of its own: what a former one left half-written is lost with it."""
        tables, tables_write = os.pipe()
        requests, requests_write = os.pipe()

        def run() -> int:
            self._run_agent(tables, requests_write)
            return 0

        try:
            self._pid = child.fork(run, (tables, requests_write, *self._fds))
        except OSError as error:
            for fd in (tables, tables_write, requests, requests_write):
                os.close(fd)
            self._plan_start(now_s)
            message = f"the agent does not start: {error.strerror}"
            self._supervisor.tell("error", name="", message=message, errno=error.errno)
            return
        os.close(tables)
        os.close(requests_write)
        self._pipes = LinePipes(self._supervisor.selector, requests, tables_write, self._on_line)
        self._done, self._refused, self._changed = 0, {}, True
        self._start_due_s, self._started_s = None, now_s

    def _end(self) -> None:
        """It has closed a pipe, so it is of no use any more: kill it. `reaped` plans its next start."""
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _plan_start(self, now_s: float) -> float:
        """Plan the next start: 0.2 s doubled to 10 s, afresh after a minute of life. Seconds until then."""
        lived = now_s - self._started_s
        former_s = 0.0 if lived >= SETTLED_S else self._backoff_s
        self._backoff_s = next_wait(former_s, BACKOFF_FIRST_S, BACKOFF_MAX_S)
        self._start_due_s = now_s + self._backoff_s
        return self._backoff_s
