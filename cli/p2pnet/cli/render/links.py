"""The slowest and the busiest links of a run as two tables."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.documents import LinkLine, RunLinks
from p2pnet.cli.render import text
from p2pnet.model.text import plural
from p2pnet.model.units import format_size

ROWS_MAX = 10


def draw(found: RunLinks, width: int) -> RenderableType:
    """Which took longest and why, and which carried most."""
    if not found.links:
        return Text("no receipt: no link was used", style="dim")
    slow = [one for one in found.links if one.wait_ms_max is not None][:ROWS_MAX]
    busy = sorted(found.links, key=lambda one: (-one.bytes, one.sender, one.to))[:ROWS_MAX]
    return Group(
        *text.flow("run", [found.run, f"{plural(found.ways, 'way')} between two nodes used"], width),
        "",
        *([Text("slowest", style="bold"), _table(slow, why=True), Text()] if slow else []),
        Text("busiest", style="bold"),
        _table(busy, why=False),
    )


def _table(lines: Sequence[LinkLine], *, why: bool) -> RenderableType:
    right = ("LONGEST WAIT", "MEAN", "RECEIPTS", "BYTES")
    drawn = text.table("FROM", "TO", *right, *(["WHY"] if why else []), right=right)
    for one in lines:
        drawn.add_row(
            one.sender, one.to, text.milliseconds(one.wait_ms_max), text.milliseconds(one.wait_ms_mean), str(one.receipts),
            format_size(one.bytes), *([one.why] if why else []),
        )  # fmt: skip
    return drawn
