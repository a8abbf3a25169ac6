"""The lab's words with the agents of pods: the processes of nodes there, and what to do with them.

An agent is asked when something is to be done, when one of its nodes is silent, and for as long as one of its nodes
does not run; a subnet at rest costs no connection with any.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from p2pnet.lab.backends.backend import Action, Process
from p2pnet.model import limits
from p2pnet.model.agent import (
    ORDERED,
    ROUTE_ACT,
    ROUTE_PROCESSES,
    AgentReply,
    NodeProcess,
    ProcessAction,
    Processes,
    ProcessesRequest,
)
from p2pnet.model.control import ControlRefusal
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.quic import Connection, Endpoint, Settings, Trust
from p2pnet.quic.trust import IdentitySource

DIAL_S = 5.0
ANSWER_S = 5.0
WAIT_S = 20.0
"""Of a long poll while a node does not run."""
LINGER_S = 12.0
"""How long a connection is kept while all nodes run, after something was done: a node may take 10 s to stop."""
CONTENT_S = 5.0
"""How long the word that all nodes run is enough."""
DIALS_MAX = 16
"""At a time: the pods of a starting subnet are asked one after the other."""
TRIES = 5
"""In a row, half a second doubled between them; who is silent for longer is asked when there is a new reason."""
REPLY_BYTES_MAX = 64 * limits.KIB

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


@dataclass(frozen=True, slots=True)
class AgentPod:
    """Where an agent is, whose leaf it shows, and what it watches."""

    name: str
    address: tuple[str, int]
    uri: str
    nodes: tuple[str, ...]


@dataclass(slots=True)
class _AgentState:
    pod: AgentPod
    version: str = ""
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    silent: str = ""
    """Why it did not answer last."""
    acting: int = 0
    acted: bool = False
    """Whether something was done since it was watched last: what follows from that is still to come."""
    content_until_s: float = 0.0
    """Of the loop's clock: a node that is silent though its process runs is no reason to ask before then."""
    later: asyncio.TimerHandle | None = None
    """The look that was put off until then."""
    task: asyncio.Task[None] | None = None

    def steady(self) -> bool:
        return all(node.state == "running" for node in self.nodes.values())


