"""The control loop of Injections: observe, decide, ask the lab, write the status. And its other half, `sweep`: whatever run of a
lab belongs to an Injection that is gone is ended, so that a deletion needs no finalizer.

It is level-based, as Subnets' is: any step may be the last one before the process is killed.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.jobs import Payload, RunState
from p2pnet.model.report import RUN_ENDED, RUN_OPEN, Status
from p2pnet.operator.injection import status
from p2pnet.operator.injection.context import (  # fmt: skip
    INJECTION,
    INVALID,
    InjectionContext,
    InjectionObserved,
    Reason,
    deletion_due,
    is_gone,
    is_over,
    status_in,
)
from p2pnet.operator.injection.lab import RunLabs
from p2pnet.operator.injection.observe import InjectionObserver
from p2pnet.operator.injection.plan import (  # fmt: skip
    FOLLOW_S,
    LOOK_S,
    AskStep,
    BeginStep,
    EndStep,
    FollowStep,
    SilentStep,
    Step,
    WaitStep,
    decide,
    ended,
    request_of,
)
from p2pnet.operator.kube.api import ApiError, Cluster, Object, uid_of
from p2pnet.operator.kube.events import EventRecorder
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.kube.status import transitions, write_status
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet.context import SUBNET

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0  # a status in which only the progress has changed is written at most this often
SILENT_S = 5.0  # between looks at a lab that does not answer
REFUSALS = range(400, 500)
"""What a lab answers to a request that no other time will make right; but see `LATER`."""
LATER = (401, 404, 408, 409, 412, 429)
"""A token that is being renewed, an upload that is gone, a run that is there, another process, a full queue: look again."""


class InjectionReconciler:
    """Brings Injections to their ends. `now` is the wall clock; `reconcile` may be called for any key at any time."""

    def __init__(
        self, cluster: Cluster, labs: RunLabs, *, metrics: Metrics | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._labs = labs
        self._observer = InjectionObserver(cluster, labs)
        self._events = EventRecorder(cluster, INJECTION)
        self._metrics = metrics
        self._now = now
        self._turns = asyncio.Lock()
        """Held from the look at who is ahead until it is written who begins."""
        self._subnets: dict[Key, str] = {}
        """The Subnets of Injections that are not over; only to be quick: losing it costs seconds."""
        self._written_at: dict[Key, float] = {}
        self.wake: Callable[[Key], None] = lambda _key: None
        """Called with what should be reconciled soon."""

    @property
    def controller(self) -> Controller:
        """This reconciler, as the queue and the watches know it."""
        return Controller(INJECTION, (), "", self.reconcile)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one Injection closer to its end.

        Returns the seconds until the next reconciliation, None when it is gone or over. Raises ApiError: try again after a
        growing pause.
        """
        thing = await self._cluster.get(INJECTION, key.namespace, key.name)
        if thing is None or is_gone(thing, uid_of(thing)):
            if self._metrics is not None:
                self._metrics.forget_injection(key)
            self._leave(key)
            return None
        self._count(key, thing, status_in(thing))
        try:
            return await self._bring_on(key, thing)
        except P2pnetError:  # about the cluster or the lab: it passes
            raise
        except Exception as error:
            await self._events.post(thing, [status.failed_event(error)])  # else it would seem to wait for something
            raise

    async def _bring_on(self, key: Key, thing: Object) -> float | None:
        if is_over(thing):
            return await self._over(key, thing)
        try:
            context = InjectionContext.of(thing)
        except SpecError as error:
            refused = status.end_without_document(thing, Reason("InvalidSpec", str(error)), self._now())
            await self._write(key, thing, refused)
            return None
        self._subnets[key] = context.subnet
        return await self._go_on(key, context, await self._observer.observe(context))

    async def sweep(self, key: Key, address: tuple[str, str], lab: Status) -> None:
        """End the open runs of a Subnet's lab whose Injections are deleted or over."""
        for run in lab.runs:
            if run.injection is None or run.state not in RUN_OPEN:
                continue
            try:
                thing = await self._cluster.get(INJECTION, key.namespace, run.injection.name)
                if thing is None or is_gone(thing, run.injection.uid) or is_over(thing):
                    log.info("%s: ending run %s: its Injection %s is gone or over", key, run.run, run.injection.name)
                    await self._labs.cancel(*address, run.run)
            except P2pnetError as error:  # the next look at this lab tries again; the Subnet is not to suffer
                log.warning("%s: run %s could not be ended: %s", key, run.run, error)

    async def _go_on(self, key: Key, context: InjectionContext, observed: InjectionObserved) -> float | None:
        now, uid = self._now(), observed.subnet.uid if observed.subnet is not None else ""
        step = decide(context, observed, now)
        if isinstance(step, BeginStep):
            async with self._turns:
                observed.ahead = await self._observer.ahead(context)  # somebody may have begun since
                step = decide(context, observed, now)
                if isinstance(step, BeginStep):
                    begun = status.status_of(context, step, now, subnet_uid=uid)
                    if not await self._write(key, context.thing, begun):
                        return LOOK_S  # deleted or written meanwhile: nothing was asked for
                    context = InjectionContext({**context.thing, "status": begun}, context.injection)
        if isinstance(step, BeginStep | AskStep):
            step = await self._ask(context, observed, step.process)
        await self._write(key, context.thing, status.status_of(context, step, self._now(), subnet_uid=uid))
        return self._pause(key, step, context)

    async def _ask(self, context: InjectionContext, observed: InjectionObserved, process: str) -> Step:
        """Ask the lab for the run; what is to be said then."""
        assert observed.subnet is not None  # noqa: S101 - else there was no lab to be found
        assert observed.subnet.address is not None  # noqa: S101
        address = observed.subnet.address
        try:
            # Files are uploaded anew each time, so that the same run would be another request: it is looked for first.
            run = await self._labs.run_of(*address, context.uid)
            if run is None:
                files, problem = await self._observer.read_files(context)
                if problem is not None:
                    return SilentStep(problem)
                names = [(name, await self._labs.upload(*address, name, data)) for name, data in files.items()]
                request = request_of(context, [Payload(name=name, upload=upload) for name, upload in names])
                run = await self._labs.start(*address, request, process=process)
        except ProblemError as error:
            if error.status in REFUSALS and error.status not in LATER:
                return EndStep(INVALID, Reason("Refused", str(error)))
            return SilentStep(Reason("LabUnreachable", str(error)))
        except P2pnetError as error:
            if isinstance(error, ApiError):
                raise
            return SilentStep(Reason("LabUnreachable", str(error)))
        return _known(run)

    async def _over(self, key: Key, thing: Object) -> float | None:
        self._forget(key)
        due, now = deletion_due(thing), self._now()
        if due is None:
            return None
        if due > now:
            return (due - now).total_seconds() + 0.1
        await self._cluster.delete(INJECTION, key.namespace, key.name, uid_of(thing))
        return None

    def _pause(self, key: Key, step: Step, context: InjectionContext) -> float | None:
        match step:
            case WaitStep(_, pause_s, _):
                return pause_s
            case SilentStep():
                return SILENT_S
            case EndStep():
                self._leave(key)
                return 0.1 if context.injection.spec.ttl is not None else None
            case FollowStep():
                return FOLLOW_S
        return LOOK_S

    async def _write(self, key: Key, thing: Object, new: Object) -> bool:
        """Write the status if it changed, with events; False when the Injection was deleted meanwhile."""
        old = status_in(thing)
        self._count(key, thing, new)
        if new == old:
            return True
        now_s = self._now().timestamp()
        if status.is_only_progress(old, new) and now_s - self._written_at.get(key, 0.0) < PROGRESS_EVERY_S:
            return True
        if not await write_status(self._cluster, INJECTION, thing, new):
            return False
        self._written_at[key] = now_s
        if self._metrics is not None and new["state"] != old.get("state") and "verdict" in new:
            self._metrics.injection_ended(new["verdict"])
        await self._events.post(thing, status.transition_events(transitions(old, new)))
        return True

    def _count(self, key: Key, thing: Object, its: Object) -> None:
        if self._metrics is not None and its.get("state"):
            self._metrics.injection(key, str((thing.get("spec") or {}).get("subnet", "")), str(its["state"]))

    def _leave(self, key: Key) -> None:
        """An Injection is gone or over: those behind it may begin, and its Subnet's lab is looked at."""
        subnet = self._subnets.get(key)
        self._forget(key)
        if subnet is None:
            return
        self.wake(Key(SUBNET, key.namespace, subnet))
        for other, its in self._subnets.items():
            if (other.namespace, its) == (key.namespace, subnet):
                self.wake(other)

    def _forget(self, key: Key) -> None:
        self._subnets.pop(key, None)
        self._written_at.pop(key, None)


def _known(run: RunState) -> Step:
    return ended(run) if run.state in RUN_ENDED else FollowStep(run)
