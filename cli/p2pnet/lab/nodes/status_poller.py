"""How the nodes are: what each said when last asked, and which do not answer."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.control import ROUTE_PEERS, PeersReply, PeersRequest
from p2pnet.model.events import Collected, EventKind, Gap
from p2pnet.model.log_lines import ABOUT_NODES

CONVERGING_S = 0.25
REST_S = 5.0
LOOKS_PER_S = 100.0  # of all nodes together
LOOK_S = 2.0
TELLING = frozenset({EventKind.PEER_UP, EventKind.PEER_DOWN, EventKind.MEMBERS, EventKind.IDENTITY})


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


SILENT_S = 5.0
"""A node that has not answered for so long counts as silent; a shorter pause is a busy machine."""

about_nodes = logging.getLogger(ABOUT_NODES)


@dataclass(slots=True)
class NodeContact:
    """What the lab has heard of one node. Unix seconds."""

    heard: float | None = None
    """When it answered last; None: it never has."""
    unanswered: float | None = None
    """When it was asked first without an answer since."""
    told: bool = False
    """Whether the silence has been logged."""


@dataclass(frozen=True, slots=True)
class Silence:
    """For the status: of a node that does not answer."""

    since: float
    """Unix seconds: when it was asked first without an answer since."""
    reason: str = ""
    """Why the lab could not ask it."""


class NodeContacts:
    """Fed by those who ask nodes.

    `reason(node)` says why one could not be asked, `process(node)` how its process is, `counts(node)` whether an answer is
    to be expected of it at all: not of one that is paused or starting. `now` gives Unix seconds.
    """

    def __init__(
        self,
        reason: Callable[[str], str] = lambda _node: "",
        process: Callable[[str], str] = lambda _node: "",
        counts: Callable[[str], bool] = lambda _node: True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reason = reason
        self._process = process
        self._counts = counts
        self._now = now
        self._contacts: dict[str, NodeContact] = {}

    def heard(self, node: str) -> None:
        """It answered."""
        contact = self._contacts.setdefault(node, NodeContact())
        now = self._now()
        if contact.told:
            about_nodes.info("%s: answers again after %.1f s of silence", node, now - (contact.unanswered or now))
        contact.heard, contact.unanswered, contact.told = now, None, False

    def silent(self, node: str, asked: float) -> None:
        """It was asked then and did not answer."""
        contact = self._contacts.setdefault(node, NodeContact())
        if contact.unanswered is None:
            contact.unanswered = asked
        silence = self.silence(node)
        if silence is not None and not contact.told and self._counts(node):
            contact.told = True
            seconds = f"silent for {self._now() - silence.since:.0f} s"
            about_nodes.warning("%s: %s", node, "; ".join(filter(None, (seconds, self._process(node), silence.reason))))

    def changed(self, node: str, *, gone: bool) -> None:
        """Its process ended or starts (`gone`), which is no silence but known and told elsewhere; or it serves."""
        contact = self._contacts.get(node)
        if contact is not None and (gone or not contact.told):
            contact.unanswered, contact.told = None, False

    def keep(self, nodes: set[str]) -> None:
        """Forget everybody else."""
        for node in self._contacts.keys() - nodes:
            del self._contacts[node]

    def last_heard(self, node: str) -> float | None:
        """Unix seconds; None: never."""
        contact = self._contacts.get(node)
        return contact.heard if contact else None

    def silence(self, node: str) -> Silence | None:
        """Of a node that has not answered for SILENT_S; None for others."""
        contact = self._contacts.get(node)
        if contact is None or contact.unanswered is None or self._now() - contact.unanswered < SILENT_S:
            return None
        return Silence(contact.unanswered, self._reason(node))
