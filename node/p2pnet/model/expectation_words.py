"""The words of expectations, `p95 <= 800ms within 60s`: metrics, comparisons, and a pattern of all that can be written.

`measure.expectations` reads and judges them; who must refuse a wrong one without measuring anything has the pattern.
"""

from typing import Literal

EXPRESSION_CHARS_MAX = 200  # the longest sensible one has some 40; results carry it everywhere

MetricKind = Literal["latency", "share", "number", "throughput", "rate"]

METRICS: dict[str, MetricKind] = {
    "p50": "latency",
    "p90": "latency",
    "p95": "latency",
    "p99": "latency",
    "max": "latency",
    "reach": "share",
    "duplicates": "number",
    "bytes": "number",
    "hops": "number",
    "throughput": "throughput",
    "rate": "rate",
}
"""Metric -> how its value is written. `hops` is the largest; `bytes` and `duplicates` are per delivery; `throughput` counts
payload bytes and `rate` artifacts per second: see `model.report.Throughput`.
"""

TIMELESS = frozenset({"duplicates", "bytes", "throughput", "rate"})
"""Metrics of the whole run: `within` has no meaning there."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_ABOVE_ZERO = r"(?:0*[1-9][0-9]*(?:\.[0-9]+)?|0+\.0*[1-9][0-9]*)"
_DURATION = rf"{_NUMBER}\s*(?:us|ms|s|m|h|d)"
_VALUES: dict[MetricKind, str] = {
    "latency": _DURATION,
    "share": r"0*(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?)\s*%",
    "number": _NUMBER,
    "throughput": rf"{_NUMBER}\s*(?:B|KB|kB|MB|GB|Ki|KiB|Mi|MiB|Gi|GiB)/s",
    "rate": rf"{_ABOVE_ZERO}\s*/[smh]",
}
_COMPARISON = r"\s*(?:<=|>=|==|!=|<|>)\s*"


def expectation_pattern() -> str:
    """A regular expression, in RE2's syntax too, that matches exactly the expectations of one run that can be read."""
    ways = [_way(kind, timeless) for kind in _VALUES for timeless in (False, True)]
    return rf"^\s*(?:{'|'.join(way for way in ways if way)})\s*$"


def _way(kind: MetricKind, timeless: bool) -> str:
    metrics = [name for name, its in METRICS.items() if its == kind and (name in TIMELESS) == timeless]
    if not metrics:
        return ""
    apart = r"\s*" if kind == "number" else r"\s+"  # a number ends where a word begins, a unit does not
    within = "" if timeless else rf"(?:{apart}within\s+{_DURATION})?"
    return rf"(?:{'|'.join(metrics)}){_COMPARISON}{_VALUES[kind]}{within}"
