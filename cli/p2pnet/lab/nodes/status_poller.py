"""How the nodes are: what each reported when last asked, and which do not answer."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.control import ROUTE_PEERS, PeersReply, PeersRequest
from p2pnet.model.events import Collected, EventKind, Gap
from p2pnet.model.log_lines import ABOUT_NODES

CONVERGING_S = 0.25  # between two rounds while nodes still connect
REST_S = 5.0  # between two rounds once all are connected and no event says otherwise
POLLS_PER_S = 100.0  # of all nodes together: more would load large subnets
ANSWER_S = 2.0  # shorter than the default: a node that hangs must not delay the view of the others
CROWD_S = 0.05  # after an event that makes views stale: such events come in crowds
SILENT_S = 5.0  # a node that has not answered for so long counts as silent; a shorter pause is a busy machine
STALE_AFTER = frozenset({EventKind.PEER_UP, EventKind.PEER_DOWN, EventKind.MEMBERS, EventKind.IDENTITY})
"""Events after which a node's view is out of date."""

about_nodes = logging.getLogger(ABOUT_NODES)


class StatusPoller:
    """Polls all nodes for their state: often while they connect, seldom at rest, at once when a view is out of date.

    Also a sink of events (see `collector.Sink`), for some of them make a view out of date. `settled()` says whether the
    subnet is as it should be.
    """

    def __init__(self, node_client: NodeClient, nodes: Callable[[], list[str]], settled: Callable[[], bool]) -> None:
        self._node_client = node_client
        self._nodes = nodes
        self._settled = settled
        self._wakeup = asyncio.Event()
        self._stale: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.views: dict[str, PeersReply] = {}
        """What each node reported when last asked; nodes that did not answer are left out."""
        self.on_view: Callable[[str, PeersReply], None] = lambda _node, _peers: None
        self.on_unanswered: Callable[[str, float], None] = lambda _node, _asked: None
        """Called with a node that did not answer, and when it was asked, in Unix seconds."""

    def start(self) -> None:
        """Poll from now on, in a task."""
        self._task = asyncio.create_task(self._poll_forever(), name="status poller")

    async def close(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stale(self, node: str, *, gone: bool = False) -> None:
        """Poll this node soon; with `gone`, what it reported is no longer true."""
        if gone:
            self.views.pop(node, None)
        self._stale.add(node)
        self._wakeup.set()

    def take(self, events: list[Collected]) -> None:
        """See `Sink`."""
        for event in events:
            if event.kind in STALE_AFTER:
                self._stale.add(event.node)
        if self._stale:
            self._wakeup.set()

    def lost(self, gap: Gap) -> None:
        """See `Sink`: a lost event may have been one that makes the view out of date."""
        self.stale(gap.node)

    async def poll(self, nodes: list[str]) -> None:
        """Ask these nodes now, and forget those that are members no more."""
        await asyncio.gather(*(self._poll(node) for node in nodes))
        for node in self.views.keys() - set(self._nodes()):
            del self.views[node]

    async def _poll(self, node: str) -> None:
        asked = time.time()
        try:
            peers = await ask_for(self._node_client, node, ROUTE_PEERS, PeersRequest(), PeersReply, timeout_s=ANSWER_S)
        except (NodeSilentError, NodeRefusedError):
            self.views.pop(node, None)
            self.on_unanswered(node, asked)
            return
        self.views[node] = peers
        self.on_view(node, peers)

    async def _poll_forever(self) -> None:
        while True:
            nodes = self._nodes()
            stale, self._stale = self._stale, set()
            self._wakeup.clear()
            await self.poll([node for node in nodes if node in stale] if stale and self._settled() else nodes)
            pause_s = max(CONVERGING_S, len(nodes) / POLLS_PER_S)
            if not self._settled():
                await asyncio.sleep(pause_s)
                continue
            try:
                await asyncio.wait_for(self._wakeup.wait(), max(REST_S, pause_s))
                await asyncio.sleep(CROWD_S)
            except TimeoutError:
                pass


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """A node that does not answer."""

    since: float
    """Unix seconds: when it was first asked without an answer since."""
    reason: str = ""
    """Why the lab could not ask it; empty: it was asked."""


@dataclass(slots=True)
class _NodeLiveness:
    """When the lab heard of one node. Unix seconds."""

    heard: float | None = None
    """When it answered last; None: it never has."""
    unanswered: float | None = None
    """When it was first asked without an answer since; None: it answers."""
    logged: bool = False
    """Whether the log says already that it does not answer."""


class Liveness:
    """Which nodes answer: when each was heard last, and since when others do not answer. Logs both changes.

    `reason(node)` says why a node could not be asked, `process(node)` how its process is, `expected(node)` whether it
    should answer at all: a paused or starting node should not. `now` gives Unix seconds.
    """

    def __init__(
        self,
        reason: Callable[[str], str] = lambda _node: "",
        process: Callable[[str], str] = lambda _node: "",
        expected: Callable[[str], bool] = lambda _node: True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reason = reason
        self._process = process
        self._expected = expected
        self._now = now
        self._nodes: dict[str, _NodeLiveness] = {}

    def heard(self, node: str) -> None:
        """The node answered."""
        known = self._nodes.setdefault(node, _NodeLiveness())
        now = self._now()
        if known.logged:
            about_nodes.info("%s: answers again after %.1f s of silence", node, now - (known.unanswered or now))
        known.heard, known.unanswered, known.logged = now, None, False

    def unanswered(self, node: str, asked: float) -> None:
        """The node was asked then (Unix seconds) and did not answer."""
        known = self._nodes.setdefault(node, _NodeLiveness())
        if known.unanswered is None:
            known.unanswered = asked
        found = self.unresponsive(node)
        if found is not None and not known.logged and self._expected(node):
            known.logged = True
            seconds = f"silent for {self._now() - found.since:.0f} s"
            about_nodes.warning("%s: %s", node, "; ".join(filter(None, (seconds, self._process(node), found.reason))))

    def changed(self, node: str, *, gone: bool) -> None:
        """The node's process ended or starts (`gone`), or serves now: its silence so far is explained, and forgotten.

        A silence that was logged stays until the node answers or its process ends.
        """
        known = self._nodes.get(node)
        if known is not None and (gone or not known.logged):
            known.unanswered, known.logged = None, False

    def keep(self, nodes: set[str]) -> None:
        """Forget all other nodes."""
        for node in self._nodes.keys() - nodes:
            del self._nodes[node]

    def last_heard(self, node: str) -> float | None:
        """When the node answered last, in Unix seconds; None: never."""
        known = self._nodes.get(node)
        return known.heard if known else None

    def unresponsive(self, node: str) -> Unresponsive | None:
        """Since when and why the node does not answer; None: it answers, or has not answered for less than SILENT_S."""
        known = self._nodes.get(node)
        if known is None or known.unanswered is None or self._now() - known.unanswered < SILENT_S:
            return None
        return Unresponsive(known.unanswered, self._reason(node))
