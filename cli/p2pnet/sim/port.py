"""A port: one incarnation's access link, its ends of connections, and its requests that have no answer yet.

A connection has two ends, which come up, and notice its loss, at different times. The states of an end are

    NEW -> UP -> OLD -> DOWN      the peer's next connection came into use first; this one closes soon
           UP -> DOWN             lost, and noticed
    NEW -> DOWN                   never came into use
"""

from enum import Enum, IntEnum
from typing import Protocol

from p2pnet.netem.messages import MessageFlow, MessagePath, Passage
from p2pnet.sim.links import Draws, LinkNumbers
from p2pnet.sim.quantities import NS
from p2pnet.sim.timeline import Timeline

HEADER_BYTES = 60
"""What IP, UDP and QUIC add to one message, modelled: it takes time on access links, but does not count in `bytes_sent`."""


class Route(IntEnum):
    """The kind of a request."""

    UPDATES = 0
    FETCH = 1
    SYNCED = 2
    DIGEST = 3
    STRIPES = 4


class EndState(Enum):
    """How one end sees its connection."""

    NEW = "new"
    UP = "up"
    OLD = "old"
    DOWN = "down"


class End:
    """One end of a connection."""

    __slots__ = ("connection", "early", "flow", "id", "other", "port", "state")

    def __init__(self, port: "Port", connection: "SimConnection") -> None:
        self.port = port
        self.connection = connection
        self.id = port.next_id()
        """The connection's id at this incarnation, growing from 1."""
        self.state = EndState.NEW
        self.early: list[SimRequest] | None = None
        """Requests that arrived before this end came up."""
        self.flow: MessageFlow | None = None
        """What it sends, in the message model, once it has sent anything."""
        self.other: End

    @property
    def peer(self) -> str:
        """The node at the other end."""
        return self.other.port.name


class SimConnection:
    """A connection between two incarnations. `serial` grows with every connection of the world."""

    __slots__ = ("alive", "ends", "numbers", "paths", "serial")

    def __init__(self, one: "Port", other: "Port", numbers: LinkNumbers, serial: int) -> None:
        self.numbers = numbers
        self.paths: tuple[MessagePath, MessagePath] | None = None
        """In the message model: what each end's messages go through, the first end's first."""
        self.serial = serial
        self.alive = True
        """Whether messages still arrive on it."""
        first, second = End(one, self), End(other, self)
        first.other, second.other = second, first
        self.ends = (first, second)

    @property
    def is_up(self) -> bool:
        """Whether it is alive, and in use at both ends."""
        return self.alive and all(end.state is EndState.UP for end in self.ends)


class SimRequest:
    """A request, and later its answer, on the way."""

    __slots__ = ("answer", "at", "body", "end", "fails", "fails_at", "passage", "port", "reset_at", "route", "token")

    def __init__(self, port: "Port", end: End | None, route: Route, token: int, body: bytes) -> None:
        self.port = port
        self.end = end
        """The sender's end; None: the connection had ended before it was sent."""
        self.at: End
        """The receiver's end; a request on no connection has none, and never arrives."""
        if end is not None:
            self.at = end.other
        self.route = route
        self.token = token
        """The sender's number for it."""
        self.body = body
        self.answer: bytes | None = None
        self.reset_at: int | None = None
        """When the sender's reset arrives at the receiver; None: it was not reset."""
        self.fails = False
        """Its answer will be lost."""
        self.fails_at: int | None = None
        """When it times out; None: it has no timeout."""
        self.passage: Passage | None = None
        """In the message model: what is left to send of it."""


class PortOwner(Protocol):
    """What a port calls: the driver of a node, or a liar."""

    def peer_up(self, peer: str, connection: int) -> None:
        """A connection is in use; it may replace an earlier one, for which `peer_down` is not called."""

    def peer_down(self, peer: str, connection: int) -> None:
        """The connection in use has ended."""

    def requested(self, request: SimRequest) -> None:
        """A peer's request has arrived, on the connection in use or on the one it has replaced."""

    def answered(self, request: SimRequest, body: bytes | None) -> None:
        """The answer to a request of this port; None: it failed on the way or timed out."""


class PortCarrier(Protocol):
    """What a port uses of the network."""

    def carry(self, request: SimRequest) -> None:
        """Deliver a request to the other end of its connection."""

    def carry_back(self, request: SimRequest, body: bytes) -> None:
        """Deliver an answer to the sender of its request."""

    def reset(self, request: SimRequest) -> None:
        """Tell the receiver of a request that its sender gives it up."""


