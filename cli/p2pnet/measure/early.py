"""While a run goes on: which of its expectations can hold no more, whatever comes. Pure.

For each metric there is a least and a largest value that the report can still come to, given the receipts that came, for how
long others are outstanding, and how many are to come. An expectation that no value between them meets is lost. Receipts that
turn out to be unknown later make the bounds narrower, never wider. `bytes` is known at the end alone.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from p2pnet.measure.expectations import Expectation, all_of
from p2pnet.measure.injection import Planned
from p2pnet.measure.report import SHARES, RunMeasure

LOOK_NS = 50_000_000  # between two looks at least,
LOOK_SHARE = 100  # and at least this part of the time that has gone by: looks become no dearer the longer a run is
DRAIN_S = 5.0  # for receipts that are under way when a run is stopped
_MS = 1e6


class EarlyWatch:
    """Looks at one run now and then. `honest`: the nodes that receive."""

    def __init__(
        self, measure: RunMeasure, expect: Sequence[str], planned: Sequence[Planned], honest: Collection[str]
    ) -> None:
        """Raises SpecError for an expectation that cannot be read."""
        receivers = [len(honest) - (one.publisher in honest) for one in planned]
        self._measure = measure
        self._expectations = all_of(expect)
        self._artifacts = len(planned)
        self._expected = sum(receivers)
        self._payload = sum(one.size * count for one, count in zip(planned, receivers, strict=True))

    @staticmethod
    def next_look_ns(begun_ns: int, now_ns: int) -> int:
        """When to look again, after a look now."""
        return now_ns + max(LOOK_NS, (now_ns - begun_ns) // LOOK_SHARE)

    def look(self, now_ns: int, *, bound_ms: float = 0.0, excused: Collection[str] = ()) -> Expectation | None:
        """The first expectation that can hold no more; None: all still can.

        All receipts until `now_ns` must be in, but those of nodes that are `excused`. `bound_ms`: how far clocks may differ.
        """
        outlook = _Outlook(self._measure, now_ns, frozenset(excused), bound_ms)
        for one in self._expectations:
            low, high = self._range(one, outlook)
            if not _can_hold(one, low, high):
                return one
        return None

    def _range(self, one: Expectation, outlook: "_Outlook") -> tuple[float, float]:
        """The least and the largest value that the metric can still come to."""
        if not self._expected:
            return -math.inf, math.inf
        within_ms = math.inf if one.within_s is None else one.within_s * 1000
        match one.metric:
            case "reach":
                return outlook.reach(self._expected, within_ms)
            case "hops":
                return outlook.hops(within_ms), math.inf
            case "duplicates":
                return outlook.duplicates / self._expected, math.inf
            case "throughput":
                return 0.0, outlook.per_second(self._payload)
            case "rate":
                return 0.0, outlook.per_second(self._artifacts)
            case "bytes":
                return -math.inf, math.inf
            case _:
                return outlook.percentile(self._expected, SHARES[one.metric], within_ms)


@dataclass(frozen=True)
class _Outlook:
    """What is known of a run's receipts at one moment."""

    measure: RunMeasure
    now_ns: int
    excused: frozenset[str]
    bound_ms: float

    @cached_property
    def arrived(self) -> list[tuple[float, int]]:
        """Latency in ms and hop of each receipt that came."""
        return sorted(
            ((receipt.t_ns - journey.t_ns) / _MS, receipt.hop)
            for journey in self.measure.journeys()
            for _, receipt in journey.delivered()
        )

    @cached_property
    def outstanding(self) -> list[float]:
        """For how many ms each receipt is outstanding that did not come, sorted. Those of excused nodes are left out."""
        ages: list[float] = []
        for journey in self.measure.journeys():
            lacking = sum(
                node != journey.publisher and node not in journey.receipts and node not in self.excused
                for node in self.measure.nodes
            )
            ages += [(self.now_ns - journey.t_ns) / _MS] * lacking
        return sorted(ages)

    @property
    def duplicates(self) -> int:
        return sum(journey.duplicates for journey in self.measure.journeys())

    @cached_property
    def least(self) -> list[float]:
        """What each receipt known of takes at least, sorted."""
        return sorted([*(latency for latency, _ in self.arrived), *self.outstanding])

    def percentile(self, expected: int, share: int, within_ms: float) -> tuple[float, float]:
        """Bounds of a nearest-rank percentile over all expected receipts; those later than `within_ms` are missed."""
        rank = max(1, -(-share * expected // 100))
        place = rank - 1 - (expected - len(self.least))  # the rest may be as quick as they like
        low = self.least[place] - self.bound_ms if 0 <= place < len(self.least) else -math.inf
        high = self.arrived[rank - 1][0] + self.bound_ms if rank <= len(self.arrived) else math.inf
        return math.inf if low > within_ms else low, math.inf if high > within_ms else high

    def reach(self, expected: int, within_ms: float) -> tuple[float, float]:
        in_time = sum(latency <= within_ms - self.bound_ms for latency, _ in self.arrived)
        missed = sum(latency > within_ms + self.bound_ms for latency in self.least)
        return in_time / expected, (expected - missed) / expected

    def hops(self, within_ms: float) -> float:
        return max((hop for latency, hop in self.arrived if latency <= within_ms - self.bound_ms), default=-math.inf)

    def per_second(self, most: float) -> float:
        """`most` over the time until the last event that counts: it can only become longer."""
        begun = [journey.t_ns for journey in self.measure.journeys()]
        last = [receipt.t_ns for journey in self.measure.journeys() for _, receipt in journey.delivered()]
        seconds = (max([*begun, *last]) - min(begun)) / 1e9 - self.bound_ms / 1000 if begun else 0.0
        return most / seconds if seconds > 0 else math.inf


def _can_hold(one: Expectation, low: float, high: float) -> bool:
    """Whether some value between the bounds, which are part of it, is as expected."""
    match one.operator:
        case "==":
            return low <= one.threshold <= high
        case "!=":
            return not low == high == one.threshold
        case "<=" | "<":
            return one.holds(low)
        case _:
            return one.holds(high)
