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

from p2pnet.lab.backends import local_files
from p2pnet.lab.backends.backend import Backend
from p2pnet.lab.nodes.clocks import Clocks, own_boot_id
from p2pnet.lab.nodes.collector import Collector
from p2pnet.lab.nodes.links import Links
from p2pnet.lab.nodes.node_client import NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.nodes.status_poller import NodeContacts, StatusPoller
from p2pnet.lab.runs.artifacts import Artifacts
from p2pnet.lab.runs.queue import RunQueue
from p2pnet.lab.runs.runner import RunContext
from p2pnet.lab.runs.uploads import Uploads
from p2pnet.lab.status import StatusInputs, process_words, status_of
from p2pnet.model.control import ROUTE_MEMBERS, MembersPush, MembersTaken, PeersReply
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import NodeAction
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.registry import Membership
from p2pnet.model.report import RUN_ENDED, RUN_OPEN, MemberStatus, RunSummary, Status
from p2pnet.store import logs
from p2pnet.store.state import SubnetPaths
from p2pnet.subnet.document import in_force, to_document
from p2pnet.subnet.edits import edited
from p2pnet.subnet.expiry import ExpiryTimer, is_expired, is_expiring
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import ignored
from p2pnet.trust import Identity

UPKEEP_S = 10.0
ROTATE_S = 2.0
RUNS_SHOWN = 10

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


