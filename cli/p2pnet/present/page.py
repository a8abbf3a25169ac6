"""The HTML report: one self-contained file without scripts, to be mailed, archived and printed."""

from p2pnet.measure import HopTree
from p2pnet.measure.wording import stage_lines
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.model.text import plural
from p2pnet.present import network, summary, tables
from p2pnet.present.chart import cdf
from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.style import sheet
from p2pnet.present.tables import journey
from p2pnet.present.words import (
    NOT_IN_FORCE,
    VERDICTS,
    latency_name,
)

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
        summary.verdict(report),
        summary.tiles(report),
        summary.lines("Why the run is invalid", report.invalid, "is-invalid"),
        summary.lines(NOT_IN_FORCE, report.ignored, "is-invalid"),
        summary.card("Expectations", tables.expectations(report)) if report.expectations else None,
        summary.card("Network", network.rules(report.network)) if report.network else None,
        summary.card("Faults", network.faults(report.faults)) if report.faults else None,
        _latency(report),
        summary.card("What stands out", network.findings(report.findings)) if report.findings else None,
        summary.lines("By stage of the load", stage_lines(report), ""),
        summary.lines("Notes", report.notes, ""),
        summary.card("Nodes", *tables.nodes(report)) if report.per_node else None,
        summary.card(_telling(tree), *journey(tree, names.get(tree.artifact, ""), late=missed)) if tree else None,
        summary.card("Facts", summary.facts(report, run), summary.artifacts(report, names), summary.spec(run)),
        tag("footer", f"Report {report.schema}. Times are in UTC."),
    ]


def _telling(tree: HopTree) -> str:
    """The heading of the hop tree: which artifact it is, see `Report.slowest`."""
    return "The artifact that missed most nodes" if tree.unreached else "The slowest artifact"


def _latency(report: Report) -> Markup:
    curve = cdf(report)
    if curve is None:
        return summary.card(latency_name(report), tag("p", "No receipt came: there is nothing to draw."))
    negative = None
    if report.negative_latencies:
        words = plural(report.negative_latencies, "receipt")
        negative = tag("p", f"{words} came before the publication, as far as the clocks can tell.", class_="hint")
    figure = tag("div", curve, tag("p", "Share of all expected receipts that had come by then.", class_="hint"))
    return summary.card(
        latency_name(report), tag("div", figure, tag("div", tables.percentiles(report), negative), class_="pair")
    )
