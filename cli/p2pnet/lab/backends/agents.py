"""The lab's client of the agents of pods: the state of node processes there, and actions on them.

An agent is asked when an action is due, when one of its nodes does not answer, and for as long as one of its nodes does
not run; a subnet at rest costs no connection with any agent.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from p2pnet.lab.backends.backend import Process
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
from p2pnet.model.backoff import next_wait
from p2pnet.model.control import ControlRefusal
from p2pnet.model.errors import P2pnetError, SpecError, TargetError
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.quic import Connection, Endpoint, Settings, Trust
from p2pnet.quic.trust import IdentitySource

DIAL_S = 5.0  # a pod that is there answers within milliseconds; a lost one must not hold a dial slot for long
ANSWER_S = 5.0
WAIT_S = 20.0  # a long poll while a node does not run
LINGER_S = 12.0  # a long poll while all run, after an action or a change: a node may take 10 s to stop
FRESH_S = 5.0  # how long the answer that all nodes run is good enough not to ask again
DIALS_MAX = 16  # at a time: the pods of a starting subnet are asked one after the other
TRIES = 5  # in a row; an agent that stays silent is asked again when there is a new reason
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 8.0
REPLY_BYTES_MAX = 64 * limits.KIB  # a pod of some hundred nodes at 200 bytes each

log = logging.getLogger(__name__)
about_nodes = logging.getLogger(ABOUT_NODES)


@dataclass(frozen=True, slots=True)
class AgentPod:
    """A pod as its agent is reached."""

    name: str
    address: tuple[str, int]
    """Host and UDP port of the agent."""
    uri: str
    """The identity that the agent must show."""
    nodes: tuple[str, ...]
    """Nodes whose processes the agent knows."""


@dataclass(slots=True)
class _AgentState:
    pod: AgentPod
    version: str = ""
    """Version of the answer that `nodes` are from; empty: none."""
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    silent: str = ""
    """Why it did not answer last; empty: it answered."""
    executing: int = 0
    """Actions under way."""
    executed: bool = False
    """Whether an action ended since the last answer: its effects on processes are still to come."""
    fresh_until_s: float = 0.0
    """Loop time: a node that does not answer though its process runs is no reason to ask again before then."""
    later: asyncio.TimerHandle | None = None
    """A question put off until then."""
    task: asyncio.Task[None] | None = None

    def all_run(self) -> bool:
        return all(node.state == "running" for node in self.nodes.values())


class Agents:
    """The processes of all pods as their agents report them; `on_process(node)` is called when one has changed."""

    def __init__(self, identity: IdentitySource, on_process: Callable[[str], None], *, host: str) -> None:
        self._identity = identity
        self._on_process = on_process
        self._host = host
        self._endpoint: Endpoint | None = None
        self._agents: dict[str, _AgentState] = {}
        self._pod_of: dict[str, str] = {}
        self._dial_slots = asyncio.Semaphore(DIALS_MAX)
        self._decoder: msgspec.msgpack.Decoder[AgentReply] = msgspec.msgpack.Decoder(AgentReply)

    async def open(self) -> None:
        """Bind an endpoint that only dials. Raises OSError."""
        self._endpoint = await Endpoint.bind(
            (self._host, 0),
            trust=Trust.subnet(self._identity, lambda _uri: None),  # each dial expects one name exactly
            settings=Settings(reply_bytes_max=REPLY_BYTES_MAX),
            listens=False,
        )

    async def close(self) -> None:
        """End all questions and connections."""
        tasks = [agent.task for agent in self._agents.values() if agent.task is not None]
        self.follow({})
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._endpoint is not None:
            self._endpoint.close(0, "the lab stops")
            await self._endpoint.wait_closed()

    def follow(self, pods: Mapping[str, AgentPod]) -> None:
        """Know these pods, by name, and no others; new ones are asked at once."""
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
        """Use the lab's new leaf for new connections."""
        if self._endpoint is not None:
            self._endpoint.identity_changed()

    def process(self, node: str) -> Process:
        """The node's process as last reported; `unknown`, with the reason, while its agent does not answer."""
        agent = self._agents.get(self._pod_of.get(node, ""))
        if agent is None or (known := agent.nodes.get(node)) is None:
            return Process(
                detail=f"its pod does not answer: {agent.silent}" if agent is not None and agent.silent else ""
            )
        return Process(known.state, None, known.restarts, known.detail, halted=known.state == "unknown")

    def check_process(self, node: str) -> None:
        """Ask the agent of a node that does not answer, now or when its last answer is no longer fresh."""
        agent = self._agents.get(self._pod_of.get(node, ""))
        loop = asyncio.get_running_loop()
        if agent is None or agent.later is not None:
            return
        if loop.time() >= agent.fresh_until_s:
            self._look(agent)
        else:  # not dropped: the process may have ended and started again unseen since the last answer
            agent.later = loop.call_at(agent.fresh_until_s, self._look_again, agent)

    async def execute(self, order: ProcessAction) -> None:
        """Execute an action; it is done when this returns. Raises SpecError when refused, TargetError without answer."""
        node = order.name
        agent = self._agents.get(self._pod_of.get(node, ""))
        if agent is None:
            raise TargetError(f"{node}: no pod of it is known yet")
        agent.executing += 1
        try:
            connection = await self._connect(agent)
            self._take(agent, await self._ask(connection, ROUTE_ACT, order, ANSWER_S))
        except SpecError:
            raise
        except (P2pnetError, OSError, TimeoutError) as error:
            raise TargetError(f"{node}: its pod {agent.pod.name} does not answer: {_why(error)}") from error
        finally:
            agent.executing -= 1
            agent.executed = True
            self._look(agent)

    # --- one pod ---

    def _look_again(self, agent: _AgentState) -> None:
        agent.later = None
        self._look(agent)

    def _look(self, agent: _AgentState) -> None:
        if self._endpoint is not None and agent.task is None:
            agent.task = asyncio.create_task(self._poll_retrying(agent), name=f"agent of {agent.pod.name}")

    async def _poll_retrying(self, agent: _AgentState) -> None:
        """Ask until all its nodes run, or until it has not answered for TRIES times in a row."""
        wait_s = 0.0
        try:
            for _ in range(TRIES):
                try:
                    await self._poll(agent)
                except (P2pnetError, OSError, TimeoutError) as error:
                    self._lost(agent, _why(error))
                    wait_s = next_wait(wait_s, RETRY_FIRST_S, RETRY_MAX_S)
                    await asyncio.sleep(wait_s)
                else:
                    return
        finally:
            agent.task = None

    async def _poll(self, agent: _AgentState) -> None:
        """Long polls over one connection, until all nodes run and nothing is about to change."""
        async with self._dial_slots:
            connection = await self._connect(agent)
        moved, wait_s = False, 0.0
        while True:
            before = agent.version
            request = ProcessesRequest(before, round(wait_s * 1000))
            self._take(agent, await self._ask(connection, ROUTE_PROCESSES, request, wait_s + ANSWER_S))
            all_run, unchanged = agent.all_run(), wait_s > 0 and agent.version == before
            moved, agent.executed = moved or agent.executed or not all_run, False
            if all_run and not agent.executing and (unchanged or not moved):
                connection.close(0, "all nodes run")
                agent.fresh_until_s = asyncio.get_running_loop().time() + FRESH_S
                return
            wait_s = LINGER_S if all_run else WAIT_S

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
            connection.close(0, "no answer in time")  # a new connection reaches the agent that has replaced this one
            raise
        try:
            reply = self._decoder.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TargetError(f"its answer is none: {error}") from error
        if isinstance(reply, ControlRefusal):
            raise SpecError(reply.message)
        return reply

    def _take(self, agent: _AgentState, answer: Processes) -> None:
        """Put an answer in place of the last one, and report what has changed."""
        old, agent.version, agent.silent = agent.nodes, answer.version, ""
        new = {node.name: node for node in answer.nodes if node.name in agent.pod.nodes}
        for name, node in new.items():
            if name in old:
                _log_change(old[name], node)
        started = [name for name, node in new.items() if name in old and _started_anew(old[name], node)]
        if started:  # between two answers: links with the former process must be dropped, so report its end first
            agent.nodes = old | {name: NodeProcess(name, "starting", new[name].restarts) for name in started}
            self._notify(started)
        agent.nodes = new
        self._notify([name for name, node in new.items() if name in started or old.get(name) != node])

    def _lost(self, agent: _AgentState, why: str) -> None:
        if agent.silent != why:
            log.info("the agent of %s does not answer: %s", agent.pod.name, why)
        known, agent.nodes, agent.version, agent.silent = list(agent.nodes), {}, "", why
        self._notify(known)

    def _notify(self, nodes: list[str]) -> None:
        for node in nodes:
            self._on_process(node)


def _log_change(old: NodeProcess, new: NodeProcess) -> None:
    """Log what happened to a node's process between two answers."""
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
