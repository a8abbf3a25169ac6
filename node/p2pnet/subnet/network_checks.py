"""Contradictions of `spec.network` and `spec.faults`, each with its path and what to do about it. Pure."""

from collections.abc import Iterator

from p2pnet.model import network
from p2pnet.model.errors import SpecError
from p2pnet.model.limits import MIB
from p2pnet.model.units import format_duration
from p2pnet.subnet.fault_nodes import nodes_of, parts_of
from p2pnet.subnet.mistakes import Mistake, twice
from p2pnet.subnet.network_spec import FaultKind, FaultSpec, LineSpec, RuleSpec, ShapeSpec
from p2pnet.subnet.placement import preset_figures
from p2pnet.subnet.quantities import BandwidthText, DurationText, SizeText
from p2pnet.subnet.selectors import EVERY, Roster
from p2pnet.subnet.spec import DEFAULT_GROUP, Subnet

BANDWIDTH_BPS_MAX = 100e9  # wider than any node's link; a slip of a unit, or no limit at all
QUEUE_BYTES_MIN = 1_500  # one packet of Ethernet: a queue that holds none lets none wait
QUEUE_BYTES_MAX = 64 * MIB  # of each link in a node's memory; half a second at 1 Gbit/s
FAULT_S_MIN = 0.1  # a shorter one may be over at some nodes before it begins at others
FAULT_S_MAX = 30 * 86_400.0
CHURN_PER_S_MAX = 10.0  # a node's start takes a core for a large part of a second
DOWN_S_MIN = 0.1
DOWN_S_MAX = 3_600.0
MINORITY_MAX = 0.5

BANDWIDTH_WORDS = "from 1kbit to 100Gbit; leave it out for no limit"
QUEUE_WORDS = "from 1500B, one packet, to 64MiB"
LATENCY_WORDS = "at most 1h; what takes longer is a block"
LOSS_WORDS = "nothing would arrive; write a fault with block: true"
REORDER_WORDS = "some packets must be left to overtake the others"
FOR_WORDS = "from 100ms to 30d; leave it out for until it is cleared"
MINORITY_WORDS = "a minority is at most half, 50%"
ONE_KIND = "a fault does one thing: write another one for the rest"
NOTHING = "does nothing: give it a shape, access, block, partition, pause, kill, restart or churn"
WHOM = "say whom in from: '*' is every node"
_LINKS: frozenset[FaultKind] = frozenset(("shape", "block"))
_DONE_TO_NODES: frozenset[FaultKind] = frozenset(("pause", "kill", "restart"))


def network_mistakes(subnet: Subnet) -> Iterator[Mistake]:
    """What contradicts in `spec.network`."""
    spec = subnet.spec.network
    figures = preset_figures(spec.preset)
    if spec.loss_max is not None and "loss" not in figures:
        yield "spec.network.lossMax", f"belongs to a preset with losses, not to {spec.preset}"
    yield from _line("spec.network.access", spec.access)
    groups = {DEFAULT_GROUP, *(group.name for group in subnet.spec.groups)}
    for name, line in spec.access.groups.items():
        if name not in groups:
            yield "spec.network.access.groups", f"no group is named {name!r}"
        yield from _line(f"spec.network.access.groups.{name}", line)
    yield from _shape("spec.network.default", spec.default, figures)
    roster = Roster(subnet)
    for index, rule in enumerate(spec.rules):
        yield from _ends(roster, f"spec.network.rules[{index}]", rule)
        yield from _shape(f"spec.network.rules[{index}]", rule)


def fault_list_mistakes(subnet: Subnet) -> Iterator[Mistake]:
    """What contradicts in `spec.faults`."""
    faults = subnet.spec.faults
    yield from twice("spec.faults", (fault.name for fault in faults))
    roster = Roster(subnet)
    for index, fault in enumerate(faults):
        yield from fault_mistakes(roster, subnet.spec.seed, fault, f"spec.faults[{index}]")


