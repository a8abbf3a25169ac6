"""How long to wait before the next attempt after a failed one: exponential back-off, without clock or chance.

Who wants the waits of many spread multiplies by a factor drawn from its own rng.
"""


def next_wait(wait: float, first: float, most: float) -> float:
    """The wait after `wait` was not enough: twice as long, `first` after 0 (no failure yet), never above `most`.

    All three in one unit. Forget a past failure by passing 0.
    """
    return min(most, wait * 2 or first)


def wait_after(failures: int, first: float, most: float) -> float:
    """The wait after so many failures in a row, from 1 on: `first`, then doubled with each, never above `most`."""
    return min(most, first * 2.0 ** min(failures - 1, 64))  # 2**64 times anything is above every bound of this house
