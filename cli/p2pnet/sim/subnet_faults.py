"""The faults of a document in its world, at their virtual times, by the book and the rules that a lab follows.

Times are seconds since the start of the world, on the world's clock.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from p2pnet.model.report import FaultStatus
from p2pnet.model.units import format_duration
from p2pnet.sim.context import EPOCH
from p2pnet.sim.node import Node
from p2pnet.sim.quantities import NS
from p2pnet.sim.subnet_network import SubnetNetwork
from p2pnet.sim.world import World
from p2pnet.subnet.fault_book import BookedFault, FaultBook, acts_on_nodes, status_of_fault
from p2pnet.subnet.fault_processes import ChurnClock, WantedState, wanted_of
from p2pnet.subnet.faults import churn_schedule, victims
from p2pnet.subnet.spec import Subnet

BACK_S = 0.6  # from a death, or the end of one that lasts, until the process serves: a supervisor's wait and a start


class SubnetFaults:
    """Puts the faults of a document in force, from `begin` on: calls of `advance` at the times that `next_s` tells."""

    def __init__(self, world: World, subnet: Subnet, network: SubnetNetwork, clients: Sequence[str] = ("",)) -> None:
        """`clients`: as `SubnetNetwork` has them: what hits a node hits all of its clients."""
        self._world = world
        self._clients = clients
        self._subnet = subnet
        self._network = network
        self._book = FaultBook()
        self._record: dict[int, BookedFault] = {}
        self._linked: list[int] = []
        """Numbers of the faults about links that are in force."""
        self._begun_s = 0.0
        self._churns: dict[int, ChurnClock] = {}
        """By number of the fault."""
        self._pending: dict[int, set[str]] = {}
        """By number of a fault that happens once: nodes that it has still to hit."""
        self._states: dict[str, WantedState] = {}
        """Nodes that are kept dead or paused."""
        self._starts_s: dict[str, float] = {}
        """When nodes that were killed or let go serve again."""
        self._hit_s: dict[str, float] = {}
        """When each node was hit last."""
        self._died: set[str] = set()
        """Nodes that have lost a process since the begin."""

    def begin(self, now_s: float) -> None:
        """The subnet is up: the faults' times count from now on."""
        self._begun_s = now_s
        self._book.take(self._subnet.spec.faults, now_s)
        self._book.aim(lambda fault: victims(self._subnet, fault))
        self._record = self._book.record()
        self.advance(now_s)

    def next_s(self) -> float | None:
        """When something happens next; None: nothing will."""
        times = [self._book.next_s(), *(clock.next_s() for clock in self._churns.values()), *self._starts_s.values()]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def advance(self, now_s: float) -> None:
        """Let all happen that is due now."""
        for node in [node for node, at_s in self._starts_s.items() if at_s <= now_s]:
            self._start(node)
        changes = self._book.due(now_s)
        active = self._book.active(now_s)
        self._follow_links([fault for fault in active if not acts_on_nodes(fault)])
        about_nodes = [fault for fault in active if acts_on_nodes(fault)]
        touched = self._follow_churns(about_nodes, now_s)
        for change in changes:
            if acts_on_nodes(change.fault) and change.fault.spec.churn is None:
                touched |= dict.fromkeys(change.fault.nodes)
        self._act(touched, about_nodes, now_s)
        self._act_once([fault for fault in about_nodes if fault.once], now_s)

    # What a report tells

    def statuses(self, now_s: float) -> list[FaultStatus]:
        """The faults that were in force at some time."""
        return [self._status(fault, now_s) for fault in self._record.values()]

    def _status(self, fault: BookedFault, now_s: float) -> FaultStatus:
        """Its times of day are the world's, which mean nothing to anybody: when it was, counted from the begin, comes with it."""
        status = status_of_fault(fault, now_s, EPOCH + now_s)
        after = f"{format_duration(fault.begins_s - self._begun_s)} after the begin of the run"
        return msgspec.structs.replace(status, detail="; ".join(filter(None, (after, status.detail))))

    def problems(self) -> list[str]:
        """Faults that act on nobody, a sentence each."""
        return [f"fault {fault.name} is not in force: {fault.problem}" for fault in self._book.all() if fault.problem]

    def has_down(self, node: str) -> bool:
        """Whether a fault keeps the node from working now."""
        return node in self._states or node in self._starts_s

    def lost_until_ns(self) -> dict[str, int]:
        """Nodes that would have lost events with their process, and until when, as a lab tells of live nodes.

        A node that has died since the begin has; one that is dead or paused now has, unless it was all the time: that one
        took no part, and what it lacks is a known miss.
        """
        lost = self._died | self._states.keys()
        return {node: round(at_s * NS) for node, at_s in self._hit_s.items() if node in lost and at_s > self._begun_s}

    # Links

    def _follow_links(self, faults: list[BookedFault]) -> None:
        numbers = [fault.number for fault in faults]
        if numbers != self._linked:
            self._linked = numbers
            self._network.put_in_force(fault.spec for fault in faults)

    # Nodes

    def _follow_churns(self, faults: Iterable[BookedFault], now_s: float) -> dict[str, None]:
        """Let churns go on; the nodes that have died or may come back."""
        touched: dict[str, None] = {}
        churns: dict[int, ChurnClock] = {}
        for fault in faults:
            if fault.spec.churn is not None:
                clock = self._churns.pop(fault.number, None)
                if clock is None:
                    schedule = churn_schedule(self._subnet, fault.spec, math.inf)
                    clock = ChurnClock(schedule, fault.begins_s, fault.spec.churn.down.seconds)
                touched |= dict.fromkeys(clock.back_s)
                clock.advance(now_s)
                touched |= dict.fromkeys(clock.back_s)
                churns[fault.number] = clock
        for over in self._churns.values():
            touched |= dict.fromkeys(over.back_s)
        self._churns = churns
        return touched

    def _act(self, nodes: Iterable[str], faults: list[BookedFault], now_s: float) -> None:
        """Make these nodes be as the faults want them to be."""
        for name in nodes:
            state = wanted_of([name], faults, self._churns).state
            before = self._states.get(name, "free")
            if state == before:
                continue
            self._states[name] = state
            clients = self._clients_of(name)
            if state != "free":
                self._hit_s[name] = now_s
            if state == "dead":
                self._kill(name)
            elif not clients[0].is_up:
                # One that is to be paused is once it serves: see `_start`.
                self._starts_s.setdefault(name, now_s + BACK_S)
            elif state == "paused":
                for one in clients:
                    one.pause()
            else:
                for one in clients:
                    one.resume()
            if state == "free":
                del self._states[name]

    def _start(self, name: str) -> None:
        del self._starts_s[name]
        for node in self._clients_of(name):
            node.restart()
            if self._states.get(name) == "paused":
                node.pause()

    def _clients_of(self, name: str) -> list[Node]:
        return [self._world.nodes[name + client] for client in self._clients]

    def _kill(self, name: str) -> None:
        self._died.add(name)
        self._starts_s.pop(name, None)
        for node in self._clients_of(name):
            node.crash()

    def _act_once(self, faults: Iterable[BookedFault], now_s: float) -> None:
        """Kill or restart what is to be hit once, as soon as it runs."""
        for fault in faults:
            left = self._pending.setdefault(fault.number, set(fault.nodes))
            for name in fault.nodes:
                if name in left and self._states.get(name) != "dead" and self._world.nodes[name].is_up:
                    left.discard(name)
                    self._hit_s[name] = now_s
                    self._kill(name)
                    self._starts_s[name] = now_s + BACK_S
            if not left:
                self._book.done(fault, now_s)
