"""The warden of a pod: answers for the nodes' processes when they cannot. A fork of the nursery, with a loop.

It serves the routes of `model.warden` on a UDP port of its own, to a leaf whose URI is exactly the subnet's lab and to
nobody else, and the pod's health page. It shows itself with the leaf of the pod's first node. What it knows comes from
the nursery, table by table; what it is asked to do it passes on, see `nursery_warden`.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from p2pnet.model import limits
from p2pnet.model.agent import (
    ROUTE_ACT,
    ROUTE_PROCESSES,
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
from p2pnet.node.identity import WATCH_S, IdentityWatch
from p2pnet.node.process import exit_code_of, log_to
from p2pnet.peering import clock
from p2pnet.quic import Connection, Endpoint, Message, Settings, Trust
from p2pnet.supervisor import pod_health
from p2pnet.supervisor.packs import read_lines
from p2pnet.supervisor.pod_supervisor import AgentRequest, ProcessTable

REQUEST_BYTES_MAX = 4 * limits.KIB
CONNECTIONS_MAX = 16
"""There is one lab; one that was replaced leaves connections that are silent for a while."""
WAITERS_MAX = 64
"""Long polls and unanswered acts at a time, each."""
WAIT_MS_MAX = 60_000
REFUSALS_LOGGED_S = 1.0
"""At most one refused handshake is logged in so many seconds."""

log = logging.getLogger("p2pnet.warden")


@dataclass(frozen=True, slots=True)
class Post:
    """What a warden is told: where it serves, as whom, for whom."""

    scope: tuple[str, str, str]
    """Trust domain, namespace, subnet."""
    node: str
    """Whose leaf it shows."""
    identity_dir: Path
    identity_name: str
    host: str
    port: int
    """UDP, of its routes."""
    health_port: int
    """TCP, of the pod's page."""
    pages: Mapping[str, int]
    """Node -> port of its own page on the loopback address."""
    idle_s: float = limits.IDLE_S


class Requests:
    """The table, who waits for another one, and what is asked of the nursery."""

    def __init__(self, asks_fd: int) -> None:
        self._asks_fd = asks_fd
        self._number = 0
        self._acts: dict[int, Message] = {}
        self._polls: dict[Message, asyncio.TimerHandle] = {}
        self._boot = os.urandom(4).hex()
        self._turn = 0
        self.nodes: dict[str, NodeProcess] = {}

    @property
    def processes(self) -> Processes:
        """The answer to everything."""
        return Processes(f"{self._boot}.{self._turn}", list(self.nodes.values()))

    def paused(self) -> set[str]:
        """The nodes that stand still."""
        return {name for name, node in self.nodes.items() if node.state == "paused"}

    def take(self, table: ProcessTable) -> None:
        """The nursery tells: whoever waits for that is answered."""
        nodes = {node.name: node for node in table.nodes}
        if nodes != self.nodes:
            self.nodes = nodes
            self._turn += 1
            for poll in list(self._polls):
                self._answer_poll(poll)
        for number in [number for number in self._acts if number <= table.done]:
            why = table.refused.get(number)
            _reply(self._acts.pop(number), self.processes if why is None else ControlRefusal("bad-request", why))

    def message(self, _connection: Connection, message: Message) -> None:
        """A request of the lab."""
        if message.header == ROUTE_ACT:
            self._act(message)
        elif message.header == ROUTE_PROCESSES:
            self._poll(message)
        else:
            _reply(message, ControlRefusal("bad-request", f"no such route: {message.header[:80]!r}"))

    def _act(self, message: Message) -> None:
        try:
            act = msgspec.msgpack.decode(message.payload, type=ProcessAction)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _reply(message, ControlRefusal("bad-request", f"not an Act: {error}"))
            return
        if act.name not in self.nodes:
            _reply(message, ControlRefusal("bad-request", f"this pod has no node {act.name[:80]!r}"))
            return
        if len(self._acts) >= WAITERS_MAX:
            _reply(message, ControlRefusal("bad-request", f"{WAITERS_MAX} requests wait for the nursery already"))
            return
        self._number += 1
        line = msgspec.json.encode(AgentRequest(self._number, act)) + b"\n"
        try:
            os.write(self._asks_fd, line)  # whole or not at all: far below what a pipe takes in one piece
        except OSError as error:
            _reply(message, ControlRefusal("bad-request", f"the nursery does not listen: {error.strerror}"))
            return
        log.info("the lab asks: %s %s", act.action, act.name)
        self._acts[self._number] = message

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


class Tables:
    """Reads the nursery's lines; without the nursery this process has no use."""

    def __init__(self, fd: int, requests: Requests) -> None:
        self._fd = fd
        self._requests = requests
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
            self._requests.take(self._decoder.decode(line))


async def serve(post: Post, tables_fd: int, asks_fd: int) -> None:
    """Serve until cancelled. Raises P2pnetError or OSError for an identity or an address not to be had."""
    os.set_blocking(asks_fd, False)
    requests = Requests(asks_fd)
    Tables(tables_fd, requests)
    identity = IdentityWatch(
        post.identity_dir, member_uri(*post.scope, post.node), now=clock.utc_now(), name=post.identity_name
    )  # fmt: skip
    lab = lab_uri(*post.scope)
    endpoint = await Endpoint.bind(
        (post.host, post.port),
        trust=Trust.subnet(identity, lambda uri: None if uri == lab else "only the lab is heard here", lab=lab),
        settings=Settings(
            idle_s=post.idle_s, message_bytes_max=REQUEST_BYTES_MAX, connections_max=CONNECTIONS_MAX,
            socket_buffer_bytes=256 * limits.KIB,
        ),
        on_message=requests.message,
        on_connection=lambda connection: log.info("the lab is here, from %s", address_text(*connection.address[:2])),
        on_refused=_Refused().note,
    )  # fmt: skip
    page = pod_health.PodHealth(post.pages, requests.paused)
    await page.start(post.host, post.health_port)
    while True:
        await asyncio.sleep(WATCH_S)
        problem = identity.problem
        identity.look(clock.utc_now(), lambda _old, _new: endpoint.identity_changed())
        if identity.problem not in ("", problem):
            log.warning("keeping the present identity: %s", identity.problem)


class _Refused:
    def __init__(self) -> None:
        self._told_ns = 0

    def note(self, address: tuple[str, int], error: P2pnetError) -> None:
        now = clock.mono_ns()
        if now - self._told_ns >= REFUSALS_LOGGED_S * clock.NS:
            self._told_ns = now
            log.warning("refused %s: %s", address_text(*address), error)


def _reply(message: Message, reply: AgentReply) -> None:
    if message.wants_reply:
        message.reply(msgspec.msgpack.encode(reply))


def run(post: Post, tables_fd: int, asks_fd: int) -> None:
    """Be the warden until the nursery is gone; SystemExit with a node's codes when that cannot be."""
    log_to(logging.StreamHandler(sys.stderr))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(post, tables_fd, asks_fd))
    except (P2pnetError, OSError) as error:
        os._exit(exit_code_of(error))
