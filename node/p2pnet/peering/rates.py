"""How often something may happen: a bucket of permits. No clock; `now_ns` is an argument."""

from p2pnet.peering.clock import NS


class Rate:
    """`per_s` in the long run, `burst` at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._gap_ns = NS / per_s
        self._burst = burst
        self._full_ns = 0.0
        """When the bucket is full again."""

    def take(self, now_ns: int) -> bool:
        """Take a permit if there is one."""
        if self.due_ns(now_ns) > now_ns:
            return False
        self._full_ns = max(self._full_ns, now_ns) + self._gap_ns
        return True

    def due_ns(self, now_ns: int) -> int:
        """When there is a permit: `now_ns` if there is one now."""
        return max(now_ns, int(self._full_ns - (self._burst - 1) * self._gap_ns))
