"""How probable a count is: tails of the binomial distribution, for judging what samples can tell. Pure."""

import math

_ROUNDS_MAX = 2_000  # of the continued fraction; it converges within a few times the root of its larger argument
_HALVINGS = 60  # of an interval that holds t: beyond a float's precision
_EPSILON = 1e-14  # relative change at which it has converged
_TINY = 1e-300  # in the place of a zero that would be divided by


def at_least(hits: float, trials: float, share: float) -> float:
    """The probability of `hits` or more in `trials` independent trials that each hit with probability `share`.

    Neither number needs to be whole: correlated trials are counted as fewer independent ones.
    """
    if hits <= 0:
        return 1.0
    if hits > trials or share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    return _incomplete_beta(hits, trials - hits + 1, share)


def students_t(confidence: float, freedom: int) -> float:
    """The t that a variable of Student's distribution with so many degrees of freedom exceeds, either way, with probability
    1 - `confidence`: half the width of a confidence interval, in standard errors.
    """
    low, high = 0.0, 1.0
    while _beyond(high, freedom) > 1 - confidence:
        low, high = high, high * 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, freedom) > 1 - confidence else (low, middle)
    return (low + high) / 2


def _beyond(t: float, freedom: int) -> float:
    """P(|T| > t)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) if t else 1.0


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b), which is the binomial's tail (Abramowitz and Stegun 26.5.24)."""
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast
        return min(1.0, front * _fraction(a, b, x) / a)
    return max(0.0, 1 - front * _fraction(b, a, 1 - x) / b)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _ROUNDS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d, c = 1 / _not_zero(1 + step * d), _not_zero(1 + step / c)
            value *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
