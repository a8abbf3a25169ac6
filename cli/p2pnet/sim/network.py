"""The network between ports: links that are up, cut or waiting for a node, their connections, and the messages on them."""

from collections.abc import Callable, Iterator

from p2pnet.model.errors import LocalError
from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.sim.carriage import Carriage, PlainCarriage
from p2pnet.sim.links import LinkNumbers
from p2pnet.sim.message_carriage import MessageCarriage, Paths
from p2pnet.sim.port import End, EndState, Port, SimConnection, SimRequest
from p2pnet.sim.quantities import NS
from p2pnet.sim.timeline import Timeline

# In nanoseconds; (least, most) where a time is drawn between two.
SKEW_NS = NS // 20
"""An end comes into use at most this long after the handshake: the two ends do not at the same time."""
LOSS_NOTICED_NS = NS // 2
"""An end notices a cut at most this long after it."""
CRASH_NOTICED_NS = (NS // 2, 15 * NS)
"""Peers notice a crash by their idle timeout."""
REPLACED_CLOSES_NS = NS
"""A connection closes this long after the first of its ends was replaced."""
REDIAL_MAX_NS = 3 * NS
"""A healed path is dialled again within the longest back-off of a node."""
REQUEST_FAILS_NS = (NS // 20, NS + NS // 20)
"""After this time the sender of a lost request, or of one whose answer was lost, is told that it failed."""


class SimLink:
    """Two nodes that should be connected."""

    __slots__ = ("a", "b", "blocks", "connections", "is_blocked", "is_cut", "numbers", "paths")

    def __init__(self, a: str, b: str, numbers: LinkNumbers) -> None:
        self.a = a
        self.b = b
        self.numbers = numbers
        self.is_cut = False
        self.is_blocked = False
        """Whether one of its paths was blocked when they were last given: a path that keeps its state is reshaped in place."""
        self.paths: Paths | None = None
        """In the message model: from `a` to `b`, and back."""
        self.blocks = 0
        """How often a path of it has been blocked."""
        self.connections: list[SimConnection] = []
        """Its live connections, oldest first: more than one while one replaces another."""

    @property
    def is_open(self) -> bool:
        """Whether it is neither cut nor blocked."""
        return not self.is_cut and not self.is_blocked

    def other(self, name: str) -> str:
        """The node at the other end."""
        return self.b if name == self.a else self.a


class Silence:
    """A connection that ends at its idle timeout, unless its path is open again by then."""

    __slots__ = ("block", "connection", "link")

    def __init__(self, link: SimLink, connection: SimConnection) -> None:
        self.link = link
        self.connection = connection
        self.block = link.blocks


class SimNetwork:
    """All links and ports of a world. A port is attached as long as its incarnation lives.

    `model`: netem's message model, which messages pass; None: the plain one.
    """

    def __init__(self, timeline: Timeline, model: MessageCarriage | None = None) -> None:
        self.timeline = timeline
        self.model = model
        self.carriage: Carriage = model or PlainCarriage(timeline)
        self.ports: dict[str, Port] = {}
        self.links: dict[str, dict[str, SimLink]] = {}
        """By one end, then by the other; each link stands there twice."""
        self.members: frozenset[str] = frozenset()
        """The registry's members: only their links come up."""
        self.bytes_sent = 0
        """Bytes of all request and answer bodies, without `HEADER_BYTES` of each."""
        self.messages = 0
        """Requests and answers so far."""
        self._all_links: list[SimLink] = []
        self._serial = 0

    # Links

    def link(self, a: str, b: str, numbers: LinkNumbers) -> SimLink:
        """Link two nodes; a link that exists already gets these properties for its next messages."""
        link = self.links.get(a, {}).get(b)
        if link is None:
            link = SimLink(a, b, numbers)
            self._all_links.append(link)
            self.links.setdefault(a, {})[b] = self.links.setdefault(b, {})[a] = link
        link.numbers = numbers
        for connection in link.connections:
            connection.numbers = numbers
        if self.model is not None:
            self._reroute(link, self.model.paths(numbers))
        return link

    def shape(self, sender: str, receiver: str, shape: LinkShape) -> None:
        """Give one direction of a link this shape from now on. Raises LocalError without a link, or in the plain model."""
        link, messages = self.find(sender, receiver), self.message_model()
        there, back = link.paths or messages.paths(link.numbers)
        if sender == link.a:
            self._reroute(link, (messages.path(shape, there), back))
        else:
            self._reroute(link, (there, messages.path(shape, back)))

    def shape_access(self, name: str, *, up: AccessShape | None, down: AccessShape | None) -> None:
        """Give a node's access link these shapes from now on. Raises LocalError in the plain model."""
        self.message_model().shape_access(name, up=up, down=down)

    def find(self, a: str, b: str) -> SimLink:
        """The link between two nodes. Raises LocalError when they have none."""
        link = self.links.get(a, {}).get(b)
        if link is None:
            raise LocalError(f"{a} and {b} have no link")
        return link

    def all_links(self) -> Iterator[SimLink]:
        """Every link once, in the order they were made."""
        return iter(self._all_links)

    def links_of(self, name: str) -> Iterator[SimLink]:
        """The links of one node, in the order they were made."""
        return iter(self.links.get(name, {}).values())

    def peers_up(self, name: str) -> list[str]:
        """The peers whose connection with this node is in use at both ends."""
        port = self.ports.get(name)
        return [] if port is None else [peer for peer, end in port.in_use.items() if end.connection.is_up]

    # Ports

    def attach(self, port: Port) -> None:
        """A new incarnation has started."""
        self.ports[port.name] = port

    def detach(self, port: Port) -> None:
        """An incarnation has crashed: its peers notice by their idle timeout, or when its next incarnation connects."""
        del self.ports[port.name]
        port.die()
        for link in self.links_of(port.name):
            for connection in link.connections:
                connection.alive = False
                for end in connection.ends:
                    if end.port is not port:
                        self._after(CRASH_NOTICED_NS, end, _notice_loss)
            link.connections = []

    # Connections

    def dial(self, link: SimLink, *, at_once: bool = False) -> None:
        """Bring up a connection, unless one is alive, the link is cut, or one of its nodes is away."""
        if not link.connections:
            self.connect(link, at_once=at_once)

    def connect(self, link: SimLink, *, at_once: bool = False) -> None:
        """Bring up a new connection, whatever else there is; `at_once`: without a handshake."""
        one, other = self.ports.get(link.a), self.ports.get(link.b)
        # Whatever is missing dials again when it is there: `heal`, `restart` and `members` do.
        if not link.is_open or one is None or other is None or not {link.a, link.b} <= self.members:
            return
        self._serial += 1
        connection = SimConnection(one, other, link.numbers, self._serial)
        connection.paths = link.paths
        link.connections.append(connection)
        handshake = 0 if at_once else self.carriage.handshake_ns(connection)
        for end in connection.ends:
            if at_once:
                self._come_up(end)
            else:
                self._after((handshake, handshake + SKEW_NS), end, self._come_up)

    def redial(self, link: SimLink) -> None:
        """As `dial` with a handshake, in the form that the timeline can call."""
        self.dial(link)

    def close(self, link: SimLink) -> None:
        """End all connections of a link; each of its ends notices at a time of its own."""
        for connection in link.connections:
            self._lose(connection)
        link.connections = []

    def message_model(self) -> MessageCarriage:
        """What knows shapes. Raises LocalError in the plain model."""
        if self.model is None:
            raise LocalError('only a World(model="messages") has shapes')
        return self.model

    def _reroute(self, link: SimLink, paths: Paths) -> None:
        """Give a link these paths: what is under way keeps its times, a block ends connections, a healed path is dialled."""
        was_open, was_blocked, link.paths = link.is_open, link.is_blocked, paths
        link.is_blocked = any(path.shape.blocked for path in paths)
        if was_open and not link.is_open:
            link.blocks += 1
        for connection in link.connections:
            self.message_model().reroute(connection, paths, was_blocked=was_blocked)
            if was_open and not link.is_open:
                silent_ns = self.message_model().drop_out_ns(connection.ends[0].port)
                self.timeline.send(self.timeline.now + silent_ns, self._fall_silent, Silence(link, connection))
        one = self.ports.get(link.a)
        if link.is_open and not was_open and not link.connections and one is not None:
            wait_ns = int(one.rng.random() * REDIAL_MAX_NS)
            self.timeline.send(self.timeline.now + wait_ns, self.redial, link)

    def _fall_silent(self, silence: Silence) -> None:
        link, connection = silence.link, silence.connection
        if not link.is_open and silence.block == link.blocks and connection.alive:
            link.connections.remove(connection)
            self._lose(connection)

    def _come_up(self, end: End) -> None:
        port, connection = end.port, end.connection
        if port.dead or not connection.alive or end.state is not EndState.NEW:
            return
        held = port.in_use.get(end.peer)
        # Ends come up at different times: a newer connection may have been first.
        if held is not None and held.connection.serial > connection.serial:
            self._close_replaced(end)
            return
        replaced = port.bring_up(end)
        if replaced is not None:
            self.timeline.send(self.timeline.now + REPLACED_CLOSES_NS, self._close_replaced, replaced)

    def _close_replaced(self, end: End) -> None:
        connection = end.connection
        if connection.alive:
            link = self.find(end.port.name, end.peer)
            # At once, so that no message is sent on it, although its ends notice later.
            link.connections.remove(connection)
            self._lose(connection)
        else:
            _notice_loss(end)

    def _lose(self, connection: SimConnection) -> None:
        connection.alive = False
        for end in connection.ends:
            self._after((0, LOSS_NOTICED_NS), end, _notice_loss)

    def _after(self, within: tuple[int, int], end: End, call: "EndCall") -> None:
        least, most = within
        self.timeline.send(self.timeline.now + least + int(end.port.rng.random() * (most - least)), call, end)

    # Messages

    def carry(self, request: SimRequest) -> None:
        """See `PortCarrier`."""
        numbers = request.at.connection.numbers
        self.bytes_sent += len(request.body)
        self.messages += 1
        lost = numbers.lost_requests
        if lost or numbers.lost_answers:
            port = request.port
            draw = port.rng.random()
            if draw < lost + numbers.lost_answers:
                # Its sender is told by `Port.fail` at a time of its own, whether the request arrives or not.
                request.fails = True
                least, most = REQUEST_FAILS_NS
                notified_at = self.timeline.now + least + int(port.rng.random() * (most - least))
                self.timeline.send(notified_at, Port.fail, request)
            if draw < lost:
                return
        self.carriage.carry(request)

    def carry_back(self, request: SimRequest, body: bytes) -> None:
        """See `PortCarrier`."""
        self.bytes_sent += len(body)
        self.messages += 1
        request.answer = body
        self.carriage.carry_back(request)

    def reset(self, request: SimRequest) -> None:
        """See `PortCarrier`."""
        self.carriage.reset(request)


EndCall = Callable[[End], None]


def _notice_loss(end: End) -> None:
    if not end.port.dead:
        end.port.notice_loss(end)