def fault_mistakes(roster: Roster, seed: int, fault: FaultSpec, path: str) -> list[Mistake]:
    """What contradicts in one fault, which stands at `path` of the document, or with no path alone."""
    kinds = fault.kinds
    if len(kinds) != 1:
        return [(path, f"{' and '.join(kinds)}: {ONE_KIND}" if kinds else NOTHING)]
    kind = kinds[0]
    found = [*_ends(roster, path, fault, share=kind != "partition"), *_kind(path, fault, kind)]
    found += [*_shape(path, fault), *_fault_times(path, fault, kind)]
    if not found:  # whom it is about can be told only of one that is right
        found += _whom(roster, seed, fault, path)
    return found


def _kind(path: str, fault: FaultSpec, kind: FaultKind) -> Iterator[Mistake]:
    """What does not belong to this kind of fault."""
    if kind not in _LINKS and fault.to != EVERY:
        yield _at(path, "to"), f"belongs to a shape or a block, not to {kind}"
    if kind not in _LINKS and fault.both_ways:
        yield _at(path, "bothWays"), f"belongs to a shape or a block, not to {kind}"
    if kind == "partition" and fault.from_ != EVERY:
        yield _at(path, "from"), "has no meaning with a partition, which says itself who is cut off"
    if kind in _DONE_TO_NODES and "from_" not in fault.model_fields_set:
        yield _at(path, "from"), f"{WHOM}; here would be {kind} of all"
    if fault.access is not None:
        yield from _line(_at(path, "access"), fault.access)
        if not (fault.access.up or fault.access.down):
            yield _at(path, "access"), "does nothing: give it up or down"
    if fault.partition is not None:
        minority, groups = fault.partition.minority, fault.partition.groups
        if (minority is None) == (not groups):
            yield _at(path, "partition"), "give one of minority and groups"
        elif minority is not None and minority.ratio > MINORITY_MAX:
            yield _at(path, "partition.minority"), f"{minority}: {MINORITY_WORDS}"


def _whom(roster: Roster, seed: int, fault: FaultSpec, path: str) -> Iterator[Mistake]:
    """Shares that are nobody or everybody, parts that overlap, links that there are none of."""
    for index, selector in enumerate(fault.partition.groups if fault.partition else []):
        if mistake := roster.mistake(selector):
            yield _at(path, f"partition.groups[{index}]"), mistake
            return
    try:
        nodes = nodes_of(roster, seed, fault)
        parts_of(roster, seed, fault)
    except SpecError as error:
        field, _, words = str(error).partition(": ")
        yield _at(path, field), words
        return
    churn = fault.churn
    if churn is not None and churn.rate.per_second * churn.down.seconds >= max(1, len(nodes)):
        away = churn.rate.per_second * churn.down.seconds
        yield (
            _at(path, "churn"),
            f"{churn.rate}, each away for {churn.down}, would keep {away:.3g} of {len(nodes)} nodes away: make one smaller",
        )


def _ends(roster: Roster, path: str, rule: RuleSpec, *, share: bool = False) -> Iterator[Mistake]:
    """Selectors that mean no node; `share`: whether `from` may be one."""
    is_share = isinstance(rule, FaultSpec) and rule.share is not None
    for key, selector in (("from", rule.from_), ("to", rule.to)):
        if key == "from" and is_share and share:
            continue
        if mistake := roster.mistake(selector):
            yield _at(path, key), mistake if "%" not in selector else f"{mistake}: shares belong into a fault's from"
    if rule.from_ == rule.to and len(roster.select(rule.from_)) == 1 and len(roster.groups) > 1:
        yield _at(path, "to"), f"{rule.to!r} is the only node in from, too: there is no link with itself"


def _shape(path: str, shape: ShapeSpec, figures: frozenset[str] = frozenset()) -> Iterator[Mistake]:
    """What contradicts in a shape; `figures`: what a preset gives to its links beside what stands here."""
    delayed, jittered = _given(shape.latency), _given(shape.jitter)
    if shape.latency is not None and _ns(shape.latency) > network.DELAY_NS_MAX:
        yield _at(path, "latency"), f"{shape.latency}: {LATENCY_WORDS}"
    elif jittered and not delayed and "latency" not in figures:
        yield _at(path, "jitter"), f"{shape.jitter} without a latency: give it the latency around which it varies"
    elif shape.latency is not None and shape.jitter is not None and "latency" not in figures:
        yield from _jitter(path, shape, shape.latency, shape.jitter)
    if not jittered and shape.distribution != "normal":
        yield _at(path, "distribution"), "belongs to a jitter, and none is given"
    if not jittered and not shape.keep_order and "jitter" not in figures:
        yield _at(path, "keepOrder"), "belongs to a jitter, and none is given"
    yield from _losses(path, shape, figures)
    yield from _queue(path, shape, [("bandwidth", shape.bandwidth)])


