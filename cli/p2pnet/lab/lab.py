"""`Lab`: the parts of a lab put together, and its life from start to stop."""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from p2pnet.lab.backends.backend import Backend
from p2pnet.lab.network.canary_facts import canary_of
from p2pnet.lab.network.control import NetworkControl
from p2pnet.lab.nodes.clocks import Clocks
from p2pnet.lab.nodes.collector import Collector
from p2pnet.lab.nodes.links import Links
from p2pnet.lab.nodes.node_client import NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.nodes.status_poller import Liveness, StatusPoller
from p2pnet.lab.runs.artifacts import Artifacts
from p2pnet.lab.runs.queue import RunQueue
from p2pnet.lab.runs.runner import RunContext
from p2pnet.lab.runs.uploads import Uploads
from p2pnet.lab.status import StatusInputs, process_text, status_of
from p2pnet.model.control import ROUTE_MEMBERS, MembersPush, MembersTaken, PeersReply
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import FaultRequest, NodeAction
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.registry import Membership
from p2pnet.model.report import RUN_ENDED, RUN_OPEN, FaultStatus, MemberStatus, RunSummary, Status
from p2pnet.peering.clock import boot_id
from p2pnet.store import logs
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.document import to_document
from p2pnet.subnet.edits import edited
from p2pnet.subnet.expiry import ExpiryTimer, is_expired, is_expiring
from p2pnet.subnet.members import refused_everywhere
from p2pnet.subnet.support import ignored

UPKEEP_S = 10.0  # between two looks at certificates and the ttl
ROTATE_S = 2.0  # between two looks at the lengths of logs
RUNS_SHOWN = 10  # ended runs in the status; the archive lists all
FAULTY_REST_S = 10.0  # under faults: links that have not changed for so long are as the faults make them
TOLD_S = 1.0  # links that come up one by one make no more revisions: who waits for one looks at everything each time
FLUSH_S = 1.0  # a node that is about to end has so long to hand over its events

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


