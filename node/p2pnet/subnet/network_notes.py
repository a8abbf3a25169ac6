"""What is odd about a network that is asked for, and no contradiction: `status` shows it as notes. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator

from p2pnet.model import limits
from p2pnet.model.units import format_duration, format_size
from p2pnet.subnet.members import topology_of
from p2pnet.subnet.network_rules import RuleTable
from p2pnet.subnet.network_spec import FaultSpec, LineSpec, NetworkSpec, ShapeSpec
from p2pnet.subnet.placement import PLACE_LABEL, Placement, PresetLinks
from p2pnet.subnet.quantities import BandwidthText
from p2pnet.subnet.selectors import Roster
from p2pnet.subnet.spec import Subnet

KEEP_ALIVE_S = limits.IDLE_S / 3  # of a silent link: one end pings, the other one answers
KEEP_ALIVE_BYTES = 61  # of the larger of the two, as an IP packet
HANDSHAKE_BYTES = 2_500  # that each end sends as IP packets until both know each other
LINK_BYTES = 11_400  # the same with the probe for jumbo packets that follows at once
NOTES_MAX = 32
"""Notes that are told; more are counted."""
SLOW_DELAY_S = limits.HANDSHAKE_S / 2  # there and back it is as long as a handshake may take


def overlap_notes(rules: RuleTable) -> Iterator[str]:
    """Rules between which only their order decides, and rules that decide of no link."""
    for rule, gives_way, links, (source, to) in rules.overlaps():
        yield (
            f"rules[{gives_way}] and rules[{rule}] overlap: they are as specific as each other and differ, and on {links} links,"
            f" like {source} to {to}, rules[{rule}] decides because it is the later one"
        )
    for rule in rules.idle():
        yield f"rules[{rule}] decides of no link: other rules are more specific or later on all that it matches"


def placement_notes(placement: Placement, network: NetworkSpec, links: PresetLinks | None) -> Iterator[str]:
    """A preset with more nodes than places, nodes that share one, labels that name none."""
    if links is None:
        return
    if links.jitter_is_cut:
        yield f"default.jitter {network.default.jitter} is cut where a latency of preset {network.preset} is too small for it"
    for group, place in placement.unknown.items():
        yield f"group {group}: {PLACE_LABEL} {place!r} is no place of preset {network.preset}; its nodes take places in turn"
    shared = {place: count for place, count in Counter(placement.places.values()).items() if count > 1}
    if not shared:
        return
    count = len(placement.places)
    if count > links.place_count:
        yield f"preset {network.preset} has {links.place_count} places for {count} nodes"
    place, most = max(shared.items(), key=lambda pair: pair[1])
    delay_s = links.shape(place, place).delay_ns / 1e9
    latency = f"a latency of {format_duration(delay_s)}" if delay_s else "no latency"
    yield (
        f"{sum(shared.values())} of {count} nodes share {len(shared)} place{'s' if len(shared) > 1 else ''} of preset"
        f" {network.preset}, and have between them what it says of a place with itself: {most} nodes at {place}, with {latency}"
    )


def narrow_notes(subnet: Subnet, roster: Roster, faults: Iterable[FaultSpec]) -> Iterator[str]:
    """Bandwidths that cannot carry what keeps links up, and delays of which no handshake ends in time."""
    network = subnet.spec.network
    shapes: list[tuple[str, ShapeSpec]] = [("default", network.default)]
    shapes += [(f"rules[{index}]", rule) for index, rule in enumerate(network.rules)]
    lines: list[tuple[str, LineSpec]] = []
    if set(roster.groups.values()) - network.access.groups.keys():
        lines = [("access", network.access)]
    lines += [(f"access.groups.{name}", line) for name, line in network.access.groups.items()]
    for fault in faults:
        shapes.append((f"fault {fault.name}", fault))
        if fault.access is not None:
            lines.append((f"fault {fault.name}", fault.access))
    for name, shape in shapes:
        yield from _narrow_path(name, shape)
    peers = _most_peers(subnet)
    for name, line in lines:
        for side, bandwidth in (("up", line.up), ("down", line.down)):
            if bandwidth is not None and peers:
                yield from _narrow_access(f"{name} {side}", bandwidth, peers)


def _narrow_path(name: str, shape: ShapeSpec) -> Iterator[str]:
    if shape.bandwidth is not None:
        takes = HANDSHAKE_BYTES * 8 / shape.bandwidth.bits_per_second
        if takes > limits.HANDSHAKE_S:
            yield (
                f"{name}: bandwidth {shape.bandwidth} carries no handshake, so links will not come up: {HANDSHAKE_BYTES} bytes"
                f" take {format_duration(takes)}, and {limits.HANDSHAKE_S:.0f} s is the longest"
            )
    if shape.latency is not None and shape.latency.seconds >= SLOW_DELAY_S:
        yield (
            f"{name}: latency {shape.latency} is too long for a handshake, so links will not come up: there and back it takes"
            f" longer than {limits.HANDSHAKE_S:.0f} s"
        )


def _narrow_access(name: str, bandwidth: BandwidthText, peers: int) -> Iterator[str]:
    per_link = KEEP_ALIVE_BYTES * 8 / KEEP_ALIVE_S
    coming_s = peers * LINK_BYTES * 8 / bandwidth.bits_per_second
    if peers * per_link > bandwidth.bits_per_second:
        yield (
            f"{name}: {bandwidth} cannot carry the keep-alives of {peers} links, which are {peers * per_link / 1000:.3g} kbit/s"
            f" ({KEEP_ALIVE_BYTES} bytes every {KEEP_ALIVE_S:.0f} s of each)"
        )
    elif coming_s > limits.HANDSHAKE_S:
        yield (
            f"{name}: with {bandwidth} the {peers} links of a node take {format_duration(coming_s)} to come up together"
            f" ({format_size(LINK_BYTES)} of each), longer than the {limits.HANDSHAKE_S:.0f} s of a handshake: some are dialled"
            " again and again"
        )


def _most_peers(subnet: Subnet) -> int:
    """Links of the node that has most."""
    plan = topology_of(subnet)
    if plan.kind == "edges":
        return max(Counter(name for edge in plan.edges for name in edge).values(), default=0)
    return min(plan.degree, subnet.node_count - 1)
