"""How faults want the processes of nodes to be, and the nodes that a churn keeps dead at a time. Pure: `now` is an argument."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from p2pnet.subnet.fault_book import BookedFault

WantedState = Literal["free", "paused", "dead"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a process is to be, by which faults, and when the last of them ends (loop time; None: not by itself)."""

    state: WantedState
    by: tuple[str, ...]
    until_s: float | None


FREE = Wanted("free", (), None)


class ChurnClock:
    """Which nodes a churn keeps dead at a time. `schedule`: seconds after its begin, and the node that dies; in order."""

    def __init__(self, schedule: Iterator[tuple[float, str]], begins_s: float, down_s: float) -> None:
        self._schedule = schedule
        self._begins_s = begins_s
        self._down_s = down_s
        self._next = next(schedule, None)
        self.back_s: dict[str, float] = {}
        """When each of the nodes that are dead now comes back."""

    def advance(self, now: float) -> None:
        """Let all deaths and returns until now happen."""
        while self._next is not None and self._begins_s + self._next[0] <= now:
            at, node = self._next
            self.back_s[node] = self._begins_s + at + self._down_s
            self._next = next(self._schedule, None)
        self.back_s = {node: back for node, back in self.back_s.items() if back > now}

    def next_s(self) -> float | None:
        """When the next death or return is due; None: never."""
        death = [] if self._next is None else [self._begins_s + self._next[0]]
        return min([*death, *self.back_s.values()], default=None)


def wanted_of(nodes: Iterable[str], faults: Iterable[BookedFault], churns: Mapping[int, ChurnClock]) -> Wanted:
    """How the process of these nodes is to be: dead if a fault wants one of them dead, else paused if one wants that."""
    members = set(nodes)
    dead: list[tuple[str, float | None]] = []
    paused: list[tuple[str, float | None]] = []
    for fault in faults:
        if fault.once:
            continue
        if fault.spec.churn is not None:
            clock = churns.get(fault.number)
            back = [at for node, at in clock.back_s.items() if node in members] if clock is not None else []
            dead += [(fault.name, max(back))] if back else []
        elif members & set(fault.nodes):
            (dead if fault.spec.kill else paused).append((fault.name, fault.until_s))
    if not dead and not paused:
        return FREE
    by = dead or paused
    ends = [end for _, end in by]
    until_s = None if None in ends else max(end for end in ends if end is not None)
    return Wanted("dead" if dead else "paused", tuple(name for name, _ in by), until_s)
