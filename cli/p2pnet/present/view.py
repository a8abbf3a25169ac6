"""What the rich page draws, as one JSON document: a snapshot of a run, and its receipts as the events that a run appends.

Columns instead of rows, whole numbers where they do, and bounds on all that grows with nodes, artifacts or time; what is left
out is said in the document. The page's own code (cli/page/src) reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from p2pnet.measure import network_wording as wording
from p2pnet.measure import parse
from p2pnet.measure.propagation import DrawnJourney, LinkUse, Propagation, ReachCurve, SpreadSums
from p2pnet.measure.sampled import KINDS, SampledNodes
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import member_order
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import FaultStatus, NetworkRow, Report
from p2pnet.present.layouts import Edge, by_links, on_earth, places_of
from p2pnet.present.slow import SlowHop, Telling
from p2pnet.present.words import clean, outliers, worst_first

SCHEMA = "p2pnet.io/view/v1"
LINKS_DRAWN_MAX = 40_000  # of the topology; beyond, every so-many-th is drawn
BLOCKS_MAX = 48  # rows and columns of the heat map: nodes where they are so few, else groups or ranges of nodes
SERIES_NODES_MAX = 40
FAULTS_MAX = 100
LIMITS_MAX = 8
DUPLICATE_NODES_MAX = 20

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DrawnRun:
    """One run and how its artifacts spread; a run of which only the report is known has no propagation."""

    report: Report
    run: RunFile | None = None
    propagation: Propagation | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is known of the first run's network besides: links of its document, places of nodes, samples."""

    links: Sequence[tuple[str, str]] = ()
    """Empty: not known; those that carried something stand in for them."""
    full: bool = False
    """Everybody is linked with everybody; `links` is empty then."""
    places: Mapping[str, str] = field(default_factory=dict)
    """By node."""
    series: SampledNodes | None = None
    slow: Mapping[str, SlowHop] = field(default_factory=dict)
    """By node, the hop of its slowest receipt."""


def view_of(runs: Sequence[DrawnRun], around: Surroundings) -> Json:
    """The document about the first run; of the others it has the latency curves."""
    first = runs[0]
    report, spread = first.report, first.propagation
    document: Json = {
        "schema": SCHEMA, "run": clean(report.run), "subnet": clean(report.subnet), "target": report.target,
        "verdict": report.verdict, "seed": report.seed, "latency": _latency(runs),
    }  # fmt: skip
    if spread is None or not spread.nodes:
        return document
    document |= network_of(spread, around, report.seed, report.adversaries)
    document |= _journeys(first, spread)
    document["hops"] = _hops(spread)
    document["reach"] = reach_of(spread.reach())
    document["traffic"] = traffic_of(spread, around.series)
    document["duplicates"] = duplicates_of(spread)
    document["faults"] = faults_of(report.faults, report.network, _start(first, spread))
    document["series"] = series_of(report, around.series, spread.nodes)
    return document


def encoded(document: Json) -> str:
    """The document as JSON text that no HTML around it can misread."""
    text = msgspec.json.encode(document).decode()
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


# --- parts ---


def _latency(runs: Sequence[DrawnRun]) -> Json:
    curves = []
    for one in runs:
        report = one.report
        points = (
            one.propagation.curve() if one.propagation is not None else [ms for ms in report.cdf_ms if ms is not None]
        )
        curves.append({
            "run": clean(report.run), "label": clean(report.label), "subnet": clean(report.subnet),
            "points_ms": [_short(point) for point in points], "reach": report.reach.ratio, "expected": report.reach.expected,
            **{name: getattr(report.latency_ms, name) for name in ("p50", "p95", "p99", "max")},
        })  # fmt: skip
    return {"curves": curves, "limits": _limits(runs[0].report)}


def _limits(report: Report) -> list[Json]:
    """The latencies that were expected."""
    found = []
    for result in report.expectations:
        try:
            expectation = parse(result.expr)
        except SpecError:
            continue  # a scenario's comparison with another run
        if expectation.kind == "latency":
            found.append({"expr": clean(result.expr), "ms": expectation.threshold, "ok": result.ok})
    return found[:LIMITS_MAX]


def _groups(nodes: Sequence[str]) -> Json:
    groups = list(dict.fromkeys(member_order(node)[0] for node in nodes))
    numbers = {group: number for number, group in enumerate(groups)}
    return {"groups": [clean(group) for group in groups], "group": [numbers[member_order(node)[0]] for node in nodes]}


