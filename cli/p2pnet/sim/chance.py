"""A generator of random numbers of which a large world has three for each node: 100 bytes, where `random.Random` takes 2,500."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_UNIT = 2.0**-53


class Chance:
    """SplitMix64 (Steele, Lea and Flood, 2014), seeded by a text; the same draws for the same text, everywhere."""

    __slots__ = ("_state",)

    def __init__(self, seed: str) -> None:
        self._state = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest())

    def _bits(self) -> int:
        self._state = mixed = (self._state + _STEP) & _MASK
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        return mixed ^ mixed >> 31

    def random(self) -> float:
        """At least 0 and below 1."""
        return (self._bits() >> 11) * _UNIT

    def uniform(self, a: float, b: float) -> float:
        """Between `a` and `b`."""
        return a + (b - a) * self.random()

    def sample(self, population: Sequence[Any], k: int) -> list[Any]:
        """`k` different members of a population. Raises ValueError if it has fewer."""
        if not 0 <= k <= len(population):
            raise ValueError(f"{k} of {len(population)}")
        left = list(population)
        for chosen in range(k):
            other = chosen + int(self.random() * (len(left) - chosen))
            left[chosen], left[other] = left[other], left[chosen]
        return left[:k]

    def randbytes(self, count: int) -> bytes:
        """So many random bytes."""
        return b"".join(self._bits().to_bytes(8) for _ in range(-(-count // 8)))[:count]
