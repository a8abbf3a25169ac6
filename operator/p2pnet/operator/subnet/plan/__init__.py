"""What should be, from what is wanted and what there is: `plan(site, observed, now) -> Plan`. Pure but for drawn keys.

Called by `p2pnet.operator.subnet.reconcile`; the command line may read it too, to say what an edit would do.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from p2pnet.model.registry import Membership
from p2pnet.model.report import RUN_OPEN
from p2pnet.operator.kube.api import (  # fmt: skip
    BUDGET,
    CLAIM,
    CONFIG_MAP,
    POD,
    POLICY,
    SECRET,
    SERVICE,
    Object,
    ResourceKind,
    earliest,
    meta,
    name_of,
    uid_of,
)
from p2pnet.operator.kube.desired import Action, Apply, Create, Delete, Patch, contains, stamped, stands
from p2pnet.operator.subnet.context import ROLE_LABEL, Observed, SubnetContext
from p2pnet.operator.subnet.plan import authority, certmanager, configmaps, pods, rollout, secrets
from p2pnet.operator.subnet.plan.authority import REPLACE_BEFORE, CertificateDecision
from p2pnet.operator.subnet.plan.rollout import PodState, Rollout, state_of

__all__ = ["Plan", "plan", "wanted_pods"]


@dataclass
class Plan:
    """Actions in the order in which they must happen, and everything the status is made of."""

    actions: list[Action] = field(default_factory=list)
    decision: CertificateDecision = field(default_factory=lambda: CertificateDecision(None))
    issued: secrets.Issued = field(default_factory=secrets.Issued)
    membership: Membership | None = None
    pods: list[PodState] = field(default_factory=list)
    rollout: Rollout = field(default_factory=Rollout)
    surplus: list[str] = field(default_factory=list)
    """Pods that are not wanted any more and still there."""
    due: datetime | None = None
    """When to look again though nothing happened."""


def plan(site: SubnetContext, observed: Observed, now: datetime) -> Plan:
    """Everything to do now. Doing all of it and planning again gives nothing to do, once the pods are ready."""
    made = Plan(decision=authority.decide(site, observed, now))
    if made.decision.write is not None:
        made.actions.append(made.decision.write)
    made.membership = configmaps.membership(site, observed)
    made.actions += _objects(site, observed, made, now)
    made.actions += _pods(site, observed, made, now)
    made.actions += _leftovers(site, observed, made)
    made.due = _due(made, now)
    return made


def wanted_pods(site: SubnetContext) -> dict[str, Object]:
    """Every node pod as it should be, by name, in member order."""
    if "pods" not in site.worked_out:
        config_hash = configmaps.rolling_hash(site)
        site.worked_out["pods"] = {placed.pod: pods.node_pod(site, placed, config_hash) for placed in site.placement}
    found: dict[str, Object] = site.worked_out["pods"]
    return found


def _objects(site: SubnetContext, observed: Observed, made: Plan, now: datetime) -> list[Action]:
    actions: list[Action] = []
    token = secrets.token(site, observed)
    if token is not None:
        # Drawn once: a second operator must not overwrite it, unless it is there and empty.
        exists = site.token in observed.of(SECRET)
        actions.append(Apply(SECRET, token) if exists else Create(SECRET, token))
    wanted: list[tuple[ResourceKind, Object | None]] = []
    gathered = certmanager.gather(site, observed, now) if site.cert_manager else None
    if gathered is not None:
        actions += certmanager.actions(site, observed)
        trouble = made.decision.trouble or gathered.trouble
        made.decision = replace(made.decision, trouble=trouble, waiting=made.decision.waiting or gathered.waiting)
    holdings = made.decision.holdings
    made.issued = (
        secrets.issue(site, observed, holdings, now, gathered)
        if holdings
        else secrets.standing(site, observed, now, gathered)
    )
    wanted += [(SECRET, body) for body in made.issued.bodies]
    assert made.membership is not None  # noqa: S101 - plan() has just set it
    wanted += [
        (CONFIG_MAP, configmaps.config_map(site)), (CONFIG_MAP, configmaps.members_map(site, made.membership)),
        (SERVICE, pods.nodes_service(site)), (SERVICE, pods.lab_service(site)),
        (POLICY, pods.policy(site)), (BUDGET, rollout.budget(site)), (CLAIM, pods.lab_claim(site)),
    ]  # fmt: skip
    for kind, body in wanted:
        if body is not None:
            intent = stamped(body)
            if not stands(intent, observed.of(kind).get(name_of(intent))):
                actions.append(Apply(kind, intent))
    return actions


def _pods(site: SubnetContext, observed: Observed, made: Plan, now: datetime) -> list[Action]:
    wanted, there = wanted_pods(site), observed.of(POD)
    made.pods = [state_of(name, body, there.get(name)) for name, body in wanted.items()]
    made.rollout = rollout.decide(made.pods, rollout.unavailable_max(len(wanted)), now)
    lab = pods.lab_pod(site)
    lab_state = state_of(site.lab, lab, there.get(site.lab))
    missing = {name: body for name, body in {site.lab: lab, **wanted}.items() if name not in there}
    # The lab first: a kubelet starts pods as they come, and only the lab can tell how the others are.
    actions: list[Action] = [Create(POD, body) for name, body in missing.items() if name in made.issued.complete]
    actions += _labels([*wanted.values(), lab], there)
    if lab_state.ended or (lab_state.outdated and _lab_may_go(lab_state, observed, made)):
        actions += _delete(POD, there.get(site.lab), "ended" if lab_state.ended else "outdated")
    for name in made.rollout.delete:
        actions += _delete(POD, there.get(name), "replaced")
    return actions


def _labels(wanted: list[Object], there: dict[str, Object]) -> list[Action]:
    """Labels that somebody took from a pod, or changed: Services and budgets find pods by them."""
    actions: list[Action] = []
    for body in wanted:
        pod = there.get(name_of(body))
        labels = meta(body)["labels"]
        if pod is not None and not contains(meta(pod).get("labels"), labels):
            version = meta(pod).get("resourceVersion")
            actions.append(Patch(POD, name_of(body), {"metadata": {"labels": labels, "resourceVersion": version}}))
    return actions


def _lab_may_go(lab: PodState, observed: Observed, made: Plan) -> bool:
    """Whether to replace the lab now: not in somebody's run, and last, for an image that fails must not end the measuring."""
    if observed.lab is not None and any(run.state in RUN_OPEN for run in observed.lab.runs):
        return False
    nodes_done = all(pod.exists and not pod.outdated and pod.ready_since is not None for pod in made.pods)
    return nodes_done or lab.ready_since is None


