"""What is told of a resource: the conditions in its status, and the events about it.

Conditions follow the API conventions of Kubernetes: `lastTransitionTime` moves only when `status` changes, and
`observedGeneration` names the generation that was judged.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from p2pnet.operator.kube.api import (
    EVENT,
    MANAGER,
    ApiError,
    Cluster,
    Object,
    ResourceKind,
    meta,
    name_of,
    time_text,
    uid_of,
)
from p2pnet.operator.kube.desired import digest

MESSAGE_CHARS_MAX = 1024  # the API server's limit of an event's message; conditions keep to it, too


class ConditionState(NamedTuple):
    """What a condition says: its status (None: Unknown), the reason in one word, a message for people."""

    status: bool | None
    reason: str
    message: str = ""


NOT_JUDGED = ConditionState(None, "NotLookedYet")
"""A condition that nothing has been said about so far."""


def merge_conditions(
    types: Sequence[str], old: Object, states: Mapping[str, ConditionState], generation: int, now: datetime,
    *, judged: set[str],
) -> list[Object]:  # fmt: skip
    """The conditions of all `types`, from the old status and the states that are known now.

    Those in `judged` were judged by the document of this generation; the others keep the generation they had, so that
    nobody who waits for them takes an answer about a former document for one about this.
    """
    before = {one["type"]: one for one in old.get("conditions") or []}
    merged = []
    for kind in types:
        truth, reason, message = states.get(kind) or _unchanged(before.get(kind))
        status = "Unknown" if truth is None else str(truth)
        same = kind in before and before[kind].get("status") == status
        since = before[kind].get("lastTransitionTime") if same else None
        known = generation if kind in judged else int(before.get(kind, {}).get("observedGeneration") or 0)
        merged.append(
            {
                "type": kind, "status": status, "reason": reason, "message": message[:MESSAGE_CHARS_MAX],
                "lastTransitionTime": since or time_text(now), "observedGeneration": known,
            }
        )  # fmt: skip
    return merged


def transitions(old: Object, new: Object) -> list[Object]:
    """The conditions of the new status whose status or reason differs from the old one's."""
    before = {one["type"]: (one.get("status"), one.get("reason")) for one in old.get("conditions") or []}
    return [
        one for one in new.get("conditions") or [] if before.get(one["type"]) != (one.get("status"), one.get("reason"))
    ]


@dataclass(frozen=True)
class ObjectEvent:
    """An event about a resource. `since` tells two occurrences of the same apart."""

    reason: str
    message: str
    since: str
    warning: bool = False


async def post_events(cluster: Cluster, kind: ResourceKind, thing: Object, events: Iterable[ObjectEvent]) -> None:
    """Write events about a resource. Failures are ignored: events are for people who watch, and nothing depends on them.

    An event's name follows from what it says, so that the API server refuses one that is there already.
    """
    for event in events:
        with contextlib.suppress(ApiError):
            await cluster.create(EVENT, str(meta(thing)["namespace"]), _event(kind, thing, event))


def _event(kind: ResourceKind, thing: Object, event: ObjectEvent) -> Object:
    namespace, name, uid = str(meta(thing)["namespace"]), name_of(thing), uid_of(thing)
    moment = time_text(datetime.now(UTC))
    return {
        "apiVersion": EVENT.api, "kind": EVENT.kind,
        "metadata": {"name": f"{name}.{digest([uid, event.reason, event.since])}", "namespace": namespace},
        "involvedObject": {"apiVersion": kind.api, "kind": kind.kind, "namespace": namespace, "name": name, "uid": uid},
        "reason": event.reason, "message": event.message[:MESSAGE_CHARS_MAX],
        "type": "Warning" if event.warning else "Normal",
        "firstTimestamp": moment, "lastTimestamp": moment, "count": 1, "source": {"component": MANAGER},
        "reportingComponent": MANAGER, "reportingInstance": MANAGER,
    }  # fmt: skip


def _unchanged(condition: Object | None) -> ConditionState:
    if condition is None:
        return NOT_JUDGED
    truth = {"True": True, "False": False}.get(str(condition.get("status")))
    return ConditionState(truth, str(condition.get("reason") or NOT_JUDGED.reason), str(condition.get("message") or ""))
