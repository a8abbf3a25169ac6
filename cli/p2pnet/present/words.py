"""What all papers say alike: quantities as people read them, the verdict in a sentence, names made harmless."""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from p2pnet.measure.report import BEHIND_SHARE
from p2pnet.measure.wording import is_burst, measured
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.report import ExpectationResult, NodeReceipts, Report
from p2pnet.model.text import some
from p2pnet.model.units import format_duration, format_rate, format_size

DASH = "\u2013"
"""What stands where nothing was measured, or what never came."""

VERDICTS = {"pass": "Pass", "fail": "Fail", "invalid": "Invalid"}
NOT_IN_FORCE = "Ignored: not in force in this run"
LATENCIES = ("p50", "p90", "p95", "p99", "max")

# Control characters (terminals and XML 1.0 choke on them), marks that turn the direction of what follows (a name could
# rewrite the line it stands in), halves of surrogate pairs and non-characters (neither can be written as UTF-8 or XML).
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def clean(text: str) -> str:
    """The text with every character that could harm its surroundings replaced by U+FFFD; line breaks stay."""
    return _HARMFUL.sub("\ufffd", text)


def milliseconds(value: float | None) -> str:
    """`0.4 ms`, `141 ms`, `2.31 s`; a dash for what never came."""
    if value is None or not math.isfinite(value):
        return DASH
    if abs(value) >= 1000:
        return f"{value / 1000:.2f} s" if abs(value) < 10_000 else f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.1f} ms"


def percent(ratio: float | None) -> str:
    """`100%` only when it is all and `0%` only when it is nothing."""
    if ratio is None:
        return DASH
    if ratio in {0.0, 1.0}:
        return f"{ratio:.0%}"
    return f"{min(max(ratio * 100, 0.1), 99.9):.1f}%"


def number(value: float | None, digits: int = 2) -> str:
    """With so many digits after the point, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}"


def times(ratio: float | None) -> str:
    """`1.05x`, or a dash."""
    return DASH if ratio is None else f"{ratio:.2f}x"


def count(value: int | None) -> str:
    """`1,234`, or a dash."""
    return DASH if value is None else f"{value:,}"


def plural(value: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def instant(unix_s: float) -> str:
    """`2026-11-21 20:13:20 UTC`; a dash for none, or for one no calendar holds."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if unix_s else DASH
    except (OverflowError, OSError, ValueError):
        return DASH


def judged_first(report: Report) -> list[ExpectationResult]:
    """The expectations that did not hold, then those that did, each in the order they were given."""
    return sorted(report.expectations, key=lambda result: result.ok)


def verdict_sentence(report: Report) -> str:
    """Why the verdict is what it is."""
    if report.verdict == "invalid":
        why = report.invalid[0] if report.invalid else "no reason was recorded"
        more = f" (and {plural(len(report.invalid) - 1, 'more reason')})" if len(report.invalid) > 1 else ""
        return f"This run proves nothing: {why}{more}"
    failed = [result for result in report.expectations if not result.ok]
    if not failed:
        held = len(report.expectations)
        return "The expectation held." if held == 1 else f"All {held} expectations held."
    named = some((f"{result.expr} (measured {measured(result)})" for result in failed), 3)
    total = len(report.expectations)
    head = "The expectation" if total == 1 else f"{len(failed)} of {total} expectations"
    return f"{head} did not hold: {named}"


def journey_sentence(report: Report) -> str:
    """What was put in, who got it, and how fast."""
    each = f" of {format_size(report.payload_bytes / report.artifacts)}" if report.artifacts else ""
    start = ""
    if report.publishers:
        start = f" from {report.publishers[0] if len(report.publishers) == 1 else f'{len(report.publishers)} nodes'}"
    reach, latency = report.reach, report.latency_ms
    text = f"{plural(report.artifacts, 'artifact')}{each}{_pace(report)}{start} to {plural(report.nodes, 'node')}"
    if not reach.expected:
        return f"{text}: no receipt was expected."
    text += f": {reach.delivered:,} of {plural(reach.expected, 'receipt')} came"
    if latency.p50 is not None:
        text += f", half of all within {milliseconds(latency.p50)}"
    if latency.max is not None:
        text += f", the last after {milliseconds(latency.max)}"
    return f"{text}."


def _pace(report: Report) -> str:
    if is_burst(report.load):
        return " in a burst"
    rate = report.load.rate_per_s if report.load and report.load.count > 1 else None
    if rate is None:
        return ""
    kept = report.load.published_per_s if report.load else None
    if kept is not None and kept < BEHIND_SHARE * rate:
        return f" at {format_rate(kept)} instead of {format_rate(rate)}"
    return f" at {format_rate(rate)}"


def latency_name(report: Report) -> str:
    """`Latency`; of a burst its name says so, for it holds the wait of the artifacts for each other."""
    return "Latency in a burst" if is_burst(report.load) else "Latency"


def marks(report: Report) -> Iterator[str]:
    """What a reader must know before comparing this run with another."""
    if report.label:
        yield f"label: {report.label}"
    if report.state != "finished":
        yield report.state
    if report.client != DEFAULT_CLIENT:
        yield f"artifacts of client {report.client}"
    if report.shared:
        yield "shared: other runs went on beside it"
    if report.packed:
        yield "packed: several nodes shared one pod"


def ignored_lines(report: Report) -> list[str]:
    """Each field that was asked for and not in force, in a line that can stand alone."""
    return [f"ignored: {field}" for field in report.ignored]


def clock(report: Report) -> str:
    """How well the nodes' clocks are known against each other."""
    bound = report.clock_bound_ms
    return "±0 ms (one host)" if not bound else f"±{bound:.3f} ms"


def duration(report: Report) -> str:
    """From the first publication to the last receipt."""
    return format_duration(report.duration_s)


def outliers(nodes: Iterable[NodeReceipts], bound_ms: float = 0.0) -> dict[str, str]:
    """The nodes that stand out, and by what: receipts that never came, or a slowest one far beyond the others'.

    Far is Tukey's fence (a spread and a half above the upper quartile) and half as much again as the median, so that a
    subnet of equals has no outliers; what clocks known to `bound_ms` could feign does not count.
    """
    nodes = list(nodes)
    slowest = sorted(node.max_ms for node in nodes if node.max_ms is not None)
    fence = math.inf
    if len(slowest) >= 4:
        low, middle, high = (slowest[len(slowest) * quarter // 4] for quarter in (1, 2, 3))
        fence = max(high + 1.5 * (high - low), 1.5 * middle, middle + 2 * bound_ms)
    found = {}
    for node in nodes:
        why = []
        if node.received < node.expected:
            why.append(f"{node.expected - node.received} missing")
        if node.max_ms is not None and node.max_ms > fence:
            why.append("slow")
        if why:
            found[node.node] = ", ".join(why)
    return found


def worst_first(nodes: Iterable[NodeReceipts]) -> list[NodeReceipts]:
    """By receipts missing, then by the slowest."""
    return sorted(nodes, key=lambda node: (node.received - node.expected, -(node.max_ms or 0.0)))
