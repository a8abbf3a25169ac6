"""Where an artifact's time went: each receipt as a bar on one time axis, hop by hop, and the critical path in figures."""

from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from p2pnet.cli.documents import Trace, TracedLoad, TracedPhases, TracedReceipt
from p2pnet.cli.render import text
from p2pnet.measure.wording import PHASE_WORDS, PHASES
from p2pnet.model.units import format_size

ROWS_MAX = 30
"""Above that the critical path and the slowest ones are drawn."""
BAR_CELLS_LEAST = 16
OVERLAP_LEAST = 1.01  # times as long as the path took: below that it is rounding
COLOURS = dict(zip(PHASES, ("dim", "yellow", "cyan", "blue", "green"), strict=True))
MARKS = dict(zip(PHASES, "·░▒▓█", strict=True))
ASCII_MARKS = dict(zip(PHASES, ".~-=#", strict=True))


def phase_figures(trace: Trace, width: int) -> list[RenderableType]:
    """The hops of the critical path with where their time went; nothing when that is not on record."""
    hops = [one for one in trace.receipts if one.critical and one.phases is not None]
    if not hops:
        return []
    table = text.table("hop to", *PHASES, "all", right=(*PHASES, "all"))
    for one in sorted(hops, key=lambda one: one.latency_ms or 0.0):
        figures = [text.milliseconds(took) if took else text.DASH for took in _split(one)]
        table.add_row(one.node, *figures, text.milliseconds(one.edge_ms))
    return ["", *text.flow("slow by", [_heaviest(hops)], width), table, *_ends(hops)]


def _ends(hops: list[TracedReceipt]) -> list[RenderableType]:
    """What both ends of these hops did meanwhile; nothing where that was not sampled."""
    known = [(one, one.ends) for one in hops if one.ends is not None]
    if not known:
        return []
    figures = ("cpu", "late", "queued")
    table = text.table("hop to", "from", *figures, "to: cpu", *figures[1:], right=(*figures, "to: cpu"))
    for one, ends in sorted(known, key=lambda pair: pair[0].latency_ms or 0.0):
        table.add_row(one.node, one.sender or text.DASH, *_load(ends.sender), *_load(ends.receiver))
    return ["", table]


def _load(load: TracedLoad | None) -> tuple[str, str, str]:
    if load is None:
        return (text.DASH,) * 3
    return text.percent(load.cpu), text.milliseconds(load.lag_ms), format_size(load.queued_bytes)


def _split(receipt: TracedReceipt) -> list[float]:
    """Milliseconds by phase, in their order."""
    return [] if receipt.phases is None else [getattr(receipt.phases, f"{phase}_ms") for phase in PHASES]


def _heaviest(hops: list[TracedReceipt]) -> str:
    sums = [sum(took) for took in zip(*map(_split, hops), strict=True)]
    whole = sum(sums)
    if not whole:
        return "nothing: no time passed"
    share, phase = max(zip(sums, PHASES, strict=True))
    # A sender may pass parts on before it has all: then hops overlap, and their times add up to more than the path took.
    overlap = whole > OVERLAP_LEAST * max(one.latency_ms or 0.0 for one in hops)
    of = f"the {text.milliseconds(whole)} of its hops, which overlap" if overlap else "the critical path"
    return f"{PHASE_WORDS[phase]}: {text.milliseconds(share)}, {text.percent(share / whole)} of {of}"


@dataclass(frozen=True)
class _Axis:
    """A time axis from the publication to the last receipt."""

    cells: int
    whole_ms: float

    def cell(self, ms: float) -> int:
        return min(self.cells, max(0, round(ms / self.whole_ms * self.cells)))


def draw_waterfall(trace: Trace, width: int, *, ascii_only: bool) -> list[RenderableType]:
    """A bar per receipt, in the order of arrival: from when its sender had the artifact, or began to pass parts of it on."""
    shown = _most_telling([one for one in trace.receipts if one.latency_ms is not None])
    if not shown or not trace.latency_ms_max or trace.latency_ms_max <= 0:
        return [Text("no receipt with a latency: nothing to draw", style="dim")]
    name_cells = min(24, max(len(one.node) for one in shown))
    axis = _Axis(max(BAR_CELLS_LEAST, width - name_cells - 14), trace.latency_ms_max)
    marks = ASCII_MARKS if ascii_only else MARKS
    rows = [_row(one, axis, name_cells, marks) for one in shown]
    left = len(trace.receipts) - len(shown)
    legend = Text("  ").join(Text(f"{marks[phase]} {phase}", style=COLOURS[phase]) for phase in PHASES)
    return [
        *rows, *([Text(f"and {left} more", style="dim")] if left else []), Text(), legend,
    ]  # fmt: skip


def _most_telling(receipts: list[TracedReceipt]) -> list[TracedReceipt]:
    ranked = sorted(receipts, key=lambda one: (not one.critical, -(one.latency_ms or 0.0)))[:ROWS_MAX]
    return [one for one in receipts if one in ranked]


def _row(receipt: TracedReceipt, axis: _Axis, name_cells: int, marks: dict[str, str]) -> Text:
    ended = receipt.latency_ms or 0.0
    began = ended - (sum(_split(receipt)) or receipt.edge_ms or 0.0)
    line = Text(f"{receipt.node[:name_cells]:<{name_cells}}  ", style="bold magenta" if receipt.critical else "")
    line.append(" " * axis.cell(began), style="none")
    if receipt.phases is None:
        line.append("?" * (axis.cell(ended) - axis.cell(began)), style="dim")
    else:
        _bar(line, receipt.phases, axis, began, marks)
    line.append(" " * max(0, name_cells + 2 + axis.cells - len(line.plain)))
    line.append(f" {text.milliseconds(ended):>10}", style="none")
    return line


def _bar(line: Text, phases: TracedPhases, axis: _Axis, began: float, marks: dict[str, str]) -> None:
    whole = sum(getattr(phases, f"{phase}_ms") for phase in PHASES)
    at = began
    for phase in PHASES:
        until = at + getattr(phases, f"{phase}_ms")
        cells = axis.cell(until) - axis.cell(at)
        if not cells and until - at >= whole / 4:  # too short for a cell, but most of this hop
            cells = 1
        line.append(marks[phase] * cells, style=COLOURS[phase])
        at = until
