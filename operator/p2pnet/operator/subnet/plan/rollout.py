"""Rolling updates of node pods: which to replace next, and how many may be away at once, by us or by an eviction. Pure.

`decide` is a function of the pods' states; `state_of` reads these from the pods themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from p2pnet.operator.kube.api import BUDGET, Object, annotations_of, meta, parse_time
from p2pnet.operator.kube.desired import HASH
from p2pnet.operator.subnet.context import SubnetContext

MIN_READY = timedelta(
    seconds=3
)  # a pod is available this long after it became ready: one that fails at once must not pass
STALLED_AFTER = timedelta(seconds=600)  # a new pod that is unready for this long stops the rollout


@dataclass(frozen=True)
class PodState:
    """The state of a desired pod; `exists=False` for a missing one."""

    name: str
    exists: bool = True
    outdated: bool = False
    ended: bool = False
    """Its phase is Failed or Succeeded: the kubelet does not start it again."""
    terminating: bool = False
    ready_since: datetime | None = None
    unready_since: datetime | None = None
    """When it was created or, later, was last ready; None of pods that are ready."""

    def is_available(self, now: datetime) -> bool:
        """Whether it has been ready for MIN_READY and is not ending."""
        return (
            self.exists and not self.terminating and not self.ended
            and self.ready_since is not None and now - self.ready_since >= MIN_READY
        )  # fmt: skip


@dataclass(frozen=True)
class Rollout:
    """Pods to delete now, how many are outdated, and the new pods that do not become ready."""

    delete: tuple[str, ...] = ()
    outdated: int = 0
    stalled: tuple[str, ...] = ()


def decide(pods: Iterable[PodState], budget: int, now: datetime) -> Rollout:
    """The next deletions of a rolling update. `pods` are in member order; the last one is replaced first.

    Ended pods, and outdated ones that are not ready, are all deleted at once: nothing is lost. Ready outdated ones are
    deleted once they are available and while fewer than `budget` of the desired pods are away, and not while a new pod is
    stalled. One that has just become ready serves, though it does not count as available yet.
    """
    wanted = list(pods)
    here = [pod for pod in wanted if pod.exists and not pod.terminating]
    stalled = tuple(pod.name for pod in here if not pod.outdated and _stalled(pod, now))
    # A pod that serves nobody counts as away already: to delete it costs nothing of the budget.
    free = [pod.name for pod in here if pod.ended or (pod.outdated and pod.ready_since is None)]
    away = sum(not pod.is_available(now) for pod in wanted)
    room = 0 if stalled else max(0, budget - away)
    costly = [pod.name for pod in reversed(here) if pod.outdated and pod.is_available(now)]
    return Rollout((*free, *costly[:room]), sum(pod.outdated for pod in here), stalled)


def next_change(pods: Iterable[PodState], now: datetime) -> datetime | None:
    """When a ready pod becomes available, or one that is not becomes stalled: no watch event announces either."""
    moments = []
    for pod in pods:
        if pod.exists and not pod.terminating:
            if pod.ready_since is not None and not pod.is_available(now):
                moments.append(pod.ready_since + MIN_READY)
            elif pod.ready_since is None and pod.unready_since is not None and not _stalled(pod, now):
                moments.append(pod.unready_since + STALLED_AFTER)
    return min(moments, default=None)


def _stalled(pod: PodState, now: datetime) -> bool:
    return pod.ready_since is None and pod.unready_since is not None and now - pod.unready_since >= STALLED_AFTER


def state_of(name: str, wanted: Object, pod: Object | None) -> PodState:
    """The state of a desired pod (`wanted`), from the observed one."""
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
    """When a pod that is not ready was last ready or was created; None when it is ready."""
    status, since = _readiness(pod)
    return None if status == "True" else since or parse_time(meta(pod).get("creationTimestamp"))


def _readiness(pod: Object) -> tuple[str, datetime | None]:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready":
            return str(condition.get("status")), parse_time(condition.get("lastTransitionTime"))
    return "Unknown", None


def unavailable_max(pods: int) -> int:
    """How many of `pods` may be away at once, by a rolling update or an eviction: a tenth, at least one."""
    return max(1, pods // 10)


def budget(context: SubnetContext) -> Object | None:
    """The PodDisruptionBudget; None for a single pod: with one its machine could never be drained.

    `minAvailable` is an integer: a share needs a scale subresource of the pods' controller, which bare pods lack.
    """
    pods = len(context.placements)
    if pods <= 1:
        return None
    spec = {
        "minAvailable": pods - unavailable_max(pods), "selector": {"matchLabels": context.labels("node")},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a pod that is not ready must not block a drain
    }  # fmt: skip
    return context.object(BUDGET, context.nodes_service, spec=spec, role="node")
