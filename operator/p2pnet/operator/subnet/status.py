"""What a Subnet's status says, from what was planned and observed. Pure: `now` is an argument.

The conditions are `Ready`, `Progressing`, `Degraded`, `CertificatesReady`, `Connected` and `Paused`. `Degraded` names the first
problem that is known, in this order: a write that failed, the authority or Issuer, a lost machine, an annotation, a pod, a
stalled rollout.
"""

from collections.abc import Iterable
from datetime import datetime

from p2pnet.model.report import RUN_ENDED, RUN_OPEN, Status
from p2pnet.model.text import some
from p2pnet.operator.kube.api import MANAGED_BY, MANAGER, POD, Object, meta, time_text
from p2pnet.operator.kube.status import INTERNAL_ERROR, ConditionState, failure_of, merge_conditions
from p2pnet.operator.subnet.annotations import PAUSED
from p2pnet.operator.subnet.context import (
    GROUP_LABEL,
    ROLE_LABEL,
    SUBNET,
    SUBNET_LABEL,
    Observed,
    SubnetContext,
    SubnetProblem,
)
from p2pnet.operator.subnet.machines import problem_of
from p2pnet.operator.subnet.plan import Plan
from p2pnet.subnet.expiry import expires_at, is_expired
from p2pnet.subnet.pods import commonest_problem

CONDITIONS = ("Ready", "Progressing", "Degraded", "CertificatesReady", "Connected", "Paused")

_PAUSED = f"nothing but the status is written until the annotation {PAUSED} is removed"
UNKNOWN = "?"  # in a column, while nobody can say
FAULTS_MAX = 64  # in the status: as many as a document may hold; a lab's own may come on top
FAULTS_NAMED = 5  # in the column
FAULT_CHARS_MAX = 253  # of a text about a fault


_UNREADY = {"Creating", "NotReady", "RollingUpdate", "Configuring"}
"""What is to happen until the nodes and the lab are those of the document: before that a Subnet is not Ready."""


def status_of(
    context: SubnetContext, observed: Observed, planned: Plan, problem: SubnetProblem | None, now: datetime,
    *, refused: SubnetProblem | None = None,
) -> Object:  # fmt: skip
    """The whole status of a Subnet that could be planned; `refused` says why a newer document was not."""
    states = _condition_states(context, observed, planned, problem, now)
    judged = set(CONDITIONS)
    if refused is not None:
        # The pods may still be moving to the former document: that is worth more than what is wrong with the new one.
        moving = {"Progressing": states["Progressing"]} if states["Progressing"].status else {}
        states |= _refused(refused) | moving
        judged = {"Paused", *_refused(refused)}
    conditions = merge_conditions(CONDITIONS, observed.status, states, context.generation, now, judged=judged)
    return {
        "observedGeneration": context.generation,
        "state": state_of(conditions),
        **_counts(context, observed, planned),
        **_rollout(context, observed, planned, now),
        **_certificates_and_authority(observed, planned),
        **_lab_columns(context, observed, planned),
        **_faults(observed),
        **_registry_and_expiry(context, observed, planned),
        "conditions": conditions,
    }


def refused_status(subnet: Object, problem: SubnetProblem, now: datetime) -> Object:
    """The status of a Subnet that cannot be planned: the old one, with Degraded and what follows from it."""
    return _status_without_plan(subnet, _refused(problem), now)


def failed_status(subnet: Object, error: Exception, now: datetime) -> Object:
    """The status of a Subnet at which the operator itself fails: the old one, with Degraded, and Ready is not known."""
    problem = SubnetProblem(INTERNAL_ERROR, failure_of(SUBNET, error))
    states = {
        "Degraded": ConditionState(True, *problem),
        "Ready": ConditionState(None, *problem),
        "Progressing": ConditionState(False, problem.reason, "nothing is done before the operator gets over it"),
    }
    return _status_without_plan(subnet, states, now)


