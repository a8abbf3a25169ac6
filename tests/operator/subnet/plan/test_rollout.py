"""A rolling update replaces everybody and never takes more than its budget away."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import NOW

from p2pnet.operator.subnet.plan.rollout import MIN_READY, STALLED_AFTER, PodState, decide, next_change, unready_since

LONG_AGO = NOW - timedelta(hours=1)


def healthy(name: str, *, outdated: bool = False) -> PodState:
    return PodState(name, outdated=outdated, ready_since=LONG_AGO, unready_since=LONG_AGO)


def test_nothing_outdated_means_nothing_to_do() -> None:
    assert decide([healthy("a"), healthy("b")], 1, NOW).delete == ()


def test_the_highest_goes_first_and_only_as_many_as_the_budget_leaves() -> None:
    pods = [healthy(f"p{index}", outdated=True) for index in range(5)]
    assert decide(pods, 2, NOW).delete == ("p4", "p3")
    assert decide([*pods[:4], PodState("p4", exists=False)], 2, NOW).delete == ("p3",)
    assert decide([*pods[:3], PodState("p3", exists=False), PodState("p4", terminating=True)], 2, NOW).delete == ()


def test_outdated_pods_that_are_away_anyway_cost_nothing() -> None:
    pods = [
        healthy("a", outdated=True),
        PodState("b", outdated=True, unready_since=NOW),
        PodState("c", outdated=True, unready_since=NOW),
    ]
    assert decide(pods, 1, NOW).delete == ("b", "c")


def test_a_pod_that_has_ended_is_replaced_whether_outdated_or_not() -> None:
    assert decide([healthy("a"), PodState("b", ended=True, unready_since=LONG_AGO)], 1, NOW).delete == ("b",)


def test_a_pod_just_become_ready_does_not_count_yet() -> None:
    fresh = PodState("b", ready_since=NOW - MIN_READY / 2, unready_since=NOW)
    assert decide([healthy("a", outdated=True), fresh], 1, NOW).delete == ()
    assert next_change([fresh], NOW) == NOW + MIN_READY / 2
    assert decide([healthy("a", outdated=True), fresh], 1, NOW + MIN_READY).delete == ("a",)


def test_outdated_pods_just_become_ready_serve_and_are_not_taken_away_together() -> None:
    fresh = [PodState(name, outdated=True, ready_since=NOW - MIN_READY / 2, unready_since=NOW) for name in "abc"]
    assert decide(fresh, 1, NOW).delete == ()
    assert next_change(fresh, NOW) == NOW + MIN_READY / 2
    assert decide(fresh, 1, NOW + MIN_READY).delete == ("c",)


def test_a_new_pod_that_does_not_become_ready_ends_the_rollout() -> None:
    stuck = PodState("c", unready_since=NOW - STALLED_AFTER)
    pods = [healthy("a", outdated=True), healthy("b", outdated=True), stuck]
    decision = decide(pods, 3, NOW)
    assert decision.stalled == ("c",)
    assert decision.delete == ()


def test_a_pod_is_unready_since_it_was_made_or_last_ready_whatever_its_age() -> None:
    made, then = "2029-12-01T12:00:00Z", "2030-01-01T11:59:00Z"
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": then}
    pod = {"metadata": {"name": "a", "creationTimestamp": made}, "status": {"conditions": [ready]}}
    assert unready_since(pod) == NOW - timedelta(minutes=1)
    assert unready_since({**pod, "status": {}}) == datetime(2029, 12, 1, 12, tzinfo=UTC)
    ready["status"] = "True"
    assert unready_since(pod) is None


PODS = st.builds(
    PodState,
    st.just("x"),
    exists=st.booleans(),
    outdated=st.booleans(),
    ended=st.booleans(),
    terminating=st.booleans(),
    ready_since=st.one_of(st.none(), st.integers(0, 10_000).map(lambda s: NOW - timedelta(seconds=s))),
    unready_since=st.integers(0, 10_000).map(lambda s: NOW - timedelta(seconds=s)),
)


@given(st.lists(PODS, max_size=12), st.integers(1, 12))
def test_whatever_pods_there_are_those_lost_stay_within_the_budget(pods: list[PodState], budget: int) -> None:
    named = [PodState(**{**{slot: getattr(pod, slot) for slot in PodState.__dataclass_fields__}, "name": f"p{index}"})
             for index, pod in enumerate(pods)]  # fmt: skip
    decision = decide(named, budget, NOW)
    available = {pod.name for pod in named if pod.is_available(NOW)}
    serving = {pod.name for pod in named if pod.ready_since is not None and pod.exists and not pod.ended}
    lost = serving & set(decision.delete)
    assert len(lost) <= max(0, budget - (len(named) - len(available)))
    assert len(set(decision.delete)) == len(decision.delete)
    assert all(pod.exists and not pod.terminating for pod in named if pod.name in decision.delete)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 12), budget=st.integers(1, 4), seconds=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_a_rollout_ends_with_every_pod_replaced(count: int, budget: int, seconds: list[int]) -> None:
    now, pods, starts = NOW, [healthy(f"p{index}", outdated=True) for index in range(count)], 0
    for _ in range(60 * count):
        for name in decide(pods, budget, now).delete:
            index = int(name[1:])
            ready = now + timedelta(seconds=seconds[starts % len(seconds)])
            pods[index] = PodState(name, ready_since=ready, unready_since=now)
            starts += 1
        away = sum(pod.ready_since is None or now - pod.ready_since < MIN_READY for pod in pods)
        assert away <= budget
        now += timedelta(seconds=1)
    assert not any(pod.outdated for pod in pods)
    assert starts == count
