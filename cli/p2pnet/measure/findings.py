"""What stands out in the time series of a run: why was a node slow? Pure.

Samples come in one by one and only sums are kept, so that a long run of many nodes needs little memory.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from p2pnet.model.control import LinkSample
from p2pnet.model.report import Finding, NodeReceipts
from p2pnet.model.time_series import NodeSample
from p2pnet.model.units import format_duration, format_size

FINDINGS_MAX = 10  # in a report: the gravest
FULL_BYTES = 32 << 10  # that wait for a bandwidth: some 26 packets, so that packets of others wait noticeably
LAG_S = 0.1  # an event loop that comes so late is starved, or its process stood still
SILENT_S = 3.0  # of sending without hearing anything: longer than any round trip that is of use
SILENT_BYTES = (
    1_200  # sent in a second: less is keeping the connection alive, whose answer may fall into the next second
)
LOSS_SHARE = 0.05  # from which on QUIC's throughput suffers
LOST_MIN = 20  # datagrams, below which a share says little
DATAGRAM_BYTES = 1_200  # of a full one: samples count bytes sent, not datagrams
HANDLERS_MIN = 64  # messages that wait for handlers: these are slower than what comes in
SLOW_FACTOR = 2.0  # a node whose median latency is so many times that of the median node is slow
_SLOW_COUNTS = 3.0  # how much more what happened to a slow node counts
_GRAVITY = {
    "starved": 1.5, "uplink-full": 1.2, "downlink-full": 1.2, "link-full": 1.0, "silent-peer": 1.0, "lossy-peer": 0.9,
    "slow-handlers": 0.8,
}  # fmt: skip
"""By kind: of two that went on for as long, the one that is rather a cause comes first."""


@dataclass(slots=True)
class _Spell:
    """For how long something was so, and how much of it there was at most."""

    seconds: float = 0.0
    most: float = 0.0

    def add(self, value: float, least: float, seconds: float, *, also: bool = False) -> None:
        """A time of so many seconds with this value; it counts from `least` on, or where `also` says so."""
        self.most = max(self.most, value)
        if value >= least or also:
            self.seconds += seconds


@dataclass(slots=True)
class _LinkSeries:
    full: _Spell = field(default_factory=_Spell)
    sent: int = 0
    lost: int = 0
    silent_s: float = 0.0
    """The longest time in which much was sent and nothing heard."""
    silent_now_s: float = 0.0
    last_ns: int = 0


@dataclass(slots=True)
class _NodeSeries:
    seconds: float = 0.0
    up: _Spell = field(default_factory=_Spell)
    down: _Spell = field(default_factory=_Spell)
    lag: _Spell = field(default_factory=_Spell)
    handlers: _Spell = field(default_factory=_Spell)
    links: dict[str, _LinkSeries] = field(default_factory=dict)


class TimeSeries:
    """The samples of one run, summed up by node and link."""

    def __init__(self) -> None:
        self._nodes: dict[str, _NodeSeries] = {}

    def add(self, one: NodeSample) -> None:
        """Take in one node's next second."""
        sample, node = one.sample, self._nodes.setdefault(one.node, _NodeSeries())
        span = sample.span_s
        node.seconds += span
        node.up.add(sample.up_queued_bytes, FULL_BYTES, span, also=sample.up_dropped > 0)
        node.down.add(sample.down_queued_bytes, FULL_BYTES, span, also=sample.down_dropped > 0)
        node.lag.add(sample.lag_s, LAG_S, span)
        node.handlers.add(sample.handlers, HANDLERS_MIN, span)
        for link in sample.links:
            _add_link(node.links.setdefault(link.peer, _LinkSeries()), link, span, one.t_ns)

    def longest_lag_s(self) -> dict[str, float]:
        """By node, the longest that its event loop came late."""
        return {name: node.lag.most for name, node in self._nodes.items()}

    def findings(self, per_node: Sequence[NodeReceipts] = (), most: int = FINDINGS_MAX) -> list[Finding]:
        """What stands out, the gravest first; what happened to nodes that were slow comes before the rest."""
        slow = slow_nodes(per_node)
        found = [finding for name, node in self._nodes.items() for finding in _of_node(name, node)]
        return sorted(found, key=lambda one: (-self._weight(one, slow), one.node, one.kind, one.peer))[:most]

    def _weight(self, finding: Finding, slow: Collection[str]) -> float:
        share = finding.seconds / max(finding.seconds, self._nodes[finding.node].seconds, 1e-9)
        return share * _GRAVITY[finding.kind] * (_SLOW_COUNTS if finding.node in slow else 1.0)