class Port:
    """One incarnation's place in the network.

    `up` and `down`: bandwidth of its access link in bits per second; None: no limit. Each direction serves one message after
    the other, whichever peer it is for.
    """

    __slots__ = (
        "_carrier",
        "_down_free",
        "_ids",
        "_looks_at",
        "_timeline",
        "_up_free",
        "by_id",
        "dead",
        "down",
        "in_use",
        "name",
        "open",
        "owner",
        "rng",
        "up",
    )  # fmt: skip

    def __init__(
        self,
        carrier: PortCarrier,
        timeline: Timeline,
        owner: PortOwner,
        name: str,
        rng: Draws,
        *,
        up: float | None,
        down: float | None,
    ) -> None:
        self._carrier = carrier
        self._timeline = timeline
        self.owner = owner
        self.name = name
        self.rng = rng
        self.up = up
        self.down = down
        self._up_free = self._down_free = 0
        self._ids = 0
        self._looks_at: int | None = None  # when timeouts are looked at next
        self.by_id: dict[int, End] = {}
        self.in_use: dict[str, End] = {}
        """By peer, the end of the connection in use."""
        self.open: dict[int, SimRequest] = {}
        """Requests without an answer, by token."""
        self.dead = False

    @property
    def now(self) -> int:
        """The time, in nanoseconds since the start of the world."""
        return self._timeline.now

    def next_id(self) -> int:
        """A new connection id."""
        self._ids += 1
        return self._ids

    # Requests of the owner

    def ask(self, route: Route, token: int, connection: int, body: bytes | list[bytes], timeout_ns: int = 0) -> None:
        """Send a request; `PortOwner.answered` is called once, unless it is cancelled. `timeout_ns` 0: no timeout."""
        end = self.by_id.get(connection)
        joined = body if isinstance(body, bytes) else b"".join(body)
        request = self.open[token] = SimRequest(self, end, route, token, joined)
        if timeout_ns:
            # A request with a timeout keeps the world from being quiet: its answer, or the timeout, will come.
            self._timeline.flying += 1
            request.fails_at = self._timeline.now + timeout_ns
            self._watch(request.fails_at)
        if end is None:
            # Not at once: a driver does not expect an answer while it is asking.
            self._timeline.send(self._timeline.now, Port.fail, request)
        else:
            self._carrier.carry(request)

    def answer(self, request: SimRequest, body: bytes | list[bytes]) -> None:
        """Answer a peer's request; nothing is sent when the peer has reset it."""
        if request.reset_at is None or request.reset_at > self._timeline.now:
            self._carrier.carry_back(request, body if isinstance(body, bytes) else b"".join(body))

    def cancel(self, token: int) -> None:
        """Reset a request that has no answer yet; the reset may overtake it, or arrive too late."""
        request = self._forget(token)
        if request is not None and request.end is not None:
            self._carrier.reset(request)
            request.passage = None

    @staticmethod
    def fail(request: SimRequest) -> None:
        """A request failed on its way."""
        request.port.finish(request, None)

    def finish(self, request: SimRequest, body: bytes | None) -> None:
        """Pass the answer to the owner, unless the request was cancelled or has timed out."""
        token, waiting = request.token, self.open
        if waiting.get(token) is request:
            del waiting[token]
            request.passage = None
            if request.fails_at is not None:
                self._timeline.flying -= 1
            self.owner.answered(request, body)

    def _watch(self, at: int) -> None:
        """Look at timeouts at this time. One look is planned for all requests: most are answered long before."""
        if self._looks_at is None or at < self._looks_at:
            self._looks_at = at
            self._timeline.at(at, Port._look, self)

    def _look(self) -> None:
        now = self._timeline.now
        # An earlier look was planned after this one.
        if self._looks_at is None or self._looks_at > now or self.dead:
            return
        self._looks_at = None
        timed = [request for request in self.open.values() if request.fails_at is not None]
        for request in timed:
            if (request.fails_at or 0) <= now and self.open.get(request.token) is request:
                self.cancel(request.token)
                self.owner.answered(request, None)
        left = [request.fails_at for request in self.open.values() if request.fails_at is not None]
        if left:
            self._watch(min(left))

    def _forget(self, token: int) -> SimRequest | None:
        request = self.open.pop(token, None)
        if request is not None and request.fails_at is not None:
            self._timeline.flying -= 1
        return request

    # The access link

    def leaves_at(self, size: int) -> int:
        """When the last bit of a message of `size` bytes leaves, if it is sent now."""
        now = self._timeline.now
        if self.up is None:
            return now
        # A queue without a bound: QUIC's congestion control is not modelled, so nothing is lost here.
        self._up_free = max(now, self._up_free) + _transmission_ns(size, self.up)
        return self._up_free

    def arrived_at(self, size: int, sender: "Port") -> int:
        """When the last bit of a message that could be here by now really arrives: others may be served before it.

        It began to arrive while it was still leaving its sender, so two equal links take the time of one.
        """
        now = self._timeline.now
        if self.down is None:
            return now
        begun = now if sender.up is None else now - _transmission_ns(size, sender.up)
        self._down_free = max(begun, self._down_free) + _transmission_ns(size, self.down)
        return max(now, self._down_free)

    # Connections

    def bring_up(self, end: End) -> End | None:
        """Use this connection from now on; the end of the one it replaces, if any."""
        peer = end.peer
        replaced = self.in_use.get(peer)
        if replaced is not None:
            # It still delivers what is on its way, until it closes.
            replaced.state = EndState.OLD
        self.in_use[peer] = self.by_id[end.id] = end
        end.state = EndState.UP
        self.owner.peer_up(peer, end.id)
        # After peer_up, which must come first.
        early, end.early = end.early, None
        for request in early or ():
            self.owner.requested(request)
        return replaced

    def notice_loss(self, end: End) -> None:
        """The connection is lost: its requests fail, and the peer is down unless another one is in use, in random order."""
        if end.state is EndState.DOWN:
            return
        is_used = self.in_use.get(end.peer) is end
        end.state = EndState.DOWN
        end.early = None
        self.by_id.pop(end.id, None)
        # The order of these is an accident on real nodes too: a core must cope with both.
        peer_first = self.rng.random() < 0.5
        if is_used:
            del self.in_use[end.peer]
            if peer_first:
                self.owner.peer_down(end.peer, end.id)
        for request in [request for request in self.open.values() if request.end is end]:
            self.finish(request, None)
        if is_used and not peer_first:
            self.owner.peer_down(end.peer, end.id)

    def die(self) -> None:
        """The process has ended: call its owner no more."""
        self.dead = True
        for token in list(self.open):
            self._forget(token)


def _transmission_ns(size: int, bits_per_second: float) -> int:
    return int(size * 8 * NS / bits_per_second)
