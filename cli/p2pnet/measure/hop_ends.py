"""What both ends of a hop did meanwhile: their CPU, their event loops and what waited there, from the samples of a run. Pure.

A sample is of a whole second: of a hop that took less it tells the second that the hop fell into.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2pnet.measure.tree import HopNode, HopTree
from p2pnet.model.control import Sample
from p2pnet.model.time_series import NodeSample

_NS_PER_S = 10**9


@dataclass(frozen=True, slots=True)
class EndLoad:
    """One end, in the seconds of the hop."""

    cpu: float
    """CPU time of its process over time, of one core: 1 is all of it. Nodes in one process share it."""
    lag_ms: float
    """The longest that its event loop came late."""
    queued_bytes: int
    """The most that waited at once: at the sender for this receiver and for the uplink, at the receiver for its downlink."""
    handlers: int
    """The most messages that waited for handlers, or were in them."""


@dataclass(frozen=True, slots=True)
class HopEnds:
    """Both ends of one hop; None for one without samples of that time."""

    sender: EndLoad | None
    receiver: EndLoad | None


@dataclass(slots=True)
class _Gathered:
    """What the samples of one end tell so far. `peer`: the receiver, at the sender; empty at the receiver itself."""

    begin_ns: int
    end_ns: int
    peer: str
    cpu_s: float = 0.0
    span_s: float = 0.0
    lag_s: float = 0.0
    queued_bytes: int = 0
    handlers: int = 0

    def take(self, one: NodeSample) -> None:
        sample = one.sample
        if one.t_ns - round(sample.span_s * _NS_PER_S) > self.end_ns or one.t_ns < self.begin_ns:
            return
        self.cpu_s += sample.cpu_s
        self.span_s += sample.span_s
        self.lag_s = max(self.lag_s, sample.lag_s)
        self.handlers = max(self.handlers, sample.handlers)
        self.queued_bytes = max(self.queued_bytes, self._queued(sample))

    def _queued(self, sample: Sample) -> int:
        if not self.peer:
            return sample.down_queued_bytes
        toward = sum(link.queued_bytes + link.unsent_bytes for link in sample.links if link.peer == self.peer)
        return toward + sample.up_queued_bytes

    def load(self) -> EndLoad | None:
        if self.span_s <= 0:
            return None
        return EndLoad(self.cpu_s / self.span_s, self.lag_s * 1e3, self.queued_bytes, self.handlers)


@dataclass(slots=True)
class _Hop:
    receiver: _Gathered
    sender: _Gathered | None = field(default=None)


def window_ns(tree: HopTree) -> tuple[int, int] | None:
    """From when to when samples can tell of its hops; None without receipts."""
    if not tree.nodes:
        return None
    spans = [_span_ns(one) for one in tree.nodes]
    return min(begin for begin, _ in spans), max(end for _, end in spans) + 2 * _NS_PER_S


def hop_ends(tree: HopTree, samples: Iterable[NodeSample]) -> dict[str, HopEnds]:
    """By receiver, what both ends did; `samples` in any order. A node of which nothing is known is left out."""
    hops: dict[str, _Hop] = {}
    of_node: dict[str, list[_Gathered]] = defaultdict(list)
    for one in tree.nodes:
        begin, end = _span_ns(one)
        hops[one.node] = hop = _Hop(_Gathered(begin, end, ""))
        of_node[one.node].append(hop.receiver)
        if one.parent:
            hop.sender = _Gathered(begin, end, one.node)
            of_node[one.parent].append(hop.sender)
    for sample in samples:
        for gathered in of_node.get(sample.node, ()):
            gathered.take(sample)
    ends = {
        node: HopEnds(None if hop.sender is None else hop.sender.load(), hop.receiver.load())
        for node, hop in hops.items()
    }
    return {node: both for node, both in ends.items() if both != HopEnds(None, None)}


def _span_ns(one: HopNode) -> tuple[int, int]:
    return one.t_ns - round(one.took_ms * 1e6), one.t_ns
