"""Changes and limits of gates in words, for terminal and Markdown."""

from p2pnet.measure.wording import MISSING, milliseconds, percent
from p2pnet.model.comparison import GateResult, MachineLoad
from p2pnet.model.units import format_rate, format_size

WHY_MAX = 200  # characters


def value_words(result: GateResult, value: float | None) -> str:
    """What one side measured."""
    if value is None:
        return MISSING
    if result.metric in ("p50", "p90", "p95", "p99", "max"):
        return milliseconds(value)
    if result.metric in ("throughput", "rate"):
        return format_rate(value) if result.metric == "rate" else f"{format_size(value)}/s"
    return percent(value) if result.metric == "reach" else f"{value:.4g}"


def change_words(result: GateResult, change: float | None) -> str:
    """A change with its sign and unit; None: without a bound."""
    if change is None:
        return MISSING
    match result.unit:
        case "relative":
            return f"{change * 100:+.2f}%"
        case "points":
            return f"{change * 100:+.2f} points"
        case "ms":
            return f"{change:+.3g} ms"
    return f"{change:+.3g}"


def interval_words(result: GateResult) -> str:
    """From where to where the change probably is."""
    if result.low is None and result.high is None:
        return MISSING
    return f"{change_words(result, result.low)} to {change_words(result, result.high)}"


def machine_words(machine: MachineLoad) -> list[str]:
    """`2 cores`, `load average 0.3 before`, `a process waited for a core in 12% of the time (of one trial 31%)`."""
    found = [f"{machine.cores:g} cores"]
    if machine.load_before is not None:
        found.append(f"load average {machine.load_before:.2g} before")
    if machine.waited is not None:
        most = f" (of one trial {machine.waited_most:.0%})" if machine.waited_most is not None else ""
        found.append(f"a process waited for a core in {machine.waited:.0%} of the time{most}")
    return found


def verdict_words(result: GateResult) -> str:
    """The verdict of one gate, and what would decide it."""
    words = {"pass": "pass", "regression": "REGRESSION", "inconclusive": "inconclusive"}[result.verdict]
    if result.why:
        return f"{words}: {result.why[:WHY_MAX]}"
    if result.verdict != "inconclusive":
        return words
    needed = result.trials_needed
    return f"{words}: some {needed} trials would decide" if needed else f"{words}: too close to the limit"
