"""What a run publishes: a plan by request, nodes and chance."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.injection import payload_seed, plan, publishers_seed
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import Payload, RunRequest

NODES = ["node-0", "node-1", "node-2"]


def planned(request, seed=0, nodes=NODES, sizes=None):
    return plan(request, nodes, sizes or {}, Random(publishers_seed(seed)).randrange)


@given(st.integers(1, 20), st.integers(1, 3), st.sampled_from(["random", "all", "node-1"]), st.integers(0, 5))
def test_a_plan_is_a_function_of_request_and_seed(count, payloads, publisher, seed):
    request = RunRequest([Payload(f"p{i}", size=i) for i in range(payloads)], count, publisher=publisher, rate=2.0)
    first, again = planned(request, seed), planned(request, seed)
    assert first == again
    assert len(first) == count * payloads * (3 if publisher == "all" else 1)
    assert [one.index for one in first] == list(range(len(first)))
    assert [one.due_s for one in first] == [index / 2.0 for index in range(len(first))]
    assert {one.publisher for one in first} <= set(NODES)


def test_another_seed_gives_other_publishers_and_other_payloads():
    request = RunRequest([Payload("x", size=1)], 50)
    assert planned(request, 1) != planned(request, 2)
    assert len({payload_seed(1, 0, 64), payload_seed(2, 0, 64), payload_seed(1, 1, 64), payload_seed(1, 0, 65)}) == 4


def test_what_is_uploaded_has_the_size_that_was_uploaded():
    assert [
        one.size for one in planned(RunRequest([Payload("x", upload="u"), Payload("y", size=5)]), sizes={"u": 9})
    ] == [9, 5]


def test_the_choice_of_publishers_has_not_changed():
    """Runs of the same seed are compared over months and over targets."""
    assert [one.publisher for one in planned(RunRequest([Payload("x")], 6), 42)] == ["node-1", "node-0", "node-1"] + [
        "node-2"
    ] * 3


def test_a_plan_without_nodes_is_refused():
    with pytest.raises(SpecError):
        planned(RunRequest([Payload("x")]), nodes=[])


def test_adversaries_publish_only_when_they_are_named():
    rng = Random(1).randrange
    for publisher, expected in (
        ("random", {"node-0", "node-2"}),
        ("all", {"node-0", "node-2"}),
        ("node-1", {"node-1"}),
    ):
        request = RunRequest([Payload("x", size=1)], 20, publisher=publisher)
        made = plan(request, NODES, {}, rng, ["node-1"])
        assert {one.publisher for one in made} == expected
        assert len(made) == (40 if publisher == "all" else 20)
