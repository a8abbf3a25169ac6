"""The faults of a document in its world, at their virtual times, by the book and the rules that a lab follows.

Times are seconds since the start of the world, on the world's clock.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from p2pnet.model.report import FaultStatus
from p2pnet.model.units import format_duration
from p2pnet.sim.context import EPOCH
from p2pnet.sim.node import Node
from p2pnet.sim.quantities import NS
from p2pnet.sim.subnet_network import SubnetNetwork
from p2pnet.sim.world import World
from p2pnet.subnet.fault_book import LEASE_MAX_S, BookedFault, FaultBook, acts_on_nodes, status_of_fault
from p2pnet.subnet.fault_processes import ChurnClock, WantedState, wanted_of
from p2pnet.subnet.faults import churn_schedule, read_fault, victims
from p2pnet.subnet.members import members
from p2pnet.subnet.network_spec import FaultSpec
from p2pnet.subnet.spec import Subnet

BACK_S = 0.6  # from a death, or the end of one that lasts, until the process serves: a supervisor's wait and a start


class FaultWatch:
    """What faults did since a time: what the report of a run tells of them."""

    def __init__(self, faults: "SubnetFaults", record: dict[int, BookedFault], since_s: float) -> None:
        self._faults = faults
        self._record = record
        self._since_s = since_s

    def statuses(self, now_s: float) -> list[FaultStatus]:
        """The faults that were in force at some time."""
        return [self._status(fault, now_s) for fault in self._record.values()]

    def _status(self, fault: BookedFault, now_s: float) -> FaultStatus:
        """Its times of day are the world's, which mean nothing to anybody: when it was, counted from the begin, comes with it."""
        status = status_of_fault(fault, now_s, EPOCH + now_s)
        after_s = fault.begins_s - self._since_s
        when = "before" if after_s < 0 else "after"
        told = f"{format_duration(abs(after_s))} {when} the begin of the run"
        return msgspec.structs.replace(status, detail="; ".join(filter(None, (told, status.detail))))

    def lost_until_ns(self) -> dict[str, int]:
        """Nodes that would have lost events with their process, and until when, as a lab tells of live nodes."""
        return self._faults.lost_until_ns(self._since_s)

    def close(self) -> None:
        """Remember no fault that begins from now on."""
        self._faults.forget(self._record)


class SubnetFaults:
    """Puts the faults of a document in force, from `begin` on: calls of `advance` at the times that `next_s` tells.

    Others can be added and cleared meanwhile, as with a lab.
    """

    def __init__(self, world: World, subnet: Subnet, network: SubnetNetwork, clients: Sequence[str] = ("",)) -> None:
        """`clients`: as `SubnetNetwork` has them: what hits a node hits all of its clients."""
        self._world = world
        self._clients = clients
        self._subnet = subnet
        self._network = network
        self._book = FaultBook()
        self._members = frozenset(name for name, _ in members(subnet))
        self._held: list[str] = []
        """Faults that were added without an end: their leases are renewed."""
        self._linked: list[int] = []
        """Numbers of the faults about links that are in force."""
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
        self._died_s: dict[str, float] = {}
        """When each node lost a process last."""

    def begin(self, now_s: float) -> FaultWatch:
        """The subnet is up: the faults' times count from now on. What they do from here on."""
        self._book.take(self._subnet.spec.faults, now_s)
        self._aim()
        watch = self.watch(now_s)
        self.advance(now_s)
        return watch

    def watch(self, now_s: float) -> FaultWatch:
        """What faults do from now on, those that are in force among them."""
        return FaultWatch(self, self._book.record(), now_s)

    def forget(self, record: dict[int, BookedFault]) -> None:
        """Put no more faults into a watch's record."""
        self._book.forget(record)

    def follow(self, subnet: Subnet, now_s: float) -> None:
        """Another document is in force."""
        self._subnet = subnet
        self._members = frozenset(name for name, _ in members(subnet))
        for gone in self._starts_s.keys() - self._members:
            del self._starts_s[gone]
        for gone in self._states.keys() - self._members:
            del self._states[gone]
        self._book.take(subnet.spec.faults, now_s)
        self._aim()
        self.advance(now_s)

    def add(self, fault: Mapping[str, object], now_s: float) -> BookedFault:
        """Put a fault, an item of `spec.faults`, in force until it is cleared or its time is over. Raises SpecError."""
        spec = read_fault(self._subnet, fault, taken=self._book.taken())
        nodes = victims(self._subnet, spec)
        once = spec.restart or (spec.kill and spec.for_ is None)
        booked = self._book.add(spec, None if once or spec.for_ else LEASE_MAX_S, now_s)
        booked.nodes = nodes
        if booked.lease_until_s is not None:
            self._held.append(spec.name)
        self.advance(now_s)
        return booked

    def clear(self, name: str, now_s: float) -> None:
        """End a fault that was added. Raises SpecError when there is none of that name any more."""
        self._book.clear(name, now_s)
        self._held = [held for held in self._held if held != name]
        self.advance(now_s)

    def renew(self, now_s: float) -> None:
        """Let what was added without an end last on. To be called more often than once in LEASE_MAX_S."""
        for name in self._held:
            self._book.renew(name, LEASE_MAX_S, now_s)

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

    def _aim(self) -> None:
        self._book.aim(lambda fault: victims(self._subnet, fault))

    # What a report tells

    def problems(self) -> list[str]:
        """Faults that act on nobody, a sentence each."""
        return [f"fault {fault.name} is not in force: {fault.problem}" for fault in self._book.all() if fault.problem]

    def has_down(self, node: str) -> bool:
        """Whether a fault keeps the node from working now."""
        return node in self._states or node in self._starts_s

    def lost_until_ns(self, since_s: float) -> dict[str, int]:
        """Nodes that would have lost events with their process since a time, and until when, as a lab tells of live nodes.

        A node that has died since then has; one that is dead or paused now has, unless it was all the time: that one
        took no part, and what it lacks is a known miss.
        """
        lost = {node for node, at_s in self._died_s.items() if at_s >= since_s} | self._states.keys()
        return {node: round(at_s * NS) for node, at_s in self._hit_s.items() if node in lost and at_s > since_s}

    # Links

    def about_links(self, now_s: float) -> list[FaultSpec]:
        """The faults about links that are in force."""
        return [fault.spec for fault in self._book.active(now_s) if not acts_on_nodes(fault)]

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
            if name not in self._members:
                continue
            state = wanted_of([name], faults, self._churns).state
            before = self._states.get(name, "free")
            if state == before:
                continue
            self._states[name] = state
            clients = self._clients_of(name)
            if state != "free":
                self._hit_s[name] = now_s
            if state == "dead":
                self._kill(name, now_s)
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

    def _kill(self, name: str, now_s: float) -> None:
        self._died_s[name] = now_s
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
                    self._kill(name, now_s)
                    self._starts_s[name] = now_s + BACK_S
            if not left:
                self._book.done(fault, now_s)
