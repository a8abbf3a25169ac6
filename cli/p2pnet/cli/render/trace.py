"""A hop tree: who got the artifact from whom, and which way took longest."""

from collections import defaultdict

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from p2pnet.cli.documents import Trace, TracedReceipt
from p2pnet.cli.render import text
from p2pnet.cli.render.waterfall import draw_waterfall, phase_figures
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.text import plural
from p2pnet.model.units import format_size

ROWS_MAX = 30  # above that only the critical path is drawn whole
CHILDREN_SHOWN = 3


def draw(trace: Trace, width: int, *, ascii_only: bool) -> RenderableType:
    """Facts, the tree with the critical path marked, and who was not reached."""
    return Group(
        *text.flow("artifact", [Text(trace.artifact[:16], style="bold cyan"), *_facts(trace)], width),
        *text.flow("reach", _reach(trace), width),
        *text.flow("critical", [_path(trace, ascii_only=ascii_only)], width),
        "",
        *(
            draw_waterfall(trace, width, ascii_only=ascii_only)
            if trace.waterfall
            else [_tree(trace, ascii_only=ascii_only)]
        ),
        *phase_figures(trace, width),
        *([""] if trace.unreached else []),
        *text.flow("missing", _unreached(trace), width, style="bold yellow"),
    )


def _facts(trace: Trace) -> list[str]:
    size = "" if trace.size is None else format_size(trace.size)
    return [
        " ".join(filter(None, (trace.name, size))),
        f"run {trace.run}" if trace.run else "of no run: its client's own product",
        f"client {trace.client}" if trace.client != DEFAULT_CLIENT else "",
        trace.state if trace.state != "finished" else "",
    ]


def _reach(trace: Trace) -> list[str]:
    wasted = f"{plural(trace.duplicates, 'duplicate')}"
    if trace.duplicate_bytes:
        wasted += f", {format_size(trace.duplicate_bytes)} wasted"
    hops = "" if trace.hops_max is None else f"{plural(trace.hops_max, 'hop')} at most"
    return [
        f"{trace.reached}/{trace.nodes - (1 if trace.publisher else 0)} nodes",
        f"last after {text.milliseconds(trace.latency_ms_max)}",
        hops,
        wasted,
    ]


def _path(trace: Trace, *, ascii_only: bool) -> Text:
    arrow = " > " if ascii_only else " → "
    return Text(arrow.join(trace.critical_path), style="bold magenta")


def _unreached(trace: Trace) -> list[str]:
    shown = trace.unreached[:ROWS_MAX]
    return [*shown, *([f"and {len(trace.unreached) - ROWS_MAX} more"] if len(trace.unreached) > ROWS_MAX else [])]


def _tree(trace: Trace, *, ascii_only: bool) -> Tree:
    children: dict[str | None, list[TracedReceipt]] = defaultdict(list)
    for receipt in trace.receipts:
        # an orphan's sender is not known to have had it (its events were lost): below the root, and marked
        children[None if receipt.orphan else receipt.sender].append(receipt)
    children[trace.publisher] += children.pop(None, [])
    root = Tree(Text.assemble((trace.publisher or "unknown publisher", "bold magenta"), ("  published", "dim")))
    whole = len(trace.receipts) <= ROWS_MAX
    pending = [(root, trace.publisher)]
    drawn: set[str] = set()
    while pending:  # not recursive: a chain of 500 nodes is deep
        branch, node = pending.pop()
        here = [receipt for receipt in children[node] if receipt.node not in drawn]
        shown = here if whole else _most_telling(here)
        for receipt in shown:
            drawn.add(receipt.node)
            pending.append((branch.add(_label(receipt, trace, ascii_only=ascii_only)), receipt.node))
        if len(here) > len(shown):
            branch.add(Text(f"and {len(here) - len(shown)} more, {_span(here)}", style="dim"))
    return root


def _most_telling(receipts: list[TracedReceipt]) -> list[TracedReceipt]:
    """The critical one and the slowest; order of arrival is kept."""
    ranked = sorted(receipts, key=lambda one: (not one.critical, -(one.latency_ms or 0.0)))[:CHILDREN_SHOWN]
    return [receipt for receipt in receipts if receipt in ranked]


def _span(receipts: list[TracedReceipt]) -> str:
    times = [receipt.latency_ms for receipt in receipts if receipt.latency_ms is not None] or [0.0]
    return f"{text.milliseconds(min(times))} to {text.milliseconds(max(times))}"


def _label(receipt: TracedReceipt, trace: Trace, *, ascii_only: bool) -> Text:
    edge = "" if receipt.edge_ms is None else f"+{text.milliseconds(receipt.edge_ms)}"
    line = Text.assemble((receipt.node, "bold magenta" if receipt.critical else ""), f"  {edge}")
    if receipt.hop > 1 and receipt.latency_ms is not None:
        line.append(f"  = {text.milliseconds(receipt.latency_ms)}", style="dim")
    if receipt.duplicates:
        line.append(f"  {plural(receipt.duplicates, 'duplicate')}", style="yellow")
    if receipt.edge_ms is None and not receipt.orphan and receipt.latency_ms is not None:
        line.append(f"  passed on before {receipt.sender} had all of it", style="dim")
    if receipt.orphan:
        line.append(f"  from {receipt.sender or 'an unknown node'}", style="yellow")
    if receipt.critical:
        last = trace.critical_path and receipt.node == trace.critical_path[-1]
        line.append(("  < " if ascii_only else "  ◀ ") + ("critical path" if last else "critical"), style="magenta")
    return line
