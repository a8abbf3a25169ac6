"""Single artifacts of a live subnet: which one is meant, its bytes at some node, taking it back."""

import asyncio
import time
from dataclasses import dataclass, replace

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.runs.queue import RunQueue
from p2pnet.lab.runs.runner import RunContext
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_GET, ROUTE_WITHDRAW, GetRequest, Got, Withdrawn, WithdrawRequest
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import DEFAULT_CLIENT
from p2pnet.model.jobs import ArtifactEvents, RunFile, RunRequest, Withdrawal
from p2pnet.store import archive

WHOLE_ID_CHARS = 64
NOT_HELD = frozenset({"unknown-artifact", "unknown-client", "not-yet"})


class NotHeldError(P2pnetError):
    """No node asked holds these bytes: exit 1."""


@dataclass(frozen=True, slots=True)
class Meant:
    """The artifact that a prefix means; `run` is None for one that no run of this state directory published."""

    artifact: str
    run: RunFile | None
    clients: tuple[str, ...]
    """In whose pool it is: one client, or all of them when neither a run nor an event tells."""


class Artifacts:
    """Finds and moves single artifacts."""

    def __init__(self, world: RunContext, runs: RunQueue) -> None:
        self._world = world
        self._runs = runs

    @property
    def _gateway(self) -> NodeClient:
        return self._world.gateway

    async def meant(self, prefix: str) -> Meant:
        """Raises SpecError when nothing, or more than one artifact, begins so. A whole id is taken at its word.

        Sought among what runs published, then among what nodes said of late: a client's own products are of no run.
        """
        text = archive.check_prefix(prefix)
        files = [run.file for run in self._runs.all()]
        if not any(artifact.startswith(text) for file in files for artifact in file.artifacts):
            known = {file.run for file in files}
            old = await asyncio.to_thread(archive.runs_with, self._world.state, self._world.subnet, text)
            files += [file for file in old if file.run not in known]
        if not any(artifact.startswith(text) for file in files for artifact in file.artifacts):
            told = {event.artifact: event.client for event in self._world.collector.of_artifact(text)}
            if len(told) == 1:
                [(artifact, client)] = told.items()
                return Meant(artifact, None, (client,))
            if len(told) > 1:
                raise SpecError(f"{text} is ambiguous: {len(told)} artifacts begin with it; give more of the id")
            if len(text) == WHOLE_ID_CHARS:
                return Meant(text, None, tuple(self._world.clients()))
        artifact, run = archive.match_artifact(files, text)
        return Meant(artifact, run, (run.request.client or DEFAULT_CLIENT,))

    async def events(self, prefix: str) -> ArtifactEvents:
        """The artifact's run and events. Raises SpecError."""
        meant = await self.meant(prefix)
        if meant.run is None:
            told = self._world.collector.of_artifact(meant.artifact)
            if not told:
                raise SpecError(f"no run published artifact {meant.artifact}, and no node said a word of it of late")
            return ArtifactEvents(meant.artifact, self._no_run(meant), told)
        for run in self._runs.open():
            if run.id == meant.run.run:
                run.recorder.flush()
        events = await asyncio.to_thread(archive.read_events, self._world.state, meant.run.run, meant.artifact)
        return ArtifactEvents(meant.artifact, meant.run, events)

    def _no_run(self, meant: Meant) -> RunFile:
        """What stands in for the run of a client's own product."""
        world = self._world
        return RunFile(
            run="", subnet=world.subnet, target=world.target, seed=world.seed(), created_at=time.time(),
            request=RunRequest([], client=meant.clients[0]), nodes=world.nodes(), version=world.version,
            state="finished", artifacts=[meant.artifact], names=[""],
        )  # fmt: skip

    async def locate(self, prefix: str, node: str | None) -> tuple[Meant, str, Got]:
        """The artifact, who serves it, and its first bytes: `node`, or a holder that is not the publisher if there is one.

        Raises SpecError, NotHeldError, NodeSilentError (of a node asked by name).
        """
        meant = await self.meant(prefix)
        nodes = self._world.nodes()
        if node is not None and node not in nodes:
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(nodes)}")
        publisher = await self._publisher(meant)
        order = (
            [node] if node is not None else [n for n in nodes if n != publisher] + [n for n in nodes if n == publisher]
        )
        for one in order:
            for client in meant.clients:
                try:
                    found = replace(meant, clients=(client,))
                    return found, one, await self.read(found, one, 0, 1)
                except NodeRefusedError as error:
                    if error.refusal.code not in NOT_HELD:
                        raise
                except NodeSilentError:
                    if node is not None:
                        raise
                    break
        where = f"{node} does not hold" if node is not None else "no node holds"
        raise NotHeldError(
            f"{where} {meant.artifact[:16]}: it never arrived, was withdrawn, expired, or its holders ended"
        )

    async def read(self, meant: Meant, node: str, offset: int, length: int) -> Got:
        """At most 1 MiB of it from one node. Raises NodeSilentError, NodeRefusedError."""
        [client] = meant.clients  # as `locate` found out
        request = GetRequest(bytes.fromhex(meant.artifact), offset, min(length, limits.GET_RANGE_BYTES), client)
        return await ask_for(self._gateway, node, ROUTE_GET, request, Got, timeout_s=15)

    async def withdraw(self, prefix: str) -> Withdrawal:
        """Take it back at every node."""
        meant = await self.meant(prefix)

        async def one(node: str) -> bool | None:
            held = False
            for client in meant.clients:
                request = WithdrawRequest(bytes.fromhex(meant.artifact), client)
                try:
                    held |= (await ask_for(self._gateway, node, ROUTE_WITHDRAW, request, Withdrawn)).held
                except NodeRefusedError:
                    continue
                except NodeSilentError:
                    return None
            return held

        nodes = self._world.nodes()
        answers = dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
        return Withdrawal(
            meant.artifact,
            [node for node, held in answers.items() if held],
            [node for node, held in answers.items() if held is None],
        )

    async def _publisher(self, meant: Meant) -> str:
        if meant.run is None:
            told = self._world.collector.of_artifact(meant.artifact)
            return next((event.node for event in told if event.kind is EventKind.PUBLISHED), "")
        publisher = meant.run.request.publisher
        if publisher not in ("random", "all"):
            return publisher
        live = {run.id: run for run in self._runs.all()}.get(meant.run.run)
        if live is not None:
            return live.publisher_of(meant.artifact)
        return ""  # of a former lab: its pools are gone as well