class Lab:
    """The experiment server of one live subnet: composes its parts and routes what happens between them.

    Needs a running event loop.
    """

    def __init__(self, paths: SubnetPaths, backend: Backend, links: Links | None = None) -> None:
        self.paths = paths
        self.backend = backend
        self.version = _version()
        self.links = links or Links(
            backend.identity, self._is_expected, stale=lambda: refused_everywhere(backend.subnet)
        )
        self.liveness = Liveness(
            lambda node: self.links.problems.get(node, ""),
            lambda node: process_text(backend.process(node)),
            self._is_expected,
        )
        self.collector = Collector(self.links, self.liveness.heard)
        self.poller = StatusPoller(self.links, self.nodes, self.settled)
        self.uploads = Uploads(paths.uploads)
        clocks = Clocks(self.links, boot_id())
        self.revision = RevisionCounter()
        self.network = NetworkControl(
            backend, self.links, self._is_expected, before=self._about_to_hit, after=self._have_hit,
            on_lapse=lambda fault: self.runs.lapsed(fault.name), on_change=self._network_changed,
        )  # fmt: skip
        self.canary = canary_of(
            backend, self.links, self.network, self.collector, clocks, views=self.poller.views, expected=self._is_expected,
            busy=self._busy,
        )  # fmt: skip
        self.context = RunContext(
            node_client=self.links, collector=self.collector, clocks=clocks, canary=self.canary,
            uploads=self.uploads, state=paths.state, name=paths.name, target=backend.target, version=self.version,
            nodes=self.nodes, subnet=lambda: backend.subnet, network=self.network, logs=self.log_files,
        )  # fmt: skip
        self.runs = RunQueue(self.context)
        self.runs.on_change = self.revision.touch
        self.artifacts = Artifacts(self.context, self.runs)
        self.stopping = asyncio.Event()
        """Set when the lab is to end, see `stop`."""
        self.stop_reason = ""
        self.failed = False
        """Whether the lab ends because the backend can keep no node alive."""
        self.phase = "the lab starts"
        """What is still to be done before nodes can be asked; empty afterwards."""
        self.problem = ""
        """What the last upkeep could not do; empty: all was done."""
        self.expiry = ExpiryTimer(time.monotonic, time.time)
        self.expired = False
        """Whether the lab ends because the subnet's ttl is over."""
        self._warned = False
        self._links: tuple[int, int] | None = None
        """Nodes connected and links up when that was looked at last."""
        self._links_changed_s = time.monotonic()
        self._edit_lock = asyncio.Lock()
        self._served: set[str] = set()
        """Nodes whose processes ran when they were last heard of: what follows is an end."""
        self._pushing: set[str] = set()
        """Nodes to which the member list is on its way."""
        self._tasks: set[asyncio.Task[None]] = set()

    # --- start and end ---

    async def start(self) -> None:
        """Start all nodes, keep links with them and gather their events. Raises P2pnetError."""
        self.uploads.open()
        self.backend.on_process = self._on_process
        self.backend.on_lost = self._on_lost
        self.backend.on_members = self.network.refresh
        self.links.on_up = self._on_link_up
        self.links.on_down = self._on_link_down
        self.poller.on_view = self._on_view
        self.poller.on_unanswered = self._on_unanswered
        self.collector.add(self.poller)
        self.phase = "issuing certificates and starting nodes"
        await self.backend.start()
        await self.links.open()
        self.network.start()
        self.phase = ""
        self._follow()
        self.poller.start()
        self.canary.start()
        self._spawn(self._upkeep())
        self._spawn(self._keep_logs_short())

    def stop(self, reason: str) -> None:
        """Order the end; the first reason counts. `serving` then closes the lab."""
        self.stop_reason = self.stop_reason or reason
        self.stopping.set()
        self.revision.touch()

    async def close(self) -> None:
        """End open runs as invalid, then the nodes, then the links."""
        await self.runs.close(f"the lab ended during the run: {self.stop_reason or 'it was told to'}")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.canary.close()
        await self.network.close()
        await self.collector.close()
        await self.poller.close()
        await self.links.close()
        await self.backend.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- state ---

    def nodes(self) -> list[str]:
        """Names of the members, in member order."""
        return list(self.backend.groups())

    def status(self) -> Status:
        """The status document now."""
        subnet = self.backend.subnet
        groups = self.backend.groups()
        runs: list[RunSummary] = [run.summary() for run in self.runs.all()]
        return status_of(
            StatusInputs(
                name=self.paths.name, target=self.backend.target, seed=subnet.spec.seed,
                ready_share=subnet.spec.ready.connected.ratio, membership=self.backend.membership, groups=groups,
                processes={node: self.backend.process(node) for node in groups}, peers=dict(self.poller.views),
                leaves=self.backend.leaves(), now=datetime.now(UTC),
                runs=_last_ended(runs) + [run for run in runs if run.state in RUN_OPEN],
                up_since=self.expiry.since, expires_at=self._expires_at(), packed=self.context.packed,
                problem=self.problem, phase=self.phase, own=self.backend.identity.known,
                unresponsive={node: found for node in groups if (found := self.liveness.unresponsive(node)) is not None},
                heard={node: heard for node in groups if (heard := self.liveness.last_heard(node)) is not None},
                ignored=ignored(subnet, self.backend.target), faults=self.network.statuses(),
                in_force=self.network.in_force(), ordered=self.network.details(), network_notes=self.network.plan.notes,
                network_problems=self.network.problems(), network=self.canary.rows,
                behaviours={name: group.behaviour for group in self.context.adversaries for name in group.nodes},
            )
        )  # fmt: skip

    def log_files(self) -> dict[str, Path]:
        """Paths by node of the logs on this machine, the lab's own among them."""
        return {logs.LAB: self.paths.lab_log, **self.backend.log_files()}

    def member(self, node: str) -> MemberStatus:
        """One member's entry of the status."""
        return next(member for member in self.status().members if member.name == node)

    def wall_s(self) -> float:
        """Offset of the wall clock: added to seconds of the lab's monotonic clock it gives Unix seconds."""
        return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def settled(self) -> bool:
        """Whether all nodes are connected, or a fault keeps them from it and nothing has changed for a while.

        Changes of that raise the revision of the status.
        """
        status, now = self.status(), time.monotonic()
        if (links := (status.nodes.connected, status.links.up)) != self._links:
            self._links, self._links_changed_s = links, now
        whole = status.nodes.connected == status.nodes.desired
        self.revision.observe(links, now, at_once=whole)
        return whole or (bool(self.network.in_force()) and now - self._links_changed_s > FAULTY_REST_S)

    def _network_changed(self) -> None:
        self.revision.touch()
        self.canary.changed()

    def _busy(self) -> bool:
        """Whether there may be traffic between nodes: of a run, or of clients that send by themselves."""
        own = any(client.name != DEFAULT_CLIENT or client.class_ for client in self.backend.subnet.spec.clients)
        return own or any(run.injecting for run in self.runs.open())

    def _expires_at(self) -> datetime | None:
        ttl_s = self._ttl_s()
        return None if ttl_s is None else datetime.fromtimestamp(self.expiry.ends_at(ttl_s), UTC)

    def _ttl_s(self) -> float | None:
        """The ttl that this lab enforces: a local subnet's. In a cluster the operator does, from the object's creation."""
        ttl = self.backend.subnet.spec.ttl if self.backend.target == "local" else None
        return None if ttl is None else ttl.seconds

    # --- commands ---

    async def execute(self, node: str, action: NodeAction) -> MemberStatus:
        """Restart, kill, pause or resume a node's process, on behalf of a run if one is named. Raises SpecError."""
        if action.run:
            self.runs.get(action.run)  # refused where there is none; the order concerns all runs that are on
        if node in self.nodes():
            if why := self.network.node_faults.refusal(node, action.action):
                raise SpecError(why)
            hit = [node] if action.action == "restart" else self.backend.nodes_sharing_process(node)
            if action.action != "resume":
                self.network.node_faults.hit(hit)
                await self._about_to_hit(hit)
        by = f"by run {action.run}" if action.run else "through the lab's HTTP"
        about_nodes.info("%s: %s ordered %s", node, action.action, by)
        await self.backend.execute(node, action.action)
        if action.action != "resume":
            self._have_hit(hit)
        for one in hit:
            self.poller.stale(one, gone=action.action in ("restart", "kill"))
        return self.member(node)

    async def _about_to_hit(self, nodes: list[str]) -> None:
        """Nodes are about to be killed, paused or restarted as ordered: take what events they have while they answer."""
        self.runs.ordered(nodes, time.monotonic_ns())
        there = [node for node in nodes if self.backend.process(node).state == "running"]
        await self.collector.flush(there, timeout_s=FLUSH_S)

    def _have_hit(self, nodes: list[str]) -> None:
        self.runs.ordered(nodes, time.monotonic_ns())
        for node in nodes:
            self.poller.stale(node)

    async def add_fault(self, request: FaultRequest) -> FaultStatus:
        """Order a fault; how it stands once nodes have it, or after a while. Raises SpecError, LimitError."""
        if self.phase:
            raise SpecError(f"the subnet is not up yet ({self.phase}): order faults when it is")
        return await self.network.add(request)

    async def clear_faults(self, name: str | None = None) -> None:
        """End a fault, or all: leased ones, and on this machine those of the document by an edit. Raises SpecError."""
        written = [name] if name is not None and self.network.book.is_of_document(name) else []
        if name is None:
            self.network.clear_leased()
            written = [fault.name for fault in self.backend.subnet.spec.faults]
        if not written:
            if name is not None:
                self.network.clear(name)
            return
        if self.backend.target != "local":
            raise SpecError(f"fault {', '.join(written)} stands in the Subnet object: take it out of its spec.faults")
        faults = to_document(self.backend.subnet)["spec"]["faults"]
        await self.edit({"spec": {"faults": [fault for fault in faults if fault["name"] not in written]}})

    async def edit(self, change: dict[str, Any]) -> dict[str, Any]:
        """Apply a live edit; the document now in force. Raises SpecError."""
        async with self._edit_lock:
            subnet = edited(self.backend.subnet, change, self.backend.target)
            document = to_document(subnet)
            if self.phase:
                raise SpecError(f"the subnet is not up yet ({self.phase}): edit it when it is")
            await self._spread(await self.backend.edit(subnet))
            await asyncio.to_thread(self.paths.write_document, document)
            return document

    async def take_members(self, membership: Membership) -> int:
        """Take a newer member list from the operator and push it to the nodes; the version in force. Raises SpecError."""
        async with self._edit_lock:
            before = set(self.nodes())
            if await self.backend.adopt(membership):
                await self._spread(before - set(self.nodes()))
        return self.backend.membership.registry.version

    async def _spread(self, leaving: set[str]) -> None:
        """The backend has a new member list: follow its nodes and push it to them; `leaving` are members no more."""
        if leaving:
            await self.collector.flush(leaving, timeout_s=FLUSH_S)
        self._follow()
        await asyncio.gather(*(self._push(node) for node in self.nodes() if node in self.poller.views))
        # After the push: peers that know of a removal cut the link themselves, with its reason, instead of redialling it.
        await self.backend.retire(leaving)
        self.poller.stale(next(iter(self.nodes()), ""))

    async def renew(self, *, everything: bool = False) -> list[str]:
        """Renew the leaves that are due, or all of them, the lab's own too; the nodes that got one. Raises SpecError."""
        version_before, members_before = self.backend.identity.version, self.backend.membership
        nodes_before = set(self.nodes())
        renewed = await self.backend.renew(datetime.now(UTC), everything=everything)
        if self.backend.membership is not members_before:
            await self._spread(nodes_before - set(self.nodes()))
        if self.backend.identity.version != version_before:
            self.links.identity_changed()
        return renewed

    # --- what parts report ---

    def _is_expected(self, node: str) -> bool:
        """Whether the node should answer: its process is not known to be starting, paused or gone."""
        return self.backend.process(node).state in ("running", "unknown")

    def _on_unanswered(self, node: str, asked: float) -> None:
        self.liveness.unanswered(node, asked)
        self.backend.check_process(node)

    def _follow(self) -> None:
        """Watch, link and read exactly the members."""
        self.liveness.keep(set(self.nodes()))
        self.links.follow(self.backend.membership.registry.members)
        self.collector.follow(self.nodes())

    def _on_lost(self, reason: str) -> None:
        self.failed = True
        self.stop(reason)

    def _on_link_up(self, node: str) -> None:
        self.network.linked(node)
        self.poller.stale(node)

    def _on_link_down(self, node: str) -> None:
        # Its process may have ended and a new one answer before the next poll: its view is out of date in any case.
        self.poller.stale(node, gone=True)
        self.backend.check_process(node)

    def _on_process(self, node: str) -> None:
        process = self.backend.process(node)
        state = process.state
        gone = state in ("starting", "restarting", "stopped", "failed")
        if gone or state == "running":
            self.liveness.changed(node, gone=gone)
        if gone:
            self.links.drop(node)
        elif state == "running":
            self.links.dial_anew(node)
        else:
            self.links.dial_now(node)
        if state in ("running", "paused"):
            self._served.add(node)
        elif node in self._served and state != "unknown":
            self._served.discard(node)
            self.runs.ended(node, time.monotonic_ns(), ordered=bool(self.network.excuse(node)))
        self.network.process_changed()
        self.poller.stale(node, gone=gone or process.halted)

    def _on_view(self, node: str, peers: PeersReply) -> None:
        self.liveness.heard(node)
        self.network.seen(node, peers)
        if peers.registry_version < self.backend.membership.registry.version and node not in self._pushing:
            self._spawn(self._push(node))

    async def _push(self, node: str) -> None:
        self._pushing.add(node)
        try:
            await ask_for(self.links, node, ROUTE_MEMBERS, MembersPush(self.backend.membership), MembersTaken)
        except (NodeSilentError, NodeRefusedError) as error:
            log.info("%s has not taken the member list yet: %s", node, error)  # tried again at the next poll
        finally:
            self._pushing.discard(node)

    async def _keep_logs_short(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_S)
            for node in await asyncio.to_thread(logs.rotate, self.log_files()):
                log.info("the log of %s was begun anew: it had become too long", node)

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                await self.renew()
                self.problem = ""
            except (OSError, SpecError) as error:
                self.problem = f"certificates cannot be renewed: {error}"
                log.error("%s", self.problem)  # noqa: TRY400 - a sentence for people
            self._check_ttl()

    def _check_ttl(self) -> None:
        ttl_s, ttl = self._ttl_s(), self.backend.subnet.spec.ttl
        if ttl_s is None:
            return
        if is_expired(self.expiry.left(ttl_s), busy=bool(self.runs.open())):
            self.expired = True
            self.stop(f"its ttl of {ttl} is over")
        elif not is_expiring(self.expiry.left(ttl_s)):
            self._warned = False  # an edit has extended the ttl since the warning
        elif not self._warned:
            self._warned = True
            log.warning("its ttl of %s is over at %s; a live edit of spec.ttl gives it more", ttl, self._expires_at())


