"""Which namespaces are this operator's to serve, where several are installed in one cluster: each namespace is served by one.

An installation for some namespaces claims each of them, one for the whole cluster claims all the others; a claim is a Lease that
is renewed as long as its holder runs. The nearer claim goes first: who serves the whole cluster leaves alone what others claim,
and of two claims of the same reach the older one stands. Who ends in order lets its claims run out soon, but not at once: who is
only restarted goes on as before. `holder_of` is pure, `Claims` keeps and reads Leases.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from p2pnet.operator.kube.api import (
    LEASE,
    MANAGED_BY,
    MANAGER,
    ApiError,
    BusyError,
    Cluster,
    ConflictError,
    ForbiddenError,
    Object,
    meta,
    name_of,
    parse_time,
)
from p2pnet.operator.kube.events import EventRecorder, ObjectEvent
from p2pnet.operator.kube.queue import Controller, Key

CLAIM_S = 60.0  # a claim that has not been renewed for this long has run out
LEAVING_S = 15  # the same after an orderly end: a new process of the same installation is there by then
TURN_S = 10.0  # between looks at all claims: for so long two may act after a new claim, which does no harm
RENEW_S = 20.0
RETRY_S = 2.0
LEFT_ALONE_S = 15.0  # between looks at a resource that another operator serves
REACH = "p2pnet.io/reach"
"""Label of a claim: `cluster` or `namespace`."""
CLUSTER, NAMESPACE = "cluster", "namespace"
NAMES = {reach: f"{MANAGER}-{reach}" for reach in (CLUSTER, NAMESPACE)}
"""Names of the Leases: of the whole cluster in its holder's own namespace, of a namespace in that one."""

log = logging.getLogger(__name__)


class OperatorClaim(NamedTuple):
    """A claim as its Lease says: by whom, on what, since when."""

    reach: str
    namespace: str
    holder: str
    """Empty: nobody."""
    since: str
    """RFC 3339: claims of the same reach stand in this order, and by their holders' names."""
    renewed: datetime | None
    duration_s: float
    version: str

    def age_s(self, moment: datetime) -> float:
        """Seconds since it was renewed, by its holder's clock."""
        return float("inf") if self.renewed is None else max(0.0, (moment - self.renewed).total_seconds())

    def has_run_out(self, moment: datetime) -> bool:
        """Whether it was not kept up, by its holder's clock."""
        return self.age_s(moment) >= self.duration_s


Place = tuple[str, str]
"""Reach and namespace of a claim: there is one Lease for each."""


def claim_in(lease: Object) -> OperatorClaim | None:
    """The claim of a Lease; None when it is none."""
    spec, namespace = lease.get("spec") or {}, str(meta(lease).get("namespace", ""))
    reach = next((reach for reach, name in NAMES.items() if name == name_of(lease)), "")
    if not reach:
        return None
    return OperatorClaim(
        reach, namespace, holder=str(spec.get("holderIdentity") or ""), since=str(spec.get("acquireTime") or ""),
        renewed=parse_time(spec.get("renewTime")), duration_s=float(spec.get("leaseDurationSeconds") or CLAIM_S),
        version=str(meta(lease).get("resourceVersion", "")),
    )  # fmt: skip


def holder_of(namespace: str, claims: Iterable[OperatorClaim], me: str, *, reach: str) -> OperatorClaim | None:
    """The claim of another installation for which this one (`me`) leaves a namespace alone; None: it serves it.

    `claims` are those in force, its own among them.
    """
    others = list(claims)
    for claim in others:
        if claim.reach == NAMESPACE and claim.namespace == namespace:
            return None if claim.holder == me else claim
    if reach == NAMESPACE:
        return None  # nobody has claimed it yet
    first = min((claim for claim in others if claim.reach == CLUSTER), key=_order, default=None)
    return None if first is None or first.holder == me else first


def _order(claim: OperatorClaim) -> tuple[str, str]:
    return claim.since, claim.holder


@dataclass
class ClaimsInForce:
    """Claims as they were seen, by our clock alone: other operators' clocks may be off."""

    seen: dict[Place, tuple[OperatorClaim, float]] = field(default_factory=dict)
    """The claims, and when the version of each was first seen."""

    def note(self, leases: Iterable[Object], now: float) -> None:
        """What there is now."""
        before, self.seen = self.seen, {}
        for lease in leases:
            self.add(lease, now, before)

    def add(
        self, lease: Object, now: float, before: Mapping[Place, tuple[OperatorClaim, float]] = MappingProxyType({})
    ) -> None:
        """A Lease, seen now; `before` says when its version was first seen."""
        claim = claim_in(lease)
        if claim is not None:
            known = before.get((claim.reach, claim.namespace))
            same = known is not None and known[0].version == claim.version
            self.seen[claim.reach, claim.namespace] = (claim, known[1] if known is not None and same else now)

    def at(self, now: float) -> list[OperatorClaim]:
        """Those that have not run out."""
        return [claim for claim, since in self.seen.values() if claim.holder and now - since < claim.duration_s]


