"""What a Subnet's status says, from what was planned and seen. Pure: `now` is an argument, nothing is asked."""

from dataclasses import dataclass
from datetime import datetime

from p2pnet.model.report import RUN_ENDED, RUN_OPEN, Status
from p2pnet.model.text import some
from p2pnet.operator.kube import times
from p2pnet.operator.kube.api import POD, Object, meta
from p2pnet.operator.subnet.context import (
    GROUP_LABEL,
    MANAGED_BY,
    MANAGER,
    ROLE_LABEL,
    SUBNET_LABEL,
    Observed,
    SubnetContext,
)
from p2pnet.operator.subnet.plan import Plan
from p2pnet.subnet.expiry import expires_at, is_expired
from p2pnet.subnet.pods import commonest_problem

CONDITIONS = ("Ready", "Progressing", "Degraded", "CertificatesReady", "Connected", "Paused")
_MESSAGE_CHARS_MAX = 1024

Truth = bool | None
Verdict = tuple[Truth, str, str]
"""status (None: Unknown), reason, message"""


@dataclass(frozen=True)
class Trouble:
    """Why the Subnet is Degraded, beside what its pods say: the first of these that is known is told."""

    reason: str
    message: str


def status_of(
    site: SubnetContext,
    observed: Observed,
    made: Plan,
    trouble: Trouble | None,
    now: datetime,
    *,
    refused: Trouble | None = None,
) -> Object:
    """The whole status of a Subnet that could be planned; `refused` says why a newer document was not."""
    lab = observed.lab
    ready = [pod for pod in made.pods if pod.exists and not pod.terminating and pod.ready_since is not None]
    members = {placed.pod: len(placed.members) for placed in site.placement}
    counts = {
        "desired": len(site.members),
        "ready": sum(members[pod.name] for pod in ready),
        "connected": lab.nodes.connected if lab and _knows_members(observed, made) else 0,
    }
    main = [pod for pod in made.pods if pod.name.startswith(f"{site.name}-node-")]
    status: Object = {
        "observedGeneration": site.generation,
        "ready": f"{counts['ready']}/{counts['desired']}",
        "nodes": counts,
        "replicas": sum(members[pod.name] for pod in main if pod.exists),
        "readyReplicas": sum(members[pod.name] for pod in ready if pod in main),
        "updatedReplicas": sum(members[pod.name] for pod in main if pod.exists and not pod.outdated),
        "selector": f"{SUBNET_LABEL}={site.name},{GROUP_LABEL}=node,{ROLE_LABEL}=node,{MANAGED_BY}={MANAGER}",
        "certificates": {"issued": made.issued.issued},
        **_of_lab(site, observed, made),
        **_authority(observed, made),
    }
    if made.membership is not None:
        status["registryVersion"] = made.membership.registry.version
    elif observed.status.get("registryVersion"):
        status["registryVersion"] = observed.status["registryVersion"]
    if made.issued.ends:
        status["certificates"]["earliestExpiry"] = times.text(min(made.issued.ends))
    end = expires_at(site.subnet, site.created)
    if end is not None:
        status["expiresAt"] = times.text(end)
    verdicts = _verdicts(site, observed, made, trouble, now)
    judged = set(CONDITIONS)
    if refused is not None:
        moving = {"Progressing": verdicts["Progressing"]} if verdicts["Progressing"][0] else {}
        verdicts |= _refused(refused) | moving
        judged = {"Paused", *_refused(refused)}
    status["conditions"] = _merged(observed.status, verdicts, site.generation, now, judged=judged)
    return status


def refused_status(subnet: Object, trouble: Trouble, now: datetime) -> Object:
    """The status of a Subnet that cannot be planned: the old one, with Degraded and what follows from it."""
    generation = int(meta(subnet).get("generation", 0))
    old = dict(subnet.get("status") or {})
    verdicts = _refused(trouble)
    conditions = _merged(old, verdicts, generation, now, judged=set(verdicts))
    return {**old, "observedGeneration": generation, "conditions": conditions}


