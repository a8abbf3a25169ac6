"""The report of a run as a person reads it: reach, latency, cost, outliers, verdict."""

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import network, text
from p2pnet.cli.terminal import clean
from p2pnet.measure import most_telling
from p2pnet.measure.wording import (
    adversary_parts,
    is_burst,
    load_parts,
    measured,
    offered,
    stage_lines,
    throughput_parts,
)
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.report import NodeReceipts, Report
from p2pnet.model.text import plural
from p2pnet.model.units import format_size

OUTLIERS = 5
VERDICT_STYLE = {"pass": "bold green", "fail": "bold red", "invalid": "bold magenta"}


def draw(report: Report, width: int, *, ascii_only: bool) -> RenderableType:
    """Some nine lines, fewer when nothing was measured; more where the network was emulated."""
    lines: list[RenderableType] = [
        *text.flow("run", _headline(report, ascii_only=ascii_only), width),
        *text.flow("load", [*load_parts(report.load)] if report.load else [], width),
        *text.flow("honest", adversary_parts(report.adversaries, report.nodes), width, style="bold yellow"),
        *text.ignored_lines(report.ignored, width),
        *network.network_block(report.network, report.invalid, width),
        *network.fault_lines(report.faults, width),
        *text.flow("reach", _reach(report, width, ascii_only=ascii_only), width),
        *text.flow("latency", _latency(report), width),
        *(line for one in stage_lines(report) for line in text.flow("stage", [one], width)),
        *text.flow("cdf", _distribution(report, ascii_only=ascii_only), width),
        *text.flow("rate", [*throughput_parts(report)], width),
        *text.flow("missing", _missing(report), width, style="bold yellow"),
        *text.flow("artifact", _artifacts(report), width),
        *text.flow("digest", [report.digest or ""], width, style="dim"),
        *network.finding_lines(report.findings, width),
    ]
    for note in report.notes:
        lines += text.flow("note", [note], width, style="dim")
    return Group(*lines, *_verdict(report, width))


def _headline(report: Report, *, ascii_only: bool) -> list[Text | str]:
    within = "+-" if ascii_only else "±"
    size = ""
    if report.artifacts and report.payload_bytes:
        size = f" of {format_size(report.payload_bytes / report.artifacts)}"
    host = "one host" if report.clock_bound_ms == 0 else "clocks compared"
    clock = f"clock {within}{report.clock_bound_ms:.1f} ms ({host})"
    marks = [mark for mark, set_ in (("shared", report.shared), ("packed", report.packed)) if set_]
    client = f"client {report.client}" if report.load is None and report.client != DEFAULT_CLIENT else ""
    return [
        Text(report.run, style="bold cyan"),
        Text(clean(report.label), style="bold"),
        f"{plural(report.artifacts, 'artifact')}{size} to {plural(report.nodes, 'node')}",
        _publishers(report),
        client,
        Text("simulated in virtual time", style="cyan") if report.target == "sim" else clock,
        report.state if report.state != "finished" else "",
        *(Text(mark, style="yellow") for mark in marks),
    ]


def _publishers(report: Report) -> str:
    seed = "" if report.load else f" (seed {report.seed})"
    match report.publishers:
        case []:
            return "" if report.load else f"seed {report.seed}"
        case [one]:
            return f"from {one}{seed}"
        case many:
            return f"from {len(many)} nodes{seed}"


def _reach(report: Report, width: int, *, ascii_only: bool) -> list[Text | str]:
    reach = report.reach
    cells = 20 if width < 120 else 40
    drawn = text.bar(reach.ratio, cells, ascii_only=ascii_only)
    drawn.append(f" {reach.delivered}/{reach.expected} {text.percent(reach.ratio)}")
    duplicates, ratio = report.duplicates_per_delivery, report.bytes.ratio
    return [
        drawn,
        f"duplicates {text.DASH if duplicates is None else f'{duplicates:.2f}'} per delivery",
        f"bytes {text.DASH if ratio is None else f'{ratio:.2f}x'} payload",
        Text(f"unknown {report.unknown}", style="yellow") if report.unknown else "",
    ]


def _latency(report: Report) -> list[Text | str]:
    latency = report.latency_ms
    named = (
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p95", latency.p95),
        ("p99", latency.p99),
        ("max", latency.max),
    )
    drawn = Text("  ").join(Text.assemble((f"{name} ", "dim"), text.milliseconds(value)) for name, value in named)
    hops = f"hops p50 {text.count(report.hops.p50)} max {text.count(report.hops.max)}"
    negative = f"{report.negative_latencies} negative" if report.negative_latencies else ""
    under = Text(f"in {offered(report.load)}", style="dim") if report.load and is_burst(report.load) else ""
    return [drawn, hops, under, Text(negative, style="yellow")]


def _distribution(report: Report, *, ascii_only: bool) -> list[Text | str]:
    points = report.cdf_ms
    if not points:
        return []
    line = text.sparkline(points, 24, ascii_only=ascii_only)
    drawn = Text.assemble(f"{text.milliseconds(points[0])} ", (line, "cyan"), f" {text.milliseconds(points[-1])}")
    return [drawn, _slowest(report.per_node)]


def _slowest(nodes: list[NodeReceipts]) -> str:
    timed = [node for node in nodes if node.max_ms is not None]
    if not timed:
        return ""
    worst = max(timed, key=lambda node: node.max_ms or 0.0)
    via = f" (from {worst.slowest_from})" if worst.slowest_from else ""
    return f"slowest {worst.node}{via}"


def _missing(report: Report) -> list[Text | str]:
    short = sorted(
        (node for node in report.per_node if node.received < node.expected),
        key=lambda node: node.received - node.expected,
    )
    parts: list[Text | str] = [f"{node.node} {node.received}/{node.expected}" for node in short[:OUTLIERS]]
    if len(short) > OUTLIERS:
        parts.append(f"and {len(short) - OUTLIERS} more nodes")
    return parts


def _artifacts(report: Report) -> list[Text | str]:
    ids = report.artifact_ids
    if not ids:
        return []
    telling = most_telling(report)
    if len(ids) == 1:
        return [Text(telling, style="cyan")]
    missed = report.reach.delivered < report.reach.expected - report.unknown
    why = "" if not report.slowest else "missed most" if missed else "slowest"
    return [Text(telling, style="cyan"), why, f"and {len(ids) - 1} more (see -o json)"]


def _verdict(report: Report, width: int) -> list[Text]:
    style = VERDICT_STYLE[report.verdict]
    lines: list[Text] = []
    label = report.verdict.upper()
    for reason in report.invalid:
        lines += text.flow(label if not lines else "", [reason], width, style=style)
    for result in report.expectations:
        value = measured(result) if result.value is None else f"measured {measured(result)}"
        mark = "ok  " if result.ok else "MISS"
        part = Text.assemble((mark, "green" if result.ok else "red"), f" {result.expr}  ({value})")
        lines += text.flow(label if not lines else "", [part], width, style=style)
    return lines or [Text(label, style=style)]
