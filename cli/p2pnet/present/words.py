"""Text that all renderings share: counts and moments, the verdict in a sentence, outliers, names made harmless."""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from p2pnet.measure.report import BEHIND_SHARE
from p2pnet.measure.wording import MISSING, adversary_parts, is_burst, measured, milliseconds
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.report import ExpectationResult, NodeReceipts, Report
from p2pnet.model.text import plural, some
from p2pnet.model.units import format_duration, format_rate, format_size

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


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point; a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}"


def times(ratio: float | None) -> str:
    """`1.05x`; a dash for None."""
    return MISSING if ratio is None else f"{ratio:.2f}x"


def count(value: int | None) -> str:
    """`1,234`; a dash for None."""
    return MISSING if value is None else f"{value:,}"


def instant(unix_s: float) -> str:
    """`2026-11-21 20:13:20 UTC`; a dash for 0 and for moments that no calendar has."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if unix_s else MISSING
    except (OverflowError, OSError, ValueError):
        return MISSING


def judged_first(report: Report) -> list[ExpectationResult]:
    """The expectations that failed, then those that held, each in the order given."""
    return sorted(report.expectations, key=lambda result: result.ok)


def verdict_sentence(report: Report) -> str:
    """The reason for the verdict, in a sentence."""
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
    """What was published, who got it, and how fast, in a sentence."""
    each = f" of {format_size(report.payload_bytes / report.artifacts)}" if report.artifacts else ""
    start = ""
    if report.publishers:
        start = f" from {report.publishers[0] if len(report.publishers) == 1 else f'{len(report.publishers)} nodes'}"
    reach, latency = report.reach, report.latency_ms
    text = f"{plural(report.artifacts, 'artifact')}{each}{_pace(report)}{start} to {_receivers(report)}"
    if not reach.expected:
        return f"{text}: no receipt was expected."
    text += f": {reach.delivered:,} of {plural(reach.expected, 'receipt')} came"
    if latency.p50 is not None:
        text += f", half of all within {milliseconds(latency.p50)}"
    if latency.max is not None:
        text += f", the last after {milliseconds(latency.max)}"
    return f"{text}."


def _receivers(report: Report) -> str:
    dishonest = sum(len(group.nodes) for group in report.adversaries)
    beside = f" beside {dishonest} that {'does' if dishonest == 1 else 'do'} not behave" if dishonest else ""
    return f"{plural(report.nodes - dishonest, 'honest node' if dishonest else 'node')}{beside}"


def _pace(report: Report) -> str:
    if is_burst(report.load):
        return " in a burst"
    rate = report.load.rate_per_s if report.load and report.load.count > 1 else None
    if rate is None:
        return ""
    kept = report.load.published_per_s if report.load else None
    mean = "a mean of " if report.load and report.load.stages else ""
    if kept is not None and kept < BEHIND_SHARE * rate:
        return f" at {mean}{format_rate(kept)} instead of {format_rate(rate)}"
    return f" at {mean}{format_rate(rate)}"


def latency_name(report: Report) -> str:
    """`Latency`, or `Latency in a burst`: there it includes the wait of the artifacts for each other."""
    return "Latency in a burst" if is_burst(report.load) else "Latency"


def marks(report: Report) -> Iterator[str]:
    """What readers must know before they compare this run with another."""
    if report.adversaries:
        yield f"honest: {'; '.join(adversary_parts(report.adversaries, report.nodes))}"
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
    """A line for each field that was asked for and not in force."""
    return [f"ignored: {field}" for field in report.ignored]


def clock(report: Report) -> str:
    """The bound on the error between the nodes' clocks."""
    if report.target == "sim":
        return "one virtual clock"
    bound = report.clock_bound_ms
    return "±0 ms (one host)" if not bound else f"±{bound:.3f} ms"


def duration(report: Report) -> str:
    """The time from the first publication to the last receipt."""
    return format_duration(report.duration_s)


def outliers(nodes: Iterable[NodeReceipts], bound_ms: float = 0.0) -> dict[str, str]:
    """The nodes that stand out, with the reason: missing receipts, or a slowest receipt far slower than other nodes'.

    Far is Tukey's fence (1.5 times the interquartile range above the upper quartile), at least half above the median, so
    that nearly equal nodes have no outliers, and more than clocks known to `bound_ms` could account for.
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
    """Sorted by missing receipts, then by the slowest receipt."""
    return sorted(nodes, key=lambda node: (node.received - node.expected, -(node.max_ms or 0.0)))
