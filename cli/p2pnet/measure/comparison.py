"""Two versions judged by gates: paired trials, or the artifacts of two single runs. How sure it is, and what would decide. Pure.

Each gate asks whether HEAD is worse than BASE by more than its limit, and answers by a confidence interval of the change: all
of it within the limit passes, all of it beyond is a regression, else more trials are needed. Looking several times and at
several gates gives chance several chances, so each interval takes its share of the error that is allowed (Bonferroni).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from p2pnet.measure import statistics
from p2pnet.measure.gates import FIGURES, LESS_IS_WORSE, ChangeGate
from p2pnet.model.comparison import ComparisonVerdict, GateResult, PairFigures
from p2pnet.model.report import Report

SideName = Literal["base", "head"]
CONFIDENCE = 0.95
"""How sure a whole comparison is: all its gates and looks together."""
LOOKS = 4
"""At most so often the trials so far are judged, to stop as soon as they decide."""
TRIALS_MIN = 3
"""Pairs, before anything is decided."""
ARTIFACTS_MIN = 5
"""What a single run needs: fewer have no spread worth the name."""
RESAMPLING_SEED = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """The reports of both sides under one seed."""

    seed: int
    base: Report
    head: Report

    @property
    def equal(self) -> bool:
        """Whether not one message differed: only the simulator can tell."""
        return self.base.digest is not None and self.base.digest == self.head.digest


def looks(most: int) -> list[int]:
    """After how many pairs they are judged, at most `most`: quarter by quarter."""
    return sorted({min(most, max(TRIALS_MIN, math.ceil(most * part / LOOKS))) for part in range(1, LOOKS + 1)})


def share_of_confidence(gates: int, looks_made: int) -> float:
    """The confidence of one interval, so that all of them together have CONFIDENCE."""
    return 1 - (1 - CONFIDENCE) / max(1, gates * looks_made)


def judge(pairs: Sequence[Pair], gates: Sequence[ChangeGate], *, most: int) -> list[GateResult]:
    """Each gate over these pairs, of which there will be at most `most`."""
    confidence = share_of_confidence(len(gates), len(looks(most)))
    return [_judge(pairs, gate, confidence) for gate in gates]


def is_decided(results: Iterable[GateResult]) -> bool:
    """Whether more trials could change nothing: a regression is found, or every gate passes."""
    verdicts = {result.verdict for result in results}
    return "regression" in verdicts or "inconclusive" not in verdicts


def verdict_of(results: Iterable[GateResult], invalid: Sequence[str]) -> ComparisonVerdict:
    """What all gates together say."""
    if invalid:
        return "invalid"
    verdicts = {result.verdict for result in results}
    if "regression" in verdicts:
        return "regression"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def trials_needed(results: Iterable[GateResult]) -> int | None:
    """How many pairs would probably decide all that is not: the most that any gate asks for; None: nobody can say."""
    needed = [result.trials_needed for result in results if result.verdict == "inconclusive"]
    return None if not needed or None in needed else max(one for one in needed if one is not None)


def figures(pair: Pair, gates: Sequence[ChangeGate]) -> PairFigures:
    """What a pair measured, of the gates' metrics."""
    return PairFigures(
        seed=pair.seed, equal=pair.equal, base={gate.metric: FIGURES[gate.metric](pair.base) for gate in gates},
        head={gate.metric: FIGURES[gate.metric](pair.head) for gate in gates},
    )  # fmt: skip


# --- paired trials ---


def _judge(pairs: Sequence[Pair], gate: ChangeGate, confidence: float) -> GateResult:
    read = FIGURES[gate.metric]
    known = [(read(pair.base), read(pair.head)) for pair in pairs]
    both = [(base, head) for base, head in known if base is not None and head is not None]
    if gate.unit == "relative":
        both = [(base, head) for base, head in both if (base > 0 and head > 0) or base == head]
    # What one side alone could not measure, a miss, is no number: it is counted.
    worse = sum(base is not None and head is None for base, head in known)
    better = sum(base is None and head is not None for base, head in known)
    unusable = len(known) - len(both) - worse - better - sum(one == (None, None) for one in known)
    changes = [_change(gate, base, head) for base, head in both]
    result = _result(gate, both, changes)
    if worse and statistics.more_often(worse, better) <= (1 - confidence) / 2:
        return _with(
            result, verdict="regression", why=f"without a bound in {worse} of {len(known)} trials of HEAD alone"
        )
    if worse:
        return _with(
            result, why=f"without a bound in {worse} of {len(known)} trials of HEAD alone, in {better} of BASE alone"
        )
    if unusable or not changes:
        why = (
            "nothing was measured"
            if not unusable
            else f"zero in {unusable} of {len(known)} trials, from or to which there is no change in percent"
        )
        return _with(result, why=why)
    low, high = statistics.mean_interval(changes, confidence)
    bounded = _with(result, low=_shown(gate, low), high=_shown(gate, high), effect=_shown(gate, _mean(changes)))
    if len(changes) < TRIALS_MIN:
        return _with(bounded, why=f"{TRIALS_MIN} trials are the least", trials_needed=TRIALS_MIN)
    needed = statistics.trials_to_decide(changes, _limit(gate), confidence)
    return _decided(gate, bounded, (low, high), needed)


