"""`NetworkControl`: what the lab does about the network between nodes, put together: document and faults in, orders out."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

import msgspec

from p2pnet.lab.backends.backend import Backend
from p2pnet.lab.network.actions import NodeFaults
from p2pnet.lab.network.pusher import LATE_S, NetworkOrder, Pusher
from p2pnet.lab.nodes.node_client import NodeClient
from p2pnet.model.control import PeersReply
from p2pnet.model.jobs import FaultRequest, FaultTime
from p2pnet.model.network import NodeNetwork
from p2pnet.model.report import FaultStatus
from p2pnet.model.text import some
from p2pnet.subnet.fault_book import BookedFault, FaultBook, acts_on_nodes, status_of_fault, time_of_fault
from p2pnet.subnet.faults import churn_schedule, describe, read_fault, victims
from p2pnet.subnet.network import NetworkPlan, network_plan

IN_FORCE_S = 2.0  # an order is answered when nodes have it, or after so long with what it still waits for
NAMED_MAX = 5  # nodes in a sentence

log = logging.getLogger(__name__)


class _Numbered(msgspec.Struct, frozen=True):
    """What one node is told, apart from its version, and the version under which it is told that."""

    content: NodeNetwork = NodeNetwork()
    version: int = 0

    @property
    def network(self) -> NodeNetwork:
        return msgspec.structs.replace(self.content, version=self.version)


class NetworkControl:
    """Keeps network and faults in force: what every node is told, and what is done to processes. Needs a running loop.

    `before(nodes)` is awaited before a fault hits the processes of nodes, `after(nodes)` called when it has; `on_lapse(fault)`
    when nobody renewed a lease; `on_change` when statuses have changed.
    """

    def __init__(
        self, backend: Backend, node_client: NodeClient, expected: Callable[[str], bool], *,
        before: Callable[[list[str]], Awaitable[None]], after: Callable[[list[str]], None],
        on_lapse: Callable[[BookedFault], None], on_change: Callable[[], None],
    ) -> None:  # fmt: skip
        self._backend = backend
        self._on_lapse = on_lapse
        self._on_change = on_change
        self.book = FaultBook()
        self.plan: NetworkPlan = network_plan(backend.subnet)
        """What is asked for now; another object after every change of it."""
        self.pusher = Pusher(node_client, expected, awaited=backend.target != "local")
        self.pusher.on_change = self._progressed
        self.node_faults = NodeFaults(
            backend, schedule=lambda fault: churn_schedule(backend.subnet, fault, math.inf), before=before,
            after=self._struck, on_done=self._done, on_failed=self._progressed,
        )  # fmt: skip
        self._after = after
        self._planned: object = None
        """What `plan` and the plan without leased faults were made of."""
        self._healed: NetworkPlan | None = None
        self._told: dict[str, _Numbered] = {}
        self._told_healed: dict[str, _Numbered] = {}
        self._kept: dict[str, NodeNetwork] = {}
        """Boot copies, as the backend was given them last."""
        self._version = 0
        """The last that was given to anything."""
        self._timer: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()

    def start(self) -> None:
        """Push, and act on processes, from now on."""
        self.pusher.start()
        self.node_faults.start()

    async def close(self) -> None:
        """Leave everything as it is."""
        if self._timer is not None:
            self._timer.cancel()
        await self.node_faults.close()
        await self.pusher.close()

    # --- what changes ---

    def refresh(self) -> None:
        """Document or members have changed: boot copies are written when this returns, nodes are told soon."""
        subnet, now = self._backend.subnet, self._now()
        self.book.take(subnet.spec.faults, now)
        self.book.aim(lambda fault: victims(subnet, fault))
        self._settle()

    async def add(self, request: FaultRequest) -> FaultStatus:
        """Order a fault; how it stands when nodes have it, or after IN_FORCE_S. Raises SpecError, LimitError."""
        subnet = self._backend.subnet
        spec = read_fault(subnet, request.fault, taken=self.book.taken())
        nodes = victims(subnet, spec)
        fault = self.book.add(spec, request.lease_s, self._now())
        fault.nodes = nodes
        self._settle()
        try:
            async with asyncio.timeout(IN_FORCE_S):
                while fault.acts and self._lacking(fault):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            pass
        return self.status(fault)

    def renew(self, name: str, lease_s: float) -> FaultStatus:
        """Prolong a lease. Raises SpecError."""
        status = self.status(self.book.renew(name, lease_s, self._now()))
        self._arm()
        return status

    def clear(self, name: str) -> None:
        """End a leased fault. Raises SpecError; for one of the document too."""
        self.book.clear(name, self._now())
        self._settle()

    def clear_leased(self) -> None:
        """End all leased faults."""
        self.book.clear_leased(self._now())
        self._settle()

    def process_changed(self) -> None:
        """A node's process has changed."""
        self.node_faults.wake()
        self._progressed()

    def linked(self, node: str) -> None:
        """The lab has a link with the node: perhaps another incarnation of it."""
        self.pusher.linked(node)

    def seen(self, node: str, peers: PeersReply) -> None:
        """What the node reports of itself."""
        self.pusher.seen(node, peers.network_version)

    # --- what is so ---

    def statuses(self) -> list[FaultStatus]:
        """All faults: of the document, then leased ones in the order they came."""
        return [self.status(fault) for fault in self.book.all()]

    def status(self, fault: BookedFault) -> FaultStatus:
        """One fault; it waits until nodes have it, and where some have not for long, it says so."""
        now = self._now()
        known = status_of_fault(fault, now, time.time())
        lacking = self._lacking(fault) if fault.acts else []
        if not lacking:
            return known
        young = now - fault.begins_s < LATE_S
        waits = (
            f"{some(lacking, NAMED_MAX)} {'has' if len(lacking) == 1 else 'have'} not taken it{' yet' if young else ''}"
        )
        state = "waiting" if young else known.state
        return msgspec.structs.replace(
            known,
            state=state,
            since=None if young else known.since,
            detail="; ".join(filter(None, (waits, known.detail))),
        )

    def in_force(self) -> list[str]:
        """The faults in force, in words: `cut-eu (block from node-0 to *)`."""
        return [f"{fault.name} ({describe(fault.spec)})" for fault in self.book.active(self._now())]

    def details(self) -> dict[str, str]:
        """What faults have done to nodes, a sentence by node; nodes that none has touched are left out."""
        if not self.node_faults.busy:
            return {}
        return {node: text for node in self._backend.groups() if (text := self.node_faults.detail(node))}

    def problems(self) -> list[str]:
        """What is not as it was ordered, a sentence each."""
        late = [f"{node} {text}" for node, text in self.pusher.problems().items()]
        failed = [
            f"fault {fault.name}: {fault.problem}" for fault in self.book.all() if fault.problem and not fault.over
        ]
        return [*failed, *late]

    def still(self) -> set[str]:
        """Nodes that are paused or kept dead as ordered: they do nothing, and are known to."""
        return {node for node in self._backend.groups() if self._backend.process(node).state in ("paused", "stopped")}

    def hit_lately(self) -> set[str]:
        """Nodes that are paused or kept dead, and those that were hit so lately that they may not be back."""
        return self.node_faults.hit_lately()

    def excuse(self, node: str) -> str:
        """Why a node may not answer though nothing is wrong with it: what a fault has done to it lately; else empty."""
        if node not in self.node_faults.hit_lately():
            return ""
        return self.node_faults.detail(node) or "it was killed, paused or restarted as ordered"

    def record(self) -> dict[int, BookedFault]:
        """The faults in force, and from now on those that begin; for `recorded`."""
        return self.book.record()

    def forget(self, record: dict[int, BookedFault]) -> None:
        """Put no more faults into a record."""
        self.book.forget(record)

    def recorded(self, record: dict[int, BookedFault]) -> list[FaultStatus]:
        """How the faults of a record stand."""
        now, wall_s = self._now(), time.time()
        return [status_of_fault(fault, now, wall_s) for fault in record.values()]

    def times(self, record: dict[int, BookedFault], run_began_s: float) -> list[FaultTime]:
        """When the faults of a record were in force, counted from the begin of a run in seconds of CLOCK_MONOTONIC."""
        return [time_of_fault(fault, run_began_s) for fault in record.values()]

    # --- within ---

    def _lacking(self, fault: BookedFault) -> list[str]:
        """Nodes that do not have it yet."""
        return self.node_faults.lacking(fault) if acts_on_nodes(fault) else self.pusher.lacking()

    def _done(self, fault: BookedFault) -> None:
        self.book.done(fault, self._now())
        self._settle()

    def _settle(self) -> None:
        """Put in force what holds now."""
        now = self._now()
        for change in self.book.due(now):
            fault = change.fault
            level = logging.WARNING if change.kind == "lapsed" else logging.INFO
            words = describe(fault.spec) if change.kind == "begun" else fault.over
            log.log(level, "fault %s has %s: %s", fault.name, "begun" if change.kind == "begun" else "ended", words)
            if change.kind == "lapsed":
                self._on_lapse(fault)
        self._make_plans(now)
        self._order()
        self.node_faults.want([fault for fault in self.book.active(now) if acts_on_nodes(fault)])
        self._arm()
        self._on_change()

    def _make_plans(self, now: float) -> None:
        links = [fault for fault in self.book.active(now) if not acts_on_nodes(fault)]
        made_of = (self._backend.subnet, [fault.number for fault in links])
        if self._planned == made_of:
            return
        subnet, self._planned = self._backend.subnet, made_of
        self.plan = network_plan(subnet, [fault.spec for fault in links])
        kept = [fault.spec for fault in links if fault.origin == "spec"]
        self._healed = network_plan(subnet, kept) if len(kept) < len(links) else None

    def _order(self) -> None:
        """Tell the pusher and the backend what every node is to have."""
        wanted = self._backend.membership.all_wanted()
        members = set(self.plan.members)
        orders: dict[str, NetworkOrder] = {}
        for node in self._backend.groups():
            peers = wanted.get(node, [])
            known = node in members  # in a cluster the member list may be ahead of the document, or behind it
            healed = None
            if self._healed is not None:
                content = self._healed.node_network(node, peers, 0) if known else NodeNetwork()
                healed = self._numbered(self._told_healed, node, content).network
            told = self._numbered(self._told, node, self.plan.node_network(node, peers, 0) if known else NodeNetwork())
            leased = healed is not None and msgspec.structs.replace(healed, version=0) != told.content
            orders[node] = NetworkOrder(told.network, healed if leased else None)
        for one in (self._told, self._told_healed):
            for gone in one.keys() - orders.keys():
                del one[gone]
        self._keep({node: order.network for node, order in orders.items()})
        self.pusher.order(orders)

    def _numbered(self, told: dict[str, _Numbered], node: str, content: NodeNetwork) -> _Numbered:
        """The content under the version it had, or under a new one if it is another."""
        before = told.get(node, _Numbered())
        if before.content != content:
            before = _Numbered(content, self._next_version())
        told[node] = before
        return before

    def _keep(self, networks: dict[str, NodeNetwork]) -> None:
        fresh = {node: network for node, network in networks.items() if self._kept.get(node) != network}
        self._kept = networks
        if fresh:
            self._backend.keep_networks(fresh)

    def _next_version(self) -> int:
        # Of the time, so that a lab that is started again does not give a version twice; nodes outlive labs in pods.
        self._version = max(self._version + 1, time.time_ns() // 1_000_000)
        return self._version

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        next_s = self.book.next_s()
        self._timer = None if next_s is None else asyncio.get_running_loop().call_at(next_s, self._settle)

    def _struck(self, nodes: list[str]) -> None:
        self._after(nodes)
        self._progressed()

    def _progressed(self) -> None:
        self._progress.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
