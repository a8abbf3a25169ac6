"""Conditions keep their times and generations, and an event that cannot be written hurts nobody."""

from datetime import timedelta

from tests.operator.kit import FAULTS, NOW, Api

from p2pnet.operator.kube.api import EVENT, POD, Object, time_text
from p2pnet.operator.kube.status import ConditionState, ObjectEvent, merge_conditions, post_events, transitions

TYPES = ("Ready", "Paused")
READY = ConditionState(True, "Connected")
POD_OBJECT: Object = {"metadata": {"name": "a", "namespace": "lab-of-ada", "uid": "u"}}


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


async def test_the_same_event_is_written_once_and_a_failure_is_ignored() -> None:
    api = Api(lambda: NOW)
    event = ObjectEvent("Expiring", "soon", since="x", warning=True)
    for one in (event, event, ObjectEvent("Expiring", "soon", since="y")):
        await post_events(api, POD, POD_OBJECT, [one])
    assert [one["type"] for one in api.all(EVENT)] == ["Warning", "Normal"]
    assert api.all(EVENT)[0]["involvedObject"]["kind"] == "Pod"
    api.fault = lambda *_: FAULTS["forbidden"]
    await post_events(api, POD, POD_OBJECT, [ObjectEvent("Other", "text", since="z")])
    assert len(api.all(EVENT)) == 2
