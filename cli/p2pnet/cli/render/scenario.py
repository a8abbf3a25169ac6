"""A scenario that was run as a person reads it: its steps, what did not hold, the verdict."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.measure.wording import turned_out
from p2pnet.model.scenario_run import ScenarioRun, ScenarioStep, StepExpectation
from p2pnet.model.text import plural, some
from p2pnet.model.units import format_duration

VERDICT_STYLE = {"pass": "bold green", "fail": "bold red", "invalid": "bold magenta"}
STATE_STYLE = {"done": "", "failed": "red", "skipped": "yellow", "not run": "dim"}
SEEDS_SHOWN = 8  # of trials that did not pass
EXPECTATIONS_SHOWN = 40  # that held; those that did not are all shown
REASONS_SHOWN = 20


def draw(run: ScenarioRun, width: int) -> RenderableType:
    """The headline, a table of the steps, notes, expectations and verdict."""
    lines: list[RenderableType] = [
        *text.flow("scenario", _headline(run), width),
        *text.flow("about", [run.description], width, style="dim"),
        *text.ignored_lines(run.ignored, width),
    ]
    if run.steps:
        if run.asked > 1:
            lines += text.flow("steps", [f"of the trial with seed {run.shown_seed}"], width)
        lines.append(_table(run.steps, width))
    for note in run.notes:
        lines += text.flow("note", [note], width, style="dim")
    return Group(*lines, *_verdict(run, width))


def _headline(run: ScenarioRun) -> list[Text | str]:
    last = run.seed + run.asked - 1
    trials = "" if run.asked == 1 else f"{len(run.trials)} of {run.asked} trials"
    return [
        Text(run.scenario, style="bold cyan"),
        plural(run.nodes, "node"),
        f"seed {run.seed}" if run.asked == 1 else f"seeds {run.seed} to {last}",
        trials,
        Text("simulated in virtual time", style="cyan") if run.target == "sim" else f"on {run.target}",
        Text("left standing", style="yellow") if run.kept else "",
    ]


def _table(steps: Sequence[ScenarioStep], width: int) -> RenderableType:
    columns = ("STEP", "NAME", "KIND", "WHAT", "BEGAN", "TOOK", "RESULT")
    rows: list[list[Text | str]] = []
    for step in steps:
        if step.kind == "steps":
            continue
        indent = "  " * step.number.count(".")
        rows.append([
            f"{indent}{step.number}", step.name, step.kind, _cut(step.what, 48), _seconds(step.begun_s), _seconds(step.seconds),
            Text(_result(step), style=STATE_STYLE[step.state] or ("" if step.ok else "red")),
        ])  # fmt: skip
    return text.fitted(columns, rows, width, spare=("BEGAN", "TOOK"), right=("BEGAN", "TOOK"), prose=("WHAT", "RESULT"))


def _result(step: ScenarioStep) -> str:
    if step.state == "not run":
        return "not run"
    if step.state == "skipped":
        return "skipped"
    if step.kind == "expect":
        held = sum(one.ok for one in step.expectations)
        return f"{held}/{len(step.expectations)} held"
    run = f"{step.run}  " if step.run else ""
    return run + _cut(step.detail, 60) if step.detail or run else "done"


def _verdict(run: ScenarioRun, width: int) -> list[Text]:
    style, label = VERDICT_STYLE[run.verdict], run.verdict.upper()
    lines: list[Text] = []
    for reason in run.invalid[:REASONS_SHOWN]:
        lines += text.flow(label if not lines else "", [reason], width, style=style)
    parts = _over_trials(run) if run.asked > 1 else _of_one(run.expectations)
    for part in parts:
        lines += text.flow(label if not lines else "", [part], width, style=style)
    return lines or [Text(label, style=style)]


def _of_one(expectations: Sequence[StepExpectation]) -> list[Text]:
    missed = [one for one in expectations if not one.ok]
    held = [one for one in expectations if one.ok]
    shown = [_line(one) for one in [*held[:EXPECTATIONS_SHOWN], *missed]]
    if len(held) > EXPECTATIONS_SHOWN:
        shown.append(Text(f"and {len(held) - EXPECTATIONS_SHOWN} more that held (see -o json)", style="dim"))
    return shown


def _line(one: StepExpectation) -> Text:
    mark = Text("ok  ", style="green") if one.ok else Text("MISS" if one.judged else "    ", style="red")
    about = "" if one.expr.startswith(f"{one.name}.") else f"{one.name}: "
    return Text.assemble(mark, f" {about}{one.expr}  ({turned_out(one)})")


def _over_trials(run: ScenarioRun) -> list[Text]:
    lines = []
    for one in run.held:
        ok = one.held == len(run.trials)
        mark = Text("ok  " if ok else "MISS", style="green" if ok else "red")
        about = "" if one.expr.startswith(f"{one.name}.") else f"{one.name}: "
        lines.append(Text.assemble(mark, f" {about}{one.expr}  (in {one.held} of {plural(len(run.trials), 'trial')})"))
    missed = [str(trial.seed) for trial in run.trials if trial.verdict != "pass"]
    if missed:
        lines.append(Text(f"not passed with seed {some(missed, SEEDS_SHOWN)}", style="red"))
    return lines


def _seconds(seconds: float | None) -> str:
    return text.DASH if seconds is None else format_duration(seconds) if seconds else "0 s"


def _cut(words: str, cells: int) -> str:
    return words if len(words) <= cells else words[: cells - 3] + "..."
