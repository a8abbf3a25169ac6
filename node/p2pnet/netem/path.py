"""One direction of the path to one peer: block and MTU, a queue for the bandwidth, then loss, delay, reorder and duplication."""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from p2pnet.model.network import CLEAR, LinkShape
from p2pnet.netem.agenda import Agenda
from p2pnet.netem.counters import LinkCounters, Rng
from p2pnet.netem.jitter import Jitter, jitter
from p2pnet.netem.loss import BurstLoss
from p2pnet.netem.queue import Queue

P = TypeVar("P")

HOLD_NS_MIN = 1_000_000
"""Least time for which a reordered packet is held back, on a path without delay."""
_HOLD_MEAN = 0.75  # of the longest time: each is held for between half of it and all


class Path(Generic[P]):
    """Takes packets in, and lets them depart on the node's agenda."""

    __slots__ = (
        "_agenda", "_burst", "_delay_ns", "_hold_ns", "_jitter", "_limit", "_loss", "_plain", "_queue", "_rng",
        "_shape", "counters", "enter",
    )  # fmt: skip

    def __init__(self, agenda: Agenda[P], rng: Rng) -> None:
        self.counters = LinkCounters()
        self.enter: Callable[[P, int, int, LinkCounters], None] = self._leave
        """Take in a packet of so many bytes at this time; what becomes of it is counted there."""
        self._agenda, self._rng = agenda, rng
        self._queue: Queue[P] | None = None
        self._jitter: Jitter | None = None
        self._burst: BurstLoss | None = None
        self._shape = CLEAR
        self._limit = math.inf  # bytes of the largest packet that passes
        self._delay_ns = self._hold_ns = 0
        self._loss = 0.0
        self._plain = True  # nothing but a delay

    @property
    def queue(self) -> Queue[P] | None:
        """What waits for the bandwidth, where there is one."""
        return self._queue

    @property
    def floor_ns(self) -> int:
        """Least time on the way, after the queue."""
        return self._delay_ns + (0 if self._jitter is None else self._jitter.least_ns)

    def reshape(self, shape: LinkShape, now_ns: int) -> None:
        """Put another shape in force. What waits stays in its place and is served at the new bandwidth; where there is none any
        more, it goes at once. Packets under way keep their departures. The caller tells the agenda: see `Agenda.serve_only`.
        """
        before, self._shape = self._shape, shape
        if shape == before:
            return
        self._limit = 0 if shape.blocked else shape.mtu or math.inf
        if _timing(shape) != _timing(before):
            self._jitter = jitter(shape)
            self._delay_ns, self._hold_ns = _delay_and_hold(shape, self._jitter)
        if (shape.loss, shape.loss_burst) != (before.loss, before.loss_burst):
            bursts = shape.loss > 0 and shape.loss_burst > 1
            self._burst = BurstLoss(shape.loss, shape.loss_burst) if bursts else None
            self._loss = 0.0 if bursts else shape.loss
        self._plain = not (shape.loss or shape.duplication or shape.reorder or self._jitter)
        self._reshape_queue(shape, now_ns)

    def _reshape_queue(self, shape: LinkShape, now_ns: int) -> None:
        queue = self._queue
        if shape.bandwidth_bps is None:
            if queue is not None:
                self._queue, self.enter = None, self._leave
                queue.release(now_ns)
        elif queue is None:
            self.enter = self._wait
            self._queue = Queue(shape, agenda=self._agenda, leaves=self._leave)
        else:
            queue.reshape(shape, now_ns)

    def _wait(self, packet: P, size: int, at_ns: int, counters: LinkCounters) -> None:
        """Put a packet into the queue, if there is any use in that."""
        if size > self._limit or self._queue is None:
            self._vanish(counters)
        else:
            self._queue.put(packet, size, at_ns, counters)

    def _leave(self, packet: P, size: int, at_ns: int, counters: LinkCounters) -> None:
        """Send on what has the bandwidth behind it, if the shape of now lets it pass."""
        if size > self._limit:
            self._vanish(counters)
        elif self._plain:
            self._agenda.depart(at_ns + self._delay_ns, packet, size, counters)
        else:
            self._go_by_chance(packet, size, at_ns, counters)

    def _vanish(self, counters: LinkCounters) -> None:
        if self._shape.blocked:
            counters.blocked += 1
        else:
            counters.too_large += 1

    def _go_by_chance(self, packet: P, size: int, at_ns: int, counters: LinkCounters) -> None:
        shape, rng = self._shape, self._rng
        if self._burst.lost(rng) if self._burst is not None else self._loss and rng() < self._loss:
            counters.lost += 1
            return
        if self._jitter is not None:
            at_ns += self._jitter.extra_ns(at_ns, rng)
        at_ns += self._delay_ns
        held = bool(shape.reorder) and rng() < shape.reorder
        if held:
            at_ns += math.ceil(self._hold_ns * (0.5 + rng() / 2))
        if self._agenda.depart(at_ns, packet, size, counters):
            counters.reordered += held
            if shape.duplication and rng() < shape.duplication:
                counters.duplicated += self._agenda.depart(at_ns, packet, size, LinkCounters())


def _timing(shape: LinkShape) -> tuple[object, ...]:
    """What a change of begins another line of delays."""
    return shape.delay_ns, shape.jitter_ns, shape.jitter_kind, shape.keep_order, shape.reorder


def _delay_and_hold(shape: LinkShape, varies: Jitter | None) -> tuple[int, int]:
    """The delay of packets that are not held back, and how long others are held at most.

    As far as the delay allows, the former is as much shorter as the latter makes the mean longer.
    """
    if not shape.reorder:
        return shape.delay_ns, 0
    hold_ns = max(HOLD_NS_MIN, shape.delay_ns // 2)
    spare_ns = shape.delay_ns + (0 if varies is None else varies.least_ns)
    return shape.delay_ns - min(spare_ns, round(shape.reorder * _HOLD_MEAN * hold_ns)), hold_ns
