"""Events of a Subnet: transitions, each told once. Their names follow from what they tell, so a repeat is refused."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from p2pnet.operator.kube import times
from p2pnet.operator.kube.api import EVENT, SUBNET, ApiError, Cluster, Object, meta, name_of, uid_of
from p2pnet.operator.kube.desired import digest
from p2pnet.operator.subnet.context import MANAGER, SubnetContext
from p2pnet.operator.subnet.plan import Plan
from p2pnet.subnet.expiry import WARNING, expires_at

_TOLD = {"Ready", "Degraded", "Paused", "CertificatesReady"}
_BAD = {("Degraded", "True"), ("CertificatesReady", "False")}
_MESSAGE_CHARS_MAX = 1024


@dataclass(frozen=True)
class Told:
    """One event; `since` makes it another one when the same happens again."""

    reason: str
    message: str
    since: str
    warning: bool = False


def of_flips(flips: list[Object]) -> list[Told]:
    """Conditions that changed and that people wait for. What is only not yet so is no event."""
    return [
        Told(
            one["reason"], one["message"] or f"{one['type']} is {one['status']}",
            since=one["lastTransitionTime"] + one["type"], warning=(one["type"], one["status"]) in _BAD,
        )
        for one in flips
        if one["type"] in _TOLD and one["status"] != "Unknown" and one["reason"] not in ("Healthy", "NotPaused", "Issuing")
        and (one["type"], one["status"]) != ("Ready", "False")
    ]  # fmt: skip


def of_plan(site: SubnetContext, made: Plan, now: datetime) -> list[Told]:
    """What the plan itself is worth telling: steps of an authority's replacement, and the end of a ttl."""
    told = []
    if made.decision.note is not None and made.decision.holdings is not None:
        holdings = made.decision.holdings
        told.append(Told(*made.decision.note, since=f"{holdings.phase} {holdings.fingerprint}"))
    end = expires_at(site.subnet, site.created)
    # Once per end, and within a minute or two of its time: at rest somebody looks every minute.
    if end is not None and WARNING * 0.85 < end - now <= WARNING:
        told.append(Told("Expiring", f"the ttl ends at {times.text(end)}", times.text(end), warning=True))
    return told


async def post(cluster: Cluster, subnet: Object, told: list[Told]) -> None:
    """Write events. They are a courtesy: what fails, fails silently."""
    for one in told:
        with contextlib.suppress(ApiError):
            await cluster.create(EVENT, str(meta(subnet)["namespace"]), _body(subnet, one))


def _body(subnet: Object, told: Told) -> Object:
    namespace, name = str(meta(subnet)["namespace"]), name_of(subnet)
    moment = times.text(datetime.now(UTC))
    return {
        "apiVersion": EVENT.api, "kind": EVENT.kind,
        "metadata": {"name": f"{name}.{digest([uid_of(subnet), told.reason, told.since])}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": SUBNET.api, "kind": SUBNET.kind, "namespace": namespace, "name": name, "uid": uid_of(subnet),
        },
        "reason": told.reason, "message": told.message[:_MESSAGE_CHARS_MAX], "type": "Warning" if told.warning else "Normal",
        "firstTimestamp": moment, "lastTimestamp": moment, "count": 1, "source": {"component": MANAGER},
        "reportingComponent": MANAGER, "reportingInstance": MANAGER,
    }  # fmt: skip
