"""The one loop: look at a Subnet, plan, act, tell. Level-based: it never asks what happened, only what is.

Every step may be the last one before a kill; the next look goes on from what is there. Nothing here waits for anything
to become true: it says when to look again.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.operator.kube import times
from p2pnet.operator.kube.api import (  # fmt: skip
    CHILDREN,
    CLAIM,
    CONFIG_MAP,
    POD,
    SECRET,
    SUBNET,
    ApiError,
    Cluster,
    EndingError,
    Object,
    meta,
    name_of,
    uid_of,
)
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet import events, issuer, lab, reading, status
from p2pnet.operator.subnet.certificates import CertificateDecision
from p2pnet.operator.subnet.context import Observed, SubnetContext, config_map_of
from p2pnet.operator.subnet.executor import Executor, split
from p2pnet.operator.subnet.lab import Labs
from p2pnet.operator.subnet.lab_watcher import LabWatcher
from p2pnet.operator.subnet.plan import Plan, plan
from p2pnet.operator.subnet.plan.configmaps import document, read_membership
from p2pnet.operator.subnet.status import Trouble
from p2pnet.subnet.document import digest_of
from p2pnet.subnet.expiry import WARNING, expires_at
from p2pnet.subnet.members import parse_edges

log = logging.getLogger(__name__)

CONVERGING_S = 2.0
REST_S = 60.0
FRESH_S = 30.0  # who has just measured measures again: the lab is asked as often as while converging
STUCK_S = 30.0  # the longest pause while nothing moves but something should
COUNTS_EVERY_S = 5.0  # a status that differs in counts alone is written this often


@dataclass
class _Memory:
    """What is only worth knowing while the process lives; losing it costs a read or a write."""

    told_at: float = 0.0
    """Unix seconds."""
    unchanged: int = 0
    report: object = None
    """The last report that was seen, and when that began, in Unix seconds."""
    report_at: float = float("-inf")
    site: SubnetContext | None = None
    document: Object | None = None
    """What `site` was read from."""

    def site_of(self, subnet: Object, image: str) -> SubnetContext:
        """The document, checked; that of the look before, and all that was worked out of it, unless somebody edited."""
        words = ("uid", "generation", "annotations")
        document = {"spec": subnet.get("spec"), **{word: meta(subnet).get(word) for word in words}}
        if self.site is None or document != self.document:
            self.site, self.document = reading.site_of(subnet, image), document
        return self.site


class Reconciler:
    """Brings Subnets about. `now` is the wall clock; `reconcile` is safe to call for any key at any time."""

    def __init__(
        self, cluster: Cluster, labs: Labs, *, image: str, metrics: Metrics | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC), ears: LabWatcher | None = None,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._labs = labs
        self._image = image
        self._metrics = metrics
        self._now = now
        self._ears = ears
        self._memories: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One look. Seconds until the next one, or None when there is nothing left to look at.

        Raises ApiError when the cluster does not play along: look again after a growing pause.
        """
        subnet = await self._cluster.get(SUBNET, key.namespace, key.name)
        if subnet is None or meta(subnet).get("deletionTimestamp"):
            self._forget(key)  # the garbage collector does the rest
            return None
        try:
            return await self._bring_about(key, subnet, await self._site(key, subnet))
        except EndingError:
            log.info("%s/%s: its namespace is being deleted; nothing more is made there", *key)
            return EndingError.wait_s_max
        except SpecError as error:
            reason = "Unsupported" if isinstance(error, reading.UnsupportedError) else "InvalidSpec"
            return await self._refuse(key, subnet, Trouble(reason, str(error)))

    async def _refuse(self, key: Key, subnet: Object, refused: Trouble) -> float | None:
        """The document will not do: say so, and keep up what the last one that did has brought about."""
        written = await self._cluster.get(CONFIG_MAP, key.namespace, config_map_of(key.name))
        site = reading.last_good(subnet, written, self._image)
        if site is not None:
            with contextlib.suppress(SpecError):  # another version of the operator may have thought it good
                return await self._bring_about(key, subnet, site, refused)
        await self._tell(key, subnet, status.refused_status(subnet, refused, self._now()))
        return REST_S if reading.edges_reference(subnet) else None

    async def _bring_about(
        self, key: Key, subnet: Object, site: SubnetContext, refused: Trouble | None = None
    ) -> float:
        observed = await self._observe(site, subnet)
        if not site.paused and status.expired(site, observed.lab, self._now()):
            await self._cluster.delete(SUBNET, key.namespace, key.name, site.uid)
            return CONVERGING_S
        now = self._now()
        made = plan(site, observed, now)
        actor = Executor(self._cluster, site, observed)
        if site.paused:
            made.decision = CertificateDecision(None, trouble=made.decision.trouble)
            if made.membership != read_membership(observed.of(CONFIG_MAP).get(site.members_map)):
                made.membership = None  # nobody writes it while paused
                observed.lab_trouble = observed.lab_trouble or "paused: the members of this document are not written"
        else:
            if site.authority not in observed.of(SECRET) and made.decision.trouble is not None:
                await actor.seek_authority()
            changes, deletions = split(made.actions)
            await actor.obey(changes)
            await self._push(site, observed, made)
            if not actor.halted:
                await actor.obey(deletions)
        news = status.status_of(site, observed, made, actor.trouble, now, refused=refused)
        waits = await self._tell(key, observed.subnet, news)
        if not site.paused:
            await events.post(self._cluster, observed.subnet, events.of_plan(site, made, now))
        if self._metrics is not None:
            self._metrics.subnet(key, news, made.issued.ends)
        if actor.failure is not None:
            raise actor.failure
        end = expires_at(site.subnet, site.created)
        ends = [end - WARNING, end] if end else []
        due = times.earliest(made.due, *(moment for moment in ends if moment > now))
        measuring = self._measuring(key, observed, news, now)
        there = lab.address_of(site, observed)
        if self._ears is not None and there is not None and observed.lab is not None and observed.lab.news:
            self._ears.listen(key, *there, observed.lab.news)
        pause = self._pause(key, news, due, quiet=not actor.writes and not waits, measuring=measuring, now=now)
        return min(pause, COUNTS_EVERY_S) if waits else pause

    async def _site(self, key: Key, subnet: Object) -> SubnetContext:
        reference = reading.edges_reference(subnet)
        if reference is None:
            return self._memories.setdefault(key, _Memory()).site_of(subnet, self._image)
        name, entry = reference
        found = await self._cluster.get(CONFIG_MAP, str(meta(subnet)["namespace"]), name)
        text = ((found or {}).get("data") or {}).get(entry)
        if text is None:
            raise SpecError(f"spec.topology.edgesFrom: there is no key {entry!r} in a ConfigMap {name!r}")
        return reading.site_of(subnet, self._image, parse_edges(text, f"ConfigMap {name}"))

    async def _observe(self, site: SubnetContext, subnet: Object) -> Observed:
        kinds = CHILDREN if site.subnet.spec.lab.storage == "emptyDir" else (*CHILDREN, CLAIM)
        lists = await asyncio.gather(*(self._cluster.find(kind, site.namespace, site.selector) for kind in kinds))
        children = {
            kind: {name_of(one): one for one in found if site.owns(one)}
            for kind, found in zip(kinds, lists, strict=True)
        }
        observed = Observed(subnet, children)
        if site.cert_manager:
            await issuer.observe(self._cluster, site, observed)
        there = lab.address_of(site, observed)
        if there is None:
            observed.lab_trouble = "the lab's pod is " + ("not ready" if site.lab in children[POD] else "not there")
            return observed
        try:
            observed.lab = await self._labs.summary(*there)
            if read_membership(observed.of(CONFIG_MAP).get(site.members_map)) is None:
                observed.lab_members = await self._labs.members(*there)
        except P2pnetError as error:
            observed.lab_trouble = str(error)
        return observed

    async def _push(self, site: SubnetContext, observed: Observed, made: Plan) -> None:
        """Give the lab what is newer, before pods go: mounted files come late. What fails is tried again at the next look."""
        there, known = lab.address_of(site, observed), observed.lab
        if there is None or known is None or made.membership is None:
            return
        try:
            newer = known.registry_version < made.membership.registry.version
            if newer:
                await self._labs.push_members(*there, made.membership)
            if known.document not in ("", digest_of(site.subnet)):
                await self._labs.push_document(*there, document(site))
            if newer:  # what it said before was about the former members
                observed.lab = await self._labs.summary(*there)
        except P2pnetError as error:
            observed.lab_trouble = f"the lab did not take members or document: {error}"

    async def _tell(self, key: Key, subnet: Object, news: Object) -> bool:
        """Write the status if it says something new; True when that waits a little, for only counts have changed."""
        old = subnet.get("status") or {}
        if news == old:
            return False
        memory, clock = self._memories.setdefault(key, _Memory()), self._now().timestamp()
        flips = status.flips(old, news)
        same = not flips and old.get("observedGeneration") == news.get("observedGeneration")
        if same and clock - memory.told_at < COUNTS_EVERY_S:
            return True
        body = {
            "apiVersion": SUBNET.api, "kind": SUBNET.kind, "status": news,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid_of(subnet)},
        }  # fmt: skip
        try:
            await self._cluster.apply(SUBNET, key.namespace, body, "status")
        except ApiError as error:
            if error.status == 404:
                return False  # deleted meanwhile
            raise
        memory.told_at = clock
        await events.post(self._cluster, subnet, events.of_flips(flips))
        return False

    def _measuring(self, key: Key, observed: Observed, news: Object, now: datetime) -> bool:
        """Whether a run is open or has ended lately: its figures are to be seen soon."""
        memory, report = self._memories.setdefault(key, _Memory()), news.get("lastReport")
        if report != memory.report:
            memory.report, memory.report_at = report, now.timestamp()
        return status.open_run(observed.lab) or now.timestamp() - memory.report_at < FRESH_S

    def _pause(
        self, key: Key, news: Object, due: datetime | None, *, quiet: bool, measuring: bool, now: datetime
    ) -> float:
        memory = self._memories.setdefault(key, _Memory())
        memory.unchanged = memory.unchanged + 1 if quiet else 0
        if measuring:
            pause = CONVERGING_S
        elif status.settled(news):
            pause = REST_S * random.uniform(0.9, 1.1)
        else:
            pause = min(STUCK_S, CONVERGING_S * 1.25 ** max(0, memory.unchanged - 10))
        if due is not None:
            pause = min(pause, max(0.1, (due - now).total_seconds()))
        return pause

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        if self._ears is not None:
            self._ears.forget(key)
        if self._metrics is not None:
            self._metrics.forget(key)
