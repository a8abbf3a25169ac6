"""The nursery of a pod, which keeps a warden beside the nodes: it tells it how they are, and does what it asks.

The nursery can answer nobody from outside, for it has no loop, and a paused node answers nothing: so a process of its
own does. One that dies comes back, and is told everything afresh.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from p2pnet.model.agent import NodeProcess, ProcessAction
from p2pnet.node.parent import Start, close_all_but, die_with_parent, reset_signals
from p2pnet.supervisor.pipes import Lines
from p2pnet.supervisor.supervisor import Supervisor
from p2pnet.supervisor.table import BACKOFF_MAX_S, Request

BACKOFF_FIRST_S = 0.2
SETTLED_S = 60.0
"""A warden that lived as long as this starts its back-off anew."""


class AgentRequest(msgspec.Struct, frozen=True):
    """A line from the warden, under a number that grows."""

    number: int
    act: ProcessAction


class ProcessTable(msgspec.Struct, frozen=True):
    """A line to the warden: all nodes, after everything it asked up to the number `done`."""

    nodes: list[NodeProcess]
    done: int = 0
    refused: dict[int, str] = {}
    """Why something it asked since the last table was not done, by number."""


Be = Callable[[int, int], None]
"""Be the warden, with the descriptors of tables to read and of asks to write; returns at its end."""


class PodSupervisor(Supervisor):
    """A nursery with a warden."""

    def __init__(self, how: Start, requests_fd: int, events_fd: int, be: Be) -> None:
        super().__init__(how, requests_fd, events_fd)
        self._be = be
        self._words: Lines | None = None
        self._warden: int | None = None
        self._news = False
        self._done = 0
        self._asked: int | None = None
        self._refused: dict[int, str] = {}
        self._born_s = self._backoff_s = 0.0
        self._warden_due_s: float | None = 0.0

    def _tell(self, event: str, **fields: Any) -> None:
        super()._tell(event, **fields)
        self._news = True
        if event in ("refused", "error") and self._asked is not None:
            self._refused[self._asked] = str(fields.get("message", event))

    def _on_ask(self, line: bytes) -> None:
        ask = msgspec.json.decode(line, type=AgentRequest)
        self._asked = ask.number
        self._on_request(msgspec.json.encode(Request(ask.act.action, ask.act.name)))
        self._asked, self._done, self._news = None, ask.number, True

    def _timeout(self) -> float | None:
        timeout = super()._timeout()
        if self._warden_due_s is None:
            return timeout
        left = max(0.0, self._warden_due_s - time.monotonic())
        return left if timeout is None else min(timeout, left)

    def _do_due(self, now_s: float) -> None:
        super()._do_due(now_s)
        if self._words is not None and self._words.gone:
            self._end_warden()
        if self._warden_due_s is not None and self._warden_due_s <= now_s:
            self._start_warden(now_s)
        if self._news and self._words is not None and not self._words.busy:
            nodes = [node.process() for node in self._nodes.values()]
            self._news, refused, self._refused = False, self._refused, {}
            self._words.tell("table", nodes=nodes, done=self._done, refused=refused)

    def _start_warden(self, now_s: float) -> None:
        """Fork it. The pipes are this one warden's: what a former one left half-said is nobody's."""
        tables, tables_write = os.pipe()
        asks, asks_write = os.pipe()
        parent = os.getpid()
        sys.stderr.flush()
        try:
            self._warden = os.fork()
        except OSError as error:
            for fd in (tables, tables_write, asks, asks_write):
                os.close(fd)
            self._wait(now_s)
            self._tell("error", name="", message=f"the warden does not start: {error.strerror}", errno=error.errno)
            return
        if self._warden == 0:
            _be_child(self._be, parent, tables, asks_write)
        os.close(tables)
        os.close(asks_write)
        self._words = Lines(self._selector, asks, tables_write, self._on_ask)
        self._done, self._refused, self._news = 0, {}, True
        self._warden_due_s, self._born_s = None, now_s

    def _end_warden(self) -> None:
        """It reads or writes no more: it shall not linger either. Its end is noted when it is reaped."""
        if self._words is not None:
            self._words.close()
            self._words = None
        if self._warden is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._warden, signal.SIGKILL)

    def _reaped(self, pid: int, code: int) -> None:
        super()._reaped(pid, code)
        if pid == self._warden:
            self._warden = None
            self._end_warden()
            delay = self._wait(time.monotonic())
            self._tell("warden-exited", pid=pid, code=code, restart_in_s=delay)

    def _wait(self, now_s: float) -> float:
        """Plan the next start: 0.2 s doubled to 10 s, afresh after a minute of life."""
        lived = now_s - self._born_s
        doubled = min(BACKOFF_MAX_S, self._backoff_s * 2) or BACKOFF_FIRST_S
        self._backoff_s = BACKOFF_FIRST_S if lived >= SETTLED_S else doubled
        self._warden_due_s = now_s + self._backoff_s
        return self._backoff_s


def _be_child(be: Be, parent: int, tables: int, asks: int) -> NoReturn:
    code = 70
    try:
        die_with_parent(parent)
        reset_signals()
        close_all_but((tables, asks))
        be(tables, asks)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may unwind into the nursery's own stack
        traceback.print_exc()
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(code)
