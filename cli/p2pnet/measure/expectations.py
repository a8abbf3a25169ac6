"""Expectations: `p95 <= 800ms`, `reach >= 99% within 60s`, `throughput >= 5MB/s`. Parsed once, judged on measured values."""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2pnet.model.errors import SpecError
from p2pnet.model.expectation_words import EXPRESSION_CHARS_MAX, METRICS, TIMELESS, MetricKind
from p2pnet.model.report import ExpectationResult
from p2pnet.model.units import parse_duration, parse_rate, parse_share, parse_throughput

DEFAULT_EXPECTATION = "reach == 100%"
"""Judged in every run whose own expectations do not mention reach."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
"""How a measured value is compared with another."""
_WANTED: dict[MetricKind, str] = {
    "latency": "a duration with its unit, like 800ms or 2s",
    "share": "a share in percent, like 99%",
    "number": "a plain number, like 0.2",
    "throughput": "bytes per second with their unit, like 5MB/s or 64KiB/s",
    "rate": "artifacts per time above zero, like 4/s or 30/m",
}
_TOKEN = re.compile(r"\s*([^\s<>=!]+)")
_COMPARISON = re.compile(r"\s*([<>=!]+)")
_VALUE = re.compile(r"\s*([0-9.]+(?:\s*(?!within\b)[^\s0-9.]+)?|\S+)")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_READ: dict[MetricKind, Callable[[str], float]] = {
    "latency": lambda text: parse_duration(text) * 1000,
    "share": parse_share,
    "throughput": parse_throughput,
    "rate": parse_rate,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One parsed expectation."""

    expr: str
    """The expression as it was written."""
    metric: str
    operator: str
    threshold: float
    """In the metric's base unit: milliseconds, a ratio, bytes or artifacts per second, or the number itself."""
    scale: float
    """Base units in one unit of the expression: 1000 for `s`, 0.01 for `%`."""
    within_s: float | None = None
    """A receipt later than this after its publication counts as missed for this expectation."""

    @property
    def kind(self) -> MetricKind:
        """How its value is written."""
        return METRICS[self.metric]

    def holds(self, value: float) -> bool:
        """Whether a value (in the base unit, may be infinite) is as expected."""
        return OPERATORS[self.operator](value, self.threshold)

    def could_flip(self, value: float, low: float, high: float) -> bool:
        """Whether another value between `low` and `high`, the bounds of its error, would be judged differently."""
        return len({self.holds(one) for one in (low, value, high)}) > 1

    def evaluate(self, value: float | None) -> ExpectationResult:
        """The result for a measured value in the base unit; None (not measured) never holds."""
        if value is None:
            return ExpectationResult(self.expr, None, ok=False)
        shown = None if math.isinf(value) else round(value / self.scale, 9)
        return ExpectationResult(self.expr, shown, self.holds(value))


def all_of(expressions: Iterable[str]) -> list[Expectation]:
    """The expectations of a run: these, and the default unless one of them mentions reach. Raises SpecError as `parse`."""
    read = [parse(one) for one in expressions]
    return read if any(one.metric == "reach" for one in read) else [*read, parse(DEFAULT_EXPECTATION)]


def parse(expr: str, begin: int = 0) -> Expectation:
    """Parse a text like `p95 <= 800ms within 60s`. Raises SpecError naming the place and what is allowed there.

    `begin`: where the expectation begins in the text, of which an error tells as a whole.
    """
    text = expr.rstrip() if begin else expr.strip()
    if len(text) > EXPRESSION_CHARS_MAX:
        raise SpecError(f"an expectation has at most {EXPRESSION_CHARS_MAX} characters, this one {len(text)}")
    metric, start, at = _take(_TOKEN, text, begin)
    if metric not in METRICS:
        raise _error(text, start, f"a metric: {' '.join(METRICS)}")
    comparison, start, at = _take(_COMPARISON, text, at)
    if comparison not in OPERATORS:
        raise _error(text, start, f"a comparison: {' '.join(OPERATORS)}")
    value, start, at = _take(_VALUE, text, at)
    threshold, scale = _threshold(text, start, METRICS[metric], value)
    return Expectation(text[begin:], metric, comparison, threshold, scale, _within(text, at, metric))


def _take(pattern: re.Pattern[str], text: str, at: int) -> tuple[str, int, int]:
    """The next token, its start and its end; empty where the text does not match."""
    match = pattern.match(text, at)
    if match:
        return match[1], match.start(1), match.end()
    start = len(text) - len(text[at:].lstrip())
    return "", start, start


def _threshold(text: str, at: int, kind: MetricKind, value: str) -> tuple[float, float]:
    try:
        if kind == "number":
            if not _NUMBER.fullmatch(value):
                raise SpecError(value)
            return float(value), 1.0
        read = _READ[kind]
        return read(value), read("1" + value.lstrip("0123456789. "))
    except SpecError:
        raise _error(text, at, _WANTED[kind]) from None


def _within(text: str, at: int, metric: str) -> float | None:
    word, start, at = _take(_TOKEN, text, at)
    if start == len(text):
        return None
    if word != "within":
        raise _error(text, start, "the end, or `within` and a duration")
    if metric in TIMELESS:
        raise _error(text, start, f"the end ({metric} is of the whole run)")
    value, start, at = _take(_VALUE, text, at)
    try:
        within_s = parse_duration(value)
    except SpecError:
        raise _error(text, start, "a duration with its unit, like 60s,") from None
    if text[at:].strip():
        raise _error(text, at, "the end")
    return within_s


def _error(text: str, at: int, wanted: str) -> SpecError:
    found = repr(text[at:]) if text[at:] else "the end"
    return SpecError(f"expectation {text!r}: at character {at + 1}, {found} stands where {wanted} is wanted")
