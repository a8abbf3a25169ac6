"""What the lab may ask of this node: the routes of `model.control`, for a leaf whose URI is exactly the subnet's lab.

Where `lab-ca.crt` stands beside the node's leaf, that authority must have issued the lab's leaf: whoever issues leaves for
nodes gains no control by issuing one for the lab. The lab is no peer: it says no hello, is in no registry, and its
connections are left out of the byte counters.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from p2pnet.broadcast.inputs import Withdraw
from p2pnet.broadcast.stripes import STRIPES_BODY_MAX
from p2pnet.model import limits
from p2pnet.model.control import (
    ROUTE_CLOCK,
    ROUTE_EVENTS,
    ROUTE_GET,
    ROUTE_INJECT,
    ROUTE_MEMBERS,
    ROUTE_NETWORK,
    ROUTE_PEERS,
    ROUTE_PROBE,
    ROUTE_PROBES,
    ROUTE_SAMPLES,
    ROUTE_WITHDRAW,
    Clock,
    ClockRequest,
    ControlRefusal,
    ControlReply,
    Events,
    EventsRequest,
    GetRequest,
    Got,
    Injected,
    InjectItem,
    InjectRequest,
    MembersPush,
    MembersTaken,
    PeersReply,
    PeersRequest,
    Withdrawn,
    WithdrawRequest,
)
from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.ids import ARTIFACT_ID_BYTES, ArtifactId
from p2pnet.model.network import NETWORK_BYTES_MAX
from p2pnet.model.peer_messages import (
    ASK_BYTES_MAX,
    ROUTE_HELLO,
    ROUTE_RECORDS,
    route_digest,
    route_fetch,
    route_stripes,
    route_synced,
    route_update,
)
from p2pnet.model.registry import MEMBERSHIP_BYTES_MAX, Membership
from p2pnet.node.driver import BroadcastDriver
from p2pnet.node.events import EventRing
from p2pnet.peering.clock import NS, read_clock, wall_ns
from p2pnet.quic import Connection, Message, Settings

WAIT_MS_MAX = 60_000
"""Longest duration of a long poll."""
GATHER_S = 0.02
"""Between the first event of a long poll and its answer: one answer for a burst, not one per event."""
REQUEST_BYTES_MAX = 4 * limits.KIB
"""Any other request of the lab, a hello, a fetch, a synced, and whatever goes to a route that does not exist."""
DIGEST_REQUEST_BYTES_MAX = 20 * limits.KIB
"""A digest and the most ids that may be listed with it."""
INJECT_BYTES_MAX = limits.ARTIFACT_BYTES_MAX + limits.MIB
"""One item of the largest size, or 1 MiB of smaller ones, with their names."""
ORDER_BYTES_MAX = 512 * limits.KIB
"""An order of probes: a train of one probe each, PROBES_PER_ORDER_MAX of them."""
NONCES_REMEMBERED = 20_000
"""Results of injections kept by nonce: a lab that lost the answer asks again and gets the same one."""

log = logging.getLogger("p2pnet.node")

ROUTE_LIMITS = {
    ROUTE_INJECT: INJECT_BYTES_MAX,
    ROUTE_MEMBERS: MEMBERSHIP_BYTES_MAX,
    ROUTE_GET: REQUEST_BYTES_MAX,
    ROUTE_WITHDRAW: REQUEST_BYTES_MAX,
    ROUTE_EVENTS: REQUEST_BYTES_MAX,
    ROUTE_PEERS: REQUEST_BYTES_MAX,
    ROUTE_CLOCK: REQUEST_BYTES_MAX,
    ROUTE_NETWORK: NETWORK_BYTES_MAX,
    ROUTE_PROBE: ORDER_BYTES_MAX,
    ROUTE_PROBES: REQUEST_BYTES_MAX,
    ROUTE_SAMPLES: REQUEST_BYTES_MAX,
}

Routes = Mapping[bytes, tuple[type[Any], Callable[[Any], ControlReply]]]
"""By route: the shape of its requests, and what answers them."""


class ControlledNode(Protocol):
    """What the lab may see and change of a node."""

    @property
    def drivers(self) -> dict[str, BroadcastDriver]:
        """By client name."""

    def state(self) -> PeersReply:
        """The node's state now."""

    def take_membership(self, membership: Membership) -> bool:
        """Put a newer registry in force; False when it is not newer."""

    def registry_version(self) -> int:
        """Version of the registry in force."""

    def keep_s(self) -> float:
        """Life of a published artifact, seconds."""


