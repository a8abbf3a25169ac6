"""Which artifact of a run is the slowest: where one looks first."""

from p2pnet.measure import RunMeasure
from p2pnet.model.events import Collected, EventKind

NODES = ["node-0", "node-1", "node-2"]


def slowest(**receipts_ms: list[int]) -> str:
    """Of artifacts, each published by node-0 and received by the others after so many milliseconds."""
    measure = RunMeasure(NODES)
    for index, (artifact, times) in enumerate(receipts_ms.items()):
        start = index * 10**9
        measure.published(artifact, "node-0", start, 9)
        measure.feed(
            Collected(node, "i", 0, start + ms * 10**6, EventKind.VALIDATED, "blob", artifact, "node-0", 1)
            for node, ms in zip(["node-1", "node-2"], times, strict=False)
        )
    return measure.report(run="r", subnet="demo", target="local", seed=1).slowest


def test_the_artifact_whose_last_receipt_took_longest_is_the_slowest() -> None:
    assert slowest(aa=[50, 60], bb=[10, 90], cc=[70, 80]) == "bb"


def test_a_receipt_that_never_came_outdoes_every_latency() -> None:
    assert slowest(aa=[900, 950], bb=[1]) == "bb"


def test_a_run_without_artifacts_has_no_slowest() -> None:
    assert slowest() == ""
