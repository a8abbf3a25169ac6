"""Chance without a generator: the same words give the same number, whatever else was asked before.

So one node more changes the numbers of no other, which is what keeps a growing graph the graph it was.
"""

from hashlib import blake2b

POINTS = 1 << 64
"""Points are 0 <= point < POINTS."""


def point(*words: object) -> int:
    """A point on the ring of 2^64, spread evenly over different words."""
    return int.from_bytes(blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest(), "big")