class Control:
    """Decodes requests, asks the node, replies: within the loop turn, except for long polls."""

    def __init__(self, node: ControlledNode, ring: EventRing, parts: Iterable[Routes] = ()) -> None:
        """`parts`: routes that parts of the node answer themselves."""
        self._node = node
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._nonces: dict[bytes, bytes] = {}
        self._polls: set[_LongPoll] = set()
        self._stopping = False
        self._handlers: dict[bytes, tuple[type[Any], Callable[[Any], ControlReply]]] = {
            ROUTE_INJECT: (InjectRequest, self._inject),
            ROUTE_GET: (GetRequest, self._get),
            ROUTE_WITHDRAW: (WithdrawRequest, self._withdraw),
            ROUTE_PEERS: (PeersRequest, self._peers),
            ROUTE_MEMBERS: (MembersPush, self._members),
            ROUTE_CLOCK: (ClockRequest, self._clock),
        }
        for routes in parts:
            self._handlers.update(routes)

    def message(self, _connection: Connection, message: Message) -> None:
        """A request of the lab."""
        if message.header == ROUTE_EVENTS:
            self._events(message)
            return
        handler = self._handlers.get(message.header)
        if handler is None:
            _reply(message, ControlRefusal("bad-request", f"no such route: {message.header[:80]!r}"))
            return
        request = _decode(message, handler[0])
        _reply(message, request if isinstance(request, ControlRefusal) else handler[1](request))

    def stop(self) -> None:
        """Answer all long polls with what there is; later ones are answered at once."""
        self._stopping = True
        for poll in list(self._polls):
            poll.answer()

    # --- artifacts ---

    def _inject(self, request: InjectRequest) -> ControlReply:
        driver = self._node.drivers.get(request.client)
        if driver is None:
            return _unknown_client(request.client)
        return Injected([self._inject_one(driver, item) for item in request.items])

    def _inject_one(self, driver: BroadcastDriver, item: InjectItem) -> bytes | ControlRefusal:
        if (known := self._nonces.get(item.nonce)) is not None:
            return known  # the lab asks again after a lost answer: the artifact must not be published twice
        try:
            encoded = driver.client.make(
                item.name, item.data, nonce=item.nonce, now=wall_ns() / NS, keep_s=self._node.keep_s()
            )
        except LocalError as error:
            return ControlRefusal("bad-request", str(error))
        except Exception as error:  # a user's class: its mistake is answered, and does not end the node
            log.exception("client %s: make failed", driver.name)
            return ControlRefusal("bad-request", f"client {driver.name}: make failed: {type(error).__name__}: {error}")
        if not isinstance(encoded, bytes):
            return ControlRefusal(
                "bad-request", f"client {driver.name}: make returned {type(encoded).__name__}, not bytes"
            )
        result = driver.publish(encoded, len(item.data))
        if isinstance(result, bytes):
            self._nonces[item.nonce] = result
            if len(self._nonces) > NONCES_REMEMBERED:  # dicts keep their order: the first is the oldest
                del self._nonces[next(iter(self._nonces))]
        return result

    def _get(self, request: GetRequest) -> ControlReply:
        driver = self._node.drivers.get(request.client)
        if driver is None:
            return _unknown_client(request.client)
        if request.offset < 0 or not 0 <= request.length <= limits.GET_RANGE_BYTES:
            return ControlRefusal(
                "bad-request", f"a range has at most {limits.GET_RANGE_BYTES} bytes and no negative offset"
            )
        pool = driver.broadcast.pool
        found = driver.broadcast.user_bytes(ArtifactId(request.artifact))
        if found is None:
            if ArtifactId(request.artifact) in pool.unvalidated:
                return ControlRefusal("not-yet", "the client has not validated it")
            return ControlRefusal("unknown-artifact", f"no artifact {request.artifact.hex()} in the validated pool")
        name, view = found
        return Got(name=name, size=len(view), data=bytes(view[request.offset : request.offset + request.length]))

    def _withdraw(self, request: WithdrawRequest) -> ControlReply:
        driver = self._node.drivers.get(request.client)
        if driver is None:
            return _unknown_client(request.client)
        if len(request.artifact) != ARTIFACT_ID_BYTES:
            return ControlRefusal("bad-request", f"an artifact id has {ARTIFACT_ID_BYTES} bytes")
        artifact = ArtifactId(request.artifact)
        held = artifact in driver.broadcast.pool.validated  # asked before the withdrawal, which may run at once
        driver.feed(Withdraw(artifact))
        return Withdrawn(held)

    # --- the node ---

    def _peers(self, _request: PeersRequest) -> PeersReply:
        return self._node.state()

    def _members(self, request: MembersPush) -> ControlReply:
        offered = request.membership.registry.version
        # The version in force once more is no error: the lab repeats a push whose answer it lost.
        if not self._node.take_membership(request.membership) and offered < self._node.registry_version():
            return ControlRefusal("older-version", f"version {offered} is older than {self._node.registry_version()}")
        return MembersTaken(self._node.registry_version())

    def _clock(self, _request: ClockRequest) -> Clock:
        return read_clock(self._ring.boot_id)

    # --- events ---

    def _events(self, message: Message) -> None:
        request = _decode(message, EventsRequest)
        if isinstance(request, ControlRefusal):
            _reply(message, request)
        elif request.wait_ms <= 0 or self._stopping or self._ring.has_new(request.cursor, request.incarnation):
            _reply(message, self._read(request))
        else:
            poll = _LongPoll(
                message, request, ring=self._ring, loop=self._loop, read=self._read, ended=self._polls.discard
            )
            if not poll.over:
                self._polls.add(poll)

    def _read(self, request: EventsRequest) -> Events:
        return self._ring.read(request.cursor, request.incarnation, request.limit)