class Lab:
    """A live subnet's experiment desk. Needs a running event loop."""

    def __init__(self, paths: SubnetPaths, ground: Backend, links: Links | None = None) -> None:
        self.paths = paths
        self.ground = ground
        self.version = _version()
        self.links = links or Links(ground, lambda node: ground.process(node).state in ("running", "unknown"))
        self.contacts = NodeContacts(
            lambda node: self.links.problems.get(node, ""),
            lambda node: process_words(ground.process(node)),
            self._is_expected,
        )
        self.collector = Collector(self.links, self.contacts.heard)
        self.watch = StatusPoller(self.links, self.nodes, self._settled)
        self.uploads = Uploads(paths.uploads)
        self.world = RunContext(
            gateway=self.links, collector=self.collector, clocks=Clocks(self.links, own_boot_id()),
            uploads=self.uploads, state=paths.state, subnet=paths.name, target=ground.target, version=self.version,
            nodes=self.nodes, spec=lambda: in_force(ground.subnet, ground.target), seed=lambda: ground.subnet.spec.seed,
            artifact_bytes_max=lambda: ground.subnet.spec.broadcast.artifact_bytes_max.bytes,
            packed=lambda: ground.subnet.spec.nodes_per_pod > 1, paused=self._paused,
            ignored=lambda: ignored(ground.subnet, ground.target),
            clients=lambda: [client.name for client in ground.subnet.spec.clients], logs=self.log_files,
        )  # fmt: skip
        self.runs = RunQueue(self.world)
        self.news = RevisionCounter()
        self.runs.on_change = self.news.touch
        self.artifacts = Artifacts(self.world, self.runs)
        self.stopping = asyncio.Event()
        self.stop_reason = ""
        self.failed = False
        self.phase = "the lab starts"
        self.trouble = ""
        self.expiry = ExpiryTimer(time.monotonic, time.time)
        self.expired = False
        self._warned = False
        self._edit_lock = asyncio.Lock()
        self._pushing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life ---

    async def start(self) -> None:
        """Nodes up, links kept, events gathered. Raises P2pnetError."""
        self.uploads.open()
        self.ground.on_process = self._on_process
        self.ground.on_lost = self._on_lost
        self.links.on_up = self.watch.stale
        self.links.on_down = self._on_link_down
        self.watch.on_view = self._on_view
        self.watch.on_silent = self._on_silent
        self.collector.add(self.watch)
        self.phase = "issuing certificates and starting nodes"
        await self.ground.start()
        await self.links.open()
        self.phase = ""
        self._follow()
        self.watch.start()
        self._spawn(self._upkeep())
        self._spawn(self._keep_logs_short())

    def stop(self, reason: str) -> None:
        """Order the end."""
        self.stop_reason = self.stop_reason or reason
        self.stopping.set()
        self.news.touch()

    async def close(self) -> None:
        """Open runs end as invalid, nodes end, links are closed."""
        await self.runs.close(f"the lab ended during the run: {self.stop_reason or 'it was told to'}")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.collector.close()
        await self.watch.close()
        await self.links.close()
        await self.ground.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is ---

    def nodes(self) -> list[str]:
        """Members, in order."""
        return list(self.ground.groups())

    def status(self) -> Status:
        """The status document."""
        subnet = self.ground.subnet
        groups = self.ground.groups()
        runs: list[RunSummary] = [run.summary() for run in self.runs.all()]
        return status_of(
            StatusInputs(
                name=self.paths.name, target=self.ground.target, seed=subnet.spec.seed,
                ready_share=subnet.spec.ready.connected.ratio, membership=self.ground.membership, groups=groups,
                processes={node: self.ground.process(node) for node in groups},
                peers=dict(self.watch.views),
                leaves=self.ground.leaves(), now=datetime.now(UTC),
                runs=_last_ended(runs) + [run for run in runs if run.state in RUN_OPEN],
                up_since=self.expiry.since, expires_at=self._expires_at(), packed=self.world.packed(),
                trouble=self.trouble, phase=self.phase, own=self._own(),
                silences={node: silence for node in groups if (silence := self.contacts.silence(node)) is not None},
                heard={node: heard for node in groups if (heard := self.contacts.last_heard(node)) is not None},
                ignored=ignored(subnet, self.ground.target),
            )
        )  # fmt: skip

    def log_files(self) -> dict[str, Path]:
        """The lab's log, and those of nodes that are written to files."""
        return {logs.LAB: self.paths.lab_log, **self.ground.log_files()}

    def member(self, node: str) -> MemberStatus:
        """One node's line of the status."""
        return next(member for member in self.status().members if member.name == node)

    def wall_s(self) -> float:
        """Add this to seconds of the lab's monotonic clock for Unix seconds."""
        return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def _own(self) -> Identity | None:
        try:
            return self.ground.current
        except SpecError:
            return None  # before the ground is started

    def _settled(self) -> bool:
        status = self.status()
        self.news.see((status.nodes.connected, status.links.up))
        return status.nodes.connected == status.nodes.desired

    def _paused(self) -> set[str]:
        return {node for node in self.nodes() if self.ground.process(node).state == "paused"}

    def _expires_at(self) -> datetime | None:
        ttl_s = self._ttl_s()
        return None if ttl_s is None else datetime.fromtimestamp(self.expiry.ends_at(ttl_s), UTC)

    def _ttl_s(self) -> float | None:
        """Only where nobody else ends it: in a cluster the operator counts, from the object's creation."""
        ttl = self.ground.subnet.spec.ttl if self.ground.target == "local" else None
        return None if ttl is None else ttl.seconds

    # --- what is done ---

    async def act(self, node: str, action: NodeAction) -> MemberStatus:
        """Act on a node's process, on behalf of a run if it names one. Raises SpecError."""
        hit = [node]
        if action.action != "restart" and node in self.nodes():
            hit = self.ground.mates(node)
        if action.run:
            self.runs.get(action.run).ordered.update(hit)
        if action.action != "resume" and node in self.nodes():
            await self.collector.flush(hit, timeout_s=1.0)  # what they have done so far shall not die with them
        by = f"by run {action.run}" if action.run else "through the lab's HTTP"
        about_nodes.info("%s: %s ordered %s", node, action.action, by)
        await self.ground.act(node, action.action)
        for one in hit:
            self.watch.stale(one, gone=action.action in ("restart", "kill"))
        return self.member(node)

    async def edit(self, change: dict[str, Any]) -> dict[str, Any]:
        """Apply a live edit; the document now in force. Raises SpecError."""
        async with self._edit_lock:
            subnet = edited(self.ground.subnet, change, self.ground.target)
            document = to_document(subnet)
            if self.phase:
                raise SpecError(f"the subnet is not up yet ({self.phase}): edit it when it is")
            await self._apply(subnet)
            await asyncio.to_thread(local_files.write_document, self.paths, document)
            return document

    async def take_members(self, membership: Membership) -> int:
        """Take a member list made elsewhere and push it on; the version now in force. Raises SpecError."""
        async with self._edit_lock:
            before = set(self.nodes())
            if await self.ground.adopt(membership):
                await self._spread(before - set(self.nodes()))
        return self.ground.membership.registry.version

    async def _apply(self, subnet: Subnet) -> None:
        await self._spread(await self.ground.edit(subnet))

    async def _spread(self, leaving: set[str]) -> None:
        """The ground has another member list: read, link and tell those of it; `leaving` are no members any more."""
        if leaving:
            await self.collector.flush(leaving, timeout_s=1.0)
        self._follow()
        await asyncio.gather(*(self._push(node) for node in self.nodes() if node in self.watch.views))
        # After the push: peers that are told first cut the link themselves, and say so, instead of redialling it.
        await self.ground.retire(leaving)
        self.watch.stale(next(iter(self.nodes()), ""))

    async def rotate(self) -> list[str]:
        """New leaves for all nodes and for the lab, now."""
        return await self._renew(everything=True)

    async def _renew(self, *, everything: bool = False) -> list[str]:
        version_before, members_before = self.ground.version, self.ground.membership
        nodes_before = set(self.nodes())
        renewed = await self.ground.renew(datetime.now(UTC), everything=everything)
        if self.ground.membership is not members_before:
            await self._spread(nodes_before - set(self.nodes()))
        if self.ground.version != version_before:
            self.links.identity_changed()
        return renewed

    # --- what happens ---

    def _is_expected(self, node: str) -> bool:
        """Whether the node should answer: its process is not known to start, to stand still or to be gone."""
        return self.ground.process(node).state in ("running", "unknown")

    def _on_silent(self, node: str, asked: float) -> None:
        self.contacts.silent(node, asked)
        self.ground.doubt(node)

    def _follow(self) -> None:
        self.contacts.keep(set(self.nodes()))
        self.links.follow(self.ground.membership.registry.members)
        self.collector.follow(self.nodes())

    def _on_lost(self, reason: str) -> None:
        self.failed = True
        self.stop(reason)

    def _on_link_down(self, node: str) -> None:
        """Its process may have ended, and a new one answer before it is missed."""
        self.watch.stale(node, gone=True)
        self.ground.doubt(node)

    def _on_process(self, node: str) -> None:
        process = self.ground.process(node)
        state = process.state
        gone = state in ("starting", "restarting", "stopped", "failed")
        if gone or state == "running":
            self.contacts.changed(node, gone=gone)
        if gone:
            self.links.drop(node)
        else:
            self.links.kick(node)
        self.watch.stale(node, gone=gone or process.halted)

    def _on_view(self, node: str, peers: PeersReply) -> None:
        self.contacts.heard(node)
        if peers.registry_version < self.ground.membership.registry.version and node not in self._pushing:
            self._spawn(self._push(node))

    async def _push(self, node: str) -> None:
        self._pushing.add(node)
        try:
            await ask_for(self.links, node, ROUTE_MEMBERS, MembersPush(self.ground.membership), MembersTaken)
        except (NodeSilentError, NodeRefusedError) as error:
            log.info("%s has not taken the member list yet: %s", node, error)  # the next view says so again
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
                await self._renew()
                self.trouble = ""
            except (OSError, SpecError) as error:
                self.trouble = f"certificates cannot be renewed: {error}"
                log.error("%s", self.trouble)  # noqa: TRY400 - a sentence for people
            self._mind_ttl()

    def _mind_ttl(self) -> None:
        ttl_s, ttl = self._ttl_s(), self.ground.subnet.spec.ttl
        if ttl_s is None:
            return
        if is_expired(self.expiry.left(ttl_s), busy=bool(self.runs.open())):
            self.expired = True
            self.stop(f"its ttl of {ttl} is over")
        elif not is_expiring(self.expiry.left(ttl_s)):
            self._warned = False  # an edit gave it more time
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
    """Versions are of one lab process: another one's are all different."""

    def __init__(self) -> None:
        self._boot = os.urandom(4).hex()
        self._turn = 0
        self._seen: object = None
        self._changed = asyncio.Event()

    @property
    def version(self) -> str:
        """Now."""
        return f"{self._boot}.{self._turn}"

    def touch(self) -> None:
        """Something is different."""
        self._turn += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def see(self, thing: object) -> None:
        """This is how it is: news when it was another way before."""
        if thing != self._seen:
            self._seen = thing
            self.touch()

    async def beyond(self, after: str, within_s: float) -> str:
        """The version, once it is another than `after`, at the latest in so many seconds."""
        if self.version == after:
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self.version
