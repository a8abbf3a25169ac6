"""What a run's events amount to: the arithmetic of the report, and its verdict."""

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure import RunFacts, RunMeasure, most_telling
from p2pnet.measure.report import MISSED, distribution, finite, percentile, ratio
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.report import Load, Report

MS = 1_000_000
FOREVER = 1 << 62
NODES = [f"node-{index}" for index in range(5)]
A, B = "aa" * 32, "bb" * 32


def event(node: str, kind: EventKind, t_ms: float, artifact: str = A, **more: Any) -> Collected:
    return Collected(node, more.pop("incarnation", "i"), 0, int(t_ms * MS), kind, "blob", artifact, **more)


def validated(node: str, t_ms: float, artifact: str = A, **more: Any) -> Collected:
    return event(node, EventKind.VALIDATED, t_ms, artifact, **more)


def duplicate(node: str, t_ms: float, artifact: str = A) -> Collected:
    return event(node, EventKind.DUPLICATE, t_ms, artifact, bytes=1_000)


def delivered(artifact: str = A, start_ms: float = 0.0) -> list[Collected]:
    """node-0's artifact reaches the four others after 10, 20, 30 and 40 ms, hop by hop."""
    return [
        validated(NODES[step], start_ms + 10 * step, artifact, peer=NODES[step - 1], hop=step) for step in range(1, 5)
    ]


def measured(events: list[Collected], *artifacts: str) -> RunMeasure:
    measure = RunMeasure(NODES)
    for artifact in artifacts or (A,):
        measure.published(artifact, "node-0", 0, 1_000)
    measure.feed(events)
    return measure


def report(measure: RunMeasure, *expect: str, **known: Any) -> Report:
    return measure.report(RunFacts(run="r", subnet="demo", target="local", seed=42, expect=expect, **known))


def test_a_whole_delivery_passes_by_default() -> None:
    got = report(measured(delivered()), sent=6_000)
    assert got.verdict == "pass"
    assert (got.reach.expected, got.reach.delivered, got.reach.ratio) == (4, 4, 1.0)
    assert [got.latency_ms.p50, got.latency_ms.p90, got.latency_ms.max] == [20.0, 40.0, 40.0]
    assert (got.hops.p50, got.hops.max) == (2, 4)
    assert (got.bytes.payload, got.bytes.sent, got.bytes.ratio) == (4_000, 6_000, 1.5)
    assert got.duplicates_per_delivery == 0.0
    assert [(result.expr, result.value, result.ok) for result in got.expectations] == [("reach == 100%", 100.0, True)]
    assert (got.publishers, got.payload_bytes, got.artifact_ids) == (["node-0"], 1_000, [A])
    assert got.duration_s == 0.04
    assert got.cdf_ms[0] == 10.0
    assert got.cdf_ms[-1] == 40.0


def test_a_missing_receipt_is_infinite_and_fails() -> None:
    got = report(measured(delivered()[:3]), "reach == 100%", "p50 <= 1s", "p95 <= 1s")
    assert got.verdict == "fail"
    assert [result.ok for result in got.expectations] == [False, True, False]
    assert (got.latency_ms.p50, got.latency_ms.p99, got.latency_ms.max) == (20.0, None, None)
    assert [measured(delivered()[:3]).lacking(node) for node in NODES] == [0, 0, 0, 0, 1]


def test_nobody_got_it_is_a_failure_and_not_a_vacuous_pass() -> None:
    got = report(measured([]))
    assert (got.verdict, got.reach.ratio, got.hops.max, got.duplicates_per_delivery) == ("fail", 0.0, None, None)


def test_nothing_published_is_invalid() -> None:
    got = report(RunMeasure(NODES))
    assert got.verdict == "invalid"
    assert "nothing was measured" in got.invalid[0]


def test_a_subnet_of_one_measures_nothing() -> None:
    measure = RunMeasure(["node-0"])
    measure.published(A, "node-0", 0, 10)
    assert report(measure).verdict == "invalid"


