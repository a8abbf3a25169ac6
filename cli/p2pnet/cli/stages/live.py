"""A live subnet for a scenario or for trials: started for it, taken down after it; steps are orders to its lab, or edits."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2pnet.cli import ordering
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.stages.turns import all_or_none
from p2pnet.cli.targets.readiness import awaited, blockers, is_ready
from p2pnet.cli.targets.target import Target
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.jobs import Payload, RunRequest, RunState
from p2pnet.model.report import SERVING_STATES, FaultStatus, Report, Status
from p2pnet.model.text import some
from p2pnet.scenario.stage import (
    NAMED_MAX,
    Awaited,
    NotReadyError,
    ProgressSink,
    Rest,
    RunAsk,
    Waited,
    artifacts_words,
    not_withdrawn,
    unfinished_words,
)
from p2pnet.scenario.targets import honest_nodes, sized
from p2pnet.store import archive
from p2pnet.subnet.members import members
from p2pnet.subnet.spec import DEFAULT_GROUP, Subnet

LAB_START_S = 30.0  # imports on a loaded machine; a lab that fails says so at once
POLL_S = 0.1
CLUSTER_POLL_S = 0.5
CANCEL_S = 15.0  # for a run to end that is cancelled
RENEW_S = 15.0  # three renewals may fail before a lease lapses
ASKED_MAX = 16  # questions for artifacts at the same time
NOT_FOUND = 404  # of an artifact that a node does not hold
FORCE_RENEW = "p2pnet.io/force-renew"  # of the operator: a new value renews all leaves


class LiveStage:
    """See `scenario.Stage`. `folder`: where files to publish lie. Nothing of the subnet's name may be there before."""

    def __init__(
        self, subnet: Subnet, target: Target, *, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._folder = folder
        self._clock = clock
        self._name = subnet.name
        self._subnet = subnet
        self._poll_s = POLL_S if target.kind == "local" else CLUSTER_POLL_S
        self._begun = False
        """Whether there may be something to take down."""
        self._up_s = clock()
        self._held: list[str] = []
        """Faults without an end of their own: their leases are renewed."""
        self._renewing: asyncio.Task[None] | None = None
        self._problems: list[str] = []
        self._restarts = 0
        self._artifacts: dict[str, list[str]] = {}
        """What each inject step published, by its name."""
        self._runs: dict[str, str] = {}
        """Run of each inject step, by its name."""

    # --- its life ---

    async def up(self, progress: ProgressSink) -> str:
        """See `Stage`. TargetError (exit 2) when there is a subnet of that name."""
        told = _Told(progress)
        async with self._target.lock(self._name, told):
            presence = self._target.presence(self._name)
            if presence not in ("absent", "dead"):
                raise TargetError(
                    f"there is a subnet {self._name} already",
                    where=f"Subnet {self._name}",
                    hint=f"p2pnet down {self._name}, or give it another metadata.name",
                    exit_code=ExitCode.USAGE,
                )
            self._begun = True
            await self._target.start(self._subnet, told, timeout_s=LAB_START_S)
        try:
            status = await self._until_ready(self._subnet, self._subnet.spec.ready.within.seconds, progress)
        except TargetError as error:
            raise self._target.why_it_ended(self._name) or error from error
        self._up_s = self._clock()
        return f"{status.nodes.connected} nodes, {status.links.up}/{status.links.expected} links"

    async def down(self) -> None:
        """See `Stage`."""
        await self._heal_all()
        if not self._begun:
            return
        told = _Told(_nobody)
        async with self._target.lock(self._name, told):
            await self._target.remove(self._name, told)

    async def leave(self) -> str:
        """See `Stage`."""
        await self._heal_all()
        return self._name if self._begun else ""

    async def _heal_all(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        held, self._held = self._held, []
        if held and self._target.presence(self._name) == "up":
            with contextlib.suppress(P2pnetError):  # what cannot be told heals when its lease lapses
                async with self._lab() as client:
                    await ordering.heal(client, held)

    # --- runs ---

    async def inject(self, ask: RunAsk, progress: ProgressSink) -> Report:
        """See `Stage`. TargetError (exit 5) when the lab is lost under it."""
        run = ""
        try:
            async with self._lab() as client:
                payloads = await self._payloads(client, ask)
                request = RunRequest(
                    payloads, ask.count, ask.rate_per_s, ask.publisher, seed=ask.seed, within_s=ask.within_s,
                    expect=list(ask.expect), shared=ask.shared, client=ask.client, label=ask.label, made_label=bool(ask.label),
                    stop_early=ask.stop_early,
                )  # fmt: skip
                run = self._runs[ask.name] = (await client.start_run(request, key=uuid.uuid4().hex)).run
                state = await self._follow(client, run, progress)
        except TargetError as error:
            if not run or self._target.presence(self._name) == "up":
                raise
            raise TargetError(
                f"run {run} is invalid: {error}", where=error.where, hint=error.hint, exit_code=ExitCode.INVALID
            ) from error
        report = state.report or archive.read_run(self._target.state, run)[1]
        if report is None:
            raise TargetError(f"run {run} ended ({state.state}) without a report", exit_code=ExitCode.INVALID)
        self._artifacts[ask.name] = report.artifact_ids
        return report

    def kept_run(self, name: str) -> str | None:
        """See `Stage`."""
        return self._runs.get(name)

    async def _payloads(self, client: LabClient, ask: RunAsk) -> list[Payload]:
        if not ask.files:
            return [Payload(f"generated-{ask.size}", size=ask.size)]
        return [
            Payload(Path(name).name, upload=await client.upload(self._folder / name, Path(name).name))
            for name in ask.files
        ]

    async def _follow(self, client: LabClient, run: str, progress: ProgressSink) -> RunState:
        """The last state of a run; one that is left is cancelled."""
        try:
            async for state in client.follow(run):
                done = state.progress
                if state.state == "queued":
                    progress(f"in line: {done.waiting_for or 'waiting for its turn'}", 0, 0)
                else:
                    progress("delivered", done.delivered, done.expected)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError, P2pnetError):
                await asyncio.wait_for(client.cancel(run), CANCEL_S)
            raise
        return state

    async def withdraw(self, names: Sequence[str], progress: ProgressSink) -> str:
        """See `Stage`. TargetError (exit 5) when a node does not answer."""
        artifacts = [artifact for name in names for artifact in self._artifacts[name]]
        async with self._lab() as client:
            for done, artifact in enumerate(artifacts):
                progress("withdrawn", done, len(artifacts))
                silent = (await client.withdrawal(artifact)).silent
                if silent:
                    raise TargetError(not_withdrawn(artifact, silent), exit_code=ExitCode.INVALID)
        return artifacts_words(len(artifacts))

    # --- faults ---

    async def fault(self, name: str, fault: Mapping[str, object]) -> str:
        """See `Stage`. CommandError (exit 5) for one that does not come into force."""
        item = {**fault, "name": name}
        async with self._lab() as client:
            [status] = await ordering.order(client, [item])
        if not ordering.ends_itself(item):
            self._held.append(name)
            if self._renewing is None:
                self._renewing = asyncio.create_task(self._renew(), name=f"leases of {self._name}")
        return some(status.nodes, NAMED_MAX) if status.nodes else ""

    async def heal(self, names: Sequence[str]) -> str:
        """See `Stage`."""
        self._held = [held for held in self._held if held not in names]
        async with self._lab() as client:
            for name in names:
                await ordering.clear(client, name)
        return ""

    async def _renew(self) -> None:
        """Prolong what is held; what has ended all the same is a problem."""
        while True:
            await asyncio.sleep(RENEW_S)
            for name in list(self._held):
                try:
                    async with self._lab() as client:
                        await client.renew_fault(name, ordering.LEASE_S)
                except ProblemError as error:
                    if name in self._held:  # else it was healed meanwhile
                        self._held.remove(name)
                        self._problems.append(f"fault {name} ended before it was healed: {error}")
                except TargetError:
                    continue  # the lab may answer next time; if its lease lapses, that is found out then

    # --- what an operator does ---

    async def scale(self, group: str, nodes: int, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        before = await self._status()

        def change(document: Mapping[str, Any]) -> dict[str, Any]:
            if group == DEFAULT_GROUP:
                return {"spec": {"nodes": nodes}}
            groups = [
                {**one, "nodes": nodes} if one["name"] == group else one
                for one in (document.get("spec") or {}).get("groups") or []
            ]
            return {"spec": {"groups": groups}}

        await self._target.edit(self._name, change, _Told(progress))
        self._subnet = sized(self._subnet, group, nodes)
        status = await self._connected_again(_lacking(before), self.nodes(), within_s, progress)
        return _links(status)

    async def restart(self, nodes: Sequence[str], within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        before = await self._status()
        self._restarts += 1
        name = f"restart-step-{self._restarts}"
        async with self._lab() as client:
            await ordering.order(client, [{"name": name, "restart": True, "from": ",".join(nodes)}])
            await self._done(client, name, within_s)
        # A process that ends in good order serves a while longer: only its successor counts.
        starts = {member.name: member.restarts for member in before.members if member.name in nodes}
        await self._connected_again(_lacking(before), nodes, within_s, progress, starts)
        return some(nodes, NAMED_MAX)

    async def _done(self, client: LabClient, name: str, within_s: float) -> None:
        """Once a fault that happens once has hit all it should. Raises NotReadyError."""
        deadline = self._clock() + within_s
        while True:
            found = [one for one in (await client.faults()).faults if one.name == name]
            if all(one.state == "ended" for one in found):
                return
            if self._clock() > deadline:
                raise NotReadyError(f"not restarted after {within_s:g} s: {_details(found)}")
            await asyncio.sleep(self._poll_s)

    async def upgrade(self, image: str, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`: in a cluster alone, where the operator rolls."""
        if self._target.kind == "local":
            raise SpecError(f"there are no images on this machine: {image}")
        before = await self._status()
        await self._target.edit(self._name, lambda _: {"spec": {"image": image}}, _Told(progress))
        await self._connected_again(_lacking(before), self.nodes(), within_s, progress)
        return image

    async def rotate(self, within_s: float, progress: ProgressSink) -> str:
        """See `Stage`."""
        before = await self._status()
        leaves = {member.name: member.leaf for member in before.members}
        if self._target.kind == "local":
            async with self._lab() as client:
                await client.rotate()
        else:
            stamp = {"metadata": {"annotations": {FORCE_RENEW: uuid.uuid4().hex}}}
            await self._target.edit(self._name, lambda _: stamp, _Told(progress))
        deadline = self._clock() + within_s
        while True:
            status = await self._status()
            fresh = [one.name for one in status.members if one.leaf and one.leaf != leaves.get(one.name)]
            progress("certificates", len(fresh), len(leaves))
            if leaves.keys() <= set(fresh):
                break
            if self._clock() > deadline:
                old = some([name for name in leaves if name not in fresh], NAMED_MAX)
                raise NotReadyError(f"not all certificates are new after {within_s:g} s: {old}")
            await asyncio.sleep(self._poll_s)
        await self._connected_again(_lacking(before), list(leaves), max(0.0, deadline - self._clock()), progress)
        return f"{len(leaves)} nodes"

    # --- waiting ---

    async def wait(self, what: Awaited, within_s: float, progress: ProgressSink) -> Waited:
        """See `Stage`. Raises SpecError for the promise, which nobody outside of a node can judge."""
        if what.promise:
            raise SpecError("promise: only the simulator looks into nodes")
        deadline = self._clock() + within_s
        honest = honest_nodes(self._subnet)
        named = what.holds or what.gone
        missing = {(artifact, node) for name in named for artifact in self._artifacts[name] for node in honest}
        total = len(missing)
        left = missing
        """What is there still of what is to be gone, or has not been looked at."""
        rest = Rest()
        while True:
            if what.idle is not None:
                done, busy = _idle(await self._status(), honest)
                came = rest.lasts(idle=done >= what.idle * len(honest), seconds=self.seconds())
                words = f"idle {done}/{len(honest)}{busy}"
                progress("idle", done, len(honest))
            elif what.connected is not None:
                links = (await self._status()).links
                came, words = links.up >= what.connected * links.expected, f"links {links.up}/{links.expected}"
                progress("links", links.up, links.expected)
            elif what.gone:
                left = left - (await self._looked_at(left)).absent
                if not left:  # what went first may be back
                    left = missing - (await self._looked_at(missing)).absent
                came, words = not left, f"gone {total - len(left)}/{total}"
                progress("gone", total - len(left), total)
            else:
                missing -= (await self._looked_at(missing)).held
                came, words = not missing, f"held {total - len(missing)}/{total}"
                progress("held", total - len(missing), total)
            if came or self._clock() > deadline:
                return Waited(came, words)
            await asyncio.sleep(self._poll_s)

    async def _looked_at(self, pairs: set[tuple[str, str]]) -> "Looked":
        """Ask each of these nodes for its artifact; of one that does not answer, nothing is known."""
        room, looked = asyncio.Semaphore(ASKED_MAX), Looked(set(), set())

        async def look(client: LabClient, artifact: str, node: str) -> None:
            async with room:
                try:
                    await client.get(artifact, node=node, length=0)
                    looked.held.add((artifact, node))
                except ProblemError as error:
                    if error.status == NOT_FOUND:
                        looked.absent.add((artifact, node))

        async with self._lab() as client:
            await asyncio.gather(*(look(client, artifact, node) for artifact, node in sorted(pairs)))
        return looked

    async def sleep(self, seconds: float) -> None:
        """See `Stage`."""
        await asyncio.sleep(seconds)

    async def together(self, branches: Sequence[Coroutine[Any, Any, None]]) -> None:
        """See `Stage`."""
        await all_or_none([asyncio.create_task(branch) for branch in branches])

    # --- what is so ---

    def seconds(self) -> float:
        """See `Stage`."""
        return self._clock() - self._up_s

    def nodes(self) -> list[str]:
        """See `Stage`."""
        return [name for name, _ in members(self._subnet)]

    def problems(self) -> list[str]:
        """See `Stage`."""
        return list(self._problems)

    def notes(self) -> list[str]:
        """See `Stage`."""
        return []

    def digest(self) -> None:
        """See `Stage`."""

    @contextlib.asynccontextmanager
    async def _lab(self) -> AsyncIterator[LabClient]:
        async with self._target.lab(self._name) as client:
            yield client

    async def _status(self) -> Status:
        async with self._lab() as client:
            return await client.summary()

    async def _until_ready(self, subnet: Subnet, within_s: float, progress: ProgressSink) -> Status:
        deadline = self._clock() + within_s
        async with self._lab() as client:
            while True:
                status = await client.summary()
                if is_ready(status, nodes=subnet.node_count, share=subnet.spec.ready.connected.ratio):
                    return status
                progress(awaited(status, subnet.node_count), 0, 0)
                if self._clock() > deadline:
                    words = f"{awaited(status, subnet.node_count)}; {blockers(status)}"
                    raise NotReadyError(f"not connected after {within_s:g} s: {words}")
                await asyncio.sleep(self._poll_s)

    async def _connected_again(
        self,
        lacking: int,
        nodes: Sequence[str],
        within_s: float,
        progress: ProgressSink,
        starts: Mapping[str, int] | None = None,
    ) -> Status:
        """Once these nodes serve and no more links lack than before; those in `starts` after more restarts than that.

        Raises NotReadyError.
        """
        deadline, count, before = self._clock() + within_s, self._subnet.node_count, starts or {}
        async with self._lab() as client:
            while True:
                status = await client.summary()
                serving = {
                    member.name
                    for member in status.members
                    if member.state in SERVING_STATES and member.restarts > before.get(member.name, -1)
                }
                progress("links", status.links.up, status.links.expected)
                # A share of nothing: what is looked at is whether the document was taken, and in a cluster the rollout.
                whole = is_ready(status, nodes=count, share=0.0) and _lacking(status) <= lacking
                if whole and serving.issuperset(nodes):
                    return status
                if self._clock() > deadline:
                    words = f"{awaited(status, count)}; {blockers(status)}"
                    raise NotReadyError(f"not connected again after {within_s:g} s: {words}")
                await asyncio.sleep(self._poll_s)


class Looked(NamedTuple):
    """Pairs of artifact and node: where it is held, and where it is not."""

    held: set[tuple[str, str]]
    absent: set[tuple[str, str]]


def _idle(status: Status, nodes: Sequence[str]) -> tuple[int, str]:
    """How many of these nodes have nothing left to do; which have most, in words. One that is not heard of is not idle."""
    left = {one.name: one.unfinished for one in status.members if one.name in set(nodes)}
    busy = [name for name in nodes if left.get(name) != 0]
    return len(nodes) - len(busy), unfinished_words({name: left.get(name) for name in busy})


class _Told:
    """What a target tells while it works, as the progress of a step."""

    def __init__(self, progress: ProgressSink) -> None:
        self._progress = progress

    def waiting(self, text: str) -> None:
        """See `TargetProgress`."""
        self._progress(text, 0, 0)

    def milestone(self, text: str) -> None:
        """See `TargetProgress`: it is a part of a step."""


def _lacking(status: Status) -> int:
    """Links that are not up: those that faults keep down are none that a step has to bring back."""
    return status.links.expected - status.links.up


def _links(status: Status) -> str:
    return f"{status.nodes.desired} nodes, {status.links.up}/{status.links.expected} links"


def _details(faults: Sequence[FaultStatus]) -> str:
    return "; ".join(one.detail or one.state for one in faults) or "the lab knows nothing of it"


def _nobody(text: str, done: int, total: int) -> None:
    """Tell nobody."""
