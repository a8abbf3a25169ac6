"""Conditions keep their times and generations."""

from datetime import timedelta

from tests.operator.kit import NOW

from p2pnet.operator.kube.api import Object, time_text
from p2pnet.operator.kube.status import ConditionState, merge_conditions, transitions

TYPES = ("Ready", "Paused")
READY = ConditionState(True, "Connected")


def merged(old: Object, states: dict[str, ConditionState], generation: int, after_s: int = 0) -> list[Object]:
    now = NOW + timedelta(seconds=after_s)
    return merge_conditions(TYPES, old, states, generation, now, judged=set(states))


def test_a_transition_time_moves_only_when_the_status_changes() -> None:
    first = merged({}, {"Ready": READY}, 1)
    assert [(one["type"], one["status"], one["reason"]) for one in first] == [
        ("Ready", "True", "Connected"), ("Paused", "Unknown", "NotLookedYet"),
    ]  # fmt: skip
    again = merged({"conditions": first}, {"Ready": ConditionState(True, "Other", "why")}, 2, after_s=9)
    assert (again[0]["lastTransitionTime"], again[0]["reason"]) == (time_text(NOW), "Other")
    lost = merged({"conditions": again}, {"Ready": ConditionState(False, "NotReady")}, 2, after_s=9)
    assert lost[0]["lastTransitionTime"] == time_text(NOW + timedelta(seconds=9))


def test_what_was_not_judged_keeps_its_generation() -> None:
    first = merged({}, {"Ready": READY, "Paused": ConditionState(False, "NotPaused")}, 1)
    second = merged({"conditions": first}, {"Paused": ConditionState(True, "Annotated")}, 2)
    assert [one["observedGeneration"] for one in second] == [1, 2]


def test_a_new_status_or_reason_is_a_transition_and_a_new_message_is_none() -> None:
    old = {"conditions": merged({}, {"Ready": READY}, 1)}
    assert transitions(old, {"conditions": merged(old, {"Ready": ConditionState(True, "Connected", "9/9")}, 1)}) == []
    changed = transitions(old, {"conditions": merged(old, {"Ready": ConditionState(True, "Other")}, 1)})
    assert [one["type"] for one in changed] == ["Ready"]
