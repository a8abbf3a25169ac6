"""What the network does between nodes, as a node is told it: shapes of paths and access links, and who gets which.

Computed from a Subnet document by `subnet.network`, pushed by the lab, executed by `netem` in the node and in the simulator.
Times are integer nanoseconds, sizes bytes of whole IP packets (UDP payload and `PACKET_OVERHEAD_BYTES`).
"""

import math
from typing import Literal

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.limits import MIB

QUEUE_BYTES = 1 * MIB  # default; 160 ms at 50 Mbit/s, a home router's
DELAY_NS_MAX = 3_600_000_000_000  # an hour; a longer delay is a block
BANDWIDTH_BPS_MIN = 1_000.0  # below it one packet takes longer than QUIC's idle time
MTU_MIN = 1_280  # IPv6's least (RFC 8200), which QUIC's 1,200 bytes of payload fit into
MTU_MAX = 65_535
LOSS_BURST_MAX = 1_000.0  # packets in a row: more is a block for a time
PACKET_OVERHEAD_BYTES = 28  # IPv4 and UDP headers, which count on a real line

ORDER_SPREAD = math.sqrt(1.5)
"""How much further drawn delays are spread than the line between them: its variance is 2/3 of theirs."""
_SQRT_3 = math.sqrt(3)  # half the width of a uniform distribution is so many standard deviations

QueueKind = Literal["droptail", "codel"]
JitterKind = Literal["normal", "uniform"]


def _check_queue(what: str, bandwidth_bps: float | None, queue_bytes: int) -> None:
    if bandwidth_bps is not None and not (bandwidth_bps >= BANDWIDTH_BPS_MIN and math.isfinite(bandwidth_bps)):
        raise SpecError(f"{what} bandwidth_bps: {bandwidth_bps} is not at least {BANDWIDTH_BPS_MIN:.0f}")
    if queue_bytes < 0:
        raise SpecError(f"{what} queue_bytes: {queue_bytes} is below 0")


class LinkShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One direction of the path between two nodes. The default does nothing. Raises SpecError for values out of bounds."""

    delay_ns: int = 0
    """One-way delay; with jitter its mean."""
    jitter_ns: int = 0
    """How far the delay varies: the standard deviation (normal), or the largest difference from the mean (uniform)."""
    jitter_kind: JitterKind = "normal"
    keep_order: bool = True
    """With jitter: whether packets stay in order, as in a queue, or each has a delay of its own and some overtake."""
    loss: float = 0.0
    """Share of packets lost; a lost packet has used its bandwidth."""
    loss_burst: float = 1.0
    """Packets lost in a row on average (Gilbert-Elliott); 1: losses are independent of each other."""
    duplication: float = 0.0
    """Share of packets of which a second copy departs with the first."""
    reorder: float = 0.0
    """Share of packets held back, so that those behind overtake them."""
    bandwidth_bps: float | None = None
    """Bits per second; None: unlimited."""
    queue_bytes: int = QUEUE_BYTES
    """Bytes that may wait for the bandwidth; a packet that does not fit is dropped."""
    queue_kind: QueueKind = "droptail"
    """`codel` also drops what has waited too long (RFC 8289)."""
    mtu: int | None = None
    """The largest IP packet that passes; a larger one vanishes. None: any."""
    blocked: bool = False
    """Every packet vanishes."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("delay_ns", "jitter_ns"):
            if not 0 <= getattr(self, name) <= DELAY_NS_MAX:
                raise SpecError(f"link {name}: {getattr(self, name)} is not between 0 and {DELAY_NS_MAX}")
        for name in ("loss", "duplication", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"link {name}: {getattr(self, name)} is not between 0 and 1")
        if not 1 <= self.loss_burst <= LOSS_BURST_MAX:
            raise SpecError(f"link loss_burst: {self.loss_burst} is not between 1 and {LOSS_BURST_MAX:.0f}")
        if self.mtu is not None and not MTU_MIN <= self.mtu <= MTU_MAX:
            raise SpecError(f"link mtu: {self.mtu} is not between {MTU_MIN} and {MTU_MAX}")
        _check_queue("link", self.bandwidth_bps, self.queue_bytes)

    @property
    def jitter_std_ns(self) -> float:
        """The jitter as a standard deviation, whatever its kind; at most what the delay can carry: see `jitter_max_ns`."""
        most = jitter_max_ns(self.delay_ns, self.jitter_kind, self.keep_order)
        return min(self.jitter_ns, most) / (_SQRT_3 if self.jitter_kind == "uniform" else 1.0)

    @property
    def clear(self) -> bool:
        """Whether packets pass as if there were no model at all."""
        return not (
            self.delay_ns or self.jitter_ns or self.loss or self.duplication or self.reorder or self.blocked
            or self.bandwidth_bps or self.mtu
        )  # fmt: skip


def jitter_max_ns(delay_ns: int, kind: JitterKind, keep_order: bool) -> int:
    """The largest jitter that a delay can carry with its mean and its spread as asked: more would need delays below 0.

    A spread is widest, within delays from 0 to twice the mean, where all of these are equally likely: that is a uniform jitter
    of the delay itself, and a standard deviation (normal) of it divided by the root of 3. Kept order takes another root of 1.5,
    because delays then go steadily from one drawn value to the next, and what lies between varies less than what was drawn.
    """
    return int(delay_ns / ((_SQRT_3 if kind == "normal" else 1.0) * (ORDER_SPREAD if keep_order else 1.0)))


CLEAR = LinkShape()
"""The shape that does nothing."""


class AccessShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One direction of a node's access link, shared by all its peers: a bandwidth with its queue. Raises SpecError."""

    bandwidth_bps: float
    queue_bytes: int = QUEUE_BYTES
    queue_kind: QueueKind = "droptail"

    def __post_init__(self) -> None:
        """Check the bounds."""
        _check_queue("access link", self.bandwidth_bps, self.queue_bytes)


NETWORK_BYTES_MAX = 1 * MIB
"""A `NodeNetwork` as JSON or msgpack, and a push of two: 500 peers, each with a shape of its own, are a quarter of that."""


class NodeNetwork(msgspec.Struct, frozen=True, omit_defaults=True):
    """The network of one node: what leaves it for each peer, and its access link. Raises SpecError for a path without a shape."""

    version: int = 0
    """Grows with every change of anything in the subnet's network; 0: nothing is shaped."""
    shapes: list[LinkShape] = []
    """The different shapes, each once."""
    paths: dict[str, int] = {}
    """Peer by name -> index into `shapes`. A peer that is not named has a clear path."""
    up: AccessShape | None = None
    down: AccessShape | None = None

    def __post_init__(self) -> None:
        """Check that every path has its shape."""
        for peer, index in self.paths.items():
            if not 0 <= index < len(self.shapes):
                raise SpecError(f"paths: {peer} has shape {index}, and there are {len(self.shapes)}")

    def shape(self, peer: str) -> LinkShape:
        """What a datagram to this peer goes through, behind the access link."""
        index = self.paths.get(peer)
        return CLEAR if index is None else self.shapes[index]