def test_an_artifact_without_a_publication_on_record_is_invalid() -> None:
    got = report(measured(delivered()), asked=2)
    assert got.verdict == "invalid"
    assert "1 of 2 artifacts" in got.invalid[0]


def test_an_expectation_of_what_was_not_measured_is_invalid() -> None:
    assert report(measured(delivered()), "bytes <= 1.2").verdict == "invalid"
    assert report(measured([]), "hops <= 3").verdict == "invalid"


def test_a_run_that_missed_fails_though_its_own_expectation_of_something_else_held() -> None:
    got = report(measured(delivered()[:1]), "duplicates <= 1")
    assert got.verdict == "fail"
    assert [(one.expr, one.ok) for one in got.expectations] == [("duplicates <= 1", True), ("reach == 100%", False)]
    assert report(measured(delivered()[:1]), "duplicates <= 1", "reach >= 25%").verdict == "pass"


def test_throughput_is_payload_and_artifacts_that_arrived_by_the_seconds_it_took() -> None:
    got = report(measured(delivered()), "throughput >= 99KB/s", "rate >= 25/s")
    assert (got.throughput.payload_bytes_per_s, got.throughput.artifacts_per_s) == (4_000 / 0.04, 1 / 0.04)
    assert [(one.value, one.ok) for one in got.expectations[:2]] == [(100.0, True), (25.0, True)]
    half = report(measured(delivered()[:2]), "throughput >= 100KB/s", "rate >= 26/s")
    assert (half.throughput.payload_bytes_per_s, half.throughput.artifacts_per_s) == (2_000 / 0.02, 0.5 / 0.02)
    assert [one.ok for one in half.expectations] == [True, False, False]


def test_nothing_that_came_is_a_throughput_of_0_and_nothing_expected_none() -> None:
    nothing = report(measured([]), "throughput >= 1B/s").throughput
    assert (nothing.payload_bytes_per_s, nothing.artifacts_per_s) == (0.0, 0.0)
    assert report(RunMeasure(NODES)).throughput.artifacts_per_s is None


def test_a_throughput_that_could_flip_within_the_clock_bound_is_invalid() -> None:
    assert report(measured(delivered()), "rate >= 24/s", clock_bound_ms=2.0).verdict == "invalid"
    assert report(measured(delivered()), "rate >= 23/s", clock_bound_ms=2.0).verdict == "pass"
    assert report(measured(delivered()), "rate <= 26/s", clock_bound_ms=50.0).verdict == "invalid"


def paced(rate: float, gap_ms: float, count: int = 11, late_s: float = 0.0, left_out: int = 0) -> Report:
    """`count` artifacts published `gap_ms` apart, of which `rate` per second were asked for, and some that were not published."""
    measure = RunMeasure(NODES)
    for index in range(count):
        artifact = f"{index:02x}" * 32
        measure.published(artifact, "node-0", int(index * gap_ms * MS), 1_000)
        measure.feed(delivered(artifact, index * gap_ms))
    return report(measure, load=Load(rate_per_s=rate, count=count + left_out, within_s=60.0, seed=42), late_s=late_s)


def test_a_report_says_what_was_offered_and_what_was_kept_of_it() -> None:
    load = paced(10.0, 100.0).load
    assert load == Load(rate_per_s=10.0, count=11, within_s=60.0, seed=42, published_per_s=10.0)
    assert paced(10.0, 100.0).notes == []
    assert report(measured(delivered()), load=Load(count=1)).load == Load(count=1)  # a burst has no rate to keep


def test_a_rate_that_was_not_kept_is_said() -> None:
    assert paced(20.0, 100.0).notes == ["the rate was not kept: 20/s offered, 10/s published, up to 500 ms late"]
    assert paced(10.0, 100.0, late_s=0.25).notes == ["publications came up to 250 ms after they were due"]
    assert paced(1_000.0, 2.0, count=2).notes == []  # a millisecond says nothing


