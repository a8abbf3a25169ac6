"""A node's time series: once a second what its links, queues, handlers and its loop did, while somebody asks for it.

Nobody asks at rest, so then nothing is sampled: a node's measuring must not show in what is measured.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from p2pnet.model.control import (
    ROUTE_SAMPLES,
    SAMPLES_KEPT_MAX,
    ControlReply,
    LinkSample,
    Sample,
    Samples,
    SamplesRequest,
)
from p2pnet.node.driver import BroadcastDriver
from p2pnet.node.seam import NetworkSeam
from p2pnet.peering.clock import NS, cpu_s, mono_ns
from p2pnet.peering.peers import PeerLink
from p2pnet.quic import Connection

ASKED_S = 60.0
"""Sampling goes on this long after somebody asked last."""
BEAT_S = 0.05
"""How often the loop's lateness is measured meanwhile, and its queues are looked at: what lasts longer than this is seen."""


class _LinkState(msgspec.Struct, frozen=True):
    """Totals of one link at one time, of which a sample says the growth."""

    connection: int
    sent: int
    received: int
    lost: int
    dropped: int


class _NodeState(msgspec.Struct, frozen=True):
    """Totals of the node at one time."""

    at_ns: int
    cpu_s: float
    up_bytes: int
    down_bytes: int
    up_dropped: int
    down_dropped: int
    links: dict[str, _LinkState]


class SecondSampler:
    """Takes a `Sample` at every `tick` while it is on. All methods belong to the loop."""

    def __init__(
        self,
        start: tuple[str, str],
        seam: NetworkSeam,
        links: Mapping[str, PeerLink],
        drivers: Mapping[str, BroadcastDriver],
        *,
        clock_ns: Callable[[], int] = mono_ns,
    ) -> None:
        """`start`: incarnation and boot id of this node. `links`: by peer, as they come and go."""
        self.routes: Mapping[bytes, tuple[type[Any], Callable[[Any], ControlReply]]] = {
            ROUTE_SAMPLES: (SamplesRequest, self.read)
        }
        self._links, self._drivers, self._seam = links, drivers, seam
        self._start = start
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT_MAX)
        self._before: _NodeState | None = None
        self._until_ns = 0
        self._beat: asyncio.TimerHandle | None = None
        self._beat_due_ns = 0
        self._late_ns = 0
        self._unsent: dict[str, int] = {}
        """By peer, the most bytes that waited in QUIC in this second; none of those for whom nothing did."""

    @property
    def on(self) -> bool:
        """Whether samples are taken."""
        return self._before is not None

    def read(self, request: SamplesRequest) -> Samples:
        """The samples that end after a time. Asking keeps sampling on."""
        now = self._clock_ns()
        self._until_ns = now + int(ASKED_S * NS)
        if self._before is None:
            self._before = self._state(now)
            self._begin_lateness(now)
        found = [one for one in self._samples if one.mono_ns > request.after_ns]
        return Samples(*self._start, found)

    def tick(self) -> None:
        """About a second has passed."""
        before = self._before
        if before is None:
            return
        now = self._clock_ns()
        if now > self._until_ns:
            self.stop()
            return
        self._look_at_queues()
        after = self._before = self._state(now)
        self._samples.append(self._sample(before, after))
        self._unsent = {}
        self._begin_lateness(now)

    def stop(self) -> None:
        """Sample no more, until somebody asks."""
        self._before = None
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    # --- lateness ---

    def _begin_lateness(self, now: int) -> None:
        """Measure it from here on: a beat under way goes on, for it may be the late one."""
        self._late_ns = self._seam.late_ns = 0
        if self._beat is None:
            self._next_beat(now)

    def _next_beat(self, now: int) -> None:
        self._beat_due_ns = now + int(BEAT_S * NS)
        self._beat = self._loop.call_later(BEAT_S, self._on_beat)

    def _on_beat(self) -> None:
        now = self._clock_ns()
        self._late_ns = max(self._late_ns, now - self._beat_due_ns)
        self._look_at_queues()
        self._next_beat(now)

    def _look_at_queues(self) -> None:
        for name, link in self._links.items():
            if (waiting := link.connection.unsent_bytes) > self._unsent.get(name, 0):
                self._unsent[name] = waiting

    def _lag_s(self, now: int) -> float:
        """The longest lateness in this second: of a beat, of one that should have come by now, of what the network had due."""
        return max(0, self._late_ns, self._seam.late_ns, now - self._beat_due_ns) / NS

    # --- what a sample says ---

    def _state(self, now: int) -> _NodeState:
        up, down, paths = self._seam.up_counters, self._seam.down_counters, self._seam.path_counters()
        links = {}
        for name, link in self._links.items():
            connection, path = link.connection, paths.get(name)
            links[name] = _LinkState(
                connection.id,
                connection.sent_bytes,
                connection.received_bytes,
                int(connection.counters()["lost_packets_total"]),
                0 if path is None else path.dropped,
            )
        return _NodeState(now, cpu_s(), up.bytes_passed, down.bytes_passed, up.dropped, down.dropped, links)

    def _sample(self, before: _NodeState, after: _NodeState) -> Sample:
        now = after.at_ns
        gauges = [driver.broadcast.gauges() for driver in self._drivers.values()]
        links = [self._link_sample(name, before.links.get(name), state) for name, state in after.links.items()]
        return Sample(
            mono_ns=now,
            span_s=(now - before.at_ns) / NS,
            lag_s=self._lag_s(now),
            cpu_s=after.cpu_s - before.cpu_s,
            handlers=sum(driver.waiting for driver in self._drivers.values()),
            slots=sum(one["slots_in_use"] for one in gauges),
            fetches=sum(one["tasks"] for one in gauges),
            up_queued_bytes=self._seam.up_queued_bytes(),
            down_queued_bytes=self._seam.down_queued_bytes(),
            up_bytes=after.up_bytes - before.up_bytes,
            down_bytes=after.down_bytes - before.down_bytes,
            up_dropped=after.up_dropped - before.up_dropped,
            down_dropped=after.down_dropped - before.down_dropped,
            links=[one for one in links if one is not None],
        )

    def _link_sample(self, name: str, before: _LinkState | None, after: _LinkState) -> LinkSample | None:
        """None for a link that was silent."""
        # A new connection counts from nothing; the path under it goes on.
        dropped = after.dropped - (0 if before is None else before.dropped)
        if before is None or before.connection != after.connection:
            before = _LinkState(after.connection, 0, 0, 0, 0)
        sent, received = after.sent - before.sent, after.received - before.received
        queued = self._seam.queued_bytes(name)
        link = self._links.get(name)
        unsent = self._unsent.get(name, 0)
        if link is None or not (sent or received or dropped or queued or unsent):
            return None
        rtt_ms, window = _rtt_and_window(link.connection)
        return LinkSample(name, sent, received, after.lost - before.lost, dropped, queued, rtt_ms, window, unsent)


def _rtt_and_window(connection: Connection) -> tuple[float, int]:
    return connection.rtt_s * 1000, int(connection.counters()["congestion_window_bytes"])