class Agents:
    """`on_process(node)` is called when a node's process has changed."""

    def __init__(self, identity: IdentitySource, on_process: Callable[[str], None], *, host: str) -> None:
        self._identity = identity
        self._on_process = on_process
        self._host = host
        self._endpoint: Endpoint | None = None
        self._agents: dict[str, _AgentState] = {}
        self._pod_of: dict[str, str] = {}
        self._dials = asyncio.Semaphore(DIALS_MAX)
        self._decoder: msgspec.msgpack.Decoder[AgentReply] = msgspec.msgpack.Decoder(AgentReply)

    async def open(self) -> None:
        """Bind an endpoint that only dials."""
        self._endpoint = await Endpoint.bind(
            (self._host, 0),
            trust=Trust.subnet(self._identity, lambda _uri: None),  # each dial expects one name exactly
            settings=Settings(reply_bytes_max=REPLY_BYTES_MAX),
            listens=False,
        )

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = [agent.task for agent in self._agents.values() if agent.task is not None]
        self.follow({})
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._endpoint is not None:
            self._endpoint.close(0, "the lab stops")
            await self._endpoint.wait_closed()

    def follow(self, pods: Mapping[str, AgentPod]) -> None:
        """These are the pods; new ones are asked."""
        for name in [name for name, agent in self._agents.items() if pods.get(name) != agent.pod]:
            agent = self._agents.pop(name)
            if agent.later is not None:
                agent.later.cancel()
            if agent.task is not None:
                agent.task.cancel()
        self._pod_of = {node: pod.name for pod in pods.values() for node in pod.nodes}
        for name, pod in pods.items():
            if name not in self._agents:
                self._agents[name] = _AgentState(pod)
                self._look(self._agents[name])

    def identity_changed(self) -> None:
        """The lab has another leaf."""
        if self._endpoint is not None:
            self._endpoint.identity_changed()

    def process(self, node: str) -> Process:
        """The node's process as last told."""
        agent = self._agents.get(self._pod_of.get(node, ""))
        if agent is None or (told := agent.nodes.get(node)) is None:
            return Process(
                detail=f"its pod does not answer: {agent.silent}" if agent is not None and agent.silent else ""
            )
        return Process(told.state, None, told.restarts, told.detail, halted=told.state == "unknown")

    def doubt(self, node: str) -> None:
        """The node is silent: ask its agent how it is."""
        agent = self._agents.get(self._pod_of.get(node, ""))
        loop = asyncio.get_running_loop()
        if agent is None or agent.later is not None:
            return
        if loop.time() >= agent.content_until_s:
            self._look(agent)
        else:  # it may have ended and begun again since the last look, and be well when the next silence comes
            agent.later = loop.call_at(agent.content_until_s, self._look_again, agent)

    async def act(self, node: str, action: Action) -> None:
        """Done when this returns. Raises SpecError for what its agent refuses, TargetError for one that is silent."""
        agent = self._agents.get(self._pod_of.get(node, ""))
        if agent is None:
            raise TargetError(f"{node}: no pod of it is known yet")
        agent.acting += 1
        try:
            connection = await self._connect(agent)
            self._take(agent, await self._ask(connection, ROUTE_ACT, ProcessAction(node, action), ANSWER_S))
        except SpecError:
            raise
        except (P2pnetError, OSError, TimeoutError) as error:
            raise TargetError(f"{node}: its pod {agent.pod.name} does not answer: {_why(error)}") from error
        finally:
            agent.acting -= 1
            agent.acted = True
            self._look(agent)

    # --- one pod ---

    def _look_again(self, agent: _AgentState) -> None:
        agent.later = None
        self._look(agent)

    def _look(self, agent: _AgentState) -> None:
        if self._endpoint is not None and agent.task is None:
            agent.task = asyncio.create_task(self._mind(agent), name=f"agent of {agent.pod.name}")

    async def _mind(self, agent: _AgentState) -> None:
        """Ask until all its nodes run, or until it has been silent for too long."""
        try:
            for attempt in range(TRIES):
                try:
                    await self._watch(agent)
                except (P2pnetError, OSError, TimeoutError) as error:
                    self._lost(agent, _why(error))
                    await asyncio.sleep(0.5 * 2**attempt)
                else:
                    return
        finally:
            agent.task = None

    async def _watch(self, agent: _AgentState) -> None:
        async with self._dials:
            connection = await self._connect(agent)
        moved, wait_s = False, 0.0
        while True:
            before = agent.version
            request = ProcessesRequest(before, round(wait_s * 1000))
            self._take(agent, await self._ask(connection, ROUTE_PROCESSES, request, wait_s + ANSWER_S))
            steady, quiet = agent.steady(), wait_s > 0 and agent.version == before
            moved, agent.acted = moved or agent.acted or not steady, False
            if steady and not agent.acting and (quiet or not moved):
                connection.close(0, "all nodes run")
                agent.content_until_s = asyncio.get_running_loop().time() + CONTENT_S
                return
            wait_s = LINGER_S if steady else WAIT_S

    async def _connect(self, agent: _AgentState) -> Connection:
        if self._endpoint is None:
            raise TargetError("the lab has not started yet")
        return await self._endpoint.connect(agent.pod.address, expect=agent.pod.uri, timeout_s=DIAL_S)

    async def _ask(
        self, connection: Connection, route: bytes, request: msgspec.Struct, timeout_s: float
    ) -> Processes:  # fmt: skip
        try:
            message = await connection.request(route, msgspec.msgpack.encode(request), timeout_s=timeout_s)
        except (P2pnetError, TimeoutError):
            connection.close(0, "no answer in time")  # the next question goes to whoever is there by then
            raise
        try:
            reply = self._decoder.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TargetError(f"its answer is none: {error}") from error
        if isinstance(reply, ControlRefusal):
            raise SpecError(reply.message)
        return reply

    def _take(self, agent: _AgentState, told: Processes) -> None:
        old, agent.version, agent.silent = agent.nodes, told.version, ""
        new = {node.name: node for node in told.nodes if node.name in agent.pod.nodes}
        for name, node in new.items():
            if name in old:
                _log_change(old[name], node)
        started = [name for name, node in new.items() if name in old and _started_anew(old[name], node)]
        if started:  # between two looks: who is connected with the former process must hear of its end
            agent.nodes = old | {name: NodeProcess(name, "starting", new[name].restarts) for name in started}
            self._tell(started)
        agent.nodes = new
        self._tell([name for name, node in new.items() if name in started or old.get(name) != node])

    def _lost(self, agent: _AgentState, why: str) -> None:
        if agent.silent != why:
            log.info("the agent of %s does not answer: %s", agent.pod.name, why)
        known, agent.nodes, agent.version, agent.silent = list(agent.nodes), {}, "", why
        self._tell(known)

    def _tell(self, nodes: list[str]) -> None:
        for node in nodes:
            self._on_process(node)


def _log_change(old: NodeProcess, new: NodeProcess) -> None:
    """What happened to a node's process between two looks, as the supervisor of its pod tells it."""
    if (old.starts, old.ending) != (new.starts, new.ending) and new.ending:
        level = logging.INFO if ORDERED in new.ending else logging.WARNING
        again = f"; start {new.starts}" if new.starts != old.starts else ""
        about_nodes.log(level, "%s: its process %s%s", new.name, new.ending, again)
    elif old.state != new.state and new.state == "unknown":
        about_nodes.warning("%s: %s", new.name, new.detail)
    elif old.state != new.state and "paused" in (old.state, new.state):
        about_nodes.info("%s: %s", new.name, "paused" if new.state == "paused" else "resumed")
    elif old.state == "unknown" != new.state:
        about_nodes.info("%s: its process goes on", new.name)


def _started_anew(old: NodeProcess, new: NodeProcess) -> bool:
    return old.starts != new.starts and old.state == new.state == "running"


def _why(error: Exception) -> str:
    return str(error) or "no answer in time"