def test_the_gaps_that_unpublished_artifacts_leave_are_not_called_late() -> None:
    assert paced(10.0, 120.0, left_out=2).notes == []
    assert paced(10.0, 120.0, left_out=2, late_s=0.25).notes == ["publications came up to 250 ms after they were due"]


def test_the_nodes_whose_missing_receipts_are_unknown_are_named() -> None:
    assert report(measured(delivered()[:3]), lost_until_ns={"node-4": FOREVER}).unknown_nodes == ["node-4"]


def test_invalid_outranks_failed_and_passed() -> None:
    assert report(measured(delivered()), invalid=["the disk is full"]).verdict == "invalid"
    got = report(measured([]), invalid=["the disk is full"])
    assert (got.verdict, got.invalid) == ("invalid", ["the disk is full"])


def test_the_publishers_own_validation_is_no_receipt() -> None:
    measure = measured([validated("node-0", 0.1), *delivered()])
    assert report(measure).reach.delivered == 4
    assert measure.delivered == 4


def test_the_first_validation_in_any_incarnation_is_the_receipt() -> None:
    again = [validated("node-1", 90, incarnation="second"), validated("node-1", 5, incarnation="zeroth")]
    got = report(measured([*delivered(), *again]))
    assert got.reach.delivered == 4
    assert got.cdf_ms[0] == 5.0


def test_events_of_nodes_outside_the_run_are_left_aside() -> None:
    assert report(measured([validated("late-0", 1), duplicate("late-0", 2)])).reach.delivered == 0


def test_a_receipt_may_come_before_the_word_of_its_publication() -> None:
    measure = RunMeasure(NODES)
    measure.feed([*delivered(), validated("node-0", 0)])
    assert measure.delivered == 0
    measure.published(A, "node-0", 0, 1_000)
    measure.published(A, "node-3", 7, 9)  # the first word counts
    assert measure.delivered == 4
    assert report(measure).verdict == "pass"


def test_duplicates_are_counted_per_delivery() -> None:
    got = report(measured([*delivered(), duplicate("node-1", 50), duplicate("node-0", 50)]), "duplicates <= 0.2")
    assert (got.duplicates_per_delivery, got.verdict) == (0.5, "fail")


def test_artifacts_are_named_in_the_order_of_publication_and_all_count() -> None:
    measure = RunMeasure(NODES)
    measure.published(A, "node-0", 100 * MS, 1_000)
    measure.published(B, "node-1", 0, 3_000)
    measure.feed([*delivered(A, 100), *[validated(node, 60, B) for node in NODES if node != "node-1"]])
    got = report(measure)
    assert (got.artifact_ids, got.publishers) == ([B, A], ["node-0", "node-1"])
    assert (got.reach.expected, got.bytes.payload) == (8, 4 * 1_000 + 4 * 3_000)
    assert [(one.node, one.received, one.expected) for one in got.per_node][:3] == [
        ("node-0", 1, 1), ("node-1", 1, 1), ("node-2", 2, 2),
    ]  # fmt: skip


def test_each_node_says_from_whom_its_slowest_came() -> None:
    slowest = report(measured(delivered())).per_node[4]
    assert (slowest.max_ms, slowest.p50_ms, slowest.slowest_from) == (40.0, 40.0, "node-3")


def test_within_makes_a_late_receipt_a_miss() -> None:
    got = report(measured(delivered()), "reach >= 50% within 20ms", "reach == 100% within 20ms", "p50 <= 1s within 5ms")
    assert [(result.value, result.ok) for result in got.expectations] == [(50.0, True), (50.0, False), (None, False)]


def test_a_receipt_after_the_end_of_the_run_is_a_miss() -> None:
    got = report(measured(delivered()), within_s=0.035)
    assert (got.reach.delivered, got.verdict) == (3, "fail")
    assert "1 receipts came after" in got.notes[0]


