"""An expectation that can hold no more is found as soon as it is certain, and never one that holds in the end."""

from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pnet.measure import RunFacts, RunMeasure
from p2pnet.measure.early import LOOK_NS, EarlyWatch
from p2pnet.measure.injection import Planned
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload
from p2pnet.model.report import Report, StoppedEarly

MS = 1_000_000
NODES = ["a", "b", "c", "d"]
EXPECTATIONS = [
    f"{metric} {operator} {threshold}"
    for metric, thresholds in {
        "p50": ("20ms", "40ms"), "p95": ("20ms", "60ms"), "max": ("30ms",), "hops": ("1", "2"), "duplicates": ("0", "0.3"),
        "reach": ("50%", "100% within 30ms", "0%"), "throughput": ("1KB/s", "90KB/s"), "rate": ("5/s", "200/s"),
    }.items()
    for threshold in thresholds
    for operator in ("<=", "<", ">=", ">", "==", "!=")
]  # fmt: skip


class Story(NamedTuple):
    """Artifacts of `a`, one every so many ms: latencies in ms at the three others (None: never), hops, duplicates."""

    gap_ms: int
    latencies: list[list[int | None]]
    hops: list[int]
    duplicates: list[int]

    def measured(self, until_ms: float) -> RunMeasure:
        measure = RunMeasure(NODES)
        for index, latencies in enumerate(self.latencies):
            artifact, begun = f"{index:064x}", index * self.gap_ms
            if begun > until_ms:
                break
            measure.published(artifact, "a", begun * MS, 1_000)
            for node, latency, hop, doubles in zip("bcd", latencies, self.hops, self.duplicates, strict=True):
                if latency is not None and begun + latency <= until_ms:
                    kinds = [EventKind.VALIDATED, *[EventKind.DUPLICATE] * doubles]
                    measure.feed(
                        [
                            Collected(node, "i", 0, (begun + latency) * MS, kind, "blob", artifact, "a", hop, 1_000)
                            for kind in kinds
                        ]
                    )
        return measure

    def watch(self, measure: RunMeasure, *expect: str) -> EarlyWatch:
        planned = [
            Planned(index, "x", 1_000, "a", index * self.gap_ms * MS, Payload("x", size=1_000))
            for index in range(len(self.latencies))
        ]
        return EarlyWatch(measure, [*expect, "reach >= 0%"], planned, NODES)

    def lost(self, at_ms: float, *expect: str, **more: Any) -> str:
        found = self.watch(self.measured(at_ms), *expect).look(int(at_ms * MS), **more)
        return found.expr if found else ""

    def report(self, expect: str, **more: Any) -> Report:
        facts = RunFacts(
            run="r", subnet="s", target="sim", seed=1, expect=[expect, "reach >= 0%"], within_s=10.0, **more
        )
        return self.measured(10**6).report(facts)


STORIES = st.integers(1, 6).flatmap(
    lambda count: st.builds(
        Story, st.integers(0, 40),
        st.lists(st.lists(st.none() | st.integers(0, 90), min_size=3, max_size=3), min_size=count, max_size=count),
        st.lists(st.integers(1, 3), min_size=3, max_size=3), st.lists(st.integers(0, 1), min_size=3, max_size=3),
    )
)  # fmt: skip


@given(STORIES, st.sampled_from(EXPECTATIONS), st.integers(0, 400))
@example(Story(10, [[10, 20, None]], [1, 1, 1], [0, 0, 0]), "p50 <= 20ms", 9)
def test_what_can_hold_no_more_does_not_hold_in_the_end(story: Story, expect: str, at_ms: int) -> None:
    if story.lost(at_ms, expect):
        assert not story.report(expect).expectations[0].ok


@given(STORIES, st.sampled_from([one for one in EXPECTATIONS if one.split()[0] not in ("reach", "throughput", "rate")]))
def test_once_all_is_known_what_does_not_hold_is_found(story: Story, expect: str) -> None:
    result = story.report(expect).expectations[0]
    if expect.startswith("duplicates") or result.value is None:
        return  # how many receipts will come to share duplicates is not known before the end
    if not result.ok and all(latency is not None for latencies in story.latencies for latency in latencies):
        upward = expect.split()[0] == "hops" and expect.split()[1] not in ("<=", "<")
        assert upward or story.lost(10**6, expect) == expect


def test_a_percentile_is_lost_by_receipts_that_are_outstanding_too_long_as_well() -> None:
    story = Story(10, [[5, 5, None]] * 10, [1, 1, 1], [0, 0, 0])
    assert story.lost(44, "p90 <= 30ms") == ""  # three of thirty may be late
    assert story.lost(72, "p90 <= 30ms") == "p90 <= 30ms"  # of four artifacts c has heard nothing for more than 30 ms
    assert story.lost(72, "p90 <= 30ms", excused={"d"}) == ""
    assert story.lost(72, "p90 <= 30ms", bound_ms=20.0) == ""


@pytest.mark.parametrize(
    ("expect", "at_ms", "lost"),
    [
        ("hops <= 1", 4, False), ("hops <= 1", 5, True), ("reach == 0%", 4, False), ("reach == 0%", 5, True),
        ("reach >= 90%", 10**6, False), ("reach >= 90% within 30ms", 50, False), ("reach >= 90% within 30ms", 80, True),
        ("p50 > 20ms", 75, True), ("p50 > 20ms", 74, False), ("duplicates <= 0.1", 60, True), ("bytes <= 1.0", 10**6, False),
        ("rate >= 1000/s", 90, True), ("throughput >= 1KB/s", 90, False),
    ],
)  # fmt: skip
def test_each_metric_is_lost_when_its_bounds_say_so(expect: str, at_ms: int, lost: bool) -> None:
    story = Story(10, [[5, 5, None]] * 10, [2, 2, 2], [1, 0, 0])
    assert story.lost(at_ms, expect) == (expect if lost else "")


def test_looks_are_seldom_in_long_runs() -> None:
    assert EarlyWatch.next_look_ns(0, 0) == LOOK_NS
    assert EarlyWatch.next_look_ns(0, 10**12) == 10**12 + 10**10


def test_a_run_that_was_stopped_early_says_so_and_is_never_a_pass() -> None:
    story = Story(10, [[5, 5, None]] * 10, [1, 1, 1], [0, 0, 0])
    stopped = StoppedEarly(expr="p50 <= 1ms", artifacts=10, asked=40, after_s=0.1)
    failed = story.report("p50 <= 1ms", asked=10, stopped_early=stopped)
    assert (failed.verdict, failed.stopped_early) == ("fail", stopped)
    assert failed.notes[:2] == [
        "stopped early: p50 <= 1ms could hold no more, after 10 of 40 artifacts and 100 ms",
        "10 receipts had not come when it ended, and count as missed",
    ]
    again = story.measured(10**6).judge_again(
        failed, RunFacts(run="r", subnet="s", target="sim", seed=1, expect=["reach >= 0%"])
    )
    assert (again.verdict, again.invalid) == (
        "invalid", ["stopped early for p50 <= 1ms: what would have come after that is not known"]
    )  # fmt: skip
    held = story.report("p50 <= 1s", asked=10, stopped_early=stopped)
    assert held.verdict == "invalid"