class _LongPoll:
    """A request for events that waits for the first one and then GATHER_S more, or until its time is over."""

    def __init__(
        self,
        message: Message,
        request: EventsRequest,
        *,
        ring: EventRing,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[EventsRequest], Events],
        ended: Callable[["_LongPoll"], None],
    ) -> None:
        self._ring, self._loop, self._message, self._request = ring, loop, message, request
        self._read, self._ended = read, ended
        self.over = False
        message.on_cancel = lambda _: self._end()
        self._timer = loop.call_later(min(request.wait_ms, WAIT_MS_MAX) / 1000, self.answer)
        self._waiter = ring.wait(self._on_event)
        if self._waiter is None:  # too many wait already: an empty answer makes the lab ask again
            self.answer()

    def answer(self) -> None:
        """Answer with what there is now."""
        self._end()
        if not self._message.cancelled:
            _reply(self._message, self._read(self._request))

    def _on_event(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(GATHER_S, self.answer)

    def _end(self) -> None:
        self.over = True
        self._timer.cancel()
        if self._waiter is not None:
            self._ring.forget(self._waiter)
        self._ended(self)


def endpoint_settings(idle_s: float, clients: Iterable[str]) -> Settings:
    """Settings of the endpoint of a node with these clients: the longest request of each route, in bytes of payload.

    quic checks them before a body is read, so that no route can be used to fill memory.
    """
    names = list(clients)
    small = [ROUTE_HELLO, *map(route_fetch, names), *map(route_synced, names)]
    route_limits = {
        **ROUTE_LIMITS,
        ROUTE_RECORDS: ASK_BYTES_MAX,
        **dict.fromkeys(small, REQUEST_BYTES_MAX),
        **dict.fromkeys(map(route_digest, names), DIGEST_REQUEST_BYTES_MAX),
        **dict.fromkeys(map(route_update, names), limits.UPDATE_BODY_BYTES_MAX),
        **dict.fromkeys(map(route_stripes, names), STRIPES_BODY_MAX),
    }
    return Settings(idle_s=idle_s, message_bytes_max=REQUEST_BYTES_MAX, route_caps=route_limits)


def refuse(message: Message) -> None:
    """Answer a peer that asks for a route of the lab, or for one that does not exist."""
    _reply(message, ControlRefusal("bad-request", "no such route for a peer"))


def _reply(message: Message, reply: ControlReply) -> None:
    if message.wants_reply:
        message.reply(msgspec.msgpack.encode(reply))


def _decode(message: Message, shape: type[Any]) -> Any:
    try:
        return msgspec.msgpack.decode(message.payload, type=shape)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        SpecError,
    ) as error:  # SpecError: well-formed, with an absurd value
        return ControlRefusal("bad-request", f"not a {shape.__name__}: {error}")


def _unknown_client(name: str) -> ControlRefusal:
    return ControlRefusal("unknown-client", f"this node runs no client {name[:80]!r}")