def _status_without_plan(subnet: Object, states: dict[str, ConditionState], now: datetime) -> Object:
    generation = int(meta(subnet).get("generation", 0))
    old = dict(subnet.get("status") or {})
    conditions = merge_conditions(CONDITIONS, old, states, generation, now, judged=set(states))
    unknown = dict.fromkeys(("ready", "connected", "links"), UNKNOWN)
    return {
        **unknown, **old, "observedGeneration": generation, "state": state_of(conditions), "conditions": conditions,
    }  # fmt: skip


def state_of(conditions: Iterable[Object]) -> str:
    """The column STATUS, in one word: what is wrong, else Paused, else what is still to happen, else Ready."""
    found = {one["type"]: one for one in conditions}
    if found["Degraded"]["status"] == "True":
        return str(found["Degraded"]["reason"])
    if found["Paused"]["status"] == "True":
        return "Paused"
    if found["Progressing"]["status"] == "True":
        return str(found["Progressing"]["reason"])
    return "Ready" if found["Ready"]["status"] == "True" else str(found["Ready"]["reason"])


def has_expired(context: SubnetContext, lab: Status | None, now: datetime) -> bool:
    """Whether the Subnet is to be deleted now: an open run keeps it for up to half an hour beyond its ttl."""
    end = expires_at(context.subnet, context.created)
    return end is not None and is_expired(end - now, busy=has_open_run(lab))


def has_open_run(lab: Status | None) -> bool:
    """Whether the lab has a run that is running or queued."""
    return lab is not None and any(run.state in RUN_OPEN for run in lab.runs)


def is_settled(status: Object) -> bool:
    """Whether everything is as desired, so that reconciling once a minute is enough."""
    found = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return found.get("Progressing") == "False" and found.get("Connected") == "True"


def _counts(context: SubnetContext, observed: Observed, planned: Plan) -> Object:
    """Nodes by state, and what the scale subresource reads, which covers the group `node` alone."""
    ready = [pod for pod in planned.pods if pod.exists and not pod.terminating and pod.ready_since is not None]
    members = {placed.pod: len(placed.members) for placed in context.placements}
    # `kubectl scale` sets spec.nodes, which is the size of that group.
    scaled = [pod for pod in planned.pods if pod.name.startswith(f"{context.name}-node-")]
    lab = observed.lab
    nodes = {
        "desired": len(context.members),
        "ready": sum(members[pod.name] for pod in ready),
        "connected": lab.nodes.connected if lab and _lab_is_current(context, observed, planned) else 0,
    }
    return {
        "ready": f"{nodes['ready']}/{nodes['desired']}",
        "nodes": nodes,
        "replicas": sum(members[pod.name] for pod in scaled if pod.exists),
        "readyReplicas": sum(members[pod.name] for pod in ready if pod in scaled),
        "updatedReplicas": sum(members[pod.name] for pod in scaled if pod.exists and not pod.outdated),
        "selector": f"{SUBNET_LABEL}={context.name},{GROUP_LABEL}=node,{ROLE_LABEL}=node,{MANAGED_BY}={MANAGER}",
    }


def _rollout(context: SubnetContext, observed: Observed, planned: Plan, now: datetime) -> Object:
    """The rolling update under way: from the first outdated pod until all, the lab's at last, are up to date and ready."""
    begun, pods = observed.status.get("rollout"), [*planned.pods, planned.lab]
    outdated = sum(pod.exists and pod.outdated for pod in pods)
    if outdated and not begun and not context.paused:
        begun = {"startedAt": time_text(now), "pods": outdated}
    done = all(pod.ready_since is not None and not pod.terminating and not pod.outdated for pod in pods)
    return {"rollout": begun} if begun and not done else {}


def _certificates_and_authority(observed: Observed, planned: Plan) -> Object:
    issued, held = planned.issued, planned.decision.held
    expiry = {"earliestExpiry": time_text(min(issued.expiries))} if issued.expiries else {}
    found: Object = {"certificates": {"issued": issued.issued, **expiry}}
    if held is not None:
        found["authority"] = {
            "fingerprint": held.fingerprint, "notAfter": time_text(held.not_after), "phase": str(held.phase),
            "replaced": held.replaced,
        }  # fmt: skip
    elif observed.status.get("authority"):
        found["authority"] = observed.status["authority"]  # still what the nodes trust
    return found


