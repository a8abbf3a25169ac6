"""What to do about a Subnet: `plan(context, observed, now) -> Plan`. Pure but for the keys that are generated.

Besides the operator the command line uses it, for `p2pnet render`.
"""

from collections.abc import Iterable
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
    RECOMMENDED_LABELS,
    SECRET,
    SERVICE,
    Object,
    ResourceKind,
    annotations_of,
    earliest,
    meta,
    name_of,
    uid_of,
)
from p2pnet.operator.kube.desired import HASH, Action, Apply, Create, Delete, Patch, contains, up_to_date, with_hash
from p2pnet.operator.subnet.context import ROLE_LABEL, LostMachine, Observed, SubnetContext
from p2pnet.operator.subnet.plan import authority, certmanager, configmaps, pods, rollout, secrets
from p2pnet.operator.subnet.plan.authority import REPLACE_BEFORE, CertificateDecision
from p2pnet.operator.subnet.plan.rollout import PodState, Rollout, state_of

__all__ = ["Plan", "plan", "wanted_pods"]


@dataclass
class Plan:
    """The actions in the order they are to be executed, and what the status is made of."""

    actions: list[Action] = field(default_factory=list)
    decision: CertificateDecision = field(default_factory=lambda: CertificateDecision(None))
    issued: secrets.IssuedSecrets = field(default_factory=secrets.IssuedSecrets)
    membership: Membership | None = None
    pods: list[PodState] = field(default_factory=list)
    lab: PodState = field(default_factory=lambda: PodState("", exists=False))
    rollout: Rollout = field(default_factory=Rollout)
    abandoned: list[LostMachine] = field(default_factory=list)
    """Machines that are lost for so long that their pods are deleted by force."""
    surplus: list[str] = field(default_factory=list)
    """Pods that exist and are not desired any more."""
    due: datetime | None = None
    """When to plan again though nothing changed."""


def plan(context: SubnetContext, observed: Observed, now: datetime) -> Plan:
    """All that is to be done now. When it has been done and the pods are ready, another plan has no actions."""
    planned = Plan(decision=authority.decide(context, observed, now))
    if planned.decision.write is not None:
        planned.actions.append(planned.decision.write)
    planned.membership = configmaps.membership(context, observed)
    # What pods mount comes before pods: the kubelet retries a missing mount only after a while.
    planned.actions += _token(context, observed)
    planned.actions += _certificates(context, observed, planned, now)
    planned.actions += _objects(context, observed, planned.membership)
    planned.actions += _pods(context, observed, planned, now)
    planned.actions += _leftovers(context, observed, planned)
    planned.actions += _abandoned(context, observed, planned, now)
    planned.due = earliest(_due(planned, now), *_abandon_at(context, observed, now))
    return planned


def wanted_pods(context: SubnetContext) -> dict[str, Object]:
    """The desired node pods by name, in member order."""
    if "pods" not in context.cache:
        config_hash = configmaps.rolling_hash(context)
        context.cache["pods"] = {
            placed.pod: pods.node_pod(context, placed, config_hash) for placed in context.placements
        }
    found: dict[str, Object] = context.cache["pods"]
    return found


def _token(context: SubnetContext, observed: Observed) -> list[Action]:
    token = secrets.token(context, observed)
    if token is None:
        return []
    # Create, for it is random: a second operator must not overwrite it. Apply only if somebody has emptied it.
    return [Apply(SECRET, token) if context.token in observed.of(SECRET) else Create(SECRET, token)]


def _certificates(context: SubnetContext, observed: Observed, planned: Plan, now: datetime) -> list[Action]:
    """Sets `issued`, and adds to the decision what cert-manager's leaves call for."""
    actions: list[Action] = []
    from_issuer = certmanager.read_leaves(context, observed, now) if context.cert_manager else None
    if from_issuer is not None:
        actions += certmanager.actions(context, observed)
        decision = planned.decision
        planned.decision = replace(
            decision,
            problem=decision.problem or from_issuer.problem,
            waiting=decision.waiting or from_issuer.waiting,
        )
    held = planned.decision.held
    planned.issued = (
        secrets.issue(context, observed, held, now, from_issuer)
        if held
        else secrets.keep(context, observed, now, from_issuer)
    )
    return actions + _applied(observed, [(SECRET, body) for body in planned.issued.bodies])


def _objects(context: SubnetContext, observed: Observed, membership: Membership) -> list[Action]:
    return _applied(observed, [
        (CONFIG_MAP, configmaps.config_map(context)), (CONFIG_MAP, configmaps.members_map(context, membership)),
        (SERVICE, pods.nodes_service(context)), (SERVICE, pods.lab_service(context)),
        (POLICY, pods.policy(context)), (BUDGET, rollout.budget(context)), (CLAIM, pods.lab_claim(context)),
    ])  # fmt: skip


def _applied(observed: Observed, wanted: Iterable[tuple[ResourceKind, Object | None]]) -> list[Action]:
    """Apply each object that is not up to date."""
    desired = [(kind, with_hash(body)) for kind, body in wanted if body is not None]
    return [Apply(kind, one) for kind, one in desired if not up_to_date(one, observed.of(kind).get(name_of(one)))]


