"""The few statistics a report needs, over receipts that may be missing."""

import math
from collections.abc import Sequence

MISSED = math.inf
"""What a receipt that never came counts as, wherever a latency is wanted."""


def percentile(arrived: Sequence[float], share: int, expected: int | None = None) -> float | None:
    """The nearest-rank percentile (`share` in percent, 0 to 100) of `expected` values of which `arrived` (sorted) came.

    A value that did not come is infinite: with 9 of 10 arrived, p90 is the slowest and p95 is infinite. None when
    nothing was expected. No interpolation: the result is a latency that somebody really had.
    """
    count = len(arrived) if expected is None else expected
    if count <= 0:
        return None
    rank = max(1, -(-share * count // 100))
    return arrived[rank - 1] if rank <= len(arrived) else MISSED


def finite(value: float | None) -> float | None:
    """The value as JSON can say it: infinite is null."""
    return None if value is None or math.isinf(value) else value


def ratio(part: float, whole: float) -> float | None:
    """What part of the whole, or None when there is no whole."""
    return part / whole if whole else None


def distribution(arrived: Sequence[float]) -> list[float]:
    """The latencies at 0, 5 ... 100 % of those that arrived (sorted); empty when none did."""
    points = (percentile(arrived, share) for share in range(0, 101, 5))
    return [point for point in points if point is not None]
