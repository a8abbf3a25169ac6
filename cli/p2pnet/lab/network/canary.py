"""The canary: has nodes send probe datagrams to each other and compares what arrives with what is asked of the network.

Nothing is probed where nothing is shaped. At rest seldom, so that the status has rows; before a run's first injection as much as
its judgement takes, in bounded time; throughout a run a little.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from p2pnet.lab.network.probe_book import Key, ProbeBook
from p2pnet.lab.network.probe_choice import BEFORE, DURING, REST, Chooser, Goal, Order, ProbePace, chosen_links, goal_of
from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.measure.canary import LinkSeen, Selectors, rows_of
from p2pnet.measure.probes import ProbedLink
from p2pnet.model.control import (
    PROBES_PER_ORDER_MAX,
    ROUTE_PROBE,
    ROUTE_PROBES,
    ProbeOrder,
    Probes,
    ProbesOrdered,
    ProbesRequest,
    ProbeTrain,
)
from p2pnet.model.registry import Membership
from p2pnet.model.report import NetworkRow
from p2pnet.subnet.network import NetworkPlan

BEFORE_S = 10.0  # at most, for the measurement before a run: all links of twenty nodes take about that long
FRESH_S = (
    60.0  # what was measured so shortly before a run counts for it, so that a series of runs does not wait each time
)
RETURN_S = 6.0  # for nodes on their way back, before a run: a restart that was ordered takes some seconds
TAKEN_S = 5.0  # for nodes to take a changed network; afterwards they are measured as they are
SETTLE_S = (
    0.3  # after they took it: packets that were under way have arrived, or are late by no more than a probe's patience
)
CLOCKS_S = 60.0  # between measurements of the clocks at rest
LINKS_MAX = 20_000  # directed links that are kept account of: 142 nodes in a full mesh; of more a seeded choice
ANSWER_S = 3.0
COME_IN_S = 0.25  # between looks for probes that are on their way
ASKED_MAX = 32  # nodes that are asked at a time
READ_ENTRIES = 5_000  # in one answer of a node: some 200 KiB
READS_MAX = 20  # answers of one node in a round

log = logging.getLogger(__name__)

Wanted = Mapping[str, list[str]]
Watcher = Callable[[list[LinkSeen], Mapping[str, Selectors]], None]


@dataclass(frozen=True)
class CanaryFacts:
    """What the canary needs of its lab. Callables tell what holds now."""

    node_client: NodeClient
    plan: Callable[[], NetworkPlan]
    """The network with the faults in force; the same object while nothing changes."""
    membership: Callable[[], Membership]
    """The member list with its edges; the same object while nothing changes."""
    peers: Callable[[], Mapping[str, Collection[str]]]
    """The peers that each node reports a link with."""
    starts: Callable[[], Mapping[str, str]]
    """The incarnation of each node that answers."""
    left_out: Callable[[], Collection[str]]
    """Nodes that cannot be probed: paused, dead, on their way back, or silent."""
    still: Callable[[], Collection[str]]
    """Those of them that are paused or kept dead as ordered: nobody waits for them."""
    lacking: Callable[[], Collection[str]]
    """Nodes that have not taken the network in force yet."""
    clocks: Clocks
    boots: Callable[[], dict[str, list[str]]]
    """Nodes by boot id."""
    busy: Callable[[], bool]
    """Whether other traffic than probes may be on the links."""
    seed: int = 0
    now_ns: Callable[[], int] = time.monotonic_ns
    """The lab's clock, which nodes of its own boot share."""


