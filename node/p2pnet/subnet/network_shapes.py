"""What the document says of a path or an access link, in the units of `model.network`. Pure."""

from collections.abc import Iterable

import msgspec

from p2pnet.model.network import QUEUE_BYTES, AccessShape, LinkShape, jitter_max_ns
from p2pnet.subnet.network_spec import LineSpec, ShapeSpec
from p2pnet.subnet.quantities import BandwidthText, DurationText, ShareText, SizeText

BLOCKED = LinkShape(blocked=True)


def shape_of(shape: ShapeSpec) -> LinkShape:
    """The path that a shape, rule or fault asks for."""
    return LinkShape(
        delay_ns=_nanoseconds(shape.latency),
        jitter_ns=_nanoseconds(shape.jitter),
        jitter_kind=shape.distribution,
        keep_order=shape.keep_order,
        loss=_ratio(shape.loss),
        loss_burst=shape.loss_burst,
        duplication=_ratio(shape.duplication),
        reorder=_ratio(shape.reorder),
        bandwidth_bps=shape.bandwidth.bits_per_second if shape.bandwidth else None,
        queue_bytes=_queue(shape.queue),
        queue_kind=shape.discipline,
        mtu=shape.mtu,
    )


def carried(shape: LinkShape) -> LinkShape:
    """The shape with as much of its jitter as its delay can carry: more is not in force, so it must not be asked for."""
    most = jitter_max_ns(shape.delay_ns, shape.jitter_kind, shape.keep_order)
    return shape if shape.jitter_ns <= most else msgspec.structs.replace(shape, jitter_ns=most)


def narrowest_up(lines: Iterable[LineSpec]) -> AccessShape | None:
    """The uplink that several lines leave to a node; None: no limit."""
    return _narrowest((line.up, line) for line in lines)


def narrowest_down(lines: Iterable[LineSpec]) -> AccessShape | None:
    """The downlink that several lines leave to a node; None: no limit."""
    return _narrowest((line.down, line) for line in lines)


def _narrowest(limits: Iterable[tuple[BandwidthText | None, LineSpec]]) -> AccessShape | None:
    shapes = [
        AccessShape(bandwidth.bits_per_second, _queue(line.queue), line.discipline)
        for bandwidth, line in limits
        if bandwidth is not None
    ]
    return min(shapes, key=lambda shape: (shape.bandwidth_bps, shape.queue_bytes), default=None)


def _queue(size: SizeText | None) -> int:
    return size.bytes if size is not None else QUEUE_BYTES


def _nanoseconds(duration: DurationText | None) -> int:
    return round(duration.seconds * 1e9) if duration is not None else 0


def _ratio(share: ShareText | None) -> float:
    return share.ratio if share is not None else 0.0
