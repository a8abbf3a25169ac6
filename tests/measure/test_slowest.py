"""Which artifact of a run tells most: where one looks first."""

from typing import Any

from p2pnet.measure import RunMeasure, most_telling
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.report import Report

NODES = ["node-0", "node-1", "node-2"]


def report(known: dict[str, Any] | None = None, **receipts_ms: list[int]) -> Report:
    """Of artifacts, each published by node-0 and received by the others after so many milliseconds."""
    measure = RunMeasure(NODES)
    for index, (artifact, times) in enumerate(receipts_ms.items()):
        start = index * 10**9
        measure.published(artifact, "node-0", start, 9)
        measure.feed(
            Collected(node, "i", 0, start + ms * 10**6, EventKind.VALIDATED, "blob", artifact, "node-0", 1)
            for node, ms in zip(["node-1", "node-2"], times, strict=False)
        )
    return measure.report(run="r", subnet="demo", target="local", seed=1, **(known or {}))


def test_the_artifact_whose_last_receipt_took_longest_tells_most() -> None:
    assert most_telling(report(aa=[50, 60], bb=[10, 90], cc=[70, 80])) == "bb"


def test_a_receipt_that_never_came_outdoes_every_latency() -> None:
    assert most_telling(report(aa=[900, 950], bb=[1], cc=[1, 999])) == "bb"


def test_the_artifact_that_missed_most_nodes_outdoes_one_that_missed_fewer() -> None:
    assert most_telling(report(aa=[900], bb=[], cc=[950])) == "bb"


def test_a_receipt_after_the_end_of_the_run_is_a_miss_here_too() -> None:
    assert most_telling(report({"within_s": 0.5}, aa=[1, 2], bb=[1, 700], cc=[3, 4])) == "bb"


def test_a_receipt_lost_to_an_ordered_fault_is_no_miss() -> None:
    assert most_telling(report({"unknown_nodes": ["node-2"]}, aa=[9], bb=[30, 20])) == "bb"


def test_a_run_without_artifacts_has_none_that_tells_anything() -> None:
    assert most_telling(report()) == ""
