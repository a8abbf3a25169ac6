"""Gates of a comparison: `p99:+10%`, `p50:+5ms`, `reach:-0.1%`, `duplicates:+0.1`. How much worse HEAD may be. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from p2pnet.model.errors import SpecError
from p2pnet.model.expectation_words import METRICS
from p2pnet.model.report import Report
from p2pnet.model.units import parse_duration

GateUnit = Literal["relative", "ms", "points", "number"]

GATE_CHARS_MAX = 80
GATES_MAX = 16  # each takes its share of the chance to err
LESS_IS_WORSE = frozenset({"reach", "throughput", "rate"})
DEFAULT_GATES = ("p50:+10%", "p99:+10%", "reach:-0.1%", "bytes:+10%")
RUN_GATES = ("p50:+10%", "p99:+10%", "reach:-0.1%")
"""The default where two single runs are compared: what they tell of each artifact by itself."""
_GATE = re.compile(r"([a-z0-9]+)\s*:\s*([+-])\s*([0-9]+(?:\.[0-9]+)?)\s*(%|[a-z]*)")

FIGURES: dict[str, Callable[[Report], float | None]] = {
    "p50": lambda report: report.latency_ms.p50,
    "p90": lambda report: report.latency_ms.p90,
    "p95": lambda report: report.latency_ms.p95,
    "p99": lambda report: report.latency_ms.p99,
    "max": lambda report: report.latency_ms.max,
    "reach": lambda report: report.reach.ratio,
    "duplicates": lambda report: report.duplicates_per_delivery,
    "bytes": lambda report: report.bytes.ratio,
    "hops": lambda report: report.hops.max,
    "throughput": lambda report: report.throughput.payload_bytes_per_s,
    "rate": lambda report: report.throughput.artifacts_per_s,
}
"""Metric -> its value in a report, in the base unit of expectations; None: infinite, or not measured."""


@dataclass(frozen=True, slots=True)
class ChangeGate:
    """How much worse one metric may be."""

    text: str
    metric: str
    unit: GateUnit
    limit: float
    """The change from BASE to HEAD that just passes: a ratio less one, milliseconds, a share, or a number.

    Below 0 where less is worse.
    """


def parse(text: str) -> ChangeGate:
    """Parse a gate. Raises SpecError naming what is wrong and what is allowed there."""
    if len(text) > GATE_CHARS_MAX:
        raise SpecError(f"a gate has at most {GATE_CHARS_MAX} characters, this one {len(text)}")
    match = _GATE.fullmatch(text.strip())
    if match is None:
        raise SpecError(
            f"{text!r} is no gate: write METRIC:+CHANGE, like p99:+10%, p50:+5ms, reach:-0.1%, duplicates:+0.1"
        )
    metric, sign, number, suffix = match.groups()
    if metric not in METRICS:
        raise SpecError(f"{metric!r} in {text!r} is no metric: {' '.join(METRICS)}")
    less = metric in LESS_IS_WORSE
    if (sign == "-") != less:
        worse, right = ("less", "-") if less else ("more", "+")
        raise SpecError(f"{text!r}: of {metric} {worse} is worse, so the change it may take begins with {right}")
    unit, change = _change(text, metric, number, suffix)
    if less and unit == "relative" and change >= 1:
        raise SpecError(f"{text!r} lets {metric} fall to nothing: write less than 100%")
    return ChangeGate(text.strip(), metric, unit, -change if less else change)


def all_of(texts: "list[str] | tuple[str, ...]") -> list[ChangeGate]:
    """The gates of a comparison. Raises SpecError as `parse`, and for too many or two of one metric."""
    if len(texts) > GATES_MAX:
        raise SpecError(f"{len(texts)} gates are too many: at most {GATES_MAX}")
    gates = [parse(text) for text in texts]
    metrics = [gate.metric for gate in gates]
    for gate in gates:
        if metrics.count(gate.metric) > 1:
            raise SpecError(f"two gates for {gate.metric}: give one")
    return gates


def _change(text: str, metric: str, number: str, suffix: str) -> tuple[GateUnit, float]:
    kind = METRICS[metric]
    if suffix == "%":
        return ("points" if metric == "reach" else "relative"), float(number) / 100
    if kind == "latency" and suffix:
        return "ms", parse_duration(number + suffix) * 1000
    if kind == "number" and not suffix:
        return "number", float(number)
    allowed = {"latency": "a percentage or a duration", "number": "a percentage or a plain number"}
    raise SpecError(f"{text!r}: {metric} takes {allowed.get(kind, 'a percentage')}")
