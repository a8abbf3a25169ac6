"""Quantities and sentences that every rendering of a report shares: latency, share, offered load, measured value. Pure."""

import math
import re
from collections.abc import Sequence

from p2pnet.measure.pace import held_by, stage_words
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.report import ExpectationResult, Load, Report, StoppedEarly
from p2pnet.model.scenario_run import StepExpectation
from p2pnet.model.text import some
from p2pnet.model.units import format_duration, format_rate, format_size

MISSING = "\N{EN DASH}"
"""In place of a value that was not measured, or of a receipt that never came."""
NOT_FINITE = "no finite value"
"""In place of a measured value, where receipts never came or nothing was measured."""
PHASE_WORDS = {
    "announce": "being announced", "wait": "waiting to ask", "request": "requests and their answers",
    "transfer": "the bytes on their way", "validate": "validation",
}  # fmt: skip
"""What the time of a hop was spent on, by phase in their order, as `HopPhases` has them."""
PHASES = tuple(PHASE_WORDS)
_UNIT = re.compile(r"[<>=!]\s*[0-9.]+\s*([A-Za-z%/]+)")


def milliseconds(value: float | None, missing: str = MISSING) -> str:
    """`0.4 ms`, `141 ms`, `2.31 s`; `missing` for None and infinite."""
    if value is None or not math.isfinite(value):
        return missing
    if abs(value) >= 1000:
        return f"{value / 1000:.2f} s" if abs(value) < 10_000 else f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.1f} ms"


def percent(ratio: float | None, missing: str = MISSING) -> str:
    """`99.5%`; `100%` only for all and `0%` only for nothing, never by rounding; `missing` for None."""
    if ratio is None:
        return missing
    if ratio in {0.0, 1.0}:
        return f"{ratio:.0%}"
    return f"{min(max(ratio * 100, 0.1), 99.9):.1f}%"


def measured(result: ExpectationResult) -> str:
    """The measured value in the unit of its expression; infinite (a miss) and unknown values in words."""
    if result.value is None:
        return NOT_FINITE
    unit = _UNIT.search(result.expr)
    name = unit[1] if unit else ""
    value = f"{result.value:.0f}" if abs(result.value) >= 1000 else f"{result.value:.4g}"
    return value + name if name in {"", "%"} or name.startswith("/") else f"{value} {name}"


def turned_out(one: StepExpectation) -> str:
    """How an expectation of a scenario turned out: `measured 412 ms`, `412 ms against 314 ms`, `links 27/28`."""
    if not one.judged:
        return one.detail or "not judged"
    if one.detail or one.value is None:
        return one.detail or NOT_FINITE
    return f"measured {measured(ExpectationResult(one.expr, one.value, one.ok))}"


def is_burst(load: Load | None) -> bool:
    """Whether several artifacts were published at once: their latencies include the wait for each other."""
    return load is not None and load.rate_per_s is None and load.count > 1


def offered(load: Load) -> str:
    """`a burst of 20 artifacts`, `20 artifacts at 5/s`, `260 artifacts at 2/s for 30 s, then 20/s`, `1 artifact`."""
    count = "1 artifact" if load.count == 1 else f"{load.count:,} artifacts"
    if load.stages:
        return f"{count} at {', then '.join(map(stage_words, load.stages))}"
    if load.rate_per_s is not None:
        return f"{count} at {format_rate(load.rate_per_s)}"
    return f"a burst of {count}" if is_burst(load) else count


def stage_notes(load: Load) -> list[str]:
    """Whether the artifacts ran out before the stages were over, or went on after them."""
    if not load.stages:
        return []
    held, last = held_by(load.stages), max((i for i, one in enumerate(load.stages) if one.artifacts), default=0)
    missed = [stage_words(one) for one in load.stages[last + 1 :] if max(one.from_per_s, one.to_per_s) > 0]
    if missed:
        where = f"stage {last + 1} of {len(load.stages)}"
        return [
            f"the artifacts ran out in {where}: {some(missed, 3)} {'was' if len(missed) == 1 else 'were'} not offered"
        ]
    if held is not None and load.count < held:
        return [f"the artifacts ran out before the stages were over: {held:,} would have filled them"]
    if held is not None and load.count > held:
        over = format_duration(sum(one.for_s or 0.0 for one in load.stages))
        rate = format_rate(load.stages[-1].to_per_s)
        return [
            f"the stages were over after {over}: {load.count - held:,} of {load.count:,} artifacts came later, at {rate}"
        ]
    return []


def stage_lines(report: Report) -> list[str]:
    """By stage: `2/s for 30 s: 60 artifacts, 2/s published, reach 100%, p50 12.1 ms, p95 40.3 ms`."""
    asked = [one for one in report.load.stages if one.artifacts] if report.load else []
    return [
        ", ".join([
            f"{stage_words(stage)}: {'1 artifact' if found.artifacts == 1 else f'{found.artifacts:,} artifacts'}",
            *([] if found.published_per_s is None else [f"{format_rate(found.published_per_s)} published"]),
            f"reach {percent(found.reach)}", f"p50 {milliseconds(found.p50_ms)}", f"p95 {milliseconds(found.p95_ms)}",
        ])
        for stage, found in zip(asked, report.stages, strict=False)
    ]  # fmt: skip


def stopped_words(stopped: StoppedEarly) -> str:
    """`stopped early: p95 <= 80ms could hold no more, after 12 of 100 artifacts and 1.4 s`."""
    counted = f"{stopped.artifacts:,} of {stopped.asked:,} artifacts and {format_duration(stopped.after_s)}"
    return f"stopped early: {stopped.expr} could hold no more, after {counted}"


def kept(load: Load) -> str:
    """`4.98/s published`; empty for a load without a rate."""
    on_average = " on average" if load.stages else ""
    return "" if load.published_per_s is None else f"{format_rate(load.published_per_s)} published{on_average}"


def load_parts(load: Load) -> list[str]:
    """The whole offered load, as parts of a line."""
    within = "" if load.within_s is None else f"receipts within {format_duration(load.within_s)}"
    paced = f" ({kept(load)})" if kept(load) else ""
    parts = [f"{offered(load)}{paced}", f"from {load.publisher}", within, f"seed {load.seed}", f"client {load.client}"]
    return [part for part in parts if part]


def adversary_parts(groups: Sequence[AdversaryGroup], nodes: int) -> list[str]:
    """`8 of 10 nodes, of the others nothing is expected`, `2 lying: liar-0, liar-1`; empty where all of the `nodes` behave."""
    if not groups:
        return []
    honest = nodes - sum(len(group.nodes) for group in groups)
    told = [f"{len(group.nodes)} {group.behaviour}: {some(group.nodes)}" for group in groups]
    return [f"{honest} of {nodes} nodes, of the others nothing is expected", *told]


def throughput_parts(report: Report) -> list[str]:
    """`payload 23.4 MiB/s`, `artifacts 4.95/s`; empty where nothing was measured."""
    octets, artifacts = report.throughput.payload_bytes_per_s, report.throughput.artifacts_per_s
    return [
        *([] if octets is None else [f"payload {format_size(octets)}/s"]),
        *([] if artifacts is None else [f"artifacts {format_rate(artifacts)}"]),
    ]
