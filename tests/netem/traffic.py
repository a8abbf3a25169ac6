"""Packets through a node's network in virtual time: what departed, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from p2pnet.model.network import jitter_max_ns
from p2pnet.netem import AccessShape, Egress, LinkCounters, LinkShape, NodeNetwork

patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""Other things go on on this machine."""

US, MS, S = 1_000, 1_000_000, 1_000_000_000
PACKET = 1_200


class Trip(NamedTuple):
    """A packet that departed: its number, and when it was sent and departed."""

    number: int
    sent_ns: int
    departs_ns: int

    @property
    def took_ns(self) -> int:
        return self.departs_ns - self.sent_ns


def never_asked() -> float:
    pytest.fail("a random number was drawn where nothing is random")


def towards(shape: LinkShape, *peers: str, up: AccessShape | None = None) -> NodeNetwork:
    """A network with one shape on the paths to these peers, or to `b` alone."""
    return NodeNetwork(shapes=[shape], paths=dict.fromkeys(peers or ("b",), 0), up=up)


class Traffic:
    """Sends packets into an egress, and takes each when it is due."""

    def __init__(self, network: NodeNetwork, rng: Callable[[], float] = never_asked, **bounds: int) -> None:
        self.egress: Egress[int] = Egress(rng, **bounds)
        self.trips: list[Trip] = []
        self.now = 0
        self.wakes = 0
        self._sent: list[int] = []
        self.apply(network)

    @classmethod
    def on(cls, shape: LinkShape, seed: int | None = None) -> Traffic:
        return cls(towards(shape), never_asked if seed is None else Random(seed).random)

    def apply(self, network: NodeNetwork) -> None:
        self.egress.apply(network, self.now)
        self._take()

    def go_to(self, now: int) -> None:
        """Let time pass until then; `due` is called when `next_at` says so."""
        while (at := self.egress.next_at()) is not None and at <= now:
            self.now = max(self.now, at)
            self.wakes += 1
            self._take()
        self.now = now

    def send(self, size: int = PACKET, peer: str = "b") -> int:
        """Send one packet now; its number."""
        self._sent.append(self.now)
        self.egress.send(peer, len(self._sent) - 1, size, self.now)
        return len(self._sent) - 1

    def stream(self, count: int, gap_ns: int, size: int = PACKET) -> Traffic:
        """So many packets to `b`, one every `gap_ns`."""
        for _ in range(count):
            self.go_to(self.now + gap_ns)
            self.send(size)
        return self

    def end(self) -> list[Trip]:
        """Let time pass until nothing is on its way; all trips, in the order of departure."""
        while (at := self.egress.next_at()) is not None:
            self.go_to(at)
        assert self.egress.held == (0, 0)
        return self.trips

    @property
    def sent(self) -> int:
        return len(self._sent)

    @property
    def counters(self) -> LinkCounters:
        return self.egress.counters()["b"]

    def _take(self) -> None:
        self.trips += [Trip(number, self._sent[number], self.now) for number in self.egress.due(self.now)]


def numbers(trips: Iterable[Trip]) -> list[int]:
    return [trip.number for trip in trips]


@st.composite
def shapes(draw: st.DrawFn, **fixed: object) -> LinkShape:
    """Any shape that a document may ask for."""
    values: dict[str, object] = {
        "delay_ns": draw(st.integers(0, 2 * S)),
        "jitter_kind": draw(st.sampled_from(["normal", "uniform"])),
        "keep_order": draw(st.booleans()),
        "loss": draw(st.floats(0, 1)),
        "loss_burst": draw(st.floats(1, 20)),
        "duplication": draw(st.floats(0, 1)),
        "reorder": draw(st.floats(0, 1)),
        "bandwidth_bps": draw(st.none() | st.floats(1e3, 1e10)),
        "queue_bytes": draw(st.integers(0, 1 << 20)),
        "queue_kind": draw(st.sampled_from(["droptail", "codel"])),
        "mtu": draw(st.none() | st.integers(1_280, 65_535)),
        "blocked": draw(st.booleans()),
    } | fixed
    most = jitter_max_ns(values["delay_ns"], values["jitter_kind"], values["keep_order"])
    jitter = draw(st.integers(0, most))
    return LinkShape(**({"jitter_ns": jitter} | values))


access = st.none() | st.builds(
    AccessShape,
    bandwidth_bps=st.floats(1e5, 1e10),
    queue_bytes=st.integers(0, 1 << 20),
    queue_kind=st.sampled_from(["droptail", "codel"]),
)
packets = st.lists(st.tuples(st.integers(28, 65_535), st.integers(0, 50 * MS)), max_size=60)
"""Sizes, each with the pause before it."""
