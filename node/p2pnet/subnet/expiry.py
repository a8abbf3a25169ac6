"""When a subnet with a `ttl` ends: the warning before, and the time that an open run gets after. Time is an argument."""

from collections.abc import Callable
from datetime import datetime, timedelta

from p2pnet.subnet.spec import Subnet

WARNING = timedelta(minutes=10)
RUN_GRACE = timedelta(minutes=30)
"""By how much an open run may outlast the ttl."""
CLOCK_SET = timedelta(seconds=5)
"""Two clocks that drift apart by more than this: one of them was set."""


def expires_at(subnet: Subnet, created: datetime | None) -> datetime | None:
    """When the ttl of a subnet created at `created` is over; None without a ttl."""
    ttl = subnet.spec.ttl
    return None if ttl is None or created is None else created + timedelta(seconds=ttl.seconds)


def is_expiring(left: timedelta) -> bool:
    """Whether the warning is due, `left` before the end."""
    return left <= WARNING


def is_expired(left: timedelta, *, busy: bool) -> bool:
    """Whether the subnet is to end now; one that is `busy` with a run has half an hour more."""
    return left + (RUN_GRACE if busy else timedelta()) <= timedelta()


class ExpiryTimer:
    """A ttl counted on a monotonic clock: a wall clock that jumps ends no experiment.

    It begins when it is made. The ttl is in seconds and may change meanwhile, as a live edit does.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._began_s = monotonic()
        self.since = wall()
        """Unix seconds, by the wall clock as it stood then."""

    def left(self, ttl_s: float) -> timedelta:
        """What is left; below zero once it is over."""
        return timedelta(seconds=self._began_s + ttl_s - self._monotonic())

    def ends_at(self, ttl_s: float) -> float:
        """The end in Unix seconds, by the wall clock of now."""
        planned, counted = self.since + ttl_s, self._wall() + self.left(ttl_s).total_seconds()
        return planned if abs(counted - planned) <= CLOCK_SET.total_seconds() else counted
