"""Small pieces of a drawing: quantities as people read them, bars, sparklines, and labelled lines that fit a width."""

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from p2pnet.cli.terminal import clean
from p2pnet.measure import wording
from p2pnet.model.units import format_duration

LABEL_CELLS = 9
GAP_CELLS = 3  # between two columns of a table
PROSE_CELLS = 20  # a column of prose may be as narrow as that
IGNORED_MAX = 5
DASH = "-"


def milliseconds(value: float | None) -> str:
    """As `wording.milliseconds`, in ASCII."""
    return wording.milliseconds(value, DASH)


def percent(ratio: float | None) -> str:
    """As `wording.percent`, in ASCII."""
    return wording.percent(ratio, DASH)


def count(value: int | None) -> str:
    """A number, or a dash for what is not known."""
    return DASH if value is None else str(value)


def until(moment: str | None, now: float) -> str:
    """How long until then (RFC 3339), or that it is over; `now` is Unix seconds."""
    if not moment:
        return ""
    try:
        seconds = datetime.fromisoformat(moment).astimezone(UTC).timestamp() - now
    except ValueError:
        return moment
    return "expired" if seconds <= 0 else format_duration(seconds)


def since(moment: str | None, now: float) -> str:
    """How long ago that was (RFC 3339); `now` is Unix seconds. A dash for None."""
    if not moment:
        return DASH
    try:
        seconds = now - datetime.fromisoformat(moment).astimezone(UTC).timestamp()
    except ValueError:
        return moment
    return format_duration(max(0.0, seconds))


def bar(ratio: float | None, cells: int, *, ascii_only: bool) -> Text:
    """A bar of `cells` characters; full only when the ratio is 1."""
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    filled = int(cells * (ratio or 0.0))
    style = "green" if ratio == 1 else "yellow" if ratio else "red"
    return Text(full * filled, style=style) + Text(empty * (cells - filled), style="dim")


def sparkline(quantiles: Sequence[float], cells: int, *, ascii_only: bool) -> str:
    """The cumulated share over time, from equally spaced quantiles (0 % first, 100 % last)."""
    ramp = " .:-=+*#" if ascii_only else "▁▂▃▄▅▆▇█"
    if not quantiles:
        return ""
    low, high = quantiles[0], quantiles[-1]
    if high <= low:
        return ramp[-1] * cells
    shares = []
    for cell in range(1, cells + 1):
        edge = low + (high - low) * cell / cells
        shares.append(sum(value <= edge for value in quantiles) / len(quantiles))
    return "".join(ramp[min(len(ramp) - 1, int(share * len(ramp)))] for share in shares)


def flow(label: str, parts: Sequence[Text | str], width: int, style: str = "bold") -> list[Text]:
    """A label, then the parts with three spaces between, broken into lines no part is cut by."""
    lines: list[Text] = []
    current = Text(label.ljust(LABEL_CELLS), style=style)
    empty = True
    for part in _short(parts, width - LABEL_CELLS):
        piece = part if isinstance(part, Text) else Text(clean(part).replace("\n", "; "))
        if not piece.plain:
            continue
        if not empty and current.cell_len + 3 + piece.cell_len > width:
            lines.append(current)
            current, empty = Text(" " * LABEL_CELLS), True
        current = Text.assemble(current, "" if empty else "   ", piece)
        empty = False
    return [] if empty else [*lines, current]


def ignored_lines(fields: Sequence[str], width: int) -> list[Text]:
    """Fields of the document that are not in force, a line each; some, where there are many."""
    shown = list(fields[:IGNORED_MAX])
    if len(fields) > len(shown):
        shown.append(f"and {len(fields) - len(shown)} more (see -o json)")
    lines: list[Text] = []
    for field in shown:
        lines += flow("" if lines else "ignored", [field], width, style="bold yellow")
    return lines


def _short(parts: Sequence[Text | str], room: int) -> list[Text | str]:
    """The parts, with plain ones that no line could hold cut between words."""
    pieces: list[Text | str] = []
    for part in parts:
        if isinstance(part, str) and len(part) > room:
            pieces += textwrap.wrap(part, room)
        else:
            pieces.append(part)
    return pieces


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A plain table: headings, no frame, numbers to the right, nothing wrapped before it must be."""
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1))
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return drawn


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[Text | str]], width: int,
    *, spare: Sequence[str] = (), right: Sequence[str] = (), prose: Sequence[str] = (),
) -> Table:  # fmt: skip
    """A table that breaks no word in a window of `width` cells: what is `prose` folds, and `spare` columns are left
    out, the first ones first, until the others have room; `-o json` has them. Narrower than that everything folds.
    """
    cells = [[one if isinstance(one, Text) else Text(one) for one in row] for row in rows]
    needed = {
        name: max([len(name), *(min(row[at].cell_len, PROSE_CELLS if name in prose else width) for row in cells)])
        for at, name in enumerate(columns)
    }
    for name in spare:
        if name in needed and _breadth(needed) > width:
            del needed[name]
    drawn = table(*needed, right=right)
    if _breadth(needed) <= width:
        for column in drawn.columns:
            column.no_wrap = str(column.header) not in prose
    for row in cells:
        drawn.add_row(*(one for name, one in zip(columns, row, strict=True) if name in needed))
    return drawn


def _breadth(needed: Mapping[str, int]) -> int:
    return sum(needed.values()) + GAP_CELLS * (len(needed) - 1)
