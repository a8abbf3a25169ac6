"""A small world in virtual time: several Broadcasts, wired by links with a delay that can drop, break and lie."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count, pairwise
from random import Random
from typing import Any

import pytest
from tests.broadcast.kit import EPOCH, MS, SECOND

from p2pnet.broadcast import BlobClient, Broadcast, effects, inputs
from p2pnet.broadcast.client import Client
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId

ANSWERED: dict[type, type] = {
    inputs.UpdatesReceived: inputs.UpdatesAnswered,
    inputs.FetchReceived: inputs.FetchAnswered,
    inputs.DigestReceived: inputs.DigestAnswered,
    inputs.StripesReceived: inputs.StripesAnswered,
}


@dataclass
class Node:
    """One Broadcast with its driver."""

    net: "Net"
    name: str
    core: Broadcast
    events: list[effects.Emit] = field(default_factory=list)
    log: list[effects.Effect] = field(default_factory=list)
    connections: dict[str, int] = field(default_factory=dict)
    published: list[ArtifactId] = field(default_factory=list)
    refused: list[effects.PublishRefused] = field(default_factory=list)
    synced_from: list[str] = field(default_factory=list)
    wake_at: int | None = None
    cancelled: set[int] = field(default_factory=set)

    def give(self, what: inputs.Input) -> list[effects.Effect]:
        """One input now; its effects are obeyed."""
        done = self.core.handle(what, self.net.now, self.net.wall)
        for effect in done:
            self.net.obey(self, effect)
        self.arm()
        return done

    def arm(self) -> None:
        at = self.core.next_wakeup()
        if at is not None and (self.wake_at is None or at < self.wake_at):
            self.wake_at = max(at, self.net.now)
            self.net.at(self.wake_at, partial(self.wake, self.wake_at))

    def wake(self, at: int) -> None:
        if self.wake_at == at:
            self.wake_at = None
            if self.net.nodes.get(self.name) is self:
                self.give(inputs.Wake())

    def publish(self, data: bytes, name: str = "file", keep_s: float = 600.0) -> ArtifactId:
        """Inject a blob; its id."""
        nonce = self.net.chance.randbytes(16)
        made = self.core.client.make(name, data, nonce=nonce, now=self.net.wall, keep_s=keep_s)
        self.give(inputs.Publish(made, len(data)))
        return self.published[-1]

    def withdraw(self, artifact: ArtifactId) -> None:
        self.give(inputs.Withdraw(artifact))

    def holds(self, artifact: ArtifactId) -> bool:
        return self.core.pool.get(artifact) is not None

    def seen(self, kind: EventKind, artifact: ArtifactId | None = None) -> list[effects.Emit]:
        return [e for e in self.events if e.kind is kind and (artifact is None or e.artifact == artifact)]

    def sent(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.log if isinstance(e, kind)]


class Net:
    """Nodes, links and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0
        self.chance = Random(seed)
        self.nodes: dict[str, Node] = {}
        self.delay = 10 * MS
        self.delays: dict[tuple[str, str], int] = {}
        self.drop = 0.0
        self.lose_after = SECOND
        self.tamper: dict[str, Callable[[inputs.FetchReceived, bytes], bytes]] = {}
        self.deaf: set[str] = set()
        self.requests: Counter[tuple[str, str]] = Counter()
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = count()
        self._connection = count(1)
        self._replies: dict[tuple[str, int], tuple[Node, int, int, type]] = {}
        self._tokens = count(1)

    @property
    def wall(self) -> float:
        return EPOCH + self.now / SECOND

    def node(self, name: str, *, client: Client | None = None, seed: int = 0, **settings: Any) -> Node:
        bytes_max = settings.pop("unvalidated_bytes_per_peer", None)
        more = {} if bytes_max is None else {"unvalidated_bytes_per_peer": bytes_max}
        core = Broadcast(client or BlobClient(), name, BroadcastSettings(**settings), Random(f"{name}{seed}"), **more)
        node = self.nodes[name] = Node(self, name, core)
        node.arm()
        return node

    def mesh(self, size: int, **settings: Any) -> list[Node]:
        """So many nodes, all linked."""
        nodes = [self.node(f"n{i}", **settings) for i in range(size)]
        for i, a in enumerate(nodes):
            for b in nodes[:i]:
                self.link(a, b)
        return nodes

    def chain(self, size: int, **settings: Any) -> list[Node]:
        """So many nodes in a row, each linked to the next; every digest and `synced` is said."""
        nodes = [self.node(f"n{i}", **{"full_mesh": False, **settings}) for i in range(size)]
        for a, b in pairwise(nodes):
            self.link(a, b)
        self.run(2)
        return nodes

    def tell_members(self) -> None:
        """The registry says that all nodes there are now are members."""
        members = frozenset(self.nodes)
        for node in self.nodes.values():
            node.give(inputs.MembersChanged(members))

    def link(self, a: Node, b: Node) -> None:
        for x, y in ((a, b), (b, a)):
            x.connections[y.name] = next(self._connection)
            x.give(inputs.PeerUp(y.name, x.connections[y.name]))

    def cut(self, a: Node, b: Node) -> None:
        for x, y in ((a, b), (b, a)):
            connection = x.connections.pop(y.name, None)
            if connection is not None:
                x.give(inputs.PeerDown(y.name, connection))

    def crash(self, node: Node) -> None:
        for other in list(node.connections):
            self.cut(node, self.nodes[other])
        del self.nodes[node.name]

    def say(self, liar: Node, to: Node, *entries: bytes) -> None:
        """An update request that no core has made; nobody looks at the answer."""
        to.give(inputs.UpdatesReceived(liar.name, to.connections[liar.name], -1, b"".join(entries)))

    def at(self, when: int, what: Callable[[], object]) -> None:
        heappush(self._heap, (when, next(self._sequence), what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + int(seconds * SECOND)
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heappop(self._heap)
            what()
        self.now = end

    # Effects

    def obey(self, node: Node, effect: effects.Effect) -> None:
        node.log.append(effect)
        match effect:
            case effects.Emit():
                node.events.append(effect)
            case effects.Published(artifact):
                node.published.append(artifact)
            case effects.PublishRefused():
                node.refused.append(effect)
            case effects.RunClient(changes):
                self.at(self.now, lambda: self._run_client(node, changes))
            case effects.Cancel(token):
                node.cancelled.add(token)
            case effects.SendUpdates(token, peer, connection, body, _):
                self._request(node, token, peer, connection, inputs.UpdatesReceived, b"".join(body))
            case effects.Fetch(token, peer, connection, body, _):
                self._request(node, token, peer, connection, inputs.FetchReceived, body)
            case effects.SendSynced(token, peer, connection):
                self._request(node, token, peer, connection, inputs.SyncedReceived, b"")
            case effects.SendDigest(token, peer, connection, body):
                self._request(node, token, peer, connection, inputs.DigestReceived, body)
            case effects.SendStripes(token, peer, connection, body, _):
                self._request(node, token, peer, connection, inputs.StripesReceived, b"".join(body))
            case effects.AnswerFetch(token, pieces):
                self._reply(node, token, b"".join(pieces))
            case (
                effects.AnswerUpdates(token, body)
                | effects.AnswerDigest(token, body)
                | effects.AnswerStripes(token, body)
            ):
                self._reply(node, token, body)

    def _run_client(self, node: Node, changes: list[Any]) -> None:
        try:
            actions = node.core.client.on_state_change(changes, node.core.pool, self.wall)
        except ValueError as error:
            node.give(inputs.ClientAnswered([], 1000, failed=repr(error)))
        else:
            node.give(inputs.ClientAnswered(actions, 1000))

    def _request(self, node: Node, token: int, peer: str, connection: int, kind: Any, body: bytes) -> None:
        self.requests[(kind.__name__, peer)] += 1
        other = self.nodes.get(peer)
        if node.connections.get(peer) != connection or other is None:
            return  # as after a close: the core has been told
        there = other.connections[node.name]
        if self.chance.random() < self.drop or peer in self.deaf:
            self.at(self.now + self.lose_after, lambda: self._answered(node, token, kind, None, connection, peer))
            return
        delay = self.delays.get((node.name, peer), self.delay)
        self.at(
            self.now + delay,
            lambda: self._arrive(node, token, connection, other, there, kind, body),
        )

    def _arrive(self, node: Node, token: int, connection: int, other: Node, there: int, kind: Any, body: bytes) -> None:
        if other.connections.get(node.name) != there or token in node.cancelled:
            return
        if kind is inputs.SyncedReceived:
            other.synced_from.append(node.name)
            other.give(inputs.SyncedReceived(node.name, there))
            self.at(self.now + self.delay, lambda: self._answered(node, token, kind, b"", connection, other.name))
            return
        mine = next(self._tokens)
        self._replies[(other.name, mine)] = (node, token, connection, kind)
        received = kind(node.name, there, mine, body)
        if kind is inputs.FetchReceived and other.name in self.tamper:
            for effect in other.core.handle(received, self.now, self.wall):
                if isinstance(effect, effects.AnswerFetch):
                    lie = self.tamper[other.name](received, b"".join(effect.body))
                    self._reply(other, effect.token, lie)
            return
        other.give(received)

    def _reply(self, node: Node, mine: int, body: bytes) -> None:
        if (node.name, mine) not in self._replies:
            return  # the asker is a script
        asker, token, connection, kind = self._replies.pop((node.name, mine))
        delay = self.delays.get((node.name, asker.name), self.delay)
        self.at(self.now + delay, lambda: self._answered(asker, token, kind, body, connection, node.name))

    def _answered(self, node: Node, token: int, kind: Any, body: bytes | None, connection: int, peer: str) -> None:
        if node.connections.get(peer) != connection or token in node.cancelled:
            return
        if kind is inputs.SyncedReceived:
            node.give(inputs.SyncedAnswered(token, body is not None))
        else:
            node.give(ANSWERED[kind](token, body))


@pytest.fixture
def net() -> Net:
    """An empty world; its seed is 1."""
    return Net()


@pytest.fixture
def make_net() -> Callable[[int], Net]:
    """A world by seed."""
    return Net
