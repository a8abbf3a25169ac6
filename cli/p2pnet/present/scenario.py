"""A scenario that was run, as JUnit XML and as Markdown: one case per expectation, and what happened in which order."""

from collections import Counter
from xml.etree import ElementTree as ET

from p2pnet.measure.wording import turned_out
from p2pnet.model.scenario_run import ScenarioRun, StepExpectation
from p2pnet.model.units import format_duration
from p2pnet.present.markdown import SIGNS, code, prose
from p2pnet.present.words import VERDICTS, clean

VALID = "the scenario is valid"
"""The test case of a scenario that judged no expectation: a suite without cases would be taken for a pass."""
LINES_MAX = 60  # of each list in Markdown, which GitHub bounds
CELL_CHARS_MAX = 160


def scenario_junit(run: ScenarioRun) -> str:
    """JUnit XML: a failed expectation is a `failure`; one that could not be judged is an `error`.

    An invalid scenario has a case of its own for that, an `error` with the reasons.
    """
    cases = list(run.expectations) if run.asked == 1 else _over_trials(run)
    errors = sum(not one.ok and not one.judged for one in cases)
    failures = sum(not one.ok and one.judged for one in cases)
    whole = bool(run.invalid) or not cases
    totals = {
        "tests": str(len(cases) + whole), "failures": str(failures), "errors": str(errors + bool(run.invalid)),
        "skipped": "0", "time": f"{run.seconds:.3f}",
    }  # fmt: skip
    root = ET.Element("testsuites", {"name": "p2pnet", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": f"p2pnet.{run.scenario}", **totals})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(run).items():
        ET.SubElement(properties, "property", {"name": name, "value": clean(value)})
    seen: Counter[str] = Counter()
    for one in cases:
        about = "" if one.expr.startswith(f"{one.name}.") else f"{one.name}: "
        named = f"{about}{one.expr}"
        seen[named] += 1
        _case(suite, run, one, named + (f" ({seen[named]})" if seen[named] > 1 else ""))
    if whole:
        case = ET.SubElement(suite, "testcase", {"classname": f"p2pnet.{run.scenario}", "name": VALID})
        if run.invalid:
            said = {"message": clean(f"the scenario is invalid: {run.invalid[0]}"), "type": "invalid"}
            ET.SubElement(case, "error", said).text = clean("\n".join([*run.invalid, *_again(run)]))
    ET.SubElement(suite, "system-out").text = clean("\n".join([*_journal(run), *run.ignored, *run.notes]))
    ET.indent(root)
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, run: ScenarioRun, one: StepExpectation, name: str) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": f"p2pnet.{run.scenario}", "name": clean(name)})
    if one.ok:
        return
    kind, tag = ("expectation", "failure") if one.judged else ("invalid", "error")
    said = {"message": clean(f"{name}: {turned_out(one)}"), "type": kind}
    ET.SubElement(case, tag, said).text = clean("\n".join([f"step {one.step}", *_again(run)]))


def _over_trials(run: ScenarioRun) -> list[StepExpectation]:
    """One for each expectation: ok when it held in every trial."""
    count = len(run.trials)
    return [
        StepExpectation(
            expr=one.expr, value=one.held / count if count else None, ok=one.held == count, name=one.name, step=one.name,
            detail=f"held in {one.held} of {count} trials", judged=one.judged == count or one.held < one.judged,
        )
        for one in run.held
    ]  # fmt: skip


def _again(run: ScenarioRun) -> list[str]:
    return [f"again: {run.rerun}"] if run.rerun else []


def _properties(run: ScenarioRun) -> dict[str, str]:
    facts: dict[str, object] = {
        "schema": run.schema, "scenario": run.scenario, "subnet": run.subnet, "target": run.target, "seed": run.seed,
        "trials": run.asked, "nodes": run.nodes, "verdict": run.verdict, "rerun": run.rerun or None,
        "ignored": "; ".join(run.ignored) or None, "digest": run.digest,
        "runs": " ".join(step.run for step in run.steps if step.run) or None,
    }  # fmt: skip
    return {name: str(value) for name, value in facts.items() if value is not None}


def _journal(run: ScenarioRun) -> list[str]:
    """What happened when, a line for each step."""
    lines = [run.description] if run.description else []
    for step in run.steps:
        at = "" if step.begun_s is None else f"{format_duration(step.begun_s)}: "
        told = step.detail or step.state
        lines.append(
            f"{step.number} {at}{step.name}, {step.kind} {step.what}: {told}" + (f" ({step.run})" if step.run else "")
        )
    return lines


def scenario_markdown(run: ScenarioRun) -> str:
    """GitHub-flavoured Markdown, short; what is left out is counted."""
    trials = "" if run.asked == 1 else f", {len(run.trials)} of {run.asked} trials"
    parts = [
        f"## {SIGNS[run.verdict]} {VERDICTS[run.verdict]}: scenario {code(run.scenario)} on {run.target}",
        prose(f"{run.description} ({run.nodes} nodes, seed {run.seed}{trials})".strip()),
        _list("Why it is invalid", run.invalid),
        _list("Not in force", run.ignored),
        _expectations(run),
        _steps(run),
        f"Again: {code(run.rerun)}" if run.rerun else "",
        _list("Notes", run.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _expectations(run: ScenarioRun) -> str:
    cases = list(run.expectations) if run.asked == 1 else _over_trials(run)
    ordered = [*(one for one in cases if not one.ok), *(one for one in cases if one.ok)]
    rows = [
        f"| {_sign(one)} | {_cell(one.name)} | {_cell(one.expr)} | {_cell(turned_out(one))} |"
        for one in ordered[:LINES_MAX]
    ]
    left = [f"\nand {len(ordered) - LINES_MAX} more that held"] if len(ordered) > LINES_MAX else []
    return "\n".join(["| | about | expected | measured |", "| --- | --- | --- | --- |", *rows, *left]) if rows else ""


def _sign(one: StepExpectation) -> str:
    return SIGNS["pass" if one.ok else "fail" if one.judged else "invalid"]


def _steps(run: ScenarioRun) -> str:
    rows = []
    for step in run.steps[:LINES_MAX]:
        at = "" if step.begun_s is None else format_duration(step.begun_s)
        told = step.detail or step.state
        rows.append(
            f"| {step.number} | {_cell(step.name)} | {_cell(f'{step.kind} {step.what}')} | {at} | {_cell(told)} |"
        )
    left = [f"\nand {len(run.steps) - LINES_MAX} more steps"] if len(run.steps) > LINES_MAX else []
    head = ["| step | name | what | at | result |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, *left]) if rows else ""


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    shown = [f"- {prose(line)}" for line in lines[:LINES_MAX]]
    left = [f"- and {len(lines) - LINES_MAX} more"] if len(lines) > LINES_MAX else []
    return "\n".join([f"**{title}**", "", *shown, *left])


def _cell(text: str) -> str:
    short = text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"
    return prose(short).replace("\n", " ")
