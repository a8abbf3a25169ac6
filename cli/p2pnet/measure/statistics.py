"""What a comparison asks of statistics: intervals, tests and powers; by scipy, which is imported here alone, when asked.

Install it with `pip install 'p2pnet[compare]'`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

POWER = 0.9
"""Chance that so many trials decide, where their effect and spread are as seen so far."""
TRIALS_MAX = 100_000
"""More are never proposed."""
RESAMPLES = 1_999
EQUAL = 1e-12  # values no further apart differ by rounding alone, of which scipy warns


def is_installed() -> bool:
    """Whether scipy is there; it is not imported for that."""
    from importlib.util import find_spec

    return find_spec("scipy") is not None


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """The interval that holds the true mean of finite values with this confidence (Student's t); infinite for one value."""
    from scipy import stats

    if len(values) > 1 and math.isclose(min(values), max(values), rel_tol=EQUAL, abs_tol=EQUAL):
        return min(values), max(values)
    if len(values) < 2:
        return -math.inf, math.inf
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return float(interval.low), float(interval.high)


def more_often(hits: int, misses: int) -> float:
    """The probability of so many hits or more among both if each were as likely as the other (sign test)."""
    from scipy import stats

    return float(stats.binomtest(hits, hits + misses, 0.5, alternative="greater").pvalue) if hits + misses else 1.0


def trials_to_decide(values: Sequence[float], limit: float, confidence: float) -> int | None:
    """How many values like these would tell with POWER on which side of the limit their mean lies; None: no number would.

    The usual formula for one mean: n = ((t + z) s / gap)^2, with t of the interval and z of the power.
    """
    from scipy import stats

    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    gap = abs(mean - limit)
    if not gap:
        return None
    if not spread:
        return count + 1
    tail, z = 1 - (1 - confidence) / 2, float(stats.norm.ppf(POWER))
    wanted = count + 1
    for _ in range(20):  # t falls as n grows: a few rounds settle it
        t = float(stats.t.ppf(tail, wanted - 1))
        needed = max(count + 1, math.ceil(((t + z) * spread / gap) ** 2))
        if needed > TRIALS_MAX:
            return None
        if needed == wanted:
            break
        wanted = needed
    return wanted


def ranked(values: Sequence[float], rank: int) -> float:
    """The value of this rank, from 0 on, in ascending order."""
    import numpy as np

    return float(np.partition(np.asarray(values, dtype=float), rank)[rank])


def infinite(values: Sequence[float]) -> int:
    """How many are infinite."""
    import numpy as np

    return int(np.isinf(np.asarray(values, dtype=float)).sum())


def resampled_interval(
    base: Sequence[Sequence[float]], head: Sequence[Sequence[float]],
    change: Callable[[Any, Any], float], confidence: float, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """The interval of a change between two samples whose members are drawn again, each with all its values (bootstrap).

    `base` and `head`: the values of each member, infinite ones among them. `change`: of the drawn values, pooled.
    """
    import numpy as np
    from scipy import stats

    pools = [[np.asarray(values, dtype=float) for values in side] for side in (base, head)]

    def statistic(drawn_base: Any, drawn_head: Any) -> float:
        return change(
            np.concatenate([pools[0][int(index)] for index in drawn_base]),
            np.concatenate([pools[1][int(index)] for index in drawn_head]),
        )

    numbers = [np.arange(len(pool)) for pool in pools]
    with np.errstate(invalid="ignore"):  # its standard error, which nobody reads, is none where a change is infinite
        interval = stats.bootstrap(
            numbers, statistic, n_resamples=RESAMPLES, vectorized=False, confidence_level=confidence,
            method="percentile", rng=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)
