"""The tables of the HTML report: expectations, percentiles, nodes, groups and the hop tree. Each has a caption and headings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from p2pnet.measure import HopNode, HopTree
from p2pnet.measure.wording import MISSING, measured, milliseconds
from p2pnet.model.report import NodeReceipts, Report
from p2pnet.model.text import plural, some
from p2pnet.model.units import format_size
from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.words import LATENCIES, count, judged_first, outliers, worst_first

NODES_MAX = 100  # rows; a page must stay readable, the rest is in the JSON report
EXPECTATIONS_MAX = 200


def scrolled(caption: str, head: Markup, rows: Sequence[Markup], label: str) -> Markup:
    """A table that can be scrolled sideways on a narrow screen, by keyboard too."""
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def headings(names: Mapping[str, str]) -> Markup:
    """A row of column headings by their classes: `right` for numbers, `wide` for columns that a narrow screen leaves out."""
    return tag("tr", *(tag("th", name, scope="col", class_=kind or None) for name, kind in names.items()))


def badge(word: str, tone: str) -> Markup:
    """A word in a frame of a verdict's colour; the word alone says the same."""
    return tag("span", word, class_=f"badge is-{tone}")


def expectations(report: Report) -> Markup:
    """The table of expectations and measured values."""
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
    """The table of latency percentiles over all expected receipts, with bars relative to the slowest."""
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
        caption += f" A receipt that never came is infinite: {MISSING}."
    return scrolled(
        caption,
        headings({"Percentile": "", "Latency": "right", "Against the slowest": ""}),
        rows,
        "Latency percentiles",
    )


def nodes(report: Report) -> list[Content]:
    """The table of what each node got, the worst first; before it one of the groups where there are several."""
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
        tag("td", badge(why, "invalid") if why else MISSING) if marked else None,
        tag("td", f"{node.received:,} / {node.expected:,}", class_="right"),
        tag("td", milliseconds(node.p50_ms), class_="right"),
        tag("td", milliseconds(node.max_ms), class_="right"),
        tag("td", node.slowest_from or MISSING, class_="wide"),
        class_="stands-out" if why else None,
    )


def _groups(per_node: Sequence[NodeReceipts]) -> Markup | None:
    """The table of groups, by the names (`eu-3` is of `eu`); None where there is only one."""
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
        return MISSING
    low, high = milliseconds(min(values)), milliseconds(max(values))
    return low if low == high else f"{low} to {high}"


def _meter(value: float | None, whole: float) -> Markup | None:
    if value is None or whole <= 0:
        return None
    share = max(0.0, min(100.0, value / whole * 100))
    return tag("span", tag("i", style=f"width:{share:.1f}%"), class_="meter", aria_hidden="true")


ROWS_MAX = 60
NAMES_MAX = 40
_COLUMNS = {
    "Node": "", "From": "wide", "Hop": "right", "Wait": "right", "Received": "right", "On the way": "wide",
    "Duplicates": "right wide",
}  # fmt: skip


def journey(tree: HopTree, name: str, *, late: bool) -> list[Content]:
    """The section about one artifact's hop tree. `late`: some receipts may be ones that the report counts as missed."""
    content: list[Content] = [tag("p", *_facts(tree, name))]
    if len(tree.critical_path) > 1:
        content.append(tag("p", "Critical path: ", tag("strong", _path(tree.critical_path))))
    if tree.nodes:
        content.append(_table(tree))
    if late and tree.nodes:
        content.append(tag("p", "Receipts that came too late to count are drawn here all the same.", class_="hint"))
    if tree.unreached:
        content.append(tag("p", tag("strong", "No receipt on record: "), some(tree.unreached, NAMES_MAX)))
    return content


def _facts(tree: HopTree, name: str) -> list[Content]:
    size = "" if tree.size is None else f", {format_size(tree.size)}"
    hops = "" if tree.hops_max is None else f", {plural(tree.hops_max, 'hop')} at most"
    wasted = f" ({format_size(tree.duplicate_bytes)} wasted)" if tree.duplicate_bytes else ""
    return [
        f"{name} " if name else None,
        tag("span", tree.artifact, class_="mono"),
        f"{size}, published by {tree.publisher or 'nobody on record'}: {plural(len(tree.nodes), 'receipt')}{hops}, ",
        f"{plural(tree.duplicates, 'duplicate')}{wasted}.",
    ]


