"""What has happened to a Subnet, for its events and the operator's log. Pure: `now` is an argument.

What an edit asks for follows from the document in force (it is in a ConfigMap) and the new one, everything else from the
status before and after. Nothing is remembered beside these: whoever is killed, the next process tells on, and nothing twice.
A change of the status whose writer is killed in that moment is not told; the conditions say what is.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from p2pnet.model.errors import SpecError
from p2pnet.model.text import some
from p2pnet.operator.kube.api import CONFIG_MAP, POD, Object, meta, name_of, parse_time, time_text, uid_of
from p2pnet.operator.kube.events import ObjectEvent
from p2pnet.operator.kube.status import transitions
from p2pnet.operator.subnet.annotations import PAUSED
from p2pnet.operator.subnet.context import LostMachine, Observed, SubnetContext
from p2pnet.operator.subnet.plan import Plan
from p2pnet.operator.subnet.plan.configmaps import DOCUMENT_KEY, document
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.edits import EditKind, changed, kind_of
from p2pnet.subnet.expiry import WARNING, expires_at
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import Subnet

PODS_NAMED = 5  # of a lost machine, in an event
PATHS_NAMED = 5  # of an edit, in an event
_ORDER = ("Paused", "Degraded", "Progressing", "CertificatesReady", "Connected", "Ready")
"""Conditions in the order in which their changes are told: what is wrong before what follows from it."""
_ANNOUNCED = {"RollingUpdate", "Scaling", "ReplacingAuthority"}
"""Reasons of Progressing under which a Subnet may well be unready for moments."""
_Told = tuple[str, str, bool]
"""Reason and message of an event, and whether it is a warning."""


def edit_events(context: SubnetContext, observed: Observed) -> list[ObjectEvent]:
    """What is new in the document, while the ConfigMap still holds the one before; of a new Subnet that it is begun."""
    since = f"{context.generation}"
    if not observed.status:
        count, pods = len(context.members), len(context.placements)
        return [ObjectEvent("Creating", f"{_counted(count, 'node')} in {_counted(pods, 'pod')}, and the lab", since)]
    before = _document_in_force(context, observed)
    paths = changed(before, context.subnet) if before is not None else []
    if before is None or not paths:
        return []
    return [*_sizes(before, context.subnet, since), *_edited(paths, since)]


def _document_in_force(context: SubnetContext, observed: Observed) -> Subnet | None:
    """The document that was written last, when it is another one than the Subnet's now."""
    text = ((observed.of(CONFIG_MAP).get(context.config_map) or {}).get("data") or {}).get(DOCUMENT_KEY)
    try:
        held = msgspec.json.decode(text) if text else None
        return load_subnet(held) if held and held != document(context) else None
    except (msgspec.DecodeError, SpecError):  # edited by hand, or by another version of the operator
        return None


def _sizes(before: Subnet, after: Subnet, since: str) -> list[ObjectEvent]:
    old, new = _nodes_by_group(before), _nodes_by_group(after)
    events = [
        ObjectEvent("GroupAdded", f"group {name}: {_counted(count, 'node')}", f"{since} {name}")
        for name, count in new.items() if name not in old
    ]  # fmt: skip
    events += [
        ObjectEvent("GroupRemoved", f"group {name}: its {_counted(count, 'node')} will go", f"{since} {name}")
        for name, count in old.items() if name not in new
    ]  # fmt: skip
    scaled = [f"group {name} from {old[name]} to {new[name]}" for name in new if name in old and old[name] != new[name]]
    return [*events, *([ObjectEvent("Scaled", "; ".join(scaled), since)] if scaled else [])]


def _nodes_by_group(subnet: Subnet) -> dict[str, int]:
    sizes = {"node": 0, **{group.name: 0 for group in subnet.spec.groups}}
    for _, group in members(subnet):
        sizes[group] += 1
    return sizes


def _edited(paths: list[str], since: str) -> list[ObjectEvent]:
    """What else was edited, and how it comes into force; sizes are told apart."""
    rest = [path for path in paths if not path.endswith(("spec.nodes", "].nodes", "]"))]
    rolling = [path for path in rest if kind_of(path) is EditKind.ROLLING]
    live = [path for path in rest if path not in rolling]
    said = [f"{some(live, PATHS_NAMED)}: at once"] if live else []
    said += [f"{some(rolling, PATHS_NAMED)}: pods are replaced, a tenth at a time"] if rolling else []
    return [ObjectEvent("Edited", "; ".join(said), since)] if said else []


def transition_events(old: Object, new: Object, now: datetime) -> list[ObjectEvent]:
    """Events for what differs between two statuses of which the first was written and the second is; each reason once."""
    before = {one["type"]: one for one in old.get("conditions") or []}
    rolling = "rollout" in old or "rollout" in new
    events = _rollout_events(old.get("rollout"), new.get("rollout"), now)
    for one in sorted(transitions(old, new), key=lambda one: _ORDER.index(one["type"])):
        events += _condition_events(one, before.get(one["type"]) or {}, new)
    # Told already: that somebody edited the document, or that pods are being replaced.
    silent = {"NotReady"} if rolling or _is_edited(old, new) or _is_announced(new) else set()
    silent |= {"LabUnreachable", "LabReachable"} if rolling else set()
    silent |= {"Connected"} if "rollout" in new else set()
    events = [event for event in events if event.reason not in silent]
    return list({event.reason: event for event in reversed(events)}.values())[::-1]


