"""Several trials as a person reads them: each figure with its interval, then what did not pass, by seed."""

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.measure.wording import load_parts
from p2pnet.model.text import plural, some
from p2pnet.model.trials import Spread, TrialsReport
from p2pnet.model.units import format_size

VERDICT_STYLE = {"pass": "bold green", "fail": "bold red", "invalid": "bold magenta"}
SEEDS_SHOWN = 8  # of trials that did not pass


def draw(trials: TrialsReport, width: int) -> RenderableType:
    """The trials, their load, a table of figures, expectations, verdict."""
    lines: list[RenderableType] = [
        *text.flow("trials", _headline(trials), width),
        *text.flow("load", _load(trials), width),
        *text.ignored_lines(trials.ignored, width),
    ]
    if trials.finished:
        lines.append(_table(trials))
    for failure in trials.failed[:SEEDS_SHOWN]:
        lines += text.flow("failed", [f"seed {failure.seed}: {failure.error}"], width, style="bold red")
    for note in trials.notes:
        lines += text.flow("note", [note], width, style="dim")
    return Group(*lines, *_verdict(trials, width))


def _headline(trials: TrialsReport) -> list[Text | str]:
    finished = "" if trials.finished == trials.asked else f" of {trials.asked}"
    last = trials.seed + trials.asked - 1
    return [
        Text(f"{trials.finished}{finished} of {trials.subnet}", style="bold cyan"),
        plural(trials.nodes, "node") if trials.nodes else "",
        f"seed {trials.seed}" if last == trials.seed else f"seeds {trials.seed} to {last}",
        Text("simulated in virtual time", style="cyan"),
    ]


def _load(trials: TrialsReport) -> list[Text | str]:
    return [] if trials.load is None else [part for part in load_parts(trials.load) if not part.startswith("seed ")]


def _table(trials: TrialsReport) -> RenderableType:
    drawn = text.table(
        "FIGURE", "MEAN", "95% INTERVAL", "LEAST", "MOST", right=("MEAN", "95% INTERVAL", "LEAST", "MOST")
    )
    latency = trials.latency_ms
    rows: list[tuple[str, Spread, Callable[[float | None], str]]] = [
        ("reach", trials.reach, text.percent),
        *((name, getattr(latency, name), text.milliseconds) for name in latency.__struct_fields__),
        ("hops", trials.hops_max, _number),
        ("duplicates", trials.duplicates_per_delivery, _number),
        ("bytes", trials.bytes_ratio, _times),
        ("throughput", trials.payload_bytes_per_s, _per_second),
    ]
    for name, spread, shown in rows:
        between = f"{shown(spread.low)} to {shown(spread.high)}" if spread.low is not None else text.DASH
        drawn.add_row(name, shown(spread.mean), between, shown(spread.least), shown(spread.most))
    return drawn


def _number(value: float | None) -> str:
    return text.DASH if value is None else f"{value:.3g}"


def _times(value: float | None) -> str:
    return text.DASH if value is None else f"{value:.3f}x"


def _per_second(value: float | None) -> str:
    return text.DASH if value is None else f"{format_size(value)}/s"


def _verdict(trials: TrialsReport, width: int) -> list[Text]:
    style = VERDICT_STYLE[trials.verdict]
    lines: list[Text] = []
    label = trials.verdict.upper()
    for reason in trials.invalid:
        lines += text.flow(label if not lines else "", [reason], width, style=style)
    for one in trials.expectations:
        mark = Text("ok  " if one.ok else "MISS", style="green" if one.ok else "red")
        missed = [str(trial.seed) for trial in trials.trials if one.expr in trial.missed]
        seeds = f", not with seed {some(missed, SEEDS_SHOWN)}" if missed else ""
        part = Text.assemble(mark, f" {one.expr}  (in {one.held} of {plural(one.trials, 'trial')}{seeds})")
        lines += text.flow(label if not lines else "", [part], width, style=style)
    return lines or [Text(label, style=style)]
