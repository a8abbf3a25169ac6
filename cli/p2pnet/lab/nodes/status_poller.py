"""Keeps looking at the nodes: fast while they connect, slow at rest, at once when something says so."""

import asyncio
import logging
import time
from collections.abc import Callable

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.control import ROUTE_PEERS, PeersReply, PeersRequest
from p2pnet.model.events import Collected, EventKind, Gap

CONVERGING_S = 0.25
REST_S = 5.0
LOOKS_PER_S = 100.0  # of all nodes together
LOOK_S = 2.0
TELLING = frozenset({EventKind.PEER_UP, EventKind.PEER_DOWN, EventKind.MEMBERS, EventKind.IDENTITY})

log = logging.getLogger(__name__)


class StatusPoller:
    """The views of all nodes; a sink of events too, for some of them say that a view is out of date."""

    def __init__(self, gateway: NodeClient, nodes: Callable[[], list[str]], settled: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._nodes = nodes
        self._settled = settled
        self._kick = asyncio.Event()
        self._stale: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.views: dict[str, PeersReply] = {}
        """What each node said when last asked."""
        self.on_view: Callable[[str, PeersReply], None] = lambda _node, _peers: None
        self.on_silent: Callable[[str, float], None] = lambda _node, _asked: None
        """Called with a node that did not answer, and when it was asked, in Unix seconds."""

    def start(self) -> None:
        """Look from now on."""
        self._task = asyncio.create_task(self._look_on(), name="watch")

    async def close(self) -> None:
        """No more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stale(self, node: str, *, gone: bool = False) -> None:
        """Look at this node soon; with `gone`, what it said is no longer true."""
        if gone:
            self.views.pop(node, None)
        self._stale.add(node)
        self._kick.set()

    def take(self, events: list[Collected]) -> None:
        """See `Collector`."""
        for event in events:
            if event.kind in TELLING:
                self._stale.add(event.node)
        if self._stale:
            self._kick.set()

    def lost(self, gap: Gap) -> None:
        """See `Collector`."""
        self.stale(gap.node)

    async def look(self, nodes: list[str]) -> None:
        """Ask these nodes now."""
        await asyncio.gather(*(self._look(node) for node in nodes))
        for node in self.views.keys() - set(self._nodes()):
            del self.views[node]

    async def _look(self, node: str) -> None:
        asked = time.time()
        try:
            peers = await ask_for(self._gateway, node, ROUTE_PEERS, PeersRequest(), PeersReply, timeout_s=LOOK_S)
        except (NodeSilentError, NodeRefusedError):
            self.views.pop(node, None)
            self.on_silent(node, asked)
            return
        self.views[node] = peers
        self.on_view(node, peers)

    async def _look_on(self) -> None:
        while True:
            nodes = self._nodes()
            stale, self._stale = self._stale, set()
            self._kick.clear()
            await self.look([node for node in nodes if node in stale] if stale and self._settled() else nodes)
            pause_s = max(CONVERGING_S, len(nodes) / LOOKS_PER_S)
            if not self._settled():
                await asyncio.sleep(pause_s)
                continue
            try:
                await asyncio.wait_for(self._kick.wait(), max(REST_S, pause_s))
                await asyncio.sleep(0.05)  # events of this kind come in crowds
            except TimeoutError:
                pass