class Claims:
    """Keeps this installation's claims and knows those of others. `me` names it, its replicas alike.

    `namespaces`: those it is for; none: the whole cluster, and `home` is where its own claim stands.
    """

    def __init__(
        self, cluster: Cluster, me: str, *, namespaces: tuple[str, ...], home: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._me = me
        self._reach = NAMESPACE if namespaces else CLUSTER
        self._places = namespaces or (home,)
        self._clock = clock
        self._force = ClaimsInForce()
        self._looked = float("-inf")
        self._renewed: dict[str, float] = {}
        self._known: set[tuple[str, str, str]] = set()
        """Others' claims of the last turn: reach, namespace and holder of each."""
        self._blind = False
        """Whether a right is missing without which nothing is known of others."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when others' claims are other ones than before: resources may be ours now."""

    async def acquire(self) -> None:
        """Return once this installation's claims are written and others' are known."""
        while True:
            try:
                return await self.turn()
            except ApiError as error:
                log.warning("claims: %s", error)
                await asyncio.sleep(RETRY_S)

    async def keep(self) -> None:
        """Renew the claims and look at others', for ever."""
        while True:
            await asyncio.sleep(TURN_S)
            try:
                await self.turn()
            except ApiError as error:
                log.warning("claims: %s", error)

    async def turn(self) -> None:
        """Look at all claims, and take or renew our own. Raises ApiError."""
        if self._blind:
            return
        try:
            await self._look()
            for place in self._places:
                await self._renew(place)
        except ForbiddenError as error:
            self._blind = True
            told = "two operators may serve one namespace, which does no harm but is twice the work"
            log.warning("claims of namespaces cannot be kept (%s): %s", error, told)
        self._looked = self._clock()
        before, self._known = self._known, self._others()
        if self._known != before:
            self.on_change()

    async def leave(self) -> None:
        """Let our claims run out soon, as nobody may be there any more to renew them. Raises nothing."""
        for place in self._renewed:
            claim, _ = self._force.seen[self._reach, place]
            body: Object = {"metadata": {"resourceVersion": claim.version}, "spec": {"leaseDurationSeconds": LEAVING_S}}
            try:
                await self._cluster.patch(LEASE, place, NAMES[self._reach], body)
            except ApiError as error:
                log.info("the claim of %s runs out later: %s", place, error)

    def holder(self, namespace: str) -> OperatorClaim | None:
        """As `holder_of`, now. Raises BusyError when that has not been known for too long."""
        if self._blind:
            return None
        now = self._clock()
        if now - self._looked > CLAIM_S - RENEW_S:
            raise BusyError(
                0, "ClaimsUnknown", "whether another operator serves this namespace is not known", what="claims"
            )
        return holder_of(namespace, self._force.at(now), self._me, reach=self._reach)

    def exclusive(
        self, controller: Controller, events: EventRecorder, *, on_left: Callable[[Key], None] | None = None
    ) -> Controller:  # fmt: skip
        """The controller, but for resources in namespaces that others serve: of these is told who does, and `on_left` called."""

        async def reconcile(key: Key) -> float | None:
            claim = self.holder(key.namespace)
            if claim is None:
                return await controller.reconcile(key)
            if on_left is not None:
                on_left(key)
            thing = await self._cluster.get(key.kind, key.namespace, key.name)
            if thing is None:
                return None
            await events.post(thing, [left_alone(claim, self._me)])
            return LEFT_ALONE_S

        return Controller(controller.kind, controller.children, controller.name_label, reconcile)

    def _others(self) -> set[tuple[str, str, str]]:
        now = self._clock()
        return {(one.reach, one.namespace, one.holder) for one in self._force.at(now) if one.holder != self._me}

    async def _look(self) -> None:
        if self._reach == CLUSTER:
            found = await self._cluster.find(LEASE, "", f"{MANAGED_BY}={MANAGER}")
        else:
            read = [await self._cluster.get(LEASE, place, NAMES[NAMESPACE]) for place in self._places]
            found = [lease for lease in read if lease is not None]
        self._force.note(found, self._clock())

    async def _renew(self, place: str) -> None:
        """Take a claim that is nobody's or has run out, renew our own; another's stands."""
        now, found = self._clock(), self._force.seen.get((self._reach, place))
        claim = found[0] if found else None
        mine, moment = claim is not None and claim.holder == self._me, datetime.now(UTC)
        if claim is not None and mine and place not in self._renewed and claim.duration_s >= CLAIM_S:
            self._renewed[place] = now - claim.age_s(moment)  # by the process before this one
        if mine and now - self._renewed.get(place, float("-inf")) < RENEW_S:
            return
        if not mine and claim in self._force.at(now):
            return
        spec: Object = {"holderIdentity": self._me, "leaseDurationSeconds": int(CLAIM_S), "renewTime": _micro(moment)}
        if claim is None or not mine or claim.has_run_out(moment):
            spec["acquireTime"] = _micro(moment)  # whoever was away for so long stands behind those who came meanwhile
        metadata: Object = {"name": NAMES[self._reach], "labels": {MANAGED_BY: MANAGER, REACH: self._reach}}
        try:
            if claim is None:
                metadata["namespace"] = place
                body = {"apiVersion": LEASE.api, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
                written = await self._cluster.create(LEASE, place, body)
            else:
                body = {"metadata": {**metadata, "resourceVersion": claim.version}, "spec": spec}
                written = await self._cluster.patch(LEASE, place, NAMES[self._reach], body)
        except ConflictError:
            return  # somebody was quicker: the next look tells who
        self._renewed[place] = now
        self._force.add(written, now)


def left_alone(claim: OperatorClaim, me: str) -> ObjectEvent:
    """What is told of a resource that another installation serves."""
    where = f"Lease {NAMES[claim.reach]} in namespace {claim.namespace}"
    why = (
        "which claims this namespace"
        if claim.reach == NAMESPACE
        else "which serves the whole cluster and was there first"
    )
    message = f"served by the operator {claim.holder}, {why} ({where}); the operator {me} leaves it alone"
    return ObjectEvent("LeftAlone", message, f"{claim.holder} {claim.since} {me}")


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
