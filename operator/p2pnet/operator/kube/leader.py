"""One of several replicas acts: a Lease says which. `decide` is pure; `Leadership` keeps the Lease and notices its loss."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from p2pnet.model.errors import TargetError
from p2pnet.operator.kube.api import LEASE, ApiError, Cluster, Object, meta

log = logging.getLogger(__name__)

NAME = "p2pnet-operator"
LEASE_S = 15.0  # a silent holder is followed after this
RENEW_WITHIN_S = 10.0  # a holder that could not renew for so long writes nothing any more
RETRY_S = 2.0


class LeadershipLostError(TargetError):
    """This replica may not write any more: end the process, the other one acts."""


class Move(Enum):
    """What to do about the Lease."""

    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True)
class Seen:
    """A Lease as it was last seen to change. Only our own clock counts: holders' clocks may be off."""

    version: str
    at: float


def decide(lease: Object | None, me: str, seen: Seen | None, now: float) -> Move:
    """Renew what is ours; take what nobody holds, or what has not changed for its whole duration."""
    spec = (lease or {}).get("spec") or {}
    holder = spec.get("holderIdentity")
    if lease is None or not holder:
        return Move.TAKE
    if holder == me:
        return Move.RENEW
    if seen is None or seen.version != meta(lease).get("resourceVersion"):
        return Move.WAIT
    return Move.TAKE if now - seen.at >= float(spec.get("leaseDurationSeconds") or LEASE_S) else Move.WAIT


class Leadership:
    """Gets the Lease and keeps it. `guard` raises once that has failed for 10 s, also after a long stop of the process."""

    def __init__(
        self, cluster: Cluster, namespace: str, me: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._me = me
        self._clock = clock
        self._seen: Seen | None = None
        self._renewed = float("-inf")

    def guard(self) -> None:
        """Raise LeadershipLostError unless the Lease was renewed in the last 10 s."""
        if self._clock() - self._renewed > RENEW_WITHIN_S:
            raise LeadershipLostError("the lease has not been renewed for 10 s: another replica may act")

    async def acquire(self) -> None:
        """Return once this replica holds the Lease."""
        while True:
            if await self._safely():
                return
            await asyncio.sleep(RETRY_S)

    async def keep(self) -> None:
        """Renew for as long as that works. Raises LeadershipLostError."""
        while True:
            await asyncio.sleep(RETRY_S)
            await self._safely()
            self.guard()

    async def release(self) -> None:
        """Give the Lease back, so that the other replica need not wait."""
        if self._clock() - self._renewed <= RENEW_WITHIN_S:
            body = {"spec": {"holderIdentity": None}}
            try:
                lease = await self._cluster.get(LEASE, self._namespace, NAME)
                if lease and (lease.get("spec") or {}).get("holderIdentity") == self._me:
                    body["metadata"] = {"resourceVersion": meta(lease).get("resourceVersion")}
                    await self._cluster.patch(LEASE, self._namespace, NAME, body)
            except ApiError as error:
                log.info("the lease stays until it runs out: %s", error)
        self._renewed = float("-inf")

    async def _safely(self) -> bool:
        try:
            return await self.step()
        except ApiError as error:
            log.warning("lease: %s", error)
            return False

    async def step(self) -> bool:
        """One look at the Lease; whether it is ours now. Raises ApiError, of which a conflict means another was faster."""
        began = self._clock()  # the moment before asking: an answer that took 20 s proves nothing about now
        lease = await self._cluster.get(LEASE, self._namespace, NAME)
        move = decide(lease, self._me, self._seen, began)
        version = str(meta(lease or {}).get("resourceVersion", ""))
        if self._seen is None or self._seen.version != version:
            self._seen = Seen(version, began)
        if move is Move.WAIT:
            return False
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {"holderIdentity": self._me, "leaseDurationSeconds": int(LEASE_S), "renewTime": moment}
        if move is Move.TAKE:
            spec["acquireTime"] = moment
        if lease is None:
            body = {
                "apiVersion": LEASE.api,
                "kind": LEASE.kind,
                "metadata": {"name": NAME, "namespace": self._namespace},
            }
            await self._cluster.create(LEASE, self._namespace, {**body, "spec": spec})
        else:
            patch = {"metadata": {"resourceVersion": version}, "spec": spec}
            await self._cluster.patch(LEASE, self._namespace, NAME, patch)
        self._renewed = began
        return True
