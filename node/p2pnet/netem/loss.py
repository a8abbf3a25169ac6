"""Losses in bursts: the model of Gilbert and Elliott, its simple form."""

import math

from p2pnet.netem.counters import Rng


class BurstLoss:
    """Two states, one that loses every packet and one that loses none; each packet may change the state.

    The share asked for is kept, and so is the mean length of a burst, as long as one packet passes between two bursts: bursts are
    longer than asked where the share cannot be had otherwise (half of the packets in bursts of 1 can, two thirds cannot).
    """

    __slots__ = ("_begins", "_ends", "_losing")

    def __init__(self, share: float, burst: float) -> None:
        begins = math.inf if share >= 1 else share / (burst * (1 - share))
        self._begins = min(1.0, begins)
        self._ends = 1 / burst if begins <= 1 else (1 - share) / share
        self._losing: bool | None = None

    def lost(self, rng: Rng) -> bool:
        """Whether the next packet is lost."""
        if self._losing is None:
            # As likely as at any other time, so that the first packets lose the same share.
            self._losing = rng() < self._begins / (self._begins + self._ends)
        elif self._losing:
            self._losing = not rng() < self._ends
        else:
            self._losing = rng() < self._begins
        return self._losing