def network_of(
    spread: SpreadSums, around: Surroundings, seed: int, adversaries: Sequence[AdversaryGroup]
) -> dict[str, Json]:
    """`nodes`, `layouts` and `links` of the document: who there is, where to draw them, and who is linked with whom."""
    edges = _edges(spread, around)
    drawn = edges[:: max(1, -(-len(edges) // LINKS_DRAWN_MAX))]
    behaviours = {node: group.behaviour for group in adversaries for node in group.nodes}
    dishonest = [number for number, node in enumerate(spread.nodes) if node in behaviours]
    return {
        "nodes": {
            "name": [clean(name) for name in spread.nodes], **_groups(spread.nodes), "adversaries": dishonest,
            "behaviours": [behaviours[spread.nodes[number]] for number in dishonest],
        },
        "layouts": _layouts(spread.nodes, edges, around, seed),
        "links": {
            "pairs": [end for edge in drawn for end in edge], "total": _link_count(spread, edges, around),
            "known": bool(around.links or around.full),
        },
    }  # fmt: skip


def _edges(spread: SpreadSums, around: Surroundings) -> list[Edge]:
    """The links of the document between nodes of the run; where they are not known, those that carried something."""
    numbers = {node: number for number, node in enumerate(spread.nodes)}
    if around.full:
        return []
    if around.links:
        return [(numbers[a], numbers[b]) for a, b in around.links if a in numbers and b in numbers]
    carried = {(min(pair), max(pair)) for pair in spread.links if min(pair) >= 0}
    return sorted(carried)


def _link_count(spread: SpreadSums, edges: Sequence[Edge], around: Surroundings) -> int:
    return len(spread.nodes) * (len(spread.nodes) - 1) // 2 if around.full else len(edges)


def _layouts(nodes: Sequence[str], edges: Sequence[Edge], around: Surroundings, seed: int) -> Json:
    near = by_links(len(nodes), edges, seed)
    layouts: Json = {"links": {"x": near.x, "y": near.y}}
    places = places_of(nodes, around.places)
    earth = on_earth(places) if places else None
    if places and earth:
        layouts["earth"] = {"x": earth.x, "y": earth.y}
        layouts["places"] = sorted({clean(place) for place in places})
    return layouts


def _journeys(one: DrawnRun, spread: Propagation) -> Json:
    """The drawn artifacts, and their receipts as batches of events: the page takes later ones in the same form."""
    names = dict(zip(one.run.artifacts, one.run.names, strict=False)) if one.run else {}
    start = spread.first_ns or 0
    journeys = spread.journeys
    return {
        "artifacts": {
            "id": [journey.artifact for journey in journeys],
            "name": [clean(names.get(journey.artifact, "")) for journey in journeys],
            "publisher": [journey.publisher for journey in journeys],
            "size": [journey.size for journey in journeys],
            "at_us": [
                None if journey.published_ns is None else (journey.published_ns - start) // 1000 for journey in journeys
            ],
            "total": one.report.artifacts,
            "first": next((n for n, journey in enumerate(journeys) if journey.artifact == one.report.slowest), 0),
        },
        "events": [_batch(number, journey) for number, journey in enumerate(journeys)],
    }


def _batch(number: int, journey: DrawnJourney) -> Json:
    batch: Json = {
        "artifact": number, "node": journey.nodes, "after_us": journey.after_us, "hop": journey.hops,
        "from": journey.senders,
    }  # fmt: skip
    if any(journey.duplicates):
        batch["duplicates"] = journey.duplicates
    return batch


def _hops(spread: Propagation) -> list[Json]:
    return [
        {
            "hop": one.hop, "count": one.receipts, "since_ms": [_short(ms) for ms in one.since_ms],
            "wait_ms": None if one.wait_ms is None else [_short(ms) for ms in one.wait_ms],
        }
        for one in spread.hops()
    ]  # fmt: skip


def reach_of(curve: ReachCurve | None) -> Json | None:
    """Receipts due and received over time; None where nothing was published on record."""
    return None if curve is None else {"span_s": curve.span_s, "due": curve.due, "received": curve.received}


def traffic_of(spread: SpreadSums, series: SampledNodes | None) -> Json:
    """Sums by pairs of blocks: a node each where there are few, else groups, else ranges of nodes."""
    labels, block, kind = blocks(spread.nodes)
    sums: dict[tuple[int, int], LinkUse] = {}
    for (source, to), use in spread.links.items():
        if source >= 0 and to >= 0:
            one = sums.setdefault((block[source], block[to]), LinkUse())
            one.receipts += use.receipts
            one.bytes += use.bytes
            one.wait_max_ms = max(one.wait_max_ms, use.wait_max_ms)
    found: Json = {
        "labels": [clean(label) for label in labels], "block": kind,
        "payload": [[source, to, one.bytes] for (source, to), one in sorted(sums.items())],
        "receipts": [[source, to, one.receipts] for (source, to), one in sorted(sums.items())],
        "wait": [[source, to, _short(one.wait_max_ms)] for (source, to), one in sorted(sums.items())],
    }  # fmt: skip
    if series is not None and series.sent_bytes:
        numbers = {node: number for number, node in enumerate(spread.nodes)}
        wire: dict[tuple[int, int], int] = {}
        for (node, peer), sent in series.sent_bytes.items():
            if node in numbers and peer in numbers:
                key = block[numbers[node]], block[numbers[peer]]
                wire[key] = wire.get(key, 0) + sent
        found["wire"] = [[source, to, sent] for (source, to), sent in sorted(wire.items())]
    return found


def blocks(nodes: Sequence[str]) -> tuple[list[str], list[int], str]:
    """Labels of at most BLOCKS_MAX blocks, the block of each node, and what they are: `node`, `group` or `range`."""
    if len(nodes) <= BLOCKS_MAX:
        return list(nodes), list(range(len(nodes))), "node"
    groups = list(dict.fromkeys(member_order(node)[0] for node in nodes))
    if 6 <= len(groups) <= BLOCKS_MAX:
        numbers = {group: number for number, group in enumerate(groups)}
        return groups, [numbers[member_order(node)[0]] for node in nodes], "group"
    size = -(-len(nodes) // BLOCKS_MAX)
    starts = range(0, len(nodes), size)
    labels = [f"{nodes[start]} … {nodes[min(start + size, len(nodes)) - 1]}" for start in starts]
    return labels, [number // size for number in range(len(nodes))], "range"


def duplicates_of(spread: SpreadSums) -> Json:
    """The nodes that got most payloads though they held them."""
    most = sorted((n for n, count in enumerate(spread.duplicates) if count), key=lambda n: (-spread.duplicates[n], n))
    shown = most[:DUPLICATE_NODES_MAX]
    return {
        "total": sum(spread.duplicates), "nodes_with": len(most), "node": shown,
        "count": [spread.duplicates[n] for n in shown], "received": [spread.received[n] for n in shown],
    }  # fmt: skip


def _start(one: DrawnRun, spread: Propagation) -> float:
    """The begin of the axis of time: the first publication, in Unix seconds."""
    offset = one.run.unix_offset_s if one.run is not None else None
    return (spread.first_ns or 0) / 1e9 + offset if offset is not None else one.report.started_at


def faults_of(faults: Sequence[FaultStatus], network: Sequence[NetworkRow], start: float) -> list[Json]:
    """Faults on the axis of time, in seconds since `start`, with what was asked and seen where it was probed."""
    return [
        {
            "name": clean(fault.name), "what": clean(fault.what), "state": fault.state, "nodes": len(fault.nodes),
            "from_s": _since(fault.since, start), "to_s": _since(_end(fault), start), **_probed(network, fault),
        }
        for fault in faults[:FAULTS_MAX]
    ]  # fmt: skip


def _end(fault: FaultStatus) -> str | None:
    """When it was over; what is done once was, as soon as it was done."""
    return fault.since if fault.until is None and fault.state == "ended" else fault.until


def _probed(network: Sequence[NetworkRow], fault: FaultStatus) -> Json:
    rows = [row for row in wording.rules_of(network) if f"fault {fault.name}" in row.rule.split(" + ")]
    if not rows:
        return {}
    return {
        "asked": clean(wording.asked_of(rows[0])),
        "seen": clean(wording.seen_of(rows[0])),
        "ok": all(r.ok for r in rows),
    }


def _since(moment: str | None, start: float) -> float | None:
    try:
        at = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - start, 3)


def series_of(
    known: Telling, series: SampledNodes | None, nodes: Sequence[str], most: int = SERIES_NODES_MAX
) -> Json | None:
    """Those that stand out first, then others in the run's order."""
    if series is None or not series.nodes:
        return None
    sampled = set(series.nodes)
    marked = outliers(known.per_node)
    telling = [one.node for one in known.findings]
    telling += [one.node for one in worst_first(known.per_node) if one.node in marked]
    order = [node for node in dict.fromkeys([*telling, *nodes]) if node in sampled]
    shown = order[:most]
    return {
        "nodes": [clean(node) for node in shown], "total": len(order), "times_s": series.times_s(), "part_s": series.part_s,
        "kinds": [
            {
                "key": kind.key, "title": kind.title, "unit": kind.unit,
                "values": [
                    [None if value is None else _short(value) for value in one] for one in series.series(number, shown)
                ],
            }
            for number, kind in enumerate(KINDS)
        ],
    }  # fmt: skip


def _short(value: float) -> float:
    """With as many digits as a drawing shows."""
    return float(f"{value:.5g}")
