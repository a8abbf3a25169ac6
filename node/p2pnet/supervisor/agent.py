"""The agent of a pod: answers the lab about the nodes' processes, and the kubelet, also when nodes are paused.

A fork of the supervisor with an event loop. It serves the routes of `model.agent` on a UDP port of its own, to a leaf whose
URI is exactly the subnet's lab and to nobody else, and the pod's health page. It uses the leaf of the pod's first node.
What it knows comes from the supervisor, table by table; what it is asked to do it passes on, see `agent_process`.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import uvloop

from p2pnet.model import limits
from p2pnet.model.agent import (
    LEASE_S_MAX,
    ROUTE_ACT,
    ROUTE_PROCESSES,
    WHY_CHARS_MAX,
    AgentReply,
    NodeProcess,
    ProcessAction,
    Processes,
    ProcessesRequest,
)
from p2pnet.model.control import ControlRefusal
from p2pnet.model.errors import P2pnetError
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.text import address_text
from p2pnet.node.identity import CHECK_S, IdentityFiles
from p2pnet.node.process import exit_code_of, log_to
from p2pnet.peering import clock
from p2pnet.quic import Connection, Endpoint, Message, Settings, Trust
from p2pnet.supervisor.lines import AgentRequest, ProcessTable, read_lines
from p2pnet.supervisor.pod_health import PodHealth

REQUEST_BYTES_MAX = 4 * limits.KIB
"""Longest request of the lab."""
CONNECTIONS_MAX = 16
"""There is one lab; one that was replaced leaves connections that stay until they are idle for long enough."""
WAITERS_MAX = 64
"""Long polls, and likewise actions not yet executed, at a time."""
WAIT_MS_MAX = 60_000
"""Longest duration of a long poll."""
REFUSALS_LOGGED_S = 1.0
"""At most one refused handshake is logged per so many seconds."""

log = logging.getLogger("p2pnet.agent")


class AgentConfig(msgspec.Struct, frozen=True):
    """Where an agent serves, with whose leaf, and for which nodes."""

    scope: tuple[str, str, str]
    """Trust domain, namespace, subnet."""
    node: str
    """The node whose leaf it uses."""
    identity_dir: Path
    identity_name: str
    host: str
    port: int
    """UDP port of its routes."""
    health_port: int
    """TCP port of the pod's health page."""
    health_ports: Mapping[str, int]
    """By node: the port of its own health page on the loopback address."""
    idle_s: float = limits.IDLE_S


