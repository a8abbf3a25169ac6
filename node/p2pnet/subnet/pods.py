"""Why a pod of a subnet does not come up, out of its Kubernetes object. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from p2pnet.model.log_lines import json_line

MESSAGE_CHARS_MAX = 160  # of what a container runtime says, in a table of members
CONDITION_REASONS = {
    "ErrImagePull": "ImagePull", "ImagePullBackOff": "ImagePull", "InvalidImageName": "ImagePull",
    "ErrImageNeverPull": "ImagePull", "CrashLoopBackOff": "CrashLoop", "CreateContainerConfigError": "PodConfig",
    "CreateContainerError": "PodConfig", "RunContainerError": "PodConfig", "Unschedulable": "Unschedulable",
}  # fmt: skip
"""A pod's own reason -> the reason of a Subnet's condition `Degraded`. Reasons that pass by themselves are not here."""
_PASSING = {"ContainerCreating", "PodInitializing"}

Object = Mapping[str, Any]


class PodProblem(NamedTuple):
    """What keeps a pod from running: Kubernetes' reason, and what it or the container said."""

    reason: str
    message: str
    last_line: str = ""
    """The last line of the container that ended before, empty when it said nothing or never ran."""


def pod_problem(pod: Object) -> PodProblem | None:
    """What is wrong with a pod; None when nothing is, or when it is only being created."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in _PASSING:
            return PodProblem(str(waiting["reason"]), str(waiting.get("message") or ""), _last_line(container))
        if ended:
            said = f"ended with exit code {ended.get('exitCode')}: {ended.get('reason') or 'no reason'}"
            return PodProblem("Terminated", said)
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return PodProblem(str(one.get("reason")), str(one.get("message") or "no machine fits"))
    return None


def why_not_up(pod: Object) -> str:
    """The same in a phrase, for a table of members; empty when nothing is wrong."""
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "its pod is ending"
    problem = pod_problem(pod)
    if problem is None:
        return "its pod is being created" if (pod.get("status") or {}).get("phase") == "Pending" else ""
    if problem.reason == "Terminated":
        return problem.message
    if problem.reason in _UNSCHEDULED or CONDITION_REASONS.get(problem.reason) == "Unschedulable":
        return f"pending, {problem.reason}: {problem.message}"
    return f"{problem.reason}: {(problem.message or 'no further word')[:MESSAGE_CHARS_MAX]}"


def commonest_problem(pods: Iterable[Object]) -> tuple[str, str] | None:
    """The most frequent problem as (reason of a condition, message that names one pod); None without any that lasts."""
    found: list[tuple[str, str]] = []
    for pod in pods:
        metadata = pod.get("metadata") or {}
        problem = None if metadata.get("deletionTimestamp") else pod_problem(pod)
        reason = CONDITION_REASONS.get(problem.reason) if problem else None
        if problem and reason:
            said = problem.last_line or problem.message or problem.reason
            found.append((reason, f"{metadata.get('name', '')}: {said}"))
    if not found:
        return None
    reason, count = Counter(reason for reason, _ in found).most_common(1)[0]
    first = next(message for kind, message in found if kind == reason)
    return reason, first if count == 1 else f"{count} pods, such as {first}"


def _last_line(container: Object) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    lines = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    logged = json_line(last)
    return logged.last if logged else last


_UNSCHEDULED = {"SchedulingGated", "SchedulerError"}
