"""Gives every node its network: when it differs from what the node has, again until it is taken, and in time before it lapses."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2pnet.lab.nodes.node_client import NodeClient, NodeRefusedError, NodeSilentError, ask_for
from p2pnet.model.backoff import next_wait
from p2pnet.model.control import ROUTE_NETWORK, NetworkPush, NetworkTaken
from p2pnet.model.log_lines import ABOUT_NODES
from p2pnet.model.network import NodeNetwork

ANSWER_S = 2.0  # a node that hangs is asked again
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0
LEASE_S = 30.0  # a node heals itself of leased faults when the lab has been silent for so long
RENEW_S = 10.0  # so two renewals may get lost
LATE_S = 5.0  # a node that has not taken its network for so long is told of
PUSHES_MAX = 32  # at a time: 500 nodes with 50 peers each are 500 messages of some KiB

about_nodes = logging.getLogger(ABOUT_NODES)


@dataclass(frozen=True, slots=True)
class NetworkOrder:
    """The network that a node is to have, and the one without leased faults; None: nothing of it is leased."""

    network: NodeNetwork
    healed: NodeNetwork | None = None


@dataclass(slots=True)
class _NodePush:
    order: NetworkOrder
    has: int | None = None
    """Version that the node is known to have in force; None: not known."""
    greeted: bool = True
    """Whether it has been pushed a network since it has its link, where nodes wait for that."""
    since_s: float = 0.0
    """Loop time since when it should have taken its order."""
    problem: str = ""
    """Why the last push was in vain."""
    told: bool = False
    """Whether the log says that it is late."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def lacks(self) -> bool:
        if not self.greeted:
            return True
        # A node of which nothing is known has no network, which is all right where none is to be.
        return (self.has or 0) != self.order.network.version


class Pusher:
    """Networks on their way to nodes. `expected(node)`: whether the node should answer at all. Needs a running loop.

    `awaited`: whether fresh nodes wait for a network, and are told that nothing is shaped too (`NodeConfig.await_network`).
    """

    def __init__(self, node_client: NodeClient, expected: Callable[[str], bool], *, awaited: bool = False) -> None:
        self._node_client = node_client
        self._expected = expected
        self._awaited = awaited
        self._nodes: dict[str, _NodePush] = {}
        self._slots = asyncio.Semaphore(PUSHES_MAX)
        self._renewing: asyncio.Task[None] | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called when a node has taken its network."""

    def start(self) -> None:
        """Renew leases from now on, in a task."""
        self._renewing = asyncio.create_task(self._renew_forever(), name="leases of networks")

    async def close(self) -> None:
        """Push no more."""
        tasks = [one.task for one in self._nodes.values() if one.task is not None]
        tasks += [self._renewing] if self._renewing is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- orders and what is known of nodes ---

    def order(self, orders: Mapping[str, NetworkOrder]) -> None:
        """The networks of all nodes from now on; those that have another version are told."""
        for node in self._nodes.keys() - orders.keys():
            task = self._nodes.pop(node).task
            if task is not None:
                task.cancel()
        for node, order in orders.items():
            known = self._nodes.get(node)
            if known is None:
                self._nodes[node] = _NodePush(order, since_s=self._now())
            elif known.order != order:
                fresh = known.order.network.version != order.network.version
                known.order = order
                if fresh:
                    known.since_s, known.told = self._now(), False
                    self._push(node)

    def linked(self, node: str) -> None:
        """The node has answered after a silence: what it has is not known. A fresh node has no network."""
        known = self._nodes.get(node)
        if known is not None:
            known.has, known.greeted, known.since_s, known.told = None, not self._awaited, self._now(), False
            self._push(node)

    def seen(self, node: str, version: int) -> None:
        """The node reports this version."""
        known = self._nodes.get(node)
        if known is not None and known.has != version:
            known.has = version
            if known.lacks:
                known.since_s = self._now()
            self.on_change()
        self._push(node)

    def lacking(self) -> list[str]:
        """Nodes that should answer and have not taken their network yet."""
        return [node for node, known in self._nodes.items() if self._is_lacking(node, known)]

    def problems(self) -> dict[str, str]:
        """Why nodes have not taken their network for LATE_S, a sentence by node."""
        return {
            node: f"has not taken its network for {self._now() - known.since_s:.0f} s"
            + (f": {known.problem}" if known.problem else "")
            for node, known in self._nodes.items()
            if self._is_lacking(node, known) and self._now() - known.since_s >= LATE_S
        }

    # --- pushing ---

    def _is_lacking(self, node: str, known: _NodePush) -> bool:
        return known.lacks and self._expected(node)

    def _push(self, node: str) -> None:
        known = self._nodes.get(node)
        if known is None or known.task is not None or not self._is_lacking(node, known):
            return
        known.task = asyncio.create_task(self._push_until_taken(node, known), name=f"network of {node}")

    async def _push_until_taken(self, node: str, known: _NodePush) -> None:
        wait_s = 0.0
        try:
            while self._is_lacking(node, known):
                if await self._ask(node, known):
                    wait_s = 0.0
                    continue
                self._tell_late(node, known)
                wait_s = next_wait(wait_s, RETRY_FIRST_S, RETRY_MAX_S)
                await asyncio.sleep(wait_s)
        finally:
            known.task = None

    async def _ask(self, node: str, known: _NodePush) -> bool:
        """Whether the node took its order of now."""
        order = known.order
        push = NetworkPush(order.network)
        if order.healed is not None:
            push = NetworkPush(order.network, LEASE_S, order.healed)
        try:
            async with self._slots:
                taken = await ask_for(self._node_client, node, ROUTE_NETWORK, push, NetworkTaken, timeout_s=ANSWER_S)
        except (NodeSilentError, NodeRefusedError) as error:
            if isinstance(error, NodeRefusedError) and not known.has and not order.network.version:
                known.greeted = True  # an older node, which knows of no networks: it has none, as it should
                return True
            known.problem = str(error).removeprefix(f"{node} ")
            return False
        known.has, known.greeted, known.problem = taken.version, True, ""
        if taken.version != order.network.version:
            known.problem = f"it keeps version {taken.version} instead of {order.network.version}"
            return False
        if known.told:
            about_nodes.info("%s: has taken its network", node)
            known.told = False
        self.on_change()
        return True

    def _tell_late(self, node: str, known: _NodePush) -> None:
        if not known.told and self._now() - known.since_s >= LATE_S:
            known.told = True
            about_nodes.warning("%s: has not taken its network for %.0f s: %s", node, LATE_S, known.problem)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            due = [
                (node, known)
                for node, known in self._nodes.items()
                if known.order.healed is not None and not known.lacks and self._expected(node)
            ]
            await asyncio.gather(*(self._ask(node, known) for node, known in due))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
