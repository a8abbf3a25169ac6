"""The emulated network and its faults: in a report, in a status, and the list of `fault`."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pnet.cli.documents import FaultLine, Faults
from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean
from p2pnet.measure import network_wording as wording
from p2pnet.model.report import FaultStatus, Finding, NetworkRow
from p2pnet.model.text import plural

ROWS_MAX = 10  # of the table in a report
LINES_MAX = 5  # of faults, problems, notes and findings
NODES_NAMED = 3
STATE_STYLE = {"active": "yellow", "waiting": "dim", "ended": "dim", "failed": "bold red"}
DROPPED_FIRST = ("DETAIL", "ORIGIN", "NODES", "AGE")  # in a window that is too narrow
GAP = 3  # between two columns
WHAT_MIN = 20  # cells
RESULTS = {
    "as asked": ("ok", "green"),
    "not as asked": ("NOT", "bold red"),
    "not measured": ("?", "yellow"),
    "modelled": ("ok", "green"),
}


def network_block(rows: Sequence[NetworkRow], told: Sequence[str], width: int) -> list[RenderableType]:
    """A line when the network was as asked; else a table, and why, as far as `told` does not say it already."""
    if not wording.amiss(rows):
        return [*text.flow("network", wording.summary(rows), width)]
    wrong = [row for row in wording.amiss(rows) if row.problem and not any(row.problem in one for one in told)]
    return [
        *text.flow("network", wording.summary(rows), width, style="bold magenta"),
        *_indented(_rows_table(rows)),
        *_listed("", [wording.problem_of(row) for row in wrong], width, style=""),
    ]


def _indented(table: Table) -> list[RenderableType]:
    return ["", table, ""]


def _rows_table(rows: Sequence[NetworkRow]) -> Table:
    """What is not as asked first, then whole rules, and no more rows than fit a screen."""
    drawn = text.table("RULE", "LINKS", "ASKED", "SEEN", "")
    rows = sorted((row for row in rows if not (row.ok and row.worst)), key=lambda row: row.ok)
    shown = rows[:ROWS_MAX]
    for row in shown:
        drawn.add_row(
            clean(row.rule), _where(row), wording.asked_of(row), wording.seen_of(row),
            Text(*RESULTS[wording.result_of(row)]),
        )  # fmt: skip
    if len(rows) > len(shown):
        drawn.add_row(f"and {len(rows) - len(shown)} more", "", "", "", "")
    return drawn


def _where(row: NetworkRow) -> str:
    return clean(("worst: " if row.worst else "") + wording.link_of(row))


def fault_lines(faults: Sequence[FaultStatus], width: int) -> list[Text]:
    """The faults of a run, a line each."""
    return _listed("faults", [wording.fault_words(fault) for fault in faults], width, style="bold yellow")


def finding_lines(findings: Sequence[Finding], width: int) -> list[Text]:
    """What stands out in the time series, the gravest first."""
    return _listed("finding", [wording.finding_words(finding) for finding in findings], width, style="bold yellow")


def _listed(label: str, sentences: Sequence[str], width: int, style: str) -> list[Text]:
    shown = list(sentences[:LINES_MAX])
    if len(sentences) > len(shown):
        shown.append(f"and {len(sentences) - len(shown)} more (see -o json)")
    lines: list[Text] = []
    for sentence in shown:
        lines += text.flow("" if lines else label, [sentence], width, style=style)
    return lines


# --- status ---


def status_lines(
    rows: Sequence[NetworkRow],
    notes: Sequence[str],
    faults: Sequence[FaultStatus],
    width: int,
    now: float,
    *,
    low: bool,
) -> list[Text]:
    """Network, notes on it, and the faults that are not over; in a `low` window a line for the network and one for faults."""
    wrong = wording.amiss(rows)
    parts = wording.summary(rows)
    lines = text.flow("network", parts, width, style="bold magenta" if wrong else "bold")
    if low:
        lines = [_cut(line, width) for line in lines[:1]]
    else:
        lines += _listed("", [wording.problem_of(row) for row in wrong], width, style="")
        lines += _listed("note", notes, width, style="dim")
    standing = [fault for fault in faults if fault.state != "ended"]
    room = 1 if low else LINES_MAX
    shown = standing if len(standing) <= room else standing[: max(1, room - 1)] if not low else standing[:1]
    for index, fault in enumerate(shown):
        more = f"   and {len(standing) - 1} more" if low and len(standing) > 1 else ""
        lines.append(_standing(fault, width, now, label="" if index else "faults", more=more))
    if not low and len(standing) > len(shown):
        lines.append(Text(" " * text.LABEL_CELLS + f"and {len(standing) - len(shown)} more", style="dim"))
    return lines


def _standing(fault: FaultStatus, width: int, now: float, *, label: str, more: str) -> Text:
    """`faults   loss-1  loss 20% from node-0 to *  (55 s left)`, on one line."""
    left = text.until(fault.until, now)
    facts = {"waiting": ["waits"], "failed": ["not in force"]}.get(fault.state, [f"{left} left"] if left else [])
    facts = [clean(fault.detail)] if fault.detail else facts
    after = cut(f"  ({', '.join(facts)})", width // 2) if facts else ""
    head = Text(label.ljust(text.LABEL_CELLS), style="bold")
    name = Text(f"{clean(fault.name)}  ", style=STATE_STYLE[fault.state])
    room = width - head.cell_len - name.cell_len - cell_len(after) - cell_len(more)
    return _cut(Text.assemble(head, name, cut(clean(fault.what), max(WHAT_MIN, room)), after, more), width)


def _cut(line: Text, width: int) -> Text:
    if line.cell_len > width:
        line.truncate(max(0, width - 3))
        line.append("...")
    return line


def cut(words: str, cells: int) -> str:
    """The words, with dots in the place of what has no room."""
    return words if cell_len(words) <= cells else set_cell_size(words, max(0, cells - 3)) + "..."


# --- the list of `fault` ---


def draw_faults(document: Faults, width: int, now: float) -> RenderableType:
    """What was cleared, then a row per fault; what a narrow window has no room for is left out."""
    cleared: list[RenderableType] = [Text(f"{clean(name)} cleared") for name in document.cleared]
    if not document.faults:
        return Group(*(cleared or [Text("no fault is in force", style="dim")]))
    rows = [_cells(fault, now) for fault in document.faults]
    shown = [name for name in rows[0] if any(row[name].plain not in ("", text.DASH) for row in rows)]
    for name in DROPPED_FIRST:
        if _wide(rows, shown) > width and name in shown:
            shown.remove(name)
    room = width - _wide(rows, [name for name in shown if name != "WHAT"]) - GAP
    drawn = text.table(*shown, right=("AGE", "LEFT"))
    for row in rows:
        row["WHAT"] = Text(cut(row["WHAT"].plain, max(WHAT_MIN, room)))
        drawn.add_row(*(row[name] for name in shown))
    details = [
        line
        for fault in document.faults
        if fault.detail and fault.state != "ended" and "DETAIL" not in shown
        for line in text.flow(f"{clean(fault.name)} ", [fault.detail], width, style="yellow")
    ]
    return Group(*cleared, drawn, *details)


def _wide(rows: Sequence[dict[str, Text]], shown: Sequence[str]) -> int:
    """Cells that a table of these columns takes."""
    return sum(max([len(name), *(row[name].cell_len for row in rows)]) for name in shown) + GAP * (len(shown) - 1)


def _cells(fault: FaultLine, now: float) -> dict[str, Text]:
    left, age = text.until(fault.until, now), text.since(fault.since, now)
    begins = fault.state == "waiting" and fault.since is not None
    if begins:
        left, age = f"in {text.until(fault.since, now)}", text.DASH
    return {
        "FAULT": Text(clean(fault.name), style="cyan"),
        "STATE": Text(fault.state, style=STATE_STYLE[fault.state]),
        "WHAT": Text(clean(fault.what)),
        "NODES": Text(_nodes(fault.nodes)),
        "AGE": Text(age),
        "LEFT": Text(text.DASH if fault.state == "ended" else left or text.DASH),
        "ORIGIN": Text("document" if fault.origin == "spec" else "lease"),
        "DETAIL": Text(clean(fault.detail)),
    }


def _nodes(nodes: Sequence[str]) -> str:
    return clean(", ".join(nodes)) if len(nodes) <= NODES_NAMED else plural(len(nodes), "node")
