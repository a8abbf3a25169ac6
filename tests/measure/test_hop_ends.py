"""Both ends of a hop: what their seconds tell that the hop fell into, and nothing of other seconds, peers and nodes."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure import EndLoad, HopEnds, HopTree, hop_ends, hop_tree, window_ns
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.time_series import NodeSample

MS, NS = 10**6, 10**9
A = "aa" * 32
NODES = ["node-0", "node-1", "node-2"]


def tree(*receipts: tuple[str, str, int]) -> HopTree:
    """Published by node-0 at 10 s; receipts as node, sender, milliseconds since."""
    events = [Collected("node-0", "i", 0, 10 * NS, EventKind.PUBLISHED, "blob", A)]
    events += [
        Collected(node, "i", 0, 10 * NS + ms * MS, EventKind.VALIDATED, "blob", A, sender, 1) for node, sender, ms in receipts
    ]  # fmt: skip
    return hop_tree(A, events, NODES)


def second(node: str, end_s: float, **more: object) -> NodeSample:
    """A second whose process used 0.2 s of CPU unless told otherwise."""
    return NodeSample(node, round(end_s * NS), Sample(0, 1.0, more.pop("lag_s", 0.0), more.pop("cpu_s", 0.2), **more))


def link(peer: str, queued: int, unsent: int) -> LinkSample:
    return LinkSample(peer, 1, 1, 0, 0, queued, 1.0, 0, unsent)


def test_a_hop_has_what_waited_at_its_sender_for_it_and_how_busy_both_ends_were() -> None:
    samples = [
        second(
            "node-0", 10.5, cpu_s=0.9, lag_s=0.02, up_queued_bytes=7,
            links=[link("node-1", 100, 30), link("node-2", 9_000, 0)],
        ),
        second("node-0", 11.5, cpu_s=0.5, lag_s=0.3, handlers=4, links=[link("node-1", 0, 20)]),
        second("node-1", 11.0, cpu_s=0.1, handlers=70, down_queued_bytes=11, links=[link("node-0", 5_000, 5)]),
    ]  # fmt: skip
    ends = hop_ends(tree(("node-1", "node-0", 900)), samples)
    assert ends == {"node-1": HopEnds(EndLoad(0.7, 300.0, 137, 4), EndLoad(0.1, 0.0, 11, 70))}


def test_seconds_before_and_after_a_hop_tell_nothing_of_it() -> None:
    samples = [second("node-0", 9.9, lag_s=9.0), second("node-0", 12.3, lag_s=9.0), second("node-0", 11.1, lag_s=0.1)]
    assert hop_ends(tree(("node-1", "node-0", 1_200)), samples) == {"node-1": HopEnds(EndLoad(0.2, 100.0, 0, 0), None)}


def test_a_hop_without_samples_is_left_out() -> None:
    assert hop_ends(tree(("node-1", "node-0", 5)), [second("node-2", 10.5)]) == {}
    assert window_ns(tree()) is None
    assert window_ns(tree(("node-1", "node-0", 5))) == (10 * NS, 12 * NS + 5 * MS)


@given(
    st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from([*NODES, ""]), st.integers(-9, 9_000)), max_size=4),
    st.lists(st.tuples(st.sampled_from(NODES), st.floats(0.0, 30.0), st.floats(0.0, 9.0)), max_size=9),
)
def test_any_samples_give_bounded_loads_of_receivers_alone(
    receipts: list[tuple[str, str, int]], seen: list[tuple[str, float, float]]
) -> None:
    drawn = tree(*receipts)
    samples = [second(node, end_s, lag_s=lag_s) for node, end_s, lag_s in seen]
    ends = hop_ends(drawn, samples)
    window = window_ns(drawn)
    assert set(ends) <= {one.node for one in drawn.nodes}
    assert hop_ends(drawn, reversed(samples)).keys() == ends.keys()
    if window is not None:
        within = [one for one in samples if window[0] <= one.t_ns <= window[1]]
        assert hop_ends(drawn, within) == ends
    loads = [load for both in ends.values() for load in (both.sender, both.receiver) if load is not None]
    assert all(0 <= load.lag_ms <= 9_000 and abs(load.cpu - 0.2) < 1e-9 for load in loads)
