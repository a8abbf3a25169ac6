"""What a Subnet object and its pods tell, as a Status: all there is while the lab is away, and what a lab cannot know. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from p2pnet.cli.targets.readiness import NO_OPERATOR
from p2pnet.model.report import (
    CertificateCounts,
    Condition,
    InjectionLine,
    LinkCounts,
    MemberStatus,
    NodeCounts,
    Status,
)
from p2pnet.subnet.document import kept_annotations, load_subnet
from p2pnet.subnet.members import edge_count, members, pack_of, topology_of
from p2pnet.subnet.pods import why_not_up
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import ignored

Object = dict[str, Any]

LAB_AWAY = "LabAway"
ROLLOUT = "Rollout"
"""Conditions of ours: while one is True a subnet is not ready, whatever the counts say."""
SUBNET_LABEL = "p2pnet.io/subnet"
ROLE_LABEL = "p2pnet.io/role"
INJECTION_ENDED = ("Propagated", "Failed", "Invalid")
INJECTIONS_MAX = 100  # in a status; `kubectl get injections` has all


def document_of(thing: Object) -> Subnet:
    """The document in a Subnet object. Raises SpecError."""
    found = _meta(thing)
    kept = kept_annotations(found.get("annotations"))
    metadata = {"name": found.get("name"), "namespace": found.get("namespace"), **kept}
    spec = thing.get("spec") or {}
    return load_subnet({"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": metadata, "spec": spec})


def status_without_lab(thing: Object, pods: list[Object], why: str) -> Status:
    """The Status of a subnet whose lab does not answer, because of `why`. Raises SpecError for a document that is none."""
    subnet, told = document_of(thing), thing.get("status") or {}
    wanted = subnet.node_count - 1 if topology_of(subnet).full else 0
    lines = [_member(name, group, _pod_of(subnet, name), pods, wanted) for name, group in members(subnet)]
    certificates = told.get("certificates") or {}
    status = Status(
        name=subnet.name, target="cluster", seed=subnet.spec.seed, packed=subnet.spec.nodes_per_pod > 1,
        nodes=NodeCounts(
            len(lines), sum(line.state in ("running", "ready") for line in lines),
            sum(line.state == "ready" for line in lines), 0,
        ),
        links=LinkCounts(edge_count(subnet), 0),
        certificates=CertificateCounts(int(certificates.get("issued") or 0), certificates.get("earliestExpiry")),
        conditions=[Condition(LAB_AWAY, "True", "LabAway", why)], members=lines, up_since=_created(thing),
        ignored=ignored(subnet, "cluster"),
    )  # fmt: skip
    return with_cluster(status, thing, pods)


def with_cluster(status: Status, thing: Object, pods: list[Object]) -> Status:
    """A Status, of a lab or not, with what object and pods know better: trouble, restarts, rollouts, the end."""
    told = thing.get("status") or {}
    conditions = {one.type: one for one in status.conditions}
    away = LAB_AWAY in conditions
    for one in told.get("conditions") or []:
        said = Condition(one["type"], one["status"], one.get("reason") or "", one.get("message") or "")
        # The object's word is up to a minute old; a lab's own is not.
        if away or (said.type in ("Degraded", "Paused") and said.status == "True"):
            conditions[said.type] = said
    rollout = _rollout(thing)
    if not rollout and not away and status.registry_version < int(told.get("registryVersion") or 0):
        rollout = "the lab has not heard of the newest members yet"
    if rollout:
        conditions[ROLLOUT] = Condition(ROLLOUT, "True", "Progressing", rollout)
    lines = status.members
    if pods:
        subnet = document_of(thing)
        lines = [_with_pod(line, _pod_of(subnet, line.name), pods) for line in status.members]
    return msgspec.structs.replace(
        status, conditions=list(conditions.values()), members=lines, expires_at=told.get("expiresAt"),
        certificates=_certificates(status, told),
    )  # fmt: skip


def is_unseen(thing: Object) -> bool:
    """Whether no operator has looked at the document as it is now."""
    seen = int((thing.get("status") or {}).get("observedGeneration") or 0)
    return seen < int(_meta(thing).get("generation") or 0)


def unattended(status: Status, context: str) -> Status:
    """The Status of a subnet that nobody looks after."""
    words = f"no operator is in context {context} to look at the document"
    kept = [one for one in status.conditions if one.type != ROLLOUT]
    return msgspec.structs.replace(status, conditions=[*kept, Condition(ROLLOUT, "True", NO_OPERATOR, words)])


def injection_lines(subnet: str, things: list[Object]) -> list[InjectionLine]:
    """A line for each Injection of this subnet: those that are not over first, then the newest; at most INJECTIONS_MAX."""
    lines = [_injection_line(one) for one in things if (one.get("spec") or {}).get("subnet") == subnet]
    lines.sort(key=lambda line: (line.state in INJECTION_ENDED, -(line.created_at or 0.0), line.name))
    return lines[:INJECTIONS_MAX]


def _injection_line(thing: Object) -> InjectionLine:
    told = thing.get("status") or {}
    finished: Object = next((one for one in told.get("conditions") or [] if one["type"] == "Finished"), {})
    return InjectionLine(
        name_of(thing), str(told.get("state") or ""), str(finished.get("reason") or ""), str(finished.get("message") or ""),
        str(told.get("run") or ""), (told.get("reach") or {}).get("ratio"), (told.get("latencyMs") or {}).get("p95"),
        _created(thing),
    )  # fmt: skip


def lost_machine(thing: Object) -> str:
    """Which machine the operator says is lost with pods of a Subnet, and which pods; empty: none."""
    for one in (thing.get("status") or {}).get("conditions") or []:
        if one["type"] == "Degraded" and one["status"] == "True" and one.get("reason") == "MachineLost":
            return str(one.get("message") or "").partition(". ")[0]
    return ""


def _certificates(status: Status, told: Mapping[str, Any]) -> CertificateCounts:
    issued = int((told.get("certificates") or {}).get("issued") or 0)
    expiry = status.certificates.earliest_expiry or (told.get("certificates") or {}).get("earliestExpiry")
    return CertificateCounts(max(issued, status.certificates.issued), expiry)


def _rollout(thing: Object) -> str:
    """What the operator still has to do about the document as it is now; empty when nothing."""
    told = thing.get("status") or {}
    if is_unseen(thing):
        return "the operator has not looked at the document yet"
    for one in told.get("conditions") or []:
        if one["type"] == "Progressing" and one.get("reason") in (
            "RollingUpdate",
            "RolloutStalled",
            "Creating",
            "Scaling",
            "Configuring",
        ):
            return f"{one['reason']}: {one.get('message') or ''}".rstrip(": ")
    return ""


# --- pods ---


def is_ready(pod: Object) -> bool:
    """Whether the pod's readiness holds."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def name_of(thing: Object) -> str:
    """An object's name."""
    return str(_meta(thing).get("name", ""))


