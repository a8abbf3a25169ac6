"""Every receipt by itself: who got what when, from whom, and what never came."""

from random import Random
from typing import Any

from p2pnet.measure import Publication, ReceiptRow, Receipts, RunFacts, RunMeasure, publications
from p2pnet.model.events import Collected, EventKind

NODES = ["node-0", "node-1", "node-2", "eu-0"]
A, B = "aa" * 32, "bb" * 32
MS = 1_000_000
FOREVER = 1 << 62


def event(node: str, kind: EventKind, ms: float, artifact: str = A, **more: Any) -> Collected:
    return Collected(node, "i", 0, int(ms * MS), kind, "blob", artifact, **more)


EVENTS = [
    event("node-0", EventKind.PUBLISHED, 10, bytes=9),
    event("node-0", EventKind.VALIDATED, 10),
    event("node-1", EventKind.VALIDATED, 30, peer="node-0", hop=1, bytes=9),
    event("node-1", EventKind.VALIDATED, 25, peer="node-2", hop=2, bytes=9),
    event("node-1", EventKind.DUPLICATE, 40, peer="node-0", bytes=9),
    event("eu-0", EventKind.VALIDATED, 90, peer="gone-7", hop=3, bytes=9),
    event("eu-0", EventKind.PUBLISHED, 5, B, bytes=9),
    event("late-0", EventKind.VALIDATED, 50, peer="node-0", hop=1),
]


def rows(artifacts: list[str], events: list[Collected] = EVENTS, **known: Any) -> list[ReceiptRow]:
    receipts = Receipts(NODES, artifacts)
    receipts.feed(events)
    return list(receipts.rows(publications(events), **known))


def test_each_node_but_the_publisher_has_a_row_with_its_first_receipt() -> None:
    assert rows([A]) == [
        ReceiptRow(A, "node-0", "node-1", 10 * MS, 15.0, 2, "node-2", 9, 1, "received"),
        ReceiptRow(A, "node-0", "node-2", 10 * MS, None, None, "", None, 0, "missed"),
        ReceiptRow(A, "node-0", "eu-0", 10 * MS, 80.0, 3, "gone-7", 9, 0, "received"),
    ]


def test_publications_are_known_by_artifact_in_their_order() -> None:
    assert list(publications(EVENTS).items()) == [(B, Publication("eu-0", 5 * MS)), (A, Publication("node-0", 10 * MS))]


def test_what_a_fault_took_is_unknown_and_what_came_too_late_is_missed_and_keeps_its_latency() -> None:
    found = rows([A], deadline_ns=50 * MS, lost_until_ns={"node-2": FOREVER, "node-1": FOREVER})
    assert [(row.node, row.state, row.latency_ms) for row in found] == [
        ("node-1", "received", 15.0),
        ("node-2", "unknown", None),
        ("eu-0", "missed", 80.0),
    ]


def test_a_node_that_died_before_an_artifact_was_published_has_missed_it() -> None:
    states = [[row.state for row in rows([A], lost_until_ns={"node-2": until * MS})][1] for until in (9, 10)]
    assert states == ["missed", "unknown"]


def test_an_artifact_without_a_publication_on_record_has_a_row_for_every_node() -> None:
    found = rows(["cc" * 32, A], [one for one in EVENTS if one.kind is not EventKind.PUBLISHED])
    assert [row.node for row in found] == NODES * 2
    assert {(row.publisher, row.published_ns, row.latency_ms) for row in found} == {("", None, None)}
    assert [row.state for row in found[4:]] == ["received", "received", "missed", "received"]


def test_the_rows_are_those_of_the_report() -> None:
    rng = Random(3)
    artifacts = [f"{index:064x}" for index in range(40)]
    events = [event(rng.choice(NODES), EventKind.PUBLISHED, index, one, bytes=9) for index, one in enumerate(artifacts)]
    for _ in range(300):
        one = rng.choice(artifacts)
        events.append(event(rng.choice(NODES), EventKind.VALIDATED, rng.randrange(40, 900), one, hop=1))
    measure = RunMeasure(NODES)
    for made in events[:40]:
        measure.published(made.artifact, made.node, made.t_ns, 9)
    measure.feed(events)
    report = measure.report(
        RunFacts(run="r", subnet="s", target="local", seed=1, within_s=0.5, lost_until_ns={"eu-0": FOREVER})
    )
    found = rows(artifacts, events, deadline_ns=39 * MS + 500 * MS, lost_until_ns={"eu-0": FOREVER})
    assert len(found) == report.reach.expected
    assert sum(row.state == "received" for row in found) == report.reach.delivered
    assert sum(row.state == "unknown" for row in found) == report.unknown
    assert max(row.latency_ms or 0 for row in found if row.state == "received") == report.cdf_ms[-1]
