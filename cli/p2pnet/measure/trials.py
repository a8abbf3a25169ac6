"""The reports of several trials as one document: intervals where one run gives single numbers. Pure."""

from collections.abc import Callable, Sequence
from math import inf, isfinite, sqrt

from msgspec import structs

from p2pnet.measure.chances import students_t
from p2pnet.model.report import Report, Verdict
from p2pnet.model.trials import LatencySpread, Spread, TrialExpectation, TrialFailure, TrialFigures, TrialsReport

CONFIDENCE = 0.95
"""Share of such intervals that hold the true mean, where trials are distributed about it as most sums of chances are."""


def merge(
    reports: Sequence[Report], failed: Sequence[TrialFailure], *, asked: int, seed: int, subnet: str
) -> TrialsReport:
    """The trials as one: in the order of their seeds, whatever order the reports come in.

    `asked`: how many trials were to be; `seed`: of the first one.
    """
    ordered = sorted(reports, key=lambda report: report.seed)
    first = ordered[0] if ordered else None
    # What was offered is the same for all; the rate that was kept is each trial's own.
    load = structs.replace(first.load, published_per_s=None) if first and first.load else None
    invalid = _invalid(ordered, failed, asked)

    def spread(value: Callable[[Report], float | None]) -> Spread:
        return spread_of([value(report) for report in ordered])

    return TrialsReport(
        subnet=subnet, seed=seed, nodes=first.nodes if first else 0, asked=asked, finished=len(ordered),
        verdict=_verdict(ordered, invalid), load=load,
        reach=spread_of([report.reach.ratio for report in ordered], at_most=1.0),
        latency_ms=LatencySpread(
            **{
                name: spread(lambda report, name=name: getattr(report.latency_ms, name))  # type: ignore[misc]
                for name in LatencySpread.__struct_fields__
            }
        ),
        hops_max=spread(lambda report: report.hops.max),
        duplicates_per_delivery=spread(lambda report: report.duplicates_per_delivery),
        bytes_ratio=spread(lambda report: report.bytes.ratio),
        payload_bytes_per_s=spread(lambda report: report.throughput.payload_bytes_per_s),
        expectations=_expectations(ordered), trials=list(map(_figures, ordered)),
        failed=sorted(failed, key=lambda one: one.seed), invalid=invalid, notes=[*_stopped(ordered), *_common(ordered)],
        ignored=first.ignored if first else [],
    )  # fmt: skip


def spread_of(values: Sequence[float | None], *, at_most: float = inf) -> Spread:
    """How one figure is spread, which is never negative and never above `at_most`; None: infinite, or not measured."""
    finite = sorted(value for value in values if value is not None and isfinite(value))
    least = finite[0] if finite else None
    if not finite or len(finite) < len(values):
        return Spread(least=least, trials=len(finite))
    count = len(finite)
    mean = sum(finite) / count
    if count == 1:
        return Spread(mean, least=least, most=finite[-1], trials=1)
    variance = sum((value - mean) ** 2 for value in finite) / (count - 1)
    half = students_t(CONFIDENCE, count - 1) * sqrt(variance / count)
    # No mean is where no value can be: the interval without that part holds it as often.
    return Spread(mean, max(0.0, mean - half), min(at_most, mean + half), least, finite[-1], count)


def first_unsuccessful(trials: TrialsReport) -> int | None:
    """The seed of the first trial that failed, was invalid, or gave no report; None when there is none."""
    seeds = [one.seed for one in trials.failed] + [one.seed for one in trials.trials if one.verdict != "pass"]
    return min(seeds, default=None)


def _invalid(reports: Sequence[Report], failed: Sequence[TrialFailure], asked: int) -> list[str]:
    bad = [report for report in reports if report.verdict == "invalid"]
    lost = sorted(failed, key=lambda one: one.seed)
    left = asked - len(reports) - len(failed)
    return [
        *([f"{_trials(len(bad))} invalid, the first with seed {bad[0].seed}: {bad[0].invalid[0]}"] if bad else []),
        *([f"{_trials(len(lost))} without a report, the first with seed {lost[0].seed}: {lost[0].error}"] if lost else []),
        *([f"{_trials(left)} not finished"] if left > 0 else []),
    ]  # fmt: skip


def _verdict(reports: Sequence[Report], invalid: Sequence[str]) -> Verdict:
    if invalid or not reports:
        return "invalid"
    return "pass" if all(report.verdict == "pass" for report in reports) else "fail"


def _expectations(reports: Sequence[Report]) -> list[TrialExpectation]:
    held: dict[str, list[bool]] = {}
    for report in reports:
        for result in report.expectations:
            held.setdefault(result.expr, []).append(result.ok)
    return [TrialExpectation(expr, sum(oks), len(oks), all(oks)) for expr, oks in held.items()]


def _figures(report: Report) -> TrialFigures:
    latency = report.latency_ms
    return TrialFigures(
        seed=report.seed, verdict=report.verdict, digest=report.digest, reach=report.reach.ratio, p50_ms=latency.p50,
        p95_ms=latency.p95, p99_ms=latency.p99, max_ms=latency.max, hops_max=report.hops.max,
        duplicates_per_delivery=report.duplicates_per_delivery, bytes_ratio=report.bytes.ratio,
        missed=[result.expr for result in report.expectations if not result.ok], invalid=report.invalid,
    )  # fmt: skip


def _stopped(reports: Sequence[Report]) -> list[str]:
    count = sum(report.stopped_early is not None for report in reports)
    return [f"{_trials(count)} stopped early: their figures are of what they published until then"] if count else []


def _common(reports: Sequence[Report]) -> list[str]:
    """Notes that every trial has: what one alone has stands in its own report."""
    if not reports:
        return []
    return [note for note in reports[0].notes if all(note in report.notes for report in reports)]


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