def _last_ended(runs: list[RunSummary]) -> list[RunSummary]:
    return [run for run in runs if run.state in RUN_ENDED][-RUNS_SHOWN:]


def _version() -> str:
    try:
        return version("p2pnet")
    except PackageNotFoundError:
        return "0"


class RevisionCounter:
    """The revision of the status, for long polls: a text that changes when a run or a link does.

    Revisions begin with a random part of their own in each lab process: another lab's are all different.
    """

    def __init__(self) -> None:
        self.boot = os.urandom(4).hex()
        """Names this process of the lab."""
        self._count = 0
        self._told: object = None
        self._told_s = float("-inf")
        self._changed = asyncio.Event()

    @property
    def current(self) -> str:
        """The revision now."""
        return f"{self.boot}.{self._count}"

    def touch(self) -> None:
        """Begin a new revision."""
        self._count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def observe(self, value: object, now_s: float, *, at_once: bool) -> None:
        """Begin a new revision if this value is another than when there last was one for it: `at_once`, or TOLD_S after that.

        To be called again and again: a value that has to wait is not kept.
        """
        if value != self._told and (at_once or now_s - self._told_s >= TOLD_S):
            self._told, self._told_s = value, now_s
            self.touch()

    async def wait_past(self, after: str, within_s: float) -> str:
        """The revision, as soon as it is not `after`; after `within_s` seconds whatever it is."""
        if self.current == after:
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self.current
