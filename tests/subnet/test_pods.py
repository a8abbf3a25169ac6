"""Why a pod does not come up: as the reason of a condition, and as a phrase in a table."""

import json

import pytest

from p2pnet.subnet.pods import commonest_problem, why_not_up


@pytest.mark.parametrize(
    ("part", "reason"),
    [({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}, "ImagePull"),
     ({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, "CrashLoop"),
     ({"containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError"}}}]}, "PodConfig"),
     ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "Unschedulable"),
     ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None), ({}, None)],
)  # fmt: skip
def test_what_keeps_pods_from_running_has_a_reason(part: dict, reason: str | None) -> None:
    problem = commonest_problem([{"metadata": {"name": "demo-node-0"}, "status": part}] * 3)
    assert (problem[0] if problem else None) == reason
    if problem:
        assert problem[1].startswith("3 pods, such as demo-node-0")
    leaving = {"metadata": {"name": "x", "deletionTimestamp": "2030-01-01T00:00:00Z"}, "status": part}
    assert commonest_problem([leaving]) is None


SAID = "spec.clients[0].class: chat cannot be imported: ModuleNotFoundError"
LOGGED = {"time": "2026-11-28T00:00:00.000Z", "level": "ERROR", "logger": "p2pnet.supervisor", "message": SAID}


@pytest.mark.parametrize("said", [f"2026-11-28 WARNING x\n{SAID}\n\n", f"{{}}\n{json.dumps(LOGGED)}\n"])
def test_what_a_container_said_last_is_the_message(said: str) -> None:
    container = {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
        "lastState": {"terminated": {"exitCode": 2, "message": said}},
    }
    pod = {"metadata": {"name": "demo-node-0"}, "status": {"containerStatuses": [container]}}
    assert commonest_problem([pod]) == ("CrashLoop", f"demo-node-0: {SAID}")


def waiting(reason: str, **more: str) -> dict:
    return {"status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, **more}}}]}}


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({}, ""),
        ({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}}, "its pod is ending"),
        ({"status": {"phase": "Pending"}}, "its pod is being created"),
        (waiting("ContainerCreating"), ""),
        (waiting("ErrImagePull", message="no such"), "ErrImagePull: no such"),
        (waiting("CrashLoopBackOff"), "CrashLoopBackOff: no further word"),
        ({"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}},
         "ended with exit code 3: Error"),
        ({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}},
         "pending, Unschedulable: no machine fits"),
    ],
)  # fmt: skip
def test_a_member_without_a_running_pod_says_why(pod: dict, words: str) -> None:
    assert why_not_up(pod) == words
