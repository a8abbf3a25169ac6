"""The rich HTML report: one file with charts and a moving picture of the network, which asks nothing of any network.

Everything to read stands in the page without its scripts; they add what is drawn. The policy lets the browser run these
scripts alone, by their digests, and load nothing.
"""

from collections.abc import Sequence

from p2pnet.measure.wording import stage_lines
from p2pnet.model.report import Report
from p2pnet.model.text import plural
from p2pnet.present import network, summary, tables
from p2pnet.present.markup import Content, Markup, join, tag
from p2pnet.present.scripted import SCRIPTS, digest, drawn, head, part, script
from p2pnet.present.slow import slowest
from p2pnet.present.view import DrawnRun, Surroundings, encoded, view_of
from p2pnet.present.words import NOT_IN_FORCE, VERDICTS, latency_name

NO_RECEIPT = "No receipt came: nothing was slow, and nothing was fast."
_PARTS = (
    ("summary", "Summary"), ("latency", "Latency"), ("hops", "Hops"), ("reach", "Reach"), ("network", "Network"),
    ("traffic", "Links"), ("duplicates", "Duplicates"), ("slow", "Slowest"), ("faults", "Faults"), ("series", "Series"),
    ("provenance", "Provenance"),
)  # fmt: skip


def to_full_html(runs: Sequence[DrawnRun], around: Surroundings | None = None) -> str:
    """The whole page about the first of these runs; the latencies of the others are drawn beside its own."""
    report = runs[0].report
    policy = "; ".join([
        "default-src 'none'", f"script-src {' '.join(digest(script(name)) for name in SCRIPTS)}",
        "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'", "form-action 'none'",
    ])  # fmt: skip
    top = head(
        f"{VERDICTS[report.verdict]}: run {report.run} of {report.subnet}",
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
    )
    data = tag(
        "script", Markup(encoded(view_of(runs, around or Surroundings()))), type="application/json", id="view-data"
    )
    scripts = [tag("script", Markup(script(name))) for name in SCRIPTS]
    body = tag("body", _bar(report), tag("main", *_content(runs, around or Surroundings())), data, *scripts)
    return f"<!doctype html>\n{tag('html', top, body, lang='en')}\n"


def _bar(report: Report) -> Markup:
    links = [tag("a", title, href=f"#{key}") for key, title in _PARTS]
    theme = tag("button", "Dark", type="button", id="theme", class_="ghost", hidden=True)
    name = tag("span", VERDICTS[report.verdict], class_=f"badge is-{report.verdict}")
    return tag(
        "div",
        tag("a", "Skip to the report", href="#summary", class_="skip"),
        tag("div", tag("strong", report.subnet, class_="bar-name"), name, class_="bar-title"),
        tag("nav", *links, aria_label="Parts of the report"),
        theme,
        class_="bar",
    )


def _content(runs: Sequence[DrawnRun], around: Surroundings) -> list[Content]:
    first = runs[0]
    report, spread = first.report, first.propagation
    names = dict(zip(first.run.artifacts, first.run.names, strict=False)) if first.run else {}
    facts = [summary.facts(report, first.run), summary.artifacts(report, names), summary.spec(first.run)]
    others = _others(runs)
    return [
        tag("div", summary.verdict(report), summary.tiles(report), id="summary", class_="part"),
        summary.lines("Why the run is invalid", report.invalid, "is-invalid"),
        summary.lines(NOT_IN_FORCE, report.ignored, "is-invalid"),
        tag(
            "p",
            "The drawings need scripts, which are part of this file and load nothing.",
            class_="card",
            id="unscripted",
        ),
        tag(
            "div",
            part("latency", latency_name(report), others, drawn("latency")),
            tag(
                "div",
                part("expectations", "Expectations", tables.expectations(report)) if report.expectations else None,
                part("percentiles", "Percentiles", tables.percentiles(report)),
                summary.lines("By stage of the load", stage_lines(report), ""),
                class_="stack",
            ),
            part("hops", "Latency per hop", drawn("hops")),
            part("reach", "Reach over time", drawn("reach")),
            class_="columns",
        ),
        part("network", "Network", drawn("network")),
        tag(
            "div",
            part("traffic", "Bytes per link", drawn("traffic")),
            tag("div", part("duplicates", "Duplicates", drawn("duplicates")), _notes(report), class_="stack"),
            class_="columns",
        ),
        part("slow", "Slowest nodes and links", slowest(report, spread, NO_RECEIPT, around.slow)),
        part(
            "faults",
            "Faults and the network, asked and seen",
            drawn("faults"),
            network.asked_and_seen(report.faults, report.network, "Nothing was shaped in this run."),
        ),
        part("series", "Series per node", drawn("series"), _findings(report)),
        part(
            "nodes",
            "Nodes",
            tag("details", tag("summary", plural(len(report.per_node), "node")), *tables.nodes(report)),
        )
        if report.per_node
        else None,
        part("provenance", "Provenance", *facts),
        tag("footer", f"Report {report.schema}. Times are in UTC. This file loads nothing."),
    ]


def _others(runs: Sequence[DrawnRun]) -> Markup | None:
    """What the other curves are, for those who do not see them."""
    if len(runs) < 2:
        return None
    return tag("p", f"Beside it: {', '.join(one.report.label or one.report.run for one in runs[1:])}.", class_="hint")


def _notes(report: Report) -> Markup | None:
    return summary.lines("Notes", report.notes, "")


def _findings(report: Report) -> Markup | None:
    return join([tag("h3", "What stands out"), network.findings(report.findings)]) if report.findings else None
