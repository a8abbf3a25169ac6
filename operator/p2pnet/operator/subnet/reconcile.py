"""The control loop of Subnets: observe, plan, execute, write the status.

It is level-based: it never asks what happened, only what is. Any step may be the last one before the process is killed; the
next reconciliation goes on from what it observes. Nothing here waits for a condition: `reconcile` returns when to be called
again.
"""

import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.report import Status
from p2pnet.operator.kube.api import (  # fmt: skip
    CONFIG_MAP,
    MANAGED_BY,
    MANAGER,
    SECRET,
    Cluster,
    EndingError,
    Object,
    earliest,
    meta,
    name_of,
    uid_of,
)
from p2pnet.operator.kube.events import EventRecorder
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.kube.status import transitions, write_status
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet import status, story
from p2pnet.operator.subnet.context import CHILDREN, SUBNET, SUBNET_LABEL, Observed, SubnetContext, SubnetProblem
from p2pnet.operator.subnet.executor import Executor, split
from p2pnet.operator.subnet.lab import Labs, LabWatcher, address_of
from p2pnet.operator.subnet.observe import Observer, UnsupportedError, edges_reference
from p2pnet.operator.subnet.plan import Plan, plan
from p2pnet.operator.subnet.plan.authority import CertificateDecision
from p2pnet.operator.subnet.plan.certmanager import orphans
from p2pnet.operator.subnet.plan.configmaps import document, read_membership
from p2pnet.subnet.expiry import WARNING, expires_at

log = logging.getLogger(__name__)

CONVERGING_S = 2.0
REST_S = 60.0
FRESH_S = 30.0  # after a run has ended: another one often follows, so the lab is asked as often as while converging
STUCK_S = 30.0  # the longest pause while something should change and nothing does
COUNTS_EVERY_S = 5.0  # a status in which only counts have changed is written at most this often

OnLab = Callable[[Key, tuple[str, str], Status], Awaitable[None]]
"""A Subnet's key, its lab's `host:port` and token, and the lab's summary. Raises nothing."""


@dataclass
class _History:
    """What is remembered of a Subnet between reconciliations; losing it costs a read or a write. Times are Unix seconds."""

    status_written_at: float = 0.0
    unchanged: int = 0
    """How many reconciliations in a row have written nothing."""
    report: object = None
    """The `lastReport` seen last."""
    report_at: float = float("-inf")
    """When it was first seen."""


