"""A replay as a person reads it: figures beside each other, misses, expectations, verdict, and what it cannot tell."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean
from p2pnet.model.replay import FigureBeside, Replay, ReplayedExpectation, ReplayedMisses, ReplayedRun
from p2pnet.model.text import plural

VERDICT_STYLE = {
    "reproduced": "bold green", "not reproduced": "bold red", "nothing to compare": "bold magenta",
}  # fmt: skip
SAME_SHOWN = 20  # expectations that came out the same; the others are all shown
LIMITS_SHOWN = 12
ID_SHOWN = 12
LATENCIES = ("p50", "p90", "p95", "p99", "max")


def draw(replay: Replay, width: int) -> RenderableType:
    """The headline, each run beside its replay, what cannot be had again, the verdict last."""
    lines: list[RenderableType] = [*text.flow("replay", _headline(replay), width)]
    for run in replay.runs:
        lines += _run(run, width)
    if replay.digest is not None:
        lines += text.flow("digest", [_digest(replay)], width)
    expectations = [*replay.expectations, *(one for run in replay.runs for one in run.expectations)]
    shown = replay.not_reproduced[:LIMITS_SHOWN]
    more = len(replay.not_reproduced) - len(shown)
    for index, words in enumerate([*shown, *([f"and {more} more (see -o json)"] if more else [])]):
        lines += text.flow("not had" if index == 0 else "", [words], width, style="dim")
    return Group(*lines, *_verdict(replay, expectations, width))


def _headline(replay: Replay) -> list[Text | str]:
    return [
        Text(clean(replay.scenario or replay.subnet), style="bold cyan"),
        "a scenario" if replay.scenario else "",
        plural(replay.nodes, "node"),
        f"seed {replay.seed}",
        "recorded in virtual time" if replay.target == "sim" else f"recorded on {replay.target}",
        f"by p2pnet {replay.version}",
        Text("replayed in virtual time", style="cyan"),
    ]


def _run(run: ReplayedRun, width: int) -> list[RenderableType]:
    step = f"step {run.step}" if run.step else ""
    published = f"{run.republished} of {run.artifacts} artifacts again"
    lines: list[RenderableType] = [*text.flow("run", [Text(run.run, style="bold"), step, published], width)]
    if not run.figures:
        return [
            *lines,
            *text.flow("", ["it was not replayed" if not run.replay else "there is nothing beside it"], width),
        ]
    drawn = text.table("FIGURE", "RECORDED", "REPLAYED", "GAP", right=("RECORDED", "REPLAYED", "GAP"))
    for one in run.figures:
        drawn.add_row(one.metric, _value(one.metric, one.recorded), _value(one.metric, one.replayed), _gap(one))
    return [*lines, drawn, *text.flow("misses", _misses(run.misses), width)]


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return text.DASH
    if metric == "reach":
        return text.percent(value)
    return text.milliseconds(value) if metric in LATENCIES else f"{value:g}" if metric == "hops" else f"{value:.2f}"


def _gap(one: FigureBeside) -> str:
    if one.gap is None:
        return text.DASH
    if not one.gap:
        return "none"
    sign = "+" if one.gap > 0 else "-"
    if one.metric == "reach":
        return f"{sign}{abs(one.gap) * 100:.2f} points"
    size = _value(one.metric, abs(one.gap))
    share = f" ({sign}{abs(one.gap) / one.recorded:.0%})" if one.recorded else ""
    return f"{sign}{size}{share}"


def _misses(misses: ReplayedMisses) -> list[str]:
    if not misses.recorded and not misses.replayed:
        return ["none, in both"]
    parts = [f"{misses.both} of {misses.recorded} receipts that missed miss again"]
    if misses.replayed > misses.both:
        parts.append(f"{misses.replayed - misses.both} miss that had come")
    pairs = [
        *(("came in the replay", one) for one in misses.only_recorded[:2]),
        *(("missed in the replay alone", one) for one in misses.only_replayed[:2]),
    ]
    return parts + [f"{words}: {one.name} {one.artifact[:ID_SHOWN]} at {one.node}" for words, one in pairs]


def _digest(replay: Replay) -> Text:
    assert replay.digest is not None  # noqa: S101 - the caller's condition
    if replay.digest.same:
        return Text(f"{replay.digest.recorded}   the same, so it is the same history", style="green")
    return Text(
        f"{replay.digest.recorded} recorded, {replay.digest.replayed} replayed: another history", style="yellow"
    )


def _verdict(replay: Replay, expectations: Sequence[ReplayedExpectation], width: int) -> list[Text]:
    style, label = VERDICT_STYLE[replay.verdict], "SAME" if replay.verdict == "reproduced" else "DIFFERS"
    label = "NOTHING" if replay.verdict == "nothing to compare" else label
    same = [one for one in expectations if one.same]
    parts: list[Text | str] = [
        _expectation(one) for one in [*same[:SAME_SHOWN], *(x for x in expectations if not x.same)]
    ]
    lines = [line for part in parts for line in text.flow("", [part], width)]
    words = {
        "reproduced": f"the recorded verdict is reproduced: {replay.recorded_verdict}",
        "not reproduced": "does not reproduce: " + "; ".join(replay.why),
        "nothing to compare": "nothing to compare: " + "; ".join(replay.why),
    }[replay.verdict]
    return [*lines, *text.flow(label, [words], width, style=style)]


def _expectation(one: ReplayedExpectation) -> Text:
    def told(*, ok: bool, judged: bool) -> tuple[str, str]:
        return ("ok", "green") if ok else ("MISS", "red") if judged else ("not judged", "magenta")

    where = f"{one.step}: " if one.step and not one.expr.startswith(f"{one.step}.") else ""
    mark = Text("same   ", style="dim") if one.same else Text("differs", style="bold red")
    return Text.assemble(
        mark, f" {clean(where + one.expr)}  recorded ", told(ok=one.recorded_ok, judged=one.recorded_judged),
        _measured(one.recorded_value), "  replayed ", told(ok=one.replayed_ok, judged=one.replayed_judged),
        _measured(one.replayed_value),
    )  # fmt: skip


def _measured(value: float | None) -> str:
    return "" if value is None else f" ({value:g})"
