"""What pods that stand there say about themselves, in the words of `rolling`. Pure."""

from datetime import datetime

from p2pnet.operator.kube.api import Object, annotations_of, meta, parse_time
from p2pnet.operator.kube.desired import HASH
from p2pnet.operator.subnet.plan.rollout import PodState


def state_of(name: str, wanted: Object, pod: Object | None) -> PodState:
    """A wanted pod as it stands."""
    if pod is None:
        return PodState(name, exists=False)
    status = pod.get("status") or {}
    return PodState(
        name,
        outdated=annotations_of(pod).get(HASH) != annotations_of(wanted).get(HASH),
        ended=status.get("phase") in ("Failed", "Succeeded"),
        terminating=bool(meta(pod).get("deletionTimestamp")),
        ready_since=ready_since(pod),
        unready_since=unready_since(pod),
    )


def ready_since(pod: Object) -> datetime | None:
    """When the pod became ready; None when it is not."""
    status, since = _readiness(pod)
    return (since or datetime.fromtimestamp(0).astimezone()) if status == "True" else None


def unready_since(pod: Object) -> datetime | None:
    """When a pod that is not ready ceased to be, or was made; None when it is ready."""
    status, since = _readiness(pod)
    return None if status == "True" else since or parse_time(meta(pod).get("creationTimestamp"))


def _readiness(pod: Object) -> tuple[str, datetime | None]:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready":
            return str(condition.get("status")), parse_time(condition.get("lastTransitionTime"))
    return "Unknown", None
