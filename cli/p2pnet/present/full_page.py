"""The rich HTML report: one file with charts and a moving picture of the network, which asks nothing of any network.

Everything to read stands in the page without its scripts; they add what is drawn. The policy lets the browser run these
scripts alone, by their digests, and load nothing.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from p2pnet.measure.propagation import Propagation
from p2pnet.measure.wording import stage_lines
from p2pnet.model.report import Report
from p2pnet.present import network, summary, tables
from p2pnet.present.markup import Content, Markup, join, tag
from p2pnet.present.slow import slow_links, slow_nodes
from p2pnet.present.style import themed_sheet
from p2pnet.present.view import DrawnRun, Surroundings, encoded, view_of
from p2pnet.present.words import NOT_IN_FORCE, VERDICTS, latency_name, plural

SCRIPTS = ("libraries.js", "view.js")
"""Built from cli/page by `make page`; their licences lie beside them."""
_PARTS = (
    ("summary", "Summary"), ("latency", "Latency"), ("hops", "Hops"), ("reach", "Reach"), ("network", "Network"),
    ("traffic", "Links"), ("duplicates", "Duplicates"), ("slow", "Slowest"), ("faults", "Faults"), ("series", "Series"),
    ("provenance", "Provenance"),
)  # fmt: skip


def to_full_html(runs: Sequence[DrawnRun], around: Surroundings | None = None) -> str:
    """The whole page about the first of these runs; the latencies of the others are drawn beside its own."""
    report = runs[0].report
    policy = "; ".join([
        "default-src 'none'", f"script-src {' '.join(digest(_script(name)) for name in SCRIPTS)}",
        "style-src 'unsafe-inline'", "img-src data:", "base-uri 'none'", "form-action 'none'",
    ])  # fmt: skip
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{VERDICTS[report.verdict]}: run {report.run} of {report.subnet}"),
        tag("style", Markup(themed_sheet() + _text("full.css"))),
    )
    data = tag(
        "script", Markup(encoded(view_of(runs, around or Surroundings()))), type="application/json", id="view-data"
    )
    scripts = [tag("script", Markup(_script(name))) for name in SCRIPTS]
    body = tag("body", _bar(report), tag("main", *_content(runs)), data, *scripts)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def digest(script: str) -> str:
    """What a policy calls a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@lru_cache(maxsize=len(SCRIPTS))
def _script(name: str) -> str:
    return files("p2pnet.present").joinpath("vendor", name).read_text(encoding="utf-8")


def _text(name: str) -> str:
    return files("p2pnet.present").joinpath(name).read_text(encoding="utf-8")


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


def _content(runs: Sequence[DrawnRun]) -> list[Content]:
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
            _part("latency", latency_name(report), others, _drawn("latency")),
            tag(
                "div",
                _part("expectations", "Expectations", tables.expectations(report)) if report.expectations else None,
                _part("percentiles", "Percentiles", tables.percentiles(report)),
                summary.lines("By stage of the load", stage_lines(report), ""),
                class_="stack",
            ),
            _part("hops", "Latency per hop", _drawn("hops")),
            _part("reach", "Reach over time", _drawn("reach")),
            class_="columns",
        ),
        _part("network", "Network", _drawn("network")),
        tag(
            "div",
            _part("traffic", "Bytes per link", _drawn("traffic")),
            tag("div", _part("duplicates", "Duplicates", _drawn("duplicates")), _notes(report), class_="stack"),
            class_="columns",
        ),
        _part("slow", "Slowest nodes and links", *_slow(report, spread)),
        _part("faults", "Faults and the network, asked and seen", _drawn("faults"), *_asked(report)),
        _part("series", "Series per node", _drawn("series"), _findings(report)),
        _part(
            "nodes",
            "Nodes",
            tag("details", tag("summary", plural(len(report.per_node), "node")), *tables.nodes(report)),
        )
        if report.per_node
        else None,
        _part("provenance", "Provenance", *facts),
        tag("footer", f"Report {report.schema}. Times are in UTC. This file loads nothing."),
    ]


def _part(key: str, title: str, *content: Content) -> Markup:
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, *content, id=key, class_="card part", aria_labelledby=f"{key}-title")


def _drawn(key: str) -> Markup:
    """Where the page's script draws."""
    return tag("div", data_view=key, class_="drawn")


def _others(runs: Sequence[DrawnRun]) -> Markup | None:
    """What the other curves are, for those who do not see them."""
    if len(runs) < 2:
        return None
    return tag("p", f"Beside it: {', '.join(one.report.label or one.report.run for one in runs[1:])}.", class_="hint")


def _slow(report: Report, spread: Propagation | None) -> list[Content]:
    if spread is None or not spread.slowest:
        return [tag("p", "No receipt came: nothing was slow, and nothing was fast.", class_="empty")]
    return [slow_nodes(report, spread), slow_links(report, spread)]


def _asked(report: Report) -> list[Content]:
    return [
        network.faults(report.faults) if report.faults else None,
        network.rules(report.network)
        if report.network
        else tag("p", "Nothing was shaped in this run.", class_="empty"),
    ]


def _notes(report: Report) -> Markup | None:
    return summary.lines("Notes", report.notes, "")


def _findings(report: Report) -> Markup | None:
    return join([tag("h3", "What stands out"), network.findings(report.findings)]) if report.findings else None
