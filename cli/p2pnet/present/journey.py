"""The hop tree of one artifact as a table: who got it from whom, and where the time went."""

from collections import defaultdict

from p2pnet.measure import HopNode, HopTree
from p2pnet.model.text import some
from p2pnet.model.units import format_size
from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.tables import headings, scrolled
from p2pnet.present.words import DASH, milliseconds, plural

ROWS_MAX = 60
NAMES_MAX = 40
_COLUMNS = {
    "Node": "", "From": "wide", "Hop": "right", "Wait": "right", "Received": "right", "On the way": "wide",
    "Duplicates": "right wide",
}  # fmt: skip


def journey(tree: HopTree, name: str, *, late: bool) -> list[Content]:
    """What a section about the tree holds. `late`: receipts may have come that the report counts as missed."""
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
        tag("td", DASH, class_="right"),
        tag("td", milliseconds(0.0), class_="right"),
        tag("td", class_="wide"),
        tag("td", DASH, class_="right wide"),
        class_="critical" if tree.critical_path and tree.critical_path[0] == tree.publisher else None,
    )


def _row(depth: int, node: HopNode, last_ms: float) -> Markup:
    source: list[Content] = [node.parent or "unknown"]
    if node.orphan:
        source.append(" (no receipt of its own on record)")
    name = tag(
        "span", node.node, _mark("on the critical path") if node.critical else None, class_="hop", style=_deep(depth)
    )
    return tag(
        "tr",
        tag("th", name, scope="row", class_="name"),
        tag("td", *source, class_="wide"),
        tag("td", node.hop, class_="right"),
        tag("td", DASH if node.edge_ms is None else f"+{milliseconds(node.edge_ms)}", class_="right"),
        tag("td", milliseconds(node.latency_ms), class_="right"),
        tag("td", _bar(node, last_ms), class_="wide"),
        tag("td", node.duplicates or DASH, class_="right wide"),
        class_="critical" if node.critical else None,
    )


def _mark(meaning: str) -> Markup:
    """For those who do not see the colour."""
    return tag("span", f" ({meaning})", class_="sight")


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
    """Depth first, in the order of arrival; orphans stand at the first depth. Not recursive: a chain can be long."""
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
    """The nodes to show: all, or the critical path and then the slowest with the way to them, as many as there is room."""
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
