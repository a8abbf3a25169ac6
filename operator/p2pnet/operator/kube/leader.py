"""Leader election: of several replicas one acts, and a Lease names it.

`decide` is pure; `Leadership` acquires the Lease, renews it and notices its loss. The rules are those of client-go's
leaderelection: a holder stops writing (10 s) well before another may take over (15 s), and only the local clock counts.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from p2pnet.model.errors import TargetError
from p2pnet.operator.kube.api import LEASE, MANAGER, ApiError, Cluster, Object, meta

log = logging.getLogger(__name__)

LEASE_S = 15.0  # another replica may take a Lease that has not been renewed for this long
RENEW_WITHIN_S = 10.0  # a holder that could not renew for this long stops writing; 5 s below, for requests in flight
RETRY_S = 2.0


class LeadershipLostError(TargetError):
    """This replica must not write any more: the process has to end, for another replica may act."""


class LeaseAction(Enum):
    """What to do about the Lease."""

    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True)
class SeenLease:
    """The version of the Lease seen last, and when it was first seen, by our clock: other replicas' clocks may be off."""

    version: str
    at: float


def decide(lease: Object | None, me: str, seen: SeenLease | None, now: float) -> LeaseAction:
    """Renew our own Lease; take one that nobody holds, or that has not changed for its whole duration."""
    spec = (lease or {}).get("spec") or {}
    holder = spec.get("holderIdentity")
    if lease is None or not holder:
        return LeaseAction.TAKE
    if holder == me:
        return LeaseAction.RENEW
    if seen is None or seen.version != meta(lease).get("resourceVersion"):
        return LeaseAction.WAIT  # counting begins with the first sight of a version
    expired = now - seen.at >= float(spec.get("leaseDurationSeconds") or LEASE_S)
    return LeaseAction.TAKE if expired else LeaseAction.WAIT


class Leadership:
    """Acquires and renews the Lease. `guard` raises once renewal has failed for 10 s, or the process was stopped as long."""

    def __init__(
        self, cluster: Cluster, namespace: str, me: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._me = me
        self._clock = clock
        self._seen: SeenLease | None = None
        self._renewed = float("-inf")
        self._held = ""
        """The version of the Lease as this replica wrote it last; empty: it has to be read."""

    def guard(self) -> None:
        """Raise LeadershipLostError unless the Lease was renewed in the last 10 s."""
        if self._clock() - self._renewed > RENEW_WITHIN_S:
            raise LeadershipLostError("the lease has not been renewed for 10 s: another replica may act")

    async def acquire(self) -> None:
        """Return once this replica holds the Lease."""
        while True:
            if await self._try_step():
                return
            await asyncio.sleep(RETRY_S)

    async def keep(self) -> None:
        """Renew the Lease until that fails for too long. Raises LeadershipLostError."""
        while True:
            await asyncio.sleep(RETRY_S)
            await self._try_step()
            self.guard()

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait until it expires."""
        if self._clock() - self._renewed <= RENEW_WITHIN_S:
            # Emptied, not deleted: the operator has no right to delete Leases.
            body = {"spec": {"holderIdentity": None}}
            try:
                lease = await self._cluster.get(LEASE, self._namespace, MANAGER)
                if lease and (lease.get("spec") or {}).get("holderIdentity") == self._me:
                    body["metadata"] = {"resourceVersion": meta(lease).get("resourceVersion")}
                    await self._cluster.patch(LEASE, self._namespace, MANAGER, body)
            except ApiError as error:
                log.info("the lease stays until it expires: %s", error)
        self._renewed, self._held = float("-inf"), ""

    async def _try_step(self) -> bool:
        try:
            return await self.step()
        except ApiError as error:
            log.warning("lease: %s", error)
            return False

    async def step(self) -> bool:
        """Renew the Lease, or read it and take it if that is allowed; whether it is ours now.

        Raises ApiError; a ConflictError means that another replica was faster.
        """
        began = self._clock()  # before the request: an answer that took 20 s proves nothing about now
        if self._held and began - self._renewed <= RENEW_WITHIN_S:
            return await self._renew(began)
        lease = await self._cluster.get(LEASE, self._namespace, MANAGER)
        action = decide(lease, self._me, self._seen, began)
        version = str(meta(lease or {}).get("resourceVersion", ""))
        if self._seen is None or self._seen.version != version:
            self._seen = SeenLease(version, began)
        if action is LeaseAction.WAIT:
            return False
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {"holderIdentity": self._me, "leaseDurationSeconds": int(LEASE_S), "renewTime": moment}
        if action is LeaseAction.TAKE:
            spec["acquireTime"] = moment
        if lease is None:
            metadata = {"name": MANAGER, "namespace": self._namespace}
            body = {"apiVersion": LEASE.api, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
            written = await self._cluster.create(LEASE, self._namespace, body)
        else:
            # With the version we have read: of two replicas that take it at once, one gets a ConflictError.
            patch = {"metadata": {"resourceVersion": version}, "spec": spec}
            written = await self._cluster.patch(LEASE, self._namespace, MANAGER, patch)
        self._renewed, self._held = began, str(meta(written).get("resourceVersion", ""))
        return True

    async def _renew(self, began: float) -> bool:
        """Renew the Lease as this replica wrote it, without reading it; whoever else has written it is found out by that."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {"holderIdentity": self._me, "leaseDurationSeconds": int(LEASE_S), "renewTime": moment}
        version, self._held = self._held, ""  # after a failure it is read
        written = await self._cluster.patch(
            LEASE, self._namespace, MANAGER, {"metadata": {"resourceVersion": version}, "spec": spec}
        )
        self._renewed, self._held = began, str(meta(written).get("resourceVersion", ""))
        return True
