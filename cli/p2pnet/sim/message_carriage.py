"""How messages get from one port to another by `netem`'s message model: windows, shared access links, losses as delay, blocks."""

from p2pnet.model.limits import IDLE_S
from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.netem.messages import (
    ANSWER_ALLOTMENT_BYTES,
    REQUEST_ALLOTMENT_BYTES,
    AccessLink,
    Landing,
    MessageFlow,
    MessagePath,
)
from p2pnet.sim.carriage import deliver, deliver_back
from p2pnet.sim.links import LinkNumbers
from p2pnet.sim.port import End, Port, SimConnection, SimRequest
from p2pnet.sim.quantities import NS
from p2pnet.sim.timeline import Timeline

FRAME_BYTES = 30
"""What the framing adds to a message or answer: the head of 16 bytes and a route."""
HANDSHAKE_TRIPS = 6
"""One-way delays until a link is up: two round trips of QUIC's handshake with both certificates, one of the hello."""
HANDSHAKE_WIRE_BYTES = 2_900
"""IP packets that each end sends for it: full ones of 1,228 bytes with certificates, a few small ones."""
INITIAL_PROBE_NS = NS // 5
"""Probe timeout of a handshake, which knows no round trip yet; doubled with each loss."""
IDLE_NOTICED_NS = (int(IDLE_S * NS * 2 / 3), int(IDLE_S * NS))
"""A blocked connection ends so long after the block: its keep-alives come every third of the idle time."""

Paths = tuple[MessagePath, MessagePath]


