"""How fast a run publishes: `10/s`, or stages and ramps: `2/s for 30s, then 2/s to 20/s over 1m, then 20/s`. Pure.

`model.load_stages` reads that; here is what it means: `OfferedPace.offsets` is when each artifact is due, on every target.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import ceil, sqrt

from p2pnet.model.errors import SpecError
from p2pnet.model.load_stages import RATE_MAX, read_stages
from p2pnet.model.report import LoadStage
from p2pnet.model.units import format_duration, format_rate

_NS = 1e9
_HELD_DIGITS = 6  # 0.1/s for 30s is three artifacts, whatever binary fractions make of it


@dataclass(frozen=True, slots=True)
class OfferedPace:
    """Rates one after the other, each for its time; the last one goes on for as long as artifacts are left."""

    text: str
    """As it was written."""
    stages: Sequence[LoadStage]
    """Their `artifacts` are 0: how many a stage publishes is for a count to say."""

    @property
    def is_staged(self) -> bool:
        """Whether there is more to say than one rate."""
        return len(self.stages) > 1 or self.stages[0].for_s is not None

    @property
    def constant_per_s(self) -> float:
        """The rate, where it is one; of stages the first one above zero."""
        return next(rate for one in self.stages for rate in (one.from_per_s, one.to_per_s) if rate > 0)

    @property
    def held(self) -> int | None:
        """How many artifacts the stages publish in their time; None: the last one goes on."""
        return held_by(self.stages)

    def offsets(self, count: int) -> list[int]:
        """When each of so many artifacts is due, in nanoseconds from the first moment, never falling.

        Artifact k is due when the rates until then make k artifacts. Raises SpecError where the rates end at zero before all are.
        """
        found: list[int] = []
        for _, due in zip(range(count), self._dues(), strict=False):
            found.append(int(due * _NS))
        if len(found) < count:
            raise SpecError(
                f"{self.text!r} ends at 0/s with {len(found)} of {count} artifacts published: ask for fewer, or let a last stage"
                " go on, like: then 1/s"
            )
        return found

    def planned(self, count: int) -> list[LoadStage]:
        """The stages with how many of so many artifacts each publishes; what is left when all are over counts for the last."""
        held, made, before = [], 0, 0.0
        for one in self.stages:
            before += _amount(one) if one.for_s is not None else count
            upto = min(count, ceil(round(before, _HELD_DIGITS)))
            held.append(upto - made)
            made = upto
        held[-1] += count - made
        return [
            LoadStage(from_per_s=one.from_per_s, to_per_s=one.to_per_s, for_s=one.for_s, artifacts=artifacts)
            for one, artifacts in zip(self.stages, held, strict=True)
        ]

    def _dues(self) -> Iterator[float]:
        """Seconds, artifact by artifact: without end, unless the last rate is zero."""
        index, before, begun_s = 0, 0.0, 0.0
        for one in self.stages:
            amount = _amount(one) if one.for_s is not None else None
            while amount is None or round(index - before - amount, _HELD_DIGITS) < 0:
                yield begun_s + _seconds_to(one, max(0.0, index - before))
                index += 1
            before, begun_s = before + amount, begun_s + (one.for_s or 0.0)
        last = self.stages[-1].to_per_s
        while last > 0:
            yield begun_s + max(0.0, index - before) / last
            index += 1


def parse(text: str) -> OfferedPace:
    """Read a pace. Raises SpecError naming the stage, and what is allowed there."""
    return OfferedPace(text.strip(), read_stages(text))


def pace_of(rate: float | str | None) -> OfferedPace | None:
    """The pace of a request: a number per second, a text, or None, a burst. Raises SpecError as `parse`."""
    if rate is None or isinstance(rate, str):
        return None if rate is None else parse(rate)
    if not 0 < rate <= RATE_MAX:
        raise SpecError(f"rate {rate}: above zero and at most a million per second")
    return OfferedPace(f"{rate:g}/s", [LoadStage(from_per_s=rate, to_per_s=rate)])


def asked_rate(pace: OfferedPace | None) -> float | str | None:
    """What a request says of a pace: a number where that is all, so that a lab that knows no stages can refuse them."""
    if pace is None:
        return None
    return pace.text if pace.is_staged else pace.constant_per_s


def schedule(pace: OfferedPace | None, count: int) -> list[int]:
    """When each of so many artifacts is due, in nanoseconds from the begin of the run; without a pace all at once.

    Raises SpecError as `OfferedPace.offsets`.
    """
    return list(repeat(0, count)) if pace is None else pace.offsets(count)


def most_within(due_ns: Sequence[int], span_s: float) -> int:
    """The most artifacts that are due within a span of time, both ends included. `due_ns`: in order."""
    first = most = 0
    for index, due in enumerate(due_ns):
        while due - due_ns[first] > span_s * 1e9:
            first += 1
        most = max(most, index - first + 1)
    return most


def count_of(pace: OfferedPace | None, *, payloads: int, publisher: str, nodes: int) -> int:
    """How often each payload is published where nobody says: once, or as often as stages that all say a time can hold.

    `nodes`: how many of them publish for `all`.
    """
    held = pace.held if pace is not None else None
    return 1 if held is None else max(1, held // (payloads * (nodes if publisher == "all" else 1) or 1))


def held_by(stages: Sequence[LoadStage]) -> int | None:
    """How many artifacts stages publish in their time; None: the last one goes on."""
    if stages[-1].for_s is None:
        return None
    return ceil(round(sum(map(_amount, stages)), _HELD_DIGITS))


def mean_per_s(pace: OfferedPace, count: int) -> float:
    """The rate from the first artifact to the last. Raises SpecError as `OfferedPace.offsets`."""
    if not pace.is_staged or count < 2:
        return pace.constant_per_s
    offsets = pace.offsets(count)
    return (count - 1) * _NS / (offsets[-1] - offsets[0]) if offsets[-1] > offsets[0] else pace.constant_per_s


def stage_words(one: LoadStage) -> str:
    """`2/s for 30 s`, `2/s to 20/s over 1m 0s`, `20/s`."""
    if one.from_per_s == one.to_per_s:
        return format_rate(one.from_per_s) + ("" if one.for_s is None else f" for {format_duration(one.for_s)}")
    return f"{format_rate(one.from_per_s)} to {format_rate(one.to_per_s)} over {format_duration(one.for_s or 0.0)}"


def _amount(one: LoadStage) -> float:
    """How many artifacts a stage makes in its time."""
    return (one.from_per_s + one.to_per_s) / 2 * (one.for_s or 0.0)


def _seconds_to(one: LoadStage, artifacts: float) -> float:
    """How long a stage takes to make so many."""
    if one.from_per_s == one.to_per_s or one.for_s is None:
        return artifacts / one.from_per_s
    # The larger root of growth/2 t² + from t = artifacts, in the form that loses no digits.
    growth = (one.to_per_s - one.from_per_s) / one.for_s
    below = one.from_per_s + sqrt(max(0.0, one.from_per_s**2 + 2 * growth * artifacts))
    return 2 * artifacts / below if artifacts else 0.0
