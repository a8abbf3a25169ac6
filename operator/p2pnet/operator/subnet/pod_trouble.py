"""Why pods do not come up, in a word the status can carry. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator

from p2pnet.operator.kube.api import Object, meta, name_of

_WAITING = {
    "ErrImagePull": "ImagePull", "ImagePullBackOff": "ImagePull", "InvalidImageName": "ImagePull",
    "ErrImageNeverPull": "ImagePull", "CrashLoopBackOff": "CrashLoop", "CreateContainerConfigError": "PodConfig",
    "CreateContainerError": "PodConfig", "RunContainerError": "PodConfig",
}  # fmt: skip
"""A container's waiting reason -> ours."""


def trouble_of(pods: Iterable[Object]) -> tuple[str, str] | None:
    """The most frequent trouble as (reason, message that names one pod), or None."""
    found = [one for pod in pods if not meta(pod).get("deletionTimestamp") for one in _troubles(pod)]
    if not found:
        return None
    reason, count = Counter(reason for reason, _ in found).most_common(1)[0]
    first = next(message for kind, message in found if kind == reason)
    return reason, first if count == 1 else f"{count} pods, such as {first}"


def _troubles(pod: Object) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = _WAITING.get(str(waiting.get("reason")))
        if reason:
            said = _last_words(container) or waiting.get("message") or waiting["reason"]
            yield reason, f"{name_of(pod)}: {said}"
            return
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield "Unschedulable", f"{name_of(pod)}: {condition.get('message') or 'no machine fits'}"
            return


def _last_words(container: Object) -> str:
    """The last line a container said before it ended with an error; empty when it said nothing, or has never run."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    lines = [line.strip() for line in str(ended.get("message") or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""