def _refused(trouble: Trouble) -> dict[str, Verdict]:
    return {
        "Degraded": (True, trouble.reason, trouble.message),
        "Ready": (False, trouble.reason, trouble.message),
        "Progressing": (False, trouble.reason, "nothing is changed until the spec is right"),
    }


def expired(site: SubnetContext, lab: Status | None, now: datetime) -> bool:
    """Whether the subnet is to be deleted now: an open run keeps it for up to half an hour more."""
    end = expires_at(site.subnet, site.created)
    return end is not None and is_expired(end - now, busy=open_run(lab))


def open_run(lab: Status | None) -> bool:
    """Whether the lab has a run that goes on or waits."""
    return lab is not None and any(run.state in RUN_OPEN for run in lab.runs)


def flips(old: Object, new: Object) -> list[Object]:
    """The new conditions whose status or reason is another than before: what is worth an event."""
    before = {one["type"]: (one.get("status"), one.get("reason")) for one in old.get("conditions") or []}
    return [
        one for one in new.get("conditions") or [] if before.get(one["type"]) != (one.get("status"), one.get("reason"))
    ]


def settled(status: Object) -> bool:
    """Whether everything is as wanted, so that it is enough to look again in a minute."""
    found = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return found.get("Progressing") == "False" and found.get("Connected") == "True"


def _verdicts(
    site: SubnetContext, observed: Observed, made: Plan, trouble: Trouble | None, now: datetime
) -> dict[str, Verdict]:
    degraded = _degraded(observed, made, trouble)
    connected = _connected(site, observed, made)
    certificates = _certificates(site, made, now)
    waiting = _waiting(made)
    ready: Verdict
    if waiting is not None and waiting[0] in ("Creating", "NotReady"):
        ready = (False, *waiting)
    elif connected[0] is not True or certificates[0] is not True:
        ready = connected if connected[0] is not True else certificates
    else:
        ready = (True, "Connected", "")
    progressing: Verdict = (True, *waiting) if waiting else (False, "AsWanted", "")
    if made.rollout.stalled:
        progressing = (False, "RolloutStalled", f"not ready in time: {some(made.rollout.stalled, 5)}")
    paused: Verdict = (site.paused, "Annotated" if site.paused else "NotPaused", "")
    return {
        "Ready": ready, "Progressing": progressing, "Degraded": degraded, "CertificatesReady": certificates,
        "Connected": connected, "Paused": paused,
    }  # fmt: skip


def _waiting(made: Plan) -> tuple[str, str] | None:
    """What stands between now and rest, in the order in which it has to come about."""
    missing = [pod.name for pod in made.pods if not pod.exists]
    if missing:
        return "Creating", f"pods to be created: {some(missing, 5)}"
    unready = [pod.name for pod in made.pods if pod.ready_since is None or pod.terminating]
    if unready and not made.rollout.outdated:
        return "NotReady", f"pods not ready: {some(unready, 5)}"
    if made.rollout.outdated:
        return "RollingUpdate", f"{made.rollout.outdated} pods to be replaced"
    if made.surplus:
        return "Scaling", f"pods to go: {some(made.surplus, 5)}"
    if made.decision.waiting:
        return "ReplacingAuthority", made.decision.waiting
    return None


def _degraded(observed: Observed, made: Plan, trouble: Trouble | None) -> Verdict:
    if trouble is not None:
        return True, trouble.reason, trouble.message
    if made.decision.trouble is not None:
        return (True, *made.decision.trouble)
    found = commonest_problem(observed.of(POD).values())
    if found is not None:
        return (True, *found)
    if made.rollout.stalled:
        return True, "RolloutStalled", f"not ready in time: {some(made.rollout.stalled, 5)}"
    return False, "Healthy", ""


def _knows_members(observed: Observed, made: Plan) -> bool:
    """Whether the lab's counts are of the members wanted now, not of those before an edit."""
    wanted = made.membership.registry.version if made.membership else None
    return observed.lab is not None and wanted is not None and observed.lab.registry_version == wanted


