"""The tables of the HTML report: expectations, percentiles, nodes, groups. Every one has a caption and headings."""

from collections.abc import Mapping, Sequence

from p2pnet.measure.wording import measured
from p2pnet.model.report import NodeReceipts, Report
from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.words import (
    DASH,
    LATENCIES,
    count,
    judged_first,
    milliseconds,
    outliers,
    plural,
    worst_first,
)

NODES_MAX = 100
EXPECTATIONS_MAX = 200


def scrolled(caption: str, head: Markup, rows: Sequence[Markup], label: str) -> Markup:
    """A table that a narrow screen can move sideways, by keyboard too."""
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def headings(names: Mapping[str, str]) -> Markup:
    """A row of column headings with their classes: `right` for numbers, `wide` for what a narrow screen leaves out."""
    return tag("tr", *(tag("th", name, scope="col", class_=kind or None) for name, kind in names.items()))


def badge(word: str, tone: str) -> Markup:
    """A word in a frame of the colour of a verdict; the word says it too."""
    return tag("span", word, class_=f"badge is-{tone}")


def expectations(report: Report) -> Markup:
    """What was expected, what was measured."""
    results = judged_first(report)
    rows = [
        tag(
            "tr",
            tag("th", tag("code", result.expr), scope="row"),
            tag("td", measured(result), class_="right"),
            tag("td", badge("held", "pass") if result.ok else badge("not held", "fail")),
        )
        for result in results[:EXPECTATIONS_MAX]
    ]
    held = sum(result.ok for result in results)
    caption = f"{held} of {len(results)} held{', the others come first' if 0 < held < len(results) else ''}."
    if report.verdict == "invalid":
        caption += " The run is invalid: what held may not hold."
    if len(results) > EXPECTATIONS_MAX:
        caption += f" {len(results) - EXPECTATIONS_MAX} more are left out."
    return scrolled(caption, headings({"Expectation": "", "Measured": "right", "Result": ""}), rows, "Expectations")


def percentiles(report: Report) -> Markup:
    """Latency over all expected receipts, each with a bar against the slowest."""
    values = {name: getattr(report.latency_ms, name) for name in LATENCIES}
    slowest = max((value for value in values.values() if value is not None), default=0.0)
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", milliseconds(value), class_="right"),
            tag("td", _meter(value, slowest)),
        )
        for name, value in values.items()
    ]
    caption = "From publication to first validation, over all receipts expected."
    if None in values.values():
        caption += f" A receipt that never came is infinite: {DASH}."
    return scrolled(
        caption,
        headings({"Percentile": "", "Latency": "right", "Against the slowest": ""}),
        rows,
        "Latency percentiles",
    )


def nodes(report: Report) -> list[Content]:
    """What each node got, the worst first; a word about each group where there are several."""
    marked = outliers(report.per_node, report.clock_bound_ms)
    ordered = sorted(worst_first(report.per_node), key=lambda node: node.node not in marked)
    caption = f"{plural(len(marked), 'node')} of {len(ordered):,} stand out." if marked else "No node stands out."
    if len(marked) == 1:
        caption = f"1 node of {len(ordered):,} stands out."
    if len(ordered) > NODES_MAX:
        caption += f" The worst {NODES_MAX} are shown."
    rows = [_node(node, marked) for node in ordered[:NODES_MAX]]
    odd = {"Stands out": ""} if marked else {}
    numbers = {"Received": "right", "p50": "right", "Slowest": "right"}
    head = headings({"Node": "", **odd, **numbers, "Slowest came from": "wide"})
    content: list[Content] = []
    if groups := _groups(report.per_node):
        content.append(groups)
    return [*content, scrolled(caption, head, rows, "Nodes")]


def _node(node: NodeReceipts, marked: Mapping[str, str]) -> Markup:
    why = marked.get(node.node)
    return tag(
        "tr",
        tag("th", node.node, scope="row", class_="name"),
        tag("td", badge(why, "invalid") if why else DASH) if marked else None,
        tag("td", f"{node.received:,} / {node.expected:,}", class_="right"),
        tag("td", milliseconds(node.p50_ms), class_="right"),
        tag("td", milliseconds(node.max_ms), class_="right"),
        tag("td", node.slowest_from or DASH, class_="wide"),
        class_="stands-out" if why else None,
    )


def _groups(per_node: Sequence[NodeReceipts]) -> Markup | None:
    """By the group in the names (`eu-3` is of `eu`); None for a single one."""
    groups: dict[str, list[NodeReceipts]] = {}
    for node in per_node:
        groups.setdefault(node.node.rpartition("-")[0] or node.node, []).append(node)
    if len(groups) < 2 or len(groups) == len(per_node):
        return None
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", count(len(members)), class_="right"),
            tag("td", f"{sum(m.received for m in members):,} / {sum(m.expected for m in members):,}", class_="right"),
            tag("td", _span([m.p50_ms for m in members if m.p50_ms is not None]), class_="right wide"),
            tag(
                "td",
                milliseconds(max((m.max_ms for m in members if m.max_ms is not None), default=None)),
                class_="right",
            ),
        )
        for name, members in list(groups.items())[:NODES_MAX]
    ]
    head = headings({"Group": "", "Nodes": "right", "Received": "right", "Node p50": "right wide", "Slowest": "right"})
    return scrolled("By group.", head, rows, "Groups")


def _span(values: list[float]) -> str:
    if not values:
        return DASH
    low, high = milliseconds(min(values)), milliseconds(max(values))
    return low if low == high else f"{low} to {high}"


def _meter(value: float | None, whole: float) -> Markup | None:
    if value is None or whole <= 0:
        return None
    share = max(0.0, min(100.0, value / whole * 100))
    return tag("span", tag("i", style=f"width:{share:.1f}%"), class_="meter", aria_hidden="true")
