"""Bringing the nodes' clocks onto the lab's: nothing to do on one boot, a measured offset with its bound elsewhere."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.control import ROUTE_CLOCK, Clock, ClockRequest

SAMPLES = 8  # of which the one with the shortest way counts
DRIFT = 200e-6  # seconds per second two crystals may part, both ends together

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time_for_children")


@dataclass(frozen=True, slots=True)
class Offset:
    """Add `ns` to a clock of that boot to be on the lab's; true within `error_ns` when it was taken, at `taken_ns`."""

    ns: int
    error_ns: int
    taken_ns: int

    def bound_ns(self, now_ns: int) -> float:
        """How wrong it may be now."""
        return self.error_ns + DRIFT * abs(now_ns - self.taken_ns)


def offset_of(sent_ns: int, theirs_ns: int, answered_ns: int) -> Offset:
    """One sample: they read their clock somewhere between our asking and their answer's coming."""
    return Offset((sent_ns + answered_ns) // 2 - theirs_ns, (answered_ns - sent_ns + 1) // 2, answered_ns)


def better(sample: Offset, known: Offset) -> bool:
    """Whether a new sample replaces a known one: it is the closer one by now, or proves it wrong (a clock stood still)."""
    bound_ns = known.bound_ns(sample.taken_ns)
    return sample.error_ns <= bound_ns or abs(sample.ns - known.ns) > sample.error_ns + bound_ns


class Clocks:
    """Offsets by boot id. A boot that is the lab's own has offset 0 and bound 0."""

    def __init__(self, gateway: NodeClient, own_boot_id: str) -> None:
        self._gateway = gateway
        self._own = own_boot_id
        self._offsets: dict[str, Offset] = {}
        self.unmeasured: set[str] = set()

    async def measure(self, boots: dict[str, list[str]]) -> dict[str, int]:
        """Measure the boots that are not ours again, by one node each; the offsets in force, in nanoseconds."""
        foreign = {boot: nodes for boot, nodes in boots.items() if boot != self._own}
        await asyncio.gather(*(self._measure(boot, nodes) for boot, nodes in foreign.items()))
        return {boot: offset.ns for boot, offset in self._offsets.items()}

    def bound_ms(self, boots: dict[str, list[str]]) -> float:
        """The worst bound over these boots."""
        now = time.monotonic_ns()
        known = [self._offsets[boot].bound_ns(now) for boot in boots if boot in self._offsets]
        return max(known, default=0.0) / 1e6

    async def _measure(self, boot: str, nodes: list[str]) -> None:
        best = self._offsets.get(boot)
        for node in nodes:
            try:
                for _ in range(SAMPLES):
                    sent = time.monotonic_ns()
                    clock = await ask_for(self._gateway, node, ROUTE_CLOCK, ClockRequest(), Clock)
                    sample = offset_of(sent, clock.mono_ns, time.monotonic_ns())
                    if best is None or better(sample, best):
                        best = sample
            except (NodeSilentError, NodeRefusedError):
                continue
            break
        if best is None:
            self.unmeasured.add(boot)
        else:
            self.unmeasured.discard(boot)
            self._offsets[boot] = best


def own_boot_id() -> str:
    """The boot and time namespace of this process, as nodes name theirs; empty where the system names none."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return ""
    try:
        return f"{boot}/{_TIME_NAMESPACE.readlink()}"
    except OSError:
        return boot
