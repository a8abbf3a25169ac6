"""What every form of a report says in the same words: the load that was offered, the value that was measured. Pure."""

import re

from p2pnet.model.report import ExpectationResult, Load, Report
from p2pnet.model.units import format_duration, format_rate, format_size

_UNIT = re.compile(r"[<>=!]\s*[0-9.]+\s*([A-Za-z%/]+)")


def measured(result: ExpectationResult) -> str:
    """What was measured, in the unit of the expression; a miss is infinite, which no number shows."""
    if result.value is None:
        return "no finite value"
    unit = _UNIT.search(result.expr)
    name = unit[1] if unit else ""
    value = f"{result.value:.0f}" if abs(result.value) >= 1000 else f"{result.value:.4g}"
    return value + name if name in {"", "%"} or name.startswith("/") else f"{value} {name}"


def is_burst(load: Load | None) -> bool:
    """Whether several artifacts were published at once: their latencies hold the wait for each other."""
    return load is not None and load.rate_per_s is None and load.count > 1


def offered(load: Load) -> str:
    """`a burst of 20 artifacts`, `20 artifacts at 5/s`, `1 artifact`."""
    count = "1 artifact" if load.count == 1 else f"{load.count:,} artifacts"
    if load.rate_per_s is not None:
        return f"{count} at {format_rate(load.rate_per_s)}"
    return f"a burst of {count}" if is_burst(load) else count


def kept(load: Load) -> str:
    """`4.98/s published`; empty for what has no rate."""
    return "" if load.published_per_s is None else f"{format_rate(load.published_per_s)} published"


def load_parts(load: Load) -> list[str]:
    """The offered load whole, in parts of a line."""
    within = "" if load.within_s is None else f"receipts within {format_duration(load.within_s)}"
    paced = f" ({kept(load)})" if kept(load) else ""
    parts = [f"{offered(load)}{paced}", f"from {load.publisher}", within, f"seed {load.seed}", f"client {load.client}"]
    return [part for part in parts if part]


def throughput_parts(report: Report) -> list[str]:
    """`payload 23.4 MiB/s`, `artifacts 4.95/s`; nothing where nothing was measured."""
    octets, artifacts = report.throughput.payload_bytes_per_s, report.throughput.artifacts_per_s
    return [
        *([] if octets is None else [f"payload {format_size(octets)}/s"]),
        *([] if artifacts is None else [f"artifacts {format_rate(artifacts)}"]),
    ]