class Canary:
    """Probes the links of one subnet, in a task. Needs a running loop."""

    def __init__(self, facts: CanaryFacts) -> None:
        self._facts = facts
        self._now_ns = facts.now_ns
        self._rng = random.Random(facts.seed)
        self._book = ProbeBook(first=random.SystemRandom().randrange(1 << 30))
        self._chooser = Chooser(self._book, self._rng)
        self._made_of: tuple[object, object] = (None, None)
        """The plan and the membership that the book's links were made of."""
        self._rules: dict[str, Selectors] = {}
        self._changed_ns = 0
        """When what is asked of links last changed."""
        self._settled_ns = 0
        """When all nodes had taken it; 0: not yet."""
        self._ordered_ns = self._due_ns = 0
        """When trains at a steady pace were ordered last, and when the next are due."""
        self._watchers: list[Watcher] = []
        """Runs that are measured now."""
        self._holding = 0
        """Who waits for what is on its way; nothing more is ordered meanwhile."""
        self._goal = Goal()
        """What is measured before a run."""
        self._measuring: tuple[int, int] | None = None
        """Since when trains count for the run that waits for its measurement, and since when it waits; None: none does."""
        self._turn = asyncio.Lock()
        self._reached = asyncio.Event()
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._clocked_s = -CLOCKS_S
        self._rows: list[NetworkRow] = []

    # --- from start to end ---

    def start(self) -> None:
        """Probe from now on."""
        self._task = asyncio.create_task(self._probe_forever(), name="canary")

    async def close(self) -> None:
        """Probe no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def changed(self) -> None:
        """Look at once: the plan, the members or their processes have changed."""
        self._wakeup.set()

    # --- what was seen ---

    @property
    def rows(self) -> list[NetworkRow]:
        """What is known now, of all rules; from the last look."""
        return self._rows

    @property
    def now_ns(self) -> int:
        """The lab's clock."""
        return self._now_ns()

    @property
    def shapes(self) -> bool:
        """Whether there is a network to be measured."""
        return self._facts.plan().shaped

    async def look(
        self, since_ns: int, lag_s: Mapping[str, float] | None = None, *, failed_only: bool = False
    ) -> list[NetworkRow]:
        """What trains since then tell. Judged in a thread: of thousands of links it takes some tenths of a second."""
        seen, rules = self._book.seen(since_ns), dict(self._rules)
        return await asyncio.to_thread(rows_of, seen, rules, lag_s, failed_only=failed_only)

    def told(self, rows: list[NetworkRow]) -> None:
        """A run has looked: the status shows what it saw."""
        self._rows = rows

    # --- runs ---

    def watch(self, watcher: Watcher) -> None:
        """A run is measured from now on, until `unwatch`; the watcher is told of what was seen before the network changes."""
        self._watchers.append(watcher)
        self._wakeup.set()

    def unwatch(self, watcher: Watcher) -> None:
        """The run has ended."""
        self._watchers.remove(watcher)

    async def measure(self, timeout_s: float = BEFORE_S, *, fresh_s: float = FRESH_S) -> int:
        """Measure all that a run needs, unless it was so lately; since when trains count for it (ns)."""
        async with self._turn:
            since_ns = self._now_ns() - int(fresh_s * 1e9)
            self._book.mark(self._now_ns())
            self._follow()
            self._see_links()
            if self._book.links and not self._is_reached(since_ns):
                self._measuring = (since_ns, self._now_ns())
                await self._until_reached(timeout_s)
            return since_ns

    async def _until_reached(self, timeout_s: float) -> None:
        self._reached.clear()
        self._wakeup.set()
        try:
            await asyncio.wait_for(self._reached.wait(), timeout_s)
        except TimeoutError:
            log.info("the network was not measured to the end within %.0f s", timeout_s)
        finally:
            self._measuring = None

    def _is_reached(self, since_ns: int) -> bool:
        """Whether all links that can be probed have been measured enough since then, and no node is on its way back."""
        out = set(self._facts.left_out())
        returning = out.difference(self._facts.still())
        return not returning and self._chooser.reached(self._goal, self._probeable(out), since_ns)

    def _probeable(self, out: set[str]) -> list[Key]:
        return [key for key, one in self._book.links.items() if not one.cut and out.isdisjoint(key)]

    async def come_in(self, timeout_s: float) -> None:
        """Wait until what is on its way has come in, for so long at most; nothing more is ordered meanwhile."""
        self._holding += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self._book.open_nodes():
                    await asyncio.sleep(COME_IN_S)
                    self._wakeup.set()
        except TimeoutError:
            pass
        finally:
            self._holding -= 1

    def why_unmeasured(self, rule: str) -> str | None:
        """Why no link of a rule could be probed; None: one could."""
        links = [
            one for one in self._book.links.values() if rule in (one.link.label, one.link.up_label, one.link.down_label)
        ]
        if not any(one.link.measurable for one in links):
            return "it asks for nothing that probes can tell"
        out = set(self._facts.left_out())
        if all(one.cut or out & {one.link.source, one.link.to} for one in links):
            return "none of its links is up"
        return None

    # --- rounds ---

    async def _probe_forever(self) -> None:
        while True:
            self._wakeup.clear()
            pace = REST
            try:
                pace = await self._round()
            except Exception:
                log.exception("a round of the canary")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), pace.round_s)

    async def _round(self) -> ProbePace:
        """Read what has arrived, let it count, order the next trains; how soon to go on."""
        self._follow()
        if not self._book.links:
            self._rows = []
            self._reached.set()
            return REST
        await self._keep_clocks()
        await self._read()
        self._follow()  # after the reading: what arrived under a changed network does not count
        out = set(self._facts.left_out())
        for node in self._book.open_nodes() & out:
            self._book.void(node)
        self._see_links()
        closed = self._book.close_due(self._now_ns(), self._offset)
        await self._order(self._choose(out))
        if closed and self._measuring is None and not self._watchers:
            self._rows = await self.look(0)
        return BEFORE if self._measuring is not None else DURING if self._watchers or self._book.open_nodes() else REST

    def _follow(self) -> None:
        """Ask of links what the plan says now; those of nodes that have started again begin anew."""
        for node, incarnation in self._facts.starts().items():
            self._book.started(node, incarnation, self._now_ns())
        plan, membership = self._facts.plan(), self._facts.membership()
        if self._made_of[0] is plan and self._made_of[1] is membership:
            return
        self._made_of = (plan, membership)
        now_ns = self._now_ns()
        links = links_of(plan, membership.all_wanted(), random.Random(self._facts.seed)) if plan.shaped else {}
        seen, rules = self._book.seen() if self._watchers else [], self._rules
        self._rules = rules_of(plan, links.values())
        if self._book.ask(links, now_ns):
            for watcher in list(self._watchers):
                watcher(seen, rules)
            self._changed_ns, self._settled_ns, self._due_ns = now_ns, 0, 0
            # The same choice each time, so that what was measured lately is enough for the next run.
            self._goal = goal_of(links, random.Random(self._facts.seed))
            self._rows = []

    def _see_links(self) -> None:
        """Note which links are up."""
        peers = self._facts.peers()
        for key, one in self._book.links.items():
            source, to = key
            if to in peers.get(source, ()) and source in peers.get(to, ()):
                one.cut = False
            elif not one.cut:
                self._book.unlinked(key)

    def _is_settled(self) -> bool:
        """Whether nodes have what the plan says, or had the time to take it."""
        now_ns = self._now_ns()
        if not self._settled_ns and (not self._facts.lacking() or now_ns > self._changed_ns + int(TAKEN_S * 1e9)):
            self._settled_ns = now_ns
        return bool(self._settled_ns) and now_ns >= self._settled_ns + int(SETTLE_S * 1e9)

    def _choose(self, out: set[str]) -> list[Order]:
        """The next trains, of links that are up."""
        if self._holding or not self._is_settled():
            return []
        now_ns, keys, busy = self._now_ns(), self._probeable(out), self._facts.busy()
        if self._measuring is None:
            pace = DURING if self._watchers else REST
            if now_ns < min(self._due_ns, self._ordered_ns + int(pace.round_s * 1e9)):
                return []
            self._ordered_ns, self._due_ns = now_ns, now_ns + int(pace.round_s * 1e9)
            return self._chooser.steady(pace, keys, now_ns, busy=busy)
        since_ns, begun_ns = self._measuring
        orders = self._chooser.before(self._goal, keys, since_ns, now_ns, busy=busy)
        patient = now_ns < begun_ns + int(RETURN_S * 1e9)
        if not orders and (
            self._is_reached(since_ns) or (not patient and self._chooser.reached(self._goal, keys, since_ns))
        ):
            self._reached.set()
        return orders

    # --- nodes ---

    async def _read(self) -> None:
        slots = asyncio.Semaphore(ASKED_MAX)
        await asyncio.gather(*(self._read_node(node, slots) for node in sorted(self._book.open_nodes())))

    async def _read_node(self, node: str, slots: asyncio.Semaphore) -> None:
        """Read all that a node tells of probes; if it does not answer, trains to and from it do not count."""
        try:
            async with slots:
                for _ in range(READS_MAX):
                    asked_ns, cursor = self._now_ns(), self._book.cursor(node)
                    reply = await ask_for(
                        self._facts.node_client,
                        node,
                        ROUTE_PROBES,
                        ProbesRequest(cursor, READ_ENTRIES),
                        Probes,
                        timeout_s=ANSWER_S,
                    )
                    self._book.read(node, reply, asked_ns)
                    if len(reply.sent) + len(reply.arrived) < READ_ENTRIES:
                        break
        except (NodeSilentError, NodeRefusedError) as error:
            log.debug("probes: %s", error)
            self._book.void(node)

    async def _order(self, orders: Iterable[Order]) -> None:
        by_source: dict[str, list[ProbeTrain]] = {}
        for (source, _), train in orders:
            by_source.setdefault(source, []).append(train)
        slots = asyncio.Semaphore(ASKED_MAX)
        await asyncio.gather(*(self._order_node(node, trains, slots) for node, trains in by_source.items()))

    async def _order_node(self, node: str, trains: list[ProbeTrain], slots: asyncio.Semaphore) -> None:
        for part in parts_of(trains):
            try:
                async with slots:
                    taken = await ask_for(
                        self._facts.node_client, node, ROUTE_PROBE, ProbeOrder(part), ProbesOrdered, timeout_s=ANSWER_S
                    )
            except (NodeSilentError, NodeRefusedError) as error:
                log.debug("probes: %s", error)
                self._book.refused(node, part)
                continue
            unlinked = set(taken.unlinked)
            self._book.refused(node, [train for train in part if train.peer in unlinked])

    async def _keep_clocks(self) -> None:
        """Measure the clocks of other machines now and then; a run measures them too."""
        now_s = self._now_ns() / 1e9
        if now_s - self._clocked_s >= CLOCKS_S:
            self._clocked_s = now_s
            await self._facts.clocks.measure(self._facts.boots())

    def _offset(self, boot: str) -> tuple[int, float] | None:
        return self._facts.clocks.offset(boot, self._now_ns())


