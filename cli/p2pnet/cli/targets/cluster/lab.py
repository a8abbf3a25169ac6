"""The client of a subnet in a cluster: its lab through the API server's proxy, and what object and pods say beside it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster import copies, logs
from p2pnet.cli.targets.cluster.installation import operators
from p2pnet.cli.targets.cluster.status import (
    Object,
    injection_lines,
    is_unseen,
    lost_machine,
    status_without_lab,
    unattended,
    with_cluster,
)
from p2pnet.cli.threads import in_daemon
from p2pnet.lab_client import LabClient, ProblemError
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.lab_client.proxy import RETRY_S, LabAwayError, ProxyWire
from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.jobs import LogLine, RunRequest, RunState
from p2pnet.model.report import RUN_ENDED, InjectionLine, Status
from p2pnet.store import State, archive
from p2pnet.store.logs import LogQuery, nodes_of
from p2pnet.subnet.document import kept_annotations

FOLLOW_S = 90.0  # how long a run is followed while its lab is away: the operator has started another one by then
PAUSE_S = 1.0
LOOK_S = 3.0  # how often a follower looks whether the subnet is still there
INJECTIONS_EVERY_S = 5.0
FORBIDDEN = 403
NOT_FOUND = 404
SERVER_ERRORS = 500


class ClusterLab(LabClient):
    """A `LabClient` whose summary never needs the lab, whose document is written to the object, and whose logs are the pods'."""

    def __init__(
        self, kube: Kube, name: str, state: State, *, token: Callable[[], str],
        look: Callable[[], Object], pods: Callable[[], list[Object]], apply: Callable[[Object], None],
        injections: Callable[[], list[Object]] = list, retry_s: float = RETRY_S,
    ) -> None:  # fmt: skip
        """`look` gives the Subnet object, `pods` its pods, `injections` those of its namespace, `apply` writes a document.

        All of them block.
        """
        super().__init__(ProxyWire(kube, name, token, retry_s=retry_s))
        self._quick = ProxyWire(kube, name, token, retry_s=0.0)
        self._kube = kube
        self._name = name
        self._state = state
        self._place = copies.ClusterLocation(kube.context, kube.namespace)
        self._look = look
        self._pods = pods
        self._injections = injections
        self._injections_due = float("-inf")
        self._lines: list[InjectionLine] = []
        self._apply = apply

    async def __aexit__(self, *_: object) -> None:
        await self._quick.close()
        await super().__aexit__()

    async def summary(self) -> Status:
        """The lab's, with what the cluster knows better; without a lab, the object's and the pods'."""
        lab, why = None, ""
        try:
            lab = await self._quick.ask("GET", "/v1/summary", Status)
        except (LabAwayError, KubeError) as error:
            if isinstance(error, KubeError) and error.status != FORBIDDEN:
                raise
            why = str(error)
        thing = await in_daemon(self._look)
        lines = await self._injection_lines()
        if lab is None:
            status = status_without_lab(thing, await self._seen(self._pods), why)
        else:
            whole = lab.nodes.connected >= lab.nodes.desired
            status = with_cluster(lab, thing, [] if whole else await self._seen(self._pods))
        status = msgspec.structs.replace(status, injections=lines)
        return await self._attended(status) if is_unseen(thing) else status

    async def _attended(self, status: Status) -> Status:
        """The Status, which says so where there is no operator to look at the document."""
        try:
            there = await in_daemon(operators, self._kube)
        except KubeError:  # who may not look at the operator waits for it
            return status
        return status if there else unattended(status, self._kube.context)

    async def _injection_lines(self) -> list[InjectionLine]:
        """Those of this subnet; listed anew every few seconds: all of the namespace are read for it."""
        if time.monotonic() >= self._injections_due:
            self._lines = injection_lines(self._name, await self._seen(self._injections))
            self._injections_due = time.monotonic() + INJECTIONS_EVERY_S
        return self._lines

    async def _seen(self, ask: Callable[[], list[Object]]) -> list[Object]:
        """What is listed; nothing for who may use the lab and nothing else, or where the kind is not defined."""
        try:
            return await in_daemon(ask)
        except KubeError as error:
            if error.status not in (FORBIDDEN, NOT_FOUND):
                raise
            return []

    async def spec(self) -> dict[str, Any]:
        """The document in force, which the lab knows: the object's may be refused. The object's while the lab is away."""
        try:
            return await super().spec()
        except LabAwayError:
            return await self.written()

    async def written(self) -> dict[str, Any]:
        """The Subnet object's document."""
        thing = await in_daemon(self._look)
        metadata = {key: thing["metadata"][key] for key in ("name", "namespace")}
        metadata |= kept_annotations(thing["metadata"].get("annotations"))
        return {key: thing[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": metadata}

    async def patch_spec(self, document: dict[str, Any]) -> dict[str, Any]:
        """Apply the whole document to the cluster."""
        await asyncio.to_thread(self._apply, document)
        return document

    async def follow(self, run_id: str, cursor: int = 0) -> AsyncIterator[RunState]:
        """As `LabClient.follow`; through restarts of the lab, and with a copy of the ended run on this machine.

        TargetError (exit 5) as soon as the subnet is deleted, with its namespace or without.
        """
        uid = ""
        with contextlib.suppress(KubeError, TargetError):  # what became of it is told in a moment
            uid = await self._uid()  # before anything else: another subnet of its name may follow it
        gone = asyncio.create_task(self._gone(uid))
        try:
            async for state in self._follow(run_id, cursor, gone):
                yield state
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _follow(self, run_id: str, cursor: int, gone: asyncio.Task[str]) -> AsyncGenerator[RunState, None]:
        deadline = time.monotonic() + FOLLOW_S
        while True:
            try:
                async for state in _until(gone, super().follow(run_id, cursor)):
                    cursor, deadline = state.cursor, time.monotonic() + FOLLOW_S
                    if state.state in RUN_ENDED:
                        await self.keep(run_id)
                    yield state
            except ProblemError as error:
                if error.status == 404:
                    raise self._lost(run_id) from error
                raise
            except (LabAwayError, KubeError) as error:
                if isinstance(error, KubeError) and error.status not in (0, 429) and error.status < SERVER_ERRORS:
                    raise
                if time.monotonic() > deadline:
                    raise await self._away(run_id, error) from error
                cursor = 0  # another lab counts anew
            else:
                if not gone.done():
                    return
                raise self._invalid(run_id, gone.result())
            await asyncio.wait({gone}, timeout=PAUSE_S)

    async def _uid(self) -> str:
        """The uid of the subnet as it is now, empty for one that is being deleted. Raises TargetError when there is none."""
        found = (await in_daemon(self._look))["metadata"]
        return "" if found.get("deletionTimestamp") else str(found.get("uid", "unknown"))

    async def _gone(self, uid: str) -> str:
        """Returns once the subnet of this uid is not there any more, with what became of it."""
        while True:
            with contextlib.suppress(KubeError):  # without the right to look, nobody can say
                try:
                    found = await self._uid()
                except TargetError:
                    return "its subnet was deleted"
                if not found or uid not in ("", found):
                    return "its subnet was deleted"
                uid = found
            await asyncio.sleep(LOOK_S)

    async def _away(self, run_id: str, error: TargetError) -> TargetError:
        """What to raise for a run whose lab stays away: it is invalid, unless it is the API server that does not answer."""
        if isinstance(error, KubeError):
            return error
        why = str(error)
        with contextlib.suppress(P2pnetError):  # who may use the lab and nothing else is told what the proxy says
            why = lost_machine(await in_daemon(self._look)) or why
        told = f"p2pnet status {self._name} -n {self._kube.namespace} says when there is a lab again"
        return self._invalid(run_id, f"its lab has been away for {FOLLOW_S:.0f} s: {why}", hint=told)

    def _lost(self, run_id: str) -> TargetError:
        return self._invalid(run_id, "its lab was replaced during the run, and knows nothing of it")

    def _invalid(self, run_id: str, why: str, *, hint: str = "") -> TargetError:
        copies.invalidate(self._state, run_id, why)
        return TargetError(
            f"run {run_id} is invalid: {why}",
            where=f"context {self._kube.context}, namespace {self._kube.namespace}, subnet {self._name}",
            hint=hint or f"run it again: p2pnet inject {self._name} -n {self._kube.namespace}",
            exit_code=ExitCode.INVALID,
        )

    async def start_run(self, request: RunRequest, *, key: str, lab: str = "") -> RunState:
        """As `LabClient.start_run`; from here on this machine knows of the run, whatever becomes of its lab."""
        started = await super().start_run(request, key=key, lab=lab)
        with contextlib.suppress(P2pnetError):  # who follows the run gets to know in any case
            await copies.copy(self, self._state, started.run, self._place, (archive.RUN_FILE,))
        return started

    async def keep(self, run_id: str) -> None:
        """Copy an ended run into the state directory of this user."""
        await copies.copy(self, self._state, run_id, self._place)

    async def collect(self) -> None:
        """Copy every ended run of the lab that is not on this machine, and what is known of those that go on."""
        for state in await self.runs():
            await copies.collect(self, self._state, state, self._place)

    async def logs(
        self, *, node: str | None = None, artifact: str | None = None, grep: str | None = None, follow: bool = False,
        tail: int | None = None, since: float | None = None,
    ) -> AsyncGenerator[LogLine, None]:  # fmt: skip
        """The pods' lines, the lab's among them, by time; for an artifact also its events, where the lab answers."""
        del tail
        events: list[LogLine] = []
        nodes = nodes_of(node)
        if artifact:
            with contextlib.suppress(P2pnetError):
                told = super().logs(artifact=artifact, grep=grep, since=since)
                events = [line async for line in told if not nodes or line.node in nodes]
                artifact = (await self.artifact_events(artifact))[0]
        await in_daemon(self._look)
        pods = await in_daemon(self._pods)
        reader = logs.PodLogs(self._kube, LogQuery(nodes, artifact, grep, since=since))
        async with reader:
            past = await reader.read(pods)
            for line in sorted([*past, *events], key=lambda line: line.t):
                yield line
            if follow:
                async for line in reader.follow(self._pods_while_there):
                    yield line

    # --- that it is there ---

    def _pods_while_there(self) -> list[Object]:
        self._look()  # TargetError once it is gone
        return self._pods()


async def _until(gone: asyncio.Task[str], states: AsyncIterator[RunState]) -> AsyncGenerator[RunState, None]:
    """The states, as long as the task is not done; it ends then, in the middle of a question if need be."""
    while True:
        upcoming = asyncio.ensure_future(anext(states, None))
        try:
            await asyncio.wait({upcoming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                return
            state = upcoming.result()
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
        if state is None:
            return
        yield state