class MessageCarriage:
    """The message model of one world. Every end of a connection gets its flow with its first message."""

    __slots__ = ("_access", "_shared", "_timeline", "_when_arrived", "_when_landed")

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._access: dict[str, AccessLink] = {}
        self._shared: dict[LinkShape, MessagePath] = {}
        self._when_arrived, self._when_landed = (
            self._arrived,
            self._lands,
        )  # bound once, not for each of a million flows

    def access(self, name: str) -> AccessLink:
        """The access link of a node; it outlives the node's incarnations."""
        found = self._access.get(name)
        if found is None:
            found = self._access[name] = AccessLink()
        return found

    def share_access(self, name: str, other: str) -> None:
        """Let a node have the access link of another one, too."""
        self._access[name] = self.access(other)

    @property
    def wire_bytes(self) -> int:
        """Bytes of all IP packets sent so far, by all nodes."""
        links = {id(link): link for link in self._access.values()}
        return sum(link.wire_bytes for link in links.values())

    def shape_access(self, name: str, *, up: AccessShape | None, down: AccessShape | None) -> None:
        """Give a node's access link these shapes from now on; None: no limit."""
        access, now = self.access(name), self._timeline.now
        access.shape_up(up, now)
        access.shape_down(down, now)

    def paths(self, numbers: LinkNumbers) -> Paths:
        """Both directions of a link with these properties."""
        path = self.path(
            LinkShape(
                delay_ns=numbers.delay_ns,
                jitter_ns=min(numbers.jitter_ns, numbers.delay_ns),
                jitter_kind="uniform",
                keep_order=False,
                loss=numbers.loss,
            )
        )
        return path, path

    def path(self, shape: LinkShape, before: MessagePath | None = None) -> MessagePath:
        """A path of this shape: `before` with another shape if that has a state to be kept, one of many if it has none."""
        if shape.bandwidth_bps is None and not (shape.jitter_ns and shape.keep_order):
            shared = self._shared.get(shape)
            if shared is None:
                shared = self._shared[shape] = MessagePath(shape)
            return shared
        if before is None or self._shared.get(before.shape) is before:
            return MessagePath(shape)
        before.reshape(shape, self._timeline.now)
        return before

    def reroute(self, connection: SimConnection, paths: Paths, *, was_blocked: bool) -> None:
        """A connection has these paths from now on. `was_blocked`: whether one of those that it had was."""
        now = self._timeline.now
        connection.paths = paths
        is_blocked = _is_blocked(paths)
        for end, path, back in _directions(connection):
            if end.flow is None:
                continue
            end.flow.reroute(path, back)
            if is_blocked:
                end.flow.block(now)
            elif was_blocked:
                end.flow.heal(now)
            self._plan(end.flow)

    def drop_out_ns(self, port: Port) -> int:
        """How long from the begin of a block until a connection ends for its silence."""
        least, most = IDLE_NOTICED_NS
        return least + int(port.rng.random() * (most - least))

    # See `Carriage`

    def carry(self, request: SimRequest) -> None:
        """See `Carriage`."""
        end = request.end
        if end is None:
            raise AssertionError("a request on no connection is not carried")
        self._send(end, request, len(request.body), REQUEST_ALLOTMENT_BYTES)

    def carry_back(self, request: SimRequest) -> None:
        """See `Carriage`."""
        self._send(request.at, request, len(request.answer or b""), ANSWER_ALLOTMENT_BYTES)

    def reset(self, request: SimRequest) -> None:
        """See `Carriage`; what has not left is not sent any more."""
        end = request.end
        if end is None:
            return
        path, _ = _paths_of(end)
        request.reset_at = self._timeline.now + path.delay_ns(1, self._timeline.now, request.port.rng.random)
        if request.passage is not None and end.flow is not None and request.answer is None:
            end.flow.drop(request.passage)

    def handshake_ns(self, connection: SimConnection) -> int:
        """See `Carriage`."""
        end = connection.ends[0]
        rng, now = end.port.rng.random, self._timeline.now
        taken = 0
        for trip in range(HANDSHAKE_TRIPS):
            path = _paths_of(end)[trip % 2]
            wait = INITIAL_PROBE_NS
            while path.shape.loss and rng() < path.shape.loss:
                taken += wait
                wait *= 2
            taken += path.delay_ns(1, now, rng)
        for one in connection.ends:
            self.access(one.port.name).wire_bytes += HANDSHAKE_WIRE_BYTES
        return taken

    # Inside

    def _send(self, end: End, request: SimRequest, size: int, allotment: int) -> None:
        flow = end.flow
        if flow is None:
            flow = end.flow = self._flow(end)
        request.passage = flow.send(request, size + FRAME_BYTES, self._timeline.now, allotment=allotment)
        if request.passage is not None:
            self._plan(flow)

    def _flow(self, end: End) -> MessageFlow:
        path, back = _paths_of(end)
        flow = MessageFlow(
            self.access(end.port.name),
            self.access(end.peer),
            path=path,
            back=back,
            rng=end.port.rng.random,
            arrived=self._when_arrived,
            lands=self._when_landed,
        )
        flow.owner = end
        return flow

    def _plan(self, flow: MessageFlow) -> None:
        at = flow.next_at()
        if at is not None and (flow.planned_ns is None or at < flow.planned_ns):
            flow.planned_ns = at
            self._timeline.send(max(at, self._timeline.now), self._pump, flow)

    def _pump(self, flow: MessageFlow) -> None:
        # Planned calls cannot be taken back: one that was brought forward finds no plan for its time.
        if flow.planned_ns is None or flow.planned_ns > self._timeline.now or not flow.owner.connection.alive:
            return
        flow.planned_ns = None
        flow.pump(self._timeline.now)
        self._plan(flow)

    def _arrived(self, request: SimRequest, at: int) -> None:
        request.passage = None  # which names the request: a cycle that only the collector would find
        self._timeline.send(at, deliver if request.answer is None else deliver_back, request)

    def _lands(self, landing: Landing) -> None:
        self._timeline.send(landing.last_ns, self._land, landing)

    def _land(self, landing: Landing) -> None:
        flow = landing.flow
        if flow.owner.connection.alive:
            flow.land(landing, self._timeline.now)
            self._plan(flow)


def _is_blocked(paths: Paths | None) -> bool:
    return paths is not None and (paths[0].shape.blocked or paths[1].shape.blocked)


def _paths_of(end: End) -> Paths:
    """The path of what this end sends, and the one back."""
    there, back = end.connection.paths or (MessagePath(), MessagePath())
    return (there, back) if end is end.connection.ends[0] else (back, there)


def _directions(connection: SimConnection) -> "list[tuple[End, MessagePath, MessagePath]]":
    return [(end, *_paths_of(end)) for end in connection.ends]