def slow_nodes(per_node: Sequence[NodeReceipts]) -> set[str]:
    """The nodes that missed a receipt, or whose median latency stands out from that of all nodes."""
    typical = median([one.p50_ms for one in per_node if one.p50_ms is not None] or [0.0])
    return {
        one.node
        for one in per_node
        if one.received < one.expected or (one.p50_ms is not None and one.p50_ms > SLOW_FACTOR * typical > 0)
    }


def _add_link(series: _LinkSeries, link: LinkSample, span: float, t_ns: int) -> None:
    series.full.add(link.queued_bytes, FULL_BYTES, span)
    series.sent += link.sent_bytes
    series.lost += link.lost
    follows = t_ns - series.last_ns < 1.5e9 * span  # a link without any traffic has no sample
    silent = link.sent_bytes >= SILENT_BYTES and not link.received_bytes
    series.silent_now_s = ((series.silent_now_s if follows else 0.0) + span) if silent else 0.0
    series.silent_s = max(series.silent_s, series.silent_now_s)
    series.last_ns = t_ns


def _of_node(name: str, node: _NodeSeries) -> Iterator[Finding]:
    def of(spell: _Spell) -> str:
        return f"{_seconds(spell.seconds)} of {_seconds(node.seconds)} s"

    for spell, what, kind in ((node.up, "uplink", "uplink-full"), (node.down, "downlink", "downlink-full")):
        if spell.seconds:
            waited = f"{format_size(spell.most)} waited" if spell.most else "packets were dropped"
            yield Finding(name, f"its {what} was full for {of(spell)} ({waited})", kind, seconds=spell.seconds)  # type: ignore[arg-type]
    if node.lag.seconds:
        late = f"its event loop came up to {format_duration(node.lag.most)} late"
        yield Finding(
            name, f"its process was starved of CPU or stood still in {of(node.lag)}: {late}", "starved",
            seconds=node.lag.seconds,
        )  # fmt: skip
    if node.handlers.seconds:
        waited = f"up to {node.handlers.most:.0f} messages waited for them"
        yield Finding(
            name,
            f"its handlers were slow for {of(node.handlers)}: {waited}",
            "slow-handlers",
            seconds=node.handlers.seconds,
        )
    for peer, link in node.links.items():
        yield from _of_link(name, peer, link, of, node.seconds)


def _of_link(name: str, peer: str, link: _LinkSeries, of: Callable[[_Spell], str], seconds: float) -> Iterator[Finding]:
    if link.full.seconds:
        what = f"its path to {peer} was full for {of(link.full)} ({format_size(link.full.most)} waited)"
        yield Finding(name, what, "link-full", peer, link.full.seconds)
    if link.silent_s >= SILENT_S:
        what = f"it sent to {peer} for {_seconds(link.silent_s)} s and heard nothing"
        yield Finding(name, what, "silent-peer", peer, link.silent_s)
    datagrams = max(1, link.sent // DATAGRAM_BYTES, link.lost)
    if link.lost >= LOST_MIN and link.lost >= LOSS_SHARE * datagrams:
        what = f"{link.lost:,} datagrams to {peer} were lost, about {link.lost / datagrams:.0%}"
        yield Finding(name, what, "lossy-peer", peer, seconds * min(1.0, link.lost / datagrams))


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 1 else f"{value:.1f}"
