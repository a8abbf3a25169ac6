"""How artifacts spread over nodes, hops, links and time, as a page draws it."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.propagation import (
    BINS,
    CURVE_POINTS,
    RECEIPTS_DRAWN_MAX,
    Propagation,
    ReachSums,
    artifacts_to_draw,
    thinned,
)
from p2pnet.measure.receipts import ReceiptRow

NODES = ["a-0", "a-1", "b-0", "b-1"]
START_NS = 5_000_000_000


def row(node, latency_ms, sender="a-0", hop=1, *, artifact="aa", published_ns=START_NS, state="received", duplicates=0):
    return ReceiptRow(
        artifact, "a-0", node, published_ns, latency_ms, None if latency_ms is None else hop,
        "" if latency_ms is None else sender, None if latency_ms is None else 100, duplicates, state,
    )  # fmt: skip


def spread_of(*rows, drawn=("aa",)):
    spread = Propagation(NODES, drawn)
    spread.add(rows)
    return spread


def test_every_receipt_is_counted_by_hop_link_and_node():
    spread = spread_of(row("a-1", 10.0), row("b-0", 40.0, "a-1", 2), row("b-1", 90.0, "b-0", 3, duplicates=2))
    assert [(one.hop, one.receipts, one.since_ms.middle) for one in spread.hops()] == [
        (1, 1, 10),
        (2, 1, 40),
        (3, 1, 90),
    ]
    assert {pair: (use.receipts, use.bytes, use.wait_max_ms) for pair, use in spread.links.items()} == {
        (0, 1): (1, 100, 10.0),
        (1, 2): (1, 100, 30.0),
        (2, 3): (1, 100, 50.0),
    }
    assert (spread.received, spread.duplicates, spread.expected) == ([0, 1, 1, 1], [0, 0, 0, 2], 3)
    assert spread.slowest["b-1"].wait_ms == 50.0


def test_a_sender_that_validated_later_leaves_no_wait():
    spread = spread_of(row("a-1", 10.0), row("b-0", 40.0, "b-1", 2), row("b-1", 90.0, "a-1", 2))
    one = spread.slowest["b-0"]
    assert (one.sender_ms, one.wait_ms) == (90.0, None)
    assert spread.links[3, 2].waits == 0


def test_missed_and_unknown_receipts_are_not_counted():
    late = row("b-1", 900.0, state="missed")
    spread = spread_of(row("a-1", 10.0), row("b-0", None, state="unknown"), late, row("b-0", None, state="missed"))
    assert spread.curve() == [10.0]
    [journey] = spread.journeys
    assert journey.nodes == [1, 3]  # what came too late is drawn all the same
    assert spread.expected == 3  # without the one nothing is known of


def test_a_drawn_journey_is_in_the_order_of_arrival():
    [journey] = spread_of(row("b-1", 30.0, "nobody"), row("a-1", 10.5)).journeys
    assert (journey.nodes, journey.after_us, journey.senders) == ([1, 3], [10_500, 30_000], [0, -1])
    assert (journey.publisher, journey.published_ns, journey.size) == (0, START_NS, 100)


def test_only_chosen_artifacts_are_drawn_whole():
    assert spread_of(row("a-1", 10.0), drawn=()).journeys == []


def test_reach_ends_with_what_is_due_and_what_came():
    spread = spread_of(row("a-1", 10.0), row("b-0", 40.0), row("b-1", None, state="missed"))
    spread.add([row("a-1", 20.0, artifact="bb", published_ns=START_NS + 10**9)])
    curve = spread.reach()
    assert len(curve.due) == len(curve.received) == BINS
    assert (curve.due[0], curve.due[-1], curve.received[-1]) == (3, 4, 3)
    assert curve.span_s == 1.02
    assert curve.received == sorted(curve.received)


def test_of_nothing_published_there_is_no_curve():
    spread = Propagation(NODES)
    spread.add([])
    assert spread.reach() is None
    assert spread.curve() == []
    assert spread.hops() == []


def test_a_curve_has_a_bounded_number_of_points():
    spread = Propagation(["n"])
    for ms in range(CURVE_POINTS * 3):
        spread.add([row("n", float(ms), artifact=str(ms))])
    points = spread.curve()
    assert len(points) == CURVE_POINTS
    assert (points[0], points[-1]) == (0.0, CURVE_POINTS * 3 - 1)


def test_the_slowest_artifact_is_always_drawn_and_the_page_stays_bounded():
    ids = [str(number) for number in range(1000)]
    chosen = artifacts_to_draw(ids, "501", 10)
    assert len(chosen) == 50
    assert "501" in chosen
    assert chosen == sorted(chosen, key=int)
    many = artifacts_to_draw(ids, "501", RECEIPTS_DRAWN_MAX)
    assert many == ["501"]
    assert artifacts_to_draw(["x"], "", 10) == ["x"]
    assert artifacts_to_draw([], "", 10) == []


def test_thinning_keeps_both_ends():
    assert thinned(list(range(10)), 4) == [0, 3, 6, 9]
    assert thinned([1, 2], 4) == [1, 2]
    assert thinned([1, 2], 1) == [1]


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=60))
def test_reach_over_a_time_whose_end_is_not_known_loses_nothing_and_stays_bounded(times):
    sums, due, received = ReachSums(), 0, 0
    sums.due(10**9, 3)
    for second, is_publication in times:
        t_ns = 10**9 + second * 10**9
        if is_publication:
            sums.due(t_ns, 3)
            due += 3
        else:
            sums.came(t_ns)
            received += 1
    curve = sums.curve()
    assert (curve.due[-1], curve.received[-1]) == (due + 3, received)
    assert len(curve.due) == len(curve.received) <= BINS
    assert curve.due == sorted(curve.due)
    last_s = max(second for second, _ in times)
    assert last_s <= curve.span_s <= max(2 * last_s, last_s + 4) + 0.1


def test_before_the_first_publication_there_is_no_reach():
    assert ReachSums().curve() is None
