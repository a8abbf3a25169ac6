"""The emulated network on the HTML page: rules as asked and as seen, faults, and what stood out."""

from collections.abc import Sequence

from p2pnet.measure import network_wording as wording
from p2pnet.measure.wording import MISSING
from p2pnet.model.report import FaultStatus, Finding, NetworkRow
from p2pnet.model.text import some
from p2pnet.present.markup import Markup, join, tag
from p2pnet.present.tables import badge, headings, scrolled

ROWS_MAX = 150  # 64 rules and as many worst links
NODES_NAMED = 6
FINDINGS_MAX = 50
_TONES = {"as asked": "pass", "not as asked": "fail", "not measured": "invalid", "modelled": "pass"}
_STATES = {"waiting": "its time had not come", "active": "in force", "ended": "over", "failed": "not in force"}


def asked_and_seen(listed: Sequence[FaultStatus], rows: Sequence[NetworkRow], nothing: str) -> Markup:
    """The tables of faults and of rules; where nothing is shaped, that sentence."""
    shaped = rules(rows) if rows else tag("p", nothing, class_="empty")
    return join([faults(listed) if listed else None, shaped])


def rules(rows: Sequence[NetworkRow]) -> Markup:
    """The table of rules and their worst links, what is not as asked first."""
    shown = sorted(rows, key=lambda row: row.ok)[:ROWS_MAX]
    how = (
        "In force by construction"
        if all(row.modelled for row in rows)
        else "Measured by probe datagrams while the run went on"
    )
    caption = f"{', '.join(wording.summary(rows))}. {how}."
    if len(rows) > len(shown):
        caption += f" {len(rows) - len(shown)} more rows are left out."
    head = headings({"Rule": "", "Links": "", "Asked": "", "Seen": "", "Probed": "wide", "Result": ""})
    return scrolled(caption[:1].upper() + caption[1:], head, [_row(row) for row in shown], "Network")


def _row(row: NetworkRow) -> Markup:
    result = [badge(wording.result_of(row), _TONES[wording.result_of(row)])]
    if row.problem:
        result.append(tag("div", row.problem))
    return tag(
        "tr",
        tag("th", row.rule, scope="row", class_="words"),
        tag("td", f"worst: {wording.link_of(row)}" if row.worst else wording.link_of(row), class_="words"),
        tag("td", _unbroken(wording.asked_of(row))),
        tag("td", _unbroken(wording.seen_of(row))),
        tag("td", wording.probed(row), class_="wide"),
        tag("td", *result),
        class_=None if row.ok else "stands-out",
    )


def _unbroken(figures: str) -> str:
    """With no line break between a number and its unit."""
    return ", ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in figures.split(", "))


def faults(listed: Sequence[FaultStatus]) -> Markup:
    """The table of faults of a run."""
    rows = [
        tag(
            "tr",
            tag("th", fault.name, scope="row", class_="words"),
            tag("td", fault.what, class_="words"),
            tag("td", some(fault.nodes, NODES_NAMED) or MISSING, class_="wide"),
            tag("td", wording.span_of(fault).removeprefix(", ") or MISSING),
            tag("td", _STATES[fault.state], f": {fault.detail}" if fault.detail else None),
        )
        for fault in listed
    ]
    head = headings({"Fault": "", "What": "", "Nodes": "wide", "When": "", "State": ""})
    return scrolled("Ordered while the run went on, or before it.", head, rows, "Faults")


def findings(listed: Sequence[Finding]) -> Markup:
    """What stands out in the time series, the gravest first."""
    more = [tag("li", f"and {len(listed) - FINDINGS_MAX} more")] if len(listed) > FINDINGS_MAX else []
    return tag("ul", *(tag("li", wording.finding_words(one)) for one in listed[:FINDINGS_MAX]), *more)
