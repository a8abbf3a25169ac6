"""Expectations about runs by the names of their steps: `after.p99 <= 800ms`, `after.p99 <= 1.5 * before.p99`. Pure.

What is compared with a value is judged within the run itself, by the rules of `measure`; what is compared with another run is
judged here, from both reports.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from p2pnet.measure.expectations import OPERATORS, Expectation, parse
from p2pnet.measure.wording import milliseconds
from p2pnet.model.errors import SpecError
from p2pnet.model.expectation_words import METRICS
from p2pnet.model.report import Report
from p2pnet.scenario.spec import STEP_NAME

_SUBJECT = re.compile(rf"\s*({STEP_NAME})\.\s*")
_RELATIVE = re.compile(
    rf"(?P<metric>[a-z0-9]+)\s*(?P<operator>[<>=!]+)\s*(?:(?P<factor>[0-9]+(?:\.[0-9]+)?)\s*\*\s*)?"
    rf"(?P<other>{STEP_NAME})\.\s*(?P<other_metric>[a-z][a-z0-9]*)\s*(?P<rest>.*)"  # a number has digits behind its dot
)
WRITE = "write it like 'before.p95 <= 800ms', or 'after.p99 <= 1.5 * before.p99'"


@dataclass(frozen=True, slots=True)
class Absolute:
    """A run's metric, and a value: `after.p99 <= 800ms within 10s`."""

    expr: str
    """As it was written."""
    run: str
    """Name of the step whose run it is about."""
    expectation: Expectation


@dataclass(frozen=True, slots=True)
class Relative:
    """A run's metric, and another run's, times a factor: `after.p99 <= 1.5 * before.p99`."""

    expr: str
    run: str
    metric: str
    operator: str
    factor: float
    other: str
    """Name of the step of the run that it is compared with."""
    other_metric: str


NamedExpectation = Absolute | Relative


@dataclass(frozen=True, slots=True)
class Judged:
    """How an expectation turned out."""

    value: float | None
    """What was measured, in the expression's own unit: a multiple of the other run's metric for a relative one."""
    ok: bool
    detail: str = ""
    """What there is to say besides."""
    invalid: str = ""
    """Why it cannot be judged; empty: it can."""


def read_expectation(text: str) -> NamedExpectation:
    """Parse an expectation of an `expect` step. Raises SpecError naming the place and what is allowed there."""
    expr = text.strip()
    subject = _SUBJECT.match(expr)
    if subject is None:
        raise SpecError(f"expectation {expr!r}: at character 1, the name of an inject step is wanted: {WRITE}")
    relative = _RELATIVE.fullmatch(expr, subject.end())
    if relative is None:
        return Absolute(expr, subject[1], parse(expr, subject.end()))
    _check(expr, relative)
    return Relative(
        expr, subject[1], relative["metric"], relative["operator"], float(relative["factor"] or 1.0), relative["other"],
        relative["other_metric"],
    )  # fmt: skip


def _check(expr: str, found: re.Match[str]) -> None:
    for group in ("metric", "other_metric"):
        if found[group] not in METRICS:
            raise _wrong(expr, found.start(group), f"a metric: {' '.join(METRICS)}")
    if found["operator"] not in OPERATORS:
        raise _wrong(expr, found.start("operator"), f"a comparison: {' '.join(OPERATORS)}")
    if METRICS[found["metric"]] != METRICS[found["other_metric"]]:
        kinds = f"{found['metric']} and {found['other_metric']} are not of one kind"
        raise _wrong(expr, found.start("other_metric"), f"a metric like {found['metric']} ({kinds})")
    if found["rest"]:
        wanted = "the end (`within` belongs to what is compared with a value)"
        raise _wrong(expr, found.start("rest"), wanted)


def _wrong(text: str, at: int, wanted: str) -> SpecError:
    return SpecError(f"expectation {text!r}: at character {at + 1}, {text[at:]!r} stands where {wanted} is wanted")


def runs_named(one: NamedExpectation) -> list[str]:
    """Names of the steps whose runs it is about."""
    return [one.run] if isinstance(one, Absolute) else [one.run, one.other]


def judge(one: NamedExpectation, reports: Mapping[str, Report]) -> Judged:
    """How it turned out, from the reports of the runs by the names of their steps."""
    if isinstance(one, Relative):
        return _compare(one, reports[one.run], reports[one.other])
    report = reports[one.run]
    for result in report.expectations:
        if result.expr == one.expectation.expr:
            return Judged(result.value, result.ok)
    return Judged(None, ok=False, invalid=f"{one.expr}: the report of {report.run or one.run} does not judge it")


def _compare(one: Relative, report: Report, other: Report) -> Judged:
    left, right = value_of(report, one.metric), value_of(other, one.other_metric)
    for value, name, metric in ((left, one.run, one.metric), (right, one.other, one.other_metric)):
        if value is None:
            return Judged(None, ok=False, invalid=f"{one.expr}: {metric} of {name} was not measured")
    assert left is not None  # noqa: S101 - as checked above
    assert right is not None  # noqa: S101
    if math.isinf(right):
        # Whatever is compared with it would hold, or nothing: a run with misses is no measure for another.
        return Judged(None, ok=False, detail=f"{one.other_metric} of {one.other} is infinite: receipts are missing")
    said = f"{_shown(one.metric, left)} against {_shown(one.other_metric, right)}"
    ok = OPERATORS[one.operator](left, one.factor * right)
    ratio = None if math.isinf(left) or not right else round(left / right, 9)
    return Judged(ratio, ok, detail=said, invalid=_doubt(one, report, other, left, right))


def _doubt(one: Relative, report: Report, other: Report, left: float, right: float) -> str:
    """Why clocks leave open which way it is; empty: they do not."""
    if METRICS[one.metric] != "latency" or math.isinf(left):
        return ""
    compare = OPERATORS[one.operator]
    found = {
        compare(left + a * report.clock_bound_ms, one.factor * (right + b * other.clock_bound_ms))
        for a in (-1, 0, 1)
        for b in (-1, 0, 1)
    }
    bound = max(report.clock_bound_ms, other.clock_bound_ms)
    return f"{one.expr}: clocks are known only to {bound:.3f} ms" if len(found) > 1 else ""


def value_of(report: Report, metric: str) -> float | None:
    """A metric of a report in its base unit; infinite for a latency that a miss made so, None where nothing was measured."""
    match metric:
        case "reach":
            return report.reach.ratio
        case "duplicates":
            return report.duplicates_per_delivery
        case "bytes":
            return report.bytes.ratio
        case "hops":
            return report.hops.max
        case "throughput":
            return report.throughput.payload_bytes_per_s
        case "rate":
            return report.throughput.artifacts_per_s
        case _:
            found: float | None = getattr(report.latency_ms, metric)
            return math.inf if found is None and report.reach.expected > report.unknown else found


def _shown(metric: str, value: float) -> str:
    match METRICS[metric]:
        case "latency":
            return milliseconds(value, "infinite")
        case "share":
            return f"{value * 100:.4g}%"
        case _:
            return f"{value:.4g}"
