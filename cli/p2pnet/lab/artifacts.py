"""Single artifacts of a live subnet: which one is meant, its bytes at some node, taking it back."""

import asyncio
from dataclasses import dataclass

from p2pnet.desk import archive
from p2pnet.lab.gateway import Gateway, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.lab.runner import World
from p2pnet.lab.runs import RunDesk
from p2pnet.model import limits
from p2pnet.model.control import ROUTE_GET, ROUTE_WITHDRAW, GetRequest, Got, Withdrawn, WithdrawRequest
from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.model.jobs import ArtifactEvents, RunFile, Withdrawal

WHOLE_ID_CHARS = 64
NOT_HELD = frozenset({"unknown-artifact", "not-yet"})


class NotHeldError(P2pnetError):
    """No node asked holds these bytes: exit 1."""


@dataclass(frozen=True, slots=True)
class Meant:
    """The artifact that a prefix means; `run` is None for one that no run of this state directory published."""

    artifact: str
    run: RunFile | None

    @property
    def client(self) -> str:
        """Whose pool it is in."""
        return self.run.request.client if self.run else "blob"


class Artifacts:
    """Finds and moves single artifacts."""

    def __init__(self, world: World, runs: RunDesk) -> None:
        self._world = world
        self._runs = runs

    @property
    def _gateway(self) -> Gateway:
        return self._world.gateway

    async def meant(self, prefix: str) -> Meant:
        """Raises SpecError when nothing, or more than one artifact, begins so. A whole id is taken at its word."""
        text = archive.check_prefix(prefix)
        files = [run.file for run in self._runs.all()]
        if not any(artifact.startswith(text) for file in files for artifact in file.artifacts):
            known = {file.run for file in files}
            old = await asyncio.to_thread(archive.list_runs, self._world.state, self._world.subnet)
            files += [file for file in old if file.run not in known]
        try:
            return Meant(*archive.match_artifact(files, text))
        except SpecError:
            if len(text) == WHOLE_ID_CHARS:
                return Meant(text, None)
            raise

    async def events(self, prefix: str) -> ArtifactEvents:
        """The artifact's run and events. Raises SpecError."""
        meant = await self.meant(prefix)
        if meant.run is None:
            raise SpecError(f"no run published artifact {meant.artifact}")
        for run in self._runs.open():
            if run.id == meant.run.run:
                run.recorder.flush()
        events = await asyncio.to_thread(archive.read_events, self._world.state, meant.run.run, meant.artifact)
        return ArtifactEvents(meant.artifact, meant.run, events)

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
            try:
                return meant, one, await self.read(meant, one, 0, 1)
            except NodeRefusedError as error:
                if error.refusal.code not in NOT_HELD:
                    raise
            except NodeSilentError:
                if node is not None:
                    raise
        where = f"{node} does not hold" if node is not None else "no node holds"
        raise NotHeldError(
            f"{where} {meant.artifact[:16]}: it never arrived, was withdrawn, expired, or its holders ended"
        )

    async def read(self, meant: Meant, node: str, offset: int, length: int) -> Got:
        """At most 1 MiB of it from one node. Raises NodeSilentError, NodeRefusedError."""
        request = GetRequest(bytes.fromhex(meant.artifact), offset, min(length, limits.GET_RANGE_BYTES), meant.client)
        return await ask_for(self._gateway, node, ROUTE_GET, request, Got, timeout_s=15)

    async def withdraw(self, prefix: str) -> Withdrawal:
        """Take it back at every node."""
        meant = await self.meant(prefix)
        request = WithdrawRequest(bytes.fromhex(meant.artifact), meant.client)

        async def one(node: str) -> bool | None:
            try:
                return (await ask_for(self._gateway, node, ROUTE_WITHDRAW, request, Withdrawn)).held
            except NodeRefusedError:
                return False
            except NodeSilentError:
                return None

        nodes = self._world.nodes()
        answers = dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
        return Withdrawal(
            meant.artifact,
            [node for node, held in answers.items() if held],
            [node for node, held in answers.items() if held is None],
        )

    async def _publisher(self, meant: Meant) -> str:
        if meant.run is None:
            return ""
        publisher = meant.run.request.publisher
        if publisher not in ("random", "all"):
            return publisher
        live = {run.id: run for run in self._runs.all()}.get(meant.run.run)
        if live is not None:
            return live.publisher_of(meant.artifact)
        return ""  # of a former lab: its pools are gone as well