def _jitter(path: str, shape: ShapeSpec, latency: DurationText, jitter: DurationText) -> Iterator[Mistake]:
    most = network.jitter_max_ns(_ns(latency), shape.distribution, shape.keep_order)
    if _ns(jitter) > most:
        words = f"{jitter} is too much for a latency of {latency}, of which some would have to be below nothing"
        order = "order kept" if shape.keep_order else "order not kept"
        yield _at(path, "jitter"), f"{words}: at most {format_duration(most / 1e9)} ({shape.distribution}, {order})"


def _losses(path: str, shape: ShapeSpec, figures: frozenset[str]) -> Iterator[Mistake]:
    loss = shape.loss.ratio if shape.loss is not None else 0.0
    if loss >= 1:
        yield _at(path, "loss"), f"{shape.loss}: {LOSS_WORDS}"
    elif shape.loss_burst > 1:
        if not loss and "loss" not in figures:
            yield _at(path, "lossBurst"), "belongs to a loss, and none is given"
        elif shape.loss_burst < loss / (1 - loss):
            yield (
                _at(path, "lossBurst"),
                f"{shape.loss_burst:g}: so many losses come at least {loss / (1 - loss):.3g} in a row",
            )
    if shape.reorder is not None and shape.reorder.ratio >= 1:
        yield _at(path, "reorder"), f"{shape.reorder}: {REORDER_WORDS}"


def _line(path: str, line: LineSpec) -> Iterator[Mistake]:
    yield from _queue(path, line, [("up", line.up), ("down", line.down)])


def _queue(path: str, part: ShapeSpec | LineSpec, limits: list[tuple[str, BandwidthText | None]]) -> Iterator[Mistake]:
    """Bandwidths out of bounds, and a queue without any."""
    names = " or ".join(name for name, _ in limits)
    for name, limit in limits:
        if limit is not None and not network.BANDWIDTH_BPS_MIN <= limit.bits_per_second <= BANDWIDTH_BPS_MAX:
            yield _at(path, name), f"{limit}: {BANDWIDTH_WORDS}"
    limited = any(limit for _, limit in limits)
    if part.queue is not None:
        yield from _queue_size(path, part.queue)
    if not limited and part.queue is not None:
        yield _at(path, "queue"), f"belongs to {names}, and none is given"
    if not limited and part.discipline != "droptail":
        yield _at(path, "discipline"), f"belongs to {names}, and none is given"


def _queue_size(path: str, queue: SizeText) -> Iterator[Mistake]:
    if not QUEUE_BYTES_MIN <= queue.bytes <= QUEUE_BYTES_MAX:
        yield _at(path, "queue"), f"{queue}: {QUEUE_WORDS}"


def _fault_times(path: str, fault: FaultSpec, kind: FaultKind) -> Iterator[Mistake]:
    if fault.after is not None and fault.after.seconds > FAULT_S_MAX:
        yield _at(path, "after"), f"{fault.after}: at most 30d"
    if fault.for_ is not None and kind == "restart":
        yield _at(path, "for"), "a restart is done once; for a time away write kill with for"
    elif fault.for_ is not None and not FAULT_S_MIN <= fault.for_.seconds <= FAULT_S_MAX:
        yield _at(path, "for"), f"{fault.for_}: {FOR_WORDS}"
    churn = fault.churn
    if churn is not None and churn.rate.per_second > CHURN_PER_S_MAX:
        yield _at(path, "churn.rate"), f"{churn.rate}: at most 10/s"
    if churn is not None and not DOWN_S_MIN <= churn.down.seconds <= DOWN_S_MAX:
        yield _at(path, "churn.down"), f"{churn.down}: from 100ms to 1h"


def _at(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _given(duration: DurationText | None) -> bool:
    return duration is not None and duration.seconds > 0


def _ns(duration: DurationText) -> int:
    return round(duration.seconds * 1e9)
