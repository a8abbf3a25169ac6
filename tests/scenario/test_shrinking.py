"""Shrinking: the fewest parts with which it still fails, and documents that stay whole."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pnet.scenario.shrinking import ScenarioDocuments, Shrinker, ShrinkingEndedError, ddmin, tidied


def documents(*steps: dict[str, Any], **spec: Any) -> ScenarioDocuments:
    scenario = {
        "apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": {"name": "x"},
        "spec": {"subnetFrom": "subnet.yaml", "steps": list(steps)},
    }  # fmt: skip
    subnet = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "x"}, "spec": spec}
    return ScenarioDocuments(scenario, subnet)


def shrunk(
    whole: ScenarioDocuments, fails: Callable[[ScenarioDocuments], bool], most: int = 10_000
) -> ScenarioDocuments:
    tries: list[ScenarioDocuments] = []

    async def tried(candidate: ScenarioDocuments) -> bool:
        if len(tries) >= most:
            raise ShrinkingEndedError("enough")
        tries.append(candidate)
        return fails(candidate)

    shrinker = Shrinker(whole, tried, lambda _: None)
    try:
        asyncio.run(shrinker.shrink())
    except ShrinkingEndedError:
        assert len(tries) == most
    assert len({repr(one) for one in tries}) == len(tries)  # nothing is tried twice
    return shrinker.best


# --- ddmin ---


@given(parts=st.lists(st.integers(), unique=True, max_size=24), data=st.data())
@settings(deadline=None)
def test_of_the_parts_that_matter_all_are_left_and_no_other(parts, data):
    needed = set(data.draw(st.lists(st.sampled_from(parts), unique=True))) if parts else set()
    tries: list[list[int]] = []

    async def fails(some: list[int]) -> bool:
        tries.append(some)
        return needed <= set(some)

    assert asyncio.run(ddmin(parts, fails)) == [part for part in parts if part in needed]
    assert len(tries) <= len(parts) ** 2 + 3 * len(parts) + 1  # the bound of the paper


@given(parts=st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=12), seed=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_whatever_fails_none_of_what_is_left_can_go_by_itself(parts, seed):
    known: dict[tuple[int, ...], bool] = {tuple(parts): True}

    async def fails(some: list[int]) -> bool:
        return known.setdefault(tuple(some), seed.random() < 0.3)

    left = asyncio.run(ddmin(parts, fails))
    assert known[tuple(left)]
    assert not any(known.get((*left[:at], *left[at + 1 :])) for at in range(len(left)) if len(left) > 1)


# --- documents ---


def test_a_scenario_is_left_with_what_its_failure_needs():
    whole = documents(
        {"name": "before", "inject": {"size": "64KiB", "count": 20, "rate": "10/s"}},
        {"name": "cut", "fault": {"partition": {"minority": "30%"}, "for": "90s"}},
        {"name": "other", "fault": {"from": "node-1", "loss": "5%"}},
        {"parallel": [{"name": "dark", "inject": {"count": 6, "within": "3s"}}, {"at": "2s", "wait": {"for": "9s"}}]},
        {"name": "e", "expect": ["dark.reach >= 60%", "before.p95 <= 1s"]},
        nodes=24, network={"default": {"latency": "40ms"}}, faults=[{"name": "a"}, {"name": "b"}],
    )  # fmt: skip

    def fails(one: ScenarioDocuments) -> bool:
        text = repr(one.scenario)
        return (
            "minority" in text and "dark.reach" in text and "inject" in text and one.subnet["spec"].get("nodes", 0) >= 5
        )

    left = shrunk(whole, fails)
    assert left.subnet["spec"] == {"nodes": 5}
    assert left.scenario["spec"]["steps"] == [
        {"name": "cut", "fault": {"partition": {"minority": "30%"}}},
        {"name": "dark", "inject": {"within": "3s"}},
        {"name": "e", "expect": ["dark.reach >= 60%"]},
    ]
    assert shrunk(whole, fails) == left


def test_it_can_be_ended_at_any_trial_with_the_smallest_so_far():
    whole = documents(*({"name": f"s{at}", "wait": {"for": "1s"}} for at in range(8)), nodes=9)

    def fails(one: ScenarioDocuments) -> bool:
        return "s5" in repr(one.scenario)

    sizes = [len(shrunk(whole, fails, most).scenario["spec"]["steps"]) for most in range(1, 14)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (8, 1)


def test_numbers_become_small_and_what_judges_stays():
    whole = documents({"name": "a", "inject": {"size": "64KiB", "count": 100, "within": "60s", "seed": 77}}, nodes=50)

    def fails(one: ScenarioDocuments) -> bool:
        inject = one.scenario["spec"]["steps"][0]["inject"] if one.scenario["spec"]["steps"] else {}
        kept = {"size", "count", "within", "seed"} <= inject.keys() and "nodes" in one.subnet["spec"]
        return kept and inject["count"] >= 13 and one.subnet["spec"]["nodes"] >= 7

    left = shrunk(whole, fails)
    assert left.scenario["spec"]["steps"][0]["inject"] == {"size": "1B", "count": 13, "within": "60s", "seed": 77}
    assert left.subnet["spec"] == {"nodes": 7}


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([{"name": "h", "heal": ["gone"]}], []),
        ([{"name": "h", "heal": ["*"]}], [{"name": "h", "heal": ["*"]}]),
        ([{"name": "w", "wait": {"holds": ["gone"]}}], []),
        ([{"name": "w", "wait": {"gone": ["gone"]}}, {"name": "t", "withdraw": ["gone"]}], []),
        ([{"name": "a", "inject": {}}, {"name": "t", "withdraw": ["gone", "a"]}, {"name": "w", "wait": {"gone": ["a", "gone"]}}],
         [{"name": "a", "inject": {}}, {"name": "t", "withdraw": ["a"]}, {"name": "w", "wait": {"gone": ["a"]}}]),
        ([{"name": "e", "expect": ["gone.p95 <= 1s"]}], []),
        ([{"name": "a", "inject": {}}, {"name": "e", "expect": ["a.p95 <= 2 * gone.p95", "a.p50 <= 1s"]}],
         [{"name": "a", "inject": {}}, {"name": "e", "expect": ["a.p50 <= 1s"]}]),
        ([{"parallel": [{"name": "w", "at": "1s", "wait": {"for": "1s"}}]}], [{"name": "w", "wait": {"for": "1s"}}]),
        ([{"parallel": [{"steps": [{"name": "w", "wait": {}}, {"name": "h", "heal": ["gone"]}]}]}], [{"name": "w", "wait": {}}]),
        ([{"parallel": []}, {"parallel": [{"steps": []}]}], []),
    ],
)  # fmt: skip
def test_what_means_a_step_that_is_gone_goes_too(steps, left):
    assert tidied(documents(*steps)).scenario["spec"]["steps"] == left