class AgentRoutes:
    """The requests of the lab: answered from the latest process table, or passed on to the supervisor."""

    def __init__(self, requests_fd: int) -> None:
        self._requests_fd = requests_fd
        self._number = 0
        self._actions: dict[int, Message] = {}
        self._polls: dict[Message, asyncio.TimerHandle] = {}
        self._boot = os.urandom(4).hex()
        self._version = 0
        self.nodes: dict[str, NodeProcess] = {}

    @property
    def processes(self) -> Processes:
        """The processes as the supervisor told last: the answer to every request that is not refused."""
        return Processes(f"{self._boot}.{self._version}", list(self.nodes.values()))

    def still(self) -> dict[str, str]:
        """Why a node does not serve and is not to: it is paused, or kept dead, as ordered; by its name."""
        words = {"paused": "it is paused", "stopped": "it is kept dead"}
        return {name: words[node.state] for name, node in self.nodes.items() if node.state in words}

    def take(self, table: ProcessTable) -> None:
        """A new table: answer the long polls if something changed, and the requests that have been executed."""
        nodes = {node.name: node for node in table.nodes}
        if nodes != self.nodes:
            self.nodes = nodes
            self._version += 1
            for poll in list(self._polls):
                self._answer_poll(poll)
        for number in [number for number in self._actions if number <= table.done]:
            why = table.refused.get(number)
            _reply(self._actions.pop(number), self.processes if why is None else ControlRefusal("bad-request", why))

    def message(self, _connection: Connection, message: Message) -> None:
        """A request of the lab."""
        if message.header == ROUTE_ACT:
            self._execute(message)
        elif message.header == ROUTE_PROCESSES:
            self._poll(message)
        else:
            _reply(message, ControlRefusal("bad-request", f"no such route: {message.header[:80]!r}"))

    def _execute(self, message: Message) -> None:
        try:
            action = msgspec.msgpack.decode(message.payload, type=ProcessAction)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _reply(message, ControlRefusal("bad-request", f"not a ProcessAction: {error}"))
            return
        # Refused here, before the supervisor: what it is sent always names a node of the pod.
        if action.name not in self.nodes:
            _reply(message, ControlRefusal("bad-request", f"this pod has no node {action.name[:80]!r}"))
            return
        if not 0 <= action.lease_s <= LEASE_S_MAX or len(action.why) > WHY_CHARS_MAX:
            bounds = f"a lease of 0 to {LEASE_S_MAX:.0f} s and a reason of at most {WHY_CHARS_MAX} characters"
            _reply(message, ControlRefusal("bad-request", f"{action.action}: takes {bounds}"))
            return
        if len(self._actions) >= WAITERS_MAX:
            _reply(message, ControlRefusal("bad-request", f"{WAITERS_MAX} requests wait for the supervisor already"))
            return
        self._number += 1
        line = msgspec.json.encode(AgentRequest(self._number, action)) + b"\n"
        try:
            os.write(self._requests_fd, line)  # whole or not at all: far below what a pipe takes in one piece
        except OSError as error:
            _reply(message, ControlRefusal("bad-request", f"the supervisor does not read: {error.strerror}"))
            return
        log.info("the lab asks: %s %s", action.action, action.name)
        self._actions[self._number] = message

    def _poll(self, message: Message) -> None:
        try:
            request = msgspec.msgpack.decode(message.payload, type=ProcessesRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _reply(message, ControlRefusal("bad-request", f"not a ProcessesRequest: {error}"))
            return
        now = self.processes
        if request.after != now.version or request.wait_ms <= 0 or len(self._polls) >= WAITERS_MAX:
            _reply(message, now)
            return
        wait_s = min(request.wait_ms, WAIT_MS_MAX) / 1000
        self._polls[message] = asyncio.get_running_loop().call_later(wait_s, self._answer_poll, message)
        message.on_cancel = self._forget_poll

    def _answer_poll(self, message: Message) -> None:
        self._forget_poll(message)
        _reply(message, self.processes)

    def _forget_poll(self, message: Message) -> None:
        if (timer := self._polls.pop(message, None)) is not None:
            timer.cancel()


class TableReader:
    """Reads the supervisor's lines; when the supervisor is gone, the process exits."""

    def __init__(self, fd: int, routes: AgentRoutes) -> None:
        self._fd = fd
        self._routes = routes
        self._unread = bytearray()
        self._decoder = msgspec.json.Decoder(ProcessTable)
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            os._exit(0)
        self._unread += data
        for line in read_lines(self._unread):
            self._routes.take(self._decoder.decode(line))


async def serve(config: AgentConfig, tables_fd: int, requests_fd: int, door: socket.socket | None = None) -> None:
    """Serve until cancelled; `door`: where the health page listens already.

    Raises P2pnetError or OSError for an identity or an address not to be had.
    """
    os.set_blocking(requests_fd, False)
    routes = AgentRoutes(requests_fd)
    TableReader(tables_fd, routes)
    identity = IdentityFiles(
        config.identity_dir, member_uri(*config.scope, config.node), now=clock.utc_now(), name=config.identity_name
    )  # fmt: skip
    lab = lab_uri(*config.scope)
    endpoint = await Endpoint.bind(
        (config.host, config.port),
        trust=Trust.subnet(identity, lambda uri: None if uri == lab else "only the lab is admitted here", lab=lab),
        settings=Settings(
            idle_s=config.idle_s, message_bytes_max=REQUEST_BYTES_MAX, connections_max=CONNECTIONS_MAX,
            socket_buffer_bytes=256 * limits.KIB,
        ),
        on_message=routes.message,
        on_connection=lambda connection: log.info("the lab is connected, from %s", address_text(*connection.address[:2])),
        on_refused=_RefusalLog().note,
    )  # fmt: skip
    page = PodHealth(config.health_ports, routes.still)
    await page.start(config.host, config.health_port, door)
    # A Secret is replaced under a running pod: the agent takes the new leaf without a restart, as nodes do.
    while True:
        await asyncio.sleep(CHECK_S)
        problem = identity.problem
        identity.reload(clock.utc_now(), lambda _old, _new: endpoint.identity_changed())
        if identity.problem not in ("", problem):
            log.warning("keeping the present identity: %s", identity.problem)


class _RefusalLog:
    def __init__(self) -> None:
        self._logged_ns = 0

    def note(self, address: tuple[str, int], error: P2pnetError) -> None:
        now = clock.mono_ns()
        if now - self._logged_ns >= REFUSALS_LOGGED_S * clock.NS:
            self._logged_ns = now
            log.warning("refused %s: %s", address_text(*address), error)


def _reply(message: Message, reply: AgentReply) -> None:
    if message.wants_reply:
        message.reply(msgspec.msgpack.encode(reply))


def run(config: AgentConfig, tables_fd: int, requests_fd: int, door: socket.socket | None = None) -> None:
    """Be the agent until the supervisor is gone; exits with a node's codes when it cannot serve."""
    log_to(logging.StreamHandler(sys.stderr))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, tables_fd, requests_fd, door))
    except (P2pnetError, OSError) as error:
        os._exit(exit_code_of(error))
