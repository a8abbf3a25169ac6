"""A comparison as a person reads it: who against whom, a row for each gate, the verdict."""

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.measure.change_words import change_words, interval_words, machine_words, value_words, verdict_words
from p2pnet.measure.wording import load_parts
from p2pnet.model.comparison import Comparison, Side
from p2pnet.model.text import plural

STYLE = {"pass": "bold green", "regression": "bold red", "inconclusive": "bold yellow", "invalid": "bold magenta"}


def draw(found: Comparison, width: int) -> RenderableType:
    """Both sides, their load, a table of gates, warnings, the verdict."""
    lines: list[RenderableType] = [
        *text.flow("base", _side(found.base), width),
        *text.flow("head", _side(found.head), width),
        *text.flow("trials", [_trials(found)], width),
    ]
    if found.load is not None:
        parts = load_parts(found.load)
        lines += text.flow("load", [part for part in parts if found.trials == 0 or not part.startswith("seed ")], width)
    if found.machine is not None:
        lines += text.flow("machine", [*machine_words(found.machine)], width)
    rows: list[list[Text | str]] = [
        [
            one.gate, value_words(one, one.base), value_words(one, one.head), change_words(one, one.effect),
            interval_words(one), Text(verdict_words(one), style=STYLE[one.verdict]),
        ]
        for one in found.gates
    ]  # fmt: skip
    right = ("BASE", "HEAD", "CHANGE", "INTERVAL")
    columns = ("GATE", *right, "VERDICT")
    lines.append(text.fitted(columns, rows, width, spare=("INTERVAL",), right=right, prose=("VERDICT",)))
    for warning in found.warnings:
        lines += text.flow("note", [warning], width, style="yellow")
    for reason in found.invalid:
        lines += text.flow("invalid", [reason], width, style=STYLE["invalid"])
    return Group(*lines, Text(found.verdict.upper(), style=STYLE[found.verdict]))


def _side(side: Side) -> list[Text | str]:
    return [
        Text(side.given, style="bold cyan"),
        side.subnet,
        plural(side.nodes, "node") if side.nodes else "",
        plural(side.artifacts, "artifact") if side.artifacts else "",
    ]


def _trials(found: Comparison) -> str:
    if found.trials == 0 and not found.asked:
        return "two kept runs, by their artifacts"
    early = ", which decided" if found.stopped_early else ""
    return f"{found.trials} of {found.asked} pairs with equal seeds{early}"
