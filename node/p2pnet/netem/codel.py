"""CoDel (RFC 8289): which packets of a queue to drop, so that none waits long for long."""

import math

TARGET_NS = 5_000_000
"""A wait that nobody minds (RFC 8289 section 4.3)."""
INTERVAL_NS = 100_000_000
"""How long every packet must have waited longer before one is dropped: the round trip of a far peer (RFC 8289 section 4.2)."""
_MEMORY_NS = 16 * INTERVAL_NS  # so soon after the last drop, dropping goes on at the pace it had


class CoDel:
    """Asked about every packet that comes out of a queue. One drop, then others ever sooner while waits stay above the target."""

    __slots__ = ("_above_ns", "_count", "_dropping", "_entered", "_largest", "_last_count", "_next_ns")

    def __init__(self) -> None:
        self._above_ns: int | None = None  # when waits will have been above the target for an interval
        self._dropping = self._entered = False
        self._next_ns = 0  # when to drop the next packet
        self._count = self._last_count = 0
        self._largest = 0

    def keeps(self, size: int, waited_ns: int, behind_bytes: int, now_ns: int, ns_per_byte: float) -> bool:
        """Whether to send a packet that has waited so long, with so many bytes behind it, rather than drop it."""
        late = self._late(size, waited_ns, behind_bytes, now_ns, ns_per_byte)
        if self._entered:  # one drop is enough to begin with: the packet after it goes
            self._entered = False
            return True
        if self._dropping:
            self._dropping = late
            if not late or now_ns < self._next_ns:
                return True
            self._count += 1
            self._next_ns += self._pause_ns()
            return False
        if late:
            self._enter(now_ns)
        return not late

    def empty(self) -> None:
        """Nothing waits any more."""
        self._above_ns = None
        self._dropping = self._entered = False

    def _late(self, size: int, waited_ns: int, behind_bytes: int, now_ns: int, ns_per_byte: float) -> bool:
        """Whether waits have been above the target for an interval."""
        self._largest = max(self._largest, size)
        # Where one packet takes longer than the target, as below 2.4 Mbit/s, waiting for one is no standing queue.
        target_ns = max(TARGET_NS, self._largest * ns_per_byte)
        if waited_ns < target_ns or behind_bytes <= self._largest:
            self._above_ns = None
            return False
        if self._above_ns is None:
            self._above_ns = now_ns + INTERVAL_NS
            return False
        return now_ns >= self._above_ns

    def _enter(self, now_ns: int) -> None:
        self._dropping = self._entered = True
        more = self._count - self._last_count
        self._count = more if more > 1 and now_ns - self._next_ns < _MEMORY_NS else 1
        self._last_count = self._count
        self._next_ns = now_ns + self._pause_ns()

    def _pause_ns(self) -> int:
        return int(INTERVAL_NS / math.sqrt(self._count))