def _leftovers(site: SubnetContext, observed: Observed, made: Plan) -> list[Action]:
    """Pods beyond what is wanted, highest first, then the Secrets of pods that are gone, then what has no use any more."""
    wanted = {placed.pod for placed in site.placement}
    there = observed.of(POD)
    made.surplus = sorted(
        (name for name, pod in there.items() if _role(pod) == "node" and name not in wanted),
        key=_by_ordinal,
        reverse=True,
    )
    actions: list[Action] = []
    for name in made.surplus:
        actions += _delete(POD, there[name], "surplus")
    if site.cert_manager:
        actions += certmanager.leftovers(site, observed)
    else:
        for name, secret in observed.of(SECRET).items():
            if _role(secret) == "node" and name not in wanted and name not in there:
                actions += _delete(SECRET, secret, "its pod is gone")
    if rollout.budget(site) is None:
        for budget in observed.of(BUDGET).values():
            actions += _delete(BUDGET, budget, "one pod needs none")
    return actions


def _delete(kind: ResourceKind, thing: Object | None, why: str) -> list[Action]:
    if thing is None or meta(thing).get("deletionTimestamp"):
        return []
    return [Delete(kind, name_of(thing), uid_of(thing), why)]


def _role(thing: Object) -> str:
    return str((meta(thing).get("labels") or {}).get(ROLE_LABEL, ""))


def _by_ordinal(name: str) -> tuple[int, str]:
    ordinal = name.rpartition("-")[2]
    return (int(ordinal) if ordinal.isdigit() else -1, name)


def _due(made: Plan, now: datetime) -> datetime | None:
    holdings = made.decision.holdings
    replaced = holdings.not_after - REPLACE_BEFORE if holdings else None
    moments = [*made.issued.renewals, rollout.next_look(made.pods, now), replaced]
    return earliest(*(moment for moment in moments if moment is not None and moment > now))
