"""Worlds whose cores do what a test says, to see what the driver and the network make of it."""

from collections.abc import Callable
from typing import Any

import pytest

from p2pnet.broadcast import Pool, effects, inputs
from p2pnet.sim import Node, World, incarnation
from p2pnet.sim.quantities import NS


class ScriptedCore:
    """Writes down its inputs with their time in seconds; does what `soon` and `answers` hold."""

    def __init__(self, client: Any, me: str, settings: Any, rng: Any, *, unvalidated_bytes_per_peer: int) -> None:
        self.client, self.me, self.settings, self.rng = client, me, settings, rng
        self.quota = unvalidated_bytes_per_peer
        self.pool = Pool()
        self.counters: dict[str, int] = {}
        self.seen: list[tuple[float, inputs.Input]] = []
        self.soon: list[effects.Effect] = []
        """Effects of the next input."""
        self.answers: dict[type[inputs.Input], Callable[[Any], list[effects.Effect]]] = {
            inputs.UpdatesReceived: lambda what: [effects.AnswerUpdates(what.token, b"ok")],
            inputs.FetchReceived: lambda what: [effects.AnswerFetch(what.token, [b"a", b"part"])],
            inputs.DigestReceived: lambda what: [effects.AnswerDigest(what.token, b"digest")],
        }
        self.due: int | None = None
        self.left: list[Any] = []

    def handle(self, what: inputs.Input, now: int, wall: float) -> list[effects.Effect]:
        self.seen.append((now / NS, what))
        done, self.soon = self.soon, []
        if isinstance(what, inputs.Wake):
            self.due = None
        return done + self.answers.get(type(what), lambda _: [])(what)

    def next_wakeup(self, *, expiries: bool = True) -> int | None:
        return self.due

    def pending(self) -> list[Any]:
        return self.left

    def waiting_for_slot(self) -> list[Any]:
        return []

    # For tests

    def of(self, kind: type[Any]) -> list[Any]:
        """The inputs of this kind."""
        return [what for _, what in self.seen if isinstance(what, kind)]

    def times(self, kind: type[Any]) -> list[float]:
        """When inputs of this kind came, in seconds."""
        return [at for at, what in self.seen if isinstance(what, kind)]


@pytest.fixture
def scripted(monkeypatch) -> Callable[..., World]:
    """Makes a world of these nodes, with scripted cores."""
    monkeypatch.setattr(incarnation, "Broadcast", ScriptedCore)

    def make(names: str = "ab", seed: int = 1, **node: Any) -> World:
        world = World(seed)
        for name in names:
            world.node(name, **node)
        return world

    return make


_tokens = iter(range(1, 1_000_000))


def give(node: Node, *what: effects.Effect) -> None:
    """Have its core do this now."""
    core: Any = node.core
    core.soon = list(what)
    node._incarnation.do(inputs.Wake())


def update(node: Node, peer: str, size: int = 100, connection: int = 1) -> int:
    """Have its core send an update of so many bytes; the token."""
    token = next(_tokens)
    give(node, effects.SendUpdates(token, peer, connection, [bytes(size)], urgent=False))
    return token


def fetch(node: Node, peer: str, timeout_s: float = 5.0, connection: int = 1) -> int:
    """Have its core send a fetch; the token."""
    token = next(_tokens)
    give(node, effects.Fetch(token, peer, connection, b"question", timeout_s))
    return token
