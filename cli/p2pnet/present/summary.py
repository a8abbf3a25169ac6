"""What both HTML pages say of a run in the same words: verdict, main figures, lists, facts."""

import msgspec

from p2pnet.measure.wording import MISSING, load_parts, milliseconds, offered, percent
from p2pnet.model.jobs import RunFile, RunRequest
from p2pnet.model.report import Report
from p2pnet.model.text import plural, some
from p2pnet.model.units import format_duration, format_rate, format_size
from p2pnet.present import tables
from p2pnet.present.markup import Content, Markup, join, tag
from p2pnet.present.words import (
    VERDICTS,
    clock,
    count,
    duration,
    instant,
    journey_sentence,
    marks,
    number,
    times,
    verdict_sentence,
)

ARTIFACTS_MAX = 200
LINES_MAX = 200


def card(title: str, *content: Content) -> Markup:
    """A part of the page with its heading."""
    return tag("section", tag("h2", title), *content, class_="card")


def verdict(report: Report) -> Markup:
    """The head of the page: which run, and what became of it."""
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


def tiles(report: Report) -> Markup:
    """The main figures."""
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


def lines(title: str, lines: list[str], tone: str) -> Markup | None:
    """A list under a heading; None for an empty one."""
    if not lines:
        return None
    more = [f"and {len(lines) - LINES_MAX} more"] if len(lines) > LINES_MAX else []
    listed = tag("ul", *(tag("li", line) for line in [*lines[:LINES_MAX], *more]))
    return tag("section", tag("h2", title), listed, class_=f"{'verdict' if tone else 'card'} {tone}".strip())


def facts(report: Report, run: RunFile | None) -> Markup:
    """What was asked for, by which version, and what identifies it."""
    listed: list[tuple[str, str | None]] = [
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
        listed += [("Asked for", _request(run.request)), ("p2pnet", run.version)]
    known = [part for key, value in listed if value for part in (tag("dt", key), tag("dd", value))]
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


def artifacts(report: Report, names: dict[str, str]) -> Markup | None:
    """The artifacts by id and name, folded up; None without any."""
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


def spec(run: RunFile | None) -> Markup | None:
    """The document, folded up; None where it is not known."""
    if run is None or not run.spec:
        return None
    text = msgspec.json.format(msgspec.json.encode(run.spec), indent=2).decode()
    pre = tag("pre", text, tabindex=0, aria_label="Spec")
    return tag("details", tag("summary", "The Subnet document the run was made on"), join([pre]))