def _lab_columns(context: SubnetContext, observed: Observed, planned: Plan) -> Object:
    """The columns CONNECTED, LINKS, REACH and P95: what the lab says, else its last report as the status has it."""
    lab = observed.lab
    known = lab is not None and _lab_is_current(context, observed, planned)
    found: Object = {
        "connected": f"{lab.nodes.connected}/{len(context.members)}" if lab and known else UNKNOWN,
        "links": f"{lab.links.up}/{lab.links.expected}" if lab and known else UNKNOWN,
    }
    last = observed.status.get("lastReport")
    # Runs come oldest first: the last one that ended stays.
    for run in lab.runs if lab else []:
        if run.state in RUN_ENDED:
            last = {
                "run": run.run, "state": run.state,
                **({"verdict": run.verdict} if run.verdict else {}),
                **({"reach": f"{run.reach * 100:.4g}%"} if run.reach is not None else {}),
                **({"p95": f"{run.p95_ms:.4g} ms"} if run.p95_ms is not None else {}),
            }  # fmt: skip
    return {**found, **({"lastReport": last} if last else {})}


def _faults(observed: Observed) -> Object:
    """The faults that the lab knows, without their times: a lease that is renewed must cause no write."""
    if observed.lab is None:
        return {key: observed.status[key] for key in ("faults", "faultsInForce") if key in observed.status}
    faults = observed.lab.faults
    if not faults:
        return {}
    shown = [
        {
            "name": fault.name, "what": _cut(fault.what), "state": fault.state, "origin": fault.origin,
            **({"detail": _cut(fault.detail)} if fault.state == "failed" and fault.detail else {}),
        }
        for fault in faults[:FAULTS_MAX]
    ]  # fmt: skip
    acting = [f"{fault.name} (failed)" if fault.state == "failed" else fault.name
              for fault in faults if fault.state in ("active", "failed")]  # fmt: skip
    return {"faults": shown, **({"faultsInForce": _cut(some(acting, FAULTS_NAMED))} if acting else {})}


def _cut(text: str) -> str:
    return text if len(text) <= FAULT_CHARS_MAX else text[: FAULT_CHARS_MAX - 1] + "…"


def _registry_and_expiry(context: SubnetContext, observed: Observed, planned: Plan) -> Object:
    found: Object = {}
    if planned.membership is not None:
        found["registryVersion"] = planned.membership.registry.version
    elif observed.status.get("registryVersion"):
        found["registryVersion"] = observed.status["registryVersion"]
    end = expires_at(context.subnet, context.created)
    if end is not None:
        found["expiresAt"] = time_text(end)
    return found


def _refused(problem: SubnetProblem) -> dict[str, ConditionState]:
    return {
        "Degraded": ConditionState(True, *problem),
        "Ready": ConditionState(False, *problem),
        "Progressing": ConditionState(False, problem.reason, "nothing is changed until the spec is right"),
    }


def _condition_states(
    context: SubnetContext, observed: Observed, planned: Plan, problem: SubnetProblem | None, now: datetime
) -> dict[str, ConditionState]:
    where = f"{context.name} -n {context.namespace}"
    lost = problem_of(observed.lost, where=where, after=context.replace_lost_after, now=now)
    connected = _connected(context, observed, planned)
    certificates = _certificates(context, planned, now, written=problem is None and not context.paused)
    pending = _pending(context, observed, planned)
    if pending is not None and pending[0] in _UNREADY:
        ready = ConditionState(False, *pending)
    elif connected.status is not True or certificates.status is not True:
        ready = connected if connected.status is not True else certificates
    else:
        ready = ConditionState(True, "Connected")
    progressing = ConditionState(True, *pending) if pending else ConditionState(False, "AsWanted")
    if planned.rollout.stalled:
        progressing = ConditionState(False, *_stalled(planned))
    return {
        "Ready": ready,
        "Progressing": progressing,
        "Degraded": _degraded(observed, planned, [problem, planned.decision.problem, lost, context.annotation_problem]),
        "CertificatesReady": certificates,
        "Connected": connected,
        "Paused": ConditionState(True, "Annotated", _PAUSED) if context.paused else ConditionState(False, "NotPaused"),
    }


