"""The HTML report: one self-contained file without scripts, to be mailed, archived and printed."""

import msgspec

from p2pnet.measure import HopTree
from p2pnet.measure.wording import MISSING, load_parts, milliseconds, offered, percent, stage_lines
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.model.text import some
from p2pnet.model.units import format_duration, format_rate, format_size
from p2pnet.present import network, tables
from p2pnet.present.chart import cdf
from p2pnet.present.markup import Content, Markup, join, tag
from p2pnet.present.style import sheet
from p2pnet.present.tables import journey
from p2pnet.present.words import (
    NOT_IN_FORCE,
    VERDICTS,
    clock,
    count,
    duration,
    instant,
    journey_sentence,
    latency_name,
    marks,
    number,
    plural,
    times,
    verdict_sentence,
)

ARTIFACTS_MAX = 200
LINES_MAX = 200
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content Security Policy of the page: the browser loads nothing for it."""


def to_html(report: Report, run: RunFile | None = None, tree: HopTree | None = None) -> str:
    """The whole page. `run` adds names, versions and the spec; `tree` the hop tree of one artifact, best `Report.slowest`."""
    title = f"{VERDICTS[report.verdict]}: run {report.run} of {report.subnet}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Markup(sheet())),
    )
    body = tag("body", tag("main", *_content(report, run, tree)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _content(report: Report, run: RunFile | None, tree: HopTree | None) -> list[Content]:
    names = dict(zip(run.artifacts, run.names, strict=False)) if run else {}
    missed = report.reach.delivered < report.reach.expected
    return [
        _verdict(report),
        _tiles(report),
        _lines("Why the run is invalid", report.invalid, "is-invalid"),
        _lines(NOT_IN_FORCE, report.ignored, "is-invalid"),
        _card("Expectations", tables.expectations(report)) if report.expectations else None,
        _card("Network", network.rules(report.network)) if report.network else None,
        _card("Faults", network.faults(report.faults)) if report.faults else None,
        _latency(report),
        _card("What stands out", network.findings(report.findings)) if report.findings else None,
        _lines("By stage of the load", stage_lines(report), ""),
        _lines("Notes", report.notes, ""),
        _card("Nodes", *tables.nodes(report)) if report.per_node else None,
        _card(_telling(tree), *journey(tree, names.get(tree.artifact, ""), late=missed)) if tree else None,
        _card("Facts", _facts(report, run), _artifacts(report, names), _spec(run)),
        tag("footer", f"Report {report.schema}. Times are in UTC."),
    ]


def _telling(tree: HopTree) -> str:
    """The heading of the hop tree: which artifact it is, see `Report.slowest`."""
    return "The artifact that missed most nodes" if tree.unreached else "The slowest artifact"


def _card(title: str, *content: Content) -> Markup:
    return tag("section", tag("h2", title), *content, class_="card")


def _verdict(report: Report) -> Markup:
    badge = tag("span", VERDICTS[report.verdict], class_="badge")
    return tag(
        "header",
        tag("p", f"{report.subnet} on {report.target}, {instant(report.started_at)}", class_="eyebrow"),
        tag("h1", badge, tag("span", "Run ", report.run)),
        tag("p", tag("strong", verdict_sentence(report))),
        tag("p", journey_sentence(report)),
        *(tag("p", mark, class_="quiet") for mark in marks(report)),
        class_=f"verdict is-{report.verdict}",
    )


def _tiles(report: Report) -> Markup:
    reach, latency, cost, hops = report.reach, report.latency_ms, report.bytes, report.hops
    octets, artifacts = report.throughput.payload_bytes_per_s, report.throughput.artifacts_per_s
    lost = f", {report.unknown:,} unknown" if report.unknown else ""
    sent = f"{format_size(cost.sent)} sent" if cost.sent is not None else "sent: not known"
    return tag(
        "dl",
        _tile("Reach", percent(reach.ratio), f"{reach.delivered:,} of {reach.expected:,} receipts{lost}"),
        _tile("Latency p95", milliseconds(latency.p95), f"p50 {milliseconds(latency.p50)}{_under(report)}"),
        _tile("Hops", count(hops.max), f"at most; p50 {count(hops.p50)}"),
        _tile("Duplicates", number(report.duplicates_per_delivery), "whole payloads per receipt"),
        _tile("Byte cost", times(cost.ratio), f"{sent} for {format_size(cost.payload)} of payload"),
        _tile(
            "Throughput",
            MISSING if octets is None else f"{format_size(octets)}/s",
            "of payload" if artifacts is None else f"of payload; {format_rate(artifacts)} artifacts",
        ),
        class_="tiles",
    )


def _under(report: Report) -> str:
    """The load under which the latency was measured."""
    return f", {offered(report.load)}" if report.load and report.load.count > 1 else ""


def _tile(name: str, figure: str, beside: str) -> Markup:
    return tag(
        "div", tag("dt", name), tag("dd", figure, class_="figure"), tag("dd", beside, class_="beside"), class_="tile"
    )


def _latency(report: Report) -> Markup:
    curve = cdf(report)
    if curve is None:
        return _card(latency_name(report), tag("p", "No receipt came: there is nothing to draw."))
    negative = None
    if report.negative_latencies:
        words = plural(report.negative_latencies, "receipt")
        negative = tag("p", f"{words} came before the publication, as far as the clocks can tell.", class_="hint")
    figure = tag("div", curve, tag("p", "Share of all expected receipts that had come by then.", class_="hint"))
    return _card(
        latency_name(report), tag("div", figure, tag("div", tables.percentiles(report), negative), class_="pair")
    )


def _lines(title: str, lines: list[str], tone: str) -> Markup | None:
    if not lines:
        return None
    more = [f"and {len(lines) - LINES_MAX} more"] if len(lines) > LINES_MAX else []
    listed = tag("ul", *(tag("li", line) for line in [*lines[:LINES_MAX], *more]))
    return tag("section", tag("h2", title), listed, class_=f"{'verdict' if tone else 'card'} {tone}".strip())


def _facts(report: Report, run: RunFile | None) -> Markup:
    facts: list[tuple[str, str | None]] = [
        ("Run", report.run),
        ("Subnet", f"{report.subnet}, {plural(report.nodes, 'node')}, target {report.target}"),
        ("Started", instant(report.started_at)),
        ("Took", f"{duration(report)} from the first publication to the last receipt"),
        ("Load", ", ".join(load_parts(report.load)) if report.load else None),
        ("Seed", str(report.seed)),
        ("Published by", _publishers(report)),
        ("Clocks", clock(report)),
        ("Trace digest", report.digest),
    ]
    if run:
        facts += [("Asked for", _request(run.request)), ("p2pnet", run.version)]
    known = [part for key, value in facts if value for part in (tag("dt", key), tag("dd", value))]
    return tag("dl", *known, class_="facts")


def _publishers(report: Report) -> str:
    return some(report.publishers, 20) or MISSING


def _request(request: RunRequest) -> str:
    """The run as it was asked for."""
    named = [
        f"{payload.name} ({format_size(payload.size)})" if payload.size else payload.name
        for payload in request.payloads
    ]
    text = some(named, 10)
    text = f"{text or 'nothing'}, {request.count:,} times" if request.count > 1 else text or "nothing"
    rate = ""
    if request.rate:
        rate = f", {request.rate}" if isinstance(request.rate, str) else f", {request.rate:g} per second"
    return f"{text}{rate}, publisher {request.publisher}, receipts within {format_duration(request.within_s)}"


def _artifacts(report: Report, names: dict[str, str]) -> Markup | None:
    ids = report.artifact_ids
    if not ids:
        return None
    rows = [
        tag("tr", tag("th", one, scope="row", class_="mono"), tag("td", names.get(one, "") or MISSING))
        for one in ids[:ARTIFACTS_MAX]
    ]
    caption = "In the order of publication."
    if len(ids) > ARTIFACTS_MAX:
        caption += f" The first {ARTIFACTS_MAX} of {len(ids):,}."
    table = tables.scrolled(caption, tables.headings({"Artifact id": "", "Name": ""}), rows, "Artifacts")
    return tag("details", tag("summary", f"Artifacts ({len(ids):,})"), table)


def _spec(run: RunFile | None) -> Markup | None:
    if run is None or not run.spec:
        return None
    text = msgspec.json.format(msgspec.json.encode(run.spec), indent=2).decode()
    pre = tag("pre", text, tabindex=0, aria_label="Spec")
    return tag("details", tag("summary", "The Subnet document the run was made on"), join([pre]))
