"""Machines that are lost with pods of a Subnet: their kubelets are silent, or they are gone from the cluster. Pure.

The pods give the hint, so that at rest nobody asks about machines; the Node object decides where the operator may read it, and
else what the controllers of Kubernetes leave on the pods of a silent machine.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from p2pnet.operator.kube.api import Object, meta, name_of, parse_time
from p2pnet.operator.subnet.annotations import REPLACE_LOST
from p2pnet.operator.subnet.context import LostMachine, SubnetProblem

OVERDUE = timedelta(seconds=30)  # after the grace period, in which a kubelet that answers has ended a pod
MACHINES_MAX = 16  # asked about in one look: what is wrong with more is no single machine's death
PODS_NAMED = 5
HINTS = ("DeletionByTaintManager", "DeletionByPodGC")
"""Reasons of the condition DisruptionTarget of pods that are taken from a machine because of the machine."""


def suspected(pods: Iterable[Object], now: datetime) -> dict[str, list[Object]]:
    """Pods by machine, of the machines that may be lost: at most MACHINES_MAX of them, in order of their names."""
    there: dict[str, list[Object]] = {}
    for pod in pods:
        machine = (pod.get("spec") or {}).get("nodeName")
        if machine:
            there.setdefault(str(machine), []).append(pod)
    found = [name for name, its in sorted(there.items()) if any(_is_hint(pod, now) for pod in its)]
    return {name: there[name] for name in found[:MACHINES_MAX]}


def by_node(name: str, node: Object | None, pods: list[Object], now: datetime) -> LostMachine | None:
    """Whether a machine is lost, by its Node object (None: the cluster has none of this name any more)."""
    if node is None:
        return LostMachine(name, _first_hint(pods, now), "is not in the cluster any more", _names(pods))
    ready: Object = next(
        (one for one in (node.get("status") or {}).get("conditions") or [] if one.get("type") == "Ready"), {}
    )
    if ready.get("status") != "Unknown":
        return None  # its kubelet speaks, be it that something else is wrong: it ends pods by itself
    since = parse_time(ready.get("lastTransitionTime")) or now
    return LostMachine(name, since, "does not answer", _names(pods))


def by_pods(name: str, pods: list[Object], now: datetime) -> LostMachine | None:
    """As `by_node`, without a Node object: by what only a silent kubelet leaves as it is."""
    if not any(_is_silent(pod) or _is_overdue(pod, now) for pod in pods):
        return None
    return LostMachine(name, _first_hint(pods, now), "seems not to answer", _names(pods))


def problem_of(lost: list[LostMachine], *, where: str, after: timedelta | None, now: datetime) -> SubnetProblem | None:
    """What is said of lost machines; `where` is `SUBNET -n NAMESPACE`, `after` the time until their pods are replaced."""
    if not lost:
        return None
    said = []
    for machine in lost:
        pods = ", ".join(machine.pods[:PODS_NAMED]) + (" and more" if len(machine.pods) > PODS_NAMED else "")
        since = f"since {machine.since:%H:%M:%S} UTC"
        said.append(f"machine {machine.name} {machine.why}, {since}; its pods: {pods}")
    names = " ".join(machine.name for machine in lost)
    dead = f"once you know that it is dead, kubectl delete node {names}"
    if after is None:
        ours = f"or for such cases kubectl annotate subnet {where} {REPLACE_LOST}=2m"
        return SubnetProblem(
            "MachineLost", f"{'. '.join(said)}. Bring it back; {dead}; {ours} (two of a name may run then)"
        )
    due = max(machine.since for machine in lost) + after
    day = f"{due:%Y-%m-%d} " if due.date() != now.date() else ""
    when = "now" if due <= now else f"at {day}{due:%H:%M:%S} UTC"
    return SubnetProblem(
        "MachineLost", f"{'. '.join(said)}. Its pods are made again elsewhere {when}; or bring it back, or {dead}"
    )


def _is_hint(pod: Object, now: datetime) -> bool:
    target = _condition(pod, "DisruptionTarget")
    return (
        _is_silent(pod) or _is_overdue(pod, now)
        or (target.get("status") == "True" and target.get("reason") in HINTS)
    )  # fmt: skip


def _is_silent(pod: Object) -> bool:
    """Whether the cluster has declared it unready while its kubelet's last word is that its containers are ready."""
    gates = (pod.get("spec") or {}).get("readinessGates")
    told = [_condition(pod, kind).get("status") for kind in ("Ready", "ContainersReady")]
    return told == ["False", "True"] and not gates


def _is_overdue(pod: Object, now: datetime) -> bool:
    """Whether it should have ended long ago; the deletion timestamp lies at the end of the grace period."""
    ends = parse_time(meta(pod).get("deletionTimestamp"))
    return ends is not None and now - ends >= OVERDUE and not meta(pod).get("finalizers")


def _first_hint(pods: list[Object], now: datetime) -> datetime:
    moments = []
    for pod in pods:
        if _is_silent(pod):
            moments.append(parse_time(_condition(pod, "Ready").get("lastTransitionTime")))
        elif _is_overdue(pod, now):
            moments.append(parse_time(meta(pod).get("deletionTimestamp")))
        else:
            moments.append(parse_time(_condition(pod, "DisruptionTarget").get("lastTransitionTime")))
    return min((one for one in moments if one is not None), default=now)


def _condition(pod: Object, kind: str) -> Object:
    found: Iterable[Object] = (pod.get("status") or {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})


def _names(pods: list[Object]) -> tuple[str, ...]:
    return tuple(sorted(name_of(pod) for pod in pods))