def test_receipts_lost_to_an_ordered_fault_are_unknown_and_left_out() -> None:
    got = report(measured(delivered()[:3]), lost_until_ns={"node-4": FOREVER, "node-1": FOREVER})
    assert (got.unknown, got.reach.expected, got.reach.delivered, got.reach.ratio) == (1, 4, 3, 1.0)
    assert got.verdict == "pass"
    assert "1 receipts were lost" in got.notes[0]


def test_what_was_published_after_a_node_had_died_is_missed_and_not_unknown() -> None:
    measure = measured(delivered()[:3])
    measure.published(B, "node-0", 500 * MS, 1_000)
    measure.feed([validated(node, 510, B) for node in NODES[1:4]])
    got = report(measure, "reach >= 85%", lost_until_ns={"node-4": 400 * MS})
    assert (got.unknown, got.reach.expected, got.reach.delivered, got.reach.ratio) == (1, 8, 6, 6 / 7)
    assert (got.verdict, got.unknown_nodes, got.lost_until_ns) == ("pass", ["node-4"], {"node-4": 400 * MS})


def test_only_unknown_receipts_measure_nothing() -> None:
    assert report(measured([]), lost_until_ns=dict.fromkeys(NODES, FOREVER)).verdict == "invalid"


def test_a_latency_that_could_flip_within_the_clock_bound_is_invalid() -> None:
    got = report(measured(delivered()), "max <= 41ms", clock_bound_ms=2.0)
    assert got.verdict == "invalid"
    assert "known only to 2.000 ms" in got.invalid[0]
    assert report(measured(delivered()), "max <= 50ms", clock_bound_ms=2.0).verdict == "pass"


def test_percentiles_below_the_clock_bound_are_flagged() -> None:
    got = report(measured(delivered()), clock_bound_ms=25.0)
    assert got.notes == ["p50 below the clock bound of 25.000 ms"]


def test_negative_latencies_are_counted_and_beyond_the_bound_invalid() -> None:
    early = [validated("node-1", -1), *delivered()[1:]]
    within = report(measured(early), clock_bound_ms=2.0)
    assert (within.negative_latencies, within.verdict) == (1, "pass")
    beyond = report(measured(early), clock_bound_ms=0.5)
    assert beyond.verdict == "invalid"
    assert "before the publication" in beyond.invalid[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans()), max_size=60), st.integers())
def test_the_order_in_which_events_come_does_not_matter(events: list[tuple[int, int, bool]], seed: int) -> None:
    made = [
        duplicate(NODES[node], t_ms) if twice else validated(NODES[node], t_ms, hop=t_ms)
        for node, t_ms, twice in events
    ]
    shuffled = list(made)
    Random(seed).shuffle(shuffled)
    one, other = measured(made), measured(shuffled)
    assert one.delivered == other.delivered
    assert report(one) == report(other)
    assert report(one).reach.delivered == len({node for node, _, twice in events if node and not twice})


# --- which artifact tells most ---


def told(known: dict[str, Any] | None = None, **receipts_ms: list[int]) -> Report:
    """A report of artifacts, each published by node-0 and received by the others after so many milliseconds."""
    measure = RunMeasure(NODES[:3])
    for index, (artifact, times) in enumerate(receipts_ms.items()):
        start = index * 10**9
        measure.published(artifact, "node-0", start, 9)
        measure.feed(
            Collected(node, "i", 0, start + ms * 10**6, EventKind.VALIDATED, "blob", artifact, NODES[0], 1)
            for node, ms in zip(NODES[1:3], times, strict=False)
        )
    return report(measure, **(known or {}))


def test_the_artifact_whose_last_receipt_took_longest_tells_most() -> None:
    assert most_telling(told(aa=[50, 60], bb=[10, 90], cc=[70, 80])) == "bb"


