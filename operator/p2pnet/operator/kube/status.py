"""The status of a resource: its conditions, and how it is written.

Conditions follow the API conventions of Kubernetes: `lastTransitionTime` moves only when `status` changes, and
`observedGeneration` names the generation that was judged.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from p2pnet.operator.kube.api import ApiError, Cluster, Object, ResourceKind, meta, name_of, time_text, uid_of
from p2pnet.operator.kube.events import MESSAGE_CHARS_MAX


class ConditionState(NamedTuple):
    """What a condition says: its status (None: Unknown), the reason in one word, a message for people."""

    status: bool | None
    reason: str
    message: str = ""


INTERNAL_ERROR = "InternalError"
"""Reason of what is said of a resource at which the operator itself fails."""
ERROR_CHARS_MAX = 253  # of a text about a bug

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


def failure_of(kind: ResourceKind, error: Exception) -> str:
    """A sentence about a bug that was met with a resource."""
    text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
    return f"the operator fails at this {kind.kind} and tries again; its log says where: {text}"


def transitions(old: Object, new: Object) -> list[Object]:
    """The conditions of the new status whose status or reason differs from the old one's."""
    before = {one["type"]: (one.get("status"), one.get("reason")) for one in old.get("conditions") or []}
    return [
        one for one in new.get("conditions") or [] if before.get(one["type"]) != (one.get("status"), one.get("reason"))
    ]


def _unchanged(condition: Object | None) -> ConditionState:
    if condition is None:
        return NOT_JUDGED
    truth = {"True": True, "False": False}.get(str(condition.get("status")))
    return ConditionState(truth, str(condition.get("reason") or NOT_JUDGED.reason), str(condition.get("message") or ""))


async def write_status(cluster: Cluster, kind: ResourceKind, thing: Object, new: Object) -> bool:
    """Write the whole status of a resource; False when it was deleted meanwhile.

    Raises ApiError, a ConflictError where another resource has its name by now, or others write all the time: look again.
    """
    namespace = str(meta(thing)["namespace"])
    # With the uid the status never reaches a namesake that was created meanwhile.
    metadata = {"name": name_of(thing), "namespace": namespace, "uid": uid_of(thing)}
    body = {"apiVersion": kind.api, "kind": kind.kind, "metadata": metadata, "status": new}
    try:
        await cluster.apply(kind, namespace, body, "status")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True