def links_of(plan: NetworkPlan, wanted: Wanted, rng: random.Random) -> dict[Key, ProbedLink]:
    """The directed links between members that something is asked of; of very many a seeded choice that covers every rule."""
    members = set(plan.members)
    ends = {node: (plan.access(node), plan.access_label(node)) for node in plan.members}
    found: dict[Key, ProbedLink] = {}
    for source, peers in wanted.items():
        if source not in members:
            continue
        (up, _), up_label = ends[source]
        for to in peers:
            if to in members and to != source:
                shape, label = plan.path(source, to)
                (_, down), down_label = ends[to]
                if label or up is not None or down is not None:
                    found[source, to] = ProbedLink(source, to, label, shape, up, down, up_label, down_label)
    if len(found) > LINKS_MAX:
        kept = set(chosen_links(found, LINKS_MAX, rng))
        found = {key: link for key, link in found.items() if key in kept}
    return found


def rules_of(plan: NetworkPlan, links: Iterable[ProbedLink]) -> dict[str, Selectors]:
    """The ends of every rule that governs a link, in the plan's order; access links after paths."""
    lines = {label for link in links for label in (link.up_label, link.down_label) if label}
    return {label: Selectors(*plan.selectors(label)) for label in [*plan.labels, *sorted(lines - set(plan.labels))]}


def parts_of(trains: list[ProbeTrain]) -> list[list[ProbeTrain]]:
    """The trains in orders that nodes take."""
    parts: list[list[ProbeTrain]] = []
    room = 0
    for train in trains:
        if train.count > room:
            parts.append([])
            room = PROBES_PER_ORDER_MAX
        parts[-1].append(train)
        room -= train.count
    return parts
