"""A recorded run beside its replay: figures, misses, expectations, and whether the one is the other again. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from p2pnet.measure.receipts import ReceiptRow
from p2pnet.model.replay import (
    DigestBeside,
    FigureBeside,
    MissedReceipt,
    Replay,
    ReplayedExpectation,
    ReplayedMisses,
    ReplayedRun,
)
from p2pnet.model.report import ExpectationResult, Report

PAIRS_MAX = 20  # missed receipts that are named, of each kind


class Outcomes(NamedTuple):
    """Which receipts of a run came and which did not, by index of the artifact and node."""

    missed: set[tuple[int, str]]
    unknown: set[tuple[int, str]]


def outcomes(rows: Iterable[ReceiptRow], index: Mapping[str, int]) -> Outcomes:
    """Sort the rows of a run; `index` numbers its artifacts, and those it does not are left aside."""
    found = Outcomes(set(), set())
    for row in rows:
        number = index.get(row.artifact)
        if number is not None and row.state != "received":
            (found.missed if row.state == "missed" else found.unknown).add((number, row.node))
    return found


def misses_of(recorded: Outcomes, replayed: Outcomes, artifacts: Mapping[int, tuple[str, str]]) -> ReplayedMisses:
    """The misses beside each other; `artifacts`: id and name of each recorded one, by index."""
    before = {pair for pair in recorded.missed if pair[0] in artifacts}
    after = {pair for pair in replayed.missed if pair[0] in artifacts} - recorded.unknown

    def named(pairs: set[tuple[int, str]]) -> list[MissedReceipt]:
        return [MissedReceipt(*artifacts[number], node) for number, node in sorted(pairs)[:PAIRS_MAX]]

    return ReplayedMisses(
        recorded=len(before), replayed=len(after), both=len(before & after), only_recorded=named(before - after),
        only_replayed=named(after - before),
    )  # fmt: skip


def figures_beside(recorded: Report, replayed: Report) -> list[FigureBeside]:
    """What both reports measured."""
    return [
        FigureBeside(metric=metric, recorded=before, replayed=after, gap=_gap(before, after))
        for (metric, before), after in zip(_figures(recorded).items(), _figures(replayed).values(), strict=True)
    ]


def _figures(report: Report) -> dict[str, float | None]:
    latency = report.latency_ms
    return {
        "reach": report.reach.ratio, "p50": latency.p50, "p90": latency.p90, "p95": latency.p95, "p99": latency.p99,
        "max": latency.max, "hops": report.hops.max, "duplicates": report.duplicates_per_delivery,
        "bytes": report.bytes.ratio,
    }  # fmt: skip


def _gap(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, 6)


class JudgedValue(NamedTuple):
    """What one expectation came to: its value, and whether it held. `judged`: False of one that nothing was measured for."""

    value: float | None
    ok: bool
    judged: bool = True


NOT_JUDGED = JudgedValue(None, ok=False, judged=False)


def expectations_beside(recorded: Report, replayed: Report) -> list[ReplayedExpectation]:
    """Every recorded expectation with what became of it; one that was not judged again did not hold."""
    again = {one.expr: _judged(one, replayed) for one in replayed.expectations}
    return [beside(one.expr, _judged(one, recorded), again.get(one.expr, NOT_JUDGED)) for one in recorded.expectations]


def _judged(one: ExpectationResult, report: Report) -> JudgedValue:
    """Those of an invalid run are no judgement."""
    return JudgedValue(one.value, one.ok, report.verdict != "invalid")


def beside(expr: str, recorded: JudgedValue, replayed: JudgedValue, *, step: str = "") -> ReplayedExpectation:
    """One expectation: its value and whether it held, both times."""
    return ReplayedExpectation(
        expr=expr, step=step, recorded_value=recorded.value, recorded_ok=recorded.ok, recorded_judged=recorded.judged,
        replayed_value=replayed.value, replayed_ok=replayed.ok, replayed_judged=replayed.judged,
        same=recorded.ok == replayed.ok,
    )  # fmt: skip


def digests_beside(recorded: str | None, replayed: str | None) -> DigestBeside | None:
    """None where there is no recorded one."""
    if recorded is None:
        return None
    return DigestBeside(recorded=recorded, replayed=replayed, same=recorded == replayed)


def why_not(replay: Replay) -> list[str]:
    """What keeps a replay from having the recorded verdict again, a sentence each; empty: it has."""
    found = []
    if replay.recorded_verdict != replay.replayed_verdict:
        found.append(f"the record is {_words(replay.recorded_verdict)}, the replay {_words(replay.replayed_verdict)}")
    every = [*replay.expectations, *(one for run in replay.runs for one in run.expectations)]
    for one in every:
        if not one.same:
            where = f" (step {one.step})" if one.step else ""
            before = _held(ok=one.recorded_ok, judged=one.recorded_judged)
            after = _held(ok=one.replayed_ok, judged=one.replayed_judged)
            found.append(f"{one.expr}{where} {before} in the record, and {after} in the replay")
    return list(dict.fromkeys(found))


def _held(*, ok: bool, judged: bool) -> str:
    return "held" if ok else "did not hold" if judged else "was not judged"


def _words(verdict: str | None) -> str:
    return "without a verdict" if verdict is None else f"a {verdict}" if verdict != "invalid" else "invalid"


def why_incomparable(runs: Sequence[ReplayedRun], reasons: Mapping[str, Sequence[str]]) -> list[str]:
    """Why runs have no verdict to be had again: those that published nothing, have no report, or are invalid."""
    found = []
    for run in runs:
        name = f"run {run.run}"
        if run.recorded_verdict is None:
            found.append(f"{name} has no report: it had not ended")
        elif run.recorded_verdict == "invalid":
            found.append(f"{name} was invalid: {next(iter(reasons.get(run.run, ())), 'no reason is recorded')}")
        elif not run.artifacts:
            found.append(f"{name} published nothing")
    return found
