"""Tails of the binomial distribution, against sums of its terms; and how far bursts of losses widen them."""

import math
from itertools import accumulate

import pytest

from p2pnet.measure.chances import at_least
from p2pnet.measure.probes import Arrival, ProbedLink, Train, seen
from p2pnet.model.network import LinkShape


def summed(hits: int, trials: int, share: float) -> float:
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
            + k * math.log(share) + (trials - k) * math.log1p(-share)
        )
        for k in range(hits, trials + 1)
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("trials", [1, 7, 300, 8_000])
def test_a_tail_is_the_sum_of_its_terms(trials, share):
    mean, root = trials * share, math.sqrt(trials * share * (1 - share))
    for hits in {1, round(mean), round(mean + 2 * root), round(mean + 7 * root), trials}:
        if 0 < hits <= trials:
            assert at_least(hits, trials, share) == pytest.approx(summed(hits, trials, share), rel=1e-8, abs=1e-300)


def test_what_cannot_be_and_what_must_be():
    assert at_least(0, 10, 0.0) == 1
    assert at_least(1, 10, 0.0) == 0
    assert at_least(10, 10, 1.0) == 1
    assert at_least(11, 10, 0.5) == 0


def test_a_tail_of_few_independent_trials_may_have_parts_of_them():
    assert at_least(2.5, 10, 0.1) < at_least(2.0, 10, 0.1) < at_least(1.5, 10, 0.1)
    assert at_least(5.0, 10.5, 0.1) > at_least(5.0, 10, 0.1)


def bursts_tail(probes: int, share: float, burst: float) -> list[float]:
    """The exact probability of 0, 1, 2 ... losses or more, by the two states of Gilbert and Elliott's model."""
    begins, ends = share / (burst * (1 - share)), 1 / burst
    good, bad = [1 - share], [0.0, share]  # by losses so far, the state of the last packet
    good.append(0.0)
    for _ in range(probes - 1):
        after_good, after_bad = [0.0] * (len(good) + 1), [0.0] * (len(bad) + 1)
        for lost, (fine, losing) in enumerate(zip(good, bad, strict=True)):
            after_good[lost] += fine * (1 - begins) + losing * ends
            after_bad[lost + 1] += fine * begins + losing * (1 - ends)
        good, bad = after_good, after_bad
    exactly = [fine + losing for fine, losing in zip(good, bad, strict=True)]
    return list(accumulate(reversed(exactly)))[::-1]


@pytest.mark.parametrize("alarm", [1e-7, 1e-10])
@pytest.mark.parametrize(("share", "burst", "probes"), [
    (0.05, 8, 40), (0.05, 8, 400), (0.01, 3, 300), (0.2, 5, 300), (0.5, 20, 200), (0.01, 30, 400), (0.002, 10, 400),
])  # fmt: skip
def test_bursts_of_losses_are_called_too_many_or_too_few_no_more_often_than_stated(share, burst, probes, alarm):
    link = ProbedLink("a", "b", "r", LinkShape(loss=share, loss_burst=burst))

    def alarms(test: str, lost: int) -> bool:
        arrivals = tuple(Arrival(seq, 0, 0) for seq in range(probes - lost))
        trials = seen(link, Train(0, probes, 64, arrivals)).counts[test]
        return (
            trials.hits > trials.allowed
            and at_least(trials.hits, trials.trials, trials.allowed / trials.trials) < alarm
        )

    upper = bursts_tail(probes, share, burst)
    most = next((lost for lost in range(probes + 1) if alarms("lost", lost)), probes + 1)
    assert (upper[most] if most <= probes else 0.0) <= alarm
    few = next((lost for lost in range(probes, -1, -1) if alarms("kept", lost)), -1)
    assert 1 - upper[few + 1] <= alarm + 1e-12  # what the sum's rounding leaves
