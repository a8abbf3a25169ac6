"""Faults about nodes, executed: pauses, deaths and restarts, again where a new process undid them, and undone at their end.

What is to be done follows from the faults in force and from how processes are (`wanted_of`, `next_action`), however that came
about: a node that is restarting is paused once it serves, one that somebody else restarted is paused again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from p2pnet.lab.backends.backend import Backend, Process
from p2pnet.model.agent import WHY_CHARS_MAX, Action
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.units import format_duration
from p2pnet.subnet.fault_book import BookedFault
from p2pnet.subnet.fault_processes import FREE, ChurnClock, Wanted, WantedState, wanted_of
from p2pnet.subnet.network_spec import FaultSpec

LEASE_S = 30.0  # a node is let go when its lab has been gone for so long
RENEW_S = 10.0
AGAIN_S = 1.0  # an order that shows no effect for so long is given again
RETRY_S = 2.0  # after a pod that did not answer
ONCE_S = 120.0  # for a node to run, so that it can be killed or restarted: as long as one may take to start
FRESH_S = 15.0  # so long after it was hit a node may still be on its way back

about_nodes = logging.getLogger(ABOUT_NODES)

Schedule = Callable[[FaultSpec], Iterator[tuple[float, str]]]


@dataclass(slots=True)
class Ordered:
    """What was done to a process by these orders and is to be undone: `free` is nothing."""

    state: WantedState = "free"
    at_s: float = 0.0
    """When it was ordered last, in loop time."""


def next_action(wanted: Wanted, process: Process, ordered: Ordered, now: float) -> Action | None:
    """What is to be ordered of a process now; None: nothing, or not yet. `process`: of a node in it that runs, if one does."""
    state, age_s = process.state, now - ordered.at_s
    if wanted.state == "dead":
        unheld = state != "stopped" and not (ordered.state == "dead" and state == "unknown")
        due = ordered.state != "dead" or age_s >= (AGAIN_S if unheld else RENEW_S)
        return "hold" if due else None
    if ordered.state == "dead":
        return "release"
    if wanted.state == "paused":
        if state == "running" or process.halted:
            return "pause"
        due = ordered.state == "paused" and age_s >= RENEW_S
        return "pause" if state == "paused" and due else None  # one that starts is paused once it serves
    return "resume" if ordered.state == "paused" else None


@dataclass(slots=True)
class _Group:
    """The nodes of one process."""

    nodes: tuple[str, ...]
    ordered: Ordered = field(default_factory=Ordered)
    retry_s: float = 0.0
    """No order before then: the last one was in vain."""
    task: asyncio.Task[None] | None = None


class NodeFaults:
    """Executes the faults about nodes. Needs a running loop; all times are the loop's.

    `before(nodes)` is awaited before nodes are hit, `after(nodes)` called when they have been; `on_done(fault)` when what it does
    once is done, `on_failed()` when something could not be done.
    """

    def __init__(
        self, backend: Backend, *, schedule: Schedule, before: Callable[[list[str]], Awaitable[None]],
        after: Callable[[list[str]], None], on_done: Callable[[BookedFault], None], on_failed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._backend = backend
        self._schedule = schedule
        self._before = before
        self._after = after
        self._on_done = on_done
        self._on_failed = on_failed
        self._faults: list[BookedFault] = []
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._churns: dict[int, tuple[tuple[str, ...], ChurnClock]] = {}
        """By number of the fault: its nodes when the schedule was drawn, and the schedule."""
        self._pending: dict[int, set[str]] = {}
        """By number of a fault that happens once: nodes that it has still to hit."""
        self._hit_s: dict[str, float] = {}
        """When each node was hit last."""
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Act from now on, in a task."""
        self._task = asyncio.create_task(self._run(), name="faults about nodes")

    async def close(self) -> None:
        """Act no more. What was done to pods is undone by their agents when their leases are over."""
        tasks = [*self._acting, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- orders ---

    def want(self, faults: Iterable[BookedFault]) -> None:
        """These faults about nodes are in force now, and no others."""
        self._faults = list(faults)
        known = {fault.number for fault in self._faults}
        for gone in [number for number in [*self._pending, *self._churns] if number not in known]:
            self._pending.pop(gone, None)
            self._churns.pop(gone, None)
        for fault in self._faults:
            if fault.once:
                left = self._pending.setdefault(fault.number, set(fault.nodes))
                left &= set(fault.nodes)
            elif fault.spec.churn is not None:
                self._follow_churn(fault)
        self.wake()

    def wake(self) -> None:
        """Something about faults or processes has changed."""
        self._wakeup.set()

    def _follow_churn(self, fault: BookedFault) -> None:
        """Draw its schedule, anew when the nodes it is about have changed: those that are dead stay so for their time."""
        assert fault.spec.churn is not None  # noqa: S101 - the caller's condition
        nodes, clock = self._churns.get(fault.number, ((), None))
        if clock is not None and nodes == tuple(fault.nodes):
            return
        fresh = ChurnClock(self._schedule(fault.spec), fault.begins_s, fault.spec.churn.down.seconds)
        if clock is not None:
            fresh.advance(self._now())  # the deaths that would have been until now have not happened
            fresh.back_s = {node: back for node, back in clock.back_s.items() if node in fault.nodes}
        self._churns[fault.number] = (tuple(fault.nodes), fresh)

    # --- what is so ---

    @property
    def busy(self) -> bool:
        """Whether faults about nodes are in force, or still to be undone."""
        return bool(self._faults) or any(group.ordered.state != "free" for group in self._groups.values())

    def wanted(self, node: str) -> Wanted:
        """How the node's process is to be."""
        if not self._faults:
            return FREE
        return wanted_of(self._sharing(node), self._faults, self._clocks())

    def refusal(self, node: str, action: str) -> str:
        """Why somebody else's action on a node must not be: a fault would undo it, or it would undo the fault; or empty."""
        wanted = self.wanted(node)
        names = ", ".join(wanted.by)
        if wanted.state == "dead":
            return f"{node} is kept dead by fault {names}: clear that first"
        if wanted.state == "paused" and action == "resume":
            return f"{node} is paused by fault {names}: clear that first"
        return ""

    def detail(self, node: str) -> str:
        """What a fault has done to the node, a sentence; empty: nothing that lasts."""
        wanted, state = self.wanted(node), self._backend.process(node).state
        left_s = None if wanted.until_s is None else wanted.until_s - self._now()
        names = ", ".join(wanted.by) + self._elsewhere(node, wanted)
        if wanted.state == "dead" and state in ("stopped", "unknown"):
            return f"killed as ordered (fault {names})" + ("" if left_s is None else f", back in {_seconds(left_s)}")
        if wanted.state == "paused" and state == "paused":
            return f"paused by fault {names}" + ("" if left_s is None else f", goes on in {_seconds(left_s)}")
        return ""

    def lacking(self, fault: BookedFault) -> list[str]:
        """Nodes that a fault in force has not hit yet."""
        if fault.once:
            return [node for node in fault.nodes if node in self._pending.get(fault.number, ())]
        if fault.spec.churn is not None:
            return []
        wanted = "stopped" if fault.spec.kill else "paused"
        # A pause of a node that is kept dead by another fault has nothing to do.
        return [node for node in fault.nodes if self._backend.process(node).state not in (wanted, "stopped")]

    def hit_lately(self) -> set[str]:
        """Nodes that a fault keeps dead or paused, and those that were hit so lately that they may not be back."""
        now = self._now()
        still = {node for group in self._groups.values() if group.ordered.state != "free" for node in group.nodes}
        return still | {node for node, at in self._hit_s.items() if now - at < FRESH_S}

    def hit(self, nodes: list[str]) -> None:
        """Nodes were hit, by a fault or by somebody's action."""
        self._hit_s |= dict.fromkeys(nodes, self._now())

    def _elsewhere(self, node: str, wanted: Wanted) -> str:
        meant = {other for fault in self._faults if fault.name in wanted.by for other in fault.nodes}
        others = [other for other in self._sharing(node) if other in meant]
        return "" if node in meant or not others else f" on {others[0]}, which shares its process"

    def _sharing(self, node: str) -> tuple[str, ...]:
        return tuple(self._backend.nodes_sharing_process(node))

    def _clocks(self) -> dict[int, ChurnClock]:
        return {number: clock for number, (_, clock) in self._churns.items()}

    # --- acting ---

    async def _run(self) -> None:
        while True:
            self._wakeup.clear()
            next_s = self._turn(self._now())
            try:
                async with asyncio.timeout_at(next_s):
                    await self._wakeup.wait()
            except TimeoutError:
                pass

    def _turn(self, now: float) -> float | None:
        """Order what is to be ordered now; the time of the next turn."""
        if not self._faults and not self._groups:
            return None  # as nearly always, and processes change often while a subnet starts
        times = [now + RENEW_S]
        for _, clock in self._churns.values():
            clock.advance(now)
            times += [] if (next_s := clock.next_s()) is None else [next_s]
        self._follow_members()
        clocks = self._clocks()
        for group in self._groups.values():
            if group.task is not None:
                continue
            wanted = wanted_of(group.nodes, self._faults, clocks)
            action = next_action(wanted, self._process(group.nodes), group.ordered, now)
            if wanted.state == "dead" and self._process(group.nodes).state != "stopped":
                times.append(now + AGAIN_S)
            if group.retry_s > now:
                times.append(group.retry_s)
            elif action is not None:
                self._spawn(group, self._act(group, action, wanted))
            else:
                self._do_once(group, wanted)
        times += self._give_up(now)
        return min(times, default=None)

    def _follow_members(self) -> None:
        """Know the processes of all members that faults are about, or that something was ordered of."""
        about = {node for fault in self._faults for node in fault.nodes}
        members = self._backend.groups()
        groups = {self._sharing(node) for node in members if node in about}
        kept = {
            nodes for nodes, group in self._groups.items() if group.task is not None or group.ordered.state != "free"
        }
        for nodes in self._groups.keys() - groups:
            if nodes not in kept or not members.keys() & set(nodes):
                del self._groups[nodes]
        for nodes in groups - self._groups.keys():
            self._groups[nodes] = _Group(nodes)

    def _process(self, nodes: Iterable[str]) -> Process:
        found = [self._backend.process(node) for node in nodes]
        return next((process for process in found if process.state == "running"), found[0])

    def _do_once(self, group: _Group, wanted: Wanted) -> None:
        """Kill or restart what a fault is to hit once, as soon as it runs."""
        if wanted.state == "dead":
            return
        for fault in self._faults:
            left = self._pending.get(fault.number, set()) & set(group.nodes) if fault.once else set()
            ready = [node for node in group.nodes if node in left and _is_there(self._backend.process(node))]
            if ready:
                self._spawn(group, self._act_once(group, fault, ready))
                return

    async def _act_once(self, group: _Group, fault: BookedFault, nodes: list[str]) -> None:
        action: Action = "restart" if fault.spec.restart else "kill"
        if action == "kill":  # hits all that share the process
            nodes = [node for node in group.nodes if node in self._pending.get(fault.number, ())]
        for node in nodes if action == "restart" else nodes[:1]:
            if not await self._execute(group, node, action, (fault.name,)):
                return
        left = self._pending.get(fault.number)
        if left is not None:
            left -= set(nodes)
            if not left:
                self._on_done(fault)

    def _give_up(self, now: float) -> list[float]:
        """End in failure what is to happen once and cannot; when that is due for the others."""
        due = []
        for fault in self._faults:
            left = self._pending.get(fault.number)
            if not left:
                continue
            if now - fault.begins_s >= ONCE_S:
                fault.problem = f"{', '.join(sorted(left))} did not run within {ONCE_S:.0f} s"
                del self._pending[fault.number]
                self._on_failed()
            else:
                due.append(fault.begins_s + ONCE_S)
        return due

    async def _act(self, group: _Group, action: Action, wanted: Wanted) -> None:
        renewal = self._process(group.nodes).state == {"hold": "stopped", "pause": "paused"}.get(action)
        if await self._execute(group, group.nodes[0], action, wanted.by, quiet=renewal):
            group.ordered = Ordered(wanted.state if action in ("hold", "pause") else "free", self._now())
            if group.ordered.state == "free":
                self.hit(list(group.nodes))  # they are on their way back

    async def _execute(
        self, group: _Group, node: str, action: Action, by: tuple[str, ...], *, quiet: bool = False
    ) -> bool:
        """Whether it is done. `by`: names of the faults; `quiet`: it is so already."""
        hit = [node] if action == "restart" else list(group.nodes)
        strikes = action in ("hold", "kill", "restart", "pause") and not quiet
        lease_s = LEASE_S if action in ("hold", "pause") else 0.0
        try:
            if strikes:
                self.hit(hit)
                about_nodes.info("%s: %s ordered by fault %s", ", ".join(hit), action, ", ".join(by))
                await self._before(hit)
            await self._backend.execute(node, action, lease_s=lease_s, why=_why(by))
        except TargetError as error:
            self._failed(group, by, str(error), for_good=False)
            return False
        except SpecError as error:
            self._failed(group, by, str(error), for_good=node in self._backend.groups())
            return False
        for fault in self._faults:
            if fault.name in by:
                fault.note = self._shared(fault)
        if strikes:
            self.hit(hit)
            self._after(hit)
        return True

    def _failed(self, group: _Group, by: tuple[str, ...], why: str, *, for_good: bool) -> None:
        group.retry_s = self._now() + RETRY_S
        for fault in self._faults:
            if fault.name in by:
                if for_good:
                    fault.problem = why
                else:
                    fault.note = why
        if for_good:
            self._faults = [fault for fault in self._faults if not fault.problem]
        about_nodes.warning("%s: fault %s: %s", ", ".join(group.nodes), ", ".join(by), why)
        self._on_failed()

    def _shared(self, fault: BookedFault) -> str:
        """Who suffers with a fault's nodes because of a common process."""
        if fault.spec.restart:
            return ""
        there = {other for node in fault.nodes for other in self._sharing(node)}
        others = [node for node in self._backend.groups() if node in there and node not in fault.nodes]
        return f"{', '.join(others)} too: they share a process with its nodes" if others else ""

    def _spawn(self, group: _Group, work: Awaitable[None]) -> None:
        async def act() -> None:
            try:
                await work
            finally:
                group.task = None
                self.wake()

        group.task = asyncio.create_task(act())
        self._acting.add(group.task)
        group.task.add_done_callback(self._acting.discard)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _why(by: tuple[str, ...]) -> str:
    return f"fault {', '.join(by)}"[:WHY_CHARS_MAX] if by else ""


def _is_there(process: Process) -> bool:
    """Whether a process serves, so that a kill or a restart has something to hit."""
    return process.state in ("running", "paused") or process.halted


def _seconds(left_s: float) -> str:
    return format_duration(max(0.0, float(round(left_s))))
