"""What an Injection's status and its events say, from the step that was decided. Pure: `now` is an argument.

The conditions are `Finished`, `Propagated`, `Failed` and `Invalid`. While it is not over, the last three are Unknown, and all
give the reason; at the end exactly one of those three is True. A field that is not known is left out.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from p2pnet.model.jobs import Progress
from p2pnet.model.report import Report
from p2pnet.operator.injection.context import (  # fmt: skip
    ENDED,
    FAILED,
    INJECTION,
    INVALID,
    PROPAGATED,
    RUNNING,
    STARTING,
    WAITING,
    InjectionContext,
    Reason,
)
from p2pnet.operator.injection.plan import AskStep, BeginStep, EndStep, FollowStep, SilentStep, Step, WaitStep, shown
from p2pnet.operator.kube.api import Object, meta, time_text
from p2pnet.operator.kube.events import ObjectEvent
from p2pnet.operator.kube.status import INTERNAL_ERROR, ConditionState, failure_of, merge_conditions

CONDITIONS = ("Finished", *ENDED)
VERDICTS = {PROPAGATED: "pass", FAILED: "fail", INVALID: "invalid"}
"""What a report calls the same, by state."""
INVALID_MAX = 8  # reasons of an invalid run in the status; its report has all
INVALID_CHARS_MAX = 500  # of each
NOTHING_AHEAD = {"SubnetNotFound", "FilesMissing", "TooManyFiles", "LabUnreachable"}
"""Reasons to wait that do not pass by themselves: their events are warnings."""

_KEPT = ("subnetUid", "lab", "run", "startedAt", "progress")
"""What stays in the status until it says something newer."""


def status_of(context: InjectionContext, step: Step, now: datetime, *, subnet_uid: str = "") -> Object:
    """The whole status after a step."""
    old = context.status
    kept = {key: old[key] for key in _KEPT if key in old}
    if subnet_uid:
        kept.setdefault("subnetUid", subnet_uid)
    match step:
        case WaitStep(reason, _, blocked):
            new = {**kept, "state": WAITING, **({"blocked": True} if blocked else {})}
        case BeginStep(process) | AskStep(process):
            asked = {"lab": process, "startedAt": old.get("startedAt") or time_text(now)}
            new, reason = {**kept, **asked, "state": STARTING}, Reason("Starting", "the lab is asked for the run")
        case FollowStep(run):
            behind = run.state == "queued" and run.progress.queue_position > 0  # else it begins this moment
            reason = _running(run.run, run.progress, queued=behind)
            new = {**kept, "state": RUNNING, "run": run.run, "progress": _progress(run.progress)}
            if run.progress.expected and run.state != "queued":
                new["shown"] = {"reach": f"{100 * run.progress.delivered / run.progress.expected:.3g}%"}
        case SilentStep(reason):
            since = old.get("silentSince") or time_text(now)
            new = {**kept, "state": old.get("state"), "silentSince": since}
        case EndStep():
            return _end(context, step, kept, now)
    return _conditions(context.thing, new, str(new["state"]), reason, now)


def end_without_document(thing: Object, reason: Reason, now: datetime) -> Object:
    """The status of an Injection whose document cannot be read."""
    return _finished(thing, {}, EndStep(INVALID, reason), now)


def is_only_progress(old: Object, new: Object) -> bool:
    """Whether two statuses differ only in how far the run is."""
    passing = ("progress", "shown")
    same = [{key: value for key, value in one.items() if key not in passing} for one in (old, new)]
    return same[0] == same[1]


def transition_events(changed: Iterable[Object]) -> list[ObjectEvent]:
    """An event for each new reason of Finished: it waits for something else, it began, it has ended."""
    return [
        ObjectEvent(
            one["reason"], one["message"], since=one["lastTransitionTime"] + one["reason"],
            warning=one["reason"] in NOTHING_AHEAD or (one["status"] == "True" and one["reason"] != "ExpectationsMet"),
        )
        for one in changed if one["type"] == "Finished" and one["reason"] != "Starting"
    ]  # fmt: skip


def failed_event(error: Exception) -> ObjectEvent:
    """That the operator itself fails at an Injection; once for each error."""
    message = failure_of(INJECTION, error)
    return ObjectEvent(INTERNAL_ERROR, message, since=message, warning=True)


def _running(run: str, progress: Progress, *, queued: bool) -> Reason:
    if queued:
        return Reason("QueuedInLab", f"run {run} waits for {progress.waiting_for or 'its turn'}")
    return Reason("Running", f"run {run} of {progress.artifacts} artifact{'s' if progress.artifacts != 1 else ''}")


def _progress(progress: Progress) -> Object:
    return {
        "published": progress.published, "artifacts": progress.artifacts, "delivered": progress.delivered,
        "expected": progress.expected,
    }  # fmt: skip


def _end(context: InjectionContext, end: EndStep, kept: Object, now: datetime) -> Object:
    kept.pop("progress", None)
    new = _finished(context.thing, kept, end, now)
    ttl = context.injection.spec.ttl
    if ttl is not None:
        new["expiresAt"] = time_text(now + timedelta(seconds=ttl.seconds))
    return new


def _finished(thing: Object, kept: Object, end: EndStep, now: datetime) -> Object:
    new = {**kept, "state": end.state, "verdict": VERDICTS[end.state], "finishedAt": time_text(now)}
    if end.run:
        new["run"] = end.run
    if end.report is not None:
        new |= figures_of(end.report)
    return _conditions(thing, new, end.state, end.reason, now)


def _conditions(thing: Object, new: Object, state: str, reason: Reason, now: datetime) -> Object:
    over = state in ENDED
    states = {"Finished": ConditionState(over, *reason)}
    for kind in ENDED:
        states[kind] = ConditionState(state == kind if over else None, *reason)
    generation = int(meta(thing).get("generation", 1))
    merged = merge_conditions(CONDITIONS, thing.get("status") or {}, states, generation, now, judged=set(CONDITIONS))
    return {"observedGeneration": generation, **new, "conditions": merged}


def figures_of(report: Report) -> Object:
    """The figures of a report under the names of the definition; what was not measured is left out."""
    found: dict[str, Any] = {
        "nodes": report.nodes, "artifacts": report.artifacts, "unknown": report.unknown,
        "reach": _known(
            expected=report.reach.expected, delivered=report.reach.delivered, ratio=_rounded(report.reach.ratio)
        ),
        "latencyMs": _known(**{key: _rounded(getattr(report.latency_ms, key)) for key in ("p50", "p90", "p95", "p99", "max")}),
        "hops": _known(p50=report.hops.p50, max=report.hops.max),
        "duplicatesPerDelivery": _rounded(report.duplicates_per_delivery),
        "bytes": _known(payload=report.bytes.payload, sent=report.bytes.sent, ratio=_rounded(report.bytes.ratio)),
        "clockBoundMs": _rounded(report.clock_bound_ms),
        "expectations": [
            _known(expr=one.expr, value=_rounded(one.value), ok=one.ok) for one in report.expectations
        ],
        "invalid": [text[:INVALID_CHARS_MAX] for text in report.invalid[:INVALID_MAX]],
        "shown": shown(report),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value not in (None, {}, [])}


def _known(**values: object) -> Object:
    return {key: value for key, value in values.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
