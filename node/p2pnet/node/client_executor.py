"""How a client's `on_state_change` is called: p2pnet's own within the loop turn, a user's on a thread of its own.

So one that is stuck, slow or raises blocks neither the loop nor any other client. At most one call of a client is open:
the broadcast asks for a second one only after it has the first one's answer.
"""

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from p2pnet.broadcast import Broadcast, Change, ChangeAction, Client, Pool
from p2pnet.broadcast.inputs import ClientAnswered
from p2pnet.broadcast.pool import PoolView
from p2pnet.model.events import EventKind
from p2pnet.node.events import EventRing
from p2pnet.peering.clock import NS, mono_ns, wall_ns

CLIENT_SLOW_NS = 20_000_000
"""A call that takes longer is reported: on the loop it delays the whole node."""
STUCK_S = 5.0
"""A call on a thread that has not returned by then is reported while it lasts."""
FAILED_CHARS_MAX = 500
"""Longest text of an exception in an event."""
SWITCH_S = 0.0001
"""Interpreter switch interval: how long a client that computes may keep the interpreter from the loop. With Python's own
5 ms, four nodes on two cores whose client never stops computing had 9 times the usual latencies; with this, twice."""

log = logging.getLogger("p2pnet.node")

Answer = Callable[[ClientAnswered], None]


class ClientExecutor(Protocol):
    """Runs one client's calls. Both methods are called on the loop."""

    def start(self, changes: list[Change]) -> None:
        """Call the client; `Answer` is called in this loop turn or a later one."""

    def stop(self) -> None:
        """Drop any answer still to come. Returns at once, whatever the client is doing."""


def make_executor(
    broadcast: Broadcast, client: Client, ring: EventRing, answer: Answer, *, inline: bool
) -> ClientExecutor:
    """An executor for this client: on the loop if `inline`, for one known to be quick; else on a thread."""
    slow_calls = _SlowCalls(client.name, ring, "on the loop" if inline else "on its own thread")
    kind = _Inline if inline else _Threaded
    return kind(broadcast, client, slow_calls, answer)


class _SlowCalls:
    """Reports slow calls as events, and stuck ones in the log too."""

    def __init__(self, name: str, ring: EventRing, where: str) -> None:
        self._name, self._ring, self._where = name, ring, where

    def answered(self, answered: ClientAnswered) -> None:
        if answered.took_ns > CLIENT_SLOW_NS:
            self._slow(answered.took_ns, self._where)

    def stuck(self) -> None:
        log.warning("client %s: on_state_change has not returned after %g s", self._name, STUCK_S)
        self._slow(int(STUCK_S * NS), f"{self._where}, and not over")

    def _slow(self, took_ns: int, detail: str) -> None:
        self._ring.add(mono_ns(), EventKind.CLIENT_SLOW, client=self._name, size=took_ns // 1000, detail=detail)


class _Inline:
    def __init__(self, broadcast: Broadcast, client: Client, slow_calls: _SlowCalls, answer: Answer) -> None:
        self._broadcast, self._client, self._slow_calls, self._answer = broadcast, client, slow_calls, answer

    def start(self, changes: list[Change]) -> None:
        answered = _call(self._client, changes, self._broadcast.pool)
        self._slow_calls.answered(answered)
        self._answer(answered)

    def stop(self) -> None:
        pass


class _Threaded:
    """The thread starts with the first call and ends with `stop`, or with the process if the client never returns."""

    def __init__(self, broadcast: Broadcast, client: Client, slow_calls: _SlowCalls, answer: Answer) -> None:
        self._broadcast, self._client, self._slow_calls, self._answer = broadcast, client, slow_calls, answer
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[list[Change], Pool] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def start(self, changes: list[Change]) -> None:
        if self._thread is None:
            # Process-wide, but only once a user's client runs: with clients of ours alone no thread computes.
            sys.setswitchinterval(SWITCH_S)
            # In the context of its node: in a pack that decides to whose log the client's log lines go.
            work = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=work, args=(self._work,), name=f"client {self._client.name}", daemon=True
            )
            self._thread.start()
        self._stuck = self._loop.call_later(STUCK_S, self._slow_calls.stuck)
        # A snapshot: the loop changes the pool while the thread reads.
        self._calls.put((changes, self._broadcast.pool.snapshot()))

    def stop(self) -> None:
        self._cancel_stuck_timer()
        self._calls.put(None)

    def _cancel_stuck_timer(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            answered = _call(self._client, *call)
            call = None  # or its snapshot would keep artifacts alive until the next call
            try:
                self._loop.call_soon_threadsafe(self._finish, answered)
            except RuntimeError:  # the loop has ended
                return

    def _finish(self, answered: ClientAnswered) -> None:
        self._cancel_stuck_timer()
        self._slow_calls.answered(answered)
        self._answer(answered)


def _call(client: Client, changes: list[Change], pool: PoolView) -> ClientAnswered:
    """One call: its change actions, or how it failed. A user's mistake costs this call alone."""
    started, actions, failed = mono_ns(), [], ""
    try:
        actions = _checked(client.on_state_change(changes, pool, wall_ns() / NS))
    except (Exception, SystemExit) as error:  # SystemExit too: `sys.exit()` in a client must not end the node
        failed = f"{type(error).__name__}: {error}"[:FAILED_CHARS_MAX]
        log.exception("client %s: on_state_change failed", client.name)
    return ClientAnswered(actions, mono_ns() - started, failed)


def _checked(answer: object) -> list[ChangeAction]:
    # Checked here, where it can be blamed on the client, not deep in the broadcast.
    if not isinstance(answer, list):
        raise TypeError(f"on_state_change returned {type(answer).__name__}, not a list of change actions")
    for action in answer:
        if not isinstance(action, ChangeAction):
            raise TypeError(f"on_state_change returned a list with a {type(action).__name__} in it: no change action")
    return answer