def _pending(context: SubnetContext, observed: Observed, planned: Plan) -> tuple[str, str] | None:
    """What is still to happen, as (reason, message): the first of the steps in the order they are taken."""
    missing = [pod.name for pod in planned.pods if not pod.exists]
    if missing:
        return "Creating", f"pods to be created: {some(missing, 5)}"
    unready = [pod.name for pod in planned.pods if pod.ready_since is None or pod.terminating]
    if unready and not planned.rollout.outdated:
        return "NotReady", f"pods not ready: {some(unready, 5)}"
    if planned.rollout.outdated:
        return "RollingUpdate", f"{planned.rollout.outdated} pods to be replaced"
    if planned.surplus:
        return "Scaling", f"pods to go: {some(planned.surplus, 5)}"
    if planned.lab.exists and planned.lab.outdated:
        return "RollingUpdate", "the lab's pod is to be replaced, once no run is open"
    if observed.lab is not None and observed.lab.document not in ("", context.document_digest):
        return "Configuring", observed.lab_problem or "the lab has not taken this document yet"
    if planned.decision.waiting:
        return "ReplacingAuthority", planned.decision.waiting
    return None


def _degraded(observed: Observed, planned: Plan, known: list[SubnetProblem | None]) -> ConditionState:
    found = next(filter(None, known), None) or commonest_problem(observed.of(POD).values())
    if found is None and planned.rollout.stalled:
        found = _stalled(planned)
    return ConditionState(False, "Healthy") if found is None else ConditionState(True, *found)


def _stalled(planned: Plan) -> SubnetProblem:
    return SubnetProblem("RolloutStalled", f"not ready in time: {some(planned.rollout.stalled, 5)}")


def _lab_is_current(context: SubnetContext, observed: Observed, planned: Plan) -> bool:
    """Whether the lab's counts are of the members desired now, not of those before an edit."""
    lab, wanted = observed.lab, planned.membership
    if lab is None or wanted is None or lab.registry_version != wanted.registry.version:
        return False
    # By name, too: a version alone does not tell two lists apart that were written at the same time.
    return lab.nodes.desired == len(context.members) and {one.name for one in lab.members} <= context.member_names


def _connected(context: SubnetContext, observed: Observed, planned: Plan) -> ConditionState:
    lab = observed.lab
    if lab is None:
        return ConditionState(None, "LabUnreachable", observed.lab_problem or "the lab has not been reached yet")
    if not _lab_is_current(context, observed, planned):
        why = observed.lab_problem or "the lab has not heard of these members yet"
        return ConditionState(False, "MembersChanging", why)
    links = lab.links
    counted = f"links {links.up}/{links.expected}"
    enough = links.up >= context.subnet.spec.ready.connected.ratio * links.expected
    if not links.expected and len(context.members) > 1:
        enough = False  # a lab that knows no edges yet says nothing about them
    if enough and planned.rollout.outdated:
        return ConditionState(False, "MembersChanging", f"{counted}; {planned.rollout.outdated} pods to be replaced")
    return ConditionState(enough, "LinksUp" if enough else "LinksMissing", counted)


def _certificates(context: SubnetContext, planned: Plan, now: datetime, *, written: bool) -> ConditionState:
    """`written`: whether the leaves that were issued just now are in their Secrets."""
    desired, issued = len(context.members), planned.issued.issued
    expired = sum(end <= now for end in planned.issued.expiries)
    if planned.decision.problem is not None:
        return ConditionState(False, *planned.decision.problem)
    if issued < desired or expired:
        more = f", {expired} expired" if expired else ""
        return ConditionState(False, "Issuing", f"certificates {issued}/{desired}{more}")
    if planned.issued.renewed and not written:
        return ConditionState(False, "Issuing", f"{planned.issued.renewed} certificates are not written yet")
    return ConditionState(True, "Issued", f"certificates {issued}/{desired}")