def test_a_receipt_that_never_came_outdoes_every_latency() -> None:
    assert most_telling(told(aa=[900, 950], bb=[1], cc=[1, 999])) == "bb"


def test_the_artifact_that_missed_most_nodes_outdoes_one_that_missed_fewer() -> None:
    assert most_telling(told(aa=[900], bb=[], cc=[950])) == "bb"


def test_a_receipt_after_the_end_of_the_run_is_a_miss_here_too() -> None:
    assert most_telling(told({"within_s": 0.5}, aa=[1, 2], bb=[1, 700], cc=[3, 4])) == "bb"


def test_a_receipt_lost_to_an_ordered_fault_is_no_miss() -> None:
    assert most_telling(told({"lost_until_ns": {"node-2": FOREVER}}, aa=[9], bb=[30, 20])) == "bb"


def test_a_run_without_artifacts_has_none_that_tells_anything() -> None:
    assert most_telling(told()) == ""


# --- statistics: percentiles are latencies somebody had, and a miss is infinite ---

latencies = st.lists(st.floats(-10, 1e6), max_size=50).map(sorted)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (1, 1), (10, 1), (11, 2), (50, 5), (90, 9), (95, 10), (100, 10)]
)
def test_the_nearest_rank_is_taken_without_interpolation(share: int, expected: int) -> None:
    assert percentile([float(value) for value in range(1, 11)], share) == expected


def test_a_miss_counts_as_infinite() -> None:
    nine_of_ten = [float(value) for value in range(1, 10)]
    assert percentile(nine_of_ten, 90, 10) == 9
    assert percentile(nine_of_ten, 95, 10) == MISSED
    assert percentile([], 50, 10) == MISSED


def test_of_nothing_expected_there_is_no_percentile() -> None:
    assert percentile([], 50) is None
    assert percentile([], 50, 0) is None


def test_infinite_is_printed_null() -> None:
    assert finite(MISSED) is None
    assert finite(None) is None
    assert finite(1.5) == 1.5
    assert ratio(1, 0) is None
    assert ratio(1, 2) == 0.5


@given(latencies, st.integers(0, 20))
def test_percentiles_grow_and_are_values_that_came(arrived: list[float], missing: int) -> None:
    expected = len(arrived) + missing
    points = [percentile(arrived, share, expected) for share in range(101)]
    if not expected:
        assert points == [None] * 101
        return
    values = [point for point in points if point is not None]
    assert values == sorted(values)
    assert all(value in arrived or math.isinf(value) for value in values)
    assert math.isinf(values[-1]) == bool(missing)


@given(latencies)
def test_a_distribution_goes_from_the_first_to_the_last_in_twenty_steps(arrived: list[float]) -> None:
    points = distribution(arrived)
    assert len(points) == (21 if arrived else 0)
    if arrived:
        assert (points[0], points[-1]) == (arrived[0], arrived[-1])


def test_nothing_is_expected_of_adversaries_and_who_published_as_one_is_named() -> None:
    liars = [AdversaryGroup("liar", "lying", ["liar-0", "liar-1"])]
    measure = RunMeasure(NODES)
    measure.published(A, "node-0", 0, 1_000)
    measure.published(B, "liar-0", 0, 1_000)
    measure.feed([*delivered(), validated("liar-1", 5.0, peer="node-0", hop=1), duplicate("liar-1", 9.0)])
    got = report(measure, adversaries=liars)
    assert (got.reach.expected, got.reach.delivered, measure.awaited, measure.delivered) == (9, 4, 9, 4)
    assert (got.nodes, got.adversaries) == (7, liars)
    assert [one.node for one in got.per_node] == NODES
    assert [one.expected for one in got.per_node] == [1, 2, 2, 2, 2]
    assert got.duplicates_per_delivery == 0.0
    assert got.publishers == ["liar-0", "node-0"]
    assert got.notes == ["liar-0, which published, is lying"]
