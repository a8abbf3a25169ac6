"""Single artifacts of a live subnet: found by the beginning of their id, read from nodes, withdrawn from all."""

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
from p2pnet.model.ids import ARTIFACT_TEXT_SURE, DEFAULT_CLIENT
from p2pnet.model.jobs import ArtifactEvents, RunFile, RunRequest, Withdrawal
from p2pnet.store import archive

WHOLE_ID_CHARS = 64
NOT_HELD = frozenset({"unknown-artifact", "unknown-client", "not-yet"})  # refusals after which another node is asked


class NotHeldError(P2pnetError):
    """No node that was asked holds the artifact (exit 1)."""


@dataclass(frozen=True, slots=True)
class FoundArtifact:
    """An artifact by its whole id in hex."""

    artifact: str
    run: RunFile | None
    """The run that published it; None: no run of this state directory did."""
    clients: tuple[str, ...]
    """The client whose pool has it; all clients when neither a run nor an event tells which."""


class Artifacts:
    """Finds, reads and withdraws single artifacts."""

    def __init__(self, context: RunContext, runs: RunQueue) -> None:
        self._context = context
        self._runs = runs

    @property
    def _node_client(self) -> NodeClient:
        return self._context.node_client

    async def resolve(self, prefix: str) -> FoundArtifact:
        """The one artifact whose id begins with `prefix`. Raises SpecError when none or several do.

        Searched among what the lab's runs published, where that is not clear among all that are kept, then among the
        latest events, for artifacts that clients make themselves belong to no run. A whole id that is in none is taken as
        it is.
        """
        text = archive.check_prefix(prefix)
        files = [run.file for run in self._runs.all()]
        if len(text) < ARTIFACT_TEXT_SURE or not any(
            artifact.startswith(text) for file in files for artifact in file.artifacts
        ):
            known = {file.run for file in files}
            old = await asyncio.to_thread(archive.runs_with, self._context.state, self._context.name, text)
            files += [file for file in old if file.run not in known]
        if not any(artifact.startswith(text) for file in files for artifact in file.artifacts):
            clients = {event.artifact: event.client for event in self._context.collector.of_artifact(text)}
            if len(clients) == 1:
                [(artifact, client)] = clients.items()
                return FoundArtifact(artifact, None, (client,))
            if len(clients) > 1:
                raise SpecError(f"{text} is ambiguous: {len(clients)} artifacts begin with it; give more of the id")
            if len(text) == WHOLE_ID_CHARS:
                return FoundArtifact(text, None, tuple(self._context.clients))
        artifact, run = archive.match_artifact(files, text)
        return FoundArtifact(artifact, run, (run.request.client or DEFAULT_CLIENT,))

    async def events(self, prefix: str) -> ArtifactEvents:
        """The artifact's run and events. Raises SpecError."""
        found = await self.resolve(prefix)
        if found.run is None:
            events = self._context.collector.of_artifact(found.artifact)
            if not events:
                raise SpecError(f"no run published artifact {found.artifact}, and no node reported on it lately")
            return ArtifactEvents(found.artifact, self._placeholder_run(found), events)
        for run in self._runs.open():
            if run.id == found.run.run:
                run.recorder.flush()
        events = await asyncio.to_thread(archive.read_events, self._context.state, found.run.run, found.artifact)
        return ArtifactEvents(found.artifact, found.run, events)

    def _placeholder_run(self, found: FoundArtifact) -> RunFile:
        """In place of the run of an artifact that belongs to none: its id is empty."""
        context = self._context
        return RunFile(
            run="", subnet=context.name, target=context.target, seed=context.seed, created_at=time.time(),
            request=RunRequest([], client=found.clients[0]), nodes=context.nodes(), version=context.version,
            state="finished", artifacts=[found.artifact], names=[""],
        )  # fmt: skip

    async def locate(self, prefix: str, node: str | None) -> tuple[FoundArtifact, str, Got]:
        """The artifact, the node that serves it, and its first byte.

        The node is `node`, else a holder other than the publisher where there is one: only its bytes have travelled.
        Raises SpecError, NotHeldError, NodeSilentError (for a node asked by name).
        """
        found = await self.resolve(prefix)
        nodes = self._context.nodes()
        if node is not None and node not in nodes:
            raise SpecError(f"there is no node {node!r}; the members are {', '.join(nodes)}")
        publisher = await self._publisher(found)
        order = (
            [node] if node is not None else [n for n in nodes if n != publisher] + [n for n in nodes if n == publisher]
        )
        for one in order:
            for client in found.clients:
                try:
                    one_pool = replace(found, clients=(client,))
                    return one_pool, one, await self.read(one_pool, one, 0, 1)
                except NodeRefusedError as error:
                    if error.refusal.code not in NOT_HELD:
                        raise
                except NodeSilentError:
                    if node is not None:
                        raise
                    break
        where = f"{node} does not hold" if node is not None else "no node holds"
        raise NotHeldError(
            f"{where} {found.artifact[:16]}: it never arrived, was withdrawn, expired, or its holders ended"
        )

    async def read(self, found: FoundArtifact, node: str, offset: int, length: int) -> Got:
        """At most 1 MiB of it from one node; `found` as `locate` gave it. Raises NodeSilentError, NodeRefusedError."""
        [client] = found.clients
        request = GetRequest(bytes.fromhex(found.artifact), offset, min(length, limits.GET_RANGE_BYTES), client)
        return await ask_for(self._node_client, node, ROUTE_GET, request, Got, timeout_s=15)

    async def withdraw(self, prefix: str) -> Withdrawal:
        """Remove it from every node; which held it, and which could not be asked. Raises SpecError."""
        found = await self.resolve(prefix)

        async def one(node: str) -> bool | None:
            held = False
            for client in found.clients:
                request = WithdrawRequest(bytes.fromhex(found.artifact), client)
                try:
                    held |= (await ask_for(self._node_client, node, ROUTE_WITHDRAW, request, Withdrawn)).held
                except NodeRefusedError:
                    continue
                except NodeSilentError:
                    return None
            return held

        nodes = self._context.nodes()
        answers = dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
        return Withdrawal(
            found.artifact,
            [node for node, held in answers.items() if held],
            [node for node, held in answers.items() if held is None],
        )

    async def _publisher(self, found: FoundArtifact) -> str:
        if found.run is None:
            events = self._context.collector.of_artifact(found.artifact)
            return next((event.node for event in events if event.kind is EventKind.PUBLISHED), "")
        publisher = found.run.request.publisher
        if publisher not in ("random", "all"):
            return publisher
        live = {run.id: run for run in self._runs.all()}.get(found.run.run)
        if live is not None:
            return live.publisher_of(found.artifact)
        return ""  # published under a former lab: local pools are gone with it, so it does not matter