class Reconciler:
    """Brings Subnets about. `now` is the wall clock; `reconcile` may be called for any key at any time."""

    def __init__(
        self, cluster: Cluster, labs: Labs, *, image: str, pull_secrets: tuple[str, ...] = (), metrics: Metrics | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC), lab_watcher: LabWatcher | None = None, machines: bool = True,
        any_user: bool = False,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._labs = labs
        self._observer = Observer(
            cluster, labs, now=now, image=image, pull_secrets=pull_secrets, any_user=any_user, machines=machines
        )
        self._events = EventRecorder(cluster, SUBNET)
        self._metrics = metrics
        self._now = now
        self._lab_watcher = lab_watcher
        self._histories: dict[Key, _History] = {}
        self.on_lab: OnLab | None = None
        """Called with what a Subnet's lab says, each time it is asked, in whatever state the Subnet is."""

    @property
    def controller(self) -> Controller:
        """This reconciler, as the queue and the watches know it."""
        return Controller(SUBNET, CHILDREN, SUBNET_LABEL, self.reconcile)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one Subnet closer to its document.

        Returns the seconds until the next reconciliation, or None when the Subnet is gone or only an edit can help.
        Raises ApiError: try again after a growing pause; so does a bug, once the status says that there is one.
        """
        subnet = await self._cluster.get(SUBNET, key.namespace, key.name)
        if subnet is None or meta(subnet).get("deletionTimestamp"):
            self._forget(key)  # the garbage collector deletes the children
            if subnet is None:
                await self._sweep(key)
            return None
        try:
            return await self._look_after(key, subnet)
        except P2pnetError:  # about the cluster: it passes, or the status says it already
            raise
        except Exception as error:
            await self._tell_of_bug(key, subnet, error)
            raise

    async def _look_after(self, key: Key, subnet: Object) -> float | None:
        try:
            return await self._converge(key, subnet, await self._observer.context(key, subnet))
        except EndingError:
            log.info("%s: its namespace is being deleted; nothing more is made there", key)
            return EndingError.wait_s_max
        except SpecError as error:
            reason = "Unsupported" if isinstance(error, UnsupportedError) else "InvalidSpec"
            return await self._refuse(key, subnet, SubnetProblem(reason, str(error)))

    async def _tell_of_bug(self, key: Key, subnet: Object, error: Exception) -> None:
        """Say that nothing is done for a Subnet: a status that stays as it was would look as if all were well."""
        try:
            await self._write_status(key, subnet, status.failed_status(subnet, error, self._now()))
        except P2pnetError as another:  # the bug is raised, and logged with where it comes from
            log.warning("%s: nor could that be written into its status: %s", key, another)

    async def _sweep(self, key: Key) -> None:
        """Delete what nobody owns of a Subnet that is gone."""
        selector = f"{MANAGED_BY}={MANAGER},{SUBNET_LABEL}={key.name}"
        for secret in orphans(await self._cluster.find(SECRET, key.namespace, selector)):
            log.info("%s: deleting Secret %s: its Subnet is gone", key, name_of(secret))
            await self._cluster.delete(SECRET, key.namespace, name_of(secret), uid_of(secret))

    async def _refuse(self, key: Key, subnet: Object, refused: SubnetProblem) -> float | None:
        """The document is not valid: say so, and keep up what the last valid one asked for."""
        context = await self._observer.last_good(subnet)
        if context is not None:
            with contextlib.suppress(SpecError):  # a document that another version of the operator took for valid
                return await self._converge(key, subnet, context, refused)
        await self._write_status(key, subnet, status.refused_status(subnet, refused, self._now()))
        return REST_S if edges_reference(subnet) else None

    async def _converge(
        self, key: Key, subnet: Object, context: SubnetContext, refused: SubnetProblem | None = None
    ) -> float:
        observed = await self._observer.observe(context, subnet)
        address = address_of(context, observed)
        if self.on_lab is not None and observed.lab is not None and address is not None:
            await self.on_lab(key, address, observed.lab)
        now = self._now()
        if not context.paused and status.has_expired(context, observed.lab, now):
            await self._events.post(subnet, [story.expired_event(context)])
            await self._cluster.delete(SUBNET, key.namespace, key.name, context.uid)
            return CONVERGING_S
        planned = plan(context, observed, now)
        executor = Executor(self._cluster, context, observed)
        if context.paused:
            _drop_writes(context, observed, planned)
        else:
            # Before the document is written, for then nobody knows any more what was edited.
            await self._events.post(subnet, story.edit_events(context, observed))
            await self._execute(context, observed, planned, executor)
            if executor.failure is not None:  # maybe of a Secret with new leaves
                planned.issued.expiries = planned.issued.stored
        new = status.status_of(context, observed, planned, executor.problem, now, refused=refused)
        postponed = await self._write_status(key, observed.subnet, new)
        if not context.paused:
            await self._events.post(subnet, story.plan_events(context, observed, planned, now))
        if self._metrics is not None:
            before_s = context.subnet.spec.identity.renew_before_seconds
            self._metrics.subnet(key, new, planned.issued.expiries, renew_before_s=before_s)
        # After the status is written: people should read why before the back-off begins.
        if executor.failure is not None:
            raise executor.failure
        self._watch_lab(key, context, observed)
        quiet = not executor.writes and not postponed
        pause = self._pause(key, new, _due(context, planned, now), quiet=quiet, observed=observed, now=now)
        return min(pause, COUNTS_EVERY_S) if postponed else pause

    async def _execute(self, context: SubnetContext, observed: Observed, planned: Plan, executor: Executor) -> None:
        if context.authority not in observed.of(SECRET) and planned.decision.problem is not None:
            await executor.find_unlabelled_authority()
        changes, deletions = split(planned.actions)
        await executor.execute(changes)
        await self._push(context, observed, planned)
        if not executor.halted:
            await executor.execute(deletions)

    async def _push(self, context: SubnetContext, observed: Observed, planned: Plan) -> None:
        """Send the lab newer members and document, before pods are deleted: the kubelet updates mounted files late.

        A failure becomes `lab_problem`; the next reconciliation tries again.
        """
        address, lab = address_of(context, observed), observed.lab
        if address is None or lab is None or planned.membership is None:
            return
        try:
            newer = lab.registry_version < planned.membership.registry.version
            if newer:
                await self._labs.push_members(*address, planned.membership)
            other = lab.document not in ("", context.document_digest)
            if other:
                await self._labs.push_document(*address, document(context))
            if newer or other:  # the summary read before is about the former members and document
                observed.lab = await self._labs.summary(*address)
        except P2pnetError as error:
            observed.lab_problem = f"the lab did not take members or document: {error}"

    async def _write_status(self, key: Key, subnet: Object, new: Object) -> bool:
        """Write the status if it changed, with events for transitions; True when that is postponed, as only counts changed."""
        if self._metrics is not None:
            self._metrics.conditions(key, new)
        old = subnet.get("status") or {}
        if new == old:
            return False
        history, now_s = self._history(key), self._now().timestamp()
        changed = transitions(old, new)
        only_counts = not changed and old.get("observedGeneration") == new.get("observedGeneration")
        if only_counts and now_s - history.status_written_at < COUNTS_EVERY_S:
            return True
        if not await write_status(self._cluster, SUBNET, subnet, new):
            return False  # deleted meanwhile
        history.status_written_at = now_s
        await self._events.post(subnet, story.transition_events(old, new, self._now()))
        return False

    def _watch_lab(self, key: Key, context: SubnetContext, observed: Observed) -> None:
        address = address_of(context, observed)
        if self._lab_watcher is not None and address is not None and observed.lab is not None and observed.lab.revision:
            self._lab_watcher.watch(key, *address, observed.lab.revision)

    def _pause(
        self, key: Key, new: Object, due: datetime | None, *, quiet: bool, observed: Observed, now: datetime
    ) -> float:
        """Seconds until the next reconciliation: short while something changes or is measured, a minute at rest."""
        history = self._history(key)
        history.unchanged = history.unchanged + 1 if quiet else 0
        if self._is_measuring(key, observed, new, now):
            pause = CONVERGING_S
        elif status.is_settled(new):
            pause = REST_S * random.uniform(0.9, 1.1)  # spread: Subnets created together are not reconciled together
        else:
            # Every 2 s for the first 20 s without a change, then more and more rarely.
            pause = min(STUCK_S, CONVERGING_S * 1.25 ** max(0, history.unchanged - 10))
        if due is not None:
            # A moment that has passed meanwhile must not cause a busy loop.
            pause = min(pause, max(0.1, (due - now).total_seconds()))
        return pause

    def _is_measuring(self, key: Key, observed: Observed, new: Object, now: datetime) -> bool:
        """Whether a run is open or has ended lately: its figures should show up soon."""
        history, report = self._history(key), new.get("lastReport")
        if report != history.report:
            history.report, history.report_at = report, now.timestamp()
        return status.has_open_run(observed.lab) or now.timestamp() - history.report_at < FRESH_S

    def _history(self, key: Key) -> _History:
        return self._histories.setdefault(key, _History())

    def _forget(self, key: Key) -> None:
        self._histories.pop(key, None)
        self._observer.forget(key)
        if self._lab_watcher is not None:
            self._lab_watcher.forget(key)
        if self._metrics is not None:
            self._metrics.forget(key)


def _drop_writes(context: SubnetContext, observed: Observed, planned: Plan) -> None:
    """Take from the plan of a paused Subnet what its status would otherwise report as done."""
    planned.decision = CertificateDecision(None, problem=planned.decision.problem)
    planned.issued.expiries = planned.issued.stored
    if planned.membership != read_membership(observed.of(CONFIG_MAP).get(context.members_map)):
        planned.membership = None
        observed.lab_problem = observed.lab_problem or "paused: the members of this document are not written"


def _due(context: SubnetContext, planned: Plan, now: datetime) -> datetime | None:
    """The next moment at which something is to be done though nothing changed."""
    end = expires_at(context.subnet, context.created)
    expiry = [end - WARNING, end] if end else []
    return earliest(planned.due, *(moment for moment in expiry if moment > now))