def _pods(context: SubnetContext, observed: Observed, planned: Plan, now: datetime) -> list[Action]:
    wanted, there = wanted_pods(context), observed.of(POD)
    planned.pods = [state_of(name, body, there.get(name)) for name, body in wanted.items()]
    planned.rollout = rollout.decide(planned.pods, rollout.unavailable_max(len(wanted)), now)
    lab = pods.lab_pod(context)
    planned.lab = state_of(context.lab, lab, there.get(context.lab))
    missing = {name: body for name, body in {context.lab: lab, **wanted}.items() if name not in there}
    # The lab first: the kubelet starts pods in this order, and only the lab can report how the others are.
    actions: list[Action] = [Create(POD, body) for name, body in missing.items() if name in planned.issued.complete]
    actions += _labels([*wanted.values(), lab], there)
    # An ended lab measures nothing: replaced at once, whatever runs.
    if planned.lab.ended or (planned.lab.outdated and _lab_may_go(planned.lab, observed, planned)):
        actions += _delete(POD, there.get(context.lab), "ended" if planned.lab.ended else "outdated")
    for name in planned.rollout.delete:
        actions += _delete(POD, there.get(name), "replaced")
    return actions


def _labels(wanted: list[Object], there: dict[str, Object]) -> list[Action]:
    """Restore labels that somebody removed or changed: Services and budgets select pods by them. Give those that are new."""
    actions: list[Action] = []
    for body in wanted:
        pod = there.get(name_of(body))
        labels = meta(body)["labels"]
        if pod is not None and annotations_of(pod).get(HASH) != annotations_of(body).get(HASH):
            # It is to be replaced: what is recommended speaks of the pod that will take its place.
            labels = {key: value for key, value in labels.items() if key not in RECOMMENDED_LABELS}
        if pod is not None and not contains(meta(pod).get("labels"), labels):
            version = meta(pod).get("resourceVersion")
            actions.append(Patch(POD, name_of(body), {"metadata": {"labels": labels, "resourceVersion": version}}))
    return actions


def _lab_may_go(lab: PodState, observed: Observed, planned: Plan) -> bool:
    """Whether the lab may be replaced now: not during a run, and last, so that an image that fails leaves a lab to measure."""
    if observed.lab is not None and any(run.state in RUN_OPEN for run in observed.lab.runs):
        return False
    nodes_done = all(pod.exists and not pod.outdated and pod.ready_since is not None for pod in planned.pods)
    return nodes_done or lab.ready_since is None


def _leftovers(context: SubnetContext, observed: Observed, planned: Plan) -> list[Action]:
    """Delete surplus pods, highest ordinal first, then Secrets of pods that are gone, then a budget that is not desired."""
    wanted = {placed.pod for placed in context.placements}
    there = observed.of(POD)
    planned.surplus = sorted(
        (name for name, pod in there.items() if _role(pod) == "node" and name not in wanted),
        key=_by_ordinal,
        reverse=True,
    )
    actions: list[Action] = []
    for name in planned.surplus:
        actions += _delete(POD, there[name], "surplus")
    if context.cert_manager:
        actions += certmanager.leftovers(context, observed)
    else:
        for name, secret in observed.of(SECRET).items():
            if _role(secret) == "node" and name not in wanted and name not in there:
                actions += _delete(SECRET, secret, "its pod is gone")
    if rollout.budget(context) is None:
        for budget in observed.of(BUDGET).values():
            actions += _delete(BUDGET, budget, "a single pod needs none")
    return actions


def _abandoned(context: SubnetContext, observed: Observed, planned: Plan, now: datetime) -> list[Action]:
    """Take the pods from machines that are lost for as long as the annotation says; they are created anew once they are gone."""
    after = context.replace_lost_after
    if after is not None:
        planned.abandoned = [machine for machine in observed.lost if machine.since + after <= now]
    return [
        Delete(POD, name, uid_of(observed.of(POD)[name]), f"its machine {machine.name} is lost", force=True)
        for machine in planned.abandoned for name in machine.pods
    ]  # fmt: skip


def _abandon_at(context: SubnetContext, observed: Observed, now: datetime) -> list[datetime]:
    after = context.replace_lost_after
    moments = [machine.since + after for machine in observed.lost] if after is not None else []
    return [moment for moment in moments if moment > now]


def _delete(kind: ResourceKind, thing: Object | None, why: str) -> list[Action]:
    if thing is None or meta(thing).get("deletionTimestamp"):
        return []
    return [Delete(kind, name_of(thing), uid_of(thing), why)]


def _role(thing: Object) -> str:
    return str((meta(thing).get("labels") or {}).get(ROLE_LABEL, ""))


def _by_ordinal(name: str) -> tuple[int, str]:
    ordinal = name.rpartition("-")[2]
    return (int(ordinal) if ordinal.isdigit() else -1, name)  # as a number: node-10 comes after node-9


def _due(planned: Plan, now: datetime) -> datetime | None:
    held = planned.decision.held
    replaced = held.not_after - REPLACE_BEFORE if held else None
    moments = [*planned.issued.renewals, rollout.next_change(planned.pods, now), replaced]
    return earliest(*(moment for moment in moments if moment is not None and moment > now))
