"""A comparison in Markdown, for a comment on a pull request that is found again and updated."""

from p2pnet.measure.change_words import change_words, interval_words, machine_words, value_words, verdict_words
from p2pnet.model.comparison import Comparison
from p2pnet.present.markdown import code, prose

MARKER = "<!-- p2pnet compare -->"
"""The first line: whoever posts it looks for a comment that begins so, and replaces it."""
SIGNS = {"pass": "✅", "regression": "❌", "inconclusive": "❔", "invalid": "⚠️"}
TITLES = {"pass": "no regression", "regression": "regression", "inconclusive": "inconclusive", "invalid": "invalid"}
LINES_MAX = 20


def comparison_markdown(found: Comparison) -> str:
    """GitHub-flavoured Markdown."""
    trials = f"{found.trials} pairs of trials with equal seeds" if found.asked else "two kept runs, by their artifacts"
    early = ", which decided" if found.stopped_early else ""
    lines = [
        MARKER,
        f"## {SIGNS[found.verdict]} {TITLES[found.verdict]}: {code(found.head.given)} against {code(found.base.given)}",
        "",
        prose(f"{trials}{early}, on {found.target}; together {found.confidence:.0%} sure."),
        *(["", prose(f"Machine: {', '.join(machine_words(found.machine))}.")] if found.machine else []),
        "",
        "| gate | base | head | change | interval | verdict |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {code(one.gate)} | {prose(value_words(one, one.base))} | {prose(value_words(one, one.head))} |"
            f" {prose(change_words(one, one.effect))} | {prose(interval_words(one))} | {prose(verdict_words(one))} |"
            for one in found.gates
        ),
        "",
        *(f"- {prose(one)}" for one in [*found.invalid, *found.warnings][:LINES_MAX]),
        *(["", f"More trials: {code(found.rerun)}"] if found.rerun else []),
    ]
    return "\n".join(lines).rstrip() + "\n"