def _connected(site: SubnetContext, observed: Observed, made: Plan) -> Verdict:
    lab = observed.lab
    if lab is None:
        return None, "LabUnreachable", observed.lab_trouble or "the lab has not been reached yet"
    if not _knows_members(observed, made):
        return None, "LabOutdated", observed.lab_trouble or "the lab has not heard of these members yet"
    links = lab.links
    enough = links.up >= site.subnet.spec.ready.connected.ratio * links.expected
    if not links.expected and len(site.members) > 1:
        enough = False  # a lab that knows no edges yet says nothing about them
    return enough, "LinksUp" if enough else "LinksMissing", f"links {links.up}/{links.expected}"


def _certificates(site: SubnetContext, made: Plan, now: datetime) -> Verdict:
    desired, issued = len(site.members), made.issued.issued
    ended = sum(end <= now for end in made.issued.ends)
    if made.decision.trouble is not None:
        return (False, *made.decision.trouble)
    if issued < desired or ended:
        return False, "Issuing", f"certificates {issued}/{desired}" + (f", {ended} expired" if ended else "")
    return True, "Issued", f"certificates {issued}/{desired}"


def _of_lab(site: SubnetContext, observed: Observed, made: Plan) -> Object:
    """The columns CONNECTED, REACH and P95: what the lab says, else what it said last of a run."""
    found: Object = {}
    lab = observed.lab
    known = lab is not None and _knows_members(observed, made)
    found["connected"] = f"{lab.nodes.connected}/{len(site.members)}" if lab and known else "?"
    last = observed.status.get("lastReport")
    for run in lab.runs if lab else []:
        if run.state in RUN_ENDED:
            last = {
                "run": run.run, "state": run.state,
                **({"verdict": run.verdict} if run.verdict else {}),
                **({"reach": f"{run.reach * 100:.4g}%"} if run.reach is not None else {}),
                **({"p95": f"{run.p95_ms:.4g} ms"} if run.p95_ms is not None else {}),
            }  # fmt: skip
    return {**found, **({"lastReport": last} if last else {})}


def _authority(observed: Observed, made: Plan) -> Object:
    holdings = made.decision.holdings
    if holdings is None:
        old = observed.status.get("authority")
        return {"authority": old} if old else {}
    return {
        "authority": {
            "fingerprint": holdings.fingerprint, "notAfter": times.text(holdings.not_after),
            "phase": str(holdings.phase), "replaced": holdings.replaced,
        }
    }  # fmt: skip


def _merged(
    old: Object, verdicts: dict[str, Verdict], generation: int, now: datetime, *, judged: set[str]
) -> list[Object]:
    """All six conditions; the transition time moves only when a status flips.

    Those in `judged` were judged by the document of this generation; the others keep the generation they had, so that
    nobody who waits for them takes an answer about a former document for one about this.
    """
    before = {one["type"]: one for one in old.get("conditions") or []}
    merged = []
    for kind in CONDITIONS:
        truth, reason, message = verdicts.get(kind) or _unchanged(before.get(kind))
        status = "Unknown" if truth is None else str(truth)
        same = kind in before and before[kind].get("status") == status
        since = before[kind].get("lastTransitionTime") if same else None
        known = generation if kind in judged else int(before.get(kind, {}).get("observedGeneration") or 0)
        merged.append(
            {
                "type": kind, "status": status, "reason": reason, "message": message[:_MESSAGE_CHARS_MAX],
                "lastTransitionTime": since or times.text(now), "observedGeneration": known,
            }
        )  # fmt: skip
    return merged


def _unchanged(condition: Object | None) -> Verdict:
    if condition is None:
        return None, "NotLookedYet", ""
    truth = {"True": True, "False": False}.get(str(condition.get("status")))
    return truth, str(condition.get("reason") or "NotLookedYet"), str(condition.get("message") or "")
