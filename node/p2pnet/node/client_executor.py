"""How a client's `on_state_change` is called: ours within the turn, a user's on a thread of its own.

So one that is stuck, slow or raises holds up neither the loop nor any other client. At most one call of a client is open,
for a core asks for no second one before it has the first one's answer.
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
"""A call that takes longer is reported: on the loop it holds up the node."""
STUCK_S = 5.0
"""A call on a thread that has not returned by then is reported while it goes on."""
FAILED_CHARS_MAX = 500
SWITCH_S = 0.0001
"""How long a client that computes may keep the interpreter from the loop. Python's own 5 ms, at every turn, add up: on two
cores, with four nodes whose client never stops computing, latencies were 9 times the usual ones; with this, twice."""

log = logging.getLogger("p2pnet.node")

Answer = Callable[[ClientAnswered], None]


class ClientExecutor(Protocol):
    """Runs one client. Both methods are called on the loop."""

    def start(self, changes: list[Change]) -> None:
        """Call it; the answer comes in this turn or in a later one."""

    def stop(self) -> None:
        """No answer is wanted any more. Returns at once, whatever the client is doing."""


def runs_of(broadcast: Broadcast, client: Client, ring: EventRing, answer: Answer, *, inline: bool) -> ClientExecutor:
    """The way to run this client: `inline` for one known to be quick."""
    reporting = _Reporting(client.name, ring, "on the loop" if inline else "on its own thread")
    kind = _Inline if inline else _Threaded
    return kind(broadcast, client, reporting, answer)


class _Reporting:
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
    def __init__(self, broadcast: Broadcast, client: Client, reporting: _Reporting, answer: Answer) -> None:
        self._broadcast, self._client, self._reporting, self._answer = broadcast, client, reporting, answer

    def start(self, changes: list[Change]) -> None:
        answered = _call(self._client, changes, self._broadcast.pool)
        self._reporting.answered(answered)
        self._answer(answered)

    def stop(self) -> None:
        pass


class _Threaded:
    """The thread begins with the first call and ends with `stop`, or with the process if the client never returns."""

    def __init__(self, broadcast: Broadcast, client: Client, reporting: _Reporting, answer: Answer) -> None:
        self._broadcast, self._client, self._reporting, self._answer = broadcast, client, reporting, answer
        self._loop = asyncio.get_running_loop()
        self._orders: SimpleQueue[tuple[list[Change], Pool] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def start(self, changes: list[Change]) -> None:
        if self._thread is None:
            sys.setswitchinterval(SWITCH_S)
            # In the context of its node: in a pack, that decides whose log the client's words go to.
            work = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=work, args=(self._work,), name=f"client {self._client.name}", daemon=True
            )
            self._thread.start()
        self._stuck = self._loop.call_later(STUCK_S, self._reporting.stuck)
        self._orders.put((changes, self._broadcast.pool.snapshot()))

    def stop(self) -> None:
        self._rest()
        self._orders.put(None)

    def _rest(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            answered = _call(self._client, *order)
            order = None  # what the snapshot holds may leave the pool while nothing is asked
            try:
                self._loop.call_soon_threadsafe(self._take, answered)
            except RuntimeError:  # the loop has ended
                return

    def _take(self, answered: ClientAnswered) -> None:
        self._rest()
        self._reporting.answered(answered)
        self._answer(answered)


def _call(client: Client, changes: list[Change], pool: PoolView) -> ClientAnswered:
    """What it answers, or how it failed: a user's mistake costs this call alone."""
    started, actions, failed = mono_ns(), [], ""
    try:
        actions = _checked(client.on_state_change(changes, pool, wall_ns() / NS))
    except (Exception, SystemExit) as error:
        failed = f"{type(error).__name__}: {error}"[:FAILED_CHARS_MAX]
        log.exception("client %s: on_state_change failed", client.name)
    return ClientAnswered(actions, mono_ns() - started, failed)


def _checked(answer: object) -> list[ChangeAction]:
    if not isinstance(answer, list):
        raise TypeError(f"on_state_change returned {type(answer).__name__}, not a list of change actions")
    for action in answer:
        if not isinstance(action, ChangeAction):
            raise TypeError(f"on_state_change returned a list with a {type(action).__name__} in it: no change action")
    return answer
