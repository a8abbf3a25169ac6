"""Kept runs as a table, with what they take and within which limits they are kept."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pnet.cli.documents import KeptRun, KeptRuns
from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean
from p2pnet.model.text import plural
from p2pnet.model.units import format_duration, format_size

VERDICT_STYLE = {"pass": "green", "fail": "red", "invalid": "magenta"}
WIDE = 110
DAMAGED_SHOWN = 20
RIGHT = ("ARTIFACTS", "REACH", "P95", "AGE", "SIZE")
SPARE = ("SIZE", "ARTIFACTS", "TARGET", "AGE", "P95", "REACH", "LABEL")  # in a window that is too narrow


def draw(kept: KeptRuns, width: int, now: float) -> RenderableType:
    """What was done, the runs, a line about the whole."""
    lines: list[RenderableType] = [Text(line) for line in _done(kept)]
    if kept.runs:
        lines.append(_table(kept.runs, width, now))
        if kept.matched > len(kept.runs):
            lines.append(Text(f"and {kept.matched - len(kept.runs)} older ones (--limit N)", style="dim"))
    elif not lines:
        lines.append(Text(_nothing(kept), style="dim"))
    lines += [
        Text(f"{one.run} is damaged: {clean(one.why)} ({format_size(one.bytes)})", style="red")
        for one in kept.damaged[:DAMAGED_SHOWN]
    ]
    if len(kept.damaged) > DAMAGED_SHOWN:
        lines.append(Text(f"and {plural(len(kept.damaged) - DAMAGED_SHOWN, 'more damaged run')}", style="red"))
    return Group(*lines, *text.flow("kept", _kept(kept, now), width, style="dim"))


def _nothing(kept: KeptRuns) -> str:
    """Why no run is shown."""
    if kept.matched:
        return "nothing had to be removed: open and labelled runs stay, and no other is beyond the number"
    return "no run fits" if kept.kept else "no run is kept here"


def _done(kept: KeptRuns) -> list[str]:
    lines = [f"{run} cancelled" for run in kept.cancelled]
    lines += [f"{run} labelled" for run in kept.labelled]
    lines += [f"{run} removed" for run in kept.removed]
    if kept.removed:
        lines.append(f"{plural(len(kept.removed), 'run')} removed, {format_size(kept.freed_bytes)} freed")
    return lines


def _table(runs: list[KeptRun], width: int, now: float) -> Table:
    several = len({run.subnet for run in runs}) > 1
    elsewhere = width >= WIDE and any(run.context for run in runs)
    labelled = any(run.label for run in runs)
    simulated = any(run.target == "sim" for run in runs)
    optional = [
        *(["SUBNET"] if several else []),
        *(["TARGET"] if simulated else []),
        *(["CONTEXT"] if elsewhere else []),
    ]
    columns = (
        "RUN", *optional, "STATE", "VERDICT", "ARTIFACTS", "REACH", "P95", "AGE", "SIZE", *(["LABEL"] if labelled else [])
    )  # fmt: skip
    rows: list[list[Text | str]] = []
    for run in runs:
        place = f"{run.context}/{run.namespace}" if run.context else text.DASH
        row: list[Text | str] = [
            Text(run.run, style="cyan"),
            *([run.subnet] if several else []),
            *([run.target] if simulated else []),
            *([clean(place)] if elsewhere else []),
            run.state + (" (shared)" if run.shared else ""),
            Text(run.verdict or text.DASH, style=VERDICT_STYLE.get(run.verdict or "", "")),
            str(run.artifacts),
            text.percent(run.reach),
            text.milliseconds(run.p95_ms),
            format_duration(max(0.0, now - run.created_at)),
            format_size(run.bytes),
            *([clean(run.label)] if labelled else []),
        ]
        rows.append(row)
    return text.fitted(columns, rows, width, spare=SPARE, right=RIGHT, prose=("LABEL",))


def _kept(kept: KeptRuns, now: float) -> list[Text | str]:
    within = kept.within
    bounds = [
        *([] if within.runs is None else [f"the newest {within.runs} ended ones"]),
        *([] if within.bytes is None else [format_size(within.bytes)]),
    ]
    limits = f"limits {' and '.join(bounds)}; labelled ones stay" if bounds else "no limits"
    gone = ""
    if within.removed_runs and within.last_removed_at is not None:
        ago = format_duration(max(0.0, now - within.last_removed_at))
        size = format_size(within.removed_bytes)
        gone = f"removed by them {plural(within.removed_runs, 'run')}, {size}, last {ago} ago"
    return [f"{plural(kept.kept, 'run')}, {format_size(kept.kept_bytes)} on disk", limits, gone]