def _condition_events(one: Object, before: Object, new: Object) -> list[ObjectEvent]:
    """The events of a condition that changed, with what it was before and the whole new status."""
    told = {
        "Degraded": _on_degraded, "Paused": _on_paused, "CertificatesReady": _on_certificates, "Connected": _on_connected,
    }.get(one["type"])  # fmt: skip
    found = told(one, before) if told else _on_ready(one, before, new) if one["type"] == "Ready" else None
    if found is None:
        return []
    reason, message, warning = found
    return [ObjectEvent(reason, message, one["lastTransitionTime"] + one["type"], warning)]


def _on_degraded(one: Object, before: Object) -> _Told | None:
    if one["status"] == "True":
        return one["reason"], one["message"], True
    return ("Recovered", f"no more {before['reason']}: {before['message']}", False) if _was(before, "True") else None


def _on_paused(one: Object, before: Object) -> _Told | None:
    if one["status"] == "True":
        return "Paused", one["message"], False
    gone = f"the annotation {PAUSED} is gone: what was left undone is done now"
    return ("Resumed", gone, False) if _was(before, "True") else None


def _on_certificates(one: Object, before: Object) -> _Told | None:
    if one["status"] == "True":
        return (one["reason"], one["message"], False) if not _was(before, "True") else None
    pending = one["status"] == "Unknown" or one["reason"] == "Issuing"
    return None if pending else (one["reason"], one["message"], True)


def _on_connected(one: Object, before: Object) -> _Told | None:
    was = before.get("reason", "NotLookedYet")
    if one["reason"] == "LabUnreachable" and was not in ("NotLookedYet", "LabUnreachable"):
        return "LabUnreachable", one["message"], True
    back = was == "LabUnreachable" != one["reason"]
    return ("LabReachable", f"the lab answers: {one['message'] or one['reason']}", False) if back else None


def _on_ready(one: Object, before: Object, new: Object) -> _Told | None:
    if one["status"] == "True":
        return one["reason"], f"nodes ready {new.get('ready')}, links up {new.get('links')}", False
    if not _was(before, "True") or one["reason"] == _degraded_by(new):
        return None
    prefix = "" if one["reason"] == "NotReady" else f"{one['reason']}: "
    return "NotReady", prefix + one["message"], True


def _was(before: Object, truth: str) -> bool:
    return bool(before.get("status") == truth)


def _rollout_events(old: Object | None, new: Object | None, now: datetime) -> list[ObjectEvent]:
    if new is not None and old is None:
        return [ObjectEvent("RollingUpdate", f"{_counted(new['pods'], 'pod')} to be replaced", new["startedAt"])]
    if old is not None and new is None:
        began = parse_time(old["startedAt"])
        took = f" in {(now - began).total_seconds():.0f} s" if began else ""
        return [ObjectEvent("RolledOut", f"{_counted(old['pods'], 'pod')} replaced{took}", old["startedAt"])]
    return []


def _is_edited(old: Object, new: Object) -> bool:
    return bool(old.get("observedGeneration") != new.get("observedGeneration"))


def _is_announced(status: Object) -> bool:
    return any(
        one["type"] == "Progressing" and one["status"] == "True" and one["reason"] in _ANNOUNCED
        for one in status.get("conditions") or []
    )


def _degraded_by(status: Object) -> str:
    found: Iterable[Any] = status.get("conditions") or []
    return next((one["reason"] for one in found if one["type"] == "Degraded" and one["status"] == "True"), "")


def plan_events(context: SubnetContext, observed: Observed, planned: Plan, now: datetime) -> list[ObjectEvent]:
    """Events for pods that are driven off their machines, steps of an authority's replacement, and a ttl that ends soon."""
    events = [_evicted(pod, why) for pod in observed.of(POD).values() if (why := _disruption(pod))]
    events += [_abandoned(machine) for machine in planned.abandoned]
    decision = planned.decision
    if decision.note is not None and decision.held is not None:
        events.append(ObjectEvent(*decision.note, since=f"{decision.held.phase} {decision.held.fingerprint}"))
    end = expires_at(context.subnet, context.created)
    # Within a minute or two of the time the warning is due: at rest a Subnet is reconciled every minute.
    if end is not None and WARNING * 0.85 < end - now <= WARNING:
        events.append(ObjectEvent("Expiring", f"the ttl ends at {time_text(end)}", time_text(end), warning=True))
    return events


def expired_event(context: SubnetContext) -> ObjectEvent:
    """That the Subnet is deleted now, because its ttl is over."""
    end = expires_at(context.subnet, context.created)
    return ObjectEvent("Expired", "the ttl is over, and with it the Subnet", time_text(end) if end else "")


def _disruption(pod: Object) -> Object | None:
    """The condition of a pod that is evicted, preempted or taken from a machine that is gone."""
    found: Iterable[Object] = (pod.get("status") or {}).get("conditions") or []
    return next((one for one in found if one.get("type") == "DisruptionTarget" and one.get("status") == "True"), None)


def _evicted(pod: Object, why: Object) -> ObjectEvent:
    machine = (pod.get("spec") or {}).get("nodeName") or "its machine"
    reason = str(why.get("reason") or "evicted")
    message = f"pod {name_of(pod)} leaves {machine}: {reason}: {why.get('message') or 'no further word'}"
    since = uid_of(pod) or str(meta(pod).get("creationTimestamp"))
    # A drain asks first, and the budget is kept; everything else takes pods unasked.
    return ObjectEvent("Evicted", message, since, warning=reason != "EvictionByEvictionAPI")


def _abandoned(machine: LostMachine) -> ObjectEvent:
    message = (
        f"deleted by force, to be made again elsewhere: {some(list(machine.pods), PODS_NAMED)}; machine {machine.name}"
    )
    return ObjectEvent(
        "PodsReplaced", f"{message} {machine.why}", f"{machine.name} {time_text(machine.since)}", warning=True
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