def _path(path: list[str]) -> str:
    if len(path) > NAMES_MAX:
        path = [*path[: NAMES_MAX // 2], "…", *path[-NAMES_MAX // 2 :]]
    return " → ".join(path)


def _table(tree: HopTree) -> Markup:
    rows = _rows(tree)
    kept = _kept(tree, rows)
    last_ms = max((node.latency_ms or 0.0 for _, node in rows), default=0.0)
    shown = [_row(depth, node, last_ms) for depth, node in rows if node.node in kept]
    caption = "Indented below its source; the bar is the wait between the source's receipt and its own."
    if len(shown) < len(rows):
        caption += f" {len(shown)} of {len(rows):,} receipts: the critical path and the slowest."
    return scrolled(caption, headings(_COLUMNS), [_root(tree), *shown], "Hop tree")


def _root(tree: HopTree) -> Markup:
    return tag(
        "tr",
        tag("th", tree.publisher or "unknown", _mark("published"), scope="row", class_="name"),
        tag("td", "published", class_="wide"),
        tag("td", "0", class_="right"),
        tag("td", MISSING, class_="right"),
        tag("td", milliseconds(0.0), class_="right"),
        tag("td", class_="wide"),
        tag("td", MISSING, class_="right wide"),
        class_="critical" if tree.critical_path and tree.critical_path[0] == tree.publisher else None,
    )


def _row(depth: int, node: HopNode, last_ms: float) -> Markup:
    source: list[Content] = [node.parent or "unknown"]
    if node.orphan:
        source.append(" (no receipt of its own on record)")
    elif node.edge_ms is None:
        source.append(" (before it had all of it itself)")
    name = tag(
        "span", node.node, _mark("on the critical path") if node.critical else None, class_="hop", style=_deep(depth)
    )
    return tag(
        "tr",
        tag("th", name, scope="row", class_="name"),
        tag("td", *source, class_="wide"),
        tag("td", node.hop, class_="right"),
        tag("td", MISSING if node.edge_ms is None else f"+{milliseconds(node.edge_ms)}", class_="right"),
        tag("td", milliseconds(node.latency_ms), class_="right"),
        tag("td", _bar(node, last_ms), class_="wide"),
        tag("td", node.duplicates or MISSING, class_="right wide"),
        class_="critical" if node.critical else None,
    )


def _mark(meaning: str) -> Markup:
    """A meaning that colour shows, in text for screen readers."""
    return tag("span", f" ({meaning})", class_="sr-only")


def _deep(depth: int) -> str:
    return f"--depth:{min(depth, 10)}"


def _bar(node: HopNode, last_ms: float) -> Markup | None:
    if node.latency_ms is None or last_ms <= 0:
        return None
    start = max(0.0, node.latency_ms - (node.edge_ms or 0.0)) / last_ms * 100
    width = max(0.0, min(100.0 - start, (node.edge_ms or 0.0) / last_ms * 100))
    bar = tag("i", style=f"left:{min(start, 99):.2f}%;width:{width:.2f}%")
    return tag("span", bar, class_="wait", aria_hidden="true")


def _rows(tree: HopTree) -> list[tuple[int, HopNode]]:
    """Depth and receipt of each row, depth first in the order of arrival; orphans at depth 1. Not recursive: chains are long."""
    children: dict[str, list[HopNode]] = defaultdict(list)
    loose: list[HopNode] = []
    for node in tree.nodes:
        if node.orphan:
            loose.append(node)
        else:
            children[node.parent].append(node)
    pending = [(1, node) for node in reversed([*children.pop(tree.publisher or "", []), *loose])]
    rows: list[tuple[int, HopNode]] = []
    while pending:
        depth, node = pending.pop()
        rows.append((depth, node))
        pending += [(depth + 1, child) for child in reversed(children.pop(node.node, []))]
    return rows


def _kept(tree: HopTree, rows: list[tuple[int, HopNode]]) -> set[str]:
    """The nodes to show: all, or ROWS_MAX at most, the critical path and then the slowest with the nodes leading to them."""
    nodes = {node.node: node for _, node in rows}
    if len(nodes) <= ROWS_MAX:
        return set(nodes)
    kept = {name for name in tree.critical_path[-ROWS_MAX:] if name in nodes}
    for node in sorted(nodes.values(), key=lambda one: -(one.latency_ms or 0.0)):
        way: list[str] = []
        name = node.node
        while name in nodes and name not in kept and len(way) <= ROWS_MAX:
            way.append(name)
            name = "" if nodes[name].orphan else nodes[name].parent
        if len(kept) + len(way) <= ROWS_MAX:
            kept.update(way)
    return kept
