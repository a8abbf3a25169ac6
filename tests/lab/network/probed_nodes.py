"""Nodes that send each other probes over emulated links, honest or not, in virtual time. For tests of the canary."""

import asyncio
import random
from bisect import bisect_right, insort
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from tests.measure.probing import CALM, Process, Truth, carried

from p2pnet.lab.network.canary import Canary, CanaryFacts
from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.node_client import NodeSilentError
from p2pnet.model.control import (
    Clock,
    ClockRequest,
    ControlRefusal,
    ProbeArrived,
    ProbeOrder,
    Probes,
    ProbeSent,
    ProbesOrdered,
    ProbesRequest,
    ProbeTrain,
    Sample,
    Samples,
    SamplesRequest,
)
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.quic.memory import run_virtual
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.faults import read_fault
from p2pnet.subnet.members import edges_of, members
from p2pnet.subnet.network import NetworkPlan, network_plan

S = 1_000_000_000
OWN_BOOT = "boot"
Result = TypeVar("Result")


def now_ns() -> int:
    """The lab's clock, in virtual time."""
    return int(asyncio.get_running_loop().time() * 1e9) + S


@dataclass
class ProbedNode:
    incarnation: int = 0
    boot: str = OWN_BOOT
    skew_ns: int = 0
    """Added to the lab's clock it gives the node's."""
    log: list[tuple[int, int, ProbeSent | ProbeArrived]] = field(default_factory=list)
    """When it is known (ns), an order among those, what is known."""
    samples: list[Sample] = field(default_factory=list)


class ProbedNodes:
    """A `NodeClient`. Links do what the plan asks for, but for those in `lies`."""

    def __init__(self, spec: dict[str, object]) -> None:
        self.subnet = load_subnet(
            {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
        )
        self.names = [name for name, _ in members(self.subnet)]
        self.nodes = {name: ProbedNode() for name in self.names}
        self.plan: NetworkPlan = network_plan(self.subnet)
        self.really: NetworkPlan = self.plan
        """What nodes have in force."""
        self.lies: dict[tuple[str, str], Truth] = {}
        self.process: Process = CALM
        self.silent: set[str] = set()
        self.out: set[str] = set()
        self.still: set[str] = set()
        """Those that are out as ordered."""
        self.down: set[frozenset[str]] = set()
        """Links that are down."""
        self.lacking: list[str] = []
        self.busy = False
        self.refuses: ControlRefusal | None = None
        self.ordered: list[tuple[float, str, ProbeTrain]] = []
        """Virtual seconds, source, train."""
        self.asks = 0
        self._rng = random.Random(1)
        edges = edges_of(self.subnet)
        registry = Registry(1, [Member(name, f"spiffe://p2pnet/{name}") for name in self.names])
        self.membership = Membership(registry, edges=None if edges is None else [(a, b) for a, b in edges])

    def run(self, scenario: Callable[[Canary], Awaitable[Result]]) -> Result:
        """What a scenario with a started canary returns, in virtual time."""

        async def whole() -> Result:
            canary = self.canary()
            canary.start()
            try:
                return await scenario(canary)
            finally:
                await canary.close()

        return run_virtual(whole())

    def canary(self) -> Canary:
        """A canary of these nodes, not started."""
        return Canary(
            CanaryFacts(
                node_client=self, plan=lambda: self.plan, membership=lambda: self.membership, peers=self._peers,
                starts=self._starts, left_out=lambda: self.out, still=lambda: self.still, lacking=lambda: self.lacking,
                clocks=Clocks(self, OWN_BOOT, now_ns), boots=self._boots, busy=lambda: self.busy, seed=7, now_ns=now_ns,
            )
        )  # fmt: skip

    def _starts(self) -> dict[str, str]:
        return {name: str(node.incarnation) for name, node in self.nodes.items() if name not in self.out}

    def order(self, *faults: dict[str, object], really: bool = True) -> None:
        """Put faults in force: in the plan and, unless told otherwise, at the nodes."""
        self.plan = network_plan(self.subnet, [read_fault(self.subnet, fault) for fault in faults])
        if really:
            self.really = self.plan

    def restart(self, node: str) -> None:
        """A new process serves the node, which knows nothing of the old one's probes."""
        self.nodes[node] = ProbedNode(self.nodes[node].incarnation + 1)

    def sent(self, since_s: float = 0.0) -> int:
        """Probes ordered since then."""
        return sum(train.count for at, _, train in self.ordered if at >= since_s)

    def links(self, since_s: float = 0.0) -> set[tuple[str, str]]:
        """Links that probes were ordered on since then."""
        return {(source, train.peer) for at, source, train in self.ordered if at >= since_s}

    async def ask(self, node: str, route: bytes, request: msgspec.Struct, *, timeout_s: float = 5.0):
        """See `NodeClient`."""
        self.asks += 1
        if node in self.silent:
            await asyncio.sleep(timeout_s)
            raise NodeSilentError(node, "silent")
        await asyncio.sleep(0.001)
        one = self.nodes[node]
        match request:
            case ProbeOrder(trains):
                return self._send(node, trains) if self.refuses is None else self.refuses
            case ProbesRequest(cursor, limit):
                known = bisect_right(one.log, now_ns(), key=lambda entry: entry[0])
                found = [entry for _, _, entry in one.log[cursor : min(known, cursor + limit)]]
                return Probes(
                    str(one.incarnation), one.boot, [e for e in found if isinstance(e, ProbeSent)],
                    [e for e in found if isinstance(e, ProbeArrived)], min(cursor, known) + len(found),
                )  # fmt: skip
            case SamplesRequest(after_ns):
                return Samples(str(one.incarnation), one.boot, [s for s in one.samples if s.mono_ns > after_ns])
            case ClockRequest():
                return Clock(now_ns() + one.skew_ns, 0, one.boot)
        raise AssertionError(request)

    def _peers(self) -> dict[str, set[str]]:
        return {a: {b for b in self.names if b != a and frozenset((a, b)) not in self.down} for a in self.names}

    def _boots(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            found.setdefault(node.boot, []).append(name)
        return found

    def _truth(self, source: str, to: str) -> Truth:
        known = self.lies.get((source, to))
        if known is not None:
            return known
        return Truth(self.really.path(source, to)[0], self.really.access(source)[0], self.really.access(to)[1])

    def _send(self, source: str, trains: list[ProbeTrain]) -> ProbesOrdered:
        begin, sender, unlinked = now_ns(), self.nodes[source], []
        for train in trains:
            self.ordered.append(((begin - S) / 1e9, source, train))
            if frozenset((source, train.peer)) in self.down:
                unlinked.append(train.peer)
                continue
            receiver = self.nodes[train.peer]
            sent = [(begin + index * train.interval_ns, train.size) for index in range(train.count)]
            for seq, at in carried(self._truth(source, train.peer), sent, self._rng, self.process):
                probe = ProbeArrived(
                    source, train.train, seq, sent[seq][0] + sender.skew_ns, at + receiver.skew_ns, train.size
                )
                insort(receiver.log, (at, len(receiver.log), probe), key=lambda one: one[:2])
            last = sent[-1][0]
            told = ProbeSent(train.peer, train.train, train.count, begin + sender.skew_ns, last + sender.skew_ns, 0)
            insort(sender.log, (last, len(sender.log), told), key=lambda one: one[:2])
        return ProbesOrdered(sum(train.count for train in trains if train.peer not in unlinked), unlinked)
