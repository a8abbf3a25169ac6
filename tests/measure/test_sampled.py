"""Time series as a page draws them: a bounded number of parts, whatever the length of the run."""

import pytest

from p2pnet.measure.sampled import KINDS, PARTS_MAX, SampledNodes
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.time_series import NodeSample

NS = 10**9
KEYS = [kind.key for kind in KINDS]


def sample(node, second, *, sent=1000, lag=0.0, cpu=0.5):
    link = LinkSample("peer", sent, 10, 2, 0, 5, 40.0, 0)
    return NodeSample(node, second * NS, Sample(second * NS, 1.0, lag, cpu, links=[link]))


def test_a_second_is_one_part_and_has_its_quantities():
    series = SampledNodes(0)
    series.add(sample("a", 1))
    series.add(sample("a", 3, sent=3000))
    assert series.times_s() == [1, 2, 3]
    assert series.series(KEYS.index("sent"), ["a"]) == [[1000.0, None, 3000.0]]
    assert series.series(KEYS.index("cpu"), ["a"])[0][0] == pytest.approx(50.0)
    assert series.series(KEYS.index("rtt"), ["a"])[0][0] == 40.0
    assert series.sent_bytes == {("a", "peer"): 4000}


def test_a_long_run_has_longer_parts_with_means_and_peaks():
    series = SampledNodes(0)
    for second in range(1, PARTS_MAX * 2 + 2):
        series.add(sample("a", second, sent=second, lag=0.001 * second))
    assert series.part_s == 4
    assert len(series.times_s()) <= PARTS_MAX
    assert series.series(KEYS.index("sent"), ["a"])[0][0] == pytest.approx(2.5)
    assert series.series(KEYS.index("lag"), ["a"])[0][0] == pytest.approx(4.0)


def test_samples_before_the_start_count_with_the_first_part():
    series = SampledNodes(10 * NS)
    series.add(sample("a", 3))
    assert series.times_s() == [1]
    assert SampledNodes(0).times_s() == []