def _pod_of(subnet: Subnet, member: str) -> str:
    return f"{subnet.name}-{pack_of(subnet, member)}"


def _member(name: str, group: str, pod_name: str, pods: list[Object], wanted: int) -> MemberStatus:
    line = MemberStatus(
        name=name, group=group, state="starting", address="", peers=0, restarts=0, cert_not_after=None, wanted=wanted,
        detail="has no pod yet",
    )  # fmt: skip
    return _with_pod(line, pod_name, pods)


def _with_pod(line: MemberStatus, pod_name: str, pods: list[Object]) -> MemberStatus:
    pod = next((one for one in pods if name_of(one) == pod_name), None)
    if pod is None:
        return line
    status = pod.get("status") or {}
    restarts = sum(int(one.get("restartCount") or 0) for one in status.get("containerStatuses") or [])
    detail, state = why_not_up(pod), line.state
    if state == "starting" and not detail:  # the lab is away: the pod alone knows
        detail = ""
        state = "ready" if is_ready(pod) else "running"
    elif not detail and line.state != "starting":
        detail = line.detail
    elif state == "unknown" and detail:
        state = "starting"
    return msgspec.structs.replace(line, state=state, detail=detail, restarts=max(restarts, line.restarts))


def _created(thing: Object) -> float | None:
    text = _meta(thing).get("creationTimestamp")
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except ValueError:
        return None


def _meta(thing: Object) -> Object:
    return thing.get("metadata") or {}
