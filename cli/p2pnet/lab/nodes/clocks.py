"""The offsets of the nodes' clocks from the lab's: 0 within one boot, measured with an error bound elsewhere.

The sample with the shortest round trip counts (as in NTP, RFC 5905): half of it bounds the error.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.control import ROUTE_CLOCK, Clock, ClockRequest

SAMPLES = 8  # per measurement, of which the one with the shortest round trip counts
DRIFT = 200e-6  # seconds per second by which two clocks may drift apart: 100 ppm for each crystal


@dataclass(frozen=True, slots=True)
class Offset:
    """Added to a clock of another boot, `ns` gives the lab's; true within `error_ns` when taken, at `taken_ns` (lab)."""

    ns: int
    error_ns: int
    taken_ns: int

    def bound_ns(self, now_ns: int) -> float:
        """The error bound now: it grows with the age of the sample."""
        return self.error_ns + DRIFT * abs(now_ns - self.taken_ns)


def offset_of(sent_ns: int, theirs_ns: int, answered_ns: int) -> Offset:
    """The offset that one question tells: the node read its clock at some time between question and answer."""
    return Offset((sent_ns + answered_ns) // 2 - theirs_ns, (answered_ns - sent_ns + 1) // 2, answered_ns)


def better(sample: Offset, known: Offset) -> bool:
    """Whether a new sample replaces a known one: its bound is smaller by now, or it contradicts it (a clock was halted)."""
    bound_ns = known.bound_ns(sample.taken_ns)
    return sample.error_ns <= bound_ns or abs(sample.ns - known.ns) > sample.error_ns + bound_ns


class Clocks:
    """Offsets by boot id (see `peering.clock.boot_id`). The lab's own boot has offset 0 and bound 0."""

    def __init__(
        self, node_client: NodeClient, own_boot_id: str, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._node_client = node_client
        self._now_ns = now_ns
        self._own = own_boot_id
        self._offsets: dict[str, Offset] = {}
        self.unmeasured: set[str] = set()
        """Boots of which no node answered."""

    async def measure(self, boots: dict[str, list[str]]) -> dict[str, int]:
        """Measure all boots but the lab's own, by one node each; all known offsets in nanoseconds. `boots`: nodes by boot."""
        foreign = {boot: nodes for boot, nodes in boots.items() if boot != self._own}
        await asyncio.gather(*(self._measure(boot, nodes) for boot, nodes in foreign.items()))
        return {boot: offset.ns for boot, offset in self._offsets.items()}

    def bound_ms(self, boots: dict[str, list[str]]) -> float:
        """The largest error bound over these boots, in milliseconds."""
        now = self._now_ns()
        known = [self._offsets[boot].bound_ns(now) for boot in boots if boot in self._offsets]
        return max(known, default=0.0) / 1e6

    def offset(self, boot: str, now_ns: int) -> tuple[int, float] | None:
        """What is added to a boot's clock to give the lab's, and its error bound now (ns); None: it was never measured."""
        if boot == self._own:
            return 0, 0.0
        known = self._offsets.get(boot)
        return None if known is None else (known.ns, known.bound_ns(now_ns))

    async def _measure(self, boot: str, nodes: list[str]) -> None:
        best = self._offsets.get(boot)
        for node in nodes:
            try:
                for _ in range(SAMPLES):
                    sent = self._now_ns()
                    clock = await ask_for(self._node_client, node, ROUTE_CLOCK, ClockRequest(), Clock)
                    sample = offset_of(sent, clock.mono_ns, self._now_ns())
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
