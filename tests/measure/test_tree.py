"""A hop tree says who got it from whom, which way took longest, and what cannot be known."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure import HopTree, hop_tree
from p2pnet.model.behaviours import AdversaryGroup
from p2pnet.model.events import Collected, EventKind, FetchTimes

MS = 1_000_000
NODES = [f"node-{index}" for index in range(6)]
A = "aa" * 32


def event(node: str, kind: EventKind, t_ms: float, peer: str = "", **more: Any) -> Collected:
    return Collected(node, "i", 0, int(t_ms * MS), kind, "blob", A, peer, **more)


PUBLISHED = event("node-0", EventKind.PUBLISHED, 100, bytes=5_000)


def receipt(node: str, peer: str, t_ms: float, hop: int = 1) -> Collected:
    return event(node, EventKind.VALIDATED, t_ms, peer, hop=hop)


def tree(*events: Collected) -> HopTree:
    return hop_tree(A, events, NODES)


def test_the_critical_path_leads_to_the_last_receipt() -> None:
    drawn = tree(
        PUBLISHED,
        receipt("node-0", "", 100, 0),
        receipt("node-1", "node-0", 110),
        receipt("node-2", "node-0", 115),
        receipt("node-3", "node-1", 150, 2),
        receipt("node-4", "node-2", 120, 2),
    )
    assert (drawn.publisher, drawn.published_ns, drawn.size) == ("node-0", 100 * MS, 5_000)
    assert [one.node for one in drawn.nodes] == ["node-1", "node-2", "node-4", "node-3"]
    assert drawn.critical_path == ["node-0", "node-1", "node-3"]
    assert [one.node for one in drawn.nodes if one.critical] == ["node-1", "node-3"]
    assert drawn.unreached == ["node-5"]
    last = drawn.nodes[-1]
    assert (last.latency_ms, last.edge_ms, last.hop, drawn.hops_max) == (50.0, 40.0, 2, 2)
    assert [one.node for one in drawn.children("node-0")] == ["node-1", "node-2"]


def test_duplicates_are_told_by_node() -> None:
    drawn = tree(
        PUBLISHED,
        receipt("node-1", "node-0", 110),
        event("node-1", EventKind.DUPLICATE, 120, "node-2", bytes=5_000),
        event("node-0", EventKind.DUPLICATE, 121, "node-2", bytes=5_000),
    )
    assert (drawn.duplicates, drawn.duplicate_bytes, drawn.nodes[0].duplicates) == (2, 10_000, 1)


def test_a_receipt_from_a_node_without_one_is_an_orphan() -> None:
    drawn = tree(PUBLISHED, receipt("node-1", "node-0", 110), receipt("node-3", "node-2", 130, 2))
    assert [one.node for one in drawn.orphans] == ["node-3"]
    assert drawn.critical_path == ["node-3"]
    assert drawn.orphans[0].edge_ms is None
    assert drawn.unreached == ["node-2", "node-4", "node-5"]


def test_who_passed_parts_on_before_it_had_all_is_known_by_its_fewer_hops() -> None:
    drawn = tree(PUBLISHED, receipt("node-1", "node-0", 150), receipt("node-2", "node-1", 140, 2))
    early = drawn.nodes[0]
    assert (early.node, early.parent, early.orphan, early.edge_ms, early.latency_ms) == (
        "node-2",
        "node-1",
        False,
        None,
        40.0,
    )
    assert drawn.critical_path == ["node-0", "node-1"]
    assert [one.node for one in drawn.children("node-1")] == ["node-2"]
    later = tree(PUBLISHED, receipt("node-1", "node-0", 150, 2), receipt("node-2", "node-1", 140, 2))
    assert later.nodes[0].orphan


def test_a_circle_is_cut_at_its_first_receipt() -> None:
    drawn = tree(
        PUBLISHED, receipt("node-1", "node-3", 120, 3), receipt("node-2", "node-1", 130, 4),
        receipt("node-3", "node-2", 140, 2), receipt("node-4", "node-3", 150, 3),
    )  # fmt: skip
    assert [one.node for one in drawn.orphans] == ["node-1"]
    assert drawn.critical_path == ["node-1", "node-2", "node-3", "node-4"]


def test_without_a_publication_the_rest_is_still_told() -> None:
    drawn = tree(receipt("node-1", "node-0", 110), receipt("node-2", "node-1", 120))
    assert (drawn.publisher, drawn.size) == (None, None)
    assert drawn.critical_path == ["node-1", "node-2"]
    assert drawn.nodes[0].orphan
    assert drawn.nodes[0].latency_ms is None


def test_nobody_reached_leaves_an_empty_tree() -> None:
    drawn = tree(PUBLISHED)
    assert (drawn.nodes, drawn.critical_path, drawn.unreached) == ([], [], NODES[1:])


def test_events_of_other_artifacts_and_strangers_are_left_aside() -> None:
    other = Collected("node-1", "i", 0, 1, EventKind.VALIDATED, "blob", "bb" * 32, "node-0")
    assert tree(PUBLISHED, other, receipt("outsider-0", "node-0", 105)).nodes == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 20), st.integers(0, 4)), max_size=30),
    st.booleans(),
)
def test_any_events_give_a_tree_without_circles(events: list[tuple[int, int, int, int]], published: bool) -> None:
    receipts = [receipt(NODES[node], [*NODES, ""][peer], 100 + t_ms, hop) for node, peer, t_ms, hop in events]
    drawn = tree(*receipts, *([PUBLISHED] if published else []))
    reached = {one.node for one in drawn.nodes}
    assert len(reached) == len(drawn.nodes)
    assert reached.isdisjoint(drawn.unreached)
    assert len(set(drawn.critical_path)) == len(drawn.critical_path)
    parents = {one.node: one.parent for one in drawn.nodes if not one.orphan}
    ends = set(parents)
    for _ in NODES:
        ends = {parents.get(node, "") for node in ends}
    assert ends <= {""}
    assert len(reached) + len(drawn.unreached) + published == len(NODES)


def test_an_adversary_may_stand_in_the_tree_but_is_not_missed() -> None:
    adversaries = [AdversaryGroup("node", "lying", ["node-1", "node-5"])]
    drawn = hop_tree(
        A, [PUBLISHED, receipt("node-1", "node-0", 110), receipt("node-2", "node-1", 120)], NODES, adversaries
    )
    assert [one.node for one in drawn.nodes] == ["node-1", "node-2"]
    assert drawn.unreached == ["node-3", "node-4"]


def arrival(node: str, peer: str, t_ms: float, detail: str = "") -> Collected:
    return event(node, EventKind.RECEIVED, t_ms, peer, hop=1, bytes=5_000, detail=detail)


def phases_of(*events: Collected) -> list[tuple[float, ...] | None]:
    """As announce, wait, request, transfer and validate, in milliseconds."""
    return [
        None
        if one.phases is None
        else (
            one.phases.announce_ms, one.phases.wait_ms, one.phases.request_ms, one.phases.transfer_ms,
            one.phases.validate_ms,
        )
        for one in tree(*events).nodes
    ]  # fmt: skip


def test_a_fetched_hop_is_split_into_where_its_time_went() -> None:
    times = FetchTimes(2_000, 10_000, 5_000).to_detail()
    found = phases_of(PUBLISHED, arrival("node-1", "node-0", 140, times), receipt("node-1", "node-0", 143))
    assert found == [(23.0, 2.0, 10.0, 5.0, 3.0)]


def test_what_was_pushed_has_no_fetch() -> None:
    found = phases_of(PUBLISHED, arrival("node-1", "node-0", 140), receipt("node-1", "node-0", 143))
    assert found == [(0.0, 0.0, 0.0, 40.0, 3.0)]


def test_a_hop_that_began_before_its_sender_had_everything_waited_for_no_announcement() -> None:
    times = FetchTimes(0, 10_000, 50_000).to_detail()
    found = phases_of(
        PUBLISHED,
        receipt("node-1", "node-0", 150),
        arrival("node-2", "node-1", 160, times),
        receipt("node-2", "node-1", 160, 2),
    )
    assert found == [None, (0.0, 0.0, 10.0, 50.0, 0.0)]


def test_a_hop_whose_bytes_came_from_somebody_else_is_not_split() -> None:
    assert phases_of(PUBLISHED, arrival("node-1", "node-2", 120), receipt("node-1", "node-0", 143)) == [None]


@given(st.builds(FetchTimes, *[st.integers(0, 10**15 - 1)] * 3))
def test_the_times_of_a_fetch_are_read_as_written(times: FetchTimes) -> None:
    assert FetchTimes.from_detail(times.to_detail()) == times


@given(st.text() | st.just("wait=1us request=2us transfer=x"))
def test_any_other_detail_has_no_times(detail: str) -> None:
    assert FetchTimes.from_detail(detail) is None