def _decided(gate: ChangeGate, result: GateResult, interval: tuple[float, float], needed: int | None) -> GateResult:
    (low, high), limit = interval, _limit(gate)
    less = gate.metric in LESS_IS_WORSE
    beyond, within = (high < limit, low >= limit) if less else (low > limit, high <= limit)
    if beyond:
        return _with(result, verdict="regression")
    return _with(result, verdict="pass") if within else _with(result, trials_needed=needed)


def _change(gate: ChangeGate, base: float, head: float) -> float:
    """From BASE to HEAD, on the scale on which changes are averaged: logarithms of ratios, or differences."""
    if gate.unit == "relative":
        return 0.0 if base == head else math.log(head / base)
    return head - base


def _limit(gate: ChangeGate) -> float:
    return math.log1p(gate.limit) if gate.unit == "relative" else gate.limit


def _shown(gate: ChangeGate, change: float) -> float | None:
    """A change as people read it; None: without a bound."""
    if not math.isfinite(change):
        return None
    return math.expm1(change) if gate.unit == "relative" else change


def _result(gate: ChangeGate, both: Sequence[tuple[float, float]], changes: Sequence[float]) -> GateResult:
    def centre(values: Sequence[float]) -> float | None:
        if not values:
            return None
        if gate.unit == "relative" and min(values) > 0:
            return math.exp(_mean([math.log(value) for value in values]))
        return _mean(values)

    return GateResult(
        gate=gate.text, metric=gate.metric, unit=gate.unit, limit=gate.limit, verdict="inconclusive",
        base=centre([base for base, _ in both]), head=centre([head for _, head in both]),
        effect=_shown(gate, _mean(changes)) if changes else None,
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _with(result: GateResult, **changes: object) -> GateResult:
    from msgspec import structs

    return structs.replace(result, **changes)


# --- two single runs ---


def judge_runs(
    base: Sequence[Sequence[float]], head: Sequence[Sequence[float]], gates: Sequence[ChangeGate]
) -> list[GateResult]:
    """Gates of latency and reach over two runs: per artifact the latencies in ms of its expected receipts, infinite where missed.

    Artifacts are drawn again and again (bootstrap): receipts of one artifact are not independent of each other.
    """
    confidence = share_of_confidence(len(gates), 1)
    return [_judge_runs(base, head, gate, confidence) for gate in gates]


def _judge_runs(
    base: Sequence[Sequence[float]], head: Sequence[Sequence[float]], gate: ChangeGate, confidence: float
) -> GateResult:
    of_base, of_head = (_figure(gate.metric, [one for values in side for one in values]) for side in (base, head))
    result = _result(gate, [], [])
    result = _with(result, base=_finite(of_base), head=_finite(of_head))
    if min(len(base), len(head)) < ARTIFACTS_MIN:
        return _with(result, why=f"{ARTIFACTS_MIN} artifacts of each run are the least")

    def change(one: Sequence[float], other: Sequence[float]) -> float:
        before, after = _figure(gate.metric, one), _figure(gate.metric, other)
        if before == after:
            return 0.0
        if gate.unit != "relative":
            return after - before
        if math.isinf(after) or not before:
            return math.inf
        return -math.inf if math.isinf(before) or not after else math.log(after / before)

    low, high = statistics.resampled_interval(base, head, change, confidence, RESAMPLING_SEED)
    effect = change([one for values in base for one in values], [one for values in head for one in values])
    low, high = -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high
    bounded = _with(result, effect=_shown(gate, effect), low=_shown(gate, low), high=_shown(gate, high))
    return _decided(gate, bounded, (low, high), None)


def _figure(metric: str, values: Sequence[float]) -> float:
    """A percentile by the nearest rank, as reports have it, or the share that arrived."""
    if metric == "reach":
        return 1 - statistics.infinite(values) / len(values)
    share = 100 if metric == "max" else int(metric[1:])
    return statistics.ranked(values, max(0, math.ceil(share * len(values) / 100) - 1))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
