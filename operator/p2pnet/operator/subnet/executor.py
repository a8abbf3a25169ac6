"""Executes a plan's actions. Objects of others are left alone: names are checked before anything is created."""

import asyncio
import logging
from collections.abc import Sequence
from itertools import groupby

from p2pnet.operator.kube.api import (  # fmt: skip
    CERTIFICATE,
    CONFIG_MAP,
    POD,
    SECRET,
    SERVICE,
    ApiError,
    BusyError,
    Cluster,
    ConflictError,
    ForbiddenError,
    Object,
    ResourceKind,
    meta,
    name_of,
    owned_by,
    uid_of,
)
from p2pnet.operator.kube.desired import Action, Apply, Create, Delete, Patch
from p2pnet.operator.subnet.context import Observed, SubnetContext, SubnetProblem
from p2pnet.operator.subnet.plan.certmanager import mounted_by

log = logging.getLogger(__name__)

CONCURRENT_MAX = 8  # writes of one kind under way; more would only queue up in the API server


class Executor:
    """Writes for one Subnet. `problem` is for the status; the caller raises `failure` once that has been written."""

    def __init__(self, cluster: Cluster, context: SubnetContext, observed: Observed) -> None:
        self._cluster = cluster
        self._context = context
        self._observed = observed
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self.problem: SubnetProblem | None = None
        self.failure: ApiError | None = None
        self.halted = False
        """Whether the authority could not be written: then nothing that depends on it may be written either."""
        self.writes = 0

    async def execute(self, actions: Sequence[Action]) -> None:
        """Execute the actions in order; consecutive writes of one kind are sent concurrently.

        Raises ConflictError and BusyError: the caller has to observe again. A missing right, a quota and an object that the
        server refuses become `problem`, and the other actions are executed.
        """
        taken = await self._taken(actions)
        if (SECRET, self._context.authority) in taken:
            self.halted = True
        left = [action for action in actions if not self._is_blocked(action, taken)]
        for _, group in groupby(left, key=lambda action: (type(action), action.kind)):
            together = list(group)
            if self.halted:
                return
            try:
                await self._together(together)
            except ApiError as error:
                error.progress = self.writes > 0
                raise
            if self.failure is not None and any(self._is_authority(one) for one in together):
                self.halted = True  # leaves of an authority that was not written would be trusted by nobody

    async def find_unlabelled_authority(self) -> None:
        """Look for the authority's Secret without its labels: it only seems missing. Raises ConflictError once they are back."""
        for found in await self._cluster.names(SECRET, self._context.namespace):
            if name_of(found) == self._context.authority and owned_by(found, self._context.uid):
                await self._relabel(SECRET, found, self._context.labels("authority"))

    def _is_authority(self, action: Action) -> bool:
        return action.kind == SECRET and _name(action) == self._context.authority

    def _is_blocked(self, action: Action, taken: set[tuple[ResourceKind, str]]) -> bool:
        """Whether the action would write an object of somebody else, or create a pod that mounts one."""
        if (action.kind, _name(action)) in taken:
            return True
        if action.kind == CERTIFICATE:
            return (SECRET, _name(action)) in taken  # cert-manager would write into it
        if action.kind != POD or not isinstance(action, Create):
            return False
        if any((SECRET, name) in taken for name in mounted_by(action.body)):
            return True
        token = (SECRET, self._context.token) in taken and _name(action) == self._context.lab
        # Every pod mounts both ConfigMaps.
        return token or (SECRET, _name(action)) in taken or any(kind == CONFIG_MAP for kind, _ in taken)

    async def _together(self, actions: list[Action]) -> None:
        if len(actions) == 1 or isinstance(actions[0], Delete):
            for action in actions:  # deletions keep their order: the highest ordinal first
                await self._try(action)
            return
        # All are awaited before an error is raised: no write may be under way when the next plan is made.
        results = await asyncio.gather(*(self._try(action) for action in actions), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _try(self, action: Action) -> None:
        async with self._slots:
            try:
                await self._do(action)
                self.writes += 1
            except (ConflictError, BusyError):
                raise
            except ForbiddenError as error:
                self._note("Quota" if error.quota else "Forbidden", error)
            except ApiError as error:
                await self._refused(action, error)

    async def _do(self, action: Action) -> None:
        namespace = self._context.namespace
        match action:
            case Create(kind, body):
                await self._cluster.create(kind, namespace, body)
            case Apply(kind, body):
                found = self._observed.of(kind).get(name_of(body))
                if found is None:
                    await self._cluster.apply(kind, namespace, body)
                    return
                if kind == SERVICE and not _same_ports(found, body):
                    # Server-side apply merges a Service's ports by number and protocol: it would keep the old ones.
                    whole = {
                        "metadata": {"resourceVersion": meta(found).get("resourceVersion")},
                        "spec": {"ports": body["spec"]["ports"]},
                    }
                    await self._cluster.patch(kind, namespace, name_of(body), whole)
                # With the uid an object that was deleted meanwhile is not created by accident.
                await self._cluster.apply(kind, namespace, {**body, "metadata": {**meta(body), "uid": uid_of(found)}})
            case Patch(kind, name, body):
                await self._cluster.patch(kind, namespace, name, body)
            case Delete(kind, name, uid, why, force):
                log.info("%s/%s: deleting %s %s: %s", namespace, self._context.name, kind.kind, name, why)
                await self._cluster.delete(kind, namespace, name, uid, force=force)

    async def _refused(self, action: Action, error: ApiError) -> None:
        """The server refused. An object that somebody made immutable is deleted, to be created anew: raises ConflictError."""
        immutable = isinstance(action, Apply) and (self._observed.of(action.kind).get(_name(action)) or {}).get(
            "immutable"
        )
        if not immutable or self._is_authority(action):
            self._note("Refused", error)
            return
        found = self._observed.of(action.kind)[_name(action)]
        await self._cluster.delete(action.kind, self._context.namespace, name_of(found), uid_of(found))
        raise ConflictError(error.status, error.reason, "was immutable, and is made again", what=error.what)

    def _note(self, reason: str, error: ApiError) -> None:
        self.problem = self.problem or SubnetProblem(reason, str(error))
        self.failure = self.failure or error

    async def _taken(self, actions: Sequence[Action]) -> set[tuple[ResourceKind, str]]:
        """Objects to be created whose names others have taken. Raises ConflictError after restoring lost labels of our own."""
        new: dict[ResourceKind, dict[str, Create | Apply]] = {}
        for action in actions:
            if isinstance(action, Create | Apply) and _name(action) not in self._observed.of(action.kind):
                new.setdefault(action.kind, {})[_name(action)] = action
        taken: set[tuple[ResourceKind, str]] = set()
        for kind, wanted in new.items():
            # Without a selector: objects of others have none of our labels, and ours may have lost them.
            for found in await self._cluster.names(kind, self._context.namespace):
                action_there = wanted.get(name_of(found))
                if action_there is None:
                    continue
                if self._context.owns(found):
                    await self._relabel(kind, found, meta(action_there.body)["labels"])
                taken.add((kind, name_of(found)))
        if taken:
            named = ", ".join(sorted(f"{kind.kind} {name}" for kind, name in taken)[:5])
            self.problem = SubnetProblem("NameConflict", f"not of this Subnet, and left alone: {named}")
        return taken

    async def _relabel(self, kind: ResourceKind, found: Object, labels: dict[str, str]) -> None:
        body = {"metadata": {"labels": labels, "resourceVersion": meta(found).get("resourceVersion")}}
        await self._cluster.patch(kind, self._context.namespace, name_of(found), body)
        raise ConflictError(409, "Relabelled", "had lost its labels", what=f"{kind.plural} {name_of(found)}")


def split(actions: Sequence[Action]) -> tuple[list[Action], list[Action]]:
    """(creations and changes, deletions)"""
    return [one for one in actions if not isinstance(one, Delete)], [one for one in actions if isinstance(one, Delete)]


def _same_ports(found: Object, desired: Object) -> bool:
    ports = [
        {(one.get("port"), one.get("protocol")) for one in thing["spec"].get("ports") or []}
        for thing in (found, desired)
    ]
    return ports[0] == ports[1]


def _name(action: Action) -> str:
    return name_of(action.body) if isinstance(action, Create | Apply) else action.name
