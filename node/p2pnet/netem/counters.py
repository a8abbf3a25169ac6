"""What became of packets."""

from collections.abc import Callable
from dataclasses import dataclass

Rng = Callable[[], float]
"""0 <= x < 1, uniform; called only for what a shape makes random."""


@dataclass(slots=True)
class LinkCounters:
    """Packets by what became of them. Passed, lost, overflowed, blocked, too large, and those that wait, are all there were."""

    passed: int = 0
    lost: int = 0
    overflowed: int = 0
    """The queue had no room, or dropped them because they had waited too long (CoDel), or the node holds too many."""
    blocked: int = 0
    too_large: int = 0
    """Larger than the MTU."""
    duplicated: int = 0
    """Passed packets of which a second copy departed too."""
    reordered: int = 0
    """Passed packets that were held back."""
    bytes_passed: int = 0

    @property
    def dropped(self) -> int:
        """Packets that did not pass."""
        return self.lost + self.overflowed + self.blocked + self.too_large
